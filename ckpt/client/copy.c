/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "ckpt/base/mem.h"
#include "ckpt/client/client.h"

#define ON_WRITE_BYTES_MIN ((size_t)1 << 20) /* less is copied faster than protected */

static enum tide_status copy_plain(const struct region *r, struct slot *slot, size_t from, size_t bytes, struct err *err)
{
    return bytes == 0 ? TIDE_OK
                      : r->ops->copy_out(slot->data + r->entry.offset + from, (const char *)r->data + from, bytes, err);
}

/* What is copied later: whole pages. 0 when the region is to be copied now. */
static size_t pages_of(const struct region *r, size_t *ret_from)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), at = (uintptr_t)r->data;
    if (r->on_write <= 0 || r->entry.bytes < ON_WRITE_BYTES_MIN)
        return 0;
    uintptr_t from = (at + page - 1) / page * page, end = (at + r->entry.bytes) / page * page;
    *ret_from = from - at;
    return end - from;
}

/* The gap before the next region is hashed and stored like all else. */
static void end_region(const struct region *r, struct slot *slot)
{
    uint64_t used = r->entry.offset + r->entry.bytes;
    memset(slot->data + used, 0, (size_t)(region_end_aligned(r->entry.offset, r->entry.bytes) - used));
}

/* Everything but the ranges. */
static enum tide_status copy_now(struct tide *tide, struct slot *slot, struct on_write_range *ranges, size_t *ret_count,
                                 struct err *err)
{
    enum tide_status status = TIDE_OK;
    for (uint32_t i = 0; status == TIDE_OK && i < tide->region_count; i++) {
        const struct region *r = &tide->regions[i];
        size_t from = 0, later = ranges != NULL ? pages_of(r, &from) : 0, rest = from + later;
        status = copy_plain(r, slot, 0, from, err);
        if (status == TIDE_OK)
            status = copy_plain(r, slot, rest, r->entry.bytes - rest, err);
        end_region(r, slot);
        if (later > 0)
            ranges[(*ret_count)++] = (struct on_write_range){.from = (char *)r->data + from,
                                                             .bytes = later,
                                                             .to = (uint64_t)(slot->data - (unsigned char *)slot->header) +
                                                                   r->entry.offset + from,
                                                             .name = r->entry.name};
    }
    const struct device_ops *last = NULL;
    for (uint32_t i = 0; status == TIDE_OK && i < tide->region_count; i++) {
        if (tide->regions[i].ops != last)
            status = tide->regions[i].ops->synchronise(err);
        last = tide->regions[i].ops;
    }
    return status;
}

static void fill_table(const struct tide *tide, struct slot *slot)
{
    for (uint32_t i = 0; i < tide->region_count; i++)
        slot->regions[i] = tide->regions[i].entry;
}

/* The kernel does not let us, or there is no memory to keep count: then the rank stands still a little longer. */
static void copy_refused(struct tide *tide, struct slot *slot, const struct on_write_range *ranges, size_t count, int number)
{
    for (size_t i = 0; i < count; i++)
        memcpy((char *)slot->header + ranges[i].to, ranges[i].from, ranges[i].bytes);
    tide->record.copy = RECORD_COPY_REFUSED;
    tide->record.copy_errno = number;
}

static enum tide_status copy_some_later(struct tide *tide, struct slot *slot, struct on_write_range *ranges, struct err *err)
{
    char path[TIDE_PATH_MAX + 64];
    size_t count = 0;
    enum tide_status status = copy_now(tide, slot, ranges, &count, err);
    if (status != TIDE_OK || count == 0)
        return status;
    room_path(tide, tide->record.order.slot, path);
    int refused = on_write_begin(tide, path, ranges, count);
    if (refused)
        copy_refused(tide, slot, ranges, count, refused);
    return TIDE_OK;
}

enum tide_status copy_regions(struct tide *tide, struct slot *slot, struct err *err)
{
    size_t wanted = 0, from, none = 0;
    for (uint32_t i = 0; i < tide->region_count; i++) {
        wanted += pages_of(&tide->regions[i], &from) > 0;
        if (tide->regions[i].on_write < 0) {
            tide->record.copy = RECORD_COPY_REFUSED;
            tide->record.copy_errno = -tide->regions[i].on_write;
        }
    }
    fill_table(tide, slot);
    struct on_write_range *ranges = wanted > 0 ? mem_try_array(wanted, sizeof *ranges) : NULL;
    if (ranges == NULL)
        return copy_now(tide, slot, NULL, &none, err);
    enum tide_status status = copy_some_later(tide, slot, ranges, err);
    mem_free(ranges);
    return status;
}
