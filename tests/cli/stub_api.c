/* SPDX-License-Identifier: Apache-2.0 */

/* A stand-in for the API, for tests of what the command line prints, and of nothing else: it serves files and knows no
 * state. What coordinators and agents really answer is tested with them (tests/integration).
 *
 *     stub_api DIR ADDRESS_FILE LOG_FILE
 *
 * GET /v1/jobs/fashion is answered with DIR/GET.v1.jobs.fashion, or, the n-th time, with DIR/GET.v1.jobs.fashion.<n> if
 * there is one. The first line of a file is the HTTP status, the rest the body. "@-90000@" in it becomes the wall clock
 * of 90 s ago in milliseconds, so that ages stay the same, and "@port@" the port of this server. A file for logs has
 * "200 ended" or "200 open" as its first line; the body is served from `offset` on. One for a backup has "200 backup INDEX
 * DIGEST". Every request is written to LOG_FILE:
 * method, path with query, body, and a letter for the Idempotency-Key: the same key, the same letter. */

#include <microhttpd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"

#define FILE_BYTES_MAX (1u << 20)
#define KEYS_MAX 26
#define PATHS_MAX 256

static const char *dir;
static FILE *requests;
static unsigned port;
static char keys[KEYS_MAX][65];
static char paths[PATHS_MAX][256];
static unsigned times[PATHS_MAX];

struct body {
    char *text;
    size_t bytes;
};

static char letter_of(const char *key)
{
    for (unsigned i = 0; i < KEYS_MAX; i++) {
        if (keys[i][0] == '\0')
            text_copy(keys[i], sizeof keys[i], key);
        if (strcmp(keys[i], key) == 0)
            return (char)('A' + i);
    }
    return '?';
}

static unsigned times_asked(const char *path)
{
    for (unsigned i = 0; i < PATHS_MAX; i++) {
        if (paths[i][0] == '\0')
            text_copy(paths[i], sizeof paths[i], path);
        if (strcmp(paths[i], path) == 0)
            return ++times[i];
    }
    return 0;
}

/* "@-90000@" and "@port@". */
static char *expand(const char *text)
{
    /* Static, since the compiler cannot know that the stream is done with them on return. */
    static char *to;
    static size_t bytes;
    FILE *out = open_memstream(&to, &bytes);
    for (; out != NULL && *text != '\0'; text++) {
        char *end = NULL;
        long long shift = strncmp(text, "@-", 2) == 0 ? strtoll(text + 1, &end, 10) : 0;
        if (end != NULL && *end == '@') {
            fprintf(out, "%lld", (long long)clock_wall_ms() + shift);
            text = end;
        } else if (strncmp(text, "@port@", 6) == 0) {
            fprintf(out, "%u", port);
            text += 5;
        } else {
            fputc(*text, out);
        }
    }
    if (out != NULL)
        fclose(out);
    return to;
}

static char *read_answer(const char *name, unsigned time)
{
    char path[1024], *text = NULL;
    size_t bytes;
    snprintf(path, sizeof path, "%s/%s.%u", dir, name, time);
    if (fsx_read(path, FILE_BYTES_MAX, &text, &bytes, NULL) == TIDE_OK)
        return text;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return fsx_read(path, FILE_BYTES_MAX, &text, &bytes, NULL) == TIDE_OK ? text : NULL;
}

/* What stands behind the status in the first line of a file. */
static void add_backup_headers(struct MHD_Response *r, const char *line)
{
    char index[24], digest[65];
    if (line == NULL || sscanf(line, "200 backup %23s %64s", index, digest) != 2)
        return;
    MHD_add_response_header(r, "Tidemark-Cluster", "612cf1e1b47650e5");
    MHD_add_response_header(r, "Tidemark-Index", index);
    MHD_add_response_header(r, "Tidemark-Sha256", digest);
}

static enum MHD_Result send_text(struct MHD_Connection *c, unsigned status, const char *text, const char *offset,
                                 const char *line)
{
    size_t bytes = strlen(text), from = offset ? (size_t)strtoul(offset, NULL, 10) : 0;
    char number[32];
    from = from < bytes ? from : bytes;
    struct MHD_Response *r = MHD_create_response_from_buffer(bytes - from, (void *)(text + from), MHD_RESPMEM_MUST_COPY);
    if (offset != NULL) {
        snprintf(number, sizeof number, "%zu", from);
        MHD_add_response_header(r, "Tidemark-Offset", number);
        snprintf(number, sizeof number, "%zu", bytes);
        MHD_add_response_header(r, "Tidemark-Next", number);
        MHD_add_response_header(r, "Tidemark-Ended", line != NULL && strncmp(line, "200 ended", 9) == 0 ? "true" : "false");
    }
    add_backup_headers(r, line);
    enum MHD_Result result = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return result;
}

static enum MHD_Result answer(struct MHD_Connection *c, const char *method, const char *url, const struct body *body)
{
    const char *key = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Idempotency-Key");
    const char *generation = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "generation");
    const char *rank = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "rank");
    const char *stream = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "stream");
    const char *offset = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "offset");
    const char *stale = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "stale");
    const char *force = MHD_lookup_connection_value(c, MHD_GET_ARGUMENT_KIND, "force");
    char name[512];
    snprintf(name, sizeof name, "%s%s", method, url);
    for (char *p = name; *p != '\0'; p++)
        *p = *p == '/' ? '.' : *p;
    if (rank != NULL && generation != NULL && stream != NULL)
        snprintf(name + strlen(name), sizeof name - strlen(name), ".g%s.r%s.%s", generation, rank, stream);
    if (stale != NULL)
        snprintf(name + strlen(name), sizeof name - strlen(name), ".stale");
    fprintf(requests, "%s %s%s%s%s%s%s\n", method, url, force ? "?force=" : "", force ? force : "", body->bytes ? " " : "",
            body->bytes ? body->text : "", key ? (char[]){' ', 'k', 'e', 'y', ' ', letter_of(key), '\0'} : "");
    fflush(requests);
    char *file = read_answer(name, times_asked(name));
    if (file == NULL)
        return send_text(c, 404,
                         "{\"error\":{\"code\":\"not_found\",\"message\":\"the stub has no such file\",\"hint\":\"\"}}",
                         NULL, NULL);
    char *text = expand(file), *newline = strchr(text, '\n');
    unsigned status = (unsigned)strtoul(text, NULL, 10);
    enum MHD_Result result = send_text(c, status, newline ? newline + 1 : "", offset, text);
    mem_free(text);
    mem_free(file);
    return result;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *c, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_bytes, void **state)
{
    (void)context, (void)version;
    struct body *body = *state;
    if (body == NULL) {
        *state = mem_alloc(sizeof *body);
        return MHD_YES;
    }
    if (*upload_bytes > 0) {
        body->text = mem_grow(body->text, body->bytes + *upload_bytes + 1, 1);
        memcpy(body->text + body->bytes, upload, *upload_bytes);
        body->bytes += *upload_bytes;
        body->text[body->bytes] = '\0';
        *upload_bytes = 0;
        return MHD_YES;
    }
    return answer(c, method, url, body);
}

static void on_completed(void *context, struct MHD_Connection *c, void **state, enum MHD_RequestTerminationCode code)
{
    (void)context, (void)c, (void)code;
    struct body *body = *state;
    if (body != NULL)
        mem_free(body->text);
    mem_free(body);
    *state = NULL;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fputs("usage: stub_api DIR ADDRESS_FILE LOG_FILE\n", stderr);
        return 2;
    }
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    dir = argv[1];
    requests = fopen(argv[3], "w");
    struct MHD_Daemon *daemon =
        requests ? MHD_start_daemon(MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL, 0, NULL, NULL, on_request, NULL,
                                    MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL, MHD_OPTION_END)
                 : NULL;
    const union MHD_DaemonInfo *info = daemon ? MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT) : NULL;
    if (info == NULL) {
        fputs("stub_api: cannot listen\n", stderr);
        return 1;
    }
    port = info->port;
    FILE *address = fopen(argv[2], "w");
    if (address == NULL || fprintf(address, "http://127.0.0.1:%u", port) < 0 || fclose(address) != 0)
        return 1;
    /* An end of its own, should the script that started it be killed. */
    sigtimedwait(&stop, NULL, &(struct timespec){.tv_sec = 300});
    MHD_stop_daemon(daemon);
    fclose(requests);
    return 0;
}
