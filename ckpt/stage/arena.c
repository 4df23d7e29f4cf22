/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "ckpt/stage/numa.h"

#define TMPFS 0x01021994UL /* TMPFS_MAGIC of linux/magic.h */
#define DATA_ALIGN 4096u /* whole pages, which device copies like best */

static uint64_t data_offset_of(uint32_t region_count, bool parts)
{
    uint64_t each = sizeof(struct slot_region) + (parts ? sizeof(struct slot_part) : 0);
    uint64_t end = SLOT_HEADER_BYTES + region_count * each;
    return (end + DATA_ALIGN - 1) / DATA_ALIGN * DATA_ALIGN;
}

uint64_t slot_bytes_needed(uint32_t region_count, bool parts, uint64_t data_bytes)
{
    if (region_count > TIDE_REGIONS_MAX || data_bytes > RANK_BYTES_MAX)
        return 0;
    return data_offset_of(region_count, parts) + data_bytes;
}

uint64_t slot_bytes_of(const struct slot_header *h)
{
    return h->parts <= 1 ? slot_bytes_needed(h->region_count, h->parts, h->data_bytes) : 0;
}

struct slot_part *slot_parts(const struct slot *slot)
{
    return slot->header->parts ? (struct slot_part *)(slot->regions + slot->header->region_count) : NULL;
}

/* ---- files ---- */

/* Shared memory gives back by itself what it allocated in vain. The file may have grown meanwhile by another process, the step's or the
 * agent's, and have been mapped: it must not be cut there. Elsewhere, where no arena is but for a trial, it is cut. */
static int gives_back(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && (unsigned long)fs.f_type == TMPFS;
}

enum tide_status slot_reserve(const char *path, uint64_t bytes, struct err *err)
{
    struct stat before;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &before) != 0) {
        enum tide_status failed = err_errno(err, "cannot create slot %s", path);
        if (fd >= 0)
            close(fd);
        return failed;
    }
    /* All of it, whatever its size says: a file that was grown without blocks would kill the rank that writes there. */
    int failed = posix_fallocate(fd, 0, (off_t)bytes);
    enum tide_status status = TIDE_OK;
    if (failed) {
        errno = failed;
        status = err_errno(err, "cannot reserve %llu bytes for slot %s; give the arena more memory",
                           (unsigned long long)bytes, path);
        if (!gives_back(fd) && ftruncate(fd, before.st_size) != 0)
            status = err_wrap(err, "and cannot give back the part that was allocated");
    }
    close(fd);
    return status;
}

enum tide_status slot_reserve_on(const char *path, uint64_t bytes, int node, bool *ret_preferred, struct err *err)
{
    struct numa_policy before = {.set = false};
    *ret_preferred = node != NUMA_ANYWHERE && numa_prefer(node, &before);
    enum tide_status status = slot_reserve(path, bytes, err);
    numa_unprefer(&before);
    return status;
}

static enum tide_status map_fd(int fd, const char *path, int writable, struct slot *ret_slot, struct err *err)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return err_errno(err, "cannot stat slot %s", path);
    if (info.st_size < (off_t)SLOT_HEADER_BYTES)
        return err_set(err, TIDE_E_CORRUPT, "slot %s is shorter than its header", path);
    void *at = mmap(NULL, (size_t)info.st_size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return err_errno(err, "cannot map slot %s", path);
    struct slot_header *header = at;
    uint64_t data = header->data_offset;
    *ret_slot = (struct slot){.header = header,
                              .regions = (struct slot_region *)((char *)at + SLOT_HEADER_BYTES),
                              .data = (unsigned char *)at + (data <= (uint64_t)info.st_size ? data : SLOT_HEADER_BYTES),
                              .mapped_bytes = (size_t)info.st_size,
                              .inode = info.st_ino,
                              .file = -1};
    return TIDE_OK;
}

enum tide_status slot_map(const char *path, int writable, struct slot *ret_slot, struct err *err)
{
    int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return err_set(err, TIDE_E_NOT_FOUND, "there is no slot %s", path);
    if (fd < 0)
        return err_errno(err, "cannot open slot %s", path);
    enum tide_status status = map_fd(fd, path, writable, ret_slot, err);
    close(fd);
    return status;
}

void slot_unmap(struct slot *slot)
{
    if (slot->header) {
        munmap(slot->header, slot->mapped_bytes);
        if (slot->file >= 0)
            close(slot->file);
    }
    *slot = (struct slot){0};
}

enum tide_status slot_open_file(const struct slot *slot, const char *path, int mode, int *ret_fd, struct err *err)
{
    struct stat info;
    int fd = open(path, mode | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot open slot %s", path);
    if (fstat(fd, &info) != 0 || info.st_ino != slot->inode) {
        close(fd);
        return err_set(err, TIDE_E_IO, "slot %s was replaced while it was in use; nobody but the agent may touch the arena", path);
    }
    *ret_fd = fd;
    return TIDE_OK;
}

int slot_is_at(const struct slot *slot, const char *path)
{
    struct stat info;
    return slot->header != NULL && stat(path, &info) == 0 && info.st_ino == slot->inode;
}

/* ---- writing ---- */

/* All that was written before is there when the new state is seen. What is written next cannot come before it either: an
 * exchange, because a plain release would let it. */
static void set_state(struct slot *slot, enum slot_state state)
{
    __atomic_exchange_n(&slot->header->state, (uint32_t)state, __ATOMIC_SEQ_CST);
}

void slot_void(struct slot *slot)
{
    set_state(slot, SLOT_EMPTY);
}

enum tide_status slot_start(struct slot *slot, uint32_t region_count, bool parts, uint64_t data_bytes, struct err *err)
{
    uint64_t needed = slot_bytes_needed(region_count, parts, data_bytes);
    if (needed == 0 || needed > slot->mapped_bytes)
        return err_set(err, TIDE_E_LIMIT, "a slot of %zu bytes is too short for %u regions of %llu bytes",
                       slot->mapped_bytes, region_count, (unsigned long long)data_bytes);
    set_state(slot, SLOT_RECORDING);
    slot->header->magic = SLOT_MAGIC;
    slot->header->region_count = region_count;
    slot->header->reserved = 0;
    slot->header->parts = parts;
    slot->header->data_offset = data_offset_of(region_count, parts);
    slot->header->data_bytes = data_bytes;
    slot->data = (unsigned char *)slot->header + slot->header->data_offset;
    if (parts)
        memset(slot->regions + region_count, 0, region_count * sizeof(struct slot_part));
    return TIDE_OK;
}

static void state_facts(struct slot *slot, const struct slot_header *facts)
{
    struct slot_header *to = slot->header;
    to->rank = facts->rank;
    memcpy(to->job_uid, facts->job_uid, sizeof to->job_uid);
    to->generation = facts->generation;
    to->cut = facts->cut;
    to->attempt = facts->attempt;
    to->world_size = facts->world_size;
    to->step = facts->step;
    to->collectives = facts->collectives;
}

void slot_finish(struct slot *slot, const struct slot_header *facts)
{
    state_facts(slot, facts);
    set_state(slot, SLOT_RECORDED);
}

void slot_drain(struct slot *slot, const struct slot_header *facts)
{
    state_facts(slot, facts);
    set_state(slot, SLOT_DRAINING);
}

/* ---- judging ---- */

static enum tide_status check_region(const struct slot_region *region, uint32_t index, uint64_t offset, struct err *err)
{
    /* A name without an end is found by its length; never read past it. */
    if (!region_name_valid(region->name))
        return err_set(err, TIDE_E_CORRUPT, "region %u of the slot has no valid name", index);
    if (region->memory > TIDE_DEVICE || region->dtype > TIDE_I8 || region->ndim > TIDE_DIMS_MAX || region->kind >= REGION_KINDS)
        return err_set(err, TIDE_E_CORRUPT, "region %u of the slot (\"%.63s\") has an impossible type", index, region->name);
    if (region->offset != offset)
        return err_set(err, TIDE_E_CORRUPT, "region %u of the slot (\"%.63s\") is not where it should be", index,
                       region->name);
    return TIDE_OK;
}

void slot_box(const struct slot_region *region, const struct slot_part *part, struct box *ret_box)
{
    *ret_box = (struct box){.ndim = region->ndim};
    memcpy(ret_box->extent, region->shape, sizeof ret_box->extent);
    memcpy(ret_box->whole, part->whole, sizeof ret_box->whole);
    memcpy(ret_box->at, part->at, sizeof ret_box->at);
}

static enum tide_status check_part(const struct slot_region *region, uint32_t index, const struct slot_part *parts, struct err *err)
{
    struct box box;
    struct err why = {.status = TIDE_OK};
    if (region->kind != REGION_SHARD)
        return TIDE_OK;
    if (parts == NULL)
        return err_set(err, TIDE_E_CORRUPT, "region %u of the slot (\"%.63s\") is a shard of nothing", index, region->name);
    slot_box(region, &parts[index], &box);
    if (box_check(&box, region->dtype, region->bytes, &why) != TIDE_OK)
        return err_set(err, TIDE_E_CORRUPT, "region %u of the slot (\"%.63s\"): %.300s", index, region->name, why.text);
    return TIDE_OK;
}

enum tide_status slot_check_table(const struct slot_header *h, const struct slot_region *regions, struct err *err)
{
    uint64_t offset = 0;
    const struct slot_part *parts = h->parts ? (const struct slot_part *)(regions + h->region_count) : NULL;
    for (uint32_t i = 0; i < h->region_count; i++) {
        struct slot_region region = regions[i];
        enum tide_status status = check_region(&region, i, offset, err);
        if (status == TIDE_OK)
            status = check_part(&region, i, parts, err);
        if (status != TIDE_OK)
            return status;
        offset = region_end_aligned(offset, region.bytes);
        if (offset > h->data_bytes)
            return err_set(err, TIDE_E_CORRUPT, "region %u of the slot ends outside of it", i);
    }
    if (offset != h->data_bytes)
        return err_set(err, TIDE_E_CORRUPT, "the regions of the slot are not as long as its data");
    return TIDE_OK;
}

/* The shape must hold before anything is read: garbage in shared memory may cost a checkpoint, never the reader. */
static enum tide_status check_shape(const struct slot *slot, const struct slot_header *h, struct err *err)
{
    uint64_t needed = slot_bytes_of(h);
    if (needed == 0 || needed > slot->mapped_bytes || h->data_offset != data_offset_of(h->region_count, h->parts))
        return err_set(err, TIDE_E_CORRUPT, "the slot's header does not fit its %zu bytes", slot->mapped_bytes);
    if (slot->data != (unsigned char *)slot->header + h->data_offset)
        return err_set(err, TIDE_E_CORRUPT, "the slot's header changed while it was read");
    if (h->world_size == 0 || h->world_size > TIDE_RANKS_MAX || h->rank >= h->world_size)
        return err_set(err, TIDE_E_CORRUPT, "the slot's header names rank %u of %u", h->rank, h->world_size);
    return slot_check_table(h, slot->regions, err);
}

static enum tide_status check_identity(const struct slot_header *h, const char *job_uid, uint64_t cut, uint32_t rank,
                                       struct err *err)
{
    if (strnlen(h->job_uid, sizeof h->job_uid) == sizeof h->job_uid)
        return err_set(err, TIDE_E_CORRUPT, "the slot's job uid has no end");
    if (strcmp(h->job_uid, job_uid) != 0 || h->rank != rank || (cut != 0 && h->cut != cut))
        return err_set(err, TIDE_E_NOT_FOUND, "the slot holds cut %llu of rank %u of job %s", (unsigned long long)h->cut,
                       h->rank, h->job_uid);
    return TIDE_OK;
}

enum tide_status slot_check(const struct slot *slot, const char *job_uid, uint64_t cut, uint32_t rank, struct err *err)
{
    uint32_t state = __atomic_load_n(&slot->header->state, __ATOMIC_ACQUIRE);
    struct slot_header h = *slot->header;
    if (state == SLOT_DRAINING)
        return err_set(err, TIDE_E_NOT_FOUND, "messages may still be added to the slot's record");
    if (state <= SLOT_RECORDING)
        return err_set(err, TIDE_E_NOT_FOUND, "the slot holds no finished record");
    if (h.magic != SLOT_MAGIC || state != SLOT_RECORDED)
        return err_set(err, TIDE_E_CORRUPT, "the slot's header is not one of ours");
    enum tide_status status = check_identity(&h, job_uid, cut, rank, err);
    return status == TIDE_OK ? check_shape(slot, &h, err) : status;
}

enum tide_status slot_settle(struct slot *slot, const char *job_uid, uint64_t cut, uint32_t rank, struct err *err)
{
    if (__atomic_load_n(&slot->header->state, __ATOMIC_ACQUIRE) != SLOT_DRAINING)
        return slot_check(slot, job_uid, cut, rank, err);
    struct slot_header h = *slot->header;
    enum tide_status status = check_identity(&h, job_uid, cut, rank, err);
    if (status != TIDE_OK)
        return status;
    uint64_t table = h.parts <= 1 ? slot_bytes_needed(h.region_count, h.parts, 0) : 0;
    if (h.magic != SLOT_MAGIC || h.region_count == 0 || table == 0 || table > slot->mapped_bytes)
        return err_set(err, TIDE_E_CORRUPT, "the slot's header is not one of ours");
    struct slot_region log = slot->regions[h.region_count - 1];
    if (strncmp(log.name, SLOT_CHANNEL_REGION, sizeof log.name) != 0)
        return err_set(err, TIDE_E_CORRUPT, "the last region of the slot is no channel log");
    h.data_bytes = region_end_aligned(log.offset, log.bytes);
    status = check_shape(slot, &h, err);
    if (status != TIDE_OK)
        return status;
    memset(slot->data + log.offset + log.bytes, 0, (size_t)(h.data_bytes - log.offset - log.bytes));
    slot->header->data_bytes = h.data_bytes;
    set_state(slot, SLOT_RECORDED);
    return TIDE_OK;
}
