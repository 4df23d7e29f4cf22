/* SPDX-License-Identifier: Apache-2.0 */

/* A check reads every byte of every pack that a checkpoint names, once, whichever ranks have a part of it, and says what it means when one
 * is wrong: for a rank, or for nobody but the checkpoints to come. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "ckpt/stage/pack_walk.h"
#include "tests/unit/chunks.h"

#define CHUNKS 80u /* of noise: packs of 32, 32 and 16 */
#define WORLD 2u
#define FIRST 1u
#define CUT 2u
#define DEAD_FROM 10u /* chunks that the second cut stored anew: more than is read at a time */
#define DEAD 12u
#define PACKS 4u

static char *arena, *elsewhere, *root, key[TIDE_PATH_MAX + 1], digest[DIGEST_HEX_CHARS + 1];
static struct store *real;
static unsigned content[CHUNKS];
static struct rank_manifest shard; /* of rank 0; that of rank 1 names the same packs */

/* ---- a store in front of the real one ---- */

static struct front {
    struct store base;
    uint64_t got; /* bytes of packs */
    const char *name;
    uint64_t at;
    unsigned flips, hangs, sectors; /* so often, when that byte is read */
} front;

static enum tide_status front_get(struct store *store, const char *name, uint64_t offset, void *to, size_t bytes, struct err *err)
{
    (void)store;
    enum tide_status status = store_get(real, name, offset, to, bytes, err);
    front.got += name[0] == 'c' ? bytes : 0;
    if (front.name == NULL || strcmp(name, front.name) != 0 || front.at < offset || front.at >= offset + bytes)
        return status;
    if (front.hangs > 0 && front.hangs--)
        return err_set(err, TIDE_E_UNAVAILABLE, "the store hangs");
    if (front.sectors > 0 && front.sectors--)
        return err_set(err, TIDE_E_IO, "cannot read %s", name);
    if (front.flips > 0 && front.flips--)
        ((unsigned char *)to)[front.at - offset] ^= 1;
    return status;
}

static enum tide_status front_size(struct store *store, const char *name, uint64_t *ret_bytes, struct err *err)
{
    (void)store;
    return store_size(real, name, ret_bytes, err);
}

static const struct store_ops front_ops = {.scheme = "front", .gets_at_once = 4, .get = front_get, .size = front_size};

/* ---- a checkpoint ---- */

/* What rank 1 holds is what rank 0 holds, and stored by that one. */
static void second_rank(struct cut_order *order, const struct stage_shard *first)
{
    struct err err = {0};
    struct stage_shard second = *first;
    struct cut_name name = {.job = "job", .uid = TEST_UID, .cut = order->cut, .generation = 1};
    uint64_t bytes;
    codec_release(&rank_manifest_codec, &shard);
    assert_int_equal(shard_manifest_read(real, first->key, first->digest, &shard, &err), TIDE_OK);
    const uint32_t version = shard.version;
    shard.version = FORMAT_VERSION;
    shard.rank = 1;
    key_rank(&name, 1, second.key);
    assert_int_equal(object_put(real, &rank_manifest_codec, &shard, second.key, second.digest, &bytes, &err), TIDE_OK);
    shard.version = version;
    shard.rank = 0;
    test_add_shard(order, 1, &second);
}

static void save(uint64_t cut)
{
    struct err err = {0};
    struct stage_shard first;
    struct cut_order order = {.cut = cut, .generation = 1, .step = cut};
    test_chunks_record(arena, 0, WORLD, cut, content, CHUNKS);
    assert_int_equal(stage_store(real, arena, 0, (uint32_t)cut % SLOTS, "job", TEST_UID, cut, &first, &err), TIDE_OK);
    test_add_shard(&order, 0, &first);
    second_rank(&order, &first);
    assert_int_equal(stage_commit(real, "job", TEST_UID, &order, key, digest, &err), TIDE_OK);
    codec_release(&cut_order_codec, &order);
}

static int setup(void **state)
{
    (void)state;
    test_places(&arena, &elsewhere, &root, &real);
    front = (struct front){.base.ops = &front_ops};
    for (unsigned i = 0; i < CHUNKS; i++)
        content[i] = i + 1;
    save(FIRST);
    for (unsigned i = 0; i < DEAD; i++)
        content[DEAD_FROM + i] += CHUNKS;
    content[CHUNKS - 1] += CHUNKS; /* the end of the third pack is of no use either */
    save(CUT);
    assert_int_equal(shard.packs.count, PACKS);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    codec_release(&rank_manifest_codec, &shard);
    shard = (struct rank_manifest){.version = 0};
    test_places_remove(arena, elsewhere, root, real);
    return 0;
}

/* The pack of the first cut that was written then as its n-th. */
static const struct pack_entry *old_pack(unsigned n)
{
    char tail[32];
    snprintf(tail, sizeof tail, "/%u-1/0-%u-", FIRST, n);
    for (size_t i = 0; i < shard.packs.count; i++)
        if (strstr(shard.packs.items[i].key, tail) != NULL)
            return &shard.packs.items[i];
    fail_msg("there is no pack %u", n);
    return NULL;
}

static void path_of(const char *name, char path[2048])
{
    snprintf(path, 2048, "%s/%s", root, name);
    assert_int_equal(chmod(path, 0600), 0);
}

/* ---- what is told ---- */

static struct heard {
    unsigned said, spared, blamed;
    uint64_t raw, beside;
    char last[1024], spare[1024];
    object_key pack;
} heard;

static void on_say(void *context, const char *text)
{
    struct heard *h = context;
    h->said++;
    snprintf(h->last, sizeof h->last, "%s", text);
}

static void on_spare(void *context, const char *text)
{
    struct heard *h = context;
    h->spared++;
    snprintf(h->spare, sizeof h->spare, "%s", text);
}

static void on_progress(void *context, uint64_t bytes)
{
    struct heard *h = context;
    h->raw += bytes;
}

static void on_beside(void *context, uint64_t bytes)
{
    struct heard *h = context;
    h->beside += bytes;
}

static void on_damaged(void *context, const char *pack)
{
    struct heard *h = context;
    h->blamed++;
    snprintf(h->pack, sizeof h->pack, "%s", pack);
}

static struct stage_verdict check(void)
{
    struct err err = {0};
    struct stage_verdict verdict = {0};
    const struct stage_watch watch = {.say = on_say, .spare = on_spare, .progress = on_progress, .beside = on_beside,
                                      .damaged = on_damaged, .context = &heard};
    heard = (struct heard){0};
    front.got = 0;
    assert_int_equal(stage_check_watched(&front.base, key, digest, &watch, &verdict, &err), TIDE_OK);
    assert_int_equal(verdict.ranks, WORLD);
    return verdict;
}

static void is_whole(void)
{
    struct stage_verdict v = check();
    assert_int_equal(v.bad + v.packs_bad + v.packs_unnamed + heard.said + heard.spared + heard.blamed, 0);
}

/* ---- tests ---- */

/* The text of an event goes by this: what is damaged, and not what was only out of reach before that. */
static void what_is_damaged_is_named_beside_what_is_out_of_reach(void **state)
{
    (void)state;
    char path[2048];
    path_of(old_pack(1)->key, path);
    test_flip(path, 3, 1);
    front.name = old_pack(0)->key;
    front.at = 3;
    front.hangs = 100;
    struct stage_verdict v = check();
    assert_int_equal(v.bad, WORLD);
    assert_int_equal(v.damaged, WORLD);
    assert_true(heard.said > 1);
    assert_non_null(strstr(v.damage, old_pack(1)->key));
}

static void each_byte_of_a_pack_is_read_once_for_all_ranks(void **state)
{
    (void)state;
    uint64_t bytes = 0;
    for (size_t i = 0; i < shard.packs.count; i++)
        bytes += shard.packs.items[i].bytes;
    struct stage_verdict v = check();
    assert_int_equal(v.bad + v.packs_bad, 0);
    assert_int_equal(v.packs, PACKS);
    assert_int_equal(v.chunks, WORLD * CHUNKS);
    assert_int_equal(front.got, bytes);
    assert_int_equal(heard.raw, WORLD * CHUNKS * CHUNK_BYTES);
    assert_int_equal(heard.beside, (DEAD + 1) * CHUNK_BYTES);
}

static void a_byte_that_nothing_needs_is_a_pack_and_no_rank(void **state)
{
    (void)state;
    char path[2048];
    const long at[] = {DEAD_FROM * CHUNK_BYTES, DEAD_FROM * CHUNK_BYTES + (5 << 20), (DEAD_FROM + DEAD) * CHUNK_BYTES - 1};
    path_of(old_pack(0)->key, path);
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
        test_flip(path, at[i], 0x40);
        struct stage_verdict v = check();
        assert_int_equal(v.bad, 0);
        assert_int_equal(v.packs_bad, 1);
        assert_int_equal(heard.said, 0);
        assert_int_equal(heard.spared, 1); /* and not once a rank */
        assert_non_null(strstr(heard.spare, old_pack(0)->key));
        assert_non_null(strstr(heard.spare, "rank 0 has all that it needs of it"));
        assert_int_equal(heard.blamed, 1);
        assert_string_equal(heard.pack, old_pack(0)->key);
        test_flip(path, at[i], 0x40);
    }
    path_of(old_pack(2)->key, path);
    assert_int_equal(truncate(path, (off_t)(old_pack(2)->bytes - 1)), 0);
    struct stage_verdict v = check();
    assert_int_equal(v.bad, 0);
    assert_int_equal(v.packs_bad, 1);
    assert_string_equal(heard.pack, old_pack(2)->key);
}

static void what_changed_on_its_way_is_read_again(void **state)
{
    (void)state;
    front.name = old_pack(0)->key;
    for (unsigned i = 0; i < 2; i++) {
        front.at = (uint64_t)(DEAD_FROM - i) * CHUNK_BYTES + 9; /* of nothing; of a chunk */
        front.flips = 1;
        is_whole();
    }
    front.at = DEAD_FROM * CHUNK_BYTES + 9;
    front.flips = 2;
    struct stage_verdict v = check();
    assert_int_equal(v.bad, 0);
    assert_int_equal(v.packs_bad, 1);
    is_whole();
}

static void what_is_out_of_reach_is_not_called_damaged(void **state)
{
    (void)state;
    front.name = old_pack(0)->key;
    front.at = (uint64_t)(DEAD_FROM + 2) * CHUNK_BYTES;
    front.hangs = 1; /* what is read for the pack's sake alone */
    struct stage_verdict v = check();
    assert_int_equal(v.bad, 1);
    assert_int_equal(v.damaged, 0);
    assert_int_equal(v.packs_bad, 0);
    assert_int_equal(heard.blamed, 0);
    assert_non_null(strstr(heard.last, "the store hangs"));
    front.flips = 1; /* and when it is read once more */
    front.hangs = 0;
    is_whole();
}

/* A bad sector: nobody knows what is in it, and nothing needs it. */
static void what_cannot_be_read_and_is_not_needed_is_a_pack_and_no_rank(void **state)
{
    (void)state;
    front.name = old_pack(0)->key;
    front.at = (uint64_t)(DEAD_FROM + 2) * CHUNK_BYTES;
    front.sectors = 10;
    struct stage_verdict v = check();
    assert_int_equal(v.bad, 0);
    assert_int_equal(v.packs_bad, 1);
    assert_int_equal(heard.spared, 1);
    assert_int_equal(heard.blamed, 0);
    front.sectors = 0;
}

static void each_damaged_pack_is_told(void **state)
{
    (void)state;
    char path[2048];
    for (size_t i = 0; i < shard.packs.count; i++) {
        path_of(shard.packs.items[i].key, path);
        test_flip(path, 3, 1);
    }
    struct stage_verdict v = check();
    assert_int_equal(v.bad, WORLD);
    assert_int_equal(v.damaged, WORLD);
    assert_int_equal(v.packs_bad, PACKS);
    assert_int_equal(heard.blamed, PACKS);
    assert_int_equal(heard.said, WORLD * PACKS);
    assert_int_equal(heard.spared, 0);
}

/* Each chunk has words of its own there. */
static void of_many_faults_some_are_told_and_the_rest_counted(void **state)
{
    (void)state;
    char path[2048];
    for (uint64_t i = 0; i < CHUNKS; i++) {
        struct chunk chunk;
        assert_int_equal(chunk_parse(shard.chunks.items[i], &chunk, NULL), TIDE_OK);
        path_of(shard.packs.items[chunk.pack].key, path);
        test_flip(path, (long)chunk.offset + 5, 1);
    }
    struct stage_verdict v = check();
    assert_int_equal(v.bad, WORLD);
    assert_int_equal(v.packs_bad, PACKS);
    assert_int_equal(heard.said, WORLD * (FAULTS_OF_RANK_MAX + 1));
    assert_string_equal(heard.last, "rank 1: 64 further chunks are bad");
    assert_non_null(strstr(v.damage, "chunk 0 of rank 0 in object "));
    assert_int_equal(heard.raw, WORLD * CHUNKS * CHUNK_BYTES);
}

static void a_pack_that_is_gone_is_told_once_and_not_for_each_chunk(void **state)
{
    (void)state;
    char path[2048];
    for (size_t i = 0; i < shard.packs.count; i++) {
        path_of(shard.packs.items[i].key, path);
        assert_int_equal(unlink(path), 0);
    }
    struct stage_verdict v = check();
    assert_int_equal(v.bad, WORLD);
    assert_int_equal(v.damaged, WORLD);
    assert_int_equal(v.packs_bad, PACKS);
    assert_int_equal(heard.said, WORLD * PACKS);
    assert_int_equal(heard.raw, WORLD * CHUNKS * CHUNK_BYTES);
}

#define PLACES_MAX 60u
#define ROUNDS 20u

/* Chunks as a hostile manifest may have them: anywhere in the packs, one over the other. */
static unsigned lay(struct pack_walk *walk, struct rng *rng)
{
    unsigned count = (unsigned)rng_below(rng, PLACES_MAX);
    for (unsigned i = 0; i < count; i++) {
        struct chunk chunk = {.pack = (uint32_t)rng_below(rng, PACKS), .length = 1 + (uint32_t)rng_below(rng, CHUNK_BYTES)};
        uint64_t bytes = shard.packs.items[chunk.pack].bytes;
        if (bytes < chunk.length)
            chunk.length = (uint32_t)bytes;
        chunk.offset = rng_below(rng, bytes - chunk.length + 1);
        pack_walk_add(walk, i, &chunk);
    }
    return count;
}

/* Each chunk is in one span, which has all its bytes, and each pack that is wanted whole is, once. */
static void walk_through(struct pack_walk *walk, unsigned count, unsigned wanted)
{
    unsigned seen[PLACES_MAX] = {0}, ended = 0, chunks = 0;
    for (struct span *span = NULL; (span = pack_walk_next(walk, span)) != NULL;) {
        enum tide_status status = TIDE_E_INVALID;
        struct err err = {0};
        assert_int_equal(span->status, TIDE_OK);
        assert_true(span->bytes <= SPAN_BYTES_MAX);
        for (uint64_t i = span->first; i < span->end; i++) {
            const struct walk_place *place = &walk->places[i];
            assert_int_equal(place->pack, span->pack);
            assert_true(place->offset >= span->offset && place->offset + place->length <= span->offset + span->bytes);
            assert_int_equal(seen[place->index]++, 0);
            chunks++;
            pack_walk_take(walk, span, place->offset + place->length);
        }
        if (pack_walk_end(walk, span, &status, &err)) {
            assert_int_equal(status, TIDE_OK);
            ended |= 1u << span->pack;
        }
    }
    assert_int_equal(chunks, count);
    assert_int_equal(ended, wanted);
}

static void however_chunks_lie_packs_are_read_whole(void **state)
{
    (void)state;
    struct rng rng = {.state = 5};
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct pack_walk walk;
        struct err err = {0};
        const unsigned wanted = (unsigned)rng_below(&rng, 1u << PACKS);
        assert_int_equal(pack_walk_init(&walk, &front.base, &shard, &err), TIDE_OK);
        unsigned count = lay(&walk, &rng);
        for (unsigned i = 0; i < PACKS; i++)
            if (wanted >> i & 1)
                pack_walk_whole(&walk, i);
        walk_through(&walk, count, wanted);
        pack_walk_release(&walk);
    }
}

/* What was seen is not remembered then, and looked at again. */
static void memory_that_runs_out_hides_nothing(void **state)
{
    (void)state;
    char path[2048];
    path_of(old_pack(0)->key, path);
    test_flip(path, DEAD_FROM * CHUNK_BYTES, 1);
    for (unsigned long n = 1; n < 16; n++) {
        struct err err = {0};
        struct stage_verdict v = {0};
        mem_fail_at(n);
        enum tide_status status = stage_check(real, key, digest, NULL, NULL, &v, &err);
        mem_fail_at(0);
        assert_true(status == TIDE_E_NOMEM || (status == TIDE_OK && v.bad + v.packs_bad > 0));
        assert_int_equal(v.damaged, 0);
    }
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(each_byte_of_a_pack_is_read_once_for_all_ranks),
        CASE(a_byte_that_nothing_needs_is_a_pack_and_no_rank),
        CASE(what_changed_on_its_way_is_read_again),
        CASE(what_is_out_of_reach_is_not_called_damaged),
        CASE(what_cannot_be_read_and_is_not_needed_is_a_pack_and_no_rank),
        CASE(each_damaged_pack_is_told),
        CASE(what_is_damaged_is_named_beside_what_is_out_of_reach),
        CASE(a_pack_that_is_gone_is_told_once_and_not_for_each_chunk),
        CASE(of_many_faults_some_are_told_and_the_rest_counted),
        CASE(however_chunks_lie_packs_are_read_whole),
        CASE(memory_that_runs_out_hides_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
