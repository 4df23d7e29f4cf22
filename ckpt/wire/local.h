/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_WIRE_LOCAL_H
#define CKPT_WIRE_LOCAL_H

/* What a rank, its step process and the agent share on one host.
 *
 *   rank (libtidemark) ── SOCK_SEQPACKET, struct local_message ──► step process ── JSON lines ──► agent
 *   rank, step, agent  ── one control page per rank in shared memory, struct control_page
 *   rank, agent        ── two slots per rank in shared memory, or three, ckpt/stage/arena.h
 *
 * The page is the truth; a message is a nudge to look at it, or a question. So an agent that was killed and started again
 * reads the pages and knows all. Sizes are fixed and native-endian: both ends are on one host. Pure: layout only. */

#include <stdatomic.h>
#include <stdint.h>
#include <tidemark/types.h>

/* Environment of a rank, beside torchrun's. */
#define ENV_SOCKET "TIDEMARK_SOCKET"         /* path of the step's socket for ranks; absent: not in a job */
#define ENV_ARENA "TIDEMARK_ARENA"           /* directory of the control pages and slots of this job on this node */
#define ENV_JOB "TIDEMARK_JOB"               /* name */
#define ENV_JOB_UID "TIDEMARK_JOB_UID"
#define ENV_GENERATION "TIDEMARK_GENERATION" /* decimal */
#define ENV_NODE "TIDEMARK_NODE"             /* node name */

/* In the arena directory; %u is the rank, the second %u the slot. */
#define CONTROL_FILE_FORMAT "r%u.control"
#define SLOT_FILE_FORMAT "r%u.slot%u"
#define SLOT_SUM_FILE_FORMAT "r%u.slot%u.sum"
#define WANT_FILE_FORMAT "r%u.want" /* what the rank has registered, where that can be restored on another number of ranks */
#define SLOTS_ALWAYS 2u /* of each rank, from its first record on */
#define SLOTS 3u       /* … and a third, where there is room, once the store lags */

#define CONTROL_MAGIC UINT64_C(0x344c54434d444954) /* "TIDMCTL4" */
#define CONTROL_PAGE_BYTES 131072u
#define CONTROL_COMMS_MAX 1024u /* communicators of a rank at a record */
#define CONTROL_COMM_NAME_MAX 63
#define CONTROL_ADDRESS_MAX 255
#define STEP_NONE UINT64_MAX         /* nothing armed */
#define STEP_TAKEN (UINT64_MAX - 1u) /* the rank is recording; the agent keeps its hands off */
#define STEP_NEXT (UINT64_MAX - 2u)  /* armed for the next safe point, whatever its number (free mode). With an armed_epoch that
                                        the rank has reached: it looks at the page, and takes the order away */
#define STEP_OVER (UINT64_MAX - 3u)  /* the generation is over, and the rank goes over to the next: nothing is recorded any more */
#define STEP_LIMIT STEP_OVER         /* steps of a program are below it */

enum control_phase {
    CONTROL_EMPTY,     /* created; the rank has not called tide_init */
    CONTROL_ATTACHED,  /* tide_init done */
    CONTROL_RESTORING, /* inside tide_restore */
    CONTROL_STEPPING,  /* made its first tide_step */
    CONTROL_FINALIZED
};

/* passed: the rank came to its armed step and go was not there. early: it needed a message that was sent behind the sender's
 * record, and gave the attempt up. done is the last word only when the epoch is settled: until then the channel log may
 * still fail, and make it failed or early. */
enum record_result { RECORD_NONE, RECORD_DONE, RECORD_FAILED, RECORD_PASSED, RECORD_EARLY };

/* How a record's bytes were copied. plain: while the rank stood still. on_write: regions that asked for it behind its back,
 * from memory that was protected against its writes until then. refused: they asked, and the kernel did not let us. */
enum record_copy { RECORD_COPY_PLAIN, RECORD_COPY_ON_WRITE, RECORD_COPY_REFUSED };

/* A communicator at a record. */
struct control_comm {
    uint64_t id;          /* the same on all its members (ckpt/cut/README.md) */
    uint64_t collectives; /* entered since the generation began */
    uint64_t sent, received, balance; /* messages that are counted and not coloured: NCCL's (ckpt/cut/verdict.h) */
    uint32_t size;        /* members; of an intercommunicator both groups */
    char name[CONTROL_COMM_NAME_MAX + 1];
};

#define CONTROL_CHANNELS_MAX 64u /* of a rank, on which it has sent or receives messages that are counted and not coloured */
#define CONTROL_CHANNEL_LAST 8u  /* messages of a channel that may be under way at a record */

/* From a member of a communicator to another: how many messages were sent at a record, and how long the last are: message
 * number i, from 0, has bytes[i % CONTROL_CHANNEL_LAST]. */
struct control_channel {
    uint64_t comm;
    uint32_t from, to;
    uint64_t sent;
    uint64_t bytes[CONTROL_CHANNEL_LAST];
};

/* Of control_page.over; a futex. OVER: the step has ended the generation for this rank. UNHEEDED: the rank does not look any more. */
#define CONTROL_OVER 1u
#define CONTROL_OVER_UNHEEDED 2u

/* The rank, as that member of that communicator. */
struct control_member {
    uint64_t comm;
    uint32_t rank;
    uint32_t reserved;
};

/* Bookmarks (LOCAL_MARKS). */
struct control_marks {
    uint32_t channel_count, member_count; /* R: of the next two */
    struct control_channel channels[CONTROL_CHANNELS_MAX]; /* R: that lead from this rank */
    struct control_member members[CONTROL_CHANNELS_MAX];   /* R: to which channels may lead */
    uint32_t arriving_count, reserved;                     /* the step, before MARKED */
    struct control_channel arriving[CONTROL_CHANNELS_MAX]; /* the step: that lead to these members */
};

#define CONTROL_PROGRESS_MAX 16u /* communicators of a rank of which it is told how far they are */

/* How far a rank is in a communicator of NCCL's. Collectives are numbered from 1; 0: nothing is known. What is known of a device is
 * known of some of them only (ckpt/client/nccl/README.md). */
struct control_progress_comm {
    uint64_t id;
    uint64_t begun;              /* entered by the host */
    uint64_t reached, unreached; /* the stream has come to this one, with all before it; it has not come to this one */
    uint64_t done, undone;       /* it is complete; it is not */
    uint64_t since_ns;           /* of clock_mono_ns: none was entered since */
    uint32_t size, member;
    uint32_t messages; /* not 0: it passes messages in it, too */
    uint32_t reserved;
    char name[CONTROL_COMM_NAME_MAX + 1];
};

/* Odd: it is being written. */
struct control_progress {
    _Atomic uint64_t version;
    uint32_t count, more; /* so many are not told of */
    struct control_progress_comm comms[CONTROL_PROGRESS_MAX];
};

/* Written by: A agent (or step, when it creates the page), R rank. One page per rank per generation: the step creates a
 * new file for each generation, so a rank of an older one still holds a page nobody reads.
 *
 * Arming (Dekker's handshake; every access marked seq_cst is memory_order_seq_cst):
 *   agent: cut, attempt, slot := …; armed_step := k (seq_cst); if step (seq_cst) >= k: CAS armed_step k -> NONE;
 *          success means the rank went by without seeing it: missed.
 *   rank:  step := s (seq_cst exchange); if armed_step (seq_cst) == s: CAS armed_step s -> TAKEN; success: record
 *          (cut, attempt, slot are stable while TAKEN), fill record_*, record_result, then recorded_cut and
 *          recorded_attempt, then armed_step := NONE (release), then send LOCAL_RECORDED.
 *   Either the rank sees k or the agent sees step >= k; never neither.
 * Disarm: agent CAS armed_step k -> NONE; when it fails because of TAKEN, the record is under way and its result counts.
 *
 * Where libtidemark_mpi colours the messages (`coloured`), arming is tentative (ckpt/cut/README.md): armed_epoch is that of
 * the attempt, the rank answers with polling_epoch at its next call, and records only where go_epoch has reached
 * armed_epoch. Epochs only grow in a generation, so each of these words is an order that may be given twice.
 * armed_epoch 0: nothing is coloured, to be armed is enough. */
struct control_page {
    uint64_t magic;      /* A */
    uint64_t generation; /* A */
    uint32_t rank;       /* A */
    uint32_t world_size; /* A */
    _Atomic uint32_t phase; /* R: enum control_phase */
    _Atomic int32_t pid;    /* R: in tide_init */

    _Alignas(64) _Atomic uint64_t step;       /* R: last tide_step, or the restored step */
    _Alignas(64) _Atomic uint64_t armed_step; /* A, R */
    _Atomic uint64_t armed_cut;               /* A */
    _Atomic uint32_t armed_attempt;           /* A */
    _Atomic uint32_t armed_slot;              /* A */
    _Atomic uint64_t armed_epoch;             /* A: this record begins it; 0: of a rank whose messages are not coloured */

    /* Read by a rank that polls; a rank in `epoch` does nothing about an older one. */
    _Alignas(64) _Atomic uint64_t go_epoch; /* A: every rank is armed and polls */
    _Atomic uint64_t flip_epoch;            /* A: be there now, without a record */
    _Atomic uint64_t settled_epoch;         /* A: no message of an older epoch is on its way to anybody */
    _Atomic uint64_t closed_epoch;          /* A: … and every rank has ended its transition */
    _Atomic uint64_t call_epoch;            /* A: what a call of the program looks at: changed, by one, behind every change of
                                               the words above and of armed_epoch */

    _Alignas(64) _Atomic uint32_t coloured; /* R: libtidemark_mpi is there */
    _Atomic uint32_t cut_declared;          /* R: enum tide_cut of tide_options; before phase ATTACHED */
    _Atomic uint64_t polling_epoch;         /* R: no call waits where a flip to it could not reach */
    _Atomic uint64_t ended_epoch;           /* R: settled, and MPI matches again; UINT64_MAX: MPI_Finalize, it needs no flip */
    _Atomic uint64_t sent_before;           /* R: messages sent in epochs before `epoch`; written before `epoch`. A reader looks at
                                               `epoch` before and after: both the same, or it reads again */
    _Atomic uint64_t arrived_before;        /* R: of those, arrived here; grows, written behind the channel log's entry */
    _Atomic uint64_t epoch;                 /* R: of its last flip */

    _Alignas(64) _Atomic uint64_t recorded_cut; /* R: last finished attempt, good or bad */
    _Atomic uint32_t recorded_attempt;          /* R */
    _Atomic uint32_t record_result;             /* R: enum record_result */
    _Atomic uint32_t record_status;             /* R: enum tide_status when failed */
    _Atomic uint32_t record_slot;               /* R */
    _Atomic uint64_t record_step;               /* R */
    _Atomic uint64_t record_bytes;              /* R */
    _Atomic uint64_t record_stall_ns;           /* R: time the rank stood still in tide_step */
    _Atomic uint32_t record_copy;               /* R: enum record_copy */
    _Atomic uint32_t record_copy_errno;         /* R: of a refusal */
    _Atomic uint64_t record_copy_bytes;         /* R: copied behind the rank's back */
    _Atomic uint64_t record_copy_ns;            /* R: from the safe point until all of it was copied */
    _Atomic uint64_t record_copy_waits;         /* R: writes of the program that waited for their page */
    _Atomic uint64_t record_collectives;        /* R: of MPI_COMM_WORLD */
    uint64_t record_unused[2];                  /* 0: what is behind keeps its place for ranks that were started before */
    _Atomic uint64_t record_logged, record_logged_bytes; /* R: of the channel log; grow until settled */
    _Atomic uint32_t record_comms;              /* R: of comms[] */
    char record_detail[TIDE_TEXT_MAX + 1];      /* R: why it failed; of a good one, what was not done as the program wanted it */

    _Alignas(64) _Atomic uint64_t restored_cut; /* R: 0: not, or from the beginning */
    _Atomic uint64_t restored_step;             /* R */
    _Atomic uint64_t restore_ns;                /* R */

    struct control_comm comms[CONTROL_COMMS_MAX]; /* R: of a record */
    struct control_marks marks;

    /* Restart in the process (agent/step/README.md). */
    uint32_t may_stay;           /* the step, when it creates the page: its ranks may go over to the next generation */
    _Atomic uint32_t stays;      /* R: the program has asked for it */
    _Atomic uint32_t over;       /* the step, R: CONTROL_OVER… */

    struct control_progress progress; /* R */

    /* Of this generation, as the environment tells it to processes that are started for it; the step, when it creates the page. */
    uint32_t restarts, master_port; /* master_port 0: of a step that does not tell */
    char master_address[CONTROL_ADDRESS_MAX + 1];
};
_Static_assert(sizeof(struct control_page) <= CONTROL_PAGE_BYTES, "the control page has room");

/* ---- rank <-> step: fixed messages on SOCK_SEQPACKET, connected by name ---- */

#define LOCAL_MAGIC UINT32_C(0x31444954) /* "TID1" */

enum local_type {
    LOCAL_HELLO = 1,   /* rank -> step: rank, generation, pid. Answer LOCAL_WELCOME or LOCAL_REFUSED */
    LOCAL_WELCOME,     /* the control page exists by now */
    LOCAL_REFUSED,     /* status, text */
    LOCAL_RESERVE,     /* rank -> step: slot files of `bytes` each are needed (the first two). Answer GRANTED or REFUSED
                          (NOSPACE, LIMIT). The step creates or grows the files with real blocks behind them.
                          flags LOCAL_RESERVE_AHEAD: they will be; not answered, and only done for a job that is
                          checkpointed by itself. slot: the memory node they should lie on, plus 1; 0: anywhere. text: whose */
    LOCAL_GRANTED,
    LOCAL_RECORDED,    /* rank -> step: look at the page (good or bad) */
    LOCAL_RESTORE_ASK, /* rank -> step: what do I restore from? attempt grows from 1. Answer RESTORE_FROM, RESTORE_NONE or REFUSED,
                          RESTORE_WAIT before it for as long as a fetch from the store takes */
    LOCAL_RESTORE_FROM, /* slot, cut, step; flags: tier (enum local_tier) */
    LOCAL_RESTORE_NONE, /* start from the beginning */
    LOCAL_RESTORE_BAD,  /* rank -> step: the slot named last has a bad chunk (text says which); then ask again */
    LOCAL_RESTORED,     /* rank -> step: done, look at the page */
    LOCAL_GOODBYE,      /* rank -> step: tide_finalize */
    LOCAL_RESTORE_WAIT, /* step -> rank: your question stands, and what it asks for is not here yet. Said again and again, so
                           that a fetch may take hours and a step that is gone is still noticed */
    LOCAL_SHARE_GIVE, /* rank -> step: struct local_share, `bytes` of it. Answer SHARED or REFUSED (EXISTS, LIMIT) */
    LOCAL_SHARE_ASK,  /* rank -> step: struct local_share, of which the name; slot: the rank that gives; attempt: how many ms to
                         wait for it. Answer SHARED with `bytes` of it, or REFUSED (TIMEOUT, INVALID) */
    LOCAL_SHARED,
    LOCAL_MARKS, /* rank -> step: at the record (cut, attempt) this rank has sent what the page says in marks.channels. slot 1: and it
                    waits, at most `bytes` ms, until all ranks have said so. Answer MARKED or REFUSED; slot 0: none */
    LOCAL_MARKED, /* what leads to the rank's marks.members is in the page, in marks.arriving */
    LOCAL_LEFT, /* rank -> step: nothing of this process acts for `generation` any more, or will: neither page nor slots are mapped.
                   Answer NEXT, RESTORE_WAIT before it for as long as the next generation takes to begin, or REFUSED */
    LOCAL_NEXT  /* the rank belongs to `generation` now, whose control page exists */
};

enum local_reserve_flag { LOCAL_RESERVE_AHEAD = 1 };

enum local_tier { LOCAL_TIER_RAM, LOCAL_TIER_STORE, LOCAL_TIER_PEER };

struct local_message {
    uint32_t magic;
    uint32_t type; /* enum local_type */
    uint32_t rank;
    uint32_t slot;
    uint32_t attempt;
    uint32_t flags;
    uint32_t status; /* enum tide_status */
    int32_t pid;
    uint64_t generation;
    uint64_t cut;
    uint64_t step;
    uint64_t bytes;
    uint64_t question; /* of SHARE_GIVE, SHARE_ASK, MARKS and LEFT: its number, which the answer says again; else 0 */
    char text[TIDE_TEXT_MAX + 1];
};

/* In the place of the text. */
struct local_share {
    char name[TIDE_NAME_MAX + 1];
    unsigned char data[TIDE_SHARE_BYTES_MAX];
};
_Static_assert(sizeof(struct local_share) <= TIDE_TEXT_MAX, "a text's end is set to 0 on arrival");

static inline struct local_share *local_share_of(struct local_message *message)
{
    return (struct local_share *)(void *)message->text;
}

#endif
