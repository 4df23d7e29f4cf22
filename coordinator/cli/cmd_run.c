/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/mem.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/logs.h"
#include "coordinator/cli/run_spec.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/signals.h"
#include "coordinator/cli/standalone.h"
#include "coordinator/cli/watch.h"

#define GPUS_MAX 64

static const char *environment(const char *name)
{
    return getenv(name);
}

static uint32_t count_gpus(void)
{
    uint32_t count = 0;
    char path[32];
    for (unsigned i = 0; i < GPUS_MAX; i++) {
        snprintf(path, sizeof path, "/dev/nvidia%u", i);
        count += access(path, F_OK) == 0;
    }
    return count;
}

static enum tide_status smallest_slots(struct client *client, uint32_t *ret_slots, struct fault *fault)
{
    struct node_list list;
    enum tide_status status = client_noun(client, "GET", "/v1/nodes", NULL, 0, &node_list_codec, &list, NULL, fault);
    if (status != TIDE_OK)
        return status;
    uint32_t least = 0;
    for (size_t i = 0; i < list.nodes.count; i++) {
        const struct node *n = &list.nodes.items[i].node;
        if (n->state == TIDE_NODE_READY && !n->cordoned && n->slots > 0 && (least == 0 || n->slots < least))
            least = n->slots;
    }
    codec_release(&node_list_codec, &list);
    *ret_slots = least;
    return TIDE_OK;
}

static enum tide_status build_spec(const struct cli *cli, struct job_spec *ret_spec, struct fault *fault)
{
    char cwd[TIDE_PATH_MAX + 1];
    struct rng rng = {.state = rng_entropy()};
    struct machine machine = {.environment = environment, .cwd = cwd, .gpus = count_gpus()};
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    machine.cpus = cpus > 0 ? (uint32_t)cpus : 1;
    rng_hex(&rng, machine.suffix, 4);
    if (getcwd(cwd, sizeof cwd) == NULL)
        return err_errno(&fault->err, "the present directory has no usable path; name one with --cwd");
    if (run_spec_wants_slots(&cli->options)) {
        enum tide_status status = smallest_slots(cli->client, &machine.slots, fault);
        if (status != TIDE_OK)
            return status;
    }
    return run_spec_build(&cli->options, &cli->args, &machine, ret_spec, fault);
}

static enum tide_status submit(struct client *client, const struct job_spec *spec, struct outcome *ret_outcome,
                               json_t **ret_json, struct fault *fault)
{
    char *body = codec_print(&job_spec_codec, spec, CODEC_COMPACT);
    enum tide_status status = client_outcome(client, "POST", "/v1/jobs", body, ret_outcome, ret_json, fault);
    mem_free(body);
    return status;
}

/* ---- submitted and left alone ---- */

static int report_submitted(const struct cli *cli, const struct job_spec *spec, const json_t *json)
{
    if (wants_json(cli))
        show_json(json);
    else if (cli->options.output == OUTPUT_NAME)
        puts(spec->name);
    else
        printf("%s submitted: %u rank%s on %u node%s. Next: tidemark job logs -f %s; tidemark job explain %s\n", spec->name,
               job_world_size(spec), job_world_size(spec) == 1 ? "" : "s", spec->nnodes, spec->nnodes == 1 ? "" : "s",
               spec->name, spec->name);
    fflush(stdout);
    return EXIT_CODE_OK;
}

/* ---- waiting, following ---- */

static int report_end(const struct cli *cli, const struct job_view *view, json_t *json)
{
    if (wants_json(cli))
        show_json(json);
    else if (cli->options.output == OUTPUT_NAME)
        puts(view->job.spec.name);
    show_end(&view->job);
    return exit_of_job(&view->job);
}

static int wait_end(struct cli *cli, const struct job_spec *spec)
{
    struct fault fault = {0};
    struct job_view view;
    json_t *json = NULL;
    char what[TIDE_NAME_MAX + 32];
    snprintf(what, sizeof what, "%s to end", spec->name);
    if (watch_job(cli->client, spec->name, cli->options.within_ms, what, watch_ended, NULL, &view, &json, &fault) != TIDE_OK)
        return fault_report(&fault);
    int code = report_end(cli, &view, json);
    codec_release(&job_view_codec, &view);
    json_decref(json);
    return code;
}

static int detach_on_signal(void *context, const struct job_view *view)
{
    (void)context;
    (void)view;
    return signals_count() > 0;
}

static struct follow follow_of(struct client *client, const struct job_spec *spec)
{
    return (struct follow){.client = client,
                           .job = spec->name,
                           .generation = 1,
                           .wish = {.stream = STREAM_BOTH, .follow = true, .err_to_stderr = true}};
}

static void show_view(const struct job_view *view)
{
    json_t *json = codec_encode(&job_view_codec, view, 0);
    show_json(json);
    json_decref(json);
}

static int follow_end(struct cli *cli, const struct job_spec *spec)
{
    struct fault fault = {0};
    struct job_view view;
    struct follow follow = follow_of(cli->client, spec);
    follow.watch = detach_on_signal;
    follow.wish.all_to_stderr = wants_json(cli);
    signals_catch();
    enum tide_status status = follow_job(&follow, &view, &fault);
    int code;
    if (signals_count() > 0) {
        say_note("detached; job %s goes on. Attach again with: tidemark job logs -f %s", spec->name, spec->name);
        code = signals_exit();
    } else if (status != TIDE_OK) {
        code = fault_report(&fault);
    } else {
        if (wants_json(cli))
            show_view(&view);
        show_end(&view.job);
        code = exit_of_job(&view.job);
    }
    codec_release(&job_view_codec, &view);
    return code;
}

/* ---- standalone ---- */

struct alone {
    struct standalone *daemons;
    struct client *client;
    const char *job;
    struct fault fault; /* a daemon has died */
    bool broken;
};

/* First signal: cancel, and go on reading what the ranks say on their way out. Second: take everything down. */
static int alone_watch(void *context, const struct job_view *view)
{
    struct alone *a = context;
    char path[128];
    struct outcome outcome;
    struct fault fault = {0};
    if (standalone_check(a->daemons, &a->fault) != TIDE_OK) {
        a->broken = true;
        return 1;
    }
    int signals = signals_count();
    if (signals >= 2)
        return 1;
    if (signals == 1 && a->client->signals_seen == 0) {
        a->client->signals_seen = 1;
        say_note("stopping job %s; once more kills it", a->job);
        snprintf(path, sizeof path, "/v1/jobs/%s/cancel", a->job);
        if (!job_ended(view->job.state) && client_outcome(a->client, "POST", path, NULL, &outcome, NULL, &fault) != TIDE_OK)
            return 1;
    }
    return 0;
}

static int alone_follow(struct cli *cli, struct standalone *daemons, const struct job_spec *spec)
{
    struct fault fault = {0};
    struct job_view view = {0};
    struct alone alone = {.daemons = daemons, .client = cli->client, .job = spec->name};
    struct follow follow = follow_of(cli->client, spec);
    follow.watch = alone_watch;
    follow.context = &alone;
    /* With -o json stdout is for the outcome alone. */
    follow.wish.all_to_stderr = wants_json(cli);
    enum tide_status status = follow_job(&follow, &view, &fault);
    int code;
    if (alone.broken)
        code = fault_report(&alone.fault);
    else if (signals_count() > 0)
        code = signals_exit();
    else if (status != TIDE_OK)
        code = fault_report(&fault);
    else
        code = exit_of_job(&view.job);
    if (status == TIDE_OK && (view.job.state != TIDE_JOB_SUCCEEDED || view.job.restarts > 0))
        show_end(&view.job);
    if (status == TIDE_OK && wants_json(cli))
        show_view(&view);
    codec_release(&job_view_codec, &view);
    return code;
}

static int run_alone(struct cli *cli, const struct job_spec *spec)
{
    struct fault fault = {0};
    struct standalone daemons;
    struct outcome outcome;
    json_t *json = NULL;
    signals_catch();
    if (standalone_start(&daemons, spec->nproc_per_node, cli->options.keep_state, cli->options.timeout_ms, &cli->client,
                         &fault) != TIDE_OK)
        return signals_count() > 0 ? signals_exit() : fault_report(&fault);
    int code;
    if (submit(cli->client, spec, &outcome, &json, &fault) != TIDE_OK) {
        code = signals_count() > 0 ? signals_exit() : fault_report(&fault);
    } else {
        say_note("job %s; for other commands: export TIDEMARK_COORDINATOR=%s", spec->name, cli->client->urls.items[0]);
        code = alone_follow(cli, &daemons, spec);
    }
    json_decref(json);
    client_free(cli->client);
    cli->client = NULL;
    standalone_stop(&daemons, signals_count() > 1);
    return code;
}

int cmd_run(struct cli *cli)
{
    struct fault fault = {0};
    struct job_spec spec;
    struct outcome outcome;
    json_t *json = NULL;
    if (build_spec(cli, &spec, &fault) != TIDE_OK)
        return fault_report(&fault);
    int code;
    if (cli->options.standalone) {
        code = run_alone(cli, &spec);
    } else if (submit(cli->client, &spec, &outcome, &json, &fault) != TIDE_OK) {
        code = fault_report(&fault);
    } else if (cli->options.follow) {
        say_note("job %s submitted", spec.name);
        code = follow_end(cli, &spec);
    } else if (cli->options.wait) {
        say_note("job %s submitted", spec.name);
        code = wait_end(cli, &spec);
    } else {
        code = report_submitted(cli, &spec, json);
    }
    json_decref(json);
    codec_release(&job_spec_codec, &spec);
    return code;
}
