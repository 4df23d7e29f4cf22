/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/slot_server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/rpc/across.h"
#include "agent/rpc/dirs.h"
#include "ckpt/base/mem.h"
#include "ckpt/stage/copy.h"

#define TLS_BLOCK_BYTES ((size_t)128 << 10) /* read at once: libmicrohttpd itself reads 4 KiB at a time, and makes a record of each */

struct query {
    const char *uid;
    uint32_t rank;
    uint64_t cut, generation;
    enum part { PART_SUM, PART_SLOT, PART_SHARE, PART_PACKS, PARTS } part;
};

static bool number_of(const char *text, uint64_t most, uint64_t *ret_number)
{
    char *end = NULL;
    errno = 0;
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false;
    *ret_number = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0' && *ret_number <= most;
}

static const char *argument(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, name);
}

/* PARTS: it has none, or one that is not given here. */
static enum part part_of(const struct slot_access *access, struct MHD_Connection *connection)
{
    static const char *const names[PARTS] = {"sum", "slot", "share", "packs"};
    const char *name = argument(connection, "part");
    unsigned part = 0, most = access->across != NULL ? PARTS : PART_SHARE;
    while (part < most && (name == NULL || strcmp(name, names[part]) != 0))
        part++;
    return part < most ? (enum part)part : PARTS;
}

static enum tide_status take_query(const struct slot_access *access, struct MHD_Connection *connection, struct query *ret_query,
                                   struct err *err)
{
    uint64_t rank = 0;
    struct query q = {.uid = argument(connection, "uid"), .part = part_of(access, connection)};
    bool good = q.part != PARTS && q.uid != NULL && uid_valid(q.uid) && number_of(argument(connection, "cut"), UINT64_MAX, &q.cut) &&
                q.cut != 0;
    if (good && q.part == PART_PACKS)
        good = number_of(argument(connection, "generation"), UINT64_MAX, &q.generation);
    else if (good)
        good = number_of(argument(connection, "rank"), TIDE_RANKS_MAX, &rank);
    if (!good)
        return err_set(err, TIDE_E_INVALID, SLOT_SERVER_PATH " needs uid, cut, and part=sum or part=slot and a rank%s",
                       access->across != NULL ? ", or part=share and a rank, or part=packs and a generation" : "");
    q.rank = (uint32_t)rank;
    *ret_query = q;
    return TIDE_OK;
}

void slot_secret(const char *token, char ret_secret[SHA256_HEX_CHARS + 1])
{
    char text[TIDE_TOKEN_CHARS + 32];
    int n = snprintf(text, sizeof text, "slots %.*s", TIDE_TOKEN_CHARS, token);
    sha256_hex(text, (size_t)n, ret_secret);
    secret_wipe(text, sizeof text);
}

/* Only those that have a part in the present generation, or copy from it, know its secret. */
static enum tide_status check_token(const struct slot_access *access, struct MHD_Connection *connection, const char *uid, struct err *err)
{
    static const char bearer[] = "Bearer ";
    const char *token = access->token(access->context, uid);
    const char *shown = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Authorization");
    if (token == NULL)
        return err_set(err, TIDE_E_UNAVAILABLE, "this node has no part in a generation of that job that runs");
    char secret[SHA256_HEX_CHARS + 1];
    slot_secret(token, secret);
    bool good = shown != NULL && strncmp(shown, bearer, strlen(bearer)) == 0 && strlen(shown + strlen(bearer)) == SHA256_HEX_CHARS &&
                secret_equal(shown + strlen(bearer), secret, SHA256_HEX_CHARS);
    return good ? TIDE_OK : err_set(err, TIDE_E_DENIED, "the secret of the job's present generation is needed");
}

static ssize_t read_block(void *file, uint64_t at, char *to, size_t most)
{
    ssize_t n = pread((int)(intptr_t)file, to, most, (off_t)at);
    return n > 0 ? n : MHD_CONTENT_READER_END_WITH_ERROR;
}

static void close_file(void *file)
{
    close((int)(intptr_t)file);
}

/* Without TLS the kernel sends it from its pages (sendfile). */
static struct MHD_Response *response_of(struct MHD_Connection *connection, int fd, uint64_t bytes)
{
    if (MHD_get_connection_info(connection, MHD_CONNECTION_INFO_GNUTLS_SESSION) == NULL)
        return MHD_create_response_from_fd64(bytes, fd);
    return MHD_create_response_from_callback(bytes, TLS_BLOCK_BYTES, read_block, (void *)(intptr_t)fd, close_file);
}

/* Sent from the file: what is written over it meanwhile does not fit the digests that went before, and is noticed there. */
static enum tide_status open_file(struct MHD_Connection *connection, const char *path, uint64_t bytes, struct MHD_Response **ret_response,
                                  struct err *err)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) {
        enum tide_status status = err_errno(err, "cannot open %s", path);
        if (fd >= 0)
            close(fd);
        return status;
    }
    *ret_response = response_of(connection, fd, bytes != 0 ? bytes : (uint64_t)info.st_size);
    if (*ret_response != NULL)
        return TIDE_OK;
    close(fd);
    return err_set(err, TIDE_E_NOMEM, "no memory to answer");
}

static enum tide_status open_table(const struct slot_access *access, const struct query *query, struct MHD_Response **ret_response,
                                   struct err *err)
{
    void *bytes = NULL;
    size_t count = 0;
    across_table(access->across, query->uid, query->cut, query->generation, &bytes, &count);
    *ret_response = bytes != NULL ? MHD_create_response_from_buffer(count, bytes, MHD_RESPMEM_MUST_FREE)
                                  : MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
    if (*ret_response != NULL)
        return TIDE_OK;
    mem_free(bytes);
    return err_set(err, TIDE_E_NOMEM, "no memory to answer");
}

enum tide_status slot_server_open(const struct slot_access *access, struct MHD_Connection *connection, struct MHD_Response **ret_response,
                                  struct err *err)
{
    char arena[TIDE_PATH_MAX + 1], path[TIDE_PATH_MAX + 1], sum_path[TIDE_PATH_MAX + 1];
    struct query query = {0};
    uint64_t bytes = 0;
    enum tide_status status = take_query(access, connection, &query, err);
    if (status == TIDE_OK)
        status = check_token(access, connection, query.uid, err);
    if (status != TIDE_OK)
        return status;
    if (query.part == PART_PACKS)
        return open_table(access, &query, ret_response, err);
    int n = snprintf(arena, sizeof arena, "%s/%s", access->arenas, query.uid);
    if (n < 0 || (size_t)n >= sizeof arena)
        return err_set(err, TIDE_E_LIMIT, "%s: path too long", access->arenas);
    status = slot_copy_source(arena, query.uid, query.rank, query.cut, path, sum_path, &bytes, err);
    if (status != TIDE_OK)
        return status;
    return query.part == PART_SLOT ? open_file(connection, path, bytes, ret_response, err)
                                   : open_file(connection, sum_path, 0, ret_response, err);
}
