/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/base/log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096

static const char *const level_names[] = {"error", "warn", "info", "debug"};
static const char *program_name = "tidemark";
static enum log_level level_max = LOG_INFO;

/* Who was started with one of the first three closed would give its number to what he opens next, a log or a socket, and lines for people
 * would go there. What stands there instead can be used as little as a closed one: reading stdin fails, and writing the others. */
static void keep_first_three(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) < 0)
            return;
}

void log_init(const char *program, enum log_level max)
{
    keep_first_three();
    program_name = program;
    level_max = max;
}

int log_level_parse(const char *name, enum log_level *ret_level)
{
    for (unsigned i = 0; i < sizeof level_names / sizeof level_names[0]; i++)
        if (strcmp(name, level_names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return 0;
        }
    return -1;
}

void log_at(enum log_level level, const char *format, ...)
{
    if (level > level_max)
        return;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct tm utc;
    gmtime_r(&now.tv_sec, &utc);
    char line[LINE_MAX_BYTES];
    size_t n = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03ldZ %-5s %s: ", now.tv_nsec / 1000000, level_names[level],
                          program_name);
    va_list args;
    va_start(args, format);
    int m = vsnprintf(line + n, sizeof line - n - 1, format, args);
    va_end(args);
    n = m < 0 ? n : n + (size_t)m;
    if (n > sizeof line - 2)
        n = sizeof line - 2;
    line[n++] = '\n';
    /* One write per line keeps lines of several threads whole; a full pipe loses a log line, never the daemon. */
    if (write(STDERR_FILENO, line, n) < 0)
        return;
}
