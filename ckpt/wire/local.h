/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_WIRE_LOCAL_H
#define CKPT_WIRE_LOCAL_H

/* What a rank, its step process and the agent share on one host.
 *
 *   rank (libtidemark) ── SOCK_SEQPACKET, struct local_message ──► step process ── JSON lines ──► agent
 *   rank, step, agent  ── one control page per rank in shared memory, struct control_page
 *   rank, agent        ── two slots per rank in shared memory, ckpt/stage/arena.h
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
#define SLOTS 2u

#define CONTROL_MAGIC UINT64_C(0x314c54434d444954) /* "TIDMCTL1" */
#define CONTROL_PAGE_BYTES 4096u
#define STEP_NONE UINT64_MAX         /* nothing armed */
#define STEP_TAKEN (UINT64_MAX - 1u) /* the rank is recording; the agent keeps its hands off */

enum control_phase {
    CONTROL_EMPTY,     /* created; the rank has not called tide_init */
    CONTROL_ATTACHED,  /* tide_init done */
    CONTROL_RESTORING, /* inside tide_restore */
    CONTROL_STEPPING,  /* made its first tide_step */
    CONTROL_FINALIZED
};

enum record_result { RECORD_NONE, RECORD_DONE, RECORD_FAILED };

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
 * Disarm: agent CAS armed_step k -> NONE; when it fails because of TAKEN, the record is under way and its result counts. */
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

    _Alignas(64) _Atomic uint64_t recorded_cut; /* R: last finished attempt, good or bad */
    _Atomic uint32_t recorded_attempt;          /* R */
    _Atomic uint32_t record_result;             /* R: enum record_result */
    _Atomic uint32_t record_status;             /* R: enum tide_status when failed */
    _Atomic uint32_t record_slot;               /* R */
    _Atomic uint64_t record_step;               /* R */
    _Atomic uint64_t record_bytes;              /* R */
    _Atomic uint64_t record_stall_ns;           /* R: time the rank stood still in tide_step */
    _Atomic uint64_t record_collectives;        /* R */
    _Atomic uint64_t record_sent, record_received; /* R */
    char record_detail[TIDE_TEXT_MAX + 1];      /* R: when failed */

    _Alignas(64) _Atomic uint64_t restored_cut; /* R: 0: not, or from the beginning */
    _Atomic uint64_t restored_step;             /* R */
    _Atomic uint64_t restore_ns;                /* R */
};
_Static_assert(sizeof(struct control_page) <= CONTROL_PAGE_BYTES, "the control page fits in one page");

/* ---- rank <-> step: fixed messages on SOCK_SEQPACKET, connected by name ---- */

#define LOCAL_MAGIC UINT32_C(0x31444954) /* "TID1" */

enum local_type {
    LOCAL_HELLO = 1,   /* rank -> step: rank, generation, pid. Answer LOCAL_WELCOME or LOCAL_REFUSED */
    LOCAL_WELCOME,     /* the control page exists by now */
    LOCAL_REFUSED,     /* status, text */
    LOCAL_RESERVE,     /* rank -> step: slot files of `bytes` each are needed (both slots). Answer GRANTED or REFUSED
                          (NOSPACE, LIMIT). The step creates or grows the files with real blocks behind them.
                          flags LOCAL_RESERVE_AHEAD: they will be; not answered, and only done for a job that is
                          checkpointed by itself */
    LOCAL_GRANTED,
    LOCAL_RECORDED,    /* rank -> step: look at the page (good or bad) */
    LOCAL_RESTORE_ASK, /* rank -> step: what do I restore from? attempt grows from 1. Answer RESTORE_FROM, RESTORE_NONE or REFUSED,
                          RESTORE_WAIT before it for as long as a fetch from the store takes */
    LOCAL_RESTORE_FROM, /* slot, cut, step; flags: tier (enum local_tier) */
    LOCAL_RESTORE_NONE, /* start from the beginning */
    LOCAL_RESTORE_BAD,  /* rank -> step: the slot named last has a bad chunk (text says which); then ask again */
    LOCAL_RESTORED,     /* rank -> step: done, look at the page */
    LOCAL_GOODBYE,      /* rank -> step: tide_finalize */
    LOCAL_RESTORE_WAIT  /* step -> rank: your question stands, and what it asks for is not here yet. Said again and again, so
                           that a fetch may take hours and a step that is gone is still noticed */
};

enum local_reserve_flag { LOCAL_RESERVE_AHEAD = 1 };

enum local_tier { LOCAL_TIER_RAM, LOCAL_TIER_STORE };

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
    char text[TIDE_TEXT_MAX + 1];
};

#endif
