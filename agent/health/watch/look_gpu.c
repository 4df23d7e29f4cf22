/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/health/watch/inner.h"
#include "agent/health/watch/nvml.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

#define OPEN_PERIOD_MS 30000u /* a driver may be loaded later */

struct gpu_past {
    struct ecc_past ecc;
    struct throttle_past throttle;
    struct links_past links;
    struct memory_past memory;
    struct lost_past lost;
    unsigned known, unknown; /* what it told so far; what of that it does not tell now, as said */
};

struct gpus_past {
    struct nvml *nvml;
    bool absent_said;
    uint64_t read_ns;
    struct gpu_past gpus[GPUS_MAX];
};

static bool ranks_here(struct watch *watch)
{
    pthread_mutex_lock(&watch->lock);
    bool some = watch->pid_count > 0;
    pthread_mutex_unlock(&watch->lock);
    return some;
}

/* A question that is not answered any more is no fault of the GPU, but people should know that nobody looks. */
static void say_unknown(struct gpu_past *past, const struct gpu_reading *reading)
{
    char names[TIDE_TEXT_MAX];
    past->known |= reading->known;
    unsigned unknown = reading->lost ? 0 : past->known & ~reading->known;
    if (unknown & ~past->unknown) {
        gpu_questions(unknown, names, sizeof names);
        log_warn("health: %s: NVML does not tell %s any more: unknown, and not judged", reading->subject, names);
    }
    past->unknown = unknown;
}

static void judge_gpu(struct watch *watch, struct gpu_past *past, const struct gpu_reading *reading, uint64_t now_ns)
{
    struct finding finding;
    say_unknown(past, reading);
    lost_judge(&past->lost, reading, &finding);
    watch_found(watch, &finding, now_ns);
    if (reading->lost) /* what else it says is of nothing */
        return;
    ecc_judge(&past->ecc, reading, now_ns, &finding);
    watch_found(watch, &finding, now_ns);
    throttle_judge(&past->throttle, reading, now_ns, &finding);
    watch_found(watch, &finding, now_ns);
    links_judge(&past->links, reading, now_ns, &finding);
    watch_found(watch, &finding, now_ns);
    memory_judge(&past->memory, reading, ranks_here(watch), now_ns, &finding);
    watch_found(watch, &finding, now_ns);
}

/* NVML is said to be missing once; a host without GPUs is no sick host. */
static bool opened(struct looker *looker, struct gpus_past *past)
{
    struct err err = {0};
    if (past->nvml != NULL)
        return true;
    if (nvml_open(&past->nvml, &err) == TIDE_OK) {
        log_info("health: %u GPUs are watched", nvml_count(past->nvml));
        looker->period_ms = 0;
        return true;
    }
    if (!past->absent_said)
        log_info("health: GPUs are not watched: %s", err.text);
    past->absent_said = true;
    looker->period_ms = OPEN_PERIOD_MS;
    return false;
}

bool look_gpu(struct looker *looker)
{
    if (looker->past == NULL)
        looker->past = mem_alloc(sizeof(struct gpus_past));
    struct gpus_past *past = looker->past;
    if (!opened(looker, past))
        return true;
    unsigned xid = 0;
    char subject[HEALTH_SUBJECT_MAX + 1];
    if (nvml_wait(past->nvml, &xid, subject)) {
        struct finding finding;
        xid_judge(xid, subject, &finding);
        if (finding.state != TIDE_HEALTH_HEALTHY)
            watch_found(looker->watch, &finding, clock_mono_ns());
        else
            log_info("health: %s: %s", finding.subject, finding.text);
    }
    uint64_t now_ns = clock_mono_ns();
    if (now_ns - past->read_ns < GPU_PERIOD_MS * NS_PER_MS)
        return true;
    past->read_ns = now_ns;
    for (unsigned i = 0; i < nvml_count(past->nvml); i++) {
        struct gpu_reading reading;
        nvml_read(past->nvml, i, &reading);
        judge_gpu(looker->watch, &past->gpus[i], &reading, now_ns);
    }
    return true;
}

void look_gpu_forget(void *past)
{
    struct gpus_past *gpus = past;
    if (gpus != NULL)
        nvml_free(gpus->nvml);
}
