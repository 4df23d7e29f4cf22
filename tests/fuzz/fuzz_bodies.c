/* SPDX-License-Identifier: Apache-2.0 */
/* The bodies of the API, strict and lenient. The first byte chooses the noun; the rest is its text, or decisions by which a
 * text is made from the noun's table: nearly right, which no invented text would be. */

#include "ckpt/base/mem.h"
#include "ckpt/wire/access.h"
#include "ckpt/wire/identity.h"
#include "ckpt/wire/job.h"
#include "ckpt/wire/node.h"
#include "ckpt/wire/view.h"
#include "tests/fuzz/fuzz.h"

#define BODY_BYTES_MAX (1u << 20)
#define DEPTH_MAX 6u
#define ELEMENTS_MAX 3u
#define CHOICE_GROWN 64u
#define CHOICE_LENIENT 128u

static const struct codec *const nouns[] = {
    &job_spec_codec,      &node_hello_codec, &heartbeat_codec,    &rollback_request_codec,
    &token_request_codec, &desired_codec,    &node_welcome_codec, &job_view_codec,
    &job_list_codec,      &node_view_codec,  &node_list_codec,    &cluster_view_codec,
    &outcome_codec,       &api_error_codec,  &token_list_codec,   &identity_codec,
};

/* ---- a body from the table ---- */

enum growth { ABSENT, ODD_TYPE, ODD_VALUE, EXTRA_FIELD, RIGHT }; /* and all above: right */

static json_t *grow_noun(const struct codec *codec, struct fuzz_in *in, unsigned depth);

static json_t *grow_text(struct fuzz_in *in, size_t most)
{
    size_t n;
    const uint8_t *from = fuzz_take(in, fuzz_number(in, 1) % (most + 1), &n);
    json_t *text = json_stringn((const char *)from, n); /* NULL unless it is UTF-8 */
    return text ? text : json_string("a");
}

static json_t *grow_odd(struct fuzz_in *in)
{
    switch (fuzz_number(in, 1) % 7) {
    case 0:
        return json_null();
    case 1:
        return json_integer((json_int_t)fuzz_number(in, 8));
    case 2:
        return json_real((double)fuzz_number(in, 8) * 1e10);
    case 3:
        return json_array();
    case 4:
        return json_object();
    case 5:
        return json_true();
    default:
        return grow_text(in, 255);
    }
}

static json_t *grow_list(const struct codec_field *f, struct fuzz_in *in, unsigned depth)
{
    json_t *list = json_array();
    for (uint64_t n = fuzz_number(in, 1) % (ELEMENTS_MAX + 1); n > 0; n--)
        json_array_append_new(list, f->type == CODEC_LIST ? grow_noun(f->of, in, depth - 1) : grow_text(in, 20));
    return list;
}

static json_t *grow_value(const struct codec_field *f, struct fuzz_in *in, unsigned depth)
{
    unsigned names = 0;
    switch (f->type) {
    case CODEC_TEXT:
    case CODEC_STRING:
        return grow_text(in, f->size < 250 ? f->size - 1 : 250);
    case CODEC_NAME:
        return json_string(fuzz_number(in, 1) & 1 ? "n1" : "a.b-c");
    case CODEC_U32:
        return json_integer((json_int_t)fuzz_number(in, 4));
    case CODEC_U64:
        return json_integer((json_int_t)fuzz_number(in, 7));
    case CODEC_I32:
        return json_integer((int32_t)fuzz_number(in, 4));
    case CODEC_BOOL:
        return json_boolean(fuzz_number(in, 1) & 1);
    case CODEC_ENUM:
        while (f->names[names] != NULL)
            names++;
        return json_string(f->names[fuzz_number(in, 1) % names]);
    case CODEC_STRLIST:
    case CODEC_LIST:
        return grow_list(f, in, depth);
    case CODEC_STRUCT:
        return grow_noun(f->of, in, depth - 1);
    }
    return json_null();
}

static json_t *grow_noun(const struct codec *codec, struct fuzz_in *in, unsigned depth)
{
    json_t *noun = json_object();
    for (size_t i = 0; i < codec->field_count && depth > 0; i++) {
        const struct codec_field *f = &codec->fields[i];
        uint64_t growth = fuzz_number(in, 1);
        if (growth == EXTRA_FIELD)
            json_object_set_new(noun, "extra", grow_odd(in));
        if (growth == ODD_TYPE || growth == ODD_VALUE)
            json_object_set_new(noun, f->name, grow_odd(in));
        else if (growth != ABSENT)
            json_object_set_new(noun, f->name, grow_value(f, in, depth));
    }
    return noun;
}

/* ---- */

static char *body_of(const struct codec *codec, struct fuzz_in *in, bool grown, size_t *ret_bytes)
{
    char *body;
    if (grown) {
        json_t *noun = grow_noun(codec, in, DEPTH_MAX);
        char *text = json_dumps(noun, JSON_COMPACT);
        json_decref(noun);
        body = mem_strdup(text ? text : "{}");
        free(text);
        *ret_bytes = strlen(body);
        return body;
    }
    body = mem_alloc(in->left); /* exactly as long as it is */
    if (in->left > 0)
        memcpy(body, in->at, in->left);
    *ret_bytes = in->left;
    return body;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_in in = {.at = data, .left = bytes};
    unsigned choice = (unsigned)fuzz_number(&in, 1);
    const struct codec *codec = nouns[(choice & 63) % (sizeof nouns / sizeof nouns[0])];
    unsigned flags = choice & CHOICE_LENIENT ? CODEC_LENIENT : CODEC_STRICT;
    if (in.left > BODY_BYTES_MAX)
        return 0;
    size_t n;
    char *body = body_of(codec, &in, choice & CHOICE_GROWN, &n);
    void *noun = mem_alloc(codec->size), *again = mem_alloc(codec->size);
    struct err err = {0};
    if (codec_parse(codec, body, n, flags, noun, &err) == TIDE_OK) {
        char *text = codec_print(codec, noun, CODEC_COMPACT);
        /* What was taken can be passed on, and says the same there. */
        FUZZ_CHECK(codec_parse(codec, text, strlen(text), CODEC_STRICT, again, &err) == TIDE_OK);
        char *second = codec_print(codec, again, CODEC_COMPACT);
        FUZZ_CHECK(strcmp(text, second) == 0);
        codec_release(codec, again);
        codec_copy(codec, noun, again);
        mem_free(second);
        second = codec_print(codec, again, CODEC_COMPACT);
        FUZZ_CHECK(strcmp(text, second) == 0);
        codec_release(codec, again);
        codec_release(codec, noun);
        mem_free(second);
        mem_free(text);
    } else {
        FUZZ_CHECK(err.status != TIDE_OK && err.text[0] != '\0');
    }
    mem_free(noun);
    mem_free(again);
    mem_free(body);
    return 0;
}
