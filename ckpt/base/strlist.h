/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_BASE_STRLIST_H
#define CKPT_BASE_STRLIST_H

#include <stddef.h>

/* A growing list of heap strings it owns; items[count] is always NULL once anything was added, so that items can be an argv. */
struct strlist {
    char **items;
    size_t count;
};

void strlist_add(struct strlist *list, const char *text);
/* Those of the other behind them; that one is empty then. */
void strlist_append(struct strlist *list, struct strlist *more);
void strlist_release(struct strlist *list); /* frees all, leaves it empty */

#endif
