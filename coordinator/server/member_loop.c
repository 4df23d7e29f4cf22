/* SPDX-License-Identifier: Apache-2.0 */
/* The member's thread: events into the core, and what comes out of it. */
#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/member_inner.h"

/* ---- what comes out ---- */

static void hand_restored(struct member *member, uint64_t index)
{
    struct restored *restored = member->installed;
    assert(restored != NULL && restored->index == index);
    member->installed = NULL;
    member->applied = index;
    own_overtaken(member, index);
    log_info("the state is now that of the leader's snapshot of index %" PRIu64, index);
    member_note(member, &(struct note){.kind = NOTE_RESTORED, .restored = restored});
}

static void hand_committed(struct member *member, uint64_t commit)
{
    while (member->applied < commit) {
        const struct raft_entry *e = raft_entry_at(member->raft, member->applied + 1);
        if (e == NULL)
            member_fatal("a committed entry is not in memory", &(struct err){.text = "a defect of tidemarkd"});
        member->applied = e->index;
        if (e->type == RAFT_CONFIG)
            peers_forget(member, e);
        struct member_entry entry = {.index = e->index,
                                     .term = e->term,
                                     .type = e->type,
                                     .blob = raft_blob_ref(e->blob),
                                     .cookie = own_committed(member, e->index, e->term)};
        member_note(member, &(struct note){.kind = NOTE_COMMITTED, .entry = entry});
    }
}

/* The leadership under which something was proposed is over. */
static void leave_own(struct member *member)
{
    struct raft_status status;
    raft_get_status(member->raft, &status);
    if (member->turn.role == RAFT_LEADER && (status.role != RAFT_LEADER || status.term != member->turn.term))
        own_lost(member);
}

void hand_turn(struct member *member)
{
    struct raft_status status;
    raft_get_status(member->raft, &status);
    struct member_turn turn = {.role = status.role,
                               .term = status.term,
                               .leader = status.leader,
                               .later = member->later,
                               .ready = status.ready && status.commit == member->applied};
    const struct raft_member *leader = raft_config_member(raft_config_of(member->raft), status.leader);
    if (leader != NULL)
        text_copy(turn.api, sizeof turn.api, leader->api);
    struct member_turn *last = &member->turn;
    if (turn.role == last->role && turn.term == last->term && turn.leader == last->leader && turn.ready == last->ready &&
        turn.later == last->later && strcmp(turn.api, last->api) == 0)
        return;
    if (turn.role != last->role || turn.leader != last->leader)
        log_info("member %" PRIu64 " is %s in term %" PRIu64 "; leader: %" PRIu64, member->id, raft_role_name(turn.role),
                 turn.term, turn.leader);
    bool another = turn.leader != last->leader;
    *last = turn;
    if (another)
        peers_turned(member);
    struct member_turn *copy = mem_alloc(sizeof *copy);
    *copy = turn;
    member_note(member, &(struct note){.kind = NOTE_TURNED, .turn = copy});
}

/* For whoever asks how it stands; from another thread. */
static void publish(struct member *member)
{
    struct member_status status = {0};
    raft_get_status(member->raft, &status.raft);
    status.config = *raft_config_of(member->raft);
    pthread_mutex_lock(&member->log.lock);
    status.log_bytes = member->log.log_bytes;
    status.free_bytes = atomic_load(&member->free_bytes);
    status.sync_us = member->log.sync_us;
    status.sync_ns = member->log.sync_ns;
    status.syncing_ns = member->log.syncing_ns;
    status.sync_us_max = member->log.sync_us_max;
    pthread_mutex_unlock(&member->log.lock);
    peers_status(member, &status);
    pthread_mutex_lock(&member->lock);
    member->status = status;
    pthread_mutex_unlock(&member->lock);
}

void member_take(struct member *member, struct raft_update *update)
{
    if (update->write.number != 0)
        journal_write(member, &update->write);
    for (size_t i = 0; i < update->message_count; i++)
        peers_send(member, &update->messages[i]);
    /* One message of a later leader may end this one's office and commit other entries in the place of its own: what was
     * proposed must be known as orphaned before any of them is handed out. */
    if (update->role_changed)
        leave_own(member);
    if (update->restore != 0)
        hand_restored(member, update->restore);
    bool news = update->role_changed || update->config_changed;
    if (news) /* before anybody hears that it was done: who then asks must find it so */
        publish(member);
    if (update->commit > member->applied) {
        hand_committed(member, update->commit);
        news = news || !member->turn.ready;
        reads_look(member);
    }
    for (size_t i = 0; i < update->read_count; i++)
        reads_decided(member, &update->reads[i]);
    if (update->config_changed)
        peers_follow(member);
    if (news)
        hand_turn(member);
    if (update->chunk.snapshot.index != 0)
        image_chunk(member, &update->chunk);
    raft_update_release(update);
}

enum tide_status member_step(struct member *member, struct raft_event *event, struct err *err)
{
    struct raft_update update = {0};
    if (member->later != 0)
        return err_set(err, TIDE_E_UNAVAILABLE, "this member was left behind when the group was recovered");
    enum tide_status status = raft_step(member->raft, event, &update, err);
    if (status == TIDE_E_CORRUPT)
        member_broken(member, err);
    member_take(member, &update);
    return status;
}

/* ---- the loop ---- */

/* A disk that fills up is no place to lead from: whoever has room should. */
static void leave_full_disk(struct member *member)
{
    struct err err = {0};
    if (member->turn.role != RAFT_LEADER || member->transferring || member->stopping ||
        atomic_load(&member->free_bytes) >= DATA_RESERVE_BYTES || raft_config_voters(raft_config_of(member->raft)) < 2)
        return;
    uint64_t now = clock_mono_ns();
    if (now < member->leave_again_ns)
        return;
    member->leave_again_ns = now + LEAVE_PAUSE_NS;
    log_warn("the disk of this member is nearly full: another one should lead");
    if (!transfer_begin(member, 0, NULL, &err))
        log_warn("the leadership is not handed over: %s", err.text);
}

static void on_tick(uv_timer_t *timer)
{
    struct member *member = timer->data;
    uint64_t now = clock_mono_ns(), due = (now - member->last_tick_ns) / (RAFT_TICK_MS * NS_PER_MS);
    struct err err = {0};
    if (due == 0)
        return;
    member->last_tick_ns += due * RAFT_TICK_MS * NS_PER_MS;
    for (uint64_t i = 0; i < due && i < TICKS_AT_ONCE_MAX && member->later == 0; i++)
        if (member_step(member, &(struct raft_event){.kind = RAFT_EV_TICK}, &err) != TIDE_OK)
            member_fatal("the core did not take a tick", &err);
    own_expire(member, now, MEMBER_UNKNOWN_MS * NS_PER_MS);
    leave_full_disk(member);
    if (++member->ticks % STATUS_TICKS == 0)
        publish(member);
}

static void on_ordered(uv_async_t *async)
{
    orders_take(async->data);
}

static void on_logged(uv_async_t *async)
{
    journal_collect(async->data);
}

static void end(struct member *member)
{
    member->ended = true;
    own_lost(member);
    own_expire(member, UINT64_MAX, 0);
    orders_fail_waiting(member, TIDE_E_UNAVAILABLE, "this coordinator is stopping");
    reads_refuse(member);
    uv_close((uv_handle_t *)&member->ordered, NULL);
    uv_close((uv_handle_t *)&member->tick, NULL);
    uv_close((uv_handle_t *)&member->turned, NULL);
    peers_close(member);
}

/* The end of a turn of the loop. */
static void on_turned(uv_check_t *check)
{
    struct member *member = check->data;
    transfer_look(member, clock_mono_ns());
    image_look(member);
    if (member->stopping && !member->transferring && member->chunk == NULL && !member->check.running && !member->ended)
        end(member);
}

void *member_run(void *arg)
{
    struct member *member = arg;
    member->last_tick_ns = clock_mono_ns();
    peers_follow(member);
    publish(member);
    uv_run(&member->loop, UV_RUN_DEFAULT);
    journal_stop(member);
    uv_close((uv_handle_t *)&member->logged, NULL); /* the log's thread was the last to use it */
    uv_run(&member->loop, UV_RUN_DEFAULT);
    member_note(member, &(struct note){.kind = NOTE_STOPPED});
    return NULL;
}

void member_loop_init(struct member *member)
{
    uv_async_init(&member->loop, &member->ordered, on_ordered);
    uv_async_init(&member->loop, &member->logged, on_logged);
    uv_timer_init(&member->loop, &member->tick);
    uv_check_init(&member->loop, &member->turned);
    member->ordered.data = member->logged.data = member->tick.data = member->turned.data = member;
    uv_timer_start(&member->tick, on_tick, RAFT_TICK_MS, RAFT_TICK_MS);
    uv_check_start(&member->turned, on_turned);
    uv_unref((uv_handle_t *)&member->logged);
}
