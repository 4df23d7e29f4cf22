/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/export.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/format/tensors.h"
#include "ckpt/stage/shard.h"

#define FILE_MODE 0644
#define DIR_MODE 0755

typedef char export_path[TIDE_PATH_MAX + 64];

struct export {
    const struct rank_manifest *manifest;
    struct tensors tensors;
    const struct tensor **by_offset; /* as they lie in the shard */
    uint64_t head;                   /* bytes before the tensors */
    int fd;
    const char *path;
};

static enum tide_status write_at(const struct export *x, const unsigned char *from, uint64_t bytes, uint64_t at, struct err *err)
{
    while (bytes > 0) {
        ssize_t n = pwrite(x->fd, from, bytes, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = ENOSPC;
        if (n <= 0)
            return err_errno(err, "cannot write %s", x->path);
        from += n;
        at += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return TIDE_OK;
}

/* The parts of tensors that lie in bytes [begin, end) of the shard; *cursor: the first that may. */
static enum tide_status write_chunk(const struct export *x, const unsigned char *raw, uint64_t begin, uint64_t end, size_t *cursor,
                                    struct err *err)
{
    enum tide_status status = TIDE_OK;
    for (size_t i = *cursor; i < x->tensors.count && status == TIDE_OK; i++) {
        const struct tensor *t = x->by_offset[i];
        uint64_t first = t->region->offset, last = first + t->region->bytes;
        if (first >= end)
            break;
        if (last <= end)
            *cursor = i + 1;
        uint64_t from = first > begin ? first : begin, to = last < end ? last : end;
        if (from < to)
            status = write_at(x, raw + (from - begin), to - from, x->head + t->begin + (from - first), err);
    }
    return status;
}

static enum tide_status write_all(const struct export *x, struct store *store, void (*progress)(void *context, uint64_t bytes),
                                  void *context, struct err *err)
{
    struct shard_reader reader;
    struct digest digest;
    size_t cursor = 0;
    unsigned char *raw = mem_try_alloc(FORMAT_CHUNK_BYTES);
    if (raw == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to read a chunk");
    enum tide_status status = shard_reader_init(&reader, store, x->manifest, err);
    if (status != TIDE_OK) {
        mem_free(raw);
        return status;
    }
    for (uint64_t i = 0; i < x->manifest->chunks.count && status == TIDE_OK; i++) {
        uint64_t begin = i * FORMAT_CHUNK_BYTES, end = begin + chunk_raw_bytes(x->manifest->data_bytes, i);
        status = shard_read_chunk(&reader, i, raw, &digest, err);
        if (status == TIDE_OK)
            status = write_chunk(x, raw, begin, end, &cursor, err);
        if (status == TIDE_OK && progress != NULL)
            progress(context, end - begin);
    }
    shard_reader_release(&reader);
    mem_free(raw);
    return status;
}

/* Under a name of its own until it is whole. */
static enum tide_status write_file(struct export *x, struct store *store, const char *head, const char *path,
                                   void (*progress)(void *context, uint64_t bytes), void *context, struct err *err)
{
    export_path part;
    snprintf(part, sizeof part, "%s.part", path);
    x->path = part;
    x->fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, FILE_MODE);
    if (x->fd < 0)
        return err_errno(err, "cannot create %s", part);
    enum tide_status status = TIDE_OK;
    if (ftruncate(x->fd, (off_t)(x->head + x->tensors.bytes)) != 0)
        status = err_errno(err, "cannot make room for %s", part);
    if (status == TIDE_OK)
        status = write_at(x, (const unsigned char *)head, x->head, 0, err);
    if (status == TIDE_OK)
        status = write_all(x, store, progress, context, err);
    if (status == TIDE_OK && fsync(x->fd) != 0)
        status = err_errno(err, "cannot sync %s", part);
    if (close(x->fd) != 0 && status == TIDE_OK)
        status = err_errno(err, "cannot close %s", part);
    if (status == TIDE_OK && rename(part, path) != 0)
        status = err_errno(err, "cannot rename %s", part);
    if (status != TIDE_OK)
        unlink(part);
    return status;
}

static enum tide_status write_index(const struct export *x, const char *dir, struct err *err)
{
    export_path path;
    char *text = tensors_index(x->manifest, &x->tensors);
    snprintf(path, sizeof path, "%s/rank-%05" PRIu32 ".json", dir, x->manifest->rank);
    enum tide_status status = fsx_replace(path, text, strlen(text), FILE_MODE, err);
    mem_free(text);
    return status;
}

static void order_by_offset(struct export *x)
{
    /* Regions lie in the manifest as in the shard. */
    const struct rank_manifest *m = x->manifest;
    size_t *at = mem_array(m->regions.count, sizeof *at), count = 0;
    for (size_t i = 0; i < x->tensors.count; i++)
        at[x->tensors.items[i].region - m->regions.items] = i + 1;
    x->by_offset = mem_array(x->tensors.count, sizeof *x->by_offset);
    for (size_t i = 0; i < m->regions.count; i++)
        if (at[i] != 0)
            x->by_offset[count++] = &x->tensors.items[at[i] - 1];
    mem_free(at);
}

static enum tide_status export_part(struct export *x, struct store *store, enum export_format format, const char *dir,
                                    const char *path, void (*progress)(void *context, uint64_t bytes), void *context,
                                    struct err *err)
{
    size_t head = 0;
    char *header = format == EXPORT_SAFETENSORS ? tensors_header(x->manifest, &x->tensors, &head) : mem_strdup("");
    x->head = head;
    order_by_offset(x);
    enum tide_status status = format == EXPORT_RAW ? write_index(x, dir, err) : TIDE_OK;
    if (status == TIDE_OK)
        status = write_file(x, store, header, path, progress, context, err);
    mem_free(header);
    mem_free(x->by_offset);
    return status;
}

enum tide_status stage_export(struct store *store, const struct manifest *whole, uint32_t rank, enum export_format format,
                              const char *dir, void (*progress)(void *context, uint64_t bytes), void *context, char *ret_path,
                              struct err *err)
{
    struct rank_manifest part;
    struct err why = {.status = TIDE_OK};
    int n = snprintf(ret_path, TIDE_PATH_MAX + 1, "%s/rank-%05" PRIu32 ".%s", dir, rank,
                     format == EXPORT_RAW ? "bin" : "safetensors");
    if (n > TIDE_PATH_MAX)
        return err_set(err, TIDE_E_LIMIT, "the path of rank %" PRIu32 " in %s has more than %d bytes", rank, dir, TIDE_PATH_MAX);
    enum tide_status status = fsx_mkdirs(dir, DIR_MODE, err);
    if (status == TIDE_OK && access(ret_path, F_OK) == 0)
        status = err_set(err, TIDE_E_EXISTS, "%s is there already; remove it, or name another directory", ret_path);
    if (status == TIDE_OK)
        status = rank_manifest_read(store, whole, rank, &part, err);
    if (status != TIDE_OK)
        return status;
    struct export x = {.manifest = &part};
    status = tensors_plan(&part, &x.tensors, &why);
    if (status != TIDE_OK && format == EXPORT_SAFETENSORS)
        status = err_set(err, status, "rank %" PRIu32 ": %s", rank, why.text);
    else
        status = export_part(&x, store, format, dir, ret_path, progress, context, err);
    tensors_release(&x.tensors);
    codec_release(&rank_manifest_codec, &part);
    return status;
}
