/* SPDX-License-Identifier: Apache-2.0 */
/* The verdict of each probe, by tables: recorded or documented input, what it is taken for, and what must not alarm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "agent/health/probes.h"
#include "agent/health/ras.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

#define ROWS(table) (sizeof(table) / sizeof(table)[0])

enum { OK = TIDE_HEALTH_HEALTHY, DEGRADED = TIDE_HEALTH_DEGRADED, SUSPECT = TIDE_HEALTH_SUSPECT, FAILED = TIDE_HEALTH_FAILED };

static uint64_t at_ms(uint64_t ms)
{
    return NS_PER_S + ms * NS_PER_MS;
}

static void test_xids(void **unused)
{
    (void)unused;
    static const struct {
        unsigned code, state;
        bool restart, latched;
    } table[] = {
        /* of programs, or following from other errors: no alarm */
        {43, OK, false, false}, {45, OK, false, false}, {63, OK, false, false}, {121, OK, false, false}, {154, OK, false, false},
        /* fatal to the rank */
        {13, DEGRADED, true, false}, {31, DEGRADED, true, false}, {94, DEGRADED, true, false},
        /* shown only */
        {92, DEGRADED, false, false}, {999, DEGRADED, false, false},
        /* links */
        {74, SUSPECT, true, true}, {149, SUSPECT, true, true},
        /* fatal to the GPU */
        {48, FAILED, false, true}, {64, FAILED, false, true}, {95, FAILED, false, true}, {119, FAILED, false, true},
        {140, FAILED, false, true},
        /* fatal to the host */
        {79, FAILED, false, true},
    };
    for (size_t i = 0; i < ROWS(table); i++) {
        struct finding finding;
        xid_judge(table[i].code, "GPU 0000:65:00", &finding);
        assert_int_equal(finding.state, table[i].state);
        assert_int_equal(finding.restart, table[i].restart);
        assert_int_equal(finding.latched, table[i].latched);
        assert_string_equal(finding.subject, "GPU 0000:65:00");
    }
    /* Of a program: it may come as often as it likes. Of the memory: not. */
    for (unsigned code = 0; code < 200; code++) {
        struct finding finding;
        xid_judge(code, "GPU", &finding);
        if (xid_scope(code) == XID_PROGRAM || code == 13 || code == 31)
            assert_int_equal(finding.times_max, HEALTH_TIMES_ANY);
        if (code == 94)
            assert_int_equal(finding.times_max, XID_RANK_TIMES_MAX);
    }
    struct finding fallen;
    xid_judge(79, "GPU 0000:65:00", &fallen);
    assert_string_equal(fallen.text, "Xid 79, GPU has fallen off the bus; fatal to the host, which must be started anew");
}

static void test_kernel_log(void **unused)
{
    (void)unused;
    static const struct {
        const char *record;
        unsigned state;
        const char *probe, *subject;
    } table[] = {
        {"4,1,1,-;NVRM: Xid (PCI:0000:01:00): 79, pid=1122, GPU has fallen off the bus.", FAILED, "xid", "GPU 0000:01:00"},
        {"4,1,1,-;NVRM: GPU 0000:01:00.0: GPU has fallen off the bus.", FAILED, "xid", "GPU 0000:01:00"},
        {"4,1,1,-;NVRM: GPU at PCI:0000:01:00 has fallen off the bus", FAILED, "xid", "GPU 0000:01:00"},
        {"4,1,1,-;NVRM: Xid (PCI:0000:10:1c): 63, pid=1896, Row Remapper: New row marked for remapping, reset gpu to activate.", OK,
         NULL, NULL},
        {"4,1,1,-;NVRM: Xid (PCI:0000:00:06): 31, pid=79749, name=exe, Ch 0000000a, intr 00000000. MMU Fault: ENGINE GRAPHICS", DEGRADED,
         "xid", "GPU 0000:00:06"},
        {"4,1,1,-;NVRM: Xid (PCI:0000:0f:00): 119, pid=15, name=x, Timeout after 45s of waiting for RPC response from GPU0 GSP!", FAILED,
         "xid", "GPU 0000:0f:00"},
        {"4,1,1,-;NVRM: Xid (PCI:0000:0f:00): 45, pid=15, name=python3, Ch 00000008", OK, NULL, NULL},
        {"4,1,1,-;nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 20034, Fatal, Link 30 LTSSM Fault Up", FAILED, "kernel", "NVSwitch"},
        {"4,1,1,-;nvidia-nvswitch3: SXid (PCI:0000:c1:00.0): 22013, Non-fatal, Link 32 TS1 crossbar", DEGRADED, "kernel", "NVSwitch"},
        {"3,1,1,-;Out of memory: Killed process 4711 (python) total-vm:1kB, anon-rss:1kB", DEGRADED, "kernel", "memory"},
        {"3,1,1,-;Memory cgroup out of memory: Killed process 4711 (python) total-vm:1kB", OK, NULL, NULL},
        {"3,1,1,-;INFO: task nvidia-smi:1234 blocked for more than 122 seconds.", DEGRADED, "kernel", "tasks"},
        {"0,1,1,-;watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [kworker/3:1:77]", DEGRADED, "kernel", "CPU"},
        {"3,1,1,-;blk_update_request: I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x0", DEGRADED, "kernel", "disk"},
        {"3,1,1,-;Buffer I/O error on dev dm-1, logical block 0, async page read", DEGRADED, "kernel", "disk"},
        {"2,1,1,-;EXT4-fs (nvme0n1p2): Remounting filesystem read-only", SUSPECT, "kernel", "disk"},
        {"6,1,1,-;EXT4-fs (nvme0n1p2): mounted filesystem with ordered data mode. Quota mode: none.", OK, NULL, NULL},
        {"2,1,1,-;mce: [Hardware Error]: Machine check events logged", DEGRADED, "kernel", "machine check"},
        {"0,1,1,-;EDAC MC0: 1 UE memory read error on CPU_SrcID#0_MC#0 (channel:0)", SUSPECT, "kernel", "memory"},
        {"4,1,1,-;EDAC MC0: 1 CE memory read error on CPU_SrcID#0_MC#0 (channel:0)", OK, NULL, NULL},
        {"3,1,1,-;pcieport 0000:16:01.0: AER: Uncorrected (Fatal) error received: 0000:17:00.0", SUSPECT, "kernel", "PCIe"},
        {"4,1,1,-;pcieport 0000:16:01.0: AER: Corrected error received: 0000:17:00.0", OK, NULL, NULL},
        {"6,1,1,-;eth0: link becomes ready", OK, NULL, NULL},
        /* a program may write there, too, and is not the kernel: facility 1 */
        {"12,1,1,-;NVRM: Xid (PCI:0000:01:00): 79, pid=1122, GPU has fallen off the bus.", OK, NULL, NULL},
        /* malformed */
        {"", OK, NULL, NULL}, {";", OK, NULL, NULL}, {"4,1,1,-", OK, NULL, NULL}, {"4,1,1,-;", OK, NULL, NULL},
        {"4,1,1,-;NVRM: Xid (PCI:0000:01:00", OK, NULL, NULL}, {"4,1,1,-;NVRM: Xid (PCI:0000:01:00): x", OK, NULL, NULL},
        {"4,1,1,-;NVRM: Xid (PCI:0000:01:00): 99999999999999999999, x", OK, NULL, NULL},
    };
    for (size_t i = 0; i < ROWS(table); i++) {
        struct finding finding = {0};
        bool said = kmsg_judge(table[i].record, strlen(table[i].record), &finding);
        if (said != (table[i].state != OK))
            fail_msg("%s", table[i].record);
        if (!said)
            continue;
        assert_int_equal(finding.state, table[i].state);
        assert_string_equal(finding.probe, table[i].probe);
        assert_string_equal(finding.subject, table[i].subject);
        if (strcmp(finding.probe, "kernel") == 0) /* many lines make one fault no worse */
            assert_int_equal(finding.times_max, HEALTH_TIMES_ANY);
    }
}

static void test_a_record_is_one_line_of_plain_text(void **unused)
{
    (void)unused;
    static const char record[] = "3,1,1,-;Out of memory: Killed process 1 (a\x1b\xff)\n SUBSYSTEM=x";
    struct finding finding;
    assert_true(kmsg_judge(record, sizeof record - 1, &finding));
    assert_string_equal(finding.text, "the kernel says: Out of memory: Killed process 1 (a\?\?)");
}

static void test_ecc(void **unused)
{
    (void)unused;
    const unsigned all = GPU_KNOWS_ECC | GPU_KNOWS_REMAP | GPU_KNOWS_RETIRED;
    static const struct {
        uint64_t minutes;
        struct gpu_reading reading;
        unsigned state;
    } table[] = {
        /* A board with a history: what was corrected or remapped before is no alarm. */
        {0, {.ecc_corrected = 90000, .ecc_uncorrected = 2, .ecc_aggregate = 7, .retired = 3}, OK},
        {1, {.ecc_corrected = 90900, .ecc_uncorrected = 2, .ecc_aggregate = 7}, OK},
        {2, {.ecc_corrected = 91000, .ecc_uncorrected = 2, .ecc_aggregate = 7}, DEGRADED},
        {70, {.ecc_corrected = 91900, .ecc_uncorrected = 2, .ecc_aggregate = 7}, OK}, /* in another hour */
        {71, {.ecc_corrected = 91900, .ecc_uncorrected = 3, .ecc_aggregate = 8}, SUSPECT},
        {72, {.ecc_corrected = 91900, .ecc_uncorrected = 3, .ecc_aggregate = 8}, OK},
        {73, {.ecc_corrected = 0, .ecc_uncorrected = 0, .ecc_aggregate = 8}, OK}, /* driver loaded anew */
        {74, {.remap_pending = true}, SUSPECT},
        {75, {.remap_pending = true, .remap_failed = true}, FAILED},
        {76, {.retired_pending = true}, SUSPECT},
        {77, {.retired = 59}, OK},
        {78, {.retired = 60}, FAILED},
    };
    struct ecc_past past = {0};
    for (size_t i = 0; i < ROWS(table); i++) {
        struct gpu_reading reading = table[i].reading;
        struct finding finding;
        reading.known = all;
        ecc_judge(&past, &reading, at_ms(table[i].minutes * 60000), &finding);
        if (finding.state != table[i].state)
            fail_msg("minute %u: %u, not %u", (unsigned)table[i].minutes, finding.state, table[i].state);
    }
    /* A GPU without ECC says nothing of it. */
    struct finding finding;
    ecc_judge(&past, &(struct gpu_reading){.remap_failed = true, .ecc_uncorrected = 9}, at_ms(0), &finding);
    assert_int_equal(finding.state, OK);
}

static void test_throttle(void **unused)
{
    (void)unused;
    static const struct {
        uint64_t second, reasons;
        unsigned state;
    } table[] = {
        {0, 0x01, OK}, {1, 0x04, OK},   {100, 0x04, OK}, {200, 0x02 | 0x10, OK},  /* idle, power limit, clocks as set */
        {201, 0x40, OK}, {205, 0x40, OK}, {206, 0x04, OK}, {211, 0x40, OK},        /* for a moment */
        {221, 0x40, DEGRADED}, {330, 0x44, DEGRADED}, {331, 0x40, SUSPECT},
        {332, 0x01, OK}, {340, 0x20, OK}, {350, 0x20, DEGRADED}, {900, 0x20, DEGRADED}, /* by the driver: slower, not broken */
    };
    struct throttle_past past = {0};
    for (size_t i = 0; i < ROWS(table); i++) {
        struct finding finding;
        struct gpu_reading reading = {.known = GPU_KNOWS_THROTTLE, .throttle = table[i].reasons};
        throttle_judge(&past, &reading, at_ms(table[i].second * 1000), &finding);
        if (finding.state != table[i].state)
            fail_msg("second %u: %u, not %u", (unsigned)table[i].second, finding.state, table[i].state);
    }
}

static void test_links(void **unused)
{
    (void)unused;
    static const struct {
        uint64_t second, pcie;
        uint32_t nvlinks;
        uint64_t crc, replay, recovery;
        unsigned state;
    } table[] = {
        {0, 5000, 18, 400, 3, 1, OK}, /* counted before */
        {1, 5008, 18, 500, 3, 1, OK},
        {2, 5009, 18, 500, 3, 1, DEGRADED},
        {70, 5010, 18, 500, 3, 1, OK}, /* the next minute */
        {71, 5010, 18, 601, 3, 1, DEGRADED},
        {140, 5010, 18, 602, 3, 1, OK},
        {141, 5010, 18, 602, 12, 1, DEGRADED},
        {210, 5010, 18, 602, 12, 1, OK},
        {211, 5010, 18, 602, 12, 2, SUSPECT},
        {280, 5010, 17, 602, 12, 2, FAILED},
        {281, 5010, 18, 602, 12, 2, OK},
    };
    struct links_past past = {0};
    for (size_t i = 0; i < ROWS(table); i++) {
        struct finding finding;
        struct gpu_reading reading = {.known = GPU_KNOWS_PCIE | GPU_KNOWS_NVLINK | GPU_KNOWS_NVLINK_ERRORS, .pcie_replays = table[i].pcie,
                                      .nvlinks = table[i].nvlinks, .nvlink_crc = table[i].crc,
                                      .nvlink_replay = table[i].replay, .nvlink_recovery = table[i].recovery};
        links_judge(&past, &reading, at_ms(table[i].second * 1000), &finding);
        if (finding.state != table[i].state)
            fail_msg("second %u: %u, not %u", (unsigned)table[i].second, finding.state, table[i].state);
    }
}

static void test_lost_gpus_and_what_they_need(void **unused)
{
    (void)unused;
    static const struct {
        struct gpu_reading reading;
        unsigned state;
    } table[] = {
        {{.known = GPU_KNOWS_RECOVERY, .recovery = 0}, OK},      {{.known = GPU_KNOWS_RECOVERY, .recovery = 1}, FAILED},
        {{.known = GPU_KNOWS_RECOVERY, .recovery = 2}, FAILED},  {{.known = GPU_KNOWS_RECOVERY, .recovery = 3}, SUSPECT},
        {{.known = GPU_KNOWS_RECOVERY, .recovery = 4}, SUSPECT}, {{.known = GPU_KNOWS_RECOVERY, .recovery = 77}, SUSPECT},
        {{.known = 0, .recovery = 2}, OK}, /* a driver that does not know the question */
        {{.lost = true}, FAILED},
    };
    for (size_t i = 0; i < ROWS(table); i++) {
        struct finding finding;
        struct lost_past past = {0};
        lost_judge(&past, &table[i].reading, &finding);
        assert_int_equal(finding.state, table[i].state);
    }
}

/* What was answered before and is not now: no verdict, and what was found stays. */
static void test_unknown_is_no_verdict(void **unused)
{
    (void)unused;
    struct finding finding;
    struct gpu_reading all = {.known = GPU_KNOWS, .nvlinks = 18, .nvlink_crc = 5000, .nvlink_replay = 70, .nvlink_recovery = 3,
                              .pcie_replays = 900, .ecc_corrected = 90000, .ecc_uncorrected = 4};
    struct gpu_reading none = {.known = 0}, less = all;
    struct links_past links = {0};
    links_judge(&links, &all, at_ms(0), &finding);
    links_judge(&links, &none, at_ms(1000), &finding);
    assert_null(finding.probe);
    less.known &= ~(unsigned)GPU_KNOWS_NVLINK_ERRORS;
    less.nvlink_crc = less.nvlink_replay = less.nvlink_recovery = 0;
    links_judge(&links, &less, at_ms(2000), &finding);
    assert_null(finding.probe);
    links_judge(&links, &all, at_ms(3000), &finding); /* known again, and nothing has grown */
    assert_string_equal(finding.probe, "links");
    assert_int_equal(finding.state, OK);
    less = all;
    less.known &= ~(unsigned)GPU_KNOWS_PCIE;
    less.nvlinks = 17; /* what is known to be bad is told */
    links_judge(&links, &less, at_ms(4000), &finding);
    assert_int_equal(finding.state, FAILED);

    struct ecc_past ecc = {0};
    ecc_judge(&ecc, &all, at_ms(0), &finding);
    ecc_judge(&ecc, &none, at_ms(1000), &finding);
    assert_null(finding.probe);
    ecc_judge(&ecc, &all, at_ms(2000), &finding);
    assert_int_equal(finding.state, OK);
    struct throttle_past throttle = {0};
    all.throttle = 0x40;
    throttle_judge(&throttle, &all, at_ms(0), &finding);
    throttle_judge(&throttle, &none, at_ms(THROTTLE_DEGRADED_MS), &finding);
    assert_null(finding.probe);
    throttle_judge(&throttle, &all, at_ms(THROTTLE_DEGRADED_MS + 1000), &finding);
    assert_int_equal(finding.state, OK); /* nobody knows that there was no break */
    struct lost_past lost = {0};
    lost_judge(&lost, &none, &finding);
    assert_null(finding.probe);
    all.recovery = 2;
    lost_judge(&lost, &all, &finding);
    assert_int_equal(finding.state, FAILED);
    less = all;
    less.known &= ~(unsigned)GPU_KNOWS_RECOVERY;
    lost_judge(&lost, &less, &finding);
    assert_null(finding.probe);
    char text[TIDE_TEXT_MAX];
    gpu_questions(GPU_KNOWS_NVLINK | GPU_KNOWS_MEMORY, text, sizeof text);
    assert_string_equal(text, "NVLinks, used memory");
}

static void test_memory_that_is_not_given_back(void **unused)
{
    (void)unused;
    const uint64_t mib = 1 << 20;
    static const struct {
        uint64_t second, mib;
        bool ranks;
        unsigned state;
    } table[] = {
        {0, 600, false, OK}, {100, 600, false, OK},        /* what the driver takes */
        {101, 70000, true, OK}, {500, 70000, true, OK},    /* ranks */
        {501, 70000, false, OK}, {549, 70000, false, OK},  /* it takes a while */
        {551, 70000, false, SUSPECT}, {552, 1100, false, OK}, {553, 1113, false, SUSPECT}, {554, 70000, true, OK},
    };
    struct memory_past past = {0};
    for (size_t i = 0; i < ROWS(table); i++) {
        struct finding finding;
        struct gpu_reading reading = {.known = GPU_KNOWS_MEMORY, .memory_used = table[i].mib * mib};
        memory_judge(&past, &reading, table[i].ranks, at_ms(table[i].second * 1000), &finding);
        if (finding.state != table[i].state)
            fail_msg("second %u: %u, not %u", (unsigned)table[i].second, finding.state, table[i].state);
    }
    /* Where no rank ever was, what is taken is somebody else's. */
    past = (struct memory_past){0};
    for (unsigned second = 0; second < 1000; second += 100) {
        struct finding finding;
        struct gpu_reading reading = {.known = GPU_KNOWS_MEMORY, .memory_used = second * 100 * mib};
        memory_judge(&past, &reading, false, at_ms(second * 1000), &finding);
        assert_int_equal(finding.state, OK);
    }
}

static void test_a_look_that_does_not_end(void **unused)
{
    (void)unused;
    static const struct {
        uint64_t took_ms;
        unsigned state;
    } table[] = {{0, OK}, {4999, OK}, {5000, DEGRADED}, {19999, DEGRADED}, {20000, SUSPECT}};
    for (size_t i = 0; i < ROWS(table); i++) {
        struct finding finding;
        late_judge("nvml", "NVML", table[i].took_ms, GPU_DEADLINE_MS, &finding);
        assert_int_equal(finding.state, table[i].state);
    }
}

static void test_interfaces(void **unused)
{
    (void)unused;
    static const struct {
        uint64_t ms;
        bool up;
        const char *probe; /* NULL: nothing is decided yet */
        unsigned state;
    } table[] = {
        {0, false, "nic", OK}, {9000, false, "nic", OK}, /* never was up: no cable there */
        {10000, true, "nic", OK},
        {11000, false, NULL, OK}, {11400, true, "nic-flap", DEGRADED}, /* a moment */
        {12000, true, "nic", OK},
        {13000, false, NULL, OK}, {13499, false, NULL, OK}, {13500, false, "nic", FAILED}, {20000, false, "nic", FAILED},
        {21000, true, "nic", OK},
    };
    struct nic_past past = {.name = "eth1", .needed = true};
    for (size_t i = 0; i < ROWS(table); i++) {
        struct finding finding;
        nic_judge(&past, table[i].up, at_ms(table[i].ms), &finding);
        if ((finding.probe == NULL) != (table[i].probe == NULL) || finding.state != table[i].state)
            fail_msg("ms %u: %u, not %u", (unsigned)table[i].ms, finding.state, table[i].state);
        if (finding.probe != NULL)
            assert_string_equal(finding.probe, table[i].probe);
    }
    assert_int_equal(nic_wait_ms(&past, at_ms(21000)), 0);
    struct finding finding;
    nic_judge(&past, false, at_ms(30000), &finding);
    assert_int_equal(nic_wait_ms(&past, at_ms(30100)), NIC_DOWN_MS - 100);
    nic_judge(&past, false, at_ms(30500), &finding);
    assert_int_equal(finding.state, FAILED);
    /* One that no rank needs is only shown, whatever it does. */
    past = (struct nic_past){.name = "eth7"};
    nic_judge(&past, true, at_ms(0), &finding);
    nic_judge(&past, false, at_ms(100), &finding);
    nic_judge(&past, true, at_ms(200), &finding);
    assert_string_equal(finding.probe, "nic-flap");
    assert_int_equal(finding.times_max, HEALTH_TIMES_ANY);
    nic_judge(&past, false, at_ms(1000), &finding);
    nic_judge(&past, false, at_ms(2000), &finding);
    assert_int_equal(finding.state, DEGRADED);
}

static void test_ports(void **unused)
{
    (void)unused;
    enum { UNKNOWN = 128 };
    static const struct {
        uint64_t second;
        struct port_reading reading;
        unsigned state;
    } table[] = {
        {0, {.state = 1, .link_downed = 4, .symbol_errors = 900}, OK}, /* down, and never was up */
        {1, {.state = 4, .link_downed = 4, .symbol_errors = 900}, OK},
        {2, {.state = 4, .link_downed = 4, .symbol_errors = 1020}, OK},
        {3, {.state = 4, .link_downed = 4, .symbol_errors = 1021}, DEGRADED},
        {4000, {.state = 4, .link_downed = 4, .symbol_errors = 1022}, OK},
        {4001, {.state = 4, .link_downed = 5, .symbol_errors = 1022}, DEGRADED},
        {4002, {.state = 4, .link_downed = 5, .symbol_errors = 1022}, OK},
        {4003, {.state = 2, .link_downed = 6, .symbol_errors = 1022}, OK}, /* one look may be in the middle of a change … */
        {4004, {.state = 4, .link_downed = 6, .symbol_errors = 1022}, DEGRADED}, /* … of which the counter tells */
        {4005, {.state = 2, .link_downed = 7, .symbol_errors = 1022}, OK},
        {4006, {.state = 1, .link_downed = 7, .symbol_errors = 1022}, FAILED},
        {4007, {.state = 1, .link_downed = 7, .symbol_errors = 1022}, FAILED},
        {4008, {.state = 4, .link_downed = 0, .symbol_errors = 0}, OK}, /* counters were cleared */
        {4009, {.state = 4, .link_downed = 3, .symbol_errors = 500, .known = UNKNOWN}, OK},
        {4010, {.state = 4, .link_downed = 0, .symbol_errors = 0}, OK},
    };
    enum { ALL = PORT_KNOWS_DOWNED | PORT_KNOWS_SYMBOLS };
    struct port_past past = {0};
    for (size_t i = 0; i < ROWS(table); i++) {
        struct finding finding;
        struct port_reading reading = table[i].reading;
        reading.known = reading.known == UNKNOWN ? 0 : ALL;
        port_judge(&past, &reading, at_ms(table[i].second * 1000), &finding);
        if (finding.state != table[i].state)
            fail_msg("second %u: %u, not %u", (unsigned)table[i].second, finding.state, table[i].state);
        bool told = reading.known == ALL && past.down_looks != 1;
        assert_int_equal(finding.probe != NULL, told);
    }
}

static void test_disks(void **unused)
{
    (void)unused;
    static const struct {
        struct disk_reading reading;
        unsigned state;
        const char *says;
    } table[] = {
        {{"/a", 1000, 50, 0, 0}, OK, ""},
        {{"/a", 1000, 49, 0, 0}, DEGRADED, "less than 5 % of its bytes are free"},
        {{"/a", 1000, 9, 0, 0}, SUSPECT, "less than 1 % of its bytes are free"},
        {{"/a", 1000, 900, 1000, 9}, SUSPECT, "less than 1 % of its files are free"},
        {{"/a", UINT64_MAX, UINT64_MAX, 0, 0}, OK, ""},
        {{"/a", 0, 0, 0, 0}, OK, ""}, /* a file system that has no size */
    };
    for (size_t i = 0; i < ROWS(table); i++) {
        struct finding finding;
        disk_judge(&table[i].reading, &finding);
        assert_int_equal(finding.state, table[i].state);
        assert_string_equal(finding.text, table[i].says);
    }
}

static void test_clocks(void **unused)
{
    (void)unused;
    static const struct {
        uint64_t wall_ms, mono_ms;
        unsigned state;
    } table[] = {
        {1700000000000, 5000, OK}, {1700000005000, 10000, OK}, {1700000010900, 15000, OK}, /* slewed */
        {1700000017000, 20000, DEGRADED}, {1700000022000, 25000, OK}, {1600000000000, 30000, DEGRADED}, {1600000005000, 35000, OK},
    };
    struct clock_past past = {0};
    for (size_t i = 0; i < ROWS(table); i++) {
        struct finding finding;
        clock_judge(&past, table[i].wall_ms, table[i].mono_ms, &finding);
        assert_int_equal(finding.state, table[i].state);
        if (finding.state != OK)
            assert_int_equal(finding.times_max, HEALTH_TIMES_ANY);
    }
}

static void test_pressure(void **unused)
{
    (void)unused;
    static const struct {
        const char *text;
        unsigned state;
    } table[] = {
        {"some avg10=99.00 avg60=1.00 avg300=0.00 total=1\nfull avg10=39.99 avg60=0.00 avg300=0.00 total=1\n", OK},
        {"some avg10=99.00 avg60=1.00 avg300=0.00 total=1\nfull avg10=40.00 avg60=0.00 avg300=0.00 total=1\n", OK},
        {"some avg10=99.00 avg60=1.00 avg300=0.00 total=1\nfull avg10=98.00 avg60=0.00 avg300=0.00 total=1\n", OK},
        {"some avg10=99.00 avg60=1.00 avg300=0.00 total=1\nfull avg10=100.00 avg60=0.00 avg300=0.00 total=1\n", DEGRADED},
        {"some avg10=0.00 avg60=1.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=1\n", OK},
        {"", OK}, {"full avg10=", OK}, {"full avg10=x", OK}, {"some avg10=99.00\n", OK},
    };
    struct psi_past past = {0};
    for (size_t i = 0; i < ROWS(table); i++) {
        struct finding finding;
        psi_judge(&past, PSI_IO, table[i].text, &finding);
        if (finding.state != table[i].state)
            fail_msg("row %zu: %u, not %u", i, finding.state, table[i].state);
    }
}

/* In the form that NCCL 2.30 prints (src/ras/client_support.cc, rasDumpCommsToJSON). */
#define RAS_RANK(rank, host, pid, reduces, gathers)                                                                     \
    "{\"rank\":" #rank ",\"host\":\"" host "\",\"pid\":" #pid ",\"cuda_dev\":0,\"nvml_dev\":0,\"status\":{\"init_state\":0," \
    "\"async_error\":0,\"finalize_called\":false,\"destroy_flag\":false,\"abort_flag\":false},\"collective_counts\":{"    \
    "\"Broadcast\":1,\"AllGather\":" #gathers ",\"AllReduce\":" #reduces "}}"
#define RAS_TEXT(ranks)                                                                                             \
    "{\"nccl_version\":\"2.30.7\",\"communicators_count\":1,\"communicators\":[{\"hash\":\"0x1234\",\"size\":2,"      \
    "\"ranks_count\":2,\"missing_ranks_count\":0,\"ranks\":[" ranks "],\"missing_ranks\":[]}],\"ras\":{\"timeouts_count\":0}}"

static void test_who_is_behind_in_a_collective(void **unused)
{
    (void)unused;
    static const char even[] = RAS_TEXT(RAS_RANK(0, "10.0.0.1", 77, 40, 7) "," RAS_RANK(1, "10.0.0.2", 88, 40, 7));
    static const char ours[] = RAS_TEXT(RAS_RANK(0, "10.0.0.1", 77, 39, 7) "," RAS_RANK(1, "10.0.0.2", 88, 40, 7));
    static const char next[] = RAS_TEXT(RAS_RANK(0, "10.0.0.1", 77, 40, 7) "," RAS_RANK(1, "10.0.0.2", 88, 41, 7));
    static const char other[] = RAS_TEXT(RAS_RANK(0, "10.0.0.1", 77, 40, 7) "," RAS_RANK(1, "10.0.0.2", 88, 39, 7));
    static const char stranger[] = RAS_TEXT(RAS_RANK(0, "10.0.0.1", 79, 39, 7) "," RAS_RANK(1, "10.0.0.2", 88, 40, 7));
    /* Rank 0 of 0x1234 has begun what rank 1 of 0x5678 has not: it waits there. */
    static const char waiting[] =
        "{\"communicators\":[{\"hash\":\"0x1234\",\"ranks\":[" RAS_RANK(0, "10.0.0.1", 77, 39, 7) "," RAS_RANK(1, "10.0.0.2", 88, 40, 7)
        "]},{\"hash\":\"0x5678\",\"ranks\":[" RAS_RANK(0, "10.0.0.1", 77, 3, 8) "," RAS_RANK(1, "10.0.0.3", 99, 3, 7) "]}]}";
    static const struct {
        uint64_t ms;
        const char *text;
        unsigned state;
    } table[] = {
        {0, even, OK}, {4000, even, OK},
        {6000, ours, OK}, {7500, next, OK}, {9000, next, OK}, /* behind, and moving */
        {9500, next, DEGRADED}, {14000, even, OK},
        {16000, other, OK}, {30000, other, OK},                /* another host's rank: that host's agent says so */
        {32000, stranger, OK}, {60000, stranger, OK},          /* a process here that is none of ours */
        {62000, "{}", OK}, {64000, "{\"communicators\":[{\"ranks\":7},3]}", OK},
        {65000, waiting, OK}, {69000, waiting, OK}, /* behind, as it waits for another one elsewhere */
    };
    static const int32_t pids[] = {77};
    const struct ras_own own = {.addresses = {"192.168.7.7", "10.0.0.1"}, .address_count = 2, .pids = pids, .pid_count = 1};
    struct ras_past past = {0};
    struct finding finding;
    struct err err = {0};
    for (size_t i = 0; i < ROWS(table); i++) {
        assert_int_equal(ras_judge(&past, table[i].text, strlen(table[i].text), &own, at_ms(table[i].ms), &finding, &err), TIDE_OK);
        if (finding.state != table[i].state)
            fail_msg("ms %u: %u, not %u", (unsigned)table[i].ms, finding.state, table[i].state);
        if (finding.state != OK)
            assert_string_equal(finding.text, "rank 0 of communicator 0x1234 has begun 40 AllReduce, others 41, and none moves");
    }
    assert_int_equal(ras_judge(&past, "NCCL", 4, &own, at_ms(0), &finding, &err), TIDE_E_INVALID);
    assert_int_equal(ras_judge(&past, "[]", 2, &own, at_ms(0), &finding, &err), TIDE_E_INVALID);
    /* An answer about another job says nothing of this one. */
    past = (struct ras_past){0};
    static const char elsewhere[] = "{\"communicators\":[{\"hash\":\"0x9\",\"ranks\":[" RAS_RANK(0, "10.0.0.1", 5, 1, 1) "]}]}";
    const char *const three[] = {next, elsewhere, next};
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(ras_judge(&past, three[i], strlen(three[i]), &own, at_ms(1000 + i * 1500), &finding, &err), TIDE_OK);
        assert_int_equal(finding.probe == NULL, i == 1);
    }
    assert_int_equal(finding.state, DEGRADED);
    assert_false(finding.restart); /* it may be evaluating, or writing */
    /* It hangs, when that goes on: once for each time. */
    assert_false(ras_hung(&past, 0, at_ms(9000000), &finding));
    assert_false(ras_hung(&past, 60000, at_ms(60999), &finding));
    assert_true(ras_hung(&past, 60000, at_ms(61000), &finding));
    assert_int_equal(finding.state, DEGRADED);
    assert_true(finding.restart);
    assert_int_equal(finding.times_max, RAS_HUNGS_MAX);
    assert_string_equal(finding.text, "for 60 s rank 0 of communicator 0x1234 has begun 40 AllReduce, others 41, and none moves");
    assert_false(ras_hung(&past, 60000, at_ms(62000), &finding));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_xids),
        cmocka_unit_test(test_kernel_log),
        cmocka_unit_test(test_a_record_is_one_line_of_plain_text),
        cmocka_unit_test(test_ecc),
        cmocka_unit_test(test_throttle),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_lost_gpus_and_what_they_need),
        cmocka_unit_test(test_unknown_is_no_verdict),
        cmocka_unit_test(test_memory_that_is_not_given_back),
        cmocka_unit_test(test_a_look_that_does_not_end),
        cmocka_unit_test(test_interfaces),
        cmocka_unit_test(test_ports),
        cmocka_unit_test(test_disks),
        cmocka_unit_test(test_clocks),
        cmocka_unit_test(test_pressure),
        cmocka_unit_test(test_who_is_behind_in_a_collective),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
