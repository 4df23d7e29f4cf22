/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_ARENA_H
#define CKPT_STAGE_ARENA_H

/* The arena: files of shared memory, one directory per job and node, that the agent owns and that outlive the rank, the
 * step process and the agent. Each rank has a control page and two slots, or three (ckpt/wire/local.h names them); a slot holds one
 * recorded cut of one rank:
 *
 *   0                 struct slot_header, SLOT_HEADER_BYTES
 *   SLOT_HEADER_BYTES region_count x struct slot_region
 *   behind these      region_count x struct slot_part, if `parts` is 1: one of the regions is a shard
 *   data_offset       the regions' bytes one behind the other, each at a multiple of SLOT_ALIGN; data_bytes in all
 *
 * The data area is cut into chunks of CHUNK_BYTES; the last may be short. Their digests are in the .sum file beside it,
 * which is written when the slot is recorded, before the cut is reported. A slot is what the store's shard is made from
 * and what a fetch rebuilds, byte for byte. Native-endian: a host of another kind that is sent one (copy.h) does not know the
 * magic number, and refuses it.
 *
 * A rank whose messages are coloured (ckpt/cut/README.md) adds a region of ours, SLOT_CHANNEL_REGION, the last: its channel
 * log. Until the cut's epoch is settled the slot is DRAINING: the other regions are whole, and the log grows into the room
 * behind it, its entry's `bytes` written behind each message. Then the agent settles it. A rank that holds messages of NCCL's
 * (ckpt/client/nccl/README.md) adds SLOT_HELD_REGION, before that one: a log that is whole with the other regions. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tidemark/tidemark.h>

#include "ckpt/base/digest.h"
#include "ckpt/base/err.h"
#include "ckpt/format/box.h"
#include "ckpt/format/layout.h"

#define SLOT_MAGIC UINT64_C(0x31544c534d444954)     /* "TIDMSLT1" */
#define SLOT_SUM_MAGIC UINT64_C(0x314d55534d444954) /* "TIDMSUM1" */
#define SLOT_HEADER_BYTES 4096u
#define SLOT_ALIGN FORMAT_REGION_ALIGN
#define CHUNK_BYTES FORMAT_CHUNK_BYTES

#define SLOT_RESERVED_PREFIX REGION_RESERVED_PREFIX
#define SLOT_CHANNEL_REGION SLOT_RESERVED_PREFIX "channel"
#define SLOT_HELD_REGION SLOT_RESERVED_PREFIX "nccl"

/* Numbers are part of a slot's digest: they are only added. */
enum slot_state { SLOT_EMPTY, SLOT_RECORDING, SLOT_RECORDED, SLOT_DRAINING };

struct slot_header {
    uint64_t magic;
    uint32_t state; /* enum slot_state; RECORDED is written last */
    uint32_t rank;
    char job_uid[TIDE_UID_CHARS + 1];
    uint64_t generation;
    uint64_t cut;
    uint32_t attempt;
    uint32_t world_size;
    uint64_t step;
    uint32_t region_count;
    uint32_t reserved;
    uint64_t data_offset;
    uint64_t data_bytes;
    uint64_t collectives;
    uint64_t parts;  /* 1: a table of parts is there. 0 in the digests of what was stored before, as unused */
    uint64_t unused;
};
_Static_assert(sizeof(struct slot_header) <= SLOT_HEADER_BYTES, "the slot header fits");

struct slot_region {
    char name[TIDE_NAME_MAX + 1];
    uint32_t memory; /* enum tide_memory */
    uint32_t dtype;  /* enum tide_dtype */
    uint32_t ndim;
    uint32_t kind; /* enum region_kind */
    uint64_t shape[TIDE_DIMS_MAX];
    uint64_t offset; /* from data_offset */
    uint64_t bytes;
};

/* Of a REGION_SHARD: the tensor it is a part of, and where it begins there. All 0 of others. */
struct slot_part {
    uint64_t whole[TIDE_DIMS_MAX], at[TIDE_DIMS_MAX];
};

/* A slot file mapped into this process. */
struct slot {
    struct slot_header *header;
    struct slot_region *regions;
    unsigned char *data;
    size_t mapped_bytes;
    uint64_t inode; /* of the file */
    int file;       /* the same, to read chunks from, where slot_open gave it; else -1. Owned */
};

/* Bytes a slot file needs for these regions, with a table of parts or without; 0 when that is more than a rank may have
 * (RANK_BYTES_MAX). */
uint64_t slot_bytes_needed(uint32_t region_count, bool parts, uint64_t data_bytes);

/* Create `path` or grow it to `bytes` with real blocks behind it (posix_fallocate), so that recording can never meet
 * SIGBUS. Errors: NOSPACE, IO. */
MUST_USE enum tide_status slot_reserve(const char *path, uint64_t bytes, struct err *err);
/* … on that memory node of the host, if the kernel lets us (numa.h). *ret_preferred: it was asked to. */
MUST_USE enum tide_status slot_reserve_on(const char *path, uint64_t bytes, int node, bool *ret_preferred, struct err *err);

/* Map an existing slot file, read-only or writable. Does not judge its contents. Errors: NOT_FOUND, IO, CORRUPT (too short). */
MUST_USE enum tide_status slot_map(const char *path, int writable, struct slot *ret_slot, struct err *err);
void slot_unmap(struct slot *slot);
/* The file of a slot that is mapped, to read its data from (O_RDONLY) or write it into (O_WRONLY): what is read next lies in the
 * processor's cache, and its pages need not be mapped. It is the caller's to close. Errors: IO (another file lies at that path by now,
 * too). */
MUST_USE enum tide_status slot_open_file(const struct slot *slot, const char *path, int mode, int *ret_fd, struct err *err);
/* Is what is mapped still what the path leads to? */
int slot_is_at(const struct slot *slot, const char *path);

/* Begin to write a mapped slot: it is RECORDING from here on, laid out, and `data` is set. The caller fills regions[] and
 * data; data_bytes is the aligned end of the last region, padding is the caller's to zero. A table of parts is all 0 yet. Errors:
 * LIMIT (the file is too short: reserve more). */
MUST_USE enum tide_status slot_start(struct slot *slot, uint32_t region_count, bool parts, uint64_t data_bytes, struct err *err);
/* What a header asks for; 0: nothing that there is. */
uint64_t slot_bytes_of(const struct slot_header *header);
/* The box of a REGION_SHARD. */
void slot_box(const struct slot_region *region, const struct slot_part *part, struct box *ret_box);
/* NULL: there is no table of them. Of a slot that was checked, or is being written. */
struct slot_part *slot_parts(const struct slot *slot);
/* End writing: rank, job_uid, generation, cut, attempt, world_size, step and the counts are taken from `facts`; the state
 * becomes RECORDED after everything else is there. */
void slot_finish(struct slot *slot, const struct slot_header *facts);
/* The same of a slot whose last region is a channel log, which may grow until the slot is settled: the state becomes DRAINING. */
void slot_drain(struct slot *slot, const struct slot_header *facts);
/* Nothing is added to the log any more: a DRAINING slot of that job, cut and rank becomes RECORDED. One that is RECORDED already
 * stays as it is, so that it may be said twice. Errors: NOT_FOUND (another cut, or its regions are not whole), CORRUPT. */
MUST_USE enum tide_status slot_settle(struct slot *slot, const char *job_uid, uint64_t cut, uint32_t rank, struct err *err);
/* From now on it holds nothing. */
void slot_void(struct slot *slot);

/* Is it a whole, recorded slot of that job, cut and rank? cut 0: of any. Errors: NOT_FOUND (another cut, or not recorded), CORRUPT. */
MUST_USE enum tide_status slot_check(const struct slot *slot, const char *job_uid, uint64_t cut, uint32_t rank, struct err *err);

/* Regions, and the parts behind them, by a header that names as many. Errors: CORRUPT. */
MUST_USE enum tide_status slot_check_table(const struct slot_header *header, const struct slot_region *regions, struct err *err);

/* Digests of a slot: of the header and region table, of each chunk, and the root over all of these. */
struct slot_sum {
    uint64_t cut;
    uint64_t chunk_count;
    struct digest table;   /* of region table and step, world size, data_bytes */
    struct digest *chunks; /* owned */
    struct digest root;
};
void slot_sum_release(struct slot_sum *sum);
MUST_USE enum tide_status slot_sum_compute(const struct slot *slot, struct slot_sum *ret_sum, struct err *err);
/* Replaces the file by rename. Load checks it against its own root. Errors: NOT_FOUND, CORRUPT, IO. */
MUST_USE enum tide_status slot_sum_save(const char *path, const struct slot_sum *sum, struct err *err);
MUST_USE enum tide_status slot_sum_load(const char *path, struct slot_sum *ret_sum, struct err *err);
/* The same of the bytes of such a file, which are called `name` in errors. */
MUST_USE enum tide_status slot_sum_parse(const void *bytes, size_t count, const char *name, struct slot_sum *ret_sum, struct err *err);
/* Compare a slot with its digests. Errors: CORRUPT naming the first bad chunk. */
MUST_USE enum tide_status slot_verify(const struct slot *slot, const struct slot_sum *sum, struct err *err);
/* The same for header and regions alone, which is cheap. Errors: CORRUPT, NOT_FOUND (the digests are of another cut). */
MUST_USE enum tide_status slot_verify_table(const struct slot *slot, const struct slot_sum *sum, struct err *err);
/* Map a slot of which all of this is true: recorded, whole, of that job, cut (0: of any) and rank, and with digests beside it
 * that fit its table. Errors: those of slot_map, slot_check, slot_sum_load and slot_verify_table; nothing is held then. */
MUST_USE enum tide_status slot_open(const char *path, const char *sum_path, const char *job_uid, uint64_t cut, uint32_t rank,
                                    struct slot *ret_slot, struct slot_sum *ret_sum, struct err *err);
/* Copy chunk `index` of a slot that slot_open gave to `to` (CHUNK_BYTES of room) and check the copy, so that what was
 * checked is what is used. It is read from the file: to map pages, and unmap them, costs as much as to copy them. Errors: CORRUPT,
 * INVALID (`to` cannot be written), IO, NOMEM; what is in `to` is anything then. */
MUST_USE enum tide_status slot_chunk_read(const struct slot *slot, const struct slot_sum *sum, uint64_t index, unsigned char *to,
                                          uint32_t *ret_bytes, struct err *err);
/* Put the parts of a sum together: used where the chunks' digests are known without a slot to read. Takes `chunks`. Behind the
 * regions lie the parts, if facts->parts. */
MUST_USE enum tide_status slot_sum_assemble(const struct slot_header *facts, const struct slot_region *regions,
                                            struct digest *chunks, struct slot_sum *ret_sum, struct err *err);

#endif
