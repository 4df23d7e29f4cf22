/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>
#include <tidemark/types.h>

#include "ckpt/base/mem.h"
#include "coordinator/core/hang.h"

/* Whom the others wait for, by what each rank has entered, come to and completed; and who is not to blame. */

#define ROWS_MAX 8

enum { MESSAGES = 1, RECORDS = 2 }; /* also */

struct row {
    uint32_t rank;
    const char *comm;
    uint32_t size;
    uint64_t begun, reached, unreached, done, undone;
    unsigned also;
};

struct hang_case {
    const char *what;
    uint32_t world;
    struct row rows[ROWS_MAX];
    enum hang_kind kind;
    const char *blamed; /* ranks, one character each */
    const char *text;   /* a part of the sentence about the first */
};

static const struct hang_case cases[] = {
    {"a rank has not entered what the others wait in",
     3,
     {{0, "a", 3, 61, 61, 0, 60, 61, 0}, {1, "a", 3, 60, 60, 0, 60, 0, 0}, {2, "a", 3, 61, 61, 0, 60, 61, 0}},
     HANG_NOT_ENTERED,
     "1",
     "rank 1 has entered 60 collectives of communicator a, others 61"},
    {"two have not",
     3,
     {{0, "a", 3, 61, 61, 0, 60, 61, 0}, {1, "a", 3, 60, 0, 0, 60, 0, 0}, {2, "a", 3, 60, 0, 0, 60, 0, 0}},
     HANG_NOT_ENTERED,
     "12",
     ""},
    {"those that are in a checkpoint wait for what is in their streams, and one has not entered it",
     3,
     {{0, "a", 3, 61, 61, 0, 60, 61, RECORDS},
      {1, "a", 3, 60, 60, 0, 60, 0, 0},
      {2, "a", 3, 61, 61, 0, 60, 61, RECORDS}},
     HANG_NOT_ENTERED,
     "1",
     "rank 1 has entered 60 collectives of communicator a, others 61"},
    {"nothing is known of the devices", 2, {{0, "a", 2, 4, 0, 0, 0, 0, 0}, {1, "a", 2, 3, 0, 0, 0, 0, 0}}, HANG_NOT_ENTERED, "1", ""},
    {"who is behind since he waits elsewhere is not to blame",
     3,
     {{0, "a", 3, 9, 0, 0, 0, 0, 0},
      {1, "a", 3, 8, 0, 0, 0, 0, 0},
      {1, "b", 2, 5, 0, 0, 0, 0, 0},
      {2, "a", 3, 8, 0, 0, 0, 0, 0},
      {2, "b", 2, 4, 0, 0, 0, 0, 0}},
     HANG_NOT_ENTERED,
     "2",
     ""},
    {"all have entered it, and one's stream has not come to it",
     3,
     {{0, "a", 3, 60, 60, 0, 59, 60, 0}, {1, "a", 3, 60, 60, 0, 59, 60, 0}, {2, "a", 3, 60, 59, 60, 59, 60, 0}},
     HANG_NOT_REACHED,
     "2",
     "rank 2 has entered collective 60 of communicator a, but what is before it in its stream does not end"},
    {"the same, and the others' hosts are further",
     2,
     {{0, "a", 2, 61, 60, 61, 59, 60, 0}, {1, "a", 2, 60, 59, 60, 59, 60, 0}},
     HANG_NOT_REACHED,
     "1",
     ""},
    {"one has not completed what all others have",
     2,
     {{0, "a", 2, 60, 60, 0, 60, 0, 0}, {1, "a", 2, 60, 60, 0, 59, 60, 0}},
     HANG_NOT_DONE,
     "1",
     "rank 1 has not completed collective 60 of communicator a, and all others have"},
    {"all have come to it, and it does not complete",
     2,
     {{0, "a", 2, 60, 60, 0, 59, 60, 0}, {1, "a", 2, 60, 60, 0, 59, 60, 0}},
     HANG_INSIDE,
     "",
     "all 2 members of communicator a have entered collective 60, and it does not complete, rank 0 has entered 60 and completed 59, "
     "rank 1 has entered 60 and completed 59"},
    {"the same, and one's host is further",
     2,
     {{0, "a", 2, 62, 60, 0, 59, 60, 0}, {1, "a", 2, 61, 60, 0, 59, 60, 0}},
     HANG_INSIDE,
     "",
     "all 2 members of communicator a have entered collective 60, and it does not complete"},
    {"who is behind is inside of another one",
     3,
     {{0, "a", 2, 5, 5, 0, 4, 5, 0}, {1, "a", 2, 4, 4, 0, 4, 0, 0}, {1, "b", 2, 7, 7, 0, 6, 7, 0}, {2, "b", 2, 7, 7, 0, 6, 7, 0}},
     HANG_INSIDE,
     "",
     "all 2 members of communicator b have entered collective 7"},
    {"they wait for each other in a circle",
     2,
     {{0, "a", 2, 5, 0, 0, 0, 0, 0}, {1, "a", 2, 4, 0, 0, 0, 0, 0}, {0, "b", 2, 7, 0, 0, 0, 0, 0}, {1, "b", 2, 8, 0, 0, 0, 0, 0}},
     HANG_CROSSED,
     "",
     "ranks wait for each other in different communicators; of a, rank 0 has entered 5"},
    /* what must not alarm */
    {"all are equal, and nothing is under way: they compile, or replay a graph",
     2,
     {{0, "a", 2, 60, 60, 0, 60, 0, 0}, {1, "a", 2, 60, 60, 0, 60, 0, 0}},
     HANG_NONE,
     "",
     ""},
    {"nobody has entered anything", 2, {{0, "a", 2, 0, 0, 0, 0, 0, 0}, {1, "a", 2, 0, 0, 0, 0, 0, 0}}, HANG_NONE, "", ""},
    {"who is behind is in a checkpoint",
     2,
     {{0, "a", 2, 61, 61, 0, 60, 61, 0}, {1, "a", 2, 60, 60, 0, 60, 0, RECORDS}},
     HANG_NONE,
     "",
     ""},
    {"all have entered it, and one is in a checkpoint",
     2,
     {{0, "a", 2, 60, 60, 0, 59, 60, 0}, {1, "a", 2, 60, 60, 0, 59, 60, RECORDS}},
     HANG_NONE,
     "",
     ""},
    {"who is behind may wait for a message of one that is in a checkpoint",
     2,
     {{0, "a", 2, 61, 61, 0, 60, 61, RECORDS}, {1, "a", 2, 60, 60, 0, 60, 0, MESSAGES}},
     HANG_NONE,
     "",
     ""},
    {"a rank says nothing: it has no NCCL",
     3,
     {{0, "a", 2, 61, 61, 0, 60, 61, 0}, {1, "a", 2, 60, 60, 0, 60, 0, 0}},
     HANG_NONE,
     "",
     ""},
    {"one that is not known to the end blames nobody",
     2,
     {{0, "a", 3, 61, 61, 0, 60, 61, 0}, {1, "a", 3, 60, 60, 0, 60, 0, 0}},
     HANG_NONE,
     "",
     ""},
    {"… nor does what is inside of it", 2, {{0, "a", 3, 60, 60, 0, 59, 60, 0}, {1, "a", 3, 60, 60, 0, 59, 60, 0}}, HANG_NONE, "", ""},
    {"events that were not recorded are no proof",
     2,
     {{0, "a", 2, 60, 60, 0, 59, 60, 0}, {1, "a", 2, 60, 0, 0, 0, 60, 0}},
     HANG_INSIDE,
     "",
     ""},
    {"of two that pass messages one may wait for the other",
     3,
     {{0, "a", 3, 61, 61, 0, 60, 61, 0}, {1, "a", 3, 60, 0, 0, 60, 0, MESSAGES}, {2, "a", 3, 60, 0, 0, 60, 0, MESSAGES}},
     HANG_NONE,
     "",
     ""},
    {"one alone that does is to blame",
     2,
     {{0, "a", 2, 61, 61, 0, 60, 61, MESSAGES}, {1, "a", 2, 60, 60, 0, 60, 0, MESSAGES}},
     HANG_NOT_ENTERED,
     "1",
     ""},
    /* several members in one process */
    {"one of them has not come to what the other one is inside of",
     2,
     {{0, "a", 4, 60, 60, 0, 59, 60, 0},
      {0, "a", 4, 60, 60, 0, 59, 60, 0},
      {1, "a", 4, 60, 60, 0, 59, 60, 0},
      {1, "a", 4, 60, 59, 60, 59, 60, 0}},
     HANG_NOT_REACHED,
     "1",
     "rank 1 has entered collective 60 of communicator a, but what is before it in its stream does not end"},
    {"one of them has not entered what the other one is inside of",
     2,
     {{1, "a", 4, 60, 60, 0, 59, 60, 0},
      {0, "a", 4, 60, 60, 0, 59, 60, 0},
      {0, "a", 4, 59, 59, 0, 59, 0, 0},
      {1, "a", 4, 60, 60, 0, 59, 60, 0}},
     HANG_NOT_ENTERED,
     "0",
     "rank 0 has entered 59 collectives of communicator a, others 60"},
    {"and it is inside of another one, where it waits",
     2,
     {{0, "a", 4, 60, 60, 0, 59, 60, 0},
      {0, "a", 4, 60, 60, 0, 59, 60, 0},
      {1, "a", 4, 60, 60, 0, 59, 60, 0},
      {1, "a", 4, 60, 59, 60, 59, 60, 0},
      {0, "b", 2, 7, 7, 0, 6, 7, 0},
      {1, "b", 2, 7, 7, 0, 6, 7, 0}},
     HANG_INSIDE,
     "",
     "all 4 members of communicator a have entered collective 60"},
    {"who has not entered it with all of his members",
     1,
     {{0, "a", 2, 61, 0, 0, 0, 0, 0}, {0, "a", 2, 60, 0, 0, 0, 0, 0}},
     HANG_NOT_ENTERED,
     "0",
     ""},
    {"… however far each of them is",
     1,
     {{0, "a", 3, 61, 0, 0, 0, 0, 0}, {0, "a", 3, 60, 0, 0, 0, 0, 0}, {0, "a", 3, 59, 0, 0, 0, 0, 0}},
     HANG_NOT_ENTERED,
     "0",
     ""},
    {"who is alone in it is not behind others",
     1,
     {{0, "a", 1, 60, 60, 0, 59, 60, 0}},
     HANG_INSIDE,
     "",
     "all 1 members of communicator a have entered collective 60"},
    {"who has with all waits",
     2,
     {{0, "a", 4, 61, 0, 0, 0, 0, 0}, {0, "a", 4, 61, 0, 0, 0, 0, 0}, {1, "a", 4, 61, 0, 0, 0, 0, 0}, {1, "a", 4, 60, 0, 0, 0, 0, 0}},
     HANG_NOT_ENTERED,
     "1",
     ""},
};

static size_t rows_of(const struct hang_case *c, struct hang_row *to)
{
    size_t count = 0;
    for (const struct row *r = c->rows; count < ROWS_MAX && r->comm != NULL; r++)
        to[count++] = (struct hang_row){.rank = r->rank,
                                        .comm = r->comm,
                                        .name = r->comm,
                                        .size = r->size,
                                        .begun = r->begun,
                                        .reached = r->reached,
                                        .unreached = r->unreached,
                                        .done = r->done,
                                        .undone = r->undone,
                                        .messages = (r->also & MESSAGES) != 0,
                                        .recording = (r->also & RECORDS) != 0};
    return count;
}

static void reverse(struct hang_row *rows, size_t count)
{
    for (size_t i = 0; i < count / 2; i++) {
        struct hang_row row = rows[i];
        rows[i] = rows[count - 1 - i];
        rows[count - 1 - i] = row;
    }
}

static void assert_case(const struct hang_case *c, const struct hang_row *rows, size_t count, bool in_order)
{
    struct hang_verdict verdict;
    char text[256] = "", blamed[HANG_BLAMED_MAX + 1] = "";
    hang_find(rows, count, c->world, &verdict);
    for (size_t i = 0; i < verdict.count; i++)
        blamed[i] = (char)('0' + rows[verdict.blamed[i]].rank);
    if (verdict.kind != c->kind || strcmp(blamed, c->blamed) != 0)
        fail_msg("%s: it is said to be %d, of %s", c->what, (int)verdict.kind, blamed);
    if (c->kind == HANG_NONE)
        return;
    hang_text(rows, count, &verdict, verdict.blamed[0], text, sizeof text);
    if (in_order && strstr(text, c->text) == NULL)
        fail_msg("%s: the sentence is %s", c->what, text);
}

static void test_who_is_to_blame(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct hang_row rows[ROWS_MAX];
        size_t count = rows_of(&cases[i], rows);
        assert_case(&cases[i], rows, count, true);
        reverse(rows, count);
        assert_case(&cases[i], rows, count, false);
    }
}

#define PAIR 2u
#define LONG_S 10 /* of this processor's: a hundred times what it takes */

/* One is ahead of all others: the leader has other things to do than to look for each of these. */
static void test_of_as_many_as_there_may_be_all_but_one_are_late(void **state)
{
    static char ids[TIDE_RANKS_MAX / PAIR][17];
    struct hang_row *rows = mem_array(2 * (size_t)TIDE_RANKS_MAX, sizeof *rows);
    struct hang_verdict verdict;
    (void)state;
    for (uint32_t i = 0; i < TIDE_RANKS_MAX; i++) {
        char *id = ids[i / PAIR];
        snprintf(id, sizeof ids[0], "%016x", i / PAIR);
        rows[2 * i] = (struct hang_row){.rank = i, .comm = id, .name = id, .size = PAIR, .begun = 9};
        rows[2 * i + 1] = (struct hang_row){.rank = i, .comm = "all", .name = "all", .size = TIDE_RANKS_MAX, .begun = i == 0 ? 9 : 8};
    }
    clock_t began = clock();
    hang_find(rows, 2 * (size_t)TIDE_RANKS_MAX, TIDE_RANKS_MAX, &verdict);
    assert_true(clock() - began < LONG_S * CLOCKS_PER_SEC);
    assert_int_equal(verdict.kind, HANG_NOT_ENTERED);
    assert_int_equal(verdict.count, TIDE_RANKS_MAX - 1);
    assert_int_equal(verdict.op, 9);
    for (uint32_t i = 0; i < HANG_BLAMED_MAX; i++)
        assert_int_equal(verdict.blamed[i], 2 * (i + 1) + 1);
    mem_free(rows);
}

static void test_of_many_not_all_are_named(void **state)
{
    struct hang_row rows[64];
    struct hang_verdict verdict;
    char text[256];
    (void)state;
    for (uint32_t i = 0; i < 64; i++)
        rows[i] = (struct hang_row){.rank = i, .comm = "a", .name = "a", .size = 64, .begun = 9, .reached = 9, .done = 8, .undone = 9};
    hang_find(rows, 64, 64, &verdict);
    assert_int_equal(verdict.kind, HANG_INSIDE);
    hang_text(rows, 64, &verdict, verdict.blamed[0], text, sizeof text);
    assert_non_null(strstr(text, "rank 0 has entered 9 and completed 8"));
    assert_non_null(strstr(text, " more"));
    hang_find(rows, 0, 64, &verdict);
    assert_int_equal(verdict.kind, HANG_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_who_is_to_blame), cmocka_unit_test(test_of_many_not_all_are_named),
                                       cmocka_unit_test(test_of_as_many_as_there_may_be_all_but_one_are_late)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
