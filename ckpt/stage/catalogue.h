/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_CATALOGUE_H
#define CKPT_STAGE_CATALOGUE_H

/* What checkpoints a store holds, of whatever jobs, told by the store alone. */

#include "ckpt/base/digest.h"
#include "ckpt/format/keys.h"
#include "ckpt/store/store.h"
#include "ckpt/wire/codec.h"

struct catalogue_entry {
    char job[TIDE_NAME_MAX + 1];
    char uid[TIDE_UID_CHARS + 1];
    uint64_t cut, generation;
    int committed; /* 0: parts of it, and no COMMIT: never finished, or being written, or deleted */
};

struct catalogue {
    LIST_OF(struct catalogue_entry) entries; /* by name and uid; of each job the newest first */
};

/* By listing; job NULL: of all jobs of whatever name. Errors: those of the store. */
MUST_USE enum tide_status catalogue_take(struct store *store, const char *job, struct catalogue *ret_catalogue, struct err *err);
void catalogue_release(struct catalogue *catalogue);

/* The packs of one job, listed when the first of its checkpoints is read: for all of them once, however many refer to them. */
struct catalogue_packs {
    char job[TIDE_NAME_MAX + 1];
    char uid[TIDE_UID_CHARS + 1]; /* "": none is listed */
    struct strlist keys;          /* sorted */
};
void catalogue_packs_release(struct catalogue_packs *packs);

/* A committed one, as its manifests say. Each of them is read and compared with the digest that leads to it, but for the first, whose
 * digest is told; none may name an object that is not its job's, and every pack that is named must be there. What packs hold is not
 * looked at (stage_check). */
struct catalogue_found {
    char key[TIDE_PATH_MAX + 1];
    char digest[DIGEST_HEX_CHARS + 1];
    uint64_t step, raw_bytes, stored_bytes;
    uint32_t world_size;
};
/* packs: zero, or as it was left by the one before. Errors: CORRUPT naming the object, VERSION, NOT_FOUND, NOMEM, those of the store. */
MUST_USE enum tide_status catalogue_read(struct store *store, const struct catalogue_entry *entry, struct catalogue_packs *packs,
                                         struct catalogue_found *ret_found, struct err *err);

#endif
