/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_STAGE_H
#define CKPT_STAGE_STAGE_H

/* Between the arena and the store: what the agent runs on its worker threads, and what `tidemark ckpt verify` reads with.
 * All calls block and may be repeated: objects are write-once, and what is there already is kept. */

#include "ckpt/stage/arena.h"
#include "ckpt/store/store.h"
#include "ckpt/wire/local.h"
#include "ckpt/wire/node.h"

/* When the epoch of a record's messages is settled, before the digests: the slot becomes RECORDED. Of one that is RECORDED already
 * nothing; so it may be said of every record, and again. Errors: those of slot_map and slot_settle. */
MUST_USE enum tide_status stage_settle(const char *arena, uint32_t rank, uint32_t slot, const char *job_uid, uint64_t cut,
                                       struct err *err);

/* After a rank has recorded: compute the digests, save them beside the slot.
 * ret_root: hex of the root digest. Errors: CORRUPT, NOT_FOUND, IO, NOSPACE. */
MUST_USE enum tide_status stage_sum(const char *arena, uint32_t rank, uint32_t slot, const char *job_uid, uint64_t cut,
                                    char ret_root[DIGEST_HEX_CHARS + 1], struct err *err);

/* Whose slot holds the cut, whole and with digests, of a world of that many ranks (0: of any)? Errors: NOT_FOUND. With verify, every
 * chunk is hashed again: CORRUPT. */
MUST_USE enum tide_status stage_find(const char *arena, uint32_t rank, const char *job_uid, uint64_t cut, uint32_t world_size, int verify,
                                     uint32_t *ret_slot, char ret_root[DIGEST_HEX_CHARS + 1], struct err *err);

/* The cuts in the rank's slots, by their headers and .sum files only; ret_cuts[s] is 0 for a slot without a whole one. */
void stage_held(const char *arena, uint32_t rank, const char *job_uid, uint64_t ret_cuts[SLOTS],
                char ret_roots[SLOTS][DIGEST_HEX_CHARS + 1]);

struct stage_shard {
    char key[TIDE_PATH_MAX + 1]; /* of the rank manifest */
    char digest[DIGEST_HEX_CHARS + 1];
    uint64_t raw_bytes, stored_bytes;
};

/* Encode what is new in a recorded slot (chunks verified against the .sum, encode.h) into packs, then the rank manifest.
 * Errors: CORRUPT (the arena changed under us), and those of the store. */
MUST_USE enum tide_status stage_store(struct store *store, const char *arena, uint32_t rank, uint32_t slot, const char *job,
                                      const char *job_uid, uint64_t cut, struct stage_shard *ret_shard, struct err *err);

/* The same, for a rank that may refer to what others, which this process stores at the same time, write of this cut (shared.h). */
MUST_USE enum tide_status stage_store_shared(struct store *store, const char *arena, uint32_t rank, uint32_t slot, const char *job,
                                             const char *job_uid, uint64_t cut, struct stage_shard *ret_shard, struct err *err);

struct chunk;
struct pack_entry;

/* What other nodes write of this cut (agent/rpc/across.h). All may be called from several threads. */
struct stage_across {
    void *context;
    /* Nonzero: another node writes what has that digest. */
    int (*elsewhere)(void *context, struct digest digest);
    /* A chunk that this rank wrote lies there; it is durable. chunk->pack means nothing, and nor does `pack` where nothing is stored. */
    void (*wrote)(void *context, const struct chunk *chunk, const struct pack_entry *pack);
    /* Where another node wrote it; ret_pack has no key when nothing is stored. Zero: it is not known. */
    int (*find)(void *context, struct digest digest, struct chunk *ret_chunk, struct pack_entry *ret_pack, uint64_t *ret_id);
    /* Is the pack of that id in the store, whole? Nobody's word is taken for it; it is looked for once, whichever rank asks. */
    int (*there)(void *context, struct store *store, const struct pack_entry *pack, uint64_t id);
};

/* stage_store_shared in two halves, for a rank that may refer to what other nodes write, too. The first ends when all that is this rank's
 * to write is durable, and told; between the two nothing is held but the slot, so that it may take as long as is wanted. Of the first
 * `across` is used until the end; NULL: there is no other node. The second writes what was not found anywhere. */
struct stage_storing;
MUST_USE enum tide_status stage_store_begin(struct store *store, const char *arena, uint32_t rank, uint32_t slot, const char *job,
                                            const char *job_uid, uint64_t cut, const struct stage_across *across,
                                            struct stage_storing **ret_storing, struct err *err);
/* Chunks that another node was to write. */
uint64_t stage_store_left(const struct stage_storing *storing);
/* Frees it, in any case. */
MUST_USE enum tide_status stage_store_end(struct stage_storing *storing, struct stage_shard *ret_shard, struct err *err);
void stage_store_abandon(struct stage_storing *storing); /* NULL is legal */

/* Write the manifest of a cut, last: job, cut, generation, step and every shard. ret_key, ret_digest name it. */
MUST_USE enum tide_status stage_commit(struct store *store, const char *job, const char *job_uid, const struct cut_order *order,
                                       char ret_key[TIDE_PATH_MAX + 1], char ret_digest[DIGEST_HEX_CHARS + 1], struct err *err);

/* Rebuild one rank's slot from the store, every byte verified against manifest -> rank manifest -> chunk; the .sum is
 * written too. A slot that holds the same already is left as it is, and of one in which something is wrong, or that is not whole, what is
 * damaged in the store, or gone. The slot becomes one of the job `job_uid`, whichever recorded
 * the checkpoint; NULL: of that one. Errors: CORRUPT naming the object and chunk, NOT_FOUND
 * (no such object, or the checkpoint has no such rank), VERSION, NOMEM, NOSPACE (of the arena too), those of the store. */
MUST_USE enum tide_status stage_fetch(struct store *store, const char *manifest_key, const char *manifest_digest, const char *job_uid,
                                      const char *arena, uint32_t rank, uint32_t slot, struct err *err);

/* The same on a world of `world_size` ranks. Where another number of them made the checkpoint, the slot is put together from the shards of
 * all, as the rank has registered its regions (want.h): it is one of the new world, with digests of its own. Errors besides:
 * MISMATCH: that is not possible (reshard.h), not wanted (elastic is 0), or the program has told nothing of its regions. */
struct stage_watch;
struct stage_target {
    const char *job_uid, *arena;
    uint32_t rank, slot;
    uint32_t world_size; /* 0: as many as made it */
    int elastic;         /* the job may go on with another number of ranks */
    uint64_t generation; /* that is being restored: of what the rank has told */
    const struct stage_watch *watch; /* say: of what is damaged in the store, and was whole in the slot; damaged, unread. NULL is legal */
};
MUST_USE enum tide_status stage_fetch_to(struct store *store, const char *manifest_key, const char *manifest_digest,
                                         const struct stage_target *target, struct err *err);

/* Is anything there of the job that the manifest is of? A store without is not the one its checkpoints went to: a file system that is
 * not mounted looks so. 0, too, where that cannot be told. */
int stage_holds_job(struct store *store, const char *manifest_key);

/* Read a whole checkpoint and check every byte: its manifests, its chunks, and every pack they lie in as a whole, once, whichever cut wrote
 * it and whatever of it is still of use: the digest in its name tells of each byte. Each fault is told to `say` (NULL is legal), the
 * ranks that have one are counted in bad, and packs that are damaged, or gone, in packs_bad. A pack that is damaged where this
 * checkpoint does without is no fault of a rank: all are restored. What would be told in the same words, of each chunk of a pack that is
 * gone, is told once; faults beyond FAULTS_TOLD_MAX are only counted. A checkpoint that
 * could be looked at is TIDE_OK, however bad. manifest_digest NULL or empty: not known; the manifest is believed. Errors: CORRUPT,
 * NOT_FOUND, VERSION (of the manifest itself), NOMEM, those of the store. */
#define FAULTS_TOLD_MAX 256u    /* a lost disk would else tell a million lines */
#define FAULTS_OF_RANK_MAX 16u  /* of these, so that all ranks have some */
struct stage_verdict {
    uint64_t ranks, chunks, raw_bytes, stored_bytes, bad;
    uint64_t damaged; /* of the bad ones: those of which something is wrong or gone, and not just out of reach or of a later version */
    uint64_t packs, packs_bad; /* that were read whole; that are damaged, or have a part that nothing needs and nobody can read */
    uint64_t needs_lost;       /* notes n/… that keep packs of earlier cuts for this one, and are gone */
    uint64_t packs_unnamed;    /* written before version 3, whose names have no digest: of them only what this checkpoint needs was read */
    char damage[TIDE_TEXT_MAX + 1]; /* the first of what makes a rank count as damaged; "": nothing */
};
MUST_USE enum tide_status stage_check(struct store *store, const char *manifest_key, const char *manifest_digest,
                                      void (*say)(void *context, const char *text), void *context,
                                      struct stage_verdict *ret_verdict, struct err *err);

/* The same, and how far it is: so many raw bytes more are looked at next. All are called on the calling thread; NULL is legal. */
struct stage_watch {
    void (*say)(void *context, const char *text);
    void (*spare)(void *context, const char *text); /* of a pack that is damaged where this checkpoint does without; NULL: it is said */
    void (*progress)(void *context, uint64_t bytes);
    void (*beside)(void *context, uint64_t bytes);    /* so many stored bytes are read that are of no chunk of it */
    void (*damaged)(void *context, const char *pack); /* it is damaged, or gone: its key, perhaps more than once */
    void (*unkept)(void *context, uint64_t cut);      /* what keeps the packs of that cut for this one is gone; NULL: it is said */
    void (*unread)(void *context);                    /* a restore fails as the store, which was reached, cannot read an object */
    void (*faulty)(void *context, uint32_t rank); /* something was told in its turn */
    int (*wanted)(void *context, uint32_t rank);  /* zero: it is passed over */
    int (*enough)(void *context);                 /* nonzero: no more is looked at, and the verdict is of what was */
    unsigned spans; /* read at a time, of 8 MiB; 0: as many as the store takes */
    void *context;
};
MUST_USE enum tide_status stage_check_watched(struct store *store, const char *manifest_key, const char *manifest_digest,
                                              const struct stage_watch *watch, struct stage_verdict *ret_verdict, struct err *err);

/* These packs were found damaged, whichever cut refers to them: no cut that is stored from now on refers to any of their cuts. Those of
 * another job are that one's to look after. Errors: those of the store; LIMIT: of more cuts than are listed, which are noted. */
#define BLAMED_CUTS_MAX 256u /* a shard refers to packs of few */
MUST_USE enum tide_status stage_blame(struct store *store, const char *job, const char *job_uid, const struct strlist *packs,
                                      struct err *err);
/* One more (stage_watch.damaged), unless one of the same cut is listed. */
void stage_blame_add(struct strlist *packs, const char *pack);

/* Notes of a checkpoint that were found gone (stage_watch.unkept), which packs of earlier cuts are kept by for it. Those beyond
 * KEPT_CUTS_MAX are left to who looks next. */
#define KEPT_CUTS_MAX 64u
struct stage_unkept {
    uint64_t cuts[KEPT_CUTS_MAX];
    unsigned count;
};
void stage_unkept_add(struct stage_unkept *unkept, uint64_t cut); /* once each */
/* Put them again, unless the checkpoint is being deleted. Errors: NOT_FOUND (it is), INVALID (the key), those of the store. */
MUST_USE enum tide_status stage_keep(struct store *store, const char *manifest_key, const struct stage_unkept *unkept, struct err *err);

/* Delete a cut, the manifest first; its packs as soon as no other cut refers to them. */
MUST_USE enum tide_status stage_purge(struct store *store, const char *job, const char *job_uid, uint64_t cut, struct err *err);

#endif
