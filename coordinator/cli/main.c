/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "coordinator/cli/creds.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/tables.h"

#define WORDS_MAX 64

/* "tidemark logs j": the group is what others do without. NULL: no group has such a command. */
static const struct command *without_group(const char *name)
{
    for (size_t i = 0; i < command_count; i++)
        if (commands[i].group != NULL && strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static int unknown_command(int argc, char **argv, int taken)
{
    if (taken == argc) {
        help_group(stderr, argv[0]);
        return EXIT_CODE_USAGE;
    }
    const struct command *meant = taken == 0 ? without_group(argv[0]) : NULL;
    char title[96];
    if (meant != NULL) {
        say_error("unknown command \"%.40s\"; did you mean %s?", argv[0], command_title(meant, title, sizeof title));
        say_hint("tidemark help lists the commands");
        return EXIT_CODE_USAGE;
    }
    const char *words[WORDS_MAX];
    size_t n = command_words(taken ? argv[0] : NULL, words, WORDS_MAX);
    const char *closest = closest_word(argv[taken], words, n);
    const char *group = taken ? argv[0] : "";
    say_error("unknown command \"%s%s%.40s\"%s%s%s%s%s", group, taken ? " " : "", argv[taken],
              closest ? "; did you mean " : "", closest ? group : "", closest && taken ? " " : "", closest ? closest : "",
              closest ? "?" : "");
    say_hint("tidemark help%s%s lists the commands", taken ? " " : "", group);
    return EXIT_CODE_USAGE;
}

static int usage(const struct command *command, const char *text)
{
    char title[96];
    say_error("%s", text);
    say_hint("%s --help tells all options", command_title(command, title, sizeof title));
    return EXIT_CODE_USAGE;
}

static int check_args(const struct cli *cli)
{
    const struct command *c = cli->command;
    char title[96], text[256];
    if (cli->args.count < c->args_min)
        text_say(text, sizeof text, "%s needs %s", command_title(c, title, sizeof title), c->args);
    else if (cli->args.count > c->args_max)
        text_say(text, sizeof text, "%s: one word too many: \"%s\"", command_title(c, title, sizeof title),
                 cli->args.items[c->args_max]);
    else
        return EXIT_CODE_OK;
    return usage(c, text);
}

static const char *environment(const char *name)
{
    return getenv(name);
}

static int run(struct cli *cli)
{
    const struct options *o = &cli->options;
    struct creds creds = {0};
    struct fault fault = {0};
    if (!cli->command->local && !o->standalone) {
        cli->creds = &creds;
        if (creds_load(o, environment, &creds, &fault) != TIDE_OK)
            return fault_report(&fault);
        if (client_create(creds.urls, &creds.http, o->timeout_ms, &cli->client, &fault) != TIDE_OK) {
            creds_release(&creds);
            return fault_report(&fault);
        }
    }
    int code = cli->command->run(cli);
    client_free(cli->client);
    creds_release(&creds);
    return code;
}

static int dispatch(int argc, char **argv, const struct command *command)
{
    struct cli cli = {.command = command};
    struct strlist notes = {0};
    struct err err = {0};
    int code;
    if (options_parse(&command->set, argc, argv, environment, &cli.options, &cli.args, &notes, &err) != TIDE_OK) {
        code = usage(command, err.text);
    } else if (cli.options.help) {
        help_command(stdout, command);
        code = EXIT_CODE_OK;
    } else {
        for (size_t i = 0; i < notes.count; i++)
            say_note("%s", notes.items[i]);
        code = check_args(&cli);
        if (code == EXIT_CODE_OK)
            code = run(&cli);
    }
    strlist_release(&notes);
    strlist_release(&cli.args);
    options_release(&cli.options);
    return code;
}

/* How many words before the command are options that every command knows, with their values. */
static int leading_options(int argc, char **argv)
{
    const struct option_set common = {.tables = {&common_table}};
    int i = 0;
    while (i < argc && strncmp(argv[i], "--", 2) == 0 && argv[i][2] != '\0') {
        size_t n = strcspn(argv[i], "=");
        const struct option *row = option_named(&common, argv[i] + 2, n - 2);
        if (row == NULL)
            break;
        i += 1 + (row->value != NULL && argv[i][n] == '\0');
    }
    return i < argc ? i : argc;
}

static int start(int argc, char **argv)
{
    if (argc == 0) {
        help_overview(stderr);
        return EXIT_CODE_USAGE;
    }
    if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "-h") == 0) {
        help_overview(stdout);
        return EXIT_CODE_OK;
    }
    if (strcmp(argv[0], "--version") == 0)
        return cmd_version(NULL);
    int taken, before = leading_options(argc, argv);
    const struct command *command = command_find(argc - before, argv + before, &taken);
    if (command != NULL) {
        /* "tidemark --timeout 5s job list": what stands before the command is moved behind it. */
        char **words = mem_array((size_t)argc + 1, sizeof *words);
        memcpy(words, argv, (size_t)before * sizeof *words);
        memcpy(words + before, argv + before + taken, (size_t)(argc - before - taken) * sizeof *words);
        int code = dispatch(argc - taken, words, command);
        mem_free(words);
        return code;
    }
    argc -= before;
    argv += before;
    if (argc == 0) {
        help_overview(stderr);
        return EXIT_CODE_USAGE;
    }
    if (taken == 1 && argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        help_group(stdout, argv[0]);
        return EXIT_CODE_OK;
    }
    return unknown_command(argc, argv, taken);
}

/* Is all that was printed where it should go? Of a pipe that was closed on purpose (`| head`) only the status tells. */
static bool output_whole(void)
{
    struct err err = {0};
    struct stat info;
    if (fflush(stdout) != 0)
        err_errno(&err, "what this command printed could not be written to stdout");
    else if (ferror(stdout)) /* an earlier part of it; nobody knows any more why */
        err_set(&err, TIDE_E_IO, "a part of what this command printed could not be written to stdout");
    if (err.status != TIDE_OK && (fstat(STDOUT_FILENO, &info) != 0 || !S_ISFIFO(info.st_mode)))
        say_error("%s", err.text);
    return err.status == TIDE_OK;
}

int main(int argc, char **argv)
{
    /* A reader that goes away (`| head`) is told to us by a failed write, below. */
    signal(SIGPIPE, SIG_IGN);
    log_init("tidemark", LOG_WARN);
    term_init();
    int code = start(argc - 1, argv + 1);
    progress_clear();
    return output_whole() || code != EXIT_CODE_OK ? code : EXIT_CODE_ERROR;
}
