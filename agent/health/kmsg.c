/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/health/probes.h"
#include "ckpt/base/mem.h"

#define MESSAGE_MAX 400u        /* bytes of it that are looked at */
#define FACILITY_SHIFT 3u       /* of the priority; the kernel's own is 0: what a program wrote is not believed */

/* What the kernel says, and what it is taken for. `has` must all be there, in this order. Sources: the kernel's own format strings
 * (mm/oom_kill.c, kernel/hung_task.c, kernel/watchdog.c, block/blk-core.c, fs/ext4, fs/xfs, drivers/edac, drivers/pci/pcie/aer.c,
 * arch/x86/kernel/cpu/mce); SXids: NVIDIA, "Fabric Manager User Guide". */
static const struct kmsg_row {
    const char *has[3];
    unsigned state;
    bool latched;
    const char *subject;
} rows[] = {
    /* Corrected errors are counted by hardware all day long; a limit of a container is the container's. */
    {{"Memory cgroup out of memory: ", NULL, NULL}, TIDE_HEALTH_HEALTHY, false, ""},
    {{"AER: ", "Corrected error", NULL}, TIDE_HEALTH_HEALTHY, false, ""},
    {{"EDAC ", " CE ", NULL}, TIDE_HEALTH_HEALTHY, false, ""},
    {{"Out of memory: ", "illed process ", NULL}, TIDE_HEALTH_DEGRADED, false, "memory"},
    {{"INFO: task ", " blocked for more than ", " seconds"}, TIDE_HEALTH_DEGRADED, false, "tasks"},
    {{"BUG: soft lockup", NULL, NULL}, TIDE_HEALTH_DEGRADED, false, "CPU"},
    {{"Watchdog detected hard LOCKUP", NULL, NULL}, TIDE_HEALTH_SUSPECT, false, "CPU"},
    {{"rcu: INFO: ", "detected stall", NULL}, TIDE_HEALTH_DEGRADED, false, "CPU"},
    {{"temperature above threshold", NULL, NULL}, TIDE_HEALTH_DEGRADED, false, "CPU"},
    {{"Remounting filesystem read-only", NULL, NULL}, TIDE_HEALTH_SUSPECT, true, "disk"},
    {{"EXT4-fs error (device ", NULL, NULL}, TIDE_HEALTH_SUSPECT, true, "disk"},
    {{"XFS (", "Corruption ", NULL}, TIDE_HEALTH_SUSPECT, true, "disk"},
    {{"critical medium error, dev ", NULL, NULL}, TIDE_HEALTH_DEGRADED, false, "disk"},
    {{"I/O error, dev ", NULL, NULL}, TIDE_HEALTH_DEGRADED, false, "disk"},
    {{"I/O error on dev", NULL, NULL}, TIDE_HEALTH_DEGRADED, false, "disk"},
    {{"nvme ", "controller is down", NULL}, TIDE_HEALTH_SUSPECT, false, "disk"},
    {{"EDAC ", " UE ", NULL}, TIDE_HEALTH_SUSPECT, true, "memory"},
    {{"Memory failure: ", NULL, NULL}, TIDE_HEALTH_SUSPECT, true, "memory"},
    {{"[Hardware Error]: ", "Uncorrected", NULL}, TIDE_HEALTH_SUSPECT, true, "machine check"},
    {{"mce: [Hardware Error]: ", NULL, NULL}, TIDE_HEALTH_DEGRADED, false, "machine check"},
    {{"AER: ", "Uncorrected (Fatal)", NULL}, TIDE_HEALTH_SUSPECT, false, "PCIe"},
    {{"AER: ", "Uncorrectable (Fatal)", NULL}, TIDE_HEALTH_SUSPECT, false, "PCIe"},
    {{"SXid (PCI:", "Non-fatal", NULL}, TIDE_HEALTH_DEGRADED, false, "NVSwitch"},
    {{"SXid (PCI:", "Fatal", NULL}, TIDE_HEALTH_FAILED, true, "NVSwitch"},
};

/* "PRIORITY,SEQUENCE,TIME,FLAGS[,…];TEXT\n KEY=value…": the text, if the kernel wrote it. */
static bool read_record(const char *record, size_t bytes, char to[MESSAGE_MAX + 1])
{
    const char *end = memchr(record, ';', bytes);
    if (end == NULL || bytes == 0 || record[0] < '0' || record[0] > '9')
        return false;
    if (strtoul(record, NULL, 10) >> FACILITY_SHIFT != 0)
        return false;
    size_t left = bytes - (size_t)(end + 1 - record);
    const char *stop = memchr(end + 1, '\n', left);
    size_t n = stop != NULL ? (size_t)(stop - end - 1) : left;
    n = n < MESSAGE_MAX ? n : MESSAGE_MAX;
    memcpy(to, end + 1, n);
    to[n] = '\0';
    return true;
}

/* "PCI:0000:65:00", "00000000:65:00.0", "0000:65:00.0": one name for one GPU, whoever speaks of it. */
void gpu_subject(const char *bus_id, char to[HEALTH_SUBJECT_MAX + 1])
{
    unsigned domain, bus, device;
    if (strncmp(bus_id, "PCI:", 4) == 0)
        bus_id += 4;
    if (sscanf(bus_id, "%8x:%2x:%2x", &domain, &bus, &device) == 3)
        snprintf(to, HEALTH_SUBJECT_MAX + 1, "GPU %04x:%02x:%02x", domain, bus, device);
    else
        text_copy(to, HEALTH_SUBJECT_MAX + 1, "GPU");
}

/* "NVRM: Xid (PCI:0000:65:00): 79, pid=1896, GPU has fallen off the bus." */
static bool read_xid(const char *text, struct finding *to)
{
    static const char begin[] = "NVRM: Xid (";
    const char *at = strstr(text, begin);
    const char *close = at != NULL ? strchr(at, ')') : NULL;
    if (close == NULL || close[1] != ':')
        return false;
    char *end, subject[HEALTH_SUBJECT_MAX + 1];
    unsigned long code = strtoul(close + 2, &end, 10);
    if (end == close + 2 || code == 0 || code > UINT16_MAX)
        return false;
    gpu_subject(at + sizeof begin - 1, subject);
    xid_judge((unsigned)code, subject, to);
    return true;
}

/* "NVRM: GPU 0000:65:00.0: GPU has fallen off the bus.": said where there is no Xid any more. */
static bool read_fallen(const char *text, struct finding *to)
{
    static const char begin[] = "NVRM: GPU ";
    const char *at = strstr(text, begin);
    if (at == NULL || strstr(text, "has fallen off the bus") == NULL)
        return false;
    char subject[HEALTH_SUBJECT_MAX + 1];
    at += sizeof begin - 1;
    gpu_subject(strncmp(at, "at ", 3) == 0 ? at + 3 : at, subject);
    xid_judge(79, subject, to);
    return true;
}

static bool row_fits(const struct kmsg_row *row, const char *text)
{
    for (size_t i = 0; i < sizeof row->has / sizeof row->has[0] && row->has[i] != NULL; i++) {
        const char *at = strstr(text, row->has[i]);
        if (at == NULL)
            return false;
        text = at + strlen(row->has[i]);
    }
    return true;
}

bool kmsg_judge(const char *record, size_t bytes, struct finding *ret_finding)
{
    char text[MESSAGE_MAX + 1];
    if (!read_record(record, bytes, text))
        return false;
    if (read_xid(text, ret_finding) || read_fallen(text, ret_finding))
        return ret_finding->state != TIDE_HEALTH_HEALTHY;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!row_fits(&rows[i], text))
            continue;
        *ret_finding = (struct finding){
            .probe = "kernel", .state = rows[i].state, .latched = rows[i].latched, .for_ms = KMSG_FOR_MS, .times_max = HEALTH_TIMES_ANY};
        text_copy(ret_finding->subject, sizeof ret_finding->subject, rows[i].subject);
        finding_say(ret_finding, "the kernel says: %.200s", text);
        return rows[i].state != TIDE_HEALTH_HEALTHY;
    }
    return false;
}
