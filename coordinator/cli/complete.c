/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "coordinator/cli/command.h"

#define WORDS_MAX 64 /* commands or groups at one place */

/* The scripts only ask the program: what it offers comes from the option tables, so nothing can drift. */
static const char bash_script[] =
    "# bash completion for tidemark; load it with: source <(tidemark completion bash)\n"
    "_tidemark()\n"
    "{\n"
    "    local program=${COMP_WORDS[0]} current=${COMP_WORDS[COMP_CWORD]} line word\n"
    "    local words=(\"${COMP_WORDS[@]:1:COMP_CWORD}\")\n"
    "    [ \"$current\" = = ] && current=\n" /* bash splits --option=value into three words */
    "    COMPREPLY=()\n"
    "    while IFS= read -r line; do\n"
    "        word=${line%%$'\\t'*}\n"
    "        case $word in\n"
    "        :files) mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -f -- \"$current\"); compopt -o filenames ;;\n"
    "        :dirs) mapfile -t -O ${#COMPREPLY[@]} COMPREPLY < <(compgen -d -- \"$current\"); compopt -o filenames ;;\n"
    "        \"$current\"*) COMPREPLY+=(\"$word\") ;;\n"
    "        esac\n"
    "    done < <(\"$program\" __complete -- \"${words[@]}\" 2>/dev/null)\n"
    "}\n"
    "complete -F _tidemark tidemark\n";

static const char zsh_script[] =
    "#compdef tidemark\n"
    "# zsh completion for tidemark; load it with: source <(tidemark completion zsh)\n"
    "_tidemark()\n"
    "{\n"
    "    local line word\n"
    "    local -a found\n"
    "    while IFS= read -r line; do\n"
    "        word=${line%%$'\\t'*}\n"
    "        case $word in\n"
    "        :files) _files ;;\n"
    "        :dirs) _files -/ ;;\n"
    "        *) found+=(\"${word//:/\\\\:}:${line#*$'\\t'}\") ;;\n"
    "        esac\n"
    "    done < <(${words[1]} __complete -- \"${(@)words[2,CURRENT]}\" 2>/dev/null)\n"
    "    (( ${#found} )) && _describe tidemark found\n"
    "}\n"
    "if [ \"$funcstack[1]\" = _tidemark ]; then _tidemark \"$@\"; else compdef _tidemark tidemark; fi\n";

static const char fish_script[] =
    "# fish completion for tidemark; load it with: tidemark completion fish | source\n"
    "function __tidemark\n"
    "    set -l words (commandline -opc) (commandline -ct)\n"
    "    for line in ($words[1] __complete -- $words[2..-1] 2>/dev/null)\n"
    "        switch $line\n"
    "            case ':files*'\n"
    "                __fish_complete_path (commandline -ct)\n"
    "            case ':dirs*'\n"
    "                __fish_complete_directories (commandline -ct)\n"
    "            case '*'\n"
    "                echo $line\n"
    "        end\n"
    "    end\n"
    "end\n"
    "complete -c tidemark -f -a '(__tidemark)'\n";

int complete_script(FILE *to, const char *shell)
{
    static const char *const scripts[][2] = {{"bash", bash_script}, {"zsh", zsh_script}, {"fish", fish_script}};
    for (size_t i = 0; i < sizeof scripts / sizeof scripts[0]; i++)
        if (strcmp(scripts[i][0], shell) == 0) {
            fputs(scripts[i][1], to);
            return 0;
        }
    return -1;
}

static void offer(FILE *to, const char *begin, const char *word, const char *what)
{
    if (strncmp(word, begin, strlen(begin)) == 0)
        fprintf(to, "%s\t%s\n", word, what);
}

static void offer_commands(FILE *to, const char *group, const char *begin)
{
    const char *words[WORDS_MAX];
    size_t n = command_words(group, words, WORDS_MAX);
    for (size_t i = 0; i < n; i++) {
        const char *what = "commands";
        for (size_t k = 0; k < command_count; k++)
            if (strcmp(commands[k].name, words[i]) == 0 && (commands[k].group == NULL) == (group == NULL) &&
                (group == NULL || strcmp(commands[k].group, group) == 0))
                what = commands[k].brief;
        offer(to, begin, words[i], what);
    }
}

static void offer_kind(FILE *to, enum completion kind, const char *begin)
{
    static const char *const shells[] = {"bash", "zsh", "fish"};
    switch (kind) {
    case COMPLETE_JOB:
        fputs(":jobs\n", to);
        break;
    case COMPLETE_CKPT:
        fputs(":ckpts\n", to);
        break;
    case COMPLETE_NODE:
        fputs(":nodes\n", to);
        break;
    case COMPLETE_FILE:
        fputs(":files\n", to);
        break;
    case COMPLETE_DIR:
        fputs(":dirs\n", to);
        break;
    case COMPLETE_SHELL:
        for (size_t i = 0; i < sizeof shells / sizeof shells[0]; i++)
            offer(to, begin, shells[i], "shell");
        break;
    case COMPLETE_COMMAND:
        offer_commands(to, NULL, begin);
        break;
    case COMPLETE_NONE:
        break;
    }
}

static void offer_value(FILE *to, const struct option *row, const char *prefix, const char *begin)
{
    char word[128];
    for (size_t i = 0; row->choices != NULL && row->choices[i] != NULL; i++)
        if (strncmp(row->choices[i], begin, strlen(begin)) == 0) {
            snprintf(word, sizeof word, "%s%s", prefix, row->choices[i]);
            fprintf(to, "%s\tvalue\n", word);
        }
    if (row->choices == NULL)
        offer_kind(to, row->complete, begin);
}

static void offer_options(FILE *to, const struct option_set *set, const char *begin)
{
    for (size_t t = 0; t < TABLES_MAX && set->tables[t] != NULL; t++)
        for (size_t i = 0; i < set->tables[t]->count; i++) {
            const struct option *row = &set->tables[t]->rows[i];
            char word[128];
            snprintf(word, sizeof word, "--%s", row->name);
            if (!row->hidden && row->kind != OPTION_REFUSED && row->kind != OPTION_IGNORED)
                offer(to, begin, word, row->help);
        }
}

/* The option that takes the word after `word` as its value, or NULL. */
static const struct option *wants_value(const struct option_set *set, const char *word)
{
    const struct option *row = NULL;
    if (word[0] == '-' && word[1] == '-' && strchr(word, '=') == NULL)
        row = option_named(set, word + 2, strlen(word + 2));
    else if (word[0] == '-' && word[1] != '\0' && word[1] != '-' && word[2] == '\0')
        row = option_lettered(set, word[1]);
    return row != NULL && row->value != NULL ? row : NULL;
}

static void complete_command(FILE *to, const struct command *command, int count, char *const *words)
{
    const char *last = words[count - 1];
    size_t args = 0;
    bool only_args = false;
    for (int i = 0; i < count - 1; i++) {
        if (only_args || words[i][0] != '-') {
            args++;
            only_args = only_args || command->set.stop_at_first;
        } else if (strcmp(words[i], "--") == 0) {
            only_args = true;
        } else if (wants_value(&command->set, words[i]) != NULL) {
            bool split = strcmp(words[i + 1], "=") == 0;
            if (i + 2 + split >= count) {
                offer_value(to, wants_value(&command->set, words[i]), "", strcmp(last, "=") == 0 ? "" : last);
                return;
            }
            i += 1 + split;
        }
    }
    const char *equals = strchr(last, '=');
    if (only_args || last[0] != '-') {
        if (args < command->args_max)
            offer_kind(to, command->complete, last);
    } else if (equals != NULL && last[1] == '-') {
        const struct option *row = option_named(&command->set, last + 2, (size_t)(equals - last) - 2);
        char prefix[96];
        snprintf(prefix, sizeof prefix, "%.*s=", (int)(equals - last), last);
        if (row != NULL)
            offer_value(to, row, prefix, equals + 1);
    } else {
        offer_options(to, &command->set, last);
    }
}

void complete_words(FILE *to, int count, char *const *words)
{
    int taken = 0;
    if (count == 0)
        return;
    /* The word being typed is never yet the command, even if it is spelled like one. */
    const struct command *command = command_find(count - 1, words, &taken);
    if (command != NULL)
        complete_command(to, command, count - taken, words + taken);
    else if (count == 1)
        offer_commands(to, NULL, words[0]);
    else if (count == 2 && taken == 1)
        offer_commands(to, words[0], words[1]);
}
