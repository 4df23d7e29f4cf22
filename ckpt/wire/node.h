/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_WIRE_NODE_H
#define CKPT_WIRE_NODE_H

/* The nouns of /v1/nodes, and the two documents that an agent and the leader exchange.
 *
 * Both are levels, not edges: `desired` is all that the node should be doing, `heartbeat` all that it is doing. Either
 * may be lost, repeated or reordered, and a new leader or a restarted agent needs nothing but the next one. */

#include "ckpt/wire/health.h"
#include "ckpt/wire/job.h"

#define ADDRESS_MAX 255 /* bytes of "host:port" */
#define PIN_CHARS 64    /* SHA-256 of a public key, in hex */
#define COMM_ID_CHARS 16
#define COMM_REPORTS_MAX 4096u /* of one node, job and cut: they must fit into a heartbeat */
#define COPIES_MAX 256u /* copy orders of one node and job, and the failures of them it tells */
#define DELETIONS_MAX (TIDE_CKPTS_MAX + 1) /* of one job: every checkpoint, and the sweep */

struct node {
    char name[TIDE_NAME_MAX + 1];
    char uid[TIDE_UID_CHARS + 1];         /* of the agent's state directory: the same after a restart of the agent */
    char incarnation[TIDE_UID_CHARS + 1]; /* new at every start of the agent */
    unsigned state;                       /* enum tide_node_state */
    bool cordoned;                        /* drained by hand: no new ranks */
    char host[ADDRESS_MAX + 1];           /* host name, for people and for rank 0's MASTER_ADDR when resolvable */
    char address[ADDRESS_MAX + 1];        /* IP ranks and agents of other nodes reach it at */
    uint32_t mesh_port;                   /* agent to agent */
    uint32_t log_port;                    /* HTTP of the agent: logs */
    char pin[PIN_CHARS + 1];              /* of the key that those ports show; empty: they are plain */
    uint32_t slots;                       /* ranks it can run at a time */
    char domain[TIDE_NAME_MAX + 1];       /* what is in one fails together; empty: it is one of its own */
    uint64_t registered_ms, changed_ms;   /* wall clock of the leader */
    char reason[TIDE_TEXT_MAX + 1];       /* why in this state */
    bool unfit;                           /* drained for its health: no new ranks until it was good for a while */
    uint64_t unfit_ms;                    /* wall clock of the leader when that was so last */
    bool spared;                          /* it would be drained for its health, but too many others were: it is but degraded */
    unsigned health;                      /* enum tide_health: of the worst evidence that counts */
    uint64_t forgiven;                    /* serial: evidence that is not newer was forgiven by hand */
    char boot[HEALTH_BOOT_MAX + 1];       /* of the host, when it told of the evidence */
    struct health_facts evidence;
};
extern const struct codec node_codec;
extern const char *const node_state_names[];

/* Body of POST /v1/agent/register; the fields are those of node. */
struct node_hello {
    char name[TIDE_NAME_MAX + 1];
    char uid[TIDE_UID_CHARS + 1];
    char incarnation[TIDE_UID_CHARS + 1];
    char host[ADDRESS_MAX + 1];
    char address[ADDRESS_MAX + 1];
    uint32_t mesh_port;
    uint32_t log_port;
    char pin[PIN_CHARS + 1];
    uint32_t slots;
    char domain[TIDE_NAME_MAX + 1];
};
extern const struct codec node_hello_codec;

struct node_welcome {
    char cluster[TIDE_UID_CHARS + 1]; /* an agent that knows another one refuses: a wiped coordinator kills nothing */
    uint64_t heartbeat_ms;            /* at least this often, and at once on a change */
    uint64_t lease_ms;
    uint64_t health_serial;           /* the largest known of this node's evidence: what an agent finds from now on is above it */
};
extern const struct codec node_welcome_codec;

/* ---- heartbeat: what a node is doing ---- */

struct rank_report {
    uint32_t rank;
    unsigned state;     /* enum tide_rank_state */
    int32_t pid;
    uint64_t born;      /* the generation its process was started in; an older one: it went over (tide_set_restart). 0: not told */
    uint64_t step;      /* last tide_step; restored step before the first */
    bool stepped;       /* made a tide_step in this generation */
    bool attached;      /* called tide_init */
    int32_t exit_code;  /* when exited and not by a signal */
    int32_t signal;     /* when ended by a signal */
    bool exec_failed;   /* the program could not be executed: restarting does not help */
    uint64_t exited_ago_ms; /* since the agent saw it */
    uint64_t restore_us;    /* time in tide_restore */
    uint64_t restored_cut;
    bool coloured;          /* libtidemark_mpi colours its messages; what follows is of those (ckpt/wire/local.h) */
    uint64_t epoch;         /* it is in */
    uint64_t polling;       /* no call of it waits where a flip to this epoch could not reach */
    uint64_t ended;         /* the newest epoch to which it has ended the transition */
    bool left;              /* it has no more safe points, but may still communicate */
    bool quiet;             /* it sends and receives no more */
    uint64_t sent, arrived; /* in all epochs before `epoch`: sent; of what was sent to it in them, here */
    unsigned cut_mode;      /* enum cut_mode: as the program declares itself */
    uint32_t slots;         /* of its arena, that a cut can be recorded into; 0: not told */
    char tier[TIDE_NAME_MAX + 1];   /* "ram", "peer" or "store", once restored */
    char detail[TIDE_TEXT_MAX + 1]; /* for people */
};

/* passed, early: as in enum record_result. copied: recorded, but messages may still be added to it. */
enum cut_progress { CUT_ARMED, CUT_MISSED, CUT_RECORDED, CUT_FAILED, CUT_PASSED, CUT_EARLY, CUT_COPIED, CUT_PROGRESS };

/* A rank's part in the open cut. recorded: all of it is there, and its digest known. */
struct cut_report {
    uint64_t cut;
    uint32_t attempt;
    uint32_t rank;
    unsigned progress; /* enum cut_progress */
    uint64_t step;     /* recorded at; or, when missed, the step it was at already */
    uint64_t bytes;
    uint64_t stall_us;
    uint64_t collectives;   /* MPI collectives entered on MPI_COMM_WORLD since MPI_Init of this generation */
    uint64_t logged, logged_bytes; /* messages of its channel log; they grow until the epoch is settled */
    unsigned copy;                 /* enum record_copy (local.h) */
    uint64_t copy_us;              /* from its safe point until all of it was copied, where that was behind its back */
    char digest[DIGEST_HEX_CHARS + 1]; /* of the chunk table */
    char detail[TIDE_TEXT_MAX + 1];
};

/* How often the ranks of this node that recorded had entered collectives of one communicator. Those that say the same are one
 * entry; communicators of a single rank have none. */
struct comm_report {
    uint64_t cut;
    uint32_t attempt;
    char id[COMM_ID_CHARS + 1]; /* the same on all members */
    char name[TIDE_NAME_MAX + 1]; /* MPI_Comm_get_name, or NCCL's commName */
    uint64_t collectives;
    uint32_t size;  /* members, of all nodes */
    uint32_t ranks; /* of this node, that say so */
    uint32_t rank;  /* the first of them */
    uint64_t sent, received, balance; /* messages of theirs (ckpt/cut/verdict.h) */
};

enum shard_progress { SHARD_STORED, SHARD_FAILED, SHARD_PROGRESS };

/* A rank's shard of a sealed cut in the store. */
struct shard_report {
    uint64_t cut;
    uint32_t rank;
    unsigned progress; /* enum shard_progress */
    char key[TIDE_PATH_MAX + 1];       /* of the rank's manifest object */
    char digest[DIGEST_HEX_CHARS + 1]; /* of that object */
    uint64_t raw_bytes, stored_bytes;
    char detail[TIDE_TEXT_MAX + 1];
};

/* The manifest of a cut, written by the node of rank 0. */
struct manifest_report {
    uint64_t cut;
    unsigned progress; /* enum shard_progress */
    char key[TIDE_PATH_MAX + 1];
    char digest[DIGEST_HEX_CHARS + 1];
    char detail[TIDE_TEXT_MAX + 1];
};

#define OPS_MAX 16u /* communicators of a rank, of which it is told how far they are */

/* How far a rank is in a communicator of NCCL's, told while its job stands still here (struct control_progress_comm). */
struct op_report {
    uint32_t rank;
    char id[COMM_ID_CHARS + 1];
    char name[TIDE_NAME_MAX + 1];
    uint32_t member, size;
    uint64_t begun, reached, unreached, done, undone;
    bool messages;
    bool recording; /* the rank is in a checkpoint: others may wait for it, and it for what is in its streams */
};

/* A recorded cut of a rank that lies in this node's arena, with its digest. */
struct held_report {
    uint64_t cut;
    uint32_t rank;
    char digest[DIGEST_HEX_CHARS + 1];
};

/* A rank could not be restored from `cut`: no tier had a valid copy. Or its part of it could not be copied here. */
struct restore_failure {
    uint64_t cut;
    uint32_t rank;
    char detail[TIDE_TEXT_MAX + 1];
};

/* A checkpoint in the store was read as a whole, `ago_ms` before the heartbeat was made. */
struct scrub_report {
    uint64_t cut;
    uint64_t ago_ms;
    uint64_t bytes; /* of state, that were looked at */
    bool damaged;   /* twice, so that it was no accident on the way */
    char detail[TIDE_TEXT_MAX + 1]; /* … which object, and what is wrong with it */
};

enum gen_progress { GEN_STARTING, GEN_RUNNING, GEN_STOPPING, GEN_GONE, GEN_PROGRESS };

/* A job on this node. `generation` is the newest the node has been told of; gone: no process of it or of any older one
 * is left on this node that could act for it, and none will be started. */
struct gen_report {
    char job[TIDE_NAME_MAX + 1];
    char uid[TIDE_UID_CHARS + 1];
    uint64_t generation;
    unsigned progress; /* enum gen_progress */
    char detail[TIDE_TEXT_MAX + 1]; /* why it cannot start, for people */
    LIST_OF(struct rank_report) ranks;
    LIST_OF(struct cut_report) cuts;
    LIST_OF(struct comm_report) comms; /* of the open cut */
    LIST_OF(struct op_report) ops;     /* while it stands still */
    uint64_t hang_ms;                  /* so long, and it needs another generation; 0: never */
    LIST_OF(struct shard_report) shards;
    LIST_OF(struct manifest_report) manifests;
    LIST_OF(struct held_report) held;
    LIST_OF(struct held_report) copies; /* … of ranks that recorded elsewhere: of `copies` of the assignment */
    LIST_OF(struct restore_failure) restore_failures;
    LIST_OF(struct scrub_report) scrubs; /* of those it is to scrub */
    LIST_OF(struct restore_failure) copy_failures;
    struct strlist purged; /* of `purge`: their objects were deleted by this node */
    struct strlist left;   /* of `leave`: nothing here writes objects of them, or will */
};
extern const struct codec rank_report_codec, cut_report_codec, comm_report_codec, op_report_codec, shard_report_codec,
    manifest_report_codec, held_report_codec, restore_failure_codec, scrub_report_codec, gen_report_codec;
extern const char *const rank_state_names[];

#define NODE_FORMAT 4u /* what this version's agents say; the first that knows packs of other ranks */

struct heartbeat {
    char node[TIDE_NAME_MAX + 1];
    char uid[TIDE_UID_CHARS + 1];
    char incarnation[TIDE_UID_CHARS + 1];
    uint64_t sequence; /* grows within an incarnation; an older one is ignored */
    uint32_t format;   /* the newest of ckpt/format that it reads; 0: one before 4 */
    bool keyed;        /* its ports show a key, of which the registration tells the pin */
    struct health_report health;
    LIST_OF(struct gen_report) jobs;
};
extern const struct codec heartbeat_codec;

/* ---- desired: what a node should be doing ---- */

struct peer {
    char node[TIDE_NAME_MAX + 1];
    char host[ADDRESS_MAX + 1];
    char address[ADDRESS_MAX + 1];
    uint32_t mesh_port;
    uint32_t log_port;       /* 0: not told */
    char pin[PIN_CHARS + 1]; /* as of the node */
};

struct shard_ref {
    uint32_t rank;
    char key[TIDE_PATH_MAX + 1];
    char digest[DIGEST_HEX_CHARS + 1];
    uint64_t raw_bytes, stored_bytes;
};

enum cut_phase {
    CUT_PHASE_NONE,   /* nothing to do; disarm */
    CUT_PHASE_RECORD, /* arm `step` in every local rank; with an epoch: they may record, all are armed and poll */
    CUT_PHASE_STORE,  /* sealed: put the local shards into the store */
    CUT_PHASE_COMMIT, /* all shards are in the store; the node of rank 0 writes the manifest */
    CUT_PHASE_ARM,    /* with an epoch: arm, tentatively */
    CUT_PHASE_SUM,    /* with an epoch: no message can be added any more; close the slots and hash them */
    CUT_PHASES
};

struct cut_order {
    uint64_t cut;
    uint32_t attempt;
    unsigned phase; /* enum cut_phase */
    uint64_t step;
    uint64_t epoch;      /* of messages, that the record begins; 0: they are not coloured */
    unsigned mode;       /* enum cut_mode; free: at the next safe point, whatever its step */
    uint64_t generation; /* that recorded it; goes into object keys */
    LIST_OF(struct shard_ref) shards; /* COMMIT, on the node of rank 0 only: one per rank, in rank order */
};

/* What the ranks of a node rank recorded of a cut, and is to be in this node's memory, too. */
struct copy_order {
    uint64_t cut;
    uint32_t node_rank;
    char node[TIDE_NAME_MAX + 1];  /* that recorded it */
    char address[ADDRESS_MAX + 1]; /* of its agent; empty: what is here is kept, and nothing fetched */
    uint32_t port;
    char pin[PIN_CHARS + 1]; /* as of the node */
};

/* Of the generation's messages (ckpt/cut/README.md). Each only grows; 0: none yet. */
struct epoch_order {
    uint64_t go;      /* every rank was armed for it and polled */
    uint64_t flip;    /* be there, if need be without a record */
    uint64_t settled; /* no older message is on its way */
    uint64_t closed;  /* … and every rank has ended the transition to it */
};

/* A checkpoint in the store that is to be read from time to time. */
struct scrub_order {
    uint64_t cut;
    char manifest_key[TIDE_PATH_MAX + 1];
    char manifest[DIGEST_HEX_CHARS + 1];
};

enum run_order { RUN_START, RUN_STOP, RUN_KILL, RUN_ORDERS };

/* A job this node has a part in. A job that is not listed: kill what is left of it, free its arena, keep its logs. */
struct assignment {
    struct job_spec spec;
    char uid[TIDE_UID_CHARS + 1];
    uint64_t generation;
    unsigned run;            /* enum run_order: start: ranks of this generation should run. stop: SIGTERM, grace, SIGKILL.
                                kill: at once; generations older than `generation` always go at once */
    uint32_t node_rank;      /* this node's place among `peers`; meaningful with run start */
    LIST_OF(struct peer) peers; /* by node rank; empty when this node only holds or fences */
    char token[TIDE_TOKEN_CHARS + 1]; /* secret of the generation: of those that run it, and that copy from them */
    char log_key[TIDE_TOKEN_CHARS + 1]; /* of the job: who shows it may read its logs; empty: everybody may */
    char master_address[ADDRESS_MAX + 1];
    uint32_t master_port;
    uint32_t restarts;       /* TORCHELASTIC_RESTART_COUNT */
    bool started;            /* every rank of this generation was: a node that knows nothing of it has lost it, and must
                                not start it once more */
    bool ended;              /* the job is over, only `purge` is left to do: nothing of it need stay in memory */
    uint64_t restore_cut;    /* 0: none */
    uint64_t restore_generation; /* that recorded it */
    uint32_t restore_world;  /* ranks that made it, if not as many as this generation has; else 0 */
    char restore_manifest_key[TIDE_PATH_MAX + 1]; /* empty: only in arenas */
    char restore_manifest[DIGEST_HEX_CHARS + 1];
    char restore_store[TIDE_PATH_MAX + 1]; /* where that lies; empty: in `store` */
    char restore_peer[TIDE_NAME_MAX + 1]; /* a node that has a copy of what this node rank recorded of it; empty: none */
    char restore_peer_address[ADDRESS_MAX + 1];
    uint32_t restore_peer_port;
    char restore_peer_pin[PIN_CHARS + 1];
    LIST_OF(struct copy_order) copies; /* of what others recorded; what is not listed is dropped */
    uint64_t protect_cut;    /* newest sealed cut: its slot must not be overwritten */
    struct cut_order cut;
    struct cut_order upload; /* with a cut to record: the one that is being stored beside it. Else that is `cut` */
    struct epoch_order epochs;
    struct strlist leave;    /* deletions this node must not write into: end that, then say `left` */
    struct strlist purge;    /* those it should do. A deletion is the id of a cut, done once more: "id@revision" */
    /* For the deletion of cut 0, which is of all that no cut of the job needs (ckpt/format/orphan.h): what is known of them. */
    struct strlist sweep_live, sweep_over;
    uint64_t sweep_below;
    char store[TIDE_PATH_MAX + 1]; /* resolved: the job's or the cluster's */
    bool share;                    /* ranks may refer to each other's packs: every node can read that */
    LIST_OF(struct scrub_order) scrub; /* all that lie there; on one node of the job's only */
};
extern const struct codec peer_codec, shard_ref_codec, cut_order_codec, copy_order_codec;
extern const struct codec epoch_order_codec, scrub_order_codec, assignment_codec;

struct desired {
    char cluster[TIDE_UID_CHARS + 1];
    char node[TIDE_NAME_MAX + 1];
    char incarnation[TIDE_UID_CHARS + 1];
    uint64_t revision; /* version of what this node is told; see README.md, Watch */
    uint64_t forgiven; /* serial: evidence that is not newer was forgiven by hand */
    LIST_OF(struct assignment) jobs;
};
extern const struct codec desired_codec;

#define NODE_JOBS_MAX 64 /* jobs with a part on one node */

#endif
