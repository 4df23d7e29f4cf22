/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "agent/core/internal.h"

void restore_begin(struct restore_part *restore, uint64_t cut)
{
    uint32_t asked = restore->asked, answered = restore->answered;
    bool due = restore->answer_due, prefetch = restore->prefetch;
    memset(restore, 0, sizeof *restore);
    restore->cut = cut;
    restore->bad_slot = -1;
    restore->asked = asked;
    restore->answered = answered;
    restore->answer_due = due;
    restore->prefetch = prefetch;
}

/* A peer that gave no answer may give one by now: it is asked once, before the store is tried again, and as often as any where the store
 * is used up. */
static void peer_again(struct restore_part *restore)
{
    if (!restore->peer_silent)
        return;
    restore->peer_bad = restore->peer_silent = false;
    restore->peer_failures = restore->store_bad ? 0 : AGENT_PEER_TRIES_MAX - 1;
}

/* The copy named last was bad: that tier is used up, and the slot holds nothing any more. */
static void mark_bad(struct agent_core *core, struct job_part *job, struct rank_part *part, const struct step_ask *ask)
{
    struct restore_part *restore = &part->restore;
    uint32_t bad = (uint32_t)ask->bad_slot;
    struct slot_part *slot = &slots_of(job, part->rank)->slots[bad];
    slot->bad_cut = slot->cut != 0 ? slot->cut : restore->cut;
    slot->cut = 0;
    slot->epoch = ++job->epoch;
    bool fetched = restore->state == RESTORE_READY && restore->slot == bad && restore->tier != LOCAL_TIER_RAM;
    const char *whose = !fetched ? "arena's" : restore->tier == LOCAL_TIER_PEER ? "peer's" : "store's";
    restore->store_bad = restore->store_bad || (fetched && restore->tier == LOCAL_TIER_STORE);
    restore->peer_bad = restore->peer_bad || (fetched && restore->tier == LOCAL_TIER_PEER);
    restore->peer_silent = restore->peer_silent && !(fetched && restore->tier == LOCAL_TIER_PEER);
    restore->ram_bad = true;
    restore->bad_slot = ask->bad_slot;
    if (restore->store_bad)
        peer_again(restore);
    if (restore->state == RESTORE_READY)
        restore->state = RESTORE_IDLE;
    text_copy(restore->text, sizeof restore->text, ask->bad_detail);
    core->dirty = true;
    say(core, LOG_WARN, "job %s: rank %u found the %s copy of checkpoint %llu bad: %.120s", job->name, part->rank,
        whose, (unsigned long long)restore->cut, ask->bad_detail);
}

void restore_ask(struct agent_core *core, struct job_part *job, struct rank_part *part, const struct step_ask *ask)
{
    struct restore_part *restore = &part->restore;
    if (ask->attempt > restore->asked) {
        restore->asked = ask->attempt;
        if (job->has_order && restore->cut == 0 && job->order.restore_cut != 0)
            restore_begin(restore, job->order.restore_cut);
        if (ask->bad_slot >= 0 && ask->bad_slot < (int32_t)SLOTS)
            mark_bad(core, job, part, ask);
        else if (restore->state == RESTORE_FAILED && restore->status != TIDE_E_CORRUPT)
            restore_begin(restore, restore->cut); /* a store out of reach is worth another try */
    }
    /* Said again although answered: the answer was lost on the way, or crosses this status; once more does no harm. */
    restore->answer_due = true;
}

/* The rank whose work this event ends. NULL: its step is no more. */
static struct rank_part *part_waiting(struct job_part *job, const struct agent_event *event, unsigned state)
{
    for (size_t i = 0; i < job->steps.count; i++) {
        struct rank_part *part = rank_of(&job->steps.items[i], event->rank);
        if (part != NULL && part->restore.state == state && part->restore.cut == event->cut)
            return part;
    }
    return NULL;
}

/* The slot that claims to hold the cut is the one to be written over, and is not held by any later look. */
static void mark_found_bad(struct job_part *job, struct rank_part *part)
{
    struct rank_slots *slots = slots_of(job, part->rank);
    for (uint32_t s = 0; s < SLOTS; s++)
        if (slots->slots[s].cut == part->restore.cut && !slots->slots[s].busy) {
            slots->slots[s].bad_cut = part->restore.cut;
            slots->slots[s].cut = 0;
            slots->slots[s].epoch = ++job->epoch;
            part->restore.bad_slot = (int32_t)s;
            return;
        }
}

/* Another try, until it has been long enough. */
static void again_later(struct agent_core *core, struct restore_part *restore, unsigned state, const struct agent_event *event)
{
    if (restore->give_up_ns == 0)
        restore->give_up_ns = core->now_ns + AGENT_FETCH_DEADLINE_MS * NS_PER_MS;
    text_copy(restore->text, sizeof restore->text, event->text);
    core->dirty = true;
    restore->state = state;
    if (core->now_ns >= restore->give_up_ns) {
        restore->state = RESTORE_FAILED;
        restore->status = event->status;
    } else {
        retry_later(core, &restore->retry);
    }
}

/* Nothing is wrong with the copy, the look failed. It is not condemned, but one of a peer's or in the store is as good. */
static void find_failed(struct agent_core *core, struct job_part *job, struct restore_part *restore, const struct agent_event *event)
{
    bool other = job->order.restore_manifest_key[0] != '\0' || job->order.restore_peer_address[0] != '\0';
    again_later(core, restore, RESTORE_IDLE, event);
    if (++restore->find_failures < AGENT_FIND_TRIES_MAX || !other || restore->state == RESTORE_FAILED)
        return;
    say(core, LOG_WARN, "job %s: the arena's copy of checkpoint %llu for rank %u cannot be looked at, another is asked for: %.150s",
        job->name, (unsigned long long)event->cut, event->rank, event->text);
    restore->ram_bad = true;
    restore->state = RESTORE_WANT_FETCH;
    restore->retry = (struct retry){0};
    restore->give_up_ns = 0; /* the time was that of the looks */
}

void ev_found(struct agent_core *core, const struct agent_event *event)
{
    struct job_part *job = job_of(core, event->uid);
    if (job == NULL)
        return;
    job->in_flight--;
    struct rank_part *part = part_waiting(job, event, RESTORE_FINDING);
    if (part == NULL)
        return;
    struct restore_part *restore = &part->restore;
    bool found = event->status == TIDE_OK && !restore->ram_bad && event->slot < SLOTS;
    bool known = event->status == TIDE_OK || event->status == TIDE_E_CORRUPT || event->status == TIDE_E_NOT_FOUND;
    if (!known) {
        find_failed(core, job, restore, event);
        return;
    }
    if (found && slots_of(job, part->rank)->slots[event->slot].busy) {
        /* Somebody is just writing there. Look once more. */
        restore->state = RESTORE_IDLE;
        retry_later(core, &restore->retry);
        return;
    }
    if (found) {
        restore->state = RESTORE_READY;
        restore->slot = event->slot;
        restore->tier = LOCAL_TIER_RAM;
        return;
    }
    if (event->status == TIDE_E_CORRUPT) {
        mark_found_bad(job, part);
        say(core, LOG_WARN, "job %s: the arena's copy of checkpoint %llu for rank %u is not used: %.150s", job->name,
            (unsigned long long)event->cut, event->rank, event->text);
        job->look_wanted = true;
    }
    if (!restore->ram_bad)
        text_copy(restore->text, sizeof restore->text, event->text);
    restore->ram_bad = true;
    restore->state = RESTORE_WANT_FETCH;
}

/* A peer whose copy is not good, or that does not answer, is passed over: at once, or when it has been long enough. Of the latter the
 * store's failures have it asked again. */
static void peer_failed(struct agent_core *core, struct job_part *job, struct restore_part *restore, const struct agent_event *event)
{
    bool stored = job->order.restore_manifest_key[0] != '\0' && !restore->store_bad;
    /* Where there is no other copy a byte that was changed on its way must not cost the checkpoint: it has to come wrong twice, however
     * late that is. */
    bool once = event->status == TIDE_E_CORRUPT && !stored && !restore->peer_wrong;
    bool wrong = (event->status == TIDE_E_CORRUPT && !once) || event->status == TIDE_E_NOT_FOUND;
    say(core, LOG_WARN, "job %s: checkpoint %llu cannot be fetched from node %s for rank %u: %.150s", job->name,
        (unsigned long long)event->cut, job->order.restore_peer, event->rank, event->text);
    if (restore->peer_give_up_ns == 0)
        restore->peer_give_up_ns = core->now_ns + AGENT_PEER_DEADLINE_MS * NS_PER_MS;
    text_copy(restore->text, sizeof restore->text, event->text);
    core->dirty = true;
    restore->state = RESTORE_WANT_FETCH;
    restore->peer_failures++;
    restore->peer_wrong = restore->peer_wrong || event->status == TIDE_E_CORRUPT;
    bool in_time = core->now_ns < restore->peer_give_up_ns && (!stored || restore->peer_failures < AGENT_PEER_TRIES_MAX);
    if (once || (!wrong && in_time)) {
        retry_later(core, &restore->retry);
        return;
    }
    restore->peer_bad = true;
    restore->peer_silent = !wrong;
    restore->peer_give_up_ns = 0;
    if (restore->give_up_ns == 0) /* else the store has its own pause, which is not over for this */
        restore->retry = (struct retry){0};
}

/* It could be reached for so long, and just this could not be read: that is as good as damaged. */
static bool unread_for_long(const struct agent_core *core, struct restore_part *restore, const struct agent_event *event)
{
    if (!event->store_up)
        restore->unread_ns = 0;
    else if (restore->unread_ns == 0)
        restore->unread_ns = core->now_ns;
    return event->store_up && core->now_ns >= restore->unread_ns + AGENT_UNREAD_MS * NS_PER_MS;
}

/* A copy that is wrong stays wrong; a store that cannot be reached may come back. */
static void fetch_failed(struct agent_core *core, struct job_part *job, struct restore_part *restore, const struct agent_event *event)
{
    say(core, LOG_WARN, "job %s: checkpoint %llu cannot be fetched for rank %u: %.150s", job->name, (unsigned long long)event->cut,
        event->rank, event->text);
    again_later(core, restore, RESTORE_WANT_FETCH, event);
    if (event->status == TIDE_E_CORRUPT || event->status == TIDE_E_NOT_FOUND || unread_for_long(core, restore, event)) {
        restore->state = RESTORE_WANT_FETCH;
        restore->store_bad = true;
        peer_again(restore);
    } else if (event->status == TIDE_E_LIMIT || event->status == TIDE_E_MISMATCH) {
        restore->state = RESTORE_FAILED;
        restore->status = event->status;
    } else {
        peer_again(restore);
    }
}

void ev_fetched(struct agent_core *core, const struct agent_event *event)
{
    struct job_part *job = job_of(core, event->uid);
    if (job == NULL || event->slot >= SLOTS)
        return;
    job->in_flight--;
    if (event->status == TIDE_OK)
        slots_of(job, event->rank)->slots[event->slot].bad_cut = 0;
    slot_release(job, event->rank, event->slot);
    struct rank_part *part = part_waiting(job, event, RESTORE_FETCHING);
    if (part == NULL)
        return;
    if (event->status != TIDE_OK && part->restore.tier == LOCAL_TIER_PEER) {
        peer_failed(core, job, &part->restore, event);
        return;
    }
    if (event->status != TIDE_OK) {
        fetch_failed(core, job, &part->restore, event);
        return;
    }
    if (part->restore.tier == LOCAL_TIER_PEER)
        say(core, LOG_INFO, "job %s: checkpoint %llu was fetched from the memory of node %s for rank %u", job->name,
            (unsigned long long)event->cut, job->order.restore_peer, event->rank);
    if (event->text[0] != '\0') {
        say(core, LOG_WARN,
            "job %s: checkpoint %llu cannot be read as a whole from the store, and what is missing for rank %u was in memory: %.150s",
            job->name, (unsigned long long)event->cut, event->rank, event->text);
        scrub_soon(core, job, event->cut);
    }
    part->restore.state = RESTORE_READY;
    part->restore.slot = event->slot;
}
