/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_STEP_STEP_H
#define AGENT_STEP_STEP_H

/* The step process: parent of the ranks of one generation of a job on this node. One libuv loop, one thread of ours
 * (libpmix has its own; a slot is reserved on a worker). Everything is reached from `struct step`; nothing is freed at the
 * end, since the process ends by _exit: libpmix's clean-up can hang.
 *
 *   main.c        words of the command line, the end
 *   step.c        from start to end: what follows what
 *   prepare.c     spec, directories, sockets' place, control pages
 *   ranks.c       start, standard output, reaping
 *   stay.c        from one generation to the next, with the ranks that stay
 *   status.c      what the agent is told, and the file that outlives us
 *   agent_link.c  agent.sock
 *   rank_link.c   rank.sock
 *   mesh.c        between libpmix (host_pmix.h) and the other nodes (exchange.h)
 *   share_link.c  between ranks that share something (share.h), here and elsewhere
 *   bookmark_link.c  between ranks at a record that say how many messages they have sent (bookmark.h) */

#include <uv.h>

#include "agent/step/exchange.h"
#include "agent/step/host_pmix.h"
#include "agent/step/link.h"
#include "agent/step/output.h"
#include "agent/step/bookmark.h"
#include "agent/step/share.h"

#define STEP_PMIX_UP_MS 60000u     /* a libpmix that is not up by then has wedged */
#define STEP_TICK_MS 20u           /* how often the end is looked at while it is near */
#define STEP_DRAIN_MS 2000u        /* a pipe that somebody still holds that long after the rank's end is closed */
#define STEP_SETTLE_MS 10000u      /* how long the end waits for other nodes to acknowledge what we said */
#define STEP_FINAL_MS 2000u        /* how long an ended step waits for an agent to hear of it */
#define STEP_RESTORE_SAY_MS 1000u  /* how often a rank is told that its question stands */
#define STEP_RESTORE_MS (6u * 3600000u) /* the longest that one may stand: far above what the largest state takes */
#define STEP_ABORT_MS 500u         /* a rank that called MPI_Abort and is not gone by then is killed */
#define STEP_STAY_MS 600000u       /* how long ranks wait for the next generation where no agent ends that wait before */
#define STEP_SOCKET_PATH_MAX 107u  /* sun_path */
#define STEP_STATUS_BYTES_MAX STEP_LINE_MAX

struct step;
struct rank_link;
struct local_message;

/* One standard stream of a rank: its pipe and its file. */
struct stream {
    struct rank *rank;
    const char *name; /* "out", "err" */
    uv_pipe_t pipe;
    bool open;
    struct output file;
};

struct rank {
    struct step *step;
    uint32_t local;
    struct rank_report report;
    uint64_t ended_ns; /* 0: not ended */
    int failure_fd;    /* until it is known whether the program was executed; else -1 */
    uv_poll_t failure_poll;
    uv_timer_t abort_timer;
    struct stream out, err;
    char cgroup[TIDE_PATH_MAX + 1]; /* empty: none */
    /* as told by libpmix */
    bool connected, left, aborted;
    int32_t abort_status;
    char abort_text[TIDE_TEXT_MAX + 1];
    /* libtidemark in it */
    struct rank_link *link;  /* NULL: not connected */
    bool asking;             /* its question `ask` is open … */
    uint64_t asked_ns;       /* … since then */
    struct step_ask ask;
    uint64_t reserved_bytes; /* of one slot */
    uint64_t question;       /* number of what it gave or asked for last (share_link.c, bookmark_link.c) */
    uint64_t widening_bytes; /* of a third one that is being made; 0: none is */
    bool wide_refused;       /* … for want of room; said once */
    int home;                /* memory node its slots should lie on (ckpt/stage/numa.h); NUMA_ANYWHERE: none */
    unsigned stay;           /* enum rank_stay */
};

/* told: that its generation is over. left: it acts for none. */
enum rank_stay { RANK_STAYS_NOT, RANK_TOLD, RANK_LEFT };

struct agent_link {
    uv_pipe_t server;
    uv_pipe_t *client; /* NULL: no agent is connected */
    char *line;        /* what came of the next line */
    size_t line_bytes, line_room;
    uint64_t progress_ns; /* when the agent last took something, or nothing was waiting */
    bool status_due, nudge_due;
    uv_timer_t watch;
};

struct step {
    uv_loop_t loop;
    struct step_spec spec;
    struct strlist inherited;                 /* environment as the agent gave it */
    char dir[TIDE_PATH_MAX + 1];              /* absolute */
    char socket_dir[TIDE_PATH_MAX + 1];       /* dir, or a short name for it */
    char alias_dir[TIDE_PATH_MAX + 1];        /* holds the short name; empty: none */
    char shared_memory[TIDE_PATH_MAX + 1];    /* for Open MPI; empty: not made */
    char cgroup[TIDE_PATH_MAX + 1];           /* empty: process groups only */
    char rank_socket[TIDE_PATH_MAX + 1];
    struct rank ranks[TIDE_LOCAL_RANKS_MAX];
    uint32_t rank_count;
    char detail[TIDE_TEXT_MAX + 1];

    bool spawned;        /* no further rank will be started */
    bool told_to_end;
    bool ended;
    uint64_t kill_ns;    /* when told to end: SIGKILL from then on */
    uint64_t gone_ns;    /* when the last rank was seen to be gone; 0: not yet */
    bool leaving;        /* the generation is over, and some ranks are to stay … */
    bool left;           /* … and all of them have left it, all others are gone */
    uint64_t go_over;    /* ordered to that generation, in the next turn of the loop; 0: to none */
    uint64_t leave_ns, left_ns; /* since when */
    uint64_t wait_ns;    /* when ranks that wait are told so again */

    struct agent_link agent;
    uv_poll_t rank_listener;
    uv_timer_t restore_timer; /* runs while a rank asks */
    int rank_listen_fd;
    uint32_t rank_links; /* connections open */
    uint64_t reserving_bytes_max;

    struct host_pmix *pmix;     /* NULL: launcher none */
    struct exchange *exchange;  /* NULL: launcher none */
    struct share *share;
    uv_timer_t share_timer; /* runs while a rank asks */
    struct bookmarks *marks;
    uv_timer_t marks_timer; /* runs while a rank waits */
    uv_async_t pmix_wake;
    uv_timer_t pmix_late;
    uv_timer_t mesh_timer;

    uv_timer_t status_timer, tick_timer, final_timer, stay_timer;
    uv_signal_t on_child, on_term, on_int;
    char read_buffer[1 << 16];
};

/* ---- step.c ---- */
/* Listen, prepare, start; then the loop does the rest. Errors: IO, INVALID; nothing runs then. */
MUST_USE enum tide_status step_start(struct step *step, const char *dir, struct err *err);
/* End all ranks: SIGTERM, and SIGKILL grace_ms later. Said again with a shorter grace, the shorter one holds. */
void step_end(struct step *step, uint64_t grace_ms);
/* The ranks cannot be started: every one is reported as exited, with this reason. */
void step_cannot_start(struct step *step, const char *reason);
/* A rank's end, or an order, may have changed how near the end is. */
void step_near_end(struct step *step);
/* The final status went out. */
void step_heard(struct step *step);

/* ---- prepare.c ---- */
MUST_USE enum tide_status prepare_spec(struct step *step, const char *dir, struct err *err);
MUST_USE enum tide_status prepare_sockets(struct step *step, struct err *err); /* decides socket_dir */
MUST_USE enum tide_status prepare_host(struct step *step, struct err *err);    /* arena, pages, logs, control groups */
/* What is new with a generation: pages, logs. The spec is that of the next already. */
MUST_USE enum tide_status prepare_generation(struct step *step, struct err *err);
/* The spec in STEP_NEXT_FILE, of that generation, is the step's, here and in STEP_SPEC_FILE. Errors: IO, INVALID; nothing has
 * changed then. */
MUST_USE enum tide_status prepare_next(struct step *step, uint64_t generation, struct err *err);
void prepare_undo(struct step *step);                                          /* all that must not outlive the ranks */

/* ---- ranks.c ---- */
void ranks_init(struct step *step);
void ranks_start(struct step *step); /* all that have no process */
void ranks_renew(struct rank *rank); /* of the next generation; whoever lives stays */
bool ranks_closed(struct rank *rank, uint64_t now_ns); /* of one that has ended: all it has printed is kept */
void ranks_kill_orphans(struct step *step); /* what ranks that are gone have left behind */
void ranks_reap(struct step *step);
void ranks_signal(struct step *step, int number);
void ranks_kill_rest(struct step *step);    /* everything that was ever below us */
bool ranks_resolved(const struct step *step); /* of every rank it is known whether its program was executed */
bool ranks_gone(const struct step *step);   /* every rank has ended */
bool ranks_drained(struct step *step, bool force); /* every pipe is closed; force: close them */
bool ranks_alone(struct step *step);        /* no process is left below us */
struct rank *ranks_find(struct step *step, uint32_t number); /* by global rank; NULL: not ours */

/* ---- stay.c ---- */
void stay_init(struct step *step);
/* End that generation for ranks that can go over to the next, and end all others. */
void stay_leave(struct step *step, uint64_t generation);
void stay_go_over(struct step *step, uint64_t generation);
/* The rank says that it has left. */
void stay_take_left(struct rank *rank, const struct local_message *message);
/* May a rank still ask for anything? */
bool stay_over(const struct rank *rank);

/* ---- status.c ---- */
void status_init(struct step *step);
void status_changed(struct step *step); /* soon */
void status_flush(struct step *step);   /* now */
/* The lists are new and the caller's: status_release. */
void status_fill(const struct step *step, struct step_status *ret_status);
void status_release(struct step_status *status);

/* ---- agent_link.c ---- */
MUST_USE enum tide_status agent_link_listen(struct step *step, struct err *err);
void agent_link_status(struct step *step);
void agent_link_nudge(struct step *step);
bool agent_link_send_frame(struct step *step, const struct mesh_frame *frame); /* false: not now */
bool agent_link_idle(const struct step *step); /* an agent is connected and has taken everything */

/* ---- rank_link.c ---- */
/* slots.c */
void slots_path(const char *arena, uint32_t rank, uint32_t slot, char to[TIDE_PATH_MAX + 64]);
uint64_t slots_file_bytes(const char *path); /* 0: there is none */
uint64_t slots_bytes(const struct rank *rank); /* of one; those of older generations are still there and count */
uint64_t slots_bytes_of_others(struct step *step, const struct rank *but);
uint64_t slots_third_bytes(const struct rank *rank); /* of its third, or that is being made; 0: it has none */
uint32_t slots_count(const struct rank *rank);    /* that a cut can be recorded into; the first two are made when they are needed */
void slots_widen(struct step *step);

MUST_USE enum tide_status rank_link_listen(struct step *step, struct err *err);
void rank_link_answer(struct step *step, const struct step_answer *answer);
void rank_link_drop(struct rank *rank); /* the rank has ended */
void rank_link_tell(struct rank *rank, struct local_message *message); /* no connection: nothing */
void rank_link_renew(struct rank *rank); /* nothing that it asked for stands */
/* Its question stands; to one that does not read nothing more is said than it has not read yet. */
void rank_link_say_wait(struct rank *rank, uint32_t attempt, uint64_t question);

/* ---- share_link.c ---- */
void share_start(struct step *step);
void share_renew(struct step *step); /* what was given is forgotten */
void share_take(struct step *step, struct rank *rank, const struct local_message *message);

/* ---- bookmark_link.c ---- */
void marks_start(struct step *step);
void marks_renew(struct step *step);
void marks_take(struct step *step, struct rank *rank, const struct local_message *message);

/* ---- mesh.c ---- */
MUST_USE enum tide_status mesh_start(struct step *step, struct err *err);
void mesh_drain(struct step *step); /* take in what libpmix has said so far */
void mesh_frame(struct step *step, const struct mesh_frame *frame);
void mesh_reconnected(struct step *step);
void mesh_pump(struct step *step);
void mesh_rank_gone(struct step *step, uint32_t rank);
bool mesh_settled(const struct step *step);

#endif
