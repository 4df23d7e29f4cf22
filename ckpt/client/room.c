/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/client/client.h"
#include "ckpt/stage/numa.h"

void room_path(const struct tide *tide, uint32_t number, char to[TIDE_PATH_MAX + 64])
{
    snprintf(to, TIDE_PATH_MAX + 64, "%s/" SLOT_FILE_FORMAT, tide->arena, tide->rank, number);
}

/* With where the slots should lie: by the GPU whose memory they get, or the CPUs this thread may run on. */
static struct local_message reservation(const struct tide *tide, uint64_t bytes, uint32_t flags)
{
    struct local_message ask = {.type = LOCAL_RESERVE, .flags = flags, .bytes = bytes};
    struct numa_home home;
    char bus_id[NUMA_BUS_MAX + 1];
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    if (sched_getaffinity(0, sizeof cpus, &cpus) != 0)
        CPU_ZERO(&cpus);
    devices_bus_id(tide, bus_id, sizeof bus_id);
    numa_find("", bus_id, &cpus, &home);
    ask.slot = (uint32_t)(home.node + 1);
    text_copy(ask.text, sizeof ask.text, home.whose);
    return ask;
}

enum tide_status room_reserve(struct tide *tide, uint64_t bytes, struct err *err)
{
    if (bytes <= tide->reserved_bytes)
        return TIDE_OK;
    uint64_t ms = tide->options.deadline_ms < RESERVE_DEADLINE_MS ? tide->options.deadline_ms : RESERVE_DEADLINE_MS;
    struct local_message ask = reservation(tide, bytes, 0), answer;
    enum tide_status status = channel_ask(tide, &ask, 1u << LOCAL_GRANTED, clock_mono_ns() + ms * NS_PER_MS, &answer, err);
    if (status != TIDE_OK)
        return err_wrap(err, "no room for a checkpoint of %llu bytes", (unsigned long long)bytes);
    tide->reserved_bytes = bytes;
    return TIDE_OK;
}

/* Behind the regions of a coloured rank there is room for the first messages. */
static uint64_t bytes_of(const struct tide *tide, uint64_t data_bytes)
{
    uint64_t most = tide->options.channel_bytes_max, room = most < CHANNEL_ROOM_FIRST ? most : CHANNEL_ROOM_FIRST;
    uint32_t held = tide->counted && tide->region_count < TIDE_REGIONS_MAX;
    bool parts = regions_have_shards(tide);
    return tide->coloured ? slot_bytes_needed(tide->region_count + held + 1, parts, region_end_aligned(data_bytes, room))
                          : slot_bytes_needed(tide->region_count + held, parts, data_bytes);
}

void room_ahead(struct tide *tide)
{
    uint64_t data_bytes = 0;
    if (regions_lay(tide, &data_bytes, NULL) != TIDE_OK)
        return;
    uint64_t bytes = bytes_of(tide, data_bytes);
    if (bytes == 0)
        return;
    struct local_message ahead = reservation(tide, bytes, LOCAL_RESERVE_AHEAD);
    channel_tell(tide, &ahead);
    prefault_begin(tide, bytes);
}

static void unmap(const struct tide *tide, struct slot *slot)
{
    devices_unpin(tide, slot->header);
    slot_unmap(slot);
}

static enum tide_status map(struct tide *tide, uint32_t number, uint64_t bytes, struct slot *slot, struct err *err)
{
    char path[TIDE_PATH_MAX + 64];
    room_path(tide, number, path);
    /* It may have been removed, and be made anew. */
    if (slot->header != NULL && !slot_is_at(slot, path)) {
        unmap(tide, slot);
        tide->reserved_bytes = 0;
    }
    enum tide_status status = room_reserve(tide, bytes, err);
    if (slot->mapped_bytes < bytes)
        unmap(tide, slot);
    if (status == TIDE_OK && slot->header == NULL)
        status = slot_map(path, 1, slot, err);
    if (status != TIDE_OK)
        tide->reserved_bytes = 0;
    else
        devices_pin(tide, slot->header, slot->mapped_bytes, NULL);
    return status;
}

enum tide_status room_slot(struct tide *tide, uint32_t number, uint64_t data_bytes, struct slot **ret_slot, struct err *err)
{
    if (number >= SLOTS)
        return err_set(err, TIDE_E_INVALID, "the agent armed slot %u of %u", number, SLOTS);
    uint64_t bytes = bytes_of(tide, data_bytes);
    if (bytes == 0)
        return err_set(err, TIDE_E_LIMIT, "%u regions of %llu bytes are more than a rank may have", tide->region_count,
                       (unsigned long long)data_bytes);
    prefault_end(tide);
    enum tide_status status = map(tide, number, bytes, &tide->slots[number], err);
    if (status == TIDE_OK)
        *ret_slot = &tide->slots[number];
    return status;
}
