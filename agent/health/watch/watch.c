/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/health/watch/watch.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/health/watch/inner.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_MAX 64u
#define END_POLL_NS 10000000l

static const struct {
    const char *name;
    unsigned bit;
} probe_names[] = {{"gpu", WATCH_GPU},   {"nic", WATCH_NIC},   {"ib", WATCH_IB},   {"kernel", WATCH_KERNEL},
                   {"host", WATCH_HOST}, {"nccl", WATCH_NCCL}, {"all", WATCH_ALL}, {"none", 0}};

enum tide_status watch_parse(const char *text, unsigned *ret_probes, struct err *err)
{
    unsigned probes = 0;
    for (const char *at = text; *at != '\0';) {
        size_t n = strcspn(at, ","), i = 0, count = sizeof probe_names / sizeof probe_names[0];
        while (i < count && (strlen(probe_names[i].name) != n || strncmp(probe_names[i].name, at, n) != 0))
            i++;
        if (i == count)
            return err_set(err, TIDE_E_INVALID, "--probes %.80s: of gpu, nic, ib, kernel, host, nccl, with commas between, or all or none",
                           text);
        probes |= probe_names[i].bit;
        at += n + (at[n] == ',');
    }
    *ret_probes = probes;
    return TIDE_OK;
}

/* ---- what was found ---- */

static void tell(struct watch *watch)
{
    watch->changed(watch->context);
}

static void say(const struct finding *finding)
{
    log_at(finding->state >= TIDE_HEALTH_SUSPECT ? LOG_ERROR : LOG_WARN, "health: %s: %s: %s: %s", health_names[finding->state],
           finding->probe, finding->subject, finding->text);
}

void watch_take(struct watch *watch, const struct finding *finding, uint64_t at_ns)
{
    if (!health_take(watch->health, finding, at_ns, clock_mono_ns()))
        return;
    say(finding);
    tell(watch);
}

void watch_found(struct watch *watch, const struct finding *finding, uint64_t at_ns)
{
    if (finding->probe == NULL) /* not known, or not decided */
        return;
    pthread_mutex_lock(&watch->lock);
    bool room = watch->found_count < WATCH_FOUND_MAX && !watch->stop;
    if (room)
        watch->found[watch->found_count++] = (struct found){.finding = *finding, .at_ns = at_ns};
    pthread_mutex_unlock(&watch->lock);
    if (room)
        uv_async_send(&watch->async);
}

void watch_path(const struct watch *watch, const char *path, char to[WATCH_PATH_MAX])
{
    snprintf(to, WATCH_PATH_MAX, "%.255s%.255s", watch->options.root != NULL ? watch->options.root : "", path);
}

bool watch_stopping(struct watch *watch)
{
    pthread_mutex_lock(&watch->lock);
    bool stop = watch->stop;
    pthread_mutex_unlock(&watch->lock);
    return stop;
}

static void on_found(uv_async_t *async)
{
    struct watch *watch = async->data;
    struct found *found = mem_array(WATCH_FOUND_MAX, sizeof *found);
    pthread_mutex_lock(&watch->lock);
    size_t count = watch->found_count;
    memcpy(found, watch->found, count * sizeof *found);
    watch->found_count = 0;
    pthread_mutex_unlock(&watch->lock);
    for (size_t i = 0; i < count; i++)
        watch_take(watch, &found[i].finding, found[i].at_ns);
    mem_free(found);
}

/* A thread in a call that does not end is evidence, too. */
static void look_after(struct looker *looker, uint64_t now_ns)
{
    uint64_t began_ns = atomic_load(&looker->began_ns);
    uint64_t took_ms = began_ns != 0 && now_ns > began_ns ? (now_ns - began_ns) / NS_PER_MS : 0;
    struct finding finding;
    late_judge(looker->probe, looker->what, took_ms, looker->deadline_ms, &finding);
    watch_take(looker->watch, &finding, now_ns);
}

static void on_tick(uv_timer_t *timer)
{
    struct watch *watch = timer->data;
    uint64_t now_ns = clock_mono_ns();
    for (size_t i = 0; i < LOOKERS; i++)
        if (watch->lookers[i].runs && !atomic_load(&watch->lookers[i].ended))
            look_after(&watch->lookers[i], now_ns);
    if (health_tick(watch->health, now_ns))
        tell(watch);
}

/* ---- threads ---- */

static void wait_period(struct looker *looker)
{
    struct watch *watch = looker->watch;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + looker->period_ms * NS_PER_MS;
    until.tv_sec += (time_t)(ns / NS_PER_S);
    until.tv_nsec = (long)(ns % NS_PER_S);
    pthread_mutex_lock(&watch->lock);
    while (!watch->stop && pthread_cond_timedwait(&watch->wake, &watch->lock, &until) == 0)
        continue;
    pthread_mutex_unlock(&watch->lock);
}

static void *run(void *context)
{
    struct looker *looker = context;
    bool again = true;
    while (again && !watch_stopping(looker->watch)) {
        atomic_store(&looker->began_ns, clock_mono_ns());
        again = looker->look(looker);
        atomic_store(&looker->began_ns, 0);
        if (again)
            wait_period(looker);
    }
    atomic_store(&looker->ended, true);
    return NULL;
}

static void looker_start(struct watch *watch, size_t which, struct looker as)
{
    struct looker *looker = &watch->lookers[which];
    looker->watch = watch;
    looker->probe = as.probe;
    looker->what = as.what;
    looker->period_ms = as.period_ms;
    looker->deadline_ms = as.deadline_ms;
    looker->look = as.look;
    looker->runs = pthread_create(&looker->thread, NULL, run, looker) == 0;
    if (!looker->runs)
        log_error("health: no thread for %s: it is not watched", looker->what);
}

static void start_lookers(struct watch *watch)
{
    unsigned probes = watch->options.probes;
    /* Events of NVML are waited for within a look: its period is that wait. */
    if (probes & WATCH_GPU)
        looker_start(watch, LOOK_GPU, (struct looker){.probe = "nvml", .what = "NVML", .period_ms = 0,
                     .deadline_ms = GPU_DEADLINE_MS, .look = look_gpu});
    if (probes & WATCH_IB)
        looker_start(watch, LOOK_IB, (struct looker){.probe = "sysfs", .what = "/sys/class/infiniband", .period_ms = PORT_PERIOD_MS,
                     .deadline_ms = PORT_DEADLINE_MS, .look = look_ib});
    if (probes & WATCH_HOST)
        looker_start(watch, LOOK_HOST, (struct looker){.probe = "host", .what = "the file system of the agent",
                     .period_ms = HOST_PERIOD_MS, .deadline_ms = HOST_DEADLINE_MS, .look = look_host});
    if (probes & WATCH_NCCL)
        looker_start(watch, LOOK_NCCL, (struct looker){.probe = "ras", .what = "NCCL's RAS", .period_ms = RAS_PERIOD_MS,
                     .deadline_ms = 2 * RAS_DEADLINE_MS, .look = look_nccl});
}

/* ---- life ---- */

static void read_boot(char to[HEALTH_BOOT_MAX + 1])
{
    char *text = NULL;
    size_t bytes = 0;
    text_copy(to, HEALTH_BOOT_MAX + 1, "unknown");
    if (fsx_read(BOOT_ID, BOOT_ID_MAX, &text, &bytes, NULL) == TIDE_OK && bytes > 0) {
        text_copy(to, HEALTH_BOOT_MAX + 1, text);
        to[strcspn(to, "\n")] = '\0';
    }
    mem_free(text);
}

struct watch *watch_create(uv_loop_t *loop, const struct watch_options *options, void (*changed)(void *context), void *context)
{
    struct watch *watch = mem_alloc(sizeof *watch);
    char boot[HEALTH_BOOT_MAX + 1];
    pthread_condattr_t monotonic;
    read_boot(boot);
    *watch = (struct watch){.options = *options, .changed = changed, .context = context, .loop = loop, .netlink = -1, .kmsg = -1};
    /* Serials of this start are above those of all earlier ones, if the clock has not gone back; else see watch_above. */
    watch->health = health_create(boot, clock_wall_ms());
    pthread_mutex_init(&watch->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&watch->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    uv_timer_init(loop, &watch->tick);
    uv_timer_init(loop, &watch->nic_timer);
    uv_async_init(loop, &watch->async, on_found);
    watch->tick.data = watch->nic_timer.data = watch->async.data = watch;
    uv_timer_start(&watch->tick, on_tick, WATCH_TICK_MS, WATCH_TICK_MS);
    if (options->probes & WATCH_KERNEL)
        kernel_open(watch);
    if (options->probes & WATCH_NIC)
        nics_open(watch);
    start_lookers(watch);
    return watch;
}

void watch_ranks(struct watch *watch, const int32_t *pids, size_t count, size_t still)
{
    pthread_mutex_lock(&watch->lock);
    watch->pid_count = count < WATCH_PIDS_MAX ? count : WATCH_PIDS_MAX;
    memcpy(watch->pids, pids, watch->pid_count * sizeof *pids);
    watch->still_count = still < watch->pid_count ? still : watch->pid_count;
    pthread_mutex_unlock(&watch->lock);
}

void watch_report(const struct watch *watch, struct health_report *ret_report)
{
    health_report(watch->health, clock_mono_ns(), ret_report);
}

void watch_forgive(struct watch *watch, uint64_t serial)
{
    health_forgive(watch->health, serial);
}

void watch_above(struct watch *watch, uint64_t serial)
{
    if (health_above(watch->health, serial))
        tell(watch);
}

static bool all_ended(struct watch *watch)
{
    for (size_t i = 0; i < LOOKERS; i++)
        if (watch->lookers[i].runs && !atomic_load(&watch->lookers[i].ended))
            return false;
    return true;
}

bool watch_close(struct watch *watch)
{
    pthread_mutex_lock(&watch->lock);
    watch->stop = true;
    pthread_cond_broadcast(&watch->wake);
    pthread_mutex_unlock(&watch->lock);
    uint64_t until_ns = clock_mono_ns() + WATCH_END_MS * NS_PER_MS;
    while (!all_ended(watch) && clock_mono_ns() < until_ns)
        nanosleep(&(struct timespec){.tv_nsec = END_POLL_NS}, NULL);
    if (!all_ended(watch))
        return false;
    for (size_t i = 0; i < LOOKERS; i++)
        if (watch->lookers[i].runs)
            pthread_join(watch->lookers[i].thread, NULL);
    uv_close((uv_handle_t *)&watch->tick, NULL);
    uv_close((uv_handle_t *)&watch->nic_timer, NULL);
    uv_close((uv_handle_t *)&watch->async, NULL);
    if (watch->netlink >= 0)
        uv_close((uv_handle_t *)&watch->netlink_poll, NULL);
    if (watch->kmsg >= 0)
        uv_close((uv_handle_t *)&watch->kmsg_poll, NULL);
    return true;
}

void watch_free(struct watch *watch)
{
    if (watch == NULL)
        return;
    if (watch->netlink >= 0)
        close(watch->netlink);
    if (watch->kmsg >= 0)
        close(watch->kmsg);
    look_gpu_forget(watch->lookers[LOOK_GPU].past);
    for (size_t i = 0; i < LOOKERS; i++)
        mem_free(watch->lookers[i].past);
    health_free(watch->health);
    pthread_cond_destroy(&watch->wake);
    pthread_mutex_destroy(&watch->lock);
    mem_free(watch);
}
