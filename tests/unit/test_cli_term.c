/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "coordinator/cli/term.h"

/* Nothing here is a terminal, so there are no colours. */

static char *printed(struct table *table, size_t columns)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *to = open_memstream(&text, &bytes);
    assert_non_null(to);
    table_print(table, to, columns);
    fclose(to);
    return text;
}

static void columns_are_as_wide_as_their_longest_cell(void **state)
{
    (void)state;
    struct table t = {0};
    table_column(&t, "NAME", false);
    table_column(&t, "STEP", true);
    table_column(&t, "WHY", false);
    table_cell(&t, TINT_GREEN, "a-long-name");
    table_cell(&t, TINT_NONE, "%d", 7);
    table_cell(&t, TINT_NONE, "%s", "");
    table_cell(&t, TINT_NONE, "b");
    table_cell(&t, TINT_NONE, "%d", 12345);
    table_cell(&t, TINT_NONE, "two\nlines\033[31m");
    char *text = printed(&t, 0);
    assert_string_equal(text, "NAME          STEP  WHY\n"
                              "a-long-name      7  -\n"
                              "b            12345  two lines [31m\n");
    free(text);
    assert_int_equal(t.column_count, 0); /* ready for another one */
}

static void a_table_without_rows_prints_nothing(void **state)
{
    (void)state;
    struct table t = {0};
    table_column(&t, "NAME", false);
    char *text = printed(&t, 0);
    assert_string_equal(text, "");
    free(text);
}

static void the_last_column_ends_at_the_terminals_edge(void **state)
{
    (void)state;
    struct table t = {0};
    table_column(&t, "NAME", false);
    table_column(&t, "WHY", false);
    table_cell(&t, TINT_NONE, "job");
    table_cell(&t, TINT_NONE, "waits for two nodes that are not ready");
    char *text = printed(&t, 20);
    assert_string_equal(text, "NAME  WHY\njob   waits for two…\n");
    free(text);
}

static void characters_count_not_bytes(void **state)
{
    (void)state;
    struct table t = {0};
    table_column(&t, "NAME", false);
    table_column(&t, "N", true);
    table_cell(&t, TINT_NONE, "größe");
    table_cell(&t, TINT_NONE, "1");
    table_cell(&t, TINT_NONE, "plain");
    table_cell(&t, TINT_NONE, "2");
    char *text = printed(&t, 0);
    assert_string_equal(text, "NAME   N\ngröße  1\nplain  2\n");
    free(text);
}

static void there_are_no_colours_on_a_pipe(void **state)
{
    (void)state;
    assert_string_equal(tint_on(TINT_RED), "");
    assert_string_equal(tint_off(), "");
    assert_int_equal(tint_of_state("running"), TINT_GREEN);
    assert_int_equal(tint_of_state("failed"), TINT_RED);
    assert_int_equal(tint_of_state("no such state"), TINT_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_are_as_wide_as_their_longest_cell), cmocka_unit_test(a_table_without_rows_prints_nothing),
        cmocka_unit_test(the_last_column_ends_at_the_terminals_edge), cmocka_unit_test(characters_count_not_bytes),
        cmocka_unit_test(there_are_no_colours_on_a_pipe)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
