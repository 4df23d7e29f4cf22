/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/show.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/cut/mode.h"
#include "ckpt/wire/local.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/units.h"

static void print_json(const json_t *json, size_t flags)
{
    char *text = json ? json_dumps(json, flags) : NULL;
    puts(text ? text : "{}");
    mem_free(text);
}

void show_json(const json_t *json)
{
    print_json(json, JSON_INDENT(2));
}

void show_json_line(const json_t *json)
{
    print_json(json, JSON_COMPACT);
}

void show_json_list(const json_t *json)
{
    if (json != NULL)
        show_json(json);
    else
        puts("[]"); /* a list without items is left out where it comes from */
}

bool wants_json(const struct cli *cli)
{
    return cli->options.output == OUTPUT_JSON || cli->options.json;
}

bool steps_range(const struct job_view *view, uint64_t *ret_low, uint64_t *ret_high)
{
    bool any = false;
    uint64_t low = UINT64_MAX, high = 0;
    for (size_t i = 0; i < view->ranks.count; i++) {
        const struct rank_report *r = &view->ranks.items[i].report;
        if (!r->attached && !r->stepped)
            continue;
        any = true;
        low = r->step < low ? r->step : low;
        high = r->step > high ? r->step : high;
    }
    if (any) {
        *ret_low = low;
        *ret_high = high;
    }
    return any;
}

const char *steps_text(const struct job_view *view, char *to, size_t size)
{
    uint64_t low, high;
    to[0] = '\0';
    if (!steps_range(view, &low, &high))
        return to;
    if (low == high)
        snprintf(to, size, "step %" PRIu64, low);
    else
        snprintf(to, size, "steps %" PRIu64 "-%" PRIu64, low, high);
    return to;
}

const char *shape_text(const struct job *job, char *to, size_t size)
{
    const struct job_spec *spec = &job->spec;
    uint32_t nodes = job_world(job) / spec->nproc_per_node;
    int n = snprintf(to, size, "%u (%u node%s x %u)", job_world(job), nodes, nodes == 1 ? "" : "s", spec->nproc_per_node);
    if (job_elastic(spec) && n > 0 && (size_t)n < size)
        snprintf(to + n, size - (size_t)n, ", elastic from %u to %u, submitted with %u", spec->elastic_min, spec->elastic_max,
                 job_world_size(spec));
    return to;
}

/* ---- checkpoints ---- */

#define KEEP_TEXT_MAX (2 * UNIT_TEXT_MAX)

/* Who keeps it; empty: nobody by hand. */
static void keep_text(const struct ckpt *k, char to[KEEP_TEXT_MAX])
{
    char time[UNIT_TEXT_MAX];
    snprintf(to, KEEP_TEXT_MAX, "%s", k->pinned ? "pinned" : "");
    if (k->held_until_ms && !k->pinned)
        snprintf(to, KEEP_TEXT_MAX, "held until %s", clock_text(k->held_until_ms, time));
}

static void ckpt_columns(struct table *t, bool wide)
{
    table_column(t, "CHECKPOINT", false);
    table_column(t, "STATE", false);
    table_column(t, "STEP", true);
    table_column(t, "GEN", true);
    table_column(t, "SIZE", true);
    table_column(t, "STORED", true);
    table_column(t, "STALL", true);
    table_column(t, "OPENED", false);
    if (wide)
        table_column(t, "MANIFEST", false);
    table_column(t, "NOTE", false);
}

static void ckpt_row(struct table *t, const struct job *job, const struct ckpt *k, bool wide, uint64_t now)
{
    char a[UNIT_TEXT_MAX], b[UNIT_TEXT_MAX], c[UNIT_TEXT_MAX], d[UNIT_TEXT_MAX];
    const char *state = ckpt_state_names[k->state];
    char keep[KEEP_TEXT_MAX];
    keep_text(k, keep);
    table_cell(t, TINT_NONE, "%s/%" PRIu64, job->spec.name, k->cut);
    table_cell(t, tint_of_state(state), "%s", state);
    table_cell(t, TINT_NONE, "%" PRIu64, k->step);
    table_cell(t, TINT_NONE, "%" PRIu64, k->generation);
    table_cell(t, TINT_NONE, "%s", k->raw_bytes ? size_text(k->raw_bytes, a) : "-");
    table_cell(t, TINT_NONE, "%s", k->stored_bytes ? size_text(k->stored_bytes, b) : "-");
    table_cell(t, TINT_NONE, "%s", k->sealed_ms ? stall_text(k->stall_us, c) : "-");
    table_cell(t, TINT_NONE, "%s", age_text(now, k->opened_ms, d));
    if (wide)
        table_cell(t, TINT_NONE, "%s", k->manifest);
    table_cell(t, TINT_NONE, "%s%s%s%s%s", k->by_hand ? "by hand" : "", k->by_hand && keep[0] ? "; " : "", keep,
               (k->by_hand || keep[0]) && k->reason[0] ? "; " : "", k->reason);
}

size_t show_ckpts(const struct job *job, struct ckpts_wish wish)
{
    struct table t = {0};
    size_t from = job->ckpts.count, rows = 0, hidden = 0;
    uint64_t now = clock_wall_ms();
    while (from > 0 && (wish.newest == 0 || rows < wish.newest)) {
        from--;
        rows += wish.dropped || job->ckpts.items[from].state != TIDE_CKPT_DROPPED;
    }
    ckpt_columns(&t, wish.wide);
    for (size_t i = from; i < job->ckpts.count; i++) {
        if (!wish.dropped && job->ckpts.items[i].state == TIDE_CKPT_DROPPED)
            hidden++;
        else
            ckpt_row(&t, job, &job->ckpts.items[i], wish.wide, now);
    }
    table_print(&t, stdout, term_columns());
    return hidden;
}

static void show_record(const struct ckpt *k)
{
    char a[UNIT_TEXT_MAX], b[UNIT_TEXT_MAX];
    if (k->copy == RECORD_COPY_ON_WRITE)
        field_print("stall", TINT_NONE, "%s at most; the rest was copied within %s while training went on",
                    stall_text(k->stall_us, a), duration_text(k->copy_ms, b));
    else
        field_print("stall", TINT_NONE, "%s at most%s", stall_text(k->stall_us, a),
                    k->copy == RECORD_COPY_REFUSED ? "; the kernel did not let regions be copied while training went on"
                                                   : "; host memory was copied at once");
    if (k->epoch != 0)
        field_print("messages", TINT_NONE, "%" PRIu64 " on their way are in it, %s", k->logged,
                    size_text(k->logged_bytes, a));
}

void show_ckpt(const struct job *job, const struct ckpt *k)
{
    char a[UNIT_TEXT_MAX], b[UNIT_TEXT_MAX];
    const char *state = ckpt_state_names[k->state];
    field_print("checkpoint", TINT_BOLD, "%s/%" PRIu64, job->spec.name, k->cut);
    field_print("state", tint_of_state(state), "%s", state);
    if (k->reason[0])
        field_print("reason", TINT_NONE, "%s", k->reason);
    if (k->condemned_ms) {
        uint64_t end_ms = k->condemned_ms + job_grace_ms(&job->spec);
        field_print("deleted", TINT_NONE, "at %s, unless it is pinned", clock_text(end_ms, a));
    }
    char keep[KEEP_TEXT_MAX];
    keep_text(k, keep);
    if (keep[0])
        field_print("kept", TINT_NONE, "%s", keep);
    if (k->mode == CUT_MODE_FREE)
        field_print("step", TINT_NONE, "each rank at its own; %" PRIu64 " is the largest", k->step);
    else
        field_print("step", TINT_NONE, "%" PRIu64, k->step);
    if (k->attempt > 1)
        field_print("attempts", TINT_NONE, "%u", k->attempt);
    field_print("generation", TINT_NONE, "%" PRIu64, k->generation);
    field_print("asked for", TINT_NONE, "%s", k->by_hand ? "by hand" : "by --ckpt-every");
    field_print("opened", TINT_NONE, "%s", clock_text(k->opened_ms, a));
    if (k->sealed_ms)
        field_print("sealed", TINT_NONE, "%s after", duration_text(k->sealed_ms - k->opened_ms, a));
    if (k->committed_ms)
        field_print("committed", TINT_NONE, "%s after", duration_text(k->committed_ms - k->opened_ms, a));
    if (k->sealed_ms)
        show_record(k);
    if (k->raw_bytes)
        field_print("size", TINT_NONE, "%s, %s stored", size_text(k->raw_bytes, a), size_text(k->stored_bytes, b));
    if (k->manifest[0]) {
        field_print("manifest", TINT_NONE, "%s", k->manifest);
        field_print("key", TINT_NONE, "%s", k->manifest_key);
    }
    for (size_t i = 0; i < k->nodes.count; i++) {
        const char *peer = i < k->peers.count && k->peers.items[i][0] != '\0' ? k->peers.items[i] : NULL;
        field_print(i ? "" : "nodes", TINT_NONE, "%s%s%s", k->nodes.items[i], peer != NULL ? ", copied to " : "", peer != NULL ? peer : "");
    }
}

/* ---- history ---- */

static void show_recovery(const struct job *job, const struct recovery *r)
{
    char at[UNIT_TEXT_MAX], d[5][UNIT_TEXT_MAX];
    printf("%s  %sgeneration %" PRIu64 " -> %" PRIu64 "%s: %s\n", clock_text(r->at_ms, at), tint_on(TINT_BOLD),
           r->generation, r->generation + 1, tint_off(), r->text[0] ? r->text : event_kind_names[r->cause]);
    printf("    detect %s, fence %s, start %s, restore %s", duration_text(r->detect_ms, d[0]),
           duration_text(r->fence_ms, d[1]), r->start_ms ? duration_text(r->start_ms, d[2]) : "-",
           duration_text(r->restore_ms, d[3]));
    printf("; %s%s\n", r->total_ms ? duration_text(r->total_ms, d[4]) : "not over yet", r->total_ms ? " in all" : "");
    uint64_t lost = r->from_step > r->to_step ? r->from_step - r->to_step : 0;
    if (r->cut)
        printf("    restored %s/%" PRIu64 " (step %" PRIu64 "); %" PRIu64 " step%s lost\n", job->spec.name, r->cut,
               r->to_step, lost, lost == 1 ? "" : "s");
    else
        printf("    from the beginning: there was no checkpoint; %" PRIu64 " step%s lost\n", lost, lost == 1 ? "" : "s");
}

void show_recoveries(const struct job *job)
{
    for (size_t i = 0; i < job->recoveries.count; i++)
        show_recovery(job, &job->recoveries.items[i]);
}

void show_event(const struct event *event)
{
    char at[UNIT_TEXT_MAX], who[160] = "";
    if (event->rank >= 0 && event->kind == EVENT_RANK_EXITED)
        snprintf(who, sizeof who, "rank %d%s", event->rank, event->text[0] ? ": " : "");
    printf("%s  g%-3" PRIu64 " %-12s %s%s\n", clock_text(event->at_ms, at), event->generation, event_kind_names[event->kind],
           strncmp(event->text, "rank", 4) == 0 ? "" : who, event->text);
}

void show_events(const struct job *job, uint64_t after)
{
    for (size_t i = 0; i < job->events.count; i++)
        if (job->events.items[i].revision > after)
            show_event(&job->events.items[i]);
}

/* ---- ranks ---- */

void show_ranks(const struct job_view *view)
{
    struct table t = {0};
    char restore[TIDE_NAME_MAX + 2 * UNIT_TEXT_MAX + 32], time[UNIT_TEXT_MAX];
    table_column(&t, "RANK", true);
    table_column(&t, "NODE", false);
    table_column(&t, "STATE", false);
    table_column(&t, "PID", true);
    table_column(&t, "STEP", true);
    table_column(&t, "RESTORED", false);
    table_column(&t, "DETAIL", false);
    for (size_t i = 0; i < view->ranks.count; i++) {
        const struct rank_view *v = &view->ranks.items[i];
        const struct rank_report *r = &v->report;
        bool known = r->pid != 0 || r->state != 0 || r->attached;
        const char *state = known ? rank_state_names[r->state] : "-";
        restore[0] = '\0';
        if (r->restored_cut)
            snprintf(restore, sizeof restore, "%s/%" PRIu64 " from %s in %s", view->job.spec.name, r->restored_cut,
                     r->tier[0] ? r->tier : "?", stall_text(r->restore_us, time));
        table_cell(&t, TINT_NONE, "%u", v->rank);
        table_cell(&t, TINT_NONE, "%s", v->node);
        table_cell(&t, tint_of_state(state), "%s", state);
        table_cell(&t, TINT_NONE, r->pid ? "%d" : "-", r->pid);
        table_cell(&t, TINT_NONE, r->attached || r->stepped ? "%" PRIu64 : "-", r->step);
        table_cell(&t, TINT_NONE, "%s", restore);
        if (r->state == TIDE_RANK_EXITED && r->detail[0] == '\0' && known)
            table_cell(&t, TINT_NONE, r->signal ? "signal %d" : "exit status %d", r->signal ? r->signal : r->exit_code);
        else
            table_cell(&t, TINT_NONE, "%s", r->detail);
    }
    table_print(&t, stdout, term_columns());
}

/* ---- ends ---- */

void show_end(const struct job *job)
{
    char ran[UNIT_TEXT_MAX] = "";
    if (job->started_ms && job->ended_ms > job->started_ms)
        duration_text(job->ended_ms - job->started_ms, ran);
    say_note("job %s %s%s%s%s%s; %u restart%s", job->spec.name, job_state_names[job->state], ran[0] ? " after " : "", ran,
             job->reason[0] ? ": " : "", job->reason, job->restarts, job->restarts == 1 ? "" : "s");
}

int exit_of_job(const struct job *job)
{
    switch (job->state) {
    case TIDE_JOB_SUCCEEDED:
        return EXIT_CODE_OK;
    case TIDE_JOB_CANCELLED:
        return EXIT_CODE_JOB_CANCELLED;
    case TIDE_JOB_FAILED:
        return job->exit_status > 0 && job->exit_status < 256 ? job->exit_status : EXIT_CODE_JOB_FAILED;
    default:
        return EXIT_CODE_ERROR;
    }
}

int show_outcome(const struct cli *cli, const struct outcome *outcome, json_t *json, const char *name)
{
    if (wants_json(cli))
        show_json(json);
    else if (cli->options.output == OUTPUT_NAME)
        puts(name);
    else
        printf("%s%s%s\n", name, outcome->text[0] ? ": " : "", outcome->text);
    json_decref(json);
    return EXIT_CODE_OK;
}

enum tide_status ckpt_id_parse(const struct strlist *args, char *ret_job, uint64_t *ret_cut, struct fault *fault)
{
    static const char hint[] = "write JOB/7 or JOB 7; tidemark ckpt list JOB shows them";
    const char *first = args->items[0], *slash = strchr(first, '/');
    const char *number = args->count > 1 ? args->items[1] : slash ? slash + 1 : NULL;
    size_t n = slash && args->count == 1 ? (size_t)(slash - first) : strlen(first);
    char job[TIDE_NAME_MAX + 1];
    if (number == NULL)
        return fault_set(fault, TIDE_E_INVALID, hint, "\"%.80s\" names no checkpoint", first);
    snprintf(job, sizeof job, "%.*s", (int)n, first);
    if (n > TIDE_NAME_MAX || !name_valid(job))
        return fault_set(fault, TIDE_E_INVALID, hint, "\"%.80s\" is not the name of a job", first);
    /* "JOB JOB/7" is what a script writes that got the id from ckpt save. */
    if (strncmp(number, job, n) == 0 && number[n] == '/')
        number += n + 1;
    if (number_parse(number, 1, INT64_MAX, ret_cut, NULL) != TIDE_OK)
        return fault_set(fault, TIDE_E_INVALID, hint, "\"%.80s\" is not the number of a checkpoint", number);
    text_copy(ret_job, TIDE_NAME_MAX + 1, job);
    return TIDE_OK;
}
