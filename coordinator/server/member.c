/* SPDX-License-Identifier: Apache-2.0 */
/* The caller's side of a member: queues to its thread and back. */
#include "coordinator/server/member.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/member_inner.h"

#define QUEUE_ROOM_MIN 64u

/* What the disk cannot hold must not be promised, and what it may hold must not be promised twice: there is no going on. */
void member_fatal(const char *what, const struct err *err)
{
    log_error("fatal: %s: %s. The coordinator stops: everything acknowledged is in the log; make the disk good and start it "
              "again",
              what, err->text);
    abort();
}

void member_too_old(const struct member *member, const struct err *err)
{
    log_error("fatal: the leader has sent a snapshot that this version cannot read: %s. The coordinator stops; nothing in %s is lost",
              err->text, member->dir.path);
    abort();
}

void member_broken(const struct member *member, const struct err *err)
{
    log_error(
        "fatal: a rule of the group is broken: %s. The coordinator stops. If this cluster was made "
        "from a backup, not every member was restored: begin anew, each before any is started. Else this is a defect of "
        "tidemarkd: keep the data directories of all members, this one's is %s, and report it",
        err->text, member->dir.path);
    abort();
}

uint64_t member_id(const struct member *member)
{
    return member->id;
}

const char *member_cluster(const struct member *member)
{
    return member->dir.cluster;
}

const char *member_data(const struct member *member)
{
    return member->dir.path;
}

const char *member_address(const struct member *member)
{
    return peers_address(member);
}

/* ---- to the member ---- */

void member_order(struct member *member, const struct order *order)
{
    pthread_mutex_lock(&member->lock);
    struct orders *orders = &member->orders;
    if (orders->count == orders->room) {
        orders->room = orders->room ? orders->room * 2 : QUEUE_ROOM_MIN;
        orders->items = mem_grow(orders->items, orders->room, sizeof *orders->items);
    }
    orders->items[orders->count++] = *order;
    bool first = orders->count == 1;
    pthread_mutex_unlock(&member->lock);
    if (first)
        uv_async_send(&member->ordered);
}

static bool crowded(struct member *member)
{
    pthread_mutex_lock(&member->lock);
    bool crowded = member->notes.count > MEMBER_NOTES_MAX || member->orders.count > MEMBER_NOTES_MAX;
    pthread_mutex_unlock(&member->lock);
    return crowded;
}

enum tide_status member_propose(struct member *member, struct raft_blob *blob, void *cookie, struct err *err)
{
    if (member->closing)
        return err_set(err, TIDE_E_UNAVAILABLE, "this coordinator is stopping");
    if (atomic_load(&member->proposals) >= MEMBER_PROPOSALS_MAX || crowded(member))
        return err_set(err, TIDE_E_UNAVAILABLE, "%u commands are being written already; ask again in a moment",
                       MEMBER_PROPOSALS_MAX);
    atomic_fetch_add(&member->proposals, 1);
    member_order(member, &(struct order){.kind = ORDER_PROPOSE, .blob = raft_blob_ref(blob), .cookie = cookie});
    return TIDE_OK;
}

enum tide_status member_read(struct member *member, void *cookie, struct err *err)
{
    if (member->closing)
        return err_set(err, TIDE_E_UNAVAILABLE, "this coordinator is stopping");
    if (crowded(member))
        return err_set(err, TIDE_E_UNAVAILABLE, "too many requests wait already; ask again in a moment");
    member_order(member, &(struct order){.kind = ORDER_READ, .cookie = cookie});
    return TIDE_OK;
}

void member_change(struct member *member, enum member_change change, const struct raft_member *who, void *cookie)
{
    struct raft_member *copy = mem_alloc(sizeof *copy);
    *copy = *who;
    atomic_fetch_add(&member->proposals, 1);
    member_order(member, &(struct order){.kind = ORDER_CHANGE, .change = change, .who = copy, .cookie = cookie});
}

void member_look_at_disk(struct member *member)
{
    member_order(member, &(struct order){.kind = ORDER_LOOK});
}

uint64_t member_free_bytes(const struct member *member)
{
    return atomic_load(&member->free_bytes);
}

void member_get_status(struct member *member, struct member_status *ret_status)
{
    pthread_mutex_lock(&member->lock);
    *ret_status = member->status;
    pthread_mutex_unlock(&member->lock);
}

/* ---- from the member ---- */

void member_note(struct member *member, const struct note *note)
{
    pthread_mutex_lock(&member->lock);
    struct notes *notes = &member->notes;
    if (notes->count == notes->room) {
        notes->room = notes->room ? notes->room * 2 : QUEUE_ROOM_MIN;
        notes->items = mem_grow(notes->items, notes->room, sizeof *notes->items);
    }
    notes->items[notes->count++] = *note;
    bool first = notes->count == 1;
    pthread_mutex_unlock(&member->lock);
    if (first)
        uv_async_send(&member->noted);
}

void note_refused(struct member *member, void *cookie, const struct err *err)
{
    struct err *copy = mem_alloc(sizeof *copy);
    *copy = *err;
    member_note(member, &(struct note){.kind = NOTE_FAILED, .cookie = cookie, .err = copy});
}

void note_failed(struct member *member, void *cookie, enum tide_status status, const char *format, ...)
{
    struct err err = {.status = status};
    va_list args;
    va_start(args, format);
    vsnprintf(err.text, sizeof err.text, format, args);
    va_end(args);
    note_refused(member, cookie, &err);
}

static void end_thread(struct member *member)
{
    pthread_join(member->thread, NULL);
    member->started = false;
    uv_close((uv_handle_t *)&member->noted, NULL);
    member->options.calls->stopped(member->options.context);
}

static void hand_out(struct member *member, struct note *note)
{
    const struct member_calls *calls = member->options.calls;
    void *context = member->options.context;
    switch (note->kind) {
    case NOTE_COMMITTED:
        if (note->entry.cookie != NULL)
            atomic_fetch_sub(&member->proposals, 1);
        calls->committed(context, &note->entry);
        break;
    case NOTE_FAILED:
        atomic_fetch_sub(&member->proposals, 1);
        calls->failed(context, note->cookie, note->err->status, note->err);
        mem_free(note->err);
        break;
    case NOTE_READ:
        calls->read(context, note->cookie, note->permitted);
        break;
    case NOTE_RESTORED:
        calls->restored(context, note->restored->parsed, note->restored->index, note->restored->term,
                        &note->restored->config);
        mem_free(note->restored);
        break;
    case NOTE_IMAGE_LOST:
        if (calls->image_lost != NULL)
            calls->image_lost(context, note->index);
        break;
    case NOTE_TURNED:
        calls->turned(context, note->turn);
        mem_free(note->turn);
        break;
    default:
        end_thread(member);
    }
}

static void on_noted(uv_async_t *async)
{
    struct member *member = async->data;
    struct notes *taken = &member->taken;
    pthread_mutex_lock(&member->lock);
    struct notes empty = *taken;
    *taken = member->notes;
    member->notes = (struct notes){.items = empty.items, .room = empty.room};
    pthread_mutex_unlock(&member->lock);
    for (size_t i = 0; i < taken->count; i++)
        hand_out(member, &taken->items[i]);
    taken->count = 0;
}

/* ---- life ---- */

enum tide_status member_open(const struct member_options *options, struct member **ret_member, struct err *err)
{
    struct member *member = mem_alloc(sizeof *member);
    member->options = *options;
    member->id = options->id;
    member->dir.lock_fd = -1;
    member->sending.fd = member->receiving.fd = -1;
    member->own_end = &member->own;
    pthread_mutex_init(&member->lock, NULL);
    pthread_mutex_init(&member->image_lock, NULL);
    uv_loop_init(&member->loop);
    enum tide_status status = member_load(member, err);
    if (status == TIDE_OK)
        status = peers_open(member, err);
    if (status != TIDE_OK) {
        member_close(member);
        return status;
    }
    *ret_member = member;
    return TIDE_OK;
}

void member_start(struct member *member)
{
    uv_async_init(member->options.loop, &member->noted, on_noted);
    member->noted.data = member;
    member->started = true;
    member_loop_init(member);
    journal_start(member);
    if (pthread_create(&member->thread, NULL, member_run, member) != 0)
        member_fatal("no thread can be made", &(struct err){.text = "pthread_create failed"});
}

void member_stop(struct member *member, bool hand_over)
{
    if (member->closing)
        return;
    member->closing = true;
    member_order(member, &(struct order){.kind = ORDER_STOP, .hand_over = hand_over});
}

static void free_queues(struct member *member)
{
    for (size_t i = 0; i < member->orders.count; i++) {
        raft_blob_unref(member->orders.items[i].blob);
        mem_free(member->orders.items[i].who);
    }
    mem_free(member->orders.items);
    mem_free(member->mine.items);
    mem_free(member->waiting.items);
    mem_free(member->notes.items);
    mem_free(member->taken.items);
    mem_free(member->log.writes);
}

void member_close(struct member *member)
{
    if (member == NULL)
        return;
    peers_close(member);
    uv_run(&member->loop, UV_RUN_DEFAULT);
    uv_loop_close(&member->loop);
    image_close(member);
    raft_free(member->raft);
    wal_close(member->wal);
    datadir_close(&member->dir);
    free_queues(member);
    pthread_mutex_destroy(&member->lock);
    pthread_mutex_destroy(&member->image_lock);
    mem_free(member);
}
