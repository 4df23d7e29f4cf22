/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_SHARD_H
#define CKPT_STAGE_SHARD_H

/* What writing and reading shards share: the arena's paths, objects that are checked by their digest, packs. */

#include "ckpt/format/chunk.h"
#include "ckpt/format/keys.h"
#include "ckpt/format/manifest.h"
#include "ckpt/stage/arena.h"
#include "ckpt/stage/encode.h"
#include "ckpt/store/store.h"

typedef char arena_path[TIDE_PATH_MAX + 64];

void slot_path(const char *arena, uint32_t rank, uint32_t slot, arena_path ret_path);
void slot_sum_path(const char *arena, uint32_t rank, uint32_t slot, arena_path ret_path);

/* A slot's region, and its part where the slot has a table of them, as an entry of a manifest; and back. */
void region_describe(const struct slot_region *from, const struct slot_part *part, struct region_entry *ret_entry);
void region_lay(const struct region_entry *from, struct slot_region *ret_region, struct slot_part *part);
/* Is one of the regions a shard? Then a slot needs a table of parts. */
bool regions_have_parts(const struct region_entry *regions, size_t count);

/* Read, compare with the digest, parse. manifest_digest NULL or empty: not compared. Errors: CORRUPT, NOT_FOUND, VERSION. */
MUST_USE enum tide_status manifest_read(struct store *store, const char *key, const char *digest_hex_text,
                                        struct manifest *ret_manifest, struct err *err);
MUST_USE enum tide_status shard_manifest_read(struct store *store, const char *key, const char *digest_hex_text,
                                              struct rank_manifest *ret_manifest, struct err *err);
/* The rank manifest of a shard, which must be of that cut and rank. */
MUST_USE enum tide_status rank_manifest_read(struct store *store, const struct manifest *whole, uint32_t rank,
                                             struct rank_manifest *ret_manifest, struct err *err);

/* Print one, `from`, and put it under its key; the digest of its bytes is what refers to it. Errors: LIMIT, those of the store. */
MUST_USE enum tide_status object_put(struct store *store, const struct codec *codec, const void *from, const char *key,
                                     char ret_digest[DIGEST_HEX_CHARS + 1], uint64_t *ret_bytes, struct err *err);

/* The keys of packs of a cut, 0: of all cuts, in no order, whose places are `place` and the PLACES_LISTED - 1 behind it: several are listed
 * at a time, and the keys of all of them need not be in memory together. Errors: those of the store. */
#define PLACES_LISTED 32u
_Static_assert(KEY_PLACES % PLACES_LISTED == 0, "all are listed");
MUST_USE enum tide_status packs_list(struct store *store, const char *job, const char *uid, uint64_t cut, unsigned place,
                                     struct strlist *ret_keys, struct err *err);

/* The shard of a rank of another world than that of the checkpoint. Errors: those of stage_fetch_to. */
struct stage_target;
MUST_USE enum tide_status shard_put_together(struct store *store, const struct manifest *whole, const struct stage_target *target,
                                             struct err *err);

#define SPAN_BYTES_MAX (8u << 20)
#define SPAN_GAP_MAX (64u << 10) /* got and thrown away: cheaper than another request */
#define SPANS_MAX 8u /* under way at a time, and being decoded */

/* Chunks that lie close together in one pack, and are got together. */
struct span {
    uint64_t first, end; /* chunks: those between that are not stored belong to it too */
    uint32_t pack;
    uint64_t offset; /* in the pack */
    uint32_t bytes;
    int waited; /* `status` and `err` are what came of it */
    enum tide_status status;
    struct err err;
    struct store_op op;
    unsigned char *room; /* SPAN_BYTES_MAX; NULL: none */
};

/* Reads a shard's chunks, some ahead of the one that is asked for: SPANS_MAX * SPAN_BYTES_MAX of memory at most, and one chunk. The readers
 * of a process share what the store moves at once: the more there are, the fewer each has ahead. */
struct shard_reader {
    struct store *store;
    const struct rank_manifest *manifest;
    int (*plan)(struct shard_reader *reader, struct span *span); /* first to bytes of the span to come; nonzero: there is none */
    struct encoder *encoder; /* that decodes alone */
    unsigned char *raw; /* CHUNK_BYTES */
    struct span spans[SPANS_MAX]; /* a ring */
    unsigned head, count;
    unsigned most; /* of them at a time, SPANS_MAX unless told otherwise; 0: not begun */
    uint64_t ahead; /* the first chunk that no span has */
    /* The first from `index` on that will be asked for, any number behind the last when there is none: no other is read. NULL: each will
     * be. To be said before anything is read. */
    uint64_t (*wanted)(void *context, uint64_t index);
    void *context;
};
MUST_USE enum tide_status shard_reader_init(struct shard_reader *reader, struct store *store,
                                            const struct rank_manifest *manifest, struct err *err);
/* Waits for what is under way. */
void shard_reader_release(struct shard_reader *reader);
/* The memory that `from` has read to is now `to`'s, which has read nothing yet: new memory would have to be cleared for it. Waits for what
 * is under way. */
void shard_reader_hand_on(struct shard_reader *from, struct shard_reader *to);
/* Have the first chunks read while the caller does something else. */
void shard_read_ahead(struct shard_reader *reader);
/* Chunk `index`, anywhere above the one asked for before, decoded and compared with its digest: its bytes, in memory of the reader's
 * that nobody else writes, until the next is asked for. Errors: CORRUPT naming object and chunk, NOT_FOUND, those of the store. */
MUST_USE enum tide_status shard_read_chunk(struct shard_reader *reader, uint64_t index, const unsigned char **ret_bytes,
                                           struct digest *ret_digest, struct err *err);

/* For who reads by spans, as a plan of his own makes them: the next, awaited, whatever came of it. `done`, NULL with the first, is what the
 * last call gave; its room may be used again. NULL: there is none. */
struct span *shard_span_next(struct shard_reader *reader, struct span *done);
/* Chunk `index`, which lies in that span, or, span NULL, of which nothing is stored; as shard_read_chunk. */
MUST_USE enum tide_status shard_span_chunk(struct shard_reader *reader, struct span *span, uint64_t index, const unsigned char **ret_bytes,
                                           struct digest *ret_digest, struct err *err);

/* In parts, for threads that share a reader (unpack.h): one of them looks where chunks are, and what it says HERE of any may decode, until
 * the chunk is passed. */
enum shard_where {
    SHARD_HERE,
    SHARD_UNDER_WAY, /* shard_await would wait for it */
    SHARD_LATER,     /* its read is not begun, because earlier ones have not been passed */
    SHARD_ODD        /* something is wrong with it: shard_read_chunk, which says what, once all before it have been passed */
};
/* ret_from is NULL where nothing is stored. */
enum shard_where shard_look(struct shard_reader *reader, uint64_t index, struct chunk *ret_chunk, const unsigned char **ret_from);
void shard_await(struct shard_reader *reader, uint64_t index);
/* The first from this one on that will be asked for. */
uint64_t shard_wanted(const struct shard_reader *reader, uint64_t index);
/* Chunks below this one are done with: what they were read to is used again. */
void shard_reader_pass(struct shard_reader *reader, uint64_t index);
/* Decoded, in `room` (CHUNK_BYTES) or where it lies already, and compared with its digest. Errors: CORRUPT. */
MUST_USE enum tide_status shard_decode(struct encoder *encoder, unsigned char *room, const struct chunk *chunk, const unsigned char *from,
                                       uint32_t raw_bytes, const unsigned char **ret_bytes, struct err *err);

/* A store out of reach says nothing of what is in it, and neither does what only a later version can read: its digest is right. */
int shard_is_damage(enum tide_status status);
/* The store was reached, and says that just this cannot be read: a bad sector of a directory's disk, say. Nobody knows how it is. */
int shard_is_unread(enum tide_status status);
/* A restore fails with that status of the store's: whoever watches is told where it is such a one. watch NULL is legal. */
struct stage_watch;
void shard_unread(const struct stage_watch *watch, enum tide_status status);
/* What came of reading that chunk: where it is damaged, or gone, whoever watches is told the pack that has it. watch NULL is legal. */
void shard_blame(const struct stage_watch *watch, const struct rank_manifest *manifest, uint64_t index, enum tide_status status);

#endif
