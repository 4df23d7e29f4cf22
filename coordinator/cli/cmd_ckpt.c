/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "ckpt/stage/stage.h"
#include "coordinator/cli/ckpt_store.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/units.h"
#include "coordinator/cli/watch.h"

/* ---- save ---- */

struct saving {
    uint64_t cut; /* told by the coordinator; 0: the first by hand from `from` on */
    uint64_t from;
    bool until_open; /* enough to know its id */
    const struct ckpt *found;
};

static bool saved(const struct job_view *view, void *context)
{
    struct saving *s = context;
    s->found = NULL;
    for (size_t i = 0; i < view->job.ckpts.count && s->found == NULL; i++) {
        const struct ckpt *k = &view->job.ckpts.items[i];
        if (s->cut ? k->cut == s->cut : k->by_hand && k->cut >= s->from)
            s->found = k;
    }
    if (s->found != NULL && (s->until_open || ckpt_settled(s->found)))
        return true;
    return job_ended(view->job.state);
}

static int report_saved(const struct cli *cli, const struct saving *s, const struct job_view *view, json_t *json)
{
    const char *job = view->job.spec.name;
    if (s->found == NULL) {
        say_error("job %s is %s; no checkpoint was taken", job, job_state_names[view->job.state]);
        return EXIT_CODE_REFUSED;
    }
    const struct ckpt *k = s->found;
    if (wants_json(cli)) {
        json_t *list = json_object_get(json_object_get(json, "job"), "ckpts");
        show_json(json_array_get(list, (size_t)(k - view->job.ckpts.items)));
    } else {
        printf("%s/%" PRIu64 "\n", job, k->cut);
    }
    if (s->until_open || k->state == TIDE_CKPT_COMMITTED)
        return EXIT_CODE_OK;
    say_error("checkpoint %s/%" PRIu64 " is %s%s%s", job, k->cut, ckpt_state_names[k->state], k->reason[0] ? ": " : "",
              k->reason);
    say_hint("training goes on; tidemark job events %s tells more", job);
    return EXIT_CODE_CKPT_BAD;
}

int cmd_ckpt_save(struct cli *cli)
{
    struct fault fault = {0};
    struct job_view view;
    struct outcome outcome;
    json_t *json = NULL;
    char path[128], what[TIDE_NAME_MAX + 48];
    const char *job = cli->args.items[0];
    if (client_job(cli->client, job, 0, 0, &view, NULL, &fault) != TIDE_OK)
        return fault_report(&fault);
    struct saving saving = {.from = view.job.next_cut, .until_open = !cli->options.wait};
    codec_release(&job_view_codec, &view);
    snprintf(path, sizeof path, "/v1/jobs/%s/checkpoints", job);
    if (client_outcome(cli->client, "POST", path, NULL, &outcome, NULL, &fault) != TIDE_OK)
        return fault_report(&fault);
    saving.cut = outcome.cut;
    /* The id is told at once if the coordinator has given one; the rest may take until the next steps are made. */
    if (saving.until_open && outcome.cut != 0 && !wants_json(cli)) {
        printf("%s/%" PRIu64 "\n", job, outcome.cut);
        return EXIT_CODE_OK;
    }
    snprintf(what, sizeof what, "a checkpoint of %.*s", TIDE_NAME_MAX, job);
    if (watch_job(cli->client, job, cli->options.within_ms, what, saved, &saving, &view, &json, &fault) != TIDE_OK)
        return fault_report(&fault);
    int code = report_saved(cli, &saving, &view, json);
    codec_release(&job_view_codec, &view);
    json_decref(json);
    return code;
}

/* ---- list, show ---- */

int cmd_ckpt_list(struct cli *cli)
{
    struct fault fault = {0};
    struct job_view view;
    json_t *json = NULL;
    if (client_job(cli->client, cli->args.items[0], 0, 0, &view, &json, &fault) != TIDE_OK)
        return fault_report(&fault);
    if (wants_json(cli)) {
        show_json_list(json_object_get(json_object_get(json, "job"), "ckpts"));
    } else if (cli->options.output == OUTPUT_NAME) {
        for (size_t i = 0; i < view.job.ckpts.count; i++)
            if (cli->options.all || view.job.ckpts.items[i].state != TIDE_CKPT_DROPPED)
                printf("%s/%" PRIu64 "\n", view.job.spec.name, view.job.ckpts.items[i].cut);
    } else {
        struct ckpts_wish wish = {.wide = cli->options.output == OUTPUT_WIDE, .dropped = cli->options.all};
        size_t hidden = show_ckpts(&view.job, wish);
        if (hidden > 0)
            say_note("%zu dropped checkpoint%s not shown; -a shows all", hidden, hidden == 1 ? " is" : "s are");
        if (view.job.ckpts.count == 0)
            say_note("no checkpoints yet; tidemark ckpt save %s takes one", view.job.spec.name);
    }
    codec_release(&job_view_codec, &view);
    json_decref(json);
    return EXIT_CODE_OK;
}

int cmd_ckpt_show(struct cli *cli)
{
    struct fault fault = {0};
    struct job_view view;
    const struct ckpt *ckpt;
    json_t *json = NULL;
    if (ckpt_find(cli, &view, &json, &ckpt, &fault) != TIDE_OK)
        return fault_report(&fault);
    if (wants_json(cli))
        show_json(
            json_array_get(json_object_get(json_object_get(json, "job"), "ckpts"), (size_t)(ckpt - view.job.ckpts.items)));
    else if (cli->options.output == OUTPUT_NAME)
        printf("%s/%" PRIu64 "\n", view.job.spec.name, ckpt->cut);
    else
        show_ckpt(&view.job, ckpt);
    codec_release(&job_view_codec, &view);
    json_decref(json);
    return EXIT_CODE_OK;
}

/* ---- verify ---- */

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

struct reading {
    struct meter meter;
    struct strlist packs; /* that are damaged */
    struct stage_unkept unkept;
};

static void say_bad(void *context, const char *text)
{
    (void)context;
    say_error("%s", text);
}

static void read_on(void *context, uint64_t bytes)
{
    struct reading *reading = context;
    meter_add(&reading->meter, bytes);
}

static void bad_pack(void *context, const char *pack)
{
    struct reading *reading = context;
    stage_blame_add(&reading->packs, pack);
}

static void unkept_cut(void *context, uint64_t cut)
{
    struct reading *reading = context;
    stage_unkept_add(&reading->unkept, cut);
}

static void damage_hint(const char *id, char to[TIDE_TEXT_MAX + 1])
{
    text_say(to, TIDE_TEXT_MAX + 1,
             "a restore that meets it takes another; bring its objects back from a copy of the store, or let go of it: "
             "tidemark ckpt drop %s",
             id);
}

/* Of what is damaged no later checkpoint is to make use, as when an agent finds it. Where it could not be held and was deleted meanwhile
 * nothing is damaged. */
static void note_damage(struct store *store, const struct job *job, const struct ckpt *ckpt, const struct strlist *packs)
{
    struct err why = {0};
    uint64_t bytes;
    if (packs->count == 0 || store_size(store, ckpt->manifest_key, &bytes, &why) != TIDE_OK)
        return;
    if (ckpt->inherited)
        say_note("not noted in the store: the damaged packs are of another job, and no checkpoint of %s refers to them", job->spec.name);
    else if (stage_blame(store, job->spec.name, job->uid, packs, &why) == TIDE_OK)
        say_note("noted in the store: the next checkpoint of %s stores anew what lies in damaged packs of its own", job->spec.name);
    else
        say_error("%s", why.text);
}

/* Packs that the checkpoint needs are kept again when what says so has gone. */
static enum tide_status keep(struct store *store, const char *manifest_key, const struct stage_unkept *unkept, struct fault *fault)
{
    if (unkept->count == 0)
        return TIDE_OK;
    enum tide_status status = stage_keep(store, manifest_key, unkept, &fault->err);
    if (status == TIDE_OK)
        say_note("the store had lost what keeps packs of %u earlier checkpoint%s for this one; it is there again, and nothing is lost",
                 unkept->count, plural(unkept->count));
    return status;
}

static enum tide_status check_held(const struct cli *cli, const struct job *job, const struct ckpt *ckpt,
                              struct stage_verdict *ret_verdict, struct fault *fault)
{
    char url[TIDE_PATH_MAX + 1];
    struct store *store = NULL;
    enum tide_status status = job_store_open(cli, job, ckpt, url, &store, fault);
    if (status != TIDE_OK)
        return status;
    char id[TIDE_NAME_MAX + UNIT_TEXT_MAX], what[sizeof id + 8];
    struct reading reading = {.packs = {0}};
    snprintf(id, sizeof id, "%s/%" PRIu64, job->spec.name, ckpt->cut);
    snprintf(what, sizeof what, "reading %s", id);
    meter_begin(&reading.meter, what, ckpt->raw_bytes);
    const struct stage_watch watch = {.say = say_bad, .progress = read_on, .damaged = bad_pack, .unkept = unkept_cut, .context = &reading};
    status = stage_check_watched(store, ckpt->manifest_key, ckpt->manifest, &watch, ret_verdict, &fault->err);
    progress_clear();
    note_damage(store, job, ckpt, &reading.packs);
    if (status == TIDE_OK)
        status = keep(store, ckpt->manifest_key, &reading.unkept, fault);
    if (status == TIDE_E_NOT_FOUND)
        status = manifest_not_there(cli, store, job, ckpt, fault);
    strlist_release(&reading.packs);
    store_close(store);
    if (status == TIDE_E_CORRUPT)
        damage_hint(id, fault->hint);
    return status;
}

static enum tide_status check(const struct cli *cli, const struct job *job, const struct ckpt *ckpt,
                              struct stage_verdict *ret_verdict, struct fault *fault)
{
    struct hold hold;
    enum tide_status status = ckpt_stored(job, ckpt, fault);
    if (status != TIDE_OK)
        return status;
    hold_begin(&hold, cli, job, ckpt);
    status = check_held(cli, job, ckpt, ret_verdict, fault);
    hold_end(&hold);
    return status;
}

static void print_valid(const char *id, const struct stage_verdict *v)
{
    char raw[UNIT_TEXT_MAX], stored[UNIT_TEXT_MAX];
    printf("%s is valid: %" PRIu64 " rank%s, %" PRIu64 " chunk%s, %s (%s stored), every byte checked\n", id, v->ranks, plural(v->ranks),
           v->chunks, plural(v->chunks), size_text(v->raw_bytes, raw), size_text(v->stored_bytes, stored));
    if (v->packs_unnamed > 0)
        say_note("%" PRIu64 " pack%s of an early version of tidemark, without a digest of the whole: every byte of what %s has there was "
                 "checked, and nothing beside it",
                 v->packs_unnamed, v->packs_unnamed == 1 ? " is" : "s are", id);
}

static void print_verdict_json(const char *id, const struct stage_verdict *v, bool restorable)
{
    json_t *json = json_pack("{s:s,s:b,s:b,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "checkpoint", id, "valid",
                             restorable && v->packs_bad == 0, "restorable", restorable, "ranks", (json_int_t)v->ranks, "chunks",
                             (json_int_t)v->chunks, "raw_bytes", (json_int_t)v->raw_bytes, "stored_bytes", (json_int_t)v->stored_bytes,
                             "bad_ranks", (json_int_t)v->bad, "packs", (json_int_t)v->packs, "bad_packs", (json_int_t)v->packs_bad,
                             "unnamed_packs", (json_int_t)v->packs_unnamed, "notes_lost", (json_int_t)v->needs_lost);
    show_json(json);
    json_decref(json);
}

static void print_verdict(const struct cli *cli, const char *id, const struct stage_verdict *v)
{
    if (wants_json(cli)) {
        print_verdict_json(id, v, v->bad == 0);
    } else if (v->bad > 0) {
        printf("%s is DAMAGED: %" PRIu64 " of %" PRIu64 " ranks; %" PRIu64 " pack%s\n", id, v->bad, v->ranks, v->packs_bad,
               plural(v->packs_bad));
    } else if (v->packs_bad > 0) {
        printf("%s can be restored: all that it needs is right; but of its %" PRIu64 " pack%s %" PRIu64
               " %s DAMAGED, where it needs nothing\n",
               id, v->packs, plural(v->packs), v->packs_bad, v->packs_bad == 1 ? "is" : "are");
    } else {
        print_valid(id, v);
    }
}

static int report_verdict(const struct cli *cli, const char *id, const struct stage_verdict *v)
{
    char hint[TIDE_TEXT_MAX + 1];
    print_verdict(cli, id, v);
    if (v->damaged > 0) {
        damage_hint(id, hint);
        say_hint("%s", hint);
    } else if (v->packs_bad > 0) {
        say_hint("nothing of %s is lost, and it may be kept; what damaged the store may damage more: look after its disks", id);
    }
    return v->bad > 0 || v->packs_bad > 0 ? EXIT_CODE_CKPT_BAD : EXIT_CODE_OK;
}

/* Without its manifest nobody knows what else belongs to it. That is a verdict, too. */
static int report_unread(const struct cli *cli, const char *id, const struct fault *fault)
{
    const struct stage_verdict nothing = {0};
    if (fault->err.status != TIDE_E_CORRUPT)
        return fault_report(fault);
    say_error("%s", fault->err.text);
    if (wants_json(cli))
        print_verdict_json(id, &nothing, false);
    else
        printf("%s is DAMAGED: its manifest; what that leads to was not read\n", id);
    say_hint("%s", fault->hint);
    return EXIT_CODE_CKPT_BAD;
}

static enum tide_status ask_readmitted(const struct cli *cli, const struct job *job, const struct ckpt *ckpt, struct outcome *ret_outcome,
                                 struct fault *fault)
{
    struct ckpt_import noun = {.cut = ckpt->cut, .generation = ckpt->generation, .step = ckpt->step, .raw_bytes = ckpt->raw_bytes,
                               .stored_bytes = ckpt->stored_bytes, .verified = true};
    noun.world_size = ckpt_world(job, ckpt);
    enum tide_status status = job_store_url(cli, job, ckpt, noun.store, fault);
    if (status != TIDE_OK)
        return status;
    text_copy(noun.job, sizeof noun.job, job->spec.name);
    text_copy(noun.uid, sizeof noun.uid, job->uid);
    text_copy(noun.key, sizeof noun.key, ckpt->manifest_key);
    text_copy(noun.digest, sizeof noun.digest, ckpt->manifest);
    char *body = codec_print(&ckpt_import_codec, &noun, CODEC_COMPACT);
    status = client_outcome(cli->client, "POST", "/v1/imports", body, ret_outcome, NULL, fault);
    mem_free(body);
    return status;
}

/* All that it needs was read, and is right. */
static int readmit(const struct cli *cli, const struct job *job, const struct ckpt *ckpt, const char *id, int code)
{
    struct fault fault = {0};
    struct outcome outcome;
    if (ckpt->state != TIDE_CKPT_CORRUPT) {
        if (cli->options.readmit)
            say_note("it is %s: there is nothing to readmit", ckpt_state_names[ckpt->state]);
        return code;
    }
    if (!cli->options.readmit) {
        if (ckpt->given_up)
            say_note("it was found corrupt before, and is given up: no restart takes it any more");
        else if (!ckpt->inherited && cli->options.store == NULL)
            say_hint("it was found corrupt before, and no restart takes it; tidemark ckpt verify --readmit %s has it committed again", id);
        return code;
    }
    if (ask_readmitted(cli, job, ckpt, &outcome, &fault) != TIDE_OK)
        return fault_report(&fault);
    say_note("%s", outcome.text);
    codec_release(&outcome_codec, &outcome);
    return code;
}

static enum tide_status may_readmit(const struct cli *cli, const struct job *job, const struct ckpt *ckpt, struct fault *fault)
{
    if (!cli->options.readmit)
        return TIDE_OK;
    if (cli->options.store != NULL)
        return fault_set(fault, TIDE_E_INVALID, "leave --store away: it is the job's own store that agents restore from",
                         "--readmit: what another store holds says nothing of it");
    if (ckpt->inherited)
        return fault_set(fault, TIDE_E_INVALID, "tidemark run --restore-from starts a job from it anew",
                         "--readmit: checkpoint %s/%" PRIu64 " is one of job %s, uid %s, that this job began with", job->spec.name,
                         ckpt->cut, job->origin.job, job->origin.uid);
    if (ckpt->given_up)
        return fault_set(fault, TIDE_E_STATE, "tidemark ckpt export reads it nevertheless",
                         "--readmit: checkpoint %s/%" PRIu64 " is given up: its job went back to an earlier one, or may have",
                         job->spec.name, ckpt->cut);
    return TIDE_OK;
}

int cmd_ckpt_verify(struct cli *cli)
{
    struct fault fault = {0};
    struct job_view view;
    struct stage_verdict verdict = {0};
    const struct ckpt *ckpt;
    json_t *json = NULL;
    if (ckpt_find(cli, &view, &json, &ckpt, &fault) != TIDE_OK)
        return fault_report(&fault);
    char id[TIDE_NAME_MAX + UNIT_TEXT_MAX];
    snprintf(id, sizeof id, "%s/%" PRIu64, view.job.spec.name, ckpt->cut);
    enum tide_status status = may_readmit(cli, &view.job, ckpt, &fault);
    if (status == TIDE_OK)
        status = check(cli, &view.job, ckpt, &verdict, &fault);
    int code = status == TIDE_OK ? report_verdict(cli, id, &verdict) : report_unread(cli, id, &fault);
    if (status == TIDE_OK && verdict.bad == 0)
        code = readmit(cli, &view.job, ckpt, id, code);
    codec_release(&job_view_codec, &view);
    json_decref(json);
    return code;
}

/* ---- drop, pin, hold, unpin ---- */

/* `tail` behind the checkpoint's path. */
static int change_one(struct cli *cli, const char *method, const char *tail, const char *body)
{
    struct fault fault = {0};
    struct outcome outcome;
    char job[TIDE_NAME_MAX + 1], path[160], id[TIDE_NAME_MAX + UNIT_TEXT_MAX];
    uint64_t cut;
    json_t *json = NULL;
    enum tide_status status = ckpt_id_parse(&cli->args, job, &cut, &fault);
    if (status == TIDE_OK) {
        snprintf(path, sizeof path, "/v1/jobs/%s/checkpoints/%" PRIu64 "%s", job, cut, tail);
        snprintf(id, sizeof id, "%s/%" PRIu64, job, cut);
        status = client_outcome(cli->client, method, path, body, &outcome, &json, &fault);
    }
    return status == TIDE_OK ? show_outcome(cli, &outcome, json, id) : fault_report(&fault);
}

int cmd_ckpt_drop(struct cli *cli)
{
    return change_one(cli, "DELETE", cli->options.force ? "?force=true" : "", NULL);
}

int cmd_ckpt_pin(struct cli *cli)
{
    struct pin_request request = {.for_ms = cli->options.for_ms};
    char *body = request.for_ms ? codec_print(&pin_request_codec, &request, CODEC_COMPACT) : NULL;
    int code = change_one(cli, "POST", "/pin", body);
    mem_free(body);
    return code;
}

int cmd_ckpt_unpin(struct cli *cli)
{
    return change_one(cli, "DELETE", "/pin", NULL);
}

/* ---- rollback ---- */

static enum tide_status rollback_ask(const struct cli *cli, struct rollback_request *ret_request, struct fault *fault)
{
    const struct options *o = &cli->options;
    const char *job = cli->args.items[0], *slash = strchr(job, '/');
    char hint[TIDE_TEXT_MAX + 1];
    *ret_request = (struct rollback_request){.steps = o->steps};
    if (slash != NULL) { /* as the commands of ckpt have it */
        text_say(hint, sizeof hint, "tidemark rollback %.*s --to %s", (int)(slash - job), job, slash + 1);
        return fault_set(fault, TIDE_E_INVALID, hint, "\"%.80s\" is not the name of a job; where it goes back to is told by --to", job);
    }
    if (o->to == NULL)
        return TIDE_OK;
    if (o->steps != 0)
        return fault_set(fault, TIDE_E_INVALID, "give one of them", "--to and --steps cannot be used together");
    char named[TIDE_NAME_MAX + 1];
    char *words[] = {cli->args.items[0], (char *)o->to};
    struct strlist id = {.items = words, .count = 2};
    char *own[] = {(char *)o->to};
    if (strchr(o->to, '/') != NULL)
        id = (struct strlist){.items = own, .count = 1};
    enum tide_status status = ckpt_id_parse(&id, named, &ret_request->to, fault);
    if (status == TIDE_OK && strcmp(named, job) != 0)
        return fault_set(fault, TIDE_E_INVALID, NULL, "%s is a checkpoint of another job than %s", o->to, job);
    return status;
}

static bool running_again(const struct job_view *view, void *context)
{
    const uint64_t *generation = context;
    const struct job *job = &view->job;
    if (job_ended(job->state))
        return true;
    return job->generation >= *generation && job->state == TIDE_JOB_RUNNING && job->all_stepped;
}

static int wait_rollback(struct cli *cli, const struct outcome *outcome, uint64_t begun_ns)
{
    struct fault fault = {0};
    struct job_view view;
    json_t *json = NULL;
    char what[TIDE_NAME_MAX + 48], time[UNIT_TEXT_MAX];
    uint64_t generation = outcome->generation;
    snprintf(what, sizeof what, "%.*s to run again", TIDE_NAME_MAX, cli->args.items[0]);
    if (watch_job(cli->client, cli->args.items[0], cli->options.within_ms, what, running_again, &generation, &view, &json,
                  &fault) != TIDE_OK)
        return fault_report(&fault);
    const struct job *job = &view.job;
    int code = job_ended(job->state) ? exit_of_job(job) : EXIT_CODE_OK;
    const struct ckpt *ckpt = job_ckpt(job, outcome->cut ? outcome->cut : job->restore_cut);
    if (wants_json(cli))
        show_json(json);
    else if (job_ended(job->state))
        printf("%s: %s%s%s\n", job->spec.name, job_state_names[job->state], job->reason[0] ? ": " : "", job->reason);
    else if (ckpt != NULL)
        printf("%s: back at %s/%" PRIu64 " (step %" PRIu64 "), running again as generation %" PRIu64 " after %s\n",
               job->spec.name, job->spec.name, ckpt->cut, ckpt->step, job->generation,
               duration_text((clock_mono_ns() - begun_ns) / NS_PER_MS, time));
    else
        printf("%s: running again as generation %" PRIu64 "\n", job->spec.name, job->generation);
    codec_release(&job_view_codec, &view);
    json_decref(json);
    return code;
}

int cmd_rollback(struct cli *cli)
{
    struct fault fault = {0};
    struct rollback_request request;
    struct job_view view;
    struct outcome outcome;
    char path[128];
    json_t *json = NULL;
    uint64_t begun_ns = clock_mono_ns();
    if (rollback_ask(cli, &request, &fault) != TIDE_OK ||
        client_job(cli->client, cli->args.items[0], 0, 0, &view, NULL, &fault) != TIDE_OK)
        return fault_report(&fault);
    uint64_t before = view.job.generation;
    codec_release(&job_view_codec, &view);
    char *body = codec_print(&rollback_request_codec, &request, CODEC_COMPACT);
    snprintf(path, sizeof path, "/v1/jobs/%s/rollback", cli->args.items[0]);
    enum tide_status status = client_outcome(cli->client, "POST", path, body, &outcome, &json, &fault);
    mem_free(body);
    if (status != TIDE_OK)
        return fault_report(&fault);
    if (cli->options.no_wait)
        return show_outcome(cli, &outcome, json, cli->args.items[0]);
    json_decref(json);
    if (outcome.generation == 0)
        outcome.generation = before + 1;
    return wait_rollback(cli, &outcome, begun_ns);
}
