/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_CORE_INTERNAL_H
#define AGENT_CORE_INTERNAL_H

/* What the core knows. Events (ev_*.c) only change knowledge; drive_*.c compares it with what should be and emits actions.
 * drive runs after every event, so a lost or failed action is met again by the next tick. */

#include <string.h>

#include "agent/core/core.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/cut/mode.h"
#include "ckpt/cut/verdict.h"

struct retry {
    uint64_t at_ns;   /* not before; 0: now */
    uint64_t wait_ms; /* the next pause */
};

struct slot_part {
    uint64_t cut; /* whole, with digest; 0: none */
    char digest[DIGEST_HEX_CHARS + 1];
    uint64_t bad_cut; /* a rank found this cut bad here: never held again until it is written anew */
    uint64_t epoch;   /* job->epoch when it last began to change */
    bool busy;        /* armed, or being written */
};

struct rank_slots {
    uint32_t rank;
    struct slot_part slots[SLOTS];
};

enum cut_part_state {
    CUT_PART_NONE, CUT_PART_WANTED, CUT_PART_ARMING, CUT_PART_ARMED, CUT_PART_DISARMING, CUT_PART_MISSED,
    CUT_PART_COPIED, CUT_PART_SUMMING, CUT_PART_RECORDED, CUT_PART_FAILED
};

/* A rank's part in a cut. */
struct cut_part {
    unsigned state;
    uint32_t slot;
    uint64_t epoch;    /* of the order; 0: the rank's messages are not coloured */
    bool looked;       /* its page was, since it was said that no message is added any more */
    struct retry retry;
    struct cut_report report; /* cut, attempt and rank are set from the start */
};

enum restore_part_state { RESTORE_IDLE, RESTORE_FINDING, RESTORE_WANT_FETCH, RESTORE_FETCHING, RESTORE_READY, RESTORE_FAILED };

/* A rank's way to its state: own arena, then the store, then nothing. */
struct restore_part {
    unsigned state;
    uint64_t cut;
    uint32_t asked, answered; /* attempts; 0: none */
    bool answer_due;
    bool prefetch;            /* wanted before the rank asks */
    bool ram_bad, peer_bad, store_bad; /* tiers that are used up */
    bool peer_silent;         /* peer_bad, but not because its copy is wrong */
    bool peer_wrong;          /* its copy came, and was wrong, at least once */
    uint32_t peer_failures;
    uint64_t peer_give_up_ns; /* 0: it has not failed, or was passed over */
    uint64_t unread_ns;       /* since then the store cannot read just this; 0: it can, or is out of reach */
    int32_t bad_slot;         /* -1: none */
    uint32_t slot, tier;
    enum tide_status status;  /* why it failed */
    char text[TIDE_TEXT_MAX + 1];
    struct retry retry;
    uint32_t find_failures;
    uint64_t give_up_ns;      /* 0: nothing has failed yet */
};

struct rank_part {
    uint32_t rank;
    struct rank_report report; /* of the step; page and restore are merged in when the heartbeat is built */
    bool ended;
    uint64_t ended_ns;
    bool page_seen;
    struct agent_page page;
    struct cut_part cut;
    struct restore_part restore;
    struct control_progress_comm ops[CONTROL_PROGRESS_MAX]; /* while its job stands still */
    uint32_t op_count;
};

/* leaving: told to. left: its ranks act for no generation any more, and wait for the next. */
enum step_part_state { STEP_PART_STARTING, STEP_PART_UP, STEP_PART_LEAVING, STEP_PART_LEFT, STEP_PART_ENDING, STEP_PART_GONE };

/* One generation on this node. */
struct step_part {
    uint64_t generation;
    unsigned state;
    bool started;  /* every rank was */
    bool killed;   /* the grace is over */
    size_t nodes;  /* of all its generation */
    bool asked;    /* a rank of it has asked to stay, should it fail */
    bool unfit;    /* its ranks could not go over: they do not stay */
    uint64_t kill_ns;
    char detail[TIDE_TEXT_MAX + 1];
    struct rank_part *ranks;
    size_t rank_count;
};

enum work_state { WORK_WANTED, WORK_RUNNING, WORK_DONE, WORK_FAILED };

struct shard_part {
    unsigned state;
    uint32_t attempt; /* of the order it was done for */
    uint32_t slot;
    struct retry retry;
    struct shard_report report;
};

struct manifest_part {
    unsigned state;
    uint32_t attempt;
    struct retry retry;
    struct manifest_report report; /* cut 0: none */
};

/* Communicators of the ranks here that recorded. */
struct comms_part {
    uint64_t cut;
    uint32_t attempt;
    uint32_t ranks; /* that are in it */
    struct cut_comms *sum; /* NULL: none */
};

#define PURGE_ID_MAX 47

struct purge_part {
    unsigned state;
    uint64_t cut;
    char id[PURGE_ID_MAX + 1]; /* of this deletion: a cut may be deleted more than once */
    struct retry retry;
};

/* A checkpoint in the store that is read from time to time. What is known of it ends with the agent. */
struct scrub_part {
    uint64_t not_before_ns;
    uint64_t done_ns; /* it was looked at as a whole, when last; 0: never */
    struct scrub_report report;
};

#define PACE_STEPS 8u

/* What is here of a rank that recorded elsewhere, in slots of their own. */
struct copy_slot {
    uint64_t cut; /* whole, with digest; 0: none */
    char digest[DIGEST_HEX_CHARS + 1];
    bool busy;    /* being written, or given back; there is no cut then */
};

struct copy_part {
    uint32_t rank;
    struct copy_slot slots[SLOTS];
    bool fetching;
    uint64_t failed_cut;
    uint32_t failures; /* of it, in a row */
    struct retry retry;
    char detail[TIDE_TEXT_MAX + 1];
};

/* How fast the ranks of one generation here make their steps. */
struct pace_part {
    uint64_t generation;
    uint64_t moved_ns;         /* one of them was last seen to have made a step, or was started; 0: none was */
    uint64_t top, top_ns;      /* the furthest, and when it was seen there */
    uint64_t step_ns[PACE_STEPS];
    size_t steps;              /* that were measured; the newest so many are kept */
};

struct job_part {
    struct pace_part pace;
    char uid[TIDE_UID_CHARS + 1];
    char name[TIDE_NAME_MAX + 1];
    bool assigned;
    bool has_order;
    struct assignment order;      /* newest not refused */
    uint64_t generation;          /* newest told */
    uint64_t started_generation;  /* newest that was started here */
    struct retry start_retry, widen_retry;
    char start_detail[TIDE_TEXT_MAX + 1];
    LIST_OF(struct step_part) steps;
    LIST_OF(struct rank_slots) slots;
    LIST_OF(struct shard_part) shards;
    LIST_OF(struct purge_part) purges;
    LIST_OF(struct scrub_part) scrubs; /* of order.scrub, each */
    LIST_OF(struct copy_part) copies;
    struct manifest_part manifest;
    struct comms_part comms;
    uint64_t epoch;      /* grows with every change to a slot */
    uint64_t look_epoch; /* when the present look began */
    bool look_wanted, looking;
    bool arena_removed; /* the job is over; what is left to do needs no memory */
    unsigned in_flight;  /* worker-thread actions not answered yet */
};

struct agent_core {
    struct agent_identity identity;
    uint64_t revision;
    struct health_report health;
    uint64_t health_ns;  /* when that was so */
    bool desired_seen;
    bool ending;
    uint64_t scrub_every_ms; /* 0: never */
    uint64_t hang_ms;        /* 0: never */
    bool scrubbing;          /* an answer is to come, whatever has become of the job */
    unsigned copying; /* of all jobs */
    uint64_t sequence;
    struct job_part **jobs;
    size_t job_count;
    /* For the length of one agent_step. */
    uint64_t now_ns;
    const struct control_comm *comms; /* of the page that this is about; NULL: it is about something else */
    struct agent_actions *actions;
    bool dirty; /* the leader waits for what has changed */
};

/* action.c */
struct agent_action *act(struct agent_core *core, unsigned kind, const struct job_part *job);
struct agent_action *act_rank(struct agent_core *core, unsigned kind, const struct job_part *job, uint32_t rank);
void say(struct agent_core *core, enum log_level level, const char *format, ...) PRINTF_LIKE(3, 4);
bool retry_due(const struct agent_core *core, const struct retry *retry);
void retry_later(const struct agent_core *core, struct retry *retry);

/* core.c */
struct job_part *job_of(struct agent_core *core, const char *uid);
struct job_part *job_make(struct agent_core *core, const char *uid, const char *name); /* NULL: too many */
struct step_part *step_of(struct job_part *job, uint64_t generation);
/* The step of the newest generation while it may run; NULL if there is none. */
struct step_part *step_live(struct job_part *job);
/* No rank here has made a step for longer than its steps take. */
bool stands_still(const struct pace_part *pace, uint64_t now_ns);
struct rank_part *rank_of(struct step_part *step, uint32_t rank);
struct step_part *step_make(struct agent_core *core, struct job_part *job, uint64_t generation, const struct job_spec *spec,
                            uint32_t node_rank);
void step_drop(struct job_part *job, struct step_part *step);
struct rank_slots *slots_of(struct job_part *job, uint32_t rank); /* made when missing */
/* The order to put a cut into the store; cut 0: there is none. It stands in the place of the one to record, or beside it. */
const struct cut_order *stored_order(const struct job_part *job);
uint32_t slots_of_rank(const struct rank_part *part); /* as many as it may be armed for */
bool order_runs(const struct job_part *job); /* the order is for the newest generation, and to run it */

/* ev_*.c: knowledge only */
void ev_health(struct agent_core *core, const struct agent_event *event);
void ev_registered(struct agent_core *core, const struct agent_event *event);
void ev_desired(struct agent_core *core, const struct agent_event *event);
void ev_arena_found(struct agent_core *core, const struct agent_event *event);
void ev_looked(struct agent_core *core, const struct agent_event *event);
void ev_step_found(struct agent_core *core, const struct agent_event *event);
void ev_step_started(struct agent_core *core, const struct agent_event *event);
void ev_step_failed(struct agent_core *core, const struct agent_event *event);
void ev_step_status(struct agent_core *core, const struct agent_event *event);
void ev_step_gone(struct agent_core *core, const struct agent_event *event);
void ev_page(struct agent_core *core, const struct agent_event *event);
void ev_armed(struct agent_core *core, const struct agent_event *event);
void ev_summed(struct agent_core *core, const struct agent_event *event);
void ev_found(struct agent_core *core, const struct agent_event *event);
void ev_fetched(struct agent_core *core, const struct agent_event *event);
void ev_copied(struct agent_core *core, const struct agent_event *event);
void ev_uncopied(struct agent_core *core, const struct agent_event *event);
void ev_stored(struct agent_core *core, const struct agent_event *event);
void ev_committed(struct agent_core *core, const struct agent_event *event);
void ev_purged(struct agent_core *core, const struct agent_event *event);
void ev_scrubbed(struct agent_core *core, const struct agent_event *event);

/* Helpers that several events share. */
void copies_found(struct job_part *job, const struct agent_held *copies, size_t count);
void report_copies(const struct job_part *job, struct gen_report *to);
void slot_begin(struct job_part *job, uint32_t rank, uint32_t slot);   /* its contents are about to change */
void slot_release(struct job_part *job, uint32_t rank, uint32_t slot); /* … no longer; what it holds is worth a look */
bool slot_stored_from(const struct job_part *job, uint32_t rank, uint32_t slot); /* a worker is reading it for the store */
void cut_notice_page(struct agent_core *core, struct job_part *job, struct rank_part *part);
/* Communicators of a rank that has just recorded. Errors: LIMIT. */
enum tide_status comms_add(struct job_part *job, struct rank_part *part, const struct control_comm *comms, struct err *err);
void comms_release(struct comms_part *comms);
void report_comms(const struct job_part *job, const struct step_part *step, struct gen_report *to);
void cut_step_gone(struct job_part *job, struct rank_part *part);
void restore_ask(struct agent_core *core, struct job_part *job, struct rank_part *part, const struct step_ask *ask);
void restore_begin(struct restore_part *restore, uint64_t cut);

/* Nothing here writes objects of that cut, or will before it is ordered to. */
bool store_left(const struct job_part *job, uint64_t cut);
/* "4", or "4@900" where it is deleted once more. False: it names no cut, and nothing is done for it. */
bool purge_cut(const char *id, uint64_t *ret_cut);

/* drive_*.c: actions only */
void drive_steps(struct agent_core *core, struct job_part *job);
void drive_restore(struct agent_core *core, struct job_part *job);
void drive_cut(struct agent_core *core, struct job_part *job);
void drive_epochs(struct agent_core *core, struct job_part *job);
void drive_store(struct agent_core *core, struct job_part *job);
void scrub_soon(const struct agent_core *core, struct job_part *job, uint64_t cut); /* something in it is damaged, as it seems */
void drive_scrub(struct agent_core *core); /* all jobs: one checkpoint at a time is read */
void report_scrubs(const struct agent_core *core, const struct job_part *job, struct gen_report *to);
void drive_copies(struct agent_core *core, struct job_part *job);

#endif
