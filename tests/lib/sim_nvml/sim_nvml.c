/* SPDX-License-Identifier: Apache-2.0 */
/* A simulator of NVML, under its name: GPUs that are well until the file $SIM_NVML says something else. The file is read anew at
 * each call; its lines count in their order, what is said last of a thing holds:
 *
 *     gpus N                         how many there are; first line, default 2
 *     xid GPU CODE                   an event; each such line is one, delivered once to each process
 *     ecc GPU CORRECTED UNCORRECTED  volatile counts
 *     remap GPU PENDING FAILED       0 or 1
 *     retired GPU PAGES PENDING
 *     throttle GPU MASK
 *     replays GPU N                  PCIe
 *     nvlinks GPU N CRC              active ones, of 4; CRC errors
 *     recovery GPU ACTION
 *     memory GPU BYTES               used
 *     lost GPU                       it has fallen off the bus: every call says so
 *     shut GPU CODE                  its handle cannot be opened: that is what NVML returns; 0: it can
 *     fails GPU CALL                 that call fails, for no known reason: ecc, remap, replays, nvlink, fields, clocks, memory, or
 *                                    fieldN: of the fields that of that number only
 *     hang SECONDS                   every call takes so long, or until that line is gone
 *
 * It shows what the agent asks, and what it makes of the answers; nothing about real drivers. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "agent/health/watch/nvml_abi.h"

#define SIM_GPUS_MAX 8u
#define SIM_LINKS 4u
#define SIM_POLL_NS 10000000l
#define SIM_POLLS_A_SECOND 100u
#define NVML_ERROR_UNKNOWN 999
#define NVML_ERROR_UNINITIALIZED 1

struct nvml_device_st {
    unsigned index;
    unsigned long long corrected, uncorrected, throttle, memory;
    unsigned remap_pending, remap_failed, retired, retired_pending, replays, links, crc, recovery;
    int lost, registered, shut;
    char fails[16];
};

struct nvml_event_set_st {
    unsigned seen; /* lines "xid" that were delivered */
};

struct told {
    unsigned gpus, hang_s;
    unsigned xid_count, xid_gpu, xid_code; /* the one after `skip` */
    struct nvml_device_st gpu[SIM_GPUS_MAX];
};

static struct nvml_device_st handles[SIM_GPUS_MAX];
static int initialized;

#define X(name, parameters) nvml_return name parameters;
NVML_NEEDED(X) NVML_WANTED(X)
#undef X

static void read_line(const char *line, unsigned skip, struct told *to)
{
    unsigned gpu = 0, a = 0, b = 0;
    unsigned long long x = 0, y = 0;
    char word[16] = "";
    if (sscanf(line, "gpus %u", &a) == 1 && a <= SIM_GPUS_MAX)
        to->gpus = a;
    if (sscanf(line, "hang %u", &a) == 1)
        to->hang_s = a;
    if (sscanf(line, "%15s %u", word, &gpu) != 2 || gpu >= SIM_GPUS_MAX)
        return;
    struct nvml_device_st *at = &to->gpu[gpu];
    if (sscanf(line, "xid %*u %u", &a) == 1 && to->xid_count++ == skip) {
        to->xid_gpu = gpu;
        to->xid_code = a;
    }
    if (sscanf(line, "ecc %*u %llu %llu", &x, &y) == 2)
        at->corrected = x, at->uncorrected = y;
    if (sscanf(line, "remap %*u %u %u", &a, &b) == 2)
        at->remap_pending = a, at->remap_failed = b;
    if (sscanf(line, "retired %*u %u %u", &a, &b) == 2)
        at->retired = a, at->retired_pending = b;
    if (sscanf(line, "throttle %*u %llx", &x) == 1)
        at->throttle = x;
    if (sscanf(line, "replays %*u %u", &a) == 1)
        at->replays = a;
    if (sscanf(line, "nvlinks %*u %u %u", &a, &b) == 2)
        at->links = a, at->crc = b;
    if (sscanf(line, "recovery %*u %u", &a) == 1)
        at->recovery = a;
    if (sscanf(line, "memory %*u %llu", &x) == 1)
        at->memory = x;
    sscanf(line, "shut %*u %d", &at->shut);
    sscanf(line, "fails %*u %15s", at->fails);
    if (strcmp(word, "lost") == 0)
        at->lost = 1;
}

static struct told look_once(unsigned skip)
{
    struct told told = {.gpus = 2};
    const char *path = getenv("SIM_NVML");
    char line[128];
    for (unsigned i = 0; i < SIM_GPUS_MAX; i++)
        told.gpu[i].links = SIM_LINKS;
    FILE *file = path != NULL ? fopen(path, "re") : NULL;
    while (file != NULL && fgets(line, sizeof line, file) != NULL)
        read_line(line, skip, &told);
    if (file != NULL)
        fclose(file);
    return told;
}

static struct told look(unsigned skip)
{
    struct told told = look_once(skip);
    for (unsigned polls = 0; polls < told.hang_s * SIM_POLLS_A_SECOND && look_once(skip).hang_s > 0; polls++)
        nanosleep(&(struct timespec){.tv_nsec = SIM_POLL_NS}, NULL);
    return told;
}

/* What is told of that GPU; its status otherwise. */
static nvml_return of(nvml_device device, const char *call, struct nvml_device_st *ret_gpu)
{
    if (!initialized)
        return NVML_ERROR_UNINITIALIZED;
    if (device < handles || device >= handles + SIM_GPUS_MAX)
        return NVML_ERROR_INVALID_ARGUMENT;
    struct told told = look(0);
    *ret_gpu = told.gpu[device - handles];
    if (!ret_gpu->lost && strcmp(ret_gpu->fails, call) == 0)
        return NVML_ERROR_UNKNOWN;
    return ret_gpu->lost ? NVML_ERROR_GPU_IS_LOST : NVML_SUCCESS;
}

nvml_return nvmlInit_v2(void)
{
    if (!initialized)
        fputs("libnvidia-ml.so.1 is a simulator: there is no GPU, $SIM_NVML says what is wrong with it\n", stderr);
    initialized = 1;
    return NVML_SUCCESS;
}

nvml_return nvmlDeviceGetCount_v2(unsigned *count)
{
    *count = look(0).gpus;
    return NVML_SUCCESS;
}

nvml_return nvmlDeviceGetHandleByIndex_v2(unsigned index, nvml_device *device)
{
    struct told told = look(0);
    if (index >= told.gpus || told.gpu[index].shut != 0)
        return index >= told.gpus ? NVML_ERROR_INVALID_ARGUMENT : told.gpu[index].shut;
    handles[index].index = index;
    *device = &handles[index];
    return NVML_SUCCESS;
}

nvml_return nvmlDeviceGetPciInfo_v3(nvml_device device, struct nvml_pci_info *info)
{
    memset(info, 0, sizeof *info);
    info->bus = 0x65 + device->index;
    snprintf(info->bus_id, sizeof info->bus_id, "00000000:%02X:00.0", info->bus);
    return NVML_SUCCESS;
}

nvml_return nvmlEventSetCreate(nvml_event_set *set)
{
    static struct nvml_event_set_st only;
    *set = &only;
    return NVML_SUCCESS;
}

nvml_return nvmlDeviceRegisterEvents(nvml_device device, unsigned long long types, nvml_event_set set)
{
    (void)set;
    device->registered = (types & NVML_EVENT_XID) != 0;
    return NVML_SUCCESS;
}

nvml_return nvmlEventSetWait_v2(nvml_event_set set, struct nvml_event_data *data, unsigned timeout_ms)
{
    for (unsigned long waited_ns = 0; waited_ns <= timeout_ms * 1000000ul; waited_ns += SIM_POLL_NS) {
        struct told told = look(set->seen);
        if (told.xid_count > set->seen) {
            set->seen++;
            *data = (struct nvml_event_data){.device = &handles[told.xid_gpu], .type = NVML_EVENT_XID, .data = told.xid_code};
            if (handles[told.xid_gpu].registered)
                return NVML_SUCCESS;
        }
        nanosleep(&(struct timespec){.tv_nsec = SIM_POLL_NS}, NULL);
    }
    return NVML_ERROR_TIMEOUT;
}

nvml_return nvmlDeviceGetTotalEccErrors(nvml_device device, unsigned type, unsigned counter, unsigned long long *count)
{
    struct nvml_device_st gpu;
    nvml_return code = of(device, "ecc", &gpu);
    (void)counter; /* of a GPU that is as old as its driver */
    *count = code != NVML_SUCCESS ? 0 : type == NVML_ERRORS_CORRECTED ? gpu.corrected : gpu.uncorrected;
    return code;
}

nvml_return nvmlDeviceGetRemappedRows(nvml_device device, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed)
{
    struct nvml_device_st gpu;
    nvml_return code = of(device, "remap", &gpu);
    if (code != NVML_SUCCESS)
        return code;
    *corrected = *uncorrected = 0;
    *pending = gpu.remap_pending;
    *failed = gpu.remap_failed;
    return gpu.retired || gpu.retired_pending ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS; /* an older one */
}

nvml_return nvmlDeviceGetRetiredPages(nvml_device device, unsigned cause, unsigned *count, unsigned long long *pages)
{
    struct nvml_device_st gpu;
    nvml_return code = of(device, "retired", &gpu);
    if (code != NVML_SUCCESS)
        return code;
    (void)pages;
    *count = cause == NVML_RETIRED_DOUBLE_BIT ? gpu.retired : 0;
    return *count > 0 ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

nvml_return nvmlDeviceGetRetiredPagesPendingStatus(nvml_device device, unsigned *pending)
{
    struct nvml_device_st gpu;
    nvml_return code = of(device, "retired", &gpu);
    *pending = code == NVML_SUCCESS ? gpu.retired_pending : 0;
    return code;
}

nvml_return nvmlDeviceGetCurrentClocksThrottleReasons(nvml_device device, unsigned long long *reasons)
{
    struct nvml_device_st gpu;
    nvml_return code = of(device, "clocks", &gpu);
    *reasons = code == NVML_SUCCESS ? gpu.throttle : 0;
    return code;
}

nvml_return nvmlDeviceGetPcieReplayCounter(nvml_device device, unsigned *count)
{
    struct nvml_device_st gpu;
    nvml_return code = of(device, "replays", &gpu);
    *count = code == NVML_SUCCESS ? gpu.replays : 0;
    return code;
}

nvml_return nvmlDeviceGetNvLinkState(nvml_device device, unsigned link, unsigned *active)
{
    struct nvml_device_st gpu = {0};
    nvml_return code = of(device, "nvlink", &gpu);
    if (strcmp(gpu.fails, "nvlink") == 0 && link == 0) /* one of them still answers */
        code = NVML_SUCCESS;
    if (code != NVML_SUCCESS || link >= SIM_LINKS)
        return code != NVML_SUCCESS ? code : NVML_ERROR_INVALID_ARGUMENT;
    *active = link < gpu.links;
    return NVML_SUCCESS;
}

nvml_return nvmlDeviceGetFieldValues(nvml_device device, int count, struct nvml_field_value *values)
{
    struct nvml_device_st gpu;
    nvml_return code = of(device, "fields", &gpu);
    for (int i = 0; i < count && code == NVML_SUCCESS; i++) {
        values[i].type = NVML_VALUE_UINT;
        unsigned field = values[i].field;
        char name[16];
        snprintf(name, sizeof name, "field%u", field);
        values[i].status = strcmp(gpu.fails, name) == 0 ? NVML_ERROR_UNKNOWN : NVML_SUCCESS;
        values[i].value.ui = field == NVML_FI_NVLINK_CRC ? gpu.crc : field == NVML_FI_RECOVERY_ACTION ? gpu.recovery : 0;
    }
    return code;
}

nvml_return nvmlDeviceGetMemoryInfo(nvml_device device, struct nvml_memory *memory)
{
    struct nvml_device_st gpu;
    nvml_return code = of(device, "memory", &gpu);
    if (code == NVML_SUCCESS)
        *memory = (struct nvml_memory){.total = 80ull << 30, .free = (80ull << 30) - gpu.memory, .used = gpu.memory};
    return code;
}
