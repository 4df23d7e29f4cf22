/* SPDX-License-Identifier: Apache-2.0 */

/* Who reads what when a restore has several threads: a slow one holds up its own chunk and no other's. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/team.h"
#include "tests/unit/fake_step.h"

#define CHUNKS 24u
#define PATIENCE_NS (10 * NS_PER_S)

static unsigned char state_of_ours[CHUNKS * CHUNK_BYTES];
static struct digest was;
static pthread_t owner;
static _Atomic uint64_t owners_last; /* 1 + the last chunk that the owner has read */
static _Atomic unsigned held, in_vain;

enum tide_status __real_slot_chunk_read(const struct slot *slot, const struct slot_sum *sum, uint64_t index, unsigned char *to,
                                        uint32_t *ret_bytes, struct err *err);
enum tide_status __wrap_slot_chunk_read(const struct slot *slot, const struct slot_sum *sum, uint64_t index, unsigned char *to,
                                        uint32_t *ret_bytes, struct err *err);

/* A helper is so slow that the owner has read a later chunk before it is done. */
enum tide_status __wrap_slot_chunk_read(const struct slot *slot, const struct slot_sum *sum, uint64_t index, unsigned char *to,
                                        uint32_t *ret_bytes, struct err *err)
{
    enum tide_status status = __real_slot_chunk_read(slot, sum, index, to, ret_bytes, err);
    if (pthread_equal(pthread_self(), owner)) {
        owners_last = index + 1;
    } else if (index + 1 < CHUNKS && !in_vain) {
        uint64_t until = clock_mono_ns() + PATIENCE_NS;
        while (owners_last <= index + 1 && clock_mono_ns() < until)
            usleep(100);
        in_vain += owners_last <= index + 1;
        held++;
    }
    return status;
}

/* One checkpoint, and the program started again, with its state at `place`. */
static void begin(struct fake_step *step, struct tide **tide, void *place)
{
    struct err err = {0};
    struct tide_region region = {.name = "state", .data = state_of_ours, .bytes = sizeof state_of_ours};
    char root[DIGEST_HEX_CHARS + 1];
    test_fill(state_of_ours, sizeof state_of_ours, "noise", 1);
    was = digest_of(state_of_ours, sizeof state_of_ours);
    fake_start(step, 1);
    assert_int_equal(tide_init(tide, NULL), TIDE_OK);
    assert_int_equal(tide_register(*tide, &region), TIDE_OK);
    fake_arm(step, 1, 1, 0);
    assert_int_equal(tide_step(*tide, 1), TIDE_OK);
    assert_int_equal(stage_sum(step->dir, 1, 0, TEST_UID, 1, root, &err), TIDE_OK);
    tide_finalize(*tide);
    memset(state_of_ours, 0, sizeof state_of_ours);
    fake_next_generation(step, 2);
    region.data = place;
    assert_int_equal(tide_init(tide, NULL), TIDE_OK);
    assert_int_equal(tide_register(*tide, &region), TIDE_OK);
    step->answers[0] = (struct local_message){.type = LOCAL_RESTORE_FROM, .cut = 1, .step = 1, .slot = 0};
    step->answer_count = 1;
}

static void end(struct fake_step *step, struct tide *tide)
{
    tide_finalize(tide);
    fake_stop(step);
}

static void who_waits_for_a_chunk_reads_another(void **state)
{
    struct fake_step step;
    struct tide *tide = NULL;
    uint64_t at = 0;
    (void)state;
    if (team_size(2) < 2) {
        print_message("one processor: there is nobody to wait for\n");
        skip();
    }
    begin(&step, &tide, state_of_ours);
    owner = pthread_self();
    assert_int_equal(tide_restore(tide, &at), TIDE_OK);
    assert_true(digest_equal(was, digest_of(state_of_ours, sizeof state_of_ours)));
    assert_int_equal(in_vain, 0);
    print_message("%u chunks of %u were held up\n", held, CHUNKS);
    end(&step, tide);
}

/* The checkpoint is good: no other copy is asked for, and the program learns what is wrong with it. */
static void memory_that_cannot_be_written_is_an_error(void **state)
{
    struct fake_step step;
    struct tide *tide = NULL;
    uint64_t at = 0;
    (void)state;
    void *place = mmap(NULL, sizeof state_of_ours, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(place != MAP_FAILED);
    begin(&step, &tide, place);
    owner = pthread_self();
    in_vain = 1; /* nobody is held up */
    assert_int_equal(tide_restore(tide, &at), TIDE_E_INVALID);
    assert_non_null(strstr(tide_error_text(tide), "region \"state\": the memory"));
    assert_int_equal(step.seen[LOCAL_RESTORE_BAD], 0);
    end(&step, tide);
    munmap(place, sizeof state_of_ours);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(who_waits_for_a_chunk_reads_another),
                                       cmocka_unit_test(memory_that_cannot_be_written_is_an_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
