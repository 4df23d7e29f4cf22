/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/wire/codec.h"

#include <inttypes.h>
#include <string.h>

#include "ckpt/base/mem.h"

struct raw_list {
    char *items;
    size_t count;
};

static const void *at_const(const void *of, const struct codec_field *f)
{
    return (const char *)of + f->offset;
}

static void *at(void *of, const struct codec_field *f)
{
    return (char *)of + f->offset;
}

/* ---- encode ---- */

static json_t *encode_list(const struct codec *of, const struct raw_list *list, unsigned flags)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, codec_encode(of, list->items + i * of->size, flags));
    return array;
}

static json_t *encode_strlist(const struct strlist *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, json_string(list->items[i]));
    return array;
}

/* JSON's integers here are signed: what is beyond them is said as large as can be, never as a negative. */
static json_t *encode_u64(uint64_t number)
{
    return json_integer(number > INT64_MAX ? INT64_MAX : (json_int_t)number);
}

static json_t *encode_field(const struct codec_field *f, const void *from, unsigned flags)
{
    const void *p = at_const(from, f);
    switch (f->type) {
    case CODEC_TEXT:
    case CODEC_NAME:
        return json_string(p);
    case CODEC_U32:
        return json_integer(*(const uint32_t *)p);
    case CODEC_U64:
        return encode_u64(*(const uint64_t *)p);
    case CODEC_I32:
        return json_integer(*(const int32_t *)p);
    case CODEC_BOOL:
        return json_boolean(*(const bool *)p);
    case CODEC_ENUM:
        return json_string(f->names[*(const unsigned *)p]);
    case CODEC_STRING:
        return json_string(*(char *const *)p ? *(char *const *)p : "");
    case CODEC_STRLIST:
        return encode_strlist(p);
    case CODEC_STRUCT:
        return codec_encode(f->of, p, flags);
    case CODEC_LIST:
        return encode_list(f->of, p, flags);
    }
    return NULL;
}

static bool is_empty(const struct codec_field *f, const void *from)
{
    const void *p = at_const(from, f);
    switch (f->type) {
    case CODEC_TEXT:
    case CODEC_NAME:
        return *(const char *)p == '\0';
    case CODEC_U32:
    case CODEC_I32:
        return *(const uint32_t *)p == 0;
    case CODEC_ENUM:
        return *(const unsigned *)p == 0 && !f->required;
    case CODEC_U64:
        return *(const uint64_t *)p == 0;
    case CODEC_BOOL:
        return !*(const bool *)p;
    case CODEC_STRING:
        return *(char *const *)p == NULL || **(char *const *)p == '\0';
    case CODEC_STRLIST:
    case CODEC_LIST:
        return ((const struct raw_list *)p)->count == 0;
    case CODEC_STRUCT:
        for (size_t i = 0; i < f->of->field_count; i++)
            if (!is_empty(&f->of->fields[i], p))
                return false;
        return true;
    }
    return false;
}

json_t *codec_encode(const struct codec *codec, const void *from, unsigned flags)
{
    json_t *object = json_object();
    for (size_t i = 0; i < codec->field_count; i++) {
        const struct codec_field *f = &codec->fields[i];
        if ((flags & CODEC_COMPACT) && !f->required && is_empty(f, from))
            continue;
        json_t *value = encode_field(f, from, flags);
        /* Text that is not UTF-8 (a rank's last words) must not cost the whole message. */
        json_object_set_new(object, f->name, value ? value : json_string(""));
    }
    return object;
}

char *codec_print(const struct codec *codec, const void *from, unsigned flags)
{
    json_t *json = codec_encode(codec, from, flags);
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    return text ? text : mem_strdup("{}");
}

/* ---- measure ---- */

static size_t string_bytes(const char *text)
{
    size_t bytes = 2; /* quotes */
    for (; text != NULL && *text != '\0'; text++) {
        bool named = strchr("\"\\\b\f\n\r\t", *text) != NULL;
        bytes += named ? strlen("\\n") : (unsigned char)*text < ' ' ? strlen("\\u0000") : 1;
    }
    return bytes;
}

static size_t digits_of(uint64_t number)
{
    size_t digits = 1;
    for (; number >= 10; number /= 10)
        digits++;
    return digits;
}

/* Of a list: brackets and commas around what its elements have. */
static size_t list_bytes(const struct codec_field *f, const void *p, unsigned flags)
{
    const struct raw_list *list = p;
    const struct strlist *words = p;
    size_t count = f->type == CODEC_LIST ? list->count : words->count;
    size_t bytes = strlen("[]") + (count > 0 ? count - 1 : 0);
    for (size_t i = 0; i < count; i++)
        bytes += f->type == CODEC_LIST ? codec_bytes(f->of, list->items + i * f->of->size, flags) : string_bytes(words->items[i]);
    return bytes;
}

static size_t field_bytes(const struct codec_field *f, const void *from, unsigned flags)
{
    const void *p = at_const(from, f);
    switch (f->type) {
    case CODEC_TEXT:
    case CODEC_NAME:
        return string_bytes(p);
    case CODEC_U32:
        return digits_of(*(const uint32_t *)p);
    case CODEC_U64:
        return digits_of(*(const uint64_t *)p > INT64_MAX ? INT64_MAX : *(const uint64_t *)p);
    case CODEC_I32: {
        int64_t number = *(const int32_t *)p;
        return number < 0 ? 1 + digits_of((uint64_t)-number) : digits_of((uint64_t)number);
    }
    case CODEC_BOOL:
        return strlen(*(const bool *)p ? "true" : "false");
    case CODEC_ENUM:
        return string_bytes(f->names[*(const unsigned *)p]);
    case CODEC_STRING:
        return string_bytes(*(char *const *)p);
    case CODEC_STRUCT:
        return codec_bytes(f->of, p, flags);
    case CODEC_STRLIST:
    case CODEC_LIST:
        return list_bytes(f, p, flags);
    }
    return 0;
}

size_t codec_bytes(const struct codec *codec, const void *from, unsigned flags)
{
    size_t bytes = strlen("{}"), written = 0;
    for (size_t i = 0; i < codec->field_count; i++) {
        const struct codec_field *f = &codec->fields[i];
        if ((flags & CODEC_COMPACT) && !f->required && is_empty(f, from))
            continue;
        bytes += (written++ > 0) + strlen("\"\":") + strlen(f->name) + field_bytes(f, from, flags);
    }
    return bytes;
}

/* ---- decode ---- */

static enum tide_status bad(struct err *err, const struct codec *codec, const struct codec_field *f, const char *want)
{
    return err_set(err, TIDE_E_INVALID, "%s: field \"%s\" must be %s", codec->noun, f->name, want);
}

static enum tide_status decode_text(const struct codec *codec, const struct codec_field *f, json_t *value, char *to,
                                    struct err *err)
{
    if (!json_is_string(value))
        return bad(err, codec, f, "a string");
    const char *text = json_string_value(value);
    size_t n = json_string_length(value);
    if (n >= f->size)
        return err_set(err, TIDE_E_INVALID, "%s: field \"%s\" has %zu bytes; at most %zu are possible", codec->noun,
                       f->name, n, f->size - 1);
    if (f->type == CODEC_NAME && (n > 0 || f->required) && !name_valid(text))
        return err_set(err, TIDE_E_INVALID,
                       "%s: field \"%s\": \"%s\" is not a name: use 1 to 63 of A-Z a-z 0-9 . _ -, first a letter or digit",
                       codec->noun, f->name, text);
    memcpy(to, text, n + 1);
    return TIDE_OK;
}

static enum tide_status decode_number(const struct codec *codec, const struct codec_field *f, json_t *value, void *to,
                                      struct err *err)
{
    if (!json_is_integer(value))
        return bad(err, codec, f, "an integer");
    json_int_t n = json_integer_value(value);
    if (f->type == CODEC_I32) {
        if (n < INT32_MIN || n > INT32_MAX)
            return bad(err, codec, f, "a 32-bit integer");
        *(int32_t *)to = (int32_t)n;
    } else if (n < 0 || (f->type == CODEC_U32 && n > UINT32_MAX)) {
        return bad(err, codec, f, f->type == CODEC_U32 ? "between 0 and 4294967295" : "0 or more");
    } else if (f->type == CODEC_U32) {
        *(uint32_t *)to = (uint32_t)n;
    } else {
        *(uint64_t *)to = (uint64_t)n;
    }
    return TIDE_OK;
}

static enum tide_status decode_enum(const struct codec *codec, const struct codec_field *f, json_t *value, void *to,
                                    struct err *err)
{
    const char *text = json_string_value(value);
    char all[256] = "";
    for (unsigned i = 0; f->names[i]; i++) {
        if (text && strcmp(text, f->names[i]) == 0) {
            *(unsigned *)to = i;
            return TIDE_OK;
        }
        strncat(all, i ? ", " : "one of ", sizeof all - strlen(all) - 1);
        strncat(all, f->names[i], sizeof all - strlen(all) - 1);
    }
    return bad(err, codec, f, all);
}

static enum tide_status decode_strlist(const struct codec *codec, const struct codec_field *f, json_t *value,
                                       struct strlist *to, struct err *err)
{
    if (!json_is_array(value))
        return bad(err, codec, f, "an array of strings");
    if (json_array_size(value) > f->size)
        return err_set(err, TIDE_E_INVALID, "%s: field \"%s\" has %zu entries; at most %zu are possible", codec->noun,
                       f->name, json_array_size(value), f->size);
    for (size_t i = 0; i < json_array_size(value); i++) {
        json_t *item = json_array_get(value, i);
        if (!json_is_string(item))
            return bad(err, codec, f, "an array of strings");
        strlist_add(to, json_string_value(item));
    }
    return TIDE_OK;
}

static enum tide_status decode_list(const struct codec *codec, const struct codec_field *f, json_t *value, unsigned flags,
                                    struct raw_list *to, struct err *err)
{
    if (!json_is_array(value))
        return bad(err, codec, f, "an array");
    size_t n = json_array_size(value);
    if (n > f->size)
        return err_set(err, TIDE_E_INVALID, "%s: field \"%s\" has %zu entries; at most %zu are possible", codec->noun,
                       f->name, n, f->size);
    if (n == 0)
        return TIDE_OK; /* no memory either: the heartbeat of an idle node is mostly empty lists */
    to->items = mem_array(n, f->of->size);
    for (; to->count < n; to->count++) {
        enum tide_status status =
            codec_decode(f->of, json_array_get(value, to->count), flags, to->items + to->count * f->of->size, err);
        if (status != TIDE_OK)
            return err_wrap(err, "%s: field \"%s\"[%zu]", codec->noun, f->name, to->count);
    }
    return TIDE_OK;
}

static enum tide_status decode_field(const struct codec *codec, const struct codec_field *f, json_t *value, unsigned flags,
                                     void *to, struct err *err)
{
    void *p = at(to, f);
    switch (f->type) {
    case CODEC_TEXT:
    case CODEC_NAME:
        return decode_text(codec, f, value, p, err);
    case CODEC_U32:
    case CODEC_U64:
    case CODEC_I32:
        return decode_number(codec, f, value, p, err);
    case CODEC_BOOL:
        if (!json_is_boolean(value))
            return bad(err, codec, f, "true or false");
        *(bool *)p = json_is_true(value);
        return TIDE_OK;
    case CODEC_ENUM:
        return decode_enum(codec, f, value, p, err);
    case CODEC_STRING:
        if (!json_is_string(value) || json_string_length(value) > f->size)
            return bad(err, codec, f, "a string within its limit");
        *(char **)p = mem_strdup(json_string_value(value));
        return TIDE_OK;
    case CODEC_STRLIST:
        return decode_strlist(codec, f, value, p, err);
    case CODEC_STRUCT:
        return codec_decode(f->of, value, flags, p, err);
    case CODEC_LIST:
        return decode_list(codec, f, value, flags, p, err);
    }
    return TIDE_E_INVALID;
}

static const struct codec_field *field_named(const struct codec *codec, const char *name)
{
    for (size_t i = 0; i < codec->field_count; i++)
        if (strcmp(codec->fields[i].name, name) == 0)
            return &codec->fields[i];
    return NULL;
}

static enum tide_status refuse_unknown(const struct codec *codec, json_t *json, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach(json, key, value)
        if (field_named(codec, key) == NULL)
            return err_set(err, TIDE_E_INVALID, "%s: unknown field \"%s\"", codec->noun, key);
    return TIDE_OK;
}

static enum tide_status decode_fields(const struct codec *codec, json_t *json, unsigned flags, void *to, struct err *err)
{
    for (size_t i = 0; i < codec->field_count; i++) {
        const struct codec_field *f = &codec->fields[i];
        json_t *value = json_object_get(json, f->name);
        if (value == NULL && f->required)
            return err_set(err, TIDE_E_INVALID, "%s: field \"%s\" is missing", codec->noun, f->name);
        if (value == NULL)
            continue;
        enum tide_status status = decode_field(codec, f, value, flags, to, err);
        if (status != TIDE_OK)
            return status;
    }
    return TIDE_OK;
}

enum tide_status codec_decode(const struct codec *codec, json_t *json, unsigned flags, void *to, struct err *err)
{
    memset(to, 0, codec->size);
    if (!json_is_object(json))
        return err_set(err, TIDE_E_INVALID, "%s must be a JSON object", codec->noun);
    enum tide_status status = TIDE_OK;
    if (!(flags & CODEC_LENIENT))
        status = refuse_unknown(codec, json, err);
    if (status == TIDE_OK)
        status = decode_fields(codec, json, flags, to, err);
    if (status != TIDE_OK)
        codec_release(codec, to);
    return status;
}

enum tide_status codec_load(const struct codec *codec, const char *text, size_t bytes, json_t **ret_json, struct err *err)
{
    json_error_t where;
    json_t *json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &where);
    if (json == NULL)
        return err_set(err, TIDE_E_INVALID, "%s: not JSON: %s at line %d column %d", codec->noun, where.text, where.line,
                       where.column);
    *ret_json = json;
    return TIDE_OK;
}

enum tide_status codec_parse(const struct codec *codec, const char *text, size_t bytes, unsigned flags, void *to,
                             struct err *err)
{
    json_t *json = NULL;
    enum tide_status status = codec_load(codec, text, bytes, &json, err);
    if (status != TIDE_OK)
        return status;
    status = codec_decode(codec, json, flags, to, err);
    json_decref(json);
    return status;
}

/* ---- ownership ---- */

void codec_release(const struct codec *codec, void *of)
{
    for (size_t i = 0; i < codec->field_count; i++) {
        const struct codec_field *f = &codec->fields[i];
        void *p = at(of, f);
        if (f->type == CODEC_STRING) {
            mem_free(*(char **)p);
        } else if (f->type == CODEC_STRLIST) {
            strlist_release(p);
        } else if (f->type == CODEC_STRUCT) {
            codec_release(f->of, p);
        } else if (f->type == CODEC_LIST) {
            struct raw_list *list = p;
            for (size_t k = 0; k < list->count; k++)
                codec_release(f->of, list->items + k * f->of->size);
            mem_free(list->items);
        }
    }
    memset(of, 0, codec->size);
}

void codec_copy(const struct codec *codec, const void *from, void *to)
{
    memcpy(to, from, codec->size);
    for (size_t i = 0; i < codec->field_count; i++) {
        const struct codec_field *f = &codec->fields[i];
        if (f->type == CODEC_STRING) {
            const char *text = *(char *const *)at_const(from, f);
            *(char **)at(to, f) = text ? mem_strdup(text) : NULL;
        } else if (f->type == CODEC_STRLIST) {
            const struct strlist *list = at_const(from, f);
            *(struct strlist *)at(to, f) = (struct strlist){0};
            for (size_t k = 0; k < list->count; k++)
                strlist_add(at(to, f), list->items[k]);
        } else if (f->type == CODEC_STRUCT) {
            codec_copy(f->of, at_const(from, f), at(to, f));
        } else if (f->type == CODEC_LIST) {
            const struct raw_list *list = at_const(from, f);
            struct raw_list *copy = at(to, f);
            copy->items = list->count ? mem_array(list->count, f->of->size) : NULL;
            for (size_t k = 0; k < list->count; k++)
                codec_copy(f->of, list->items + k * f->of->size, copy->items + k * f->of->size);
        }
    }
}

void *codec_list_add(const struct codec *of, void *list)
{
    struct raw_list *l = list;
    l->items = mem_grow(l->items, l->count + 1, of->size);
    return memset(l->items + l->count++ * of->size, 0, of->size);
}

void codec_list_remove(const struct codec *of, void *list, size_t index)
{
    struct raw_list *l = list;
    char *gone = l->items + index * of->size;
    codec_release(of, gone);
    memmove(gone, gone + of->size, (l->count - index - 1) * of->size);
    l->count--;
}
