/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/store/store.h"

#include <stdio.h>
#include <string.h>
#include <tidemark/types.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/store/s3_url.h"
#include "ckpt/store/store_dir.h"
#include "ckpt/store/store_s3.h"
#include "ckpt/store/store_url.h"

#define COMPARE_BYTES ((size_t)1 << 20)
#define PROBE_WORDS "tidemark was here"
#define PROBE_OTHERS "tidemark is here "

static enum tide_status check_key(const char *key, struct err *err)
{
    if (store_key_valid(key))
        return TIDE_OK;
    return err_set(err, TIDE_E_INVALID, "\"%.200s\" is not an object key: use A-Z a-z 0-9 . _ - in parts joined by /", key);
}

/* ---- opening ---- */

/* Other words than the first time: the same, sent again when an answer is late, would be taken for what is there. */
static enum tide_status prove_once(struct store *store, const char *key, struct err *err)
{
    struct err why = {.status = TIDE_OK};
    enum tide_status status = store_put(store, key, PROBE_OTHERS, sizeof PROBE_OTHERS, &why);
    if (status == TIDE_E_EXISTS)
        return TIDE_OK;
    if (status == TIDE_OK)
        return err_set(err, TIDE_E_UNSUPPORTED, "an object could be written twice; this cannot be a store");
    return err_set(err, status, "%s", why.text);
}

/* What opening promises, done once: write, read back, refuse a second writer, remove. */
static enum tide_status prove(struct store *store, struct err *err)
{
    char key[32], back[sizeof PROBE_WORDS];
    struct rng rng = {.state = rng_entropy()};
    snprintf(key, sizeof key, "probe.");
    rng_hex(&rng, key + 6, 16);
    enum tide_status status = store_put(store, key, PROBE_WORDS, sizeof PROBE_WORDS, err);
    if (status != TIDE_OK)
        return status;
    status = store_get(store, key, 0, back, sizeof back, err);
    if (status == TIDE_OK && memcmp(back, PROBE_WORDS, sizeof back) != 0)
        status = err_set(err, TIDE_E_CORRUPT, "a probe object reads back differently from what was written");
    if (status == TIDE_OK)
        status = prove_once(store, key, err);
    enum tide_status removed = store_remove(store, key, status == TIDE_OK ? err : NULL);
    return status == TIDE_OK ? removed : status;
}

static const char *remedy(enum tide_status status)
{
    if (status == TIDE_E_NOSPACE)
        return "free space there or name another directory";
    if (status == TIDE_E_UNSUPPORTED)
        return "name a directory on another file system";
    return "create it, make it writable for this user, or name another directory";
}

static enum tide_status open_dir(const char *url, struct store **ret_store, struct err *err)
{
    const char *path = NULL;
    struct store *store;
    enum tide_status status = store_url_path(url, &path, err);
    if (status != TIDE_OK)
        return status;
    struct err why = {.status = TIDE_OK};
    status = store_dir_open(path, STORE_DIR_DEFAULT, &store, &why);
    if (status == TIDE_OK) {
        status = prove(store, &why);
        if (status != TIDE_OK)
            store_close(store);
    }
    if (status != TIDE_OK)
        return err_set(err, status, "store directory %s cannot be used: %s; %s", path, why.text, remedy(status));
    *ret_store = store;
    return TIDE_OK;
}

static enum tide_status open_s3(const char *url, struct store **ret_store, struct err *err)
{
    struct store *store;
    struct err why = {.status = TIDE_OK};
    enum tide_status status = store_s3_open(url, &store, &why);
    if (status == TIDE_OK) {
        status = prove(store, &why);
        if (status != TIDE_OK)
            store_close(store);
    }
    if (status != TIDE_OK)
        return err_set(err, status, "store %.300s cannot be used: %s", url, why.text);
    store_s3_proved(store);
    *ret_store = store;
    return TIDE_OK;
}

enum tide_status store_open(const char *url, struct store **ret_store, struct err *err)
{
    return s3_url_is(url) ? open_s3(url, ret_store, err) : open_dir(url, ret_store, err);
}

void store_close(struct store *store)
{
    if (store)
        store->ops->close(store);
}

/* ---- the verbs ---- */

enum tide_status store_put(struct store *store, const char *key, const void *data, size_t bytes, struct err *err)
{
    enum tide_status status = check_key(key, err);
    return status == TIDE_OK ? store->ops->put(store, key, data, bytes, err) : status;
}

enum tide_status store_get(struct store *store, const char *key, uint64_t offset, void *to, size_t bytes, struct err *err)
{
    enum tide_status status = check_key(key, err);
    return status == TIDE_OK ? store->ops->get(store, key, offset, to, bytes, err) : status;
}

/* ---- begun and finished ---- */

void store_perform(struct store_op *op)
{
    const struct store_ops *ops = op->store->ops;
    switch (op->verb) {
    case STORE_PUT:
        op->status = ops->put(op->store, op->key, op->from, op->bytes, &op->err);
        break;
    case STORE_GET:
        op->status = ops->get(op->store, op->key, op->offset, op->to, op->bytes, &op->err);
        break;
    case STORE_REMOVE:
        op->status = ops->remove(op->store, op->key, &op->err);
        break;
    }
}

static void begin(struct store_op *op)
{
    const struct store_ops *ops = op->store->ops;
    op->status = check_key(op->key, &op->err);
    if (op->status != TIDE_OK)
        return;
    op->begun = ops->begin != NULL;
    if (op->begun)
        ops->begin(op);
    else
        store_perform(op);
}

void store_begin_put(struct store *store, struct store_op *op, const char *key, const void *data, size_t bytes)
{
    *op = (struct store_op){.verb = STORE_PUT, .store = store, .key = key, .from = data, .bytes = bytes};
    begin(op);
}

void store_begin_get(struct store *store, struct store_op *op, const char *key, uint64_t offset, void *to, size_t bytes)
{
    *op = (struct store_op){.verb = STORE_GET, .store = store, .key = key, .offset = offset, .to = to, .bytes = bytes};
    begin(op);
}

void store_begin_remove(struct store *store, struct store_op *op, const char *key)
{
    *op = (struct store_op){.verb = STORE_REMOVE, .store = store, .key = key};
    begin(op);
}

unsigned store_at_once(const struct store *store)
{
    return store->ops->at_once > 0 ? store->ops->at_once : 1;
}

unsigned store_gets_at_once(const struct store *store)
{
    return store->ops->gets_at_once > 0 ? store->ops->gets_at_once : 1;
}

unsigned store_removes_at_once(const struct store *store)
{
    return store->ops->removes_at_once > 0 ? store->ops->removes_at_once : 1;
}

int store_pending(struct store_op *op)
{
    return op->begun && op->store->ops->pending != NULL && op->store->ops->pending(op);
}

enum tide_status store_finish(struct store_op *op, struct err *err)
{
    if (op->begun) /* until then all else is another thread's */
        return op->store->ops->finish(op, err);
    return op->status == TIDE_OK ? TIDE_OK : err_set(err, op->status, "%s", op->err.text);
}

enum tide_status store_finish_same(struct store_op *op, struct err *err)
{
    enum tide_status status = store_finish(op, err);
    return status == TIDE_E_EXISTS ? store_same(op->store, op->key, op->from, op->bytes, err) : status;
}

/* ---- more verbs ---- */

enum tide_status store_size(struct store *store, const char *key, uint64_t *ret_bytes, struct err *err)
{
    enum tide_status status = check_key(key, err);
    return status == TIDE_OK ? store->ops->size(store, key, ret_bytes, err) : status;
}

enum tide_status store_list(struct store *store, const char *prefix, struct strlist *ret_keys, struct err *err)
{
    struct strlist keys = {0};
    enum tide_status status = store->ops->list(store, prefix, &keys, err);
    if (status == TIDE_OK)
        *ret_keys = keys;
    else
        strlist_release(&keys);
    return status;
}

static enum tide_status list_one_by_one(struct store *store, const struct strlist *prefixes, struct strlist *keys, struct err *err)
{
    enum tide_status status = TIDE_OK;
    for (size_t i = 0; status == TIDE_OK && i < prefixes->count; i++) {
        struct strlist some = {0};
        status = store_list(store, prefixes->items[i], &some, err);
        strlist_append(keys, &some);
    }
    return status;
}

enum tide_status store_list_each(struct store *store, const struct strlist *prefixes, struct strlist *ret_keys, struct err *err)
{
    struct strlist keys = {0};
    enum tide_status status =
        store->ops->list_each ? store->ops->list_each(store, prefixes, &keys, err) : list_one_by_one(store, prefixes, &keys, err);
    if (status == TIDE_OK)
        *ret_keys = keys;
    else
        strlist_release(&keys);
    return status;
}

enum tide_status store_remove(struct store *store, const char *key, struct err *err)
{
    enum tide_status status = check_key(key, err);
    return status == TIDE_OK ? store->ops->remove(store, key, err) : status;
}

/* One operation for each key. */
struct each {
    struct store_op op;
    char byte;
};

static void begin_removal(struct store *store, struct each *each, const char *key)
{
    store_begin_remove(store, &each->op, key);
}

static void begin_look(struct store *store, struct each *each, const char *key)
{
    store_begin_get(store, &each->op, key, 0, &each->byte, sizeof each->byte);
}

static enum tide_status do_each(struct store *store, const struct strlist *keys, unsigned most,
                                void (*begin_one)(struct store *store, struct each *each, const char *key), struct err *err)
{
    struct each ops[STORE_EACH_AT_ONCE];
    size_t room = most < STORE_EACH_AT_ONCE ? most : STORE_EACH_AT_ONCE, begun = 0, ended = 0;
    enum tide_status status = TIDE_OK;
    while (ended < begun || (status == TIDE_OK && begun < keys->count)) {
        if (status == TIDE_OK && begun < keys->count && begun - ended < room) {
            begin_one(store, &ops[begun % room], keys->items[begun]);
            begun++;
            continue;
        }
        enum tide_status one = store_finish(&ops[ended % room].op, status == TIDE_OK ? err : NULL);
        ended++;
        status = status == TIDE_OK ? one : status;
    }
    return status;
}

enum tide_status store_remove_each(struct store *store, const struct strlist *keys, struct err *err)
{
    return do_each(store, keys, store_removes_at_once(store), begin_removal, err);
}

enum tide_status store_find_each(struct store *store, const struct strlist *keys, struct err *err)
{
    return do_each(store, keys, store_gets_at_once(store), begin_look, err);
}

int store_moved(struct store *store)
{
    return store->ops->moved(store);
}

enum tide_status store_read(struct store *store, const char *key, size_t bytes_max, char **ret_data, size_t *ret_bytes,
                            struct err *err)
{
    uint64_t bytes;
    enum tide_status status = store_size(store, key, &bytes, err);
    if (status != TIDE_OK)
        return status;
    if (bytes > bytes_max)
        return err_set(err, TIDE_E_LIMIT, "object %s has %llu bytes; at most %zu are read", key, (unsigned long long)bytes,
                       bytes_max);
    char *data = mem_try_alloc((size_t)bytes + 1);
    if (data == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory for object %s of %llu bytes", key, (unsigned long long)bytes);
    status = store_get(store, key, 0, data, (size_t)bytes, err);
    if (status != TIDE_OK) {
        mem_free(data);
        return status;
    }
    *ret_data = data;
    *ret_bytes = (size_t)bytes;
    return TIDE_OK;
}

enum tide_status store_same(struct store *store, const char *key, const void *data, size_t bytes, struct err *err)
{
    uint64_t there;
    enum tide_status status = store_size(store, key, &there, err);
    if (status == TIDE_OK && there != bytes)
        return err_set(err, TIDE_E_EXISTS, "object %s is there already with other contents; it was left alone", key);
    char *piece = mem_try_alloc(COMPARE_BYTES);
    if (piece == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to compare object %s", key);
    for (size_t at = 0; status == TIDE_OK && at < bytes; at += COMPARE_BYTES) {
        size_t n = bytes - at < COMPARE_BYTES ? bytes - at : COMPARE_BYTES;
        status = store_get(store, key, at, piece, n, err);
        if (status == TIDE_OK && memcmp(piece, (const char *)data + at, n) != 0)
            status = err_set(err, TIDE_E_EXISTS, "object %s is there already with other contents; it was left alone", key);
    }
    mem_free(piece);
    return status;
}

enum tide_status store_put_same(struct store *store, const char *key, const void *data, size_t bytes, struct err *err)
{
    enum tide_status status = store_put(store, key, data, bytes, err);
    return status == TIDE_E_EXISTS ? store_same(store, key, data, bytes, err) : status;
}
