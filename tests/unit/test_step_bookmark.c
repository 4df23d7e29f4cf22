/* SPDX-License-Identifier: Apache-2.0 */

/* Bookmarks of ranks at a record, between three steps over a mesh that loses frames. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/step/bookmark.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

#define NODES 3u
#define NPROC 2u
#define RANKS (NODES * NPROC)
#define LATE_NS (UINT64_C(2) * NS_PER_S)

struct world;
struct place {
    struct world *world;
    struct step_spec spec;
    struct bookmarks *marks;
    unsigned answers[RANKS];
    enum tide_status status[RANKS];
    char why[TIDE_TEXT_MAX + 1];
};
struct world {
    struct place nodes[NODES];
    unsigned lose, lose_replies, asks, replies;
};

static const struct bookmark_key first = {.cut = 7, .attempt = 1}, second = {.cut = 7, .attempt = 2};

static bool op_send(void *context, const struct mesh_frame *frame)
{
    struct world *w = ((struct place *)context)->world;
    bool is_reply = frame->kind == MESH_MARKS;
    unsigned *lose = is_reply ? &w->lose_replies : &w->lose;
    ++*(is_reply ? &w->replies : &w->asks);
    if (*lose > 0)
        --*lose;
    else
        bookmarks_frame(w->nodes[frame->to].marks, frame);
    return true;
}

static void op_answer(void *context, uint32_t rank, enum tide_status status, const char *why)
{
    struct place *node = context;
    assert_true(rank < RANKS && rank / NPROC == node->spec.node_rank);
    node->answers[rank]++;
    node->status[rank] = status;
    text_copy(node->why, sizeof node->why, why);
}

static int setup(void **state)
{
    static struct world world;
    struct world *w = &world;
    *state = w;
    memset(w, 0, sizeof *w);
    for (uint32_t n = 0; n < NODES; n++) {
        struct place *node = &w->nodes[n];
        node->world = w;
        node->spec = (struct step_spec){.node_rank = n, .generation = 3};
        node->spec.job.nproc_per_node = NPROC;
        node->spec.peers.count = NODES;
        text_copy(node->spec.uid, sizeof node->spec.uid, "0123456789abcdef");
        text_copy(node->spec.token, sizeof node->spec.token, "secret");
        struct bookmark_ops ops = {.context = node, .send = op_send, .answer = op_answer};
        node->marks = bookmarks_create(&node->spec, &ops);
    }
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    for (uint32_t n = 0; n < NODES; n++)
        bookmarks_free(w->nodes[n].marks);
    return 0;
}

static struct place *node_of(struct world *w, uint32_t rank)
{
    return &w->nodes[rank / NPROC];
}

/* Every rank has sent `rank` messages to the next one of a ring. */
static void give(struct world *w, uint32_t rank, struct bookmark_key key)
{
    struct control_channel channel = {.comm = 9, .from = rank, .to = (rank + 1) % RANKS, .sent = rank};
    bookmarks_give(node_of(w, rank)->marks, rank, key, &channel, 1);
}

static void ask(struct world *w, uint32_t rank, struct bookmark_key key, uint64_t now)
{
    bookmarks_ask(node_of(w, rank)->marks, rank, key, LATE_NS, now);
}

/* What has been sent to that rank; UINT64_MAX: it is not there, or not once. */
static uint64_t sent_to(struct world *w, uint32_t rank)
{
    struct control_member member = {.comm = 9, .rank = rank};
    struct control_channel to[2];
    return bookmarks_to(node_of(w, rank)->marks, &member, 1, to, 2) == 1 ? to[0].sent : UINT64_MAX;
}

static void test_who_waits_has_all_when_all_have_given(void **state)
{
    struct world *w = *state;
    give(w, 3, first);
    ask(w, 3, first, 1);
    for (uint32_t r = 0; r < RANKS; r++)
        if (r != 3 && r != 4)
            give(w, r, first);
    assert_int_equal(w->nodes[1].answers[3], 0);
    assert_false(bookmarks_settled(w->nodes[1].marks));
    give(w, 4, first);
    assert_true(w->nodes[1].answers[3] == 1 && w->nodes[1].status[3] == TIDE_OK && bookmarks_settled(w->nodes[1].marks));
    assert_int_equal(sent_to(w, 3), 2);
    assert_int_equal(w->asks, 2); /* who does not wait asks nobody */
    give(w, 2, first);
    ask(w, 2, first, 1); /* all is here already */
    assert_int_equal(sent_to(w, 2), 1);
    assert_true(w->nodes[1].answers[2] == 1 && w->asks == 2);
    struct control_channel none[1];
    struct control_member both[] = {{.comm = 9, .rank = 3}, {.comm = 9, .rank = 2}}, other = {.comm = 8, .rank = 3};
    assert_int_equal(bookmarks_to(w->nodes[1].marks, both, 2, none, 1), 2);
    assert_int_equal(bookmarks_to(w->nodes[1].marks, &other, 1, none, 1), 0);
}

static void test_what_is_lost_is_asked_for_again(void **state)
{
    struct world *w = *state;
    for (uint32_t r = 0; r < RANKS; r++)
        give(w, r, first);
    w->lose = 1;
    w->lose_replies = 1;
    ask(w, 0, first, 1);
    bookmarks_pump(w->nodes[0].marks, BOOKMARK_RESEND_MS * NS_PER_MS / 2);
    assert_true(w->asks == 2 && w->replies == 1 && w->nodes[0].answers[0] == 0);
    bookmarks_pump(w->nodes[0].marks, BOOKMARK_RESEND_MS * NS_PER_MS * 2);
    assert_true(w->asks == 4 && w->nodes[0].answers[0] == 1 && w->nodes[0].status[0] == TIDE_OK);
    w->lose = 4;
    give(w, 1, second);
    give(w, 0, second);
    ask(w, 0, second, NS_PER_S);
    for (uint32_t r = 2; r < RANKS; r++)
        give(w, r, second);
    bookmarks_reconnected(w->nodes[0].marks);
    bookmarks_pump(w->nodes[0].marks, NS_PER_S + 1);
    assert_int_equal(w->nodes[0].answers[0], 1);
    bookmarks_reconnected(w->nodes[0].marks);
    bookmarks_pump(w->nodes[0].marks, NS_PER_S + 2);
    assert_int_equal(w->nodes[0].answers[0], 2);
}

static void test_who_is_missing_is_named(void **state)
{
    struct world *w = *state;
    give(w, 0, first);
    ask(w, 0, first, 1);
    bookmarks_pump(w->nodes[0].marks, LATE_NS - 1);
    assert_int_equal(w->nodes[0].answers[0], 0);
    bookmarks_pump(w->nodes[0].marks, LATE_NS);
    assert_true(w->nodes[0].answers[0] == 1 && w->nodes[0].status[0] == TIDE_E_TIMEOUT);
    assert_non_null(strstr(w->nodes[0].why, "rank 1 has not come"));
    give(w, 1, first);
    ask(w, 0, first, 2);
    for (uint32_t r = 2; r < RANKS - 1; r++)
        give(w, r, first);
    bookmarks_pump(w->nodes[0].marks, LATE_NS);
    assert_non_null(strstr(w->nodes[0].why, "the ranks of node 2 "));
    assert_true(bookmarks_settled(w->nodes[0].marks));
}

/* Of a record that was given up some ranks may still say what belongs to it. */
static void test_an_older_record_is_over(void **state)
{
    struct world *w = *state;
    give(w, 0, first);
    give(w, 1, first);
    ask(w, 1, first, 1);
    give(w, 0, second);
    assert_true(w->nodes[0].answers[1] == 1 && w->nodes[0].status[1] == TIDE_E_STALE);
    give(w, 1, first);
    ask(w, 1, first, 1);
    assert_true(w->nodes[0].answers[1] == 2 && w->nodes[0].status[1] == TIDE_E_STALE);
    for (uint32_t r = 2; r < RANKS; r++)
        give(w, r, first); /* node 0 has asked for these */
    ask(w, 0, second, 1);
    static const uint32_t order[] = {4, 5, 2, 3, 1};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        assert_int_equal(w->nodes[0].answers[0], 0);
        give(w, order[i], second);
        if (i == 1)
            bookmarks_reconnected(w->nodes[0].marks);
        bookmarks_pump(w->nodes[0].marks, 2);
    }
    assert_true(w->nodes[0].answers[0] == 1 && w->nodes[0].status[0] == TIDE_OK);
    bookmarks_forget(w->nodes[0].marks, 1);
    assert_true(bookmarks_settled(w->nodes[0].marks));
}

static void test_who_has_gone_is_not_answered(void **state)
{
    struct world *w = *state;
    give(w, 0, first);
    ask(w, 0, first, 1);
    bookmarks_forget(w->nodes[0].marks, 0);
    for (uint32_t r = 1; r < RANKS; r++)
        give(w, r, first);
    bookmarks_pump(w->nodes[0].marks, LATE_NS);
    assert_int_equal(w->nodes[0].answers[0], 0);
}

static void test_frames_of_others_are_passed_over(void **state)
{
    struct world *w = *state;
    char damaged[] = "AAAA";
    for (uint32_t r = 0; r < NPROC; r++)
        give(w, r, first);
    struct mesh_frame frame = mesh_frame_to(&w->nodes[1].spec, 0, MESH_MARKS_ASK);
    frame.id = first.cut;
    frame.sequence = first.attempt;
    frame.token[0] = 'x';
    bookmarks_frame(w->nodes[0].marks, &frame);
    assert_int_equal(w->replies, 0);
    ask(w, 0, first, 1);
    frame = mesh_frame_to(&w->nodes[2].spec, 0, MESH_MARKS);
    frame.id = first.cut;
    frame.sequence = first.attempt;
    frame.data = damaged; /* three bytes are no channel */
    bookmarks_frame(w->nodes[0].marks, &frame);
    frame.data = NULL;
    frame.id = first.cut - 1; /* late, and of no channels */
    bookmarks_frame(w->nodes[0].marks, &frame);
    for (uint32_t r = NPROC; r < RANKS; r++)
        give(w, r, first);
    assert_true(w->nodes[0].answers[0] == 1 && w->nodes[0].status[0] == TIDE_OK && sent_to(w, 0) == RANKS - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_waits_has_all_when_all_have_given, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_lost_is_asked_for_again, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_is_missing_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(test_an_older_record_is_over, setup, teardown),
        cmocka_unit_test_setup_teardown(test_who_has_gone_is_not_answered, setup, teardown),
        cmocka_unit_test_setup_teardown(test_frames_of_others_are_passed_over, setup, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
