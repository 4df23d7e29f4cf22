/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_HEALTH_WATCH_NVML_ABI_H
#define AGENT_HEALTH_WATCH_NVML_ABI_H

/* What is used of NVML, as its ABI has it since driver 450: the library comes with the driver, its header with a toolkit that hosts
 * need not have. Names and numbers are those of nvml.h. */

#include <stdint.h>

typedef int nvml_return; /* nvmlReturn_t */
enum {
    NVML_SUCCESS = 0, NVML_ERROR_INVALID_ARGUMENT = 2, NVML_ERROR_NOT_SUPPORTED = 3, NVML_ERROR_INSUFFICIENT_SIZE = 7,
    NVML_ERROR_TIMEOUT = 10, NVML_ERROR_GPU_IS_LOST = 15, NVML_ERROR_RESET_REQUIRED = 16
};

typedef struct nvml_device_st *nvml_device;       /* nvmlDevice_t */
typedef struct nvml_event_set_st *nvml_event_set; /* nvmlEventSet_t */

struct nvml_event_data { /* nvmlEventData_t */
    nvml_device device;
    unsigned long long type, data;
    unsigned gpu_instance, compute_instance;
};
_Static_assert(sizeof(struct nvml_event_data) == 32, "as in nvml.h");
#define NVML_EVENT_XID 0x8ull /* nvmlEventTypeXidCriticalError */

struct nvml_pci_info { /* nvmlPciInfo_t */
    char bus_id_legacy[16];
    unsigned domain, bus, device, pci_device, pci_subsystem;
    char bus_id[32];
};
_Static_assert(sizeof(struct nvml_pci_info) == 68, "as in nvml.h");

struct nvml_field_value { /* nvmlFieldValue_t */
    unsigned field, scope;
    long long timestamp, latency_us;
    unsigned type;
    nvml_return status;
    union {
        double d;
        unsigned ui;
        unsigned long ul;
        unsigned long long ull;
        int i;
    } value;
};
_Static_assert(sizeof(struct nvml_field_value) == 40, "as in nvml.h");
enum { NVML_VALUE_UINT = 1, NVML_VALUE_ULONG = 2, NVML_VALUE_ULLONG = 3 };
enum { NVML_FI_NVLINK_CRC = 38, NVML_FI_NVLINK_REPLAY = 52, NVML_FI_NVLINK_RECOVERY = 59, NVML_FI_RECOVERY_ACTION = 230 };

struct nvml_memory { /* nvmlMemory_t */
    unsigned long long total, free, used;
};

enum { NVML_ERRORS_CORRECTED = 0, NVML_ERRORS_UNCORRECTED = 1 };
enum { NVML_ECC_VOLATILE = 0, NVML_ECC_AGGREGATE = 1 };
enum { NVML_RETIRED_DOUBLE_BIT = 1 };
#define NVML_NVLINKS_MAX 36u

/* Every function that is looked up: its name, its parameters. Those behind the bar may be missing in an older driver. */
#define NVML_NEEDED(X)                                                          \
    X(nvmlInit_v2, (void))                                                      \
    X(nvmlDeviceGetCount_v2, (unsigned *count))                                 \
    X(nvmlDeviceGetHandleByIndex_v2, (unsigned index, nvml_device *device))     \
    X(nvmlDeviceGetPciInfo_v3, (nvml_device device, struct nvml_pci_info *info))
#define NVML_WANTED(X)                                                                                              \
    X(nvmlEventSetCreate, (nvml_event_set *set))                                                                    \
    X(nvmlDeviceRegisterEvents, (nvml_device device, unsigned long long types, nvml_event_set set))                 \
    X(nvmlEventSetWait_v2, (nvml_event_set set, struct nvml_event_data *data, unsigned timeout_ms))                 \
    X(nvmlDeviceGetTotalEccErrors, (nvml_device device, unsigned type, unsigned counter, unsigned long long *count)) \
    X(nvmlDeviceGetRemappedRows,                                                                                    \
      (nvml_device device, unsigned *corrected, unsigned *uncorrected, unsigned *pending, unsigned *failed))        \
    X(nvmlDeviceGetRetiredPages, (nvml_device device, unsigned cause, unsigned *count, unsigned long long *pages))  \
    X(nvmlDeviceGetRetiredPagesPendingStatus, (nvml_device device, unsigned *pending))                              \
    X(nvmlDeviceGetCurrentClocksThrottleReasons, (nvml_device device, unsigned long long *reasons))                 \
    X(nvmlDeviceGetPcieReplayCounter, (nvml_device device, unsigned *count))                                        \
    X(nvmlDeviceGetNvLinkState, (nvml_device device, unsigned link, unsigned *active))                              \
    X(nvmlDeviceGetFieldValues, (nvml_device device, int count, struct nvml_field_value *values))                   \
    X(nvmlDeviceGetMemoryInfo, (nvml_device device, struct nvml_memory *memory))

#endif
