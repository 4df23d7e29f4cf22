/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/judge.h"
#include "coordinator/core/straggler.h"

/* How many steps each rank makes, in windows: what is told of it is of the leader's own book, as evidence of its node. */

static void begin_window(struct judging *judging, const struct job_record *record, struct track *track)
{
    uint32_t world = job_world(&record->job);
    struct pace *pace = &track->pace;
    if (pace->count != world) {
        mem_free(pace->steps);
        pace->steps = mem_array(world, sizeof *pace->steps);
        pace->count = world;
    }
    for (uint32_t rank = 0; rank < world; rank++) {
        const struct rank_report *report = scan_rank(judging->book, record, rank);
        pace->steps[rank] = report != NULL ? report->step : 0;
    }
    pace->since_ns = judging->now_ns;
}

/* One that made none in the window may need longer than that for one. */
static size_t find_slow(struct judging *judging, const struct job_record *record, struct track *track, uint64_t *ret_us,
                        uint64_t *ret_median)
{
    struct pace *pace = &track->pace;
    uint64_t window_us = (judging->now_ns - pace->since_ns) / 1000u;
    uint64_t *us = mem_array(pace->count, sizeof *us), *scratch = mem_array(pace->count, sizeof *scratch);
    for (uint32_t rank = 0; rank < pace->count; rank++) {
        const struct rank_report *report = scan_rank(judging->book, record, rank);
        uint64_t made = report != NULL && report->step > pace->steps[rank] ? report->step - pace->steps[rank] : 1;
        us[rank] = window_us / made;
    }
    size_t slow = straggler_find(us, scratch, pace->count, ret_median);
    if (slow != STRAGGLER_NONE)
        *ret_us = us[slow];
    if (*ret_median == 0 || window_us / *ret_median < STRAGGLER_STEPS_MIN)
        slow = STRAGGLER_NONE;
    mem_free(us);
    mem_free(scratch);
    return slow;
}

static void tell(struct judging *judging, const struct job_record *record, uint32_t rank, uint64_t us, uint64_t median)
{
    const char *name = record->job.nodes.items[rank / record->job.spec.nproc_per_node];
    struct book_entry *entry = book_find(judging->book, name);
    const struct node *node = state_node(judging->state, name);
    if (entry == NULL || node == NULL)
        return;
    struct found *slow = &entry->slow;
    char subject[HEALTH_SUBJECT_MAX + 1], text[TIDE_TEXT_MAX + 1];
    TEXT(subject, "job %s rank %u", record->job.spec.name, rank);
    bool told = judge_found_counts(slow, judging->now_ns);
    if (told && strcmp(slow->fact.subject, subject) != 0)
        return; /* one of a node is enough: of several, each would take the place of the other without end */
    slow->until_ns = judging->now_ns + 2 * STRAGGLER_WINDOW_MS * NS_PER_MS;
    if (told)
        return; /* its numbers are of no interest */
    TEXT(text, "it needs %" PRIu64 " us for a step, the median of %u ranks %" PRIu64 " us", us, job_world(&record->job), median);
    judge_found(node, entry, slow, "straggler", subject, text);
}

void judge_pace(struct judging *judging, const struct job_record *record, struct track *track)
{
    struct pace *pace = &track->pace;
    if (pace->generation != record->job.generation || pace->since_ns == 0) {
        begin_window(judging, record, track);
        pace->generation = record->job.generation;
        pace->windows = 0;
        return;
    }
    if (!judge_passed(judging, pace->since_ns, STRAGGLER_WINDOW_MS))
        return;
    uint64_t us = 0, median = 0;
    size_t slow = find_slow(judging, record, track, &us, &median);
    pace->windows = slow == STRAGGLER_NONE ? 0 : slow == pace->slow ? pace->windows + 1 : 1;
    pace->slow = slow;
    if (pace->windows >= STRAGGLER_WINDOWS)
        tell(judging, record, (uint32_t)slow, us, median);
    begin_window(judging, record, track);
}
