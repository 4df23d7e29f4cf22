/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "coordinator/core/inner.h"

/* As versions did it that knew of no mark. */
static void cut_off(char *to, size_t size, const char *format, va_list args)
{
    char text[ERR_TEXT_MAX];
    vsnprintf(text, sizeof text < size ? sizeof text : size, format, args);
    size_t n = strlen(text);
    text[n - text_broken_tail(text, n)] = '\0';
    memcpy(to, text, strlen(text) + 1);
}

static void state_text_list(const struct state *state, char *to, size_t size, const char *format, va_list args)
{
    if (state->level < MARK_LEVEL)
        cut_off(to, size, format, args);
    else
        text_say_list(to, size, format, args);
}

void state_text(const struct state *state, char *to, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    state_text_list(state, to, size, format, args);
    va_end(args);
}

void event_add(struct change *change, unsigned kind, const char *node, int32_t rank, uint64_t cut, const char *format, ...)
{
    struct job *job = &change->job->job;
    if (job->events.count >= TIDE_EVENTS_MAX)
        codec_list_remove(&event_codec, &job->events, 0);
    struct event *event = codec_list_add(&event_codec, &job->events);
    event->revision = change->revision;
    event->at_ms = change->command->at_ms;
    event->kind = kind;
    event->generation = job->generation;
    event->cut = cut;
    event->rank = rank;
    if (node != NULL)
        text_copy(event->node, sizeof event->node, node);
    va_list args;
    va_start(args, format);
    state_text_list(change->state, event->text, sizeof event->text, format, args);
    va_end(args);
}

struct recovery *recovery_present(struct job *job)
{
    if (job->recoveries.count == 0)
        return NULL;
    struct recovery *last = &job->recoveries.items[job->recoveries.count - 1];
    return last->generation + 1 == job->generation ? last : NULL;
}

uint64_t ms_between(uint64_t from, uint64_t to)
{
    return from != 0 && to > from ? to - from : 0;
}

/* ---- of jobs that ended long ago ---- */

static int newest_first(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x > y ? -1 : x < y;
}

/* When the last job ended whose history is not kept whole; 0: there is none yet. */
static uint64_t folded_until_ms(const struct state *state)
{
    uint64_t *ends = mem_array(state->jobs.count, sizeof *ends), until = 0;
    size_t n = 0;
    for (size_t i = 0; i < state->jobs.count; i++)
        if (job_ended(state->jobs.items[i].job.state))
            ends[n++] = state->jobs.items[i].job.ended_ms;
    qsort(ends, n, sizeof *ends, newest_first);
    if (n > ENDED_WHOLE_MAX)
        until = ends[ENDED_WHOLE_MAX];
    mem_free(ends);
    return until;
}

static void keep_newest(void *items, size_t *count, size_t size)
{
    char **at = items;
    if (*count <= ENDED_HISTORY_MAX)
        return;
    memmove(*at, *at + (*count - ENDED_HISTORY_MAX) * size, ENDED_HISTORY_MAX * size);
    *count = ENDED_HISTORY_MAX;
    *at = mem_grow(*at, *count, size);
}

static void keep_ckpts(struct job_record *record)
{
    struct job *job = &record->job;
    size_t kept = 0;
    for (size_t i = 0; i < job->ckpts.count; i++) {
        struct ckpt *ckpt = &job->ckpts.items[i];
        bool over = ckpt->state == TIDE_CKPT_DROPPED || ckpt->state == TIDE_CKPT_ABORTED;
        if (over && !strlist_has_number(&record->purge, ckpt->cut))
            codec_release(&ckpt_codec, ckpt);
        else if (kept++ != i)
            job->ckpts.items[kept - 1] = *ckpt;
    }
    if (kept != job->ckpts.count)
        job->ckpts.items = mem_grow(job->ckpts.items, kept, sizeof *job->ckpts.items);
    job->ckpts.count = kept;
}

void history_fold(struct state *state)
{
    uint64_t until_ms = folded_until_ms(state);
    for (size_t i = 0; until_ms != 0 && i < state->jobs.count; i++) {
        struct job_record *record = &state->jobs.items[i];
        if (!job_ended(record->job.state) || record->job.ended_ms > until_ms)
            continue;
        keep_newest(&record->job.events.items, &record->job.events.count, sizeof *record->job.events.items);
        keep_newest(&record->job.recoveries.items, &record->job.recoveries.count, sizeof *record->job.recoveries.items);
        strlist_release(&record->owed);
        keep_ckpts(record);
    }
}
