/* SPDX-License-Identifier: Apache-2.0 */
/* Which memory node of a host the slots of a rank should lie on: what the kernel's files say, and that it is asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "ckpt/base/fsx.h"
#include "ckpt/stage/numa.h"
#include "tests/unit/fake_step.h"
#include "tests/unit/own_mounts.h"

#define NOT_ALLOWED 77
#define ROWS(table) (sizeof(table) / sizeof(table)[0])

static char dir[] = "/tmp/tide-numa.XXXXXX";

static void put(const char *path, const char *text)
{
    char full[256];
    snprintf(full, sizeof full, "%s%s", dir, path);
    for (char *at = full + strlen(dir) + 1; (at = strchr(at, '/')) != NULL; *at++ = '/') {
        *at = '\0';
        mkdir(full, 0700);
    }
    FILE *file = fopen(full, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* A host of two sockets with two GPUs each, as its /sys was recorded; of the third GPU the firmware does not say where it is. */
static int two_sockets(void **state)
{
    (void)state;
    assert_non_null(mkdtemp(dir));
    put("/sys/devices/system/node/online", "0-1\n");
    put("/sys/devices/system/node/node0/cpulist", "0-31,64-95\n");
    put("/sys/devices/system/node/node1/cpulist", "32-63,96-127\n");
    put("/sys/bus/pci/devices/0000:65:00.0/numa_node", "0\n");
    put("/sys/bus/pci/devices/0000:b1:00.0/numa_node", "1\n");
    put("/sys/bus/pci/devices/0000:ca:00.0/numa_node", "-1\n");
    put("/sys/bus/pci/devices/0000:e3:00.0/numa_node", "7\n");
    return 0;
}

static void lists_of_the_kernel(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        unsigned count, has, has_not;
    } table[] = {
        {"0\n", 1, 0, 1}, {"0-1\n", 2, 1, 2}, {"0,2-3\n", 3, 2, 1}, {"0-31,64-95\n", 64, 95, 32}, {"7", 1, 7, 0},
        {"", 0, UINT32_MAX, 0}, {"\n", 0, UINT32_MAX, 0}, {"x\n", 0, UINT32_MAX, 0}, {"-1\n", 0, UINT32_MAX, 1},
        {"3-1\n", 0, UINT32_MAX, 2}, {"0-\n", 0, UINT32_MAX, 0}, {"1,x\n", 1, 1, 0}, {"1x\n", 0, UINT32_MAX, 1},
        {"0-99999999999999999999\n", 0, UINT32_MAX, 0},
    };
    for (size_t i = 0; i < ROWS(table); i++) {
        if (numa_list_count(table[i].list) != table[i].count || numa_list_has(table[i].list, table[i].has_not) ||
            (table[i].has != UINT32_MAX && !numa_list_has(table[i].list, table[i].has)))
            fail_msg("row %zu", i);
    }
}

static void names_of_devices(void **state)
{
    (void)state;
    static const struct {
        const char *id, *name; /* NULL: none */
    } table[] = {
        {"0000:65:00.0", "0000:65:00.0"}, {"00000000:B1:00.0", "0000:b1:00.0"}, {"00010000:00:1F.7", "10000:00:1f.7"},
        {"", NULL}, {"65:00.0", NULL}, {"0000:65:00.0/../..", NULL}, {"0000:65:00", NULL}, {"GPU-7c5f", NULL},
    };
    for (size_t i = 0; i < ROWS(table); i++) {
        char name[NUMA_BUS_MAX + 1] = "";
        assert_int_equal(numa_bus_name(table[i].id, name), table[i].name != NULL);
        if (table[i].name != NULL)
            assert_string_equal(name, table[i].name);
    }
}

static cpu_set_t cpus_of(unsigned first, unsigned last)
{
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    for (unsigned cpu = first; cpu <= last; cpu++)
        CPU_SET(cpu, &cpus);
    return cpus;
}

static void where_a_rank_is_at_home(void **state)
{
    (void)state;
    static const struct {
        const char *gpu;
        unsigned first, last;
        int node;
        const char *whose;
    } table[] = {
        {"0000:65:00.0", 0, 127, 0, "GPU 0000:65:00.0"},
        {"00000000:B1:00.0", 0, 31, 1, "GPU 0000:b1:00.0"},  /* whatever CPUs it has */
        {"0000:CA:00.0", 40, 47, 1, "its CPUs"},             /* not told */
        {"0000:E3:00.0", 0, 3, NUMA_ANYWHERE, ""},           /* there is no such node */
        {"0000:01:00.0", 96, 127, 1, "its CPUs"},            /* no such device */
        {"", 64, 95, 0, "its CPUs"},
        {"", 0, 127, NUMA_ANYWHERE, ""},                     /* it runs on both */
        {"", 200, 201, NUMA_ANYWHERE, ""},
    };
    struct numa_home home;
    for (size_t i = 0; i < ROWS(table); i++) {
        cpu_set_t cpus = cpus_of(table[i].first, table[i].last);
        numa_find(dir, table[i].gpu, &cpus, &home);
        if (home.node != table[i].node || strcmp(home.whose, table[i].whose) != 0)
            fail_msg("row %zu: node %d, that of %s", i, home.node, home.whose);
    }
    /* One node, or a kernel that knows of none: there is nothing to choose. */
    cpu_set_t cpus = cpus_of(0, 3);
    numa_find("/nowhere", "0000:65:00.0", &cpus, &home);
    assert_int_equal(home.node, NUMA_ANYWHERE);
    put("/sys/devices/system/node/online", "0\n");
    numa_find(dir, "0000:65:00.0", &cpus, &home);
    assert_int_equal(home.node, NUMA_ANYWHERE);
    put("/sys/devices/system/node/online", "0-1\n");
}

static void memory_is_asked_for_there(void **state)
{
    (void)state;
    char path[128];
    struct err err = {0};
    struct numa_policy before;
    bool preferred = true;
    unsigned looks = 0;
    snprintf(path, sizeof path, "%s/slot", dir);
    assert_int_equal(slot_reserve_on(path, 1u << 20, NUMA_ANYWHERE, &preferred, &err), TIDE_OK);
    assert_false(preferred);
    /* A node that no host has is refused, and the slot is there all the same. */
    assert_int_equal(slot_reserve_on(path, 2u << 20, (int)NUMA_NODES_MAX - 1, &preferred, &err), TIDE_OK);
    assert_false(preferred);
    if (!numa_prefer(0, &before)) /* as in many containers */
        skip();
    numa_unprefer(&before);
    assert_int_equal(slot_reserve_on(path, 3u << 20, 0, &preferred, &err), TIDE_OK);
    assert_true(preferred);
    struct numa_policy after;
    assert_true(numa_prefer(0, &after)); /* nothing of it is left */
    assert_int_equal(after.mode, before.mode);
    numa_unprefer(&before);
    numa_pages_on(path, 0, &looks);
    assert_int_equal(looks, NUMA_LOOKS);
    assert_int_equal(numa_pages_on(path, (int)NUMA_NODES_MAX - 1, &looks), 0);
    assert_int_equal(numa_pages_on("/nowhere", 0, &looks), 0);
    assert_int_equal(looks, 0);
}

/* On that host, with all CPUs of this machine on its second socket. */
static int ask_from_there(void)
{
    char node[64];
    struct fake_step step;
    struct tide *tide = NULL;
    uint64_t state = 7;
    snprintf(node, sizeof node, "%s/sys/devices/system/node", dir);
    put("/sys/devices/system/node/node0/cpulist", "\n");
    put("/sys/devices/system/node/node1/cpulist", "0-1023\n");
    if (!own_mounts() || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount(node, "/sys/devices/system/node", NULL, MS_BIND, NULL) != 0)
        return NOT_ALLOWED;
    fake_start(&step, 3);
    assert_int_equal(tide_init(&tide, NULL), TIDE_OK);
    assert_int_equal(tide_register(tide, &(struct tide_region){.name = "state", .data = &state, .bytes = sizeof state}), TIDE_OK);
    fake_arm(&step, 1, 1, 0);
    assert_int_equal(tide_step(tide, 1), TIDE_OK);
    tide_finalize(tide);
    fake_stop(&step);
    return step.reserved.slot == 2 && strcmp(step.reserved.text, "its CPUs") == 0 ? 0 : 1;
}

static void a_rank_says_where_it_is_at_home(void **state)
{
    (void)state;
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(ask_from_there());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NOT_ALLOWED)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

static int remove_all(void **state)
{
    (void)state;
    return fsx_remove_tree(dir, NULL) == TIDE_OK ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_of_the_kernel),
        cmocka_unit_test(names_of_devices),
        cmocka_unit_test(where_a_rank_is_at_home),
        cmocka_unit_test(memory_is_asked_for_there),
        cmocka_unit_test(a_rank_says_where_it_is_at_home),
    };
    return cmocka_run_group_tests(tests, two_sockets, remove_all);
}
