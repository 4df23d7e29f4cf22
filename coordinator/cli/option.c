/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/option.h"

#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "coordinator/cli/units.h"

#define WORD_MAX 63    /* longer words are not typing errors of ours */
#define OPTIONS_MAX 96 /* of a command, all tables together */

/* ---- looking up ---- */

static bool same_name(const char *name, const char *given, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (name[i] == '\0' || name[i] != (given[i] == '_' ? '-' : given[i]))
            return false;
    return name[bytes] == '\0';
}

#define EACH_OPTION(set, row)                                                                                               \
    for (size_t t_ = 0; t_ < TABLES_MAX && (set)->tables[t_] != NULL; t_++)                                                 \
        for (const struct option *row = (set)->tables[t_]->rows,                                                            \
                                 *end_ = (set)->tables[t_]->rows + (set)->tables[t_]->count;                                \
             row < end_; row++)

const struct option *option_named(const struct option_set *set, const char *name, size_t bytes)
{
    EACH_OPTION(set, row)
    if (same_name(row->name, name, bytes))
        return row;
    return NULL;
}

const struct option *option_lettered(const struct option_set *set, char letter)
{
    EACH_OPTION(set, row)
    if (row->letter == letter)
        return row;
    return NULL;
}

void option_pet_name(const struct option *option, char *to, size_t size)
{
    snprintf(to, size, "PET_%s", option->name);
    for (char *p = to; *p != '\0'; p++)
        *p = *p == '-' ? '_' : (*p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p);
}

/* ---- did you mean ---- */

static unsigned least(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

/* Optimal string alignment: insert, delete, replace, swap of neighbours, each 1. */
static unsigned word_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    unsigned rows[3][WORD_MAX + 1];
    unsigned *two = rows[0], *one = rows[1], *now = rows[2];
    for (unsigned j = 0; j <= m; j++)
        one[j] = j;
    for (unsigned i = 1; i <= n; i++) {
        now[0] = i;
        for (unsigned j = 1; j <= m; j++) {
            unsigned differ = a[i - 1] != b[j - 1];
            now[j] = least(one[j] + 1, now[j - 1] + 1, one[j - 1] + differ);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && two[j - 2] + 1 < now[j])
                now[j] = two[j - 2] + 1;
        }
        unsigned *old = two;
        two = one;
        one = now;
        now = old;
    }
    return one[m];
}

const char *closest_word(const char *word, const char *const *words, size_t count)
{
    size_t n = strlen(word);
    if (n == 0 || n > WORD_MAX)
        return NULL;
    const char *best = NULL;
    unsigned best_distance = (unsigned)(n < 3 ? 1 : n < 6 ? 2 : n / 3 + 1);
    for (size_t i = 0; i < count; i++) {
        if (strlen(words[i]) > WORD_MAX)
            continue;
        unsigned distance = n >= 3 && strncmp(words[i], word, n) == 0 ? 0 : word_distance(word, words[i]);
        if (distance <= best_distance && (best == NULL || distance < best_distance)) {
            best = words[i];
            best_distance = distance;
        }
    }
    return best;
}

static enum tide_status unknown_option(const struct option_set *set, const char *word, size_t bytes, struct err *err)
{
    const char *names[OPTIONS_MAX];
    size_t count = 0;
    EACH_OPTION(set, row)
    if (!row->hidden && count < OPTIONS_MAX)
        names[count++] = row->name;
    char given[WORD_MAX + 1] = "";
    for (size_t i = 2; i < bytes && i - 2 < WORD_MAX; i++)
        given[i - 2] = word[i] == '_' ? '-' : word[i];
    const char *closest = bytes > 2 ? closest_word(given, names, count) : NULL;
    if (closest != NULL)
        return err_set(err, TIDE_E_INVALID, "unknown option %.*s; did you mean --%s?", (int)bytes, word, closest);
    return err_set(err, TIDE_E_INVALID, "unknown option %.*s", (int)bytes, word);
}

/* ---- values ---- */

static enum tide_status choose(const struct option *row, const char *value, unsigned *to, struct err *err)
{
    char all[256] = "";
    for (unsigned i = 0; row->choices[i] != NULL; i++) {
        if (strcmp(value, row->choices[i]) == 0) {
            *to = i;
            return TIDE_OK;
        }
        strncat(all, i ? ", " : "", sizeof all - strlen(all) - 1);
        strncat(all, row->choices[i], sizeof all - strlen(all) - 1);
    }
    return err_set(err, TIDE_E_INVALID, "\"%.40s\" is none of %s", value, all);
}

static enum tide_status set_value(const struct option *row, const char *value, struct options *options,
                                  struct strlist *notes, struct err *err)
{
    char *at = (char *)options + row->offset;
    uint64_t number = 0;
    enum tide_status status;
    switch (row->kind) {
    case OPTION_FLAG:
        *(bool *)(void *)at = true;
        return TIDE_OK;
    case OPTION_TEXT:
        *(const char **)(void *)at = value;
        return TIDE_OK;
    case OPTION_LIST:
        strlist_add((struct strlist *)(void *)at, value);
        return TIDE_OK;
    case OPTION_COUNT:
        status = number_parse(value, row->min, row->max ? row->max : UINT32_MAX, &number, err);
        if (status == TIDE_OK)
            *(uint32_t *)(void *)at = (uint32_t)number;
        return status;
    case OPTION_NUMBER:
        return number_parse(value, row->min, row->max ? row->max : INT64_MAX, (uint64_t *)(void *)at, err);
    case OPTION_DURATION:
        status = duration_parse(value, (uint64_t *)(void *)at, err);
        return status == TIDE_OK && *(uint64_t *)(void *)at < row->min ? err_set(err, TIDE_E_INVALID, "\"%.40s\" is too short", value)
                                                                       : status;
    case OPTION_CHOICE:
        return choose(row, value, (unsigned *)(void *)at, err);
    case OPTION_IGNORED: {
        char *note = mem_format("--%s changes nothing: %s", row->name, row->help);
        strlist_add(notes, note);
        mem_free(note);
        return TIDE_OK;
    }
    case OPTION_REFUSED:
        return err_set(err, TIDE_E_INVALID, "is not supported: %s", row->help);
    }
    return TIDE_E_INVALID;
}

static enum tide_status set_named(const struct option *row, const char *spelled, const char *value, struct options *options,
                                  struct strlist *notes, struct err *err)
{
    enum tide_status status = set_value(row, value, options, notes, err);
    return status == TIDE_OK ? status : err_wrap(err, "%s", spelled);
}

/* ---- the line ---- */

struct line {
    int argc;
    char *const *argv;
    int at;
    bool given[OPTIONS_MAX]; /* by place in the set: the environment does not override the line */
};

static size_t place_of(const struct option_set *set, const struct option *wanted)
{
    size_t place = 0;
    EACH_OPTION(set, row)
    {
        if (row == wanted)
            return place < OPTIONS_MAX ? place : 0;
        place++;
    }
    return 0;
}

/* The value after '=' or glued to a letter, or else the next word. */
static enum tide_status take_value(struct line *line, const struct option *row, const char *glued, const char **ret_value,
                                   struct err *err)
{
    if (glued != NULL) {
        *ret_value = glued;
        return TIDE_OK;
    }
    if (line->at + 1 >= line->argc)
        return err_set(err, TIDE_E_INVALID, "option --%s needs a value: --%s %s", row->name, row->name, row->value);
    *ret_value = line->argv[++line->at];
    return TIDE_OK;
}

static enum tide_status take_long(const struct option_set *set, struct line *line, struct options *options,
                                  struct strlist *notes, struct err *err)
{
    const char *word = line->argv[line->at];
    const char *equals = strchr(word, '=');
    size_t bytes = equals ? (size_t)(equals - word) : strlen(word);
    const struct option *row = option_named(set, word + 2, bytes - 2);
    if (row == NULL)
        return unknown_option(set, word, bytes, err);
    const char *value = NULL;
    if (row->value == NULL && equals != NULL)
        return err_set(err, TIDE_E_INVALID, "option --%s takes no value", row->name);
    if (row->value != NULL) {
        enum tide_status status = take_value(line, row, equals ? equals + 1 : NULL, &value, err);
        if (status != TIDE_OK)
            return status;
    }
    line->given[place_of(set, row)] = true;
    char spelled[WORD_MAX + 3];
    snprintf(spelled, sizeof spelled, "--%s", row->name);
    return set_named(row, spelled, value, options, notes, err);
}

/* "-n4", "-n 4", "-f", "-fo json": letters without a value may be followed by others. */
static enum tide_status take_letters(const struct option_set *set, struct line *line, struct options *options,
                                     struct strlist *notes, struct err *err)
{
    const char *word = line->argv[line->at];
    for (const char *p = word + 1; *p != '\0'; p++) {
        const struct option *row = option_lettered(set, *p);
        if (row == NULL)
            return err_set(err, TIDE_E_INVALID, "unknown option -%c%s%s", *p, p > word + 1 ? " in " : "",
                           p > word + 1 ? word : "");
        line->given[place_of(set, row)] = true;
        char spelled[] = {'-', *p, '\0'};
        const char *value = NULL;
        enum tide_status status = TIDE_OK;
        if (row->value != NULL)
            status = take_value(line, row, p[1] ? p + 1 + (p[1] == '=') : NULL, &value, err);
        if (status == TIDE_OK)
            status = set_named(row, spelled, value, options, notes, err);
        if (status != TIDE_OK || row->value != NULL)
            return status;
    }
    return TIDE_OK;
}

static enum tide_status take_words(const struct option_set *set, struct line *line, struct options *options,
                                   struct strlist *args, struct strlist *notes, struct err *err)
{
    bool only_args = false;
    for (; line->at < line->argc; line->at++) {
        const char *word = line->argv[line->at];
        enum tide_status status = TIDE_OK;
        if (!only_args && strcmp(word, "--") == 0) {
            only_args = true;
        } else if (only_args || word[0] != '-' || word[1] == '\0') {
            strlist_add(args, word);
            only_args = only_args || set->stop_at_first;
        } else if (word[1] == '-') {
            status = take_long(set, line, options, notes, err);
        } else {
            status = take_letters(set, line, options, notes, err);
        }
        if (status != TIDE_OK)
            return status;
    }
    return TIDE_OK;
}

static enum tide_status take_presets(const struct option_set *set, struct options *options, struct err *err)
{
    EACH_OPTION(set, row)
    {
        enum tide_status status = TIDE_OK;
        if (row->preset != NULL && row->kind != OPTION_IGNORED)
            status = set_named(row, row->name, row->preset, options, NULL, err);
        if (status != TIDE_OK)
            return status;
    }
    return TIDE_OK;
}

/* Flags in the environment follow torchrun: 0 and empty mean not given. */
static bool flag_is_off(const struct option *row, const char *value)
{
    return row->value == NULL && (value[0] == '\0' || strcmp(value, "0") == 0);
}

static enum tide_status take_environment(const struct option_set *set, const struct line *line, option_getenv environment,
                                         struct options *options, struct strlist *notes, struct err *err)
{
    EACH_OPTION(set, row)
    {
        if (!row->torch || line->given[place_of(set, row)])
            continue;
        char name[WORD_MAX + 1];
        option_pet_name(row, name, sizeof name);
        const char *value = environment(name);
        if (value == NULL || flag_is_off(row, value))
            continue;
        enum tide_status status = set_named(row, name, value, options, notes, err);
        if (status != TIDE_OK)
            return status;
    }
    return TIDE_OK;
}

enum tide_status options_parse(const struct option_set *set, int argc, char *const *argv, option_getenv environment,
                               struct options *ret_options, struct strlist *ret_args, struct strlist *ret_notes,
                               struct err *err)
{
    struct line line = {.argc = argc, .argv = argv};
    *ret_options = (struct options){0};
    enum tide_status status = take_presets(set, ret_options, err);
    if (status == TIDE_OK)
        status = take_words(set, &line, ret_options, ret_args, ret_notes, err);
    if (status == TIDE_OK && environment != NULL)
        status = take_environment(set, &line, environment, ret_options, ret_notes, err);
    return status;
}

void options_release(struct options *options)
{
    strlist_release(&options->env);
}
