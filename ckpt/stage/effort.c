/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/effort.h"

void effort_init(struct effort *effort)
{
    *effort = (struct effort){.level = EFFORT_FAST};
}

void effort_note(struct effort *effort, unsigned depth, unsigned most)
{
    effort->empty = most > 0 && depth == 0 ? effort->empty + 1 : 0;
    effort->full = most > 0 && depth >= most ? effort->full + 1 : 0;
    if (effort->empty >= EFFORT_EMPTY_ROW && effort->level > EFFORT_RAW) {
        effort->level--;
        effort->empty = 0;
    } else if (effort->full >= EFFORT_FULL_ROW && effort->level < EFFORT_STRONG) {
        effort->level++;
        effort->full = 0;
    }
}
