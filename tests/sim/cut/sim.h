/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_CUT_SIM_H
#define TESTS_SIM_CUT_SIM_H

/* A job whose ranks pass messages, cut again and again, in an invented world (../README.md). What decides is what ships:
 * rank.h, queue.h, verdict.h, mode.h, channel.h. Chance comes from the seed and time is virtual. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ckpt/base/rng.h"
#include "ckpt/cut/channel.h"
#include "ckpt/cut/mode.h"
#include "ckpt/cut/offer.h"
#include "ckpt/cut/queue.h"
#include "ckpt/cut/rank.h"
#include "ckpt/cut/verdict.h"

#define RANKS_MAX 16u
#define COMMS_MAX 4u
#define REQUESTS_MAX 16u
#define AGENTS_MAX 8u
#define MS UINT64_C(1000000)
#define NONE32 UINT32_MAX

struct world;

/* ---- the program: a script per rank, made so that it ends whatever the network does (program.c) ---- */

enum send_mode { SEND_EAGER, SEND_RENDEZVOUS, SEND_SYNCHRONOUS };

enum op_kind {
    OP_COMPUTE,
    OP_SEND,
    OP_ISEND,
    OP_RECV,
    OP_IRECV,
    OP_PROBE,  /* blocking probe, then a receive of just that message */
    OP_MPROBE, /* matched probe, then its receive */
    OP_WAIT,   /* of a slot */
    OP_COLL,
    OP_ICOLL,
    OP_STEP,
    OP_LEAVE,   /* tide_finalize */
    OP_FINALIZE /* MPI_Finalize */
};

struct op {
    uint8_t kind, comm, slot, tests; /* tests: the wait is a loop of tests */
    int32_t source, tag;
    uint32_t message; /* of sends; of collectives: root + 1, or 0 for one that waits for all */
    uint64_t number;  /* ns of OP_COMPUTE, number of OP_STEP */
};

struct message {
    uint8_t src, dst, comm, mode;
    int32_t tag;
    uint32_t op; /* of the sender's script */
};

struct comm {
    uint64_t id;
    uint32_t size;
    uint8_t members[RANKS_MAX];
    int32_t rank_of[RANKS_MAX]; /* -1: not a member */
};

struct program {
    uint32_t ranks, comms;
    bool aligned, reposts, collectives;
    uint32_t stride[RANKS_MAX]; /* how a rank counts its steps */
    unsigned declared;          /* enum cut_mode */
    struct comm comm[COMMS_MAX];
    struct op *ops[RANKS_MAX];
    uint32_t op_count[RANKS_MAX], op_room[RANKS_MAX];
    struct message *messages;
    uint32_t message_count, message_room;
};

void program_make(struct program *program, struct rng *rng);
void program_free(struct program *program);

/* ---- MPI: matching and a network that keeps order per (communicator, colour, sender, receiver) and nothing else ---- */

struct packet {
    struct packet *next; /* in a list of what nobody has matched */
    uint32_t message;    /* NONE32: a bookmark */
    uint8_t src, dst, comm, colour, mode;
    bool matched, whole; /* a receive of it has begun, and is complete */
    int32_t source, tag;
    struct preq *from, *to;
    struct cut_bookmark bookmark;
    const struct letter *letter;
};

/* A request of the real MPI. */
struct preq {
    struct preq *prev, *next; /* posted receives */
    uint8_t rank, comm, colour;
    bool receive, done, cancelled, posted;
    int32_t source, tag;
    struct packet *packet;
};

struct endpoint {
    struct packet *first, **last;
    struct preq posted;
};

struct coll {
    uint32_t entered, done; /* bit per member's world rank */
    bool ready[RANKS_MAX];
};

/* ---- a rank: its program, and what libtidemark_mpi and libtidemark do for it (shell.c, calls.c) ---- */

enum ireq_state { IREQ_FREE, IREQ_REAL, IREQ_PARKED, IREQ_DEFERRED, IREQ_QUEUED, IREQ_DONE };

/* A request as the program sees it. Receives stand in posted order until the program has seen their end. */
struct ireq {
    struct cut_receive receive; /* context: the ireq */
    struct ireq *prev, *next;
    uint8_t state, kind, comm; /* kind: OP_IRECV, OP_ISEND, OP_ICOLL */
    uint32_t posted, message;
    struct preq *real;
    struct qmsg *got;
    struct coll *coll;
    uint64_t position, since, asked_all_at; /* of a send: among rank->sends, and when it began */
    bool copied, waits;       /* waits: for its receive to have begun */
    bool told;                /* whoever may send for it, in this attempt */
    bool is_new;              /* parked in the new colour: nothing of the old one can come */
};

struct qmsg {
    struct cut_message message;
    uint32_t id;
    struct packet *packet; /* NULL: loaded from a channel log */
};

/* What is to be logged, or only counted, in the order it was matched. */
struct keep {
    struct keep *next;
    struct qmsg *taken;
    struct ireq *over; /* a receive of MPI's that had matched when the rank flipped, or while it was parked */
    uint32_t id;       /* where it is known already */
    bool whole, log;
    bool counted; /* it had arrived before the flip */
};

/* A receiver tells of receives that wait, or is asked for it. */
struct letter {
    bool want, flip, anyway, blocked, flipped, is_news, for_any;
    uint8_t from, comm;
    uint64_t epoch, number; /* it wants message `number` of `comm` to be the first */
    struct cut_call call;
    struct cut_offers offers;
    struct cut_offer offer[REQUESTS_MAX + 1];
};

/* What one rank was told last, of one communicator. No padding: compared as bytes. */
struct said {
    uint64_t epoch, arrived;
    uint32_t count, blocked;
    struct cut_call call;
};

struct slot {
    struct ireq *ireq;
    struct op op; /* that opened it */
};

struct page {
    struct cut_words words;
    uint64_t cut, step;
    uint32_t attempt;
    bool left;
    uint64_t polling_epoch, ended_epoch, sent_before, arrived_before, epoch;
    uint64_t recorded_cut;
    uint32_t recorded_attempt, result;
};

/* The state of a rank after a safe point: what a checkpoint holds. */
struct record {
    uint64_t cut, epoch, step;
    uint32_t attempt, pc, received, posted;
    uint64_t collectives[COMMS_MAX], coll_number[COMMS_MAX];
    struct slot slots[REQUESTS_MAX]; /* ireq: not NULL where one was outstanding */
    uint32_t slot_posted[REQUESTS_MAX];
    unsigned char *log;
    size_t log_bytes, log_room;
    uint32_t logged;
};

struct rank {
    uint8_t self;
    bool ended, plain; /* plain: in a call that only MPI's progress ends */
    uint32_t pc, phase;
    uint64_t wake; /* stamp of the step event that counts */
    uint32_t *received, received_count;
    uint32_t posted;
    uint64_t coll_number[COMMS_MAX]; /* of the program; collectives: since the generation began */
    uint64_t collectives[COMMS_MAX];
    struct slot slots[REQUESTS_MAX];
    struct ireq blocking; /* of a blocking call */
    struct qmsg *probed;  /* matched probes: one of ours, or one of MPI's */
    struct packet *mprobed;
    uint32_t probed_id;
    struct ireq posted_list;
    struct cut_rank cut;
    struct cut_queue queue[COMMS_MAX];
    struct keep *keep_first, **keep_last;
    uint64_t sent[COMMS_MAX][RANKS_MAX], arrived[COMMS_MAX][RANKS_MAX];
    struct cut_sends sends;
    const struct letter *told[RANKS_MAX][COMMS_MAX];
    struct said said[COMMS_MAX][RANKS_MAX];
    uint64_t first[COMMS_MAX][RANKS_MAX]; /* up to that message it goes first */
    uint64_t asked_at[RANKS_MAX], asked_to_flip_at[RANKS_MAX]; /* last; 0: never */
    uint32_t asked_by; /* bit per rank */
    bool asked_to_flip, asked_anyway;
    uint32_t copies; /* of sends, under way */
    struct preq **copy;
    uint32_t copy_room;
    struct page page;
    struct record record;
};

/* ---- agents and the leader (control.c) ---- */

struct order {
    uint64_t epoch, cut, step;
    uint32_t attempt;
    unsigned stage;  /* enum cut_stage */
    bool gone;       /* go was given */
    uint64_t closed; /* all attempts up to this epoch are */
    /* Of a log entry alone: it holds only where it was decided. */
    unsigned from, misfit;
    uint64_t term;
};

struct report {
    uint32_t agent, count, lines;
    uint64_t stamp;
    struct cut_rank_report *ranks;
    uint64_t *steps;
    uint64_t lines_cut;
    uint32_t lines_attempt;
    struct cut_members *line;
};

struct agent {
    uint32_t first, last; /* ranks of it: first to last - 1 */
    struct order order;
    unsigned arming;                              /* what the next event of arming does */
    uint64_t armed[RANKS_MAX], missed[RANKS_MAX]; /* epochs; forgotten when it starts again */
    uint64_t down_until;
};

struct leader {
    struct order order; /* the log */
    struct cut_past past;
    unsigned mode;
    uint32_t behind; /* attempts whose step came too soon */
    bool sealed;
    uint64_t term, down_until, deadline, open_at;
    bool proposed, gone_for_good;
    /* Forgotten with the leader. */
    struct cut_rank_report book[RANKS_MAX];
    bool heard[RANKS_MAX];
    uint64_t steps[RANKS_MAX];
    const struct report *lines[AGENTS_MAX]; /* the newest of each agent */
};

/* ---- the world ---- */

struct event {
    uint64_t at, sequence;
    void (*run)(struct world *world, void *subject, uint64_t number);
    void *subject;
    uint64_t number;
};

struct lies {
    uint32_t loss, doubled, late; /* of reports and orders, in millionths */
    uint32_t orphan;              /* nobody leads any more, at any stage of an attempt */
    uint32_t leader, agent, no_room, refuse,
        slow;        /* a leader, an agent dies; the log is full; a record is refused; a long computation */
    bool weak;       /* large messages move only while both ends are in MPI */
    uint32_t margin; /* how many steps ahead a cut is armed, at least */
    uint64_t delay_ns, report_ns, poll_ns;
};

struct totals {
    uint64_t seeds, cuts, attempts, restarts, messages, logged, held, parked, early, passed, missed, failed, late,
        collective, given_up, hopeless, promised, assumed, parked_new, events, virtual_ns, violations;
};

struct world {
    struct rng rng;
    uint64_t now, sequence, seed;
    bool trace, broken;
    struct program *program;
    struct lies lies;
    struct event *heap;
    size_t heap_count, heap_room;
    void **blocks;
    size_t block_count, block_used, block_current;
    struct rank rank[RANKS_MAX];
    struct endpoint endpoint[RANKS_MAX][COMMS_MAX][2], private_[RANKS_MAX], letters[RANKS_MAX];
    uint64_t channel_free[RANKS_MAX][RANKS_MAX][COMMS_MAX + 2][2];
    struct coll *colls[COMMS_MAX];
    uint32_t coll_count[COMMS_MAX];
    struct agent agent[AGENTS_MAX];
    uint32_t agents;
    struct leader leader;
    /* The truth about each message: by whose receive, and as the how many-th of the receiver. */
    uint32_t *got_by, *got_as;
    int32_t *got_tag;              /* … and by what pattern */
    bool *begun;                   /* a receive of the program's has begun to receive it */
    uint32_t *promised; /* its sender was told that one will, when so many less 1 had been posted; NONE32: it assumed it */
    struct record kept[RANKS_MAX]; /* a cut to restart from */
    bool has_kept;
    bool no_cuts;
    uint32_t ended;
    struct totals *totals;
};

#define TRACE(world, ...)                                                                                                   \
    do {                                                                                                                    \
        if ((world)->trace)                                                                                                 \
            world_trace(world, __VA_ARGS__);                                                                                \
    } while (0)
void world_trace(struct world *world, const char *format, ...) PRINTF_LIKE(2, 3);
void violation(struct world *world, const char *format, ...) PRINTF_LIKE(2, 3);
void *world_alloc(struct world *world, size_t bytes); /* zeroed; until the world ends */
void world_at(struct world *world, uint64_t at, void (*run)(struct world *, void *, uint64_t), void *subject,
              uint64_t number);
uint64_t between(struct world *world, uint64_t low, uint64_t high);
bool chance(struct world *world, uint32_t millionths);
/* From the state of a cut, or from the beginning. True when it ended well. */
bool world_run(struct world *world, struct program *program, uint64_t seed, const struct record *from,
               const struct world *before);
void world_release(struct world *world);

/* pmpi.c */
void pmpi_begin(struct world *world);
struct preq *pmpi_isend(struct world *world, struct rank *rank, uint32_t message, unsigned colour);
void pmpi_bookmark(struct world *world, struct rank *rank, uint32_t peer, const struct cut_bookmark *bookmark);
struct preq *pmpi_irecv(struct world *world, struct rank *rank, unsigned comm, unsigned colour, int32_t source, int32_t tag);
void pmpi_cancel(struct world *world, struct preq *preq);
struct packet *pmpi_iprobe(struct world *world, struct rank *rank, unsigned comm, unsigned colour, int32_t source,
                           int32_t tag);
struct packet *pmpi_improbe(struct world *world, struct rank *rank, unsigned comm, unsigned colour, int32_t source,
                            int32_t tag);
void pmpi_imrecv(struct world *world, struct packet *packet); /* once or more */
struct packet *pmpi_next_bookmark(struct world *world, struct rank *rank);
void pmpi_letter(struct world *world, struct rank *rank, uint32_t peer, const struct letter *letter);
const struct letter *pmpi_next_letter(struct world *world, struct rank *rank);
struct coll *pmpi_coll(struct world *world, struct rank *rank, unsigned comm, uint64_t number, uint32_t root);

/* shell.c: between the program and MPI */
void shell_begin(struct world *world, struct rank *rank);
void shell_look(struct world *world, struct rank *rank);
void shell_attend(struct world *world, struct rank *rank); /* look, and take what has come */
void shell_flip(struct world *world, struct rank *rank, uint64_t epoch, bool recorded);
void shell_post(struct world *world, struct rank *rank, struct ireq *ireq, unsigned comm, int32_t source, int32_t tag);
void shell_imrecv(struct world *world, struct packet *packet); /* the program receives what it has probed */
bool shell_test(struct world *world, struct rank *rank, struct ireq *ireq); /* true: done */
void shell_seen(struct rank *rank, struct ireq *ireq);
void shell_early(struct world *world, struct rank *rank, unsigned comm, int32_t source, int32_t tag);
void shell_send(struct world *world, struct rank *rank, struct ireq *ireq, uint32_t message);
void shell_park(struct world *world, struct rank *rank, const struct cut_call *call);
void shell_unpark(struct world *world, struct rank *rank);
void shell_safe_point(struct world *world, struct rank *rank, uint64_t step);
void shell_leave(struct world *world, struct rank *rank);
bool shell_finalize(struct world *world, struct rank *rank); /* true: it is over */
void shell_load(struct world *world, struct rank *rank, const struct record *from);
void shell_arrive(struct world *world, struct rank *rank, struct qmsg *q, unsigned comm); /* the program may have it */
/* For a moment it matches, of the colour of the day; and MPI again. */
void shell_regroup(struct world *world, struct rank *rank);
void shell_to_mpi(struct world *world, struct rank *rank);
void shell_early_asked(struct world *world, struct rank *rank, bool anyway);

/* first.c: what is held is handed out */
bool firsts_has(const struct rank *rank, unsigned comm, uint32_t peer); /* it goes before others there */
void firsts_arrived(const struct world *world, struct rank *rank, unsigned comm, uint8_t peer); /* one of its messages counts */
void firsts_release(struct world *world, struct rank *rank, uint32_t peer); /* nothing of before is on its way from that peer */
void firsts_release_all(struct world *world, struct rank *rank); /* of all that go first */

/* keep.c */
void keep_add(struct world *world, struct rank *rank, struct keep with);
void keep_on(struct world *world, struct rank *rank);

/* offer.c */
void offers_begin(struct rank *rank);
void offers_sent(struct world *world, struct rank *rank, struct ireq *ireq);
bool offers_done(struct world *world, struct rank *rank, struct ireq *ireq); /* true: it is received, as far as its sender sees */
void offers_take(struct world *world, struct rank *rank);
void offers_tell(struct world *world, struct rank *rank, const struct cut_call *call);
void offers_answer(struct world *world, struct rank *rank);
bool is_synchronous(const struct world *world, const struct ireq *ireq); /* a send that is one */

/* calls.c */
void rank_begin(struct world *world, struct rank *rank, const struct record *from, const struct rank *before);
void rank_wake(struct world *world, struct rank *rank, uint64_t in);
void rank_woken_by_mpi(struct world *world, unsigned rank);

/* control.c */
void control_begin(struct world *world);

/* check.c */
void check_sent(struct world *world, struct rank *rank, uint32_t message);
void check_promise(struct world *world, struct rank *rank, uint32_t message, uint32_t posted);
void check_received(struct world *world, struct rank *rank, uint32_t message, unsigned comm, int32_t source, int32_t tag);
void check_cut(struct world *world, uint64_t cut, uint32_t attempt);
void check_end(struct world *world);

#endif
