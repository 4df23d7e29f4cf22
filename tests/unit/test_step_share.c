/* SPDX-License-Identifier: Apache-2.0 */

/* What ranks share, between two steps over a mesh that loses frames. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/step/share.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

#define NODES 2u
#define NPROC 2u
#define LATE_NS (UINT64_C(60) * NS_PER_S)

struct world;
struct place {
    struct world *world;
    struct step_spec spec;
    struct share *share;
    bool answered[NODES * NPROC];
    enum tide_status status;
    struct share_value value;
};
struct world {
    struct place nodes[NODES];
    unsigned lose, lose_replies, frames;
};

static bool op_send(void *context, const struct mesh_frame *frame)
{
    struct world *w = ((struct place *)context)->world;
    w->frames++;
    unsigned *lose = frame->kind == MESH_SHARE_REPLY ? &w->lose_replies : &w->lose;
    if (*lose > 0) {
        --*lose;
        return true;
    }
    share_frame(w->nodes[frame->to].share, frame);
    return true;
}

static void op_answer(void *context, uint32_t rank, enum tide_status status, const struct share_value *value)
{
    struct place *node = context;
    assert_true((value != NULL) == (status == TIDE_OK));
    node->answered[rank] = true;
    node->status = status;
    if (value)
        node->value = *value;
}

static void world_init(struct world *w)
{
    memset(w, 0, sizeof *w);
    for (uint32_t n = 0; n < NODES; n++) {
        struct place *node = &w->nodes[n];
        node->world = w;
        node->spec.node_rank = n;
        node->spec.generation = 3;
        node->spec.job.nproc_per_node = NPROC;
        node->spec.peers.count = NODES;
        text_copy(node->spec.uid, sizeof node->spec.uid, "0123456789abcdef");
        text_copy(node->spec.token, sizeof node->spec.token, "secret");
        struct share_ops ops = {.context = node, .send = op_send, .answer = op_answer};
        node->share = share_create(&node->spec, &ops);
    }
}

static void world_release(struct world *w)
{
    for (uint32_t n = 0; n < NODES; n++)
        share_free(w->nodes[n].share);
}

static struct share_value of_rank(uint32_t rank, const char *bytes)
{
    struct share_value value = {.rank = rank, .name = "nccl", .bytes = (uint32_t)strlen(bytes)};
    memcpy(value.data, bytes, strlen(bytes));
    return value;
}

static void test_all_nodes_get_what_is_given_before_or_behind(void **state)
{
    struct world w;
    (void)state;
    world_init(&w);
    share_ask(w.nodes[1].share, 2, 0, "nccl", LATE_NS, 1);
    share_ask(w.nodes[0].share, 1, 0, "nccl", LATE_NS, 1);
    assert_false(share_settled(w.nodes[1].share));
    assert_int_equal(share_give(w.nodes[0].share, &(struct share_value){.rank = 0, .name = "other"}), TIDE_OK);
    assert_false(w.nodes[1].answered[2]);
    struct share_value id = of_rank(0, "an id");
    assert_int_equal(share_give(w.nodes[0].share, &id), TIDE_OK);
    assert_true(w.nodes[1].answered[2] && w.nodes[0].answered[1] && share_settled(w.nodes[1].share));
    assert_memory_equal(w.nodes[1].value.data, "an id", 5);
    share_ask(w.nodes[1].share, 3, 0, "nccl", LATE_NS, 1);
    assert_true(w.nodes[1].answered[3] && w.nodes[1].value.bytes == 5);
    world_release(&w);
}

static void test_what_is_lost_is_asked_for_again(void **state)
{
    struct world w;
    (void)state;
    world_init(&w);
    struct share_value id = of_rank(1, "x");
    assert_int_equal(share_give(w.nodes[0].share, &id), TIDE_OK);
    w.lose = 1;
    share_ask(w.nodes[1].share, 3, 1, "nccl", LATE_NS, 1);
    share_pump(w.nodes[1].share, SHARE_RESEND_MS * NS_PER_MS / 2);
    assert_int_equal(w.frames, 1);
    w.lose_replies = 1;
    share_pump(w.nodes[1].share, SHARE_RESEND_MS * NS_PER_MS * 2);
    assert_true(w.frames == 3 && w.lose == 0 && w.lose_replies == 0);
    assert_false(w.nodes[1].answered[3]);
    share_reconnected(w.nodes[1].share);
    share_pump(w.nodes[1].share, SHARE_RESEND_MS * NS_PER_MS * 2 + 1);
    assert_true(w.nodes[1].answered[3] && w.nodes[1].status == TIDE_OK);
    world_release(&w);
}

static void test_who_waits_in_vain_is_told(void **state)
{
    struct world w;
    (void)state;
    world_init(&w);
    share_ask(w.nodes[1].share, 2, 0, "nccl", NS_PER_S, 1);
    share_ask(w.nodes[1].share, 3, 2, "nccl", NS_PER_S, 1); /* of its own node */
    share_pump(w.nodes[1].share, NS_PER_S - 1);
    assert_false(w.nodes[1].answered[2]);
    share_pump(w.nodes[1].share, NS_PER_S);
    assert_true(w.nodes[1].answered[2] && w.nodes[1].answered[3] && w.nodes[1].status == TIDE_E_TIMEOUT);
    share_ask(w.nodes[0].share, 0, 99, "nccl", NS_PER_S, 1);
    assert_true(w.nodes[0].answered[0] && w.nodes[0].status == TIDE_E_INVALID);
    world_release(&w);
}

static void test_a_name_is_given_once(void **state)
{
    struct world w;
    (void)state;
    world_init(&w);
    struct share_value id = of_rank(0, "x"), other = of_rank(0, "y"), another = of_rank(1, "y");
    assert_int_equal(share_give(w.nodes[0].share, &id), TIDE_OK);
    assert_int_equal(share_give(w.nodes[0].share, &id), TIDE_OK);
    assert_int_equal(share_give(w.nodes[0].share, &other), TIDE_E_EXISTS);
    assert_int_equal(share_give(w.nodes[0].share, &another), TIDE_OK);
    for (unsigned i = 2; i < TIDE_SHARES_MAX; i++) {
        struct share_value value = {.rank = 0};
        snprintf(value.name, sizeof value.name, "n%u", i);
        assert_int_equal(share_give(w.nodes[0].share, &value), TIDE_OK);
    }
    assert_int_equal(share_give(w.nodes[0].share, &(struct share_value){.rank = 0, .name = "more"}), TIDE_E_LIMIT);
    world_release(&w);
}

static void test_who_has_gone_is_not_answered(void **state)
{
    struct world w;
    struct share_value first = of_rank(0, "x"), second = {.rank = 0, .name = "second", .bytes = 1, .data = "y"};
    (void)state;
    world_init(&w);
    share_ask(w.nodes[0].share, 1, 0, "nccl", LATE_NS, 1);
    share_ask(w.nodes[1].share, 2, 0, "nccl", LATE_NS, 1);
    share_ask(w.nodes[1].share, 3, 0, "nccl", LATE_NS, 1);
    share_forget(w.nodes[0].share, 1);
    share_forget(w.nodes[1].share, 2);
    share_forget(w.nodes[1].share, 2);
    assert_true(share_settled(w.nodes[0].share) && !share_settled(w.nodes[1].share));
    share_ask(w.nodes[1].share, 3, 0, "second", LATE_NS, 2); /* instead */
    assert_int_equal(share_give(w.nodes[0].share, &first), TIDE_OK);
    assert_false(w.nodes[0].answered[1] || w.nodes[1].answered[2] || w.nodes[1].answered[3]);
    assert_int_equal(share_give(w.nodes[0].share, &second), TIDE_OK);
    assert_true(w.nodes[1].answered[3] && !w.nodes[1].answered[2]);
    assert_string_equal(w.nodes[1].value.name, "second");
    world_release(&w);
}

static struct mesh_frame question(const char *uid, const char *token, uint64_t generation, uint32_t from, uint32_t to)
{
    static char name[] = "nccl";
    struct mesh_frame frame = {
        .generation = generation, .from = from, .to = to, .kind = MESH_SHARE_ASK, .id = 1, .data = name};
    text_copy(frame.uid, sizeof frame.uid, uid);
    text_copy(frame.token, sizeof frame.token, token);
    return frame;
}

static void test_frames_of_others_are_passed_over(void **state)
{
    struct world w;
    const char *uid = "0123456789abcdef";
    (void)state;
    world_init(&w);
    struct share_value id = of_rank(0, "x");
    assert_int_equal(share_give(w.nodes[0].share, &id), TIDE_OK);
    struct mesh_frame strange[] = {question("fedcba9876543210", "secret", 3, 1, 0), /* of another job */
                                   question(uid, "guess", 3, 1, 0),
                                   question(uid, "", 3, 1, 0),
                                   question(uid, "secret", 2, 1, 0), /* generation */
                                   question(uid, "secret", 3, NODES, 0),
                                   question(uid, "secret", 3, 0, 0),
                                   question(uid, "secret", 3, 1, 1)}; /* not to this node */
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        share_frame(w.nodes[0].share, &strange[i]);
        assert_int_equal(w.frames, 0);
    }
    struct mesh_frame frame = question(uid, "secret", 3, 1, 0);
    share_frame(w.nodes[0].share, &frame);
    assert_int_equal(w.frames, 1);
    frame.kind = MESH_SHARE_REPLY; /* nobody has asked */
    share_frame(w.nodes[0].share, &frame);
    assert_false(w.nodes[0].answered[0] || w.nodes[0].answered[1] || w.nodes[1].answered[2]);
    world_release(&w);
}

/* What cannot be read is as if it were lost. */
static void test_a_reply_that_is_damaged_is_none(void **state)
{
    struct world w;
    char damaged[] = "no base64";
    (void)state;
    world_init(&w);
    share_ask(w.nodes[1].share, 2, 0, "nccl", LATE_NS, 1);
    struct mesh_frame frame = mesh_frame_to(&w.nodes[0].spec, 1, MESH_SHARE_REPLY);
    frame.id = 1;
    frame.data = damaged;
    share_frame(w.nodes[1].share, &frame);
    assert_true(!w.nodes[1].answered[2] && !share_settled(w.nodes[1].share));
    struct share_value id = of_rank(0, "x");
    assert_int_equal(share_give(w.nodes[0].share, &id), TIDE_OK);
    assert_true(w.nodes[1].answered[2] && w.nodes[1].status == TIDE_OK);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_nodes_get_what_is_given_before_or_behind),
                                       cmocka_unit_test(test_what_is_lost_is_asked_for_again),
                                       cmocka_unit_test(test_who_waits_in_vain_is_told),
                                       cmocka_unit_test(test_a_name_is_given_once),
                                       cmocka_unit_test(test_who_has_gone_is_not_answered),
                                       cmocka_unit_test(test_frames_of_others_are_passed_over),
                                       cmocka_unit_test(test_a_reply_that_is_damaged_is_none)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
