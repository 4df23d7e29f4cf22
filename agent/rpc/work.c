/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/work_inner.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/rpc/dirs.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "ckpt/format/manifest.h"
#include "ckpt/stage/shard.h"

#define COPY_MODE 0700

_Static_assert(FORMAT_VERSION >= NODE_FORMAT, "what is told to be read is");

struct work *work_create(uv_loop_t *loop, void (*done)(void *context, const struct agent_event *event), void *context)
{
    struct work *work = mem_alloc(sizeof *work);
    work->loop = loop;
    work->done = done;
    work->context = context;
    work->lanes[LANE_STORE].most = WORK_STORE_MAX;
    work->lanes[LANE_PEER].most = WORK_PEER_MAX;
    pthread_mutex_init(&work->lock, NULL);
    return work;
}

void work_arenas(struct work *work, const char *arenas, uint64_t arena_bytes_max)
{
    text_copy(work->arenas, sizeof work->arenas, arenas);
    work->arena_bytes_max = arena_bytes_max;
}

void work_share(struct work *work, uint32_t nodes)
{
    work->share_nodes = nodes < SPREAD_NODES_MAX ? nodes : SPREAD_NODES_MAX;
    if (nodes > 1 && work->across == NULL)
        work->across = across_create();
}

struct across *work_across(const struct work *work)
{
    return work->across;
}

static void item_free(struct item *item)
{
    work_let_go(item);
    mem_free(item->plan);
    codec_release(&cut_order_codec, &item->order);
    mem_free(item->held);
    mem_free(item->live);
    mem_free(item->over);
    mem_free(item);
}

void work_close(struct work *work)
{
    work->closed = true;
    for (unsigned i = 0; i < LANES; i++) {
        struct lane *lane = &work->lanes[i];
        while (lane->first != NULL) {
            struct item *item = lane->first;
            lane->first = item->next;
            item_free(item);
        }
        lane->last = NULL;
    }
    while (work->aside != NULL) {
        struct item *item = work->aside;
        work->aside = item->next;
        item_free(item);
    }
    if (work->again.data != NULL)
        uv_close((uv_handle_t *)&work->again, NULL);
}

void work_free(struct work *work)
{
    if (work->running > 0)
        return;
    for (size_t i = 0; i < STORES_MAX; i++)
        store_close(work->stores[i].store);
    across_free(work->across);
    pthread_mutex_destroy(&work->lock);
    mem_free(work);
}

/* ---- on a worker thread ---- */

static int rank_order(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Ranks that have a slot with digests here; a slot without is not whole. */
static size_t ranks_in(const char *arena, uint32_t *ranks, size_t most)
{
    size_t count = 0;
    DIR *dir = opendir(arena);
    for (struct dirent *entry; dir != NULL && count < most && (entry = readdir(dir)) != NULL;) {
        unsigned rank = 0, slot = 0;
        char name[64];
        if (sscanf(entry->d_name, "r%u.slot%u.sum", &rank, &slot) != 2)
            continue;
        snprintf(name, sizeof name, SLOT_SUM_FILE_FORMAT, rank, slot);
        if (strcmp(name, entry->d_name) == 0)
            ranks[count++] = rank;
    }
    if (dir != NULL)
        closedir(dir);
    qsort(ranks, count, sizeof ranks[0], rank_order);
    size_t unique = 0;
    for (size_t i = 0; i < count; i++)
        if (i == 0 || ranks[i] != ranks[i - 1])
            ranks[unique++] = ranks[i];
    return unique;
}

void work_look(const char *arena, const char *job_uid, struct agent_held **ret_held, size_t *ret_count)
{
    uint32_t ranks[TIDE_LOCAL_RANKS_MAX * SLOTS * 16];
    size_t count = ranks_in(arena, ranks, sizeof ranks / sizeof ranks[0]), used = 0;
    struct agent_held *held = mem_array(count * SLOTS, sizeof held[0]);
    for (size_t i = 0; i < count; i++) {
        uint64_t cuts[SLOTS] = {0};
        char roots[SLOTS][DIGEST_HEX_CHARS + 1] = {{0}};
        stage_held(arena, ranks[i], job_uid, cuts, roots);
        for (uint32_t s = 0; s < SLOTS; s++) {
            if (cuts[s] == 0)
                continue;
            held[used] = (struct agent_held){.rank = ranks[i], .slot = s, .cut = cuts[s]};
            text_copy(held[used++].digest, sizeof held[0].digest, roots[s]);
        }
    }
    *ret_held = held;
    *ret_count = used;
}

/* Where the program asked for copies behind its back: whether it got them, and what the rank stood still for. */
static void tell_copy(const char *arena, const struct agent_event *event)
{
    char path[TIDE_PATH_MAX + 64], reason[64], *bytes = NULL;
    size_t count = 0;
    snprintf(path, sizeof path, "%s/" CONTROL_FILE_FORMAT, arena, event->rank);
    if (fsx_read(path, CONTROL_PAGE_BYTES, &bytes, &count, NULL) != TIDE_OK)
        return;
    const struct control_page *page = (const struct control_page *)(const void *)bytes;
    int whole = count == CONTROL_PAGE_BYTES && page->magic == CONTROL_MAGIC && page->recorded_cut == event->cut;
    if (whole && page->record_copy == RECORD_COPY_ON_WRITE)
        log_info("rank %u: checkpoint %" PRIu64 ": %" PRIu64 " bytes were copied on write within %" PRIu64 " us, %" PRIu64
                 " writes waited for it; the rank stood still for %" PRIu64 " us",
                 event->rank, event->cut, page->record_copy_bytes, page->record_copy_ns / 1000, page->record_copy_waits,
                 page->record_stall_ns / 1000);
    else if (whole && page->record_copy == RECORD_COPY_REFUSED)
        log_info("rank %u: checkpoint %" PRIu64 ": copies on write are not possible (%s): all was copied at once, and the rank stood "
                 "still for %" PRIu64 " us",
                 event->rank, event->cut, strerror_r((int)page->record_copy_errno, reason, sizeof reason),
                 page->record_stall_ns / 1000);
    else if (whole && page->record_copy_bytes > 0)
        log_info("rank %u: checkpoint %" PRIu64 ": %" PRIu64 " bytes came from devices within %" PRIu64
                 " us; the rank stood still for %" PRIu64 " us",
                 event->rank, event->cut, page->record_copy_bytes, page->record_copy_ns / 1000, page->record_stall_ns / 1000);
    if (whole && page->record_result == RECORD_DONE && page->record_detail[0] != '\0')
        log_info("rank %u: checkpoint %" PRIu64 ": %.*s", event->rank, event->cut, TIDE_TEXT_MAX, page->record_detail);
    mem_free(bytes);
}

/* What another host has in its memory: beside the slots of the ranks here, or into one of those, where its rank waits for it. */
static enum tide_status do_copy(struct item *item, struct err *err)
{
    struct agent_event *event = &item->event;
    char dir[TIDE_PATH_MAX + 32];
    int aside = item->kind == ACT_COPY;
    snprintf(dir, sizeof dir, "%s%s", item->arena, aside ? "/" COPY_DIR : "");
    enum tide_status status = fsx_mkdirs(dir, aside ? COPY_MODE : ARENA_MODE, err);
    if (status != TIDE_OK)
        return status;
    struct copy_place place = {.dir = dir, .job_uid = event->uid, .rank = event->rank, .slot = event->slot, .cut = event->cut,
                               .most = aside ? copy_room(item->work->arenas, item->work->arena_bytes_max) : UINT64_MAX,
                               .keep = !aside, .background = aside};
    return copy_fetch(&item->source, &place, event->digest, err);
}

static enum tide_status do_uncopy(struct item *item, struct err *err)
{
    arena_path path, sum_path;
    char dir[TIDE_PATH_MAX + 32];
    snprintf(dir, sizeof dir, "%s/" COPY_DIR, item->arena);
    slot_path(dir, item->event.rank, item->event.slot, path);
    slot_sum_path(dir, item->event.rank, item->event.slot, sum_path);
    if ((unlink(sum_path) != 0 && errno != ENOENT) || (unlink(path) != 0 && errno != ENOENT))
        return err_errno(err, "cannot remove %s", path);
    return TIDE_OK;
}

static enum tide_status run(struct item *item, struct err *err)
{
    struct agent_event *event = &item->event;
    enum tide_status status;
    switch (item->kind) {
    case ACT_SUM:
        status = stage_settle(item->arena, event->rank, event->slot, event->uid, event->cut, err);
        if (status != TIDE_OK)
            return status;
        tell_copy(item->arena, event);
        return stage_sum(item->arena, event->rank, event->slot, event->uid, event->cut, event->digest, err);
    case ACT_FIND:
        return stage_find(item->arena, event->rank, event->uid, event->cut, item->world, 1, &event->slot, event->digest, err);
    case ACT_LOOK:
        work_look(item->arena, event->uid, &item->held, &event->held_count);
        event->held = item->held;
        return TIDE_OK;
    case ACT_COPY:
        return do_copy(item, err);
    case ACT_UNCOPY:
        return do_uncopy(item, err);
    default:
        return item->kind == ACT_FETCH && item->tier == LOCAL_TIER_PEER ? do_copy(item, err) : work_use_store(item, err);
    }
}

static void on_thread(uv_work_t *request)
{
    struct item *item = request->data;
    struct err err = {0};
    item->event.status = run(item, &err);
    if (item->event.status != TIDE_OK)
        text_fit(item->event.text, sizeof item->event.text, err.text);
}

/* ---- on the loop's thread ---- */

bool work_stores(const struct work *work)
{
    return work->lanes[LANE_STORE].running > 0 || work->lanes[LANE_STORE].first != NULL || work->aside != NULL;
}

/* NULL: it does not hang. */
static struct lane *lane_of(const struct item *item)
{
    struct lane *lanes = item->work->lanes;
    switch (item->kind) {
    case ACT_STORE:
    case ACT_COMMIT:
    case ACT_PURGE:
        return &lanes[LANE_STORE];
    case ACT_COPY:
        return &lanes[LANE_PEER];
    case ACT_FETCH:
        return &lanes[item->tier == LOCAL_TIER_PEER ? LANE_PEER : LANE_STORE];
    default:
        return NULL;
    }
}

static void begin_waiting(struct lane *lane);
static void enqueue(struct lane *lane, struct item *item);

/* Behind all that has not been begun: nobody's first half waits for somebody's second. */
static void on_again(uv_timer_t *timer)
{
    struct work *work = timer->data;
    struct item *item = work->aside;
    work->aside = NULL;
    while (item != NULL) {
        struct item *next = item->next;
        item->next = NULL;
        item->aside = false;
        enqueue(lane_of(item), item);
        item = next;
    }
}

static void put_aside(struct work *work, struct item *item)
{
    item->next = work->aside;
    work->aside = item;
    if (work->again.data == NULL) {
        uv_timer_init(work->loop, &work->again);
        work->again.data = work;
    }
    if (!uv_is_active((uv_handle_t *)&work->again))
        uv_timer_start(&work->again, on_again, ACROSS_POLL_MS, 0);
}

static void on_done(uv_work_t *request, int status)
{
    struct item *item = request->data;
    struct work *work = item->work;
    struct lane *lane = lane_of(item);
    work->running--;
    if (lane != NULL)
        lane->running--;
    if (item->aside && status == 0 && !work->closed) {
        put_aside(work, item);
        begin_waiting(lane);
        return;
    }
    if (status == 0 && !work->closed)
        work->done(work->context, &item->event);
    item_free(item);
    if (lane != NULL && !work->closed)
        begin_waiting(lane);
}

static void begin(struct item *item)
{
    struct lane *lane = lane_of(item);
    item->request.data = item;
    item->work->running++;
    if (lane != NULL)
        lane->running++;
    uv_queue_work(item->work->loop, &item->request, on_thread, on_done);
}

static void begin_waiting(struct lane *lane)
{
    while (lane->first != NULL && lane->running < lane->most) {
        struct item *item = lane->first;
        lane->first = item->next;
        if (lane->first == NULL)
            lane->last = NULL;
        begin(item);
    }
}

static void enqueue(struct lane *lane, struct item *item)
{
    if (item->kind == ACT_FETCH) { /* somebody waits for it: before uploads and copies */
        item->next = lane->first;
        lane->first = item;
        if (lane->last == NULL)
            lane->last = item;
    } else {
        if (lane->last != NULL)
            lane->last->next = item;
        else
            lane->first = item;
        lane->last = item;
    }
    begin_waiting(lane);
}

static unsigned answer_of(unsigned kind)
{
    switch (kind) {
    case ACT_SUM:
        return EV_SUMMED;
    case ACT_FIND:
        return EV_FOUND;
    case ACT_FETCH:
        return EV_FETCHED;
    case ACT_COPY:
        return EV_COPIED;
    case ACT_UNCOPY:
        return EV_UNCOPIED;
    case ACT_LOOK:
        return EV_LOOKED;
    case ACT_STORE:
        return EV_STORED;
    case ACT_COMMIT:
        return EV_COMMITTED;
    default:
        return EV_PURGED;
    }
}

static uint64_t *numbers_of(const struct strlist *texts)
{
    uint64_t *numbers = mem_array(texts->count, sizeof *numbers);
    for (size_t i = 0; i < texts->count; i++)
        numbers[i] = strtoull(texts->items[i], NULL, 10);
    return numbers;
}

static void take_order(struct item *item, const struct agent_action *action)
{
    const struct assignment *order = action->order;
    bool elsewhere = item->kind == ACT_FETCH && order->restore_store[0] != '\0';
    text_copy(item->store, sizeof item->store, elsewhere ? order->restore_store : order->store);
    text_copy(item->source.token, sizeof item->source.token, order->token);
    text_copy(item->source.address, sizeof item->source.address,
              action->copy != NULL ? action->copy->address : order->restore_peer_address);
    item->source.port = action->copy != NULL ? action->copy->port : order->restore_peer_port;
    text_copy(item->source.pin, sizeof item->source.pin, action->copy != NULL ? action->copy->pin : order->restore_peer_pin);
    text_copy(item->manifest_key, sizeof item->manifest_key, order->restore_manifest_key);
    text_copy(item->manifest, sizeof item->manifest, order->restore_manifest);
    item->share = order->share;
    item->plan = item->kind == ACT_STORE ? work_plan(item, order) : NULL;
    item->world = (uint32_t)order->peers.count * order->spec.nproc_per_node;
    item->elastic = job_elastic(&order->spec);
    if (item->kind == ACT_COMMIT)
        codec_copy(&cut_order_codec, action->stored, &item->order);
    if (item->kind != ACT_PURGE || item->event.cut != 0)
        return;
    item->live = numbers_of(&order->sweep_live);
    item->over = numbers_of(&order->sweep_over);
    item->sweep = (struct orphan_rule){.live = item->live,
                                       .live_count = order->sweep_live.count,
                                       .over = item->over,
                                       .over_count = order->sweep_over.count,
                                       .below = order->sweep_below};
}

void work_start(struct work *work, const struct agent_action *action, const char *arena)
{
    if (work->closed)
        return;
    struct item *item = mem_alloc(sizeof *item);
    item->work = work;
    item->kind = action->kind;
    item->tier = action->tier;
    text_copy(item->arena, sizeof item->arena, arena);
    text_copy(item->job, sizeof item->job, action->job);
    struct agent_event *event = &item->event;
    event->kind = answer_of(action->kind);
    text_copy(event->uid, sizeof event->uid, action->uid);
    event->rank = action->rank;
    event->slot = action->slot;
    event->cut = action->cut;
    event->generation = action->generation;
    if (action->order != NULL)
        take_order(item, action);
    struct lane *lane = lane_of(item);
    if (lane != NULL)
        enqueue(lane, item);
    else
        begin(item);
}
