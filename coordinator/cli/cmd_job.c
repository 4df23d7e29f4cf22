/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/mem.h"

#include "ckpt/base/clock.h"
#include "ckpt/base/text.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/units.h"
#include "coordinator/cli/watch.h"

#define CKPTS_SHOWN 5
#define HOLD_MS 20000 /* an events watch */

/* ---- list ---- */

static void list_columns(struct table *t, bool wide)
{
    table_column(t, "NAME", false);
    table_column(t, "STATE", false);
    table_column(t, "GEN", true);
    table_column(t, "RANKS", true);
    table_column(t, "RESTARTS", true);
    table_column(t, "SUBMITTED", false);
    table_column(t, "RAN", true);
    if (wide) {
        table_column(t, "UID", false);
        table_column(t, "NODES", false);
    }
    table_column(t, "WHY", false);
}

static void join(const struct strlist *list, char *to, size_t size)
{
    to[0] = '\0';
    for (size_t i = 0; i < list->count; i++)
        text_say(to, size, "%s%s%s", to, i ? "," : "", list->items[i]);
}

static void list_row(struct table *t, const struct job *job, bool wide, uint64_t now)
{
    char text[UNIT_TEXT_MAX], nodes[512];
    const char *state = job_state_names[job->state];
    uint64_t end = job->ended_ms ? job->ended_ms : now;
    table_cell(t, TINT_NONE, "%s", job->spec.name);
    table_cell(t, tint_of_state(state), "%s", state);
    table_cell(t, TINT_NONE, "%" PRIu64, job->generation);
    table_cell(t, TINT_NONE, "%u", job_world(job));
    table_cell(t, TINT_NONE, "%u", job->restarts);
    table_cell(t, TINT_NONE, "%s", age_text(now, job->submitted_ms, text));
    table_cell(t, TINT_NONE, "%s",
               job->started_ms && end >= job->started_ms ? duration_text(end - job->started_ms, text) : "-");
    if (wide) {
        join(&job->nodes, nodes, sizeof nodes);
        table_cell(t, TINT_NONE, "%s", job->uid);
        table_cell(t, TINT_NONE, "%s", nodes);
    }
    table_cell(t, TINT_NONE, "%s", job->reason);
}

static void print_jobs(const struct cli *cli, const struct job_list *list)
{
    struct table t = {0};
    bool wide = cli->options.output == OUTPUT_WIDE, names = cli->options.output == OUTPUT_NAME;
    size_t ended = 0, shown = 0;
    uint64_t now = clock_wall_ms();
    list_columns(&t, wide);
    for (size_t i = 0; i < list->jobs.count; i++) {
        const struct job *job = &list->jobs.items[i];
        ended += job_ended(job->state);
        if (job_ended(job->state) && !cli->options.all)
            continue;
        shown++;
        if (names)
            puts(job->spec.name);
        else
            list_row(&t, job, wide, now);
    }
    table_print(&t, stdout, term_columns());
    if (!names && shown == 0)
        say_note("no %sjobs%s", ended ? "running " : "", ended ? "; tidemark job list -a shows those that have ended" : "");
}

int cmd_job_list(struct cli *cli)
{
    struct fault fault = {0};
    struct job_list list;
    json_t *json = NULL;
    if (client_noun(cli->client, "GET", "/v1/jobs", NULL, 0, &job_list_codec, &list, &json, &fault) != TIDE_OK)
        return fault_report(&fault);
    if (wants_json(cli))
        show_json(json);
    else
        print_jobs(cli, &list);
    codec_release(&job_list_codec, &list);
    json_decref(json);
    return EXIT_CODE_OK;
}

/* ---- show ---- */

static void show_command(const struct job_spec *spec)
{
    char text[1024] = "";
    for (size_t i = 0; i < spec->argv.count; i++)
        text_say(text, sizeof text, "%s%s%s", text, i ? " " : "", spec->argv.items[i]);
    field_print("command", TINT_NONE, "%s", text);
}

static void print_keeping(const struct job_spec *spec)
{
    char every[UNIT_TEXT_MAX], time[UNIT_TEXT_MAX], of_ids[2 * UNIT_TEXT_MAX] = "", of_time[2 * UNIT_TEXT_MAX] = "";
    if (spec->ckpt_keep_every)
        snprintf(of_ids, sizeof of_ids, " and one in %u", spec->ckpt_keep_every);
    if (spec->ckpt_keep_every_ms)
        snprintf(of_time, sizeof of_time, " and one in %s", duration_text(spec->ckpt_keep_every_ms, time));
    field_print("checkpoints", TINT_NONE, "%s%s, keeps %u%s%s%s", spec->ckpt_every_ms ? "every " : "by hand only",
                spec->ckpt_every_ms ? duration_text(spec->ckpt_every_ms, every) : "", spec->ckpt_keep, of_ids, of_time,
                spec->copies == COPIES_NO ? "; no copies in the memory of other nodes" : "");
}

static void show_job(const struct job_view *view, bool wide)
{
    const struct job *job = &view->job;
    char text[512], time[UNIT_TEXT_MAX];
    const char *state = job_state_names[job->state];
    field_print("job", TINT_BOLD, "%s", job->spec.name);
    field_print("state", tint_of_state(state), "%s", state);
    if (job->reason[0])
        field_print("why", TINT_NONE, "%s", job->reason);
    show_command(&job->spec);
    field_print("ranks", TINT_NONE, "%s", shape_text(job, text, sizeof text));
    join(&job->nodes, text, sizeof text);
    field_print("nodes", TINT_NONE, "%s", text[0] && text[0] != ',' ? text : "not placed yet");
    join(&job->spares, text, sizeof text);
    if (job->spec.spares)
        field_print("spares", TINT_NONE, "%s (of %u)", text[0] ? text : "none", job->spec.spares);
    field_print("generation", TINT_NONE, "%" PRIu64, job->generation);
    field_print("restarts", TINT_NONE, "%u of %u", job->restarts, job->spec.max_restarts);
    if (job_view_processes(view, text, sizeof text))
        field_print("last restart", TINT_NONE, "%s", text);
    if (steps_text(view, text, sizeof text)[0])
        field_print("progress", TINT_NONE, "%s", text);
    field_print("submitted", TINT_NONE, "%s", clock_text(job->submitted_ms, time));
    if (job->ended_ms)
        field_print("ended", TINT_NONE, "%s", clock_text(job->ended_ms, time));
    if (job_ended(job->state) && job->exit_status)
        field_print("exit status", TINT_NONE, "%d", job->exit_status);
    print_keeping(&job->spec);
    if (job->spec.store[0])
        field_print("store", TINT_NONE, "%s", job->spec.store);
    if (wide)
        field_print("uid", TINT_NONE, "%s", job->uid);
}

int cmd_job_show(struct cli *cli)
{
    struct fault fault = {0};
    struct job_view view;
    json_t *json = NULL;
    if (client_job(cli->client, cli->args.items[0], 0, 0, &view, &json, &fault) != TIDE_OK)
        return fault_report(&fault);
    if (wants_json(cli)) {
        show_json(json);
    } else if (cli->options.output == OUTPUT_NAME) {
        puts(view.job.spec.name);
    } else {
        show_job(&view, cli->options.output == OUTPUT_WIDE);
        if (view.ranks.count > 0)
            putchar('\n');
        show_ranks(&view);
        if (view.job.ckpts.count > 0)
            putchar('\n');
        show_ckpts(&view.job, (struct ckpts_wish){.newest = CKPTS_SHOWN, .wide = cli->options.output == OUTPUT_WIDE});
    }
    codec_release(&job_view_codec, &view);
    json_decref(json);
    return EXIT_CODE_OK;
}

/* ---- wait ---- */

static bool reached(const struct job_view *view, void *context)
{
    const struct options *options = context;
    const struct job *job = &view->job;
    if (job_ended(job->state) || options->until == UNTIL_ENDED)
        return job_ended(job->state);
    return job->state == TIDE_JOB_RUNNING && job->all_started && (options->until == UNTIL_RUNNING || job->all_stepped);
}

int cmd_job_wait(struct cli *cli)
{
    static const char *const wishes[] = {"to end", "to run", "to make a step"};
    struct fault fault = {0};
    struct job_view view;
    json_t *json = NULL;
    char what[TIDE_NAME_MAX + 32];
    snprintf(what, sizeof what, "%.*s %s", TIDE_NAME_MAX, cli->args.items[0], wishes[cli->options.until]);
    if (watch_job(cli->client, cli->args.items[0], cli->options.within_ms, what, reached, &cli->options, &view, &json,
                  &fault) != TIDE_OK)
        return fault_report(&fault);
    bool ended = job_ended(view.job.state);
    int code = ended ? exit_of_job(&view.job) : EXIT_CODE_OK;
    if (wants_json(cli))
        show_json(json);
    else if (cli->options.output == OUTPUT_NAME)
        puts(view.job.spec.name);
    else
        printf("%s: %s%s%s\n", view.job.spec.name, job_state_names[view.job.state], view.job.reason[0] ? ": " : "",
               view.job.reason);
    codec_release(&job_view_codec, &view);
    json_decref(json);
    return code;
}

/* ---- cancel ---- */

int cmd_job_cancel(struct cli *cli)
{
    struct fault fault = {0};
    struct outcome outcome;
    struct job_view view;
    json_t *json = NULL;
    char path[128], what[TIDE_NAME_MAX + 32];
    const char *job = cli->args.items[0];
    /* Also the check that it is there, so that a typing error is told as such. */
    if (client_job(cli->client, job, 0, 0, &view, NULL, &fault) != TIDE_OK)
        return fault_report(&fault);
    codec_release(&job_view_codec, &view);
    snprintf(path, sizeof path, "/v1/jobs/%s/cancel", job);
    if (client_outcome(cli->client, "POST", path, NULL, &outcome, &json, &fault) != TIDE_OK)
        return fault_report(&fault);
    snprintf(what, sizeof what, "%.*s to end", TIDE_NAME_MAX, job);
    if (cli->options.wait) {
        if (watch_job(cli->client, job, cli->options.within_ms, what, watch_ended, NULL, &view, NULL, &fault) != TIDE_OK) {
            json_decref(json);
            return fault_report(&fault);
        }
        text_copy(outcome.text, sizeof outcome.text, job_state_names[view.job.state]);
        codec_release(&job_view_codec, &view);
    }
    return show_outcome(cli, &outcome, json, job);
}

/* ---- explain ---- */

static void next_steps(const struct job *job)
{
    const char *name = job->spec.name;
    printf("\nnext\n");
    if (job->state == TIDE_JOB_PENDING)
        printf("  tidemark node list              which nodes are ready, and what they run\n");
    if (!job_ended(job->state)) {
        printf("  tidemark job logs -f %s\n", name);
        if (job->state == TIDE_JOB_RUNNING)
            printf("  tidemark ckpt save %s --wait\n", name);
        printf("  tidemark job cancel %s\n", name);
        return;
    }
    printf("  tidemark job logs %s            what its ranks said last\n", name);
    printf("  tidemark job events %s          all that happened\n", name);
}

static void explain(const struct job_view *view)
{
    const struct job *job = &view->job;
    char steps[64];
    const char *state = job_state_names[job->state];
    steps_text(view, steps, sizeof steps);
    printf("%s%s%s: %s%s%s, generation %" PRIu64 "%s%s\n", tint_on(TINT_BOLD), job->spec.name, tint_off(),
           tint_on(tint_of_state(state)), state, tint_off(), job->generation, steps[0] ? ", " : "", steps);
    if (job->reason[0])
        printf("  %s\n", job->reason);
    for (size_t i = 0; i < view->explain.count; i++)
        if (strcmp(view->explain.items[i], job->reason) != 0)
            printf("  %s\n", view->explain.items[i]);
    if (job->recoveries.count > 0) {
        printf("\ntimeline\n");
        show_recoveries(job);
    }
    next_steps(job);
}

int cmd_job_explain(struct cli *cli)
{
    struct fault fault = {0};
    struct job_view view;
    json_t *json = NULL;
    if (client_job(cli->client, cli->args.items[0], 0, 0, &view, &json, &fault) != TIDE_OK)
        return fault_report(&fault);
    if (wants_json(cli)) {
        json_t *all = json_pack("{s:O?,s:O?,s:O?}", "state", json_object_get(json_object_get(json, "job"), "state"),
                                "explain", json_object_get(json, "explain"), "recoveries",
                                json_object_get(json_object_get(json, "job"), "recoveries"));
        show_json(all);
        json_decref(all);
    } else {
        explain(&view);
    }
    codec_release(&job_view_codec, &view);
    json_decref(json);
    return EXIT_CODE_OK;
}

/* ---- events ---- */

/* With --follow there is no end of a list to wait for: an event a line. */
static void print_events(const struct cli *cli, const struct job_view *view, const json_t *json, uint64_t after)
{
    const json_t *list = json_object_get(json_object_get(json, "job"), "events");
    if (!wants_json(cli))
        show_events(&view->job, after);
    else if (!cli->options.follow)
        show_json_list(list);
    else
        for (size_t i = 0; i < view->job.events.count; i++)
            if (view->job.events.items[i].revision > after)
                show_json_line(json_array_get(list, i));
}

int cmd_job_events(struct cli *cli)
{
    struct fault fault = {0};
    uint64_t seen = 0, after = 0;
    for (bool more = true; more;) {
        struct job_view view;
        json_t *json = NULL;
        if (client_job(cli->client, cli->args.items[0], after, HOLD_MS, &view, &json, &fault) != TIDE_OK)
            return fault_report(&fault);
        print_events(cli, &view, json, seen);
        fflush(stdout);
        if (view.job.events.count > 0)
            seen = view.job.events.items[view.job.events.count - 1].revision;
        after = view.revision ? view.revision : 1;
        more = cli->options.follow && !job_ended(view.job.state);
        codec_release(&job_view_codec, &view);
        json_decref(json);
    }
    return EXIT_CODE_OK;
}
