/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/export.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/format/tensors.h"
#include "ckpt/stage/shard.h"

#define FILE_MODE 0644
#define DIR_MODE 0755

typedef char export_path[TIDE_PATH_MAX + 64];

/* A file that is written under another name until it is whole. */
struct part {
    const char *path;
    export_path name;
    int fd;
};

struct export {
    const struct rank_manifest *manifest;
    struct tensors tensors;
    const struct tensor **by_offset; /* as they lie in the shard */
    uint64_t head;                   /* bytes before the tensors */
    struct part part;
};

/* ---- files: what is there is never replaced, and no link is followed to it ---- */

static enum tide_status taken(const char *path, struct err *err)
{
    return err_set(err, TIDE_E_EXISTS, "%s is there already; remove it, or name another directory", path);
}

static enum tide_status check_free(const char *path, struct err *err)
{
    struct stat info;
    return lstat(path, &info) == 0 ? taken(path, err) : TIDE_OK;
}

static enum tide_status part_open(struct part *part, const char *path, struct err *err)
{
    part->path = path;
    snprintf(part->name, sizeof part->name, "%s.part", path);
    part->fd = open(part->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
    if (part->fd < 0 && errno == EEXIST)
        return err_set(err, TIDE_E_EXISTS,
                       "%s is there already: an export is under way here, or one was cut short; wait for it, or remove the file",
                       part->name);
    return part->fd < 0 ? err_errno(err, "cannot create %s", part->name) : TIDE_OK;
}

static enum tide_status part_write(const struct part *part, const void *from, uint64_t bytes, uint64_t at, struct err *err)
{
    return fsx_pwrite_all(part->fd, from, bytes, at) ? TIDE_OK : err_errno(err, "cannot write %s", part->name);
}

/* Not every file system has links. */
static int give_name(const struct part *part)
{
    if (link(part->name, part->path) == 0)
        return unlink(part->name);
    if (errno != EPERM && errno != EOPNOTSUPP && errno != ENOSYS)
        return -1;
    return renameat2(AT_FDCWD, part->name, AT_FDCWD, part->path, RENAME_NOREPLACE);
}

/* Whole, it gets its name; else nothing is left of it. */
static enum tide_status part_close(struct part *part, enum tide_status status, struct err *err)
{
    if (status == TIDE_OK && fsync(part->fd) != 0)
        status = err_errno(err, "cannot sync %s", part->name);
    if (close(part->fd) != 0 && status == TIDE_OK)
        status = err_errno(err, "cannot close %s", part->name);
    if (status == TIDE_OK && give_name(part) != 0)
        status = errno == EEXIST ? taken(part->path, err) : err_errno(err, "cannot name %s %s", part->name, part->path);
    if (status != TIDE_OK)
        unlink(part->name);
    return status;
}

/* ---- what is in them ---- */

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
            status = part_write(&x->part, raw + (from - begin), to - from, x->head + t->begin + (from - first), err);
    }
    return status;
}

static enum tide_status write_all(const struct export *x, struct store *store, void (*progress)(void *context, uint64_t bytes),
                                  void *context, struct err *err)
{
    struct shard_reader reader;
    struct digest digest;
    size_t cursor = 0;
    const unsigned char *raw = NULL;
    enum tide_status status = shard_reader_init(&reader, store, x->manifest, err);
    if (status != TIDE_OK)
        return status;
    for (uint64_t i = 0; i < x->manifest->chunks.count && status == TIDE_OK; i++) {
        uint64_t begin = i * FORMAT_CHUNK_BYTES, end = begin + chunk_raw_bytes(x->manifest->data_bytes, i);
        status = shard_read_chunk(&reader, i, &raw, &digest, err);
        if (status == TIDE_OK)
            status = write_chunk(x, raw, begin, end, &cursor, err);
        if (status == TIDE_OK && progress != NULL)
            progress(context, end - begin);
    }
    shard_reader_release(&reader);
    return status;
}

static enum tide_status write_file(struct export *x, struct store *store, const char *head, const char *path,
                                   void (*progress)(void *context, uint64_t bytes), void *context, struct err *err)
{
    enum tide_status status = part_open(&x->part, path, err);
    if (status != TIDE_OK)
        return status;
    if (ftruncate(x->part.fd, (off_t)(x->head + x->tensors.bytes)) != 0)
        status = err_errno(err, "cannot make room for %s", x->part.name);
    if (status == TIDE_OK)
        status = part_write(&x->part, head, x->head, 0, err);
    if (status == TIDE_OK)
        status = write_all(x, store, progress, context, err);
    return part_close(&x->part, status, err);
}

static void index_path(const char *dir, uint32_t rank, export_path ret_path)
{
    snprintf(ret_path, sizeof(export_path), "%s/rank-%05" PRIu32 ".json", dir, rank);
}

static enum tide_status write_index(const struct export *x, const char *dir, struct err *err)
{
    struct part part;
    export_path path;
    index_path(dir, x->manifest->rank, path);
    enum tide_status status = part_open(&part, path, err);
    if (status != TIDE_OK)
        return status;
    char *text = tensors_index(x->manifest, &x->tensors);
    status = part_write(&part, text, strlen(text), 0, err);
    mem_free(text);
    return part_close(&part, status, err);
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
    enum tide_status status = write_file(x, store, header, path, progress, context, err);
    if (status == TIDE_OK && format == EXPORT_RAW) {
        /* Behind the data: whoever finds it finds both. Data that nothing describes is of no use. */
        status = write_index(x, dir, err);
        if (status != TIDE_OK)
            unlink(path);
    }
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
    export_path index;
    int n = snprintf(ret_path, TIDE_PATH_MAX + 1, "%s/rank-%05" PRIu32 ".%s", dir, rank,
                     format == EXPORT_RAW ? "bin" : "safetensors");
    if (n > TIDE_PATH_MAX)
        return err_set(err, TIDE_E_LIMIT, "the path of rank %" PRIu32 " in %s has more than %d bytes", rank, dir, TIDE_PATH_MAX);
    enum tide_status status = fsx_mkdirs(dir, DIR_MODE, err);
    index_path(dir, rank, index);
    if (status == TIDE_OK)
        status = check_free(ret_path, err);
    if (status == TIDE_OK && format == EXPORT_RAW)
        status = check_free(index, err);
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
