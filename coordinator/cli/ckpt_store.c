/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/ckpt_store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "ckpt/stage/stage.h"
#include "ckpt/store/store_url.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/term.h"
#include "coordinator/cli/units.h"

enum tide_status ckpt_find(const struct cli *cli, struct job_view *ret_view, json_t **ret_json, const struct ckpt **ret_ckpt,
                           struct fault *fault)
{
    char job[TIDE_NAME_MAX + 1];
    uint64_t cut;
    enum tide_status status = ckpt_id_parse(&cli->args, job, &cut, fault);
    if (status == TIDE_OK)
        status = client_job(cli->client, job, 0, 0, ret_view, ret_json, fault);
    if (status != TIDE_OK)
        return status;
    *ret_ckpt = job_ckpt(&ret_view->job, cut);
    if (*ret_ckpt != NULL)
        return TIDE_OK;
    char hint[TIDE_TEXT_MAX + 1];
    text_say(hint, sizeof hint, "tidemark ckpt list %s shows those there are", job);
    codec_release(&job_view_codec, ret_view);
    json_decref(*ret_json);
    return fault_set(fault, TIDE_E_NOT_FOUND, hint, "job %s has no checkpoint %" PRIu64, job, cut);
}

enum tide_status job_store_url(const struct cli *cli, const struct job *job, const struct ckpt *ckpt, char *ret_url, struct fault *fault)
{
    struct cluster_view cluster;
    const char *own = ckpt != NULL && ckpt->inherited ? job->origin.store : job->spec.store;
    if (cli->options.store != NULL && cli->options.store[0] == '\0')
        return fault_set(fault, TIDE_E_INVALID, "leave it away to read the job's", "--store: it names no store");
    if (cli->options.store != NULL || own[0] != '\0') {
        text_copy(ret_url, TIDE_PATH_MAX + 1, cli->options.store ? cli->options.store : own);
        return TIDE_OK;
    }
    enum tide_status status =
        client_noun(cli->client, "GET", "/v1/cluster", NULL, 0, &cluster_view_codec, &cluster, NULL, fault);
    if (status != TIDE_OK)
        return status;
    text_copy(ret_url, TIDE_PATH_MAX + 1, cluster.store);
    codec_release(&cluster_view_codec, &cluster);
    return TIDE_OK;
}

enum tide_status store_dir_there(const char *url, const char *hint, struct fault *fault)
{
    const char *dir = strncmp(url, "file://", 7) == 0 ? url + 7 : url[0] == '/' ? url : NULL;
    struct stat info;
    enum tide_status status = dir != NULL ? store_url_check(url, &fault->err) : TIDE_OK;
    if (status != TIDE_OK || dir == NULL || stat(dir, &info) == 0)
        return status;
    if (errno == ENOENT || errno == ENOTDIR)
        return fault_set(fault, TIDE_E_NOT_FOUND, hint, "the store's directory %s is not on this machine", dir);
    status = errno == EACCES ? TIDE_E_DENIED : TIDE_E_IO;
    struct err why = {0};
    err_errno(&why, "the store's directory %s cannot be looked at", dir);
    return fault_set(fault, status, "run it as the user that the agents run as, or let this one look into it", "%s", why.text);
}

enum tide_status store_open_there(const char *url, struct store **ret_store, struct fault *fault)
{
    static const char hint[] = "run it on a machine that sees the store, or name the store with --store URL";
    enum tide_status status = store_dir_there(url, hint, fault);
    if (status != TIDE_OK)
        return status;
    status = store_open(url, ret_store, &fault->err);
    if (status != TIDE_OK)
        text_fit(fault->hint, sizeof fault->hint, hint);
    return status;
}

enum tide_status job_store_open(const struct cli *cli, const struct job *job, const struct ckpt *ckpt, char *ret_url,
                                struct store **ret_store, struct fault *fault)
{
    enum tide_status status = job_store_url(cli, job, ckpt, ret_url, fault);
    if (status == TIDE_OK && ret_url[0] == '\0')
        return fault_set(fault, TIDE_E_STATE, "its checkpoints are in memory only; submit it with --store URL to have them stored",
                         "job %s has no store", job->spec.name);
    return status == TIDE_OK ? store_open_there(ret_url, ret_store, fault) : status;
}

/* ---- while it is read ---- */

#define READ_MS_LEAST UINT64_C(600000)
#define READ_BYTES_PER_MS UINT64_C(10000) /* a slow store */

void hold_begin(struct hold *hold, const struct cli *cli, const struct job *job, const struct ckpt *ckpt)
{
    struct fault fault = {0};
    struct outcome outcome;
    const struct pin_request request = {.for_ms = READ_MS_LEAST + ckpt->raw_bytes / READ_BYTES_PER_MS};
    *hold = (struct hold){.cli = cli};
    if (ckpt->state != TIDE_CKPT_COMMITTED || ckpt->inherited || ckpt->pinned || ckpt->held_until_ms != 0)
        return;
    snprintf(hold->path, sizeof hold->path, "/v1/jobs/%s/checkpoints/%" PRIu64 "/pin", job->spec.name, ckpt->cut);
    char *body = codec_print(&pin_request_codec, &request, CODEC_COMPACT);
    hold->held = client_outcome(cli->client, "POST", hold->path, body, &outcome, NULL, &fault) == TIDE_OK;
    mem_free(body);
    if (!hold->held)
        say_note("it may be deleted while it is read: it cannot be held: %s", fault.err.text);
}

void hold_end(struct hold *hold)
{
    struct fault fault = {0};
    struct outcome outcome;
    if (hold->held && client_outcome(hold->cli->client, "DELETE", hold->path, NULL, &outcome, NULL, &fault) != TIDE_OK)
        say_note("it is held for some time longer than it was read: %s", fault.err.text);
    hold->held = false;
}

/* ---- what should be there ---- */

static bool in_store(const struct ckpt *ckpt)
{
    return ckpt->state == TIDE_CKPT_COMMITTED || ckpt->state == TIDE_CKPT_CORRUPT || ckpt->state == TIDE_CKPT_CONDEMNED;
}

enum tide_status ckpt_stored(const struct job *job, const struct ckpt *ckpt, struct fault *fault)
{
    if (in_store(ckpt))
        return TIDE_OK;
    return fault_set(fault, TIDE_E_STATE, "only committed checkpoints are in the store", "checkpoint %s/%" PRIu64 " is %s",
                     job->spec.name, ckpt->cut, ckpt_state_names[ckpt->state]);
}

/* Is that another store, or has this one lost it? Who deletes a checkpoint removes its manifest first, so the coordinator is asked once
 * more whether it is to be there. */
static bool manifest_lost(const struct cli *cli, struct store *store, const struct job *job, const struct ckpt *ckpt)
{
    struct fault fault = {0};
    struct job_view view;
    if (ckpt->inherited || !stage_holds_job(store, ckpt->manifest_key) ||
        client_job(cli->client, job->spec.name, 0, 0, &view, NULL, &fault) != TIDE_OK)
        return false;
    const struct ckpt *now = strcmp(view.job.uid, job->uid) == 0 ? job_ckpt(&view.job, ckpt->cut) : NULL;
    bool there = now != NULL && in_store(now);
    codec_release(&job_view_codec, &view);
    return there;
}

enum tide_status manifest_not_there(const struct cli *cli, struct store *store, const struct job *job, const struct ckpt *ckpt,
                                    struct fault *fault)
{
    if (manifest_lost(cli, store, job, ckpt))
        return fault->err.status = TIDE_E_CORRUPT;
    text_copy(fault->hint, sizeof fault->hint, "is this the store the job writes to? Name it with --store URL");
    return TIDE_E_NOT_FOUND;
}

/* ---- how far ---- */

#define METER_NS (200 * NS_PER_MS)

static void meter_show(const struct meter *m, uint64_t now_ns)
{
    char done[UNIT_TEXT_MAX], total[UNIT_TEXT_MAX], left[UNIT_TEXT_MAX];
    uint64_t ms = (now_ns - m->begun_ns) / NS_PER_MS;
    if (m->total == 0 || m->done == 0 || m->done > m->total || ms < MS_PER_S)
        progress_show("%s: %s of %s", m->what, size_text(m->done, done), size_text(m->total, total));
    else
        progress_show("%s: %s of %s, %u%%, %s left", m->what, size_text(m->done, done), size_text(m->total, total),
                      (unsigned)((double)m->done * 100 / (double)m->total),
                      duration_text((uint64_t)((double)ms * (double)(m->total - m->done) / (double)m->done), left));
}

void meter_begin(struct meter *meter, const char *what, uint64_t total)
{
    *meter = (struct meter){.what = what, .total = total, .begun_ns = clock_mono_ns()};
    meter_show(meter, meter->begun_ns);
}

void meter_add(void *context, uint64_t bytes)
{
    struct meter *meter = context;
    uint64_t now_ns = clock_mono_ns();
    meter->done += bytes;
    if (now_ns < meter->shown_ns + METER_NS)
        return;
    meter->shown_ns = now_ns;
    meter_show(meter, now_ns);
}
