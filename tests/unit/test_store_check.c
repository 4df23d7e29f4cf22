/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ckpt/base/fsx.h"
#include "ckpt/store/store_dir.h"
#include "coordinator/cli/store_check.h"

#define LARGE_BYTES ((size_t)200000)
#define RACE_KEY "/8" /* the end of the key that four write at once */

/* A directory that breaks one promise. */
enum lie {
    NO_LIE,
    BIT_FLIPS,
    WRONG_SIZE,
    NO_PARTS,
    NO_END,
    REFUSAL_UNSAID,
    OVERWRITES,
    NOBODY_WINS,
    LARGE_FLIPS,
    UNLISTED,
    LIST_OF_MORE,
    UNDELETED
};

static struct liar {
    struct store base;
    struct store *real;
    enum lie lie;
} liar;

static enum tide_status liar_put(struct store *store, const char *key, const void *data, size_t bytes, struct err *err)
{
    (void)store;
    if (liar.lie == NOBODY_WINS && strstr(key, RACE_KEY) != NULL)
        return err_set(err, TIDE_E_EXISTS, "taken");
    enum tide_status status = store_put(liar.real, key, data, bytes, err);
    if (status == TIDE_E_EXISTS && liar.lie == OVERWRITES) {
        assert_int_equal(store_remove(liar.real, key, err), TIDE_OK);
        return store_put(liar.real, key, data, bytes, err);
    }
    return status == TIDE_E_EXISTS && liar.lie == REFUSAL_UNSAID ? TIDE_OK : status;
}

static enum tide_status liar_get(struct store *store, const char *key, uint64_t offset, void *to, size_t bytes,
                                 struct err *err)
{
    (void)store;
    enum tide_status status = store_get(liar.real, key, liar.lie == NO_PARTS ? 0 : offset, to, bytes, err);
    if (status == TIDE_E_CORRUPT && liar.lie == NO_END)
        return TIDE_OK;
    if (liar.lie == BIT_FLIPS || (liar.lie == LARGE_FLIPS && bytes == LARGE_BYTES))
        ((char *)to)[bytes / 2] ^= 1;
    return status;
}

static enum tide_status liar_size(struct store *store, const char *key, uint64_t *ret_bytes, struct err *err)
{
    (void)store;
    enum tide_status status = store_size(liar.real, key, ret_bytes, err);
    if (status == TIDE_OK && liar.lie == WRONG_SIZE)
        *ret_bytes += 1;
    return status;
}

static enum tide_status liar_list(struct store *store, const char *prefix, struct strlist *ret_keys, struct err *err)
{
    (void)store;
    enum tide_status status = store_list(liar.real, prefix, ret_keys, err);
    if (liar.lie == UNLISTED)
        strlist_release(ret_keys);
    if (liar.lie == LIST_OF_MORE)
        strlist_add(ret_keys, "another");
    return status;
}

static enum tide_status liar_remove(struct store *store, const char *key, struct err *err)
{
    (void)store;
    return liar.lie == UNDELETED ? TIDE_OK : store_remove(liar.real, key, err);
}

static const struct store_ops liar_ops = {
    .scheme = "file", .put = liar_put, .get = liar_get, .size = liar_size, .list = liar_list, .remove = liar_remove};

/* How many proofs held; the next must have said that the store does not keep to it. */
static size_t proved_with(enum lie lie)
{
    char dir[] = "/tmp/tide-check-XXXXXX";
    struct err err = {0};
    struct check check;
    struct strlist left = {0};
    enum tide_status status = TIDE_OK;
    size_t proved = 0;
    assert_non_null(mkdtemp(dir));
    liar = (struct liar){.base = {.ops = &liar_ops}, .lie = lie};
    assert_int_equal(store_dir_open(dir, STORE_DIR_DEFAULT, &liar.real, &err), TIDE_OK);
    store_check_begin(&check, &liar.base, LARGE_BYTES);
    for (; proved < STORE_PROOFS && status == TIDE_OK; proved += status == TIDE_OK)
        status = store_proofs[proved].prove(&check, &err);
    assert_int_equal(status, proved == STORE_PROOFS ? TIDE_OK : TIDE_E_UNSUPPORTED);
    assert_int_equal(check.speeds[1].workers, proved > 5 ? 4 : 0);
    liar.lie = NO_LIE;
    assert_int_equal(store_check_clean(&check, &err), TIDE_OK);
    assert_int_equal(store_list(liar.real, "", &left, &err), TIDE_OK);
    assert_int_equal(left.count, 0);
    store_check_end(&check);
    store_close(liar.real);
    assert_int_equal(fsx_remove_tree(dir, &err), TIDE_OK);
    return proved;
}

static void a_good_store_passes(void **state)
{
    (void)state;
    assert_int_equal(proved_with(NO_LIE), STORE_PROOFS);
}

static void each_broken_promise_is_found(void **state)
{
    (void)state;
    assert_int_equal(proved_with(BIT_FLIPS), 0);
    assert_int_equal(proved_with(WRONG_SIZE), 0);
    assert_int_equal(proved_with(NO_PARTS), 1);
    assert_int_equal(proved_with(NO_END), 1);
    assert_int_equal(proved_with(REFUSAL_UNSAID), 2);
    assert_int_equal(proved_with(OVERWRITES), 2);
    assert_int_equal(proved_with(NOBODY_WINS), 4);
    assert_int_equal(proved_with(LARGE_FLIPS), 5);
    assert_int_equal(proved_with(UNLISTED), 6);
    assert_int_equal(proved_with(LIST_OF_MORE), 6);
    assert_int_equal(proved_with(UNDELETED), 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_good_store_passes),
                                       cmocka_unit_test(each_broken_promise_is_found)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
