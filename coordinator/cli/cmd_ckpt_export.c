/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "ckpt/stage/export.h"
#include "ckpt/stage/shard.h"
#include "coordinator/cli/ckpt_store.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/units.h"

struct exporting {
    struct store *store;
    const char *dir;
    enum export_format format;
    struct strlist files;
    struct meter meter;
};

static enum tide_status export_ranks(struct exporting *x, const struct manifest *whole, struct fault *fault)
{
    enum tide_status status = TIDE_OK;
    uint64_t total = 0;
    char path[TIDE_PATH_MAX + 1];
    for (uint32_t r = 0; r < whole->world_size; r++)
        total += whole->shards.items[r].raw_bytes;
    meter_begin(&x->meter, "exporting", total);
    for (uint32_t r = 0; r < whole->world_size && status == TIDE_OK; r++) {
        status = stage_export(x->store, whole, r, x->format, x->dir, meter_add, &x->meter, path, &fault->err);
        if (status == TIDE_OK)
            strlist_add(&x->files, path);
    }
    progress_clear();
    return status;
}

static enum tide_status export_ckpt(const struct cli *cli, const struct job *job, const struct ckpt *ckpt, struct exporting *x,
                                    struct fault *fault)
{
    char url[TIDE_PATH_MAX + 1];
    struct manifest whole;
    struct err why = {0};
    uint64_t bytes;
    enum tide_status status = ckpt_stored(job, ckpt, fault);
    if (status == TIDE_OK)
        status = job_store_open(cli, job, ckpt, url, &x->store, fault);
    if (status != TIDE_OK)
        return status;
    status = manifest_read(x->store, ckpt->manifest_key, ckpt->manifest, &whole, &fault->err);
    if (status == TIDE_OK) {
        status = export_ranks(x, &whole, fault);
        codec_release(&manifest_codec, &whole);
        if (status == TIDE_E_NOT_FOUND && store_size(x->store, ckpt->manifest_key, &bytes, &why) == TIDE_OK)
            status = fault->err.status = TIDE_E_CORRUPT; /* what it leads to is gone, and it was not deleted meanwhile */
    } else if (status == TIDE_E_NOT_FOUND) {
        status = manifest_not_there(cli, x->store, job, ckpt, fault);
    }
    store_close(x->store);
    if (status == TIDE_E_CORRUPT)
        text_say(fault->hint, sizeof fault->hint,
                 "export another; tidemark ckpt verify %s/%" PRIu64 " tells all that is damaged, which a copy of the store may bring back",
                 job->spec.name, ckpt->cut);
    return status;
}

static void print_files(const struct cli *cli, const struct exporting *x, const char *id)
{
    char size[UNIT_TEXT_MAX];
    if (wants_json(cli)) {
        json_t *files = json_array();
        for (size_t i = 0; i < x->files.count; i++)
            json_array_append_new(files, json_string(x->files.items[i]));
        json_t *json = json_pack("{s:s,s:I,s:o}", "checkpoint", id, "raw_bytes", (json_int_t)x->meter.done, "files", files);
        show_json(json);
        json_decref(json);
    } else if (cli->options.output == OUTPUT_NAME) {
        for (size_t i = 0; i < x->files.count; i++)
            printf("%s\n", x->files.items[i]);
    } else {
        printf("%s: %zu file%s in %s, %s, every byte checked\n", id, x->files.count, x->files.count == 1 ? "" : "s", x->dir,
               size_text(x->meter.done, size));
    }
}

int cmd_ckpt_export(struct cli *cli)
{
    struct fault fault = {0};
    struct job_view view;
    const struct ckpt *ckpt;
    json_t *json = NULL;
    /* The last word is the directory; what is before it names the checkpoint, in one word or two. */
    char *dir = cli->args.items[cli->args.count - 1];
    struct exporting x = {.dir = dir, .format = cli->options.format};
    if (dir[0] == '\0') {
        fault_set(&fault, TIDE_E_INVALID, "tidemark ckpt export JOB/N DIR", "the directory to write to has no name");
        return fault_report(&fault);
    }
    cli->args.count--;
    enum tide_status status = ckpt_find(cli, &view, &json, &ckpt, &fault);
    cli->args.count++;
    if (status != TIDE_OK)
        return fault_report(&fault);
    char id[TIDE_NAME_MAX + UNIT_TEXT_MAX];
    snprintf(id, sizeof id, "%s/%" PRIu64, view.job.spec.name, ckpt->cut);
    struct hold hold;
    hold_begin(&hold, cli, &view.job, ckpt);
    status = export_ckpt(cli, &view.job, ckpt, &x, &fault);
    hold_end(&hold);
    int code = EXIT_CODE_OK;
    if (status == TIDE_OK)
        print_files(cli, &x, id);
    else
        code = fault_report(&fault);
    strlist_release(&x.files);
    codec_release(&job_view_codec, &view);
    json_decref(json);
    return code;
}
