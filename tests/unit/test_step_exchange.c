/* SPDX-License-Identifier: Apache-2.0 */
/* Fences and modex requests among three steps over a mesh that loses, repeats and delays frames. */
#include <pmix_common.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/step/base64.h"
#include "agent/step/exchange.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"

#define NODES 3u
#define NPROC 2u
#define PIPE_MAX 4096u
#define LIST 77u

struct answer {
    bool given;
    int32_t status;
    char *data;
    size_t bytes;
};

struct place {
    struct world *world;
    struct step_spec spec;
    struct exchange *exchange;
    bool connected;
    uint64_t fetch_key;
    uint32_t fetch_rank;
    unsigned fetches;
};

struct world {
    struct place nodes[NODES];
    struct mesh_frame pipe[PIPE_MAX];
    size_t count;
    struct rng rng;
    unsigned loss_percent;
    uint64_t now_ns;
    unsigned sent[MESH_KINDS];
};

static bool op_send(void *context, const struct mesh_frame *frame)
{
    struct place *node = context;
    struct world *w = node->world;
    if (!node->connected)
        return false;
    w->sent[frame->kind]++;
    if (rng_below(&w->rng, 100) < w->loss_percent)
        return true;
    assert_true(w->count < PIPE_MAX);
    codec_copy(&mesh_frame_codec, frame, &w->pipe[w->count++]);
    return true;
}

static void op_answer(void *context, void *request, int32_t status, char *data, size_t bytes)
{
    struct answer *answer = request;
    (void)context;
    assert_false(answer->given);
    *answer = (struct answer){.given = true, .status = status, .data = data, .bytes = bytes};
}

static int32_t op_fetch(void *context, uint64_t key, uint32_t rank)
{
    struct place *node = context;
    node->fetch_key = key;
    node->fetch_rank = rank;
    node->fetches++;
    return PMIX_SUCCESS;
}

static struct world *world_make(uint64_t seed)
{
    struct world *w = mem_alloc(sizeof *w);
    w->rng.state = seed;
    w->now_ns = 1;
    for (uint32_t i = 0; i < NODES; i++) {
        struct place *node = &w->nodes[i];
        node->world = w;
        node->connected = true;
        node->spec = (struct step_spec){.generation = 4, .node_rank = i, .uid = "00000000000000aa", .token = "tt"};
        node->spec.job.nproc_per_node = NPROC;
        for (uint32_t n = 0; n < NODES; n++)
            (void)!codec_list_add(&peer_codec, &node->spec.peers);
        struct exchange_ops ops = {.context = node, .send = op_send, .answer = op_answer, .fetch = op_fetch};
        node->exchange = exchange_create(&node->spec, &ops);
    }
    return w;
}

static void world_free(struct world *w)
{
    for (uint32_t i = 0; i < NODES; i++) {
        exchange_free(w->nodes[i].exchange);
        codec_release(&step_spec_codec, &w->nodes[i].spec);
    }
    for (size_t i = 0; i < w->count; i++)
        codec_release(&mesh_frame_codec, &w->pipe[i]);
    mem_free(w);
}

/* Deliver what is under way in random order, some of it twice. */
static void deliver(struct world *w)
{
    while (w->count > 0) {
        size_t i = rng_below(&w->rng, w->count);
        struct mesh_frame frame = w->pipe[i];
        w->pipe[i] = w->pipe[--w->count];
        unsigned times = 1 + (unsigned)rng_below(&w->rng, 2);
        for (unsigned n = 0; n < times; n++)
            exchange_frame(w->nodes[frame.to].exchange, &frame, w->now_ns);
        codec_release(&mesh_frame_codec, &frame);
    }
}

static void tick(struct world *w)
{
    w->now_ns += 100 * NS_PER_MS;
    for (uint32_t i = 0; i < NODES; i++)
        exchange_pump(w->nodes[i].exchange, w->now_ns);
    deliver(w);
}

static void begin(struct world *w, uint32_t node, struct answer *answer, const bool *members, int32_t status, const char *text)
{
    exchange_fence(w->nodes[node].exchange, answer, LIST, members, status, text, strlen(text), w->now_ns);
}

static void expect_answer(struct answer *answer, const char *text)
{
    assert_true(answer->given);
    assert_int_equal(answer->status, PMIX_SUCCESS);
    assert_int_equal(answer->bytes, strlen(text));
    assert_memory_equal(answer->data, text, strlen(text));
    mem_free(answer->data);
    *answer = (struct answer){0};
}

static const bool everybody[NODES] = {true, true, true};

static void fence_gathers_in_node_order(void **state)
{
    (void)state;
    struct world *w = world_make(1);
    struct answer answers[NODES] = {0};
    begin(w, 2, &answers[2], everybody, 0, "ccc");
    begin(w, 0, &answers[0], everybody, 0, "a");
    deliver(w);
    assert_false(answers[0].given);
    begin(w, 1, &answers[1], everybody, 0, "");
    deliver(w);
    for (uint32_t i = 0; i < NODES; i++) {
        expect_answer(&answers[i], "accc");
        assert_true(exchange_settled(w->nodes[i].exchange));
    }
    /* Nothing was lost, so nothing was said twice. */
    assert_int_equal(w->sent[MESH_FENCE], NODES * (NODES - 1));
    world_free(w);
}

static void fences_survive_loss(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct world *w = world_make(seed);
        w->loss_percent = 40;
        for (unsigned round = 0; round < 5; round++) {
            struct answer answers[NODES] = {0};
            for (uint32_t i = 0; i < NODES; i++) {
                char text[2] = {(char)('a' + i + round * NODES), '\0'};
                begin(w, i, &answers[i], everybody, 0, text);
                for (uint64_t n = rng_below(&w->rng, 8); n > 0; n--)
                    tick(w);
            }
            for (unsigned n = 0; n < 1000 && !(answers[0].given && answers[1].given && answers[2].given); n++)
                tick(w);
            char all[NODES + 1] = {0};
            for (uint32_t i = 0; i < NODES; i++)
                all[i] = (char)('a' + i + round * NODES);
            for (uint32_t i = 0; i < NODES; i++)
                expect_answer(&answers[i], all);
        }
        w->loss_percent = 0;
        for (unsigned n = 0; n < 20; n++)
            tick(w);
        for (uint32_t i = 0; i < NODES; i++)
            assert_true(exchange_settled(w->nodes[i].exchange));
        world_free(w);
    }
}

static void fence_waits_for_an_agent(void **state)
{
    (void)state;
    struct world *w = world_make(3);
    struct answer answers[NODES] = {0};
    const char *const parts[] = {"a", "b", "c"};
    w->nodes[1].connected = false;
    for (uint32_t i = 0; i < NODES; i++)
        begin(w, i, &answers[i], everybody, 0, parts[i]);
    for (unsigned n = 0; n < 100; n++)
        tick(w);
    assert_false(answers[0].given);
    assert_false(exchange_settled(w->nodes[1].exchange));
    /* What came meanwhile was taken; only its acknowledgements are owed. */
    expect_answer(&answers[1], "abc");
    assert_false(exchange_settled(w->nodes[0].exchange));
    w->nodes[1].connected = true;
    exchange_reconnected(w->nodes[1].exchange);
    exchange_pump(w->nodes[1].exchange, w->now_ns);
    deliver(w);
    expect_answer(&answers[0], "abc");
    expect_answer(&answers[2], "abc");
    for (uint32_t i = 0; i < NODES; i++)
        assert_true(exchange_settled(w->nodes[i].exchange));
    world_free(w);
}

/* Two fences over one list at a time: the second does not overtake, so that it can stand for the first's acknowledgement. */
static void later_fences_acknowledge_earlier_ones(void **state)
{
    (void)state;
    struct world *w = world_make(10);
    struct answer first[NODES] = {0}, second[NODES] = {0};
    const bool two[NODES] = {true, true, false};
    begin(w, 0, &first[0], two, 0, "a");
    begin(w, 0, &second[0], two, 0, "c");
    deliver(w);
    assert_int_equal(w->sent[MESH_FENCE], 1);
    w->loss_percent = 100; /* the acknowledgement of node 0's first is lost for ever */
    begin(w, 1, &first[1], two, 0, "b");
    w->loss_percent = 0;
    assert_true(first[1].given);
    w->nodes[0].connected = false;
    for (unsigned n = 0; n < 10; n++)
        tick(w); /* node 1 says "b" again */
    expect_answer(&first[0], "ab");
    expect_answer(&first[1], "ab");
    begin(w, 1, &second[1], two, 0, "d");
    deliver(w);
    assert_false(second[1].given);
    w->nodes[0].connected = true;
    for (unsigned n = 0; n < 10; n++)
        tick(w);
    expect_answer(&second[0], "cd");
    expect_answer(&second[1], "cd");
    assert_true(exchange_settled(w->nodes[0].exchange) && exchange_settled(w->nodes[1].exchange));
    world_free(w);
}

static void one_bad_contribution_fails_all(void **state)
{
    (void)state;
    struct world *w = world_make(4);
    struct answer answers[NODES] = {0};
    begin(w, 0, &answers[0], everybody, 0, "a");
    begin(w, 1, &answers[1], everybody, PMIX_ERR_LOST_CONNECTION, "b");
    assert_true(answers[1].given && answers[1].status == PMIX_ERR_LOST_CONNECTION);
    deliver(w);
    /* Without waiting for node 2. */
    assert_true(answers[0].given && answers[0].status == PMIX_ERR_LOST_CONNECTION && answers[0].data == NULL);
    begin(w, 2, &answers[2], everybody, 0, "c");
    assert_true(answers[2].given && answers[2].status == PMIX_ERR_LOST_CONNECTION);
    world_free(w);
}

static void only_members_take_part(void **state)
{
    (void)state;
    struct world *w = world_make(5);
    struct answer answers[NODES] = {0};
    const bool some[NODES] = {true, false, true}, alone[NODES] = {true};
    begin(w, 0, &answers[0], some, 0, "a");
    begin(w, 2, &answers[2], some, 0, "c");
    deliver(w);
    expect_answer(&answers[0], "ac");
    expect_answer(&answers[2], "ac");
    exchange_fence(w->nodes[0].exchange, &answers[0], LIST + 1, alone, 0, "a", 1, w->now_ns);
    expect_answer(&answers[0], "a");
    assert_int_equal(w->count, 0);
    world_free(w);
}

static void frames_of_others_are_passed_over(void **state)
{
    (void)state;
    struct world *w = world_make(6);
    struct mesh_frame frame = {.uid = "00000000000000aa", .generation = 4, .token = "tt", .from = 1, .to = 0,
                               .kind = MESH_FENCE, .id = LIST, .sequence = 1};
    struct mesh_frame bad = frame;
    bad.generation = 3;
    exchange_frame(w->nodes[0].exchange, &bad, 1);
    bad = frame;
    bad.token[0] = 'x';
    exchange_frame(w->nodes[0].exchange, &bad, 1);
    bad = frame;
    bad.from = NODES;
    exchange_frame(w->nodes[0].exchange, &bad, 1);
    bad = frame;
    bad.to = 2;
    exchange_frame(w->nodes[0].exchange, &bad, 1);
    bad = frame;
    char text[] = "%%%%";
    bad.data = text;
    exchange_frame(w->nodes[0].exchange, &bad, 1);
    assert_int_equal(w->count, 0);
    exchange_frame(w->nodes[0].exchange, &frame, 1);
    assert_int_equal(w->count, 1); /* the acknowledgement: the check above can fail */
    /* Fences nobody here has begun are held up to a limit, and not acknowledged above it. */
    for (uint64_t i = 0; i < 2 * EXCHANGE_FENCES_MAX; i++) {
        frame.sequence = i + 1;
        exchange_frame(w->nodes[0].exchange, &frame, 1);
    }
    assert_int_equal(w->sent[MESH_FENCE_ACK], 1 + EXCHANGE_FENCES_MAX);
    world_free(w);
}

static void modex_asks_and_gets(void **state)
{
    (void)state;
    struct world *w = world_make(7);
    struct answer answer = {0};
    exchange_modex(w->nodes[0].exchange, &answer, 5, w->now_ns);
    deliver(w);
    assert_int_equal(w->nodes[2].fetches, 1);
    assert_int_equal(w->nodes[2].fetch_rank, 5);
    for (unsigned n = 0; n < 20; n++)
        tick(w); /* asked again meanwhile, but fetched once */
    assert_int_equal(w->nodes[2].fetches, 1);
    w->loss_percent = 100; /* the reply is lost; the question comes again */
    exchange_fetched(w->nodes[2].exchange, w->nodes[2].fetch_key, PMIX_SUCCESS, "data", 4);
    w->loss_percent = 0;
    for (unsigned n = 0; n < 6; n++)
        tick(w);
    assert_int_equal(w->nodes[2].fetches, 2);
    exchange_fetched(w->nodes[2].exchange, w->nodes[2].fetch_key, PMIX_SUCCESS, "data", 4);
    deliver(w);
    expect_answer(&answer, "data");
    assert_true(exchange_settled(w->nodes[0].exchange));
    world_free(w);
}

static void modex_of_the_dead_is_answered(void **state)
{
    (void)state;
    struct world *w = world_make(8);
    struct answer answer = {0}, own = {0}, late = {0};
    exchange_modex(w->nodes[0].exchange, &answer, 5, w->now_ns);
    deliver(w);
    exchange_rank_gone(w->nodes[2].exchange, 5);
    deliver(w);
    assert_true(answer.given && answer.status == PMIX_ERR_PROC_TERM_WO_SYNC);
    mem_free(answer.data);
    exchange_fetched(w->nodes[2].exchange, w->nodes[2].fetch_key, PMIX_SUCCESS, "late", 4); /* passed over */
    assert_int_equal(w->count, 0);
    exchange_modex(w->nodes[0].exchange, &own, 1, w->now_ns);
    assert_true(own.given && own.status == PMIX_ERR_NOT_FOUND);
    w->loss_percent = 100;
    exchange_modex(w->nodes[0].exchange, &late, 4, w->now_ns);
    for (unsigned n = 0; n < EXCHANGE_MODEX_DEADLINE_MS / 100 + 1; n++)
        tick(w);
    assert_true(late.given && late.status == PMIX_ERR_TIMEOUT);
    world_free(w);
}

static void base64_both_ways(void **state)
{
    (void)state;
    char *text = base64_encode("foobar", 5), *data = NULL;
    size_t bytes = 0;
    assert_string_equal(text, "Zm9vYmE=");
    mem_free(text);
    struct rng rng = {.state = 9};
    for (size_t n = 0; n < 200; n++) {
        char in[200];
        for (size_t i = 0; i < n; i++)
            in[i] = (char)rng_next(&rng);
        text = base64_encode(in, n);
        assert_int_equal(base64_decode(text, &data, &bytes), 0);
        assert_int_equal(bytes, n);
        assert_memory_equal(data, in, n);
        mem_free(text);
        mem_free(data);
    }
    const char *const bad[] = {"Zg", "Z===", "Zg==Zg==", "====", "Zm9v\n", "Z\x80==", "Zm9*"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_not_equal(base64_decode(bad[i], &data, &bytes), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fence_gathers_in_node_order), cmocka_unit_test(fences_survive_loss),
        cmocka_unit_test(later_fences_acknowledge_earlier_ones),
        cmocka_unit_test(fence_waits_for_an_agent),    cmocka_unit_test(one_bad_contribution_fails_all),
        cmocka_unit_test(only_members_take_part),      cmocka_unit_test(frames_of_others_are_passed_over),
        cmocka_unit_test(modex_asks_and_gets),         cmocka_unit_test(modex_of_the_dead_is_answered),
        cmocka_unit_test(base64_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
