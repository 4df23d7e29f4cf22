/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/format/layout.h"
#include "ckpt/format/spread.h"

/* Which node writes what several hold, and how it tells where. */

#define RUNS 4096u
#define ALL 0xffu

static void each_node_writes_as_much(void **state)
{
    (void)state;
    for (unsigned nodes = 1; nodes <= SPREAD_NODES_MAX; nodes++) {
        unsigned parts[SPREAD_NODES_MAX] = {0};
        struct rng rng = {.state = 7};
        for (unsigned i = 0; i < RUNS; i++)
            parts[spread_writer(rng_next(&rng), (1u << nodes) - 1)]++;
        for (unsigned n = 0; n < nodes; n++)
            assert_in_range(parts[n], RUNS / nodes * 8 / 10, RUNS / nodes * 12 / 10);
    }
}

static void only_who_holds_it_writes_it(void **state)
{
    (void)state;
    struct rng rng = {.state = 8};
    for (unsigned i = 0; i < RUNS; i++) {
        uint32_t nodes = (uint32_t)rng_next(&rng) & ALL;
        uint64_t lead = rng_next(&rng);
        if (nodes != 0)
            assert_true(nodes >> spread_writer(lead, nodes) & 1);
        assert_int_equal(spread_writer(lead, 1u << i % SPREAD_NODES_MAX), i % SPREAD_NODES_MAX);
    }
}

/* Who does not know of one node agrees on all that was not that node's. */
static void a_node_that_is_missing_moves_only_its_own(void **state)
{
    (void)state;
    struct rng rng = {.state = 9};
    for (unsigned i = 0; i < RUNS; i++) {
        uint64_t lead = rng_next(&rng);
        unsigned writer = spread_writer(lead, ALL), gone = i % SPREAD_NODES_MAX, other = spread_writer(lead, ALL & ~(1u << gone));
        assert_true(writer == gone ? other != gone : other == writer);
    }
}

/* Of those who hold a chunk each knows of some others: the one with the largest draw of all takes himself for the writer. */
static void whatever_each_knows_somebody_writes(void **state)
{
    (void)state;
    struct rng rng = {.state = 10};
    for (unsigned i = 0; i < RUNS; i++) {
        uint64_t lead = rng_next(&rng);
        uint32_t holders = (uint32_t)rng_next(&rng) & ALL;
        unsigned writers = 0;
        for (unsigned n = 0; n < SPREAD_NODES_MAX; n++)
            writers += holders >> n & 1 && spread_writer(lead, (holders & (uint32_t)rng_next(&rng)) | 1u << n) == n;
        assert_true(holders == 0 || writers > 0);
    }
}

static void little_is_not_waited_for(void **state)
{
    (void)state;
    assert_false(spread_worth(0, 0));
    assert_false(spread_worth(0, 5));
    assert_true(spread_worth(1, 5));
    assert_true(spread_worth(2, 32));
    assert_false(spread_worth(2, 33));
    assert_true(spread_worth(UINT64_MAX, UINT64_MAX));
}

/* ---- the table ---- */

static const struct spread_scope scope = {.cut = 5, .generation = 3, .first = 4, .ranks = 2};

static struct chunk chunk_of(unsigned n)
{
    return (struct chunk){.codec = n % 5 == 0 ? CHUNK_ZERO : CHUNK_RAW,
                          .offset = (n % 7) * FORMAT_CHUNK_BYTES,
                          .length = FORMAT_CHUNK_BYTES,
                          .digest = {.high = n * 77 % 50, .low = n}};
}

static struct pack_name pack_of(unsigned n)
{
    struct pack_name name = {.cut = 5, .generation = 3, .rank = 4 + n % 2, .seq = n / 7};
    memcpy(name.content, "0123456789abcdef", PACK_CONTENT_CHARS);
    return name;
}

static void fill(struct spread_table *table, unsigned count)
{
    for (unsigned n = 0; n < count; n++) {
        const struct chunk chunk = chunk_of(n);
        const struct pack_name pack = pack_of(n);
        assert_int_equal(spread_add(table, &chunk, &pack, 7 * FORMAT_CHUNK_BYTES), 0);
    }
}

static void a_table_arrives_as_it_was_sent(void **state)
{
    (void)state;
    struct spread_table table = {0}, got = {0};
    struct err err = {0};
    void *bytes = NULL;
    size_t count = 0;
    fill(&table, 300);
    fill(&table, 20); /* told twice */
    assert_int_equal(spread_print(&table, &scope, &bytes, &count, &err), TIDE_OK);
    assert_true(count <= spread_bytes_max());
    assert_int_equal(spread_parse(bytes, count, &scope, &got, &err), TIDE_OK);
    assert_int_equal(got.place_count, 300);
    for (unsigned n = 0; n < 300; n++) {
        const struct chunk chunk = chunk_of(n);
        const struct pack_name pack = pack_of(n);
        const struct spread_place *place = spread_find(&got, chunk.digest);
        assert_non_null(place);
        assert_int_equal(place->codec, chunk.codec);
        if (chunk.codec == CHUNK_ZERO)
            continue;
        assert_int_equal(place->offset, chunk.offset);
        assert_int_equal(place->length, chunk.length);
        assert_int_equal(got.packs[place->pack].rank, pack.rank);
        assert_int_equal(got.packs[place->pack].seq, pack.seq);
        assert_int_equal(got.packs[place->pack].bytes, 7 * FORMAT_CHUNK_BYTES);
        assert_memory_equal(got.packs[place->pack].content, pack.content, PACK_CONTENT_CHARS);
    }
    assert_null(spread_find(&got, (struct digest){.high = 1000}));
    spread_release(&got);
    spread_release(&table);
    mem_free(bytes);
    assert_int_equal(spread_print(&table, &scope, &bytes, &count, &err), TIDE_OK); /* nothing to tell is something to tell */
    assert_int_equal(spread_parse(bytes, count, &scope, &got, &err), TIDE_OK);
    assert_null(spread_find(&got, (struct digest){0}));
    spread_release(&got);
    mem_free(bytes);
}

static void what_was_damaged_on_the_way_is_refused(void **state)
{
    (void)state;
    struct spread_table table = {0}, got = {0};
    struct err err = {0};
    void *sent = NULL;
    size_t count = 0;
    fill(&table, 12);
    assert_int_equal(spread_print(&table, &scope, &sent, &count, &err), TIDE_OK);
    unsigned char *bytes = sent;
    for (size_t i = 0; i < count; i++) {
        bytes[i] ^= 0x10;
        assert_int_equal(spread_parse(bytes, count, &scope, &got, &err), TIDE_E_CORRUPT);
        assert_int_equal(spread_parse(bytes, i, &scope, &got, &err), TIDE_E_CORRUPT);
        bytes[i] ^= 0x10;
    }
    const struct spread_scope others[] = {{6, 3, 4, 2}, {5, 4, 4, 2}, {5, 3, 5, 2}, {5, 3, 4, 1}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_int_equal(spread_parse(bytes, count, &others[i], &got, &err), TIDE_E_CORRUPT);
    mem_free(sent);
    spread_release(&table);
}

/* Whole, and nonsense all the same. */
static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    struct spread_table got = {0};
    struct err err = {0};
    for (unsigned wrong = 0; wrong < 7; wrong++) {
        struct spread_table table = {0};
        void *bytes = NULL;
        size_t count = 0;
        fill(&table, 12);
        struct spread_place *last = &table.places[11];
        struct spread_pack *pack = &table.packs[last->pack];
        switch (wrong) {
        case 0:
            last->offset = pack->bytes;
            break;
        case 1:
            last->codec = CHUNK_CODECS;
            break;
        case 2:
            last->pack = table.pack_count;
            break;
        case 3:
            last->length = 0;
            break;
        case 4:
            pack->content[3] = '/';
            break;
        case 5:
            pack->content[3] = '\0';
            break;
        default:
            pack->bytes = FORMAT_PACK_BYTES_MAX + 1;
        }
        assert_int_equal(spread_print(&table, &scope, &bytes, &count, &err), TIDE_OK);
        assert_int_equal(spread_parse(bytes, count, &scope, &got, &err), TIDE_E_CORRUPT);
        mem_free(bytes);
        spread_release(&table);
    }
}

static void sign(unsigned char *bytes, size_t count, struct spread_head *head)
{
    head->digest = (struct digest){0};
    memcpy(bytes, head, sizeof *head);
    head->digest = digest_of(bytes, count);
    memcpy(bytes, head, sizeof *head);
}

/* Nor is what this version does not print: another format, and one chunk twice. */
static void what_is_not_printed_so_is_refused(void **state)
{
    (void)state;
    struct spread_table table = {0}, got = {0};
    struct spread_head head;
    struct err err = {0};
    void *sent = NULL;
    size_t count = 0;
    fill(&table, 12);
    assert_int_equal(spread_print(&table, &scope, &sent, &count, &err), TIDE_OK);
    unsigned char *bytes = sent;
    memcpy(&head, bytes, sizeof head);
    head.magic++;
    sign(bytes, count, &head);
    assert_int_equal(spread_parse(bytes, count, &scope, &got, &err), TIDE_E_CORRUPT);
    head.magic--;
    sign(bytes, count, &head);
    assert_int_equal(spread_parse(bytes, count, &scope, &got, &err), TIDE_OK);
    spread_release(&got);
    struct spread_place *last = (struct spread_place *)(bytes + count) - 1;
    memcpy(last, last - 1, sizeof *last);
    sign(bytes, count, &head);
    assert_int_equal(spread_parse(bytes, count, &scope, &got, &err), TIDE_E_CORRUPT);
    mem_free(sent);
    spread_release(&table);
}

/* What was told of an attempt that failed lies where it lies. */
static void packs_of_two_attempts_are_two(void **state)
{
    (void)state;
    struct spread_table table = {0};
    struct chunk chunk = chunk_of(1);
    struct pack_name pack = pack_of(1);
    assert_int_equal(spread_add(&table, &chunk, &pack, FORMAT_CHUNK_BYTES), 0);
    chunk = chunk_of(2);
    pack.content[0] = 'f';
    assert_int_equal(spread_add(&table, &chunk, &pack, FORMAT_CHUNK_BYTES), 0);
    assert_int_equal(table.pack_count, 2);
    assert_int_equal(table.places[1].pack, 1);
    spread_release(&table);
}

static void more_than_there_is_room_for_is_not_told(void **state)
{
    (void)state;
    struct spread_table table = {0}, got = {0};
    struct err err = {0};
    void *bytes = NULL;
    size_t count = 0;
    struct chunk chunk = {.codec = CHUNK_ZERO};
    for (; chunk.digest.low < SPREAD_PLACES_MAX; chunk.digest.low++)
        assert_int_equal(spread_add(&table, &chunk, NULL, 0), 0);
    assert_int_not_equal(spread_add(&table, &chunk, NULL, 0), 0);
    assert_int_equal(table.place_count, SPREAD_PLACES_MAX);
    assert_int_equal(spread_print(&table, &scope, &bytes, &count, &err), TIDE_OK);
    assert_int_equal(spread_parse(bytes, count, &scope, &got, &err), TIDE_OK);
    assert_non_null(spread_find(&got, (struct digest){.low = SPREAD_PLACES_MAX - 1}));
    spread_release(&got);
    mem_free(bytes);
    /* Whoever has more room is not believed. */
    table.places = mem_grow(table.places, SPREAD_PLACES_MAX + 1, sizeof table.places[0]);
    table.places[table.place_count++] = (struct spread_place){.digest = chunk.digest};
    assert_int_equal(spread_print(&table, &scope, &bytes, &count, &err), TIDE_OK);
    assert_int_equal(spread_parse(bytes, count, &scope, &got, &err), TIDE_E_CORRUPT);
    mem_free(bytes);
    spread_release(&table);
}

static void without_memory_less_is_told(void **state)
{
    (void)state;
    struct spread_table table = {0}, got = {0};
    struct err err = {0};
    void *bytes = NULL;
    size_t count = 0;
    const struct chunk chunk = chunk_of(1);
    const struct pack_name pack = pack_of(1);
    for (unsigned long n = 1; n <= 2; n++) {
        mem_fail_at(n);
        assert_int_not_equal(spread_add(&table, &chunk, &pack, FORMAT_CHUNK_BYTES * 2), 0);
        mem_fail_at(0);
        assert_int_equal(table.place_count, 0);
        spread_release(&table);
    }
    fill(&table, 3);
    mem_fail_at(1);
    assert_int_equal(spread_print(&table, &scope, &bytes, &count, &err), TIDE_E_NOMEM);
    mem_fail_at(0);
    assert_int_equal(spread_print(&table, &scope, &bytes, &count, &err), TIDE_OK);
    for (unsigned long n = 1; n <= 2; n++) {
        mem_fail_at(n);
        assert_int_equal(spread_parse(bytes, count, &scope, &got, &err), TIDE_E_NOMEM);
        mem_fail_at(0);
    }
    mem_free(bytes);
    spread_release(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_node_writes_as_much),
        cmocka_unit_test(only_who_holds_it_writes_it),
        cmocka_unit_test(a_node_that_is_missing_moves_only_its_own),
        cmocka_unit_test(whatever_each_knows_somebody_writes),
        cmocka_unit_test(little_is_not_waited_for),
        cmocka_unit_test(a_table_arrives_as_it_was_sent),
        cmocka_unit_test(what_was_damaged_on_the_way_is_refused),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(what_is_not_printed_so_is_refused),
        cmocka_unit_test(packs_of_two_attempts_are_two),
        cmocka_unit_test(more_than_there_is_room_for_is_not_told),
        cmocka_unit_test(without_memory_less_is_told),
    };
    return cmocka_run_group_tests_name("spread", tests, NULL, NULL);
}
