/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "coordinator/cli/command.h"

/* The first words of all lines offered, with blanks between them. */
static const char *offered(char **words)
{
    static char all[8192];
    char *text = NULL;
    size_t bytes = 0;
    int count = 0;
    while (words[count] != NULL)
        count++;
    FILE *to = open_memstream(&text, &bytes);
    assert_non_null(to);
    complete_words(to, count, words);
    fclose(to);
    size_t n = 0;
    all[0] = '\0';
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL;) {
        line[strcspn(line, "\t")] = '\0';
        if (line[0] == '\0')
            continue;
        n += (size_t)snprintf(all + n, sizeof all - n, "%s%s", n ? " " : "", line);
    }
    free(text);
    return all;
}

#define OFFERED(...) offered((char *[]){__VA_ARGS__, NULL})

static void commands_come_first(void **state)
{
    (void)state;
    assert_string_equal(OFFERED(""), "run job ckpt store rollback node cluster token completion help version");
    assert_string_equal(OFFERED("c"), "ckpt cluster completion");
    assert_string_equal(OFFERED("job", ""), "list show logs wait cancel explain events");
    assert_string_equal(OFFERED("job", "e"), "explain events");
    assert_string_equal(OFFERED("job"), "job"); /* not finished yet */
    assert_string_equal(OFFERED("nonsense", ""), "");
}

static void options_follow_a_dash(void **state)
{
    (void)state;
    assert_string_equal(OFFERED("rollback", "x", "--s"), "--steps");
    assert_string_equal(OFFERED("job", "logs", "x", "--st"), "--stream");
    assert_string_equal(OFFERED("run", "--max"), "--max-restarts");
    assert_null(strstr(OFFERED("run", "--"), "--rdzv"));
    assert_null(strstr(OFFERED("help", "--"), "--man"));
}

static void values_follow_their_option(void **state)
{
    (void)state;
    assert_string_equal(OFFERED("job", "list", "-o", ""), "table json wide name");
    assert_string_equal(OFFERED("job", "list", "--output", "j"), "json");
    assert_string_equal(OFFERED("job", "list", "--output=j"), "--output=json");
    assert_string_equal(OFFERED("job", "list", "--output", "=", "j"), "json"); /* as bash splits it */
    assert_string_equal(OFFERED("job", "list", "--output", "="), "table json wide name");
    assert_string_equal(OFFERED("run", "--cwd", ""), ":dirs");
    assert_string_equal(OFFERED("run", "--name", ""), "");
}

static void words_follow_what_the_command_is_about(void **state)
{
    (void)state;
    assert_string_equal(OFFERED("job", "show", ""), ":jobs");
    assert_string_equal(OFFERED("job", "show", "-o", "json", "f"), ":jobs");
    assert_string_equal(OFFERED("job", "show", "fashion", ""), "");
    assert_string_equal(OFFERED("ckpt", "show", "f"), ":ckpts");
    assert_string_equal(OFFERED("node", "drain", ""), ":nodes");
    assert_string_equal(OFFERED("completion", "z"), "zsh");
    assert_string_equal(OFFERED("run", "-n", "4", ""), ":files");
    assert_string_equal(OFFERED("run", "-n", "4", "train", "--x"), ":files"); /* the program's own */
}

static void there_is_a_script_for_each_shell(void **state)
{
    (void)state;
    static const char *const shells[] = {"bash", "zsh", "fish"};
    char *text = NULL;
    size_t bytes = 0;
    for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++) {
        FILE *to = open_memstream(&text, &bytes);
        assert_int_equal(complete_script(to, shells[i]), 0);
        fclose(to);
        assert_non_null(strstr(text, "__complete --"));
        free(text);
    }
    assert_int_not_equal(complete_script(stderr, "tcsh"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(commands_come_first), cmocka_unit_test(options_follow_a_dash),
                                       cmocka_unit_test(values_follow_their_option),
                                       cmocka_unit_test(words_follow_what_the_command_is_about),
                                       cmocka_unit_test(there_is_a_script_for_each_shell)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
