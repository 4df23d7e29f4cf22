/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between ranks, coloured by the real ckpt/cut/rank. Each rank sends one letter a step to the next, numbered from
 * 1, so that what was sent, received and logged at a cut can be counted; the network between ranks is reliable, slow, and in
 * order only within one colour. Where all step together a letter is needed one step later; in a pipeline at once, and nobody
 * waits otherwise. */
#include "tests/sim/sim.h"

#define LETTER_BYTES 100u
#define LOG_FAILS 4000u /* in millionths, of one letter */

enum letter_state { LETTER_AWAY, LETTER_HERE, LETTER_HELD, LETTER_QUEUED, LETTER_READ };

static struct args about(const struct world *w, const struct host *h, const struct step_model *step, uint32_t rank)
{
    struct args args = {.host = host_index(w, h), .epoch = step->epoch, .generation = step->generation, .rank = rank};
    text_copy(args.uid, sizeof args.uid, step->uid);
    return args;
}

static struct slot_model *slot_of(struct host *h, const struct step_model *step, const struct rank_model *rank)
{
    struct arena *arena = arena_of(h, step->uid);
    return arena != NULL ? &arena->slots[rank->rank][rank->page.record_slot] : NULL;
}

void colour_begin(struct rank_model *rank, const struct job_truth *truth)
{
    if (truth->paint == PAINT_NONE)
        return;
    rank->letters.cut = (struct cut_rank){.rank = rank->rank, .world = truth->world, .peers = rank->letters.peers};
    rank->page.coloured = true;
    rank->page.declared = truth->declared;
}

static void publish(struct rank_model *rank)
{
    cut_rank_sums(&rank->letters.cut, &rank->page.sent, &rank->page.arrived);
    rank->page.epoch = rank->letters.cut.epoch;
}

/* ---- what has arrived ---- */

/* One more message into the channel log of what this rank recorded; now and then there is no room. */
static void log_letter(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank, uint32_t number)
{
    struct slot_model *slot = slot_of(h, step, rank);
    if (slot == NULL || slot->cut != rank->page.recorded_cut)
        return;
    if (chance(w, LOG_FAILS)) {
        cut_rank_void(&rank->letters.cut);
        rank->page.record_status = TIDE_E_LIMIT;
        rank->page.record_result = RECORD_FAILED;
        trace(w, "%s rank %u has no room for letter %u", h->name, rank->rank, number);
        return;
    }
    if (slot->summed)
        violation(w, "rank %u adds letter %u to cut %" PRIu64 ", which was hashed", rank->rank, number, slot->cut);
    if (number != slot->received + slot->logged + 1)
        violation(w, "rank %u logs letter %u behind %" PRIu64 " that were received and %" PRIu64 " logged", rank->rank,
                  number, slot->received, slot->logged);
    slot->logged++;
    rank->page.record_logged++;
    rank->page.record_logged_bytes += LETTER_BYTES;
}

static void release_held(struct rank_model *rank)
{
    for (uint32_t n = 1; n < LETTERS_MAX; n++)
        if (rank->letters.where[n] == LETTER_HELD) {
            rank->letters.where[n] = LETTER_QUEUED;
            cut_rank_released(&rank->letters.cut, rank->rank - 1);
        }
}

/* A rank that matches itself takes all there is. */
static void take_all(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank)
{
    struct letters *l = &rank->letters;
    for (uint32_t n = 1; n < LETTERS_MAX && cut_rank_matches(&l->cut); n++) {
        if (l->where[n] != LETTER_HERE)
            continue;
        enum cut_take take = cut_rank_take(&l->cut, rank->rank - 1, l->colour[n]);
        l->where[n] = take == CUT_TAKE_HOLD ? LETTER_HELD : LETTER_QUEUED;
        if (take == CUT_TAKE_LOG)
            log_letter(w, h, step, rank, n);
        if (take == CUT_TAKE_LOG || take == CUT_TAKE_FORGET)
            cut_rank_done(&l->cut);
        if (cut_rank_drained(&l->cut, rank->rank - 1))
            release_held(rank);
    }
    publish(rank);
}

/* ---- what it is told ---- */

static void begin_epoch(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank, uint64_t epoch,
                        bool recorded)
{
    cut_rank_flip(&rank->letters.cut, epoch, recorded);
    publish(rank);
    trace(w, "%s rank %u begins epoch %" PRIu64 "%s", h->name, rank->rank, epoch, recorded ? "" : " without a record");
    if (rank->rank > 0)
        take_all(w, h, step, rank);
}

void colour_look(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank)
{
    struct agent_page *page = &rank->page;
    struct cut_words words = {.armed_epoch = page->armed_epoch,
                              .armed_step = page->armed_step,
                              .go_epoch = page->epochs.go,
                              .flip_epoch = page->epochs.flip,
                              .settled_epoch = page->epochs.settled,
                              .closed_epoch = page->epochs.closed};
    unsigned acts = cut_rank_look(&rank->letters.cut, &words);
    if (acts & CUT_ACT_RELEASE) {
        if (rank->rank > 0)
            release_held(rank);
        page->ended = rank->letters.cut.epoch;
    }
    if (acts & CUT_ACT_POLLING)
        page->polling = rank->letters.cut.aim;
    if (acts & CUT_ACT_FLIP)
        begin_epoch(w, h, step, rank, rank->letters.cut.aim, false);
    if (page->armed_step == STEP_NEXT && page->armed_epoch != 0 && page->armed_epoch <= page->epoch)
        page->armed_step = STEP_NONE;
    if (rank->rank > 0 && cut_rank_matches(&rank->letters.cut))
        take_all(w, h, step, rank);
}

static void attempt_ends(struct rank_model *rank, unsigned result)
{
    struct agent_page *page = &rank->page;
    page->record_result = result;
    page->record_slot = page->armed_slot;
    page->record_step = rank->page_step;
    page->recorded_cut = page->armed_cut;
    page->recorded_attempt = page->armed_attempt;
}

/* At a safe point: true when the rank records here. */
bool colour_records(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank)
{
    struct agent_page *page = &rank->page;
    colour_look(w, h, step, rank);
    struct cut_words words = {.armed_epoch = page->armed_epoch, .armed_step = page->armed_step, .go_epoch = page->epochs.go};
    switch (cut_point_at(&words, page->epoch, rank->page_step)) {
    case CUT_POINT_RECORD:
        page->armed_step = STEP_TAKEN;
        return true;
    case CUT_POINT_PASSED:
        attempt_ends(rank, RECORD_PASSED);
        page->armed_step = STEP_NONE;
        trace(w, "%s rank %u passes its step", h->name, rank->rank);
        return false;
    default:
        return false;
    }
}

/* The copy is made. What has arrived and was not read is on its way as far as the cut is concerned. */
void colour_recorded(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank,
                     struct slot_model *slot)
{
    struct letters *l = &rank->letters;
    slot->received = l->received;
    slot->sent = l->sent;
    for (uint32_t n = 1; n < LETTERS_MAX; n++)
        slot->logged += l->where[n] == LETTER_QUEUED;
    rank->page.record_logged = slot->logged;
    rank->page.record_logged_bytes = slot->logged * LETTER_BYTES;
    rank->comms[0] =
        (struct control_comm){.id = CUT_COMM_WORLD, .collectives = rank->page.record_collectives, .size = l->cut.world};
    rank->page.record_comms = 1;
    if (cut_rank_record(&l->cut) != 0)
        violation(w, "rank %u is to record and is %s", rank->rank, cut_rank_state_name(l->cut.state));
    else
        begin_epoch(w, h, step, rank, rank->page.armed_epoch, true);
}

void colour_restored(struct rank_model *rank, const struct slot_model *slot)
{
    struct letters *l = &rank->letters;
    l->received = slot->received;
    l->sent = slot->sent;
    for (uint64_t n = slot->received + 1; n <= slot->received + slot->logged && n < LETTERS_MAX; n++)
        l->where[n] = LETTER_QUEUED;
}

/* ---- letters ---- */

static struct rank_model *next_rank(struct world *w, const struct args *args, struct host **ret_host,
                                    struct step_model **ret_step)
{
    for (uint32_t i = 0; i < w->host_count; i++) {
        struct step_model *step = step_find(&w->hosts[i], args->uid, args->generation);
        struct rank_model *rank = step != NULL && step->alive ? step_rank(step, args->rank) : NULL;
        if (rank == NULL || !rank->alive || rank->out)
            continue;
        *ret_host = &w->hosts[i];
        *ret_step = step;
        return rank;
    }
    return NULL;
}

static void letter_arrives(struct world *w, struct args *args)
{
    struct host *h;
    struct step_model *step;
    struct rank_model *rank = next_rank(w, args, &h, &step);
    if (rank == NULL)
        return;
    uint32_t number = (uint32_t)args->number;
    if (rank->letters.where[number] != LETTER_AWAY)
        violation(w, "rank %u gets letter %u again", rank->rank, number);
    rank->letters.where[number] = LETTER_HERE;
    rank->letters.colour[number] = (uint8_t)args->slot;
    /* A plain receive returns for a letter of its colour, and for nothing else; whoever polls sees it a little later. */
    if (rank->letters.waits && !cut_rank_polls(&rank->letters.cut) &&
        rank->letters.colour[number] == rank->letters.cut.colour)
        rank_reads(w, h, step, rank);
}

static void bookmark_arrives(struct world *w, struct args *args)
{
    struct host *h;
    struct step_model *step;
    struct rank_model *rank = next_rank(w, args, &h, &step);
    struct cut_bookmark bookmark = {.epoch = args->step, .count = args->number, .recorded = args->slot};
    if (rank != NULL && cut_rank_bookmark(&rank->letters.cut, rank->rank - 1, &bookmark))
        release_held(rank);
}

static uint64_t way(struct world *w)
{
    return chance(w, 20000) ? between(w, MS(5), MS(400)) : between(w, 50000, MS(4));
}

void colour_send(struct world *w, const struct host *h, const struct step_model *step, struct rank_model *rank)
{
    struct letters *l = &rank->letters;
    uint32_t to = rank->rank + 1;
    struct args args = about(w, h, step, to);
    if (to >= l->cut.world)
        return;
    struct cut_bookmark bookmark;
    if (cut_rank_bookmark_due(&l->cut, to, &bookmark)) {
        args.step = bookmark.epoch;
        args.number = bookmark.count;
        args.slot = (uint32_t)bookmark.recorded;
        later(w, way(w), bookmark_arrives, args);
        cut_rank_bookmark_told(&l->cut, to);
    }
    cut_rank_sent(&l->cut, to);
    args.number = ++l->sent;
    args.slot = l->cut.colour;
    uint64_t at = w->now + way(w);
    l->last_ns[args.slot] = at > l->last_ns[args.slot] ? at : l->last_ns[args.slot] + 1;
    later(w, l->last_ns[args.slot] - w->now, letter_arrives, args);
}

/* Take the letter the program waits for, from the queue or from MPI. */
bool colour_read(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank)
{
    struct letters *l = &rank->letters;
    uint32_t number = (uint32_t)l->received + 1;
    colour_look(w, h, step, rank);
    if (l->where[number] == LETTER_HERE && l->colour[number] == l->cut.colour && !cut_rank_matches(&l->cut))
        cut_rank_arrived(&l->cut, rank->rank - 1);
    else if (l->where[number] != LETTER_QUEUED)
        return false;
    cut_rank_not_held(&l->cut);
    l->where[number] = LETTER_READ;
    l->received++;
    return true;
}

/* Only a letter from behind the cut could help it on. */
static void judge_early(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank)
{
    struct letters *l = &rank->letters;
    uint32_t number = (uint32_t)l->received + 1;
    bool held_up = l->waits && l->where[number] == LETTER_HERE && l->colour[number] != l->cut.colour;
    if (!held_up || !cut_rank_early(&l->cut, w->now))
        return;
    if (rank->page.armed_step != STEP_NONE && rank->page.armed_step != STEP_TAKEN && rank->page.armed_epoch == l->cut.aim) {
        attempt_ends(rank, RECORD_EARLY);
        rank->page.armed_step = STEP_NONE;
    }
    begin_epoch(w, h, step, rank, l->cut.aim, false);
}

static void poll_again(struct world *w, struct args *args)
{
    struct host *h = &w->hosts[args->host];
    struct step_model *step = step_find(h, args->uid, args->generation);
    struct rank_model *rank = step != NULL && step->epoch == args->epoch && step->alive ? step_rank(step, args->rank) : NULL;
    if (rank == NULL || !rank->alive || rank->out)
        return;
    rank->letters.polling = false;
    bool polls =
        cut_rank_polls(&rank->letters.cut); /* what came since it looked last is found, though it need not poll on */
    if (rank->hung_until <= w->now && rank->page.armed_step != STEP_TAKEN) {
        colour_look(w, h, step, rank);
        judge_early(w, h, step, rank);
        if (rank->letters.waits && (polls || cut_rank_polls(&rank->letters.cut)))
            rank_reads(w, h, step, rank);
    }
    if (rank->alive && !rank->out)
        colour_poll(w, h, step, rank);
}

/* While something is under way its calls come back to look; one that has begun to wait before does not. */
void colour_poll(struct world *w, struct host *h, const struct step_model *step, struct rank_model *rank)
{
    if (rank->letters.polling || !rank->page.coloured)
        return;
    bool calls = !rank->letters.waits && (rank->page.epoch > rank->page.epochs.closed || rank->page.armed_step != STEP_NONE);
    if (!calls && !cut_rank_polls(&rank->letters.cut))
        return;
    rank->letters.polling = true;
    later(w, between(w, MS(1), MS(6)), poll_again, about(w, h, step, rank->rank));
}

void colour_finish(struct rank_model *rank)
{
    if (!rank->page.coloured)
        return;
    cut_rank_finish(&rank->letters.cut);
    publish(rank);
    rank->page.ended = CUT_ENDED_FOR_GOOD;
}
