/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/upload.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "ckpt/base/mem.h"

#define TURN_WAIT_S 60 /* for memory that others use */

/* ---- memory for packs, shared by all uploads of the process ---- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t given;
    unsigned uploads, packs; /* that are taken */
    unsigned char *kept[UPLOAD_PACKS_MAX]; /* that are not: what is taken next, the one given last first */
    unsigned kept_count;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER, .given = PTHREAD_COND_INITIALIZER};

/* Held: by this upload. Called with the lock. */
static unsigned share(void)
{
    unsigned each = UPLOAD_PACKS_MAX / all.uploads;
    return each > 0 ? each : 1;
}

/* Nonzero: there is none to be had in time. */
static int join(void)
{
    struct timespec until;
    int late = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += TURN_WAIT_S;
    pthread_mutex_lock(&all.lock);
    all.uploads++; /* from now on the others give some back */
    while (all.packs >= UPLOAD_PACKS_MAX && !late)
        late = pthread_cond_clockwait(&all.given, &all.lock, CLOCK_MONOTONIC, &until) != 0;
    if (all.packs < UPLOAD_PACKS_MAX) {
        late = 0;
        all.packs++;
    } else {
        all.uploads--;
    }
    pthread_mutex_unlock(&all.lock);
    return late;
}

static void leave(void)
{
    pthread_mutex_lock(&all.lock);
    all.uploads--;
    pthread_mutex_unlock(&all.lock);
}

static unsigned may_take(unsigned held)
{
    pthread_mutex_lock(&all.lock);
    unsigned may = held < share() && all.packs < UPLOAD_PACKS_MAX;
    all.packs += may;
    pthread_mutex_unlock(&all.lock);
    return may;
}

/* Nonzero: another upload waits for one of these. */
static unsigned must_give(unsigned held)
{
    pthread_mutex_lock(&all.lock);
    unsigned must = held > share();
    pthread_mutex_unlock(&all.lock);
    return must;
}

/* Of one that is taken: one that is kept, or a new one, of which there are then less than UPLOAD_PACKS_MAX. */
static unsigned char *pack_memory(void)
{
    pthread_mutex_lock(&all.lock);
    unsigned char *bytes = all.kept_count > 0 ? all.kept[--all.kept_count] : NULL;
    pthread_mutex_unlock(&all.lock);
    return bytes != NULL ? bytes : mem_try_pages(FORMAT_PACK_BYTES_MAX);
}

/* It is taken no more. Its memory, if it has any, is kept for the next one, because the kernel clears what it gives anew; until then
 * it is lent to the kernel. */
static void give(unsigned char *bytes)
{
    int keep = bytes != NULL && mem_pages_lend(bytes, FORMAT_PACK_BYTES_MAX) == 0;
    if (!keep)
        mem_pages_free(bytes, FORMAT_PACK_BYTES_MAX);
    pthread_mutex_lock(&all.lock);
    all.packs--;
    if (keep)
        all.kept[all.kept_count++] = bytes;
    pthread_cond_broadcast(&all.given);
    pthread_mutex_unlock(&all.lock);
}

void upload_trim(void)
{
    pthread_mutex_lock(&all.lock);
    while (all.kept_count > 0)
        mem_pages_free(all.kept[--all.kept_count], FORMAT_PACK_BYTES_MAX);
    pthread_mutex_unlock(&all.lock);
}

/* ---- one upload ---- */

enum tide_status upload_init(struct upload *upload, struct store *store, struct err *err)
{
    *upload = (struct upload){.store = store};
    if (join())
        return err_set(err, TIDE_E_UNAVAILABLE, "other uploads used all memory for packs (%u of %u bytes) for %d s",
                       UPLOAD_PACKS_MAX, FORMAT_PACK_BYTES_MAX, TURN_WAIT_S);
    upload->packs[0].bytes = pack_memory();
    if (upload->packs[0].bytes == NULL) {
        give(NULL);
        leave();
        return err_set(err, TIDE_E_NOMEM, "no memory to fill packs of %u bytes", FORMAT_PACK_BYTES_MAX);
    }
    upload->count = 1;
    return TIDE_OK;
}

static enum tide_status finish_one(struct upload_pack *pack, struct err *err)
{
    pack->turn = 0;
    return store_finish_same(&pack->op, err);
}

/* The one under way for longest; NULL: none is. */
static struct upload_pack *oldest(struct upload *upload)
{
    struct upload_pack *best = NULL;
    for (unsigned i = 0; i < upload->count; i++)
        if (upload->packs[i].turn > 0 && (best == NULL || upload->packs[i].turn < best->turn))
            best = &upload->packs[i];
    return best;
}

/* All are waited for, also after a failure: they use the packs' memory. */
enum tide_status upload_finish(struct upload *upload, struct err *err)
{
    enum tide_status first = TIDE_OK;
    for (struct upload_pack *pack; (pack = oldest(upload)) != NULL;) {
        enum tide_status status = finish_one(pack, first == TIDE_OK ? err : NULL);
        first = first == TIDE_OK ? status : first;
    }
    return first;
}

void upload_release(struct upload *upload)
{
    struct err why;
    if (upload->count == 0)
        return;
    if (upload_finish(upload, &why) != TIDE_OK)
        upload->turns = 0; /* it failed before, or was given up */
    for (unsigned i = upload->count; i-- > 0;)
        give(upload->packs[i].bytes);
    leave();
    *upload = (struct upload){0};
}

unsigned char *upload_room(const struct upload *upload)
{
    return upload->packs[upload->filling].bytes;
}

unsigned upload_depth(struct upload *upload)
{
    unsigned depth = 0;
    for (unsigned i = 0; i < upload->count; i++)
        depth += upload->packs[i].turn > 0 && store_pending(&upload->packs[i].op);
    return depth;
}

unsigned upload_depth_max(const struct upload *upload)
{
    unsigned at_once = store_at_once(upload->store);
    pthread_mutex_lock(&all.lock);
    unsigned most = share() - 1;
    pthread_mutex_unlock(&all.lock);
    if (upload->turns == 0)
        return 0;
    return most < at_once ? most : at_once;
}

/* One more that is not under way, if that may be. */
static void grow(struct upload *upload)
{
    unsigned most = store_at_once(upload->store) + 1;
    if (upload->count >= UPLOAD_PACKS_MAX || upload->count >= most || !may_take(upload->count))
        return;
    struct upload_pack *pack = &upload->packs[upload->count];
    pack->turn = 0;
    pack->bytes = pack_memory();
    if (pack->bytes != NULL)
        upload->filling = upload->count++;
    else
        give(NULL); /* slower, then */
}

/* Another upload has come: its share is given back. */
static enum tide_status shrink(struct upload *upload, struct err *err)
{
    enum tide_status status = TIDE_OK;
    while (status == TIDE_OK && upload->count > 1 && must_give(upload->count)) {
        struct upload_pack *last = &upload->packs[upload->count - 1];
        upload->count--;
        if (last->turn > 0)
            status = finish_one(last, err);
        give(last->bytes);
    }
    return status;
}

enum tide_status upload_put(struct upload *upload, const char *key, uint32_t bytes, struct err *err)
{
    struct upload_pack *pack = &upload->packs[upload->filling];
    text_copy(pack->key, sizeof pack->key, key);
    pack->turn = ++upload->turns;
    store_begin_put(upload->store, &pack->op, pack->key, pack->bytes, bytes);
    enum tide_status status = shrink(upload, err);
    for (unsigned i = 0; i < upload->count; i++)
        if (upload->packs[i].turn == 0) {
            upload->filling = i;
            return status;
        }
    pack = oldest(upload);
    unsigned before = upload->count;
    if (store_pending(&pack->op)) /* else there is one to use again */
        grow(upload);
    if (status != TIDE_OK || upload->count > before)
        return status;
    upload->filling = (unsigned)(pack - upload->packs);
    return finish_one(pack, err);
}
