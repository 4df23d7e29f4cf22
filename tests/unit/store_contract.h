/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_STORE_CONTRACT_H
#define TESTS_UNIT_STORE_CONTRACT_H

/* What every kind of store promises (ckpt/store/store.h), as tests of `store`, which is empty when each begins. */

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ckpt/base/mem.h"
#include "ckpt/store/store.h"

#define WRITERS 8
#ifndef RACES
#define RACES 100
#endif

static struct store *store;

static void objects_are_written_once(void **state)
{
    (void)state;
    struct err err = {0};
    char back[8];
    uint64_t bytes = 0;
    assert_int_equal(store_put(store, "c/00/x/1.pk", "payload", 8, &err), TIDE_OK);
    assert_int_equal(store_put(store, "c/00/x/1.pk", "another", 8, &err), TIDE_E_EXISTS);
    assert_non_null(strstr(err.text, "c/00/x/1.pk"));
    assert_int_equal(store_get(store, "c/00/x/1.pk", 0, back, 8, &err), TIDE_OK);
    assert_string_equal(back, "payload");
    assert_int_equal(store_get(store, "c/00/x/1.pk", 3, back, 5, &err), TIDE_OK);
    assert_string_equal(back, "load");
    assert_int_equal(store_size(store, "c/00/x/1.pk", &bytes, &err), TIDE_OK);
    assert_int_equal(bytes, 8);
    assert_int_equal(store_put(store, "empty", NULL, 0, &err), TIDE_OK);
    assert_int_equal(store_size(store, "empty", &bytes, &err), TIDE_OK);
    assert_int_equal(bytes, 0);
}

static void the_same_again_is_content(void **state)
{
    (void)state;
    struct err err = {0};
    size_t n = (2u << 20) + 7;
    char *data = mem_alloc(n);
    memset(data, 'd', n);
    assert_int_equal(store_put_same(store, "k", data, n, &err), TIDE_OK);
    assert_int_equal(store_put_same(store, "k", data, n, &err), TIDE_OK);
    assert_int_equal(store_put_same(store, "k", data, n - 1, &err), TIDE_E_EXISTS);
    data[n - 1] = 'x';
    assert_int_equal(store_put_same(store, "k", data, n, &err), TIDE_E_EXISTS);
    mem_free(data);
}

static void what_is_missing_or_short_is_named(void **state)
{
    (void)state;
    struct err err = {0};
    char back[16], *data = NULL;
    uint64_t bytes = 0;
    size_t n = 0;
    assert_int_equal(store_put(store, "d/short", "1234", 4, &err), TIDE_OK);
    assert_int_equal(store_get(store, "d/short", 0, back, 5, &err), TIDE_E_CORRUPT);
    assert_int_equal(store_get(store, "d/short", UINT64_MAX, back, 5, &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "d/short"));
    assert_int_equal(store_get(store, "d/none", 0, back, 1, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(store_get(store, "d", 0, back, 1, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(store_size(store, "d/short/deeper", &bytes, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(store_put(store, "../outside", "1", 1, &err), TIDE_E_INVALID);
    assert_int_equal(store_read(store, "d/short", 3, &data, &n, &err), TIDE_E_LIMIT);
    assert_int_equal(store_read(store, "d/short", 4, &data, &n, &err), TIDE_OK);
    assert_string_equal(data, "1234");
    mem_free(data);
}

static void lists_are_sorted_and_by_prefix(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0};
    static const char *const all[] = {"m/j.1/10-1/COMMIT", "m/j.1/1-1/0.json", "m/j.1/1-1/COMMIT", "m/j.1/1-2/0.json",
                                      "m/j.2/1-1/0.json"};
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(store_put(store, all[i], "x", 1, &err), TIDE_OK);
    assert_int_equal(store_list(store, "m/j.1/1-", &keys, &err), TIDE_OK);
    assert_int_equal(keys.count, 3);
    assert_string_equal(keys.items[0], "m/j.1/1-1/0.json");
    assert_string_equal(keys.items[2], "m/j.1/1-2/0.json");
    strlist_release(&keys);
    assert_int_equal(store_list(store, "", &keys, &err), TIDE_OK);
    assert_int_equal(keys.count, 5);
    strlist_release(&keys);
    assert_int_equal(store_list(store, "nothing/here/", &keys, &err), TIDE_OK);
    assert_int_equal(keys.count, 0);
}

#define PLACES 20u /* more than are listed at a time */

static void several_lists_have_what_each_has(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist prefixes = {0}, keys = {0};
    unsigned seen[PLACES] = {0};
    for (unsigned i = 0; i < PLACES; i++) {
        char key[32], prefix[32];
        snprintf(prefix, sizeof prefix, "c/%02x/j.1/", i);
        strlist_add(&prefixes, prefix);
        for (unsigned n = 0; n < i % 3; n++) {
            snprintf(key, sizeof key, "%s%u", prefix, n);
            assert_int_equal(store_put(store, key, "x", 1, &err), TIDE_OK);
        }
    }
    assert_int_equal(store_put(store, "c/00/j.2/0", "x", 1, &err), TIDE_OK);
    assert_int_equal(store_list_each(store, &prefixes, &keys, &err), TIDE_OK);
    for (size_t k = 0; k < keys.count; k++) {
        unsigned place = 0, n = 0;
        assert_int_equal(sscanf(keys.items[k], "c/%2x/j.1/%u", &place, &n), 2);
        seen[place] |= 1u << n;
    }
    for (unsigned i = 0; i < PLACES; i++)
        assert_int_equal(seen[i], (1u << i % 3) - 1);
    strlist_release(&prefixes);
    strlist_release(&keys);
    assert_int_equal(store_list_each(store, &prefixes, &keys, &err), TIDE_OK);
    assert_int_equal(keys.count, 0);
}

static void removing_what_is_not_there_is_fine(void **state)
{
    (void)state;
    struct err err = {0};
    uint64_t bytes = 0;
    assert_int_equal(store_put(store, "a/b/1", "x", 1, &err), TIDE_OK);
    assert_int_equal(store_remove(store, "a/b/1", &err), TIDE_OK);
    assert_int_equal(store_size(store, "a/b/1", &bytes, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(store_remove(store, "a/b/1", &err), TIDE_OK);
    assert_int_equal(store_put(store, "a/b/1", "yy", 2, &err), TIDE_OK);
}

#define REMOVED 60u

/* Some at a time: those that are there, in the same directories and others, and one that is not. What is not named stays. */
static void many_are_removed_together(void **state)
{
    (void)state;
    struct err err = {0};
    struct strlist keys = {0}, left = {0};
    char key[64];
    for (unsigned i = 0; i < REMOVED; i++) {
        snprintf(key, sizeof key, "gone/%u/%u/%u", i % 3, i % 7, i);
        assert_int_equal(store_put(store, key, "x", 1, &err), TIDE_OK);
        strlist_add(&keys, key);
    }
    strlist_add(&keys, "gone/0/0/nobody");
    assert_int_equal(store_put(store, "gone/1/stays", "x", 1, &err), TIDE_OK);
    assert_int_equal(store_remove_each(store, &keys, &err), TIDE_OK);
    assert_int_equal(store_list(store, "gone/", &left, &err), TIDE_OK);
    assert_int_equal(left.count, 1);
    assert_string_equal(left.items[0], "gone/1/stays");
    strlist_release(&left);
    assert_int_equal(store_remove_each(store, &keys, &err), TIDE_OK);
    strlist_add(&keys, "../outside");
    assert_int_equal(store_remove_each(store, &keys, &err), TIDE_E_INVALID);
    strlist_release(&keys);
    assert_int_equal(store_remove_each(store, &keys, &err), TIDE_OK);
}

#define AT_ONCE 20u

static void what_was_begun_goes_on_at_once(void **state)
{
    (void)state;
    struct err err = {0};
    static struct store_op ops[AT_ONCE];
    static char keys[AT_ONCE][32], data[AT_ONCE][5000], back[AT_ONCE][4000];
    for (unsigned i = 0; i < AT_ONCE; i++) {
        snprintf(keys[i], sizeof keys[i], "begun/%u", i);
        memset(data[i], (int)i + 1, sizeof data[i]);
        store_begin_put(store, &ops[i], keys[i], data[i], sizeof data[i]);
    }
    for (unsigned i = AT_ONCE; i-- > 0;)
        assert_int_equal(store_finish(&ops[i], &err), TIDE_OK);
    for (unsigned i = 0; i < AT_ONCE; i++)
        store_begin_get(store, &ops[i], keys[i], 1000, back[i], sizeof back[i]);
    for (unsigned i = 0; i < AT_ONCE; i++) {
        assert_int_equal(store_finish(&ops[i], &err), TIDE_OK);
        assert_memory_equal(back[i], data[i] + 1000, sizeof back[i]);
    }
    /* What is wrong is told when it is finished. */
    store_begin_put(store, &ops[0], "../outside", data[0], 1);
    store_begin_put(store, &ops[1], keys[1], data[2], 1);
    store_begin_put(store, &ops[2], keys[2], data[2], sizeof data[2]);
    store_begin_get(store, &ops[3], keys[3], 4999, back[3], 2);
    store_begin_get(store, &ops[4], keys[4], 5001, back[4], 0);
    assert_int_equal(store_finish(&ops[0], &err), TIDE_E_INVALID);
    assert_int_equal(store_finish(&ops[1], &err), TIDE_E_EXISTS);
    assert_non_null(strstr(err.text, "begun/1"));
    assert_int_equal(store_finish_same(&ops[2], &err), TIDE_OK);
    assert_int_equal(store_finish(&ops[3], &err), TIDE_E_CORRUPT);
    assert_int_equal(store_finish(&ops[4], &err), TIDE_E_CORRUPT);
}

/* ---- races ---- */

static pthread_barrier_t barrier;
static int winner[WRITERS][RACES];

static void *race(void *argument)
{
    size_t me = (size_t)argument;
    struct err err = {0};
    char key[64], data[64];
    for (unsigned i = 0; i < RACES; i++) {
        snprintf(key, sizeof key, "race/%u/object", i);
        memset(data, (int)me + 1, sizeof data);
        pthread_barrier_wait(&barrier);
        winner[me][i] = store_put(store, key, data, sizeof data, &err) == TIDE_OK;
    }
    return NULL;
}

static void one_writer_wins_each_race(void **state)
{
    (void)state;
    pthread_t threads[WRITERS];
    struct err err = {0};
    pthread_barrier_init(&barrier, NULL, WRITERS);
    for (size_t i = 0; i < WRITERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, race, (void *)i), 0);
    for (size_t i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
    for (unsigned i = 0; i < RACES; i++) {
        char key[64], data[64];
        int winners = 0, who = 0;
        for (int w = 0; w < WRITERS; w++)
            if (winner[w][i]) {
                winners++;
                who = w + 1;
            }
        assert_int_equal(winners, 1);
        snprintf(key, sizeof key, "race/%u/object", i);
        assert_int_equal(store_get(store, key, 0, data, sizeof data, &err), TIDE_OK);
        for (size_t k = 0; k < sizeof data; k++)
            assert_int_equal(data[k], who);
    }
}

#endif
