/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ckpt/base/mem.h"
#include "ckpt/wire/view.h"

/* What is said of a job beside what is in the log. */

#define RANKS_MAX 40

/* In generation 3: of each rank the generation in which its process was started, a digit each; 0: its node has not told. */
struct born_case {
    const char *born, *text; /* NULL: nothing is said */
};

static const struct born_case cases[] = {
    {"1131", "ranks 0-1, 3 stayed in their processes, rank 2 was started anew"},
    {"1231", "ranks 0-1, 3 stayed in their processes, rank 2 was started anew"},
    {"13", "rank 0 stayed in its process, rank 1 was started anew"},
    {"331133", "ranks 2-3 stayed in their processes, ranks 0-1, 4-5 were started anew"},
    {"2222", "ranks 0-3 stayed in their processes"}, /* rolled back by hand */
    {"2200", "ranks 0-1 stayed in their processes"}, /* the other node is not heard */
    {"1313131313131313131313131313131313131313",
     "ranks 0, 2, 4, 6, 8, 10, 12, 14 and 12 more stayed in their processes, ranks 1, 3, 5, 7, 9, 11, 13, 15 and 12 more were started "
     "anew"},
    {"3333", NULL},
    {"0000", NULL},
    {"", NULL},
};

static void who_stayed_is_said(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rank_view ranks[RANKS_MAX] = {{0}};
        struct job_view view = {.job.generation = 3, .ranks = {.items = ranks, .count = strlen(cases[i].born)}};
        char text[ERR_TEXT_MAX] = "nothing";
        for (size_t r = 0; r < view.ranks.count; r++)
            ranks[r].report.born = (uint64_t)(cases[i].born[r] - '0');
        assert_int_equal(job_view_processes(&view, text, sizeof text), cases[i].text != NULL);
        assert_string_equal(text, cases[i].text != NULL ? cases[i].text : "nothing");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(who_stayed_is_said)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
