/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/scrub.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "ckpt/base/thread.h"
#include "ckpt/stage/stage.h"

#define NAP_NS (100 * NS_PER_MS) /* after so long at most it sees that it shall end, or rest */
#define SPANS 1u                 /* read at a time: others want the store, too */
#define IDLE_IO (3 << 13)        /* IOPRIO_CLASS_IDLE, of linux/ioprio.h */

struct scrub {
    uv_async_t ended;
    uint64_t bytes_per_s;
    void (*done)(void *context, const struct agent_event *event);
    void *context;
    pthread_t thread;
    bool running;
    atomic_int stop, rests;
    atomic_int over; /* the thread uses nothing of this any more */
    pthread_mutex_t lock;
    bool closed; /* under the lock: the loop may be no more */
    /* What the thread works with, from scrub_start until it has ended. */
    char store[TIDE_PATH_MAX + 1];
    char job[TIDE_NAME_MAX + 1];
    struct scrub_order order;
    struct agent_event event;
    uint64_t due_ns; /* the bytes that come next */
    char fault[TIDE_TEXT_MAX + 1]; /* the first */
    char spare[TIDE_TEXT_MAX + 1]; /* the same, of a pack that is damaged where the checkpoint does without */
    struct strlist packs;          /* that are damaged, one of each cut */
    struct stage_unkept unkept;
    unsigned char faulty[TIDE_RANKS_MAX / 8]; /* a bit a rank, of the first look; the second looks at these */
    bool again;                               /* it is the second */
};

/* ---- on its thread ---- */

static void nap(uint64_t ns)
{
    struct timespec time = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    nanosleep(&time, NULL);
}

/* Before so many bytes are looked at. What it missed while it rested is not made up for. */
static void pace(struct scrub *scrub, uint64_t bytes)
{
    for (;;) {
        uint64_t now_ns = clock_mono_ns();
        bool rests = atomic_load(&scrub->rests) != 0;
        if (atomic_load(&scrub->stop) || (!rests && now_ns >= scrub->due_ns))
            break;
        uint64_t left_ns = scrub->due_ns > now_ns ? scrub->due_ns - now_ns : NAP_NS;
        nap(left_ns < NAP_NS ? left_ns : NAP_NS);
    }
    uint64_t now_ns = clock_mono_ns();
    scrub->due_ns = (scrub->due_ns > now_ns - NAP_NS ? scrub->due_ns : now_ns) + bytes * NS_PER_S / scrub->bytes_per_s;
}

static void state_comes(void *context, uint64_t bytes)
{
    struct scrub *scrub = context;
    scrub->event.raw_bytes += bytes;
    pace(scrub, bytes);
}

static void beside_comes(void *context, uint64_t bytes)
{
    pace(context, bytes);
}

static void first_fault(void *context, const char *text)
{
    struct scrub *scrub = context;
    if (scrub->fault[0] == '\0')
        text_fit(scrub->fault, sizeof scrub->fault, text);
}

static void first_spare(void *context, const char *text)
{
    struct scrub *scrub = context;
    if (scrub->spare[0] == '\0')
        text_fit(scrub->spare, sizeof scrub->spare, text);
}

static void faulty_rank(void *context, uint32_t rank)
{
    struct scrub *scrub = context;
    scrub->faulty[rank / 8] |= (unsigned char)(1u << rank % 8);
}

static int wanted_rank(void *context, uint32_t rank)
{
    const struct scrub *scrub = context;
    return !scrub->again || (scrub->faulty[rank / 8] >> rank % 8 & 1) != 0;
}

static void unkept_cut(void *context, uint64_t cut)
{
    struct scrub *scrub = context;
    stage_unkept_add(&scrub->unkept, cut);
}

static void bad_pack(void *context, const char *pack)
{
    struct scrub *scrub = context;
    stage_blame_add(&scrub->packs, pack);
}

static int shall_end(void *context)
{
    const struct scrub *scrub = context;
    return atomic_load(&scrub->stop);
}

/* CORRUPT: it can be told that something is wrong. What the checkpoint does without, and is wrong, is in scrub->spare. */
static enum tide_status look(struct scrub *scrub, struct store *store, struct err *err)
{
    const struct stage_watch watch = {.say = first_fault, .spare = first_spare, .progress = state_comes, .beside = beside_comes,
                                      .damaged = bad_pack, .unkept = unkept_cut, .faulty = faulty_rank, .wanted = wanted_rank,
                                      .enough = shall_end, .spans = SPANS, .context = scrub};
    struct stage_verdict verdict = {0};
    struct err why = {0};
    scrub->event.raw_bytes = 0;
    scrub->fault[0] = scrub->spare[0] = '\0';
    strlist_release(&scrub->packs);
    enum tide_status status =
        stage_check_watched(store, scrub->order.manifest_key, scrub->order.manifest, &watch, &verdict, &why);
    if (status != TIDE_OK)
        status = err_set(err, status == TIDE_E_NOT_FOUND ? TIDE_E_CORRUPT : status, "%s", why.text);
    else if (verdict.bad > 0)
        status = verdict.damaged > 0 ? err_set(err, TIDE_E_CORRUPT, "%s", verdict.damage)
                                     : err_set(err, TIDE_E_UNAVAILABLE, "%s", scrub->fault);
    if (atomic_load(&scrub->stop))
        status = err_set(err, TIDE_E_UNAVAILABLE, "this agent ends");
    /* A file system that is not mounted holds nothing at all. */
    if ((status == TIDE_E_CORRUPT || scrub->spare[0] != '\0') && !stage_holds_job(store, scrub->order.manifest_key))
        status = err_set(err, TIDE_E_UNAVAILABLE, "the store holds nothing of the job: is it mounted on this host?");
    return status;
}

static bool found_damage(const struct scrub *scrub, enum tide_status status)
{
    return status == TIDE_E_CORRUPT || (status == TIDE_OK && scrub->spare[0] != '\0');
}

/* What was noted when the checkpoint was stored, and has gone since, is noted again. */
static void keep(struct scrub *scrub, struct store *store)
{
    struct err why = {0};
    if (scrub->unkept.count == 0)
        return;
    if (stage_keep(store, scrub->order.manifest_key, &scrub->unkept, &why) == TIDE_OK)
        log_warn("job %s: the store had lost what keeps packs of %u earlier checkpoints for %s; it is there again", scrub->job,
                 scrub->unkept.count, scrub->order.manifest_key);
    else
        log_warn("job %s: %s", scrub->job, why.text);
}

static enum tide_status look_twice(struct scrub *scrub, struct err *err)
{
    struct store *store = NULL;
    enum tide_status status = store_open(scrub->store, &store, err);
    if (status != TIDE_OK)
        return status;
    memset(scrub->faulty, 0, sizeof scrub->faulty);
    scrub->again = false;
    scrub->unkept.count = 0;
    status = look(scrub, store, err);
    uint64_t bytes = scrub->event.raw_bytes;
    scrub->again = bytes > 0;        /* else it was a manifest, and no rank has been looked at */
    if (found_damage(scrub, status)) /* it may have been the way here */
        status = look(scrub, store, err);
    if (scrub->event.raw_bytes < bytes)
        scrub->event.raw_bytes = bytes;
    struct err why = {0};
    if (found_damage(scrub, status) && stage_blame(store, scrub->job, scrub->event.uid, &scrub->packs, &why) != TIDE_OK)
        log_warn("job %s: %s", scrub->job, why.text);
    if (status == TIDE_OK || status == TIDE_E_CORRUPT)
        keep(scrub, store);
    if (status == TIDE_OK)
        text_copy(scrub->event.text, sizeof scrub->event.text, scrub->spare);
    strlist_release(&scrub->packs);
    store_close(store);
    return status;
}

static void *run(void *argument)
{
    struct scrub *scrub = argument;
    struct err err = {0};
    const struct sched_param lowest = {0};
    /* Threads that it makes, the store's, are the same. Where it is refused it is only less polite. */
    (void)pthread_setschedparam(pthread_self(), SCHED_IDLE, &lowest);
    (void)syscall(SYS_ioprio_set, 1, 0, IDLE_IO);
    scrub->due_ns = clock_mono_ns();
    scrub->event.status = look_twice(scrub, &err);
    if (scrub->event.status != TIDE_OK)
        text_fit(scrub->event.text, sizeof scrub->event.text, err.text);
    pthread_mutex_lock(&scrub->lock);
    if (!scrub->closed)
        uv_async_send(&scrub->ended);
    pthread_mutex_unlock(&scrub->lock);
    atomic_store(&scrub->over, 1);
    return NULL;
}

/* ---- on the loop's thread ---- */

static void on_ended(uv_async_t *async)
{
    struct scrub *scrub = async->data;
    if (!scrub->running)
        return;
    pthread_join(scrub->thread, NULL);
    scrub->running = false;
    scrub->done(scrub->context, &scrub->event);
}

struct scrub *scrub_create(uv_loop_t *loop, uint64_t bytes_per_s, void (*done)(void *context, const struct agent_event *event),
                           void *context)
{
    struct scrub *scrub = mem_alloc(sizeof *scrub);
    scrub->bytes_per_s = bytes_per_s;
    scrub->done = done;
    scrub->context = context;
    scrub->ended.data = scrub;
    atomic_store(&scrub->over, 1);
    pthread_mutex_init(&scrub->lock, NULL);
    uv_async_init(loop, &scrub->ended, on_ended);
    return scrub;
}

/* Where there is no thread to be had it is tried again like a store that cannot be reached. */
static void refuse(struct scrub *scrub)
{
    scrub->event.status = TIDE_E_NOMEM;
    text_copy(scrub->event.text, sizeof scrub->event.text, "there is no thread to read it with");
    scrub->done(scrub->context, &scrub->event);
}

void scrub_start(struct scrub *scrub, const struct agent_action *action)
{
    const struct assignment *order = action->order;
    scrub->event = (struct agent_event){.kind = EV_SCRUBBED, .cut = action->cut};
    text_copy(scrub->event.uid, sizeof scrub->event.uid, action->uid);
    text_copy(scrub->store, sizeof scrub->store, order->store);
    text_copy(scrub->job, sizeof scrub->job, action->job);
    for (size_t i = 0; i < order->scrub.count; i++)
        if (order->scrub.items[i].cut == action->cut)
            scrub->order = order->scrub.items[i];
    atomic_store(&scrub->over, 0);
    scrub->running = thread_begin(&scrub->thread, run, scrub) == 0;
    if (!scrub->running) {
        atomic_store(&scrub->over, 1);
        refuse(scrub);
    }
}

void scrub_rest(struct scrub *scrub, bool rests)
{
    atomic_store(&scrub->rests, rests);
}

void scrub_close(struct scrub *scrub)
{
    if (scrub == NULL)
        return;
    atomic_store(&scrub->stop, 1);
    pthread_mutex_lock(&scrub->lock);
    scrub->closed = true;
    pthread_mutex_unlock(&scrub->lock);
}

bool scrub_free(struct scrub *scrub)
{
    if (scrub == NULL)
        return true;
    if (!atomic_load(&scrub->over))
        return false;
    if (scrub->running)
        pthread_join(scrub->thread, NULL);
    pthread_mutex_destroy(&scrub->lock);
    mem_free(scrub);
    return true;
}
