/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/sim/raft/sim.h"

static void again(struct world *w, uint32_t index, uint64_t delay)
{
    struct client *c = &w->clients[index];
    c->attempt++;
    later(w, delay, (struct happening){.kind = HAPPEN_CLIENT, .node = index, .number = c->attempt});
}

/* Any member, mostly the one that says it leads. */
static struct node *some_node(struct world *w)
{
    struct node *leader = world_leader(w);
    if (leader != NULL && !chance(w, 250000))
        return leader;
    return &w->nodes[between(w, 0, w->node_count - 1)];
}

static void give_up(struct world *w, uint32_t index, uint64_t delay)
{
    w->clients[index].state = CLIENT_ASKS;
    again(w, index, delay);
}

static void finish(struct world *w, uint32_t index)
{
    struct client *c = &w->clients[index];
    c->state = CLIENT_IDLE;
    again(w, index, chance(w, 500000) ? between(w, 0, MS(2)) : between(w, MS(2), MS(120)));
}

/* ---- asking ---- */

static enum tide_status propose(struct world *w, struct node *n, struct client *c, uint32_t index)
{
    struct err err = {0};
    struct command command = {.client = index, .sequence = c->sequence, .value = c->value,
                              .filler = (uint32_t)(c->value % (w->filler_max + 1))};
    struct raft_entry entry = {.type = RAFT_COMMAND, .blob = command_blob(&command)};
    struct raft_event event = {.kind = RAFT_EV_PROPOSE, .entries = &entry, .count = 1};
    enum tide_status status = node_step(w, n, &event, &err);
    c->index = entry.index;
    c->term = entry.term;
    raft_blob_unref(entry.blob);
    return status;
}

static enum tide_status read_ask(struct world *w, struct node *n, struct client *c)
{
    struct err err = {0};
    c->read = ++w->next_read;
    c->floor = w->acknowledged;
    struct raft_event event = {.kind = RAFT_EV_READ, .number = c->read};
    return node_step(w, n, &event, &err);
}

static void ask(struct world *w, uint32_t index)
{
    struct client *c = &w->clients[index];
    struct node *n = some_node(w);
    if (!n->up || n->paused_until > w->now || (n->quiet_until > w->now && !w->healed)) {
        again(w, index, between(w, MS(5), MS(60)));
        return;
    }
    c->state = CLIENT_WAITS;
    c->node = n->slot;
    c->node_epoch = n->epoch;
    c->index = c->term = c->read_index = 0;
    again(w, index, between(w, MS(200), MS(1500))); /* until then; an answer makes this turn void */
    uint64_t attempt = c->attempt;
    enum tide_status status = c->reading ? read_ask(w, n, c) : propose(w, n, c, index);
    if (status != TIDE_OK && c->attempt == attempt) {
        w->refused++;
        give_up(w, index, between(w, MS(3), MS(60)));
    }
}

void client_turn(struct world *w, uint32_t index, uint64_t attempt)
{
    struct client *c = &w->clients[index];
    if (attempt != c->attempt || w->stop)
        return;
    if (c->state == CLIENT_WAITS) { /* nobody knows what became of it: ask again under the same number */
        w->unknown++;
        c->state = CLIENT_ASKS;
    }
    if (c->state == CLIENT_IDLE) {
        if (w->quiet)
            return;
        c->reading = chance(w, 250000);
        if (!c->reading) {
            c->sequence++;
            c->value = ++w->next_value * 7919u;
        }
        c->began = w->now;
        c->state = CLIENT_ASKS;
    }
    ask(w, index);
}

void clients_begin(struct world *w)
{
    for (uint32_t i = 0; i < w->client_count; i++)
        again(w, i, between(w, 0, MS(300)));
}

/* ---- answers ---- */

void client_applied(struct world *w, struct node *n, uint64_t index, uint64_t term)
{
    for (uint32_t i = 0; i < w->client_count; i++) {
        struct client *c = &w->clients[i];
        if (c->state != CLIENT_WAITS || c->reading || c->index != index || c->node != n->slot || c->node_epoch != n->epoch)
            continue;
        if (c->term != term) { /* another entry took its place: certainly not done */
            give_up(w, i, between(w, 0, MS(20)));
            continue;
        }
        if (n->machine.sessions[i] < c->sequence)
            violation(w, "client %u: request %" PRIu64 " is acknowledged and not applied", i, c->sequence);
        if (w->acknowledged < index)
            w->acknowledged = index;
        w->acks++;
        finish(w, i);
    }
}

void client_read_done(struct world *w, struct node *n, const struct raft_read *read)
{
    for (uint32_t i = 0; i < w->client_count; i++) {
        struct client *c = &w->clients[i];
        if (c->state != CLIENT_WAITS || !c->reading || c->read != read->number)
            continue;
        if (!read->permitted) {
            give_up(w, i, between(w, 0, MS(20)));
            continue;
        }
        if (read->index < c->floor)
            violation(w, "member %" PRIu64 " permits a read at %" PRIu64 " after %" PRIu64 " was acknowledged", n->id,
                      read->index, c->floor);
        c->read_index = read->index;
    }
}

void client_look(struct world *w, struct node *n)
{
    for (uint32_t i = 0; i < w->client_count; i++) {
        struct client *c = &w->clients[i];
        if (c->state != CLIENT_WAITS || !c->reading || c->read_index == 0 || c->node != n->slot || c->node_epoch != n->epoch ||
            n->machine.applied < c->read_index)
            continue;
        w->reads++;
        finish(w, i);
    }
}

/* ---- load without a session: many entries at a time ---- */

bool bulk_propose(struct world *w, struct node *n, size_t count)
{
    struct raft_entry entries[64] = {{0}};
    struct err err = {0};
    struct raft_event event = {.kind = RAFT_EV_PROPOSE, .entries = entries, .count = count};
    for (size_t i = 0; i < count; i++) {
        struct command command = {.client = CLIENTS_MAX, .value = ++w->next_value,
                                  .filler = (uint32_t)between(w, 0, w->filler_max)};
        entries[i] = (struct raft_entry){.type = RAFT_COMMAND, .blob = command_blob(&command)};
    }
    bool taken = node_step(w, n, &event, &err) == TIDE_OK;
    for (size_t i = 0; i < count; i++)
        raft_blob_unref(entries[i].blob);
    return taken;
}

/* ---- the person who changes the group ---- */

bool admin_change(struct world *w, struct node *n, unsigned kind, uint64_t id)
{
    struct raft_member member;
    struct err err = {0};
    struct raft_event event = {.kind = kind, .number = id, .member = &member};
    member_of(id, false, &member);
    w->promoting = id;
    bool taken = node_step(w, n, &event, &err) == TIDE_OK;
    say(w, "member %" PRIu64 " is asked for change %u of %" PRIu64 ": %s", n->id, kind, id, taken ? "taken" : err.text);
    w->changes += taken && kind != RAFT_EV_TRANSFER;
    return taken;
}

void admin_turn(struct world *w)
{
    static const unsigned kinds[] = {RAFT_EV_ADD, RAFT_EV_ADD, RAFT_EV_PROMOTE, RAFT_EV_PROMOTE, RAFT_EV_REMOVE};
    struct node *n = some_node(w);
    if (!n->up || n->paused_until > w->now)
        return;
    struct node *whom = &w->nodes[between(w, 0, w->node_count - 1)];
    const struct raft_config *config = raft_config_of(n->raft);
    const struct raft_member *member = raft_config_member(config, whom->id);
    unsigned kind = kinds[between(w, 0, 4)];
    if (member == NULL)
        kind = RAFT_EV_ADD;
    else if (!member->voter && kind == RAFT_EV_ADD)
        kind = RAFT_EV_PROMOTE;
    else if (member->voter && raft_config_voters(config) <= w->founding / 2 + 1 && !chance(w, 150000))
        return; /* mostly keeps the group large enough to be interesting */
    else if (member->voter)
        kind = RAFT_EV_REMOVE;
    if (kind == RAFT_EV_ADD && whom->removed)
        return;
    (void)admin_change(w, n, kind, whom->id);
}

/* A machine that was removed runs on for a while, and is then set up anew under another id. */
void admin_retires(struct world *w)
{
    for (uint32_t i = 0; i < w->node_count; i++) {
        struct node *n = &w->nodes[i];
        if (!n->removed || n->broken || w->now < n->removed_at + between(w, MS(200), SECONDS(3)))
            continue;
        node_renew(w, n);
    }
}
