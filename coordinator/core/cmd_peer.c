/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/inner.h"
#include "coordinator/core/peer.h"

/* What a node's ranks recorded is in its memory only, until it is in the store. A copy in the memory of a node of another failure
 * domain outlives the host: see "Peers" in coordinator/README.md. Who is to have it is decided here, once, and stays so. */

/* ---- the plan ---- */

struct seats {
    struct peer_seat *items;
    size_t count;
    const struct state *state;
    bool split; /* usable ones are of more than one domain: so there is one of another, whoever asks */
};

static struct peer_seat seat_of(const struct node *node)
{
    bool usable = node->state == TIDE_NODE_READY && !node->cordoned && !node->spared && node->health < TIDE_HEALTH_SUSPECT;
    return peer_seat_of(node->name, node->domain, usable);
}

static struct peer_seat *seat_find(struct seats *seats, const char *name)
{
    bool found = false;
    size_t at = name[0] != '\0' ? state_node_index(seats->state, name, &found) : 0;
    return found ? &seats->items[at] : NULL;
}

static void seats_init(struct seats *seats, const struct state *state)
{
    *seats = (struct seats){.items = mem_array(state->nodes.count, sizeof seats->items[0]), .count = state->nodes.count, .state = state};
    const char *domain = NULL;
    for (size_t i = 0; i < seats->count; i++) {
        seats->items[i] = seat_of(&state->nodes.items[i]);
        if (!seats->items[i].usable)
            continue;
        seats->split = seats->split || (domain != NULL && strcmp(domain, seats->items[i].domain) != 0);
        domain = seats->items[i].domain;
    }
    for (size_t i = 0; i < state->jobs.count; i++)
        for (size_t n = 0; n < state->jobs.items[i].peers.count; n++) {
            struct peer_seat *seat = seat_find(seats, state->jobs.items[i].peers.items[n]);
            if (seat != NULL)
                seat->load++;
        }
}

/* Who has it keeps it, unless it cannot or one of another domain has come. NULL: nobody. */
static struct peer_seat *seat_for(struct seats *seats, const struct job_record *record, size_t n)
{
    struct peer_seat *self = seat_find(seats, record->job.nodes.items[n]);
    struct peer_seat *now = n < record->peers.count ? seat_find(seats, record->peers.items[n]) : NULL;
    if (self == NULL)
        return NULL;
    bool fits = now != NULL && now->usable && now != self;
    if (fits && (!seats->split || strcmp(now->domain, self->domain) != 0))
        return now;
    if (now != NULL)
        now->load--;
    size_t at = peer_pick(seats->items, seats->count, peer_key(record->job.uid, n), self);
    struct peer_seat *best = at == PEER_NONE ? NULL : &seats->items[at];
    if (best != NULL)
        best->load++;
    return best;
}

static void plan_job(struct seats *seats, struct job_record *record, uint64_t revision)
{
    struct strlist peers = {0};
    for (size_t n = 0; n < record->job.nodes.count; n++) {
        const struct peer_seat *seat = seat_for(seats, record, n);
        strlist_add(&peers, seat != NULL ? seat->name : "");
    }
    if (strlist_same(&peers, &record->peers)) {
        strlist_release(&peers);
        return;
    }
    strlist_release(&record->peers);
    record->peers = peers;
    record->peers_at = revision;
}

void peers_plan(struct state *state)
{
    struct seats seats = {0};
    for (size_t i = 0; i < state->jobs.count && state->level > 2; i++) {
        struct job_record *record = &state->jobs.items[i];
        if (record->phase != GEN_PHASE_LAUNCHED || record->job.spec.copies == COPIES_NO)
            continue;
        if (seats.state == NULL)
            seats_init(&seats, state);
        plan_job(&seats, record, state->revision);
    }
    mem_free(seats.items);
}

void peers_release(struct job_record *record)
{
    strlist_release(&record->peers);
    record->peers_at = 0;
    record->unpeered = false;
}

/* ---- what is copied ---- */

static void sealed_again(struct ckpt *ckpt)
{
    if (ckpt->state == TIDE_CKPT_PEERED)
        ckpt->state = TIDE_CKPT_SEALED;
}

void ckpt_unpeer(struct ckpt *ckpt)
{
    strlist_release(&ckpt->peers);
    sealed_again(ckpt);
}

bool ckpt_unpeer_node(struct ckpt *ckpt, const char *node)
{
    bool any = false, left = false;
    for (size_t n = 0; n < ckpt->peers.count; n++) {
        if (strcmp(ckpt->peers.items[n], node) == 0) {
            ckpt->peers.items[n][0] = '\0';
            any = true;
        }
        left = left || ckpt->peers.items[n][0] != '\0';
    }
    if (any)
        sealed_again(ckpt);
    if (any && !left)
        strlist_release(&ckpt->peers);
    return any;
}

const char *ckpt_peer(const struct state *state, const struct ckpt *ckpt, size_t n)
{
    const char *peer = n < ckpt->peers.count ? ckpt->peers.items[n] : "";
    return peer[0] != '\0' && node_up(state, peer) ? peer : NULL;
}

static enum tide_status find_copied(struct change *change, struct ckpt **ret_ckpt)
{
    const struct command *command = change->command;
    *ret_ckpt = job_ckpt(&change->job->job, command->cut);
    if (*ret_ckpt != NULL && ckpt_restorable(*ret_ckpt) && (*ret_ckpt)->nodes.count > 0)
        return TIDE_OK;
    return err_set(change->err, TIDE_E_STALE, "checkpoint %s/%" PRIu64 " is not whole in memory (any more)", command->job, command->cut);
}

/* Where a copy is in the domain it is of: that is told, as it does not outlive what ends both. */
static const char *same_domain(const struct state *state, const struct job_record *record)
{
    for (size_t n = 0; n < record->peers.count; n++) {
        const struct node *node = state_node(state, record->job.nodes.items[n]), *peer = state_node(state, record->peers.items[n]);
        if (node != NULL && peer != NULL && node->domain[0] != '\0' && strcmp(node->domain, peer->domain) == 0)
            return node->domain;
    }
    return NULL;
}

/* Older copies have done what they were for. */
static void unpeer_older(struct job_record *record, uint64_t cut)
{
    for (size_t i = 0; i < record->job.ckpts.count; i++) {
        struct ckpt *ckpt = &record->job.ckpts.items[i];
        if (ckpt->cut < cut && !job_restoring_from(record, ckpt->cut))
            ckpt_unpeer(ckpt);
    }
}

enum tide_status apply_CKPT_PEERED(struct change *change)
{
    struct job_record *record = change->job;
    struct ckpt *ckpt = NULL;
    enum tide_status status = find_copied(change, &ckpt);
    if (status != TIDE_OK)
        return status;
    if (record->peers.count == 0 || record->peers_at != change->command->epoch || strlist_has(&record->peers, "") ||
        strlist_same(&ckpt->peers, &record->peers) || !strlist_same(&ckpt->nodes, &record->job.nodes))
        return err_set(change->err, TIDE_E_STALE, "checkpoint %s/%" PRIu64 ": others are to have the copies by now, or these are known",
                       change->command->job, ckpt->cut);
    strlist_assign(&ckpt->peers, &record->peers);
    if (ckpt->state == TIDE_CKPT_SEALED)
        ckpt->state = TIDE_CKPT_PEERED;
    unpeer_older(record, ckpt->cut);
    record->unpeered = false;
    const char *domain = same_domain(change->state, record);
    event_add(change, EVENT_PEERED, NULL, -1, ckpt->cut,
              "checkpoint %" PRIu64 " (step %" PRIu64 ") is in the memory of other nodes, too%s%s", ckpt->cut, ckpt->step,
              domain != NULL ? "; there is none but of the same domain: " : "", domain != NULL ? domain : "");
    return TIDE_OK;
}

enum tide_status apply_CKPT_UNPEERED(struct change *change)
{
    const struct event *event = &change->command->event;
    struct job_record *record = change->job;
    struct ckpt *ckpt = NULL;
    enum tide_status status = find_copied(change, &ckpt);
    if (status != TIDE_OK)
        return status;
    bool had = ckpt_unpeer_node(ckpt, event->node);
    if (!had && record->unpeered)
        return err_set(change->err, TIDE_E_STALE, "checkpoint %s/%" PRIu64 ": that has been told", change->command->job, ckpt->cut);
    record->unpeered = true;
    event_add(change, EVENT_UNPEERED, event->node, event->rank, ckpt->cut, "checkpoint %" PRIu64 " is not copied to the memory of %s: %s",
              ckpt->cut, event->node, event->text);
    return TIDE_OK;
}
