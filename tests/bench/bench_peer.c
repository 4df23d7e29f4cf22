/* SPDX-License-Identifier: Apache-2.0 */

/* A rank's slot from the memory of another agent into this one's, over loopback: asked for, sent, hashed, written. The limit is a
 * memcpy of as much into a slot whose memory is there. Arenas in shared memory. */

#include <assert.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/rpc/copy.h"
#include "agent/rpc/log_server.h"
#include "tests/bench/measure.h"
#include "tests/unit/slots.h"

#define BYTES ((uint64_t)256 << 20)
#define ROUNDS 4
#define CUT 7u
#define TOKEN "0123456789abcdef0123456789abcdef"
#define GB 1e9

static uv_loop_t loop;
static uv_async_t stop;
static struct log_server *server;

static const char *token_of(void *context, const char *uid)
{
    (void)context, (void)uid;
    return TOKEN;
}

static bool runs(void *context, const char *uid, uint64_t generation)
{
    (void)context, (void)uid, (void)generation;
    return false;
}

static void on_stop(uv_async_t *async)
{
    log_server_close(server);
    uv_close((uv_handle_t *)async, NULL);
}

static void *serve(void *context)
{
    (void)context;
    uv_run(&loop, UV_RUN_DEFAULT);
    return NULL;
}

static double memcpy_seconds(const char *dir)
{
    arena_path path;
    struct slot slot;
    double best = 1e9;
    unsigned char *from = mem_alloc(BYTES);
    memset(from, 7, BYTES);
    slot_path(dir, 1, 0, path);
    assert_int_equal(slot_reserve(path, BYTES + SLOT_HEADER_BYTES, NULL), TIDE_OK);
    assert_int_equal(slot_map(path, 1, &slot, NULL), TIDE_OK);
    for (int i = 0; i < ROUNDS; i++) {
        double begin = seconds();
        memcpy((unsigned char *)slot.header + SLOT_HEADER_BYTES, from, BYTES);
        best = least(best, seconds() - begin);
    }
    slot_unmap(&slot);
    mem_free(from);
    return best;
}

static double fetch_seconds(const struct copy_source *source, const char *dir, bool there)
{
    double best = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        arena_path path;
        char root[DIGEST_HEX_CHARS + 1];
        const struct copy_place place = {.dir = dir, .job_uid = TEST_UID, .rank = 0, .cut = CUT, .most = UINT64_MAX, .keep = 1};
        slot_path(dir, 0, 0, path);
        if (!there)
            unlink(path);
        double begin = seconds();
        struct err err = {0};
        if (copy_fetch(source, &place, root, &err) != TIDE_OK)
            fail_msg("%s", err.text);
        best = least(best, seconds() - begin);
    }
    return best;
}

int main(void)
{
    static const struct test_region weights[] = {{"noise", BYTES}};
    struct copy_source source = {.address = "127.0.0.1", .token = TOKEN};
    char arena[TIDE_PATH_MAX + 1], root[DIGEST_HEX_CHARS + 1];
    struct err err = {0};
    pthread_t thread;
    setenv("TIDE_TEST_ROOT", "/dev/shm", 1);
    char *arenas = test_dir(), *there = test_dir();
    snprintf(arena, sizeof arena, "%s/" TEST_UID, arenas);
    assert_int_equal(fsx_mkdirs(arena, 0700, &err), TIDE_OK);
    test_record(arena, 0, 0, CUT, weights, 1, 9);
    assert_int_equal(stage_sum(arena, 0, 0, TEST_UID, CUT, root, &err), TIDE_OK);
    const struct slot_access slots = {.arenas = arenas, .token = token_of};
    uv_loop_init(&loop);
    uv_async_init(&loop, &stop, on_stop);
    assert_int_equal(log_server_create(&loop, arenas, source.address, &source.port, NULL, runs, NULL, &slots, &server, &err), TIDE_OK);
    assert_int_equal(pthread_create(&thread, NULL, serve, NULL), 0);
    double limit = (double)BYTES / GB / memcpy_seconds(there);
    double fresh = fetch_seconds(&source, there, false), again = fetch_seconds(&source, there, true);
    result("peer", "fetch into a new slot", (double)BYTES / GB / fresh, "GB/s", limit, -1);
    result("peer", "fetch into a slot that is there", (double)BYTES / GB / again, "GB/s", limit, -1);
    uv_async_send(&stop);
    pthread_join(thread, NULL);
    log_server_free(server);
    uv_loop_close(&loop);
    test_dir_remove(arenas);
    test_dir_remove(there);
    return 0;
}
