/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CLIENT_CLIENT_H
#define CKPT_CLIENT_CLIENT_H

/* Inside libtidemark. It lives in somebody else's process: no call prints, ends the process, raises a signal or waits
 * without a deadline, and memory that cannot be had is an error like any other. */

#include <pthread.h>
#include <sys/types.h>
#include <tidemark/tidemark.h>

#include "ckpt/client/mpi/link.h"
#include "ckpt/client/nccl/link.h"
#include "ckpt/cut/limits.h"
#include "ckpt/stage/arena.h"
#include "ckpt/stage/device.h"
#include "ckpt/wire/local.h"

#define DEADLINE_MS_DEFAULT 60000u
#define RESERVE_DEADLINE_MS 10000u /* the rank stands still meanwhile, and the cut has a deadline of its own */
#define CHANNEL_ROOM_FIRST (UINT64_C(1) << 20)     /* there before the first of them */
#define RESTORE_ATTEMPTS_MAX 16u   /* copies of one checkpoint that may turn out bad */

#define KINDS (TIDE_DEVICE + 1u) /* of memory */

/* How one kind of memory is copied; ops is NULL before it is needed. */
struct kind {
    const struct device_ops *ops;
    struct device *device;
};

struct region {
    struct slot_region entry; /* offset is set when recording */
    struct slot_part part;    /* of a shard */
    void *data;
    struct device_place place;
    enum tide_copy copy, copied; /* of device memory: as wanted, as done last */
    int on_write; /* 1: may be copied behind the rank's back; an errno, negative: it asked for that and cannot */
};

/* The order to record that the agent left in the page. */
struct order {
    uint64_t cut, step, epoch;
    uint32_t attempt, slot;
};

/* none: there is nothing to add to. made: between the order and its result. told: the result is in the page; of a coloured rank
 * the channel log may still grow, or fail. */
enum record_phase { RECORD_PHASE_NONE, RECORD_PHASE_MADE, RECORD_PHASE_TOLD };

/* The record under way or, until the next, the last. libtidemark_mpi adds messages to it from whichever thread receives them, and
 * a thread of ours may end it. */
struct record {
    pthread_mutex_t lock; /* over all of it, and over reserved_bytes; nobody who holds it calls libtidemark_mpi */
    enum record_phase phase;
    struct order order;
    struct slot_header facts;
    struct slot *slot; /* NULL: it was not begun to be written */
    uint64_t begin_ns, stall_ns;
    int parts; /* under way: that of the rank itself, that of on_write.c, that of finish.c */
    enum record_result result; /* DONE until something fails */
    struct err why;
    char note[TIDE_TEXT_MAX + 1]; /* what was not done as the program wanted it, "" for nothing */
    /* How regions were copied. */
    enum record_copy copy;
    int copy_errno;
    uint64_t copy_bytes, copy_waits;
    /* The channel log: where in the file, how much of it. */
    int fd; /* -1: none */
    uint64_t log_at, log_bytes;
    uint64_t logged, logged_bytes; /* messages, without the log's head */
    struct slot_region *log_entry;
};

struct tide {
    /* What an unarmed tide_step reads comes first. Outside a job the page is a private one that nobody arms. */
    struct control_page *page;
    uint64_t step_min; /* smallest step the next tide_step may have; STEP_LIMIT: it takes the long way, as the first does and each
                          while messages are in transition */
    uint64_t first_min; /* … and what the first may have: behind the restored step */
    int stepping;
    int in_job;
    int coloured; /* libtidemark_mpi is there, and so is MPI */
    int fd;    /* to the step process, -1 outside a job */
    pid_t pid; /* a forked child must not speak for the rank */
    uint32_t rank, world_size;
    uint64_t generation;
    struct tide_options options; /* whole, with defaults filled in */
    uint64_t reserved_bytes; /* each slot is known to have */
    struct region *regions;
    uint32_t region_count, region_room;
    struct device_part *parts; /* as many as regions; what a record hands to devices */
    struct kind kinds[KINDS];
    struct slot slots[SLOTS]; /* mapped when first written */
    struct prefault *prefault; /* NULL: none */
    struct on_write *on_write; /* NULL: no copy is under way */
    struct finisher *finisher; /* NULL: none */
    struct record record;
    struct tide_mpi_host host;
    int counted; /* libtidemark_nccl is there */
    struct watcher *watcher; /* NULL: the program does not ask for a restart in its process */
    uint64_t questions; /* asked so far, of those that are numbered */
    char arena[TIDE_PATH_MAX + 1];
    char job_uid[TIDE_UID_CHARS + 1];
    struct err err; /* tide_error_text */
};

/* ---- channel.c: messages to the step process; deadlines are of clock_mono_ns ---- */

/* Errors: UNAVAILABLE, IO. */
MUST_USE enum tide_status channel_connect(const char *path, uint64_t deadline_ns, int *ret_fd, struct err *err);
/* Fill in the sender's fields and send. Errors: UNAVAILABLE, TIMEOUT. */
MUST_USE enum tide_status channel_send(struct tide *tide, struct local_message *message, uint64_t deadline_ns, struct err *err);
/* Send without waiting, and without an answer; when that is not possible it is not sent. */
void channel_tell(struct tide *tide, struct local_message *message);
/* The same for what the page says as well. */
void channel_nudge(struct tide *tide, enum local_type type);
/* Wait for a message that says the number of the question again, and whose bit (1u << type) is in `wanted`. Errors: UNAVAILABLE,
 * TIMEOUT, VERSION, and what a LOCAL_REFUSED carries. */
MUST_USE enum tide_status channel_wait(struct tide *tide, uint64_t question, unsigned wanted, uint64_t deadline_ns,
                                       struct local_message *ret_answer, struct err *err);
/* Ask, then wait for an answer that says the number of the question again. */
MUST_USE enum tide_status channel_ask(struct tide *tide, struct local_message *message, unsigned wanted, uint64_t deadline_ns,
                                      struct local_message *ret_answer, struct err *err);

/* ---- attach.c: the environment, the socket, the control page ---- */

MUST_USE enum tide_status attach(struct tide *tide, struct err *err);
/* The page of tide->generation, which this process belongs to from now on. Errors: UNAVAILABLE, VERSION, IO. */
MUST_USE enum tide_status attach_page(struct tide *tide, struct err *err);
MUST_USE enum tide_status attach_nowhere(struct tide *tide, struct err *err);

/* ---- colour.c: libtidemark_mpi, where it is loaded ---- */

/* Meet it, as soon as MPI is there. */
void colour_attach(struct tide *tide);
void colour_detach(struct tide *tide);
/* Is the next tide_step to look at more than armed_step? */
int colour_wakes(const struct tide *tide);
/* Look at the page, and do what it says. */
void colour_poll(const struct tide *tide);
/* May this rank record? Errors: those of tide_mpi_may_record. */
MUST_USE enum tide_status colour_may_record(struct tide *tide, struct err *err);
/* Into the epoch of the record, whole or not. */
void colour_flip(struct tide *tide, uint64_t epoch, int recorded);
/* The messages that a checkpoint holds, before anything is restored: can they be handed over? Errors: MISMATCH, STATE. */
MUST_USE enum tide_status colour_may_load(const struct tide *tide, uint64_t cut, uint64_t bytes, struct err *err);
MUST_USE enum tide_status colour_load(struct tide *tide, uint64_t cut, const void *log, uint64_t bytes, struct err *err);

/* ---- comms.c: communicators at a record, and libtidemark_nccl, where it is loaded ---- */

void comms_attach(struct tide *tide);
void comms_detach(struct tide *tide);
/* Another page than before: how far NCCL's communicators are is told there. */
void comms_progress(const struct tide *tide);
/* The generation is over: whoever waits for NCCL goes on; from any thread. And: nothing of it is left, as far as NCCL goes. */
void comms_over(const struct tide *tide);
void comms_leave(const struct tide *tide);
/* May this rank record, as far as NCCL goes? Errors: those of tide_nccl_may_record. */
MUST_USE enum tide_status comms_may_record(const struct tide *tide, struct err *err);
/* NCCL's messages that are under way to this rank at a record: receive them, and hold them for the program. Errors: those of
 * tide_nccl_take. */
MUST_USE enum tide_status comms_take(struct tide *tide, struct err *err);
/* What is held, in a checkpoint: how many bytes; write so many; may they be loaded, before anything is restored; load them.
 * Errors: those of libtidemark_nccl's, MISMATCH. */
uint64_t comms_held_bytes(const struct tide *tide);
MUST_USE enum tide_status comms_held_write(const struct tide *tide, void *to, uint64_t bytes, struct err *err);
MUST_USE enum tide_status comms_may_load(const struct tide *tide, uint64_t cut, uint64_t bytes, struct err *err);
MUST_USE enum tide_status comms_load(const struct tide *tide, uint64_t cut, const void *log, uint64_t bytes, struct err *err);
/* MPI's, if messages are coloured, and NCCL's, into the page. */
void comms_tell(const struct tide *tide);

/* ---- room.c: slots that are large enough ---- */

/* Blocks for gigabytes take seconds: they are asked for when training begins, so that the first record finds them. What goes
 * wrong goes wrong again when they are needed, and is told then. */
void room_ahead(struct tide *tide);
/* Both slots have `bytes`; the lock of the record is held. Errors: those of LOCAL_RESERVE and channel_ask. */
MUST_USE enum tide_status room_reserve(struct tide *tide, uint64_t bytes, struct err *err);
/* A slot with room for all regions, `data_bytes` of them, and the first messages; mapped. Errors: the same, INVALID, LIMIT, and those
 * of slot_map. */
MUST_USE enum tide_status room_slot(struct tide *tide, uint32_t number, uint64_t data_bytes, struct slot **ret_slot,
                               struct err *err);
void room_path(const struct tide *tide, uint32_t number, char to[TIDE_PATH_MAX + 64]);

/* ---- record.c ---- */

void record_init(struct record *record);
void record_release(struct tide *tide);
/* As armed_step says, which was `armed` a moment ago. A record that fails is the coordinator's trouble, never the program's. */
void record_make(struct tide *tide, uint64_t step, uint64_t armed);
/* Nothing will be recorded any more: what is armed was passed by. */
void record_never(struct tide *tide);
/* One part of it has come to its end, the last ends it; from any thread. */
void record_end(struct tide *tide, enum tide_status status, const struct err *why);
/* The result in the page is another than it was. The lock is held. */
void record_tell(struct tide *tide);
/* Of tide_mpi_host. */
void record_give_up(void *tide, uint32_t record_result, const char *why);

/* ---- channel_log.c: behind the regions, in the file itself, so that it can grow while the slot is mapped ---- */

/* The entry of the slot's table, and where in the file. The lock is held. Errors: IO. */
MUST_USE enum tide_status channel_log_begin(struct tide *tide, uint64_t data_bytes, struct err *err);
/* Nothing is added any more. The lock is held; legal without a beginning. */
void channel_log_end(struct record *record);
/* Of tide_mpi_host. */
enum tide_status channel_log_append(void *tide, const void *entry, size_t bytes);

/* ---- copy.c ---- */

/* All regions into the slot, some of them perhaps behind the rank's back, which is then a part of the record. */
MUST_USE enum tide_status copy_regions(struct tide *tide, struct slot *slot, struct err *err);

/* ---- on_write.c: copies made while the program runs on ---- */

/* What is to be copied: whole pages of one region, and where they go. */
struct on_write_range {
    char *from;
    size_t bytes;
    uint64_t to; /* in the slot's file */
    const char *name; /* copied */
};

/* Protect these ranges against writes and copy them by a thread of our own, which calls record_end. 0, or the errno of what the
 * kernel had against it: then nothing has happened. */
MUST_USE int on_write_begin(struct tide *tide, const char *path, const struct on_write_range *ranges, size_t count);
/* The copy has come to its end, which waits for nobody. Legal without a beginning. */
void on_write_end(struct tide *tide);
/* 0, or why this memory cannot be protected, as an errno: others write to it past this mapping. */
int on_write_refused(const void *data, size_t bytes);

/* ---- devices.c: where regions live ---- */

/* The backend for that kind is there. Errors: UNSUPPORTED, VERSION, UNAVAILABLE, NOMEM. */
MUST_USE enum tide_status devices_need(struct tide *tide, enum tide_memory memory, struct err *err);
void devices_close(struct tide *tide);
/* Host memory that is copied to and from; before it is unmapped, unpin. Legal with NULL and with what never was pinned. */
void devices_pin(const struct tide *tide, void *at, size_t bytes, const _Atomic int *stop);
void devices_unpin(const struct tide *tide, void *at);
/* Of the GPU that was used first, as device.h has it. */
void devices_bus_id(const struct tide *tide, char *to, size_t size);
/* Every device region into the slot, which is laid out. What goes on behind the rank's back is a part of the record, and the
 * regions, and what the slot is mapped to, stay until finish_await. */
MUST_USE enum tide_status devices_copy_out(struct tide *tide, const struct slot *slot, struct err *err);
MUST_USE enum tide_status devices_finish(const struct tide *tide, struct err *err);
MUST_USE enum tide_status devices_copy_in_begin(const struct tide *tide, struct err *err);
MUST_USE enum tide_status devices_copy_in(const struct tide *tide, const struct region *to, uint64_t offset, const void *from,
                                          size_t bytes, unsigned lane, struct err *err);
MUST_USE enum tide_status devices_copy_in_wait(const struct tide *tide, unsigned lane, struct err *err);

/* ---- finish.c: a thread that waits for devices ---- */

/* Have it call devices_finish and then record_end. Zero, or -1 when there is no such thread. */
MUST_USE int finish_later(struct tide *tide);
/* No copy is on its way from a device any more. Its deadline is that of devices_finish. */
void finish_await(struct tide *tide);
/* … and the thread is gone. */
void finish_end(struct tide *tide);

/* ---- prefault.c: a short-lived thread ---- */

/* Map both slots and give them page tables, as soon as the step process has made files of that many bytes. Without it the first
 * record into each slot takes several times as long as a copy. What cannot be done is not missed. */
void prefault_begin(struct tide *tide, uint64_t bytes);
/* It stops, soon; what it has mapped becomes the handle's. Legal without a beginning. */
void prefault_end(struct tide *tide);

/* ---- restart.c: from one generation to the next in the same process ---- */

/* The answer of a call once the generation is over. */
enum tide_status restart_due(struct tide *tide);
/* The thread that looks whether it is over is gone. Legal without one. */
void restart_end(struct tide *tide);

/* ---- regions.c ---- */

/* Give every region its offset. ret_data_bytes: in all. Errors: LIMIT. */
MUST_USE enum tide_status regions_lay(struct tide *tide, uint64_t *ret_data_bytes, struct err *err);
/* Is one of them a shard? And one of a kind of its own, so that another number of ranks may be restored? */
bool regions_have_shards(const struct tide *tide);
bool regions_have_kinds(const struct tide *tide);
/* What they are, for whoever puts them together anew (want.h). Errors: LIMIT, NOMEM, IO, NOSPACE. */
MUST_USE enum tide_status regions_tell(struct tide *tide, struct err *err);
/* NULL when there is none of that name. `hint`: where to look first. */
struct region *region_named(const struct tide *tide, const char *name, uint32_t hint);

#endif
