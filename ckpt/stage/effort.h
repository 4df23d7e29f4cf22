/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_EFFORT_H
#define CKPT_STAGE_EFFORT_H

/* How hard chunks are compressed, by what waits for the store: whoever is slower, the processor or the store, is spared. Pure. */

enum effort_level {
    EFFORT_RAW,   /* as they are, but for those of one pattern */
    EFFORT_FAST,  /* what costs a processor little */
    EFFORT_STRONG /* the store is the slower one: there is time */
};

struct effort {
    enum effort_level level;
    unsigned empty, full; /* packs in a row behind which nothing, or all there is room for, was under way */
};

#define EFFORT_EMPTY_ROW 2u /* in a row, before less is done */
#define EFFORT_FULL_ROW 3u  /* … and before more is */

void effort_init(struct effort *effort);
/* A pack has been filled: of `most` before it that could still be under way, `depth` are. most 0: nothing can be told from it. */
void effort_note(struct effort *effort, unsigned depth, unsigned most);

#endif
