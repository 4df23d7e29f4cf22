/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_HEALTH_WATCH_NVML_H
#define AGENT_HEALTH_WATCH_NVML_H

/* NVML, if this host has it. Any call may block for as long as the driver likes: for a thread of its own. */

#include "agent/health/probes.h"

struct nvml;
/* Errors: UNAVAILABLE: there is no library, no driver, no GPU; asking again may help. */
MUST_USE enum tide_status nvml_open(struct nvml **ret_nvml, struct err *err);
/* What is ours. The library stays as it is: a driver that is sick may not come back from nvmlShutdown, and the process ends
 * anyway. NULL is legal. */
void nvml_free(struct nvml *nvml);
/* Of all that NVML counts, those that it does not open included. */
unsigned nvml_count(const struct nvml *nvml);
/* Opens it, if it is not open. Otherwise: what NVML returned (nvml_says). */
int nvml_open_gpu(struct nvml *nvml, unsigned gpu);
bool nvml_is_open(const struct nvml *nvml, unsigned gpu);
/* Of one that is open: "GPU 0000:65:00"; are its Xids told as events? */
const char *nvml_subject(const struct nvml *nvml, unsigned gpu);
bool nvml_has_events(const struct nvml *nvml, unsigned gpu);
/* "nvmlEventSetCreate, …": what this driver's library has not, though it could be used; "" when it has all. */
void nvml_lacks(const struct nvml *nvml, char *to, size_t size);
/* One that is open. */
void nvml_read(struct nvml *nvml, unsigned gpu, struct gpu_reading *ret_reading);
/* Waits at most GPU_EVENT_WAIT_MS, also where there are no events. True: an Xid came, of the GPU of that subject. */
bool nvml_wait(struct nvml *nvml, unsigned *ret_xid, char ret_subject[HEALTH_SUBJECT_MAX + 1]);

#endif
