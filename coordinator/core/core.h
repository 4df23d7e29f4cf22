/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CORE_CORE_H
#define COORDINATOR_CORE_CORE_H

/* What the coordinator decides, as pure functions. Two kinds of knowledge, never mixed:
 *
 *   struct state   replicated: changed only by apply(state, command), the same on every member and in every replay
 *   struct book    the leader's own: who sent a heartbeat when, and what it said; gone with the leader, and built anew
 *                  from the next heartbeats, since every one of them is the whole truth about its node
 *
 *   judge(state, book, now) → commands to propose (verdicts: node lost, generation failed, cut sealed, …)
 *   desired_build(state, book, node) → what that node should be doing (the effects: levels, idempotent, re-derived by any
 *                  leader from the same state)
 *
 * Time, chance and identifiers come in with the call or the command. */

#include "ckpt/base/rng.h"
#include "ckpt/cut/mode.h"
#include "ckpt/wire/access.h"
#include "ckpt/wire/view.h"

#define REQUEST_ID_MAX 64       /* bytes of an Idempotency-Key */
#define SESSIONS_MAX 4096       /* request ids remembered; the oldest go first */
#define LEASE_MS_DEFAULT 2000u
#define HEARTBEAT_MS_DEFAULT 250u
#define ENDED_WHOLE_MAX 64u     /* ended jobs whose history is kept whole: those that ended last */
#define ENDED_HISTORY_MAX 64u   /* events and recoveries kept of the others */
#define CUT_ATTEMPTS_MAX 5u     /* armings of one cut before it is aborted */
#define CUT_COLOURED_ATTEMPTS_MAX (CUT_STEP_TRIES + CUT_EARLY_TRIES) /* the same where messages are coloured */
#define STORE_ATTEMPTS_MAX 3u   /* tries to store a sealed cut before it is left in memory only */
#define STORE_DEADLINE_MS 600000u /* of one such try, without another shard in the store */
#define RESTART_PAUSE_MS 1000u    /* before the third generation in a row of a program that gets nowhere; then it doubles */
#define RESTART_PAUSE_MS_MAX 60000u
#define HEALTH_DRAINS_MS 3600000u      /* within that, health drains at most one of … */
#define HEALTH_DRAINS_OF 4u            /* … so many nodes, and at least one: what finds more is likelier ill itself */
#define HEALTH_DRAINED_OF 2u           /* … and at no time more than one of so many, and at least one, are drained for it */
#define HEALTH_GOOD_MS_DEFAULT 600000u /* a node drained for its health is given back when it was good for so long */
#define HEALTH_RESTART_MS 5000u   /* ranks that "cannot go on", and make no step for so long, get another generation */
#define LEVEL_NEWEST 4u           /* see "levels" */
#define FENCE_DEADLINE_MS 60000u  /* a node that has not ended an old generation by then is declared lost */

/* Where a job's newest generation stands. Beside job.state, which is for people. */
enum gen_phase {
    GEN_PHASE_NONE,     /* before the first, or after the end */
    GEN_PHASE_FENCING,  /* job.generation is new; ranks of older ones are being killed; nothing may start yet */
    GEN_PHASE_LAUNCHED, /* placed: nodes should run it */
    GEN_PHASE_STOPPING, /* job is ending: ranks are being stopped */
    GEN_PHASES
};

/* A job with what only coordinators know about it. */
struct job_record {
    struct job job;
    unsigned phase;                    /* enum gen_phase */
    char token[TIDE_TOKEN_CHARS + 1];  /* of this generation */
    char log_key[TIDE_TOKEN_CHARS + 1]; /* of the job, as long as it is remembered */
    uint32_t master_port;
    struct strlist fence;              /* nodes that may still hold processes of older generations */
    unsigned end_state;                /* enum tide_job_state to take when STOPPING is done */
    bool ckpt_requested;               /* by hand, not yet opened */
    uint64_t rollback_cut;             /* forced restore point of the next launch; 0: none */
    uint64_t last_cut_ms;              /* leader's wall clock, when the last cut was opened or a generation launched */
    struct cut_past cut_past;          /* how its attempts to cut coloured messages went; `declared` is not kept */
    uint64_t store_cut;                /* sealed, to be stored; 0: none */
    uint32_t store_attempts;           /* tries of store_cut that have failed */
    bool shards_stored;                /* of store_cut, all: only its manifest is missing */
    bool restore_stored;               /* job.restore_cut was committed when this generation was launched */
    uint32_t barren;                   /* generations in a row that failed before they made a step */
    uint64_t pause_ms;                 /* from the end of the last one until the next may be launched */
    uint64_t launched_ms;              /* leader's wall clock, when this generation was launched; for people */
    struct strlist purge;              /* deletions of dropped cuts that are not done: "cut", or "cut@revision" when it is
                                          not the first of that cut; "0@revision": of what nobody needs */
    struct strlist peers;              /* peers[i] is to have a copy, in memory, of what node rank i records; empty: nobody is to */
    uint64_t peers_at;                 /* revision that they are so since */
    bool unpeered;                     /* that the newest was not copied has been told, and none was since */
    struct strlist owed;               /* cuts deleted while a node that may write of them was lost: once more when it is
                                          back */
};

struct session {
    char request[REQUEST_ID_MAX + 1];
    uint32_t status;         /* enum tide_status */
    struct outcome outcome;
};

struct state {
    uint64_t revision;       /* index of the last applied command */
    char cluster[TIDE_UID_CHARS + 1];
    uint64_t lease_ms, heartbeat_ms;
    uint64_t health_good_ms;       /* 0: the default */
    char store[TIDE_PATH_MAX + 1]; /* default of jobs that name none */
    uint32_t level;                /* in which way commands are applied: see "levels" */
    LIST_OF(struct job_record) jobs;
    LIST_OF(struct node) nodes;
    LIST_OF(struct session) sessions; /* a ring in order of use */
    LIST_OF(struct token) tokens;     /* by name; expired ones stay until their place is needed */
    LIST_OF(struct revocation) revoked; /* certificates, by what */
};
extern const struct codec job_record_codec, session_codec;
extern const struct codec state_codec; /* codec_print of it is the snapshot image */

void state_release(struct state *state);
/* The newest job of that name, ended ones included; or the job of that uid. NULL: none. */
struct job_record *state_job(const struct state *state, const char *name);
struct node *state_node(const struct state *state, const char *name);
/* The largest serial that is known of its evidence. */
uint64_t node_health_serial(const struct node *node);
struct token *state_token(const struct state *state, const char *name);
const struct revocation *state_revoked(const struct state *state, const char *what);

/* ---- commands: the only way state changes ---- */

#define COMMAND_MAP(X)                                                                          \
    X(CLUSTER_INIT, "cluster_init")   /* text: uid; store, lease_ms, heartbeat_ms, health_good_ms; tokens; level */ \
    X(JOB_SUBMIT, "job_submit")       /* spec, uid; token: key of its logs */                                           \
    X(JOB_CANCEL, "job_cancel")       /* job */                                                 \
    X(JOB_ROLLBACK, "job_rollback")   /* job, cut (0: newest restorable at or below step), step */ \
    X(CKPT_REQUEST, "ckpt_request")   /* job */                                                 \
    X(CKPT_DROP, "ckpt_drop")         /* job, cut, force: at once, whatever it is */            \
    X(CKPT_PIN, "ckpt_pin")           /* job, cut, ms: hold it for so long; 0: until it is unpinned */ \
    X(CKPT_UNPIN, "ckpt_unpin")       /* job, cut */                                            \
    X(CKPT_GC, "ckpt_gc")             /* job: the grace of all that are condemned is over; look for orphans */ \
    X(CKPT_EXPIRE, "ckpt_expire")     /* job, cut: its grace is over; 0: a hold is */           \
    X(NODE_REGISTER, "node_register") /* hello */                                               \
    X(NODE_DRAIN, "node_drain")       /* node, text: why */                                     \
    X(NODE_RESUME, "node_resume")     /* node */                                                \
    X(NODE_LOST, "node_lost")         /* node, incarnation, ms: silent for; text: why, if not for silence */ \
    X(NODE_HEALTH, "node_health")     /* node, incarnation, health: all that it tells now */   \
    X(NODE_FIT, "node_fit")           /* node, incarnation, ms: it was good for so long */     \
    X(GEN_FAIL, "gen_fail")           /* job, generation, event: who was first; ms: ago; step: largest seen; exit_status; \
                                         final: do not restart */                               \
    X(GEN_LAUNCH, "gen_launch")       /* job, generation (1 for the first), cut: restore from; token, port; ms: since \
                                         the old one was gone; step: largest seen of the old one */ \
    X(GEN_STARTED, "gen_started")     /* job, generation */                                     \
    X(GEN_STEPPING, "gen_stepping")   /* job, generation, ms: longest restore */                \
    X(JOB_FINISH, "job_finish")       /* job, generation: every rank exited with 0 */           \
    X(JOB_STOPPED, "job_stopped")     /* job, generation: nothing is left of a stopping job */  \
    X(CUT_OPEN, "cut_open")           /* job, generation, cut, step: k; epoch, mode; event: whose fault, if it cannot be */ \
    X(CUT_REARM, "cut_rearm")         /* job, generation, cut, attempt, step: new k, epoch, mode, misfit, text */ \
    X(CUT_GO, "cut_go")               /* job, generation, cut, attempt, epoch: every rank is armed and polls */ \
    X(CUT_VOID, "cut_void")           /* job, generation, cut, attempt, misfit, event: who ended it so */ \
    X(CUT_SETTLED, "cut_settled")     /* job, generation, epoch: no older message is on its way */ \
    X(CUT_CLOSED, "cut_closed")       /* job, generation, epoch: every rank has ended the transition to it */ \
    X(CUT_ABORT, "cut_abort")         /* job, generation, cut, misfit, event: whose fault */    \
    X(CUT_SEAL, "cut_seal")           /* job, generation, cut, attempt, bytes, us: longest stall; step, if it was not known; \
                                         logged, logged_bytes; copy, ms: longest copy */        \
    X(CKPT_COMMIT, "ckpt_commit")     /* job, generation: present one; cut, key, digest, bytes, stored */ \
    X(STORE_FAIL, "store_fail")       /* job, cut, event; final: no other try */                                    \
    X(CKPT_CORRUPT, "ckpt_corrupt")   /* job, generation, cut, event: a rank finds no valid copy; also ends the generation \
                                         that restores from it */                               \
    X(CKPT_PURGED, "ckpt_purged")     /* job, cut, text: which of its deletions is done; empty: its first */ \
    X(ARENA_LOST, "arena_lost")       /* job, cut, event: sealed but no longer whole in memory */ \
    X(CKPT_PEERED, "ckpt_peered")     /* job, generation, cut, epoch: peers_at; every part of it is in the memory of another node, too */ \
    X(CKPT_UNPEERED, "ckpt_unpeered") /* job, generation, cut, event: who has not, or not any more, and why */ \
    X(CKPT_STORED, "ckpt_stored")     /* job, cut: every shard is in the store, the manifest may be written */ \
    X(TOKEN_ADD, "token_add")         /* tokens: one, its created_ms unset */                   \
    X(TOKEN_REMOVE, "token_remove")   /* text: name of the token */                             \
    X(CERT_REVOKE, "cert_revoke")     /* text: what, as in struct revocation */                 \
    X(CERT_ALLOW, "cert_allow")       /* text: the same: it counts again */                     \
    X(CLUSTER_LEVEL, "cluster_level") /* level: every member of the group can follow */       \
    X(CKPT_IMPORT, "ckpt_import")     /* job, uid, cut, generation, step: of a manifest; key, digest: of the object; bytes, stored; \
                                         store; spec: name, nnodes: ranks; force: every byte of it was read, and is right */

enum command_kind {
#define X(symbol, name) CMD_##symbol,
    COMMAND_MAP(X)
#undef X
    COMMAND_KINDS
};
extern const char *const command_kind_names[];

/* One flat struct; each kind uses the fields its line above names, the rest is zero. Commands of the leader name the job's
 * uid too. Encode it CODEC_COMPACT: what is empty is left out, and required fields of nouns that are not used are empty. */
struct command {
    unsigned kind;                     /* enum command_kind */
    uint64_t at_ms;                    /* wall clock of the leader when it proposed */
    char request[REQUEST_ID_MAX + 1];  /* of the client; empty for the leader's own */
    char job[TIDE_NAME_MAX + 1];
    char uid[TIDE_UID_CHARS + 1];      /* of the job: a verdict about an earlier job of the same name is refused */
    char node[TIDE_NAME_MAX + 1];
    char incarnation[TIDE_UID_CHARS + 1];
    uint64_t generation, cut, step, epoch, ms, us, bytes, stored, logged, logged_bytes;
    uint32_t attempt, port, level;
    unsigned mode;                     /* enum cut_mode */
    uint32_t misfit;                   /* enum cut_misfit */
    unsigned copy;                     /* enum record_copy */
    bool force, final;
    char token[TIDE_TOKEN_CHARS + 1];
    char digest[DIGEST_HEX_CHARS + 1];
    char key[TIDE_PATH_MAX + 1];
    char store[TIDE_PATH_MAX + 1];
    uint64_t lease_ms, heartbeat_ms, health_good_ms;
    struct health_report health;
    int32_t exit_status;               /* of a job that fails with it */
    struct event event;                /* kind, node, rank, text */
    char text[TIDE_TEXT_MAX + 1];
    struct job_spec spec;
    struct node_hello hello;
    LIST_OF(struct token) tokens;
};
extern const struct codec command_codec;

/* The one entry. `index` is the log index and must be above state->revision: entries of the log that are no commands take
 * indexes too, and leave the state as it is. A command that does not fit the state (older
 * generation, name taken, no such job) changes nothing but the revision and the session, says why in `err` and returns
 * its status: that is an answer, not a fault. A repeated request id returns the first answer and changes nothing else.
 * ret_outcome is filled in every case. */
enum tide_status apply(struct state *state, const struct command *command, uint64_t index, struct outcome *ret_outcome,
                       struct err *err);

/* ---- levels ---- */

/* A version that applies commands in another way than the one before it, or knows others, brings a new level. The one in force
 * is in the state, and so the same at the same entry on every member and in every replay; a new version applies older levels
 * as they were. It is raised through the log, once every member of the group runs a version that knows it: so members are
 * replaced one by one, and old and new ones hold the same state all the while.
 *
 *   0  versions that knew of no levels: a checkpoint that its job's rule does not keep is dropped at once
 *   1  it is condemned first, and has its grace; pins, holds and the search for orphans; the health of nodes
 *   2  cuts are sealed in memory while another is being stored, and the newest of them is stored next;
 *      checkpoints that were found in a store; jobs that go on from those of others
 *   3  how many nodes may be drained for their health at a time is bounded, too, and not only within an hour; who resumes a
 *      node forgives what was hidden by something worse, and what is new then is not hidden;
 *      nodes tell the pin of the key that their ports show; a sentence that is too long is cut in its middle, and that is marked;
 *      nodes have domains; what is recorded is copied into the memory of nodes of other domains, unless its job wants no copies
 *   4  a checkpoint that was found corrupt is readmitted when somebody has read every byte of it, unless its job went back behind it */

#define PIN_LEVEL 3u
#define MARK_LEVEL 3u /* of sentences that are too long */
#define READMIT_LEVEL 4u

/* The lowest level at which this may be proposed: there are no members then that could not read it. */
uint32_t command_level(const struct command *command);
/* Errors: STATE: a member may run a version that cannot read it. */
MUST_USE enum tide_status level_admits(const struct state *state, const struct command *command, struct err *err);
/* From an image, and from the log. What a later level brings this version cannot read, so the level is looked at before
 * anything else. Errors: VERSION with the level that it needs; INVALID. */
MUST_USE enum tide_status state_parse(const char *text, size_t bytes, struct state *ret_state, struct err *err);
MUST_USE enum tide_status command_parse(const char *text, size_t bytes, struct command *ret_command, struct err *err);
/* lowest: what the member of the oldest version knows. True: a command to propose. */
bool level_verdict(const struct state *state, uint32_t lowest, struct command *ret_command);

/* Every rule of the state, checked after each apply in tests and debug builds. Errors: STATE with the rule that broke. */
MUST_USE enum tide_status state_check(const struct state *state, struct err *err);

/* ---- the leader's book ---- */

/* What the leader itself finds of a node. */
struct found {
    struct health_fact fact; /* healthy: none */
    uint64_t until_ns;       /* counts until then */
};

struct book_entry {
    char node[TIDE_NAME_MAX + 1];
    uint64_t lease_until_ns;     /* leader's monotonic clock */
    uint64_t heard_ns;           /* 0: never by this leader */
    uint64_t since_ns;           /* registered, as this leader knows; or it took office then */
    struct found slow;           /* a rank there is a straggler */
    struct found hung;           /* others wait for a rank there; with `restart` for too long, since hung_ns */
    uint64_t hung_ns;
    uint64_t good_ns;            /* drained for its health, and seen good since; 0: it is not */
    struct heartbeat heartbeat;  /* the newest; empty before the first */
};

struct book {
    LIST_OF(struct book_entry) entries; /* by node name */
    uint64_t since_ns;           /* took office */
    uint64_t judged_ns;          /* last call of judge; 0: none yet */
    struct tracks *tracks;       /* internal: what the leader has seen of each job, and when */
};

/* Take office: every node of the state gets a full lease from now. */
void book_init(struct book *book, const struct state *state, uint64_t now_ns);
void book_release(struct book *book);
/* Take in a heartbeat; on success its contents have moved into the book. ret_changed: something but steps changed, so
 * judge should run now. Errors: NOT_FOUND (register first), STALE (another incarnation or uid holds the name). */
MUST_USE enum tide_status book_heartbeat(struct book *book, const struct state *state, struct heartbeat *heartbeat,
                                         uint64_t now_ns, bool *ret_changed, struct err *err);
/* A node registered just now: its lease starts. */
void book_registered(struct book *book, const struct state *state, const char *node, uint64_t now_ns);

/* Largest step any rank of the job has reported in its present generation; 0: none. For JOB_ROLLBACK by steps. */
uint64_t book_step(const struct book *book, const struct state *state, const char *job);

/* The verdicts due now, in the order to propose them. Call it again only when all of them were applied (or refused).
 * It is to be called four times in a lease; half of one without a call tells that the leader itself stood still: then
 * everybody gets a full lease, and every wait its full time, as from a new leader.
 * ret_next_ns: when it wants to be called again if nothing happens (deadline, lease, interval); now, when there are
 * verdicts, since more may follow from them. */
struct command_list {
    struct command *items;
    size_t count;
};
void judge(const struct state *state, struct book *book, uint64_t now_ns, uint64_t now_ms, struct rng *rng,
           struct command_list *ret_commands, uint64_t *ret_next_ns);
void command_list_release(struct command_list *list);

/* ---- what others see ---- */

/* All that `node` should be doing. Errors: NOT_FOUND. Release with desired_codec. */
MUST_USE enum tide_status desired_build(const struct state *state, const struct book *book, const char *node,
                                        struct desired *ret_desired, struct err *err);

MUST_USE enum tide_status view_job(const struct state *state, const struct book *book, const char *job, uint64_t now_ns,
                                   struct job_view *ret_view, struct err *err);
void view_jobs(const struct state *state, struct job_list *ret_list);
/* One after another, by name: all of them at a time would be 10 MB of ten thousand. */
typedef void view_node_fn(void *arg, struct node_view *view);
void view_nodes(const struct state *state, const struct book *book, uint64_t now_ns, view_node_fn *each, void *arg);
/* Errors: NOT_FOUND. */
MUST_USE enum tide_status view_node(const struct state *state, const struct book *book, const char *name, uint64_t now_ns,
                                    struct node_view *ret_view, struct err *err);
/* Numbers for whoever watches a cluster for long: the text format of Prometheus. Heap text. */
MUST_USE char *metrics_text(const struct state *state, const struct book *book, uint64_t now_ns, uint64_t wall_ms);
/* Fills all but members, version and uptime. */
void view_cluster(const struct state *state, struct cluster_view *ret_view);

#endif
