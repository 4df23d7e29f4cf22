/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <tidemark/version.h>

#include "coordinator/cli/command.h"
#include "coordinator/cli/exits.h"

#define HELP_COLUMNS 96
#define HELP_INDENT 30 /* where the text of an option begins */
#define TITLE_MAX 96

/* Words of `text` from column `indent` on, no wider than HELP_COLUMNS; `at` is the column the cursor is in. */
static void wrap(FILE *to, const char *text, size_t indent, size_t at)
{
    bool fresh = true;
    while (*text != '\0') {
        size_t n = strcspn(text, " \n");
        if (text[n] == '\n' && n == 0) {
            fprintf(to, "\n%*s", (int)indent, "");
            at = indent;
            fresh = true;
            text++;
            continue;
        }
        if (!fresh && at + 1 + n > HELP_COLUMNS) {
            fprintf(to, "\n%*s", (int)indent, "");
            at = indent;
            fresh = true;
        }
        at += (size_t)fprintf(to, "%s%.*s", fresh ? "" : " ", (int)n, text);
        fresh = false;
        text += n + (text[n] == ' ');
    }
    fputc('\n', to);
}

const char *option_spelling(const struct option *row, char *to, size_t size)
{
    int n = row->letter ? snprintf(to, size, "-%c, ", row->letter) : snprintf(to, size, "    ");
    snprintf(to + n, size - (size_t)n, "--%s%s%s", row->name, row->value ? " " : "", row->value ? row->value : "");
    return to;
}

static void help_option(FILE *to, const struct option *row)
{
    char spelling[TITLE_MAX], text[512];
    size_t at = (size_t)fprintf(to, "  %s", option_spelling(row, spelling, sizeof spelling));
    snprintf(text, sizeof text, "%s%s%s%s", row->help, row->preset ? " (default: " : "", row->preset ? row->preset : "",
             row->preset ? ")" : "");
    if (at + 2 > HELP_INDENT)
        fprintf(to, "\n%*s", HELP_INDENT, "");
    else
        fprintf(to, "%*s", (int)(HELP_INDENT - at), "");
    wrap(to, text, HELP_INDENT, HELP_INDENT);
}

static void help_table(FILE *to, const struct option_table *table)
{
    bool any = false;
    for (size_t i = 0; i < table->count; i++) {
        /* What is refused is said when somebody tries it. */
        if (table->rows[i].hidden || table->rows[i].kind == OPTION_REFUSED)
            continue;
        if (!any)
            fprintf(to, "\n%s:\n", table->title);
        any = true;
        help_option(to, &table->rows[i]);
    }
}

void help_command(FILE *to, const struct command *command)
{
    char title[TITLE_MAX];
    fprintf(to, "%s - %s\n\nUsage: %s [OPTION...]%s%s\n", command_title(command, title, sizeof title), command->brief, title,
            command->args ? " " : "", command->args ? command->args : "");
    if (command->details != NULL) {
        fputc('\n', to);
        wrap(to, command->details, 0, 0);
    }
    for (size_t i = 0; i < TABLES_MAX && command->set.tables[i] != NULL; i++)
        help_table(to, command->set.tables[i]);
}

static void help_line(FILE *to, const struct command *c)
{
    char words[TITLE_MAX];
    snprintf(words, sizeof words, "%s%s%s", c->group ? c->group : "", c->group ? " " : "", c->name);
    fprintf(to, "  %-17s %s\n", words, c->brief);
}

void help_group(FILE *to, const char *group)
{
    fprintf(to, "Usage: tidemark %s COMMAND [OPTION...]\n\nCommands:\n", group);
    for (size_t i = 0; i < command_count; i++)
        if (commands[i].group != NULL && strcmp(commands[i].group, group) == 0)
            help_line(to, &commands[i]);
    fprintf(to, "\n`tidemark help %s COMMAND` tells more.\n", group);
}

void help_overview(FILE *to)
{
    fputs("tidemark - run training jobs that survive the loss of ranks and hosts\n\n"
          "Usage: tidemark COMMAND [OPTION...]\n\nCommands:\n",
          to);
    for (size_t i = 0; i < command_count; i++)
        if (!commands[i].hidden)
            help_line(to, &commands[i]);
    fputs("\nExit status:\n", to);
    for (const struct exit_row *row = exit_rows; row->meaning != NULL; row++) {
        fprintf(to, "  %-4d ", row->number);
        wrap(to, row->meaning, 7, 7);
    }
    fputs("  A command that waits for a job ends with the job's own exit status if it failed.\n\n"
          "`tidemark help COMMAND` tells more. Try: tidemark run --standalone -n 4 -- PROGRAM\n",
          to);
}
