/* SPDX-License-Identifier: Apache-2.0 */

/* A rank's slot from the memory of another agent into this one's, over loopback: asked for, sent, hashed, written. The limit is a
 * memcpy of as much into a slot whose memory is there. Arenas in shared memory. */

#include <assert.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/rpc/copy.h"
#include "tests/bench/measure.h"
#include "tests/unit/slot_port.h"
#include "tests/unit/slots.h"

#define BYTES ((uint64_t)256 << 20)
#define ROUNDS 4
#define CUT 7u
#define TOKEN "0123456789abcdef0123456789abcdef"
#define GB 1e9

static const char *token_of(void *context, const char *uid)
{
    (void)context, (void)uid;
    return TOKEN;
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
    struct copy_source source = {.address = SLOT_PORT_ADDRESS, .token = TOKEN};
    char arena[TIDE_PATH_MAX + 1], root[DIGEST_HEX_CHARS + 1];
    struct err err = {0};
    struct slot_port port;
    setenv("TIDE_TEST_ROOT", "/dev/shm", 1);
    char *arenas = test_dir(), *there = test_dir();
    snprintf(arena, sizeof arena, "%s/" TEST_UID, arenas);
    assert_int_equal(fsx_mkdirs(arena, 0700, &err), TIDE_OK);
    test_record(arena, 0, 0, CUT, weights, 1, 9);
    assert_int_equal(stage_sum(arena, 0, 0, TEST_UID, CUT, root, &err), TIDE_OK);
    slot_port_open(&port, arenas, token_of, NULL, &source.port);
    double limit = (double)BYTES / GB / memcpy_seconds(there);
    double fresh = fetch_seconds(&source, there, false), again = fetch_seconds(&source, there, true);
    result("peer", "fetch into a new slot", (double)BYTES / GB / fresh, "GB/s", limit, -1);
    result("peer", "fetch into a slot that is there", (double)BYTES / GB / again, "GB/s", limit, -1);
    slot_port_close(&port);
    test_dir_remove(arenas);
    test_dir_remove(there);
    return 0;
}
