/* SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "coordinator/core/judge.h"

/* Numbers for whoever watches a cluster for long, in the text format of Prometheus 0.0.4. All are as they are now: none is counted here,
 * so that a new leader says the same. Names of jobs and states need no quoting. */

#define METRIC_LINE_MAX 256u

struct page {
    char *text;
    size_t used, room;
};

static void line(struct page *page, const char *format, ...) PRINTF_LIKE(2, 3);

static void line(struct page *page, const char *format, ...)
{
    va_list args;
    if (page->room - page->used < METRIC_LINE_MAX) {
        page->room = 2 * page->room + 2 * METRIC_LINE_MAX;
        page->text = mem_grow(page->text, page->room, 1);
    }
    va_start(args, format);
    int n = vsnprintf(page->text + page->used, METRIC_LINE_MAX, format, args);
    va_end(args);
    page->used += n < (int)METRIC_LINE_MAX ? (size_t)n : METRIC_LINE_MAX - 1;
}

static void head(struct page *page, const char *name, const char *help)
{
    line(page, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name);
}

static void ckpts_by_state(struct page *page, const struct state *state)
{
    head(page, "tidemark_checkpoints", "Checkpoints that are known of a job, by their state.");
    for (size_t i = 0; i < state->jobs.count; i++) {
        const struct job *job = &state->jobs.items[i].job;
        uint32_t counts[TIDE_CKPT_STATES] = {0};
        for (size_t k = 0; k < job->ckpts.count; k++)
            counts[job->ckpts.items[k].state]++;
        for (unsigned s = 0; s < TIDE_CKPT_STATES; s++)
            line(page, "tidemark_checkpoints{job=\"%s\",state=\"%s\"} %u\n", job->spec.name, ckpt_state_names[s], counts[s]);
    }
}

/* ---- what nodes have read in the store ---- */

struct scrubbed {
    uint64_t ckpts, bytes, ago_ms; /* ago_ms: the newest; UINT64_MAX: none */
};

static struct scrubbed scrubbed_of(const struct book *book, const struct job_record *record, uint64_t now_ns)
{
    struct scrubbed all = {.ago_ms = UINT64_MAX};
    for (size_t n = 0; n < record->job.nodes.count; n++) {
        const struct book_entry *entry = book_find(book, record->job.nodes.items[n]);
        const struct gen_report *report = book_report(book, record->job.nodes.items[n], record->job.uid);
        for (size_t i = 0; entry != NULL && report != NULL && i < report->scrubs.count; i++) {
            uint64_t ago_ms = report->scrubs.items[i].ago_ms + (now_ns - entry->heard_ns) / NS_PER_MS;
            all.ckpts++;
            all.bytes += report->scrubs.items[i].bytes;
            all.ago_ms = ago_ms < all.ago_ms ? ago_ms : all.ago_ms;
        }
    }
    return all;
}

enum scrub_number { SCRUB_CKPTS, SCRUB_BYTES, SCRUB_LAST, SCRUB_NUMBERS };

static const char *const scrub_names[SCRUB_NUMBERS] = {"tidemark_scrub_checkpoints", "tidemark_scrub_bytes",
                                                       "tidemark_scrub_last_timestamp_seconds"};
static const char *const scrub_helps[SCRUB_NUMBERS] = {
    "Checkpoints in the store that its nodes have read as a whole since their agents were started.",
    "Bytes of state in these that were compared with their digests.", "When the last of these was read; 0: none was."};

static void scrubs(struct page *page, const struct state *state, const struct book *book, uint64_t now_ns, uint64_t wall_ms)
{
    for (unsigned what = 0; what < SCRUB_NUMBERS; what++) {
        head(page, scrub_names[what], scrub_helps[what]);
        for (size_t i = 0; i < state->jobs.count; i++) {
            const struct job_record *record = &state->jobs.items[i];
            if (!job_active(record))
                continue;
            struct scrubbed all = scrubbed_of(book, record, now_ns);
            uint64_t last_s = all.ago_ms < wall_ms ? (wall_ms - all.ago_ms) / MS_PER_S : 0;
            const uint64_t numbers[SCRUB_NUMBERS] = {all.ckpts, all.bytes, last_s};
            line(page, "%s{job=\"%s\"} %" PRIu64 "\n", scrub_names[what], record->job.spec.name, numbers[what]);
        }
    }
}

char *metrics_text(const struct state *state, const struct book *book, uint64_t now_ns, uint64_t wall_ms)
{
    struct page page = {0};
    ckpts_by_state(&page, state);
    scrubs(&page, state, book, now_ns, wall_ms);
    return page.text;
}
