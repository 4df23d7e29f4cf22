/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/step/environ.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/wire/local.h"

/* Of whatever launched the agent: a rank that believed it would join the wrong job. And the agent's own keys to a store. */
static const char *const foreign[] = {"AWS_",  "OMPI_",  "PMIX_",     "PMI_",         "ORTE_",
                                      "PRTE_", "SLURM_", "TIDEMARK_", "TORCHELASTIC_"};

/* hwloc's plugins for these open X displays or make a context on a GPU inside MPI_Init. */
#define HWLOC_WITHOUT "-gl,-opencl,-cuda,-nvml,-rsmi,-levelzero"

static size_t name_length(const char *entry)
{
    return strcspn(entry, "=");
}

static char **find(const struct strlist *env, const char *name, size_t length)
{
    for (size_t i = 0; i < env->count; i++)
        if (strncmp(env->items[i], name, length) == 0 && env->items[i][length] == '=')
            return &env->items[i];
    return NULL;
}

const char *environ_get(const struct strlist *env, const char *name)
{
    char **found = find(env, name, strlen(name));
    return found != NULL ? *found + strlen(name) + 1 : NULL;
}

void environ_put(struct strlist *env, const char *entry)
{
    char **found = find(env, entry, name_length(entry));
    if (found == NULL) {
        strlist_add(env, entry);
        return;
    }
    mem_free(*found);
    *found = mem_strdup(entry);
}

void environ_set(struct strlist *env, const char *name, const char *format, ...)
{
    char value[TIDE_PATH_MAX + 64], entry[TIDE_PATH_MAX + 192];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    snprintf(entry, sizeof entry, "%s=%s", name, value);
    environ_put(env, entry);
}

static bool is_foreign(const char *entry)
{
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        if (strncmp(entry, foreign[i], strlen(foreign[i])) == 0)
            return true;
    return false;
}

static void inherit(char *const *from, struct strlist *env)
{
    for (; from != NULL && *from != NULL; from++)
        if (strchr(*from, '=') != NULL && !is_foreign(*from))
            environ_put(env, *from);
}

static void put_open_mpi(const struct environ_facts *facts, struct strlist *env)
{
    /* Without this one every rank silently starts a world of its own (schizo/orte takes it for a singleton). */
    environ_set(env, "OMPI_MCA_schizo", "^orte");
    environ_set(env, "PMIX_MCA_gds", "hash");
    if (environ_get(env, "HWLOC_COMPONENTS") == NULL)
        environ_set(env, "HWLOC_COMPONENTS", HWLOC_WITHOUT);
    if (facts->crowded)
        environ_set(env, "OMPI_MCA_mpi_yield_when_idle", "1");
    if (!facts->fast_fabric)
        environ_set(env, "OMPI_MCA_pml", "ob1");
    if (facts->interface != NULL)
        environ_set(env, "OMPI_MCA_btl_tcp_if_include", "%s", facts->interface);
    if (facts->shared_memory != NULL) {
        environ_set(env, "OMPI_MCA_btl_vader_backing_directory", "%s", facts->shared_memory);
        environ_set(env, "OMPI_MCA_osc_sm_backing_directory", "%s", facts->shared_memory);
        environ_set(env, "OMPI_MCA_osc_rdma_backing_directory", "%s", facts->shared_memory);
    }
}

static void put_torchrun(const struct step_spec *spec, uint32_t local, struct strlist *env)
{
    uint32_t nproc = spec->job.nproc_per_node, nodes = (uint32_t)spec->peers.count, rank = spec->node_rank * nproc + local;
    environ_set(env, "RANK", "%u", rank);
    environ_set(env, "LOCAL_RANK", "%u", local);
    environ_set(env, "GROUP_RANK", "%u", spec->node_rank);
    environ_set(env, "ROLE_RANK", "%u", rank);
    environ_set(env, "ROLE_NAME", "default");
    environ_set(env, "LOCAL_WORLD_SIZE", "%u", nproc);
    environ_set(env, "WORLD_SIZE", "%u", nproc * nodes);
    environ_set(env, "GROUP_WORLD_SIZE", "%u", nodes);
    environ_set(env, "ROLE_WORLD_SIZE", "%u", nproc * nodes);
    environ_set(env, "MASTER_ADDR", "%s", spec->master_address);
    environ_set(env, "MASTER_PORT", "%u", spec->master_port);
    environ_set(env, "TORCHELASTIC_RESTART_COUNT", "%u", spec->restarts);
    environ_set(env, "TORCHELASTIC_MAX_RESTARTS", "%u", spec->job.max_restarts);
    environ_set(env, "TORCHELASTIC_RUN_ID", "%s", spec->uid);
    /* True would make every rank, 0 included, only a client of the store. */
    environ_set(env, "TORCHELASTIC_USE_AGENT_STORE", "False");
    environ_set(env, "TORCHELASTIC_ERROR_FILE", "%s/rank%u.error.json", spec->logs, rank);
    if (environ_get(env, "TORCH_NCCL_ASYNC_ERROR_HANDLING") == NULL)
        environ_set(env, "TORCH_NCCL_ASYNC_ERROR_HANDLING", "1");
    if (nproc > 1 && environ_get(env, "OMP_NUM_THREADS") == NULL)
        environ_set(env, "OMP_NUM_THREADS", "1");
}

static void put_world(const struct step_spec *spec, uint32_t local, struct strlist *env)
{
    uint32_t nproc = spec->job.nproc_per_node, nodes = (uint32_t)spec->peers.count;
    environ_set(env, "OMPI_COMM_WORLD_RANK", "%u", spec->node_rank * nproc + local);
    environ_set(env, "OMPI_COMM_WORLD_SIZE", "%u", nproc * nodes);
    environ_set(env, "OMPI_COMM_WORLD_LOCAL_RANK", "%u", local);
    environ_set(env, "OMPI_COMM_WORLD_LOCAL_SIZE", "%u", nproc);
    environ_set(env, "OMPI_COMM_WORLD_NODE_RANK", "%u", local);
}

static void put_tidemark(const struct step_spec *spec, const struct environ_facts *facts, struct strlist *env)
{
    environ_set(env, ENV_SOCKET, "%s", facts->rank_socket);
    environ_set(env, ENV_ARENA, "%s", spec->arena);
    environ_set(env, ENV_JOB, "%s", spec->job.name);
    environ_set(env, ENV_JOB_UID, "%s", spec->uid);
    environ_set(env, ENV_GENERATION, "%" PRIu64, spec->generation);
    environ_set(env, ENV_NODE, "%s", spec->node);
}

void environ_build(const struct step_spec *spec, const struct environ_facts *facts, uint32_t local, struct strlist *ret_env)
{
    struct strlist env = {0};
    inherit(facts->inherited, &env);
    if (spec->job.launcher == LAUNCHER_PMIX)
        put_open_mpi(facts, &env);
    for (size_t i = 0; i < spec->job.env.count; i++)
        environ_put(&env, spec->job.env.items[i]);
    put_torchrun(spec, local, &env);
    put_world(spec, local, &env);
    put_tidemark(spec, facts, &env);
    *ret_env = env;
}
