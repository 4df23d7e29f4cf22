/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "ckpt/base/mem.h"
#include "coordinator/cli/run_spec.h"

static const char *environment(const char *name)
{
    return strcmp(name, "HERE") == 0 ? "value" : NULL;
}

static struct machine machine = {
    .cpus = 6, .gpus = 0, .slots = 3, .environment = environment, .cwd = "/srv/me", .suffix = "ab12"};

struct built {
    enum tide_status status;
    struct job_spec spec;
    struct fault fault;
};

static struct built build(char **words)
{
    struct built b = {0};
    struct options options;
    struct strlist args = {0}, notes = {0};
    struct err err = {0};
    int argc = 0, taken;
    while (words[argc] != NULL)
        argc++;
    const struct command *run = command_find(1, (char *[]){"run", NULL}, &taken);
    assert_int_equal(options_parse(&run->set, argc, words, NULL, &options, &args, &notes, &err), TIDE_OK);
    b.status = run_spec_build(&options, &args, &machine, &b.spec, &b.fault);
    options_release(&options);
    strlist_release(&args);
    strlist_release(&notes);
    return b;
}

#define BUILD(...) build((char *[]){__VA_ARGS__, NULL})

static void refused(struct built b, enum tide_status status, const char *words)
{
    assert_int_equal(b.status, status);
    if (strstr(b.fault.err.text, words) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", b.fault.err.text, words);
}

static char *line_of(const struct job_spec *spec)
{
    static char text[256];
    text[0] = '\0';
    for (size_t i = 0; i < spec->argv.count; i++) {
        size_t n = strlen(text);
        snprintf(text + n, sizeof text - n, "%s%s", i ? " " : "", spec->argv.items[i]);
    }
    return text;
}

static void a_command_line_becomes_a_job(void **state)
{
    (void)state;
    struct built b = BUILD("--name", "fashion", "--nnodes", "4:4", "--spares", "1", "-n", "2", "--ckpt-every", "5s", "--env",
                           "A=1", "--env", "HERE", "--", "./train", "--epochs", "3");
    assert_int_equal(b.status, TIDE_OK);
    assert_string_equal(b.spec.name, "fashion");
    assert_int_equal(b.spec.nnodes, 4);
    assert_int_equal(b.spec.spares, 1);
    assert_int_equal(b.spec.nproc_per_node, 2);
    assert_int_equal(b.spec.ckpt_every_ms, 5000);
    assert_int_equal(b.spec.ckpt_keep, SPEC_CKPT_KEEP_DEFAULT);
    assert_int_equal(b.spec.max_restarts, SPEC_MAX_RESTARTS_DEFAULT);
    assert_int_equal(b.spec.stop_grace_ms, SPEC_STOP_GRACE_MS_DEFAULT);
    assert_int_equal(b.spec.cut_deadline_ms, SPEC_CUT_DEADLINE_MS_DEFAULT);
    assert_int_equal(b.spec.start_deadline_ms, SPEC_START_DEADLINE_MS_DEFAULT);
    assert_string_equal(b.spec.cwd, "/srv/me");
    assert_string_equal(b.spec.store, "");
    assert_string_equal(line_of(&b.spec), "./train --epochs 3");
    assert_string_equal(b.spec.env.items[1], "HERE=value");
    codec_release(&job_spec_codec, &b.spec);
}

static void scripts_and_modules_run_as_with_torchrun(void **state)
{
    (void)state;
    static const struct {
        char *words[4];
        const char *line;
    } cases[] = {{{"train.py", "-x"}, "python3 -u train.py -x"},
                 {{"-m", "my.train"}, "python3 -u -m my.train"},
                 {{"--no-python", "train.py"}, "train.py"},
                 {{"train.pyx"}, "train.pyx"},
                 {{".py"}, ".py"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct built b = build((char **)cases[i].words);
        assert_int_equal(b.status, TIDE_OK);
        assert_string_equal(line_of(&b.spec), cases[i].line);
        codec_release(&job_spec_codec, &b.spec);
    }
    refused(BUILD("-m", "--no-python", "x"), TIDE_E_INVALID, "--module and --no-python");
}

static void a_job_without_a_name_gets_one(void **state)
{
    (void)state;
    static const char *const cases[][2] = {{"/opt/run/train.py", "train-ab12"},
                                           {"./a b!c", "abc-ab12"},
                                           {"...", "job-ab12"},
                                           {"_x", "x-ab12"},
                                           {"/", "job-ab12"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct built b = BUILD((char *)cases[i][0]);
        assert_int_equal(b.status, TIDE_OK);
        assert_string_equal(b.spec.name, cases[i][1]);
        assert_true(name_valid(b.spec.name));
        codec_release(&job_spec_codec, &b.spec);
    }
    refused(BUILD("--name", "../x", "y"), TIDE_E_INVALID, "--name \"../x\"");
    refused(BUILD("--name", "", "y"), TIDE_E_INVALID, "--name");
}

static uint32_t nproc_of(char *nproc, char *alone)
{
    struct built b = alone ? BUILD("-n", nproc, alone, "x") : BUILD("-n", nproc, "x");
    uint32_t n = b.status == TIDE_OK ? b.spec.nproc_per_node : 0;
    if (b.status == TIDE_OK)
        codec_release(&job_spec_codec, &b.spec);
    return n;
}

static void ranks_per_node_may_be_found_out(void **state)
{
    (void)state;
    assert_int_equal(nproc_of("4", NULL), 4);
    assert_int_equal(nproc_of("auto", "--standalone"), 6);
    assert_int_equal(nproc_of("cpu", "--standalone"), 6);
    assert_int_equal(nproc_of("cpu", NULL), 3);
    machine.gpus = 2;
    assert_int_equal(nproc_of("auto", "--standalone"), 2);
    assert_int_equal(nproc_of("gpu", "--standalone"), 2);
    assert_int_equal(nproc_of("cpu", "--standalone"), 6);
    machine.gpus = 0;
    refused(BUILD("-n", "gpu", "x"), TIDE_E_UNSUPPORTED, "nodes do not tell how many GPUs");
    refused(BUILD("-n", "gpu", "--standalone", "x"), TIDE_E_INVALID, "this machine has none");
    refused(BUILD("-n", "0", "x"), TIDE_E_INVALID, "--nproc-per-node: \"0\"");
    refused(BUILD("-n", "65", "x"), TIDE_E_INVALID, "--nproc-per-node: \"65\"");
    refused(BUILD("-n", "two", "x"), TIDE_E_INVALID, "auto, cpu or gpu");
}

static void what_does_not_fit_together_is_refused(void **state)
{
    (void)state;
    refused(BUILD("--nnodes", "2:4", "x"), TIDE_E_UNSUPPORTED, "starts on as many nodes as it is said to");
    refused(BUILD("--elastic", "4", "x"), TIDE_E_INVALID, "--elastic \"4\" is not MIN:MAX");
    refused(BUILD("--elastic", ":4", "x"), TIDE_E_INVALID, "--elastic \":4\"");
    refused(BUILD("--elastic", "4:x", "x"), TIDE_E_INVALID, "--elastic \"4:x\"");
    refused(BUILD("--elastic", "3:4", "-n", "2", "--nnodes", "2", "x"), TIDE_E_INVALID, "both must be multiples of that");
    refused(BUILD("--elastic", "1:1", "--standalone", "x"), TIDE_E_INVALID, "nothing to grow and shrink by");
    refused(BUILD("--nnodes", "0", "x"), TIDE_E_INVALID, "--nnodes: \"0\"");
    refused(BUILD("--nnodes", "4:", "x"), TIDE_E_INVALID, "--nnodes: \"4:\"");
    refused(BUILD("--node-rank", "1", "x"), TIDE_E_INVALID, "--node-rank 1: a job is not started on every node");
    refused(BUILD("--standalone", "--nnodes", "2", "x"), TIDE_E_INVALID, "--standalone has one node");
    refused(BUILD("--standalone", "--spares", "1", "x"), TIDE_E_INVALID, "no spare nodes");
    refused(BUILD("--standalone", "--coordinator", "http://c:7070", "x"), TIDE_E_INVALID, "--standalone has a cluster of its own");
    refused(BUILD("--standalone", "--identity", "me", "x"), TIDE_E_INVALID, "--standalone has a cluster of its own");
    refused(BUILD("--standalone", "--token", "t", "x"), TIDE_E_INVALID, "--standalone has a cluster of its own");
    refused(BUILD("--standalone", "--cacert", "ca.pem", "x"), TIDE_E_INVALID, "--standalone has a cluster of its own");
    refused(BUILD("--keep-state", "x"), TIDE_E_INVALID, "--keep-state belongs to --standalone");
    refused(BUILD("--wait", "--follow", "x"), TIDE_E_INVALID, "--wait and --follow");
    refused(BUILD("--env", "NOT_HERE", "x"), TIDE_E_INVALID, "--env NOT_HERE: it is not set here");
    refused(BUILD("--env", "=1", "x"), TIDE_E_INVALID, "has no name");
    struct built b = BUILD("--node-rank", "0", "--elastic", "2:6", "-n", "2", "--nnodes", "3", "x");
    assert_int_equal(b.status, TIDE_OK);
    assert_int_equal(b.spec.elastic_min, 2);
    assert_int_equal(b.spec.elastic_max, 6);
    assert_int_equal(b.spec.copies, COPIES_PEER);
    codec_release(&job_spec_codec, &b.spec);
    b = BUILD("--copies", "none", "x");
    assert_int_equal(b.spec.copies, COPIES_NO);
    codec_release(&job_spec_codec, &b.spec);
}

static void relative_paths_are_meant_from_here(void **state)
{
    (void)state;
    struct built b = BUILD("--cwd", "sub", "--store", "ckpts", "x");
    assert_int_equal(b.status, TIDE_OK);
    assert_string_equal(b.spec.cwd, "/srv/me/sub");
    assert_string_equal(b.spec.store, "file:///srv/me/ckpts");
    codec_release(&job_spec_codec, &b.spec);
    b = BUILD("--cwd", "/abs", "--store", "/abs/c", "x");
    assert_string_equal(b.spec.cwd, "/abs");
    assert_string_equal(b.spec.store, "file:///abs/c");
    codec_release(&job_spec_codec, &b.spec);
    b = BUILD("--store", "file:///a", "x");
    assert_string_equal(b.spec.store, "file:///a");
    codec_release(&job_spec_codec, &b.spec);
    b = BUILD("--store", "s3://bucket/ckpts?region=eu-1", "x");
    assert_string_equal(b.spec.store, "s3://bucket/ckpts?region=eu-1");
    codec_release(&job_spec_codec, &b.spec);
    refused(BUILD("--store", "s3://Bucket", "x"), TIDE_E_INVALID, "--store: \"Bucket\" cannot be a bucket's name");
    refused(BUILD("--store", "", "x"), TIDE_E_INVALID, "--store: it names no store");
    refused(BUILD("--store", "gs://bucket", "x"), TIDE_E_UNSUPPORTED, "--store: store gs://bucket: use");
    char path[TIDE_PATH_MAX + 8];
    memset(path, 'x', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    refused(BUILD("--cwd", path, "x"), TIDE_E_LIMIT, "--cwd: the path has");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_command_line_becomes_a_job),          cmocka_unit_test(scripts_and_modules_run_as_with_torchrun),
        cmocka_unit_test(a_job_without_a_name_gets_one),         cmocka_unit_test(ranks_per_node_may_be_found_out),
        cmocka_unit_test(what_does_not_fit_together_is_refused), cmocka_unit_test(relative_paths_are_meant_from_here)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
