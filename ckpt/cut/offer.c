/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/cut/offer.h"

#include <stdbool.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/cut/queue.h"

#define ROOM_FIRST 64u /* a power of two */

/* ---- what was sent ---- */

static struct cut_send *at(const struct cut_sends *sends, uint64_t position)
{
    return &sends->ring[position & (sends->room - 1)];
}

static void grow(struct cut_sends *sends)
{
    struct cut_sends grown = {.room = sends->room ? 2 * sends->room : ROOM_FIRST, .begin = sends->begin, .end = sends->end};
    grown.ring = mem_try_array(grown.room, sizeof *grown.ring);
    if (grown.ring == NULL)
        return;
    for (uint64_t i = sends->begin; i < sends->end; i++)
        *at(&grown, i) = *at(sends, i);
    mem_free(sends->ring);
    *sends = grown;
}

uint64_t cut_sends_add(struct cut_sends *sends, uint32_t peer, uint64_t comm, uint64_t number, int32_t tag)
{
    if (sends->end - sends->begin == sends->room && sends->room < CUT_SENDS_MAX)
        grow(sends);
    if (sends->room == 0)
        return CUT_SENDS_NONE;
    if (sends->end - sends->begin == sends->room)
        sends->begin++;
    *at(sends, sends->end) = (struct cut_send){.comm = comm, .number = number, .peer = peer, .tag = tag};
    return sends->end++;
}

const struct cut_send *cut_sends_at(const struct cut_sends *sends, uint64_t position)
{
    return position >= sends->begin && position < sends->end ? at(sends, position) : NULL;
}

void cut_sends_clear(struct cut_sends *sends)
{
    mem_free(sends->ring);
    *sends = (struct cut_sends){.begin = sends->end, .end = sends->end};
}

/* ---- what it gets ---- */

static bool fits(const struct cut_offer *offer, int32_t tag)
{
    return offer->tag == CUT_ANY || offer->tag == tag;
}

/* MPI's rule: of those that fit the one that was posted first. */
static bool take(const struct cut_offers *offers, int32_t tag, bool certain)
{
    for (uint32_t i = 0; i < offers->count; i++) {
        struct cut_offer *offer = &offers->offers[i];
        if (offer->taken || !fits(offer, tag) || (certain && offer->any_source))
            continue;
        offer->taken = 1;
        return true;
    }
    return false;
}

/* One before it may have been received already, and what that would have got is left for it. */
static bool may_be_left(const struct cut_offers *offers, int32_t tag)
{
    for (uint32_t i = 0; offers->vague && i < offers->count; i++) {
        if (fits(&offers->offers[i], tag))
            return true;
    }
    return false;
}

/* Those that had not arrived get the receives in the order in which they were sent.
 *
 * Certain: as if all receives of any source went to others. One more receive never leaves a message without one that had one
 * before: at each step of the rule the receives that are left are the same, or one more. */
static void meet_certainly(const struct cut_offers *offers, struct cut_sends *sends, uint32_t peer)
{
    uint64_t next = offers->arrived + 1;
    for (uint64_t i = sends->begin; i < sends->end; i++) {
        struct cut_send *send = at(sends, i);
        if (send->peer != peer || send->comm != offers->comm || send->number <= offers->arrived)
            continue;
        if (send->number != next++)
            return; /* one is not remembered, and nobody knows what it gets */
        if (take(offers, send->tag, true))
            send->meets = CUT_MEETS;
    }
}

/* What was told before does not count any more: others may have got it. */
static void meet_perhaps(const struct cut_offers *offers, struct cut_sends *sends, uint32_t peer)
{
    for (uint64_t i = sends->begin; i < sends->end; i++) {
        struct cut_send *send = at(sends, i);
        if (send->peer != peer || send->comm != offers->comm)
            continue;
        bool there = send->number > offers->arrived && (take(offers, send->tag, false) || may_be_left(offers, send->tag));
        if (send->meets != CUT_MEETS)
            send->meets = there ? CUT_MEETS_MAYBE : CUT_MEETS_NOT;
    }
}

static void none_is_taken(const struct cut_offers *offers)
{
    for (uint32_t i = 0; i < offers->count; i++)
        offers->offers[i].taken = 0;
}

void cut_offers_meet(const struct cut_offers *offers, struct cut_sends *sends, uint32_t peer)
{
    none_is_taken(offers);
    if (!offers->vague)
        meet_certainly(offers, sends, peer);
    none_is_taken(offers);
    meet_perhaps(offers, sends, peer);
}

/* ---- what its sender does meanwhile ---- */

static bool is_due(uint64_t asked_ns, uint64_t now_ns)
{
    return asked_ns == 0 || now_ns - asked_ns >= CUT_ASK_AGAIN_MS * NS_PER_MS;
}

int cut_call_waits_for(const struct cut_call *call, uint32_t self, uint64_t entered)
{
    if (call->number == 0)
        return 1;
    return (call->root == CUT_CALL_OF_ALL || call->root == self) && entered < call->number;
}

enum cut_unmet_act cut_offers_unmet(const struct cut_unmet *unmet, uint64_t now_ns)
{
    uint64_t waited = now_ns - unmet->since_ns;
    bool maybe = unmet->meets == CUT_MEETS_MAYBE, flip = maybe && waited >= CUT_HOLD_MS * NS_PER_MS;
    bool blocked = unmet->told_blocked && (unmet->told_flipped || !unmet->has_flipped); /* who has flipped since has looked */
    if (unmet->meets == CUT_MEETS)
        return CUT_UNMET_DONE;
    if (maybe && blocked && waited >= (unmet->waits_for_us ? CUT_ASSUME_AFTER_MS : CUT_ASSUME_AT_LAST_MS) * NS_PER_MS)
        return CUT_UNMET_ASSUMED;
    if (flip && blocked)
        return is_due(unmet->asked_all_ns, now_ns) ? CUT_UNMET_ASKS_ALL_TO_FLIP : CUT_UNMET_WAITS;
    if (unmet->has_flipped || waited < CUT_ASK_AFTER_MS * NS_PER_MS)
        return CUT_UNMET_WAITS;
    if (!is_due(flip ? unmet->asked_to_flip_ns : unmet->asked_ns, now_ns))
        return CUT_UNMET_WAITS;
    return flip ? CUT_UNMET_ASKS_TO_FLIP : CUT_UNMET_ASKS;
}
