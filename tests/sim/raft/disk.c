/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/raft/sim.h"

#include <xxhash.h>

/* ---- the durable log ---- */

uint64_t disk_last(const struct disk *d)
{
    return d->first + d->count - 1;
}

uint64_t disk_term(const struct disk *d, uint64_t index)
{
    return index >= d->first && index <= disk_last(d) ? d->log[index - d->first].term : 0;
}

bool disk_holds(const struct disk *d, uint64_t index, uint64_t term)
{
    return index <= d->images[0].index || (term != 0 && disk_term(d, index) == term);
}

static void cut_from(struct disk *d, uint64_t from)
{
    while (d->count > 0 && disk_last(d) >= from)
        raft_blob_unref(d->log[--d->count].blob);
}

static void cut_before(struct disk *d, uint64_t first)
{
    size_t gone = 0;
    while (gone < d->count && d->first + gone < first)
        raft_blob_unref(d->log[gone++].blob);
    if (gone > 0)
        memmove(d->log, d->log + gone, (d->count - gone) * sizeof d->log[0]);
    d->count -= gone;
    d->first += gone;
}

void disk_put(struct world *w, struct disk *d, const struct raft_entry *entry)
{
    if (d->first == 0)
        d->first = 1;
    if (entry->index != disk_last(d) + 1) {
        violation(w, "entry %" PRIu64 " is written behind %" PRIu64, entry->index, disk_last(d));
        return;
    }
    if (entry->term > d->ballot.term)
        violation(w, "entry %" PRIu64 " of term %" PRIu64 " is written while the ballot is of term %" PRIu64, entry->index,
                  entry->term, d->ballot.term);
    if (d->count == d->room) {
        d->room = d->room ? 2 * d->room : 64;
        d->log = mem_grow(d->log, d->room, sizeof d->log[0]);
    }
    d->log[d->count] = *entry;
    (void)raft_blob_ref(entry->blob);
    d->count++;
}

/* `entries` of those in the write; fewer than all: it was torn. */
static void write_through(struct world *w, struct disk *d, const struct raft_write *write, size_t entries)
{
    if (write->has_ballot)
        d->ballot = write->ballot;
    if (write->reset_to != 0 || write->truncate_from != 0)
        d->marked = 0;
    if (write->reset_to != 0) {
        cut_from(d, 0);
        d->first = write->reset_to;
    }
    if (write->truncate_from != 0)
        cut_from(d, write->truncate_from);
    for (size_t i = 0; i < entries && !w->stop; i++)
        disk_put(w, d, &write->entries[i]);
}

/* What is there is on the disk, and a file beside it says so. */
static void mark(struct disk *d)
{
    d->marked = d->count > 0 ? disk_last(d) : 0;
    d->marked_term = disk_term(d, d->marked);
}

static void write_release(struct raft_write *write)
{
    for (size_t i = 0; i < write->count; i++)
        raft_blob_unref(write->entries[i].blob);
    mem_free(write->entries);
}

static void queue_drop(struct disk *d, size_t count)
{
    for (size_t i = 0; i < count; i++)
        write_release(&d->queue[i]);
    if (count > 0)
        memmove(d->queue, d->queue + count, (d->queued - count) * sizeof d->queue[0]);
    d->queued -= count;
}

/* ---- writes under way ---- */

static void sync_begin(struct world *w, struct node *n)
{
    struct disk *d = &n->disk;
    uint64_t takes = between(w, w->sync_ns, 3 * w->sync_ns);
    d->syncing = between(w, 1, 4) == 1 ? between(w, 1, d->queued) : d->queued;
    if (d->slow_until > w->now && !w->healed)
        takes = between(w, MS(5), MS(400));
    later(w, takes, (struct happening){.kind = HAPPEN_SYNCED, .node = n->slot, .epoch = n->epoch});
}

void disk_queue(struct world *w, struct node *n, struct raft_write *write)
{
    struct disk *d = &n->disk;
    if (write->number == 0) {
        if (write->has_ballot || write->reset_to != 0 || write->truncate_from != 0 || write->count != 0)
            violation(w, "member %" PRIu64 " writes without a number", n->id);
        return;
    }
    if (d->queued > 0 && write->number != d->queue[d->queued - 1].number + 1)
        violation(w, "member %" PRIu64 ": write %" PRIu64 " follows %" PRIu64, n->id, write->number,
                  d->queue[d->queued - 1].number);
    if (d->queued > RAFT_WRITES_MAX + 8)
        violation(w, "member %" PRIu64 " has %zu writes under way", n->id, d->queued);
    if (d->queued == d->queue_room) {
        d->queue_room = d->queue_room ? 2 * d->queue_room : 16;
        d->queue = mem_grow(d->queue, d->queue_room, sizeof d->queue[0]);
    }
    d->queue[d->queued++] = *write;
    *write = (struct raft_write){0};
    if (d->syncing == 0)
        sync_begin(w, n);
}

void disk_synced(struct world *w, struct node *n)
{
    struct disk *d = &n->disk;
    if (d->fails_after != 0 && d->fails_after <= w->now) {
        say(w, "member %" PRIu64 " its disk fails: it stops", n->id);
        node_crash(w, n);
        return;
    }
    size_t done = d->syncing;
    uint64_t number = d->queue[done - 1].number;
    for (size_t i = 0; i < done && !w->stop; i++)
        write_through(w, d, &d->queue[i], d->queue[i].count);
    mark(d);
    queue_drop(d, done);
    d->syncing = 0;
    if (w->stop)
        return;
    struct raft_event event = {.kind = RAFT_EV_PERSISTED, .number = number};
    struct err err = {0};
    (void)node_step(w, n, &event, &err);
    if (n->up && d->queued > 0 && d->syncing == 0)
        sync_begin(w, n);
}

/* Of what was under way, any prefix is there; of the next one, perhaps a part: the ballot first, then its entries. */
void disk_crash(struct world *w, struct disk *d)
{
    size_t whole = d->queued > 0 ? between(w, 0, d->queued) : 0;
    for (size_t i = 0; i < whole && !w->stop; i++)
        write_through(w, d, &d->queue[i], d->queue[i].count);
    if (whole < d->queued && !w->stop && chance(w, 500000))
        write_through(w, d, &d->queue[whole], between(w, 0, d->queue[whole].count));
    queue_drop(d, d->queued);
    d->syncing = 0;
    image_release(&d->taking);
    d->installing = false;
    d->fails_after = 0;
    d->slow_until = 0;
    d->full = false;
    if (d->partial.index != 0 && chance(w, 500000)) /* what was received may be there or not, or a part of it */
        d->have = chance(w, 500000) ? 0 : between(w, 0, d->have);
}

void disk_wipe(struct disk *d)
{
    queue_drop(d, d->queued);
    cut_from(d, 0);
    image_release(&d->images[0]);
    image_release(&d->images[1]);
    image_release(&d->partial);
    image_release(&d->taking);
    d->ballot = (struct raft_ballot){0};
    d->first = 1;
    d->have = d->syncing = d->marked = 0;
    d->installing = false;
}

void disk_lose_last(struct disk *d)
{
    cut_from(d, disk_last(d));
}

void disk_recover(struct world *w, struct disk *d)
{
    uint64_t snapshot = d->images[0].index;
    if (d->first == 0)
        d->first = 1;
    if (snapshot == 0 || d->first == snapshot + 1) {
        mark(d);
        return;
    }
    if (d->first > snapshot + 1) {
        violation(w, "a disk begins at %" PRIu64 " behind a snapshot of %" PRIu64, d->first, snapshot);
    } else if (disk_term(d, snapshot) != d->images[0].term) {
        cut_from(d, 0);
        d->first = snapshot + 1;
    }
    mark(d);
}

/* ---- snapshots ---- */

void image_release(struct image *image)
{
    mem_free(image->bytes);
    *image = (struct image){0};
}

void image_take(struct world *w, struct node *n)
{
    struct disk *d = &n->disk;
    struct err err = {0};
    if (d->taking.index != 0 || n->machine.applied <= d->images[0].index)
        return;
    machine_print(&n->machine, &d->taking, w->image_max > 0 ? mix(n->machine.chain, 1) % w->image_max : 0,
                  w->salted ? n->id : 0);
    if (raft_config_at(n->raft, d->taking.index, &d->taking.config, &err) != TIDE_OK)
        violation(w, "member %" PRIu64 " knows no configuration as of %" PRIu64 ": %s", n->id, d->taking.index, err.text);
    later(w, between(w, MS(1), MS(80)), (struct happening){.kind = HAPPEN_TAKEN, .node = n->slot, .epoch = n->epoch});
}

/* The newest two stay; of the log, what is behind the older one, unless writes are under way that speak of it. */
static void image_keep(struct world *w, struct disk *d, struct image *image)
{
    image_release(&d->images[1]);
    d->images[1] = d->images[0];
    d->images[0] = *image;
    *image = (struct image){0};
    if (d->queued == 0 && chance(w, 700000))
        cut_before(d, d->images[1].index + 1);
}

void image_taken(struct world *w, struct node *n)
{
    struct disk *d = &n->disk;
    if (d->taking.index == 0)
        return;
    if (d->taking.index <= d->images[0].index) { /* one from the leader was quicker */
        image_release(&d->taking);
        return;
    }
    image_keep(w, d, &d->taking);
    struct raft_event event = {.kind = RAFT_EV_SNAPSHOT, .number = d->images[0].index, .total = d->images[0].total,
                               .digest = d->images[0].digest};
    struct err err = {0};
    if (node_step(w, n, &event, &err) != TIDE_OK)
        violation(w, "member %" PRIu64 " refuses its own snapshot: %s", n->id, err.text);
}

bool image_fill(struct node *n, struct raft_message *message)
{
    for (unsigned i = 0; i < 2; i++) {
        const struct image *image = &n->disk.images[i];
        if (image->index != message->snapshot.index || image->digest != message->snapshot.digest)
            continue;
        if (message->snapshot.offset + message->snapshot.bytes > image->total)
            return false;
        message->snapshot.data = raft_blob_create(image->bytes + message->snapshot.offset, message->snapshot.bytes);
        return true;
    }
    return false;
}

static void partial_begin(struct disk *d, const struct raft_snapshot *s)
{
    image_release(&d->partial);
    d->partial = (struct image){.index = s->index, .term = s->term, .total = s->total, .digest = s->digest, .config = s->config,
                                .bytes = mem_alloc(s->total)};
    d->have = 0;
}

void image_chunk(struct world *w, struct node *n, struct raft_chunk *chunk)
{
    struct disk *d = &n->disk;
    const struct raft_snapshot *s = &chunk->snapshot;
    bool same = d->partial.index == s->index && d->partial.total == s->total && d->partial.digest == s->digest;
    if (d->installing) {
        violation(w, "member %" PRIu64 " gets a chunk of %" PRIu64 " while it installs %" PRIu64, n->id, s->index,
                  d->partial.index);
        return;
    }
    if (!same)
        partial_begin(d, s);
    w->resumes += same && d->have > 0 && d->partial_epoch != n->epoch; /* in another life */
    d->partial_epoch = n->epoch;
    if (chunk->offset == d->have && chunk->offset + chunk->data->bytes <= s->total) {
        memcpy(d->partial.bytes + chunk->offset, chunk->data->data, chunk->data->bytes);
        d->have += chunk->data->bytes;
    }
    unsigned kind = d->have == s->total ? HAPPEN_INSTALLED : HAPPEN_CHUNK;
    d->installing = kind == HAPPEN_INSTALLED;
    later(w, between(w, US(50), MS(d->slow_until > w->now ? 200 : 3)),
          (struct happening){.kind = kind, .node = n->slot, .epoch = n->epoch, .number = s->index});
}

void image_installed(struct world *w, struct node *n, uint64_t index)
{
    struct disk *d = &n->disk;
    struct err err = {0};
    struct raft_event event = {.kind = RAFT_EV_INSTALLED, .number = index};
    bool good = d->partial.total > 0 && XXH3_64bits(d->partial.bytes, d->partial.total) == d->partial.digest;
    d->installing = false;
    if (!good && !w->lies.bad_image)
        violation(w, "member %" PRIu64 " received an image of %" PRIu64 " that was not sent", n->id, index);
    if (!good || (!w->healed && chance(w, w->lies.bad_image))) {
        event.kind = RAFT_EV_INSTALL_FAILED;
        image_release(&d->partial);
        d->have = 0;
    } else if (index > d->images[0].index) {
        image_keep(w, d, &d->partial);
        d->have = 0;
        w->installs++;
    } else { /* an own one was quicker: it covers more */
        image_release(&d->partial);
        d->have = 0;
    }
    if (node_step(w, n, &event, &err) != TIDE_OK)
        violation(w, "member %" PRIu64 " refuses an installed snapshot: %s", n->id, err.text);
}
