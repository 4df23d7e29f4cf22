/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "coordinator/cli/command.h"

/* One command line as `tidemark run` reads it. */
struct parsed {
    enum tide_status status;
    struct options options;
    struct strlist args, notes;
    struct err err;
};

static const char *const *environment_pairs;

static const char *environment(const char *name)
{
    for (size_t i = 0; environment_pairs != NULL && environment_pairs[i] != NULL; i += 2)
        if (strcmp(environment_pairs[i], name) == 0)
            return environment_pairs[i + 1];
    return NULL;
}

static struct parsed parse_as(const char *group_and_name, char **words)
{
    struct parsed p = {0};
    int argc = 0, taken;
    char *path[2] = {(char *)group_and_name, NULL};
    const struct command *command = command_find(1, path, &taken);
    while (words[argc] != NULL)
        argc++;
    p.status = options_parse(&command->set, argc, words, environment, &p.options, &p.args, &p.notes, &p.err);
    return p;
}

#define RUN(...) parse_as("run", (char *[]){__VA_ARGS__, NULL})

static void done(struct parsed *p)
{
    strlist_release(&p->args);
    strlist_release(&p->notes);
    options_release(&p->options);
}

static void refused(struct parsed p, const char *words)
{
    assert_int_equal(p.status, TIDE_E_INVALID);
    if (strstr(p.err.text, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", p.err.text, words);
    done(&p);
}

static void both_spellings_and_all_forms_are_read(void **state)
{
    (void)state;
    struct parsed p = RUN("--nproc_per_node=4", "--max-restarts", "3", "--standalone", "--ckpt_every", "2m", "train");
    assert_int_equal(p.status, TIDE_OK);
    assert_string_equal(p.options.nproc, "4");
    assert_int_equal(p.options.max_restarts, 3);
    assert_true(p.options.standalone);
    assert_int_equal(p.options.ckpt_every_ms, 120000);
    assert_string_equal(p.options.nnodes, "1"); /* preset */
    assert_int_equal(p.options.timeout_ms, 30000);
    done(&p);
    p = RUN("-n4", "-f", "-ojson", "train");
    assert_int_equal(p.status, TIDE_OK);
    assert_string_equal(p.options.nproc, "4");
    assert_true(p.options.follow);
    assert_int_equal(p.options.output, OUTPUT_JSON);
    done(&p);
    p = RUN("-fn", "8", "-o=wide", "train");
    assert_int_equal(p.status, TIDE_OK);
    assert_string_equal(p.options.nproc, "8");
    assert_int_equal(p.options.output, OUTPUT_WIDE);
    done(&p);
}

static void what_follows_the_program_is_the_programs(void **state)
{
    (void)state;
    struct parsed p = RUN("-n", "2", "train", "-n", "9", "--no-such", "--", "x");
    assert_int_equal(p.status, TIDE_OK);
    assert_string_equal(p.options.nproc, "2");
    assert_int_equal(p.args.count, 6);
    assert_string_equal(p.args.items[0], "train");
    assert_string_equal(p.args.items[4], "--");
    done(&p);
    p = RUN("--", "--odd-name", "-n", "9");
    assert_int_equal(p.status, TIDE_OK);
    assert_int_equal(p.args.count, 3);
    assert_string_equal(p.args.items[0], "--odd-name");
    done(&p);
    p = RUN("-n2", "-"); /* a lone dash is a word */
    assert_int_equal(p.status, TIDE_OK);
    assert_string_equal(p.args.items[0], "-");
    done(&p);
}

static void an_unknown_option_is_named_with_the_closest(void **state)
{
    (void)state;
    refused(RUN("--nproc-per-nod", "3", "x"), "--nproc-per-nod; did you mean --nproc-per-node?");
    refused(RUN("--standlaone", "x"), "did you mean --standalone?");
    refused(RUN("--ckpt_evry=5s", "x"), "--ckpt_evry; did you mean --ckpt-every?");
    refused(RUN("--max", "3", "x"), "did you mean --max-restarts?");
    refused(RUN("--zzzzzzzz", "x"), "unknown option --zzzzzzzz");
    refused(RUN("-fq", "x"), "unknown option -q in -fq");
    struct parsed p = RUN("--zzzzzzzz", "x");
    assert_null(strstr(p.err.text, "did you mean"));
    done(&p);
}

static void a_bad_value_is_named_with_its_option(void **state)
{
    (void)state;
    refused(RUN("--ckpt-every", "5", "x"), "--ckpt-every: \"5\" has no unit");
    refused(RUN("--ckpt-every", "often", "x"), "--ckpt-every: \"often\" is not a duration");
    /* These would come to mean the default. */
    refused(RUN("--ckpt-grace", "0s", "x"), "--ckpt-grace: \"0s\" is too short");
    refused(RUN("--stop-grace", "0", "x"), "--stop-grace: \"0\" is too short");
    refused(RUN("--cut-deadline", "0ms", "x"), "--cut-deadline: \"0ms\" is too short");
    refused(RUN("--start-deadline", "0s", "x"), "--start-deadline: \"0s\" is too short");
    refused(RUN("--ckpt-keep", "0", "x"), "--ckpt-keep: \"0\" is not a number from 1");
    refused(RUN("--max-restarts", "-1", "x"), "--max-restarts: \"-1\"");
    refused(RUN("-o", "yaml", "x"), "-o: \"yaml\" is none of table, json, wide, name");
    refused(RUN("--launcher=slurm", "x"), "--launcher: \"slurm\" is none of pmix, none");
    refused(RUN("--standalone=1", "x"), "--standalone takes no value");
    refused(RUN("--name"), "--name needs a value");
    refused(RUN("-n"), "--nproc-per-node needs a value");
}

static void torchruns_flags_are_ignored_with_a_note_or_refused(void **state)
{
    (void)state;
    struct parsed p =
        RUN("--rdzv_backend=c10d", "--rdzv-endpoint", "h:1", "--master_port", "29500", "--monitor-interval=5", "x");
    assert_int_equal(p.status, TIDE_OK);
    assert_int_equal(p.notes.count, 4);
    assert_non_null(strstr(p.notes.items[0], "--rdzv-backend changes nothing: the coordinator is the rendezvous"));
    assert_int_equal(p.args.count, 1);
    done(&p);
    refused(RUN("--run-path", "x"), "--run-path: is not supported: put the script behind --");
    refused(RUN("--numa-binding", "node", "x"), "--numa-binding: is not supported");
}

static void the_environment_stands_for_torchruns_flags_only(void **state)
{
    (void)state;
    static const char *const pairs[] = {"PET_NPROC_PER_NODE", "4",   "PET_NNODES", "2:2", "PET_STANDALONE",  "1",
                                        "PET_MODULE",         "0",   "PET_NAME",   "no",  "PET_MASTER_ADDR", "h",
                                        "PET_MAX_RESTARTS",   "100", NULL};
    environment_pairs = pairs;
    struct parsed p = RUN("--max-restarts", "3", "x");
    assert_int_equal(p.status, TIDE_OK);
    assert_string_equal(p.options.nproc, "4");
    assert_string_equal(p.options.nnodes, "2:2");
    assert_true(p.options.standalone);
    assert_false(p.options.module);
    assert_null(p.options.name);
    assert_int_equal(p.options.max_restarts, 3); /* the line wins */
    assert_int_equal(p.notes.count, 1);
    done(&p);
    static const char *const bad[] = {"PET_MAX_RESTARTS", "many", NULL};
    environment_pairs = bad;
    refused(RUN("x"), "PET_MAX_RESTARTS: \"many\" is not a number");
    environment_pairs = NULL;
}

static void variables_add_up(void **state)
{
    (void)state;
    struct parsed p = RUN("--env", "A=1", "--env=B", "--env", "C=x=y", "x");
    assert_int_equal(p.status, TIDE_OK);
    assert_int_equal(p.options.env.count, 3);
    assert_string_equal(p.options.env.items[2], "C=x=y");
    done(&p);
}

static void options_and_words_may_be_mixed_elsewhere(void **state)
{
    (void)state;
    struct parsed p = parse_as("rollback", (char *[]){"fashion", "--to", "7", "--no-wait", NULL});
    assert_int_equal(p.status, TIDE_OK);
    assert_string_equal(p.options.to, "7");
    assert_true(p.options.no_wait);
    assert_int_equal(p.args.count, 1);
    done(&p);
    refused(parse_as("rollback", (char *[]){"fashion", "--steps", "0", NULL}), "--steps");
    refused(parse_as("rollback", (char *[]){"fashion", "--nproc-per-node", "2", NULL}), "unknown option --nproc-per-node");
}

static void close_words_are_found_and_far_ones_are_not(void **state)
{
    (void)state;
    static const char *const words[] = {"list", "show", "logs", "wait", "cancel", "explain", "events"};
#define CLOSEST(word) closest_word(word, words, sizeof words / sizeof words[0])
    assert_string_equal(CLOSEST("lits"), "list");
    assert_string_equal(CLOSEST("log"), "logs");
    assert_string_equal(CLOSEST("expalin"), "explain");
    assert_string_equal(CLOSEST("canc"), "cancel");
    assert_null(CLOSEST("frobnicate"));
    assert_null(CLOSEST(""));
    assert_null(CLOSEST("xy"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(both_spellings_and_all_forms_are_read),
                                       cmocka_unit_test(what_follows_the_program_is_the_programs),
                                       cmocka_unit_test(an_unknown_option_is_named_with_the_closest),
                                       cmocka_unit_test(a_bad_value_is_named_with_its_option),
                                       cmocka_unit_test(torchruns_flags_are_ignored_with_a_note_or_refused),
                                       cmocka_unit_test(the_environment_stands_for_torchruns_flags_only),
                                       cmocka_unit_test(variables_add_up),
                                       cmocka_unit_test(options_and_words_may_be_mixed_elsewhere),
                                       cmocka_unit_test(close_words_are_found_and_far_ones_are_not)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
