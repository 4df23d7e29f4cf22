/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_CORE_CORE_H
#define AGENT_CORE_CORE_H

/* What an agent decides, as one pure step function: an event comes in, actions come out, the shell does them and tells
 * of each outcome by another event. Nothing here knows a clock, a file or a socket.
 *
 *   events  what happened: desired state, a step's status, a rank's control page, the result of an action, a tick
 *   actions what to do now. All are idempotent; each that has an outcome is answered by exactly one event (named below),
 *           and is not asked for again before that answer came. A failure is tried again with backoff, on ticks.
 *
 * Steps, ranks, slots and pages are looked at, never remembered across a restart of the agent: the shell tells what it
 * finds (EV_STEP_FOUND, EV_ARENA_FOUND, EV_STEP_STATUS, EV_PAGE) and the core knows as much as before.
 *
 * Three rules everything here serves:
 *   fencing      a generation starts only when every older one is gone from this node, and at most once; an order of an older
 *                generation than the newest told is refused; what is older than the newest told is killed
 *   no surprise  a desired state of another cluster, another incarnation or an older revision changes nothing
 *   no lie       the heartbeat says only what is known now, all of it, in every heartbeat */

#include "agent/step/link.h"
#include "ckpt/wire/local.h"
#include "ckpt/wire/node.h"

#define AGENT_TICK_MS 100u            /* how often the shell sends EV_TICK */
#define AGENT_PAGE_POLL_MS 20u        /* how often it looks at pages while a rank is armed, or about to make its first step */
#define AGENT_EPOCH_POLL_MS 4u        /* … and while others wait for what ranks say of their colours */
#define AGENT_JOBS_MAX (2 * NODE_JOBS_MAX) /* jobs with something left on this node, not assigned ones included */
#define AGENT_STEPS_MAX 8u            /* generations of one job with something left on this node */
#define AGENT_RETRY_MS_MIN 200u       /* after a failed action; doubles … */
#define AGENT_RETRY_MS_MAX 5000u      /* … up to this */
#define AGENT_KILL_AFTER_MS 1000u     /* a step told to end that is not gone by then (plus its grace) is killed */
#define AGENT_LEAVE_MS (STEP_LEAVE_MS + 3000u) /* a step told to leave that neither has left nor is gone by then is killed */
#define AGENT_STAY_MS 60000u          /* ranks that wait longer for the next generation are ended: their node may be needed */
#define AGENT_FETCH_DEADLINE_MS 3600000u /* a restore that only fails (a store out of reach) is given up; that costs a restart */
#define AGENT_UNREAD_MS 60000u         /* a store that can be used, but cannot read just this, for so long: as good as damaged */
#define AGENT_SCRUB_FIRST_MS 600000u   /* a checkpoint that has been in the store for that long is worth a look; most are dropped before */
#define AGENT_SCRUB_RETRY_MS 60000u    /* after a look at a checkpoint in the store that came to no end */
#define AGENT_PEER_TRIES_MAX 5u        /* fetches from a peer that fail; then the store is asked, if it has the checkpoint … */
#define AGENT_PEER_DEADLINE_MS 60000u  /* … else the peer is asked for so long */
#define AGENT_COPIES_MAX 1u            /* of others' memory, being fetched at a time */
#define AGENT_COPY_TRIES_MAX 3u        /* that fail; then it is told, and tried on */
#define AGENT_FIND_TRIES_MAX 5u        /* looks into the arena that fail; then another copy is asked for */

struct agent_identity {
    char node[TIDE_NAME_MAX + 1];
    char uid[TIDE_UID_CHARS + 1];
    char incarnation[TIDE_UID_CHARS + 1];
    char cluster[TIDE_UID_CHARS + 1]; /* joined earlier; empty: none yet, the first registration decides */
};

/* A control page as it was at one moment (ckpt/wire/local.h), read with recorded_cut and recorded_attempt first. */
struct agent_page {
    uint32_t phase; /* enum control_phase */
    int32_t pid;
    uint64_t step;
    uint64_t armed_step, armed_cut;
    uint32_t armed_attempt, armed_slot;
    uint64_t armed_epoch;
    bool stays;                /* the rank has asked to go over to the next generation, should this one fail */
    struct epoch_order epochs; /* as written here last */
    bool coloured;
    uint32_t declared;         /* enum cut_mode */
    uint64_t polling, ended, epoch, sent, arrived; /* sent and arrived are of `epoch` */
    uint64_t recorded_cut;
    uint32_t recorded_attempt;
    uint32_t record_result, record_status, record_slot;
    uint64_t record_step, record_bytes, record_stall_ns;
    uint64_t record_collectives, record_logged, record_logged_bytes;
    uint32_t record_comms, record_copy;
    uint64_t record_copy_ns;
    char record_detail[TIDE_TEXT_MAX + 1];
    uint64_t restored_cut, restored_step, restore_ns;
};

/* A whole recorded cut in a slot. */
struct agent_held {
    uint32_t rank, slot;
    uint64_t cut;
    char digest[DIGEST_HEX_CHARS + 1];
};

enum agent_event_kind {
    EV_HEALTH,      /* health (borrowed): what is wrong with this node now */
    EV_REGISTERED,  /* cluster: as welcomed; the revision starts anew */
    EV_DESIRED,     /* desired (borrowed) */
    EV_TICK,
    /* found by the shell when it started, before anything else */
    EV_ARENA_FOUND, /* uid, job, generation: newest told, as noted in the arena; held, copies. May come before EV_STEP_FOUND */
    EV_STEP_FOUND,  /* spec: of a step directory; stays: a rank of it has asked for that. Its process may be up or gone:
                       EV_STEP_STATUS, EV_STEP_GONE follow */
    /* of a step; uid, generation */
    EV_STEP_STARTED, /* answers START_STEP */
    EV_STEP_FAILED,  /* answers START_STEP: status, text. Nothing of it is running */
    EV_STEP_STATUS,  /* step_status (borrowed); uid and generation are taken from it */
    EV_STEP_GONE,    /* the step and every process of its generation are gone from this host */
    EV_PAGE,         /* rank, page, comms: at every look */
    /* outcomes of actions; uid, and what the action named; status OK or why not, with text */
    EV_ARMED,     /* answers ARM: generation, rank, cut, attempt; outcome, step */
    EV_SUMMED,    /* answers SUM: rank, slot, cut; digest */
    EV_FOUND,     /* answers FIND: rank, cut; slot, digest */
    EV_FETCHED,   /* answers FETCH: rank, cut, slot. IO with store_up: the store can be used, but not read just this */
    EV_COPIED,    /* answers COPY: rank, cut, slot; digest */
    EV_UNCOPIED,  /* answers UNCOPY: rank, slot */
    EV_LOOKED,    /* answers LOOK: held: all of the job's arena */
    EV_STORED,    /* answers STORE: rank, cut; key, digest, raw_bytes, stored_bytes */
    EV_COMMITTED, /* answers COMMIT: cut; key, digest */
    EV_PURGED,    /* answers PURGE: cut */
    EV_SCRUBBED,  /* answers SCRUB: cut; raw_bytes; text, with OK: of a damaged pack that it can do without. CORRUPT: something is wrong
                   * with it, text; other failures say nothing of it */
    EV_KINDS
};

enum agent_arm_outcome {
    ARM_ARMED,  /* the rank will see it, or has seen it already */
    ARM_MISSED, /* the rank is at `step` >= k */
    ARM_BUSY,   /* the rank is recording an earlier attempt: try again when its page says so */
    ARM_NO_PAGE /* no control page (yet) */
};

struct agent_event {
    unsigned kind; /* enum agent_event_kind */
    char uid[TIDE_UID_CHARS + 1];
    char job[TIDE_NAME_MAX + 1];
    char cluster[TIDE_UID_CHARS + 1];
    uint64_t generation;
    uint32_t rank, attempt, slot;
    uint64_t cut, step;
    unsigned outcome; /* enum agent_arm_outcome */
    enum tide_status status;
    char text[TIDE_TEXT_MAX + 1];
    char digest[DIGEST_HEX_CHARS + 1];
    char key[TIDE_PATH_MAX + 1];
    uint64_t raw_bytes, stored_bytes;
    bool stays;
    bool store_up;
    struct agent_page page;
    /* Borrowed for the length of the call. */
    const struct desired *desired;
    const struct health_report *health;
    const struct step_spec *spec;
    const struct step_status *step_status;
    const struct agent_held *held;
    size_t held_count;
    const struct agent_held *copies; /* of what others recorded */
    size_t copies_count;
    const struct control_comm *comms; /* CONTROL_COMMS_MAX, of which page.record_comms are of the last record */
    const struct control_progress *progress; /* of PAGE: how far its communicators are; NULL: it is not told */
};

enum agent_action_kind {
    ACT_HEARTBEAT,       /* something the leader waits for has changed: send agent_heartbeat() now */
    ACT_SAY,             /* level (enum log_level), text: a line for the log */
    /* uid, generation */
    ACT_START_STEP,      /* order: make the arena, write step.json, start the step. from: not 0, the step of that generation, which has
                            left it, goes over instead. Answer: EV_STEP_STARTED or _FAILED */
    ACT_LEAVE_STEP,      /* its generation is over; ranks that asked for it leave it and stay. Its status tells: left;
                            or EV_STEP_GONE comes */
    ACT_END_STEP,        /* grace_ms, over its socket; a step that cannot be reached is killed. EV_STEP_GONE comes some time */
    ACT_KILL_STEP,       /* by the kernel: its cgroup or all its processes, then the step */
    ACT_ANSWER,          /* answer: to a rank's restore question, over the step's socket */
    ACT_WIDEN,           /* a third slot for each rank, as far as the arena has room. No answer; the step's status tells */
    ACT_REMOVE_STEP_DIR, /* the step is gone and its status no longer wanted; logs stay. No answer */
    /* uid, generation, rank */
    ACT_ARM,             /* cut, attempt, slot, step, epoch. Anything else armed there is disarmed first. Answer: EV_ARMED */
    ACT_DISARM,          /* cut: only if that is armed and not being recorded. No answer; the page tells */
    ACT_EPOCHS,          /* epochs: where the page has less. No answer; the page tells */
    /* uid; on worker threads */
    ACT_SUM,             /* rank, slot, cut, epoch: with one, no message is added any more, and the slot is closed first.
                            Answer: EV_SUMMED */
    ACT_FIND,            /* rank, cut; every chunk is hashed. Answer: EV_FOUND */
    ACT_FETCH,           /* rank, cut, slot, tier, order: restore_manifest_*, store, or restore_peer_*. Answer: EV_FETCHED */
    ACT_COPY,            /* rank, cut, slot of the copies, order: token, copy: where from. Answer: EV_COPIED */
    ACT_UNCOPY,          /* rank, slot of the copies. Answer: EV_UNCOPIED */
    ACT_LOOK,            /* answer: EV_LOOKED */
    ACT_STORE,           /* rank, slot, cut, order: store. Answer: EV_STORED */
    ACT_COMMIT,          /* stored, order: store. Answer: EV_COMMITTED */
    ACT_PURGE,           /* cut, 0: what nobody needs; order: store, sweep_*. Answer: EV_PURGED */
    ACT_SCRUB,           /* cut, order: scrub, store; one at a time, at its own pace. Answer: EV_SCRUBBED */
    ACT_REMOVE_ARENA,    /* nothing uses it any more. No answer */
    ACT_KINDS
};
extern const char *const agent_action_names[];

struct agent_action {
    unsigned kind; /* enum agent_action_kind */
    char uid[TIDE_UID_CHARS + 1];
    char job[TIDE_NAME_MAX + 1];
    uint64_t generation;
    uint32_t rank, attempt, slot;
    uint64_t cut, step, epoch;
    struct epoch_order epochs;
    uint64_t grace_ms;
    uint64_t from; /* generation */
    struct step_answer answer;
    const struct assignment *order; /* borrowed until the next agent_step */
    const struct cut_order *stored; /* of `order`; borrowed as long */
    const struct copy_order *copy;  /* the same */
    uint32_t tier;                  /* enum local_tier */
    unsigned level;
    char text[TIDE_TEXT_MAX + 1];
};

struct agent_actions {
    struct agent_action *items;
    size_t count, room;
};
void agent_actions_clear(struct agent_actions *actions); /* empty it, keep the memory */
void agent_actions_release(struct agent_actions *actions);

struct agent_core;
struct agent_core *agent_create(const struct agent_identity *identity);
void agent_free(struct agent_core *core); /* NULL is legal */

/* Read each checkpoint that it is told to once in so long; 0, as at first: none. */
void agent_scrub_every(struct agent_core *core, uint64_t every_ms);

/* A rank for which others wait for so long hangs: told with each heartbeat; 0, as at first: never. */
void agent_hang_after(struct agent_core *core, uint64_t ms);

/* Take in one event; what is to be done is appended to `actions`. now_ns: monotonic, never falls. */
void agent_step(struct agent_core *core, const struct agent_event *event, uint64_t now_ns, struct agent_actions *actions);

/* The whole truth about this node. Every call takes the next sequence number. Release with heartbeat_codec. */
void agent_heartbeat(struct agent_core *core, uint64_t now_ns, struct heartbeat *ret_heartbeat);

#define AGENT_STILL_MS 1000u        /* a job stands still when it has made no step here for that, and for … */
#define AGENT_STILL_STEPS 2u        /* … so many of its median steps */
#define AGENT_STILL_FIRST_MS 30000u /* or, while nobody knows how long its steps take, for that */

/* Pids of ranks that run here, at most `room`: first those of jobs that stand still, ret_still of them. */
size_t agent_ranks(const struct agent_core *core, uint64_t now_ns, int32_t *pids, size_t room, size_t *ret_still);

/* Of these, that are in their restore: they compute nothing until they have been given what they restore. */
size_t agent_ranks_restoring(const struct agent_core *core);

/* The secret that other nodes show who copy from the job's memory here; NULL: none may. */
const char *agent_token(const struct agent_core *core, const char *uid);

/* How often to look at pages, ms; 0: with the ticks is enough. */
uint64_t agent_look_ms(const struct agent_core *core);

/* Newest revision of desired state taken in: the long poll's `after`. */
uint64_t agent_revision(const struct agent_core *core);

/* Nothing runs, nothing is held: the node may join another cluster. */
bool agent_idle(const struct agent_core *core);

/* End all steps with their jobs' grace (the agent itself is told to end with them). The actions go out with the next event;
 * from then on nothing is started. */
void agent_end_all(struct agent_core *core);
/* The longest that one of the steps not gone yet may take to end. */
uint64_t agent_grace_ms(const struct agent_core *core);
/* Steps not gone yet. */
size_t agent_steps_left(const struct agent_core *core);

#endif
