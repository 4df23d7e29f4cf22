/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/watch.h"

/* `node drain --now`: the node gets no new ranks, and each job that runs there is checkpointed and sent back to that
 * checkpoint, so that it starts again elsewhere. It loses the few steps it makes in between. */

struct move {
    struct cli *cli;
    const char *node, *job;
    uint64_t cut, generation; /* to restore from; the one that starts elsewhere */
};

static bool runs_on(const struct job *job, const char *node)
{
    for (size_t i = 0; i < job->nodes.count; i++)
        if (strcmp(job->nodes.items[i], node) == 0)
            return !job_ended(job->state);
    return false;
}

static bool saved(const struct job_view *view, void *context)
{
    const struct move *move = context;
    const struct ckpt *ckpt = job_ckpt(&view->job, move->cut);
    return (ckpt != NULL && ckpt_settled(ckpt)) || !runs_on(&view->job, move->node);
}

static bool moved(const struct job_view *view, void *context)
{
    const struct move *move = context;
    const struct job *job = &view->job;
    return job_ended(job->state) ||
           (job->generation >= move->generation && job->state == TIDE_JOB_RUNNING && job->all_stepped);
}

/* Take the checkpoint. ret_left: it has left the node, or ended, by itself meanwhile. */
static enum tide_status save(struct move *move, bool *ret_left, struct fault *fault)
{
    char path[TIDE_NAME_MAX + 48], what[TIDE_NAME_MAX + 48];
    struct client *client = move->cli->client;
    struct outcome outcome;
    struct job_view view;
    snprintf(path, sizeof path, "/v1/jobs/%.*s/checkpoints", TIDE_NAME_MAX, move->job);
    enum tide_status status = client_outcome(client, "POST", path, NULL, &outcome, NULL, fault);
    if (status != TIDE_OK)
        return status;
    move->cut = outcome.cut;
    snprintf(what, sizeof what, "a checkpoint of %.*s", TIDE_NAME_MAX, move->job);
    status = watch_job(client, move->job, move->cli->options.within_ms, what, saved, move, &view, NULL, fault);
    if (status != TIDE_OK)
        return status;
    const struct ckpt *ckpt = job_ckpt(&view.job, move->cut);
    *ret_left = !runs_on(&view.job, move->node);
    if (!*ret_left && (ckpt == NULL || ckpt->state != TIDE_CKPT_COMMITTED))
        status = fault_set(fault, TIDE_E_CUT, "training goes on there; try it again",
                           "job %s stays on %s: checkpoint %" PRIu64 " is %s%s%.150s", move->job, move->node, move->cut,
                           ckpt != NULL ? ckpt_state_names[ckpt->state] : "gone",
                           ckpt != NULL && ckpt->reason[0] ? ": " : "", ckpt != NULL ? ckpt->reason : "");
    codec_release(&job_view_codec, &view);
    return status;
}

static enum tide_status restart(struct move *move, struct fault *fault)
{
    char path[TIDE_NAME_MAX + 48];
    struct rollback_request request = {.to = move->cut};
    struct outcome outcome;
    char *body = codec_print(&rollback_request_codec, &request, CODEC_COMPACT);
    snprintf(path, sizeof path, "/v1/jobs/%.*s/rollback", TIDE_NAME_MAX, move->job);
    enum tide_status status = client_outcome(move->cli->client, "POST", path, body, &outcome, NULL, fault);
    mem_free(body);
    if (status == TIDE_OK)
        move->generation = outcome.generation;
    return status;
}

static enum tide_status await(struct move *move, struct fault *fault)
{
    char what[TIDE_NAME_MAX + 48];
    struct job_view view;
    snprintf(what, sizeof what, "%.*s to run elsewhere", TIDE_NAME_MAX, move->job);
    enum tide_status status =
        watch_job(move->cli->client, move->job, move->cli->options.within_ms, what, moved, move, &view, NULL, fault);
    if (status != TIDE_OK)
        return status;
    if (!wants_json(move->cli))
        printf("%s: has left %s at %s/%" PRIu64 "; %s as generation %" PRIu64 "\n", move->job, move->node, move->job,
               move->cut, job_state_names[view.job.state], view.job.generation);
    codec_release(&job_view_codec, &view);
    return TIDE_OK;
}

static int move_job(struct cli *cli, const char *node, const char *job)
{
    struct fault fault = {0};
    struct move move = {.cli = cli, .node = node, .job = job};
    bool left = false;
    enum tide_status status = save(&move, &left, &fault);
    if (status == TIDE_OK && !left)
        status = restart(&move, &fault);
    if (status == TIDE_OK && !left)
        status = await(&move, &fault);
    fflush(stdout);
    return status == TIDE_OK ? EXIT_CODE_OK : fault_report(&fault);
}

int drain_now(struct cli *cli, const char *node)
{
    struct fault fault = {0};
    struct node_view view;
    char path[TIDE_NAME_MAX + 16];
    snprintf(path, sizeof path, "/v1/nodes/%.*s", TIDE_NAME_MAX, node);
    if (client_noun(cli->client, "GET", path, NULL, 0, &node_view_codec, &view, NULL, &fault) != TIDE_OK)
        return fault_report(&fault);
    int code = EXIT_CODE_OK;
    for (size_t i = 0; i < view.jobs.count; i++) {
        int one = move_job(cli, node, view.jobs.items[i]);
        code = code == EXIT_CODE_OK ? one : code;
    }
    codec_release(&node_view_codec, &view);
    return code;
}
