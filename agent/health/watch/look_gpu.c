/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "agent/health/watch/inner.h"
#include "agent/health/watch/nvml.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

#define OPEN_PERIOD_MS 30000u /* a driver may be loaded later, a GPU be given free */

struct gpu_past {
    struct ecc_past ecc;
    struct throttle_past throttle;
    struct links_past links;
    struct memory_past memory;
    struct lost_past lost;
    unsigned known, unknown; /* what it told so far; what of that it does not tell now, as said */
    bool shut;               /* it could not be opened, as said */
};

struct gpus_past {
    struct nvml *nvml;
    char absent[TIDE_TEXT_MAX + 1]; /* why NVML is, as said */
    uint64_t opened_ns, read_ns;    /* all were tried to be opened, and read; 0: never */
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

/* NVML is said to be missing once for each reason; a host without GPUs is no sick host. */
static bool opened(struct looker *looker, struct gpus_past *past)
{
    struct err err = {0};
    char lacks[TIDE_TEXT_MAX + 1];
    if (past->nvml != NULL)
        return true;
    if (nvml_open(&past->nvml, &err) == TIDE_OK) {
        looker->period_ms = 0;
        nvml_lacks(past->nvml, lacks, sizeof lacks);
        if (lacks[0] != '\0')
            log_info("health: this NVML is too old for some of what GPUs are watched for, and has no %s: install a newer driver", lacks);
        return true;
    }
    if (strcmp(past->absent, err.text) != 0)
        log_info("health: GPUs are not watched: %s", err.text);
    text_copy(past->absent, sizeof past->absent, err.text);
    looker->period_ms = OPEN_PERIOD_MS;
    return false;
}

static bool due(uint64_t last_ns, uint64_t period_ms, uint64_t now_ns)
{
    return last_ns == 0 || now_ns - last_ns >= period_ms * NS_PER_MS;
}

static void open_gpu(struct watch *watch, struct gpus_past *past, unsigned gpu, uint64_t now_ns)
{
    struct finding finding;
    unwatched_judge(gpu, nvml_open_gpu(past->nvml, gpu), &finding);
    bool shut = finding.state != TIDE_HEALTH_HEALTHY;
    if (shut || past->gpus[gpu].shut)
        watch_found(watch, &finding, now_ns);
    if (past->gpus[gpu].shut && !shut)
        log_info("health: GPU %u can be watched now: it is %s", gpu, nvml_subject(past->nvml, gpu));
    past->gpus[gpu].shut = shut;
    if (!shut && !nvml_has_events(past->nvml, gpu))
        log_info("health: %s: NVML tells no events of it: its Xids are known from the kernel's log only", nvml_subject(past->nvml, gpu));
}

/* One that cannot be opened is said to be unwatched, and tried again; the others are watched meanwhile. */
static void open_gpus(struct watch *watch, struct gpus_past *past, uint64_t now_ns)
{
    if (!due(past->opened_ns, OPEN_PERIOD_MS, now_ns))
        return;
    unsigned count = nvml_count(past->nvml), open = 0;
    for (unsigned i = 0; i < count; i++) {
        if (!nvml_is_open(past->nvml, i))
            open_gpu(watch, past, i, now_ns);
        open += nvml_is_open(past->nvml, i);
    }
    if (past->opened_ns == 0 && open < count)
        log_warn("health: %u of %u GPUs are watched; the others are tried again every %u s", open, count, OPEN_PERIOD_MS / 1000u);
    else if (past->opened_ns == 0)
        log_info("health: %u GPUs are watched", count);
    past->opened_ns = now_ns;
}

bool look_gpu_at(struct looker *looker, uint64_t now_ns)
{
    if (looker->past == NULL)
        looker->past = mem_alloc(sizeof(struct gpus_past));
    struct gpus_past *past = looker->past;
    if (!opened(looker, past))
        return true;
    open_gpus(looker->watch, past, now_ns);
    unsigned xid = 0;
    char subject[HEALTH_SUBJECT_MAX + 1];
    if (nvml_wait(past->nvml, &xid, subject)) {
        struct finding finding;
        xid_judge(xid, subject, &finding);
        if (finding.state != TIDE_HEALTH_HEALTHY)
            watch_found(looker->watch, &finding, clock_mono_ns()); /* it was waited for */
        else
            log_info("health: %s: %s", finding.subject, finding.text);
    }
    if (!due(past->read_ns, GPU_PERIOD_MS, now_ns))
        return true;
    past->read_ns = now_ns;
    for (unsigned i = 0; i < nvml_count(past->nvml); i++) {
        struct gpu_reading reading;
        if (!nvml_is_open(past->nvml, i))
            continue;
        nvml_read(past->nvml, i, &reading);
        judge_gpu(looker->watch, &past->gpus[i], &reading, now_ns);
    }
    return true;
}

bool look_gpu(struct looker *looker)
{
    return look_gpu_at(looker, clock_mono_ns());
}

void look_gpu_forget(void *past)
{
    struct gpus_past *gpus = past;
    if (gpus != NULL)
        nvml_free(gpus->nvml);
}
