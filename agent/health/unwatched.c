/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "agent/health/probes.h"
#include "ckpt/base/mem.h"

/* nvmlReturn_t, of nvml.h: what a driver answers when it is opened, or one of its GPUs is. */
static const struct {
    int code;
    const char *is, *to_do;
} answers[] = {
    {2, "there is no such GPU any more", "look for it with nvidia-smi and lspci, and start the agent again"},
    {3, "this driver does not support it", "install a newer one"},
    {4, "no permission", "give the agent's user /dev/nvidiactl and the GPU's /dev/nvidiaN"},
    {8, "its power cables are not plugged in", "plug them in, and boot"},
    {9, "the driver is not loaded", "modprobe nvidia, and look at dmesg"},
    {11, "the kernel does not deliver its interrupts", "look at dmesg"},
    {NVML_SAYS_LOST, "it has fallen off the bus, or its driver gave it up", "reset it, or boot"},
    {16, "it needs a reset", "nvidia-smi --gpu-reset"},
    {17, "the operating system has blocked it", "look at the cgroup's devices, and at dmesg"},
    {18, "library and driver are of different versions", "boot, or load the driver that was installed last"},
    {20, "there is no memory for it", "look at dmesg"},
    {25, "this driver is older than its library", "install a newer one"},
};

void nvml_says(int code, char *to, size_t size)
{
    for (size_t i = 0; i < sizeof answers / sizeof answers[0]; i++)
        if (answers[i].code == code) {
            snprintf(to, size, "%s (NVML says %d); %s", answers[i].is, code, answers[i].to_do);
            return;
        }
    snprintf(to, size, "NVML says %d, which is not known here; look at nvidia-smi and dmesg", code);
}

void unwatched_judge(unsigned index, int code, struct finding *ret_finding)
{
    char why[TIDE_TEXT_MAX + 1];
    *ret_finding = (struct finding){.probe = "gpu"};
    snprintf(ret_finding->subject, sizeof ret_finding->subject, "GPU %u", index);
    if (code == NVML_SAYS_GOOD)
        return;
    ret_finding->state = code == NVML_SAYS_LOST ? TIDE_HEALTH_FAILED : TIDE_HEALTH_DEGRADED;
    nvml_says(code, why, sizeof why);
    finding_say(ret_finding, "it cannot be watched: %s", why);
}
