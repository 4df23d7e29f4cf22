/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_FORMAT_RETAIN_H
#define CKPT_FORMAT_RETAIN_H

/* Which of a job's stored checkpoints are kept. A question of the list alone: asked again later, of a list with newer ones at
 * its end, it never wants back what it gave up, but for the sake of the newest (when one of those went bad). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <tidemark/types.h>

#define RETAIN_LAST_MAX (TIDE_CKPTS_MAX / 2)  /* so that there is always room for new ones, */
#define RETAIN_EVERY_MAX (TIDE_CKPTS_MAX / 8) /* whatever a job asks for; of more the oldest go */
#define RETAIN_PINNED_MAX (TIDE_CKPTS_MAX / 8)
#define RETAIN_CONDEMNED_MAX (TIDE_CKPTS_MAX / 16)

struct retain_rule {
    uint32_t last;     /* newest ones */
    uint32_t every;    /* of each row of so many ids, that begins with a multiple of it: the oldest; 0: none */
    uint64_t every_ms; /* of each such stretch of time the oldest; 0: none */
    bool needed;       /* something may have to be restored: never give up the last one */
};

struct retain_item {
    uint64_t cut;
    uint64_t at_ms;
    bool pinned;   /* or held */
    bool used;     /* read at this moment */
    bool unwanted; /* somebody asked to delete it: counts for no rule */
};

/* In the order in which they are looked for. */
enum retain_why { RETAIN_NOT, RETAIN_PINNED, RETAIN_USED, RETAIN_LAST, RETAIN_EVERY, RETAIN_EVERY_TIME, RETAIN_ONLY };

/* items: oldest first. ret_why: as many. */
void retain(const struct retain_rule *rule, const struct retain_item *items, size_t count, enum retain_why *ret_why);

#endif
