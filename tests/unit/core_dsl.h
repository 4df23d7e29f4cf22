/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_CORE_DSL_H
#define TESTS_UNIT_CORE_DSL_H

/* Stories about the coordinator's core: a world with a state, a book and fake agents that follow their desired state.
 *
 *     struct world w;
 *     world_init(&w);
 *     world_nodes(&w, 4, 1);                    t=0     n1 … n4 register
 *     submit(&w, "j", 4, 0, 1);                         4 nodes, no spares, 1 rank each
 *     run(&w, 1000);                            t=1000  agents heartbeat, judge, apply
 *     crash(&w, 2);                                     rank 2 is killed
 *
 * Every command goes through its JSON form, is applied to a second state that is now and then rebuilt from its image,
 * and both are compared; the invariants are checked after each, and that one that is refused has changed nothing. */

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/wire/local.h"
#include "coordinator/core/core.h"
#include "tests/unit/core_colours.h"

#define TEXT_SET(field, text) text_copy((field), sizeof(field), (text))
#define FAKES_MAX 8
#define FAKE_JOBS_MAX 3
#define FAKE_RANKS_MAX 8
#define FAKE_COPIES_MAX 8
#define TICK_MS 10u
#define FAKE_SCRUB_BYTES 1000u
#define FAKE_SCRUB_AGO_MS 5000u
#define STEPS_PER_S_DEFAULT 100u
#define IMAGE_EVERY 7u /* commands between two rebuilds of the second state from its image */

/* What it has of others' memory. */
struct fake_copy {
    uint64_t cut;
    uint32_t node_rank;
};

struct fake_job {
    bool used;
    char uid[TIDE_UID_CHARS + 1];
    char name[TIDE_NAME_MAX + 1];
    uint64_t generation, ran; /* newest told; newest started here */
    bool alive;
    uint32_t first, count; /* ranks of the generation that ran */
    uint64_t started_ns;
    uint64_t base_step;
    bool reported[FAKE_RANKS_MAX];
    uint64_t ended_ns[FAKE_RANKS_MAX];
    uint64_t held[SLOTS];
    struct cut_report cuts[FAKE_RANKS_MAX];
    struct fake_colour colours[FAKE_RANKS_MAX];
    uint64_t stored_cut, manifest_cut, failed_attempt;
    struct assignment order;
    struct fake_copy copied[FAKE_COPIES_MAX];
};

struct fake {
    bool used, up, deaf; /* deaf: heartbeats, but follows no orders */
    char name[TIDE_NAME_MAX + 1], uid[TIDE_UID_CHARS + 1], incarnation[TIDE_UID_CHARS + 1];
    uint64_t sequence;
    struct fake_job jobs[FAKE_JOBS_MAX];
    bool store_fails, writes; /* writes: it cannot leave what it stores */
    bool copies, copy_fails;  /* it follows orders to copy; and says that it cannot */
    char domain[TIDE_NAME_MAX + 1];
    bool store_hangs;         /* what it is told to store comes to nothing, neither good nor bad */
    struct health_fact fact;   /* of its health; state healthy: there is none */
    const char *boot;          /* NULL: nobody looks */
    bool old;                  /* an agent from before there were formats */
    uint64_t damaged;          /* a checkpoint that it read in the store, of whatever job; 0: none */
};

/* What a rank number does, in every job; set by the story. */
struct fake_rank {
    int32_t exit_code, signal;
    bool ends, exec_failed, stuck_start, stuck_step, misses, fails, unequal, deaf_cut, corrupt;
    struct fake_paint paint;
    uint64_t slow;             /* not 0: of its steps from now on only every so many counts */
    uint64_t slow_from;
    uint64_t born;             /* not 0: of its process, as its agent says; else the generation it is in */
    struct op_report op;       /* how far it is in a communicator; size 0: it tells of none */
};

struct world {
    uint64_t hang_ms; /* as agents say */
    struct state state, second;
    struct book book;
    struct rng rng;
    uint64_t now_ns, wall_ms, next_ns;
    struct outcome outcome;
    struct err err;
    struct fake fakes[FAKES_MAX];
    struct fake_rank ranks[FAKE_RANKS_MAX];
    uint64_t steps_per_s, total_steps;
    uint64_t step_ms; /* 0: steps_per_s counts */
    unsigned applied[COMMAND_KINDS];
    unsigned commands, requests;
    bool no_store;
    uint32_t slots;           /* of each rank */
};

/* ---- commands ---- */

static inline void second_check(struct world *w)
{
    char *a = codec_print(&state_codec, &w->state, CODEC_STRICT), *b = codec_print(&state_codec, &w->second, CODEC_STRICT);
    assert_string_equal(a, b);
    if (w->commands % IMAGE_EVERY == 0) {
        struct err err;
        state_release(&w->second);
        enum tide_status status = codec_parse(&state_codec, b, strlen(b), CODEC_STRICT, &w->second, &err);
        if (status != TIDE_OK)
            fail_msg("image: %s", err.text);
        char *again = codec_print(&state_codec, &w->second, CODEC_STRICT);
        assert_string_equal(a, again);
        mem_free(again);
    }
    mem_free(a);
    mem_free(b);
}

/* All but what every command leaves, its index and, with a request id, its answer. */
static inline char *world_image(const struct world *w)
{
    struct state state = w->state;
    state.revision = 0;
    memset(&state.sessions, 0, sizeof state.sessions);
    return codec_print(&state_codec, &state, CODEC_STRICT);
}

static inline enum tide_status world_apply(struct world *w, const struct command *command)
{
    char *text = codec_print(&command_codec, command, CODEC_COMPACT);
    struct command decoded;
    struct err err = {0};
    if (codec_parse(&command_codec, text, strlen(text), CODEC_STRICT, &decoded, &err) != TIDE_OK)
        fail_msg("command %s: %s", text, err.text);
    w->err = (struct err){0};
    w->commands++;
    char *before = world_image(w);
    enum tide_status status = apply(&w->state, command, w->state.revision + 1, &w->outcome, &w->err);
    char *after = world_image(w);
    if (status != TIDE_OK && strcmp(before, after) != 0)
        fail_msg("%s is refused (%s), and has changed the state from %s to %s", text, w->err.text, before, after);
    mem_free(before);
    mem_free(after);
    struct outcome second_outcome;
    struct err second_err = {0};
    enum tide_status second = apply(&w->second, &decoded, w->second.revision + 1, &second_outcome, &second_err);
    assert_int_equal(status, second);
    assert_string_equal(w->err.text, second_err.text);
    if (state_check(&w->state, &err) != TIDE_OK)
        fail_msg("after %s: %s", text, err.text);
    if (status == TIDE_OK)
        w->applied[command->kind]++;
    if (getenv("CORE_TRACE"))
        fprintf(stderr, "t=%" PRIu64 " %s -> %s %s\n", w->now_ns / NS_PER_MS, text, tide_status_name(status), w->err.text);
    second_check(w);
    codec_release(&command_codec, &decoded);
    mem_free(text);
    return status;
}

static inline struct command command_new(struct world *w, enum command_kind kind, const char *job)
{
    struct command command = {.kind = kind, .at_ms = w->wall_ms, .event = {.rank = -1}};
    if (job != NULL)
        text_copy(command.job, sizeof command.job, job);
    return command;
}

/* ---- the world ---- */

static inline void world_init(struct world *w)
{
    *w = (struct world){.now_ns = NS_PER_S, .wall_ms = 1700000000000, .rng = {7}, .steps_per_s = STEPS_PER_S_DEFAULT,
                        .slots = SLOTS_ALWAYS};
    struct command init = command_new(w, CMD_CLUSTER_INIT, NULL);
    TEXT_SET(init.text, "cafe000000000001");
    TEXT_SET(init.store, "file:///store");
    init.lease_ms = 2000, init.heartbeat_ms = 250, init.level = LEVEL_NEWEST;
    assert_int_equal(world_apply(w, &init), TIDE_OK);
    book_init(&w->book, &w->state, w->now_ns);
}

static inline void fake_job_release(struct fake_job *job)
{
    codec_release(&assignment_codec, &job->order);
    *job = (struct fake_job){0};
}

static inline void world_release(struct world *w)
{
    for (int i = 0; i < FAKES_MAX; i++)
        for (int k = 0; k < FAKE_JOBS_MAX; k++)
            fake_job_release(&w->fakes[i].jobs[k]);
    state_release(&w->state);
    state_release(&w->second);
    book_release(&w->book);
}

static inline struct fake *fake_of(struct world *w, const char *name)
{
    for (int i = 0; i < FAKES_MAX; i++)
        if (w->fakes[i].used && strcmp(w->fakes[i].name, name) == 0)
            return &w->fakes[i];
    fail_msg("no fake node %s", name);
    return NULL;
}

static inline enum tide_status register_as(struct world *w, const char *name, const char *uid, const char *incarnation,
                                           uint32_t slots)
{
    struct command command = command_new(w, CMD_NODE_REGISTER, NULL);
    TEXT_SET(command.hello.name, name);
    TEXT_SET(command.hello.uid, uid);
    TEXT_SET(command.hello.incarnation, incarnation);
    TEXT_SET(command.hello.address, "10.0.0.1");
    command.hello.mesh_port = 7100;
    snprintf(command.hello.pin, sizeof command.hello.pin, "%064x", (unsigned)name[strlen(name) - 1]); /* another one for each */
    command.hello.log_port = 7200;
    for (int i = 0; i < FAKES_MAX; i++)
        if (w->fakes[i].used && strcmp(w->fakes[i].name, name) == 0)
            TEXT_SET(command.hello.domain, w->fakes[i].domain);
    command.hello.slots = slots;
    enum tide_status status = world_apply(w, &command);
    if (status == TIDE_OK)
        book_registered(&w->book, &w->state, name, w->now_ns);
    return status;
}

static inline struct fake *node_new(struct world *w, const char *name, uint32_t slots)
{
    struct fake *fake = NULL;
    for (int i = 0; i < FAKES_MAX && fake == NULL; i++)
        if (!w->fakes[i].used)
            fake = &w->fakes[i];
    assert_non_null(fake);
    fake->used = fake->up = true;
    TEXT_SET(fake->name, name);
    snprintf(fake->uid, sizeof fake->uid, "uid-%s", name);
    snprintf(fake->incarnation, sizeof fake->incarnation, "inc-%s-1", name);
    assert_int_equal(register_as(w, fake->name, fake->uid, fake->incarnation, slots), TIDE_OK);
    return fake;
}

static inline void world_nodes(struct world *w, unsigned count, uint32_t slots)
{
    for (unsigned i = 1; i <= count; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%u", i);
        node_new(w, name, slots);
    }
}

static inline struct job_record *record_of(struct world *w, const char *job)
{
    struct job_record *record = state_job(&w->state, job);
    if (record == NULL)
        fail_msg("no job %s", job);
    return record;
}

static inline struct job *job_of(struct world *w, const char *job)
{
    return &record_of(w, job)->job;
}

#include "tests/unit/core_slots.h"

/* ---- fake agents ---- */

static inline struct fake_job *fake_job_of(struct fake *fake, const struct assignment *order)
{
    struct fake_job *free_one = NULL;
    for (int i = 0; i < FAKE_JOBS_MAX; i++) {
        struct fake_job *job = &fake->jobs[i];
        if (job->used && strcmp(job->uid, order->uid) == 0)
            return job;
        if (!job->used && free_one == NULL)
            free_one = job;
    }
    assert_non_null(free_one);
    free_one->used = true;
    TEXT_SET(free_one->uid, order->uid);
    TEXT_SET(free_one->name, order->spec.name);
    return free_one;
}

static inline void fake_start(struct world *w, struct fake_job *job, const struct assignment *order)
{
    job->alive = true;
    job->ran = order->generation;
    job->count = order->spec.nproc_per_node;
    job->first = order->node_rank * job->count;
    job->started_ns = w->now_ns;
    memset(job->reported, 0, sizeof job->reported);
    memset(job->cuts, 0, sizeof job->cuts);
    memset(job->colours, 0, sizeof job->colours);
    const struct ckpt *from = job_ckpt(&state_job(&w->state, order->spec.name)->job, order->restore_cut);
    job->base_step = from != NULL ? from->step : 0;
    /* A committed one is fetched when it is not held. */
    if (order->restore_cut)
        fake_hold(w, job, order, order->restore_cut);
}

static inline uint64_t fake_step(const struct world *w, const struct fake_job *job)
{
    uint64_t ms = (w->now_ns - job->started_ns) / NS_PER_MS;
    uint64_t step = job->base_step + 1 + (w->step_ms ? ms / w->step_ms : ms * w->steps_per_s / MS_PER_S);
    return w->total_steps && step > w->total_steps ? w->total_steps : step;
}

static inline uint64_t fake_rank_step(struct fake_rank *does, uint64_t step)
{
    if (does->slow == 0)
        return step;
    if (does->slow_from == 0)
        does->slow_from = step;
    return does->slow_from + (step - does->slow_from) / does->slow;
}

static inline void fake_record(struct world *w, struct fake_job *job, const struct cut_order *order, uint32_t rank)
{
    struct cut_report *report = &job->cuts[rank - job->first];
    const struct fake_rank *does = &w->ranks[rank];
    uint64_t step = fake_step(w, job);
    if (report->cut != order->cut || report->attempt != order->attempt) {
        *report = (struct cut_report){.cut = order->cut, .attempt = order->attempt, .rank = rank};
        report->progress = does->misses || step >= order->step ? CUT_MISSED : CUT_ARMED;
        report->step = step;
    }
    if (report->progress != CUT_ARMED || step < order->step || does->deaf_cut)
        return;
    report->progress = does->fails ? CUT_FAILED : CUT_RECORDED;
    TEXT_SET(report->detail, does->fails ? "no space left in the arena" : "");
    report->step = order->step;
    report->bytes = 1000;
    report->stall_us = 5 + rank;
    report->collectives = order->step + (does->unequal ? 1 : 0);
    TEXT_SET(report->digest, "0123456789abcdef0123456789abcdef");
}

static inline void fake_follow(struct world *w, struct fake *fake, struct fake_job *job, const struct assignment *order)
{
    if (order->generation < job->generation)
        return;
    codec_release(&assignment_codec, &job->order);
    codec_copy(&assignment_codec, order, &job->order);
    if (job->alive && (order->generation > job->ran || order->run != RUN_START))
        job->alive = false;
    job->generation = order->generation;
    if (order->run == RUN_START && job->ran < order->generation)
        fake_start(w, job, order);
    for (uint32_t r = job->first; job->alive && r < job->first + job->count; r++) {
        uint32_t i = r - job->first;
        if (w->ranks[r].paint.on)
            fake_paint_follow(order, &w->ranks[r].paint, &job->colours[i], &job->cuts[i], r, fake_step(w, job));
        else if (order->cut.phase == CUT_PHASE_RECORD)
            fake_record(w, job, &order->cut, r);
        if (job->cuts[i].progress == CUT_RECORDED && job->cuts[i].cut > job->order.protect_cut)
            fake_hold(w, job, order, job->cuts[i].cut);
    }
    fake_store(fake, job, fake_stored_order(order));
    if (fake->copies)
        fake_copy(job, order);
}

static inline void fake_obey(struct world *w, struct fake *fake)
{
    struct desired desired;
    struct err err;
    if (desired_build(&w->state, &w->book, fake->name, &desired, &err) != TIDE_OK)
        fail_msg("desired: %s", err.text);
    for (int i = 0; i < FAKE_JOBS_MAX; i++) {
        bool listed = false;
        for (size_t k = 0; k < desired.jobs.count; k++)
            listed = listed || strcmp(desired.jobs.items[k].uid, fake->jobs[i].uid) == 0;
        if (fake->jobs[i].used && !listed)
            fake_job_release(&fake->jobs[i]);
    }
    for (size_t k = 0; k < desired.jobs.count; k++)
        fake_follow(w, fake, fake_job_of(fake, &desired.jobs.items[k]), &desired.jobs.items[k]);
    codec_release(&desired_codec, &desired);
}

static inline void fake_report_rank(struct world *w, struct fake_job *job, uint32_t rank, struct gen_report *to)
{
    const struct fake_rank *does = &w->ranks[rank];
    uint32_t local = rank - job->first;
    struct rank_report *report = codec_list_add(&rank_report_codec, &to->ranks);
    report->rank = rank;
    if (does->stuck_start)
        return;
    report->pid = 100 + (int32_t)rank;
    report->born = does->born != 0 ? does->born : job->ran;
    bool ends = does->ends || does->exit_code || does->signal || does->exec_failed ||
                (w->total_steps && fake_step(w, job) >= w->total_steps);
    report->attached = !does->exec_failed;
    report->stepped = !does->stuck_step && !does->exec_failed && w->now_ns > job->started_ns;
    report->step = report->stepped ? fake_rank_step(&w->ranks[rank], fake_step(w, job)) : job->base_step;
    report->restored_cut = job->order.restore_cut;
    report->slots = w->slots;
    report->restore_us = 2500;
    report->state = report->stepped ? TIDE_RANK_RUNNING : TIDE_RANK_STARTING;
    fake_paint_report(&does->paint, &job->colours[local], report);
    if (!ends)
        return;
    if (!job->reported[local])
        job->ended_ns[local] = w->now_ns;
    job->reported[local] = true;
    report->state = TIDE_RANK_EXITED;
    report->exit_code = does->exit_code;
    report->signal = does->signal;
    report->exec_failed = does->exec_failed;
    report->exited_ago_ms = (w->now_ns - job->ended_ns[local]) / NS_PER_MS;
}

static inline void fake_report_job(struct world *w, struct fake *fake, struct fake_job *job, struct gen_report *to)
{
    TEXT_SET(to->job, job->name);
    TEXT_SET(to->uid, job->uid);
    to->generation = job->generation;
    to->progress = job->alive ? GEN_RUNNING : GEN_GONE;
    to->hang_ms = w->hang_ms;
    bool present = job->ran == job->generation && job->ran > 0;
    for (uint32_t r = job->first; present && r < job->first + job->count; r++) {
        fake_report_rank(w, job, r, to);
        if (w->ranks[r].op.size > 0) {
            struct op_report *op = codec_list_add(&op_report_codec, &to->ops);
            *op = w->ranks[r].op;
            op->rank = r;
        }
        if (job->cuts[r - job->first].cut)
            *(struct cut_report *)codec_list_add(&cut_report_codec, &to->cuts) = job->cuts[r - job->first];
        if (w->ranks[r].paint.on || w->ranks[r].paint.counts)
            fake_paint_comms(&w->ranks[r].paint, &job->cuts[r - job->first], fake_world(job), to);
        if (w->ranks[r].corrupt && job->order.restore_cut) {
            struct restore_failure *failure = codec_list_add(&restore_failure_codec, &to->restore_failures);
            failure->cut = job->order.restore_cut;
            failure->rank = r;
            TEXT_SET(failure->detail, "chunk 3 is bad in every tier");
        }
    }
    for (uint32_t r = job->first; r < job->first + job->count; r++) {
        for (uint32_t s = 0; s < SLOTS; s++)
            if (job->held[s]) {
                struct held_report *held = codec_list_add(&held_report_codec, &to->held);
                held->cut = job->held[s];
                held->rank = r;
            }
        if (job->stored_cut) {
            struct shard_report *shard = codec_list_add(&shard_report_codec, &to->shards);
            *shard = (struct shard_report){.cut = job->stored_cut, .rank = r, .raw_bytes = 1000, .stored_bytes = 400};
            shard->progress = job->failed_attempt ? SHARD_FAILED : SHARD_STORED;
            snprintf(shard->key, sizeof shard->key, "m/%" PRIu64 "/%u", shard->cut, r);
            TEXT_SET(shard->detail, job->failed_attempt ? "no space left on device" : "");
        }
    }
    fake_report_copies(fake, job, to);
    if (job->manifest_cut) {
        struct manifest_report *manifest = codec_list_add(&manifest_report_codec, &to->manifests);
        manifest->cut = job->manifest_cut;
        snprintf(manifest->key, sizeof manifest->key, "m/%" PRIu64, manifest->cut);
        TEXT_SET(manifest->digest, "feedfacefeedfacefeedfacefeedface");
    }
    for (size_t i = 0; i < job->order.purge.count; i++)
        strlist_add(&to->purged, job->order.purge.items[i]);
    for (size_t i = 0; i < job->order.leave.count && !fake->writes; i++)
        strlist_add(&to->left, job->order.leave.items[i]);
    for (size_t i = 0; i < job->order.scrub.count; i++) {
        struct scrub_report *scrub = codec_list_add(&scrub_report_codec, &to->scrubs);
        scrub->cut = job->order.scrub.items[i].cut;
        scrub->bytes = FAKE_SCRUB_BYTES;
        scrub->ago_ms = FAKE_SCRUB_AGO_MS;
        scrub->damaged = scrub->cut == fake->damaged;
        TEXT_SET(scrub->detail, scrub->damaged ? "chunk 5 in object c/x" : "");
    }
}

static inline enum tide_status fake_beat(struct world *w, struct fake *fake, bool *ret_changed)
{
    struct heartbeat beat = {.sequence = ++fake->sequence, .format = fake->old ? 0 : NODE_FORMAT, .keyed = !fake->old};
    TEXT_SET(beat.node, fake->name);
    TEXT_SET(beat.uid, fake->uid);
    TEXT_SET(beat.incarnation, fake->incarnation);
    for (int i = 0; i < FAKE_JOBS_MAX; i++)
        if (fake->jobs[i].used)
            fake_report_job(w, fake, &fake->jobs[i], codec_list_add(&gen_report_codec, &beat.jobs));
    TEXT_SET(beat.health.boot, fake->boot != NULL ? fake->boot : "");
    if (fake->fact.state != TIDE_HEALTH_HEALTHY)
        *(struct health_fact *)codec_list_add(&health_fact_codec, &beat.health.facts) = fake->fact;
    enum tide_status status = book_heartbeat(&w->book, &w->state, &beat, w->now_ns, ret_changed, &w->err);
    codec_release(&heartbeat_codec, &beat);
    return status;
}

/* The agent registers when its heartbeat is refused, as the real one does. */
static inline void fake_live(struct world *w, struct fake *fake)
{
    bool changed = false;
    if (fake_beat(w, fake, &changed) != TIDE_OK)
        (void)register_as(w, fake->name, fake->uid, fake->incarnation, state_node(&w->state, fake->name)->slots);
    if (!fake->deaf)
        fake_obey(w, fake);
}

/* ---- time ---- */

static inline void settle(struct world *w)
{
    for (int round = 0;; round++) {
        assert_true(round < 50); /* judge must come to rest */
        struct command_list list;
        judge(&w->state, &w->book, w->now_ns, w->wall_ms, &w->rng, &list, &w->next_ns);
        size_t count = list.count;
        for (size_t i = 0; i < count; i++)
            world_apply(w, &list.items[i]);
        command_list_release(&list);
        if (count == 0)
            break;
    }
}

static inline void run(struct world *w, uint64_t ms)
{
    for (uint64_t t = 0; t < ms; t += TICK_MS) {
        w->now_ns += TICK_MS * NS_PER_MS;
        w->wall_ms += TICK_MS;
        for (int i = 0; i < FAKES_MAX; i++)
            if (w->fakes[i].used && w->fakes[i].up)
                fake_live(w, &w->fakes[i]);
        settle(w);
    }
}

/* A new leader: the book is gone. */
static inline void new_leader(struct world *w)
{
    book_release(&w->book);
    book_init(&w->book, &w->state, w->now_ns);
}

#include "tests/unit/core_deeds.h"
#include "tests/unit/core_look.h"

#endif
