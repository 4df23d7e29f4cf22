/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/stage/catalogue.h"
#include "ckpt/stage/stage.h"
#include "coordinator/cli/ckpt_store.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/units.h"

/* What the store holds is looked at from this machine, and only what stands that is told to the coordinators, one by one. */

enum result { RESULT_IMPORTED, RESULT_KNOWN, RESULT_FOUND, RESULT_REFUSED };
static const char *const result_names[] = {"imported", "known", "found", "refused"};

struct import {
    const struct cli *cli;
    const char *url;
    struct store *store;
    struct catalogue_packs packs; /* of the job that is looked at */
    struct table table;
    json_t *list;
    size_t counts[RESULT_REFUSED + 1], unfinished;
};

/* ---- what is said ---- */

static void say_bad(void *context, const char *text)
{
    (void)context;
    say_error("%s", text);
}

static bool tabled(const struct import *import)
{
    return !wants_json(import->cli) && import->cli->options.output != OUTPUT_NAME;
}

/* `why` one is refused, else NULL. */
static void add_result(struct import *import, const struct catalogue_entry *entry, const struct catalogue_found *found, enum result result,
                       const char *why)
{
    char a[UNIT_TEXT_MAX], b[UNIT_TEXT_MAX], id[CKPT_ID_MAX + 1];
    snprintf(id, sizeof id, "%s/%" PRIu64, entry->job, entry->cut);
    import->counts[result]++;
    json_array_append_new(import->list, json_pack("{s:s,s:s,s:s,s:s*,s:I,s:I,s:I,s:I}", "checkpoint", id, "uid", entry->uid, "result",
                                                  result_names[result], "why", why, "step", (json_int_t)found->step, "ranks",
                                                  (json_int_t)found->world_size, "raw_bytes", (json_int_t)found->raw_bytes,
                                                  "stored_bytes", (json_int_t)found->stored_bytes));
    if (import->cli->options.output == OUTPUT_NAME && result != RESULT_REFUSED)
        printf("%s\n", id);
    if (!tabled(import))
        return;
    table_cell(&import->table, TINT_NONE, "%s", id);
    table_cell(&import->table, result == RESULT_REFUSED ? TINT_RED : TINT_GREEN, "%s", result_names[result]);
    table_cell(&import->table, TINT_NONE, "%" PRIu64, found->step);
    table_cell(&import->table, TINT_NONE, "%u", found->world_size);
    table_cell(&import->table, TINT_NONE, "%s", found->raw_bytes ? size_text(found->raw_bytes, a) : "-");
    table_cell(&import->table, TINT_NONE, "%s", found->stored_bytes ? size_text(found->stored_bytes, b) : "-");
    table_cell(&import->table, TINT_NONE, "%s", entry->uid);
}

static void print_all(struct import *import)
{
    size_t refused = import->counts[RESULT_REFUSED];
    if (wants_json(import->cli))
        show_json(import->list);
    else if (tabled(import))
        table_print(&import->table, stdout, term_columns());
    if (import->unfinished > 0)
        say_note("%zu more in %s %s no COMMIT: never finished, or being written or deleted; no checkpoint", import->unfinished, import->url,
                 import->unfinished == 1 ? "has" : "have");
    if (refused > 0)
        say_hint("nothing of %s is registered; the others can be used",
                 refused == 1 ? "the one that is refused" : "those that are refused");
    else if (import->counts[RESULT_IMPORTED] > 0)
        say_note("they are kept until they are unpinned and dropped; tidemark run --restore-from JOB/CKPT goes on from one");
}

/* ---- one checkpoint ---- */

static const char *hint_of(enum tide_status status)
{
    if (status == TIDE_E_VERSION)
        return "import it with a newer tidemark, into a cluster that is at least as new";
    if (status == TIDE_E_CORRUPT || status == TIDE_E_NOT_FOUND)
        return "it cannot be restored from here; import another, or bring its objects back and try again";
    return "put that right, then run it again";
}

/* Every byte of it. */
static enum tide_status check_whole(struct import *import, const struct catalogue_found *found, struct err *err)
{
    const struct stage_watch watch = {.say = say_bad};
    struct stage_verdict verdict = {0};
    enum tide_status status = stage_check_watched(import->store, found->key, found->digest, &watch, &verdict, err);
    if (status == TIDE_OK && verdict.bad > 0)
        status = err_set(err, TIDE_E_CORRUPT, "%" PRIu64 " of %" PRIu64 " ranks are damaged", verdict.bad, verdict.ranks);
    else if (status == TIDE_OK && verdict.packs_bad > 0)
        say_note("it can be restored: all that it needs of %" PRIu64 " damaged pack%s is right", verdict.packs_bad,
                 verdict.packs_bad == 1 ? "" : "s");
    return status;
}

static enum tide_status tell(const struct import *import, const struct catalogue_entry *entry, const struct catalogue_found *found,
                             struct fault *fault)
{
    struct ckpt_import noun = {.cut = entry->cut, .generation = entry->generation, .step = found->step, .world_size = found->world_size,
                               .raw_bytes = found->raw_bytes, .stored_bytes = found->stored_bytes};
    struct outcome outcome;
    text_copy(noun.job, sizeof noun.job, entry->job);
    text_copy(noun.uid, sizeof noun.uid, entry->uid);
    text_copy(noun.key, sizeof noun.key, found->key);
    text_copy(noun.digest, sizeof noun.digest, found->digest);
    text_copy(noun.store, sizeof noun.store, import->url);
    char *body = codec_print(&ckpt_import_codec, &noun, CODEC_COMPACT);
    enum tide_status status = client_outcome(import->cli->client, "POST", "/v1/imports", body, &outcome, NULL, fault);
    mem_free(body);
    return status;
}

/* Errors: of the coordinators that end the whole. */
static enum tide_status import_one(struct import *import, const struct catalogue_entry *entry, struct fault *ret_fault)
{
    struct catalogue_found found = {0};
    struct fault fault = {0};
    progress_show("reading %s/%" PRIu64 " in %s", entry->job, entry->cut, import->url);
    enum tide_status status = catalogue_read(import->store, entry, &import->packs, &found, &fault.err);
    if (status == TIDE_OK && import->cli->options.verify)
        status = check_whole(import, &found, &fault.err);
    progress_clear();
    if (status != TIDE_OK)
        text_copy(fault.hint, sizeof fault.hint, hint_of(status));
    enum result result = RESULT_FOUND;
    if (status == TIDE_OK && !import->cli->options.dry_run) {
        status = tell(import, entry, &found, &fault);
        result = RESULT_IMPORTED;
    }
    if (status == TIDE_E_UNAVAILABLE || status == TIDE_E_TIMEOUT || status == TIDE_E_DENIED) {
        *ret_fault = fault;
        return status;
    }
    if (status == TIDE_E_EXISTS)
        result = RESULT_KNOWN;
    else if (status != TIDE_OK) {
        result = RESULT_REFUSED;
        say_error("%s/%" PRIu64 " is refused: %s", entry->job, entry->cut, fault.err.text);
        if (fault.hint[0] != '\0')
            say_hint("%s", fault.hint);
    }
    add_result(import, entry, &found, result, result == RESULT_REFUSED ? fault.err.text : NULL);
    return TIDE_OK;
}

/* ---- all of them ---- */

static void table_begin(struct table *table)
{
    table_column(table, "CHECKPOINT", false);
    table_column(table, "RESULT", false);
    table_column(table, "STEP", true);
    table_column(table, "RANKS", true);
    table_column(table, "SIZE", true);
    table_column(table, "STORED", true);
    table_column(table, "UID", false);
}

static enum tide_status import_all(struct import *import, const struct catalogue *catalogue, struct fault *fault)
{
    enum tide_status status = TIDE_OK;
    for (size_t i = 0; i < catalogue->entries.count; i++)
        import->unfinished += !catalogue->entries.items[i].committed;
    if (import->unfinished == catalogue->entries.count)
        return fault_set(fault, TIDE_E_NOT_FOUND,
                         import->unfinished > 0 ? "what has no COMMIT was never finished, or is being written or deleted"
                                                : "is it the address that the job was run with, --store URL? tidemark ckpt show tells it",
                         "store %.300s holds no %scheckpoint%s%s", import->url, import->unfinished > 0 ? "finished " : "",
                         import->cli->args.count > 1 ? " of job " : "", import->cli->args.count > 1 ? import->cli->args.items[1] : "");
    table_begin(&import->table);
    for (size_t i = 0; i < catalogue->entries.count && status == TIDE_OK; i++)
        if (catalogue->entries.items[i].committed)
            status = import_one(import, &catalogue->entries.items[i], fault);
    print_all(import); /* of what was done before the coordinators were gone, too */
    return status;
}

int cmd_ckpt_import(struct cli *cli)
{
    struct import import = {.cli = cli, .url = cli->args.items[0], .list = json_array()};
    struct catalogue catalogue = {0};
    struct fault fault = {0};
    enum tide_status status = store_open_there(import.url, &import.store, &fault);
    if (status == TIDE_OK) {
        progress_show("listing %s", import.url);
        status = catalogue_take(import.store, cli->args.count > 1 ? cli->args.items[1] : NULL, &catalogue, &fault.err);
        progress_clear();
    }
    if (status != TIDE_OK)
        text_copy(fault.hint, sizeof fault.hint, "run it on a machine that sees the store; tidemark store check URL tells more");
    else
        status = import_all(&import, &catalogue, &fault);
    int code = status != TIDE_OK ? fault_report(&fault) : import.counts[RESULT_REFUSED] > 0 ? EXIT_CODE_CKPT_BAD : EXIT_CODE_OK;
    catalogue_release(&catalogue);
    catalogue_packs_release(&import.packs);
    store_close(import.store);
    json_decref(import.list);
    return code;
}
