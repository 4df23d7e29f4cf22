/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_SHELF_H
#define TESTS_UNIT_SHELF_H

/* A store in memory that says of packs what the test wants it to: how many are still under way when one is begun. */

#include <stdlib.h>
#include <string.h>

#include "ckpt/base/digest.h"
#include "ckpt/base/mem.h"
#include "ckpt/store/store.h"

#define SHELF_OBJECTS_MAX 512u
#define SHELF_PUTS_MAX 64u

struct shelf_object {
    char key[TIDE_PATH_MAX + 1];
    size_t bytes;
    struct digest digest;
    void *data; /* NULL: of a pack, which nobody reads here */
};

struct shelf {
    struct store base;
    struct shelf_object objects[SHELF_OBJECTS_MAX];
    unsigned count;
    const char *depths; /* one digit for each pack: so many before it are under way then; behind its end, the last one */
    const struct store_op *begun[SHELF_PUTS_MAX];
    unsigned puts;
    unsigned failing; /* the n-th pack; 0: none */
    void (*at_put)(unsigned n);
    void (*at_full)(void); /* a pack is full, and not begun yet */
};

static inline struct shelf_object *shelf_find(struct shelf *shelf, const char *key)
{
    for (unsigned i = 0; i < shelf->count; i++)
        if (strcmp(shelf->objects[i].key, key) == 0)
            return &shelf->objects[i];
    return NULL;
}

static inline void shelf_keep(struct shelf *shelf, const char *key, const void *data, size_t bytes, int whole)
{
    if (shelf_find(shelf, key) != NULL)
        return;
    assert_true(shelf->count < SHELF_OBJECTS_MAX);
    struct shelf_object *object = &shelf->objects[shelf->count++];
    *object = (struct shelf_object){.bytes = bytes, .digest = digest_of(data, bytes), .data = whole ? mem_alloc(bytes) : NULL};
    text_copy(object->key, sizeof object->key, key);
    if (whole && bytes > 0)
        memcpy(object->data, data, bytes);
}

static inline enum tide_status shelf_put(struct store *store, const char *key, const void *data, size_t bytes, struct err *err)
{
    (void)err;
    shelf_keep((struct shelf *)store, key, data, bytes, 1);
    return TIDE_OK;
}

static inline enum tide_status shelf_get(struct store *store, const char *key, uint64_t offset, void *to, size_t bytes, struct err *err)
{
    const struct shelf_object *object = shelf_find((struct shelf *)store, key);
    if (object == NULL || object->data == NULL || offset + bytes > object->bytes)
        return err_set(err, TIDE_E_NOT_FOUND, "%s is not here", key);
    memcpy(to, (const unsigned char *)object->data + offset, bytes);
    return TIDE_OK;
}

static inline enum tide_status shelf_size(struct store *store, const char *key, uint64_t *ret_bytes, struct err *err)
{
    const struct shelf_object *object = shelf_find((struct shelf *)store, key);
    if (object == NULL)
        return err_set(err, TIDE_E_NOT_FOUND, "%s is not here", key);
    *ret_bytes = object->bytes;
    return TIDE_OK;
}

static inline void shelf_begin(struct store_op *op)
{
    struct shelf *shelf = (struct shelf *)op->store;
    assert_true(shelf->puts < SHELF_PUTS_MAX);
    shelf->begun[shelf->puts++] = op;
    if (shelf->at_put != NULL)
        shelf->at_put(shelf->puts);
}

static inline enum tide_status shelf_finish(struct store_op *op, struct err *err)
{
    struct shelf *shelf = (struct shelf *)op->store;
    for (unsigned i = 0; i < shelf->puts; i++)
        if (shelf->begun[i] == op && i + 1 == shelf->failing)
            return err_set(err, TIDE_E_UNAVAILABLE, "the store is gone");
    shelf_keep(shelf, op->key, op->from, op->bytes, 0);
    return TIDE_OK;
}

/* Asked of each pack that is under way, before one is begun. */
static inline int shelf_pending(struct store_op *op)
{
    struct shelf *shelf = (struct shelf *)op->store;
    size_t last = strlen(shelf->depths) - 1;
    if (shelf->at_full != NULL)
        shelf->at_full();
    unsigned depth = (unsigned)(shelf->depths[shelf->puts < last ? shelf->puts : last] - '0');
    for (unsigned back = 1; back <= depth && back <= shelf->puts; back++)
        if (shelf->begun[shelf->puts - back] == op)
            return 1;
    return 0;
}

static inline enum tide_status shelf_list(struct store *store, const char *prefix, struct strlist *ret_keys, struct err *err)
{
    struct shelf *shelf = (struct shelf *)store;
    (void)err;
    for (unsigned i = 0; i < shelf->count; i++)
        if (strncmp(shelf->objects[i].key, prefix, strlen(prefix)) == 0)
            strlist_add(ret_keys, shelf->objects[i].key);
    return TIDE_OK;
}

static inline struct shelf *shelf_create(const char *depths)
{
    static const struct store_ops ops = {.scheme = "shelf",
                                         .at_once = 1,
                                         .gets_at_once = 2,
                                         .put = shelf_put,
                                         .get = shelf_get,
                                         .size = shelf_size,
                                         .list = shelf_list,
                                         .begin = shelf_begin,
                                         .finish = shelf_finish,
                                         .pending = shelf_pending};
    struct shelf *shelf = mem_alloc(sizeof *shelf);
    shelf->base.ops = &ops;
    shelf->depths = depths;
    return shelf;
}

static inline void shelf_free(struct shelf *shelf)
{
    for (unsigned i = 0; i < shelf->count; i++)
        mem_free(shelf->objects[i].data);
    mem_free(shelf);
}

#endif
