/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/judge.h"

/* Grace is counted by the leader's own clock, from when it first saw the sentence: a new leader gives all of it again. A hold
 * is a date that people set and read, so it ends by the wall clock. */

bool keep_waits(const struct job_record *record)
{
    for (size_t i = 0; i < record->job.ckpts.count; i++)
        if (record->job.ckpts.items[i].state == TIDE_CKPT_CONDEMNED || record->job.ckpts.items[i].held_until_ms != 0)
            return true;
    return false;
}

static void judge_hold(struct judging *judging, const struct job_record *record)
{
    uint64_t first_ms = UINT64_MAX;
    for (size_t i = 0; i < record->job.ckpts.count; i++) {
        uint64_t until_ms = record->job.ckpts.items[i].held_until_ms;
        if (until_ms != 0 && until_ms < first_ms)
            first_ms = until_ms;
    }
    uint64_t left_ms = first_ms > judging->now_ms ? first_ms - judging->now_ms : 0;
    if (judge_passed(judging, judging->now_ns, left_ms))
        judge_add(judging, CMD_CKPT_EXPIRE, record);
}

/* The list of those that are condemned now, each since when it was in the list before. One that was taken back and condemned once
 * more between two looks has all its grace again: the time of the sentence tells it from the first one. */
static void look_at_condemned(struct track *track, const struct job_record *record, uint64_t now_ns)
{
    const struct job *job = &record->job;
    struct condemned *now = mem_array(job->ckpts.count, sizeof *now);
    size_t count = 0, old = 0;
    for (size_t i = 0; i < job->ckpts.count; i++) {
        const struct ckpt *ckpt = &job->ckpts.items[i];
        if (ckpt->state != TIDE_CKPT_CONDEMNED)
            continue;
        while (old < track->condemned.count && track->condemned.items[old].cut < ckpt->cut)
            old++;
        const struct condemned *before = old < track->condemned.count ? &track->condemned.items[old] : NULL;
        bool known = before != NULL && before->cut == ckpt->cut && before->condemned_ms == ckpt->condemned_ms;
        now[count++] = (struct condemned){
            .cut = ckpt->cut, .condemned_ms = ckpt->condemned_ms, .since_ns = known ? before->since_ns : now_ns};
    }
    mem_free(track->condemned.items);
    track->condemned.items = now;
    track->condemned.count = count;
}

void judge_keep(struct judging *judging, const struct job_record *record)
{
    struct track *track = track_get(judging->book, record->job.uid);
    size_t before = judging->commands->count;
    judge_hold(judging, record);
    look_at_condemned(track, record, judging->now_ns);
    for (size_t i = 0; i < track->condemned.count && judging->commands->count == before; i++)
        if (judge_passed(judging, track->condemned.items[i].since_ns, job_grace_ms(&record->job.spec)))
            judge_add(judging, CMD_CKPT_EXPIRE, record)->cut = track->condemned.items[i].cut;
}
