/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "ckpt/base/mem.h"
#include "ckpt/client/client.h"

#define ON_WRITE_BYTES_MIN ((size_t)1 << 20) /* less is copied faster than protected */

static void copy_plain(const struct region *r, struct slot *slot, size_t from, size_t bytes)
{
    /* A region of no bytes may have no address either. */
    if (bytes > 0 && r->entry.memory == TIDE_HOST)
        memcpy(slot->data + r->entry.offset + from, (const char *)r->data + from, bytes);
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
static void copy_now(struct tide *tide, struct slot *slot, struct on_write_range *ranges, size_t *ret_count)
{
    for (uint32_t i = 0; i < tide->region_count; i++) {
        const struct region *r = &tide->regions[i];
        size_t from = 0, later = ranges != NULL ? pages_of(r, &from) : 0, rest = from + later;
        copy_plain(r, slot, 0, from);
        copy_plain(r, slot, rest, r->entry.bytes - rest);
        end_region(r, slot);
        if (later > 0)
            ranges[(*ret_count)++] = (struct on_write_range){.from = (char *)r->data + from,
                                                             .bytes = later,
                                                             .to = (uint64_t)(slot->data - (unsigned char *)slot->header) +
                                                                   r->entry.offset + from,
                                                             .name = r->entry.name};
    }
}

static void fill_table(const struct tide *tide, struct slot *slot)
{
    struct slot_part *parts = slot_parts(slot);
    for (uint32_t i = 0; i < tide->region_count; i++) {
        slot->regions[i] = tide->regions[i].entry;
        if (parts != NULL)
            parts[i] = tide->regions[i].part;
    }
}

/* The kernel does not let us, or there is no memory to keep count: then the rank stands still a little longer. */
static void copy_refused(struct tide *tide, struct slot *slot, const struct on_write_range *ranges, size_t count, int number)
{
    for (size_t i = 0; i < count; i++)
        memcpy((char *)slot->header + ranges[i].to, ranges[i].from, ranges[i].bytes);
    tide->record.copy = RECORD_COPY_REFUSED;
    tide->record.copy_errno = number;
}

static void copy_some_later(struct tide *tide, struct slot *slot, struct on_write_range *ranges)
{
    char path[TIDE_PATH_MAX + 64];
    size_t count = 0;
    copy_now(tide, slot, ranges, &count);
    if (count == 0)
        return;
    room_path(tide, tide->record.order.slot, path);
    int refused = on_write_begin(tide, path, ranges, count);
    if (refused)
        copy_refused(tide, slot, ranges, count, refused);
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
    /* Devices first: some of theirs goes on while host memory is copied. */
    enum tide_status status = devices_copy_out(tide, slot, err);
    if (status != TIDE_OK)
        return status;
    struct on_write_range *ranges = wanted > 0 ? mem_try_array(wanted, sizeof *ranges) : NULL;
    if (ranges == NULL)
        copy_now(tide, slot, NULL, &none);
    else
        copy_some_later(tide, slot, ranges);
    mem_free(ranges);
    return TIDE_OK;
}
