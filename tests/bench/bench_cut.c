/* SPDX-License-Identifier: Apache-2.0 */

/* How long a rank stands still for a cut, beside memcpy of the same bytes: copied at once, or on write (in small and in huge
 * pages), where what the program then waits in its writes is counted too: it writes to all of it at once, which is the
 * worst. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/bench/measure.h"
#include "tests/unit/fake_step.h"

#define BYTES ((size_t)192 << 20)
#define PAGE_BYTES 4096
#define ROUNDS 5
#define MS 1e3
#define WAIT_MS 60000

static struct fake_step step;
static struct tide *tide;
static unsigned char *state;
static uint64_t cut;

struct cost {
    double stall, writes, copied;
};

static double write_all(void)
{
    double begin = seconds();
    for (size_t i = 0; i < BYTES; i += PAGE_BYTES)
        state[i]++;
    return seconds() - begin;
}

static struct cost one_record(void)
{
    struct cost cost;
    cut++;
    fake_arm(&step, cut, cut, (uint32_t)cut % SLOTS);
    double begin = seconds();
    assert_int_equal(tide_step(tide, cut), TIDE_OK);
    cost.stall = seconds() - begin;
    cost.writes = write_all();
    for (int ms = 0; ms < WAIT_MS && atomic_load(&step.page->recorded_cut) != cut; ms++)
        usleep(1000);
    assert_int_equal(step.page->recorded_cut, cut);
    assert_int_equal(step.page->record_result, RECORD_DONE);
    cost.copied = (double)step.page->record_copy_ns * 1e-9;
    return cost;
}

static struct cost measure(unsigned flags, int huge, enum record_copy expected)
{
    struct cost best = {1e9, 1e9, 1e9};
    state = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(state != MAP_FAILED);
    madvise(state, BYTES, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    memset(state, 1, BYTES);
    struct tide_region region = {.name = "state", .data = state, .bytes = BYTES, .flags = flags};
    assert_int_equal(tide_register(tide, &region), TIDE_OK);
    (void)one_record(); /* the first of each slot also maps it */
    (void)one_record();
    for (int i = 0; i < ROUNDS; i++) {
        struct cost cost = one_record();
        assert_int_equal(step.page->record_copy, expected);
        best.stall = least(best.stall, cost.stall);
        best.writes = least(best.writes, cost.writes);
        best.copied = least(best.copied, cost.copied);
    }
    assert_int_equal(tide_unregister(tide, "state"), TIDE_OK);
    munmap(state, BYTES);
    return best;
}

static double memcpy_seconds(void)
{
    char path[256];
    struct slot slot;
    struct err err = {0};
    double best = 1e9;
    unsigned char *from = malloc(BYTES);
    assert_non_null(from);
    memset(from, 1, BYTES);
    snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, step.dir, 1u, 0u);
    assert_int_equal(slot_map(path, 1, &slot, &err), TIDE_OK);
    for (int i = 0; i < ROUNDS; i++) {
        double begin = seconds();
        memcpy((unsigned char *)slot.header + SLOT_HEADER_BYTES, from, BYTES);
        best = least(best, seconds() - begin);
    }
    slot_unmap(&slot);
    free(from);
    return best;
}

static void show(const char *what, struct cost cost, double copy)
{
    static const char *const names[] = {"stall", "stall_and_writes", "copied"};
    const double values[] = {cost.stall, cost.stall + cost.writes, cost.copied};
    char metric[64];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(metric, sizeof metric, "%s_%s", what, names[i]);
        result("cut", metric, values[i] * MS, "ms", copy * MS, -1);
    }
}

int main(void)
{
    setenv("TIDE_TEST_ROOT", "/dev/shm", 1); /* as the arena is */
    fake_start(&step, 1);
    unsetenv("TIDE_TEST_ROOT");
    assert_int_equal(tide_init(&tide, NULL), TIDE_OK);
    struct cost plain = measure(0, 0, RECORD_COPY_PLAIN);
    double copy = memcpy_seconds();
    show("plain_192MiB", plain, copy);
    show("on_write_192MiB", measure(TIDE_COPY_ON_WRITE, 0, RECORD_COPY_ON_WRITE), copy);
    show("on_write_huge_192MiB", measure(TIDE_COPY_ON_WRITE, 1, RECORD_COPY_ON_WRITE), copy);
    tide_finalize(tide);
    fake_stop(&step);
    return 0;
}
