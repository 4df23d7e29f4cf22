/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "agent/core/internal.h"
#include "ckpt/base/text.h"

static void answer(struct agent_core *core, struct job_part *job, struct rank_part *part)
{
    struct restore_part *restore = &part->restore;
    if (!restore->answer_due)
        return;
    restore->answer_due = false;
    restore->answered = restore->asked;
    struct agent_action *action = act_rank(core, ACT_ANSWER, job, part->rank);
    struct step_answer *to = &action->answer;
    to->rank = part->rank;
    to->attempt = restore->asked;
    to->cut = restore->cut;
    if (restore->state == RESTORE_READY) {
        to->result = LOCAL_RESTORE_FROM;
        to->slot = restore->slot;
        to->tier = restore->tier;
    } else if (restore->state == RESTORE_FAILED) {
        to->result = LOCAL_REFUSED;
        to->status = restore->status;
        text_copy(to->text, sizeof to->text, restore->text);
    } else {
        to->result = LOCAL_RESTORE_NONE;
    }
}

/* Where to rebuild the cut: over the bad copy if there is one, else never over the newest sealed cut, and over one that is being
 * stored only where there is no other: a rank that cannot go on comes first. -1: wait. */
static int fetch_slot(struct job_part *job, const struct rank_part *part)
{
    const struct rank_slots *slots = slots_of(job, part->rank);
    int best = part->restore.bad_slot;
    bool best_stored = false;
    for (uint32_t s = 0; s < slots_of_rank(part) && part->restore.bad_slot < 0; s++) {
        uint64_t cut = slots->slots[s].cut;
        bool other = cut != 0 && cut != part->restore.cut;
        bool stored = other && cut == stored_order(job)->cut;
        if (other && cut == job->order.protect_cut)
            continue;
        if (best < 0 || stored < best_stored || (stored == best_stored && cut < slots->slots[best].cut)) {
            best = (int)s;
            best_stored = stored;
        }
    }
    if (best < 0 || slots->slots[best].busy || slot_stored_from(job, part->rank, (uint32_t)best))
        return -1;
    return best;
}

static void give_up(struct agent_core *core, struct rank_part *part)
{
    struct restore_part *restore = &part->restore;
    text_say(restore->text, sizeof restore->text, "no valid copy of checkpoint %llu is left for rank %u (%s%s): %s",
             (unsigned long long)restore->cut, part->rank, restore->store_bad ? "arena and store were tried" : "it was never stored",
             restore->peer_bad ? ", its peer was asked" : "", restore->text);
    restore->state = RESTORE_FAILED;
    restore->status = TIDE_E_CORRUPT;
    core->dirty = true;
}

/* The memory of another node is nearer than the store. */
static void fetch(struct agent_core *core, struct job_part *job, struct rank_part *part)
{
    struct restore_part *restore = &part->restore;
    bool peer = job->order.restore_peer_address[0] != '\0' && !restore->peer_bad;
    if (!peer && (job->order.restore_manifest_key[0] == '\0' || restore->store_bad)) {
        give_up(core, part);
        return;
    }
    int slot = fetch_slot(job, part);
    if (slot < 0 || !retry_due(core, &restore->retry))
        return;
    restore->state = RESTORE_FETCHING;
    restore->slot = (uint32_t)slot;
    slot_begin(job, part->rank, restore->slot);
    slots_of(job, part->rank)->slots[slot].cut = 0;
    job->in_flight++;
    struct agent_action *action = act_rank(core, ACT_FETCH, job, part->rank);
    action->cut = restore->cut;
    action->slot = restore->slot;
    action->tier = restore->tier = peer ? LOCAL_TIER_PEER : LOCAL_TIER_STORE;
}

static void drive_rank(struct agent_core *core, struct job_part *job, struct rank_part *part)
{
    struct restore_part *restore = &part->restore;
    uint64_t cut = job->order.restore_cut;
    /* What a rank of another world is made of is told when it asks, and lies in no slot. */
    bool anew = job->order.restore_world != 0;
    if (!restore->answer_due && (!restore->prefetch || anew))
        return;
    if (restore->cut != cut && restore->state != RESTORE_FINDING && restore->state != RESTORE_FETCHING)
        restore_begin(restore, cut);
    if (cut != 0 && restore->state == RESTORE_IDLE && retry_due(core, &restore->retry)) {
        if (restore->ram_bad || anew) {
            restore->state = RESTORE_WANT_FETCH;
        } else {
            restore->state = RESTORE_FINDING;
            job->in_flight++;
            act_rank(core, ACT_FIND, job, part->rank)->cut = cut;
        }
    }
    if (restore->state == RESTORE_WANT_FETCH)
        fetch(core, job, part);
    if (cut == 0 || restore->state == RESTORE_READY || restore->state == RESTORE_FAILED)
        answer(core, job, part);
}

void drive_restore(struct agent_core *core, struct job_part *job)
{
    struct step_part *step = step_of(job, job->generation);
    if (step == NULL || step->state > STEP_PART_UP || !order_runs(job))
        return;
    for (size_t i = 0; i < step->rank_count; i++)
        drive_rank(core, job, &step->ranks[i]);
}
