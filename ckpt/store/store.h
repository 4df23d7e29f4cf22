/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STORE_STORE_H
#define CKPT_STORE_STORE_H

/* Where checkpoints are durable: write-once objects under keys. A key is 1..TIDE_PATH_MAX bytes of
 * [A-Za-z0-9._-] components joined by single slashes; no component is "." or "..".
 *
 * Calls block; shells run them on a worker thread. A store may be used by several threads at once. */

#include <stddef.h>
#include <stdint.h>

#include "ckpt/base/err.h"
#include "ckpt/base/strlist.h"

struct store;

#define STORE_EACH_AT_ONCE 8u /* of store_remove_each and store_find_each; fewer where a store does fewer things at once */

enum store_verb { STORE_PUT, STORE_GET, STORE_REMOVE };

/* What goes on while its caller does something else. Key and bytes stay the caller's, untouched, until it is finished; so does
 * this. */
struct store_op {
    enum store_verb verb;
    struct store *store;
    const char *key;
    const void *from; /* put */
    void *to;         /* get */
    uint64_t offset;
    size_t bytes;
    /* All below is the store's. */
    struct store_op *next;
    void *inner;
    int begun, running;
    enum tide_status status;
    struct err err;
};

struct store_ops {
    const char *scheme; /* "file", "s3" */
    unsigned at_once, gets_at_once, removes_at_once; /* that many puts, gets, removals go on at a time; more wait for their turn */
    /* Durable on return, whole or not at all. Errors: EXISTS (the key is taken; nothing changed), NOSPACE, IO, UNAVAILABLE.
     */
    enum tide_status (*put)(struct store *store, const char *key, const void *data, size_t bytes, struct err *err);
    /* `bytes` bytes from `offset` into `to`. Errors: NOT_FOUND, CORRUPT (the object is shorter), IO, UNAVAILABLE. */
    enum tide_status (*get)(struct store *store, const char *key, uint64_t offset, void *to, size_t bytes, struct err *err);
    /* The same, begun and finished. NULL: it is done when it is begun. */
    void (*begin)(struct store_op *op);
    enum tide_status (*finish)(struct store_op *op, struct err *err);
    int (*pending)(struct store_op *op); /* nonzero: finish would wait. NULL: it does not, or nobody knows */
    /* Errors: NOT_FOUND, IO, UNAVAILABLE. */
    enum tide_status (*size)(struct store *store, const char *key, uint64_t *ret_bytes, struct err *err);
    /* Keys that begin with prefix, sorted; a hint, never a proof of absence. */
    enum tide_status (*list)(struct store *store, const char *prefix, struct strlist *ret_keys, struct err *err);
    /* Of each of these prefixes, in no order. NULL: one is listed after the other. */
    enum tide_status (*list_each)(struct store *store, const struct strlist *prefixes, struct strlist *ret_keys, struct err *err);
    /* A key that is not there is fine. */
    enum tide_status (*remove)(struct store *store, const char *key, struct err *err);
    int (*moved)(struct store *store);
    void (*close)(struct store *store);
};

struct store {
    const struct store_ops *ops;
};

/* "file:///dir" (created if missing), a plain absolute path, or "s3://bucket/prefix?…" (s3_url.h). Proves that it can be
 * written, read and written only once. Errors: INVALID (URL), UNSUPPORTED (scheme, or what the store cannot do), DENIED,
 * UNAVAILABLE, IO, NOSPACE: the text names the place and what to do. */
MUST_USE enum tide_status store_open(const char *url, struct store **ret_store, struct err *err);
void store_close(struct store *store); /* NULL is legal */

MUST_USE enum tide_status store_put(struct store *store, const char *key, const void *data, size_t bytes, struct err *err);
MUST_USE enum tide_status store_get(struct store *store, const char *key, uint64_t offset, void *to, size_t bytes,
                                    struct err *err);
/* Begin one; what is wrong with it is told by store_finish, which must be called once for each that was begun. Several may be
 * under way, and end in any order; each ends in time. */
void store_begin_put(struct store *store, struct store_op *op, const char *key, const void *data, size_t bytes);
void store_begin_get(struct store *store, struct store_op *op, const char *key, uint64_t offset, void *to, size_t bytes);
void store_begin_remove(struct store *store, struct store_op *op, const char *key);
/* More than that many operations at a time wait for each other: puts, gets, and removals. */
unsigned store_at_once(const struct store *store);
unsigned store_gets_at_once(const struct store *store);
unsigned store_removes_at_once(const struct store *store);
/* Nonzero: it is still under way, and store_finish would wait for it. */
int store_pending(struct store_op *op);
/* Wait for it. Errors: as put, get and remove. */
MUST_USE enum tide_status store_finish(struct store_op *op, struct err *err);

MUST_USE enum tide_status store_size(struct store *store, const char *key, uint64_t *ret_bytes, struct err *err);
MUST_USE enum tide_status store_list(struct store *store, const char *prefix, struct strlist *ret_keys, struct err *err);
/* The keys below each of these prefixes, in no order; a server is asked for several at a time. Errors: as list. */
MUST_USE enum tide_status store_list_each(struct store *store, const struct strlist *prefixes, struct strlist *ret_keys, struct err *err);
MUST_USE enum tide_status store_remove(struct store *store, const char *key, struct err *err);
/* All of these, in no order, some at a time; none is under way on return. After one that fails no further one is begun. Errors: of
 * the first that failed, as remove. */
MUST_USE enum tide_status store_remove_each(struct store *store, const struct strlist *keys, struct err *err);
/* In the same way: are all of these there, none of them empty? Their first bytes are got. Errors: as get. */
MUST_USE enum tide_status store_find_each(struct store *store, const struct strlist *keys, struct err *err);

/* A whole object into heap memory, NUL behind the last byte. Errors: as get; LIMIT. */
MUST_USE enum tide_status store_read(struct store *store, const char *key, size_t bytes_max, char **ret_data,
                                     size_t *ret_bytes, struct err *err);
/* put that is content with an equal object being there already: what makes an upload repeatable. Errors: EXISTS only when
 * the object there differs. */
MUST_USE enum tide_status store_put_same(struct store *store, const char *key, const void *data, size_t bytes,
                                         struct err *err);

/* store_finish of a put, in the same way. */
MUST_USE enum tide_status store_finish_same(struct store_op *op, struct err *err);

/* OK when the object holds exactly these bytes, EXISTS when it holds others. Errors: as get. */
MUST_USE enum tide_status store_same(struct store *store, const char *key, const void *data, size_t bytes, struct err *err);

/* Nonzero when the store's address leads to another place by now than when it was opened: a file system was mounted over
 * the directory, or it was removed and made anew; or when what opened it is no good any more: keys that a server refuses.
 * What is open is then not the store any more; open it again. */
int store_moved(struct store *store);

/* For stores: do it, here and now, by the verbs that block. */
void store_perform(struct store_op *op);

int store_key_valid(const char *key); /* store_url.c */

#endif
