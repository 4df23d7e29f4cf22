/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/units.h"

#define SILENT_NEVER_MS (UINT64_C(1) << 40) /* the leader has not heard of it at all */

static const char *silent_text(uint64_t ms, char *to)
{
    if (ms < SILENT_NEVER_MS)
        return duration_text(ms, to);
    text_copy(to, UNIT_TEXT_MAX, "never");
    return to;
}

/* Whoever reads "drained" switches the host off: not while ranks are there. */
static const char *shown_state(const struct node_view *v)
{
    bool away = v->node.state == TIDE_NODE_DRAINED || (v->node.state == TIDE_NODE_READY && v->node.cordoned);
    return !away ? node_state_names[v->node.state] : v->used_slots > 0 ? "draining" : "drained";
}

static void jobs_text(const struct strlist *jobs, char *to, size_t size)
{
    to[0] = '\0';
    for (size_t i = 0; i < jobs->count; i++)
        text_say(to, size, "%s%s%s", to, i ? "," : "", jobs->items[i]);
}

static void node_row(struct table *t, const struct node_view *v, bool wide)
{
    char text[512], silent[UNIT_TEXT_MAX];
    const char *state = shown_state(v);
    table_cell(t, TINT_NONE, "%s", v->node.name);
    table_cell(t, tint_of_state(state), "%s", state);
    table_cell(t, TINT_NONE, "%u/%u", v->used_slots, v->node.slots);
    table_cell(t, TINT_NONE, "%s", v->node.address);
    table_cell(t, TINT_NONE, "%s", silent_text(v->silent_ms, silent));
    jobs_text(&v->jobs, text, sizeof text);
    table_cell(t, TINT_NONE, "%s", text);
    if (wide) {
        table_cell(t, TINT_NONE, "%s", v->node.domain[0] ? v->node.domain : v->node.name);
        table_cell(t, TINT_NONE, "%s", v->node.host);
        table_cell(t, TINT_NONE, "%s", v->node.uid);
        table_cell(t, TINT_NONE, "%u", v->node.mesh_port);
        table_cell(t, TINT_NONE, "%u", v->node.log_port);
    }
    table_cell(t, TINT_NONE, "%s", v->node.reason);
}

static void print_nodes(const struct node_list *list, bool wide)
{
    static const char *const more[] = {"DOMAIN", "HOST", "UID", "MESH", "LOGS"};
    struct table t = {0};
    table_column(&t, "NAME", false);
    table_column(&t, "STATE", false);
    table_column(&t, "SLOTS", true);
    table_column(&t, "ADDRESS", false);
    table_column(&t, "SILENT", true);
    table_column(&t, "JOBS", false);
    for (size_t i = 0; wide && i < sizeof more / sizeof more[0]; i++)
        table_column(&t, more[i], i >= 3);
    table_column(&t, "WHY", false);
    for (size_t i = 0; i < list->nodes.count; i++)
        node_row(&t, &list->nodes.items[i], wide);
    table_print(&t, stdout, term_columns());
    if (list->nodes.count == 0) {
        say_note("no nodes");
        say_hint("start an agent on each: tidemark-agent --coordinator URL --name NODE --state DIR");
    }
}

int cmd_node_list(struct cli *cli)
{
    struct fault fault = {0};
    struct node_list list;
    json_t *json = NULL;
    if (client_noun(cli->client, "GET", "/v1/nodes", NULL, 0, &node_list_codec, &list, &json, &fault) != TIDE_OK)
        return fault_report(&fault);
    if (wants_json(cli)) {
        show_json(json);
    } else if (cli->options.output == OUTPUT_NAME) {
        for (size_t i = 0; i < list.nodes.count; i++)
            puts(list.nodes.items[i].node.name);
    } else {
        print_nodes(&list, cli->options.output == OUTPUT_WIDE);
    }
    codec_release(&node_list_codec, &list);
    json_decref(json);
    return EXIT_CODE_OK;
}

static enum tide_status node_path(const char *node, const char *verb, char *to, size_t size, struct fault *fault)
{
    if (!name_valid(node))
        return fault_set(fault, TIDE_E_NOT_FOUND, "tidemark node list shows all nodes",
                         "\"%.80s\" is not the name of a node", node);
    snprintf(to, size, "/v1/nodes/%s%s", node, verb);
    return TIDE_OK;
}

/* The verdict, and each piece of evidence for it. */
static void print_health(const struct node *n)
{
    const char *more = n->spared ? "; not drained, as too many others were"
                       : n->unfit && n->health < TIDE_HEALTH_SUSPECT ? "; gets ranks again when it was good for a while" : "";
    field_print("health", tint_of_state(health_names[n->health]), "%s%s", health_names[n->health], more);
    for (size_t i = 0; i < n->evidence.count; i++) {
        const struct health_fact *fact = &n->evidence.items[i];
        char text[512], time[UNIT_TEXT_MAX];
        health_fact_text(fact, text, sizeof text);
        field_print(i == 0 ? "evidence" : "", tint_of_state(health_names[fact->state]), "%s since %s: %s%s", health_names[fact->state],
                    clock_text(fact->at_ms, time), text, fact->serial <= n->forgiven ? " (forgiven)" : "");
    }
}

static void print_node(const struct node_view *v)
{
    const struct node *n = &v->node;
    char text[512], time[UNIT_TEXT_MAX];
    const char *state = shown_state(v);
    field_print("node", TINT_BOLD, "%s", n->name);
    field_print("state", tint_of_state(state), "%s", state);
    if (n->reason[0])
        field_print("why", TINT_NONE, "%s", n->reason);
    print_health(n);
    field_print("slots", TINT_NONE, "%u of %u used", v->used_slots, n->slots);
    jobs_text(&v->jobs, text, sizeof text);
    field_print("jobs", TINT_NONE, "%s", text[0] ? text : "none");
    field_print("domain", TINT_NONE, "%s", n->domain[0] ? n->domain : n->name);
    field_print("host", TINT_NONE, "%s", n->host);
    field_print("address", TINT_NONE, "%s (mesh port %u, log port %u)", n->address, n->mesh_port, n->log_port);
    field_print("silent for", TINT_NONE, "%s", silent_text(v->silent_ms, time));
    field_print("registered", TINT_NONE, "%s", clock_text(n->registered_ms, time));
    field_print("changed", TINT_NONE, "%s", clock_text(n->changed_ms, time));
    field_print("uid", TINT_NONE, "%s", n->uid);
    field_print("incarnation", TINT_NONE, "%s", n->incarnation);
}

int cmd_node_show(struct cli *cli)
{
    struct fault fault = {0};
    struct node_view view;
    char path[128];
    json_t *json = NULL;
    if (node_path(cli->args.items[0], "", path, sizeof path, &fault) != TIDE_OK ||
        client_noun(cli->client, "GET", path, NULL, 0, &node_view_codec, &view, &json, &fault) != TIDE_OK)
        return fault_report(&fault);
    if (wants_json(cli))
        show_json(json);
    else if (cli->options.output == OUTPUT_NAME)
        puts(view.node.name);
    else
        print_node(&view);
    codec_release(&node_view_codec, &view);
    json_decref(json);
    return EXIT_CODE_OK;
}

static int change(struct cli *cli, const char *verb)
{
    struct fault fault = {0};
    struct outcome outcome;
    char path[128];
    json_t *json = NULL;
    if (node_path(cli->args.items[0], verb, path, sizeof path, &fault) != TIDE_OK ||
        client_outcome(cli->client, "POST", path, NULL, &outcome, &json, &fault) != TIDE_OK)
        return fault_report(&fault);
    return show_outcome(cli, &outcome, json, cli->args.items[0]);
}

int cmd_node_drain(struct cli *cli)
{
    int code = change(cli, "/drain");
    fflush(stdout);
    return code == EXIT_CODE_OK && cli->options.now ? drain_now(cli, cli->args.items[0]) : code;
}

int cmd_node_resume(struct cli *cli)
{
    return change(cli, "/resume");
}
