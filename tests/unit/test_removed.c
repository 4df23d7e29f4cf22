/* SPDX-License-Identifier: Apache-2.0 */

/* Objects removed several at a time: how many, what comes of one that fails, and that a deletion's steps stay in their order. The
 * store is one that removes nothing before it is asked how it went. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ckpt/stage/survey.h"
#include "tests/unit/slots.h"

#define JOB "job"
#define CUT 5u
#define RANKS 20u
#define PACKS 40u
#define OBJECTS 30u

static char *root;
static struct store *real;

static struct late {
    struct store base;
    unsigned under_way, most, begun, ended;
    unsigned failing; /* the n-th to be removed; 0: none */
} late;

static enum tide_status late_put(struct store *store, const char *key, const void *data, size_t bytes, struct err *err)
{
    (void)store;
    assert_int_equal(late.under_way, 0);
    return store_put(real, key, data, bytes, err);
}

static enum tide_status late_get(struct store *store, const char *key, uint64_t offset, void *to, size_t bytes, struct err *err)
{
    (void)store;
    return store_get(real, key, offset, to, bytes, err);
}

static enum tide_status late_size(struct store *store, const char *key, uint64_t *ret_bytes, struct err *err)
{
    (void)store;
    return store_size(real, key, ret_bytes, err);
}

static enum tide_status late_list(struct store *store, const char *prefix, struct strlist *ret_keys, struct err *err)
{
    (void)store;
    assert_int_equal(late.under_way, 0); /* or it would be judged by what is about to go */
    return store_list(real, prefix, ret_keys, err);
}

static enum tide_status remove_or_fail(const char *key, struct err *err)
{
    if (++late.ended == late.failing)
        return err_set(err, TIDE_E_UNAVAILABLE, "the store hangs at %s", key);
    return store_remove(real, key, err);
}

static enum tide_status late_remove(struct store *store, const char *key, struct err *err)
{
    (void)store;
    assert_int_equal(late.under_way, 0);
    return remove_or_fail(key, err);
}

static void late_begin(struct store_op *op)
{
    if (op->verb == STORE_PUT)
        op->status = store_put(real, op->key, op->from, op->bytes, &op->err);
    if (op->verb == STORE_GET)
        op->status = store_get(real, op->key, op->offset, op->to, op->bytes, &op->err);
    if (op->verb != STORE_REMOVE)
        return;
    late.begun++;
    late.under_way++;
    late.most = late.most < late.under_way ? late.under_way : late.most;
}

static enum tide_status late_finish(struct store_op *op, struct err *err)
{
    if (op->verb != STORE_REMOVE)
        return op->status == TIDE_OK ? TIDE_OK : err_set(err, op->status, "%s", op->err.text);
    late.under_way--;
    return remove_or_fail(op->key, err);
}

static int late_pending(struct store_op *op)
{
    return op->verb == STORE_REMOVE;
}

static struct store_ops late_ops = {.scheme = "late",
                                    .put = late_put,
                                    .get = late_get,
                                    .begin = late_begin,
                                    .finish = late_finish,
                                    .pending = late_pending,
                                    .size = late_size,
                                    .list = late_list,
                                    .remove = late_remove};

static int setup(void **state)
{
    (void)state;
    struct err err = {0};
    late = (struct late){.base.ops = &late_ops};
    late_ops.removes_at_once = 2 * STORE_EACH_AT_ONCE;
    root = test_dir();
    assert_int_equal(store_open(root, &real, &err), TIDE_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_close(real);
    test_dir_remove(root);
    return 0;
}

static void put(const char *key)
{
    struct err err = {0};
    assert_int_equal(store_put(real, key, "x", 1, &err), TIDE_OK);
}

static size_t objects(const char *prefix)
{
    struct err err = {0};
    struct strlist keys = {0};
    assert_int_equal(store_list(real, prefix, &keys, &err), TIDE_OK);
    size_t count = keys.count;
    strlist_release(&keys);
    return count;
}

static void objects_put(struct strlist *keys)
{
    char key[32];
    for (unsigned i = 0; i < OBJECTS; i++) {
        snprintf(key, sizeof key, "x/%02u", i);
        put(key);
        strlist_add(keys, key);
    }
}

static void some_are_removed_at_a_time(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    objects_put(&keys);
    assert_int_equal(store_remove_each(&late.base, &keys, &err), TIDE_OK);
    assert_int_equal(late.most, STORE_EACH_AT_ONCE);
    assert_int_equal(late.ended, OBJECTS);
    assert_int_equal(objects("x/"), 0);
    strlist_release(&keys);
}

static void no_more_than_the_store_does(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    late_ops.removes_at_once = 2;
    objects_put(&keys);
    assert_int_equal(store_remove_each(&late.base, &keys, &err), TIDE_OK);
    assert_int_equal(late.most, 2);
    assert_int_equal(objects("x/"), 0);
    strlist_release(&keys);
}

static void after_one_that_fails_no_other_is_begun(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    objects_put(&keys);
    late.failing = 3;
    assert_int_equal(store_remove_each(&late.base, &keys, &err), TIDE_E_UNAVAILABLE);
    assert_string_equal(err.text, "the store hangs at x/02");
    /* Those under way end, and are done. */
    assert_int_equal(late.under_way, 0);
    assert_int_equal(late.begun, STORE_EACH_AT_ONCE + 2);
    assert_int_equal(late.ended, late.begun);
    assert_int_equal(objects("x/"), OBJECTS - late.begun + 1);
    strlist_release(&keys);
}

/* ---- of a cut ---- */

static const struct cut_name name = {.job = JOB, .uid = TEST_UID, .cut = CUT, .generation = 1};

static void cut_put(void)
{
    object_key key;
    for (unsigned i = 0; i < PACKS; i++) {
        key_pack(&name, i % RANKS, i / RANKS, "0123456789abcdef", key);
        put(key);
    }
    for (unsigned i = 0; i < RANKS; i++) {
        key_rank(&name, i, key);
        put(key);
    }
    key_need(&name, 3, key);
    put(key);
    key_commit(&name, key);
    put(key);
}

static void the_steps_of_a_deletion_stay_in_their_order(void **state)
{
    (void)state;
    struct err err = {0};
    cut_put();
    assert_int_equal(stage_purge(&late.base, JOB, TEST_UID, CUT, &err), TIDE_OK);
    assert_int_equal(late.most, STORE_EACH_AT_ONCE);
    assert_int_equal(objects(""), 0);
}

/* Wherever it fails: the COMMIT is the first to go, packs only after all that describes them, and done again it ends. */
static void a_deletion_that_fails_anywhere_is_done_again(void **state)
{
    (void)state;
    unsigned failures = 0;
    for (unsigned failing = 1;; failing++) {
        struct err err = {0};
        object_key commit;
        cut_put();
        late = (struct late){.base.ops = &late_ops, .failing = failing};
        enum tide_status status = stage_purge(&late.base, JOB, TEST_UID, CUT, &err);
        key_commit(&name, commit);
        assert_int_equal(late.under_way, 0);
        assert_true(objects("m/") == 0 || objects("c/") == PACKS);
        assert_int_equal(objects(commit), failing == 1);
        if (status == TIDE_OK)
            break;
        failures++;
        assert_true(objects("g/") > 0 || failing == 1);
        late.failing = 0;
        assert_int_equal(stage_purge(&late.base, JOB, TEST_UID, CUT, &err), TIDE_OK);
        assert_int_equal(objects(""), 0);
    }
    assert_true(failures >= PACKS + RANKS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(some_are_removed_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(no_more_than_the_store_does, setup, teardown),
        cmocka_unit_test_setup_teardown(after_one_that_fails_no_other_is_begun, setup, teardown),
        cmocka_unit_test_setup_teardown(the_steps_of_a_deletion_stay_in_their_order, setup, teardown),
        cmocka_unit_test_setup_teardown(a_deletion_that_fails_anywhere_is_done_again, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
