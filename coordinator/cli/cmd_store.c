/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "coordinator/cli/ckpt_store.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/signals.h"
#include "coordinator/cli/store_check.h"

/* ---- the command ---- */

static const char *hint_of(enum tide_status status, const struct proof *proof)
{
    if (status == TIDE_E_UNSUPPORTED)
        return proof->remedy;
    if (status == TIDE_E_NOSPACE)
        return "free space there, or try with less: --bytes 1048576";
    if (status == TIDE_E_DENIED)
        return "these keys, or this user, must be allowed to get, put, list and delete there";
    return "put that right, then run it again";
}

/* ret_proved: how many held. */
static enum tide_status prove_all(struct check *check, const char *url, size_t *ret_proved, struct fault *fault)
{
    enum tide_status status = TIDE_OK;
    for (*ret_proved = 0; *ret_proved < STORE_PROOFS && status == TIDE_OK; *ret_proved += status == TIDE_OK) {
        const struct proof *proof = &store_proofs[*ret_proved];
        struct err why = {.status = TIDE_OK};
        progress_show("%s: %s", url, proof->name);
        status = signals_count() > 0 ? err_set(&why, TIDE_E_STATE, "interrupted") : TIDE_OK;
        if (status == TIDE_OK)
            status = proof->prove(check, &why);
        if (status != TIDE_OK)
            fault_set(fault, status, hint_of(status, proof), "store %.300s cannot %s: %s", url, proof->cannot, why.text);
    }
    progress_clear();
    return status;
}

static void clean(struct check *check, const char *url)
{
    struct err err = {.status = TIDE_OK};
    if (store_check_clean(check, &err) != TIDE_OK)
        say_error("objects below %s may be left in %s; delete them: %s", check->prefix, url, err.text);
}

static void print_json(const struct check *check, const char *url, size_t proved, bool good)
{
    json_t *done = json_array(), *speeds = json_array();
    for (size_t i = 0; i < STORE_PROOFS; i++)
        json_array_append_new(done, json_pack("{s:s,s:b}", "name", store_proofs[i].name, "proved", i < proved));
    for (size_t i = 0; i < STORE_SPEEDS; i++)
        if (check->speeds[i].workers != 0)
            json_array_append_new(speeds, json_pack("{s:i,s:f,s:f}", "workers", (int)check->speeds[i].workers, "up_mb_s",
                                                    check->speeds[i].up, "down_mb_s", check->speeds[i].down));
    json_t *json = json_pack("{s:s,s:b,s:I,s:o,s:o}", "store", url, "good", good, "bytes", (json_int_t)check->bytes,
                             "proofs", done, "speed", speeds);
    show_json(json);
    json_decref(json);
}

static void print_tables(const struct check *check, size_t proved, bool good)
{
    struct table table = {0}, speeds = {0};
    table_column(&table, "RESULT", false);
    table_column(&table, "WHAT", false);
    for (size_t i = 0; i < proved + !good; i++) {
        table_cell(&table, i < proved ? TINT_GREEN : TINT_RED, "%s", i < proved ? "proved" : "FAILED");
        table_cell(&table, TINT_NONE, "%s", store_proofs[i].name);
    }
    table_print(&table, stdout, term_columns());
    if (check->speeds[0].workers != 0)
        printf("\n");
    table_column(&speeds, "WORKERS", true);
    table_column(&speeds, "UP MB/s", true);
    table_column(&speeds, "DOWN MB/s", true);
    for (size_t i = 0; i < STORE_SPEEDS; i++) {
        if (check->speeds[i].workers == 0)
            continue;
        table_cell(&speeds, TINT_NONE, "%u", check->speeds[i].workers);
        table_cell(&speeds, TINT_NONE, "%.1f", check->speeds[i].up);
        table_cell(&speeds, TINT_NONE, "%.1f", check->speeds[i].down);
    }
    table_print(&speeds, stdout, term_columns());
}

static int run_check(const struct cli *cli, struct check *check, const char *url)
{
    struct fault fault = {0};
    size_t proved;
    bool good = prove_all(check, url, &proved, &fault) == TIDE_OK;
    if (!good)
        clean(check, url);
    store_check_end(check);
    if (signals_count() > 0 && !good) {
        say_note("interrupted; nothing is proved");
        return signals_exit();
    }
    if (wants_json(cli))
        print_json(check, url, proved, good);
    else if (cli->options.output != OUTPUT_NAME)
        print_tables(check, proved, good);
    else if (good)
        printf("%s\n", url);
    return good ? EXIT_CODE_OK : fault_report(&fault);
}

int cmd_store_check(struct cli *cli)
{
    struct fault fault = {0};
    struct check check;
    struct store *store;
    const char *url = cli->args.items[0];
    if (store_dir_there(url, "mount or make it, then run this on a machine that sees it", &fault) != TIDE_OK)
        return fault_report(&fault);
    signals_catch();
    progress_show("opening %s", url);
    enum tide_status status = store_open(url, &store, &fault.err);
    progress_clear();
    if (status != TIDE_OK)
        return signals_count() > 0 ? signals_exit() : fault_report(&fault);
    store_check_begin(&check, store, (size_t)cli->options.bytes);
    int code = run_check(cli, &check, url);
    store_close(store);
    return code;
}
