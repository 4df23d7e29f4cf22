/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots: written, sent and received. */
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/member_inner.h"

/* ---- written ---- */

static enum tide_status save_and_prune(struct member *member, const struct snapshot *snapshot, struct order *order,
                                       struct err *err)
{
    struct snapshot_file file;
    uint64_t digest = 0;
    enum tide_status status = snapshot_save(member->dir.path, member->dir.cluster, snapshot, &digest, err);
    if (status == TIDE_OK)
        status = snapshot_file_open(member->dir.path, member->dir.cluster, snapshot->index, &file, err);
    if (status != TIDE_OK)
        return status;
    order->index = file.index;
    order->total = file.bytes;
    order->digest = file.digest;
    snapshot_file_close(&file);
    return snapshot_prune(member->dir.path, &order->compact_through, err);
}

enum tide_status member_save_image(struct member *member, const struct snapshot *snapshot, struct err *err)
{
    struct order order = {.kind = ORDER_SNAPSHOT};
    pthread_mutex_lock(&member->image_lock);
    enum tide_status status = save_and_prune(member, snapshot, &order, err);
    pthread_mutex_unlock(&member->image_lock);
    /* The log is whole without it. No room, and a state that is too large, may pass; a disk that fails is not asked again.
     */
    if (status != TIDE_OK && status != TIDE_E_NOSPACE && status != TIDE_E_LIMIT)
        member_fatal("a snapshot cannot be written", err);
    if (status == TIDE_OK)
        member_order(member, &order);
    return status;
}

/* ---- sent ---- */

/* Only noted: this comes from within a step of the core. */
static bool lost(struct member *member, uint64_t index, const struct err *err)
{
    log_error("the snapshot of index %" PRIu64 " cannot be sent, another one is made: %s", index, err->text);
    member->image_lost = index;
    snapshot_file_close(&member->sending);
    return false;
}

void image_look(struct member *member)
{
    struct err err = {0};
    struct raft_event event = {.kind = RAFT_EV_SNAPSHOT_LOST, .number = member->image_lost};
    if (member->image_lost == 0 || member->stopping)
        return;
    member->image_lost = 0;
    if (member_step(member, &event, &err) != TIDE_OK)
        log_debug("the snapshot of index %" PRIu64 ": %s", event.number, err.text);
    member_note(member, &(struct note){.kind = NOTE_IMAGE_LOST, .index = event.number});
}

static void check_run(uv_work_t *work)
{
    struct image_check *check = work->data;
    struct member *member = check->member;
    struct snapshot snapshot = {0};
    pthread_mutex_lock(&member->image_lock);
    check->status = snapshot_load(member->dir.path, member->dir.cluster, check->index, &snapshot, &check->err);
    pthread_mutex_unlock(&member->image_lock);
    snapshot_release(&snapshot);
}

static void check_done(uv_work_t *work, int cancelled)
{
    struct image_check *check = work->data;
    (void)cancelled;
    check->running = false;
    if (check->status != TIDE_OK)
        lost(check->member, check->index, &check->err);
}

/* What was sent to the end is asked for from the beginning: did it arrive as it was, and was it as it should be? */
static void check_start(struct member *member, uint64_t index)
{
    struct image_check *check = &member->check;
    if (check->running || member->stopping)
        return;
    *check = (struct image_check){.member = member, .index = index, .running = true};
    check->work.data = check;
    uv_queue_work(&member->loop, &check->work, check_run, check_done);
}

/* The bytes of the chunk that the core wants to send. False: they are not to be had; another image will be made. */
bool image_fill(struct member *member, struct raft_message *message)
{
    struct err err = {0};
    struct snapshot_file *file = &member->sending;
    uint64_t index = message->snapshot.index, offset = message->snapshot.offset;
    if (file->fd < 0 || file->index != index || file->digest != message->snapshot.digest) {
        snapshot_file_close(file);
        member->sent_whole = false;
        if (snapshot_file_open(member->dir.path, member->dir.cluster, index, file, &err) != TIDE_OK)
            return lost(member, index, &err);
    }
    if (file->digest != message->snapshot.digest) { /* written anew a moment ago: the core will hear of it */
        snapshot_file_close(file);
        return false;
    }
    struct raft_blob *data = raft_blob_create(NULL, message->snapshot.bytes);
    size_t got = 0;
    enum tide_status status = snapshot_file_read(file, offset, data->data, data->bytes, &got, &err);
    if (status != TIDE_OK || got != data->bytes) {
        raft_blob_unref(data);
        if (status == TIDE_OK)
            err_set(&err, TIDE_E_CORRUPT, "%s ends at offset %" PRIu64, file->path, offset + got);
        return lost(member, index, &err);
    }
    if (offset == 0 && member->sent_whole)
        check_start(member, index);
    member->sent_whole = offset == 0 ? false : member->sent_whole;
    member->sent_whole = member->sent_whole || offset + got == message->snapshot.total;
    message->snapshot.data = data;
    return true;
}

/* ---- received ---- */

/* On a worker of the loop. */
static enum tide_status store_chunk(struct chunk_work *work)
{
    struct member *member = work->member;
    const struct raft_snapshot *s = &work->chunk.snapshot;
    struct snapshot_receive *r = &member->receiving;
    enum tide_status status = TIDE_OK;
    if (r->fd < 0 || work->chunk.offset == 0 || r->index != s->index || r->digest != s->digest) {
        snapshot_receive_close(r);
        status = snapshot_receive_begin(member->dir.path, member->dir.cluster, s->index, s->term, s->total, s->digest, r,
                                        &work->err);
    }
    if (status == TIDE_OK && r->offset == work->chunk.offset && work->chunk.data != NULL)
        status = snapshot_receive_append(r, work->chunk.offset, work->chunk.data->data, work->chunk.data->bytes, &work->err);
    work->offset = r->offset;
    work->whole = status == TIDE_OK && r->offset == s->total;
    return status;
}

static enum tide_status finish_image(struct chunk_work *work)
{
    struct member *member = work->member;
    struct snapshot snapshot = {0};
    uint64_t oldest = 0;
    enum tide_status status = snapshot_receive_finish(&member->receiving, &work->err);
    if (status == TIDE_OK)
        status = snapshot_load(member->dir.path, member->dir.cluster, work->chunk.snapshot.index, &snapshot, &work->err);
    if (status != TIDE_OK)
        return status;
    work->parsed = member->options.calls->parse(member->options.context, &snapshot, &work->err);
    snapshot_release(&snapshot);
    if (work->parsed == NULL)
        return work->err.status;
    return snapshot_prune(member->dir.path, &oldest, &work->err);
}

static void chunk_run(uv_work_t *request)
{
    struct chunk_work *work = request->data;
    pthread_mutex_lock(&work->member->image_lock);
    work->status = store_chunk(work);
    if (work->whole)
        work->status = finish_image(work);
    pthread_mutex_unlock(&work->member->image_lock);
    if (work->status == TIDE_E_VERSION)
        member_too_old(work->member, &work->err);
    if (work->status == TIDE_E_IO)
        member_fatal("a snapshot that is being received cannot be written", &work->err);
}

static void chunk_start(struct member *member);

static void drop_installed(struct member *member)
{
    if (member->installed == NULL)
        return;
    member->options.calls->drop(member->options.context, member->installed->parsed);
    mem_free(member->installed);
    member->installed = NULL;
}

static void installed(struct member *member, struct chunk_work *work)
{
    const struct raft_snapshot *s = &work->chunk.snapshot;
    struct err err = {0};
    struct raft_event event = {.kind = RAFT_EV_INSTALLED, .number = s->index};
    drop_installed(member);
    member->installed = mem_alloc(sizeof *member->installed);
    *member->installed = (struct restored){.parsed = work->parsed, .index = s->index, .term = s->term, .config = s->config};
    if (member_step(member, &event, &err) != TIDE_OK)
        log_warn("the snapshot of index %" PRIu64 " was received, but is not wanted: %s", s->index, err.text);
    drop_installed(member); /* unless it counts: then it has gone on its way */
}

static void report(struct member *member, struct chunk_work *work)
{
    struct err err = {0};
    struct raft_event event = {.kind = RAFT_EV_CHUNK_STORED, .number = work->chunk.snapshot.index, .offset = work->offset};
    if (work->status != TIDE_OK) {
        log_error("the snapshot of index %" PRIu64 " cannot be received: %s", work->chunk.snapshot.index, work->err.text);
        event.kind = RAFT_EV_INSTALL_FAILED;
    }
    if (member_step(member, &event, &err) != TIDE_OK)
        log_debug("chunk of the snapshot of index %" PRIu64 ": %s", work->chunk.snapshot.index, err.text);
}

static void chunk_done(uv_work_t *request, int cancelled)
{
    struct chunk_work *work = request->data;
    struct member *member = work->member;
    (void)cancelled;
    member->chunk = NULL;
    if (work->status == TIDE_OK && work->whole)
        installed(member, work);
    else
        report(member, work);
    raft_blob_unref(work->chunk.data);
    mem_free(work);
    chunk_start(member);
}

static void chunk_start(struct member *member)
{
    if (member->chunk != NULL || member->chunk_count == 0 || member->stopping)
        return;
    struct chunk_work *work = mem_alloc(sizeof *work);
    work->member = member;
    work->chunk = member->chunks[0];
    member->chunk_count--;
    memmove(member->chunks, member->chunks + 1, member->chunk_count * sizeof *member->chunks);
    work->work.data = work;
    member->chunk = work;
    uv_queue_work(&member->loop, &work->work, chunk_run, chunk_done);
}

void image_chunk(struct member *member, struct raft_chunk *chunk)
{
    if (member->chunk_count == CHUNKS_WAITING_MAX)
        return; /* the leader sends again what it hears nothing of */
    member->chunks[member->chunk_count++] = *chunk;
    *chunk = (struct raft_chunk){0};
    chunk_start(member);
}

void image_close(struct member *member)
{
    for (size_t i = 0; i < member->chunk_count; i++)
        raft_blob_unref(member->chunks[i].data);
    member->chunk_count = 0;
    snapshot_file_close(&member->sending);
    snapshot_receive_close(&member->receiving);
    drop_installed(member);
}
