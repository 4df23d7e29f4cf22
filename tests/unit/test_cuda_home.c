/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "ckpt/base/fsx.h"
#include "tests/unit/cuda_rank.h"
#include "tests/unit/own_mounts.h"

/* The slots of a rank whose state is on a GPU should lie where that is plugged in. */

#define NOT_ALLOWED 77

static char dir[] = "/tmp/tide-home.XXXXXX";

static void put(const char *in, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, in);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/%s/%s", dir, in, name);
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static bool show(const char *in, const char *as)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, in);
    return mount(path, as, NULL, MS_BIND, NULL) == 0;
}

/* Two memory nodes; GPU 1 of the simulator is on the second one. */
static bool on_two_nodes(void)
{
    put("nodes", "online", "0-1\n");
    put("buses", "none", "");
    put("buses/0000:65:00.0", "numa_node", "0\n");
    put("buses/0000:66:00.0", "numa_node", "1\n");
    return own_mounts() && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && show("nodes", "/sys/devices/system/node") &&
           show("buses", "/sys/bus/pci/devices");
}

static int ask_from_there(void)
{
    static struct cuda_rank rank;
    if (!on_two_nodes())
        return NOT_ALLOWED;
    fake_start(&rank.step, 3);
    cuda_region(&rank, "weights", 1, 4096);
    cuda_join(&rank);
    fake_arm(&rank.step, 1, 1, 0);
    assert_int_equal(tide_step(rank.tide, 1), TIDE_OK);
    cuda_leave(&rank);
    fake_stop(&rank.step);
    return rank.step.reserved.slot == 2 && strcmp(rank.step.reserved.text, "GPU 0000:66:00.0") == 0 ? 0 : 1;
}

static void its_gpu_says_where_a_rank_is_at_home(void **state)
{
    (void)state;
    int status;
    assert_non_null(mkdtemp(dir));
    pid_t pid = fork();
    if (pid == 0)
        _exit(ask_from_there());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(fsx_remove_tree(dir, NULL), TIDE_OK);
    if (WEXITSTATUS(status) == NOT_ALLOWED)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(its_gpu_says_where_a_rank_is_at_home),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
