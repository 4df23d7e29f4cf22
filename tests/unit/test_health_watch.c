/* SPDX-License-Identifier: Apache-2.0 */
/* The eyes of agent/health, on the simulator of NVML and on a directory that looks like /dev, /proc and /sys. */
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/health/watch/inner.h"
#include "agent/health/watch/nvml.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "tests/unit/own_mounts.h"

#define DEADLINE_S 60u

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
    bool late;
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
    ((struct eye *)timer->data)->late = true;
    uv_stop(timer->loop);
}

static void open_eye(struct eye *eye, unsigned probes)
{
    static const char nothing[] = "";
    struct watch_options options = {.probes = probes, .nics = nothing, .address = "127.0.0.1", .root = dir};
    memset(eye, 0, sizeof *eye);
    uv_loop_init(&eye->loop);
    uv_timer_init(&eye->loop, &eye->deadline);
    eye->deadline.data = eye;
    uv_timer_start(&eye->deadline, on_deadline, DEADLINE_S * 1000, 0);
    eye->watch = watch_create(&eye->loop, &options, on_changed, eye);
}

static void wait_for(struct eye *eye, unsigned changes)
{
    eye->wanted = changes;
    while (eye->changes < changes && !eye->late)
        uv_run(&eye->loop, UV_RUN_DEFAULT);
    assert_true(eye->changes >= changes);
}

/* One look of a probe, as its thread would do it. */
static void look_once(struct eye *eye, look_fn look, void **past)
{
    struct looker looker = {.watch = eye->watch, .past = *past};
    assert_true(look(&looker));
    *past = looker.past;
}

/* What is told of a probe; healthy: nothing. */
static unsigned told(struct eye *eye, const char *probe, const char *subject)
{
    struct health_report report;
    watch_report(eye->watch, &report);
    const struct health_fact *fact = health_find(&report.facts, probe, subject);
    unsigned state = fact != NULL ? fact->state : TIDE_HEALTH_HEALTHY;
    codec_release(&health_report_codec, &report);
    return state;
}

static void make_dirs(const char *path)
{
    char part[256];
    for (const char *end = path; end != NULL && *end != '\0';) {
        end = strchr(end + 1, '/');
        snprintf(part, sizeof part, "%s/%.*s", dir, end != NULL ? (int)(end - path) : (int)strlen(path), path);
        mkdir(part, 0700);
    }
}

static void put(const char *path, const char *text)
{
    char full[256];
    snprintf(full, sizeof full, "%s/%s", dir, path);
    write_file(full, text);
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
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(nvml_open_gpu(nvml, i), 0);
    nvml_read(nvml, 0, &reading);
    assert_string_equal(reading.subject, "GPU 0000:65:00");
    assert_int_equal(reading.known, GPU_KNOWS & ~GPU_KNOWS_RETIRED);
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
    /* A call that fails is unknown, and neither 0 nor a link less. */
    static const struct {
        const char *call;
        unsigned unknown;
    } fails[] = {
        {"ecc", GPU_KNOWS_ECC}, {"replays", GPU_KNOWS_PCIE}, {"nvlink", GPU_KNOWS_NVLINK}, {"field38", GPU_KNOWS_NVLINK_ERRORS},
        {"field59", GPU_KNOWS_NVLINK_ERRORS}, {"field230", GPU_KNOWS_RECOVERY}, {"clocks", GPU_KNOWS_THROTTLE},
        {"fields", GPU_KNOWS_NVLINK_ERRORS | GPU_KNOWS_RECOVERY}, {"memory", GPU_KNOWS_MEMORY},
    };
    for (size_t i = 0; i < sizeof fails / sizeof fails[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "gpus 3\nfails 0 %s\n", fails[i].call);
        write_file(control, text);
        nvml_read(nvml, 0, &reading);
        assert_false(reading.lost);
        assert_int_equal(reading.known, GPU_KNOWS & ~GPU_KNOWS_RETIRED & ~fails[i].unknown);
    }
    write_file(control, "");
    mem_free(nvml); /* as the agent never does: the leak checker knows no better */
}

static void test_why_a_gpu_cannot_be_opened(void **unused)
{
    (void)unused;
    static const struct {
        int code;
        unsigned state;
        const char *text;
    } table[] = {
        {0, TIDE_HEALTH_HEALTHY, ""},
        {4, TIDE_HEALTH_DEGRADED,
         "it cannot be watched: no permission (NVML says 4); give the agent's user /dev/nvidiactl and the GPU's /dev/nvidiaN"},
        {11, TIDE_HEALTH_DEGRADED, "it cannot be watched: the kernel does not deliver its interrupts (NVML says 11); look at dmesg"},
        {15, TIDE_HEALTH_FAILED,
         "it cannot be watched: it has fallen off the bus, or its driver gave it up (NVML says 15); reset it, or boot"},
        {999, TIDE_HEALTH_DEGRADED, "it cannot be watched: NVML says 999, which is not known here; look at nvidia-smi and dmesg"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct finding finding;
        unwatched_judge(3, table[i].code, &finding);
        assert_string_equal(finding.subject, "GPU 3");
        assert_int_equal(finding.state, table[i].state);
        assert_string_equal(finding.text, table[i].text);
    }
}

/* Nobody would look at it, and nobody would know: it is said, and it is tried again. */
static void test_a_gpu_that_cannot_be_opened_is_told_and_tried_again(void **unused)
{
    (void)unused;
    struct eye eye;
    uint64_t now_ns = clock_mono_ns();
    write_file(control, "gpus 2\nshut 1 4\necc 0 0 0\n");
    open_eye(&eye, 0);
    struct looker looker = {.watch = eye.watch};
    assert_true(look_gpu_at(&looker, now_ns));
    wait_for(&eye, 1);
    assert_int_equal(told(&eye, "gpu", "GPU 1"), TIDE_HEALTH_DEGRADED);
    write_file(control, "gpus 2\nremap 0 0 1\n");
    assert_true(look_gpu_at(&looker, now_ns += 2 * NS_PER_S)); /* the other one is watched meanwhile */
    wait_for(&eye, 2);
    assert_int_equal(told(&eye, "ecc", "GPU 0000:65:00"), TIDE_HEALTH_FAILED);
    write_file(control, "gpus 2\nlost 1\n");
    assert_true(look_gpu_at(&looker, now_ns += 60 * NS_PER_S));
    wait_for(&eye, 3);
    assert_int_equal(told(&eye, "gpu", "GPU 0000:66:00"), TIDE_HEALTH_FAILED);
    health_tick(eye.watch->health, clock_mono_ns() + 2 * HEALTH_HOLD_MS * NS_PER_MS);
    assert_int_equal(told(&eye, "gpu", "GPU 1"), TIDE_HEALTH_HEALTHY);
    look_gpu_forget(looker.past);
    mem_free(looker.past);
    write_file(control, "");
    close_eye(&eye);
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
    write_file(control, "");
    open_eye(&eye, WATCH_GPU);
    eye.watch->lookers[LOOK_GPU].deadline_ms = 100; /* of the loop, which has not begun */
    write_file(control, "hang 600\n");
    wait_for(&eye, 1);
    watch_report(eye.watch, &report);
    assert_string_equal(report.facts.items[0].probe, "nvml");
    assert_true(report.facts.items[0].state >= TIDE_HEALTH_DEGRADED);
    codec_release(&health_report_codec, &report);
    write_file(control, ""); /* the call that hangs ends, and the thread with it */
    close_eye(&eye);
}

static void test_a_port_of_infiniband(void **unused)
{
    (void)unused;
    struct port_reading reading;
    char root[128];
    make_dirs("sys/class/infiniband/mlx5_0/ports/1/counters");
    snprintf(root, sizeof root, "%s/sys/class/infiniband", dir);
    assert_false(port_read(root, "mlx5_0", "1", &reading));
    put("sys/class/infiniband/mlx5_0/ports/1/state", "4: ACTIVE\n");
    put("sys/class/infiniband/mlx5_0/ports/1/counters/link_downed", "3\n");
    assert_true(port_read(root, "mlx5_0", "1", &reading));
    assert_string_equal(reading.subject, "mlx5_0 port 1");
    assert_int_equal(reading.state, PORT_ACTIVE);
    assert_int_equal(reading.link_downed, 3);
    assert_int_equal(reading.known, PORT_KNOWS_DOWNED); /* there is no other counter */

    struct eye eye;
    void *past = NULL;
    open_eye(&eye, 0);
    look_once(&eye, look_ib, &past);
    put("sys/class/infiniband/mlx5_0/ports/1/counters/link_downed", "\n"); /* cannot be read for a moment */
    look_once(&eye, look_ib, &past);
    put("sys/class/infiniband/mlx5_0/ports/1/counters/link_downed", "3\n");
    look_once(&eye, look_ib, &past);
    put("sys/class/infiniband/mlx5_0/ports/1/state", "1: DOWN\n");
    look_once(&eye, look_ib, &past);
    uv_run(&eye.loop, UV_RUN_NOWAIT);
    assert_int_equal(eye.changes, 0);
    look_once(&eye, look_ib, &past);
    wait_for(&eye, 1);
    assert_int_equal(told(&eye, "ib", "mlx5_0 port 1"), TIDE_HEALTH_FAILED);
    mem_free(past);
    close_eye(&eye);
}

/* ---- the kernel's log ---- */

static void test_the_kernels_log(void **unused)
{
    (void)unused;
    static const char oom[] = "3,1,1,-;Out of memory: Killed process 4711 (python) total-vm:1kB, anon-rss:1kB\n";
    static const char xid[] = "4,2,2,-;NVRM: Xid (PCI:0000:01:00): 79, pid=1122, GPU has fallen off the bus.\n SUBSYSTEM=pci\n";
    char path[128];
    struct eye eye;
    make_dirs("dev");
    snprintf(path, sizeof path, "%s/dev/kmsg", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    open_eye(&eye, WATCH_KERNEL);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, oom, sizeof oom - 1), sizeof oom - 1);
    wait_for(&eye, 1);
    assert_int_equal(told(&eye, "kernel", "memory"), TIDE_HEALTH_DEGRADED);
    /* Records that were overwritten are an error to libuv: it stops, and calls with that. */
    uv_poll_stop(&eye.watch->kmsg_poll);
    kmsg_ready(&eye.watch->kmsg_poll, UV_EBADF, 0);
    assert_int_equal(write(fd, xid, sizeof xid - 1), sizeof xid - 1);
    wait_for(&eye, 2);
    assert_int_equal(told(&eye, "xid", "GPU 0000:01:00"), TIDE_HEALTH_FAILED);
    close_eye(&eye);
    close(fd);
}

/* ---- links ---- */

struct link_message {
    struct nlmsghdr head;
    struct ifinfomsg info;
    struct rtattr name_head;
    char name[IFNAMSIZ];
};

enum { UP = IFF_UP | IFF_RUNNING, DOWN = IFF_UP };

static struct link_message link_is(unsigned type, unsigned char family, int index, const char *name, unsigned flags)
{
    struct link_message message = {.head = {.nlmsg_len = sizeof message, .nlmsg_type = (uint16_t)type},
                                   .info = {.ifi_family = family, .ifi_index = index, .ifi_flags = flags},
                                   .name_head = {.rta_len = sizeof(struct rtattr) + IFNAMSIZ, .rta_type = IFLA_IFNAME}};
    snprintf(message.name, sizeof message.name, "%s", name);
    return message;
}

static bool hears(struct eye *eye, struct link_message message)
{
    return nics_hear(eye->watch, &message, sizeof message);
}

static void done(struct eye *eye)
{
    struct nlmsghdr end = {.nlmsg_len = sizeof end, .nlmsg_type = NLMSG_DONE, .nlmsg_seq = eye->watch->dump};
    assert_false(nics_hear(eye->watch, &end, sizeof end));
}

static void after(struct eye *eye, unsigned ms)
{
    for (uint64_t until_ns = clock_mono_ns() + ms * NS_PER_MS; clock_mono_ns() < until_ns; usleep(1000))
        uv_run(&eye->loop, UV_RUN_NOWAIT);
}

static void test_links_by_name(void **unused)
{
    (void)unused;
    struct eye eye;
    make_dirs("sys/class/net/eth1/device");
    make_dirs("sys/class/net/ens1/device");
    open_eye(&eye, 0);
    hears(&eye, link_is(RTM_NEWLINK, AF_UNSPEC, 2, "docker0", UP)); /* of software */
    hears(&eye, link_is(RTM_NEWLINK, AF_UNSPEC, 3, "eth1", UP));
    assert_int_equal(eye.watch->nic_count, 1);
    /* It leaves a bridge: it is still there. */
    hears(&eye, link_is(RTM_DELLINK, AF_BRIDGE, 3, "eth1", UP));
    assert_true(eye.watch->nics[0].up);
    /* Its driver is loaded anew: another index, the same interface. */
    hears(&eye, link_is(RTM_DELLINK, AF_UNSPEC, 3, "eth1", UP));
    hears(&eye, link_is(RTM_NEWLINK, AF_UNSPEC, 9, "eth1", UP));
    assert_int_equal(eye.watch->nic_count, 1);
    assert_true(eye.watch->nics[0].up);
    assert_int_equal(told(&eye, "nic-flap", "eth1"), TIDE_HEALTH_DEGRADED);
    /* Nobody named it, and no address that ranks know is its: that it is down is shown, and no more. */
    unsigned before = eye.changes;
    hears(&eye, link_is(RTM_NEWLINK, AF_UNSPEC, 9, "eth1", DOWN));
    wait_for(&eye, before + 1);
    assert_int_equal(told(&eye, "nic", "eth1"), TIDE_HEALTH_DEGRADED);
    /* It is renamed. */
    hears(&eye, link_is(RTM_NEWLINK, AF_UNSPEC, 9, "ens1", UP));
    assert_int_equal(eye.watch->nic_count, 1);
    assert_string_equal(eye.watch->nics[0].name, "ens1");
    close_eye(&eye);
}

static void test_a_link_that_ranks_need(void **unused)
{
    (void)unused;
    struct eye eye;
    make_dirs("sys/class/net/lo/device"); /* it has the address of this host */
    open_eye(&eye, 0);
    hears(&eye, link_is(RTM_NEWLINK, AF_UNSPEC, 1, "lo", UP));
    hears(&eye, link_is(RTM_NEWLINK, AF_UNSPEC, 1, "lo", DOWN));
    wait_for(&eye, 1);
    assert_int_equal(told(&eye, "nic", "lo"), TIDE_HEALTH_FAILED);
    close_eye(&eye);
}

/* Who is not listed when all are asked for is not there any more. */
static void test_links_are_asked_for_anew(void **unused)
{
    (void)unused;
    struct eye eye;
    open_eye(&eye, 0);
    eye.watch->options.nics = "eth1,eth2";
    hears(&eye, link_is(RTM_NEWLINK, AF_UNSPEC, 3, "eth1", UP));
    hears(&eye, link_is(RTM_NEWLINK, AF_UNSPEC, 4, "eth2", UP));
    eye.watch->dump = 7;
    for (size_t i = 0; i < eye.watch->nic_count; i++)
        eye.watch->nic_at[i].listed = false;
    struct link_message still = link_is(RTM_NEWLINK, AF_UNSPEC, 4, "eth2", UP);
    still.head.nlmsg_seq = 7;
    assert_false(hears(&eye, still));
    done(&eye);
    wait_for(&eye, 1);
    assert_int_equal(told(&eye, "nic", "eth1"), TIDE_HEALTH_FAILED);
    assert_int_equal(told(&eye, "nic", "eth2"), TIDE_HEALTH_HEALTHY);
    still.head.nlmsg_flags = NLM_F_DUMP_INTR; /* it changed meanwhile */
    assert_true(hears(&eye, still));
    close_eye(&eye);
}

/* More messages than there is room for: the kernel says so, libuv stops, and it is to go on all the same. */
static void test_messages_that_were_lost(void **unused)
{
    (void)unused;
    struct eye eye;
    struct sockaddr_nl group = {.nl_family = AF_NETLINK, .nl_groups = 1};
    int small = 1, from = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_USERSOCK);
    int to = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_USERSOCK);
    assert_true(from >= 0 && to >= 0);
    assert_int_equal(bind(to, (struct sockaddr *)&group, sizeof group), 0);
    assert_int_equal(setsockopt(to, SOL_SOCKET, SO_RCVBUF, &small, sizeof small), 0);
    open_eye(&eye, 0);
    eye.watch->options.nics = "eth1";
    eye.watch->netlink = to;
    uv_poll_init(&eye.loop, &eye.watch->netlink_poll, to);
    eye.watch->netlink_poll.data = eye.watch;
    uv_poll_start(&eye.watch->netlink_poll, UV_READABLE, nics_ready);
    struct link_message message = link_is(RTM_NEWLINK, AF_UNSPEC, 3, "eth1", UP);
    for (unsigned i = 0; i < 1000; i++) /* nobody but the group hears it: the kernel's own end refuses */
        sendto(from, &message, sizeof message, 0, (struct sockaddr *)&group, sizeof group);
    after(&eye, 20);
    assert_true(eye.watch->dump > 0); /* it has asked for all */
    assert_int_equal(eye.watch->nic_count, 1);
    message = link_is(RTM_NEWLINK, AF_UNSPEC, 3, "eth1", DOWN);
    sendto(from, &message, sizeof message, 0, (struct sockaddr *)&group, sizeof group);
    wait_for(&eye, 1);
    assert_int_equal(told(&eye, "nic", "eth1"), TIDE_HEALTH_FAILED);
    close_eye(&eye);
    close(from);
}

/* ---- the host ---- */

static void test_pressure_is_read(void **unused)
{
    (void)unused;
    struct eye eye;
    void *past = NULL;
    make_dirs("proc/pressure");
    put("proc/pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n");
    put("proc/pressure/io", "some avg10=99.00 avg60=9.00 avg300=1.00 total=1\nfull avg10=77.00 avg60=9.00 avg300=1.00 total=1\n");
    open_eye(&eye, 0);
    for (unsigned i = 0; i < PSI_DEGRADED_LOOKS; i++)
        look_once(&eye, look_host, &past);
    wait_for(&eye, 1);
    assert_int_equal(told(&eye, "pressure", "io"), TIDE_HEALTH_DEGRADED);
    assert_int_equal(told(&eye, "pressure", "memory"), TIDE_HEALTH_HEALTHY);
    mem_free(past);
    close_eye(&eye);
}

#define NOT_ALLOWED 77

/* In a process of its own, with a small disk that is filled: what is told of it, or NOT_ALLOWED. */
static int full_disk(void)
{
    char disk[128], file[160];
    struct eye eye;
    void *past = NULL;
    snprintf(disk, sizeof disk, "%s/disk", dir);
    snprintf(file, sizeof file, "%s/much", disk);
    mkdir(disk, 0700);
    if (!own_mounts() || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 || mount("small", disk, "tmpfs", 0, "size=1m") != 0)
        return NOT_ALLOWED;
    open_eye(&eye, 0);
    eye.watch->options.disks[0] = disk;
    look_once(&eye, look_host, &past);
    uv_run(&eye.loop, UV_RUN_NOWAIT);
    if (told(&eye, "disk", disk) != TIDE_HEALTH_HEALTHY)
        return TIDE_HEALTHS;
    char *much = mem_alloc(1u << 20);
    int fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    ssize_t n = write(fd, much, 1u << 20);
    close(fd);
    mem_free(much);
    look_once(&eye, look_host, &past);
    uv_run(&eye.loop, UV_RUN_NOWAIT);
    return n > 0 ? (int)told(&eye, "disk", disk) : TIDE_HEALTHS;
}

static void test_a_full_disk_is_seen(void **unused)
{
    (void)unused;
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(full_disk());
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NOT_ALLOWED)
        skip();
    assert_int_equal(WEXITSTATUS(status), TIDE_HEALTH_SUSPECT);
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
        cmocka_unit_test(test_why_a_gpu_cannot_be_opened),
        cmocka_unit_test(test_a_gpu_that_cannot_be_opened_is_told_and_tried_again),
        cmocka_unit_test(test_an_xid_is_told_at_once),
        cmocka_unit_test(test_an_nvml_that_hangs_is_told),
        cmocka_unit_test(test_a_port_of_infiniband),
        cmocka_unit_test(test_the_kernels_log),
        cmocka_unit_test(test_links_by_name),
        cmocka_unit_test(test_a_link_that_ranks_need),
        cmocka_unit_test(test_links_are_asked_for_anew),
        cmocka_unit_test(test_messages_that_were_lost),
        cmocka_unit_test(test_pressure_is_read),
        cmocka_unit_test(test_a_full_disk_is_seen),
        cmocka_unit_test(test_probes_are_chosen_by_name),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
