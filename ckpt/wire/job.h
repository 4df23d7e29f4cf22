/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_WIRE_JOB_H
#define CKPT_WIRE_JOB_H

/* What a user asks for, and what has become of it: the nouns of /v1/jobs. */

#include <tidemark/states.h>
#include <tidemark/types.h>

#include "ckpt/base/digest.h"
#include "ckpt/wire/codec.h"

/* How ranks find each other beyond the torchrun environment, which every rank gets. */
enum job_launcher { LAUNCHER_PMIX, LAUNCHER_NONE, LAUNCHERS };

/* Where what its ranks record is kept, until it is in the store: in the memory of another node, too, or of their own alone. */
enum job_copies { COPIES_PEER, COPIES_NO, COPIES_KINDS };

#define CKPT_ID_MAX (TIDE_NAME_MAX + 21) /* "JOB/7" */

struct job_spec {
    char name[TIDE_NAME_MAX + 1];
    struct strlist argv;          /* argv[0] is looked up in PATH, or relative to cwd if it holds a slash */
    struct strlist env;           /* "NAME=value", on top of the agent's environment */
    char cwd[TIDE_PATH_MAX + 1];  /* on every node */
    uint32_t nnodes;              /* nodes that run ranks, >= 1 */
    uint32_t spares;              /* further nodes held ready for it */
    uint32_t nproc_per_node;      /* ranks per node, 1..TIDE_LOCAL_RANKS_MAX */
    unsigned launcher;            /* enum job_launcher */
    uint64_t ckpt_every_ms;       /* 0: by hand only */
    uint32_t ckpt_keep;           /* newest committed checkpoints kept; 0: the default */
    uint32_t ckpt_keep_every;     /* of older ones, one in so many; 0: none */
    uint64_t ckpt_keep_every_ms;  /* … and one of each such time; 0: none */
    uint64_t ckpt_grace_ms;       /* from when one is condemned until it is deleted; 0: the default */
    char store[TIDE_PATH_MAX + 1]; /* "file:///dir"; empty: the cluster's default */
    uint32_t max_restarts;        /* after failures; rollbacks by hand do not count */
    uint64_t stop_grace_ms;       /* between SIGTERM and SIGKILL when a job is cancelled; 0: the default */
    uint64_t cut_deadline_ms;     /* a cut not sealed by then, slow steps not counted, is aborted; 0: the default */
    uint64_t start_deadline_ms;   /* a generation whose ranks are not all started by then has failed; 0: the default */
    unsigned cut_mode;            /* enum cut_mode (ckpt/cut/mode.h); what the program declares goes before it */
    uint32_t elastic_min, elastic_max; /* ranks that it can go on with: as many as there are nodes for, of nproc_per_node each; 0: as
                                          many as it was submitted with, and no others */
    char restore_from[CKPT_ID_MAX + 1]; /* "JOB/7" or "JOB", its newest: what the first generation starts from; empty: the beginning */
    unsigned copies;              /* enum job_copies */
};

#define SPEC_CKPT_KEEP_DEFAULT 3u
#define SPEC_CKPT_GRACE_MS_DEFAULT 60000u
#define SPEC_STOP_GRACE_MS_DEFAULT 10000u
#define SPEC_CUT_DEADLINE_MS_DEFAULT 30000u
#define SPEC_START_DEADLINE_MS_DEFAULT 120000u
#define SPEC_MAX_RESTARTS_DEFAULT 10u /* the CLI's; on the wire 0 means none, as torchrun */

extern const struct codec job_spec_codec;
/* What the table cannot say: nonempty argv, counts in range, "NAME=value". Fills defaults for zeros. Errors: INVALID. */
MUST_USE enum tide_status job_spec_check(struct job_spec *spec, struct err *err);

/* One checkpoint of a job. Its id is `cut`, 1, 2, 3 … in a job, never reused: people write JOB/7 or 7. */
struct ckpt {
    uint64_t cut;
    uint64_t generation; /* that recorded it */
    uint32_t attempt;    /* arming attempts used */
    unsigned state;      /* enum tide_ckpt_state */
    uint64_t step;       /* k: state after that many steps. Mode free: the largest at which a rank recorded, once sealed */
    uint64_t epoch;      /* of the messages, begun by the present attempt; 0: they are not coloured */
    unsigned mode;       /* enum cut_mode; auto: messages are not coloured, and all record at step k */
    bool attempt_void;   /* the present attempt is given up; the next begins when its epoch is closed */
    bool by_hand;
    uint64_t opened_ms, sealed_ms, committed_ms; /* wall clock of the leader; 0: not yet */
    uint64_t raw_bytes, stored_bytes;            /* of all shards */
    uint64_t stall_us;                           /* longest time a rank stood still to record */
    uint64_t logged, logged_bytes;               /* messages that were on their way, saved with their receivers */
    unsigned copy;                               /* enum record_copy (local.h), of the rank that had it hardest */
    uint64_t copy_ms;                            /* longest from a safe point until all of the rank was copied */
    char manifest[DIGEST_HEX_CHARS + 1];         /* digest of the manifest object, once committed */
    char manifest_key[TIDE_PATH_MAX + 1];
    bool pinned;            /* kept until it is unpinned */
    uint64_t held_until_ms; /* kept until then, by the leader's wall clock; 0: not held */
    bool unwanted;          /* condemned by hand: no rule takes it back */
    bool given_up;          /* corrupt when its job went back to an earlier one, or when nobody kept that in mind: never restored */
    bool imported;          /* no generation of this log recorded it: it was found in a store */
    bool inherited;         /* it is another job's (job.origin), which this one goes on from: no object of it is this one's to delete */
    bool memory_only;       /* sealed while another was being stored: no node was told to store it (yet) */
    uint64_t condemned_ms;  /* wall clock of the leader; 0: it is not condemned */
    uint32_t world_size;    /* ranks that made it, where `nodes` do not tell, and it is not as many as the spec says; else 0 */
    struct strlist nodes; /* nodes[i] held the ranks of node rank i when it was recorded */
    struct strlist peers; /* peers[i] has a copy of what those recorded in its memory; an empty string: nobody has (any more) */
    char reason[TIDE_TEXT_MAX + 1]; /* why it is not committed (any more); of a sealed one: why it will not be stored */
};
extern const struct codec ckpt_codec;

/* Whole in memory, and not in the store (yet). */
static inline bool ckpt_in_memory(const struct ckpt *ckpt)
{
    return ckpt->state == TIDE_CKPT_SEALED || ckpt->state == TIDE_CKPT_PEERED;
}

extern const char *const ckpt_state_names[];
extern const char *const cut_mode_names[];    /* of enum cut_mode */
extern const char *const record_copy_names[]; /* of enum record_copy */

enum event_kind {
    EVENT_SUBMITTED, EVENT_WAITING, EVENT_LAUNCHED, EVENT_RUNNING, EVENT_STEPPING, EVENT_RANK_EXITED, EVENT_NODE_LOST,
    EVENT_FENCED, EVENT_CUT_OPENED, EVENT_CUT_REARMED, EVENT_CUT_ABORTED, EVENT_SEALED, EVENT_COMMITTED, EVENT_CORRUPT,
    EVENT_DROPPED, EVENT_ROLLBACK, EVENT_CANCEL, EVENT_FINISHED, EVENT_STORE_FAILED, EVENT_NOTE, EVENT_CUT_VOID,
    EVENT_KEPT, EVENT_CONDEMNED, EVENT_NODE_HEALTH, EVENT_PEERED, EVENT_UNPEERED, EVENT_KINDS
};

/* One line of a job's history, ordered by revision. */
struct event {
    uint64_t revision; /* log index of the command that caused it */
    uint64_t at_ms;    /* wall clock of the leader; for people */
    unsigned kind;     /* enum event_kind */
    uint64_t generation;
    uint64_t cut;                 /* 0: none */
    char node[TIDE_NAME_MAX + 1]; /* empty: none */
    int32_t rank;                 /* -1: none */
    char text[TIDE_TEXT_MAX + 1]; /* a sentence */
};
extern const struct codec event_codec;

/* How one failure (or rollback) was overcome. Durations in ms, 0 while unknown. */
struct recovery {
    uint64_t generation;          /* the one that ended */
    unsigned cause;               /* enum event_kind: RANK_EXITED, NODE_LOST, NODE_HEALTH, ROLLBACK, NOTE (start deadline, drain) */
    char node[TIDE_NAME_MAX + 1]; /* who was first */
    int32_t rank;
    char text[TIDE_TEXT_MAX + 1]; /* "rank 2 on n3 was killed by signal 9" */
    uint64_t at_ms;               /* wall clock of the verdict */
    uint64_t detect_ms;           /* happened (or last sign of life) -> verdict */
    uint64_t fence_ms;            /* verdict -> old generation gone everywhere */
    uint64_t start_ms;            /* next generation launched -> all its ranks started */
    uint64_t restore_ms;          /* longest restore of a rank */
    uint64_t total_ms;            /* happened -> every rank made its first step */
    uint64_t cut;                 /* restored from; 0: from the beginning */
    uint64_t from_step;           /* largest step any rank had reached */
    uint64_t to_step;             /* step restored */
};
extern const struct codec recovery_codec;

/* Whose checkpoint a job goes on from. */
struct job_origin {
    char job[TIDE_NAME_MAX + 1];
    char uid[TIDE_UID_CHARS + 1]; /* empty: it began at the beginning */
    uint64_t cut;                 /* that job's id of it; here it has the same */
    char store[TIDE_PATH_MAX + 1];
};
extern const struct codec job_origin_codec;

struct job {
    char uid[TIDE_UID_CHARS + 1]; /* tells this job from an earlier one of the same name */
    struct job_spec spec;
    unsigned state;         /* enum tide_job_state */
    uint64_t generation;    /* 0 before the first */
    struct strlist nodes;   /* nodes[i] runs node rank i; empty strings while unplaced */
    struct strlist spares;  /* held for it */
    uint64_t restore_cut;   /* this generation starts from it; 0: from the beginning */
    uint64_t next_cut;      /* id the next cut will get, >= 1 */
    uint32_t restarts;      /* after failures */
    uint64_t submitted_ms, started_ms, ended_ms;
    int32_t exit_status;    /* 0, 1..255, or 128+signal */
    /* Epochs of this generation's messages (ckpt/cut/README.md): the newest of an attempt, that ranks may have begun, that no
     * older message is on its way in, that all have ended the transition to or nobody begins any more. */
    uint64_t epoch, epoch_go, epoch_settled, epoch_closed;
    bool all_started;       /* every rank of this generation was started */
    bool all_stepped;       /* … and has made a step */
    char reason[TIDE_TEXT_MAX + 1]; /* why in this state */
    struct job_origin origin;
    LIST_OF(struct ckpt) ckpts;         /* oldest first */
    LIST_OF(struct recovery) recoveries; /* oldest first */
    LIST_OF(struct event) events;       /* oldest first */
};
extern const struct codec job_codec;
extern const char *const job_state_names[];
extern const char *const event_kind_names[];

static inline bool job_ended(unsigned state)
{
    return state >= TIDE_JOB_SUCCEEDED;
}

/* As it was submitted. */
static inline uint32_t job_world_size(const struct job_spec *spec)
{
    return spec->nnodes * spec->nproc_per_node;
}

static inline bool job_elastic(const struct job_spec *spec)
{
    return spec->elastic_max != 0;
}

/* Ranks of the present generation, or the last; before the first, those of the spec. */
static inline uint32_t job_world(const struct job *job)
{
    return (job->nodes.count > 0 ? (uint32_t)job->nodes.count : job->spec.nnodes) * job->spec.nproc_per_node;
}

/* Ranks that made a checkpoint of the job. */
static inline uint32_t ckpt_world(const struct job *job, const struct ckpt *ckpt)
{
    if (ckpt->nodes.count > 0)
        return (uint32_t)ckpt->nodes.count * job->spec.nproc_per_node;
    return ckpt->world_size != 0 ? ckpt->world_size : job_world_size(&job->spec);
}

/* Not filled into specs: those in logs of earlier versions have none. */
static inline uint64_t job_grace_ms(const struct job_spec *spec)
{
    return spec->ckpt_grace_ms ? spec->ckpt_grace_ms : SPEC_CKPT_GRACE_MS_DEFAULT;
}

/* NULL if the job has none of that id. */
struct ckpt *job_ckpt(const struct job *job, uint64_t cut);

#define RECOVERIES_MAX 1024

#endif
