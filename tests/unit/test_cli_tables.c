/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "coordinator/cli/command.h"
#include "coordinator/cli/exits.h"

/* What must be true of the tables themselves. */

static void exit_codes_are_unique_and_explained(void **state)
{
    (void)state;
    for (const struct exit_row *a = exit_rows; a->meaning != NULL; a++) {
        assert_in_range(a->number, 0, 255);
        assert_true(strlen(a->meaning) > 8);
        for (const struct exit_row *b = a + 1; b->meaning != NULL; b++)
            if (a->number == b->number)
                fail_msg("exit code %d stands twice", a->number);
    }
    /* Scripts count on these. */
    assert_int_equal(EXIT_CODE_OK, 0);
    assert_int_equal(EXIT_CODE_USAGE, 2);
    assert_int_equal(EXIT_CODE_NOT_FOUND, 3);
    assert_int_equal(EXIT_CODE_UNREACHABLE, 4);
    assert_int_equal(EXIT_CODE_DEADLINE, 5);
}

static void every_error_has_an_exit_code_of_the_list(void **state)
{
    (void)state;
    static const enum tide_status all[] = {
#define X(number, symbol, name, meaning) TIDE_E_##symbol,
        TIDE_STATUS_MAP(X)
#undef X
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        int code = exit_of_status(all[i]);
        assert_true((code == 0) == (all[i] == TIDE_OK));
        const struct exit_row *row = exit_rows;
        while (row->meaning != NULL && row->number != code)
            row++;
        assert_non_null(row->meaning);
    }
}

static void options_of_a_command_are_unique_and_explained(void **state)
{
    (void)state;
    for (size_t c = 0; c < command_count; c++) {
        const struct option *all[128];
        size_t count = 0;
        const struct option_set *set = &commands[c].set;
        for (size_t t = 0; t < TABLES_MAX && set->tables[t] != NULL; t++)
            for (size_t i = 0; i < set->tables[t]->count; i++)
                all[count++] = &set->tables[t]->rows[i];
        assert_in_range(count, 1, 96);
        for (size_t i = 0; i < count; i++) {
            assert_non_null(all[i]->help);
            assert_null(strchr(all[i]->name, '_'));
            assert_true((all[i]->kind == OPTION_FLAG) <= (all[i]->value == NULL));
            assert_true(all[i]->kind != OPTION_CHOICE || all[i]->choices != NULL);
            for (size_t k = i + 1; k < count; k++) {
                if (strcmp(all[i]->name, all[k]->name) == 0)
                    fail_msg("%s has --%s twice", commands[c].name, all[i]->name);
                if (all[i]->letter && all[i]->letter == all[k]->letter)
                    fail_msg("%s has -%c twice", commands[c].name, all[i]->letter);
            }
        }
    }
}

/* The presets are texts; one that is not valid would break its command for everybody. */
static void every_command_reads_an_empty_line(void **state)
{
    (void)state;
    for (size_t c = 0; c < command_count; c++) {
        struct options options;
        struct strlist args = {0}, notes = {0};
        struct err err = {0};
        char *none[] = {NULL};
        if (options_parse(&commands[c].set, 0, none, NULL, &options, &args, &notes, &err) != TIDE_OK)
            fail_msg("%s: %s", commands[c].name, err.text);
        assert_int_equal(notes.count, 0);
        options_release(&options);
    }
}

static char *printed(void (*print)(FILE *to, const void *what), const void *what)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *to = open_memstream(&text, &bytes);
    assert_non_null(to);
    print(to, what);
    fclose(to);
    return text;
}

static void print_help(FILE *to, const void *what)
{
    help_command(to, what);
}

static void print_man(FILE *to, const void *what)
{
    (void)what;
    man_page(to);
}

static void help_and_man_page_name_every_option(void **state)
{
    (void)state;
    char *man = printed(print_man, NULL);
    for (size_t c = 0; c < command_count; c++) {
        if (commands[c].hidden)
            continue;
        char *help = printed(print_help, &commands[c]);
        for (size_t t = 0; t < TABLES_MAX && commands[c].set.tables[t] != NULL; t++)
            for (size_t i = 0; i < commands[c].set.tables[t]->count; i++) {
                const struct option *row = &commands[c].set.tables[t]->rows[i];
                char plain[80], roff[160], *p = roff;
                snprintf(plain, sizeof plain, "--%s", row->name);
                for (const char *q = plain; *q != '\0'; q++) {
                    if (*q == '-')
                        *p++ = '\\';
                    *p++ = *q;
                }
                *p = '\0';
                if (!row->hidden && row->kind != OPTION_REFUSED && strstr(help, plain) == NULL)
                    fail_msg("the help of %s does not tell %s", commands[c].name, plain);
                if (!row->hidden && strstr(man, roff) == NULL)
                    fail_msg("the man page does not tell %s", roff);
            }
        for (const char *line = help; line != NULL && *line != '\0';
             line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
            if (strcspn(line, "\n") > 110)
                fail_msg("the help of %s has a line of %zu characters", commands[c].name, strcspn(line, "\n"));
        free(help);
    }
    for (const struct exit_row *row = exit_rows; row->meaning != NULL; row++) {
        char number[32];
        snprintf(number, sizeof number, ".B %d\n", row->number);
        assert_non_null(strstr(man, number));
    }
    free(man);
}

static void commands_are_found_by_their_words(void **state)
{
    (void)state;
    int taken;
    assert_string_equal(command_find(3, (char *[]){"job", "list", "-o", NULL}, &taken)->name, "list");
    assert_int_equal(taken, 2);
    assert_string_equal(command_find(2, (char *[]){"run", "x", NULL}, &taken)->name, "run");
    assert_int_equal(taken, 1);
    assert_null(command_find(1, (char *[]){"job", NULL}, &taken));
    assert_int_equal(taken, 1);
    assert_null(command_find(1, (char *[]){"list", NULL}, &taken));
    assert_int_equal(taken, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(exit_codes_are_unique_and_explained),
                                       cmocka_unit_test(every_error_has_an_exit_code_of_the_list),
                                       cmocka_unit_test(options_of_a_command_are_unique_and_explained),
                                       cmocka_unit_test(every_command_reads_an_empty_line),
                                       cmocka_unit_test(help_and_man_page_name_every_option),
                                       cmocka_unit_test(commands_are_found_by_their_words)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
