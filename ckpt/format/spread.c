/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/format/spread.h"

#include <stdlib.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/format/layout.h"

#define ROOM_FIRST 64u

_Static_assert(sizeof(struct spread_head) == 56 && sizeof(struct spread_pack) == 32 && sizeof(struct spread_place) == 32,
               "no gaps are sent");

/* ---- who writes ---- */

/* Each node draws a number for the run, and the largest wins: a node more or less moves no run between the others. */
unsigned spread_writer(uint64_t lead, uint32_t nodes)
{
    struct rng rng = {.state = lead};
    unsigned best = 0;
    uint64_t most = 0;
    int any = 0;
    for (unsigned node = 0; node < SPREAD_NODES_MAX; node++) {
        uint64_t drawn = rng_next(&rng);
        if (!(nodes >> node & 1) || (any && drawn <= most))
            continue;
        any = 1;
        most = drawn;
        best = node;
    }
    return best;
}

int spread_worth(uint64_t theirs, uint64_t all)
{
    return theirs > 0 && theirs >= all / SPREAD_LEAST_PART + (all % SPREAD_LEAST_PART != 0);
}

/* ---- filling ---- */

void spread_release(struct spread_table *table)
{
    mem_free(table->packs);
    mem_free(table->places);
    *table = (struct spread_table){0};
}

/* The items, with room for one more; NULL: there is none. */
static void *widened(void *items, uint32_t count, uint32_t *room, size_t size, uint32_t most)
{
    uint32_t wider = *room > 0 ? 2 * *room : ROOM_FIRST;
    if (count < *room)
        return items;
    void *more = wider <= most ? mem_try_array(wider, size) : NULL;
    if (more == NULL)
        return NULL;
    if (count > 0)
        memcpy(more, items, count * size);
    mem_free(items);
    *room = wider;
    return more;
}

/* Those of one rank come one after the other. */
static int pack_index(struct spread_table *table, const struct pack_name *name, uint64_t bytes, uint32_t *ret_index)
{
    for (uint32_t i = table->pack_count; i-- > 0;) {
        const struct spread_pack *pack = &table->packs[i];
        if (pack->rank == name->rank && pack->seq == name->seq && memcmp(pack->content, name->content, sizeof pack->content) == 0) {
            *ret_index = i;
            return 0;
        }
    }
    struct spread_pack *packs = widened(table->packs, table->pack_count, &table->pack_room, sizeof *packs, SPREAD_PACKS_MAX);
    if (packs == NULL)
        return -1;
    table->packs = packs;
    struct spread_pack *pack = &packs[table->pack_count];
    *pack = (struct spread_pack){.rank = name->rank, .bytes = (uint32_t)bytes, .seq = name->seq};
    memcpy(pack->content, name->content, sizeof pack->content);
    *ret_index = table->pack_count++;
    return 0;
}

int spread_add(struct spread_table *table, const struct chunk *chunk, const struct pack_name *pack, uint64_t bytes)
{
    struct spread_place place = {.digest = chunk->digest, .codec = chunk->codec};
    struct spread_place *places = widened(table->places, table->place_count, &table->place_room, sizeof place, SPREAD_PLACES_MAX);
    if (places == NULL)
        return -1;
    table->places = places;
    if (chunk->codec != CHUNK_ZERO) {
        if (pack_index(table, pack, bytes, &place.pack) != 0)
            return -1;
        place.offset = (uint32_t)chunk->offset;
        place.length = chunk->length;
    }
    table->places[table->place_count++] = place;
    return 0;
}

static int order(struct digest a, struct digest b)
{
    if (a.high != b.high)
        return a.high < b.high ? -1 : 1;
    return (a.low > b.low) - (a.low < b.low);
}

static int by_digest(const void *a, const void *b)
{
    return order(((const struct spread_place *)a)->digest, ((const struct spread_place *)b)->digest);
}

/* Two ranks may have written the same, where the first had failed to tell: one is enough. */
static void sort(struct spread_table *table)
{
    uint32_t unique = 0;
    if (table->place_count > 0)
        qsort(table->places, table->place_count, sizeof table->places[0], by_digest);
    for (uint32_t i = 0; i < table->place_count; i++)
        if (i == 0 || !digest_equal(table->places[i].digest, table->places[unique - 1].digest))
            table->places[unique++] = table->places[i];
    table->place_count = unique;
}

/* ---- on its way ---- */

static size_t bytes_of(uint64_t packs, uint64_t places)
{
    return sizeof(struct spread_head) + (size_t)packs * sizeof(struct spread_pack) + (size_t)places * sizeof(struct spread_place);
}

size_t spread_bytes_max(void)
{
    return bytes_of(SPREAD_PACKS_MAX, SPREAD_PLACES_MAX);
}

enum tide_status spread_print(struct spread_table *table, const struct spread_scope *scope, void **ret_bytes, size_t *ret_count,
                              struct err *err)
{
    sort(table);
    size_t count = bytes_of(table->pack_count, table->place_count), packs = table->pack_count * sizeof table->packs[0];
    unsigned char *bytes = mem_try_alloc(count);
    if (bytes == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to tell other nodes of %u chunks", table->place_count);
    struct spread_head head = {.magic = SPREAD_MAGIC,
                               .cut = scope->cut,
                               .generation = scope->generation,
                               .packs = table->pack_count,
                               .places = table->place_count};
    memcpy(bytes, &head, sizeof head);
    if (table->pack_count > 0)
        memcpy(bytes + sizeof head, table->packs, packs);
    if (table->place_count > 0)
        memcpy(bytes + sizeof head + packs, table->places, table->place_count * sizeof table->places[0]);
    head.digest = digest_of(bytes, count);
    memcpy(bytes, &head, sizeof head);
    *ret_bytes = bytes;
    *ret_count = count;
    return TIDE_OK;
}

static int pack_good(const struct spread_pack *pack, const struct spread_scope *scope)
{
    for (size_t i = 0; i < sizeof pack->content; i++)
        if (pack->content[i] == '\0' || strchr("0123456789abcdef", pack->content[i]) == NULL)
            return 0;
    return pack->rank >= scope->first && pack->rank - scope->first < scope->ranks && pack->bytes > 0 &&
           pack->bytes <= FORMAT_PACK_BYTES_MAX;
}

static int place_good(const struct spread_table *table, const struct spread_place *place)
{
    if (place->codec == CHUNK_ZERO)
        return 1;
    return place->codec < CHUNK_CODECS && place->length > 0 && place->pack < table->pack_count &&
           place->offset <= table->packs[place->pack].bytes && place->length <= table->packs[place->pack].bytes - place->offset;
}

static int table_good(const struct spread_table *table, const struct spread_scope *scope)
{
    for (uint32_t i = 0; i < table->pack_count; i++)
        if (!pack_good(&table->packs[i], scope))
            return 0;
    for (uint32_t i = 0; i < table->place_count; i++)
        if (!place_good(table, &table->places[i]) || (i > 0 && by_digest(&table->places[i - 1], &table->places[i]) >= 0))
            return 0;
    return 1;
}

/* Its digest, and what it says of itself. */
static int head_good(const void *bytes, size_t count, const struct spread_scope *scope, struct spread_head *ret_head)
{
    struct spread_head head;
    struct digest_run *run = digest_run_create();
    if (run == NULL || count < sizeof head) {
        digest_run_free(run);
        return 0;
    }
    memcpy(&head, bytes, sizeof head);
    struct digest told = head.digest;
    head.digest = (struct digest){0};
    digest_run_add(run, &head, sizeof head);
    digest_run_add(run, (const unsigned char *)bytes + sizeof head, count - sizeof head);
    int good = digest_equal(told, digest_run_end(run));
    digest_run_free(run);
    *ret_head = head;
    return good && head.magic == SPREAD_MAGIC && head.cut == scope->cut && head.generation == scope->generation &&
           head.packs <= SPREAD_PACKS_MAX && head.places <= SPREAD_PLACES_MAX && count == bytes_of(head.packs, head.places);
}

enum tide_status spread_parse(const void *bytes, size_t count, const struct spread_scope *scope, struct spread_table *ret_table,
                              struct err *err)
{
    struct spread_head head;
    if (!head_good(bytes, count, scope, &head))
        return err_set(err, TIDE_E_CORRUPT, "a table of what another node wrote is damaged, or of another cut");
    struct spread_table table = {.pack_count = head.packs, .place_count = head.places};
    const unsigned char *from = (const unsigned char *)bytes + sizeof head;
    table.packs = mem_try_array((size_t)head.packs + 1, sizeof *table.packs);
    table.places = mem_try_array((size_t)head.places + 1, sizeof *table.places);
    if (table.packs == NULL || table.places == NULL) {
        spread_release(&table);
        return err_set(err, TIDE_E_NOMEM, "no memory for what another node wrote");
    }
    memcpy(table.packs, from, head.packs * sizeof *table.packs);
    memcpy(table.places, from + head.packs * sizeof *table.packs, head.places * sizeof *table.places);
    if (!table_good(&table, scope)) {
        spread_release(&table);
        return err_set(err, TIDE_E_CORRUPT, "a table of what another node wrote names what that node cannot have written");
    }
    *ret_table = table;
    return TIDE_OK;
}

const struct spread_place *spread_find(const struct spread_table *table, struct digest digest)
{
    struct spread_place key = {.digest = digest};
    return table->place_count > 0 ? bsearch(&key, table->places, table->place_count, sizeof key, by_digest) : NULL;
}
