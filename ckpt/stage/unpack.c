/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/unpack.h"

#include <pthread.h>
#include <stdbool.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/team.h"

#define PLACES 32u /* some for each thread, so that none is without while the leader decodes one */

enum place_state { GIVEN, BUSY, DONE, FAILED };

struct place {
    enum place_state state;
    uint64_t index;
    struct chunk chunk;
    const unsigned char *from; /* its stored form */
};

struct tools {
    struct encoder *decoder;
    unsigned char *room; /* CHUNK_BYTES */
};

struct unpack {
    const struct unpack_work *work;
    struct shard_reader *reader; /* the leader's, as all up to the lock */
    pthread_t leader;
    uint64_t index, count; /* the chunk that is given next; all chunks */
    enum tide_status status;
    struct err *err;
    pthread_mutex_t lock; /* all below, which the leader may read without where only the leader writes */
    pthread_cond_t given, settled, more; /* more: may help */
    struct place places[PLACES]; /* a ring, by turn */
    uint64_t first, next; /* turns that have begun and are not let go; the leader writes them */
    uint64_t taken;       /* turns that nobody need look at any more */
    struct tools tools[HELPERS_MAX];
    unsigned helpers, named; /* that have tools; that have begun */
    unsigned allowed;
    bool alone, over; /* nobody takes what is GIVEN: for now, or any more */
};

/* ---- on any thread, with the lock ---- */

static struct place *in_turn(struct unpack *u, uint64_t turn)
{
    return &u->places[turn % PLACES];
}

/* The first that nobody has taken, BUSY by now. NULL: there is none. */
static struct place *take(struct unpack *u)
{
    while (u->taken < u->next && !u->alone) {
        struct place *place = in_turn(u, u->taken++);
        if (place->state == GIVEN) {
            place->state = BUSY;
            return place;
        }
    }
    return NULL;
}

static int decode(const struct unpack *u, const struct place *place, const struct tools *tools)
{
    const unsigned char *bytes;
    uint32_t raw = chunk_raw_bytes(u->reader->manifest->data_bytes, place->index);
    return shard_decode(tools->decoder, tools->room, &place->chunk, place->from, raw, &bytes, NULL) != TIDE_OK ||
           u->work->use(u->work->context, place->index, bytes, place->chunk.digest) != 0;
}

/* The lock is given up while it decodes. */
static void do_one(struct unpack *u, struct place *place, const struct tools *tools)
{
    pthread_mutex_unlock(&u->lock);
    int failed = decode(u, place, tools);
    pthread_mutex_lock(&u->lock);
    place->state = failed ? FAILED : DONE;
}

/* ---- helpers ---- */

static void help(struct unpack *u)
{
    pthread_mutex_lock(&u->lock);
    const unsigned number = u->named++;
    while (!u->over) {
        struct place *place = number < u->allowed ? take(u) : NULL;
        if (number >= u->allowed) {
            pthread_cond_signal(&u->given); /* it may have been woken in the place of one that may */
            pthread_cond_wait(&u->more, &u->lock);
        } else if (place == NULL) {
            pthread_cond_wait(&u->given, &u->lock);
        } else {
            do_one(u, place, &u->tools[number]);
            pthread_cond_signal(&u->settled);
        }
    }
    pthread_mutex_unlock(&u->lock);
}

/* ---- the leader ---- */

/* Nonzero: it did one. */
static int lend_a_hand(struct unpack *u)
{
    const struct tools own = {.decoder = u->reader->encoder, .room = u->reader->raw};
    pthread_mutex_lock(&u->lock);
    struct place *place = take(u);
    if (place != NULL)
        do_one(u, place, &own);
    pthread_mutex_unlock(&u->lock);
    return place != NULL;
}

static int any_busy(struct unpack *u, uint64_t end)
{
    for (uint64_t turn = u->first; turn < end; turn++)
        if (in_turn(u, turn)->state == BUSY)
            return 1;
    return 0;
}

/* Until none of those whose turn is below `end` is BUSY. There is nothing that the leader could take meanwhile. */
static void wait_for(struct unpack *u, uint64_t end)
{
    pthread_mutex_lock(&u->lock);
    while (any_busy(u, end))
        pthread_cond_wait(&u->settled, &u->lock);
    pthread_mutex_unlock(&u->lock);
}

static enum place_state state_of(struct unpack *u, uint64_t turn)
{
    pthread_mutex_lock(&u->lock);
    enum place_state state = in_turn(u, turn)->state;
    pthread_mutex_unlock(&u->lock);
    return state;
}

static void be_alone(struct unpack *u, bool alone)
{
    pthread_mutex_lock(&u->lock);
    u->alone = alone;
    if (!alone)
        pthread_cond_broadcast(&u->given);
    pthread_mutex_unlock(&u->lock);
}

/* What is read again must not be looked at meanwhile. */
static void do_alone(struct unpack *u, uint64_t index)
{
    be_alone(u, true);
    wait_for(u, u->next);
    u->status = u->work->alone(u->work->context, index, u->err);
    be_alone(u, u->status != TIDE_OK);
}

/* All whose turn has come, and the memory of what they were read to. */
static void let_go(struct unpack *u)
{
    for (; u->status == TIDE_OK && u->first < u->next; u->first++) {
        enum place_state state = state_of(u, u->first);
        if (state == FAILED)
            do_alone(u, in_turn(u, u->first)->index);
        else if (state != DONE)
            break;
    }
    if (u->status == TIDE_OK)
        shard_reader_pass(u->reader, u->first < u->next ? in_turn(u, u->first)->index : u->index);
}

static void give_one(struct unpack *u, const struct place *place)
{
    pthread_mutex_lock(&u->lock);
    *in_turn(u, u->next++) = *place;
    pthread_cond_signal(&u->given);
    pthread_mutex_unlock(&u->lock);
    u->index = shard_wanted(u->reader, u->index + 1);
}

/* All that is here, as far as there are places. Returns where the next one is. */
static enum shard_where give(struct unpack *u)
{
    enum shard_where where = SHARD_LATER;
    while (u->index < u->count && u->next - u->first < PLACES) {
        struct place place = {.index = u->index};
        where = shard_look(u->reader, u->index, &place.chunk, &place.from);
        if (where == SHARD_UNDER_WAY || (where == SHARD_LATER && u->first < u->next))
            return where;
        place.state = where == SHARD_HERE ? GIVEN : FAILED;
        give_one(u, &place);
    }
    return SHARD_LATER;
}

/* Others may have come, or left. */
static void share_out(struct unpack *u)
{
    unsigned now = helpers_now(HELPERS_FETCH);
    pthread_mutex_lock(&u->lock);
    if (now > u->allowed)
        pthread_cond_broadcast(&u->more);
    u->allowed = now;
    pthread_mutex_unlock(&u->lock);
}

static void lead(struct unpack *u)
{
    for (;;) {
        share_out(u);
        let_go(u);
        if (u->status != TIDE_OK || (u->first == u->next && u->index >= u->count))
            break;
        enum shard_where next = give(u);
        if (lend_a_hand(u))
            continue;
        if (next == SHARD_UNDER_WAY)
            shard_await(u->reader, u->index);
        else
            wait_for(u, u->first + 1);
    }
    pthread_mutex_lock(&u->lock);
    u->over = true;
    pthread_cond_broadcast(&u->given);
    pthread_cond_broadcast(&u->more);
    pthread_mutex_unlock(&u->lock);
}

static void member(void *context)
{
    struct unpack *u = context;
    if (pthread_equal(pthread_self(), u->leader))
        lead(u);
    else
        help(u);
}

static void release_tools(struct tools *tools)
{
    encoder_free(tools->decoder);
    mem_free(tools->room);
}

/* Without memory there are fewer. */
static void find_helpers(struct unpack *u)
{
    unsigned most = helpers_most();
    most = u->count <= most ? (unsigned)(u->count > 0 ? u->count - 1 : 0) : most;
    for (; u->helpers < most; u->helpers++) {
        struct tools *tools = &u->tools[u->helpers];
        tools->room = mem_try_alloc(CHUNK_BYTES);
        if (tools->room == NULL || decoder_create(&tools->decoder, NULL) != TIDE_OK) {
            release_tools(tools);
            return;
        }
    }
}

enum tide_status unpack(const struct unpack_work *work, struct err *err)
{
    struct unpack u = {.work = work, .reader = work->reader, .leader = pthread_self(), .err = err};
    u.count = work->reader->manifest->chunks.count;
    u.index = shard_wanted(work->reader, 0);
    helpers_come(HELPERS_FETCH);
    find_helpers(&u);
    pthread_mutex_init(&u.lock, NULL);
    pthread_cond_init(&u.given, NULL);
    pthread_cond_init(&u.settled, NULL);
    pthread_cond_init(&u.more, NULL);
    team_run(1 + u.helpers, member, &u);
    pthread_cond_destroy(&u.more);
    pthread_cond_destroy(&u.settled);
    pthread_cond_destroy(&u.given);
    pthread_mutex_destroy(&u.lock);
    while (u.helpers > 0)
        release_tools(&u.tools[--u.helpers]);
    helpers_leave(HELPERS_FETCH);
    return u.status;
}
