/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdio.h>

#include "agent/health/probes.h"

/* Xids that mean something for where ranks may run. Source of `does`: NVIDIA, "XID Errors", chapter "Analyzing Xid Errors with the
 * Xid Catalog", column "Resolution Bucket (Immediate Action)", as of driver R580: RESTART_APP is fatal to the rank, RESET_GPU to
 * the GPU, RESTART_BM to the host; IGNORE alarms nobody. Where the catalog names a workflow, the line says how it was decided.
 * XID_PROGRAM: its column "Possible causes" has the user's application, or an engine was given a bad address by it. However
 * often that comes, it says nothing about the GPU.
 * Codes that the catalog lists as unused, of displays or of video engines, are not here: shown if they come, not acted on. */
static const struct xid_row {
    unsigned code;
    enum xid_scope scope;
    const char *means;
} rows[] = {
    {8, XID_PROGRAM, "GPU stopped processing"},
    {11, XID_RANK, "invalid or corrupted push buffer stream"},
    {13, XID_PROGRAM, "graphics engine exception"},
    {25, XID_RANK, "invalid or illegal push buffer stream"},
    {31, XID_PROGRAM, "GPU memory page fault"},
    {32, XID_RANK, "invalid or corrupted push buffer stream"},
    {37, XID_NOTHING, "driver firmware error"},
    {38, XID_NOTHING, "driver firmware error"},
    {39, XID_PROGRAM, "copy engine exception"},
    {40, XID_PROGRAM, "copy engine exception"},
    {41, XID_PROGRAM, "copy engine exception"},
    /* "The GPU remains in a healthy state": a program's fault, and the program ends. */
    {43, XID_NOTHING, "GPU stopped processing"},
    {44, XID_NOTHING, "graphics engine fault during context switch"},
    /* Follows whenever a process is killed, which the agent does itself at every restart. */
    {45, XID_NOTHING, "preemptive cleanup, due to previous errors"},
    {46, XID_GPU, "GPU stopped processing"},
    {48, XID_GPU, "double bit ECC error"}, /* workflow; alone: RESET_GPU */
    {54, XID_NOTE, "auxiliary power is not connected to the GPU board"},
    {62, XID_GPU, "internal micro-controller halt"},
    /* Rows were remapped as they should be; ecc.c sees whether a reset is pending. */
    {63, XID_NOTHING, "GPU memory remapping event"},
    {64, XID_GPU, "GPU memory remapping failure"},
    {66, XID_NOTHING, "illegal access by driver"},
    {67, XID_NOTHING, "illegal access by driver"},
    {69, XID_PROGRAM, "graphics engine class error"},
    {70, XID_PROGRAM, "copy engine error"},
    {71, XID_PROGRAM, "copy engine error"},
    {72, XID_PROGRAM, "copy engine error"},
    {74, XID_LINK, "NVLink error"}, /* workflow by registers; the other end of the link may be the cause: drained, not failed */
    {75, XID_PROGRAM, "copy engine error"},
    {76, XID_PROGRAM, "copy engine error"},
    {77, XID_PROGRAM, "copy engine error"},
    {79, XID_HOST, "GPU has fallen off the bus"},
    {80, XID_RANK, "corrupted data sent to GPU"},
    {85, XID_PROGRAM, "copy engine error"},
    {92, XID_NOTE, "high single-bit ECC error rate"},
    {94, XID_RANK, "contained memory error"},
    {95, XID_GPU, "uncontained memory error"},
    {106, XID_NOTHING, "SMBPBI test message"},
    {107, XID_NOTHING, "SMBPBI test message"},
    {109, XID_GPU, "context switch timeout"},
    {110, XID_GPU, "security fault"},
    {119, XID_GPU, "GSP RPC timeout"},
    {120, XID_GPU, "GSP error"},
    {121, XID_NOTHING, "corrected errors on C2C"},
    {126, XID_PROGRAM, "copy engine error"},
    {127, XID_PROGRAM, "copy engine error"},
    {128, XID_PROGRAM, "copy engine error"},
    {129, XID_PROGRAM, "copy engine error"},
    {130, XID_PROGRAM, "copy engine error"},
    {131, XID_PROGRAM, "copy engine error"},
    {132, XID_PROGRAM, "copy engine error"},
    {133, XID_PROGRAM, "copy engine error"},
    {134, XID_PROGRAM, "copy engine error"},
    {135, XID_PROGRAM, "copy engine error"},
    {136, XID_GPU, "link training failed"},
    {137, XID_NOTHING, "NVLink privilege error"}, /* of the program; IGNORE */
    {140, XID_GPU, "unrecovered ECC error"},
    {141, XID_NOTHING, "CUDA fast path error"},
    {143, XID_GPU, "GPU initialization error"},
    /* NVLink 5: fatal or not is in the message's registers. The recovery action (lost.c) decides for the GPU. */
    {144, XID_LINK, "NVLink SAW error"},
    {145, XID_LINK, "NVLink RLW error"},
    {146, XID_LINK, "NVLink TLW error"},
    {147, XID_NOTE, "NVLink TREX error"},
    {148, XID_NOTE, "NVLink NVLPW_CTRL error"},
    {149, XID_LINK, "NVLink NETIR error"},
    {150, XID_GPU, "NVLink MSE error"},
    {151, XID_HOST, "key rotation error"}, /* RESTART_VM */
    {154, XID_NOTHING, "GPU recovery action changed"}, /* told along with others; lost.c reads the action itself */
    {155, XID_GPU, "NVLink software defined error"},
    {156, XID_GPU, "resource retirement event"},
    {157, XID_NOTE, "resource retirement failure"},
    {158, XID_GPU, "GPU fatal timeout"},
    {160, XID_NOTHING, "channel retirement event"},
    {161, XID_NOTHING, "channel retirement failure"},
    {162, XID_NOTHING, "power smoothing reengaged"},
    {163, XID_NOTE, "power smoothing disengaged"},
    {164, XID_NOTE, "power smoothing: low lifetime"},
    {165, XID_NOTE, "power smoothing: lifetime exhausted"},
    {171, XID_NOTHING, "uncorrectable DRAM error"}, /* details of a 48 */
    {172, XID_NOTHING, "uncorrectable SRAM error"}, /* details of a 48 */
};

static const struct xid_row *row_of(unsigned code)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (rows[i].code == code)
            return &rows[i];
    return NULL;
}

enum xid_scope xid_scope(unsigned code)
{
    const struct xid_row *row = row_of(code);
    return row != NULL ? row->scope : XID_NOTE;
}

/* What each scope is taken for. */
static const struct {
    unsigned state;
    bool restart, latched;
    uint64_t for_ms;
    uint32_t times_max;
    const char *fatal_to;
} scopes[XID_SCOPES] = {
    [XID_NOTHING] = {TIDE_HEALTH_HEALTHY, false, false, 0, HEALTH_TIMES_ANY, ""},
    [XID_NOTE] = {TIDE_HEALTH_DEGRADED, false, false, XID_NOTE_FOR_MS, HEALTH_TIMES_ANY, ""},
    [XID_PROGRAM] = {TIDE_HEALTH_DEGRADED, true, false, XID_RANK_FOR_MS, HEALTH_TIMES_ANY, "; fatal to the rank"},
    [XID_RANK] = {TIDE_HEALTH_DEGRADED, true, false, XID_RANK_FOR_MS, XID_RANK_TIMES_MAX, "; fatal to the rank"},
    [XID_LINK] = {TIDE_HEALTH_SUSPECT, true, true, 1, 0, "; its links are not to be trusted"},
    [XID_GPU] = {TIDE_HEALTH_FAILED, false, true, 1, 0, "; fatal to the GPU, which must be reset"},
    [XID_HOST] = {TIDE_HEALTH_FAILED, false, true, 1, 0, "; fatal to the host, which must be started anew"},
};

void xid_judge(unsigned code, const char *gpu, struct finding *ret_finding)
{
    const struct xid_row *row = row_of(code);
    enum xid_scope scope = xid_scope(code);
    *ret_finding = (struct finding){.probe = "xid",
                                    .state = scopes[scope].state,
                                    .restart = scopes[scope].restart,
                                    .latched = scopes[scope].latched,
                                    .for_ms = scopes[scope].for_ms,
                                    .times_max = scopes[scope].times_max};
    snprintf(ret_finding->subject, sizeof ret_finding->subject, "%s", gpu);
    finding_say(ret_finding, "Xid %u, %s%s", code, row != NULL ? row->means : "of unknown meaning", scopes[scope].fatal_to);
}
