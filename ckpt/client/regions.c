/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/client/client.h"
#include "ckpt/stage/want.h"

#define REGIONS_ROOM_FIRST 16u

struct region *region_named(const struct tide *tide, const char *name, uint32_t hint)
{
    if (hint < tide->region_count && strcmp(tide->regions[hint].entry.name, name) == 0)
        return &tide->regions[hint];
    for (uint32_t i = 0; i < tide->region_count; i++)
        if (strcmp(tide->regions[i].entry.name, name) == 0)
            return &tide->regions[i];
    return NULL;
}

/* ---- kinds ---- */

#define KINDS_ALL ((unsigned)TIDE_REPLICATED | TIDE_SHARD | TIDE_DROPPABLE)

static uint32_t kind_of(unsigned flags)
{
    if (flags & TIDE_SHARD)
        return REGION_SHARD;
    if (flags & TIDE_REPLICATED)
        return REGION_REPLICATED;
    return flags & TIDE_DROPPABLE ? REGION_DROPPABLE : REGION_OWN;
}

/* `whole` and `at` came later than the struct: a program that was built before does not set TIDE_SHARD, and has none. */
static struct slot_part part_of(const struct tide_region *region)
{
    struct slot_part part = {.whole = {0}};
    if (region->flags & TIDE_SHARD) {
        memcpy(part.whole, region->whole, region->ndim * sizeof part.whole[0]);
        memcpy(part.at, region->at, region->ndim * sizeof part.at[0]);
    }
    return part;
}

static enum tide_status check_kind(const struct tide_region *region, struct err *err)
{
    unsigned kinds = region->flags & KINDS_ALL;
    struct err why = {.status = TIDE_OK};
    if (kinds & (kinds - 1))
        return err_set(err, TIDE_E_INVALID, "region \"%s\" can be only one of TIDE_REPLICATED, TIDE_SHARD and TIDE_DROPPABLE",
                       region->name);
    if (!(kinds & TIDE_SHARD))
        return TIDE_OK;
    struct slot_part part = part_of(region);
    struct slot_region entry = {.ndim = region->ndim};
    struct box box;
    memcpy(entry.shape, region->shape, region->ndim * sizeof entry.shape[0]);
    slot_box(&entry, &part, &box);
    if (box_check(&box, region->dtype, region->bytes, &why) != TIDE_OK)
        return err_set(err, TIDE_E_INVALID, "region \"%s\" is no shard: %.300s", region->name, why.text);
    return TIDE_OK;
}

bool regions_have_shards(const struct tide *tide)
{
    for (uint32_t i = 0; i < tide->region_count; i++)
        if (tide->regions[i].entry.kind == REGION_SHARD)
            return true;
    return false;
}

bool regions_have_kinds(const struct tide *tide)
{
    for (uint32_t i = 0; i < tide->region_count; i++)
        if (tide->regions[i].entry.kind != REGION_OWN)
            return true;
    return false;
}

enum tide_status regions_tell(struct tide *tide, struct err *err)
{
    char path[TIDE_PATH_MAX + 64];
    struct slot_header facts = {.rank = tide->rank, .generation = tide->generation, .world_size = tide->world_size};
    facts.region_count = tide->region_count;
    facts.parts = regions_have_shards(tide);
    text_copy(facts.job_uid, sizeof facts.job_uid, tide->job_uid);
    enum tide_status status = regions_lay(tide, &facts.data_bytes, err);
    struct slot_region *regions = mem_try_array(tide->region_count, sizeof *regions + sizeof(struct slot_part));
    if (status == TIDE_OK && regions == NULL)
        status = err_set(err, TIDE_E_NOMEM, "no memory to tell what %u regions are", tide->region_count);
    for (uint32_t i = 0; status == TIDE_OK && i < tide->region_count; i++) {
        struct slot_part *parts = (struct slot_part *)(regions + tide->region_count);
        regions[i] = tide->regions[i].entry;
        parts[i] = tide->regions[i].part;
    }
    snprintf(path, sizeof path, "%s/" WANT_FILE_FORMAT, tide->arena, tide->rank);
    if (status == TIDE_OK)
        status = want_save(path, &facts, regions, err);
    mem_free(regions);
    return status;
}

/* ---- registering ---- */

static enum tide_status check(struct tide *tide, const struct tide_region *region)
{
    struct err *err = &tide->err;
    if (region == NULL || region->name == NULL || !region_name_valid(region->name))
        return err_set(err, TIDE_E_INVALID, "a region needs a name of 1 to %d printable ASCII characters", TIDE_NAME_MAX);
    const char *name = region->name;
    if (strncmp(name, SLOT_RESERVED_PREFIX, strlen(SLOT_RESERVED_PREFIX)) == 0)
        return err_set(err, TIDE_E_INVALID,
                       "region \"%s\": names that begin with \"" SLOT_RESERVED_PREFIX "\" are tidemark's own; take another",
                       name);
    if (region->flags & ~((unsigned)TIDE_COPY_ON_WRITE | KINDS_ALL))
        return err_set(err, TIDE_E_INVALID, "region \"%s\" has flags %#x, of which some are none of enum tide_region_flag",
                       name, region->flags);
    if (region->data == NULL && region->bytes > 0)
        return err_set(err, TIDE_E_INVALID, "region \"%s\" has %zu bytes and no address", name, region->bytes);
    if (region->ndim > TIDE_DIMS_MAX || (unsigned)region->dtype > TIDE_I8 || (unsigned)region->memory > TIDE_DEVICE)
        return err_set(err, TIDE_E_INVALID, "region \"%s\" has an impossible memory, dtype or number of dimensions", name);
    enum tide_status status = check_kind(region, err);
    if (status != TIDE_OK)
        return status;
    if (region_named(tide, name, 0))
        return err_set(err, TIDE_E_EXISTS, "a region \"%s\" is registered already; unregister it first", name);
    if (tide->region_count == TIDE_REGIONS_MAX)
        return err_set(err, TIDE_E_LIMIT, "region \"%s\" would be one more than the %d that are possible", name,
                       TIDE_REGIONS_MAX);
    if (region_end_aligned(0, region->bytes) > RANK_BYTES_MAX)
        return err_set(err, TIDE_E_LIMIT, "region \"%s\" has %zu bytes; a rank may have %llu", name, region->bytes,
                       (unsigned long long)RANK_BYTES_MAX);
    return TIDE_OK;
}

static enum tide_status make_room(struct tide *tide)
{
    if (tide->region_count < tide->region_room)
        return TIDE_OK;
    uint32_t room = tide->region_room ? tide->region_room * 2 : REGIONS_ROOM_FIRST;
    struct region *more = mem_try_array(room, sizeof *more);
    struct device_part *parts = mem_try_array(room, sizeof *parts);
    if (more == NULL || parts == NULL) {
        mem_free(more);
        mem_free(parts);
        return err_set(&tide->err, TIDE_E_NOMEM, "no memory for a table of %u regions", room);
    }
    mem_free(tide->parts);
    tide->parts = parts;
    if (tide->region_count > 0)
        memcpy(more, tide->regions, tide->region_count * sizeof *more);
    mem_free(tide->regions);
    tide->regions = more;
    tide->region_room = room;
    return TIDE_OK;
}

/* Outside a job nothing is ever copied. */
static enum tide_status adopt(struct tide *tide, const struct tide_region *region, struct device_place *ret_place)
{
    if (!tide->in_job)
        return TIDE_OK;
    enum tide_status status = devices_need(tide, region->memory, &tide->err);
    if (status != TIDE_OK)
        return err_wrap(&tide->err, "region \"%s\"", region->name);
    const struct kind *kind = &tide->kinds[region->memory];
    return kind->ops->adopt(kind->device, region->name, region->data, region->bytes, ret_place, &tide->err);
}

enum tide_status tide_register(struct tide *tide, const struct tide_region *region)
{
    if (tide == NULL)
        return TIDE_E_INVALID;
    struct device_place place = {.ordinal = 0};
    finish_await(tide);
    enum tide_status status = check(tide, region);
    if (status == TIDE_OK)
        status = adopt(tide, region, &place);
    if (status == TIDE_OK)
        status = make_room(tide);
    if (status != TIDE_OK)
        return status;
    struct region *to = &tide->regions[tide->region_count++];
    *to = (struct region){.data = region->data, .place = place};
    if (region->flags & TIDE_COPY_ON_WRITE && region->memory == TIDE_HOST) {
        int refused = on_write_refused(region->data, region->bytes);
        to->on_write = refused ? -refused : 1;
    }
    text_copy(to->entry.name, sizeof to->entry.name, region->name);
    to->entry.memory = region->memory;
    to->entry.dtype = region->dtype;
    to->entry.ndim = region->ndim;
    memcpy(to->entry.shape, region->shape, region->ndim * sizeof region->shape[0]);
    to->entry.bytes = region->bytes;
    to->entry.kind = kind_of(region->flags);
    to->part = part_of(region);
    return TIDE_OK;
}

enum tide_status tide_unregister(struct tide *tide, const char *name)
{
    if (tide == NULL)
        return TIDE_E_INVALID;
    finish_await(tide);
    struct region *region = name ? region_named(tide, name, 0) : NULL;
    if (region == NULL)
        return err_set(&tide->err, TIDE_E_NOT_FOUND, "there is no region \"%.63s\"", name ? name : "");
    /* Its memory may be gone when we return. */
    if (region->on_write > 0)
        on_write_end(tide);
    struct region *end = tide->regions + --tide->region_count;
    memmove(region, region + 1, (size_t)(end - region) * sizeof *region);
    return TIDE_OK;
}

enum tide_status regions_lay(struct tide *tide, uint64_t *ret_data_bytes, struct err *err)
{
    uint64_t offset = 0;
    for (uint32_t i = 0; i < tide->region_count; i++) {
        tide->regions[i].entry.offset = offset;
        offset = region_end_aligned(offset, tide->regions[i].entry.bytes);
        if (offset > RANK_BYTES_MAX)
            return err_set(err, TIDE_E_LIMIT, "the regions have more than %llu bytes together",
                           (unsigned long long)RANK_BYTES_MAX);
    }
    *ret_data_bytes = offset;
    return TIDE_OK;
}
