/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "ckpt/stage/shard.h"
#include "ckpt/stage/stage.h"

/* Packs of a dropped cut may be needed by a later one, and a later one may be about to refer to them. In this order, each
 * step of which may be done again (format/README.md says why that is enough):
 *
 *     1  the COMMIT objects: from now on nobody bases a cut on it
 *     2  a note g/… that its packs are to go, and one for each cut whose packs it needed
 *     3  what describes it, and its own needs n/…
 *     4  for every note of the job: packs that no cut needs any more, what says that one is damaged, then the note
 *
 * Within a step objects go in no order, several at a time; none is under way any more when the next begins.
 *
 * A purge that is cut short leaves nothing that looks whole; the next one, of this cut or of another, finishes it. */

struct purge {
    struct store *store;
    const char *job, *uid;
    uint64_t cut;
};

/* One for each generation that committed it. */
static enum tide_status remove_commits(struct store *store, const char *prefix, struct err *err)
{
    struct strlist keys;
    enum tide_status status = store_list(store, prefix, &keys, err);
    if (status != TIDE_OK)
        return status;
    for (size_t i = 0; status == TIDE_OK && i < keys.count; i++)
        if (key_is_commit(keys.items[i]))
            status = store_remove(store, keys.items[i], err);
    strlist_release(&keys);
    return status;
}

static enum tide_status remove_keys(struct store *store, const char *prefix, struct err *err)
{
    struct strlist keys;
    enum tide_status status = store_list(store, prefix, &keys, err);
    if (status != TIDE_OK)
        return status;
    status = store_remove_each(store, &keys, err);
    strlist_release(&keys);
    return status;
}

static enum tide_status note(const struct purge *p, uint64_t cut, struct err *err)
{
    object_key key;
    key_garbage(p->job, p->uid, cut, key);
    return store_put_same(p->store, key, "", 0, err);
}

/* Steps 2 and 3 of what the cut needed: noted first, then not needed by it any more. */
static enum tide_status release_needs(const struct purge *p, struct err *err)
{
    object_key prefix;
    struct strlist keys;
    uint64_t needed = 0, by = 0;
    key_prefix_needs(p->job, p->uid, 0, prefix);
    enum tide_status status = store_list(p->store, prefix, &keys, err);
    if (status != TIDE_OK)
        return status;
    for (size_t i = 0; status == TIDE_OK && i < keys.count; i++) {
        if (key_need_parse(keys.items[i], p->job, p->uid, &needed, &by) || by != p->cut)
            continue;
        status = note(p, needed, err);
        if (status == TIDE_OK)
            status = store_remove(p->store, keys.items[i], err);
    }
    strlist_release(&keys);
    return status;
}

static enum tide_status is_empty(struct store *store, const char *prefix, int *ret_empty, struct err *err)
{
    struct strlist keys;
    enum tide_status status = store_list(store, prefix, &keys, err);
    if (status != TIDE_OK)
        return status;
    *ret_empty = keys.count == 0;
    strlist_release(&keys);
    return TIDE_OK;
}

/* Wherever they are. */
static enum tide_status remove_packs(const struct purge *p, uint64_t cut, struct err *err)
{
    enum tide_status status = TIDE_OK;
    for (unsigned place = 0; status == TIDE_OK && place < KEY_PLACES; place += PLACES_LISTED) {
        struct strlist keys = {0};
        status = packs_list(p->store, p->job, p->uid, cut, place, &keys, err);
        if (status == TIDE_OK)
            status = store_remove_each(p->store, &keys, err);
        strlist_release(&keys);
    }
    return status;
}

/* The packs of a noted cut, unless a cut needs them or it is there itself. */
static enum tide_status sweep_cut(const struct purge *p, uint64_t cut, struct err *err)
{
    object_key prefix, key;
    int unneeded = 0, gone = 0;
    key_prefix_needs(p->job, p->uid, cut, prefix);
    enum tide_status status = is_empty(p->store, prefix, &unneeded, err);
    key_prefix_manifests(p->job, p->uid, cut, prefix);
    if (status == TIDE_OK)
        status = is_empty(p->store, prefix, &gone, err);
    if (status != TIDE_OK || !unneeded || !gone)
        return status;
    status = remove_packs(p, cut, err);
    key_damaged(p->job, p->uid, cut, key);
    if (status == TIDE_OK)
        status = store_remove(p->store, key, err);
    key_garbage(p->job, p->uid, cut, key);
    return status == TIDE_OK ? store_remove(p->store, key, err) : status;
}

static enum tide_status sweep(const struct purge *p, struct err *err)
{
    object_key prefix;
    struct strlist keys;
    uint64_t cut = 0;
    key_garbage(p->job, p->uid, 0, prefix);
    enum tide_status status = store_list(p->store, prefix, &keys, err);
    if (status != TIDE_OK)
        return status;
    for (size_t i = 0; status == TIDE_OK && i < keys.count; i++)
        if (key_garbage_parse(keys.items[i], p->job, p->uid, &cut) == 0)
            status = sweep_cut(p, cut, err);
    strlist_release(&keys);
    return status;
}

enum tide_status stage_purge(struct store *store, const char *job, const char *job_uid, uint64_t cut, struct err *err)
{
    struct purge p = {.store = store, .job = job, .uid = job_uid, .cut = cut};
    object_key prefix;
    key_prefix_manifests(job, job_uid, cut, prefix);
    enum tide_status status = remove_commits(store, prefix, err);
    if (status == TIDE_OK)
        status = note(&p, cut, err);
    if (status == TIDE_OK)
        status = release_needs(&p, err);
    if (status == TIDE_OK)
        status = remove_keys(store, prefix, err);
    if (status == TIDE_OK)
        status = sweep(&p, err);
    return status == TIDE_OK ? TIDE_OK : err_wrap(err, "cannot delete cut %" PRIu64 " of job %s", cut, job);
}
