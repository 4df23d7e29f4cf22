/* SPDX-License-Identifier: Apache-2.0 */
/* What the caller asks for, and what becomes of it. */
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/member_inner.h"

/* ---- proposals under way ---- */

static void own_add(struct member *member, uint64_t index, uint64_t term, void *cookie)
{
    struct own *own = mem_alloc(sizeof *own);
    *own = (struct own){.index = index, .term = term, .cookie = cookie};
    *member->own_end = own;
    member->own_end = &own->next;
}

static void *own_take(struct own **at)
{
    struct own *own = *at;
    void *cookie = own->cookie;
    *at = own->next;
    mem_free(own);
    return cookie;
}

/* An orphan's index is decided: either it is the entry that was proposed, or it never will be. */
static void *orphan_committed(struct member *member, uint64_t index, uint64_t term)
{
    void *found = NULL;
    for (struct own **at = &member->orphans; *at != NULL;) {
        if ((*at)->index != index) {
            at = &(*at)->next;
            continue;
        }
        bool same = (*at)->term == term;
        void *cookie = own_take(at);
        if (same)
            found = cookie;
        else
            note_failed(member, cookie, TIDE_E_UNAVAILABLE,
                        "the leadership changed before the command was committed; it was not done");
    }
    return found;
}

void *own_committed(struct member *member, uint64_t index, uint64_t term)
{
    if (member->orphans != NULL) {
        void *cookie = orphan_committed(member, index, term);
        if (cookie != NULL)
            return cookie;
    }
    /* Of another term: the entry of a later leader, in the place of ours, which own_lost will look at. */
    if (member->own == NULL || member->own->index != index || member->own->term != term)
        return NULL;
    void *cookie = own_take(&member->own);
    if (member->own == NULL)
        member->own_end = &member->own;
    return cookie;
}

void own_lost(struct member *member)
{
    if (member->own == NULL)
        return;
    uint64_t now = clock_mono_ns();
    for (struct own *own = member->own; own != NULL; own = own->next)
        own->lost_ns = now;
    *member->own_end = member->orphans;
    member->orphans = member->own;
    member->own = NULL;
    member->own_end = &member->own;
}

static void own_unknown(struct member *member, struct own **at)
{
    note_failed(member, own_take(at), TIDE_E_TIMEOUT,
                "the leadership was lost while the command was being written; whether it will be done is unknown");
}

void own_expire(struct member *member, uint64_t now_ns, uint64_t age_ns)
{
    for (struct own **at = &member->orphans; *at != NULL;)
        if (now_ns - (*at)->lost_ns >= age_ns)
            own_unknown(member, at);
        else
            at = &(*at)->next;
}

void own_overtaken(struct member *member, uint64_t index)
{
    for (struct own **at = &member->orphans; *at != NULL;)
        if ((*at)->index <= index)
            own_unknown(member, at);
        else
            at = &(*at)->next;
}

/* ---- proposals ---- */

static void propose_batch(struct member *member, const struct order *orders, size_t count)
{
    struct raft_entry *entries = mem_array(count, sizeof *entries);
    struct err err = {0};
    for (size_t i = 0; i < count; i++)
        entries[i] = (struct raft_entry){.type = RAFT_COMMAND, .blob = orders[i].blob};
    struct raft_event event = {.kind = RAFT_EV_PROPOSE, .entries = entries, .count = count};
    struct raft_update update = {0};
    enum tide_status status = raft_step(member->raft, &event, &update, &err);
    /* Before the update is looked at: a group of one may commit in the same step. */
    for (size_t i = 0; i < count; i++) {
        if (status == TIDE_OK)
            own_add(member, entries[i].index, entries[i].term, orders[i].cookie);
        else
            note_refused(member, orders[i].cookie, &err);
        raft_blob_unref(orders[i].blob);
    }
    mem_free(entries);
    if (status == TIDE_E_CORRUPT)
        member_broken(member, &err);
    member_take(member, &update);
}

void orders_flush(struct member *member)
{
    struct orders *waiting = &member->waiting;
    if (member->transferring)
        return;
    for (size_t at = 0; at < waiting->count;) {
        size_t count = waiting->count - at < MEMBER_BATCH_MAX ? waiting->count - at : MEMBER_BATCH_MAX;
        propose_batch(member, waiting->items + at, count);
        at += count;
    }
    waiting->count = 0;
}

void orders_fail_waiting(struct member *member, enum tide_status status, const char *why)
{
    for (size_t i = 0; i < member->waiting.count; i++) {
        note_failed(member, member->waiting.items[i].cookie, status, "%s", why);
        raft_blob_unref(member->waiting.items[i].blob);
    }
    member->waiting.count = 0;
}

static void wait_for_batch(struct member *member, const struct order *order)
{
    struct orders *waiting = &member->waiting;
    if (waiting->count == waiting->room) {
        waiting->room = waiting->room ? waiting->room * 2 : MEMBER_BATCH_MAX;
        waiting->items = mem_grow(waiting->items, waiting->room, sizeof *waiting->items);
    }
    waiting->items[waiting->count++] = *order;
}

/* ---- transfer ---- */

bool transfer_begin(struct member *member, uint64_t to, void *cookie, struct err *err)
{
    struct raft_event event = {.kind = RAFT_EV_TRANSFER, .number = to};
    if (member->transferring) {
        err_set(err, TIDE_E_STATE, "the leadership is being handed over already");
        return false;
    }
    if (member_step(member, &event, err) != TIDE_OK)
        return false;
    member->transferring = true;
    member->transfer_cookie = cookie;
    member->transfer_until_ns = clock_mono_ns() + MEMBER_TRANSFER_MS * NS_PER_MS;
    return true;
}

static void transfer_end(struct member *member, enum tide_status status, const char *words)
{
    member->transferring = false;
    if (member->transfer_cookie != NULL)
        note_failed(member, member->transfer_cookie, status, "%s", words);
    member->transfer_cookie = NULL;
    orders_flush(member);
}

void transfer_look(struct member *member, uint64_t now_ns)
{
    struct raft_status status;
    if (!member->transferring)
        return;
    raft_get_status(member->raft, &status);
    if (status.role != RAFT_LEADER && status.leader != 0 && status.leader != status.id)
        transfer_end(member, TIDE_OK, "");
    else if (status.role == RAFT_LEADER && !status.transferring)
        transfer_end(member, TIDE_E_UNAVAILABLE, "the other member did not take over in time; this one leads on");
    else if (now_ns > member->transfer_until_ns)
        transfer_end(member, TIDE_E_TIMEOUT, "no member is known to have taken over; ask for the cluster's status");
}

/* ---- orders ---- */

static void do_change(struct member *member, struct order *order)
{
    static const unsigned kinds[] = {
        [MEMBER_ADD] = RAFT_EV_ADD,
        [MEMBER_PROMOTE] = RAFT_EV_PROMOTE,
        [MEMBER_REMOVE] = RAFT_EV_REMOVE,
        [MEMBER_UPDATE] = RAFT_EV_UPDATE,
    };
    struct err err = {0};
    if (order->change == MEMBER_TRANSFER) {
        if (!transfer_begin(member, order->who->id, order->cookie, &err))
            note_refused(member, order->cookie, &err);
        return;
    }
    struct raft_event event = {.kind = kinds[order->change], .number = order->who->id, .member = order->who};
    struct raft_update update = {0};
    enum tide_status status = raft_step(member->raft, &event, &update, &err);
    if (status == TIDE_E_CORRUPT)
        member_broken(member, &err);
    if (status == TIDE_OK)
        own_add(member, event.number, raft_term_at(member->raft, event.number), order->cookie);
    else
        note_refused(member, order->cookie, &err);
    member_take(member, &update);
}

static void do_snapshot(struct member *member, const struct order *order)
{
    struct err err = {0};
    struct raft_event event = {
        .kind = RAFT_EV_SNAPSHOT, .number = order->index, .total = order->total, .digest = order->digest};
    if (member_step(member, &event, &err) != TIDE_OK)
        log_warn("the core does not want the snapshot of index %" PRIu64 ": %s", order->index, err.text);
    if (order->compact_through != 0)
        journal_compact(member, order->compact_through);
}

/* All reads of one turn go under one number. */
static void do_reads(struct member *member, struct reads *reads)
{
    struct err err = {0};
    if (reads == NULL)
        return;
    reads->number = ++member->read_number;
    reads->next = member->reads;
    member->reads = reads;
    struct raft_event event = {.kind = RAFT_EV_READ, .number = reads->number};
    if (member_step(member, &event, &err) != TIDE_OK)
        reads_decided(member, &(struct raft_read){.number = event.number});
}

static struct reads *reads_add(struct reads *reads, void *cookie)
{
    if (reads == NULL)
        reads = mem_alloc(sizeof *reads);
    if (reads->count == reads->room) {
        reads->room = reads->room ? reads->room * 2 : 8;
        reads->cookies = mem_grow(reads->cookies, reads->room, sizeof *reads->cookies);
    }
    reads->cookies[reads->count++] = cookie;
    return reads;
}

static void reads_answer(struct member *member, struct reads **at, bool permitted)
{
    struct reads *reads = *at;
    *at = reads->next;
    for (size_t i = 0; i < reads->count; i++)
        member_note(member, &(struct note){.kind = NOTE_READ, .cookie = reads->cookies[i], .permitted = permitted});
    mem_free(reads->cookies);
    mem_free(reads);
}

void reads_decided(struct member *member, const struct raft_read *read)
{
    for (struct reads **at = &member->reads; *at != NULL; at = &(*at)->next) {
        if ((*at)->number != read->number)
            continue;
        (*at)->decided = true;
        (*at)->index = read->index;
        if (!read->permitted || read->index <= member->applied)
            reads_answer(member, at, read->permitted);
        return;
    }
}

void reads_look(struct member *member)
{
    for (struct reads **at = &member->reads; *at != NULL;)
        if ((*at)->decided && (*at)->index <= member->applied)
            reads_answer(member, at, true);
        else
            at = &(*at)->next;
}

void reads_refuse(struct member *member)
{
    while (member->reads != NULL)
        reads_answer(member, &member->reads, false);
}

static void do_stop(struct member *member, bool hand_over)
{
    struct err err = {0};
    member->stopping = true;
    if (hand_over && member->turn.role == RAFT_LEADER && raft_config_voters(raft_config_of(member->raft)) > 1 &&
        !member->transferring && !transfer_begin(member, 0, NULL, &err))
        log_warn("the leadership is not handed over: %s", err.text);
}

void orders_take(struct member *member)
{
    pthread_mutex_lock(&member->lock);
    struct orders empty = member->mine;
    member->mine = member->orders;
    member->orders = (struct orders){.items = empty.items, .room = empty.room};
    pthread_mutex_unlock(&member->lock);
    struct reads *reads = NULL;
    for (size_t i = 0; i < member->mine.count; i++) {
        struct order *order = &member->mine.items[i];
        if (order->kind == ORDER_PROPOSE)
            wait_for_batch(member, order);
        else if (order->kind == ORDER_READ)
            reads = reads_add(reads, order->cookie);
        else if (order->kind == ORDER_CHANGE)
            do_change(member, order);
        else if (order->kind == ORDER_SNAPSHOT)
            do_snapshot(member, order);
        else if (order->kind == ORDER_LOOK)
            journal_look(member);
        else
            do_stop(member, order->hand_over);
        mem_free(order->who);
    }
    member->mine.count = 0;
    orders_flush(member);
    do_reads(member, reads);
}
