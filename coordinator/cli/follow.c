/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/logs.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/signals.h"
#include "coordinator/cli/units.h"

#define HOLD_MS 5000u /* the coordinator holds a watch back that long */
#define GAP_MS 200u   /* between two watches: the leader sees changes at every heartbeat */
#define TICK_MS 100   /* how often everything is looked at */

struct following {
    const struct follow *ask;
    struct job_view view;
    uint64_t generation; /* being read; 0: none yet */
    struct log_reader reader;
    bool reading;
    struct http_call watch;
    bool watching;
    uint64_t watch_ns;    /* next one not before */
    uint64_t answered_ns; /* the coordinator's last answer */
};

static void start_watch(struct following *f)
{
    struct client *client = f->ask->client;
    struct err err;
    uint64_t now = clock_mono_ns();
    if (f->watching || now < f->watch_ns)
        return;
    f->watch.method = "GET";
    f->watch.timeout_ms = HOLD_MS + 5000;
    snprintf(f->watch.url, sizeof f->watch.url, "%s/v1/jobs/%s?after=%" PRIu64 "&wait_ms=%u",
             client->urls.items[client->preferred], f->ask->job, f->view.revision ? f->view.revision : 1, HOLD_MS);
    f->watching = http_start(client->http, &f->watch, &err) == TIDE_OK;
    f->watch_ns = now + GAP_MS * NS_PER_MS;
}

static enum tide_status contact_lost(const struct following *f, struct fault *fault)
{
    char time[UNIT_TEXT_MAX], hint[TIDE_TEXT_MAX + 1];
    const struct client *client = f->ask->client;
    text_say(hint, sizeof hint, "the job goes on without it; attach again with: tidemark job logs -f %s", f->ask->job);
    return fault_set(fault, TIDE_E_UNAVAILABLE, hint, "no coordinator has answered for %s; tried %s last (%s)",
                     duration_text(client->timeout_ms, time), client->urls.items[client->preferred], f->watch.error);
}

static enum tide_status reap_watch(struct following *f, struct fault *fault)
{
    struct client *client = f->ask->client;
    struct job_view view;
    struct err err;
    enum tide_status status = TIDE_OK;
    if (!f->watching || !f->watch.done)
        return TIDE_OK;
    f->watching = false;
    uint64_t now = clock_mono_ns();
    if (f->watch.reached && f->watch.status / 100 == 2) {
        f->answered_ns = now;
        if (codec_parse(&job_view_codec, f->watch.answer, f->watch.answer_bytes, CODEC_LENIENT, &view, &err) != TIDE_OK) {
            status = fault_set(fault, TIDE_E_VERSION, NULL, "the coordinator's answer is not understood: %s", err.text);
        } else {
            codec_release(&job_view_codec, &f->view);
            f->view = view;
        }
    } else if (f->watch.reached && f->watch.status < 500) {
        status = fault_from_answer(&f->watch, fault);
    } else {
        client->preferred = (client->preferred + 1) % client->urls.count;
        if (now - f->answered_ns > client->timeout_ms * NS_PER_MS)
            status = contact_lost(f, fault);
    }
    http_release(client->http, &f->watch);
    return status;
}

static void say_generation(const struct following *f)
{
    const struct job *job = &f->view.job;
    const struct recovery *r = NULL;
    for (size_t i = 0; i < job->recoveries.count; i++)
        if (job->recoveries.items[i].generation + 1 == f->generation)
            r = &job->recoveries.items[i];
    fflush(stdout);
    progress_clear();
    fprintf(stderr, "== generation %" PRIu64, f->generation);
    if (r != NULL && r->text[0] != '\0')
        fprintf(stderr, ": %s", r->text);
    if (r != NULL && r->cut != 0)
        fprintf(stderr, "; from %s/%" PRIu64 " (step %" PRIu64 ")", job->spec.name, r->cut, r->to_step);
    fputs(" ==\n", stderr);
}

/* Is the generation to be read next there, so that its ranks have nodes? */
static bool can_read(const struct following *f, uint64_t generation)
{
    const struct job *job = &f->view.job;
    if (generation < job->generation || job_ended(job->state))
        return true;
    return generation == job->generation && job->nodes.count > 0 && job->nodes.items[0][0] != '\0';
}

static bool all_read(struct following *f)
{
    const struct job *job = &f->view.job;
    bool over = job_ended(job->state) || f->generation < job->generation;
    if (!f->reading || !log_reader_step(&f->reader, over))
        return false;
    return over;
}

/* On to the next generation if there is one. ret_done: the job has ended and everything is read. */
static enum tide_status advance(struct following *f, bool *ret_done, struct fault *fault)
{
    const struct job *job = &f->view.job;
    bool finished = all_read(f);
    if (f->reading && !finished)
        return TIDE_OK;
    uint64_t next = f->generation ? f->generation + f->reading : job->generation;
    if (job_ended(job->state) && (next > job->generation || next == 0)) {
        *ret_done = true;
        return TIDE_OK;
    }
    if (next == 0 || next > job->generation || !can_read(f, next)) {
        progress_show("%s is %s%s%s", job->spec.name, job_state_names[job->state], job->reason[0] ? ": " : "", job->reason);
        return TIDE_OK;
    }
    struct log_wish wish = f->ask->wish;
    if (f->reading) {
        log_reader_release(&f->reader);
        wish.tail = 0;
    }
    bool first = f->generation == 0 || !f->reading;
    f->reading = false;
    f->generation = next;
    if (!first)
        say_generation(f);
    f->reading = true;
    enum tide_status status = log_reader_init(&f->reader, f->ask->client, &wish, &f->view, next, fault);
    f->reading = status == TIDE_OK;
    return status;
}

enum tide_status follow_job(const struct follow *ask, struct job_view *ret_view, struct fault *fault)
{
    struct following f = {.ask = ask, .generation = ask->generation};
    *ret_view = (struct job_view){0};
    enum tide_status status = client_job(ask->client, ask->job, 0, 0, &f.view, NULL, fault);
    if (status != TIDE_OK)
        return status;
    f.answered_ns = clock_mono_ns();
    bool done = false;
    while (status == TIDE_OK && !done) {
        if (ask->watch != NULL && ask->watch(ask->context, &f.view) != 0)
            status = fault_set(fault, TIDE_E_STATE, NULL, "interrupted");
        if (status == TIDE_OK)
            status = reap_watch(&f, fault);
        if (status == TIDE_OK)
            status = advance(&f, &done, fault);
        if (ferror(stdout))
            status = fault_set(fault, TIDE_E_IO, NULL, "the reader of this output has gone away");
        if (status != TIDE_OK || done)
            break;
        if (!job_ended(f.view.job.state))
            start_watch(&f);
        http_wait(ask->client->http, TICK_MS);
    }
    if (f.reading)
        log_reader_release(&f.reader);
    http_release(ask->client->http, &f.watch);
    progress_clear();
    *ret_view = f.view;
    return status;
}

/* ---- job logs ---- */

static enum tide_status print_generation(struct client *client, const struct log_wish *wish, const struct job_view *view,
                                         uint64_t generation, bool *ret_any, struct fault *fault)
{
    struct log_reader reader;
    enum tide_status status = log_reader_init(&reader, client, wish, view, generation, fault);
    if (status != TIDE_OK)
        return status;
    while (!log_reader_step(&reader, true) && !ferror(stdout))
        http_wait(client->http, TICK_MS);
    *ret_any = reader.warned.count == 0;
    log_reader_release(&reader);
    return TIDE_OK;
}

static int print_logs(struct cli *cli, const struct log_wish *wish)
{
    const struct options *o = &cli->options;
    struct fault fault = {0};
    struct job_view view;
    if (client_job(cli->client, cli->args.items[0], 0, 0, &view, NULL, &fault) != TIDE_OK)
        return fault_report(&fault);
    uint64_t newest = view.job.generation, from = o->all_generations ? 1 : o->generation ? o->generation : newest;
    uint64_t to = o->generation && !o->all_generations ? o->generation : newest;
    enum tide_status status = TIDE_OK;
    bool whole = true, all = true;
    if (newest == 0)
        say_note("job %s has not been started yet%s%s", view.job.spec.name, view.job.reason[0] ? ": " : "", view.job.reason);
    else if (from > newest)
        status = fault_set(&fault, TIDE_E_NOT_FOUND, NULL, "job %s has only reached generation %" PRIu64, view.job.spec.name,
                           newest);
    for (uint64_t g = from; g > 0 && status == TIDE_OK && g <= to; g++) {
        fflush(stdout);
        if (o->all_generations && newest > 1)
            fprintf(stderr, "== generation %" PRIu64 " ==\n", g);
        status = print_generation(cli->client, wish, &view, g, &whole, &fault);
        all = all && whole;
    }
    codec_release(&job_view_codec, &view);
    if (status != TIDE_OK)
        return fault_report(&fault);
    return all ? EXIT_CODE_OK : EXIT_CODE_ERROR;
}

static int stop_on_signal(void *context, const struct job_view *view)
{
    (void)context;
    (void)view;
    return signals_count() > 0;
}

int cmd_job_logs(struct cli *cli)
{
    const struct options *o = &cli->options;
    struct log_wish wish = {.ranks = o->ranks, .stream = o->stream, .tail = o->tail, .follow = o->follow};
    if (!o->follow)
        return print_logs(cli, &wish);
    struct fault fault = {0};
    struct job_view view;
    struct follow follow = {.client = cli->client,
                            .job = cli->args.items[0],
                            .wish = wish,
                            .watch = stop_on_signal,
                            .generation = o->all_generations ? 1 : o->generation};
    signals_catch();
    enum tide_status status = follow_job(&follow, &view, &fault);
    int code = EXIT_CODE_OK;
    if (signals_count() > 0) {
        say_note("detached; job %s goes on. Attach again with: tidemark job logs -f %s", follow.job, follow.job);
        code = signals_exit();
    } else if (status != TIDE_OK) {
        code = ferror(stdout) ? EXIT_CODE_ERROR : fault_report(&fault);
    } else {
        show_end(&view.job);
    }
    codec_release(&job_view_codec, &view);
    return code;
}
