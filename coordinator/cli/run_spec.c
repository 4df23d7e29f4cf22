/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/run_spec.h"

#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/store/store_url.h"
#include "coordinator/cli/units.h"

#define NAME_STEM_MAX 48 /* of a program's name in a default job name */

/* "4" or "4:16", each from 1 to most. */
static bool range_parse(const char *text, uint64_t most, uint64_t *ret_low, uint64_t *ret_high)
{
    char word[32];
    const char *colon = strchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : strlen(text);
    snprintf(word, sizeof word, "%.*s", (int)(n < sizeof word ? n : sizeof word - 1), text);
    return number_parse(word, 1, most, ret_low, NULL) == TIDE_OK &&
           number_parse(colon ? colon + 1 : word, 1, most, ret_high, NULL) == TIDE_OK;
}

enum tide_status nnodes_parse(const char *text, uint32_t *ret_nodes, struct fault *fault)
{
    uint64_t low, high;
    if (!range_parse(text, TIDE_NODES_MAX, &low, &high))
        return fault_set(fault, TIDE_E_INVALID, NULL, "--nnodes: \"%.40s\" is not a number from 1 to %d", text,
                         TIDE_NODES_MAX);
    if (low != high)
        return fault_set(fault, TIDE_E_UNSUPPORTED, "give the number to start with, and --elastic MIN:MAX, in ranks",
                         "--nnodes %.40s: a job starts on as many nodes as it is said to", text);
    *ret_nodes = (uint32_t)low;
    return TIDE_OK;
}

bool run_spec_wants_slots(const struct options *o)
{
    return !o->standalone && (strcmp(o->nproc, "cpu") == 0 || strcmp(o->nproc, "auto") == 0);
}

static enum tide_status nproc_parse(const struct options *o, const struct machine *m, uint32_t *ret_nproc,
                                    struct fault *fault)
{
    uint64_t number = 0;
    bool is_auto = strcmp(o->nproc, "auto") == 0, cpu = strcmp(o->nproc, "cpu") == 0, gpu = strcmp(o->nproc, "gpu") == 0;
    if (gpu && !o->standalone)
        return fault_set(fault, TIDE_E_UNSUPPORTED, "give the number of ranks per node",
                         "--nproc-per-node gpu: nodes do not tell how many GPUs they have");
    if (gpu && m->gpus == 0)
        return fault_set(fault, TIDE_E_INVALID, "use --nproc-per-node cpu or a number",
                         "--nproc-per-node gpu: this machine has none");
    if (!is_auto && !cpu && !gpu) {
        if (number_parse(o->nproc, 1, TIDE_LOCAL_RANKS_MAX, &number, NULL) != TIDE_OK)
            return fault_set(fault, TIDE_E_INVALID, NULL,
                             "--nproc-per-node: \"%.40s\" is not a number from 1 to %d, auto, cpu or gpu", o->nproc,
                             TIDE_LOCAL_RANKS_MAX);
    } else if (o->standalone) {
        number = gpu || (is_auto && m->gpus > 0) ? m->gpus : m->cpus;
    } else {
        number = m->slots;
        if (number == 0)
            return fault_set(fault, TIDE_E_STATE, "tidemark node list shows the nodes",
                             "--nproc-per-node %s: no node is ready to ask", o->nproc);
    }
    *ret_nproc = number > TIDE_LOCAL_RANKS_MAX ? TIDE_LOCAL_RANKS_MAX : (uint32_t)number;
    return TIDE_OK;
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n > m && strcmp(text + n - m, end) == 0;
}

static enum tide_status build_argv(const struct options *o, const struct strlist *args, const struct machine *m,
                                   struct strlist *argv, struct fault *fault)
{
    const char *python = m->environment ? m->environment("PYTHON_EXEC") : NULL;
    bool script = o->module || (!o->no_python && ends_in(args->items[0], ".py"));
    if (o->module && o->no_python)
        return fault_set(fault, TIDE_E_INVALID, NULL, "--module and --no-python cannot be used together");
    if (script) {
        strlist_add(argv, python && python[0] ? python : "python3");
        strlist_add(argv, "-u"); /* as torchrun: lines of a rank must not wait in a buffer */
    }
    if (o->module)
        strlist_add(argv, "-m");
    for (size_t i = 0; i < args->count; i++)
        strlist_add(argv, args->items[i]);
    return TIDE_OK;
}

static enum tide_status build_env(const struct options *o, const struct machine *m, struct strlist *env, struct fault *fault)
{
    for (size_t i = 0; i < o->env.count; i++) {
        const char *word = o->env.items[i];
        if (word[0] == '\0' || word[0] == '=')
            return fault_set(fault, TIDE_E_INVALID, "write NAME=VALUE, or NAME for the value it has here",
                             "--env \"%.80s\" has no name", word);
        if (strchr(word, '=') != NULL) {
            strlist_add(env, word);
            continue;
        }
        const char *value = m->environment ? m->environment(word) : NULL;
        if (value == NULL)
            return fault_set(fault, TIDE_E_INVALID, "write NAME=VALUE", "--env %.80s: it is not set here", word);
        char *entry = mem_format("%s=%s", word, value);
        strlist_add(env, entry);
        mem_free(entry);
    }
    return TIDE_OK;
}

/* Letters, digits, '.', '_' and '-' of the program's name, without directories and its ending. */
static void default_name(const char *program, const char *suffix, char *to, size_t size)
{
    const char *slash = strrchr(program, '/');
    const char *base = slash ? slash + 1 : program;
    size_t n = strcspn(base[0] == '.' ? "" : base, "."), used = 0;
    char stem[NAME_STEM_MAX + 1];
    for (size_t i = 0; i < n && used < NAME_STEM_MAX; i++) {
        char c = base[i];
        bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (fine || (used > 0 && (c == '_' || c == '-')))
            stem[used++] = c;
    }
    stem[used] = '\0';
    snprintf(to, size, "%s-%s", used ? stem : "job", suffix);
}

static enum tide_status build_name(const struct options *o, const struct strlist *args, const struct machine *m,
                                   struct job_spec *spec, struct fault *fault)
{
    if (o->name == NULL) {
        default_name(args->items[0], m->suffix, spec->name, sizeof spec->name);
        return TIDE_OK;
    }
    if (!name_valid(o->name))
        return fault_set(fault, TIDE_E_INVALID, "use 1 to 63 of A-Z a-z 0-9 . _ -, first a letter or digit",
                         "--name \"%.80s\" cannot be the name of a job", o->name);
    text_copy(spec->name, sizeof spec->name, o->name);
    return TIDE_OK;
}

/* A path relative to this directory, with a scheme before it; a URL as it is. */
static enum tide_status absolute(const char *option, const char *path, const char *scheme, const char *cwd, char *to,
                                 struct fault *fault)
{
    bool whole = path[0] == '/' || strstr(path, "://") != NULL;
    int n = snprintf(to, TIDE_PATH_MAX + 1, "%s%s%s%s", strstr(path, "://") ? "" : scheme, whole ? "" : cwd,
                     whole ? "" : "/", path);
    if (n > TIDE_PATH_MAX)
        return fault_set(fault, TIDE_E_LIMIT, NULL, "--%s: the path has %d bytes; at most %d are possible", option, n,
                         TIDE_PATH_MAX);
    return TIDE_OK;
}

static enum tide_status build_paths(const struct options *o, const struct machine *m, struct job_spec *spec,
                                    struct fault *fault)
{
    struct err why = {.status = TIDE_OK};
    enum tide_status status = absolute("cwd", o->cwd ? o->cwd : m->cwd, "", m->cwd, spec->cwd, fault);
    if (status != TIDE_OK || o->store == NULL)
        return status;
    if (o->store[0] == '\0')
        return fault_set(fault, TIDE_E_INVALID, "leave it away to use the cluster's store", "--store: it names no store");
    status = absolute("store", o->store, "file://", m->cwd, spec->store, fault);
    if (status == TIDE_OK && store_url_check(spec->store, &why) != TIDE_OK)
        return fault_set(fault, why.status, NULL, "--store: %s", why.text);
    return status;
}

/* A number alone counts checkpoints. */
static enum tide_status build_keep_every(const struct options *o, struct job_spec *spec, struct fault *fault)
{
    const char *text = o->ckpt_keep_every;
    uint64_t number = 0;
    if (text == NULL)
        return TIDE_OK;
    if (number_parse(text, 1, UINT32_MAX, &number, NULL) == TIDE_OK) {
        spec->ckpt_keep_every = (uint32_t)number;
        return TIDE_OK;
    }
    if (duration_parse(text, &spec->ckpt_keep_every_ms, NULL) == TIDE_OK && spec->ckpt_keep_every_ms > 0)
        return TIDE_OK;
    return fault_set(fault, TIDE_E_INVALID, "write 10 for every tenth, or 6h for the first of each six hours",
                     "--ckpt-keep-every \"%.40s\" is neither a number nor a duration", text);
}

static enum tide_status build_elastic(const struct options *o, struct job_spec *spec, struct fault *fault)
{
    uint64_t low, high;
    const char *text = o->elastic;
    if (text == NULL)
        return TIDE_OK;
    if (strchr(text, ':') == NULL || !range_parse(text, TIDE_RANKS_MAX, &low, &high))
        return fault_set(fault, TIDE_E_INVALID, "write 4:16 for at least 4 ranks and at most 16",
                         "--elastic \"%.40s\" is not MIN:MAX, two numbers from 1 to %d", text, TIDE_RANKS_MAX);
    spec->elastic_min = (uint32_t)low;
    spec->elastic_max = (uint32_t)high;
    return TIDE_OK;
}

static enum tide_status check_alone(const struct options *o, const struct job_spec *spec, struct fault *fault)
{
    if (o->node_rank != NULL && strcmp(o->node_rank, "0") != 0)
        return fault_set(fault, TIDE_E_INVALID, "submit it once, from anywhere: tidemark run --nnodes N ...",
                         "--node-rank %.20s: a job is not started on every node", o->node_rank);
    if (o->standalone && spec->nnodes != 1)
        return fault_set(fault, TIDE_E_INVALID, "leave --standalone away to run on a cluster",
                         "--standalone has one node, this machine; --nnodes %u does not fit", spec->nnodes);
    if (o->standalone && spec->spares != 0)
        return fault_set(fault, TIDE_E_INVALID, "leave --standalone away to run on a cluster",
                         "--standalone has no spare nodes");
    if (o->standalone && o->elastic != NULL)
        return fault_set(fault, TIDE_E_INVALID, "leave --standalone away to run on a cluster",
                         "--standalone has one node, this machine, and nothing to grow and shrink by");
    if (o->standalone && o->restore_from != NULL)
        return fault_set(fault, TIDE_E_INVALID, "leave --standalone away to run on a cluster",
                         "--standalone has a cluster of its own, which knows no other job to restore from");
    /* Of the environment's nothing is said: it is there for other commands. */
    if (o->standalone && (o->coordinator != NULL || o->identity != NULL || o->token != NULL || o->cacert != NULL))
        return fault_set(fault, TIDE_E_INVALID, "leave --standalone away to run on that cluster",
                         "--standalone has a cluster of its own, to which --coordinator, --identity, --token and --cacert do not lead");
    if (o->keep_state && !o->standalone)
        return fault_set(fault, TIDE_E_INVALID, NULL, "--keep-state belongs to --standalone");
    if (o->wait && o->follow)
        return fault_set(fault, TIDE_E_INVALID, "--follow waits too", "--wait and --follow cannot be used together");
    return TIDE_OK;
}

static enum tide_status build_origin(const struct options *o, struct job_spec *spec, struct fault *fault)
{
    if (o->restore_from == NULL)
        return TIDE_OK;
    if (strlen(o->restore_from) > CKPT_ID_MAX || o->restore_from[0] == '\0')
        return fault_set(fault, TIDE_E_INVALID, "write JOB/7, or JOB for its newest", "--restore-from \"%.80s\" names no checkpoint",
                         o->restore_from);
    text_copy(spec->restore_from, sizeof spec->restore_from, o->restore_from);
    return TIDE_OK;
}

enum tide_status run_spec_build(const struct options *o, const struct strlist *args, const struct machine *machine,
                                struct job_spec *ret_spec, struct fault *fault)
{
    struct job_spec spec = {.spares = o->spares,
                            .launcher = o->launcher,
                            .cut_mode = o->cut,
                            .copies = o->copies,
                            .ckpt_every_ms = o->ckpt_every_ms,
                            .ckpt_keep = o->ckpt_keep,
                            .ckpt_grace_ms = o->ckpt_grace_ms,
                            .max_restarts = o->max_restarts,
                            .stop_grace_ms = o->stop_grace_ms,
                            .cut_deadline_ms = o->cut_deadline_ms,
                            .start_deadline_ms = o->start_deadline_ms};
    enum tide_status status = nnodes_parse(o->nnodes, &spec.nnodes, fault);
    if (status == TIDE_OK)
        status = nproc_parse(o, machine, &spec.nproc_per_node, fault);
    if (status == TIDE_OK)
        status = check_alone(o, &spec, fault);
    if (status == TIDE_OK)
        status = build_elastic(o, &spec, fault);
    if (status == TIDE_OK)
        status = build_keep_every(o, &spec, fault);
    if (status == TIDE_OK)
        status = build_name(o, args, machine, &spec, fault);
    if (status == TIDE_OK)
        status = build_origin(o, &spec, fault);
    if (status == TIDE_OK)
        status = build_paths(o, machine, &spec, fault);
    if (status == TIDE_OK)
        status = build_argv(o, args, machine, &spec.argv, fault);
    if (status == TIDE_OK)
        status = build_env(o, machine, &spec.env, fault);
    if (status == TIDE_OK)
        status = job_spec_check(&spec, &fault->err);
    if (status != TIDE_OK) {
        codec_release(&job_spec_codec, &spec);
        return status;
    }
    *ret_spec = spec;
    return TIDE_OK;
}
