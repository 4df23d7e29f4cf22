/* SPDX-License-Identifier: Apache-2.0 */

/* What a store promises, asked of a real S3 server, and its faces for tests/integration/store_s3.sh.
 *
 *     store_s3 contract BUCKET QUERY     the tests, each below a prefix of its own; QUERY is what follows '?' in the address
 *     store_s3 open URL                  opens it; the exit status is the tide_status
 *     store_s3 slow URL FILE             opens it, makes FILE, waits until FILE is gone, then writes an object and reads it
 *     store_s3 speed URL WORKERS MIB     MiB/s of as many threads, in packs of 32 MiB */

#define RACES 48 /* a server asks more of two cores than a file system */

#include "tests/unit/store_contract.h"

#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "ckpt/base/clock.h"

#define USAGE_STATUS 120
#define MIB ((size_t)1 << 20)
#define PACK_BYTES (32 * MIB)
#define PAGED_KEYS 1100u /* more than a page holds */
#define PAGED_THREADS 8u
#define WORKERS_MAX 16u

static const char *bucket, *query;
static unsigned opened;

static int open_empty(void **state)
{
    (void)state;
    struct err err = {0};
    char url[512];
    snprintf(url, sizeof url, "s3://%s/contract-%d/%u?%s", bucket, (int)getpid(), opened++, query);
    if (store_open(url, &store, &err) == TIDE_OK)
        return 0;
    fprintf(stderr, "%s\n", err.text);
    return -1;
}

static int close_it(void **state)
{
    (void)state;
    store_close(store);
    return 0;
}

static void packs_come_back_as_they_were(void **state)
{
    (void)state;
    struct err err = {0};
    char *data = mem_alloc(PACK_BYTES), *back = mem_alloc(PACK_BYTES);
    for (size_t i = 0; i < PACK_BYTES; i++)
        data[i] = (char)(i * 2654435761u >> 13);
    assert_int_equal(store_put_same(store, "c/pack", data, PACK_BYTES, &err), TIDE_OK);
    assert_int_equal(store_put_same(store, "c/pack", data, PACK_BYTES, &err), TIDE_OK);
    assert_int_equal(store_get(store, "c/pack", 0, back, PACK_BYTES, &err), TIDE_OK);
    assert_memory_equal(back, data, PACK_BYTES);
    assert_int_equal(store_get(store, "c/pack", PACK_BYTES - 5, back, 5, &err), TIDE_OK);
    assert_memory_equal(back, data + PACK_BYTES - 5, 5);
    assert_int_equal(store_get(store, "c/pack", PACK_BYTES - 5, back, 6, &err), TIDE_E_CORRUPT);
    mem_free(data);
    mem_free(back);
}

static void *put_many(void *argument)
{
    struct err err = {0};
    for (unsigned i = (unsigned)(size_t)argument; i < PAGED_KEYS; i += PAGED_THREADS) {
        char key[32];
        snprintf(key, sizeof key, "many/%06u", i);
        if (store_put(store, key, "x", 1, &err) != TIDE_OK)
            return argument ? argument : &opened;
    }
    return NULL;
}

static void lists_go_on_after_a_page(void **state)
{
    (void)state;
    pthread_t threads[PAGED_THREADS];
    struct strlist keys = {0};
    struct err err = {0};
    for (size_t i = 0; i < PAGED_THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, put_many, (void *)i), 0);
    for (size_t i = 0; i < PAGED_THREADS; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    struct strlist prefixes = {0}, both = {0};
    strlist_add(&prefixes, "few/");
    strlist_add(&prefixes, "many/");
    assert_int_equal(store_list_each(store, &prefixes, &both, &err), TIDE_OK);
    assert_int_equal(both.count, PAGED_KEYS);
    strlist_release(&prefixes);
    strlist_release(&both);
    assert_int_equal(store_list(store, "many/", &keys, &err), TIDE_OK);
    assert_int_equal(keys.count, PAGED_KEYS);
    for (unsigned i = 0; i < PAGED_KEYS; i++) {
        char key[32];
        snprintf(key, sizeof key, "many/%06u", i);
        assert_string_equal(keys.items[i], key);
    }
    strlist_release(&keys);
}

static int contract(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, open_empty, close_it)
    const struct CMUnitTest tests[] = {
        CASE(objects_are_written_once),           CASE(the_same_again_is_content),
        CASE(what_is_missing_or_short_is_named),  CASE(lists_are_sorted_and_by_prefix),
        CASE(removing_what_is_not_there_is_fine), CASE(many_are_removed_together), CASE(one_writer_wins_each_race),
        CASE(packs_come_back_as_they_were),       CASE(lists_go_on_after_a_page),
        CASE(what_was_begun_goes_on_at_once),     CASE(several_lists_have_what_each_has),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* ---- the other faces ---- */

static enum tide_status said(enum tide_status status, const struct err *err)
{
    if (status != TIDE_OK)
        printf("%s: %s\n", tide_status_name(status), err->text);
    return status;
}

static enum tide_status slow(const char *file)
{
    struct err err = {0};
    char *data = mem_alloc(4 * MIB), *back = mem_alloc(4 * MIB);
    memset(data, 's', 4 * MIB);
    int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    close(fd);
    while (access(file, F_OK) == 0)
        usleep(20000);
    enum tide_status status = said(store_put_same(store, "slow", data, 4 * MIB, &err), &err);
    if (status == TIDE_OK)
        status = said(store_get(store, "slow", 0, back, 4 * MIB, &err), &err);
    if (status == TIDE_OK && memcmp(data, back, 4 * MIB) != 0)
        status = TIDE_E_CORRUPT;
    mem_free(data);
    mem_free(back);
    return status;
}

struct worker {
    pthread_t thread;
    unsigned index, packs;
    int writes;
    char *data;
    enum tide_status status;
};

static void *work(void *argument)
{
    struct worker *w = argument;
    struct err err = {0};
    for (unsigned i = 0; w->status == TIDE_OK && i < w->packs; i++) {
        char key[64];
        snprintf(key, sizeof key, "speed/%u-%u", w->index, i);
        w->status = w->writes ? store_put(store, key, w->data, PACK_BYTES, &err)
                              : store_get(store, key, 0, w->data, PACK_BYTES, &err);
    }
    said(w->status, &err);
    return NULL;
}

static enum tide_status run_workers(struct worker *workers, unsigned count, int writes)
{
    struct timespec cpu[2];
    uint64_t from = clock_mono_ns();
    enum tide_status status = TIDE_OK;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu[0]);
    for (unsigned i = 0; i < count; i++) {
        workers[i].writes = writes;
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0)
            abort();
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        status = workers[i].status != TIDE_OK ? workers[i].status : status;
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu[1]);
    double mib = (double)count * workers[0].packs * 32, s = (double)(clock_mono_ns() - from) / 1e9;
    double used = (double)(cpu[1].tv_sec - cpu[0].tv_sec) + (double)(cpu[1].tv_nsec - cpu[0].tv_nsec) / 1e9;
    printf("%s: %u workers, %.0f MiB, %.0f MiB/s, %.2f CPU-s/GiB\n", writes ? "put" : "get", count, mib, mib / s,
           used / mib * 1024);
    return status;
}

static enum tide_status speed(unsigned count, unsigned mib)
{
    static struct worker workers[WORKERS_MAX];
    if (count < 1 || count > WORKERS_MAX || mib < 32 * count)
        return TIDE_E_INVALID;
    for (unsigned i = 0; i < count; i++) {
        workers[i] = (struct worker){.index = i, .packs = mib / 32 / count, .data = mem_alloc(PACK_BYTES)};
        for (size_t k = 0; k < PACK_BYTES; k++)
            workers[i].data[k] = (char)(k * 2654435761u >> 11);
    }
    enum tide_status status = run_workers(workers, count, 1);
    if (status == TIDE_OK)
        status = run_workers(workers, count, 0);
    for (unsigned i = 0; i < count; i++)
        mem_free(workers[i].data);
    return status;
}

int main(int argc, char **argv)
{
    struct err err = {0};
    if (argc == 4 && strcmp(argv[1], "contract") == 0) {
        bucket = argv[2];
        query = argv[3];
        return contract();
    }
    if (argc < 3)
        return USAGE_STATUS;
    enum tide_status status = said(store_open(argv[2], &store, &err), &err);
    if (status != TIDE_OK)
        return (int)status;
    if (strcmp(argv[1], "slow") == 0 && argc == 4)
        status = slow(argv[3]);
    else if (strcmp(argv[1], "speed") == 0 && argc == 5)
        status = speed((unsigned)strtoul(argv[3], NULL, 10), (unsigned)strtoul(argv[4], NULL, 10));
    else if (strcmp(argv[1], "open") != 0)
        status = USAGE_STATUS;
    store_close(store);
    return (int)status;
}
