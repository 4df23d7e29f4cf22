/* SPDX-License-Identifier: Apache-2.0 */
/* The replica's hands: batches into the log, images beside it. */
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/replica_inner.h"

/* ---- the log ---- */

/* No room for it is no news yet: commands are refused long before the present segment is full. */
static void prepare(struct replica *replica, struct err *err)
{
    enum tide_status status = wal_prepare(replica->wal, err);
    if (status == TIDE_E_NOSPACE)
        log_error("the next segment of the log cannot be made: %s", err->text);
    else if (status != TIDE_OK)
        replica_fatal("the next segment of the log cannot be made", err);
}

static void log_run(uv_work_t *work)
{
    struct replica *replica = work->data;
    struct log_work *log = &replica->log;
    struct err err = {0};
    if (log->count > 0 &&
        (wal_append(replica->wal, log->entries, log->count, &err) != TIDE_OK || wal_sync(replica->wal, &err) != TIDE_OK))
        replica_fatal("the log cannot be written", &err);
    if (log->compact_through > 0 && wal_compact(replica->wal, log->compact_through, &err) != TIDE_OK)
        replica_fatal("the log cannot be compacted", &err);
    /* Making a segment takes a while: not while somebody waits for an answer. */
    if (log->count == 0)
        prepare(replica, &err);
    if (datadir_free_bytes(replica->dir.path, &log->free_bytes, &err) != TIDE_OK)
        replica_fatal("the data directory cannot be examined", &err);
    log->last_index = wal_last(replica->wal);
    log->log_bytes = wal_bytes(replica->wal);
}

static void image_start(struct replica *replica);

static void if_idle(struct replica *replica)
{
    if (replica->idle != NULL && replica->proposals == 0 && !replica->writing && !replica->imaging)
        replica->idle(replica->options.context);
}

static void log_done(uv_work_t *work, int cancelled)
{
    struct replica *replica = work->data;
    (void)cancelled;
    struct proposal *batch = replica->log.batch;
    mem_free(replica->log.entries);
    replica->last_index = replica->log.last_index;
    replica->log_bytes = replica->log.log_bytes;
    if (replica->free_bytes >= DATA_RESERVE_BYTES && replica->log.free_bytes < DATA_RESERVE_BYTES)
        log_error("the file system of %s has only %" PRIu64 " MiB left: commands are refused until there is more room",
                  replica->dir.path, replica->log.free_bytes >> 20);
    replica->free_bytes = replica->log.free_bytes;
    replica->writing = false;
    if (batch != NULL) {
        replica->prepare = true;
        replica_apply_batch(replica, batch);
        replica->options.applied(replica->options.context);
    }
    if (replica->state.revision >= replica->image_at && !replica->imaging)
        image_start(replica);
    replica_work(replica);
    if_idle(replica);
}

static struct proposal *take_batch(struct replica *replica, size_t *ret_count)
{
    struct proposal *first = replica->waiting, **end = &replica->waiting;
    uint64_t bytes = 0;
    size_t count = 0;
    while (*end != NULL && (count == 0 || bytes + (*end)->bytes <= BATCH_BYTES_MAX)) {
        bytes += (*end)->bytes;
        count++;
        end = &(*end)->next;
    }
    replica->waiting = *end;
    *end = NULL;
    if (replica->waiting == NULL)
        replica->waiting_end = &replica->waiting;
    *ret_count = count;
    return count ? first : NULL;
}

void replica_work(struct replica *replica)
{
    if (replica->writing || (replica->waiting == NULL && replica->compact_through == 0 && !replica->prepare))
        return;
    struct log_work *log = &replica->log;
    *log = (struct log_work){.compact_through = replica->compact_through};
    log->batch = take_batch(replica, &log->count);
    log->entries = mem_array(log->count, sizeof *log->entries);
    uint64_t index = replica->last_index;
    size_t i = 0;
    for (struct proposal *p = log->batch; p != NULL; p = p->next)
        log->entries[i++] =
            (struct wal_entry){.index = ++index, .term = replica->ballot.term, .data = p->text, .bytes = p->bytes};
    replica->compact_through = 0;
    if (log->count == 0)
        replica->prepare = false;
    replica->writing = true;
    log->work.data = replica;
    uv_queue_work(replica->options.loop, &log->work, log_run, log_done);
}

/* ---- images ---- */

static void image_run(uv_work_t *work)
{
    struct replica *replica = work->data;
    struct image_work *image = &replica->image;
    struct err err = {0};
    char *text = codec_print(&state_codec, &image->state, CODEC_COMPACT);
    struct snapshot snapshot = {
        .index = image->state.revision, .term = replica->ballot.term, .data = text, .bytes = strlen(text)};
    uint64_t digest = 0;
    enum tide_status status = snapshot_save(replica->dir.path, replica->dir.cluster, &snapshot, &digest, &err);
    mem_free(text);
    if (status == TIDE_OK)
        status = snapshot_prune(replica->dir.path, &image->compact_through, &err);
    /* The log is whole without it. No room, and a state that is too large, may pass; a disk that fails is
     * not asked again. */
    image->status = status;
    if (status == TIDE_E_NOSPACE || status == TIDE_E_LIMIT)
        log_error("no snapshot now: %s", err.text);
    else if (status != TIDE_OK)
        replica_fatal("a snapshot cannot be written", &err);
}

static void image_done(uv_work_t *work, int cancelled)
{
    struct replica *replica = work->data;
    (void)cancelled;
    replica->imaging = false;
    if (replica->image.status == TIDE_OK) {
        replica->snapshot_index = replica->image.state.revision;
        replica->compact_through = replica->image.compact_through;
        log_info("snapshot of index %" PRIu64 " written", replica->snapshot_index);
    }
    state_release(&replica->image.state);
    replica_work(replica);
    if_idle(replica);
}

static void image_start(struct replica *replica)
{
    if (replica->idle != NULL)
        return;
    replica->imaging = true;
    replica->image_at = replica->state.revision + replica->snapshot_every;
    replica->image = (struct image_work){0};
    replica->image.work.data = replica;
    codec_copy(&state_codec, &replica->state, &replica->image.state);
    uv_queue_work(replica->options.loop, &replica->image.work, image_run, image_done);
}

void replica_stop(struct replica *replica, void (*idle)(void *context))
{
    replica->idle = idle;
    replica->prepare = true; /* one more turn of the worker, whose end looks whether all is done */
    replica_work(replica);
}
