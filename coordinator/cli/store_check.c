/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/store_check.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "coordinator/cli/signals.h"

#define WORKERS_MAX 4u
#define KEY_MAX 64
#define PIECE_BYTES ((size_t)8 << 20)
#define SMALL_BYTES ((size_t)65537)
#define WORDS_BYTES 32

/* Small objects, then the large ones, then the one that is fought for. */
static const size_t small_bytes[] = {1, 4096, SMALL_BYTES};
#define SMALL_COUNT (sizeof small_bytes / sizeof small_bytes[0])
#define LARGE_COUNT ((size_t)1 + WORKERS_MAX)
#define RACE (SMALL_COUNT + LARGE_COUNT)
#define OBJECTS (RACE + 1)

static const char *key_of(const struct check *check, size_t object, char to[KEY_MAX])
{
    snprintf(to, KEY_MAX, "%s%zu", check->prefix, object);
    return to;
}

static size_t bytes_of(const struct check *check, size_t object)
{
    return object < SMALL_COUNT ? small_bytes[object] : check->bytes;
}

static const char *data_of(const struct check *check, size_t object)
{
    return check->data + object;
}

static enum tide_status interrupted(struct err *err)
{
    return signals_count() > 0 ? err_set(err, TIDE_E_STATE, "interrupted") : TIDE_OK;
}

/* ---- several workers at once ---- */

struct worker {
    pthread_t thread;
    struct check *check;
    unsigned number;
    enum tide_status (*work)(struct check *check, unsigned number, struct err *err);
    enum tide_status status;
    struct err err;
};

static void *worker_run(void *context)
{
    struct worker *w = context;
    w->status = w->work(w->check, w->number, &w->err);
    return NULL;
}

static enum tide_status together(struct check *check, unsigned count,
                                 enum tide_status (*work)(struct check *, unsigned, struct err *), struct err *err)
{
    struct worker workers[WORKERS_MAX] = {0};
    enum tide_status status = TIDE_OK;
    unsigned started = 0;
    for (; started < count && status == TIDE_OK; started++) {
        workers[started] = (struct worker){.check = check, .number = started, .work = work};
        if (pthread_create(&workers[started].thread, NULL, worker_run, &workers[started]) != 0)
            status = err_set(err, TIDE_E_NOMEM, "no thread can be made; end other programs and try again");
        if (status != TIDE_OK)
            break;
    }
    for (unsigned i = 0; i < started; i++) {
        pthread_join(workers[i].thread, NULL);
        if (status == TIDE_OK && workers[i].status != TIDE_OK)
            status = err_set(err, workers[i].status, "%s", workers[i].err.text);
    }
    return status;
}

/* ---- what a store must do ---- */

static enum tide_status put_object(struct check *check, size_t object, struct err *err)
{
    char key[KEY_MAX];
    enum tide_status status = interrupted(err);
    if (status != TIDE_OK)
        return status;
    return store_put(check->store, key_of(check, object, key), data_of(check, object), bytes_of(check, object), err);
}

/* In pieces: as ranks read, and without a second copy of a large object in memory. */
static enum tide_status compare_object(struct check *check, size_t object, struct err *err)
{
    char key[KEY_MAX];
    size_t bytes = bytes_of(check, object), n;
    char *piece = mem_alloc(bytes < PIECE_BYTES ? bytes : PIECE_BYTES);
    enum tide_status status = TIDE_OK;
    key_of(check, object, key);
    for (size_t at = 0; at < bytes && status == TIDE_OK; at += n) {
        n = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;
        status = interrupted(err);
        if (status == TIDE_OK)
            status = store_get(check->store, key, at, piece, n, err);
        if (status == TIDE_OK && memcmp(piece, data_of(check, object) + at, n) != 0)
            status = err_set(err, TIDE_E_UNSUPPORTED, "object %s reads back differently from what was written", key);
    }
    mem_free(piece);
    return status;
}

static enum tide_status prove_small(struct check *check, struct err *err)
{
    char key[KEY_MAX];
    uint64_t bytes = 0;
    enum tide_status status = TIDE_OK;
    for (size_t i = 0; i < SMALL_COUNT && status == TIDE_OK; i++) {
        status = put_object(check, i, err);
        if (status == TIDE_OK)
            status = compare_object(check, i, err);
        if (status == TIDE_OK)
            status = store_size(check->store, key_of(check, i, key), &bytes, err);
        if (status == TIDE_OK && bytes != bytes_of(check, i))
            status = err_set(err, TIDE_E_UNSUPPORTED, "object %s was written with %zu bytes and is said to have %" PRIu64,
                             key, bytes_of(check, i), bytes);
    }
    return status;
}

static enum tide_status prove_parts(struct check *check, struct err *err)
{
    char key[KEY_MAX], part[WORDS_BYTES];
    size_t object = SMALL_COUNT - 1, from = SMALL_BYTES / 2;
    struct err why = {.status = TIDE_OK};
    key_of(check, object, key);
    enum tide_status status = store_get(check->store, key, from, part, sizeof part, err);
    if (status != TIDE_OK)
        return status;
    if (memcmp(part, data_of(check, object) + from, sizeof part) != 0)
        return err_set(err, TIDE_E_UNSUPPORTED, "a part of object %s is not what was written there", key);
    /* A part that is cut short must not pass for a whole one. */
    status = store_get(check->store, key, SMALL_BYTES - 1, part, sizeof part, &why);
    if (status == TIDE_OK)
        return err_set(err, TIDE_E_UNSUPPORTED, "object %s can be read beyond its end", key);
    return status == TIDE_E_CORRUPT ? TIDE_OK : err_set(err, status, "%s", why.text);
}

static enum tide_status prove_once(struct check *check, struct err *err)
{
    char key[KEY_MAX];
    size_t object = SMALL_COUNT - 1;
    struct err why = {.status = TIDE_OK};
    /* As long, but of other bytes. */
    enum tide_status status =
        store_put(check->store, key_of(check, object, key), data_of(check, object + 1), SMALL_BYTES, &why);
    if (status == TIDE_OK)
        return err_set(err, TIDE_E_UNSUPPORTED, "object %s could be written a second time with other contents", key);
    if (status != TIDE_E_EXISTS)
        return err_set(err, status, "%s", why.text);
    return compare_object(check, object, err);
}

static enum tide_status prove_same(struct check *check, struct err *err)
{
    char key[KEY_MAX];
    size_t object = SMALL_COUNT - 1;
    return store_put_same(check->store, key_of(check, object, key), data_of(check, object), SMALL_BYTES, err);
}

static enum tide_status race(struct check *check, unsigned number, struct err *err)
{
    char key[KEY_MAX];
    enum tide_status status = store_put(check->store, key_of(check, RACE, key), data_of(check, number), SMALL_BYTES, err);
    if (status == TIDE_OK)
        atomic_fetch_add(&check->winners, 1);
    return status == TIDE_E_EXISTS ? TIDE_OK : status;
}

static enum tide_status prove_race(struct check *check, struct err *err)
{
    enum tide_status status = together(check, WORKERS_MAX, race, err);
    unsigned winners = atomic_load(&check->winners);
    if (status == TIDE_OK && winners != 1)
        return err_set(err, TIDE_E_UNSUPPORTED, "of %u that wrote one key at once, %u were told that theirs is there",
                       WORKERS_MAX, winners);
    return status;
}

static enum tide_status upload(struct check *check, unsigned number, struct err *err)
{
    return put_object(check, check->first + number, err);
}

static enum tide_status download(struct check *check, unsigned number, struct err *err)
{
    return compare_object(check, check->first + number, err);
}

static double rate(const struct check *check, unsigned workers, uint64_t since_ns)
{
    uint64_t ns = clock_mono_ns() - since_ns;
    return (double)check->bytes * workers * 1e3 / (double)(ns > 0 ? ns : 1);
}

static enum tide_status measure(struct check *check, unsigned workers, size_t first, struct speed *ret_speed,
                                struct err *err)
{
    struct speed speed = {.workers = workers};
    check->first = first;
    uint64_t begun_ns = clock_mono_ns();
    enum tide_status status = together(check, workers, upload, err);
    if (status != TIDE_OK)
        return status;
    speed.up = rate(check, workers, begun_ns);
    begun_ns = clock_mono_ns();
    status = together(check, workers, download, err);
    if (status != TIDE_OK)
        return status;
    speed.down = rate(check, workers, begun_ns);
    *ret_speed = speed;
    return TIDE_OK;
}

static enum tide_status prove_large(struct check *check, struct err *err)
{
    enum tide_status status = measure(check, 1, SMALL_COUNT, &check->speeds[0], err);
    return status == TIDE_OK ? measure(check, WORKERS_MAX, SMALL_COUNT + 1, &check->speeds[1], err) : status;
}

static bool listed(const struct strlist *keys, const char *key)
{
    for (size_t i = 0; i < keys->count; i++)
        if (strcmp(keys->items[i], key) == 0)
            return true;
    return false;
}

static enum tide_status prove_list(struct check *check, struct err *err)
{
    char key[KEY_MAX];
    struct strlist keys = {0};
    enum tide_status status = store_list(check->store, check->prefix, &keys, err);
    for (size_t i = 0; i < OBJECTS && status == TIDE_OK; i++)
        if (!listed(&keys, key_of(check, i, key)))
            status = err_set(err, TIDE_E_UNSUPPORTED, "object %s is there and is not listed", key);
    if (status == TIDE_OK && keys.count != OBJECTS)
        status = err_set(err, TIDE_E_UNSUPPORTED, "%zu objects were written below %s and %zu are listed", OBJECTS,
                         check->prefix, keys.count);
    strlist_release(&keys);
    return status;
}

static enum tide_status prove_remove(struct check *check, struct err *err)
{
    char key[KEY_MAX];
    uint64_t bytes;
    enum tide_status status = TIDE_OK;
    for (size_t i = 0; i < OBJECTS && status == TIDE_OK; i++) {
        struct err why = {.status = TIDE_OK};
        status = store_remove(check->store, key_of(check, i, key), err);
        if (status != TIDE_OK)
            break;
        enum tide_status there = store_size(check->store, key, &bytes, &why);
        if (there == TIDE_OK)
            status = err_set(err, TIDE_E_UNSUPPORTED, "object %s is there after it was deleted", key);
        else if (there != TIDE_E_NOT_FOUND)
            status = err_set(err, there, "%s", why.text);
    }
    return status;
}

static const char once_remedy[] = "name a directory on another file system, or a server that knows If-None-Match";
static const char bytes_remedy[] =
    "use nothing from it: look for a broken disk, cache or proxy before it, or name another store";
static const char other_remedy[] = "look into that server's or file system's settings, or name another store";

const struct proof store_proofs[] = {
    {"small objects read back as written", "keep small objects", bytes_remedy, prove_small},
    {"parts of an object can be read", "read parts of an object", other_remedy, prove_parts},
    {"other contents under a taken key are refused", "refuse a second writer", once_remedy, prove_once},
    {"equal contents under a taken key are accepted", "take the same object twice", bytes_remedy, prove_same},
    {"of four writers at once one wins", "let one of several writers win", once_remedy, prove_race},
    {"large objects read back as written", "keep large objects", bytes_remedy, prove_large},
    {"the list shows every object", "list what it holds", other_remedy, prove_list},
    {"deleted objects are gone", "delete objects", "turn off versions, locks and retention there, or name another store",
     prove_remove},
};
_Static_assert(sizeof store_proofs / sizeof store_proofs[0] == STORE_PROOFS, "all of them");

/* ---- begin and end ---- */

void store_check_begin(struct check *check, struct store *store, size_t bytes)
{
    struct rng rng = {.state = rng_entropy()};
    char name[17];
    *check = (struct check){.store = store, .bytes = bytes};
    rng_hex(&rng, name, 16);
    snprintf(check->prefix, sizeof check->prefix, "check.%s/", name);
    size_t room = (bytes > SMALL_BYTES ? bytes : SMALL_BYTES) + OBJECTS;
    check->data = mem_alloc(room + sizeof(uint64_t));
    for (size_t at = 0; at < room; at += sizeof(uint64_t))
        memcpy(check->data + at, &(uint64_t){rng_next(&rng)}, sizeof(uint64_t));
}

enum tide_status store_check_clean(struct check *check, struct err *err)
{
    char key[KEY_MAX];
    enum tide_status status = TIDE_OK;
    for (size_t i = 0; i < OBJECTS && status == TIDE_OK; i++)
        status = store_remove(check->store, key_of(check, i, key), err);
    return status;
}

void store_check_end(struct check *check)
{
    mem_free(check->data);
}
