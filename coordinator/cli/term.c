/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/term.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"

#define FIELD_WIDTH 13
#define GAP "  "

static bool colour, progress_wanted, progress_there;

void term_init(void)
{
    const char *no = getenv("NO_COLOR");
    const char *kind = getenv("TERM");
    bool plain = (no != NULL && no[0] != '\0') || (kind != NULL && strcmp(kind, "dumb") == 0);
    colour = !plain && isatty(STDOUT_FILENO);
    progress_wanted = isatty(STDERR_FILENO) && !(kind != NULL && strcmp(kind, "dumb") == 0);
}

bool term_progress_wanted(void)
{
    return progress_wanted;
}

const char *tint_on(enum tint tint)
{
    static const char *const codes[] = {"", "\033[1m", "\033[2m", "\033[32m", "\033[33m", "\033[31m"};
    return colour ? codes[tint] : "";
}

const char *tint_off(void)
{
    return colour ? "\033[0m" : "";
}

enum tint tint_of_state(const char *state)
{
    static const struct {
        const char *state;
        enum tint tint;
    } tints[] = {{"running", TINT_GREEN},   {"succeeded", TINT_GREEN}, {"committed", TINT_GREEN},
                 {"ready", TINT_GREEN},     {"finished", TINT_GREEN},  {"restarting", TINT_YELLOW},
                 {"stopping", TINT_YELLOW}, {"pending", TINT_YELLOW},  {"sealed", TINT_YELLOW},
                 {"peered", TINT_YELLOW},
                 {"open", TINT_YELLOW},     {"starting", TINT_YELLOW}, {"restoring", TINT_YELLOW},
                 {"drained", TINT_YELLOW},  {"draining", TINT_YELLOW}, {"failed", TINT_RED},
                 {"lost", TINT_RED},        {"corrupt", TINT_RED},     {"aborted", TINT_RED},
                 {"exited", TINT_RED},      {"cancelled", TINT_DIM},   {"dropped", TINT_DIM},
                 {"condemned", TINT_DIM}};
    for (size_t i = 0; i < sizeof tints / sizeof tints[0]; i++)
        if (strcmp(tints[i].state, state) == 0)
            return tints[i].tint;
    return TINT_NONE;
}

/* ---- stderr ---- */

void progress_show(const char *format, ...)
{
    if (!progress_wanted)
        return;
    char text[256];
    va_list args;
    va_start(args, format);
    text_say_list(text, sizeof text, format, args);
    va_end(args);
    struct winsize size;
    size_t width = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1u : 79u;
    fprintf(stderr, "\r\033[K%.*s", (int)width, text);
    fflush(stderr);
    progress_there = true;
}

void progress_clear(void)
{
    if (!progress_there)
        return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    progress_there = false;
}

static void say(const char *before, const char *format, va_list args)
{
    /* Keep the order of what was printed where stdout and stderr are the same. */
    fflush(stdout);
    progress_clear();
    fputs(before, stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

void say_error(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("tidemark: ", format, args);
    va_end(args);
}

void say_hint(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("hint: ", format, args);
    va_end(args);
}

void say_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say("note: ", format, args);
    va_end(args);
}

/* ---- tables ---- */

void table_column(struct table *table, const char *heading, bool right)
{
    if (table->column_count < COLUMNS_MAX)
        table->columns[table->column_count++] = (struct column){heading, right};
}

void table_cell(struct table *table, enum tint tint, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    text_say_list(text, sizeof text, format, args);
    va_end(args);
    /* Text of ranks and people may hold anything; a table row is one line. */
    for (char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            *p = ' ';
    table->tints = mem_grow(table->tints, table->cells.count + 1, 1);
    table->tints[table->cells.count] = (unsigned char)tint;
    strlist_add(&table->cells, text[0] ? text : "-");
}

/* Characters, not bytes: continuation bytes of UTF-8 take no room. */
static size_t text_width(const char *text)
{
    size_t n = 0;
    for (; *text != '\0'; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

/* Bytes of the first `width` characters. */
static size_t text_head(const char *text, size_t width)
{
    size_t at = 0;
    while (text[at] != '\0' && (width > 0 || ((unsigned char)text[at] & 0xc0) == 0x80)) {
        width -= ((unsigned char)text[at] & 0xc0) != 0x80;
        at++;
    }
    return at;
}

static void print_cell(FILE *to, const struct column *column, const char *text, enum tint tint, size_t width, size_t room,
                       bool last)
{
    size_t has = text_width(text), pad = width > has ? width - has : 0;
    if (column->right)
        fprintf(to, "%*s", (int)pad, "");
    if (last && room > 0 && has > room)
        fprintf(to, "%s%.*s…%s", tint_on(tint), (int)text_head(text, room - 1), text, tint_off());
    else
        fprintf(to, "%s%s%s", tint_on(tint), text, tint != TINT_NONE ? tint_off() : "");
    if (!last)
        fprintf(to, "%*s%s", column->right ? 0 : (int)pad, "", GAP);
}

void table_print(struct table *table, FILE *to, size_t columns)
{
    size_t n = table->column_count, widths[COLUMNS_MAX] = {0}, before = 0;
    for (size_t c = 0; c < n; c++)
        widths[c] = text_width(table->columns[c].heading);
    for (size_t i = 0; i < table->cells.count; i++) {
        size_t w = text_width(table->cells.items[i]);
        widths[i % n] = w > widths[i % n] ? w : widths[i % n];
    }
    for (size_t c = 0; c + 1 < n; c++)
        before += widths[c] + strlen(GAP);
    size_t room = columns > before + 8 ? columns - before : 0;
    for (size_t c = 0; table->cells.count > 0 && c < n; c++)
        print_cell(to, &table->columns[c], table->columns[c].heading, TINT_BOLD, widths[c], room, c + 1 == n);
    if (table->cells.count > 0)
        fputc('\n', to);
    for (size_t i = 0; i < table->cells.count; i++) {
        print_cell(to, &table->columns[i % n], table->cells.items[i], (enum tint)table->tints[i], widths[i % n], room,
                   i % n + 1 == n);
        if (i % n + 1 == n)
            fputc('\n', to);
    }
    strlist_release(&table->cells);
    mem_free(table->tints);
    *table = (struct table){0};
}

size_t term_columns(void)
{
    struct winsize size;
    if (!isatty(STDOUT_FILENO) || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
        return 0;
    return size.ws_col;
}

void field_print(const char *name, enum tint tint, const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    text_say_list(text, sizeof text, format, args);
    va_end(args);
    printf("%-*s %s%s%s\n", FIELD_WIDTH, name, tint_on(tint), text, tint != TINT_NONE ? tint_off() : "");
}
