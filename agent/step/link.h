/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_STEP_LINK_H
#define AGENT_STEP_LINK_H

/* Agent and step process: one JSON object per line on a Unix stream socket that the step listens on. As everywhere, what
 * is said is a level: a new connection gets the whole status at once, orders and unanswered questions are said again. */

#include "ckpt/wire/node.h"

#define STEP_SPEC_FILE "step.json" /* in the step's directory, written by the agent before it starts the step */
#define STEP_SOCKET_FILE "agent.sock" /* the step listens; the agent connects, again after a restart */
#define STEP_NEXT_FILE "next.json" /* spec of the generation to go over to; the step makes it step.json when it does */
#define STEP_RANK_SOCKET_FILE "rank.sock"
#define STEP_STATUS_FILE "status.json" /* last status, replaced on every change: for an agent that comes after the step ended */
#define STEP_LEAVE_MS 5000u /* a rank that has not left a generation that is over by then is killed, and started anew */
#define STEP_LINE_MAX (1u << 20)
/* In spec.logs: FILE is rank<R>.out or rank<R>.err, FILE.1 holds what came right before it (absent before the first
 * rotation), FILE.base the offset of the first byte of FILE.1 in decimal (absent: 0). While the files move FILE.base is
 * away. So a reader reads FILE.base, opens FILE.1 and FILE, reads FILE.base again, and begins anew when the two differ or
 * FILE.base is missing beside a FILE.1; FILE begins at base + the size of FILE.1. */
#define STEP_LOG_FORMAT "%s/rank%u.%s"
#define STEP_LOG_OLD_SUFFIX ".1"
#define STEP_LOG_BASE_SUFFIX ".base"
/* spec.cgroup, uid, step_spec_born: where the step puts its ranks. The step makes and removes it; when the step has died the
 * agent kills and removes it by this name. It holds one group per rank (r<R>); the step itself stays outside. */
#define STEP_CGROUP_FORMAT "%s/%s.g%llu"

/* Everything a step needs to know, once. */
struct step_spec {
    struct job_spec job;
    char uid[TIDE_UID_CHARS + 1];
    uint64_t generation;
    uint64_t born; /* the first generation of this step and of its oldest ranks; 0: `generation`. It names directory, control group
                      and the environment of those ranks, for as long as the step lives */
    char node[TIDE_NAME_MAX + 1];
    char host[ADDRESS_MAX + 1];
    char address[ADDRESS_MAX + 1];
    uint32_t node_rank;
    LIST_OF(struct peer) peers;
    char token[TIDE_TOKEN_CHARS + 1];
    char master_address[ADDRESS_MAX + 1];
    uint32_t master_port;
    uint32_t restarts;
    char dir[TIDE_PATH_MAX + 1];     /* the step's: sockets, spec, status, PMIx's temporary files */
    char arena[TIDE_PATH_MAX + 1];   /* of the job on this node */
    uint64_t arena_bytes_max;        /* all slots of all local ranks together */
    char logs[TIDE_PATH_MAX + 1];    /* directory: rank<R>.out, rank<R>.err, rotated to .1 */
    uint64_t log_bytes_max;          /* of one file; two are kept */
    char cgroup[TIDE_PATH_MAX + 1];  /* parent cgroup v2 directory that the agent may write; empty: process groups only */
};
extern const struct codec step_spec_codec;
static inline uint64_t step_spec_born(const struct step_spec *spec)
{
    return spec->born != 0 ? spec->born : spec->generation;
}

/* A rank waits for the answer to LOCAL_RESTORE_ASK. */
struct step_ask {
    uint32_t rank;
    uint32_t attempt;
    int32_t bad_slot; /* -1, or the slot whose copy the rank found bad */
    char bad_detail[TIDE_TEXT_MAX + 1];
};

/* All a step knows. rank_report.step, stepped, restore_*: left zero; the agent reads the control pages.
 * rank_report.state: starting until the program was executed; running; restoring while its question is open; finished: ended
 * with status 0; exited: ended in any other way. A step that cannot start reports every rank as exited, with the reason. */
struct step_status {
    char uid[TIDE_UID_CHARS + 1];
    uint64_t generation;
    int32_t pid;
    bool started;  /* every local rank was started, or has ended */
    bool left;     /* told to leave the generation, it has: ranks that are still there act for no generation, and wait for the next */
    bool ended;    /* no process of this generation is left on this host; the step is about to exit */
    char detail[TIDE_TEXT_MAX + 1]; /* why it could not start */
    LIST_OF(struct rank_report) ranks;
    LIST_OF(struct step_ask) asks;
};
extern const struct codec step_ask_codec, step_status_codec;

/* Fence and modex data, what ranks share, and their bookmarks, between the steps of a generation, relayed by agents over their mesh. */
enum mesh_kind { MESH_FENCE, MESH_FENCE_ACK, MESH_MODEX_ASK, MESH_MODEX_REPLY, MESH_SHARE_ASK, MESH_SHARE_REPLY, MESH_MARKS_ASK,
                 MESH_MARKS, MESH_KINDS };

#define MESH_DATA_MAX (STEP_LINE_MAX / 2) /* bytes of base64 */

struct mesh_frame {
    char uid[TIDE_UID_CHARS + 1]; /* job */
    uint64_t generation;
    char token[TIDE_TOKEN_CHARS + 1];
    uint32_t from, to; /* node ranks */
    unsigned kind;     /* enum mesh_kind */
    uint64_t id;       /* fence: 63-bit hash of the process list; modex, share: request number; marks: cut */
    uint64_t sequence; /* n-th fence of that list; marks: attempt */
    uint32_t rank;     /* modex, share: whose data */
    int32_t status;    /* pmix_status_t */
    char *data;        /* base64; share_ask: the name */
};
extern const struct codec mesh_frame_codec;
/* One from this step to that of another node; data is NULL. */
struct mesh_frame mesh_frame_to(const struct step_spec *spec, uint32_t node, enum mesh_kind kind);
/* Is it of this generation, from another node, to this one? */
bool mesh_frame_is_for(const struct step_spec *spec, const struct mesh_frame *frame);

enum step_line_kind {
    STEP_STATUS,  /* step -> agent: `status` */
    STEP_NUDGE,   /* step -> agent: a control page changed */
    STEP_MESH,    /* both ways: `frame` */
    STEP_ANSWER,  /* agent -> step: `answer` */
    STEP_END,     /* agent -> step: SIGTERM, after grace_ms SIGKILL; 0: SIGKILL at once. Then the step exits */
    STEP_LEAVE,   /* agent -> step: `generation` is over; if it is another by now, nothing comes of it. Ranks that asked for it
                     leave it and stay, all others are killed. The status tells: `left`, or, where no rank is left to stay, `ended` */
    STEP_GO_OVER, /* agent -> step, which has left: to `generation`, whose spec is in STEP_NEXT_FILE; ranks that are not there are
                     started. The status tells: its generation */
    STEP_WIDEN,   /* agent -> step: a third slot for each rank that has two, as far as the arena has room. rank_report.slots tells */
    STEP_LINE_KINDS
};

/* Answer to a step_ask. */
struct step_answer {
    uint32_t rank;
    uint32_t attempt;
    uint32_t result; /* enum local_type: RESTORE_FROM, RESTORE_NONE or REFUSED */
    uint32_t slot;
    uint32_t tier; /* enum local_tier */
    uint32_t status;
    uint64_t cut;
    char text[TIDE_TEXT_MAX + 1];
};

struct step_line {
    unsigned kind; /* enum step_line_kind */
    uint64_t generation, grace_ms;
    struct step_status status;
    struct step_answer answer;
    struct mesh_frame frame;
};
extern const struct codec step_answer_codec, step_line_codec;

#endif
