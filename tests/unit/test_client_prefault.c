/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "tests/unit/fake_step.h"

/* The first record into a slot is a copy like any other: its pages have been seen to before. */

#define STATE_BYTES ((size_t)32 << 20)
#define PAGE_BYTES 4096
#define WAIT_MS 20000
#ifdef __SANITIZE_THREAD__
#define SHADOWED true /* its own memory of our memory has faults of its own */
#else
#define SHADOWED false
#endif

static struct fake_step step;
static struct tide *tide;
static unsigned char *bytes;

static int begin(void **state)
{
    (void)state;
    fake_start(&step, 3);
    bytes = malloc(STATE_BYTES);
    memset(bytes, 7, STATE_BYTES);
    if (tide_init(&tide, NULL) != TIDE_OK)
        return -1;
    return tide_register(tide, &(struct tide_region){.name = "state", .data = bytes, .bytes = STATE_BYTES}) == TIDE_OK ? 0 : -1;
}

static int end(void **state)
{
    (void)state;
    tide_finalize(tide);
    tide = NULL;
    free(bytes);
    fake_stop(&step);
    return 0;
}

/* Bytes of the slot's file that this process has page tables for. */
static size_t resident(unsigned slot)
{
    char name[64], line[512];
    size_t kib = 0, sum = 0;
    int inside = 0;
    snprintf(name, sizeof name, SLOT_FILE_FORMAT "\n", 1u, slot);
    FILE *in = fopen("/proc/self/smaps", "re");
    assert_non_null(in);
    while (fgets(line, sizeof line, in) != NULL) {
        size_t n = strlen(line);
        if (strchr(line, '-') != NULL && strstr(line, ":") != NULL && strstr(line, "kB") == NULL)
            inside = n > strlen(name) && strcmp(line + n - strlen(name), name) == 0;
        else if (inside && sscanf(line, "Rss: %zu kB", &kib) == 1)
            sum += kib << 10;
    }
    fclose(in);
    return sum;
}

static void wait_resident(unsigned slot)
{
    for (int ms = 0; ms < WAIT_MS && resident(slot) < STATE_BYTES; ms += 10)
        poll(NULL, 0, 10);
    assert_true(resident(slot) >= STATE_BYTES);
}

static long faults(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_minflt;
}

static void the_first_records_meet_pages_that_are_there(void **state)
{
    (void)state;
    assert_int_equal(tide_step(tide, 1), TIDE_OK);
    wait_resident(0);
    wait_resident(1);
    for (uint32_t slot = 0; slot < SLOTS_ALWAYS; slot++) {
        fake_arm(&step, slot + 1, slot + 2, slot);
        long before = faults();
        assert_int_equal(tide_step(tide, slot + 2), TIDE_OK);
        assert_int_equal(step.page->record_result, RECORD_DONE);
        assert_int_equal(step.page->recorded_cut, slot + 1);
        if (!SHADOWED)
            assert_true(faults() - before < (long)(STATE_BYTES / PAGE_BYTES / 4));
    }
}

static void a_record_does_not_wait_for_them(void **state)
{
    (void)state;
    fake_arm(&step, 1, 1, 1);
    assert_int_equal(tide_step(tide, 1), TIDE_OK);
    assert_int_equal(step.page->record_result, RECORD_DONE);
}

/* The step process gave the memory back, and made the file anew when it was asked again. */
static void a_file_made_anew_is_mapped_anew(void **state)
{
    (void)state;
    char path[256], root[DIGEST_HEX_CHARS + 1];
    struct err err = {0};
    assert_int_equal(tide_step(tide, 1), TIDE_OK);
    wait_resident(1);
    snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, step.dir, 1u, 1u);
    assert_int_equal(unlink(path), 0);
    fake_arm(&step, 4, 2, 1);
    assert_int_equal(tide_step(tide, 2), TIDE_OK);
    assert_int_equal(step.page->record_result, RECORD_DONE);
    assert_int_equal(stage_sum(step.dir, 1, 1, TEST_UID, 4, root, &err), TIDE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_first_records_meet_pages_that_are_there, begin, end),
        cmocka_unit_test_setup_teardown(a_record_does_not_wait_for_them, begin, end),
        cmocka_unit_test_setup_teardown(a_file_made_anew_is_mapped_anew, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
