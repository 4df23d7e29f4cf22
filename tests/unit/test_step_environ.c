/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "agent/step/environ.h"
#include "agent/step/host.h"
#include "ckpt/base/mem.h"

static struct step_spec spec_make(unsigned launcher)
{
    struct step_spec spec = {.generation = 9, .node_rank = 1, .uid = "u", .node = "n1", .arena = "/a", .logs = "/l",
                             .master_address = "10.0.0.1", .master_port = 29501, .restarts = 3};
    spec.job.nproc_per_node = 2;
    spec.job.max_restarts = 5;
    spec.job.launcher = launcher;
    text_copy(spec.job.name, sizeof spec.job.name, "job");
    for (int i = 0; i < 2; i++)
        (void)!codec_list_add(&peer_codec, &spec.peers);
    return spec;
}

static void expect(const struct strlist *env, const char *name, const char *value)
{
    const char *is = environ_get(env, name);
    if (value == NULL) {
        assert_null(is);
        return;
    }
    assert_non_null(is);
    assert_string_equal(is, value);
}

static char *inherited[] = {"HOME=/h", "OMPI_COMM_WORLD_SIZE=9", "PMIX_RANK=4", "PMI_FD=3", "SLURM_PROCID=1", "TIDEMARK_SOCKET=/x",
                            "TORCHELASTIC_RUN_ID=old", "ORTE_X=1", "AWS_SECRET_ACCESS_KEY=hush", "RANK=99", "novalue",
                            "PATH=/bin", "OMP_NUM_THREADS=8", NULL};

static void the_world_of_a_rank(void **state)
{
    (void)state;
    struct step_spec spec = spec_make(LAUNCHER_NONE);
    struct environ_facts facts = {.inherited = inherited, .rank_socket = "/s/rank.sock"};
    struct strlist env;
    environ_build(&spec, &facts, 1, &env);
    expect(&env, "HOME", "/h");
    expect(&env, "RANK", "3");
    expect(&env, "LOCAL_RANK", "1");
    expect(&env, "GROUP_RANK", "1");
    expect(&env, "WORLD_SIZE", "4");
    expect(&env, "MASTER_ADDR", "10.0.0.1");
    expect(&env, "MASTER_PORT", "29501");
    expect(&env, "TORCHELASTIC_RUN_ID", "u");
    expect(&env, "TORCHELASTIC_MAX_RESTARTS", "5");
    expect(&env, "TORCHELASTIC_USE_AGENT_STORE", "False");
    expect(&env, "TORCHELASTIC_ERROR_FILE", "/l/rank3.error.json");
    expect(&env, "TORCH_NCCL_ASYNC_ERROR_HANDLING", "1");
    expect(&env, "OMP_NUM_THREADS", "8");
    expect(&env, "OMPI_COMM_WORLD_SIZE", "4");
    expect(&env, "OMPI_COMM_WORLD_NODE_RANK", "1");
    expect(&env, "TIDEMARK_SOCKET", "/s/rank.sock");
    expect(&env, "TIDEMARK_GENERATION", "9");
    expect(&env, "PMIX_RANK", NULL);
    expect(&env, "PMI_FD", NULL);
    expect(&env, "SLURM_PROCID", NULL);
    expect(&env, "ORTE_X", NULL);
    expect(&env, "AWS_SECRET_ACCESS_KEY", NULL);
    expect(&env, "OMPI_MCA_schizo", NULL);
    for (size_t i = 0; i < env.count; i++)
        for (size_t k = i + 1; k < env.count; k++)
            assert_true(strncmp(env.items[i], env.items[k], strcspn(env.items[i], "=") + 1) != 0);
    strlist_release(&env);
    codec_release(&step_spec_codec, &spec);
}

static void what_open_mpi_needs(void **state)
{
    (void)state;
    struct step_spec spec = spec_make(LAUNCHER_PMIX);
    struct environ_facts facts = {.inherited = inherited, .rank_socket = "/s", .shared_memory = "/a/mpi.g9", .interface = "lo",
                                  .crowded = true};
    struct strlist env;
    environ_build(&spec, &facts, 0, &env);
    expect(&env, "OMPI_MCA_schizo", "^orte");
    expect(&env, "OMPI_MCA_mpi_yield_when_idle", "1");
    expect(&env, "OMPI_MCA_pml", "ob1");
    expect(&env, "PMIX_MCA_gds", "hash");
    expect(&env, "OMPI_MCA_btl_tcp_if_include", "lo");
    expect(&env, "OMPI_MCA_btl_vader_backing_directory", "/a/mpi.g9");
    strlist_release(&env);

    strlist_add(&spec.job.env, "OMPI_MCA_pml=ucx");
    strlist_add(&spec.job.env, "OMPI_MCA_mpi_yield_when_idle=0");
    strlist_add(&spec.job.env, "HWLOC_COMPONENTS=x86");
    strlist_add(&spec.job.env, "WORLD_SIZE=1000");
    environ_build(&spec, &facts, 0, &env);
    expect(&env, "OMPI_MCA_pml", "ucx");
    expect(&env, "OMPI_MCA_mpi_yield_when_idle", "0");
    expect(&env, "HWLOC_COMPONENTS", "x86");
    expect(&env, "WORLD_SIZE", "4");
    strlist_release(&env);

    strlist_release(&spec.job.env);
    environ_build(&spec, &(struct environ_facts){.inherited = inherited, .rank_socket = "/s", .fast_fabric = true}, 0, &env);
    expect(&env, "OMPI_MCA_pml", NULL);
    expect(&env, "OMPI_MCA_mpi_yield_when_idle", NULL);
    expect(&env, "OMPI_MCA_btl_tcp_if_include", NULL);
    strlist_release(&env);
    codec_release(&step_spec_codec, &spec);
}

static void interfaces(void **state)
{
    (void)state;
    char name[IF_NAMESIZE];
    assert_true(host_interface("127.0.0.1", name));
    assert_string_equal(name, "lo");
    assert_true(host_interface("127.3.2.1", name));
    assert_string_equal(name, "lo");
    assert_false(host_interface("192.0.2.77", name));
    assert_false(host_interface("host.example", name));
    assert_true(host_crowded(100000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_world_of_a_rank),
        cmocka_unit_test(what_open_mpi_needs),
        cmocka_unit_test(interfaces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
