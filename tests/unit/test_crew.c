/* SPDX-License-Identifier: Apache-2.0 */

/* Threads that put and get: as many at a time as were asked for, what was begun first first, and a failure told of its own. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "ckpt/store/crew.h"
#include "ckpt/store/store_dir.h"
#include "tests/unit/slots.h"

#define OPS 24u
#define WAIT_S 20 /* for what comes at once, however busy the machine */

/* A store whose operations wait until as many of them go on as are awaited. */
static struct busy {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned awaited, going, most;
    int met, late; /* nobody waits any more */
    uint64_t failing;
    uint64_t order[OPS];
    unsigned ended;
} busy = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static enum tide_status meet(uint64_t number, struct err *err)
{
    struct timespec until;
    int late = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WAIT_S;
    pthread_mutex_lock(&busy.lock);
    busy.order[busy.ended++ % OPS] = number;
    busy.going++;
    busy.most = busy.most < busy.going ? busy.going : busy.most;
    if (busy.going == busy.awaited)
        busy.met = 1;
    pthread_cond_broadcast(&busy.changed);
    while (!busy.met && !busy.late && !late)
        late = pthread_cond_clockwait(&busy.changed, &busy.lock, CLOCK_MONOTONIC, &until) != 0;
    busy.late |= late;
    busy.going--;
    pthread_cond_broadcast(&busy.changed);
    pthread_mutex_unlock(&busy.lock);
    return number == busy.failing ? err_set(err, TIDE_E_IO, "operation %u fails", (unsigned)number) : TIDE_OK;
}

static enum tide_status busy_get(struct store *store, const char *key, uint64_t offset, void *to, size_t bytes, struct err *err)
{
    (void)store, (void)key, (void)to, (void)bytes;
    return meet(offset, err);
}

static enum tide_status busy_put(struct store *store, const char *key, const void *data, size_t bytes, struct err *err)
{
    (void)store, (void)key, (void)data;
    return meet(bytes, err);
}

static const struct store_ops busy_ops = {.scheme = "busy", .get = busy_get, .put = busy_put};
static struct store store = {.ops = &busy_ops};

static int fresh(void **state)
{
    (void)state;
    busy.awaited = busy.going = busy.most = busy.ended = 0;
    busy.met = busy.late = 0;
    busy.failing = UINT64_MAX;
    return 0;
}

static void begin_all(struct crew *crew, struct store_op ops[OPS])
{
    for (unsigned i = 0; i < OPS; i++) {
        ops[i] = (struct store_op){.store = &store, .key = "k", .verb = STORE_GET, .offset = i};
        crew_begin(crew, &ops[i]);
    }
}

static void as_many_go_on_as_were_asked_for(void **state)
{
    (void)state;
    for (unsigned most = 1; most <= CREW_MOST; most++) {
        static struct store_op ops[OPS];
        struct crew crew;
        struct err err = {0};
        fresh(state);
        busy.awaited = most;
        crew_init(&crew, most);
        begin_all(&crew, ops);
        for (unsigned i = 0; i < OPS; i++)
            assert_int_equal(crew_finish(&crew, &ops[i], &err), TIDE_OK);
        crew_release(&crew);
        assert_int_equal(busy.met, 1);
        assert_int_equal(busy.most, most);
    }
}

static void there_are_no_more_threads_than_that(void **state)
{
    (void)state;
    struct crew crew;
    crew_init(&crew, 1000);
    assert_int_equal(crew.most, CREW_MOST);
    crew_release(&crew);
}

static void who_was_begun_first_is_first(void **state)
{
    (void)state;
    static struct store_op ops[OPS];
    struct crew crew;
    struct err err = {0};
    busy.met = 1; /* nobody waits */
    crew_init(&crew, 1);
    begin_all(&crew, ops);
    for (unsigned i = OPS; i-- > 0;)
        assert_int_equal(crew_finish(&crew, &ops[i], &err), TIDE_OK);
    crew_release(&crew);
    for (unsigned i = 0; i < OPS; i++)
        assert_int_equal(busy.order[i], i);
}

static void a_failure_is_told_of_its_own(void **state)
{
    (void)state;
    static struct store_op ops[OPS];
    struct crew crew;
    struct err err = {0};
    busy.awaited = 4;
    busy.failing = 7;
    crew_init(&crew, 4);
    begin_all(&crew, ops);
    for (unsigned i = 0; i < OPS; i++)
        assert_int_equal(crew_finish(&crew, &ops[i], &err), i == 7 ? TIDE_E_IO : TIDE_OK);
    assert_string_equal(err.text, "operation 7 fails");
    crew_release(&crew);
}

/* A thread is made when there is something for it to do. */
static void one_operation_needs_one_thread(void **state)
{
    (void)state;
    struct store_op op = {.store = &store, .key = "k", .bytes = 1};
    struct crew crew;
    struct err err = {0};
    busy.met = 1;
    crew_init(&crew, CREW_MOST);
    crew_begin(&crew, &op);
    assert_int_equal(crew_finish(&crew, &op, &err), TIDE_OK);
    assert_int_equal(crew.count, 1);
    crew_release(&crew);
}

/* Of this program (--wrap). */
ssize_t __real_pread(int fd, void *to, size_t bytes, off_t at);
ssize_t __wrap_pread(int fd, void *to, size_t bytes, off_t at);

ssize_t __wrap_pread(int fd, void *to, size_t bytes, off_t at)
{
    struct err err = {0};
    return meet(0, &err) == TIDE_OK ? __real_pread(fd, to, bytes, at) : -1;
}

/* More are read at a time than are written: what is written takes memory until it is durable. */
static void a_directory_reads_more_than_it_writes(void **state)
{
    (void)state;
    char *dir = test_dir(), back[OPS];
    struct store *real = NULL;
    struct store_op ops[OPS];
    struct err err = {0};
    assert_int_equal(store_dir_open(dir, STORE_DIR_DEFAULT, &real, &err), TIDE_OK);
    assert_int_equal(store_at_once(real), 2);
    assert_int_equal(store_gets_at_once(real), 8);
    assert_int_equal(store_put(real, "k", "x", 1, &err), TIDE_OK);
    busy.awaited = 8;
    for (unsigned i = 0; i < OPS; i++)
        store_begin_get(real, &ops[i], "k", 0, &back[i], 1);
    for (unsigned i = 0; i < OPS; i++) {
        assert_int_equal(store_finish(&ops[i], &err), TIDE_OK);
        assert_int_equal(back[i], 'x');
    }
    assert_int_equal(busy.met, 1);
    assert_int_equal(busy.most, 8);
    store_close(real);
    test_dir_remove(dir);
}

int __real_unlinkat(int fd, const char *path, int flags);
int __wrap_unlinkat(int fd, const char *path, int flags);

/* The store's own: a writer's file without a name, and a directory, are nothing that was asked for. */
int __wrap_unlinkat(int fd, const char *path, int flags)
{
    struct err err = {0};
    return strncmp(path, "gone", 4) != 0 || meet(0, &err) == TIDE_OK ? __real_unlinkat(fd, path, flags) : -1;
}

/* What is removed takes no memory. Who reads does not wait behind it, nor who writes. */
static void a_directory_removes_as_many_as_it_reads(void **state)
{
    (void)state;
    char *dir = test_dir(), back = 0;
    static char names[OPS][8];
    static struct store_op ops[OPS];
    struct store *real = NULL;
    struct store_op get, put;
    struct err err = {0};
    assert_int_equal(store_dir_open(dir, STORE_DIR_DEFAULT, &real, &err), TIDE_OK);
    assert_int_equal(store_removes_at_once(real), 8);
    busy.met = 1;
    assert_int_equal(store_put(real, "k", "x", 1, &err), TIDE_OK);
    for (unsigned i = 0; i < OPS; i++) {
        snprintf(names[i], sizeof names[i], "gone%u", i);
        assert_int_equal(store_put(real, names[i], "x", 1, &err), TIDE_OK);
    }
    busy.met = 0;
    busy.awaited = 9; /* eight that remove, and the one that reads */
    busy.most = 0;
    for (unsigned i = 0; i < OPS; i++)
        store_begin_remove(real, &ops[i], names[i]);
    store_begin_put(real, &put, "l", "y", 1);
    assert_int_equal(store_finish(&put, &err), TIDE_OK);
    store_begin_get(real, &get, "k", 0, &back, 1);
    assert_int_equal(store_finish(&get, &err), TIDE_OK);
    for (unsigned i = 0; i < OPS; i++)
        assert_int_equal(store_finish(&ops[i], &err), TIDE_OK);
    assert_int_equal(back, 'x');
    assert_int_equal(busy.met, 1);
    assert_int_equal(busy.most, 9);
    store_close(real);
    test_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(as_many_go_on_as_were_asked_for, fresh),
        cmocka_unit_test_setup(there_are_no_more_threads_than_that, fresh),
        cmocka_unit_test_setup(who_was_begun_first_is_first, fresh),
        cmocka_unit_test_setup(a_failure_is_told_of_its_own, fresh),
        cmocka_unit_test_setup(one_operation_needs_one_thread, fresh),
        cmocka_unit_test_setup(a_directory_reads_more_than_it_writes, fresh),
        cmocka_unit_test_setup(a_directory_removes_as_many_as_it_reads, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
