/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_FORMAT_SPREAD_H
#define CKPT_FORMAT_SPREAD_H

/* What nodes of a job hold alike, one of them stores: which one, and the table that tells the others where it lies. The table goes from
 * agent to agent and is in no store. */

#include "ckpt/format/chunk.h"
#include "ckpt/format/keys.h"

#define SPREAD_NODES_MAX 8u
#define SPREAD_RUN_CHUNKS 8u /* that lie beside each other go to one node together, or a reader would have to ask for each by itself */
#define SPREAD_PACKS_MAX (1u << 16)
#define SPREAD_PLACES_MAX (1u << 20)

/* Which node of a group writes a chunk that those of `nodes` hold; bit n is the n-th of the group, and at least one is set. `lead`: of the
 * digest of the first chunk of its run. Who knows the same of the nodes and the run comes to the same node; who does not, to one that holds
 * it all the same. Of many runs each gets as many, and where one node is missing only its own go to others. */
unsigned spread_writer(uint64_t lead, uint32_t nodes);

/* Of a node's `all` chunks others are to write `theirs`: is that enough to wait for? */
#define SPREAD_LEAST_PART 16u
int spread_worth(uint64_t theirs, uint64_t all);

struct spread_pack {
    uint32_t rank, bytes;
    uint64_t seq;
    char content[PACK_CONTENT_CHARS]; /* not terminated */
};

struct spread_place {
    struct digest digest;
    uint32_t codec; /* enum chunk_codec */
    uint32_t pack, offset, length; /* 0 where nothing is stored */
};

/* As it is sent: this, then the packs, then the places. */
#define SPREAD_MAGIC UINT64_C(0x3144414552505354) /* "TSPREAD1" */
struct spread_head {
    uint64_t magic, cut, generation;
    struct digest digest; /* of the whole, with the digest itself zero */
    uint32_t packs, places;
    uint64_t zero;
};

struct spread_table {
    struct spread_pack *packs;
    struct spread_place *places;
    uint32_t pack_count, pack_room, place_count, place_room;
};

/* What the table is of; one of anything else is refused. */
struct spread_scope {
    uint64_t cut, generation;
    uint32_t first, ranks; /* whose packs may be in it */
};

void spread_release(struct spread_table *table);
/* The chunk lies in that pack, of `bytes`. Nonzero: there is no room, and the table is as it was. */
int spread_add(struct spread_table *table, const struct chunk *chunk, const struct pack_name *pack, uint64_t bytes);
/* As it is sent; the places are sorted. Errors: NOMEM. */
MUST_USE enum tide_status spread_print(struct spread_table *table, const struct spread_scope *scope, void **ret_bytes, size_t *ret_count,
                                       struct err *err);
/* The most bytes of a table. */
size_t spread_bytes_max(void);
/* Errors: CORRUPT (whatever is wrong with it), NOMEM. */
MUST_USE enum tide_status spread_parse(const void *bytes, size_t count, const struct spread_scope *scope, struct spread_table *ret_table,
                                       struct err *err);
/* Of a table that was parsed, or printed. NULL: it is not in it. */
const struct spread_place *spread_find(const struct spread_table *table, struct digest digest);

#endif
