/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/lin/history.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/mem.h"

static const char *const kind_names[LIN_KINDS] = {"read", "write", "create", "delete", "cas"};

/* An operation that has not returned yet, or never will. */
struct pending {
    int64_t process;
    size_t key, op;
    bool unknown; /* its process has given it up and says nothing more */
};

struct reader {
    struct history *history;
    struct pending *pending;
    size_t pending_count;
    json_t *key_index; /* name -> number */
    size_t line;
    struct err *err;
};

#define BAD(...) line_bad(reader, __VA_ARGS__)

static enum tide_status line_bad(struct reader *reader, const char *format, ...) PRINTF_LIKE(2, 3);
static enum tide_status line_bad(struct reader *reader, const char *format, ...)
{
    char text[ERR_TEXT_MAX / 2];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return err_set(reader->err, TIDE_E_INVALID, "line %zu: %s", reader->line, text);
}

static struct history_key *key_named(struct reader *reader, const char *name, size_t *ret_index)
{
    struct history *history = reader->history;
    json_t *known = json_object_get(reader->key_index, name);
    *ret_index = known != NULL ? (size_t)json_integer_value(known) : history->key_count;
    if (known == NULL) {
        json_object_set_new(reader->key_index, name, json_integer((json_int_t)history->key_count));
        history->keys = mem_grow(history->keys, history->key_count + 1, sizeof *history->keys);
        history->keys[history->key_count++] = (struct history_key){.name = mem_strdup(name)};
    }
    return &history->keys[*ret_index];
}

/* null and absence are LIN_NOTHING. */
static uint32_t value_number(struct history_key *key, const json_t *value)
{
    const char *text = json_string_value(value);
    if (text == NULL)
        return LIN_NOTHING;
    for (size_t i = key->values.count; i-- > 0;) /* mostly a new one */
        if (strcmp(key->values.items[i], text) == 0)
            return (uint32_t)i + 1;
    strlist_add(&key->values, text);
    return (uint32_t)key->values.count;
}

static struct pending *pending_of(struct reader *reader, int64_t process)
{
    for (size_t i = reader->pending_count; i-- > 0;)
        if (reader->pending[i].process == process)
            return &reader->pending[i];
    return NULL;
}

/* The last operation of the key takes its place; whoever waits for that one has to know. */
static void take_back(struct reader *reader, const struct pending *which)
{
    struct history_key *key = &reader->history->keys[which->key];
    size_t last = --key->count;
    for (size_t i = 0; i < reader->pending_count; i++)
        if (reader->pending[i].key == which->key && reader->pending[i].op == last)
            reader->pending[i].op = which->op;
    key->ops[which->op] = key->ops[last];
}

static enum tide_status take_invoke(struct reader *reader, json_t *line, int64_t process, uint64_t at_ns)
{
    const char *name = json_string_value(json_object_get(line, "key")), *op = json_string_value(json_object_get(line, "op"));
    struct lin_op added = {.invoke_ns = at_ns, .return_ns = LIN_NEVER, .process = process, .line = reader->line};
    struct pending *before = pending_of(reader, process);
    if (name == NULL || op == NULL)
        return BAD("an invocation needs \"key\" and \"op\"");
    if (before != NULL)
        return BAD("process %" PRId64 " invokes again before it returned%s", process,
                   before->unknown ? "; after an unknown outcome a process needs another number" : "");
    while (added.kind < LIN_KINDS && strcmp(kind_names[added.kind], op) != 0)
        added.kind++;
    if (added.kind == LIN_KINDS)
        return BAD("\"op\" is \"%s\"; known are read, write, create, delete, cas", op);
    size_t index;
    struct history_key *key = key_named(reader, name, &index);
    added.value = value_number(key, json_object_get(line, "value"));
    added.expect = value_number(key, json_object_get(line, "expect"));
    if (added.kind == LIN_CREATE && added.value == LIN_NOTHING)
        return BAD("create needs \"value\"");
    reader->pending = mem_grow(reader->pending, reader->pending_count + 1, sizeof *reader->pending);
    reader->pending[reader->pending_count++] = (struct pending){.process = process, .key = index, .op = key->count};
    key->ops = mem_grow(key->ops, key->count + 1, sizeof *key->ops);
    key->ops[key->count++] = added;
    return TIDE_OK;
}

static enum tide_status take_end(struct reader *reader, json_t *line, const char *type, int64_t process, uint64_t at_ns)
{
    struct pending *pending = pending_of(reader, process);
    if (pending == NULL || pending->unknown)
        return BAD("process %" PRId64 " returns from nothing", process);
    struct history_key *key = &reader->history->keys[pending->key];
    struct lin_op *op = &key->ops[pending->op];
    if (at_ns < op->invoke_ns)
        return BAD("process %" PRId64 " returns before it invoked", process);
    if (strcmp(type, "unknown") == 0) {
        pending->unknown = true;
        return TIDE_OK;
    }
    if (strcmp(type, "fail") == 0) {
        take_back(reader, pending);
    } else {
        const char *result = json_string_value(json_object_get(line, "result"));
        if (result == NULL || (strcmp(result, "ok") != 0 && strcmp(result, "no") != 0))
            return BAD("\"result\" must be \"ok\" or \"no\"");
        op->ok = strcmp(result, "ok") == 0;
        if (!op->ok && (op->kind == LIN_READ || op->kind == LIN_WRITE))
            return BAD("\"no\" is no result of %s", kind_names[op->kind]);
        op->return_ns = at_ns;
        if (op->kind == LIN_READ)
            op->value = value_number(key, json_object_get(line, "value"));
    }
    *pending = reader->pending[--reader->pending_count];
    return TIDE_OK;
}

static void take_note(struct reader *reader, json_t *line, uint64_t at_ns)
{
    struct history *history = reader->history;
    const char *text = json_string_value(json_object_get(line, "text"));
    history->notes = mem_grow(history->notes, history->note_count + 1, sizeof *history->notes);
    history->notes[history->note_count++] = (struct history_note){at_ns, mem_strdup(text ? text : "")};
}

static enum tide_status take_line(struct reader *reader, const char *text, size_t bytes)
{
    json_error_t where;
    json_t *line = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &where);
    if (line == NULL)
        return BAD("no JSON: %s", where.text);
    const char *type = json_string_value(json_object_get(line, "type"));
    json_t *process = json_object_get(line, "process"), *time = json_object_get(line, "time");
    enum tide_status status = TIDE_OK;
    uint64_t at_ns = (uint64_t)json_integer_value(time);
    if (type == NULL || !json_is_integer(time) || json_integer_value(time) < 0)
        status = BAD("\"type\" and \"time\" are needed");
    else if (strcmp(type, "note") == 0)
        take_note(reader, line, at_ns);
    else if (!json_is_integer(process))
        status = BAD("\"process\" is needed");
    else if (strcmp(type, "invoke") == 0)
        status = take_invoke(reader, line, json_integer_value(process), at_ns);
    else if (strcmp(type, "return") == 0 || strcmp(type, "fail") == 0 || strcmp(type, "unknown") == 0)
        status = take_end(reader, line, type, json_integer_value(process), at_ns);
    else
        status = BAD("\"type\" is \"%.40s\"; known are invoke, return, fail, unknown, note", type);
    json_decref(line);
    return status;
}

/* A read whose answer nobody got says nothing. */
static void count(struct history *history)
{
    for (size_t i = 0; i < history->key_count; i++) {
        struct history_key *key = &history->keys[i];
        size_t kept = 0;
        for (size_t j = 0; j < key->count; j++) {
            bool open = key->ops[j].return_ns == LIN_NEVER;
            if (open && key->ops[j].kind == LIN_READ)
                continue;
            history->unknown += open;
            key->ops[kept++] = key->ops[j];
        }
        key->count = kept;
        history->operations += kept;
    }
}

enum tide_status history_read(FILE *file, struct history *ret_history, struct err *err)
{
    struct history history = {0};
    struct reader reader = {.history = &history, .key_index = json_object(), .err = err};
    enum tide_status status = TIDE_OK;
    char *text = NULL;
    size_t room = 0;
    ssize_t bytes;
    while (status == TIDE_OK && (bytes = getline(&text, &room, file)) >= 0) {
        reader.line++;
        if ((size_t)bytes > HISTORY_LINE_MAX)
            status = line_bad(&reader, "longer than %u bytes", HISTORY_LINE_MAX);
        else if (bytes > 1)
            status = take_line(&reader, text, (size_t)bytes);
    }
    if (status == TIDE_OK && ferror(file))
        status = err_errno(err, "the history cannot be read");
    free(text); /* getline's */
    mem_free(reader.pending);
    json_decref(reader.key_index);
    if (status != TIDE_OK) {
        history_release(&history);
        return status;
    }
    count(&history);
    *ret_history = history;
    return TIDE_OK;
}

void history_release(struct history *history)
{
    for (size_t i = 0; i < history->key_count; i++) {
        mem_free(history->keys[i].name);
        mem_free(history->keys[i].ops);
        strlist_release(&history->keys[i].values);
    }
    for (size_t i = 0; i < history->note_count; i++)
        mem_free(history->notes[i].text);
    mem_free(history->keys);
    mem_free(history->notes);
    *history = (struct history){0};
}

static const char *value_name(const struct history_key *key, uint32_t value)
{
    return value == LIN_NOTHING ? "nothing" : key->values.items[value - 1];
}

void history_words(const struct history_key *key, const struct lin_op *op, char *to, size_t size)
{
    const char *result = op->return_ns == LIN_NEVER ? "nobody knows" : op->ok ? "ok" : "no";
    const char *value = value_name(key, op->value);
    if (op->kind == LIN_READ)
        snprintf(to, size, "read -> %s", value);
    else if (op->kind == LIN_CAS)
        snprintf(to, size, "cas %s to %s -> %s", value_name(key, op->expect), value, result);
    else if (op->kind == LIN_DELETE)
        snprintf(to, size, "delete -> %s", result);
    else
        snprintf(to, size, "%s %s -> %s", kind_names[op->kind], value, result);
}
