/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "coordinator/cli/show.h"
#include "coordinator/cli/logs.h"
#include "coordinator/cli/units.h"

static uint64_t duration(const char *text)
{
    uint64_t ms = 12345;
    struct err err = {0};
    enum tide_status status = duration_parse(text, &ms, &err);
    if (status != TIDE_OK) {
        assert_int_equal(ms, 12345); /* untouched on failure */
        assert_non_null(strstr(err.text, text));
        return UINT64_MAX;
    }
    return ms;
}

static void durations_are_read_with_their_units(void **state)
{
    (void)state;
    assert_int_equal(duration("0"), 0);
    assert_int_equal(duration("0s"), 0);
    assert_int_equal(duration("500ms"), 500);
    assert_int_equal(duration("5s"), 5000);
    assert_int_equal(duration("1.5s"), 1500);
    assert_int_equal(duration("0.25s"), 250);
    assert_int_equal(duration("2m"), 120000);
    assert_int_equal(duration("2min"), 120000);
    assert_int_equal(duration("1h30m"), 5400000);
    assert_int_equal(duration("365d"), DURATION_MS_MAX);
}

static void garbage_is_no_duration(void **state)
{
    (void)state;
    static const char *const bad[] = {"5",
                                      "",
                                      "s",
                                      "-5s",
                                      "5 s",
                                      "5sx",
                                      "1..5s",
                                      ".5s",
                                      "5.s",
                                      "1e3s",
                                      "366d",
                                      "99999999999999999999s",
                                      "999999999999999d",
                                      "5s5",
                                      "0x10s",
                                      "inf",
                                      "1.00000s"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (duration(bad[i]) != UINT64_MAX)
            fail_msg("\"%s\" was taken for a duration", bad[i]);
}

static void numbers_are_digits_within_their_bounds(void **state)
{
    (void)state;
    uint64_t n = 7;
    assert_int_equal(number_parse("42", 1, 100, &n, NULL), TIDE_OK);
    assert_int_equal(n, 42);
    static const char *const bad[] = {"", "0", "101", "-1", "+1", " 1", "1 ", "1x", "0x1", "1.0", "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(number_parse(bad[i], 1, 100, &n, NULL), TIDE_E_INVALID);
    assert_int_equal(n, 42);
}

static void times_and_sizes_are_short_to_read(void **state)
{
    (void)state;
    char t[UNIT_TEXT_MAX];
    assert_string_equal(duration_text(0, t), "0 ms");
    assert_string_equal(duration_text(999, t), "999 ms");
    assert_string_equal(duration_text(1234, t), "1.2 s");
    assert_string_equal(duration_text(59949, t), "59.9 s");
    assert_string_equal(duration_text(59999, t), "1m 00s");
    assert_string_equal(duration_text(125000, t), "2m 05s");
    assert_string_equal(duration_text(3 * 3600000 + 12 * 60000, t), "3h 12m");
    assert_string_equal(duration_text(UINT64_C(98) * 3600000, t), "4d 02h");
    assert_string_equal(stall_text(830, t), "830 us");
    assert_string_equal(stall_text(1234, t), "1.2 ms");
    assert_string_equal(stall_text(250000, t), "250 ms");
    assert_string_equal(size_text(0, t), "0 B");
    assert_string_equal(size_text(999, t), "999 B");
    assert_string_equal(size_text(1024, t), "1.0 KiB");
    assert_string_equal(size_text(1536, t), "1.5 KiB");
    assert_string_equal(size_text(34u << 20, t), "34 MiB");
    assert_string_equal(size_text((1u << 30) - 1, t), "1.0 GiB");
    assert_string_equal(size_text(UINT64_MAX, t), "16 EiB");
    assert_string_equal(age_text(10000, 0, t), "-");
    assert_string_equal(age_text(10000, 9999, t), "now");
    assert_string_equal(age_text(10000, 20000, t), "now"); /* clocks of two machines */
    assert_string_equal(age_text(100000, 40000, t), "1m ago");
    assert_string_equal(age_text(100000, 41000, t), "59s ago");
}

static enum tide_status ckpt_of(const char *a, const char *b, char *job, uint64_t *cut)
{
    struct strlist args = {0};
    struct fault fault = {0};
    strlist_add(&args, a);
    if (b != NULL)
        strlist_add(&args, b);
    enum tide_status status = ckpt_id_parse(&args, job, cut, &fault);
    strlist_release(&args);
    return status;
}

static void a_checkpoint_is_named_in_two_ways(void **state)
{
    (void)state;
    char job[TIDE_NAME_MAX + 1] = "";
    uint64_t cut = 0;
    assert_int_equal(ckpt_of("fashion/7", NULL, job, &cut), TIDE_OK);
    assert_string_equal(job, "fashion");
    assert_int_equal(cut, 7);
    assert_int_equal(ckpt_of("f2", "8", job, &cut), TIDE_OK);
    assert_string_equal(job, "f2");
    assert_int_equal(cut, 8);
    assert_int_equal(ckpt_of("f2", "f2/9", job, &cut), TIDE_OK);
    assert_int_equal(cut, 9);
    static const char *const bad[][2] = {{"fashion", NULL}, {"fashion/", NULL}, {"fashion/0", NULL}, {"fashion/x", NULL},
                                         {"/7", NULL},      {"../7", NULL},     {"f2", "other/9"},   {"f2", "-1"}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(ckpt_of(bad[i][0], bad[i][1], job, &cut), TIDE_E_INVALID);
    assert_int_equal(cut, 9);
}

static void ranks_are_lists_and_ranges(void **state)
{
    (void)state;
    uint32_t *ranks;
    size_t count;
    struct fault fault = {0};
    assert_int_equal(ranks_parse(NULL, 3, &ranks, &count, &fault), TIDE_OK);
    assert_int_equal(count, 3);
    free(ranks);
    assert_int_equal(ranks_parse("0,2-3", 4, &ranks, &count, &fault), TIDE_OK);
    assert_int_equal(count, 3);
    assert_int_equal(ranks[1], 2);
    assert_int_equal(ranks[2], 3);
    free(ranks);
    static const char *const bad[] = {"", "4", "0-4", "3-2", "x", "1,,2", "-1", "0,0,0,0,0", "1-"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (ranks_parse(bad[i], 4, &ranks, &count, &fault) != TIDE_E_INVALID)
            fail_msg("\"%s\" was taken for ranks", bad[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations_are_read_with_their_units),    cmocka_unit_test(garbage_is_no_duration),
        cmocka_unit_test(numbers_are_digits_within_their_bounds), cmocka_unit_test(times_and_sizes_are_short_to_read),
        cmocka_unit_test(a_checkpoint_is_named_in_two_ways),      cmocka_unit_test(ranks_are_lists_and_ranges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
