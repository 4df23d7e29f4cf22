/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_FORMAT_KEYS_H
#define CKPT_FORMAT_KEYS_H

#include <stdint.h>
#include <tidemark/types.h>

/* The cut an object belongs to: what is in every key, so that an older generation can never write over a newer one. */
struct cut_name {
    const char *job, *uid;
    uint64_t cut, generation;
};

typedef char object_key[TIDE_PATH_MAX + 1];

/* c/<2 hex>/<job>.<uid>/<cut>-<generation>/<rank>-<seq>-<content>.pk: the two digits spread a cut over the store's
 * partitions. content: of the digest of the pack, so that who stores a cut again and chooses otherwise writes beside what is
 * there; "": left out, as it was before version 3. */
#define PACK_CONTENT_CHARS 16
#define PACK_PLACE_CHARS 5 /* "c/<2 hex>/" */
void key_pack(const struct cut_name *name, uint32_t rank, uint64_t seq, const char *content, object_key ret_key);
struct pack_name {
    uint64_t cut, generation;
    uint32_t rank;
    uint64_t seq;
    char content[PACK_CONTENT_CHARS + 1];
};
/* Nonzero unless it is the key of a pack of that job. */
int key_pack_parse(const char *key, const char *job, const char *uid, struct pack_name *ret_name);
/* m/<job>.<uid>/<cut>-<generation>/<rank>.json */
void key_rank(const struct cut_name *name, uint32_t rank, object_key ret_key);
/* m/<job>.<uid>/<cut>-<generation>/COMMIT, written last */
void key_commit(const struct cut_name *name, object_key ret_key);

/* n/<job>.<uid>/<needed>/<cut>-<generation>: packs of cut `needed` are referred to by this one */
void key_need(const struct cut_name *name, uint64_t needed, object_key ret_key);
/* Nonzero unless it is such a key of that job. */
int key_need_parse(const char *key, const char *job, const char *uid, uint64_t *ret_needed, uint64_t *ret_cut);
/* What such keys begin with. needed 0: all of the job. */
void key_prefix_needs(const char *job, const char *uid, uint64_t needed, object_key ret_prefix);
/* g/<job>.<uid>/<cut>: the packs of this cut are to be deleted as soon as no other needs them. cut 0: what they begin with. */
void key_garbage(const char *job, const char *uid, uint64_t cut, object_key ret_key);
int key_garbage_parse(const char *key, const char *job, const char *uid, uint64_t *ret_cut);
/* d/<job>.<uid>/<cut>: of the packs of this cut one is damaged: no new cut is to refer to them. cut 0: what they begin with. */
void key_damaged(const char *job, const char *uid, uint64_t cut, object_key ret_key);
int key_damaged_parse(const char *key, const char *job, const char *uid, uint64_t *ret_cut);

/* What all objects of a cut begin with, of any generation: the manifests, and one of the 256 places of packs. cut 0, of packs: all of
 * the job. */
#define KEY_PLACES 256u
void key_prefix_manifests(const char *job, const char *uid, uint64_t cut, object_key ret_prefix);
void key_prefix_packs(const char *job, const char *uid, uint64_t cut, unsigned place, object_key ret_prefix);

/* Any of these keys. */
enum object_kind { OBJECT_PACK, OBJECT_RANK, OBJECT_COMMIT, OBJECT_NEED, OBJECT_GARBAGE, OBJECT_DAMAGED };
struct object_name {
    enum object_kind kind;
    uint64_t cut;        /* it belongs to */
    uint64_t generation; /* of packs and manifests */
    uint64_t needed;          /* NEED: the other one */
};
/* Nonzero unless it is an object of that job. */
int key_object_parse(const char *key, const char *job, const char *uid, struct object_name *ret_name);

/* A manifest's or rank manifest's key, of whatever job, taken apart. Nonzero unless it is one. */
int key_manifest_split(const char *key, char ret_job[TIDE_NAME_MAX + 1], char ret_uid[TIDE_UID_CHARS + 1], struct object_name *ret_name);

/* Is it a COMMIT key? */
int key_is_commit(const char *key);

#endif
