/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <unistd.h>

#include "ckpt/base/mem.h"
#include "ckpt/client/client.h"

/* ---- the backends ---- */

enum tide_status devices_need(struct tide *tide, enum tide_memory memory, struct err *err)
{
    struct kind *kind = &tide->kinds[memory];
    const struct device_ops *ops = NULL;
    if (kind->ops != NULL)
        return TIDE_OK;
    enum tide_status status = device_for(memory, &ops, err);
    if (status == TIDE_OK)
        status = ops->open(tide->options.deadline_ms, &kind->device, err);
    if (status == TIDE_OK)
        kind->ops = ops;
    return status;
}

void devices_close(struct tide *tide)
{
    /* A device is not for the child of the process that opened it. */
    for (unsigned k = 0; getpid() == tide->pid && k < KINDS; k++)
        if (tide->kinds[k].ops)
            tide->kinds[k].ops->close(tide->kinds[k].device);
}

void devices_pin(const struct tide *tide, void *at, size_t bytes, const _Atomic int *stop)
{
    for (unsigned k = 0; k < KINDS; k++)
        if (tide->kinds[k].ops && tide->kinds[k].ops->pin)
            tide->kinds[k].ops->pin(tide->kinds[k].device, at, bytes, stop);
}

void devices_unpin(const struct tide *tide, void *at)
{
    for (unsigned k = 0; k < KINDS; k++)
        if (at != NULL && tide->kinds[k].ops && tide->kinds[k].ops->unpin)
            tide->kinds[k].ops->unpin(tide->kinds[k].device, at);
}

void devices_bus_id(const struct tide *tide, char *to, size_t size)
{
    const struct kind *kind = &tide->kinds[TIDE_DEVICE];
    to[0] = '\0';
    if (kind->ops)
        kind->ops->bus_id(kind->device, to, size);
}

/* ---- a record ---- */

static unsigned gather(const struct tide *tide, const struct slot *slot, struct device_part *parts)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < tide->region_count; i++) {
        const struct region *r = &tide->regions[i];
        if (r->entry.memory == TIDE_DEVICE)
            parts[count++] = (struct device_part){.name = r->entry.name,
                                                  .place = r->place,
                                                  .from = r->data,
                                                  .to = slot->data + r->entry.offset,
                                                  .bytes = r->entry.bytes,
                                                  .wanted = r->copy};
    }
    return count;
}

static uint64_t keep_ways(struct tide *tide, const struct device_part *parts)
{
    uint64_t later_bytes = 0;
    for (uint32_t i = 0; i < tide->region_count; i++) {
        struct region *r = &tide->regions[i];
        if (r->entry.memory != TIDE_DEVICE)
            continue;
        r->copied = (parts++)->copied;
        later_bytes += r->copied == TIDE_COPY_SYNC ? 0 : r->entry.bytes;
    }
    return later_bytes;
}

static enum tide_status go_on_later(struct tide *tide, uint64_t bytes, struct err *err)
{
    struct record *record = &tide->record;
    pthread_mutex_lock(&record->lock);
    record->parts++;
    record->copy_bytes += bytes;
    pthread_mutex_unlock(&record->lock);
    if (finish_later(tide) == 0)
        return TIDE_OK;
    pthread_mutex_lock(&record->lock);
    record->parts--;
    pthread_mutex_unlock(&record->lock);
    return devices_finish(tide, err);
}

enum tide_status devices_copy_out(struct tide *tide, const struct slot *slot, struct err *err)
{
    const struct kind *kind = &tide->kinds[TIDE_DEVICE];
    int pending = 0;
    if (kind->ops == NULL)
        return TIDE_OK;
    enum tide_status status = kind->ops->copy_out(kind->device, tide->parts, gather(tide, slot, tide->parts), &pending, err);
    if (status != TIDE_OK)
        return status;
    uint64_t later_bytes = keep_ways(tide, tide->parts);
    text_copy(tide->record.note, sizeof tide->record.note, kind->ops->note(kind->device));
    return pending ? go_on_later(tide, later_bytes, err) : TIDE_OK;
}

enum tide_status devices_finish(const struct tide *tide, struct err *err)
{
    const struct kind *kind = &tide->kinds[TIDE_DEVICE];
    return kind->ops->copy_out_finish(kind->device, err);
}

/* ---- a restore ---- */

enum tide_status devices_copy_in_begin(const struct tide *tide, struct err *err)
{
    enum tide_status status = TIDE_OK;
    for (unsigned k = 0; status == TIDE_OK && k < KINDS; k++)
        if (tide->kinds[k].ops)
            status = tide->kinds[k].ops->copy_in_begin(tide->kinds[k].device, err);
    return status;
}

enum tide_status devices_copy_in(const struct tide *tide, const struct region *to, uint64_t offset, const void *from,
                                 size_t bytes, unsigned lane, struct err *err)
{
    const struct kind *kind = &tide->kinds[to->entry.memory];
    return kind->ops->copy_in(kind->device, to->place, (char *)to->data + offset, from, bytes, lane, err);
}

enum tide_status devices_copy_in_wait(const struct tide *tide, unsigned lane, struct err *err)
{
    enum tide_status status = TIDE_OK;
    for (unsigned k = 0; k < KINDS; k++) {
        const struct kind *kind = &tide->kinds[k];
        enum tide_status one =
            kind->ops ? kind->ops->copy_in_wait(kind->device, lane, status == TIDE_OK ? err : NULL) : TIDE_OK;
        status = status == TIDE_OK ? one : status;
    }
    return status;
}

/* ---- what the program says about its devices ---- */

static int has_nothing_to_do(const struct tide *tide)
{
    return !tide->in_job || getpid() != tide->pid;
}

enum tide_status tide_set_streams(struct tide *tide, int device, void *const *streams, unsigned count)
{
    if (tide == NULL)
        return TIDE_E_INVALID;
    if (streams == NULL && count > 0)
        return err_set(&tide->err, TIDE_E_INVALID, "%u streams of GPU %d and no address of them", count, device);
    if (has_nothing_to_do(tide))
        return TIDE_OK;
    finish_await(tide);
    enum tide_status status = devices_need(tide, TIDE_DEVICE, &tide->err);
    const struct kind *kind = &tide->kinds[TIDE_DEVICE];
    return status == TIDE_OK ? kind->ops->set_streams(kind->device, device, streams, count, &tide->err) : status;
}

enum tide_status tide_set_spare(struct tide *tide, int device, size_t bytes)
{
    if (tide == NULL)
        return TIDE_E_INVALID;
    if (has_nothing_to_do(tide))
        return TIDE_OK;
    finish_await(tide);
    enum tide_status status = devices_need(tide, TIDE_DEVICE, &tide->err);
    const struct kind *kind = &tide->kinds[TIDE_DEVICE];
    return status == TIDE_OK ? kind->ops->set_spare(kind->device, device, bytes, &tide->err) : status;
}

static struct region *wanted_region(struct tide *tide, const char *name)
{
    struct region *region = name ? region_named(tide, name, 0) : NULL;
    if (region == NULL)
        err_set(&tide->err, TIDE_E_NOT_FOUND, "there is no region \"%.63s\"", name ? name : "");
    return region;
}

enum tide_status tide_set_copy(struct tide *tide, const char *name, enum tide_copy copy)
{
    if (tide == NULL)
        return TIDE_E_INVALID;
    struct region *region = wanted_region(tide, name);
    if (region == NULL)
        return TIDE_E_NOT_FOUND;
    if ((unsigned)copy > TIDE_COPY_LAZY || (region->entry.memory == TIDE_HOST && copy > TIDE_COPY_SYNC))
        return err_set(&tide->err, TIDE_E_INVALID, "region \"%s\" is %s memory and cannot be copied in way %u", name,
                       region->entry.memory == TIDE_HOST ? "host" : "device", (unsigned)copy);
    if (!has_nothing_to_do(tide))
        finish_await(tide);
    region->copy = copy;
    return TIDE_OK;
}

enum tide_status tide_copied(struct tide *tide, const char *name, enum tide_copy *ret_copy)
{
    if (tide == NULL || ret_copy == NULL)
        return TIDE_E_INVALID;
    const struct region *region = wanted_region(tide, name);
    if (region == NULL)
        return TIDE_E_NOT_FOUND;
    if (!has_nothing_to_do(tide))
        finish_await(tide);
    *ret_copy = region->copied;
    return TIDE_OK;
}

enum tide_status tide_before_update(struct tide *tide, void *stream)
{
    if (tide == NULL)
        return TIDE_E_INVALID;
    const struct kind *kind = &tide->kinds[TIDE_DEVICE];
    if (kind->ops == NULL || getpid() != tide->pid)
        return TIDE_OK;
    return kind->ops->before_update(kind->device, stream, &tide->err);
}
