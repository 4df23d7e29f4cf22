/* SPDX-License-Identifier: Apache-2.0 */

/* One rank's checkpoint on its way: recorded against memcpy, summed against XXH3, stored and fetched against what the
 * directory and zstd do alone. Arena in shared memory, store in TMPDIR. encode_N_helpers: stored with so many, by a store that takes
 * packs as they come and does nothing with them; limit is memcpy by one thread, peer the same without helpers. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <zstd.h>

#include "ckpt/stage/helpers.h"
#include "tests/bench/measure.h"
#include "tests/bench/weights.h"
#include "tests/unit/fake_step.h"

#define BYTES ((size_t)192 << 20)
#define ROUNDS 4
#define GB 1e9
#define MB 1e6

static unsigned char *state;

static void make_state(void)
{
    struct rng rng = {.state = 1};
    state = mem_alloc(BYTES);
    bench_weights(state, BYTES, &rng);
}

static double memcpy_seconds(struct fake_step *step)
{
    char path[256];
    struct slot slot;
    struct err err = {0};
    double best = 1e9;
    snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, step->dir, 1u, 0u);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    for (int i = 0; i < ROUNDS; i++) {
        double begin = seconds();
        memcpy((unsigned char *)slot.header + 2 * SLOT_HEADER_BYTES, state, BYTES);
        best = least(best, seconds() - begin);
    }
    slot_unmap(&slot);
    return best;
}

static void record(struct fake_step *step, struct tide *tide, double *ret_first, double *ret_best)
{
    *ret_best = 1e9;
    for (uint64_t cut = 1; cut <= 2 * ROUNDS; cut++) {
        fake_arm(step, cut, cut, (uint32_t)cut % SLOTS);
        assert_int_equal(tide_step(tide, cut), TIDE_OK);
        assert_int_equal(step->page->record_result, RECORD_DONE);
        double took = (double)step->page->record_stall_ns * 1e-9;
        if (cut == 1)
            *ret_first = took;
        *ret_best = least(*ret_best, took);
    }
}

static double sum_seconds(struct fake_step *step, uint64_t cut)
{
    double best = 1e9;
    struct err err = {0};
    char root[DIGEST_HEX_CHARS + 1];
    for (int i = 0; i < ROUNDS; i++) {
        double begin = seconds();
        assert_int_equal(stage_sum(step->dir, 1, (uint32_t)cut % SLOTS, TEST_UID, cut, root, &err), TIDE_OK);
        best = least(best, seconds() - begin);
    }
    return best;
}

static double hash_seconds(void)
{
    double best = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        double begin = seconds();
        struct digest d = digest_of(state, BYTES);
        best = least(best, seconds() - begin);
        assert_true(d.low != 0);
    }
    return best;
}

static double zstd_seconds(void)
{
    size_t room = ZSTD_compressBound(BYTES);
    void *to = mem_alloc(room);
    memset(to, 1, room);
    double begin = seconds();
    assert_false(ZSTD_isError(ZSTD_compress(to, room, state, BYTES, 1)));
    double took = seconds() - begin;
    mem_free(to);
    return took;
}

/* The stored bytes as plain files of a pack's size, each with its fdatasync. */
static double write_seconds(const char *dir, uint64_t bytes)
{
    double begin = seconds();
    for (uint64_t at = 0; at < bytes; at += FORMAT_PACK_BYTES_MAX) {
        char path[256];
        struct err err = {0};
        uint64_t n = bytes - at < FORMAT_PACK_BYTES_MAX ? bytes - at : FORMAT_PACK_BYTES_MAX;
        snprintf(path, sizeof path, "%s/plain.%llu", dir, (unsigned long long)at);
        int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(fsx_write_all(fd, state + at % BYTES, n, path, &err), TIDE_OK);
        assert_int_equal(fdatasync(fd), 0);
        close(fd);
    }
    return seconds() - begin;
}

static void store_and_fetch(struct fake_step *step, uint64_t cut)
{
    struct err err = {0};
    struct store *store = NULL;
    struct stage_shard shard;
    char *dir = test_dir(), *elsewhere = test_dir(), key[TIDE_PATH_MAX + 1], digest[DIGEST_HEX_CHARS + 1];
    assert_int_equal(store_open(dir, &store, &err), TIDE_OK);
    double begin = seconds();
    assert_int_equal(stage_store(store, step->dir, 1, (uint32_t)cut % SLOTS, "bench", TEST_UID, cut, &shard, &err), TIDE_OK);
    double took = seconds() - begin;
    result("stage", "store", (double)BYTES / MB / took, "MB/s", (double)BYTES / MB / write_seconds(dir, shard.stored_bytes),
           (double)BYTES / MB / zstd_seconds());
    result("stage", "ratio", (double)shard.raw_bytes / (double)shard.stored_bytes, "raw/stored", -1, -1);
    /* A rank of a world of two needs a whole manifest: the shard stands for both. */
    struct cut_order order = {.cut = cut, .generation = 1, .step = cut};
    for (uint32_t rank = 0; rank < 2; rank++) {
        struct shard_ref *ref = codec_list_add(&shard_ref_codec, &order.shards);
        struct cut_name name = {.job = "bench", .uid = TEST_UID, .cut = cut, .generation = 1};
        ref->rank = rank;
        key_rank(&name, rank, ref->key);
        memcpy(ref->digest, shard.digest, sizeof ref->digest);
    }
    assert_int_equal(store_put(store, order.shards.items[0].key, "x", 1, &err), TIDE_OK);
    assert_int_equal(stage_commit(store, "bench", TEST_UID, &order, key, digest, &err), TIDE_OK);
    codec_release(&cut_order_codec, &order);
    begin = seconds();
    assert_int_equal(stage_fetch(store, key, digest, NULL, elsewhere, 1, 0, &err), TIDE_OK);
    result("stage", "fetch", (double)BYTES / MB / (seconds() - begin), "MB/s", -1, -1);
    store_close(store);
    test_dir_remove(dir);
    test_dir_remove(elsewhere);
}

/* ---- a store that is no limit, and yet has always one pack under way: chunks are encoded as ever ---- */

static const struct store_op *newest;

static void sink_begin(struct store_op *op)
{
    newest = op;
}

static enum tide_status sink_finish(struct store_op *op, struct err *err)
{
    (void)op;
    (void)err;
    return TIDE_OK;
}

static int sink_pending(struct store_op *op)
{
    return op == newest;
}

static enum tide_status sink_put(struct store *store, const char *key, const void *data, size_t bytes, struct err *err)
{
    (void)store;
    (void)key;
    (void)data;
    (void)bytes;
    (void)err;
    return TIDE_OK;
}

static enum tide_status sink_size(struct store *store, const char *key, uint64_t *ret_bytes, struct err *err)
{
    (void)store;
    (void)ret_bytes;
    return err_set(err, TIDE_E_NOT_FOUND, "%s is not here", key);
}

static double encode_seconds(struct fake_step *step, uint64_t cut, unsigned helpers)
{
    static const struct store_ops ops = {.scheme = "sink",
                                         .at_once = 4,
                                         .put = sink_put,
                                         .begin = sink_begin,
                                         .finish = sink_finish,
                                         .pending = sink_pending,
                                         .size = sink_size};
    struct store sink = {.ops = &ops};
    struct stage_shard shard;
    struct err err = {0};
    double best = 1e9;
    helpers_want(helpers);
    for (int i = 0; i < ROUNDS; i++) {
        double begin = seconds();
        assert_int_equal(stage_store(&sink, step->dir, 1, (uint32_t)cut % SLOTS, "bench", TEST_UID, cut, &shard, &err), TIDE_OK);
        best = least(best, seconds() - begin);
    }
    helpers_want(0);
    return best;
}

static void encode(struct fake_step *step, uint64_t cut, double copy)
{
    double alone = encode_seconds(step, cut, 0);
    for (unsigned helpers = 0; helpers <= HELPERS_MAX; helpers++) {
        char metric[32];
        snprintf(metric, sizeof metric, "encode_%u_helpers", helpers);
        double took = helpers == 0 ? alone : encode_seconds(step, cut, helpers);
        result("stage", metric, (double)BYTES / GB / took, "GB/s", (double)BYTES / GB / copy, (double)BYTES / GB / alone);
    }
}

/* Seconds. */
static double restore(struct fake_step *step, struct tide **tide, uint64_t cut, uint64_t generation)
{
    struct tide_region region = {.name = "state", .data = state, .bytes = BYTES};
    uint64_t at = 0;
    tide_finalize(*tide);
    fake_next_generation(step, generation);
    assert_int_equal(tide_init(tide, NULL), TIDE_OK);
    assert_int_equal(tide_register(*tide, &region), TIDE_OK);
    step->answers[0] =
        (struct local_message){.type = LOCAL_RESTORE_FROM, .cut = cut, .step = cut, .slot = (uint32_t)cut % SLOTS};
    step->answer_count = 1;
    assert_int_equal(tide_restore(*tide, &at), TIDE_OK);
    return (double)step->page->restore_ns * 1e-9;
}

int main(void)
{
    struct fake_step step;
    struct tide *tide = NULL;
    double first = 0, best = 0;
    uint64_t last = 2 * ROUNDS;
    make_state();
    struct tide_region region = {.name = "state", .data = state, .bytes = BYTES, .dtype = TIDE_F32};
    setenv("TIDE_TEST_ROOT", "/dev/shm", 1);
    fake_start(&step, 1);
    unsetenv("TIDE_TEST_ROOT");
    assert_int_equal(tide_init(&tide, NULL), TIDE_OK);
    assert_int_equal(tide_register(tide, &region), TIDE_OK);
    record(&step, tide, &first, &best);
    double copy = memcpy_seconds(&step), hash = hash_seconds();
    result("stage", "record", (double)BYTES / GB / best, "GB/s", (double)BYTES / GB / copy, -1);
    result("stage", "record_first", (double)BYTES / GB / first, "GB/s", (double)BYTES / GB / copy, -1);
    /* memcpy_seconds wrote over slot 0: record the last cut, which lies there, anew. */
    last += 2;
    fake_arm(&step, last, last, (uint32_t)last % SLOTS);
    assert_int_equal(tide_step(tide, last), TIDE_OK);
    result("stage", "sum", (double)BYTES / GB / sum_seconds(&step, last), "GB/s", (double)BYTES / GB / hash, -1);
    store_and_fetch(&step, last);
    encode(&step, last, copy);
    best = 1e9;
    for (uint64_t generation = 2; generation < 2 + ROUNDS; generation++)
        best = least(best, restore(&step, &tide, last, generation));
    result("stage", "restore", (double)BYTES / GB / best, "GB/s", (double)BYTES / GB / copy, -1);
    tide_finalize(tide);
    fake_stop(&step);
    mem_free(state);
    return 0;
}
