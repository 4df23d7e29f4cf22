/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ckpt/base/clock.h"
#include "tests/unit/fake_step.h"

/* The handshake of ckpt/wire/local.h under stress: an agent arms steps around the one the rank is at. Either the rank
 * records that very step or the agent learns that it was missed: never neither, never both. */

#define ARMINGS 100000u
#define ARMINGS_MIN 1000u          /* however busy the machine is */
#define BUDGET_NS (25 * NS_PER_S) /* for more of them: on one core each waits for the scheduler */
#define DEADLINE_NS (120 * NS_PER_S)

static struct fake_step step;
static _Atomic int over;
static char state_bytes[64];

static void *rank_main(void *argument)
{
    struct tide *tide = argument;
    uint64_t at = 0;
    struct rng rng = {.state = 9};
    while (!over) {
        if (tide_step(tide, ++at) != TIDE_OK)
            return argument;
        /* Of uneven length, so that arming meets the rank in every place. */
        for (volatile uint64_t work = rng_below(&rng, 60); work > 0; work = work - 1)
            ;
    }
    return NULL;
}

struct counts {
    unsigned recorded, missed, disarmed, neither, both, late;
};

/* Wait until the rank has recorded this cut or went by; a rank that has gone by and did not record is a violation. */
static void settle(struct control_page *page, uint64_t cut, uint64_t k, struct counts *counts)
{
    uint64_t deadline = clock_mono_ns() + DEADLINE_NS;
    for (;;) {
        uint64_t armed = atomic_load(&page->armed_step);
        if (armed == STEP_NONE)
            break;
        if (armed == k && atomic_load(&page->step) > k && atomic_load(&page->armed_step) == k) {
            counts->neither++;
            return;
        }
        if (clock_mono_ns() > deadline) {
            counts->late++;
            return;
        }
        sched_yield(); /* the rank may be waiting for this very core */
    }
    if (atomic_load(&page->recorded_cut) == cut && atomic_load(&page->record_step) == k &&
        atomic_load(&page->record_result) == RECORD_DONE)
        counts->recorded++;
    else
        counts->neither++;
}

static void arm(struct control_page *page, uint64_t cut, struct rng *rng, struct counts *counts)
{
    uint64_t k = atomic_load(&page->step) + rng_below(rng, 5);
    atomic_store(&page->armed_cut, cut);
    atomic_store(&page->armed_attempt, 1);
    atomic_store(&page->armed_slot, (uint32_t)(cut % SLOTS));
    atomic_store_explicit(&page->armed_step, k, memory_order_seq_cst);
    uint64_t expected = k;
    if (atomic_load_explicit(&page->step, memory_order_seq_cst) >= k &&
        atomic_compare_exchange_strong(&page->armed_step, &expected, STEP_NONE)) {
        counts->missed++;
        counts->both += atomic_load(&page->recorded_cut) == cut;
        return;
    }
    /* Now and then the coordinator changes its mind. */
    expected = k;
    if (rng_below(rng, 16) == 0 && atomic_compare_exchange_strong(&page->armed_step, &expected, STEP_NONE)) {
        counts->disarmed++;
        counts->both += atomic_load(&page->recorded_cut) == cut;
        return;
    }
    settle(page, cut, k, counts);
}

static void never_neither_and_never_both(void **state)
{
    (void)state;
    struct tide *tide = NULL;
    struct counts counts = {0};
    struct rng rng = {.state = 4};
    pthread_t rank;
    void *failed = NULL;
    fake_start(&step, 1);
    assert_int_equal(tide_init(&tide, NULL), TIDE_OK);
    struct tide_region region = {.name = "state", .data = state_bytes, .bytes = sizeof state_bytes};
    assert_int_equal(tide_register(tide, &region), TIDE_OK);
    assert_int_equal(pthread_create(&rank, NULL, rank_main, tide), 0);
    uint64_t enough = clock_mono_ns() + BUDGET_NS;
    for (uint64_t cut = 1;
         cut <= (clock_mono_ns() < enough ? ARMINGS : ARMINGS_MIN) && counts.neither + counts.both + counts.late == 0; cut++)
        arm(step.page, cut, &rng, &counts);
    over = 1;
    pthread_join(rank, &failed);
    tide_finalize(tide);
    fake_stop(&step);
    print_message("recorded %u, missed %u, disarmed %u\n", counts.recorded, counts.missed, counts.disarmed);
    assert_null(failed);
    assert_int_equal(counts.neither, 0);
    assert_int_equal(counts.both, 0);
    assert_int_equal(counts.late, 0);
    /* A run in which one side always won would prove nothing. */
    assert_true(counts.recorded > 100 && counts.missed > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_neither_and_never_both),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
