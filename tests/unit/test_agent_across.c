/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/rpc/across.h"
#include "ckpt/base/clock.h"
#include "tests/unit/chunks.h"
#include "tests/unit/slot_port.h"

/* What several nodes hold alike one of them stores: agents of three nodes, of a rank each, with ports of their own and one store. */

#define JOB "job"
#define TOKEN "0123456789abcdef0123456789abcdef"
#define NODES 3u
#define CHUNKS 12u /* two runs */
#define BYTES ((uint64_t)CHUNKS * CHUNK_BYTES)
#define CUTS_MAX 4u
#define ENOUGH_US 60000000u

struct site {
    char *arenas, arena[TIDE_PATH_MAX + 1];
    struct across *across;
    struct slot_port port;
    uint32_t number; /* 0: it has none */
    struct store *store; /* each its own: as one process they would know of each other */
    struct across_plan plan;
    struct stage_shard shard;
    enum tide_status outcome;
    uint64_t cut, left; /* … to others, when its own was written */
};

static struct site nodes[NODES];
static char *root, *elsewhere;
static unsigned content[CUTS_MAX][NODES][CHUNKS]; /* what each chunk is made from */
static char keys[CUTS_MAX][TIDE_PATH_MAX + 1], digests[CUTS_MAX][DIGEST_HEX_CHARS + 1];

static const char *token_of(void *context, const char *uid)
{
    (void)context;
    return strcmp(uid, TEST_UID) == 0 ? TOKEN : NULL;
}

static void plan_all(uint64_t cut)
{
    for (uint32_t n = 0; n < NODES; n++) {
        nodes[n].cut = cut;
        nodes[n].plan = (struct across_plan){.arena = nodes[n].arena, .job = JOB, .uid = TEST_UID, .cut = cut, .generation = 1,
                                             .node = n, .nodes = NODES, .ranks_per_node = 1};
        for (uint32_t p = 0; p < NODES; p++)
            nodes[n].plan.peers[p] =
                (struct copy_source){.address = SLOT_PORT_ADDRESS, .port = nodes[p].number, .token = TOKEN};
    }
}

static void open_port(struct site *node, struct across *shown)
{
    slot_port_open_across(&node->port, node->arenas, shown, token_of, NULL, &node->number);
}

static void close_port(struct site *node)
{
    if (node->number != 0)
        slot_port_close(&node->port);
    node->number = 0;
}

static int setup(void **state)
{
    (void)state;
    struct err err = {0};
    root = test_dir();
    elsewhere = test_dir();
    for (uint32_t n = 0; n < NODES; n++) {
        nodes[n] = (struct site){.arenas = test_dir(), .across = across_create()};
        snprintf(nodes[n].arena, sizeof nodes[n].arena, "%s/" TEST_UID, nodes[n].arenas);
        assert_int_equal(fsx_mkdirs(nodes[n].arena, 0700, &err), TIDE_OK);
        assert_int_equal(store_open(root, &nodes[n].store, &err), TIDE_OK);
        open_port(&nodes[n], nodes[n].across);
    }
    for (unsigned cut = 0; cut < CUTS_MAX; cut++)
        for (unsigned n = 0; n < NODES; n++)
            for (unsigned i = 0; i < CHUNKS; i++)
                content[cut][n][i] = i + 1;
    plan_all(1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    for (uint32_t n = 0; n < NODES; n++) {
        close_port(&nodes[n]);
        across_free(nodes[n].across);
        store_close(nodes[n].store);
        test_dir_remove(nodes[n].arenas);
    }
    test_dir_remove(root);
    test_dir_remove(elsewhere);
    return 0;
}

static void record(uint64_t cut, uint32_t n, uint32_t world)
{
    test_chunks_record(nodes[n].arena, n, world, cut, content[cut][n], CHUNKS);
}

static void record_all(uint64_t cut)
{
    plan_all(cut);
    for (uint32_t n = 0; n < NODES; n++)
        record(cut, n, NODES);
}

/* ---- one node's storing, as its agent does it ---- */

static struct across_cut *joined(struct site *node)
{
    bool later = true;
    struct across_cut *cut = across_join(node->across, &node->plan, &later);
    assert_non_null(cut);
    assert_false(later);
    return cut;
}

static struct stage_storing *begin(struct site *node, struct across_cut *cut)
{
    struct err err = {0};
    struct stage_storing *storing = NULL;
    node->outcome = stage_store_begin(node->store, node->arena, node->plan.node, (uint32_t)node->cut % SLOTS, JOB, TEST_UID, node->cut,
                                      across_ops(cut), &storing, &err);
    across_over(cut, node->plan.node);
    return storing;
}

static void settle(struct across_cut *cut)
{
    unsigned us = 0;
    for (; !across_settled(cut) && us < ENOUGH_US; us += 10000)
        usleep(10000);
    assert_true(us < ENOUGH_US);
}

static void end(struct site *node, struct across_cut *cut, struct stage_storing *storing)
{
    struct err err = {0};
    if (node->outcome == TIDE_OK)
        node->outcome = stage_store_end(storing, &node->shard, &err);
    across_leave(cut);
}

static void *put(void *context)
{
    struct site *node = context;
    struct across_cut *cut = joined(node);
    struct stage_storing *storing = begin(node, cut);
    node->left = node->outcome == TIDE_OK ? stage_store_left(storing) : 0;
    if (node->left > 0)
        settle(cut);
    end(node, cut, storing);
    return NULL;
}

static void put_from(uint32_t first)
{
    pthread_t threads[NODES];
    for (uint32_t n = first; n < NODES; n++)
        assert_int_equal(pthread_create(&threads[n], NULL, put, &nodes[n]), 0);
    for (uint32_t n = first; n < NODES; n++)
        pthread_join(threads[n], NULL);
}

static void put_all(void)
{
    put_from(0);
}

static void commit(uint64_t cut, uint32_t world)
{
    struct err err = {0};
    struct cut_order order = {.cut = cut, .generation = 1, .step = cut};
    for (uint32_t n = 0; n < world; n++) {
        assert_int_equal(nodes[n].outcome, TIDE_OK);
        test_add_shard(&order, n, &nodes[n].shard);
    }
    assert_int_equal(stage_commit(nodes[0].store, JOB, TEST_UID, &order, keys[cut], digests[cut], &err), TIDE_OK);
    codec_release(&cut_order_codec, &order);
}

static void is_whole(uint64_t cut, uint32_t world)
{
    test_is_sound(nodes[0].store, keys[cut], digests[cut]);
    for (uint32_t n = 0; n < world; n++)
        test_chunks_are(nodes[0].store, keys[cut], digests[cut], elsewhere, n, content[cut][n], CHUNKS);
}

static unsigned chunks_stored(void)
{
    return (unsigned)(test_bytes_below(nodes[0].store, "c/") / CHUNK_BYTES);
}

static void sweep(uint64_t live, uint64_t over)
{
    struct err err = {0};
    uint64_t strange = 0;
    const struct orphan_rule rule = {.live = &live, .live_count = 1, .over = &over, .over_count = 1, .below = CUTS_MAX};
    assert_int_equal(stage_sweep(nodes[0].store, JOB, TEST_UID, &rule, &strange, &err), TIDE_OK);
    assert_int_equal(strange, 0);
}

/* ---- stories ---- */

static void replicas_on_several_nodes_are_stored_once(void **state)
{
    (void)state;
    struct err err = {0};
    content[1][1][2] = 77;
    content[1][2][9] = 0;
    record_all(1);
    put_all();
    assert_int_equal(chunks_stored(), CHUNKS + 1);
    for (uint32_t n = 0; n < NODES; n++) /* nobody has to write all */
        assert_true(nodes[n].shard.stored_bytes < BYTES * 3 / 4);
    commit(1, NODES);
    is_whole(1, NODES);
    /* The next refers to what others wrote, and outlives it; with fewer nodes, too. */
    content[2][0][0] = content[2][1][0] = content[2][2][0] = 50;
    record_all(2);
    put_all();
    assert_int_equal(chunks_stored(), CHUNKS + 4); /* of the second rank and the third one chunk was not as the others', and is now */
    commit(2, NODES);
    assert_int_equal(stage_purge(nodes[0].store, JOB, TEST_UID, 1, &err), TIDE_OK);
    sweep(2, 1);
    is_whole(2, NODES);
    plan_all(3);
    memcpy(content[3][0], content[2][0], sizeof content[3][0]);
    record(3, 0, 1);
    nodes[0].plan.nodes = 1;
    put(&nodes[0]);
    commit(3, 1);
    assert_int_equal(stage_purge(nodes[0].store, JOB, TEST_UID, 2, &err), TIDE_OK);
    sweep(3, 2);
    is_whole(3, 1);
    assert_int_equal(stage_purge(nodes[0].store, JOB, TEST_UID, 3, &err), TIDE_OK);
    assert_int_equal(test_bytes_below(nodes[0].store, ""), 0);
}

static void what_nobody_else_holds_is_not_waited_for(void **state)
{
    (void)state;
    for (unsigned n = 0; n < NODES; n++)
        for (unsigned i = 0; i < CHUNKS; i++)
            content[1][n][i] = i == 3 ? 0 : 1000 * (n + 1) + i; /* but for zeros */
    record_all(1);
    for (uint32_t n = 0; n < NODES; n++) { /* one after the other: who waited would wait for what has not begun */
        struct across_cut *cut = joined(&nodes[n]);
        struct stage_storing *storing = begin(&nodes[n], cut);
        assert_int_equal(stage_store_left(storing), 0);
        end(&nodes[n], cut, storing);
    }
    commit(1, NODES);
    is_whole(1, NODES);
}

/* A knows nothing of C, B nothing of A, C nothing of B. */
static void views_that_differ_end_with_more_bytes(void **state)
{
    (void)state;
    record_all(1);
    for (uint32_t n = 0; n < NODES; n++)
        nodes[n].plan.peers[(n + 2) % NODES].port = 0;
    put_all();
    assert_in_range(chunks_stored(), CHUNKS, NODES * CHUNKS);
    commit(1, NODES);
    is_whole(1, NODES);
}

/* What to make the first chunk of a run of, so that all who hold the run have that node write it. */
static unsigned lead_for(uint32_t writer, unsigned from)
{
    unsigned char *bytes = mem_alloc(CHUNK_BYTES);
    unsigned seed = from;
    for (;; seed++) {
        test_chunk_fill(bytes, seed);
        if (spread_writer(digest_of(bytes, CHUNK_BYTES).low, (1u << NODES) - 1) == writer)
            break;
    }
    mem_free(bytes);
    return seed;
}

/* The same chunks, in runs that begin otherwise: A takes B for the writer, B takes C, and C takes A. */
static void what_everybody_leaves_to_another_is_written_by_each(void **state)
{
    (void)state;
    for (unsigned n = 0; n < NODES; n++)
        for (unsigned i = 0; i < CHUNKS; i++)
            content[1][n][i] = i == 0 ? lead_for((n + 1) % NODES, 10000 * (n + 1)) : i < SPREAD_RUN_CHUNKS ? i : 1000 * (n + 1) + i;
    record_all(1);
    struct across_cut *cuts[NODES];
    struct stage_storing *storing[NODES];
    for (uint32_t n = 0; n < NODES; n++)
        cuts[n] = joined(&nodes[n]);
    for (uint32_t n = 0; n < NODES; n++) {
        storing[n] = begin(&nodes[n], cuts[n]);
        assert_int_equal(stage_store_left(storing[n]), SPREAD_RUN_CHUNKS - 1);
    }
    for (uint32_t n = 0; n < NODES; n++) {
        settle(cuts[n]);
        end(&nodes[n], cuts[n], storing[n]);
    }
    assert_int_equal(chunks_stored(), NODES * CHUNKS);
    commit(1, NODES);
    is_whole(1, NODES);
}

static void who_dies_between_both_tables_is_done_without(void **state)
{
    (void)state;
    record_all(1);
    struct across_cut *dead = joined(&nodes[1]), *cut = joined(&nodes[0]);
    close_port(&nodes[1]);
    across_leave(dead);
    struct stage_storing *storing = begin(&nodes[0], cut);
    assert_true(stage_store_left(storing) > 0);
    close_port(&nodes[2]);
    uint64_t began = clock_mono_ns();
    settle(cut);
    end(&nodes[0], cut, storing);
    assert_true(clock_mono_ns() - began < ENOUGH_US * UINT64_C(1000));
    assert_int_equal(nodes[0].outcome, TIDE_OK);
    assert_int_equal(chunks_stored(), CHUNKS);
    /* They come back, and know nothing of it. */
    for (uint32_t n = 1; n < NODES; n++) {
        across_free(nodes[n].across);
        nodes[n].across = across_create();
        open_port(&nodes[n], nodes[n].across);
    }
    plan_all(1);
    put_from(1);
    commit(1, NODES);
    is_whole(1, NODES);
}

static unsigned calls_at(int listener)
{
    unsigned calls = 0;
    struct pollfd called = {.fd = listener, .events = POLLIN};
    for (int fd; poll(&called, 1, 0) == 1 && (fd = accept(listener, NULL, NULL)) >= 0; close(fd))
        calls++;
    return calls;
}

/* Accepted, and no word: a host that is stopped. Another tells what it holds and then never stores. */
static void who_never_answers_is_given_up(void **state)
{
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    int silent = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(silent, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(silent, 8), 0);
    assert_int_equal(getsockname(silent, (struct sockaddr *)&at, &length), 0);
    record_all(1);
    nodes[0].plan.peers[1].port = ntohs(at.sin_port);
    pthread_t thread;
    bool later = false;
    assert_int_equal(pthread_create(&thread, NULL, put, &nodes[0]), 0);
    struct pollfd called = {.fd = silent, .events = POLLIN};
    assert_int_equal(poll(&called, 1, (int)(ENOUGH_US / 1000)), 1); /* it looks, and has come to who is silent */
    assert_null(across_join(nodes[0].across, &nodes[0].plan, &later)); /* another rank's thread has other things to do */
    assert_true(later);
    pthread_join(thread, NULL);
    assert_int_equal(calls_at(silent), 1);
    assert_int_equal(nodes[0].outcome, TIDE_OK);
    assert_true(nodes[0].left > 0); /* who comes behind is asked all the same */
    assert_int_equal(chunks_stored(), CHUNKS);
    put_from(1);
    commit(1, NODES);
    is_whole(1, NODES);
    /* With the next one it is left alone, and not waited for; the others are asked. */
    record_all(2);
    nodes[0].plan.peers[1].port = ntohs(at.sin_port);
    struct across_cut *cut = joined(&nodes[0]);
    struct stage_storing *storing = begin(&nodes[0], cut);
    end(&nodes[0], cut, storing);
    assert_int_equal(calls_at(silent), 0);
    close(silent);
}

/* What it told of stays, and is named by others. */
static void an_attempt_that_fails_after_it_was_told_of_harms_nobody(void **state)
{
    (void)state;
    struct err err = {0};
    record_all(1);
    struct across_cut *cuts[NODES];
    struct stage_storing *storing[NODES];
    for (uint32_t n = 0; n < NODES; n++)
        cuts[n] = joined(&nodes[n]);
    for (uint32_t n = 0; n < NODES; n++)
        storing[n] = begin(&nodes[n], cuts[n]);
    stage_store_abandon(storing[1]); /* its manifest could not be put, say */
    across_leave(cuts[1]);
    for (uint32_t n = 0; n < NODES; n += 2) {
        settle(cuts[n]);
        end(&nodes[n], cuts[n], storing[n]);
    }
    assert_int_equal(chunks_stored(), CHUNKS);
    /* Whoever tries again knows nobody and makes other packs. */
    nodes[1].outcome = stage_store(nodes[1].store, nodes[1].arena, 1, 1, JOB, TEST_UID, 1, &nodes[1].shard, &err);
    commit(1, NODES);
    sweep(1, 9);
    is_whole(1, NODES);
    assert_int_equal(stage_purge(nodes[0].store, JOB, TEST_UID, 1, &err), TIDE_OK);
    assert_int_equal(test_bytes_below(nodes[0].store, ""), 0);
}

/* Nobody's word is taken for it that a pack is there. */
static void a_pack_that_is_not_seen_is_not_referred_to(void **state)
{
    (void)state;
    struct err err = {0};
    char *other = test_dir();
    record_all(1);
    store_close(nodes[0].store);
    assert_int_equal(store_open(other, &nodes[0].store, &err), TIDE_OK);
    put_all();
    assert_int_equal(nodes[0].outcome, TIDE_OK);
    assert_int_equal(chunks_stored(), CHUNKS);
    for (uint32_t n = 1; n < NODES; n++)
        assert_int_equal(nodes[n].outcome, TIDE_OK);
    assert_in_range(test_bytes_below(nodes[1].store, "c/") / CHUNK_BYTES, CHUNKS, 2 * CHUNKS); /* nor what the first told of */
    test_dir_remove(other);
}

static void who_does_not_share_is_not_waited_for(void **state)
{
    (void)state;
    record_all(1);
    for (uint32_t n = 1; n < NODES; n++) { /* as an older version */
        close_port(&nodes[n]);
        open_port(&nodes[n], NULL);
    }
    plan_all(1);
    nodes[0].plan.peers[2].token[0] ^= 1; /* or one of another generation */
    struct across_cut *cut = joined(&nodes[0]);
    struct stage_storing *storing = begin(&nodes[0], cut);
    assert_int_equal(stage_store_left(storing), 0);
    end(&nodes[0], cut, storing);
    assert_int_equal(nodes[0].outcome, TIDE_OK);
}

/* Nothing is left to it of what it told before it failed to tell the rest. */
static void who_tells_of_some_ranks_only_holds_nothing(void **state)
{
    (void)state;
    struct across_plan *plan = &nodes[0].plan;
    plan->nodes = plan->ranks_per_node = 2;
    for (uint32_t rank = 0; rank < 4; rank++) {
        test_chunks_record(nodes[rank / 2].arena, rank, 4, 1, content[1][0], CHUNKS);
        if (rank < 2)
            continue;
        struct across_cut *cut = joined(&nodes[0]);
        struct stage_storing *storing = begin(&nodes[0], cut);
        assert_int_equal(stage_store_left(storing) > 0, rank == 3);
        stage_store_abandon(storing);
        across_leave(cut);
    }
}

/* Those who ask late still get it; those who ask for what is long over, or another's, do not. */
static void a_table_is_kept_for_a_while(void **state)
{
    (void)state;
    void *bytes = NULL;
    size_t count = 0;
    for (uint64_t cut = 1; cut < CUTS_MAX; cut++) {
        plan_all(cut);
        struct across_cut *here = joined(&nodes[0]);
        across_table(nodes[0].across, TEST_UID, cut, 1, &bytes, &count);
        assert_null(bytes);
        across_over(here, 0);
        across_leave(here);
    }
    for (uint64_t cut = 1; cut < CUTS_MAX; cut++) {
        across_table(nodes[0].across, TEST_UID, cut, 1, &bytes, &count);
        assert_int_equal(bytes != NULL, cut + ACROSS_KEPT_OF_JOB >= CUTS_MAX);
        mem_free(bytes);
    }
    across_table(nodes[0].across, TEST_UID, CUTS_MAX - 1, 2, &bytes, &count);
    assert_null(bytes);
    across_table(nodes[0].across, "fedcba9876543210", CUTS_MAX - 1, 1, &bytes, &count);
    assert_null(bytes);
}

static bool shows(const char *uid, uint64_t cut)
{
    void *bytes = NULL;
    size_t count = 0;
    across_table(nodes[0].across, uid, cut, 1, &bytes, &count);
    mem_free(bytes);
    return bytes != NULL;
}

/* Not before: it does not change any more. */
static void a_table_is_shown_when_all_ranks_have_written(void **state)
{
    (void)state;
    bool later = true;
    nodes[0].plan.ranks_per_node = 2;
    struct across_cut *first = joined(&nodes[0]), *second = joined(&nodes[0]);
    across_over(first, 0);
    across_over(first, 0);
    across_over(first, 2); /* another node's */
    assert_false(shows(TEST_UID, 1));
    across_over(second, 1);
    assert_true(shows(TEST_UID, 1));
    nodes[0].plan.nodes = 2; /* told otherwise */
    assert_null(across_join(nodes[0].across, &nodes[0].plan, &later));
    assert_false(later);
    across_leave(first);
    across_leave(second);
}

static void of_many_jobs_the_newest_are_kept(void **state)
{
    (void)state;
    char uids[ACROSS_KEPT + 1][TIDE_UID_CHARS + 1];
    for (unsigned i = 0; i <= ACROSS_KEPT; i++) {
        snprintf(uids[i], sizeof uids[i], "%0*x", TIDE_UID_CHARS, i);
        nodes[0].plan.uid = uids[i];
        struct across_cut *cut = joined(&nodes[0]);
        across_over(cut, 0);
        across_leave(cut);
    }
    for (unsigned i = 0; i <= ACROSS_KEPT; i++)
        assert_int_equal(shows(uids[i], 1), i > 0);
}

int main(void)
{
#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(replicas_on_several_nodes_are_stored_once),
        CASE(what_nobody_else_holds_is_not_waited_for),
        CASE(views_that_differ_end_with_more_bytes),
        CASE(what_everybody_leaves_to_another_is_written_by_each),
        CASE(who_dies_between_both_tables_is_done_without),
        CASE(who_never_answers_is_given_up),
        CASE(an_attempt_that_fails_after_it_was_told_of_harms_nobody),
        CASE(a_pack_that_is_not_seen_is_not_referred_to),
        CASE(who_does_not_share_is_not_waited_for),
        CASE(who_tells_of_some_ranks_only_holds_nothing),
        CASE(a_table_is_kept_for_a_while),
        CASE(a_table_is_shown_when_all_ranks_have_written),
        CASE(of_many_jobs_the_newest_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
