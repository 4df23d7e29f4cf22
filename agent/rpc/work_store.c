/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "agent/rpc/work_inner.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "ckpt/stage/shared.h"
#include "ckpt/stage/survey.h"

/* ---- stores ---- */

/* The store of that URL. NULL: it is not open. */
static struct open_store *store_known(struct work *work, const char *url)
{
    for (size_t i = 0; i < STORES_MAX; i++)
        if (work->stores[i].store != NULL && !work->stores[i].stale && strcmp(work->stores[i].url, url) == 0)
            return &work->stores[i];
    return NULL;
}

/* A free place, else that of the one that was idle longest. NULL: all are in use. */
static struct open_store *store_place(struct work *work)
{
    struct open_store *best = NULL;
    for (size_t i = 0; i < STORES_MAX; i++) {
        struct open_store *open = &work->stores[i];
        if (open->users == 0 && (best == NULL || (best->store != NULL && (open->store == NULL || open->used < best->used))))
            best = open;
    }
    return best;
}

static void store_give(struct work *work, struct open_store *open)
{
    struct store *done = NULL;
    pthread_mutex_lock(&work->lock);
    if (--open->users == 0 && open->stale) {
        done = open->store;
        *open = (struct open_store){0};
    }
    pthread_mutex_unlock(&work->lock);
    store_close(done);
}

/* In use from here on, or NULL. */
static struct open_store *store_borrow(struct work *work, const char *url)
{
    pthread_mutex_lock(&work->lock);
    struct open_store *open = store_known(work, url);
    if (open != NULL) {
        open->users++;
        open->used = ++work->uses;
    }
    pthread_mutex_unlock(&work->lock);
    if (open == NULL || !store_moved(open->store))
        return open;
    pthread_mutex_lock(&work->lock);
    open->stale = true;
    pthread_mutex_unlock(&work->lock);
    store_give(work, open);
    return NULL;
}

/* Nothing that may hang happens under the lock: a store that does holds up only those who want it. */
static enum tide_status store_take(struct work *work, const char *url, struct open_store **ret_open, struct err *err)
{
    struct store *idle = NULL, *store = NULL;
    struct open_store *open = store_borrow(work, url);
    if (open != NULL) {
        *ret_open = open;
        return TIDE_OK;
    }
    pthread_mutex_lock(&work->lock);
    open = store_place(work);
    if (open != NULL) {
        idle = open->store;
        *open = (struct open_store){.users = 1, .used = ++work->uses};
        text_copy(open->url, sizeof open->url, url);
    }
    pthread_mutex_unlock(&work->lock);
    if (open == NULL)
        return err_set(err, TIDE_E_UNAVAILABLE, "%u stores are in use at the moment; %.200s has to wait", STORES_MAX, url);
    store_close(idle);
    enum tide_status status = store_open(url, &store, err);
    pthread_mutex_lock(&work->lock);
    struct open_store *other = store_known(work, url);
    if (status == TIDE_OK && other != NULL) { /* opened meanwhile: ranks that store together must have the same */
        idle = store;
        other->users++;
        *open = (struct open_store){0};
        open = other;
    } else {
        idle = NULL;
        open->store = store;
        open->users = status == TIDE_OK;
    }
    pthread_mutex_unlock(&work->lock);
    store_close(idle);
    if (status == TIDE_OK)
        *ret_open = open;
    return status;
}

/* ---- with other nodes ---- */

/* The generation that recorded the cut; 0: not told. */
static uint64_t recorded_by(const struct assignment *order, uint64_t cut)
{
    return order->upload.cut == cut ? order->upload.generation : order->cut.cut == cut ? order->cut.generation : 0;
}

struct across_plan *work_plan(const struct item *item, const struct assignment *order)
{
    uint32_t nodes = item->work->share_nodes, count = (uint32_t)order->peers.count;
    uint32_t first = nodes > 1 ? order->node_rank / nodes * nodes : 0;
    if (!order->share || nodes < 2 || order->node_rank >= count || recorded_by(order, item->event.cut) != order->generation ||
        order->token[0] == '\0')
        return NULL;
    nodes = count - first < nodes ? count - first : nodes;
    if (nodes < 2)
        return NULL;
    struct across_plan *plan = mem_alloc(sizeof *plan);
    *plan = (struct across_plan){.arena = item->arena, .job = item->job, .uid = item->event.uid, .cut = item->event.cut,
                                 .generation = order->generation, .node = order->node_rank - first, .nodes = nodes,
                                 .first = first * order->spec.nproc_per_node, .ranks_per_node = order->spec.nproc_per_node};
    for (uint32_t i = 0; i < nodes; i++) {
        const struct peer *from = &order->peers.items[first + i];
        struct copy_source *to = &plan->peers[i];
        text_copy(to->address, sizeof to->address, from->address);
        text_copy(to->pin, sizeof to->pin, from->pin);
        text_copy(to->token, sizeof to->token, order->token);
        to->port = from->log_port;
    }
    return plan;
}

void work_let_go(struct item *item)
{
    stage_store_abandon(item->storing);
    shared_leave(item->present);
    across_leave(item->across);
    if (item->open != NULL)
        store_give(item->work, item->open);
    item->storing = NULL;
    item->present = NULL;
    item->across = NULL;
    item->open = NULL;
}

/* The first half: what this rank has to write. */
static enum tide_status store_own(struct item *item, struct store *store, struct err *err)
{
    const struct agent_event *event = &item->event;
    if (item->plan != NULL && item->present == NULL) {
        /* What other ranks here have written must be known until this one has looked at the other nodes. */
        const struct cut_name name = {.job = item->job, .uid = event->uid, .cut = event->cut, .generation = item->plan->generation};
        item->present = shared_join(store, &name);
    }
    item->across = item->plan != NULL ? across_join(item->work->across, item->plan, &item->aside) : NULL;
    if (item->aside) /* it is waited for on no thread */
        return TIDE_OK;
    enum tide_status status = stage_store_begin(store, item->arena, event->rank, event->slot, item->job, event->uid, event->cut,
                                                item->across != NULL ? across_ops(item->across) : NULL, &item->storing, err);
    if (item->across != NULL)
        across_over(item->across, event->rank);
    return status;
}

/* It may have to wait for other nodes: then it is put aside, and comes here again. */
static enum tide_status store_shared(struct item *item, struct store *store, struct stage_shard *ret_shard, struct err *err)
{
    enum tide_status status = item->storing == NULL ? store_own(item, store, err) : TIDE_OK;
    if (status != TIDE_OK || item->aside)
        return status;
    item->aside = item->across != NULL && stage_store_left(item->storing) > 0 && !across_settled(item->across);
    if (item->aside)
        return TIDE_OK;
    struct stage_storing *storing = item->storing;
    item->storing = NULL;
    return stage_store_end(storing, ret_shard, err);
}

static enum tide_status do_store(struct item *item, struct store *store, struct err *err)
{
    struct agent_event *event = &item->event;
    struct stage_shard shard = {0};
    enum tide_status status = item->share ? store_shared(item, store, &shard, err)
                                          : stage_store(store, item->arena, event->rank, event->slot, item->job, event->uid, event->cut,
                                                        &shard, err);
    if (status != TIDE_OK || item->aside)
        return status;
    text_copy(event->key, sizeof event->key, shard.key);
    text_copy(event->digest, sizeof event->digest, shard.digest);
    event->raw_bytes = shard.raw_bytes;
    event->stored_bytes = shard.stored_bytes;
    return TIDE_OK;
}

/* What a fetch found damaged in the store, or could not read there. */
struct damage {
    bool unread;
    char *text; /* TIDE_TEXT_MAX + 1 bytes; the first that it had in the slot all the same */
    struct strlist packs;
};

static void damage_mended(void *context, const char *text)
{
    struct damage *damage = context;
    if (damage->text[0] == '\0')
        text_fit(damage->text, TIDE_TEXT_MAX + 1, text);
}

static void damage_seen(void *context, const char *pack)
{
    struct damage *damage = context;
    stage_blame_add(&damage->packs, pack);
}

static void damage_unread(void *context)
{
    struct damage *damage = context;
    damage->unread = true;
}

/* To open it proves that it can be written and read. */
static bool store_is_up(const char *url)
{
    struct store *store = NULL;
    struct err err = {0};
    bool up = store_open(url, &store, &err) == TIDE_OK;
    store_close(store);
    return up;
}

static enum tide_status do_fetch(struct item *item, struct store *store, struct err *err)
{
    struct damage damage = {.text = item->event.text};
    const struct stage_watch watch = {.say = damage_mended, .damaged = damage_seen, .unread = damage_unread, .context = &damage};
    enum tide_status status = fsx_mkdirs(item->arena, ARENA_MODE, err);
    if (status != TIDE_OK)
        return status;
    const struct stage_target to = {.job_uid = item->event.uid,
                                    .arena = item->arena,
                                    .rank = item->event.rank,
                                    .slot = item->event.slot,
                                    .world_size = item->world,
                                    .elastic = item->elastic,
                                    .generation = item->event.generation,
                                    .watch = &watch};
    struct err why = {0};
    status = stage_fetch_to(store, item->manifest_key, item->manifest, &to, err);
    if (status == TIDE_E_NOT_FOUND && !stage_holds_job(store, item->manifest_key))
        status = err_set(err, TIDE_E_UNAVAILABLE, "store %.200s holds nothing of the job that made %.120s: is it mounted on this host?",
                         item->store, item->manifest_key);
    else if (stage_blame(store, item->job, item->event.uid, &damage.packs, &why) != TIDE_OK)
        log_warn("job %s: %s", item->job, why.text);
    strlist_release(&damage.packs);
    item->event.store_up = status == TIDE_E_IO && damage.unread && store_is_up(item->store);
    return status;
}

static enum tide_status do_sweep(struct item *item, struct store *store, struct err *err)
{
    uint64_t strange = 0;
    enum tide_status status = stage_sweep(store, item->job, item->event.uid, &item->sweep, &strange, err);
    if (status == TIDE_OK && strange > 0)
        log_warn("job %s: the store holds %" PRIu64 " committed checkpoints that the coordinators do not know; they are left: "
                 "tidemark ckpt gc %s --dry-run names them",
                 item->job, strange, item->job);
    return status;
}

static enum tide_status use_store(struct item *item, struct store *store, struct err *err)
{
    struct agent_event *event = &item->event;
    switch (item->kind) {
    case ACT_STORE:
        return do_store(item, store, err);
    case ACT_FETCH:
        return do_fetch(item, store, err);
    case ACT_COMMIT:
        return stage_commit(store, item->job, event->uid, &item->order, event->key, event->digest, err);
    default:
        return event->cut != 0 ? stage_purge(store, item->job, event->uid, event->cut, err) : do_sweep(item, store, err);
    }
}

enum tide_status work_use_store(struct item *item, struct err *err)
{
    enum tide_status status = item->open == NULL ? store_take(item->work, item->store, &item->open, err) : TIDE_OK;
    if (status != TIDE_OK)
        return status;
    status = use_store(item, item->open->store, err);
    if (!item->aside)
        work_let_go(item);
    return status;
}
