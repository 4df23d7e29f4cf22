/* SPDX-License-Identifier: Apache-2.0 */

/* Packs under way: how many at once, that memory is shared, that nothing is forgotten and no failure lost. The store is one
 * that does nothing before it is asked how it went. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include <pthread.h>

#include "ckpt/base/mem.h"
#include "ckpt/stage/upload.h"

#define PUTS_MAX 64u
#define PACK_BYTES 4096u
#define SMALL_PAGE 4096u
#define HUGE_PAGE (2u << 20)

static struct lazy {
    struct store base;
    unsigned under_way, most, done;
    unsigned failing; /* the n-th put; 0: none */
    int quick;        /* done as soon as it is begun */
    struct upload *meanwhile; /* puts one more while the next is finished */
    unsigned char first[PUTS_MAX];
    char keys[PUTS_MAX][32];
} lazy;

static void lazy_begin(struct store_op *op)
{
    (void)op;
    lazy.under_way++;
    lazy.most = lazy.most < lazy.under_way ? lazy.under_way : lazy.most;
}

static void put_meanwhile(void);

static enum tide_status lazy_finish(struct store_op *op, struct err *err)
{
    put_meanwhile();
    lazy.under_way--;
    unsigned n = lazy.done++;
    /* Read only now: memory that was used again too early would show. */
    lazy.first[n] = *(const unsigned char *)op->from;
    text_copy(lazy.keys[n], sizeof lazy.keys[n], op->key);
    if (lazy.done == lazy.failing)
        return err_set(err, TIDE_E_UNAVAILABLE, "the store hangs");
    return op->bytes == PACK_BYTES ? TIDE_OK : TIDE_E_IO;
}

static int lazy_pending(struct store_op *op)
{
    (void)op;
    return !lazy.quick;
}

static struct store_ops lazy_ops = {
    .scheme = "lazy", .at_once = 20, .begin = lazy_begin, .finish = lazy_finish, .pending = lazy_pending};

static int setup(void **state)
{
    (void)state;
    lazy = (struct lazy){.base.ops = &lazy_ops};
    lazy_ops.at_once = 20;
    return 0;
}

static enum tide_status put(struct upload *upload, unsigned n)
{
    struct err err = {0};
    char key[32];
    snprintf(key, sizeof key, "c/%u", n);
    memset(upload_room(upload), (int)n, PACK_BYTES);
    return upload_put(upload, key, PACK_BYTES, &err);
}

static void put_meanwhile(void)
{
    struct upload *upload = lazy.meanwhile;
    lazy.meanwhile = NULL;
    if (upload != NULL)
        assert_int_equal(put(upload, 0), TIDE_OK);
}

static void begin(struct upload *upload)
{
    struct err err = {0};
    assert_int_equal(upload_init(upload, &lazy.base, &err), TIDE_OK);
}

static void every_pack_arrives_in_its_turn(void **state)
{
    (void)state;
    static struct upload upload;
    struct err err = {0};
    begin(&upload);
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(put(&upload, i), TIDE_OK);
    assert_int_equal(lazy.most, UPLOAD_PACKS_MAX);
    assert_int_equal(upload_finish(&upload, &err), TIDE_OK);
    assert_int_equal(lazy.done, 40);
    for (unsigned i = 0; i < 40; i++) {
        char key[32];
        snprintf(key, sizeof key, "c/%u", i);
        assert_string_equal(lazy.keys[i], key);
        assert_int_equal(lazy.first[i], i);
    }
    upload_release(&upload);
    assert_int_equal(lazy.under_way, 0);
}

static void no_more_memory_than_the_store_can_use(void **state)
{
    (void)state;
    static struct upload upload;
    lazy_ops.at_once = 2;
    begin(&upload);
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(put(&upload, i), TIDE_OK);
    assert_int_equal(upload.count, 3);
    assert_int_equal(lazy.most, 3);
    upload_release(&upload);
}

static void a_quick_store_needs_little_memory(void **state)
{
    (void)state;
    static struct upload upload;
    lazy.quick = 1;
    begin(&upload);
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(put(&upload, i), TIDE_OK);
    assert_int_equal(upload.count, 1);
    assert_int_equal(upload_depth(&upload), 0);
    upload_release(&upload);
}

static void what_is_under_way_is_counted(void **state)
{
    (void)state;
    static struct upload first, second;
    lazy_ops.at_once = 8;
    begin(&first);
    assert_int_equal(upload_depth(&first), 0);
    assert_int_equal(upload_depth_max(&first), 0); /* nothing was put yet: nothing can be told from that */
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(put(&first, i), TIDE_OK);
    assert_int_equal(upload_depth(&first), 8);
    assert_int_equal(upload_depth_max(&first), 8);
    begin(&second);
    assert_int_equal(upload_depth_max(&first), UPLOAD_PACKS_MAX / 2 - 1);
    upload_release(&second);
    upload_release(&first);
}

static void who_comes_later_gets_a_share(void **state)
{
    (void)state;
    static struct upload first, second;
    begin(&first);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(put(&first, i), TIDE_OK);
    begin(&second);
    assert_int_equal(first.count, UPLOAD_PACKS_MAX - 1);
    assert_int_equal(put(&first, 8), TIDE_OK);
    assert_int_equal(first.count, UPLOAD_PACKS_MAX / 2);
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(put(&second, i), TIDE_OK);
    assert_int_equal(second.count, UPLOAD_PACKS_MAX / 2);
    upload_release(&first);
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(put(&second, i), TIDE_OK);
    assert_int_equal(second.count, UPLOAD_PACKS_MAX);
    upload_release(&second);
    assert_int_equal(lazy.under_way, 0);
    assert_int_equal(lazy.done, 9 + 18);
}

static void *come_late(void *argument)
{
    begin(argument);
    return NULL;
}

static void one_too_many_waits_for_memory(void **state)
{
    (void)state;
    static struct upload uploads[UPLOAD_PACKS_MAX + 1];
    pthread_t thread;
    for (unsigned i = 0; i < UPLOAD_PACKS_MAX; i++)
        begin(&uploads[i]);
    assert_int_equal(pthread_create(&thread, NULL, come_late, &uploads[UPLOAD_PACKS_MAX]), 0);
    upload_release(&uploads[3]);
    pthread_join(thread, NULL);
    assert_int_equal(uploads[UPLOAD_PACKS_MAX].count, 1);
    for (unsigned i = 0; i <= UPLOAD_PACKS_MAX; i++)
        upload_release(&uploads[i]);
}

static void a_failure_is_told_once_and_the_rest_waited_for(void **state)
{
    (void)state;
    static struct upload upload;
    struct err err = {0};
    begin(&upload);
    lazy.failing = 3;
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(put(&upload, i), TIDE_OK); /* nobody knows yet */
    assert_int_equal(upload_finish(&upload, &err), TIDE_E_UNAVAILABLE);
    assert_string_equal(err.text, "the store hangs");
    assert_int_equal(lazy.done, 6);
    upload_release(&upload);
    lazy.done = 0;
    begin(&upload);
    enum tide_status status = TIDE_OK;
    unsigned puts = 0;
    for (; status == TIDE_OK; puts++)
        status = put(&upload, puts);
    assert_int_equal(status, TIDE_E_UNAVAILABLE);
    assert_int_equal(puts, UPLOAD_PACKS_MAX + 2); /* the third was waited for */
    upload_release(&upload);
    assert_int_equal(lazy.under_way, 0);
}

static void without_memory_it_goes_on_with_less(void **state)
{
    (void)state;
    static struct upload upload;
    struct err err = {0};
    upload_trim();
    mem_fail_at(1);
    assert_int_equal(upload_init(&upload, &lazy.base, &err), TIDE_E_NOMEM);
    begin(&upload);
    mem_fail_at(2);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(put(&upload, i), TIDE_OK);
    mem_fail_at(0);
    assert_int_equal(upload.count, 4); /* one that could not grow, and then three that could */
    upload_release(&upload);
    begin(&upload);
    assert_int_equal(put(&upload, 0), TIDE_OK);
    upload_release(&upload);
}

static size_t bytes_there(void *from)
{
    static unsigned char there[FORMAT_PACK_BYTES_MAX / SMALL_PAGE];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = 0;
    assert_int_equal(mincore(from, FORMAT_PACK_BYTES_MAX, there), 0);
    for (size_t i = 0; i < FORMAT_PACK_BYTES_MAX / page; i++)
        pages += there[i] & 1;
    return pages * page;
}

static void only_what_is_filled_is_there(void **state)
{
    (void)state;
    static struct upload upload;
    upload_trim();
    begin(&upload);
    assert_int_equal(bytes_there(upload_room(&upload)), 0);
    memset(upload_room(&upload), 1, PACK_BYTES);
    assert_in_range(bytes_there(upload_room(&upload)), PACK_BYTES, HUGE_PAGE); /* at most one huge page */
    upload_release(&upload);
}

/* All that one upload had the next one has, and no more than that is ever kept. */
static void memory_is_used_again(void **state)
{
    (void)state;
    static struct upload upload;
    unsigned char *had[UPLOAD_PACKS_MAX];
    upload_trim();
    begin(&upload);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(put(&upload, i), TIDE_OK);
    assert_int_equal(upload.count, UPLOAD_PACKS_MAX);
    for (unsigned i = 0; i < UPLOAD_PACKS_MAX; i++)
        had[i] = upload.packs[i].bytes;
    upload_release(&upload);
    mem_fail_at(1); /* nothing new is asked for */
    begin(&upload);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(put(&upload, i), TIDE_OK);
    mem_fail_at(0);
    assert_int_equal(upload.count, UPLOAD_PACKS_MAX);
    for (unsigned i = 0; i < UPLOAD_PACKS_MAX; i++)
        assert_ptr_equal(upload.packs[i].bytes, had[i]);
    upload_release(&upload);
    upload_trim();
    for (unsigned i = 0; i < UPLOAD_PACKS_MAX; i++)
        assert_int_equal(mincore(had[i], SMALL_PAGE, (unsigned char[1]){0}), -1); /* ENOMEM: nothing is mapped there */
}

/* The memory of one that is given back is nobody else's while it is still under way. */
static void what_is_under_way_is_not_counted_as_given(void **state)
{
    (void)state;
    static struct upload first, second;
    upload_trim();
    begin(&first);
    for (unsigned i = 0; i < 8; i++)
        assert_int_equal(put(&first, i), TIDE_OK);
    begin(&second);
    lazy.meanwhile = &second;
    assert_int_equal(put(&first, 8), TIDE_OK);
    assert_null(lazy.meanwhile);
    assert_int_equal(first.count, UPLOAD_PACKS_MAX / 2);
    assert_int_equal(second.count, 1);
    upload_release(&first);
    upload_release(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(every_pack_arrives_in_its_turn, setup),
        cmocka_unit_test_setup(no_more_memory_than_the_store_can_use, setup),
        cmocka_unit_test_setup(a_quick_store_needs_little_memory, setup),
        cmocka_unit_test_setup(what_is_under_way_is_counted, setup),
        cmocka_unit_test_setup(who_comes_later_gets_a_share, setup),
        cmocka_unit_test_setup(one_too_many_waits_for_memory, setup),
        cmocka_unit_test_setup(a_failure_is_told_once_and_the_rest_waited_for, setup),
        cmocka_unit_test_setup(without_memory_it_goes_on_with_less, setup),
        cmocka_unit_test_setup(only_what_is_filled_is_there, setup),
        cmocka_unit_test_setup(memory_is_used_again, setup),
        cmocka_unit_test_setup(what_is_under_way_is_not_counted_as_given, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
