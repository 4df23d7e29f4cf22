/* SPDX-License-Identifier: Apache-2.0 */
/* Step processes and their ranks. The program is a model of data-parallel training: nobody ends step s + 1 before all have
 * ended step s, and the state after a step is a function of (job, rank, step) and nothing else. */
#include "tests/sim/sim.h"

#define SIGNAL_KILL 9
#define SIGNAL_TERM 15
#define LOCAL_NS 200000u /* one way between processes of a host */

struct step_model *step_find(struct host *h, const char *uid, uint64_t generation)
{
    for (size_t i = 0; i < STEPS_MAX; i++)
        if (h->steps[i].there && h->steps[i].generation == generation && strcmp(h->steps[i].uid, uid) == 0)
            return &h->steps[i];
    return NULL;
}

struct rank_model *step_rank(struct step_model *step, uint32_t rank)
{
    for (uint32_t i = 0; i < step->rank_count; i++)
        if (step->ranks[i].rank == rank)
            return &step->ranks[i];
    return NULL;
}

struct args step_args(const struct world *w, const struct host *h, const struct step_model *step, uint32_t rank)
{
    struct args args = {.host = host_index(w, h), .epoch = step->epoch, .generation = step->generation, .rank = rank};
    text_copy(args.uid, sizeof args.uid, step->uid);
    return args;
}

/* The step something was planned for, if it is still that one and its process lives. */
struct step_model *step_still(struct world *w, const struct args *args)
{
    struct step_model *step = step_find(&w->hosts[args->host], args->uid, args->generation);
    return step != NULL && step->epoch == args->epoch && step->alive ? step : NULL;
}

/* ---- what the agent is told ---- */

static void hear_status(struct world *w, struct args *args)
{
    struct host *h = &w->hosts[args->host];
    struct step_status status;
    struct err err = {0};
    if (!h->agent_up || h->agent_epoch != args->epoch)
        return;
    if (h->stopped_until > w->now) {
        later(w, h->stopped_until - w->now, hear_status, args_copy(args));
        return;
    }
    if (codec_parse(&step_status_codec, args->text, strlen(args->text), CODEC_LENIENT, &status, &err) != TIDE_OK) {
        violation(w, "a step's status cannot be read back: %s", err.text);
        return;
    }
    agent_feed(w, h, &(struct agent_event){.kind = EV_STEP_STATUS, .step_status = &status});
    codec_release(&step_status_codec, &status);
}

void step_status(struct world *w, struct host *h, const struct step_model *step)
{
    if (!h->agent_up)
        return;
    struct step_status status = {.generation = step->generation, .pid = 100, .started = step->started, .ended = step->ended,
                                 .left = step->left};
    text_copy(status.uid, sizeof status.uid, step->uid);
    for (uint32_t i = 0; i < step->rank_count; i++) {
        const struct rank_model *rank = &step->ranks[i];
        struct rank_report *report = codec_list_add(&rank_report_codec, &status.ranks);
        report->rank = rank->rank;
        report->state = rank->state;
        report->pid = 1000 + (int32_t)rank->rank;
        report->attached = rank->attached;
        report->slots = rank->slots;
        report->exit_code = rank->exit_code;
        report->signal = rank->signal;
        if (!rank->asking)
            continue;
        struct step_ask *ask = codec_list_add(&step_ask_codec, &status.asks);
        ask->rank = rank->rank;
        ask->attempt = rank->attempt;
        ask->bad_slot = rank->bad_slot;
        if (rank->bad_slot >= 0)
            text_copy(ask->bad_detail, sizeof ask->bad_detail, "chunk 0 has another hash");
    }
    later(w, LOCAL_NS, hear_status, (struct args){.host = host_index(w, h), .epoch = h->agent_epoch,
                                                  .text = codec_print(&step_status_codec, &status, CODEC_COMPACT)});
    codec_release(&step_status_codec, &status);
}

static void nudge(struct world *w, struct host *h, const struct step_model *step, const struct rank_model *rank)
{
    struct agent_event event = {.kind = EV_PAGE, .generation = step->generation, .rank = rank->rank, .page = rank->page,
                                .comms = rank->comms};
    text_copy(event.uid, sizeof event.uid, step->uid);
    if (h->agent_up)
        agent_feed_later(w, h, LOCAL_NS, &event);
}

/* ---- the end of ranks and steps ---- */

static void step_over(struct world *w, struct args *args)
{
    struct host *h = &w->hosts[args->host];
    struct step_model *step = step_still(w, args);
    if (step == NULL)
        return;
    for (uint32_t i = 0; i < step->rank_count; i++)
        if (step->ranks[i].alive)
            rank_end(w, h, step, &step->ranks[i], 0, SIGNAL_KILL);
    step->alive = false;
    step->ended = true;
    trace(w, "%s step of gen %" PRIu64 " is gone", h->name, step->generation);
    step_status(w, h, step);
    struct agent_event gone = {.kind = EV_STEP_GONE, .generation = step->generation};
    text_copy(gone.uid, sizeof gone.uid, step->uid);
    if (h->agent_up)
        agent_feed_later(w, h, 2 * LOCAL_NS, &gone);
}

void rank_end(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank, int32_t code, int32_t sig)
{
    if (!rank->alive)
        return;
    rank->alive = rank->asking = rank->moving = rank->letters.waits = false;
    rank->state = code == 0 && sig == 0 ? TIDE_RANK_FINISHED : TIDE_RANK_EXITED;
    rank->exit_code = code;
    rank->signal = sig;
    trace(w, "%s rank %u of gen %" PRIu64 " ended at step %" PRIu64 ": code %d signal %d", h->name, rank->rank, step->generation,
          rank->page_step, code, sig);
    step_status(w, h, step);
    stay_look(w, h, step);
    for (uint32_t i = 0; i < step->rank_count; i++)
        if (step->ranks[i].alive)
            return;
    later(w, between(w, MS(1), MS(6)), step_over, step_args(w, h, step, 0));
}

static void term_rank(struct world *w, struct args *args)
{
    struct step_model *step = step_still(w, args);
    struct rank_model *rank = step != NULL ? step_rank(step, args->rank) : NULL;
    if (rank != NULL)
        rank_end(w, &w->hosts[args->host], step, rank, 0, SIGNAL_TERM);
}

void step_end(struct world *w, struct host *h, struct step_model *step, uint64_t grace_ms)
{
    if (!step->alive)
        return;
    if (grace_ms == 0) { /* now and then a process sits in the kernel and takes its time to die */
        step_kill(w, h, step);
        return;
    }
    for (uint32_t i = 0; i < step->rank_count; i++)
        if (chance(w, 800000))
            later(w, between(w, MS(1), MS(100)), term_rank, step_args(w, h, step, step->ranks[i].rank));
    later(w, MS(grace_ms), step_over, step_args(w, h, step, 0));
}

void step_kill(struct world *w, struct host *h, struct step_model *step)
{
    uint64_t wait = !w->healed && chance(w, 20000) ? between(w, MS(500), MS(4000)) : between(w, MS(1), MS(15));
    if (w->kill_takes_ns != 0)
        wait = w->kill_takes_ns;
    if (step->alive)
        later(w, wait, step_over, step_args(w, h, step, 0));
}

/* ---- the model program ---- */

struct gang {
    struct {
        struct host *h;
        struct step_model *step;
        struct rank_model *rank;
    } ranks[WORLD_MAX];
    uint32_t world;
    bool complete;
};

static void gang_find(struct world *w, const char *uid, uint64_t generation, struct gang *gang)
{
    const struct job_truth *truth = truth_of(w, uid);
    memset(gang, 0, sizeof *gang);
    gang->world = truth != NULL ? truth->world : 0;
    gang->complete = truth != NULL;
    for (uint32_t i = 0; i < w->host_count && truth != NULL; i++) {
        struct step_model *step = step_find(&w->hosts[i], uid, generation);
        for (uint32_t r = 0; step != NULL && r < step->rank_count; r++) {
            uint32_t rank = step->ranks[r].rank;
            if (gang->ranks[rank].rank != NULL && step->alive)
                violation(w, "rank %u of generation %" PRIu64 " runs twice", rank, generation);
            gang->ranks[rank].h = &w->hosts[i];
            gang->ranks[rank].step = step;
            gang->ranks[rank].rank = &step->ranks[r];
        }
    }
    for (uint32_t r = 0; r < gang->world; r++)
        if (gang->ranks[r].rank == NULL || !gang->ranks[r].rank->attached)
            gang->complete = false;
}

static void step_done(struct world *w, struct args *args);

/* Has everybody else entered the step after `step`? */
static bool all_entered(const struct world *w, const struct gang *gang, uint64_t step)
{
    for (uint32_t r = 0; r < gang->world; r++) {
        const struct rank_model *rank = gang->ranks[r].rank;
        bool past = rank->page_step > step;
        bool here = rank->page_step == step && rank->alive && rank->ready && rank->hung_until <= w->now &&
                    rank->page.armed_step != STEP_TAKEN;
        if (!past && !here)
            return false;
    }
    return true;
}

static uint64_t step_takes(struct world *w, const struct job_truth *truth, uint32_t rank)
{
    uint64_t ns = truth->step_ns * between(w, 80, 120) / 100;
    if (truth->paint == PAINT_PIPELINE)
        ns = ns * (4 + rank) / 4;
    if (truth->paint == PAINT_STARVING)
        ns = ns * (4 + truth->world - rank) / 4;
    return ns;
}

void gang_go(struct world *w, const char *uid, uint64_t generation)
{
    struct gang gang;
    gang_find(w, uid, generation, &gang);
    const struct job_truth *truth = truth_of(w, uid);
    for (uint32_t r = 0; gang.complete && r < gang.world && !w->stop; r++) {
        struct rank_model *rank = gang.ranks[r].rank;
        struct step_model *step = gang.ranks[r].step;
        if (!rank->alive || rank->out || rank->moving)
            continue;
        if (!rank->ready && rank->attempt == 0) { /* MPI_Init is done everywhere */
            rank->asking = true;
            rank->attempt = 1;
            rank->page.phase = CONTROL_RESTORING;
            step_status(w, gang.ranks[r].h, step);
        } else if (rank->ready && rank->page_step < truth->total && rank->page.armed_step != STEP_TAKEN &&
                   (truth->paint > PAINT_GANG || all_entered(w, &gang, rank->page_step))) {
            rank->moving = true;
            later(w, step_takes(w, truth, r), step_done, step_args(w, gang.ranks[r].h, step, rank->rank));
        }
    }
}

static void hang_over(struct world *w, struct args *args)
{
    gang_go(w, args->uid, args->generation);
}

/* Where all step together the last letter is not needed, and read all the same. */
static bool read_last(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank, const struct job_truth *truth)
{
    bool missing = rank->page.coloured && rank->rank > 0 && rank->letters.received < truth->total;
    rank->letters.waits = missing && !colour_read(w, h, step, rank);
    if (rank->letters.waits)
        colour_poll(w, h, step, rank);
    return !rank->letters.waits;
}

static void go_on(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank)
{
    const struct job_truth *truth = truth_of(w, step->uid);
    rank->moving = false;
    if (rank->page_step >= truth->total && !read_last(w, h, step, rank, truth))
        return;
    if (rank->page_step >= truth->total) {
        rank->page.phase = CONTROL_FINALIZED;
        colour_finish(rank);
        check_finished(w, step, rank);
        rank_end(w, h, step, rank, 0, 0);
        gang_go(w, step->uid, step->generation);
        return;
    }
    colour_poll(w, h, step, rank);
    if (rank->hung_until > w->now)
        later(w, rank->hung_until - w->now, hang_over, step_args(w, h, step, rank->rank));
    gang_go(w, step->uid, step->generation);
}

static void record_done(struct world *w, struct args *args)
{
    struct host *h = &w->hosts[args->host];
    struct step_model *step = step_still(w, args);
    struct rank_model *rank = step != NULL ? step_rank(step, args->rank) : NULL;
    struct arena *arena = step != NULL ? arena_of(h, step->uid) : NULL;
    if (rank == NULL || !rank->alive || rank->out)
        return; /* died while copying: the slot stays empty */
    struct agent_page *page = &rank->page;
    if (arena == NULL) {
        violation(w, "the arena was removed under a rank that records");
        return;
    }
    struct slot_model *slot = &arena->slots[rank->rank][page->armed_slot];
    *slot = (struct slot_model){.cut = page->armed_cut, .step = rank->page_step, .generation = step->generation,
                                .attempt = page->armed_attempt, .content = rank->content};
    page->record_result = RECORD_DONE;
    page->record_slot = page->armed_slot;
    page->record_step = rank->page_step;
    page->record_bytes = 1000;
    page->record_stall_ns = 1000;
    page->record_collectives = step->spec.job.launcher == LAUNCHER_PMIX ? rank->page_step * 2 : 0;
    page->recorded_cut = page->armed_cut;
    page->recorded_attempt = page->armed_attempt;
    if (page->coloured && page->armed_epoch != 0)
        colour_recorded(w, h, step, rank, slot);
    check_recorded(w, step, rank, slot);
    page->armed_step = STEP_NONE;
    trace(w, "%s rank %u recorded step %" PRIu64 " as cut %" PRIu64 ".%u", h->name, rank->rank, rank->page_step,
          page->recorded_cut, page->recorded_attempt);
    nudge(w, h, step, rank);
    go_on(w, h, step, rank);
}

/* The letter that this step needs: where all step together, the one of the step before. */
static bool has_letter(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank)
{
    const struct job_truth *truth = truth_of(w, step->uid);
    uint64_t needed = rank->page_step + 1 - (truth->paint == PAINT_GANG ? 1 : 0);
    if (!rank->page.coloured || rank->rank == 0 || rank->letters.received >= needed)
        return true;
    return colour_read(w, h, step, rank);
}

static void safe_point(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank)
{
    struct arena *arena = arena_of(h, step->uid);
    bool records = rank->page.coloured && rank->page.armed_epoch != 0 ? colour_records(w, h, step, rank)
                                                                      : rank->page.armed_step == rank->page_step;
    if (!records || arena == NULL) {
        go_on(w, h, step, rank);
        return;
    }
    rank->page.armed_step = STEP_TAKEN;
    memset(&arena->slots[rank->rank][rank->page.armed_slot], 0, sizeof arena->slots[0][0]);
    later(w, between(w, 200000, MS(3)), record_done, step_args(w, h, step, rank->rank));
}

void rank_reads(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank)
{
    if (rank->page_step >= truth_of(w, step->uid)->total) {
        go_on(w, h, step, rank);
        return;
    }
    rank->letters.waits = !has_letter(w, h, step, rank);
    if (rank->letters.waits) {
        colour_poll(w, h, step, rank);
        return;
    }
    rank->page_step++;
    rank->content = mix(rank->content, rank->page_step);
    rank->page.step = rank->page_step;
    rank->page.phase = CONTROL_STEPPING;
    if (rank->page.coloured)
        colour_send(w, h, step, rank);
    safe_point(w, h, step, rank);
}

static void step_done(struct world *w, struct args *args)
{
    struct host *h = &w->hosts[args->host];
    struct step_model *step = step_still(w, args);
    struct rank_model *rank = step != NULL ? step_rank(step, args->rank) : NULL;
    if (rank != NULL && rank->alive && !rank->out)
        rank_reads(w, h, step, rank);
}

/* ---- the beginning ---- */

void rank_attach(struct world *w, struct args *args)
{
    struct host *h = &w->hosts[args->host];
    struct step_model *step = step_still(w, args);
    struct rank_model *rank = step != NULL ? step_rank(step, args->rank) : NULL;
    if (rank == NULL || !rank->alive || rank->told)
        return;
    rank->state = TIDE_RANK_RUNNING;
    rank->attached = true;
    rank->page.phase = CONTROL_ATTACHED;
    rank->page.pid = 1000 + (int32_t)rank->rank;
    rank->page.stays = truth_of(w, step->uid)->stays;
    step_status(w, h, step);
    nudge(w, h, step, rank);
    gang_go(w, step->uid, step->generation);
}

void step_all_started(struct world *w, struct args *args)
{
    struct step_model *step = step_still(w, args);
    if (step == NULL)
        return;
    step->started = true;
    step_status(w, &w->hosts[args->host], step);
}

void rank_begin(struct world *w, struct host *h, struct step_model *step, uint32_t index)
{
    const struct arena *arena = arena_of(h, step->uid);
    struct rank_model *rank = &step->ranks[index];
    *rank = (struct rank_model){.rank = step->spec.node_rank * step->rank_count + index, .state = TIDE_RANK_STARTING,
                                .alive = true, .bad_slot = -1, .page = {.armed_step = STEP_NONE}};
    rank->slots = arena != NULL && arena->slots[rank->rank][SLOTS_ALWAYS].cut != 0 ? SLOTS : SLOTS_ALWAYS;
    colour_begin(rank, truth_of(w, step->uid));
}

void step_begin(struct world *w, struct host *h, struct step_model *step)
{
    step->alive = true;
    for (uint32_t i = 0; i < step->rank_count; i++) {
        rank_begin(w, h, step, i);
        later(w, between(w, MS(20), MS(200)), rank_attach, step_args(w, h, step, step->ranks[i].rank));
    }
    trace(w, "%s step of gen %" PRIu64 " starts as node rank %u", h->name, step->generation, step->spec.node_rank);
    check_started(w, h, step);
    later(w, between(w, MS(1), MS(5)), step_all_started, step_args(w, h, step, 0));
}

static void ask_again(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank, int32_t bad_slot)
{
    trace(w, "%s rank %u finds slot %d bad", h->name, rank->rank, bad_slot);
    rank->bad_slot = bad_slot;
    rank->attempt++;
    rank->asking = true;
    step_status(w, h, step);
}

static void rank_answered(struct world *w, struct args *args)
{
    struct host *h = &w->hosts[args->host];
    struct step_model *step = step_still(w, args);
    struct rank_model *rank = step != NULL ? step_rank(step, args->rank) : NULL;
    const struct job_truth *truth = truth_of(w, args->uid);
    if (rank == NULL || !rank->alive || rank->told || !rank->asking || rank->attempt != args->number)
        return;
    rank->asking = false;
    if (args->index == LOCAL_REFUSED) {
        rank_end(w, h, step, rank, 1, 0);
        return;
    }
    rank->content = truth->model[rank->rank][0];
    if (args->index == LOCAL_RESTORE_FROM) {
        struct arena *arena = arena_of(h, step->uid);
        struct slot_model *slot = arena != NULL && args->slot < SLOTS ? &arena->slots[rank->rank][args->slot] : NULL;
        if (slot == NULL || slot->cut != args->cut || !slot->summed || slot->content != slot->sum) {
            ask_again(w, h, step, rank, (int32_t)args->slot);
            return;
        }
        rank->content = slot->content;
        rank->page_step = slot->step;
        rank->page.restored_cut = slot->cut;
        colour_restored(rank, slot);
    }
    rank->page.step = rank->page.restored_step = rank->page_step;
    rank->page.restore_ns = MS(1);
    rank->page.phase = CONTROL_ATTACHED;
    rank->ready = true;
    trace(w, "%s rank %u restored cut %" PRIu64 " at step %" PRIu64, h->name, rank->rank, rank->page.restored_cut, rank->page_step);
    check_restored(w, step, rank);
    step_status(w, h, step);
    nudge(w, h, step, rank);
    go_on(w, h, step, rank);
}

void step_answer(struct world *w, struct host *h, struct step_model *step, const struct step_answer *answer)
{
    struct args args = step_args(w, h, step, answer->rank);
    args.number = answer->attempt;
    args.index = answer->result;
    args.slot = answer->slot;
    args.cut = answer->cut;
    later(w, between(w, LOCAL_NS, MS(10)), rank_answered, args);
}
