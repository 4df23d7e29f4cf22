/* SPDX-License-Identifier: Apache-2.0 */

/* Who stores checkpoints, or deletes them, is killed at a random moment, again and again, and what it began is done again or
 * given up. Afterwards each checkpoint of which there is a COMMIT verifies, and once all are deleted no byte is left.
 * $TIDE_KILL_ROUNDS says how often (for a soak), $TIDE_KILL_SEED when. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ftw.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ckpt/stage/shared.h"
#include "ckpt/store/store_dir.h"
#include "tests/bench/measure.h"
#include "tests/unit/slots.h"

#define WORLD 2u
#define ROUNDS 40u
#define KEPT 3u         /* cuts that are kept, the newest of those that were stored */
#define GIVEN_UP_ONE_IN 3u
#define TRIES_MAX 200u
#define US 1e6
#define JOB "job"

static const struct test_region regions[] = {{"floats", 300000}, {"zeros", 1u << 20}, {"noise", 1200000}, {"counts", 200000}};
#define REGIONS (sizeof regions / sizeof regions[0])

static char *arena, *root;
static struct rng rng;
static double put_seconds = 0.01, purge_seconds = 0.002; /* what it takes undisturbed, more or less */
static unsigned killed, done;

/* Every other cut is much like the one before, so that packs are referred to; and in every other all ranks hold the same, which is then
 * stored once. */
static void record(uint64_t cut)
{
    struct err err = {0};
    char hex[DIGEST_HEX_CHARS + 1];
    for (uint32_t rank = 0; rank < WORLD; rank++) {
        struct slot slot;
        arena_path path;
        test_record(arena, rank, 0, cut, regions, REGIONS, WORLD);
        slot_path(arena, rank, 0, path);
        assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
        for (uint32_t i = 0; i < REGIONS; i++)
            test_fill(slot.data + slot.regions[i].offset, slot.regions[i].bytes, regions[i].name,
                      (i == 2 ? cut / 4 : cut) + (cut % 2 ? rank : 0));
        slot_unmap(&slot);
        assert_int_equal(stage_sum(arena, rank, 0, TEST_UID, cut, hex, &err), TIDE_OK);
    }
}

/* ---- who is killed ---- */

static enum tide_status persist(struct store *store, uint64_t cut, struct err *err)
{
    struct cut_order order = {.cut = cut, .generation = 3, .step = cut * 10};
    char key[TIDE_PATH_MAX + 1], digest[DIGEST_HEX_CHARS + 1];
    const struct cut_name name = {.job = JOB, .uid = TEST_UID, .cut = cut, .generation = 3};
    struct shared_writer *present = shared_join(store, &name); /* what the first wrote is known to the second */
    enum tide_status status = TIDE_OK;
    for (uint32_t rank = 0; rank < WORLD && status == TIDE_OK; rank++) {
        struct stage_shard shard = {.raw_bytes = 0};
        status = stage_store_shared(store, arena, rank, 0, JOB, TEST_UID, cut, &shard, err);
        test_add_shard(&order, rank, &shard);
    }
    shared_leave(present);
    if (status == TIDE_OK)
        status = stage_commit(store, JOB, TEST_UID, &order, key, digest, err);
    codec_release(&cut_order_codec, &order);
    return status;
}

static enum tide_status purge(struct store *store, uint64_t cut, struct err *err)
{
    return stage_purge(store, JOB, TEST_UID, cut, err);
}

typedef enum tide_status (*labour)(struct store *store, uint64_t cut, struct err *err);

/* Whether files have a name before they are whole is drawn too. */
static void labour_of_child(labour what, uint64_t cut, unsigned flags, int ready)
{
    struct err err = {0};
    struct store *store = NULL;
    int failed = store_dir_open(root, flags, &store, &err) != TIDE_OK || write(ready, "r", 1) != 1 ||
                 what(store, cut, &err) != TIDE_OK;
    if (failed)
        fprintf(stderr, "cut %llu: %s\n", (unsigned long long)cut, err.text);
    _exit(failed);
}

/* Nonzero: it was killed before it was done. */
static int one_try(labour what, uint64_t cut, double *usual_seconds)
{
    int ready[2], status = 0;
    char byte;
    unsigned flags = rng_below(&rng, 4) == 0 ? STORE_DIR_NAMED : STORE_DIR_DEFAULT;
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        labour_of_child(what, cut, flags, ready[1]);
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    double begin = seconds();
    usleep((useconds_t)rng_below(&rng, (uint64_t)(*usual_seconds * US * 1.2) + 1));
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) {
        killed++;
        *usual_seconds *= 1.02;
        return 1;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    done++;
    /* It ended before it was to be killed. */
    double took = seconds() - begin;
    *usual_seconds = *usual_seconds > took ? took : *usual_seconds * 0.98;
    return 0;
}

/* Until it is done, or given up after some kill. Nonzero: given up. */
static int work_on(labour what, uint64_t cut, double *usual_seconds, int may_give_up)
{
    for (unsigned i = 0; i < TRIES_MAX; i++) {
        if (!one_try(what, cut, usual_seconds))
            return 0;
        if (may_give_up && rng_below(&rng, GIVEN_UP_ONE_IN) == 0)
            return 1;
    }
    fail_msg("cut %llu is not done after %u tries", (unsigned long long)cut, TRIES_MAX);
    return 1;
}

/* ---- what must be true ---- */

static unsigned files;

static int count_file(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info;
    (void)where;
    files += kind == FTW_F;
    if (kind == FTW_F)
        print_message("left: %s\n", path);
    return 0;
}

/* Each that is listed is whole, whoever was killed when. Returns how many there are. */
static size_t all_verify(void)
{
    struct err err = {0};
    struct store *store = NULL;
    struct strlist keys = {0};
    size_t commits = 0;
    assert_int_equal(store_dir_open(root, STORE_DIR_DEFAULT, &store, &err), TIDE_OK);
    assert_int_equal(store_list(store, "m/", &keys, &err), TIDE_OK);
    for (size_t i = 0; i < keys.count; i++) {
        struct stage_verdict verdict = {0};
        if (strstr(keys.items[i], "/COMMIT") == NULL)
            continue;
        commits++;
        if (stage_check(store, keys.items[i], NULL, NULL, NULL, &verdict, &err) != TIDE_OK)
            fail_msg("%s: %s", keys.items[i], err.text);
        assert_int_equal(verdict.ranks, WORLD);
        assert_int_equal(verdict.bad, 0);
    }
    strlist_release(&keys);
    store_close(store);
    return commits;
}

static void whoever_is_killed_when(void **state)
{
    (void)state;
    unsigned rounds = test_from_env("TIDE_KILL_ROUNDS", ROUNDS);
    uint64_t kept[KEPT] = {0}, cut = 0;
    rng.state = test_from_env("TIDE_KILL_SEED", 1);
    while (killed < rounds) {
        uint64_t out = ++cut;
        record(cut);
        if (work_on(persist, cut, &put_seconds, 1) == 0) {
            out = kept[cut % KEPT];
            kept[cut % KEPT] = cut;
        }
        if (out != 0)
            work_on(purge, out, &purge_seconds, 0);
        size_t commits = all_verify();
        assert_true(commits <= KEPT);
    }
    for (size_t i = 0; i < KEPT; i++)
        if (kept[i] != 0)
            work_on(purge, kept[i], &purge_seconds, 0);
    assert_int_equal(all_verify(), 0);
    assert_int_equal(nftw(root, count_file, 16, FTW_PHYS), 0);
    assert_int_equal(files, 0);
    print_message("killed %u, done %u, cuts %llu\n", killed, done, (unsigned long long)cut);
    assert_true(done > 0);
}

static int setup(void **state)
{
    (void)state;
    arena = test_dir();
    root = test_dir();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    test_dir_remove(arena);
    test_dir_remove(root);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(whoever_is_killed_when, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
