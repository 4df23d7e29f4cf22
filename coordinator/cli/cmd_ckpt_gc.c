/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include "ckpt/base/mem.h"
#include "ckpt/stage/survey.h"
#include "coordinator/cli/ckpt_store.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/units.h"

/* What --dry-run finds: the same survey and the same judge as of the agent that does it. */
struct gc_count {
    uint64_t objects, bytes;
};

struct gc_report {
    uint64_t condemned, orphans; /* checkpoints */
    struct gc_count of_condemned, of_orphans, of_strays;
    struct strlist strangers;
};

struct gc_look {
    const struct survey *survey;
    struct store *store;
    struct orphan_rule rule;
    const struct job *job;
    struct gc_report report;
};

static bool is_condemned(const struct gc_look *look, uint64_t cut)
{
    const struct ckpt *ckpt = job_ckpt(look->job, cut);
    return ckpt != NULL && ckpt->state == TIDE_CKPT_CONDEMNED;
}

static int goes(const void *context, uint64_t cut)
{
    const struct gc_look *look = context;
    return is_condemned(look, cut) || orphan_judge(&look->rule, cut, survey_committed(look->survey, cut)) == ORPHAN_DELETE;
}

static enum tide_status count(struct gc_look *look, const char *key, struct gc_count *to, struct err *err)
{
    uint64_t bytes = 0;
    enum tide_status status = store_size(look->store, key, &bytes, err);
    if (status == TIDE_E_NOT_FOUND)
        return TIDE_OK; /* it went meanwhile */
    to->objects += status == TIDE_OK;
    to->bytes += bytes;
    return status;
}

static enum tide_status count_stray(void *context, const char *key, struct err *err)
{
    struct gc_look *look = context;
    return count(look, key, &look->report.of_strays, err);
}

/* Packs that a cut needs which stays are no gain. */
static enum tide_status count_cut(struct gc_look *look, size_t first, size_t end, struct gc_count *to, struct err *err)
{
    const struct survey_object *objects = look->survey->objects.items;
    int needed = survey_needed(look->survey, objects[first].name.cut, goes, look);
    enum tide_status status = TIDE_OK;
    for (size_t i = first; i < end && status == TIDE_OK; i++)
        if (objects[i].name.kind != OBJECT_PACK || !needed)
            status = count(look, objects[i].key, to, err);
    return status;
}

/* Where only notes are left, which say that packs are needed by another, there is nothing to delete yet. */
static bool only_notes(const struct survey *survey, size_t first, size_t end, int needed)
{
    for (size_t i = first; i < end; i++) {
        enum object_kind kind = survey->objects.items[i].name.kind;
        if (kind != OBJECT_GARBAGE && kind != OBJECT_DAMAGED && !(kind == OBJECT_PACK && needed))
            return false;
    }
    return needed;
}

static enum tide_status look_at(struct gc_look *look, size_t first, size_t end, struct err *err)
{
    uint64_t cut = look->survey->objects.items[first].name.cut;
    char name[TIDE_NAME_MAX + 24];
    if (is_condemned(look, cut)) {
        look->report.condemned++;
        return count_cut(look, first, end, &look->report.of_condemned, err);
    }
    switch (orphan_judge(&look->rule, cut, survey_committed(look->survey, cut))) {
    case ORPHAN_DELETE:
        if (only_notes(look->survey, first, end, survey_needed(look->survey, cut, goes, look)))
            return TIDE_OK;
        look->report.orphans++;
        return count_cut(look, first, end, &look->report.of_orphans, err);
    case ORPHAN_STRANGE:
        snprintf(name, sizeof name, "%s/%" PRIu64, look->job->spec.name, cut);
        strlist_add(&look->report.strangers, name);
        return TIDE_OK;
    default:
        return survey_strays(look->survey, look->store, cut, count_stray, look, err);
    }
}

static enum tide_status look_at_all(struct gc_look *look, struct err *err)
{
    const struct job *job = look->job;
    uint64_t *live = mem_array(job->ckpts.count, sizeof *live), *over = mem_array(job->ckpts.count, sizeof *over);
    enum tide_status status = TIDE_OK;
    for (size_t i = 0; i < job->ckpts.count; i++) {
        const struct ckpt *ckpt = &job->ckpts.items[i];
        if (ckpt->state == TIDE_CKPT_DROPPED)
            over[look->rule.over_count++] = ckpt->cut;
        else if (ckpt->state != TIDE_CKPT_ABORTED)
            live[look->rule.live_count++] = ckpt->cut;
    }
    look->rule.live = live;
    look->rule.over = over;
    look->rule.below = job->next_cut;
    for (size_t i = 0; i < look->survey->objects.count && status == TIDE_OK; i = survey_next(look->survey, i))
        status = look_at(look, i, survey_next(look->survey, i), err);
    mem_free(live);
    mem_free(over);
    return status;
}

/* ---- telling ---- */

static json_t *count_json(uint64_t ckpts, const struct gc_count *c)
{
    return json_pack("{s:I,s:I,s:I}", "checkpoints", (json_int_t)ckpts, "objects", (json_int_t)c->objects, "bytes",
                     (json_int_t)c->bytes);
}

static void print_json(const char *job, const struct gc_report *r)
{
    json_t *strangers = json_array();
    for (size_t i = 0; i < r->strangers.count; i++)
        json_array_append_new(strangers, json_string(r->strangers.items[i]));
    json_t *json = json_pack("{s:s,s:I,s:o,s:o,s:o,s:o}", "job", job, "bytes",
                             (json_int_t)(r->of_condemned.bytes + r->of_orphans.bytes + r->of_strays.bytes), "condemned",
                             count_json(r->condemned, &r->of_condemned), "orphans", count_json(r->orphans, &r->of_orphans), "strays",
                             count_json(0, &r->of_strays), "unknown", strangers);
    show_json(json);
    json_decref(json);
}

static void print_line(const char *what, uint64_t ckpts, const struct gc_count *c)
{
    char size[UNIT_TEXT_MAX];
    field_print(what, TINT_NONE, "%" PRIu64 " checkpoint%s, %" PRIu64 " objects, %s", ckpts, ckpts == 1 ? "" : "s", c->objects,
                size_text(c->bytes, size));
}

static void print_report(const struct cli *cli, const char *job, const struct gc_report *r)
{
    char size[UNIT_TEXT_MAX];
    if (wants_json(cli)) {
        print_json(job, r);
        return;
    }
    print_line("condemned", r->condemned, &r->of_condemned);
    print_line("orphans", r->orphans, &r->of_orphans);
    field_print("left behind", TINT_NONE, "%" PRIu64 " objects of attempts that were given up, %s", r->of_strays.objects,
                size_text(r->of_strays.bytes, size));
    field_print("would free", TINT_BOLD, "%s (%" PRIu64 " bytes)",
                size_text(r->of_condemned.bytes + r->of_orphans.bytes + r->of_strays.bytes, size),
                r->of_condemned.bytes + r->of_orphans.bytes + r->of_strays.bytes);
    for (size_t i = 0; i < r->strangers.count; i++)
        say_note("%s is committed in the store, but not as far as the coordinators know; it stays", r->strangers.items[i]);
}

static enum tide_status dry_run(struct cli *cli, const struct job *job, struct fault *fault)
{
    char url[TIDE_PATH_MAX + 1];
    struct survey survey;
    struct gc_look look = {.survey = &survey, .job = job};
    enum tide_status status = job_store_open(cli, job, NULL, url, &look.store, fault);
    if (status != TIDE_OK)
        return status;
    progress_show("looking for objects of %s in %s", job->spec.name, url);
    status = survey_take(look.store, job->spec.name, job->uid, &survey, &fault->err);
    if (status == TIDE_OK) {
        status = look_at_all(&look, &fault->err);
        survey_release(&survey);
    }
    progress_clear();
    if (status == TIDE_OK)
        print_report(cli, job->spec.name, &look.report);
    strlist_release(&look.report.strangers);
    store_close(look.store);
    return status;
}

int cmd_ckpt_gc(struct cli *cli)
{
    struct fault fault = {0};
    struct job_view view;
    struct outcome outcome;
    const char *job = cli->args.items[0];
    char path[128];
    json_t *json = NULL;
    if (cli->options.store != NULL && !cli->options.dry_run) {
        fault_set(&fault, TIDE_E_INVALID, "leave it away, or look first: --dry-run",
                  "--store belongs to --dry-run: what nobody needs is deleted by agents, in the job's store");
        return fault_report(&fault);
    }
    /* Also the check that it is there, so that a typing error is told as such. */
    if (client_job(cli->client, job, 0, 0, &view, NULL, &fault) != TIDE_OK)
        return fault_report(&fault);
    enum tide_status status = cli->options.dry_run ? dry_run(cli, &view.job, &fault) : TIDE_OK;
    codec_release(&job_view_codec, &view);
    if (cli->options.dry_run)
        return status == TIDE_OK ? EXIT_CODE_OK : fault_report(&fault);
    snprintf(path, sizeof path, "/v1/jobs/%s/gc", job);
    if (client_outcome(cli->client, "POST", path, NULL, &outcome, &json, &fault) != TIDE_OK)
        return fault_report(&fault);
    return show_outcome(cli, &outcome, json, job);
}
