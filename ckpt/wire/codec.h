/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_WIRE_CODEC_H
#define CKPT_WIRE_CODEC_H

/* Structs to JSON and back by table. A noun is a struct and a table of its fields; encode, decode, copy and release are
 * written once, here, and so is the policy for what does not fit. Pure: jansson and memory only. */

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ckpt/base/err.h"
#include "ckpt/base/strlist.h"

enum codec_type {
    CODEC_TEXT,    /* char[size]; longer text is refused, never cut */
    CODEC_NAME,    /* char[size]; name_valid, or empty when not required */
    CODEC_U32,
    CODEC_U64,
    CODEC_I32,
    CODEC_BOOL,
    CODEC_ENUM,    /* an enum of `names`, by name */
    CODEC_STRING,  /* char * on the heap, owned; NULL reads as empty. `size`: most bytes */
    CODEC_STRLIST, /* struct strlist */
    CODEC_STRUCT,  /* a struct in place */
    CODEC_LIST     /* struct { T *items; size_t count; } in place, elements owned */
};

struct codec {
    const char *noun; /* for messages: "job spec" */
    size_t size;      /* of the struct */
    const struct codec_field *fields;
    size_t field_count;
};

struct codec_field {
    const char *name;
    enum codec_type type;
    size_t offset;
    size_t size;       /* TEXT, NAME: of the array; STRING: most bytes; LIST, STRLIST: most elements */
    bool required;     /* decode refuses its absence */
    const struct codec *of;          /* STRUCT, LIST */
    const char *const *names;        /* ENUM; NULL-terminated */
};

#define CODEC_FIELD(S, member, kind, ...) \
    {.name = #member, .type = kind, .offset = offsetof(struct S, member), __VA_ARGS__}
#define CODEC_TEXT_OF(S, member, ...) \
    CODEC_FIELD(S, member, CODEC_TEXT, .size = sizeof(((struct S *)0)->member), __VA_ARGS__)
#define CODEC_NAME_OF(S, member, ...) \
    CODEC_FIELD(S, member, CODEC_NAME, .size = sizeof(((struct S *)0)->member), __VA_ARGS__)
#define CODEC_LIST_OF(S, member, codec_of, most, ...) \
    CODEC_FIELD(S, member, CODEC_LIST, .size = most, .of = &codec_of, __VA_ARGS__)
#define CODEC_ENUM_OF(S, member, list, ...) CODEC_FIELD(S, member, CODEC_ENUM, .names = list, __VA_ARGS__)
#define CODEC_DEFINE(variable, S, words, table)                                                     \
    const struct codec variable = {                                                                 \
        .noun = words, .size = sizeof(struct S), .fields = table, .field_count = sizeof table / sizeof table[0]}

/* Decoding: STRICT refuses fields the table does not have (people and CLIs: a typo must not be ignored); LENIENT passes
 * over them (daemons of neighbouring versions). Encoding: COMPACT leaves out what is zero or empty. */
enum codec_flags { CODEC_STRICT = 0, CODEC_LENIENT = 1, CODEC_COMPACT = 2 };

/* A new reference; object fields in table order. */
MUST_USE json_t *codec_encode(const struct codec *codec, const void *from, unsigned flags);
/* As one line of JSON; heap text, mem_free it. */
MUST_USE char *codec_print(const struct codec *codec, const void *from, unsigned flags);

/* How many bytes that text will have, without making it; of text that is not UTF-8, and is left out, as many as if it were. */
MUST_USE size_t codec_bytes(const struct codec *codec, const void *from, unsigned flags);

/* Into a struct whose bytes are overwritten; on failure nothing is left to release.
 * Errors: INVALID with the path of the field. */
MUST_USE enum tide_status codec_decode(const struct codec *codec, json_t *json, unsigned flags, void *to, struct err *err);
/* Text of `bytes` bytes to a new reference; depth and duplicate keys are refused. Errors: INVALID. */
MUST_USE enum tide_status codec_load(const struct codec *codec, const char *text, size_t bytes, json_t **ret_json, struct err *err);
/* Both. */
MUST_USE enum tide_status codec_parse(const struct codec *codec, const char *text, size_t bytes, unsigned flags, void *to,
                                      struct err *err);

/* Free what the struct owns and zero it. */
void codec_release(const struct codec *codec, void *of);
/* Deep copy over raw bytes at `to`. */
void codec_copy(const struct codec *codec, const void *from, void *to);

/* Lists in place: `list` points at the { items, count } pair. add returns a zeroed element; references into the list end
 * with the next add. remove keeps the order of the rest and releases the element. */
MUST_USE void *codec_list_add(const struct codec *of, void *list);
void codec_list_remove(const struct codec *of, void *list, size_t index);

#define LIST_OF(T) \
    struct {       \
        T *items;  \
        size_t count; \
    }

#endif
