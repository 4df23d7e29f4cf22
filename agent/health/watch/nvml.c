/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/health/watch/nvml.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "agent/health/watch/nvml_abi.h"
#include "ckpt/base/mem.h"

#define NVML_LIBRARY "libnvidia-ml.so.1"
#define NS_PER_MS_LONG 1000000l

struct nvml_calls {
#define X(name, parameters) nvml_return(*name) parameters;
    NVML_NEEDED(X) NVML_WANTED(X)
#undef X
};

struct nvml_gpu {
    nvml_device device;
    bool is_open, has_events;
    char subject[HEALTH_SUBJECT_MAX + 1];
};

struct nvml {
    struct nvml_calls calls;
    nvml_event_set events; /* NULL: this driver has none */
    struct nvml_gpu gpus[GPUS_MAX];
    unsigned count;
};

/* A function pointer by way of dlsym: POSIX promises that this works, and C does not. */
static void look_up(void *library, const char *name, void *to)
{
    void *symbol = dlsym(library, name);
    memcpy(to, &symbol, sizeof symbol);
}

static enum tide_status load(struct nvml_calls *calls, struct err *err)
{
    void *library = dlopen(NVML_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return err_set(err, TIDE_E_UNAVAILABLE, "%s is not on this host: it comes with the driver of NVIDIA", NVML_LIBRARY);
    const char *missing = NULL;
#define X(name, parameters) look_up(library, #name, &calls->name);
    NVML_NEEDED(X) NVML_WANTED(X)
#undef X
#define X(name, parameters) missing = calls->name == NULL ? #name : missing;
    NVML_NEEDED(X)
#undef X
    if (missing == NULL)
        return TIDE_OK;
    return err_set(err, TIDE_E_UNAVAILABLE, "%s is too old, it has no %s: install a driver of 450 or newer", NVML_LIBRARY, missing);
}

int nvml_open_gpu(struct nvml *nvml, unsigned index)
{
    struct nvml_gpu *gpu = &nvml->gpus[index];
    struct nvml_pci_info pci;
    if (gpu->is_open)
        return NVML_SUCCESS;
    nvml_return code = nvml->calls.nvmlDeviceGetHandleByIndex_v2(index, &gpu->device);
    if (code == NVML_SUCCESS)
        code = nvml->calls.nvmlDeviceGetPciInfo_v3(gpu->device, &pci);
    if (code != NVML_SUCCESS)
        return code;
    pci.bus_id[sizeof pci.bus_id - 1] = '\0';
    gpu_subject(pci.bus_id, gpu->subject);
    if (nvml->events != NULL)
        gpu->has_events = nvml->calls.nvmlDeviceRegisterEvents(gpu->device, NVML_EVENT_XID, nvml->events) == NVML_SUCCESS;
    gpu->is_open = true;
    return NVML_SUCCESS;
}

/* The library, and how many GPUs it counts. */
static enum tide_status start(const struct nvml_calls *calls, unsigned *ret_count, struct err *err)
{
    char why[TIDE_TEXT_MAX + 1];
    unsigned count = 0;
    nvml_return code = calls->nvmlInit_v2();
    if (code == NVML_SUCCESS)
        code = calls->nvmlDeviceGetCount_v2(&count);
    if (code != NVML_SUCCESS) {
        nvml_says(code, why, sizeof why);
        return err_set(err, TIDE_E_UNAVAILABLE, "%s: %s", NVML_LIBRARY, why);
    }
    if (count == 0)
        return err_set(err, TIDE_E_UNAVAILABLE, "%s finds no GPU on this host; look at lspci and dmesg if there is one", NVML_LIBRARY);
    *ret_count = count < GPUS_MAX ? count : GPUS_MAX;
    return TIDE_OK;
}

enum tide_status nvml_open(struct nvml **ret_nvml, struct err *err)
{
    struct nvml *nvml = mem_alloc(sizeof *nvml);
    const struct nvml_calls *calls = &nvml->calls;
    enum tide_status status = load(&nvml->calls, err);
    if (status == TIDE_OK)
        status = start(calls, &nvml->count, err);
    if (status != TIDE_OK) {
        mem_free(nvml);
        return status;
    }
    if (calls->nvmlEventSetCreate == NULL || calls->nvmlDeviceRegisterEvents == NULL || calls->nvmlEventSetWait_v2 == NULL ||
        calls->nvmlEventSetCreate(&nvml->events) != NVML_SUCCESS)
        nvml->events = NULL;
    *ret_nvml = nvml;
    return TIDE_OK;
}

void nvml_free(struct nvml *nvml)
{
    mem_free(nvml);
}

unsigned nvml_count(const struct nvml *nvml)
{
    return nvml->count;
}

bool nvml_is_open(const struct nvml *nvml, unsigned gpu)
{
    return nvml->gpus[gpu].is_open;
}

const char *nvml_subject(const struct nvml *nvml, unsigned gpu)
{
    return nvml->gpus[gpu].subject;
}

bool nvml_has_events(const struct nvml *nvml, unsigned gpu)
{
    return nvml->gpus[gpu].has_events;
}

void nvml_lacks(const struct nvml *nvml, char *to, size_t size)
{
    size_t n = 0;
    to[0] = '\0';
#define X(name, parameters)                                                                \
    if (nvml->calls.name == NULL && n < size)                                              \
        n += (size_t)snprintf(to + n, size - n, "%s%s", n > 0 ? ", " : "", #name);
    NVML_WANTED(X)
#undef X
}

/* ---- one GPU ---- */

/* Did it answer? That it is lost any call may say. */
static bool good(struct gpu_reading *to, nvml_return code)
{
    if (code == NVML_ERROR_GPU_IS_LOST)
        to->lost = true;
    if (code == NVML_ERROR_RESET_REQUIRED) {
        to->known |= GPU_KNOWS_RECOVERY;
        to->recovery = 1; /* NVML_GPU_RECOVERY_ACTION_GPU_RESET */
    }
    return code == NVML_SUCCESS;
}

static bool read_ecc(const struct nvml_calls *calls, nvml_device device, unsigned type, unsigned counter, struct gpu_reading *to,
                     uint64_t *ret_count)
{
    unsigned long long count = 0;
    if (calls->nvmlDeviceGetTotalEccErrors == NULL ||
        !good(to, calls->nvmlDeviceGetTotalEccErrors(device, type, counter, &count)))
        return false;
    *ret_count = count;
    return true;
}

static void read_memory_errors(const struct nvml_calls *calls, nvml_device device, struct gpu_reading *to)
{
    if (read_ecc(calls, device, NVML_ERRORS_CORRECTED, NVML_ECC_VOLATILE, to, &to->ecc_corrected) &&
        read_ecc(calls, device, NVML_ERRORS_UNCORRECTED, NVML_ECC_VOLATILE, to, &to->ecc_uncorrected) &&
        read_ecc(calls, device, NVML_ERRORS_UNCORRECTED, NVML_ECC_AGGREGATE, to, &to->ecc_aggregate))
        to->known |= GPU_KNOWS_ECC;
    unsigned corrected, uncorrected, pending = 0, failed = 0, pages = 0;
    if (calls->nvmlDeviceGetRemappedRows != NULL &&
        good(to, calls->nvmlDeviceGetRemappedRows(device, &corrected, &uncorrected, &pending, &failed))) {
        to->known |= GPU_KNOWS_REMAP;
        to->remap_pending = pending != 0;
        to->remap_failed = failed != 0;
        return; /* GPUs that remap rows retire no pages */
    }
    if (calls->nvmlDeviceGetRetiredPages == NULL || calls->nvmlDeviceGetRetiredPagesPendingStatus == NULL)
        return;
    nvml_return code = calls->nvmlDeviceGetRetiredPages(device, NVML_RETIRED_DOUBLE_BIT, &pages, NULL);
    bool counted = code == NVML_ERROR_INSUFFICIENT_SIZE || good(to, code);
    if (counted && good(to, calls->nvmlDeviceGetRetiredPagesPendingStatus(device, &pending))) {
        to->known |= GPU_KNOWS_RETIRED;
        to->retired = pages;
        to->retired_pending = pending != 0;
    }
}

static void read_links(const struct nvml_calls *calls, nvml_device device, struct gpu_reading *to)
{
    unsigned replays = 0, active = 0;
    if (calls->nvmlDeviceGetPcieReplayCounter != NULL && good(to, calls->nvmlDeviceGetPcieReplayCounter(device, &replays))) {
        to->known |= GPU_KNOWS_PCIE;
        to->pcie_replays = replays;
    }
    for (unsigned link = 0; calls->nvmlDeviceGetNvLinkState != NULL && link < NVML_NVLINKS_MAX; link++) {
        nvml_return code = calls->nvmlDeviceGetNvLinkState(device, link, &active);
        if (good(to, code)) {
            to->known |= GPU_KNOWS_NVLINK;
            to->nvlinks += active != 0;
            continue;
        }
        /* There is no such link; or nobody knows, and then how many are active is not known either. */
        if (code != NVML_ERROR_INVALID_ARGUMENT && code != NVML_ERROR_NOT_SUPPORTED)
            to->known &= ~(unsigned)GPU_KNOWS_NVLINK;
        break;
    }
}

static uint64_t number_of(const struct nvml_field_value *value)
{
    switch (value->type) {
    case NVML_VALUE_UINT:
        return value->value.ui;
    case NVML_VALUE_ULONG:
        return value->value.ul;
    case NVML_VALUE_ULLONG:
        return value->value.ull;
    default:
        return 0;
    }
}

static void read_fields(const struct nvml_calls *calls, nvml_device device, struct gpu_reading *to)
{
    struct nvml_field_value values[] = {{.field = NVML_FI_NVLINK_CRC},
                                        {.field = NVML_FI_NVLINK_REPLAY},
                                        {.field = NVML_FI_NVLINK_RECOVERY},
                                        {.field = NVML_FI_RECOVERY_ACTION}};
    uint64_t *const to_count[] = {&to->nvlink_crc, &to->nvlink_replay, &to->nvlink_recovery};
    const int count = (int)(sizeof values / sizeof values[0]);
    if (calls->nvmlDeviceGetFieldValues == NULL || !good(to, calls->nvmlDeviceGetFieldValues(device, count, values)))
        return;
    bool all = true;
    for (size_t i = 0; i < sizeof to_count / sizeof to_count[0]; i++) {
        all = all && values[i].status == NVML_SUCCESS;
        *to_count[i] = all ? number_of(&values[i]) : 0;
    }
    to->known |= all ? GPU_KNOWS_NVLINK_ERRORS : 0;
    const struct nvml_field_value *action = &values[count - 1];
    if (action->status != NVML_SUCCESS || (to->known & GPU_KNOWS_RECOVERY))
        return;
    to->known |= GPU_KNOWS_RECOVERY;
    to->recovery = (unsigned)number_of(action);
}

void nvml_read(struct nvml *nvml, unsigned gpu, struct gpu_reading *ret_reading)
{
    const struct nvml_calls *calls = &nvml->calls;
    nvml_device device = nvml->gpus[gpu].device;
    memset(ret_reading, 0, sizeof *ret_reading);
    text_copy(ret_reading->subject, sizeof ret_reading->subject, nvml->gpus[gpu].subject);
    read_memory_errors(calls, device, ret_reading);
    read_links(calls, device, ret_reading);
    read_fields(calls, device, ret_reading);
    unsigned long long reasons = 0;
    if (calls->nvmlDeviceGetCurrentClocksThrottleReasons != NULL &&
        good(ret_reading, calls->nvmlDeviceGetCurrentClocksThrottleReasons(device, &reasons))) {
        ret_reading->known |= GPU_KNOWS_THROTTLE;
        ret_reading->throttle = reasons;
    }
    struct nvml_memory memory;
    if (calls->nvmlDeviceGetMemoryInfo != NULL && good(ret_reading, calls->nvmlDeviceGetMemoryInfo(device, &memory))) {
        ret_reading->known |= GPU_KNOWS_MEMORY;
        ret_reading->memory_used = memory.used;
    }
}

/* ---- events ---- */

static void pause_ms(unsigned ms)
{
    struct timespec time = {.tv_nsec = ms * NS_PER_MS_LONG};
    nanosleep(&time, NULL);
}

bool nvml_wait(struct nvml *nvml, unsigned *ret_xid, char ret_subject[HEALTH_SUBJECT_MAX + 1])
{
    struct nvml_event_data data = {0};
    nvml_return code = NVML_ERROR_NOT_SUPPORTED;
    if (nvml->events != NULL)
        code = nvml->calls.nvmlEventSetWait_v2(nvml->events, &data, GPU_EVENT_WAIT_MS);
    if (code != NVML_SUCCESS) {
        if (code != NVML_ERROR_TIMEOUT) /* else one that fails at once would be asked without end */
            pause_ms(GPU_EVENT_WAIT_MS);
        return false;
    }
    if (data.type != NVML_EVENT_XID)
        return false;
    *ret_xid = (unsigned)data.data;
    text_copy(ret_subject, HEALTH_SUBJECT_MAX + 1, "GPU");
    for (unsigned i = 0; i < nvml->count; i++)
        if (nvml->gpus[i].is_open && nvml->gpus[i].device == data.device)
            text_copy(ret_subject, HEALTH_SUBJECT_MAX + 1, nvml->gpus[i].subject);
    return true;
}
