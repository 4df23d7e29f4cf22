/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/judge.h"

#define RATE_SCALE 1000u /* rate is in steps per so many seconds */

/* Whoever asks for one job after the other gets them in the order they have here: begin behind the last that was found. */
struct track *track_find(const struct book *book, const char *uid)
{
    struct tracks *tracks = book->tracks;
    for (size_t n = 0; tracks != NULL && n < tracks->count; n++) {
        size_t i = (tracks->found + 1 + n) % tracks->count;
        if (strcmp(tracks->items[i].uid, uid) == 0) {
            tracks->found = i;
            return &tracks->items[i];
        }
    }
    return NULL;
}

struct track *track_get(struct book *book, const char *uid)
{
    struct track *track = track_find(book, uid);
    if (track != NULL)
        return track;
    if (book->tracks == NULL)
        book->tracks = mem_alloc(sizeof *book->tracks);
    struct tracks *tracks = book->tracks;
    tracks->items = mem_grow(tracks->items, tracks->count + 1, sizeof *tracks->items);
    track = &tracks->items[tracks->count++];
    *track = (struct track){0};
    text_copy(track->uid, sizeof track->uid, uid);
    return track;
}

void tracks_restart(struct book *book, uint64_t now_ns)
{
    for (size_t i = 0; book->tracks != NULL && i < book->tracks->count; i++) {
        struct track *track = &book->tracks->items[i];
        track->phase_ns = track->cut_ns = track->attempt_ns = track->store_ns = track->storing_ns = track->idle_ns =
            now_ns;
        track->absent_ns = track->arena_ns = track->copy_ns = track->pace.since_ns = 0;
        track->hang = (struct hang_track){0};
        for (size_t k = 0; k < track->condemned.count; k++)
            track->condemned.items[k].since_ns = now_ns;
    }
}

static void release_one(struct track *track)
{
    mem_free(track->refs.items);
    mem_free(track->condemned.items);
    mem_free(track->pace.steps);
}

/* From the end, as tracks_prune goes: both lists have mostly one order. */
static const struct job_record *job_before(const struct state *state, const char *uid, size_t *at)
{
    for (size_t n = 0; n < state->jobs.count; n++) {
        size_t i = (*at + state->jobs.count - 1 - n) % state->jobs.count;
        if (strcmp(state->jobs.items[i].job.uid, uid) == 0) {
            *at = i;
            return &state->jobs.items[i];
        }
    }
    return NULL;
}

void tracks_prune(struct book *book, const struct state *state)
{
    struct tracks *tracks = book->tracks;
    size_t at = state->jobs.count;
    for (size_t i = tracks ? tracks->count : 0; i-- > 0;) {
        const struct job_record *record = job_before(state, tracks->items[i].uid, &at);
        if (record != NULL && (job_active(record) || keep_waits(record)))
            continue;
        release_one(&tracks->items[i]);
        tracks->items[i] = tracks->items[--tracks->count];
    }
}

void tracks_release(struct book *book)
{
    struct tracks *tracks = book->tracks;
    for (size_t i = 0; tracks != NULL && i < tracks->count; i++)
        release_one(&tracks->items[i]);
    if (tracks != NULL)
        mem_free(tracks->items);
    mem_free(tracks);
    book->tracks = NULL;
}

static void look_at_store(struct track *track, const struct job_record *record, uint64_t now_ns)
{
    if (track->store_cut == record->store_cut && track->store_attempts == record->store_attempts)
        return;
    if (track->store_cut != record->store_cut)
        track->storing_ns = now_ns;
    track->store_cut = record->store_cut;
    track->store_attempts = record->store_attempts;
    track->store_ns = now_ns;
    track->stored = 0;
    if (track->refs_cut != record->store_cut) {
        mem_free(track->refs.items);
        track->refs.items = NULL;
        track->refs.count = 0;
        track->refs_cut = 0;
    }
}

void track_look(struct track *track, const struct job_record *record, uint64_t now_ns)
{
    const struct job *job = &record->job;
    bool fresh = track->phase_ns == 0;
    if (fresh || track->generation != job->generation || track->phase != record->phase) {
        track->generation = job->generation;
        track->phase = record->phase;
        track->phase_ns = now_ns;
        track->gone_ns = track->absent_ns = 0;
        track->hang = (struct hang_track){0};
        track->idle_ns = now_ns;
    }
    if (track->next_cut != job->next_cut) {
        track->next_cut = job->next_cut;
        track->idle_ns = now_ns;
    }
    const struct ckpt *open = job_open_cut(job);
    uint64_t cut = open != NULL ? open->cut : 0;
    uint32_t attempt = open != NULL ? open->attempt : 0;
    bool goes = open != NULL && cut_goes(job, open);
    if (track->cut != cut || track->attempt != attempt || track->goes != goes) {
        track->attempt = attempt;
        track->goes = goes;
        track->attempt_ns = now_ns;
    }
    if (track->cut != cut) {
        track->cut = cut;
        track->cut_ns = now_ns;
        track->cut_from = track->top_step;
    }
    look_at_store(track, record, now_ns);
}

static void sample_rate(struct track *track, uint64_t window_ns, uint64_t now_ns)
{
    if (track->sample_ns == 0) {
        track->sample_ns = now_ns;
        track->sample_step = track->top_step;
        return;
    }
    uint64_t took_ns = now_ns - track->sample_ns;
    if (took_ns < window_ns)
        return;
    uint64_t made = track->top_step - track->sample_step;
    uint64_t rate = (uint64_t)((unsigned __int128)made * RATE_SCALE * NS_PER_S / took_ns);
    /* Too fast a guess costs a few steps of waiting, too slow a guess costs another attempt. */
    uint64_t mean = track->rated ? (track->rate + rate) / 2 : rate;
    track->rate = mean > rate ? mean : rate;
    track->rated = true;
    track->sample_ns = now_ns;
    track->sample_step = track->top_step;
}

/* A step may take longer than any window of the rate. One that was quicker than the others is not taken for the rule. */
static void sample_step(struct track *track, uint64_t top, uint64_t now_ns)
{
    if (track->grew_ns != 0) {
        uint64_t took_ns = (now_ns - track->grew_ns) / (top - track->top_step);
        track->step_ns = took_ns > track->step_ns / 2 ? took_ns : track->step_ns / 2;
    }
    track->grew_ns = now_ns;
}

void track_steps(struct track *track, const struct state *state, const struct gen_report *report, uint64_t now_ns)
{
    uint64_t top = 0;
    bool stepped = false;
    for (size_t i = 0; i < report->ranks.count; i++)
        if (report->ranks.items[i].stepped) {
            stepped = true;
            top = report->ranks.items[i].step > top ? report->ranks.items[i].step : top;
        }
    if (!stepped || report->generation < track->steps_generation)
        return;
    if (report->generation > track->steps_generation) {
        track->steps_generation = report->generation;
        track->top_step = track->sample_step = track->rate = 0;
        track->sample_ns = track->grew_ns = track->step_ns = 0;
        track->rated = false;
    }
    if (top > track->top_step)
        sample_step(track, top, now_ns);
    if (top >= track->top_step) {
        track->top_step = top;
        track->top_ns = now_ns;
    }
    sample_rate(track, state_heartbeat_ms(state) * NS_PER_MS, now_ns);
}

uint64_t track_ahead(const struct track *track, uint64_t now_ns, uint64_t after_ms)
{
    uint64_t ms = (now_ns > track->top_ns ? (now_ns - track->top_ns) / NS_PER_MS : 0) + after_ms;
    unsigned __int128 scaled = (unsigned __int128)track->rate * ms;
    return (uint64_t)((scaled + RATE_SCALE * MS_PER_S - 1) / (RATE_SCALE * MS_PER_S));
}
