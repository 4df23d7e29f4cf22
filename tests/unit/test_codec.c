/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/wire/identity.h"
#include "ckpt/wire/view.h"

/* Every noun of the wire: what is true of one must be true of all. */
static const struct codec *const nouns[] = {
    &job_spec_codec, &ckpt_codec, &event_codec, &recovery_codec, &job_codec, &node_codec, &node_hello_codec,
    &node_welcome_codec, &rank_report_codec, &cut_report_codec, &shard_report_codec, &manifest_report_codec,
    &held_report_codec, &restore_failure_codec, &gen_report_codec, &heartbeat_codec, &peer_codec, &shard_ref_codec,
    &cut_order_codec, &assignment_codec, &desired_codec, &api_error_codec, &rank_view_codec, &job_view_codec,
    &job_list_codec, &node_view_codec, &node_list_codec, &member_view_codec, &cluster_view_codec, &outcome_codec,
    &rollback_request_codec, &token_codec, &member_address_codec, &identity_codec,
    &token_list_codec, &token_request_codec,
};
#define NOUNS (sizeof nouns / sizeof nouns[0])

static unsigned names_count(const char *const *names)
{
    unsigned n = 0;
    while (names[n])
        n++;
    return n;
}

static void fill(const struct codec *codec, void *to, struct rng *rng, int depth);

static void fill_list(const struct codec_field *f, void *list, struct rng *rng, int depth)
{
    uint64_t n = depth > 0 ? rng_below(rng, 3) : 0;
    for (uint64_t i = 0; i < n && i < f->size; i++)
        fill(f->of, codec_list_add(f->of, list), rng, depth - 1);
}

/* Random contents within the limits of the field. */
static void fill_field(const struct codec_field *f, char *p, struct rng *rng, int depth)
{
    char word[20];
    rng_hex(rng, word, 1 + (unsigned)rng_below(rng, 12));
    switch (f->type) {
    case CODEC_TEXT:
    case CODEC_NAME:
        text_copy(p, f->size, word);
        break;
    case CODEC_U32:
        *(uint32_t *)p = (uint32_t)rng_next(rng);
        break;
    case CODEC_I32:
        *(int32_t *)p = (int32_t)rng_next(rng);
        break;
    case CODEC_U64:
        *(uint64_t *)p = rng_next(rng) >> 1;
        break;
    case CODEC_BOOL:
        *(bool *)p = rng_below(rng, 2);
        break;
    case CODEC_ENUM:
        *(unsigned *)p = (unsigned)rng_below(rng, names_count(f->names));
        break;
    case CODEC_STRING:
        *(char **)p = mem_strdup(word);
        break;
    case CODEC_STRLIST:
        for (uint64_t n = rng_below(rng, 4); n > 0; n--)
            strlist_add((struct strlist *)p, word);
        break;
    case CODEC_STRUCT:
        fill(f->of, p, rng, depth);
        break;
    case CODEC_LIST:
        fill_list(f, p, rng, depth);
        break;
    }
}

static void fill(const struct codec *codec, void *to, struct rng *rng, int depth)
{
    for (size_t i = 0; i < codec->field_count; i++)
        fill_field(&codec->fields[i], (char *)to + codec->fields[i].offset, rng, depth);
}

static void round_trip(const struct codec *codec, struct rng *rng, unsigned flags)
{
    struct err err = {0};
    void *one = mem_alloc(codec->size), *two = mem_alloc(codec->size), *three = mem_alloc(codec->size);
    fill(codec, one, rng, 3);
    char *text = codec_print(codec, one, flags);
    assert_int_equal(codec_bytes(codec, one, flags), strlen(text));
    assert_int_equal(codec_parse(codec, text, strlen(text), CODEC_STRICT, two, &err), TIDE_OK);
    codec_copy(codec, two, three);
    codec_release(codec, two);
    char *again = codec_print(codec, three, flags);
    assert_string_equal(text, again);
    codec_release(codec, one);
    codec_release(codec, three);
    mem_free(text);
    mem_free(again);
    mem_free(one);
    mem_free(two);
    mem_free(three);
}

static void every_noun_survives_the_wire(void **state)
{
    (void)state;
    struct rng rng = {.state = 7};
    for (size_t i = 0; i < NOUNS; i++)
        for (int n = 0; n < 20; n++) {
            round_trip(nouns[i], &rng, CODEC_STRICT);
            round_trip(nouns[i], &rng, CODEC_COMPACT);
        }
}

static void what_is_escaped_is_counted_so(void **state)
{
    (void)state;
    char all[] = "\xc3\xa4 \x7f/                                ";
    struct job_spec spec = {.ckpt_keep = UINT32_MAX, .ckpt_grace_ms = UINT64_MAX};
    for (char c = 1; c < 32; c++)
        all[c + 4] = c;
    strlist_add(&spec.argv, all);
    strlist_add(&spec.argv, "\"\\");
    strlist_add(&spec.argv, "");
    char *text = codec_print(&job_spec_codec, &spec, CODEC_COMPACT);
    assert_int_equal(codec_bytes(&job_spec_codec, &spec, CODEC_COMPACT), strlen(text));
    mem_free(text);
    codec_release(&job_spec_codec, &spec);
}

/* One byte of valid JSON changed, or the text cut short: refused or read, never a crash or a leak. */
static void garbage_is_refused_or_read(void **state)
{
    (void)state;
    struct rng rng = {.state = 11};
    for (size_t i = 0; i < NOUNS; i++) {
        const struct codec *codec = nouns[i];
        void *one = mem_alloc(codec->size), *two = mem_alloc(codec->size);
        fill(codec, one, &rng, 2);
        char *text = codec_print(codec, one, CODEC_COMPACT);
        size_t n = strlen(text);
        unsigned refused = 0;
        for (int k = 0; k < 300; k++) {
            struct err err = {0};
            char *copy = mem_strdup(text);
            size_t bytes = rng_below(&rng, 4) ? n : rng_below(&rng, n);
            copy[rng_below(&rng, n)] = (char)rng_next(&rng);
            if (codec_parse(codec, copy, bytes, rng_below(&rng, 2) ? CODEC_LENIENT : CODEC_STRICT, two, &err) == TIDE_OK) {
                codec_release(codec, two);
            } else {
                refused++;
                assert_int_equal(err.status, TIDE_E_INVALID);
                assert_true(err.text[0] != '\0');
            }
            mem_free(copy);
        }
        assert_true(refused > 0);
        codec_release(codec, one);
        mem_free(text);
        mem_free(one);
        mem_free(two);
    }
}

static enum tide_status parse_spec(const char *text, unsigned flags, struct job_spec *ret_spec, struct err *err)
{
    return codec_parse(&job_spec_codec, text, strlen(text), flags, ret_spec, err);
}

static void a_refusal_names_the_field(void **state)
{
    (void)state;
    static const struct {
        const char *json, *words;
    } cases[] = {
        {"", "not JSON"},
        {"[]", "must be a JSON object"},
        {"{\"argv\":[\"x\"]}", "\"name\" is missing"},
        {"{\"name\":\"a\"}", "\"argv\" is missing"},
        {"{\"name\":\"a b\",\"argv\":[\"x\"]}", "is not a name"},
        {"{\"name\":7,\"argv\":[\"x\"]}", "\"name\" must be a string"},
        {"{\"name\":\"a\",\"argv\":\"x\"}", "\"argv\" must be an array of strings"},
        {"{\"name\":\"a\",\"argv\":[1]}", "\"argv\" must be an array of strings"},
        {"{\"name\":\"a\",\"argv\":[\"x\"],\"nnodes\":-1}", "\"nnodes\" must be between 0 and 4294967295"},
        {"{\"name\":\"a\",\"argv\":[\"x\"],\"nnodes\":4294967296}", "\"nnodes\" must be between 0 and 4294967295"},
        {"{\"name\":\"a\",\"argv\":[\"x\"],\"nnodes\":1.5}", "\"nnodes\" must be an integer"},
        {"{\"name\":\"a\",\"argv\":[\"x\"],\"launcher\":\"slurm\"}", "\"launcher\" must be one of pmix, none"},
        {"{\"name\":\"a\",\"argv\":[\"x\"],\"nnode\":1}", "unknown field \"nnode\""},
        {"{\"name\":\"a\",\"name\":\"b\",\"argv\":[\"x\"]}", "duplicate"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct job_spec spec;
        struct err err = {0};
        assert_int_equal(parse_spec(cases[i].json, CODEC_STRICT, &spec, &err), TIDE_E_INVALID);
        if (strstr(err.text, cases[i].words) == NULL)
            fail_msg("%s: \"%s\" does not say \"%s\"", cases[i].json, err.text, cases[i].words);
    }
}

static void a_newer_neighbour_is_understood(void **state)
{
    (void)state;
    struct job_spec spec;
    struct err err = {0};
    assert_int_equal(parse_spec("{\"name\":\"a\",\"argv\":[\"x\"],\"colour\":{\"of\":1}}", CODEC_LENIENT, &spec, &err), TIDE_OK);
    assert_string_equal(spec.name, "a");
    codec_release(&job_spec_codec, &spec);
}

static void text_too_long_is_refused_not_cut(void **state)
{
    (void)state;
    struct job_spec spec;
    struct err err = {0};
    char name[TIDE_NAME_MAX + 2], json[256];
    memset(name, 'n', sizeof name);
    name[TIDE_NAME_MAX + 1] = '\0';
    snprintf(json, sizeof json, "{\"name\":\"%s\",\"argv\":[\"x\"]}", name);
    assert_int_equal(parse_spec(json, CODEC_STRICT, &spec, &err), TIDE_E_INVALID);
    assert_non_null(strstr(err.text, "at most 63"));
}

static void text_that_is_not_utf8_costs_only_itself(void **state)
{
    (void)state;
    struct rank_report report = {.rank = 3, .detail = "\xff\xfe"}, back;
    struct err err = {0};
    char *text = codec_print(&rank_report_codec, &report, CODEC_COMPACT);
    assert_int_equal(codec_parse(&rank_report_codec, text, strlen(text), CODEC_STRICT, &back, &err), TIDE_OK);
    assert_int_equal(back.rank, 3);
    assert_string_equal(back.detail, "");
    mem_free(text);
}

static void a_number_beyond_json_is_as_large_as_can_be(void **state)
{
    (void)state;
    struct held_report held = {.cut = UINT64_MAX}, back;
    struct err err = {0};
    char *text = codec_print(&held_report_codec, &held, CODEC_COMPACT);
    assert_int_equal(codec_parse(&held_report_codec, text, strlen(text), CODEC_STRICT, &back, &err), TIDE_OK);
    assert_true(back.cut == INT64_MAX);
    mem_free(text);
}

static void a_spec_is_checked_and_filled(void **state)
{
    (void)state;
    struct job_spec spec;
    struct err err = {0};
    assert_int_equal(parse_spec("{\"name\":\"a\",\"argv\":[\"x\"]}", CODEC_STRICT, &spec, &err), TIDE_OK);
    assert_int_equal(job_spec_check(&spec, &err), TIDE_OK);
    assert_int_equal(spec.nnodes, 1);
    assert_int_equal(spec.nproc_per_node, 1);
    assert_int_equal(spec.stop_grace_ms, SPEC_STOP_GRACE_MS_DEFAULT);
    strlist_add(&spec.env, "NOT_AN_ASSIGNMENT");
    assert_int_equal(job_spec_check(&spec, &err), TIDE_E_INVALID);
    assert_non_null(strstr(err.text, "NOT_AN_ASSIGNMENT"));
    strlist_release(&spec.env);
    spec.nproc_per_node = TIDE_LOCAL_RANKS_MAX + 1;
    assert_int_equal(job_spec_check(&spec, &err), TIDE_E_LIMIT);
    codec_release(&job_spec_codec, &spec);
}

/* A word that JSON cannot carry would be left out of the command line. */
static void a_spec_that_json_cannot_carry_is_refused(void **state)
{
    (void)state;
    struct err err = {0};
    struct job_spec spec = {.name = "j"};
    strlist_add(&spec.argv, "prog");
    strlist_add(&spec.argv, "gr\xc3\xbc\xc3\x9f");
    assert_int_equal(job_spec_check(&spec, &err), TIDE_OK);
    strlist_add(&spec.argv, "gr\xfc\xdf");
    assert_int_equal(job_spec_check(&spec, &err), TIDE_E_INVALID);
    assert_non_null(strstr(err.text, "word 2"));
    mem_free(spec.argv.items[2]);
    spec.argv.items[2] = mem_strdup("plain");
    strlist_add(&spec.env, "A=\xff");
    assert_int_equal(job_spec_check(&spec, &err), TIDE_E_INVALID);
    strlist_release(&spec.env);
    text_copy(spec.cwd, sizeof spec.cwd, "/data/\xff");
    assert_int_equal(job_spec_check(&spec, &err), TIDE_E_INVALID);
    assert_non_null(strstr(err.text, "working directory"));
    codec_release(&job_spec_codec, &spec);
}

static void lists_grow_and_shrink_in_order(void **state)
{
    (void)state;
    struct job_list list = {0};
    for (int i = 0; i < 3; i++)
        snprintf(((struct job *)codec_list_add(&job_codec, &list.jobs))->spec.name, 8, "j%d", i);
    codec_list_remove(&job_codec, &list.jobs, 1);
    assert_int_equal(list.jobs.count, 2);
    assert_string_equal(list.jobs.items[0].spec.name, "j0");
    assert_string_equal(list.jobs.items[1].spec.name, "j2");
    codec_release(&job_list_codec, &list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_noun_survives_the_wire),
        cmocka_unit_test(what_is_escaped_is_counted_so),
        cmocka_unit_test(garbage_is_refused_or_read),
        cmocka_unit_test(a_refusal_names_the_field),
        cmocka_unit_test(a_newer_neighbour_is_understood),
        cmocka_unit_test(text_too_long_is_refused_not_cut),
        cmocka_unit_test(text_that_is_not_utf8_costs_only_itself),
        cmocka_unit_test(a_number_beyond_json_is_as_large_as_can_be),
        cmocka_unit_test(a_spec_is_checked_and_filled),
        cmocka_unit_test(a_spec_that_json_cannot_carry_is_refused),
        cmocka_unit_test(lists_grow_and_shrink_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
