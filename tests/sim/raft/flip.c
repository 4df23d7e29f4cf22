/* SPDX-License-Identifier: Apache-2.0 */
/* A bit of a disk that lies still is another one later. The log is then read from the bytes that coordinator/disk writes, by what
 * it reads them with; whoever finds such a bit stays away for good, and a person sets its machine up anew. */
#include "tests/sim/raft/sim.h"

#include <xxhash.h>

#include "coordinator/disk/segment.h"
#include "coordinator/disk/wal_inner.h"

#define CLUSTER "00c0ffee00c0ffee"
#define SEED UINT64_C(0x666c6970) /* of the log's chain */
#define REPAIR_NS MS(100)
#define VOTERS_LEAST 3u

/* ---- it flips ---- */

static bool ill(const struct node *n)
{
    return n->disk.flip != 0 || n->broken || n->owed;
}

/* Of what is at rest: while the member is down, before it reads it. */
static void flip(struct world *w, struct node *n)
{
    node_crash(w, n);
    bool image = n->disk.images[0].index != 0 && chance(w, 300000);
    if (n->disk.count == 0 && !image)
        return;
    n->disk.flip = (uint32_t)between(w, 1, UINT32_MAX);
    n->disk.flips_image = image;
    say(w, "a bit flips in the %s of member %" PRIu64, image ? "snapshot" : "log", n->id);
    w->flips++;
}

/* As many as the group can lose, and none before all that were are replaced. */
void flip_turn(struct world *w)
{
    size_t voters = raft_config_voters(&w->committed), most = (voters - 1) / 2;
    bool all_well = voters >= VOTERS_LEAST;
    for (uint32_t i = 0; i < w->node_count; i++)
        all_well = all_well && !ill(&w->nodes[i]);
    if (!all_well)
        return;
    for (uint64_t count = w->mild ? 1 : between(w, 1, most); count > 0; count--) {
        struct node *n = w->mild ? &w->nodes[w->victim] : &w->nodes[between(w, 0, w->node_count - 1)];
        if (n->up && !ill(n))
            flip(w, n);
        if (!n->up)
            later(w, between(w, MS(1), MS(400)), (struct happening){.kind = HAPPEN_BOOT, .node = n->slot, .epoch = n->epoch});
    }
}

/* ---- it is read ---- */

/* The log as a segment of it stands on a disk. */
static char *log_bytes(const struct disk *d, uint64_t *ret_bytes)
{
    uint64_t bytes = sizeof(struct segment_header), at = bytes, sum = SEED;
    for (size_t i = 0; i < d->count; i++)
        bytes += record_room(d->log[i].blob ? d->log[i].blob->bytes : 0);
    char *data = mem_alloc(bytes);
    segment_header_fill((struct segment_header *)data, CLUSTER, d->first, SEED, bytes);
    for (size_t i = 0; i < d->count; i++) {
        const struct raft_entry *entry = &d->log[i];
        struct record_header header = {.type = (uint16_t)entry->type,
                                       .bytes = entry->blob ? entry->blob->bytes : 0,
                                       .index = entry->index,
                                       .term = entry->term,
                                       .synced = entry->index - 1,
                                       .prev = sum};
        sum = record_write(data + at, &header, entry->blob ? entry->blob->data : NULL);
        at += record_room(header.bytes);
    }
    *ret_bytes = bytes;
    return data;
}

/* Is it said that this is not what was written? */
static bool is_told(const struct disk *d, struct segment_scan *scan)
{
    struct wal_mark mark = {.index = d->marked, .term = d->marked_term};
    uint64_t term = scan->count > 0 ? scan->terms[scan->count - 1] : d->images[0].term;
    return scan->verdict == SEGMENT_CORRUPT ||
           wal_mark_missed(&mark, d->images[0].index, d->first + scan->count - 1, term, scan->why, sizeof scan->why);
}

static bool log_refused(struct world *w, struct node *n)
{
    struct disk *d = &n->disk;
    uint64_t bytes;
    struct segment_scan scan;
    char *data = log_bytes(d, &bytes);
    uint64_t bit = d->flip % (8 * bytes);
    data[bit / 8] ^= (char)(1u << bit % 8);
    segment_scan(data, bytes, d->first, CLUSTER, true, &scan);
    bool refused = is_told(d, &scan);
    /* Of the newest record it may look as if it had not been written to its end, if nobody was told that it was, or an image has it. */
    bool cut = !refused && scan.verdict == SEGMENT_TORN && scan.count + 1 == d->count &&
               (disk_last(d) > d->marked || disk_last(d) <= d->images[0].index);
    if (refused || cut)
        say(w, "member %" PRIu64 " says: %s", n->id, scan.why);
    else
        violation(w, "member %" PRIu64 " would start though bit %" PRIu64 " of its log has flipped: %s", n->id, bit,
                  scan.verdict == SEGMENT_TORN ? scan.why : "nothing is said");
    if (cut)
        disk_lose_last(d);
    segment_scan_release(&scan);
    mem_free(data);
    return refused;
}

/* The older image and a longer log say the same; where the log does not go back so far, something is missing. */
static bool image_refused(struct world *w, struct node *n)
{
    struct disk *d = &n->disk;
    struct image *image = &d->images[0];
    uint64_t bit = d->flip % (8 * image->total);
    image->bytes[bit / 8] ^= (char)(1u << bit % 8);
    if (XXH3_64bits(image->bytes, image->total) == image->digest)
        violation(w, "member %" PRIu64 " would start though bit %" PRIu64 " of its snapshot has flipped", n->id, bit);
    image_release(image);
    d->images[0] = d->images[1];
    d->images[1] = (struct image){0};
    bool missing = d->first > d->images[0].index + 1;
    say(w, "member %" PRIu64 " passes over its snapshot; that %s", n->id, missing ? "leaves a gap" : "before it is good");
    return missing;
}

bool flip_refused(struct world *w, struct node *n)
{
    bool refused = n->disk.flip != 0 && (n->disk.flips_image ? image_refused(w, n) : log_refused(w, n));
    n->disk.flip = 0;
    n->broken = n->broken || refused;
    return n->broken;
}

/* ---- it is replaced ---- */

/* True: something was to be done for it. */
static bool repair(struct world *w, struct node *leader, struct node *n)
{
    const struct raft_member *member = raft_config_member(&w->committed, n->id);
    if (n->broken && member == NULL) {
        node_renew(w, n);
        n->owed = true;
    } else if (n->broken) {
        (void)admin_change(w, leader, RAFT_EV_REMOVE, n->id);
    } else if (n->owed && member == NULL) {
        (void)admin_change(w, leader, RAFT_EV_ADD, n->id);
    } else if (n->owed && !member->voter) {
        (void)admin_change(w, leader, RAFT_EV_PROMOTE, n->id);
    } else {
        n->owed = false;
        return false;
    }
    return true;
}

/* One after the other. */
void repair_turn(struct world *w)
{
    struct node *leader = world_leader(w);
    bool done = leader == NULL || leader->paused_until > w->now;
    for (uint32_t i = 0; i < w->node_count && !done; i++)
        done = repair(w, leader, &w->nodes[i]);
    later(w, REPAIR_NS, (struct happening){.kind = HAPPEN_REPAIR});
}

bool flips_repaired(const struct world *w)
{
    for (uint32_t i = 0; i < w->node_count; i++)
        if (ill(&w->nodes[i]))
            return false;
    return true;
}
