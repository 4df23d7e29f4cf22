/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CLIENT_CLIENT_H
#define CKPT_CLIENT_CLIENT_H

/* Inside libtidemark. It lives in somebody else's process: no call prints, ends the process, raises a signal or waits
 * without a deadline, and memory that cannot be had is an error like any other. */

#include <sys/types.h>
#include <tidemark/tidemark.h>

#include "ckpt/stage/arena.h"
#include "ckpt/stage/device.h"
#include "ckpt/wire/local.h"

#define DEADLINE_MS_DEFAULT 60000u
#define RESERVE_DEADLINE_MS 10000u /* the rank stands still meanwhile, and the cut has a deadline of its own */
#define CHANNEL_BYTES_DEFAULT (UINT64_C(64) << 20) /* of messages saved with a rank */
#define RESTORE_ATTEMPTS_MAX 16u   /* copies of one checkpoint that may turn out bad */

struct region {
    struct slot_region entry; /* offset is set when recording */
    void *data;
    const struct device_ops *ops;
};

struct tide {
    /* What an unarmed tide_step reads comes first. Outside a job the page is a private one that nobody arms. */
    struct control_page *page;
    uint64_t step_min; /* smallest step the next tide_step may have; STEP_TAKEN before the first, which takes the long way */
    uint64_t first_min; /* … and what the first may have: behind the restored step */
    int stepping;
    int in_job;
    int fd;    /* to the step process, -1 outside a job */
    pid_t pid; /* a forked child must not speak for the rank */
    uint32_t rank, world_size;
    uint64_t generation;
    struct tide_options options; /* whole, with defaults filled in */
    uint64_t reserved_bytes; /* each slot is known to have */
    struct region *regions;
    uint32_t region_count, region_room;
    struct slot slots[SLOTS]; /* mapped when first written */
    struct prefault *prefault; /* NULL: none */
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
/* Wait for a message whose bit (1u << type) is in `wanted`. Errors: UNAVAILABLE, TIMEOUT, VERSION, and what a LOCAL_REFUSED
 * carries. */
MUST_USE enum tide_status channel_wait(struct tide *tide, unsigned wanted, uint64_t deadline_ns, struct local_message *ret_answer,
                                       struct err *err);
/* Ask, then wait. */
MUST_USE enum tide_status channel_ask(struct tide *tide, struct local_message *message, unsigned wanted, uint64_t deadline_ns,
                                      struct local_message *ret_answer, struct err *err);

/* ---- attach.c: the environment, the socket, the control page ---- */

MUST_USE enum tide_status attach(struct tide *tide, struct err *err);
MUST_USE enum tide_status attach_nowhere(struct tide *tide, struct err *err);

/* ---- prefault.c: a short-lived thread ---- */

/* Map both slots and give them page tables, as soon as the step process has made files of that many bytes. Without it the first
 * record into each slot takes several times as long as a copy. What cannot be done is not missed. */
void prefault_begin(struct tide *tide, uint64_t bytes);
/* It stops, soon; what it has mapped becomes the handle's. Legal without a beginning. */
void prefault_end(struct tide *tide);

/* ---- regions.c ---- */

/* Give every region its offset. ret_data_bytes: in all. Errors: LIMIT. */
MUST_USE enum tide_status regions_lay(struct tide *tide, uint64_t *ret_data_bytes, struct err *err);
/* NULL when there is none of that name. `hint`: where to look first. */
struct region *region_named(const struct tide *tide, const char *name, uint32_t hint);

#endif
