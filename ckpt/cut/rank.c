/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/cut/rank.h"

#include <assert.h>
#include <tidemark/types.h>

#include "ckpt/base/mem.h"

#define NS_PER_MS UINT64_C(1000000)

/* The table of README.md, and it is executed: state and event give the next state. 0: the event means nothing here. */
#define TO(state) (CUT_RANK_##state + 1)
static const unsigned char table[CUT_RANK_STATES][CUT_RANK_EVENTS] = {
    [CUT_RANK_IDLE] = {[CUT_ON_ARM] = TO(ARMED), [CUT_ON_ABORT] = TO(ABORTING), [CUT_ON_FINISH] = TO(FINISHED)},
    [CUT_RANK_ARMED] = {[CUT_ON_ARM] = TO(ARMED),
                        [CUT_ON_GO] = TO(READY),
                        [CUT_ON_PASS] = TO(PASSED),
                        [CUT_ON_ABORT] = TO(ABORTING),
                        [CUT_ON_CLOSED] = TO(IDLE),
                        [CUT_ON_FINISH] = TO(FINISHED)},
    [CUT_RANK_READY] = {[CUT_ON_PASS] = TO(PASSED),
                        [CUT_ON_RECORD] = TO(RECORDING),
                        [CUT_ON_FLIP] = TO(DRAINING),
                        [CUT_ON_ABORT] = TO(ABORTING),
                        [CUT_ON_FINISH] = TO(FINISHED)},
    [CUT_RANK_PASSED] = {[CUT_ON_ARM] = TO(ARMED),
                         [CUT_ON_ABORT] = TO(ABORTING),
                         [CUT_ON_CLOSED] = TO(IDLE),
                         [CUT_ON_FINISH] = TO(FINISHED)},
    [CUT_RANK_RECORDING] = {[CUT_ON_FLIP] = TO(DRAINING), [CUT_ON_ABORT] = TO(ABORTING)},
    [CUT_RANK_DRAINING] = {[CUT_ON_VOID] = TO(ABORTING), [CUT_ON_SETTLED] = TO(RECORDED), [CUT_ON_FINISH] = TO(FINISHED)},
    [CUT_RANK_RECORDED] = {[CUT_ON_CLOSED] = TO(IDLE), [CUT_ON_FINISH] = TO(FINISHED)},
    [CUT_RANK_ABORTING] = {[CUT_ON_VOID] = TO(ABORTING), [CUT_ON_SETTLED] = TO(ABORTED), [CUT_ON_FINISH] = TO(FINISHED)},
    [CUT_RANK_ABORTED] = {[CUT_ON_CLOSED] = TO(IDLE), [CUT_ON_FINISH] = TO(FINISHED)},
};
#undef TO

/* Nonzero when the event meant something. */
static int on(struct cut_rank *rank, enum cut_rank_event event)
{
    unsigned to = table[rank->state][event];
    if (to == 0)
        return 0;
    rank->state = to - 1;
    return 1;
}

static int may(const struct cut_rank *rank, enum cut_rank_event event)
{
    return table[rank->state][event] != 0;
}

const char *cut_rank_state_name(unsigned state)
{
    static const char *const names[CUT_RANK_STATES] = {
        [CUT_RANK_IDLE] = "idle",         [CUT_RANK_ARMED] = "armed",         [CUT_RANK_READY] = "ready",
        [CUT_RANK_PASSED] = "passed",     [CUT_RANK_RECORDING] = "recording", [CUT_RANK_DRAINING] = "draining",
        [CUT_RANK_RECORDED] = "recorded", [CUT_RANK_ABORTING] = "aborting",   [CUT_RANK_ABORTED] = "aborted",
        [CUT_RANK_FINISHED] = "finished"};
    return state < CUT_RANK_STATES ? names[state] : "unknown";
}

enum tide_status cut_rank_init(struct cut_rank *rank, uint32_t self, uint32_t world, struct err *err)
{
    if (world == 0 || world > TIDE_RANKS_MAX || self >= world)
        return err_set(err, TIDE_E_LIMIT, "rank %u of a world of %u; at most %d ranks can be cut", self, world,
                       TIDE_RANKS_MAX);
    struct cut_peer *peers = mem_try_array(world, sizeof *peers);
    if (peers == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to count the messages of %u ranks", world);
    *rank = (struct cut_rank){.rank = self, .world = world, .peers = peers};
    return TIDE_OK;
}

void cut_rank_release(struct cut_rank *rank)
{
    mem_free(rank->peers);
    rank->peers = NULL;
}

/* ---- orders ---- */

static unsigned look_behind(struct cut_rank *rank, const struct cut_words *w)
{
    unsigned acts = 0;
    if (w->settled_epoch >= rank->epoch && on(rank, CUT_ON_SETTLED))
        acts |= CUT_ACT_RELEASE;
    if (cut_rank_copies(rank) && w->closed_epoch >= rank->epoch && on(rank, CUT_ON_CLOSED))
        acts |= CUT_ACT_PLAIN;
    return acts;
}

static unsigned look_ahead(struct cut_rank *rank, const struct cut_words *w)
{
    unsigned acts = 0;
    /* Given up before go: nobody has flipped, nobody will. */
    if (rank->aim > 0 && w->closed_epoch >= rank->aim && w->go_epoch < rank->aim && w->flip_epoch < rank->aim &&
        on(rank, CUT_ON_CLOSED))
        rank->aim = 0;
    if (w->armed_epoch > rank->epoch && w->armed_epoch > w->closed_epoch && w->armed_epoch > rank->aim &&
        on(rank, CUT_ON_ARM)) {
        rank->aim = w->armed_epoch;
        acts |= CUT_ACT_POLLING;
    }
    if (rank->aim > 0 && w->armed_epoch == rank->aim && w->armed_step != STEP_TAKEN) {
        /* Its own doing at a safe point, or its agent's; or its agent is not done with arming. */
        if (w->armed_step == STEP_NONE)
            on(rank, CUT_ON_PASS);
        else if (rank->state == CUT_RANK_PASSED)
            on(rank, CUT_ON_ARM);
    }
    if (rank->aim > 0 && w->go_epoch >= rank->aim) {
        on(rank, CUT_ON_GO);
        if (rank->state == CUT_RANK_PASSED)
            acts |= CUT_ACT_FLIP;
    }
    if (w->flip_epoch > rank->epoch && w->flip_epoch >= rank->aim && may(rank, CUT_ON_ABORT)) {
        rank->aim = w->flip_epoch;
        acts |= CUT_ACT_FLIP;
    }
    return acts;
}

unsigned cut_rank_look(struct cut_rank *rank, const struct cut_words *words)
{
    if (rank->state == CUT_RANK_RECORDING || rank->state == CUT_RANK_FINISHED)
        return 0;
    return look_behind(rank, words) | look_ahead(rank, words);
}

/* ---- safe points and flips ---- */

int cut_rank_record(struct cut_rank *rank)
{
    return on(rank, CUT_ON_RECORD) ? 0 : -1;
}

/* Here and not with each message, which counts once. */
static void sum_up(struct cut_rank *rank)
{
    rank->sent_before = rank->arrived_before = 0;
    for (uint32_t i = 0; i < rank->world; i++) {
        rank->sent_before += rank->peers[i].sent;
        rank->arrived_before += rank->peers[i].arrived;
    }
}

void cut_rank_flip(struct cut_rank *rank, uint64_t epoch, int recorded)
{
    struct cut_peer *self = &rank->peers[rank->rank];
    assert(epoch > rank->epoch);
    int whole = recorded && on(rank, CUT_ON_FLIP);
    int done = whole || on(rank, CUT_ON_ABORT);
    assert(done);
    sum_up(rank);
    rank->epoch = epoch;
    rank->aim = 0;
    rank->colour ^= 1;
    rank->recorded = whole;
    rank->hold_since_ns = 0;
    self->bookmark = self->sent;
    self->bookmark_epoch = epoch;
    self->bookmark_recorded = whole;
}

void cut_rank_void(struct cut_rank *rank)
{
    on(rank, CUT_ON_VOID);
}

void cut_rank_finish(struct cut_rank *rank)
{
    if (rank->state != CUT_RANK_FINISHED && !cut_rank_copies(rank))
        sum_up(rank);
    on(rank, CUT_ON_FINISH);
    rank->aim = 0;
}

void cut_rank_sums(const struct cut_rank *rank, uint64_t *ret_sent, uint64_t *ret_arrived)
{
    *ret_sent = rank->sent_before;
    *ret_arrived = rank->arrived_before;
}

/* ---- bookmarks ---- */

int cut_rank_bookmark_due(struct cut_rank *rank, uint32_t peer, struct cut_bookmark *ret_bookmark)
{
    struct cut_peer *p = &rank->peers[peer];
    if (!cut_rank_copies(rank) || peer == rank->rank || p->told_epoch == rank->epoch)
        return 0;
    if (p->due_epoch != rank->epoch) {
        p->due_epoch = rank->epoch;
        p->due_count = p->sent;
    }
    *ret_bookmark = (struct cut_bookmark){.epoch = rank->epoch, .count = p->due_count, .recorded = rank->recorded != 0};
    return 1;
}

void cut_rank_bookmark_told(struct cut_rank *rank, uint32_t peer)
{
    rank->peers[peer].told_epoch = rank->epoch;
}

int cut_rank_bookmark(struct cut_rank *rank, uint32_t peer, const struct cut_bookmark *bookmark)
{
    struct cut_peer *p = &rank->peers[peer];
    if (bookmark->epoch <= p->bookmark_epoch || bookmark->epoch < rank->epoch)
        return 0;
    p->bookmark = bookmark->count;
    p->bookmark_epoch = bookmark->epoch;
    p->bookmark_recorded = bookmark->recorded != 0;
    return cut_rank_matches(rank) && cut_rank_hands_out(rank, peer);
}

/* ---- arrivals ---- */

int cut_rank_drained(const struct cut_rank *rank, uint32_t peer)
{
    const struct cut_peer *p = &rank->peers[peer];
    return !cut_rank_matches(rank) || (p->bookmark_epoch == rank->epoch && p->arrived >= p->bookmark);
}

int cut_rank_hands_out(const struct cut_rank *rank, uint32_t peer)
{
    int out = cut_rank_drained(rank, peer);
    if (rank->first_epoch != rank->epoch || cut_rank_is_first(rank, peer))
        return out;
    for (uint32_t i = 0; out && i < rank->world; i++)
        out = !cut_rank_is_first(rank, i) || cut_rank_drained(rank, i);
    return out;
}

void cut_rank_prefer(struct cut_rank *rank, uint32_t peer, uint64_t epoch)
{
    rank->peers[peer].first_epoch = rank->first_epoch = epoch;
}

void cut_rank_prefer_over(struct cut_rank *rank, uint32_t peer)
{
    rank->peers[peer].first_epoch = 0;
}

enum cut_take cut_rank_take(struct cut_rank *rank, uint32_t peer, unsigned colour)
{
    if (colour == rank->colour && !cut_rank_hands_out(rank, peer))
        return CUT_TAKE_HOLD;
    cut_rank_arrived(rank, peer);
    if (colour == rank->colour)
        return CUT_TAKE_DELIVER;
    return rank->state == CUT_RANK_DRAINING ? CUT_TAKE_LOG : CUT_TAKE_FORGET;
}

enum cut_bytes cut_rank_bytes(const struct cut_rank *rank, uint32_t peer)
{
    const struct cut_peer *p = &rank->peers[peer];
    if (rank->state != CUT_RANK_DRAINING)
        return CUT_BYTES_NEVER;
    if (p->bookmark_epoch != rank->epoch)
        return CUT_BYTES_LATER;
    return p->bookmark_recorded ? CUT_BYTES_TAKE : CUT_BYTES_NEVER;
}

void cut_rank_done(struct cut_rank *rank)
{
    rank->arrived_before++;
}

int cut_rank_early(struct cut_rank *rank, uint64_t now_ns)
{
    if (rank->aim == 0 || !may(rank, CUT_ON_ABORT))
        return 0;
    if (rank->hold_since_ns == 0)
        rank->hold_since_ns = now_ns;
    return now_ns - rank->hold_since_ns >= CUT_HOLD_MS * NS_PER_MS;
}
