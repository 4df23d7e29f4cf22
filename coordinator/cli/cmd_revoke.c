/* SPDX-License-Identifier: Apache-2.0 */
/* cluster revoke, cluster revoked: certificates that count no more. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/units.h"

/* As openssl prints it, too: "3F:A9:…", "3FA9…", with zeros in front. */
static void take_serial(const char *text, char *to, size_t size)
{
    size_t n = 0;
    for (; *text != '\0' && n + 1 < size; text++)
        if (*text != ':' && (n > 0 || *text != '0'))
            to[n++] = (char)tolower((unsigned char)*text);
    to[n] = '\0';
}

static enum tide_status what_of(const struct cli *cli, char to[REVOKED_MAX + 1], struct fault *fault)
{
    const char *kind = cli->args.items[0], *name = cli->args.items[1];
    char room[REVOKED_MAX + 1];
    struct err err = {0};
    if (strcmp(kind, "serial") == 0)
        take_serial(name, room, sizeof room);
    else
        snprintf(room, sizeof room, "%s", name);
    snprintf(to, REVOKED_MAX + 1, "%.8s:%s", kind, room);
    if (strlen(name) <= REVOKED_MAX - sizeof "serial" && revocation_check(to, &err) == TIDE_OK)
        return TIDE_OK;
    return fault_set(fault, TIDE_E_INVALID,
                     strcmp(kind, "member") == 0
                         ? "tidemark cluster remove ID takes a member out of the group, and its certificate "
                           "counts no more"
                         : "write agent NODE, client NAME, or serial HEX: openssl x509 -noout -serial "
                           "-in cert.pem prints it",
                     "\"%.20s %.80s\" names no certificate that can be revoked", kind, name);
}

int cmd_cluster_revoke(struct cli *cli)
{
    struct fault fault = {0};
    struct outcome outcome;
    json_t *json = NULL;
    struct revocation revocation = {0};
    char path[REVOKED_MAX + 32];
    enum tide_status status = what_of(cli, revocation.what, &fault);
    if (status != TIDE_OK)
        return fault_report(&fault);
    char *body = codec_print(&revocation_codec, &revocation, CODEC_COMPACT);
    snprintf(path, sizeof path, "/v1/revocations/%s", revocation.what);
    if (cli->options.undo)
        status = client_outcome(cli->client, "DELETE", path, NULL, &outcome, &json, &fault);
    else
        status = client_outcome(cli->client, "POST", "/v1/revocations", body, &outcome, &json, &fault);
    mem_free(body);
    return status == TIDE_OK ? show_outcome(cli, &outcome, json, revocation.what) : fault_report(&fault);
}

static void print_list(const struct revocation_list *list)
{
    struct table t = {0};
    char time[UNIT_TEXT_MAX];
    table_column(&t, "REVOKED", false);
    table_column(&t, "SINCE", false);
    for (size_t i = 0; i < list->revocations.count; i++) {
        table_cell(&t, TINT_NONE, "%s", list->revocations.items[i].what);
        table_cell(&t, TINT_NONE, "%s", clock_text(list->revocations.items[i].since_ms, time));
    }
    table_print(&t, stdout, term_columns());
    if (list->revocations.count == 0)
        say_note("nothing is revoked");
}

int cmd_cluster_revoked(struct cli *cli)
{
    struct fault fault = {0};
    struct revocation_list list;
    json_t *json = NULL;
    if (client_noun(cli->client, "GET", "/v1/revocations", NULL, 0, &revocation_list_codec, &list, &json, &fault) != TIDE_OK)
        return fault_report(&fault);
    if (wants_json(cli))
        show_json(json);
    else if (cli->options.output == OUTPUT_NAME)
        for (size_t i = 0; i < list.revocations.count; i++)
            puts(list.revocations.items[i].what);
    else
        print_list(&list);
    codec_release(&revocation_list_codec, &list);
    json_decref(json);
    return EXIT_CODE_OK;
}
