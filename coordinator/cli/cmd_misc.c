/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <tidemark/version.h>

#include "ckpt/base/mem.h"
#include "coordinator/cli/creds.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/show.h"

#define COMPLETE_TIMEOUT_MS 700 /* nobody waits longer for a Tab */
#define WORDS_MAX 64

int cmd_version(struct cli *cli)
{
    (void)cli;
    puts("tidemark " TIDE_VERSION_STRING);
    return EXIT_CODE_OK;
}

int cmd_completion(struct cli *cli)
{
    if (complete_script(stdout, cli->args.items[0]) == 0)
        return EXIT_CODE_OK;
    say_error("no completion for the shell \"%.40s\"", cli->args.items[0]);
    say_hint("tidemark completion bash, zsh or fish");
    return EXIT_CODE_USAGE;
}

int cmd_help(struct cli *cli)
{
    if (cli->options.man) {
        man_page(stdout);
        return EXIT_CODE_OK;
    }
    if (cli->args.count == 0) {
        help_overview(stdout);
        return EXIT_CODE_OK;
    }
    int taken;
    const struct command *command = command_find((int)cli->args.count, cli->args.items, &taken);
    if (command != NULL) {
        help_command(stdout, command);
        return EXIT_CODE_OK;
    }
    if (taken == 1 && cli->args.count == 1) {
        help_group(stdout, cli->args.items[0]);
        return EXIT_CODE_OK;
    }
    const char *words[WORDS_MAX];
    size_t n = command_words(taken == 1 ? cli->args.items[0] : NULL, words, WORDS_MAX);
    const char *closest = closest_word(cli->args.items[taken], words, n);
    say_error("no command \"%.40s\"%s%s%s", cli->args.items[taken], closest ? "; did you mean " : "", closest ? closest : "",
              closest ? "?" : "");
    say_hint("tidemark help lists all commands");
    return EXIT_CODE_USAGE;
}

/* ---- completion with names of the cluster ---- */

static void offer_name(const char *begin, const char *name, const char *what)
{
    if (strncmp(name, begin, strlen(begin)) == 0)
        printf("%s\t%s\n", name, what);
}

static void offer_jobs(struct client *client, const char *begin)
{
    struct fault fault = {0};
    struct job_list list;
    if (client_noun(client, "GET", "/v1/jobs", NULL, 0, &job_list_codec, &list, NULL, &fault) != TIDE_OK)
        return;
    for (size_t i = 0; i < list.jobs.count; i++)
        offer_name(begin, list.jobs.items[i].spec.name, job_state_names[list.jobs.items[i].state]);
    codec_release(&job_list_codec, &list);
}

static void offer_ckpts(struct client *client, const char *begin)
{
    struct fault fault = {0};
    struct job_view view;
    char job[TIDE_NAME_MAX + 1], id[TIDE_NAME_MAX + 32];
    const char *slash = strchr(begin, '/');
    if (slash == NULL || slash - begin > TIDE_NAME_MAX) {
        offer_jobs(client, begin);
        return;
    }
    snprintf(job, sizeof job, "%.*s", (int)(slash - begin), begin);
    if (client_job(client, job, 0, 0, &view, NULL, &fault) != TIDE_OK)
        return;
    for (size_t i = 0; i < view.job.ckpts.count; i++) {
        snprintf(id, sizeof id, "%s/%" PRIu64, job, view.job.ckpts.items[i].cut);
        offer_name(begin, id, ckpt_state_names[view.job.ckpts.items[i].state]);
    }
    codec_release(&job_view_codec, &view);
}

static void offer_nodes(struct client *client, const char *begin)
{
    struct fault fault = {0};
    struct node_list list;
    if (client_noun(client, "GET", "/v1/nodes", NULL, 0, &node_list_codec, &list, NULL, &fault) != TIDE_OK)
        return;
    for (size_t i = 0; i < list.nodes.count; i++)
        offer_name(begin, list.nodes.items[i].node.name, node_state_names[list.nodes.items[i].node.state]);
    codec_release(&node_list_codec, &list);
}

static const char *environment(const char *name)
{
    return getenv(name);
}

static void offer_line(const char *line, const char *begin)
{
    bool jobs = strcmp(line, ":jobs") == 0, ckpts = strcmp(line, ":ckpts") == 0, nodes = strcmp(line, ":nodes") == 0;
    if (!jobs && !ckpts && !nodes) {
        puts(line);
        return;
    }
    struct client *client;
    struct fault fault = {0};
    struct creds creds;
    if (creds_load(NULL, environment, &creds, &fault) != TIDE_OK)
        return;
    if (client_create(creds.urls, &creds.http, COMPLETE_TIMEOUT_MS, &client, &fault) != TIDE_OK) {
        creds_release(&creds);
        return;
    }
    client->quiet = true;
    if (jobs)
        offer_jobs(client, begin);
    else if (ckpts)
        offer_ckpts(client, begin);
    else
        offer_nodes(client, begin);
    client_free(client);
    creds_release(&creds);
}

int cmd_complete(struct cli *cli)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *to = open_memstream(&text, &bytes);
    if (to == NULL || cli->args.count == 0) {
        if (to != NULL)
            fclose(to);
        mem_free(text);
        return EXIT_CODE_ERROR;
    }
    complete_words(to, (int)cli->args.count, cli->args.items);
    fclose(to);
    const char *begin = cli->args.items[cli->args.count - 1];
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n")) != NULL)
        if (line[0] != '\0')
            offer_line(line, begin);
    mem_free(text);
    return EXIT_CODE_OK;
}
