/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <tidemark/version.h>

#include "coordinator/cli/command.h"
#include "coordinator/cli/exits.h"

/* roff gives a meaning to '\', to '-' (a hyphen) and to a line that begins with '.' or '\''. */
static void roff(FILE *to, const char *text)
{
    bool first = true;
    for (; *text != '\0'; text++) {
        if (first && (*text == '.' || *text == '\''))
            fputs("\\&", to);
        if (*text == '\\')
            fputs("\\e", to);
        else if (*text == '-')
            fputs("\\-", to);
        else if (*text == '\n')
            fputs("\n.PP\n", to);
        else
            fputc(*text, to);
        first = *text == '\n';
    }
}

static void line(FILE *to, const char *macro, const char *text)
{
    fputs(macro, to);
    roff(to, text);
    fputc('\n', to);
}

static void man_option(FILE *to, const struct option *row)
{
    char spelling[128];
    fputs(".TP\n", to);
    option_spelling(row, spelling, sizeof spelling);
    line(to, ".B ", spelling + strspn(spelling, " "));
    if (row->kind == OPTION_REFUSED)
        fputs("Not supported: ", to);
    roff(to, row->help);
    fputs(".\n", to);
    if (row->preset != NULL) {
        fputs("Default: ", to);
        roff(to, row->preset);
        fputs(".\n", to);
    }
}

static void man_table(FILE *to, const struct option_table *table)
{
    for (size_t i = 0; i < table->count; i++)
        if (!table->rows[i].hidden)
            man_option(to, &table->rows[i]);
}

static void man_command(FILE *to, const struct command *c)
{
    char title[96];
    fputs(".SS \"", to);
    roff(to, command_title(c, title, sizeof title));
    if (c->args != NULL) {
        fputc(' ', to);
        roff(to, c->args);
    }
    fputs("\"\n", to);
    roff(to, c->brief);
    fputs(".\n", to);
    if (c->details != NULL)
        line(to, ".PP\n", c->details);
    /* The last table is that of every command, which has a section of its own. */
    for (size_t i = 0; i < TABLES_MAX && c->set.tables[i] != NULL; i++)
        if (strcmp(c->set.tables[i]->title, "Every command") != 0)
            man_table(to, c->set.tables[i]);
}

static void man_common(FILE *to)
{
    fputs(".SH OPTIONS\nThese are known to every command.\n", to);
    for (size_t i = 0; i < command_count; i++)
        for (size_t t = 0; t < TABLES_MAX && commands[i].set.tables[t] != NULL; t++)
            if (strcmp(commands[i].set.tables[t]->title, "Every command") == 0) {
                man_table(to, commands[i].set.tables[t]);
                return;
            }
}

static void man_exits(FILE *to)
{
    fputs(
        ".SH EXIT STATUS\nA command that waits for a job ends with the job's own exit status if the job failed: that of the "
        "first rank that\nfailed, or 128+N if it was killed by signal N.\n",
        to);
    for (const struct exit_row *row = exit_rows; row->meaning != NULL; row++) {
        fprintf(to, ".TP\n.B %d\n", row->number);
        roff(to, row->meaning);
        fputs(".\n", to);
    }
}

static void man_environment(FILE *to)
{
    static const char *const rows[][2] = {
        {"TIDEMARK_COORDINATOR", "Coordinators to ask, when --coordinator is not given."},
        {"TIDEMARK_IDENTITY", "The identity directory, when --identity is not given."},
        {"TIDEMARK_TOKEN", "The secret of a token, which then stands before the certificate."},
        {"TIDEMARK_CACERT", "The CA of the coordinators, when --cacert is not given."},
        {"PET_<FLAG>", "Stands for a flag of torchrun in tidemark run, as with torchrun: PET_NPROC_PER_NODE=4."},
        {"PYTHON_EXEC", "The interpreter of scripts and modules; python3 if not set."},
        {"XDG_STATE_HOME",
         "Holds tidemark/store and tidemark/standalone of --standalone, and which recoveries of clusters were met; "
         "~/.local/state if not set."},
        {"NO_COLOR", "No colours, if set and not empty. There are none on a pipe either."},
    };
    fputs(".SH ENVIRONMENT\n", to);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fputs(".TP\n", to);
        line(to, ".B ", rows[i][0]);
        line(to, "", rows[i][1]);
    }
}

static void man_examples(FILE *to)
{
    static const char *const rows[][2] = {
        {"Train with four ranks on this machine, with a checkpoint every ten seconds:",
         "tidemark run --standalone -n 4 --ckpt-every 10s -- ./train"},
        {"Submit to a cluster of four nodes and a spare, then watch:",
         "tidemark run --name mnist --nnodes 4 --spares 1 -n 8 --ckpt-every 2m -- ./train\ntidemark job logs -f mnist"},
        {"Why does it not run?", "tidemark job explain mnist"},
        {"Go back a thousand steps:", "tidemark rollback mnist --steps 1000"},
    };
    fputs(".SH EXAMPLES\n", to);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        line(to, "", rows[i][0]);
        fputs(".PP\n.RS 4\n.nf\n", to);
        for (const char *p = rows[i][1]; *p != '\0'; p++)
            fputs(*p == '-' ? "\\-" : (char[]){*p, '\0'}, to);
        fputs("\n.fi\n.RE\n.PP\n", to);
    }
}

void man_page(FILE *to)
{
    fprintf(
        to,
        ".\\\" Generated by `tidemark help \\-\\-man` from the option tables.\n"
        ".TH TIDEMARK 1 \"\" \"tidemark %s\" \"User Commands\"\n"
        ".SH NAME\ntidemark \\- run training jobs that survive the loss of ranks and hosts\n"
        ".SH SYNOPSIS\n.B tidemark\n.I COMMAND\n[\\fIOPTION\\fR...]\n"
        ".SH DESCRIPTION\n"
        "A job is a program run as ranks on the nodes of a cluster. Its state is saved in consistent checkpoints while it\n"
        "trains; when a rank or a node is lost, a new generation of the job starts from the newest valid one.\n",
        TIDE_VERSION_STRING);
    man_common(to);
    fputs(".SH COMMANDS\n", to);
    for (size_t i = 0; i < command_count; i++)
        if (!commands[i].hidden)
            man_command(to, &commands[i]);
    man_exits(to);
    man_environment(to);
    man_examples(to);
}
