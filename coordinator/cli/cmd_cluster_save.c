/* SPDX-License-Identifier: Apache-2.0 */
/* cluster backup; and cluster restore and recover, which are tidemarkd's to do. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/secure/secret.h"
#include "coordinator/cli/cluster.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/units.h"

#define BACKUP_MS_MAX 300000u /* until all of it is here */
#define DAEMON "tidemarkd"

/* ---- backup ---- */

/* What arrived is what was sent, before anybody relies on it. */
static enum tide_status verify(const struct http_call *call, struct fault *fault)
{
    char digest[SHA256_HEX_CHARS + 1];
    if (call->digest[0] == '\0' || call->answer_bytes == 0)
        return fault_set(fault, TIDE_E_VERSION, "is the coordinator of another version? See tidemark cluster status",
                         "%s sent no backup with a digest", call->url);
    sha256_hex(call->answer, call->answer_bytes, digest);
    if (strcmp(digest, call->digest) == 0)
        return TIDE_OK;
    return fault_set(fault, TIDE_E_CORRUPT, "try it again; nothing was written",
                     "the backup was damaged on its way: its digest is %s, not %s", digest, call->digest);
}

int cmd_cluster_backup(struct cli *cli)
{
    const char *path = cli->args.items[0];
    char size[UNIT_TEXT_MAX];
    struct fault fault = {0};
    struct err err = {0};
    struct http_call call;
    if (client_fetch(cli->client, "/v1/cluster/backup", BACKUP_MS_MAX, &call, &fault) != TIDE_OK)
        return fault_report(&fault);
    enum tide_status status = verify(&call, &fault);
    if (status == TIDE_OK && fsx_replace(path, call.answer, call.answer_bytes, 0600, &err) != TIDE_OK)
        status = fault_set(&fault, err.status, NULL, "%s", err.text);
    if (status == TIDE_OK)
        printf("%s: %s, cluster %s at revision %" PRIu64
               "\nsha256 %s\nTo make a new cluster of it: tidemark cluster restore %s "
               "--data DIR\n",
               path, size_text(call.answer_bytes, size), call.cluster[0] ? call.cluster : "-", call.index, call.digest,
               path);
    http_release(cli->client->http, &call);
    return status == TIDE_OK ? EXIT_CODE_OK : fault_report(&fault);
}

/* ---- restore, recover ---- */

/* Becomes tidemarkd, which asks and says all that there is to say; returns only if it cannot. */
static int become_daemon(char *const *argv)
{
    char program[TIDE_PATH_MAX + 64];
    struct fault fault = {0};
    program_find(DAEMON, program, sizeof program);
    fflush(stdout);
    execvp(program, argv);
    err_errno(&fault.err, "cannot run %s", program);
    text_copy(fault.hint, sizeof fault.hint, "install it beside tidemark, or put it into PATH");
    return fault_report(&fault);
}

static int no_data(const struct cli *cli)
{
    char title[96];
    say_error("--data DIR is missing: the directory that its tidemarkd is started with");
    say_hint("%s --help tells all options", command_title(cli->command, title, sizeof title));
    return EXIT_CODE_USAGE;
}

int cmd_cluster_restore(struct cli *cli)
{
    const struct options *o = &cli->options;
    if (o->data == NULL)
        return no_data(cli);
    char *argv[] = {DAEMON,
                    "restore",
                    "--data",
                    (char *)o->data,
                    "--from",
                    cli->args.items[0],
                    o->identity != NULL ? "--identity" : NULL,
                    (char *)o->identity,
                    NULL};
    return become_daemon(argv);
}

int cmd_cluster_recover(struct cli *cli)
{
    const struct options *o = &cli->options;
    if (o->data == NULL)
        return no_data(cli);
    char *argv[] = {DAEMON, "recover", "--data", (char *)o->data, o->lose ? "--yes-lose-what-others-had" : NULL, NULL};
    return become_daemon(argv);
}
