/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/raft/sim.h"

#define TURN_NS MS(50)
#define STANDSTILL_NS SECONDS(2) /* the most that trouble of one member may cost the others */

static struct node *anybody(struct world *w)
{
    if (w->mild)
        return &w->nodes[w->victim];
    return &w->nodes[between(w, 0, w->node_count - 1)];
}

/* Leaders are worth more. */
static struct node *somebody(struct world *w)
{
    struct node *leader = world_leader(w);
    return leader != NULL && !w->mild && chance(w, 350000) ? leader : anybody(w);
}

static void boot_later(struct world *w, struct node *n)
{
    uint64_t delay = chance(w, 700000) ? between(w, MS(1), MS(400)) : between(w, MS(400), SECONDS(6));
    later(w, delay, (struct happening){.kind = HAPPEN_BOOT, .node = n->slot, .epoch = n->epoch});
}

static void crash(struct world *w, struct node *n)
{
    if (!n->up)
        return;
    node_crash(w, n);
    boot_later(w, n);
}

/* Everybody at once: what was not durable anywhere is gone. */
static void power(struct world *w)
{
    say(w, "the power fails");
    for (uint32_t i = 0; i < w->node_count; i++)
        crash(w, &w->nodes[i]);
}

static void cut(struct world *w, uint32_t from, uint32_t to, uint64_t until)
{
    w->cut[from][to] = true;
    w->cut_until[from][to] = until;
}

static void cut_one_way(struct world *w)
{
    uint64_t until = w->now + between(w, MS(50), SECONDS(3));
    uint32_t a = anybody(w)->slot, b = (uint32_t)between(w, 0, w->node_count - 1);
    bool from = chance(w, 500000);
    say(w, "nothing comes from slot %u to slot %u", from ? a : b, from ? b : a);
    cut(w, from ? a : b, from ? b : a, until);
}

static void isolate(struct world *w)
{
    uint64_t until = w->now + between(w, MS(50), SECONDS(4));
    uint32_t a = somebody(w)->slot, way = (uint32_t)between(w, 1, 3); /* in, out, both */
    say(w, "slot %u is cut off, way %u", a, way);
    for (uint32_t i = 0; i < w->node_count; i++) {
        if (way & 1u)
            cut(w, i, a, until);
        if (way & 2u)
            cut(w, a, i, until);
    }
}

static void partition(struct world *w)
{
    uint64_t until = w->now + between(w, MS(100), SECONDS(4)), side = between(w, 1, (1u << w->node_count) - 2);
    say(w, "the network falls in two: %" PRIx64, side);
    for (uint32_t a = 0; a < w->node_count; a++)
        for (uint32_t b = 0; b < w->node_count; b++)
            if ((side >> a & 1u) != (side >> b & 1u))
                cut(w, a, b, until);
}

/* Stopped and going on. What it missed comes then; the time does not. */
static void pause_one(struct world *w)
{
    struct node *n = somebody(w);
    n->paused_until = w->now + (chance(w, 700000) ? between(w, MS(5), MS(300)) : between(w, MS(300), SECONDS(4)));
    say(w, "member %" PRIu64 " stands still", n->id);
}

static void full(struct world *w)
{
    struct node *n = somebody(w);
    struct raft_event event = {.kind = RAFT_EV_TRANSFER};
    struct err err = {0};
    if (!n->up || n->disk.full)
        return;
    say(w, "the disk of member %" PRIu64 " is nearly full", n->id);
    n->disk.full = true;
    n->quiet_until = w->now + SECONDS(20);
    n->disk.fails_after = w->now + between(w, MS(100), SECONDS(2));
    (void)node_step(w, n, &event, &err);
}

static void unreachable(struct world *w)
{
    struct node *n = somebody(w);
    struct raft_event event = {.kind = RAFT_EV_UNREACHABLE, .number = anybody(w)->id};
    struct err err = {0};
    if (n->up && n->paused_until <= w->now && event.number != n->id)
        (void)node_step(w, n, &event, &err);
}

static void transfer(struct world *w)
{
    struct node *n = world_leader(w);
    if (n != NULL && n->paused_until <= w->now)
        (void)admin_change(w, n, RAFT_EV_TRANSFER, chance(w, 300000) ? 0 : anybody(w)->id);
}

static void bulk(struct world *w)
{
    struct node *n = world_leader(w);
    if (n != NULL && n->paused_until <= w->now && n->quiet_until <= w->now)
        (void)bulk_propose(w, n, between(w, 1, 20));
}

/* What a shell does on its own, and a disk that died comes back. */
static void everyday(struct world *w)
{
    for (uint32_t i = 0; i < w->node_count; i++) {
        struct node *n = &w->nodes[i];
        if (n->up && n->paused_until <= w->now && chance(w, w->lies.snapshot))
            image_take(w, n);
        if (!n->up && chance(w, 30000))
            boot_later(w, n);
    }
    admin_retires(w);
}

static void disks(struct world *w)
{
    if (chance(w, w->lies.slow_disk))
        somebody(w)->disk.slow_until = w->now + between(w, MS(100), SECONDS(3));
    if (chance(w, w->lies.eio)) {
        struct node *n = somebody(w);
        if (n->up)
            n->disk.fails_after = w->now;
    }
    if (chance(w, w->lies.full))
        full(w);
    if (chance(w, w->lies.flip))
        flip_turn(w);
}

/* A majority is well and connected, and there is load: it must commit. */
static void check_progress(struct world *w)
{
    if (w->truth_count > w->progress || !w->mild || w->quiet) {
        w->progress = w->truth_count;
        w->progress_at = w->now;
    } else if (w->now > w->progress_at + STANDSTILL_NS) {
        violation(w, "only one member is in trouble, and nothing was committed for %" PRIu64 " s", STANDSTILL_NS / SECONDS(1));
    }
}

void fault_turn(struct world *w)
{
    const struct lies *l = &w->lies;
    if (w->healed)
        return;
    check_progress(w);
    everyday(w);
    disks(w);
    if (chance(w, l->crash))
        crash(w, somebody(w));
    if (chance(w, l->crash_inside))
        somebody(w)->crash_stage = (unsigned)between(w, 1, 5);
    if (chance(w, l->power))
        power(w);
    if (chance(w, l->pause))
        pause_one(w);
    if (chance(w, l->cut_one_way))
        cut_one_way(w);
    if (chance(w, l->isolate))
        isolate(w);
    if (chance(w, l->partition))
        partition(w);
    if (chance(w, l->unreachable))
        unreachable(w);
    if (chance(w, l->admin))
        admin_turn(w);
    if (chance(w, l->transfer))
        transfer(w);
    if (chance(w, l->bulk))
        bulk(w);
    if (w->truth_count > TRUTH_MAX - 4000)
        w->quiet = true;
    later(w, TURN_NS, (struct happening){.kind = HAPPEN_FAULT});
}

void faults_begin(struct world *w)
{
    later(w, MS(600), (struct happening){.kind = HAPPEN_FAULT});
    if (w->lies.flip != 0)
        repair_turn(w);
}

void faults_heal(struct world *w)
{
    say(w, "everything is healed");
    w->healed = w->quiet = true;
    memset(w->cut, 0, sizeof w->cut);
    for (uint32_t i = 0; i < w->node_count; i++) {
        struct node *n = &w->nodes[i];
        n->crash_stage = 0;
        n->disk.fails_after = n->disk.slow_until = 0;
        n->disk.full = false;
        n->quiet_until = 0;
        if (!n->up)
            later(w, between(w, 0, MS(100)), (struct happening){.kind = HAPPEN_BOOT, .node = n->slot, .epoch = n->epoch});
    }
}

/* ---- how it must end ---- */

static bool caught_up(const struct node *n, const struct node *leader)
{
    return n->up && n->status.term == leader->status.term && n->status.leader == leader->id &&
           n->status.last == leader->status.last && n->status.commit == leader->status.last &&
           n->machine.applied == leader->status.last && n->config_hash == leader->config_hash;
}

/* And the leader knows it. */
static bool all_match(const struct raft_status *leader)
{
    for (size_t i = 0; i < leader->peer_count; i++)
        if (leader->peers[i].match != leader->last)
            return false;
    return true;
}

bool world_converged(const struct world *w)
{
    const struct node *leader = world_leader((struct world *)w);
    if (leader == NULL || !leader->status.ready || !all_match(&leader->status) || !flips_repaired(w))
        return false;
    for (uint32_t i = 0; i < w->client_count; i++)
        if (w->clients[i].state != CLIENT_IDLE)
            return false;
    for (uint32_t i = 0; i < w->node_count; i++)
        if (raft_config_member(&w->committed, w->nodes[i].id) != NULL && !caught_up(&w->nodes[i], leader))
            return false;
    return true;
}

void check_end(struct world *w)
{
    const struct node *leader = world_leader(w);
    if (w->stop)
        return;
    if (!world_converged(w)) {
        uint32_t open = 0;
        for (uint32_t i = 0; i < w->client_count; i++)
            open += w->clients[i].state != CLIENT_IDLE;
        for (uint32_t i = 0; i < w->node_count && w->verbose; i++) {
            const struct node *n = &w->nodes[i];
            say(w, "member %" PRIu64 " %s %s term %" PRIu64 " leader %" PRIu64 " log %" PRIu64 "-%" PRIu64 " commit %" PRIu64
                " applied %" PRIu64 "%s", n->id, n->up ? "up" : "down", n->up ? raft_role_name(n->status.role) : "",
                n->status.term, n->status.leader, n->status.first, n->status.last, n->status.commit, n->machine.applied,
                raft_config_member(&w->committed, n->id) != NULL ? "" : " (not in the group)");
        }
        violation(w, "long after healing: %s, %u requests open", leader == NULL ? "nobody leads" : "somebody is behind", open);
        return;
    }
    if (leader->status.commit != w->truth_count || leader->machine.chain != w->truth[w->truth_count].chain)
        violation(w, "the group agrees on another state than was committed");
    for (uint32_t i = 0; i < w->client_count; i++)
        if (leader->machine.sessions[i] != w->clients[i].sequence)
            violation(w, "client %u has asked %" PRIu64 " times, applied are %" PRIu64, i, w->clients[i].sequence,
                      leader->machine.sessions[i]);
}
