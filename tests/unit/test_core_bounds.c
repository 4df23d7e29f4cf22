/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "core_dsl.h"

/* Limits of what the state keeps, and the price of judging a large cluster. */

struct raw {
    struct state state;
    struct outcome outcome;
    struct err err;
};

static enum tide_status raw_apply(struct raw *raw, const struct command *command)
{
    return apply(&raw->state, command, raw->state.revision + 1, &raw->outcome, &raw->err);
}

static void check(struct raw *raw)
{
    if (state_check(&raw->state, &raw->err) != TIDE_OK)
        fail_msg("%s", raw->err.text);
}

static void raw_node(struct raw *raw, unsigned number)
{
    struct command command = {.kind = CMD_NODE_REGISTER, .at_ms = 1000, .event = {.rank = -1}};
    snprintf(command.hello.name, sizeof command.hello.name, "n%05u", number);
    snprintf(command.hello.uid, sizeof command.hello.uid, "u%u", number);
    snprintf(command.hello.incarnation, sizeof command.hello.incarnation, "i%u", number);
    TEXT_SET(command.hello.address, "10.0.0.1");
    command.hello.slots = 8;
    assert_int_equal(raw_apply(raw, &command), TIDE_OK);
}

/* As many as there may be, made after the first: to register each moves them all, which AddressSanitizer makes slow. */
static void raw_nodes_max(struct raw *raw)
{
    raw_node(raw, 0);
    struct node first = raw->state.nodes.items[0], *nodes = mem_array(TIDE_NODES_MAX, sizeof *nodes);
    for (unsigned i = 0; i < TIDE_NODES_MAX; i++) {
        nodes[i] = first;
        snprintf(nodes[i].name, sizeof nodes[i].name, "n%05u", i);
        snprintf(nodes[i].uid, sizeof nodes[i].uid, "u%u", i);
        snprintf(nodes[i].incarnation, sizeof nodes[i].incarnation, "i%u", i);
    }
    mem_free(raw->state.nodes.items);
    raw->state.nodes.items = nodes;
    raw->state.nodes.count = TIDE_NODES_MAX;
    check(raw);
}

static enum tide_status raw_submit(struct raw *raw, unsigned number, uint32_t nnodes)
{
    struct command command = {.kind = CMD_JOB_SUBMIT, .at_ms = 1000, .event = {.rank = -1}};
    snprintf(command.spec.name, sizeof command.spec.name, "j%u", number);
    snprintf(command.uid, sizeof command.uid, "%016u", number);
    strlist_add(&command.spec.argv, "train");
    command.spec.nnodes = nnodes;
    command.spec.nproc_per_node = 8;
    command.spec.max_restarts = 1000000;
    enum tide_status status = raw_apply(raw, &command);
    codec_release(&command_codec, &command);
    return status;
}

static struct command raw_verdict(unsigned number, enum command_kind kind, uint64_t generation)
{
    struct command command = {.kind = kind, .at_ms = 2000, .generation = generation, .event = {.rank = -1}};
    snprintf(command.job, sizeof command.job, "j%u", number);
    snprintf(command.uid, sizeof command.uid, "%016u", number);
    return command;
}

static void raw_launch(struct raw *raw, unsigned number, uint64_t generation)
{
    struct command launch = raw_verdict(number, CMD_GEN_LAUNCH, generation);
    TEXT_SET(launch.token, "0123");
    launch.port = 20000;
    assert_int_equal(raw_apply(raw, &launch), TIDE_OK);
}

static void ended_jobs_make_room(void **context)
{
    (void)context;
    struct raw raw = {0};
    for (unsigned i = 0; i < TIDE_JOBS_MAX; i++)
        assert_int_equal(raw_submit(&raw, i, 1), TIDE_OK);
    assert_int_equal(raw_submit(&raw, 5000, 1), TIDE_E_LIMIT);
    assert_text(raw.err.text, "1024 jobs are active");
    struct command cancel = {.kind = CMD_JOB_CANCEL, .event = {.rank = -1}};
    TEXT_SET(cancel.job, "j7");
    assert_int_equal(raw_apply(&raw, &cancel), TIDE_OK);
    assert_int_equal(raw_submit(&raw, 5000, 1), TIDE_OK);
    assert_null(state_job(&raw.state, "j7"));
    assert_non_null(state_job(&raw.state, "j5000"));
    assert_int_equal(raw.state.jobs.count, TIDE_JOBS_MAX);
    state_release(&raw.state);
}

static void events_recoveries_and_checkpoints_are_bounded(void **context)
{
    (void)context;
    struct raw raw = {0};
    raw_node(&raw, 1);
    raw_submit(&raw, 1, 1);
    uint64_t generation = 1;
    raw_launch(&raw, 1, generation);
    for (unsigned i = 0; i < TIDE_CKPTS_MAX + 100; i++) {
        struct command command = raw_verdict(1, CMD_GEN_STARTED, generation);
        assert_int_equal(raw_apply(&raw, &command), TIDE_OK);
        command = raw_verdict(1, CMD_CUT_OPEN, generation);
        command.cut = i + 1;
        command.step = i + 1;
        assert_int_equal(raw_apply(&raw, &command), TIDE_OK);
        if (i < 2) { /* the oldest two are good, and stay */
            command = raw_verdict(1, CMD_CUT_SEAL, generation);
            command.cut = i + 1;
            command.attempt = 1;
            assert_int_equal(raw_apply(&raw, &command), TIDE_OK);
        }
        command = raw_verdict(1, CMD_GEN_FAIL, generation++);
        command.event.kind = EVENT_RANK_EXITED;
        TEXT_SET(command.event.text, "rank 0 on n00001 exited with status 1");
        assert_int_equal(raw_apply(&raw, &command), TIDE_OK);
        raw_launch(&raw, 1, generation);
    }
    check(&raw);
    const struct job *job = &state_job(&raw.state, "j1")->job;
    assert_int_equal(job->ckpts.count, TIDE_CKPTS_MAX);
    assert_int_equal(job->ckpts.items[0].cut, 1);
    assert_int_equal(job->ckpts.items[1].cut, 2);
    assert_int_equal(job->ckpts.items[2].cut, 103);
    assert_int_equal(job->ckpts.items[0].state, TIDE_CKPT_SEALED);
    assert_int_equal(job->events.count, TIDE_EVENTS_MAX);
    assert_int_equal(job->events.items[TIDE_EVENTS_MAX - 1].revision, raw.state.revision);
    assert_int_equal(job->recoveries.count, RECOVERIES_MAX);
    char *image = codec_print(&state_codec, &raw.state, CODEC_STRICT);
    struct state again;
    assert_int_equal(codec_parse(&state_codec, image, strlen(image), CODEC_STRICT, &again, &raw.err), TIDE_OK);
    mem_free(image);
    state_release(&again);
    state_release(&raw.state);
}

static void raw_cancel(struct raw *raw, unsigned number, uint64_t at_ms)
{
    struct command cancel = {.kind = CMD_JOB_CANCEL, .at_ms = at_ms, .event = {.rank = -1}};
    snprintf(cancel.job, sizeof cancel.job, "j%u", number);
    assert_int_equal(raw_apply(raw, &cancel), TIDE_OK);
}

/* A month of training leaves a megabyte of history; a thousand of those would be too much for an image. */
static void of_jobs_that_ended_long_ago_the_end_is_kept(void **context)
{
    (void)context;
    struct raw raw = {0};
    raw_node(&raw, 1);
    raw_submit(&raw, 1, 1);
    for (uint64_t generation = 1; generation <= 300; generation++) {
        raw_launch(&raw, 1, generation);
        static const enum command_kind kinds[] = {CMD_GEN_STARTED, CMD_CUT_OPEN, CMD_GEN_FAIL};
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            struct command command = raw_verdict(1, kinds[k], generation);
            command.cut = command.step = generation;
            command.event.kind = EVENT_RANK_EXITED;
            assert_int_equal(raw_apply(&raw, &command), TIDE_OK);
        }
    }
    raw_cancel(&raw, 1, 5000);
    struct command stopped = raw_verdict(1, CMD_JOB_STOPPED, 301);
    stopped.at_ms = 5000;
    assert_int_equal(raw_apply(&raw, &stopped), TIDE_OK);
    struct job *job = &state_job(&raw.state, "j1")->job;
    struct ckpt *good = &job->ckpts.items[7];
    good->state = TIDE_CKPT_COMMITTED;
    TEXT_SET(good->manifest, "feedface");
    TEXT_SET(good->manifest_key, "m/8");
    check(&raw);
    size_t events = job->events.count;
    for (unsigned i = 2; i <= ENDED_WHOLE_MAX + 1; i++) {
        assert_int_equal(raw_submit(&raw, i, 1), TIDE_OK);
        raw_cancel(&raw, i, 6000 + i);
    }
    /* It is among those that ended last, though not among those submitted last. */
    job = &state_job(&raw.state, "j1")->job;
    assert_int_equal(job->events.count, events);
    assert_int_equal(job->ckpts.count, 300);
    assert_int_equal(raw_submit(&raw, 4000, 1), TIDE_OK);
    check(&raw);
    job = &state_job(&raw.state, "j1")->job;
    assert_int_equal(job->events.count, ENDED_HISTORY_MAX);
    assert_int_equal(job->events.items[ENDED_HISTORY_MAX - 1].kind, EVENT_FINISHED);
    assert_int_equal(job->recoveries.count, ENDED_HISTORY_MAX);
    assert_int_equal(job->recoveries.items[ENDED_HISTORY_MAX - 1].generation, 300);
    assert_int_equal(job->ckpts.count, 1);
    assert_int_equal(job->ckpts.items[0].cut, 8);
    assert_true(state_job(&raw.state, "j2")->job.events.count > 1);
    state_release(&raw.state);
}

/* A job with checkpoints 1 to `count`, all dropped. */
static void raw_drop_many(struct raw *raw, unsigned count)
{
    raw_node(raw, 1);
    TEXT_SET(raw->state.store, "file:///worm");
    raw_submit(raw, 1, 1);
    raw_launch(raw, 1, 1);
    struct command command = raw_verdict(1, CMD_GEN_STARTED, 1);
    assert_int_equal(raw_apply(raw, &command), TIDE_OK);
    for (unsigned i = 1; i <= count; i++) {
        static const enum command_kind kinds[] = {CMD_CUT_OPEN, CMD_CUT_SEAL, CMD_ARENA_LOST};
        for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
            command = raw_verdict(1, kinds[k], 1);
            command.cut = command.step = i;
            command.attempt = 1;
            assert_int_equal(raw_apply(raw, &command), TIDE_OK);
        }
    }
    check(raw);
}

/* A store from which nothing can be deleted keeps every dropped checkpoint on the list of those to be deleted. */
static void what_cannot_be_deleted_does_not_end_the_checkpoints(void **context)
{
    (void)context;
    struct raw raw = {0};
    raw_drop_many(&raw, TIDE_CKPTS_MAX + 10);
    const struct job_record *record = state_job(&raw.state, "j1");
    assert_int_equal(record->job.ckpts.count, TIDE_CKPTS_MAX);
    assert_int_equal(record->purge.count, TIDE_CKPTS_MAX);
    assert_int_equal(record->job.ckpts.items[0].cut, 11);
    assert_string_equal(record->purge.items[0], "11");
    bool told = false;
    for (size_t i = 0; i < record->job.events.count; i++)
        told = told || (record->job.events.items[i].cut == 10 && record->job.events.items[i].kind == EVENT_NOTE);
    assert_true(told);
    state_release(&raw.state);
}

/* What is printed of it is read again, and is the same. */
static void is_read_back(const struct codec *codec, const void *from, void *to)
{
    struct err err = {0};
    char *text = codec_print(codec, from, 0);
    if (codec_parse(codec, text, strlen(text), CODEC_STRICT, to, &err) != TIDE_OK)
        fail_msg("%s", err.text);
    char *again = codec_print(codec, to, 0);
    assert_string_equal(again, text);
    mem_free(text);
    mem_free(again);
}

/* … and the sweep beside them. The image, the order to the node and its answer hold all of it. */
static void a_full_list_of_deletions_and_a_sweep_can_be_read_back(void **context)
{
    (void)context;
    struct raw raw = {0};
    struct book book;
    struct state image;
    struct desired desired, order;
    struct heartbeat answer = {.sequence = 1}, heard;
    bool changed;
    raw_drop_many(&raw, TIDE_CKPTS_MAX);
    struct command gc = raw_verdict(1, CMD_CKPT_GC, 1);
    assert_int_equal(raw_apply(&raw, &gc), TIDE_OK);
    const struct job_record *record = state_job(&raw.state, "j1");
    assert_int_equal(record->purge.count, TIDE_CKPTS_MAX + 1);
    is_read_back(&state_codec, &raw.state, &image);
    state_release(&image);
    TEXT_SET(answer.node, "n00001");
    TEXT_SET(answer.uid, "u1");
    TEXT_SET(answer.incarnation, "i1");
    struct gen_report *report = codec_list_add(&gen_report_codec, &answer.jobs);
    TEXT_SET(report->job, "j1");
    TEXT_SET(report->uid, record->job.uid);
    report->generation = 1;
    for (size_t i = 0; i < record->purge.count; i++) {
        strlist_add(&report->left, record->purge.items[i]);
        strlist_add(&report->purged, record->purge.items[i]);
    }
    is_read_back(&heartbeat_codec, &answer, &heard);
    codec_release(&heartbeat_codec, &answer);
    book_init(&book, &raw.state, NS_PER_S);
    assert_int_equal(book_heartbeat(&book, &raw.state, &heard, NS_PER_S, &changed, &raw.err), TIDE_OK);
    assert_int_equal(desired_build(&raw.state, &book, "n00001", &desired, &raw.err), TIDE_OK);
    assert_int_equal(desired.jobs.items[0].leave.count, TIDE_CKPTS_MAX + 1);
    assert_int_equal(desired.jobs.items[0].purge.count, TIDE_CKPTS_MAX + 1);
    is_read_back(&desired_codec, &desired, &order);
    codec_release(&desired_codec, &desired);
    codec_release(&desired_codec, &order);
    book_release(&book);
    state_release(&raw.state);
}

static void nodes_lost_long_ago_make_room(void **context)
{
    (void)context;
    struct raw raw = {0};
    raw_nodes_max(&raw);
    struct command command = {.kind = CMD_NODE_REGISTER, .event = {.rank = -1}};
    TEXT_SET(command.hello.name, "extra");
    TEXT_SET(command.hello.uid, "u");
    TEXT_SET(command.hello.incarnation, "i");
    TEXT_SET(command.hello.address, "10.0.0.1");
    command.hello.slots = 1;
    assert_int_equal(raw_apply(&raw, &command), TIDE_E_LIMIT);
    struct command lost = {.kind = CMD_NODE_LOST, .event = {.rank = -1}};
    TEXT_SET(lost.node, "n00017");
    TEXT_SET(lost.incarnation, "i17");
    assert_int_equal(raw_apply(&raw, &lost), TIDE_OK);
    assert_int_equal(raw_apply(&raw, &command), TIDE_OK);
    assert_null(state_node(&raw.state, "n00017"));
    assert_non_null(state_node(&raw.state, "extra"));
    check(&raw);
    state_release(&raw.state);
}

static void beat(struct raw *raw, struct book *book, unsigned number, uint64_t sequence, uint64_t now_ns)
{
    struct heartbeat heartbeat = {.sequence = sequence};
    snprintf(heartbeat.node, sizeof heartbeat.node, "n%05u", number);
    snprintf(heartbeat.uid, sizeof heartbeat.uid, "u%u", number);
    snprintf(heartbeat.incarnation, sizeof heartbeat.incarnation, "i%u", number);
    struct gen_report *report = codec_list_add(&gen_report_codec, &heartbeat.jobs);
    TEXT_SET(report->job, "j1");
    snprintf(report->uid, sizeof report->uid, "%016u", 1u);
    report->generation = 1;
    report->progress = GEN_RUNNING;
    for (uint32_t i = 0; i < 8; i++) {
        struct rank_report *rank = codec_list_add(&rank_report_codec, &report->ranks);
        rank->rank = number * 8 + i;
        rank->pid = 1;
        rank->attached = rank->stepped = true;
        rank->state = TIDE_RANK_RUNNING;
        rank->step = 100 + sequence;
    }
    bool changed;
    assert_int_equal(book_heartbeat(book, &raw->state, &heartbeat, now_ns, &changed, &raw->err), TIDE_OK);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void apply_all(struct raw *raw, struct book *book, struct rng *rng, uint64_t now_ns)
{
    for (int i = 0; i < 10; i++) {
        struct command_list list;
        uint64_t next;
        judge(&raw->state, book, now_ns, now_ns / NS_PER_MS, rng, &list, &next);
        size_t count = list.count;
        for (size_t k = 0; k < count; k++)
            assert_int_equal(raw_apply(raw, &list.items[k]), TIDE_OK);
        command_list_release(&list);
        if (count == 0)
            return;
    }
    fail_msg("judge does not come to rest");
}

#define LARGE 1000u

static void a_thousand_nodes_are_judged_quickly(void **context)
{
    (void)context;
    struct raw raw = {0};
    struct rng rng = {1};
    struct book book;
    uint64_t now_ns = NS_PER_S;
    for (unsigned i = 0; i < LARGE; i++)
        raw_node(&raw, i);
    book_init(&book, &raw.state, now_ns);
    assert_int_equal(raw_submit(&raw, 1, LARGE), TIDE_OK);
    apply_all(&raw, &book, &rng, now_ns);
    for (uint64_t round = 1; round <= 4; round++) {
        now_ns += 250 * NS_PER_MS;
        for (unsigned i = 0; i < LARGE; i++)
            beat(&raw, &book, i, round, now_ns);
        apply_all(&raw, &book, &rng, now_ns);
    }
    const struct job *job = &state_job(&raw.state, "j1")->job;
    assert_true(job->all_stepped);
    double began = seconds();
    for (int i = 0; i < 100; i++) {
        struct command_list list;
        uint64_t next;
        judge(&raw.state, &book, now_ns, now_ns / NS_PER_MS, &rng, &list, &next);
        assert_int_equal(list.count, 0);
        assert_true(next > now_ns);
        command_list_release(&list);
    }
    double each = (seconds() - began) / 100;
    print_message("judge, %u nodes, %u ranks: %.3f ms\n", LARGE, LARGE * 8, each * 1e3);
    assert_true(each < 0.1); /* generous: sanitizers and a busy machine; without them it is well below a millisecond */
    check(&raw);
    book_release(&book);
    state_release(&raw.state);
}

/* Jobs that ended and wait only for their objects to be deleted must not crowd a running one out of a node's orders. */
static void leftovers_crowd_nobody_out(void **state)
{
    (void)state;
    struct state s = {.lease_ms = 2000};
    struct node *node = codec_list_add(&node_codec, &s.nodes);
    TEXT_SET(node->name, "n1");
    for (unsigned i = 0; i <= NODE_JOBS_MAX; i++) {
        struct job_record *record = codec_list_add(&job_record_codec, &s.jobs);
        bool last = i == NODE_JOBS_MAX;
        snprintf(record->job.spec.name, sizeof record->job.spec.name, "j%u", i);
        record->job.spec.nnodes = record->job.spec.nproc_per_node = 1;
        record->job.state = last ? TIDE_JOB_RUNNING : TIDE_JOB_SUCCEEDED;
        record->phase = last ? GEN_PHASE_LAUNCHED : GEN_PHASE_NONE;
        strlist_add(&record->job.nodes, "n1");
        if (!last)
            strlist_add(&record->purge, "1");
    }
    struct desired desired;
    struct err err = {0};
    assert_int_equal(desired_build(&s, NULL, "n1", &desired, &err), TIDE_OK);
    assert_int_equal(desired.jobs.count, NODE_JOBS_MAX);
    assert_string_equal(desired.jobs.items[0].spec.name, "j64");
    assert_int_equal(desired.jobs.items[0].run, RUN_START);
    assert_false(desired.jobs.items[0].ended);
    assert_true(desired.jobs.items[1].ended);
    codec_release(&desired_codec, &desired);
    state_release(&s);
}

/* A node that cannot end old ranks is given up while it answers, and must not be trusted again at once. */
static void a_node_given_up_stays_out(void **state)
{
    (void)state;
    struct state s = {.lease_ms = 2000};
    struct outcome outcome;
    struct err err = {0};
    struct command hello = {.kind = CMD_NODE_REGISTER, .at_ms = 1};
    TEXT_SET(hello.hello.name, "n1");
    TEXT_SET(hello.hello.uid, "aaaaaaaaaaaaaaaa");
    TEXT_SET(hello.hello.incarnation, "bbbbbbbbbbbbbbbb");
    TEXT_SET(hello.hello.address, "127.0.0.1");
    hello.hello.slots = 4;
    struct command lost = {.kind = CMD_NODE_LOST, .at_ms = 2};
    TEXT_SET(lost.node, "n1");
    TEXT_SET(lost.incarnation, "bbbbbbbbbbbbbbbb");
    TEXT_SET(lost.text, "it did not end generation 1");
    struct command resume = {.kind = CMD_NODE_RESUME, .at_ms = 3};
    TEXT_SET(resume.node, "n1");
    assert_int_equal(apply(&s, &hello, 1, &outcome, &err), TIDE_OK);
    assert_int_equal(apply(&s, &lost, 2, &outcome, &err), TIDE_OK);
    assert_int_equal(apply(&s, &hello, 3, &outcome, &err), TIDE_OK);
    assert_int_equal(state_node(&s, "n1")->state, TIDE_NODE_DRAINED);
    assert_string_equal(state_node(&s, "n1")->reason, "it did not end generation 1");
    assert_int_equal(apply(&s, &resume, 4, &outcome, &err), TIDE_OK);
    assert_int_equal(state_node(&s, "n1")->state, TIDE_NODE_READY);
    state_release(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ended_jobs_make_room),
        cmocka_unit_test(events_recoveries_and_checkpoints_are_bounded),
        cmocka_unit_test(of_jobs_that_ended_long_ago_the_end_is_kept),
        cmocka_unit_test(what_cannot_be_deleted_does_not_end_the_checkpoints),
        cmocka_unit_test(a_full_list_of_deletions_and_a_sweep_can_be_read_back),
        cmocka_unit_test(nodes_lost_long_ago_make_room),
        cmocka_unit_test(leftovers_crowd_nobody_out),
        cmocka_unit_test(a_node_given_up_stays_out),
        cmocka_unit_test(a_thousand_nodes_are_judged_quickly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
