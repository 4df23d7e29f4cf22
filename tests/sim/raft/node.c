/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/raft/sim.h"

void member_of(uint64_t id, bool voter, struct raft_member *ret_member)
{
    *ret_member = (struct raft_member){.id = id, .voter = voter};
    snprintf(ret_member->peer, sizeof ret_member->peer, "m%" PRIu64 ":1", id);
    snprintf(ret_member->api, sizeof ret_member->api, "http://m%" PRIu64, id);
}

/* ---- life ---- */

static void load_machine(struct world *w, struct node *n)
{
    n->machine = (struct machine){0};
    if (n->disk.images[0].index != 0 && !machine_parse(&n->disk.images[0], &n->machine))
        violation(w, "member %" PRIu64 " cannot read its snapshot", n->id);
}

static void tick_later(struct world *w, struct node *n)
{
    later(w, n->tick_ns, (struct happening){.kind = HAPPEN_TICK, .node = n->slot, .epoch = n->epoch});
}

void node_boot(struct world *w, struct node *n)
{
    struct disk *d = &n->disk;
    struct err err = {0};
    if (n->up || w->stop || flip_refused(w, n) || w->stop)
        return;
    disk_recover(w, d);
    const struct image *image = &d->images[0];
    struct raft_options options = {.id = n->id,
                                   .seed = mix(w->seed, n->epoch * NODES_MAX + n->slot),
                                   .election_ticks = w->election_ticks,
                                   .heartbeat_ticks = w->heartbeat_ticks,
                                   .ballot = d->ballot,
                                   .snapshot = {image->index, image->term, image->total, image->digest, image->config},
                                   .entries = d->log,
                                   .count = d->count};
    n->epoch++;
    n->paused_until = n->quiet_until = 0;
    n->crash_stage = 0;
    n->tick_ns = MS(RAFT_TICK_MS) / 100 * between(w, 85, 118);
    if (raft_create(&options, &n->raft, &err) != TIDE_OK) {
        violation(w, "member %" PRIu64 " cannot start from its disk: %s", n->id, err.text);
        return;
    }
    n->up = true;
    load_machine(w, n);
    raft_get_status(n->raft, &n->status);
    say(w, "member %" PRIu64 " starts: term %" PRIu64 ", log %" PRIu64 "-%" PRIu64 ", snapshot %" PRIu64, n->id, n->status.term,
        n->status.first, n->status.last, n->status.snapshot);
    check_started(w, n);
    later(w, between(w, 1, n->tick_ns), (struct happening){.kind = HAPPEN_TICK, .node = n->slot, .epoch = n->epoch});
}

void node_crash(struct world *w, struct node *n)
{
    if (!n->up)
        return;
    say(w, "member %" PRIu64 " dies", n->id);
    raft_free(n->raft);
    n->raft = NULL;
    n->up = false;
    n->epoch++;
    n->status = (struct raft_status){0};
    disk_crash(w, &n->disk);
    w->crashes++;
}

void node_renew(struct world *w, struct node *n)
{
    node_crash(w, n);
    disk_wipe(&n->disk);
    n->id = ++w->next_id;
    n->was_member = n->removed = n->broken = false;
    n->machine = (struct machine){0};
    say(w, "slot %u is member %" PRIu64 " from now on", n->slot, n->id);
    later(w, between(w, 0, MS(500)), (struct happening){.kind = HAPPEN_BOOT, .node = n->slot, .epoch = n->epoch});
}

/* ---- what raft.h asks for, in its order ---- */

static void do_messages(struct world *w, struct node *n, struct raft_update *update)
{
    for (size_t i = 0; i < update->message_count && !w->stop; i++) {
        struct raft_message *message = &update->messages[i];
        check_message(w, n, message);
        if (message->kind == RAFT_MSG_SNAPSHOT && !image_fill(n, message))
            continue;
        message_send(w, n, message);
    }
}

static void do_apply(struct world *w, struct node *n, const struct raft_update *update)
{
    if (update->restore != 0) {
        if (n->disk.images[0].index != update->restore && n->disk.images[1].index != update->restore)
            violation(w, "member %" PRIu64 " shall restore %" PRIu64 ", which it does not have", n->id, update->restore);
        if (update->restore < n->machine.applied)
            violation(w, "member %" PRIu64 " shall go back from %" PRIu64 " to %" PRIu64, n->id, n->machine.applied,
                      update->restore);
        load_machine(w, n);
        check_restored(w, n);
    }
    while (!w->stop && n->machine.applied < update->commit) {
        const struct raft_entry *entry = raft_entry_at(n->raft, n->machine.applied + 1);
        if (entry == NULL) {
            violation(w, "member %" PRIu64 " shall apply %" PRIu64 ", which is not in memory", n->id, n->machine.applied + 1);
            return;
        }
        machine_apply(w, &n->machine, entry);
        check_applied(w, n, entry);
        client_applied(w, n, entry->index, entry->term);
    }
}

static void do_reads(struct world *w, struct node *n, const struct raft_update *update)
{
    for (size_t i = 0; i < update->read_count && !w->stop; i++)
        client_read_done(w, n, &update->reads[i]);
    client_look(w, n);
}

/* A crash may come between any two parts of this. */
static void do_update(struct world *w, struct node *n, struct raft_update *update)
{
    unsigned last = n->crash_stage != 0 ? n->crash_stage - 1 : 5;
    n->crash_stage = 0;
    if (last >= 1)
        disk_queue(w, n, &update->write);
    if (last >= 2 && !w->stop)
        do_messages(w, n, update);
    if (last >= 3 && !w->stop)
        do_apply(w, n, update);
    if (last >= 4 && !w->stop)
        do_reads(w, n, update);
    if (last >= 5 && !w->stop && update->chunk.snapshot.index != 0)
        image_chunk(w, n, &update->chunk);
    if (last < 5)
        node_crash(w, n);
}

enum tide_status node_step(struct world *w, struct node *n, struct raft_event *event, struct err *err)
{
    struct raft_update update = {0};
    struct raft_status before = n->status;
    enum tide_status status = raft_step(n->raft, event, &update, err);
    raft_get_status(n->raft, &n->status);
    n->steps++;
    w->hash = mix(w->hash ^ n->status.term, (n->status.last << 32) ^ (n->status.commit << 8) ^ n->status.role);
    if (status == TIDE_E_CORRUPT)
        violation(w, "member %" PRIu64 " says: %s", n->id, err->text);
    if (!w->stop)
        check_step(w, n, &before, event, &update, status);
    if (!w->stop)
        do_update(w, n, &update);
    raft_update_release(&update);
    /* The log must not grow without end; this is what makes a shell take one. */
    if (n->up && !w->stop && n->status.log_bytes > RAFT_LOG_BYTES_MAX / 2)
        image_take(w, n);
    return status;
}

static void on_message(struct world *w, struct node *n, struct raft_message *message)
{
    struct err err = {0};
    struct raft_event event = {.kind = RAFT_EV_MESSAGE, .message = message};
    if (message->to != n->id)
        return; /* for who lived in this slot before */
    enum tide_status status = node_step(w, n, &event, &err);
    if (status != TIDE_OK && !w->stop)
        violation(w, "member %" PRIu64 " refuses a message: %s", n->id, err.text);
}

static void on_tick(struct world *w, struct node *n)
{
    struct err err = {0};
    struct raft_event event = {.kind = RAFT_EV_TICK};
    if (!n->still)
        (void)node_step(w, n, &event, &err);
    if (n->up)
        tick_later(w, n);
}

static void on_chunk(struct world *w, struct node *n, uint64_t index)
{
    struct err err = {0};
    struct raft_event event = {.kind = RAFT_EV_CHUNK_STORED, .number = index, .offset = n->disk.have};
    if (node_step(w, n, &event, &err) != TIDE_OK)
        violation(w, "member %" PRIu64 " refuses a stored chunk: %s", n->id, err.text);
}

void node_happens(struct world *w, struct node *n, struct happening *happening)
{
    if (happening->kind == HAPPEN_BOOT) {
        if (happening->epoch == n->epoch)
            node_boot(w, n);
        return;
    }
    if (!n->up)
        return;
    if (happening->kind == HAPPEN_MESSAGE) {
        on_message(w, n, happening->pointer);
        return;
    }
    if (happening->epoch != n->epoch)
        return;
    switch (happening->kind) {
    case HAPPEN_TICK: on_tick(w, n); break;
    case HAPPEN_SYNCED: disk_synced(w, n); break;
    case HAPPEN_TAKEN: image_taken(w, n); break;
    case HAPPEN_CHUNK: on_chunk(w, n, happening->number); break;
    case HAPPEN_INSTALLED: image_installed(w, n, happening->number); break;
    default: break;
    }
}

/* ---- the group ---- */

struct node *world_leader(struct world *w)
{
    struct node *best = NULL;
    for (uint32_t i = 0; i < w->node_count; i++) {
        struct node *n = &w->nodes[i];
        if (n->up && n->status.role == RAFT_LEADER && (best == NULL || n->status.term > best->status.term))
            best = n;
    }
    return best;
}

void world_found(struct world *w, uint32_t members, uint32_t spares)
{
    struct raft_config config = {0};
    struct raft_entry first;
    struct err err = {0};
    w->founding = members;
    w->node_count = members + spares;
    for (uint32_t i = 0; i < w->node_count; i++) {
        struct raft_member member;
        struct node *n = &w->nodes[i];
        n->id = ++w->next_id;
        n->disk.first = 1;
        member_of(n->id, true, &member);
        if (i < members && raft_config_add(&config, &member, &err) != TIDE_OK)
            violation(w, "no first configuration: %s", err.text);
    }
    raft_first_entry(&config, &first);
    for (uint32_t i = 0; i < members; i++) {
        w->nodes[i].was_member = true;
        w->nodes[i].disk.ballot.term = 1;
        disk_put(w, &w->nodes[i].disk, &first);
    }
    w->committed = config;
    check_given(w, &first, 0);
    raft_blob_unref(first.blob);
    for (uint32_t i = 0; i < w->node_count; i++)
        node_boot(w, &w->nodes[i]);
}
