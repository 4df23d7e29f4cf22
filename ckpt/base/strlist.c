/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/base/strlist.h"

#include <string.h>

#include "ckpt/base/mem.h"

void strlist_add(struct strlist *list, const char *text)
{
    list->items = mem_grow(list->items, list->count + 2, sizeof *list->items);
    list->items[list->count++] = mem_strdup(text);
    list->items[list->count] = NULL;
}

void strlist_append(struct strlist *list, struct strlist *more)
{
    if (more->count == 0)
        return;
    list->items = mem_grow(list->items, list->count + more->count + 1, sizeof *list->items);
    memcpy(list->items + list->count, more->items, (more->count + 1) * sizeof *list->items);
    list->count += more->count;
    mem_free(more->items);
    *more = (struct strlist){0};
}

void strlist_release(struct strlist *list)
{
    for (size_t i = 0; i < list->count; i++)
        mem_free(list->items[i]);
    mem_free(list->items);
    *list = (struct strlist){0};
}
