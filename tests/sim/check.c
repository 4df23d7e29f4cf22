/* SPDX-License-Identifier: Apache-2.0 */
/* The truth, and what must be true. The world tells of everything that happens; nothing here is seen by the cores. */
#include "tests/sim/sim.h"

#define COLOURS_AGREE_S 20u

struct job_truth *truth_of(struct world *w, const char *uid)
{
    for (uint32_t i = 0; i < w->truth_count; i++)
        if (strcmp(w->truths[i]->uid, uid) == 0)
            return w->truths[i];
    return NULL;
}

/* The state after every step of every rank, from the beginning. */
static void model_fill(struct job_truth *truth)
{
    for (uint32_t r = 0; r < truth->world; r++) {
        truth->model[r] = mem_array(truth->total + 1, sizeof truth->model[r][0]);
        truth->model[r][0] = mix(text_hash(truth->uid), r);
        for (uint64_t s = 1; s <= truth->total; s++)
            truth->model[r][s] = mix(truth->model[r][s - 1], s);
    }
}

static void submitted(struct world *w, const struct command *command)
{
    const struct job_record *record = state_job(&w->leader.state, command->spec.name);
    if (record == NULL || strcmp(record->job.uid, command->uid) != 0 || truth_of(w, command->uid) != NULL)
        return;
    for (uint32_t i = 0; i < w->plan_count; i++) {
        const struct plan *plan = &w->plans[i];
        if (strcmp(plan->name, command->spec.name) != 0)
            continue;
        for (uint32_t t = 0; t < w->truth_count; t++)
            if (strcmp(w->truths[t]->name, plan->name) == 0)
                violation(w, "job %s was submitted twice by one request", plan->name);
        struct job_truth *truth = mem_alloc(sizeof *truth);
        text_copy(truth->uid, sizeof truth->uid, command->uid);
        text_copy(truth->name, sizeof truth->name, plan->name);
        truth->world = job_world_size(&plan->spec);
        truth->nproc = plan->spec.nproc_per_node;
        truth->total = plan->total;
        truth->step_ns = plan->step_ns;
        truth->paint = plan->paint;
        truth->declared = plan->declared;
        truth->stays = plan->stays;
        truth->max_restarts = plan->spec.max_restarts;
        model_fill(truth);
        w->truths[w->truth_count++] = truth;
        return;
    }
    violation(w, "a job nobody has asked for: %s", command->spec.name);
}

/* ---- verdicts ---- */

static void launched(struct world *w, struct job_truth *truth, const struct job_record *record)
{
    uint64_t generation = record->job.generation, cut = record->job.restore_cut;
    if (generation == 0 || generation >= GENS_MAX) {
        violation(w, "generation %" PRIu64 " of %s", generation, truth->name);
        return;
    }
    struct gen_truth *gen = &truth->gens[generation];
    if (gen->launched)
        violation(w, "generation %" PRIu64 " of %s was launched twice", generation, truth->name);
    /* The clock of a leader may be twice as fast. */
    if (w->now < truth->failed_ns + MS(truth->pause_ms) / 2)
        violation(w, "generation %" PRIu64 " of %s was launched %" PRIu64 " ms after a failure, and should have waited %" PRIu64 " ms",
                  generation, truth->name, (w->now - truth->failed_ns) / MS(1), truth->pause_ms);
    gen->launched = true;
    for (size_t i = 0; i < record->job.nodes.count; i++) {
        const struct node *node = state_node(&w->leader.state, record->job.nodes.items[i]);
        if (node == NULL || node->state != TIDE_NODE_READY || node->unfit || node->health == TIDE_HEALTH_FAILED)
            violation(w, "generation %" PRIu64 " of %s was placed on %s, which is not fit", generation, truth->name,
                      record->job.nodes.items[i]);
    }
    gen->revision = w->leader.state.revision;
    gen->cut = cut;
    text_copy(gen->token, sizeof gen->token, record->token);
    for (uint64_t g = 1; g < generation; g++)
        if (truth->gens[g].launched && strcmp(truth->gens[g].token, gen->token) == 0)
            violation(w, "generation %" PRIu64 " of %s has the token of generation %" PRIu64, generation, truth->name, g);
    if (cut == 0)
        return;
    const struct ckpt *ckpt = job_ckpt(&record->job, cut);
    if (ckpt == NULL || (!ckpt_in_memory(ckpt) && ckpt->state != TIDE_CKPT_COMMITTED))
        violation(w, "%s restarts from checkpoint %" PRIu64 ", which is %s", truth->name, cut,
                  ckpt == NULL ? "unknown" : ckpt_state_names[ckpt->state]);
    if (truth->cuts[cut].barred)
        violation(w, "%s restarts from checkpoint %" PRIu64 ", which a rollback gave up", truth->name, cut);
}

/* The definition itself: nothing is received in the cut that was not sent in it, and what was sent in it and not received is in
 * the log of its receiver, once. */
static void sealed_letters(struct world *w, struct job_truth *truth, const struct ckpt *ckpt)
{
    const struct cut_truth *known = &truth->cuts[ckpt->cut];
    uint64_t logged = 0;
    for (uint32_t r = 1; r < truth->world; r++) {
        uint64_t sent = known->records[r - 1].sent, received = known->records[r].received;
        logged += known->records[r].logged;
        if (received > sent)
            violation(w, "cut %" PRIu64 ".%u of %s: rank %u has received %" PRIu64 " letters, and %" PRIu64 " were sent", ckpt->cut,
                      ckpt->attempt, truth->name, r, received, sent);
        else if (sent - received != known->records[r].logged)
            violation(w, "cut %" PRIu64 ".%u of %s: %" PRIu64 " letters were on their way to rank %u, and %" PRIu64 " are in its log",
                      ckpt->cut, ckpt->attempt, truth->name, sent - received, r, known->records[r].logged);
    }
    w->coloured_seals++;
    w->letters_logged += logged;
    if (!w->stop && logged != ckpt->logged)
        violation(w, "cut %" PRIu64 " of %s says that %" PRIu64 " letters are logged; %" PRIu64 " are", ckpt->cut, truth->name,
                  ckpt->logged, logged);
}

/* Every rank recorded the same attempt of the same cut at the same step in the same generation, and recorded the truth. */
static void sealed(struct world *w, struct job_truth *truth, const struct job_record *record, uint64_t cut)
{
    const struct ckpt *ckpt = job_ckpt(&record->job, cut);
    struct cut_truth *known = &truth->cuts[cut];
    if (ckpt->generation != record->job.generation)
        violation(w, "cut %" PRIu64 " of %s was sealed by generation %" PRIu64 " under generation %" PRIu64, cut, truth->name,
                  ckpt->generation, record->job.generation);
    bool own_steps = ckpt->mode == CUT_MODE_FREE;
    for (uint32_t r = 0; r < truth->world; r++) {
        uint64_t step = own_steps ? known->records[r].step : ckpt->step;
        if (known->records[r].generation != ckpt->generation || known->records[r].step != step ||
            known->records[r].attempt != ckpt->attempt || step > ckpt->step)
            violation(w, "cut %" PRIu64 ".%u of %s is sealed at step %" PRIu64 " of generation %" PRIu64
                         ", but rank %u has recorded attempt %u at step %" PRIu64 " of generation %" PRIu64,
                      cut, ckpt->attempt, truth->name, ckpt->step, ckpt->generation, r, known->records[r].attempt,
                      known->records[r].step, known->records[r].generation);
        else if (known->records[r].content != truth->model[r][step])
            violation(w, "cut %" PRIu64 " of %s: rank %u did not record the state after step %" PRIu64, cut, truth->name, r, step);
    }
    if (truth->paint != PAINT_NONE)
        sealed_letters(w, truth, ckpt);
    known->step = ckpt->step;
    known->generation = ckpt->generation;
}

/* The store holds exactly what was sealed, under the manifest that the log names. */
static void committed(struct world *w, struct job_truth *truth, const struct job_record *record, uint64_t cut)
{
    const struct ckpt *ckpt = job_ckpt(&record->job, cut);
    const struct object *manifest = depot_find(w, ckpt->manifest_key);
    if (manifest == NULL || strcmp(manifest->digest, ckpt->manifest) != 0 || manifest->world != truth->world) {
        violation(w, "checkpoint %" PRIu64 " of %s is committed without its manifest in the store", cut, truth->name);
        return;
    }
    for (uint32_t r = 0; r < truth->world; r++) {
        const struct object *shard = depot_find(w, manifest->shard_keys[r]);
        if (shard == NULL || shard->cut != cut || shard->step != truth->cuts[cut].records[r].step || shard->rank != r ||
            shard->generation != ckpt->generation || shard->content != truth->model[r][shard->step] ||
            strcmp(shard->digest, manifest->shard_digests[r]) != 0)
            violation(w, "checkpoint %" PRIu64 " of %s is committed, but the shard of rank %u is not the state after step %" PRIu64,
                      cut, truth->name, r, ckpt->step);
    }
}

static bool step_possible(unsigned from, unsigned to)
{
    switch (from) {
    case TIDE_CKPT_OPEN: return to == TIDE_CKPT_SEALED || to == TIDE_CKPT_ABORTED;
    case TIDE_CKPT_SEALED:
    case TIDE_CKPT_PEERED: return to != TIDE_CKPT_OPEN;
    case TIDE_CKPT_COMMITTED: return to == TIDE_CKPT_CORRUPT || to == TIDE_CKPT_CONDEMNED || to == TIDE_CKPT_DROPPED;
    case TIDE_CKPT_CONDEMNED: return to == TIDE_CKPT_COMMITTED || to == TIDE_CKPT_DROPPED;
    case TIDE_CKPT_CORRUPT: return to == TIDE_CKPT_DROPPED;
    default: return false;
    }
}

static void watch_cuts(struct world *w, struct job_truth *truth, const struct job *job)
{
    uint64_t last = 0;
    truth->newest_restorable = 0;
    for (size_t i = 0; i < job->ckpts.count; i++) {
        const struct ckpt *ckpt = &job->ckpts.items[i];
        if (ckpt->cut <= last || ckpt->cut >= job->next_cut || ckpt->cut >= CUTS_MAX) {
            violation(w, "%s lists cut %" PRIu64 " behind %" PRIu64 " before %" PRIu64, truth->name, ckpt->cut, last, job->next_cut);
            return;
        }
        last = ckpt->cut;
        struct cut_truth *known = &truth->cuts[ckpt->cut];
        if (known->known && known->state != ckpt->state && !step_possible(known->state, ckpt->state))
            violation(w, "checkpoint %" PRIu64 " of %s went from %s to %s", ckpt->cut, truth->name, ckpt_state_names[known->state],
                      ckpt_state_names[ckpt->state]);
        if (known->known && known->state == TIDE_CKPT_COMMITTED && ckpt->state == TIDE_CKPT_CORRUPT && !known->spoiled)
            violation(w, "checkpoint %" PRIu64 " of %s is called corrupt, and nobody has touched it: %s", ckpt->cut, truth->name,
                      ckpt->reason);
        if (!known->known && ckpt->cut < truth->next_cut)
            violation(w, "%s uses cut %" PRIu64 " again", truth->name, ckpt->cut);
        known->known = true;
        known->state = ckpt->state;
        if (ckpt_in_memory(ckpt) || ckpt->state == TIDE_CKPT_COMMITTED)
            truth->newest_restorable = ckpt->cut;
    }
}

static bool end_is_legal(const struct job_truth *truth, const struct job *job)
{
    switch (job->state) {
    case TIDE_JOB_SUCCEEDED: return true;
    case TIDE_JOB_CANCELLED: return truth->cancelled;
    default: return truth->exit93 || job->restarts >= truth->max_restarts;
    }
}

/* Where all is well, colours agree again soon. */
static void watch_epochs(struct world *w, struct job_truth *truth, const struct job *job)
{
    bool differ = job->epoch_go > job->epoch_closed && job->generation == truth->generation && job->state == TIDE_JOB_RUNNING;
    if (!differ || truth->transition_ns == 0 || !w->healed)
        truth->transition_ns = differ ? w->now : 0;
    if (differ && w->healed && w->now > truth->transition_ns + SECONDS(COLOURS_AGREE_S))
        violation(w, "%s is between epochs %" PRIu64 " and %" PRIu64 " for %u s", truth->name, job->epoch_closed, job->epoch_go,
                  COLOURS_AGREE_S);
}

static void watch_job(struct world *w, struct job_truth *truth, const struct job_record *record)
{
    const struct job *job = &record->job;
    if (job->generation < truth->generation)
        violation(w, "%s fell from generation %" PRIu64 " to %" PRIu64, truth->name, truth->generation, job->generation);
    if (job->next_cut < truth->next_cut)
        violation(w, "%s fell from cut %" PRIu64 " to %" PRIu64, truth->name, truth->next_cut, job->next_cut);
    watch_cuts(w, truth, job);
    truth->store_cut = record->store_cut;
    watch_epochs(w, truth, job);
    truth->generation = job->generation;
    truth->phase = record->phase;
    truth->pause_ms = record->pause_ms;
    truth->next_cut = job->next_cut;
    if (truth->ended && job->state != truth->end_state)
        violation(w, "%s had ended as %s and is now %s", truth->name, job_state_names[truth->end_state],
                  job_state_names[job->state]);
    if (truth->ended || !job_ended(job->state))
        return;
    truth->ended = true;
    truth->end_state = job->state;
    trace(w, "%s ended as %s: %s", truth->name, job_state_names[job->state], job->reason);
    if (!end_is_legal(truth, job))
        violation(w, "%s ended as %s without cause: %s", truth->name, job_state_names[job->state], job->reason);
    for (uint32_t r = 0; r < truth->world && job->state == TIDE_JOB_SUCCEEDED; r++)
        if (truth->finished_generation[r] != job->generation)
            violation(w, "%s succeeded, but rank %u of generation %" PRIu64 " has not run all steps", truth->name, r, job->generation);
}

static void rolled_back(struct world *w, struct job_truth *truth, const struct job_record *record)
{
    if (record->rollback_cut == 0)
        violation(w, "%s was rolled back to nothing", truth->name);
    for (uint64_t cut = record->rollback_cut + 1; cut < record->job.next_cut && cut < CUTS_MAX; cut++)
        truth->cuts[cut].barred = true;
}

/* A repeated request may change nothing that anybody can see. */
static void nothing_changed(struct world *w, const char *before)
{
    struct state old;
    struct err err = {0};
    if (codec_parse(&state_codec, before, strlen(before), CODEC_STRICT, &old, &err) != TIDE_OK) {
        violation(w, "the state cannot be read back: %s", err.text);
        return;
    }
    const struct state *now = &w->leader.state;
    bool same = old.jobs.count == now->jobs.count && old.nodes.count == now->nodes.count;
    for (size_t i = 0; same && i < old.jobs.count; i++) {
        char *a = codec_print(&job_record_codec, &old.jobs.items[i], 0);
        char *b = codec_print(&job_record_codec, &now->jobs.items[i], 0);
        same = strcmp(a, b) == 0;
        mem_free(a);
        mem_free(b);
    }
    for (size_t i = 0; same && i < old.nodes.count; i++)
        same = old.nodes.items[i].state == now->nodes.items[i].state && old.nodes.items[i].cordoned == now->nodes.items[i].cordoned &&
               old.nodes.items[i].unfit == now->nodes.items[i].unfit && old.nodes.items[i].health == now->nodes.items[i].health;
    if (!same)
        violation(w, "a repeated request was done twice");
    state_release(&old);
}

void check_applied(struct world *w, const struct command *command, enum tide_status status, const char *before)
{
    const struct state *state = &w->leader.state;
    if (before != NULL) {
        nothing_changed(w, before);
        return;
    }
    if (status == TIDE_OK && command->kind == CMD_JOB_SUBMIT)
        submitted(w, command);
    for (uint32_t i = 0; status == TIDE_OK && command->kind == CMD_NODE_LOST && i < w->host_count; i++)
        if (strcmp(w->hosts[i].name, command->node) == 0)
            w->lost_revision[i] = state->revision;
    for (uint32_t i = 0; i < w->truth_count && !w->stop; i++) {
        struct job_truth *truth = w->truths[i];
        const struct job_record *record = state_job(state, truth->uid);
        if (record == NULL) {
            violation(w, "job %s is forgotten", truth->name);
            return;
        }
        bool about = status == TIDE_OK && (strcmp(command->uid, truth->uid) == 0 || strcmp(command->job, truth->name) == 0);
        if (about && command->kind == CMD_GEN_FAIL)
            truth->failed_ns = w->now;
        if (about && command->kind == CMD_GEN_LAUNCH)
            launched(w, truth, record);
        if (about && command->kind == CMD_CUT_SEAL)
            sealed(w, truth, record, command->cut);
        if (about && command->kind == CMD_CKPT_COMMIT)
            committed(w, truth, record, command->cut);
        if (about && command->kind == CMD_JOB_ROLLBACK)
            rolled_back(w, truth, record);
        check_kept(w, truth, &record->job, command);
        watch_job(w, truth, record);
    }
}

/* ---- what ranks and agents do ---- */

void check_recorded(struct world *w, const struct step_model *step, const struct rank_model *rank, const struct slot_model *slot)
{
    struct job_truth *truth = truth_of(w, step->uid);
    struct cut_truth *cut = &truth->cuts[slot->cut < CUTS_MAX ? slot->cut : 0];
    if (rank->content != truth->model[rank->rank][rank->page_step])
        violation(w, "rank %u of %s is not in the state after step %" PRIu64, rank->rank, truth->name, rank->page_step);
    cut->records[rank->rank].generation = step->generation;
    cut->records[rank->rank].step = rank->page_step;
    cut->records[rank->rank].content = slot->content;
    cut->records[rank->rank].attempt = slot->attempt;
    cut->records[rank->rank].received = slot->received;
    cut->records[rank->rank].sent = slot->sent;
}

/* From here on nothing is added to what the rank recorded. */
void check_summed(struct world *w, const char *uid, uint32_t rank, const struct slot_model *slot)
{
    struct job_truth *truth = truth_of(w, uid);
    if (truth != NULL && slot->cut < CUTS_MAX)
        truth->cuts[slot->cut].records[rank].logged = slot->logged;
}

static bool acts(const struct step_model *step)
{
    for (uint32_t r = 0; r < step->rank_count; r++)
        if (step->ranks[r].alive && !step->ranks[r].out)
            return true;
    return false;
}

/* Two generations may run at a time only where one of the hosts was given up for lost. A rank that has left does not. */
static void check_alone(struct world *w, const struct job_truth *truth, const struct host *h, const struct step_model *step)
{
    for (uint32_t i = 0; i < w->host_count; i++)
        for (size_t s = 0; s < STEPS_MAX; s++) {
            const struct step_model *other = &w->hosts[i].steps[s];
            if (!other->there || !other->alive || !acts(other) || other == step || strcmp(other->uid, step->uid) != 0 ||
                other->generation == step->generation)
                continue;
            const struct step_model *older = other->generation < step->generation ? other : step;
            uint32_t where = older == other ? i : host_index(w, h);
            if (&w->hosts[i] == h)
                violation(w, "generations %" PRIu64 " and %" PRIu64 " of %s run on %s", step->generation, other->generation,
                          truth->name, h->name);
            else if (w->lost_revision[where] <= truth->gens[older->generation].revision)
                violation(w, "generations %" PRIu64 " and %" PRIu64 " of %s run at a time, and %s was never given up",
                          older->generation, older == step ? other->generation : step->generation, truth->name,
                          w->hosts[where].name);
        }
}

void check_started(struct world *w, const struct host *h, const struct step_model *step)
{
    struct job_truth *truth = truth_of(w, step->uid);
    if (truth == NULL || step->generation >= GENS_MAX || !truth->gens[step->generation].launched) {
        violation(w, "%s starts generation %" PRIu64 ", which was never launched", h->name, step->generation);
        return;
    }
    struct gen_truth *gen = &truth->gens[step->generation];
    if (strcmp(gen->token, step->token) != 0 || gen->cut != step->restore_cut)
        violation(w, "%s starts generation %" PRIu64 " of %s with another token or cut than was launched", h->name,
                  step->generation, truth->name);
    for (uint32_t r = 0; r < step->rank_count; r++)
        if (step->ranks[r].rank >= truth->world || ++gen->starts[step->ranks[r].rank] > 1)
            violation(w, "rank %u of generation %" PRIu64 " of %s was started again", step->ranks[r].rank, step->generation,
                      truth->name);
    check_alone(w, truth, h, step);
}

void check_restored(struct world *w, const struct step_model *step, const struct rank_model *rank)
{
    const struct job_truth *truth = truth_of(w, step->uid);
    uint64_t cut = truth->gens[step->generation].cut;
    if (rank->page.restored_cut != cut)
        violation(w, "rank %u of generation %" PRIu64 " of %s restored cut %" PRIu64 ", but it starts from %" PRIu64, rank->rank,
                  step->generation, truth->name, rank->page.restored_cut, cut);
    else if (rank->page_step > truth->total || rank->content != truth->model[rank->rank][rank->page_step])
        violation(w, "rank %u of %s restored something that is not the state after step %" PRIu64, rank->rank, truth->name,
                  rank->page_step);
    else if (cut != 0 && rank->page_step != truth->cuts[cut].records[rank->rank].step)
        violation(w, "rank %u of %s restored step %" PRIu64 " from cut %" PRIu64 " of step %" PRIu64, rank->rank, truth->name,
                  rank->page_step, cut, truth->cuts[cut].records[rank->rank].step);
}

void check_finished(struct world *w, const struct step_model *step, const struct rank_model *rank)
{
    struct job_truth *truth = truth_of(w, step->uid);
    if (rank->page_step != truth->total || rank->content != truth->model[rank->rank][truth->total])
        violation(w, "rank %u of %s ended with another result than the program has", rank->rank, truth->name);
    truth->finished_generation[rank->rank] = step->generation;
}

/* The newest checkpoint's copy in memory must outlive the recording of the next. */
void check_armed(struct world *w, const struct step_model *step, const struct rank_model *rank, const struct slot_model *slot,
                 uint64_t cut)
{
    const struct job_truth *truth = truth_of(w, step->uid);
    if (cut >= CUTS_MAX || truth->cuts[cut].state != TIDE_CKPT_OPEN || step->generation != truth->generation)
        return; /* an order that is void by now */
    if (slot->cut != 0 && slot->cut == truth->newest_restorable && slot->cut < cut && slot->summed && slot->content == slot->sum)
        violation(w, "rank %u of %s: cut %" PRIu64 " is to be recorded over cut %" PRIu64 ", the newest checkpoint", rank->rank,
                  truth->name, cut, slot->cut);
    if (slot->cut != 0 && slot->cut == truth->store_cut && slot->cut < cut && slot->summed && slot->content == slot->sum)
        violation(w, "rank %u of %s: cut %" PRIu64 " is to be recorded over cut %" PRIu64 ", which is being stored", rank->rank,
                  truth->name, cut, slot->cut);
}

/* State only moves on: what it says should run was never said to end. */
void check_ending(struct world *w, const struct host *h, const struct step_model *step)
{
    const struct job_truth *truth = truth_of(w, step->uid);
    if (truth == NULL || truth->phase != GEN_PHASE_LAUNCHED || truth->generation != step->generation)
        return;
    for (uint32_t r = 0; r < step->rank_count; r++)
        if (step->ranks[r].alive)
            violation(w, "%s ends generation %" PRIu64 " of %s, which nobody has asked for", h->name, step->generation, truth->name);
}

void check_purge(struct world *w, const char *uid, uint64_t cut)
{
    struct job_truth *truth = truth_of(w, uid);
    if (truth == NULL || cut >= CUTS_MAX || !truth->cuts[cut].known)
        violation(w, "objects of an unknown cut %" PRIu64 " are deleted", cut);
    else if (truth->cuts[cut].state != TIDE_CKPT_DROPPED)
        violation(w, "objects of checkpoint %" PRIu64 " of %s are deleted while it is %s", cut, truth->name,
                  ckpt_state_names[truth->cuts[cut].state]);
    else
        truth->cuts[cut].purged = true;
}

/* ---- the end ---- */

static bool host_clean(const struct host *h)
{
    for (uint32_t i = 0; i < JOBS_MAX; i++)
        if (h->arenas[i].there)
            return false;
    for (size_t s = 0; s < STEPS_MAX; s++)
        if (h->steps[s].there)
            return false;
    return true;
}

static bool grace_left(const struct job *job)
{
    for (size_t i = 0; i < job->ckpts.count; i++)
        if (job->ckpts.items[i].state == TIDE_CKPT_CONDEMNED)
            return true;
    return false;
}

bool world_converged(const struct world *w)
{
    if (!w->healed || !w->leader.up || w->truth_count < w->plan_count)
        return false;
    for (uint32_t i = 0; i < w->truth_count; i++) {
        const struct job_record *record = state_job(&w->leader.state, w->truths[i]->uid);
        if (!w->truths[i]->ended || record->purge.count > 0 || grace_left(&record->job))
            return false;
    }
    for (uint32_t i = 0; i < w->op_count; i++)
        if (!w->ops[i].answered)
            return false;
    for (uint32_t i = 0; i < w->host_count; i++) {
        const struct node *node = state_node(&w->leader.state, w->hosts[i].name);
        if (!host_clean(&w->hosts[i]) || node == NULL || node->state != TIDE_NODE_READY)
            return false;
    }
    return true;
}

static void say_what_is_left(struct world *w)
{
    for (uint32_t i = 0; i < w->truth_count; i++) {
        const struct job_record *record = state_job(&w->leader.state, w->truths[i]->uid);
        if (record != NULL && (!w->truths[i]->ended || record->purge.count > 0))
            violation(w, "long after all was well again %s is %s, phase %u, generation %" PRIu64 ", %zu to purge: %.120s",
                      w->truths[i]->name, job_state_names[record->job.state], record->phase, record->job.generation,
                      record->purge.count, record->job.reason);
    }
    for (uint32_t i = 0; i < w->op_count; i++)
        if (!w->ops[i].answered)
            violation(w, "request %s was never answered", w->ops[i].request);
    for (uint32_t i = 0; i < w->host_count; i++) {
        const struct node *node = state_node(&w->leader.state, w->hosts[i].name);
        if (!host_clean(&w->hosts[i]))
            violation(w, "%s keeps a step directory or an arena of a job that has ended", w->hosts[i].name);
        if (node == NULL || node->state != TIDE_NODE_READY)
            violation(w, "%s is %s long after all was well again", w->hosts[i].name,
                      node == NULL ? "unknown" : node_state_names[node->state]);
    }
}

void check_end(struct world *w)
{
    if (w->stop)
        return;
    if (!world_converged(w)) {
        say_what_is_left(w);
        if (!w->stop)
            violation(w, "not everything has settled long after all was well again");
        return;
    }
    check_replay(w);
    check_coords_agree(w);
    /* A corrupt checkpoint is kept to be looked at. A dropped one is gone, and so is what a slow node wrote after
     * that. */
    for (size_t i = 0; i < w->depot.count; i++) {
        const struct object *object = &w->depot.items[i];
        const struct cut_truth *cut = &truth_of(w, object->uid)->cuts[object->cut];
        if (cut->state == TIDE_CKPT_DROPPED)
            violation(w, "object %s is left of a checkpoint that was dropped%s", object->key,
                      cut->purged ? ": it was written after the deletion" : "");
    }
}
