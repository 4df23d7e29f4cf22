/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/step/output.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/step/link.h"
#include "ckpt/base/mem.h"

#define OUTPUT_NAME_MAX (TIDE_PATH_MAX + 16)

static void name_of(const struct output *output, const char *suffix, char to[OUTPUT_NAME_MAX])
{
    snprintf(to, OUTPUT_NAME_MAX, "%s%s", output->path, suffix);
}

static int open_new(const char *path)
{
    return open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0640);
}

enum tide_status output_open(struct output *output, const char *path, uint64_t bytes_max, struct err *err)
{
    *output = (struct output){.fd = -1, .bytes_max = bytes_max != 0 ? bytes_max : OUTPUT_BYTES_MAX_DEFAULT};
    if (strlen(path) > TIDE_PATH_MAX)
        return err_set(err, TIDE_E_LIMIT, "path of a log file is longer than %d bytes", TIDE_PATH_MAX);
    text_copy(output->path, sizeof output->path, path);
    char old[OUTPUT_NAME_MAX];
    name_of(output, STEP_LOG_OLD_SUFFIX, old);
    unlink(old);
    name_of(output, STEP_LOG_BASE_SUFFIX, old);
    unlink(old);
    output->fd = open_new(path);
    return output->fd < 0 ? err_errno(err, "cannot create log file %s", path) : TIDE_OK;
}

static bool write_base(const struct output *output)
{
    char path[OUTPUT_NAME_MAX], temporary[OUTPUT_NAME_MAX], text[32];
    name_of(output, STEP_LOG_BASE_SUFFIX, path);
    name_of(output, ".base.tmp", temporary);
    int n = snprintf(text, sizeof text, "%" PRIu64 "\n", output->base);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0)
        return false;
    bool written = write(fd, text, (size_t)n) == n;
    close(fd);
    written = written && rename(temporary, path) == 0;
    if (!written)
        unlink(temporary);
    return written;
}

/* FILE.base is away while the files move, so that a reader who finds the same base before and after it opened the files
 * knows that they belong together. */
static void rotate(struct output *output)
{
    char base[OUTPUT_NAME_MAX], old[OUTPUT_NAME_MAX];
    name_of(output, STEP_LOG_BASE_SUFFIX, base);
    name_of(output, STEP_LOG_OLD_SUFFIX, old);
    unlink(base);
    bool had_old = access(old, F_OK) == 0;
    if (rename(output->path, old) != 0) { /* keeps growing: too long a log is better than a lost one */
        output->base_due = had_old && !write_base(output);
        return;
    }
    int fd = open_new(output->path);
    close(output->fd);
    output->fd = fd;
    if (had_old)
        output->base += output->bytes_max;
    output->used = 0;
    output->base_due = !write_base(output);
}

/* What could not be opened or written in a bad moment must not stay so. */
static void mend(struct output *output)
{
    if (output->fd < 0)
        output->fd = open_new(output->path);
    if (output->base_due)
        output->base_due = !write_base(output);
}

static size_t write_some(struct output *output, const char *data, size_t bytes)
{
    for (;;) {
        ssize_t n = output->fd >= 0 ? write(output->fd, data, bytes) : -1;
        if (n >= 0)
            return (size_t)n;
        if (output->fd < 0 || errno != EINTR)
            return 0;
    }
}

bool output_write(struct output *output, const char *data, size_t bytes)
{
    bool first_loss = output->lost == 0;
    mend(output);
    while (bytes > 0) {
        if (output->used >= output->bytes_max)
            rotate(output);
        uint64_t room = output->bytes_max > output->used ? output->bytes_max - output->used : bytes;
        size_t want = bytes < room ? bytes : (size_t)room, n = write_some(output, data, want);
        if (n == 0) {
            output->lost += bytes;
            return !first_loss;
        }
        output->used += n;
        data += n;
        bytes -= n;
    }
    return true;
}

void output_close(struct output *output)
{
    if (output->fd >= 0)
        close(output->fd);
    output->fd = -1;
}
