/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_UPLOAD_H
#define CKPT_STAGE_UPLOAD_H

/* Packs on their way into a store: while some are under way the next is filled. Their memory is bounded for the whole
 * process, whoever stores: UPLOAD_PACKS_MAX packs, shared evenly. Of a pack only what was filled is ever there; between uploads
 * it is kept, and the kernel's to take when memory is short (mem_pages_lend). */

#include "ckpt/format/keys.h"
#include "ckpt/format/layout.h"
#include "ckpt/store/store.h"

#define UPLOAD_PACKS_MAX 10u /* 320 MiB */

struct upload_pack {
    unsigned char *bytes; /* FORMAT_PACK_BYTES_MAX of room, which hold anything */
    object_key key;
    uint64_t turn; /* in which it was begun; 0: it is not under way */
    struct store_op op;
};

struct upload {
    struct store *store;
    struct upload_pack packs[UPLOAD_PACKS_MAX];
    unsigned count;   /* that there is memory for */
    unsigned filling; /* index of the one being filled */
    uint64_t turns;
};

/* There is memory for at least one pack. Errors: NOMEM, UNAVAILABLE (others used all of it for too long). */
MUST_USE enum tide_status upload_init(struct upload *upload, struct store *store, struct err *err);
/* Waits for what is under way; its outcome is of no interest any more. */
void upload_release(struct upload *upload);

/* Where the next pack is filled. */
unsigned char *upload_room(const struct upload *upload);
/* Begin to put the pack that was filled, under that key; upload_room is another afterwards. Errors: of this or an earlier
 * one, as store_put_same. */
MUST_USE enum tide_status upload_put(struct upload *upload, const char *key, uint32_t bytes, struct err *err);
/* Of what was put, how much is still under way, and how much can be beside the pack that is filled; 0 before anything was put: that
 * nothing is under way then says nothing of the store. */
unsigned upload_depth(struct upload *upload);
unsigned upload_depth_max(const struct upload *upload);
/* Wait for all that is under way. */
MUST_USE enum tide_status upload_finish(struct upload *upload, struct err *err);

/* What is kept for uploads to come goes back to the kernel: for who measures, or makes memory fail. */
void upload_trim(void);

#endif
