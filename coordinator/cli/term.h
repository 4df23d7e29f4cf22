/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_TERM_H
#define COORDINATOR_CLI_TERM_H

/* What the terminal gets: tables, progress, messages. Nothing here is meant for programs; they take -o json. */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "ckpt/base/err.h"
#include "ckpt/base/strlist.h"

enum tint { TINT_NONE, TINT_BOLD, TINT_DIM, TINT_GREEN, TINT_YELLOW, TINT_RED };

/* Colours and progress follow the terminal and NO_COLOR; call it once. */
void term_init(void);
bool term_progress_wanted(void);
/* Escape sequences for stdout, or "" where there are no colours. */
const char *tint_on(enum tint tint);
const char *tint_off(void);
/* What colour a state ("running", "lost", …) has. */
enum tint tint_of_state(const char *state);

/* One line on a terminal's stderr that the next one replaces; nothing on a pipe. */
void progress_show(const char *format, ...) PRINTF_LIKE(1, 2);
void progress_clear(void);

/* "tidemark: …" and "hint: …" on stderr. */
void say_error(const char *format, ...) PRINTF_LIKE(1, 2);
void say_hint(const char *format, ...) PRINTF_LIKE(1, 2);
void say_note(const char *format, ...) PRINTF_LIKE(1, 2);

/* A table whose columns are as wide as their longest cell, two blanks apart; the last one is cut at the terminal's edge. */
#define COLUMNS_MAX 16

struct column {
    const char *heading;
    bool right; /* numbers */
};

struct table {
    struct column columns[COLUMNS_MAX];
    size_t column_count;
    struct strlist cells;
    unsigned char *tints; /* one per cell */
};

void table_column(struct table *table, const char *heading, bool right);
void table_cell(struct table *table, enum tint tint, const char *format, ...) PRINTF_LIKE(3, 4);
/* With a heading unless there are no rows; releases the table. `columns`: width of the terminal, 0: no limit. */
void table_print(struct table *table, FILE *to, size_t columns);
/* Width of stdout if it is a terminal, else 0. */
size_t term_columns(void);

/* "  state       running" lines under each other. */
void field_print(const char *name, enum tint tint, const char *format, ...) PRINTF_LIKE(3, 4);

#endif
