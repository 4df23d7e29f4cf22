/* SPDX-License-Identifier: Apache-2.0 */
/* The eyes of agent/health, on the simulator of NVML and on a directory that looks like /sys/class/infiniband. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/health/watch/inner.h"
#include "agent/health/watch/nvml.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

#define DEADLINE_S 10u

static char dir[] = "/tmp/tide-health.XXXXXX";
static char control[64];

static int begin(void **unused)
{
    (void)unused;
    assert_non_null(mkdtemp(dir));
    snprintf(control, sizeof control, "%s/nvml", dir);
    return setenv("SIM_NVML", control, 1);
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

struct eye {
    uv_loop_t loop;
    struct watch *watch;
    uv_timer_t deadline;
    unsigned changes, wanted;
};

static void on_changed(void *context)
{
    struct eye *eye = context;
    if (++eye->changes >= eye->wanted)
        uv_stop(&eye->loop);
}

static void on_deadline(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

static void open_eye(struct eye *eye, unsigned probes)
{
    static const char nothing[] = "";
    struct watch_options options = {.probes = probes, .nics = nothing, .address = "127.0.0.1"};
    memset(eye, 0, sizeof *eye);
    uv_loop_init(&eye->loop);
    uv_timer_init(&eye->loop, &eye->deadline);
    uv_timer_start(&eye->deadline, on_deadline, DEADLINE_S * 1000, 0);
    eye->watch = watch_create(&eye->loop, &options, on_changed, eye);
}

static void wait_for(struct eye *eye, unsigned changes)
{
    eye->wanted = changes;
    if (eye->changes < changes)
        uv_run(&eye->loop, UV_RUN_DEFAULT);
    assert_true(eye->changes >= changes);
}

static void close_eye(struct eye *eye)
{
    assert_true(watch_close(eye->watch));
    uv_close((uv_handle_t *)&eye->deadline, NULL);
    uv_run(&eye->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&eye->loop), 0);
    watch_free(eye->watch);
}

static void test_what_nvml_tells_of_a_gpu(void **unused)
{
    (void)unused;
    struct nvml *nvml = NULL;
    struct err err = {0};
    struct gpu_reading reading;
    write_file(control, "gpus 3\necc 1 70 2\nremap 1 1 0\nthrottle 1 40\nreplays 1 9\nnvlinks 1 3 17\nrecovery 1 4\n"
                        "memory 1 4096\nlost 2\n");
    assert_int_equal(nvml_open(&nvml, &err), TIDE_OK);
    assert_int_equal(nvml_count(nvml), 3);
    nvml_read(nvml, 0, &reading);
    assert_string_equal(reading.subject, "GPU 0000:65:00");
    assert_int_equal(reading.known, 255 & ~GPU_KNOWS_RETIRED);
    assert_false(reading.lost);
    nvml_read(nvml, 1, &reading);
    assert_int_equal(reading.ecc_corrected, 70);
    assert_int_equal(reading.ecc_uncorrected, 2);
    assert_true(reading.remap_pending && !reading.remap_failed);
    assert_int_equal(reading.throttle, 0x40);
    assert_int_equal(reading.pcie_replays, 9);
    assert_int_equal(reading.nvlinks, 3);
    assert_int_equal(reading.nvlink_crc, 17);
    assert_int_equal(reading.recovery, 4);
    assert_int_equal(reading.memory_used, 4096);
    nvml_read(nvml, 2, &reading);
    assert_true(reading.lost);
    assert_int_equal(reading.known, 0);
    write_file(control, "gpus 3\nretired 0 61 1\n");
    nvml_read(nvml, 0, &reading);
    assert_int_equal(reading.known & GPU_KNOWS_RETIRED, GPU_KNOWS_RETIRED);
    assert_int_equal(reading.retired, 61);
    assert_true(reading.retired_pending);
    mem_free(nvml); /* as the agent never does: the leak checker knows no better */
}

static void test_an_xid_is_told_at_once(void **unused)
{
    (void)unused;
    struct eye eye;
    struct health_report report;
    write_file(control, "xid 0 43\nxid 1 79\n");
    uint64_t began_ns = clock_mono_ns();
    open_eye(&eye, WATCH_GPU);
    wait_for(&eye, 1);
    print_message("%u ms from the fault to the report\n", (unsigned)((clock_mono_ns() - began_ns) / NS_PER_MS));
    watch_report(eye.watch, &report);
    assert_int_equal(report.facts.count, 1);
    assert_string_equal(report.facts.items[0].subject, "GPU 0000:66:00");
    assert_int_equal(report.facts.items[0].state, TIDE_HEALTH_FAILED);
    assert_int_equal(strlen(report.boot), HEALTH_BOOT_MAX);
    codec_release(&health_report_codec, &report);
    close_eye(&eye);
}

static void test_an_nvml_that_hangs_is_told(void **unused)
{
    (void)unused;
    struct eye eye;
    struct health_report report;
    write_file(control, "hang 6\n");
    open_eye(&eye, WATCH_GPU);
    wait_for(&eye, 1);
    watch_report(eye.watch, &report);
    assert_string_equal(report.facts.items[0].probe, "nvml");
    assert_int_equal(report.facts.items[0].state, TIDE_HEALTH_DEGRADED);
    codec_release(&health_report_codec, &report);
    write_file(control, "");
    sleep(2); /* the call that hangs ends, and the thread with it */
    close_eye(&eye);
}

static void test_a_port_of_infiniband(void **unused)
{
    (void)unused;
    char path[256];
    struct port_reading reading;
    const char *const parts[] = {"mlx5_0", "mlx5_0/ports", "mlx5_0/ports/1", "mlx5_0/ports/1/counters"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, parts[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    assert_false(port_read(dir, "mlx5_0", "1", &reading));
    snprintf(path, sizeof path, "%s/mlx5_0/ports/1/state", dir);
    write_file(path, "4: ACTIVE\n");
    snprintf(path, sizeof path, "%s/mlx5_0/ports/1/counters/link_downed", dir);
    write_file(path, "3\n");
    assert_true(port_read(dir, "mlx5_0", "1", &reading));
    assert_string_equal(reading.subject, "mlx5_0 port 1");
    assert_int_equal(reading.state, PORT_ACTIVE);
    assert_int_equal(reading.link_downed, 3);
    assert_int_equal(reading.symbol_errors, 0); /* there is no such counter */
}

static void test_probes_are_chosen_by_name(void **unused)
{
    (void)unused;
    struct err err = {0};
    unsigned probes = 0;
    assert_int_equal(watch_parse("gpu,nic", &probes, &err), TIDE_OK);
    assert_int_equal(probes, WATCH_GPU | WATCH_NIC);
    assert_int_equal(watch_parse("all", &probes, &err), TIDE_OK);
    assert_int_equal(probes, WATCH_ALL);
    assert_int_equal(watch_parse("none", &probes, &err), TIDE_OK);
    assert_int_equal(probes, 0);
    assert_int_equal(watch_parse("gpu,gpus", &probes, &err), TIDE_E_INVALID);
    assert_int_equal(watch_parse("gp", &probes, &err), TIDE_E_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_nvml_tells_of_a_gpu),
        cmocka_unit_test(test_an_xid_is_told_at_once),
        cmocka_unit_test(test_an_nvml_that_hangs_is_told),
        cmocka_unit_test(test_a_port_of_infiniband),
        cmocka_unit_test(test_probes_are_chosen_by_name),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
