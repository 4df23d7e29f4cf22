/* SPDX-License-Identifier: Apache-2.0 */
/* What another agent says of where its chunks lie: any bytes, and such whose digest is right. Whatever is believed of it can be asked. */

#include "ckpt/base/mem.h"
#include "ckpt/format/layout.h"
#include "ckpt/format/spread.h"
#include "tests/fuzz/fuzz.h"

#define RANKS 4u

static const struct spread_scope scope = {.cut = 5, .generation = 3, .first = 4, .ranks = RANKS};

/* Packs as they may be. */
static void mend_packs(uint8_t *packs, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++, packs += sizeof(struct spread_pack)) {
        struct spread_pack pack;
        memcpy(&pack, packs, sizeof pack);
        pack.rank = scope.first + pack.rank % RANKS;
        pack.bytes = 1 + pack.bytes % 4096;
        for (size_t c = 0; c < sizeof pack.content; c++)
            pack.content[c] = "0123456789abcdef"[(uint8_t)pack.content[c] % 16];
        memcpy(packs, &pack, sizeof pack);
    }
}

/* All that a reader does with it. */
static void use(const struct spread_table *table)
{
    for (uint32_t i = 0; i < table->place_count; i++) {
        const struct spread_place *place = &table->places[i];
        FUZZ_CHECK(spread_find(table, place->digest) == place);
        if (place->codec == CHUNK_ZERO)
            continue;
        FUZZ_CHECK(place->pack < table->pack_count);
        const struct spread_pack *pack = &table->packs[place->pack];
        FUZZ_CHECK((uint64_t)place->offset + place->length <= pack->bytes && pack->bytes <= FORMAT_PACK_BYTES_MAX);
        FUZZ_CHECK(pack->rank - scope.first < RANKS);
    }
    (void)spread_find(table, (struct digest){0});
}

/* The digest of whatever it is. */
static void sign(uint8_t *text, size_t count)
{
    struct spread_head head;
    memcpy(&head, text, sizeof head);
    head.digest = (struct digest){0};
    memcpy(text, &head, sizeof head);
    head.digest = digest_of(text, count);
    memcpy(text, &head, sizeof head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_in in = {.at = data, .left = bytes};
    struct spread_table table = {0};
    struct err err = {0};
    uint64_t honest = fuzz_number(&in, 1), packs = fuzz_number(&in, 1) % 8, places = fuzz_number(&in, 1) % 16;
    size_t count = honest & 1 ? sizeof(struct spread_head) + packs * sizeof(struct spread_pack) + places * sizeof(struct spread_place)
                              : in.left, given;
    uint8_t *text = mem_alloc(count); /* exactly as long as it is */
    const uint8_t *rest = fuzz_take(&in, count, &given);
    if (given > 0)
        memcpy(text, rest, given);
    if (honest & 1) { /* but for what is in its packs and places */
        const struct spread_head head = {.magic = SPREAD_MAGIC, .cut = scope.cut, .generation = scope.generation,
                                         .packs = (uint32_t)(packs + (honest >> 1 & 1)), .places = (uint32_t)(places + (honest >> 2 & 1))};
        memcpy(text, &head, sizeof head);
        if (honest >> 3 & 1)
            mend_packs(text + sizeof head, packs);
    }
    if (count >= sizeof(struct spread_head))
        sign(text, count);
    enum tide_status status = spread_parse(text, count, &scope, &table, &err);
    FUZZ_CHECK(status == TIDE_OK || (status == TIDE_E_CORRUPT && err.text[0] != '\0'));
    if (status == TIDE_OK)
        use(&table);
    spread_release(&table);
    mem_free(text);
    return 0;
}
