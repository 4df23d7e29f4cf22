/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/ahead.h"

#include <sched.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/thread.h"

#define HELPER_LATE 4u /* times as long as a chunk takes the leader … */
#define LATE_NS_MIN (4 * NS_PER_MS)
#define LATE_NS_MAX (50 * NS_PER_MS)
#define CHUNK_NS_DECAY 16u /* some chunks take no time: the longest counts, by a 16th less with each that is shorter */
#define REST_NS_MIN (NS_PER_S / 4) /* for which a helper that was late takes no chunk: twice as long each time in a row */
#define REST_NS_MAX (8 * NS_PER_S)
#define IDLE_NS (1 * NS_PER_S) /* then it looks again; it is woken before that */

enum place_state { FREE, GIVEN, BUSY, DONE, FAILED, MINE, LEFT };

/* A chunk, and room for its stored form. Whoever made the state GIVEN, BUSY, … what it is, by a compare-and-swap where two could,
 * may alone write the rest. */
struct place {
    atomic_int state;
    atomic_ullong turn; /* of those given, the lowest is taken first */
    uint64_t index;
    struct segments segments;
    enum effort_level level; /* that it was encoded with */
    uint32_t raw_bytes, length;
    enum chunk_codec codec;
    unsigned char *room; /* CHUNK_BYTES */
};

struct helper {
    struct ahead *ahead;
    unsigned number;
    pthread_t thread;
    struct encoder *encoder;
    unsigned char *raw; /* CHUNK_BYTES */
    atomic_bool asleep; /* who makes it false posts `wake` */
    sem_t wake;
};

struct ahead {
    const struct slot *slot;
    const struct slot_sum *sum;
    struct encoder *encoder; /* the leader's, as `raw` */
    unsigned char *raw;
    struct place places[AHEAD_PLACES];
    unsigned place_count;               /* that have room */
    struct place *queue[AHEAD_PLACES];  /* a ring: those given, in order */
    unsigned head, count;
    uint64_t turns;
    uint64_t chunk_ns; /* that a chunk takes the leader; 0: not known */
    struct helper helpers[HELPERS_MAX];
    unsigned helper_count;
    bool no_more; /* memory or threads ran out */
    atomic_uint allowed;
    atomic_int level;
    atomic_bool stop;
    atomic_bool waiting; /* the leader; who makes it false posts `done` */
    sem_t done;
};

/* ---- one chunk, on any thread ---- */

static int swap(struct place *place, int from, int to)
{
    return atomic_compare_exchange_strong(&place->state, &from, to);
}

static int given(struct place *place)
{
    return atomic_load(&place->state) == GIVEN;
}

/* The first in turn that nobody has taken, BUSY by now. NULL: there is none. */
static struct place *take(struct ahead *a)
{
    for (;;) {
        struct place *first = NULL;
        for (unsigned i = 0; i < AHEAD_PLACES; i++)
            if (given(&a->places[i]) && (first == NULL || atomic_load(&a->places[i].turn) < atomic_load(&first->turn)))
                first = &a->places[i];
        if (first == NULL || swap(first, GIVEN, BUSY))
            return first;
    }
}

/* Of a place that is BUSY; what it becomes. */
static int encode(struct ahead *a, struct place *place, struct encoder *encoder, unsigned char *raw)
{
    struct segments segments = place->segments; /* they are written over, and may be needed again */
    place->level = (enum effort_level)atomic_load(&a->level);
    unsigned char *to = place->level == EFFORT_RAW ? place->room : raw; /* it stays as it is */
    if (slot_chunk_read(a->slot, a->sum, place->index, to, &place->raw_bytes, NULL) != TIDE_OK)
        return FAILED;
    encoder_effort(encoder, place->level);
    encode_chunk(encoder, to, place->raw_bytes, &segments, place->room, &place->codec, &place->length);
    return DONE;
}

/* A waiter that has made `flag` true and looked again. */
static void wake(atomic_bool *flag, sem_t *waiter)
{
    if (atomic_exchange(flag, false))
        sem_post(waiter);
}

/* Nonzero: in time. */
static int wait_until(sem_t *on, uint64_t until_ns)
{
    const struct timespec until = {.tv_sec = (time_t)(until_ns / NS_PER_S), .tv_nsec = (long)(until_ns % NS_PER_S)};
    return sem_clockwait(on, CLOCK_MONOTONIC, &until) == 0;
}

/* ---- helpers ---- */

static int wanted(const struct helper *h)
{
    return h->number < atomic_load(&h->ahead->allowed) && !atomic_load(&h->ahead->stop);
}

/* Nonzero: it was not waited for. */
static int help(struct helper *h, struct place *place)
{
    int late = !swap(place, BUSY, encode(h->ahead, place, h->encoder, h->raw));
    if (late)
        atomic_store(&place->state, FREE);
    wake(&h->ahead->waiting, &h->ahead->done);
    return late;
}

static void sleep_until_wanted(struct helper *h)
{
    struct ahead *a = h->ahead;
    atomic_store(&h->asleep, true);
    for (unsigned i = 0; wanted(h) && i < AHEAD_PLACES; i++)
        if (given(&a->places[i]))
            wake(&h->asleep, &h->wake);
    if (!atomic_load(&a->stop))
        (void)wait_until(&h->wake, clock_mono_ns() + IDLE_NS);
    atomic_store(&h->asleep, false);
}

static void *helper_run(void *context)
{
    struct helper *h = context;
    const struct sched_param lowest = {0};
    uint64_t rest_ns = REST_NS_MIN;
    /* Training's threads go first. Where it is refused it is only less polite. */
    (void)pthread_setschedparam(pthread_self(), SCHED_IDLE, &lowest);
    while (!atomic_load(&h->ahead->stop)) {
        struct place *place = wanted(h) ? take(h->ahead) : NULL;
        if (place == NULL) {
            sleep_until_wanted(h);
        } else if (help(h, place)) {
            (void)wait_until(&h->wake, clock_mono_ns() + rest_ns);
            rest_ns = 2 * rest_ns < REST_NS_MAX ? 2 * rest_ns : REST_NS_MAX;
        } else {
            rest_ns = REST_NS_MIN;
        }
    }
    return NULL;
}

/* ---- the leader ---- */

struct ahead *ahead_create(const struct slot *slot, const struct slot_sum *sum, struct encoder *encoder, unsigned char *raw,
                           enum effort_level level)
{
    struct ahead *a = mem_try_alloc(sizeof *a);
    if (a == NULL)
        return NULL;
    a->slot = slot;
    a->sum = sum;
    a->encoder = encoder;
    a->raw = raw;
    atomic_store(&a->level, (int)level);
    sem_init(&a->done, 0, 0);
    return a;
}

static void helper_release(struct helper *h)
{
    encoder_free(h->encoder);
    mem_free(h->raw);
    sem_destroy(&h->wake);
}

void ahead_free(struct ahead *a)
{
    const struct sched_param own = {0};
    if (a == NULL)
        return;
    atomic_store(&a->stop, true);
    for (unsigned i = 0; i < a->helper_count; i++) {
        /* Who is waited for should not wait; this needs a privilege. */
        (void)pthread_setschedparam(a->helpers[i].thread, SCHED_OTHER, &own);
        sem_post(&a->helpers[i].wake);
    }
    for (unsigned i = 0; i < a->helper_count; i++) {
        pthread_join(a->helpers[i].thread, NULL);
        helper_release(&a->helpers[i]);
    }
    for (unsigned i = 0; i < a->place_count; i++)
        mem_free(a->places[i].room);
    sem_destroy(&a->done);
    mem_free(a);
}

/* Nonzero: there is no memory. */
static int widen(struct ahead *a, unsigned count)
{
    for (; a->place_count < count; a->place_count++) {
        a->places[a->place_count].room = mem_try_alloc(CHUNK_BYTES);
        if (a->places[a->place_count].room == NULL)
            return -1;
    }
    return 0;
}

static int helper_begin(struct ahead *a)
{
    struct helper *h = &a->helpers[a->helper_count];
    *h = (struct helper){.ahead = a, .number = a->helper_count, .raw = mem_try_alloc(CHUNK_BYTES)};
    sem_init(&h->wake, 0, 0);
    if (h->raw != NULL && encoder_create(&h->encoder, NULL) == TIDE_OK && widen(a, 2 * (a->helper_count + 1) + 2) == 0 &&
        thread_begin(&h->thread, helper_run, h) == 0)
        return 0;
    helper_release(h);
    return -1;
}

unsigned ahead_helpers(struct ahead *a, unsigned most)
{
    atomic_store(&a->allowed, most);
    while (a->helper_count < most && a->helper_count < HELPERS_MAX && !a->no_more) {
        a->no_more = helper_begin(a) != 0;
        a->helper_count += !a->no_more;
    }
    return a->helper_count;
}

static void wake_one(struct ahead *a)
{
    for (unsigned i = 0; i < a->helper_count && i < atomic_load(&a->allowed); i++)
        if (atomic_load(&a->helpers[i].asleep)) {
            wake(&a->helpers[i].asleep, &a->helpers[i].wake);
            return;
        }
}

static struct place *in_turn(const struct ahead *a, unsigned i)
{
    return a->queue[(a->head + i) % AHEAD_PLACES];
}

void ahead_effort(struct ahead *a, enum effort_level level)
{
    if (atomic_exchange(&a->level, (int)level) == (int)level)
        return;
    a->chunk_ns = 0; /* with other efforts it takes another time */
    for (unsigned i = 0; i < a->count; i++) {
        struct place *place = in_turn(a, i);
        if (atomic_load(&place->state) == DONE && place->level != level) {
            atomic_store(&place->state, GIVEN);
            wake_one(a);
        }
    }
}

int ahead_give(struct ahead *a, uint64_t index, const struct segments *segments)
{
    struct place *place = NULL;
    for (unsigned i = 0; i < a->place_count && place == NULL; i++)
        if (atomic_load(&a->places[i].state) == FREE)
            place = &a->places[i];
    if (place == NULL)
        return 0;
    place->index = index;
    place->segments = *segments;
    atomic_store(&place->turn, a->turns++);
    a->queue[(a->head + a->count++) % AHEAD_PLACES] = place;
    atomic_store(&place->state, GIVEN);
    wake_one(a);
    return 1;
}

/* Nonzero: it did one. */
static int lend_a_hand(struct ahead *a)
{
    struct place *place = take(a);
    if (place == NULL)
        return 0;
    uint64_t begin = clock_mono_ns();
    atomic_store(&place->state, encode(a, place, a->encoder, a->raw));
    uint64_t took = clock_mono_ns() - begin, before = a->chunk_ns - a->chunk_ns / CHUNK_NS_DECAY;
    a->chunk_ns = took > before ? took : before;
    return 1;
}

static uint64_t late_ns(const struct ahead *a)
{
    uint64_t late = a->chunk_ns * HELPER_LATE;
    if (a->chunk_ns == 0 || late > LATE_NS_MAX)
        return LATE_NS_MAX;
    return late < LATE_NS_MIN ? LATE_NS_MIN : late;
}

/* Until the place is not BUSY any more: LEFT, if that takes too long. */
static void wait_for(struct ahead *a, struct place *place)
{
    uint64_t until = clock_mono_ns() + late_ns(a);
    for (int in_time = 1; atomic_load(&place->state) == BUSY;) {
        atomic_store(&a->waiting, true);
        if (atomic_load(&place->state) == BUSY && in_time)
            in_time = wait_until(&a->done, until);
        else if (swap(place, BUSY, LEFT))
            break;
    }
    atomic_store(&a->waiting, false);
}

/* It is DONE as it should be, or the leader's to do. */
static void settle(struct ahead *a, struct place *place)
{
    for (;;) {
        int state = atomic_load(&place->state);
        if (state == DONE && place->level == (enum effort_level)atomic_load(&a->level))
            return;
        if (state != BUSY && (state != GIVEN || swap(place, GIVEN, MINE))) {
            if (state == DONE || state == FAILED)
                atomic_store(&place->state, MINE);
            return;
        }
        if (state == BUSY && !lend_a_hand(a))
            wait_for(a, place);
    }
}

unsigned ahead_count(const struct ahead *a)
{
    return a->count;
}

void ahead_first(struct ahead *a, struct ahead_chunk *ret_chunk)
{
    struct place *place = in_turn(a, 0);
    settle(a, place);
    *ret_chunk = (struct ahead_chunk){.index = place->index, .segments = place->segments};
    if (atomic_load(&place->state) == DONE) {
        ret_chunk->bytes = place->room;
        ret_chunk->raw_bytes = place->raw_bytes;
        ret_chunk->length = place->length;
        ret_chunk->codec = place->codec;
    }
}

void ahead_pop(struct ahead *a)
{
    struct place *place = in_turn(a, 0);
    a->head = (a->head + 1) % AHEAD_PLACES;
    a->count--;
    int state = atomic_load(&place->state);
    if (state == DONE || state == MINE)
        atomic_store(&place->state, FREE); /* else a helper has it yet, or had */
}
