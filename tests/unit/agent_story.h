/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_AGENT_STORY_H
#define TESTS_UNIT_AGENT_STORY_H

/* One agent core and the little that the stories about it need: an assignment to change and send, events in a line each,
 * and what the core did last. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/core/core.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

#define CLUSTER "c1c1c1c1c1c1c1c1"
#define INCARNATION "1111111111111111"
#define JOB_UID "0123456789abcdef"

struct story {
    struct agent_core *core;
    struct agent_actions did;
    uint64_t now_ns;
    uint64_t revision;
    struct assignment order;
    struct heartbeat said;
    struct control_comm comms[2]; /* of whatever rank */
    struct control_progress *progress; /* the same */
};

static inline void story_begin(struct story *s)
{
    struct agent_identity identity = {.node = "n1", .uid = "aaaaaaaaaaaaaaaa", .incarnation = INCARNATION, .cluster = CLUSTER};
    memset(s, 0, sizeof *s);
    s->core = agent_create(&identity);
    s->now_ns = NS_PER_S;
    text_copy(s->order.spec.name, sizeof s->order.spec.name, "train");
    text_copy(s->order.uid, sizeof s->order.uid, JOB_UID);
    strlist_add(&s->order.spec.argv, "true");
    s->order.spec.nnodes = 1;
    s->order.spec.nproc_per_node = 2;
    s->order.generation = 1;
    struct peer *peer = codec_list_add(&peer_codec, &s->order.peers);
    text_copy(peer->node, sizeof peer->node, "n1");
}

static inline void story_end(struct story *s)
{
    codec_release(&heartbeat_codec, &s->said);
    codec_release(&assignment_codec, &s->order);
    agent_actions_release(&s->did);
    agent_free(s->core);
}

static inline void happens(struct story *s, const struct agent_event *event)
{
    agent_actions_clear(&s->did);
    agent_step(s->core, event, s->now_ns, &s->did);
}

static inline void passes_ms(struct story *s, uint64_t ms)
{
    s->now_ns += ms * NS_PER_MS;
    happens(s, &(struct agent_event){.kind = EV_TICK});
}

/* The newest action of that kind in the last event's, or NULL. */
static inline const struct agent_action *did(const struct story *s, unsigned kind)
{
    for (size_t i = s->did.count; i-- > 0;)
        if (s->did.items[i].kind == kind)
            return &s->did.items[i];
    return NULL;
}

static inline size_t did_times(const struct story *s, unsigned kind)
{
    size_t count = 0;
    for (size_t i = 0; i < s->did.count; i++)
        count += s->did.items[i].kind == kind;
    return count;
}

static inline void desired_is(struct story *s, const struct assignment *order, const char *cluster, uint64_t revision)
{
    struct desired desired = {.revision = revision};
    text_copy(desired.cluster, sizeof desired.cluster, cluster);
    text_copy(desired.node, sizeof desired.node, "n1");
    text_copy(desired.incarnation, sizeof desired.incarnation, INCARNATION);
    if (order != NULL)
        codec_copy(&assignment_codec, order, codec_list_add(&assignment_codec, &desired.jobs));
    happens(s, &(struct agent_event){.kind = EV_DESIRED, .desired = &desired});
    codec_release(&desired_codec, &desired);
}

static inline void ordered(struct story *s)
{
    desired_is(s, &s->order, CLUSTER, ++s->revision);
}

static inline void unassigned(struct story *s)
{
    desired_is(s, NULL, CLUSTER, ++s->revision);
}

static inline struct agent_event of_job(unsigned kind, uint64_t generation)
{
    struct agent_event event = {.kind = kind, .generation = generation};
    text_copy(event.uid, sizeof event.uid, JOB_UID);
    return event;
}

static inline void step_started(struct story *s, uint64_t generation)
{
    struct agent_event event = of_job(EV_STEP_STARTED, generation);
    happens(s, &event);
}

static inline void step_gone(struct story *s, uint64_t generation)
{
    struct agent_event event = of_job(EV_STEP_GONE, generation);
    happens(s, &event);
}

/* Status with both ranks in `state`; ask: attempt of rank 0's restore question, 0 for none. */
static inline void step_says(struct story *s, uint64_t generation, unsigned state, uint32_t ask, int32_t bad_slot)
{
    struct step_status status = {.generation = generation, .started = true};
    text_copy(status.uid, sizeof status.uid, JOB_UID);
    for (uint32_t rank = 0; rank < 2; rank++) {
        struct rank_report *report = codec_list_add(&rank_report_codec, &status.ranks);
        report->rank = rank;
        report->state = state;
        report->pid = 100 + (int32_t)rank;
    }
    if (ask != 0) {
        struct step_ask *question = codec_list_add(&step_ask_codec, &status.asks);
        question->attempt = ask;
        question->bad_slot = bad_slot;
        text_copy(question->bad_detail, sizeof question->bad_detail, bad_slot >= 0 ? "chunk 3" : "");
    }
    happens(s, &(struct agent_event){.kind = EV_STEP_STATUS, .step_status = &status});
    codec_release(&step_status_codec, &status);
}

static inline struct agent_page page_at(uint64_t step)
{
    return (struct agent_page){.phase = CONTROL_STEPPING, .step = step, .armed_step = STEP_NONE};
}

static inline void page_is(struct story *s, uint64_t generation, uint32_t rank, const struct agent_page *page)
{
    struct agent_event event = of_job(EV_PAGE, generation);
    event.rank = rank;
    event.page = *page;
    event.comms = s->comms;
    event.progress = s->progress;
    happens(s, &event);
}

static inline void armed(struct story *s, uint32_t rank, uint64_t cut, uint32_t attempt, unsigned outcome, uint64_t step)
{
    struct agent_event event = of_job(EV_ARMED, 1);
    event.rank = rank, event.cut = cut, event.attempt = attempt, event.outcome = outcome, event.step = step;
    happens(s, &event);
}

/* The answer to work on a slot. */
static inline void worked(struct story *s, unsigned kind, uint32_t rank, uint32_t slot, uint64_t cut, enum tide_status status)
{
    struct agent_event event = of_job(kind, 0);
    event.rank = rank, event.slot = slot, event.cut = cut, event.status = status;
    text_copy(event.text, sizeof event.text, status == TIDE_OK ? "" : "it went wrong");
    text_copy(event.digest, sizeof event.digest, status == TIDE_OK ? "00112233445566778899aabbccddeeff" : "");
    happens(s, &event);
}

/* The job's report in a new heartbeat; NULL: it says nothing of the job. */
static inline const struct gen_report *says(struct story *s)
{
    codec_release(&heartbeat_codec, &s->said);
    agent_heartbeat(s->core, s->now_ns, &s->said);
    for (size_t i = 0; i < s->said.jobs.count; i++)
        if (strcmp(s->said.jobs.items[i].uid, JOB_UID) == 0)
            return &s->said.jobs.items[i];
    return NULL;
}

/* Generation 1 runs and both ranks have made `step` steps. */
static inline void story_runs(struct story *s, uint64_t step)
{
    struct agent_page page = page_at(step);
    story_begin(s);
    ordered(s);
    step_started(s, 1);
    step_says(s, 1, TIDE_RANK_RUNNING, 0, -1);
    page_is(s, 1, 0, &page);
    page_is(s, 1, 1, &page);
}

#endif
