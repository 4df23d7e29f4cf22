/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_COMMAND_H
#define COORDINATOR_CLI_COMMAND_H

/* The commands, in one table that reads like --help. */

#include <stdio.h>

#include "coordinator/cli/option.h"

struct client;
struct creds;

/* One run of the program. */
struct cli {
    const struct command *command;
    struct options options;
    struct strlist args;
    struct client *client; /* NULL for commands that need no coordinator */
    struct creds *creds;   /* … */
};

struct command {
    const char *group; /* "job"; NULL: none */
    const char *name;
    const char *brief; /* a sentence without a capital and full stop */
    const char *args;  /* as in the usage line; NULL: none */
    size_t args_min, args_max;
    enum completion complete; /* of its arguments */
    struct option_set set;
    bool local; /* needs no coordinator */
    bool hidden;
    const char *details; /* more, for help and man page; may be NULL */
    int (*run)(struct cli *cli);
};

extern const struct command commands[];
extern const size_t command_count;

/* Which command do these words name? ret_words: how many of them it took. NULL when none; then ret_words is 1 if the first
 * word names a group. */
const struct command *command_find(int argc, char *const *argv, int *ret_words);
bool command_is_group(const char *word);
/* Words that may stand at that place: names without a group and groups, or the names in a group. At most `most`. */
size_t command_words(const char *group, const char **to, size_t most);
/* "tidemark job list"; returns `to`. */
const char *command_title(const struct command *command, char *to, size_t size);

/* help.c */
void help_overview(FILE *to);
void help_group(FILE *to, const char *group);
void help_command(FILE *to, const struct command *command);
/* "-n, --nproc-per-node N"; returns `to`. Shared by help and man page. */
const char *option_spelling(const struct option *row, char *to, size_t size);
/* man.c: the page tidemark(1) in roff. */
void man_page(FILE *to);
/* complete.c: the script for a shell; nonzero if it is none of bash, zsh, fish. */
int complete_script(FILE *to, const char *shell);
/* One line "word<TAB>what it is" for each word that may stand at the end of words[0..count), whose last is the beginning
 * typed so far and whose first is not the program. Lines ":files", ":dirs", ":jobs", ":ckpts" and ":nodes" ask the caller
 * to look there. */
void complete_words(FILE *to, int count, char *const *words);

/* The commands themselves; each returns an exit status (exits.h). */
int cmd_run(struct cli *cli);
int cmd_job_list(struct cli *cli);
int cmd_job_show(struct cli *cli);
int cmd_job_logs(struct cli *cli);
int cmd_job_wait(struct cli *cli);
int cmd_job_cancel(struct cli *cli);
int cmd_job_explain(struct cli *cli);
int cmd_job_events(struct cli *cli);
int cmd_ckpt_save(struct cli *cli);
int cmd_ckpt_list(struct cli *cli);
int cmd_ckpt_show(struct cli *cli);
int cmd_ckpt_verify(struct cli *cli);
int cmd_ckpt_drop(struct cli *cli);
int cmd_ckpt_pin(struct cli *cli); /* and hold, which sets for_ms */
int cmd_ckpt_unpin(struct cli *cli);
int cmd_ckpt_gc(struct cli *cli);
int cmd_ckpt_export(struct cli *cli);
int cmd_ckpt_import(struct cli *cli);
int cmd_rollback(struct cli *cli);
int cmd_node_list(struct cli *cli);
int cmd_node_show(struct cli *cli);
int cmd_node_drain(struct cli *cli);
/* drain.c: move every job that runs there. Returns an exit status. */
int drain_now(struct cli *cli, const char *node);
int cmd_node_resume(struct cli *cli);
int cmd_cluster_status(struct cli *cli);
int cmd_cluster_add(struct cli *cli);
int cmd_cluster_promote(struct cli *cli);
int cmd_cluster_update(struct cli *cli);
int cmd_cluster_remove(struct cli *cli);
int cmd_cluster_transfer(struct cli *cli);
int cmd_cluster_backup(struct cli *cli);
int cmd_cluster_restore(struct cli *cli);
int cmd_cluster_recover(struct cli *cli);
int cmd_cluster_revoke(struct cli *cli);
int cmd_cluster_revoked(struct cli *cli);
int cmd_cluster_init(struct cli *cli);
int cmd_cluster_issue(struct cli *cli);
int cmd_store_check(struct cli *cli);
int cmd_token_create(struct cli *cli);
int cmd_token_list(struct cli *cli);
int cmd_token_revoke(struct cli *cli);
int cmd_completion(struct cli *cli);
int cmd_complete(struct cli *cli);
int cmd_help(struct cli *cli);
int cmd_version(struct cli *cli);

#endif
