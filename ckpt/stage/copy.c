/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/stage/shard.h"
#include "ckpt/wire/local.h"

#define GATHER_BYTES ((size_t)64 << 10) /* what comes in smaller pieces, from anywhere in a page to anywhere, is written in these */

struct slot_copy {
    arena_path path, sum_path;
    char job_uid[TIDE_UID_CHARS + 1];
    uint64_t cut, most;
    uint32_t rank;
    struct slot_sum sum;
    struct slot slot;             /* once the header is here, and its file */
    int fd;                       /* -1: not open */
    uint64_t data_at;             /* where its chunks begin */
    union {
        struct slot_header header;
        char bytes[SLOT_HEADER_BYTES];
    } head;                       /* kept apart until all the rest is good */
    uint64_t got, needed;         /* bytes; needed 0: not known yet */
    uint64_t checked, kept;       /* chunks; of them kept: those that came wrong, and were right here */
    struct digest_run *run;       /* of the chunk that is coming */
    uint64_t piece_end;           /* the end of that, or of the tables */
    size_t gathered, gather;      /* of what was got, not written yet, and how much that may become */
    char room[CHUNK_BYTES];
};

/* ---- receiving ---- */

enum tide_status slot_copy_begin(const char *dir, uint32_t rank, uint32_t slot, const char *job_uid, uint64_t cut, const void *sum,
                                 size_t sum_bytes, uint64_t most, struct slot_copy **ret_copy, struct err *err)
{
    struct slot_copy *copy = mem_try_alloc(sizeof *copy);
    if (copy == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to copy a slot");
    copy->fd = -1;
    slot_path(dir, rank, slot, copy->path);
    slot_sum_path(dir, rank, slot, copy->sum_path);
    copy->rank = rank;
    copy->cut = cut;
    copy->most = most;
    text_copy(copy->job_uid, sizeof copy->job_uid, job_uid);
    enum tide_status status = slot_sum_parse(sum, sum_bytes, "what the other host sent as digests", &copy->sum, err);
    if (status == TIDE_OK && copy->sum.cut != cut)
        status = err_set(err, TIDE_E_NOT_FOUND, "the other host has cut %llu there, not %llu", (unsigned long long)copy->sum.cut,
                         (unsigned long long)cut);
    if (status == TIDE_OK && (copy->run = digest_run_create()) == NULL)
        status = err_set(err, TIDE_E_NOMEM, "no memory for a digest");
    if (status == TIDE_OK && unlink(copy->sum_path) != 0 && errno != ENOENT)
        status = err_errno(err, "cannot remove %s", copy->sum_path);
    if (status != TIDE_OK) {
        slot_copy_abort(copy, 1);
        return status;
    }
    *ret_copy = copy;
    return TIDE_OK;
}

/* The slot that is written over holds the same cut, which is damaged somewhere: then nothing goes into it before it is known to be right.
 * Else it is written while it lies nearer. */
static size_t gather_of(const struct slot_copy *copy)
{
    const struct slot_header *here = copy->slot.header, *h = &copy->head.header;
    bool same = here->magic == SLOT_MAGIC && here->cut == h->cut && here->rank == h->rank && here->data_offset == h->data_offset &&
                here->data_bytes == h->data_bytes && strncmp(here->job_uid, h->job_uid, sizeof h->job_uid) == 0;
    return same ? CHUNK_BYTES : GATHER_BYTES;
}

/* The header says how much there will be. All that may be is reserved at once, so that nothing that is written later can fail. */
static enum tide_status take_header(struct slot_copy *copy, struct err *err)
{
    const struct slot_header *h = &copy->head.header;
    uint64_t needed = slot_bytes_of(h);
    if (h->magic != SLOT_MAGIC || needed == 0 || chunks_of(h->data_bytes) != copy->sum.chunk_count)
        return err_set(err, TIDE_E_CORRUPT, "what the other host sent is no slot, or does not fit its digests");
    if (strncmp(h->job_uid, copy->job_uid, sizeof h->job_uid) != 0 || h->cut != copy->cut || h->rank != copy->rank)
        return err_set(err, TIDE_E_NOT_FOUND, "the slot there is of cut %llu of rank %u by now", (unsigned long long)h->cut, h->rank);
    if (needed > copy->most)
        return err_set(err, TIDE_E_LIMIT, "it needs %llu bytes, and the arena has room for %llu more; raise --arena-max",
                       (unsigned long long)needed, (unsigned long long)copy->most);
    enum tide_status status = slot_reserve(copy->path, needed, err);
    if (status == TIDE_OK)
        status = slot_map(copy->path, 1, &copy->slot, err);
    if (status == TIDE_OK)
        copy->gather = gather_of(copy);
    if (status == TIDE_OK)
        status = slot_start(&copy->slot, h->region_count, h->parts, h->data_bytes, err);
    if (status == TIDE_OK)
        status = slot_open_file(&copy->slot, copy->path, O_WRONLY, &copy->fd, err);
    if (status != TIDE_OK)
        return status;
    copy->needed = needed;
    copy->data_at = needed - h->data_bytes;
    return TIDE_OK;
}

/* The end of what is coming: the tables, or one chunk. */
static uint64_t piece_end(const struct slot_copy *copy)
{
    if (copy->got < copy->data_at)
        return copy->data_at;
    return copy->data_at + copy->checked * CHUNK_BYTES + chunk_raw_bytes(copy->head.header.data_bytes, copy->checked);
}

/* What comes wrong may be right here. */
static bool keep_chunk(struct slot_copy *copy)
{
    uint32_t bytes = chunk_raw_bytes(copy->head.header.data_bytes, copy->checked);
    if (!digest_equal(copy->sum.chunks[copy->checked], digest_of(copy->slot.data + copy->checked * CHUNK_BYTES, bytes)))
        return false;
    copy->kept++;
    return true;
}

/* What was gathered: hashed and written while it lies in the processor's cache, and through the file, because to have the slot's pages
 * mapped would cost as much again. */
static enum tide_status flush(struct slot_copy *copy, struct err *err)
{
    uint64_t from = copy->got - copy->gathered;
    size_t bytes = copy->gathered;
    bool data = from >= copy->data_at, ends = data && copy->got == copy->piece_end;
    copy->gathered = 0;
    if (data)
        digest_run_add(copy->run, copy->room, bytes);
    bool wrong = ends && !digest_equal(copy->sum.chunks[copy->checked], digest_run_end(copy->run));
    if (wrong && !keep_chunk(copy))
        return err_set(err, TIDE_E_CORRUPT,
                       "chunk %llu of %llu of cut %llu of rank %u came with another digest: it was written over there, or broken",
                       (unsigned long long)copy->checked, (unsigned long long)copy->sum.chunk_count, (unsigned long long)copy->cut,
                       copy->rank);
    if (!wrong && !fsx_pwrite_all(copy->fd, copy->room, bytes, from))
        return err_errno(err, "cannot write slot %s", copy->path);
    if (ends) {
        copy->checked++;
        digest_run_restart(copy->run);
    }
    return TIDE_OK;
}

static enum tide_status take_piece(struct slot_copy *copy, const char *from, size_t count, struct err *err)
{
    memcpy(copy->room + copy->gathered, from, count);
    copy->gathered += count;
    copy->got += count;
    return copy->gathered == copy->gather || copy->got == copy->piece_end ? flush(copy, err) : TIDE_OK;
}

enum tide_status slot_copy_add(struct slot_copy *copy, const void *bytes, size_t count, struct err *err)
{
    const char *from = bytes;
    if (copy->got < SLOT_HEADER_BYTES) {
        size_t part = SLOT_HEADER_BYTES - (size_t)copy->got < count ? SLOT_HEADER_BYTES - (size_t)copy->got : count;
        memcpy(copy->head.bytes + copy->got, from, part);
        copy->got += part;
        from += part;
        count -= part;
        if (copy->got < SLOT_HEADER_BYTES)
            return TIDE_OK;
        enum tide_status status = take_header(copy, err);
        if (status != TIDE_OK)
            return status;
    }
    if (count > copy->needed - copy->got)
        return err_set(err, TIDE_E_CORRUPT, "the other host sent more than the slot has");
    while (count > 0) {
        copy->piece_end = piece_end(copy);
        uint64_t left = copy->piece_end - copy->got;
        size_t part = left < count ? (size_t)left : count;
        part = part < copy->gather - copy->gathered ? part : copy->gather - copy->gathered;
        enum tide_status status = take_piece(copy, from, part, err);
        if (status != TIDE_OK)
            return status;
        from += part;
        count -= part;
    }
    return TIDE_OK;
}

uint64_t slot_copy_kept(const struct slot_copy *copy)
{
    return copy->kept;
}

static void copy_free(struct slot_copy *copy)
{
    if (copy->fd >= 0)
        close(copy->fd);
    slot_unmap(&copy->slot);
    slot_sum_release(&copy->sum);
    digest_run_free(copy->run);
    mem_free(copy);
}

void slot_copy_abort(struct slot_copy *copy, int keep)
{
    if (copy == NULL)
        return;
    if (copy->slot.header != NULL)
        slot_void(&copy->slot);
    if (!keep)
        unlink(copy->path);
    copy_free(copy);
}

enum tide_status slot_copy_end(struct slot_copy *copy, int keep, char ret_root[DIGEST_HEX_CHARS + 1], struct err *err)
{
    enum tide_status status = TIDE_OK;
    if (copy->needed == 0 || copy->got != copy->needed || copy->checked != copy->sum.chunk_count)
        status = err_set(err, TIDE_E_UNAVAILABLE, "the other host ended after %llu of %llu bytes", (unsigned long long)copy->got,
                         (unsigned long long)copy->needed);
    if (status == TIDE_OK) {
        slot_finish(&copy->slot, &copy->head.header);
        status = slot_check(&copy->slot, copy->job_uid, copy->cut, copy->rank, err);
    }
    if (status == TIDE_OK)
        status = slot_verify_table(&copy->slot, &copy->sum, err);
    if (status == TIDE_OK)
        status = slot_sum_save(copy->sum_path, &copy->sum, err);
    if (status != TIDE_OK) {
        slot_copy_abort(copy, keep);
        return status;
    }
    digest_hex(copy->sum.root, ret_root);
    copy_free(copy);
    return TIDE_OK;
}

/* ---- giving ---- */

static enum tide_status source_in(const char *dir, const char *job_uid, uint32_t rank, uint64_t cut, char ret_path[TIDE_PATH_MAX + 1],
                                  char ret_sum_path[TIDE_PATH_MAX + 1], uint64_t *ret_bytes)
{
    for (uint32_t s = 0; s < SLOTS; s++) {
        arena_path path, sum_path;
        struct slot slot;
        struct slot_sum sum;
        slot_path(dir, rank, s, path);
        slot_sum_path(dir, rank, s, sum_path);
        if (slot_open(path, sum_path, job_uid, cut, rank, &slot, &sum, NULL) != TIDE_OK)
            continue;
        *ret_bytes = slot.header->data_offset + slot.header->data_bytes;
        int fits = strlen(path) <= TIDE_PATH_MAX && strlen(sum_path) <= TIDE_PATH_MAX && *ret_bytes <= slot.mapped_bytes;
        slot_unmap(&slot);
        slot_sum_release(&sum);
        if (!fits)
            continue;
        text_copy(ret_path, TIDE_PATH_MAX + 1, path);
        text_copy(ret_sum_path, TIDE_PATH_MAX + 1, sum_path);
        return TIDE_OK;
    }
    return TIDE_E_NOT_FOUND;
}

enum tide_status slot_copy_source(const char *arena, const char *job_uid, uint32_t rank, uint64_t cut, char ret_path[TIDE_PATH_MAX + 1],
                                  char ret_sum_path[TIDE_PATH_MAX + 1], uint64_t *ret_bytes, struct err *err)
{
    arena_path copies;
    snprintf(copies, sizeof copies, "%s/" COPY_DIR, arena);
    if (source_in(arena, job_uid, rank, cut, ret_path, ret_sum_path, ret_bytes) == TIDE_OK ||
        source_in(copies, job_uid, rank, cut, ret_path, ret_sum_path, ret_bytes) == TIDE_OK)
        return TIDE_OK;
    return err_set(err, TIDE_E_NOT_FOUND, "checkpoint %llu of rank %u is not in the memory of this node (any more)",
                   (unsigned long long)cut, rank);
}

/* ---- how much there is ---- */

static uint64_t slots_in(const char *dir)
{
    uint64_t bytes = 0;
    DIR *list = opendir(dir);
    for (struct dirent *entry; list != NULL && (entry = readdir(list)) != NULL;) {
        char path[TIDE_PATH_MAX + 300];
        struct stat info;
        unsigned rank = 0, slot = 0;
        int n = snprintf(path, sizeof path, "%s/%s", dir, entry->d_name);
        if (n > 0 && (size_t)n < sizeof path && sscanf(entry->d_name, SLOT_FILE_FORMAT, &rank, &slot) == 2 && stat(path, &info) == 0)
            bytes += (uint64_t)info.st_blocks * 512u;
    }
    if (list != NULL)
        closedir(list);
    return bytes;
}

void slot_copy_usage(const char *arenas, uint64_t *ret_own, uint64_t *ret_copies)
{
    *ret_own = *ret_copies = 0;
    DIR *list = opendir(arenas);
    for (struct dirent *entry; list != NULL && (entry = readdir(list)) != NULL;) {
        char path[TIDE_PATH_MAX + 300], copies[TIDE_PATH_MAX + 320];
        int n = snprintf(path, sizeof path, "%s/%s", arenas, entry->d_name);
        if (entry->d_name[0] == '.' || n <= 0 || (size_t)n >= sizeof path)
            continue;
        snprintf(copies, sizeof copies, "%s/" COPY_DIR, path);
        *ret_own += slots_in(path);
        *ret_copies += slots_in(copies);
    }
    if (list != NULL)
        closedir(list);
}
