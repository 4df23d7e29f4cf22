/* SPDX-License-Identifier: Apache-2.0 */
/* Images of the state, made by a worker from a copy that it keeps up to date. */
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/replica_inner.h"

#define TAIL_ROOM_MIN 256u

/* ---- the tail ---- */

static void tail_clear(struct tail *tail)
{
    for (size_t i = 0; i < tail->count; i++)
        raft_blob_unref(tail->items[i].blob);
    mem_free(tail->items);
    *tail = (struct tail){0};
}

void image_take(struct replica *replica, const struct member_entry *entry)
{
    struct tail *tail = &replica->tail;
    if (tail->count == tail->room) {
        tail->room = tail->room ? tail->room * 2 : TAIL_ROOM_MIN;
        tail->items = mem_grow(tail->items, tail->room, sizeof *tail->items);
    }
    tail->items[tail->count++] = *entry;
    tail->bytes += entry->blob ? entry->blob->bytes : 0;
}

/* ---- the worker ---- */

static void follow(struct image_work *image, const struct member_entry *entry)
{
    struct replica *replica = image->replica;
    struct err err = {0};
    image->index = entry->index;
    image->term = entry->term;
    if (entry->type == RAFT_CONFIG) {
        raft_blob_unref(image->config);
        image->config = raft_blob_ref(entry->blob);
    }
    if (entry->type != RAFT_COMMAND)
        return;
    struct command command;
    struct outcome outcome = {0};
    replica_parse(replica, entry, &command);
    apply(&image->shadow, &command, entry->index, &outcome, &err); /* a refusal was an answer then, and is again */
    codec_release(&command_codec, &command);
}

static void image_run(uv_work_t *work)
{
    struct image_work *image = work->data;
    struct replica *replica = image->replica;
    struct err broken = {0};
    for (size_t i = 0; i < image->tail.count; i++)
        follow(image, &image->tail.items[i]);
    tail_clear(&image->tail);
    if (state_check(&image->shadow, &broken) != TIDE_OK)
        replica_broken(replica, image->index, 0, &broken);
    char *text = codec_print(&state_codec, &image->shadow, CODEC_COMPACT);
    struct snapshot snapshot = {.index = image->index,
                                .term = image->term,
                                .config = image->config->data,
                                .config_bytes = image->config->bytes,
                                .data = text,
                                .bytes = strlen(text)};
    image->status = member_save_image(replica->member, &snapshot, &image->err);
    mem_free(text);
    mem_trim();
}

/* ---- the loop ---- */

static void grant(struct replica *replica)
{
    for (struct image_wish **at = &replica->wishes; *at != NULL;) {
        struct image_wish *wish = *at;
        bool done = replica->snapshot_index >= wish->index;
        if (!done && replica->image.status == TIDE_OK && !replica->stopping) {
            at = &wish->next;
            continue;
        }
        *at = wish->next;
        wish->written(wish->arg, done ? replica->snapshot_index : 0, &replica->image.err);
        mem_free(wish);
    }
}

static void image_start(struct replica *replica);

static void image_done(uv_work_t *work, int cancelled)
{
    struct image_work *image = work->data;
    struct replica *replica = image->replica;
    (void)cancelled;
    replica->imaging = false;
    if (replica->shadow_next != NULL) {
        /* Meanwhile the state became another one. */
        replica_discard(replica, &image->shadow);
        image->shadow = *replica->shadow_next;
        mem_free(replica->shadow_next);
        replica->shadow_next = NULL;
        raft_blob_unref(image->config);
        image->config = raft_blob_ref(replica->restored_config);
        image->index = replica->restored_index;
        image->term = replica->restored_term;
    } else if (image->status == TIDE_OK) {
        replica->snapshot_index = image->index;
        log_info("snapshot of index %" PRIu64 " written", image->index);
    } else {
        log_error("no snapshot now: %s", image->err.text);
    }
    grant(replica);
    if (replica->wishes != NULL)
        image_start(replica);
    replica_end_if_idle(replica);
}

static void image_start(struct replica *replica)
{
    struct image_work *image = &replica->image;
    if (replica->imaging || replica->stopping || replica->config == NULL)
        return;
    replica->imaging = true;
    image->replica = replica;
    image->status = TIDE_OK;
    image->err = (struct err){0};
    image->tail = replica->tail;
    replica->tail = (struct tail){0};
    image->work.data = image;
    uv_queue_work(replica->options.loop, &image->work, image_run, image_done);
}

void image_if_due(struct replica *replica)
{
    if (replica->tail.count >= replica->snapshot_every || replica->tail.bytes >= SNAPSHOT_EVERY_BYTES)
        image_start(replica);
}

void replica_image(struct replica *replica, replica_written *written, void *arg)
{
    if (replica->snapshot_index >= replica->index) {
        written(arg, replica->snapshot_index, NULL);
        return;
    }
    if (replica->stopping || replica->config == NULL) {
        struct err err = {0};
        err_set(&err, TIDE_E_UNAVAILABLE, "this coordinator is %s", replica->stopping ? "stopping" : "in no group yet");
        written(arg, 0, &err);
        return;
    }
    struct image_wish *wish = mem_alloc(sizeof *wish);
    *wish = (struct image_wish){.written = written, .arg = arg, .index = replica->index, .next = replica->wishes};
    replica->wishes = wish;
    image_start(replica);
}

static void written_again(void *arg, uint64_t index, const struct err *err)
{
    (void)arg, (void)index, (void)err; /* said by image_done */
}

void image_lost(struct replica *replica, uint64_t index)
{
    if (replica->snapshot_index == index)
        replica->snapshot_index = 0;
    replica_image(replica, written_again, NULL);
}

void image_restored(struct replica *replica, struct state *shadow)
{
    tail_clear(&replica->tail);
    raft_blob_unref(replica->restored_config);
    replica->restored_config = raft_blob_ref(replica->config);
    replica->restored_index = replica->index;
    replica->restored_term = replica->term;
    if (replica->shadow_next != NULL)
        replica_discard(replica, replica->shadow_next);
    mem_free(replica->shadow_next);
    replica->shadow_next = NULL;
    if (replica->imaging) {
        replica->shadow_next = mem_alloc(sizeof *shadow);
        *replica->shadow_next = *shadow;
        return;
    }
    replica_discard(replica, &replica->image.shadow);
    replica->image.shadow = *shadow;
    raft_blob_unref(replica->image.config);
    replica->image.config = raft_blob_ref(replica->config);
    replica->image.index = replica->index;
    replica->image.term = replica->term;
}

void image_release(struct replica *replica)
{
    tail_clear(&replica->tail);
    tail_clear(&replica->image.tail);
    state_release(&replica->image.shadow);
    raft_blob_unref(replica->image.config);
    raft_blob_unref(replica->restored_config);
}
