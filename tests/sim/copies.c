/* SPDX-License-Identifier: Apache-2.0 */
/* From one host's memory into another's: as good as it is there at the moment when it ends, and only for who knows the secret of the
 * generation that the agent there knows of. */
#include "tests/sim/sim.h"

static struct host *host_called(struct world *w, const char *name)
{
    for (uint32_t i = 0; i < w->host_count; i++)
        if (strcmp(w->hosts[i].name, name) == 0)
            return &w->hosts[i];
    return NULL;
}

static const struct slot_model *source(struct slot_model (*slots)[SLOTS], const struct agent_event *event)
{
    for (uint32_t s = 0; s < SLOTS; s++)
        if (slots[event->rank][s].cut == event->cut && slots[event->rank][s].summed)
            return &slots[event->rank][s];
    return NULL;
}

static enum tide_status look(struct world *w, const char *from, const char *token, const struct agent_event *event,
                             struct slot_model *ret_slot)
{
    struct host *there = host_called(w, from);
    const char *known = there != NULL && there->up && there->agent_up && there->stopped_until <= w->now
                            ? agent_token(there->core, event->uid) : NULL;
    if (known == NULL || strcmp(known, token) != 0)
        return TIDE_E_UNAVAILABLE;
    struct arena *arena = arena_of(there, event->uid);
    const struct slot_model *slot = arena != NULL ? source(arena->slots, event) : NULL;
    if (slot == NULL && arena != NULL)
        slot = source(arena->copies, event);
    if (slot == NULL)
        return TIDE_E_NOT_FOUND;
    if (slot->content != slot->sum)
        return TIDE_E_CORRUPT;
    *ret_slot = *slot;
    return TIDE_OK;
}

void copies_fetch(struct world *w, struct host *h, const char *from, const char *token, struct agent_event *event)
{
    struct arena *arena = arena_of(h, event->uid);
    struct slot_model slot;
    event->status = look(w, from, token, event, &slot);
    trace(w, "%s copies rank %u cut %" PRIu64 " from %s: %s", h->name, event->rank, event->cut, from, tide_status_name(event->status));
    if (event->status != TIDE_OK) {
        text_copy(event->text, sizeof event->text, "the other host does not give it");
        return;
    }
    if (arena == NULL)
        arena = arena_make(w, h, event->uid, event->job);
    slot_digest(event->uid, event->rank, &slot, event->digest);
    if (event->kind == EV_FETCHED)
        arena->slots[event->rank][event->slot] = slot;
    else
        arena->copies[event->rank][event->slot] = slot;
    event->kind == EV_FETCHED ? w->copies_used++ : w->copies_made++;
}

void copies_drop(struct host *h, const struct agent_event *event)
{
    struct arena *arena = arena_of(h, event->uid);
    if (arena != NULL)
        memset(&arena->copies[event->rank][event->slot], 0, sizeof arena->copies[0][0]);
}
