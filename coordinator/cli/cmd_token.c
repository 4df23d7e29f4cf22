/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/secure/join.h"
#include "coordinator/cli/creds.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/units.h"

static enum tide_status check_name(const char *name, struct fault *fault)
{
    if (name_valid(name))
        return TIDE_OK;
    return fault_set(fault, TIDE_E_INVALID, "use 1 to 63 of A-Z a-z 0-9 . _ -, first a letter or digit",
                     "\"%.80s\" is not a name for a token", name);
}

/* ---- create ---- */

static enum tide_status fill_request(const struct cli *cli, const char *secret, struct token_request *request,
                                     struct fault *fault)
{
    const struct options *o = &cli->options;
    unsigned role = o->join ? ROLE_AGENT : o->role + ROLE_AGENT;
    if (o->node != NULL && (role != ROLE_AGENT || !name_valid(o->node)))
        return fault_set(fault, TIDE_E_INVALID, "say --role agent or --join too, and the name of a node",
                         "--node %.80s: only an agent's token is bound to a node", o->node);
    *request = (struct token_request){.role = role, .ttl_ms = o->expires_ms};
    text_copy(request->name, sizeof request->name, cli->args.items[0]);
    text_copy(request->node, sizeof request->node, o->node ? o->node : "");
    sha256_hex(secret, strlen(secret), request->hash);
    return TIDE_OK;
}

static enum tide_status pin_of(const struct cli *cli, struct join *join, struct fault *fault)
{
    struct err err = {0};
    const char *pem = cli->creds->idir.ca_pem;
    if (pem == NULL)
        return fault_set(fault, TIDE_E_INVALID, "name an identity directory: --identity DIR or TIDEMARK_IDENTITY",
                         "a join token carries the pin of the cluster's CA, and no CA is known here");
    return cert_pin(pem, join->pin, NULL, &err) == TIDE_OK ? TIDE_OK : fault_set(fault, err.status, NULL, "%s", err.text);
}

static enum tide_status create(struct cli *cli, struct join *join, struct fault *fault)
{
    struct token_request request;
    struct outcome outcome;
    struct err err = {0};
    enum tide_status status = check_name(cli->args.items[0], fault);
    if (status == TIDE_OK && cli->options.join)
        status = pin_of(cli, join, fault);
    if (status == TIDE_OK && secret_new(join->secret, &err) != TIDE_OK)
        status = fault_set(fault, err.status, NULL, "%s", err.text);
    if (status == TIDE_OK)
        status = fill_request(cli, join->secret, &request, fault);
    if (status != TIDE_OK)
        return status;
    char *body = codec_print(&token_request_codec, &request, CODEC_COMPACT);
    status = client_outcome(cli->client, "POST", "/v1/tokens", body, &outcome, NULL, fault);
    mem_free(body);
    if (status == TIDE_OK)
        say_note("%s; its secret is not shown again", outcome.text);
    return status;
}

int cmd_token_create(struct cli *cli)
{
    struct fault fault = {0};
    struct join join = {0};
    char text[JOIN_CHARS + 1];
    if (create(cli, &join, &fault) != TIDE_OK)
        return fault_report(&fault);
    join_format(&join, text);
    puts(cli->options.join ? text : join.secret);
    secret_wipe(text, sizeof text);
    secret_wipe(&join, sizeof join);
    return EXIT_CODE_OK;
}

/* ---- list, revoke ---- */

static void token_row(struct table *t, const struct token *token, uint64_t now_ms)
{
    char time[UNIT_TEXT_MAX];
    table_cell(t, TINT_NONE, "%s", token->name);
    table_cell(t, TINT_NONE, "%s", role_names[token->role]);
    table_cell(t, TINT_NONE, "%s", token->role != ROLE_AGENT ? "-" : token->node[0] ? token->node : "any");
    table_cell(t, TINT_NONE, "%s", clock_text(token->created_ms, time));
    if (token->expires_ms == 0)
        table_cell(t, TINT_NONE, "never");
    else if (token->expires_ms <= now_ms)
        table_cell(t, TINT_RED, "expired");
    else
        table_cell(t, TINT_NONE, "%s", clock_text(token->expires_ms, time));
}

static void print_tokens(const struct token_list *list)
{
    static const char *const headings[] = {"NAME", "ROLE", "NODE", "CREATED", "EXPIRES"};
    struct table t = {0};
    for (size_t i = 0; i < sizeof headings / sizeof headings[0]; i++)
        table_column(&t, headings[i], false);
    for (size_t i = 0; i < list->tokens.count; i++)
        token_row(&t, &list->tokens.items[i], clock_wall_ms());
    table_print(&t, stdout, term_columns());
    if (list->tokens.count == 0)
        say_note("no tokens");
}

int cmd_token_list(struct cli *cli)
{
    struct fault fault = {0};
    struct token_list list;
    json_t *json = NULL;
    if (client_noun(cli->client, "GET", "/v1/tokens", NULL, 0, &token_list_codec, &list, &json, &fault) != TIDE_OK)
        return fault_report(&fault);
    if (wants_json(cli))
        show_json(json);
    else if (cli->options.output == OUTPUT_NAME)
        for (size_t i = 0; i < list.tokens.count; i++)
            puts(list.tokens.items[i].name);
    else
        print_tokens(&list);
    codec_release(&token_list_codec, &list);
    json_decref(json);
    return EXIT_CODE_OK;
}

int cmd_token_revoke(struct cli *cli)
{
    struct fault fault = {0};
    struct outcome outcome;
    json_t *json = NULL;
    char path[TIDE_NAME_MAX + 16];
    const char *name = cli->args.items[0];
    if (check_name(name, &fault) != TIDE_OK)
        return fault_report(&fault);
    snprintf(path, sizeof path, "/v1/tokens/%s", name);
    if (client_outcome(cli->client, "DELETE", path, NULL, &outcome, &json, &fault) != TIDE_OK)
        return fault_report(&fault);
    return show_outcome(cli, &outcome, json, name);
}
