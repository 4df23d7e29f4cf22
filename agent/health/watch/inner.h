/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_HEALTH_WATCH_INNER_H
#define AGENT_HEALTH_WATCH_INNER_H

/* Shared by the files of this room. */

#include <pthread.h>
#include <stdatomic.h>

#include "agent/health/probes.h"
#include "agent/health/ras.h"
#include "agent/health/watch/watch.h"

#define WATCH_TICK_MS 250u      /* how often time passes in the book, and threads are looked after */
#define WATCH_FOUND_MAX 512u    /* findings that threads have left for the loop; more are dropped, and are found again */
#define WATCH_END_MS 1000u      /* a thread that is told to end and does not is left behind */
#define WATCH_PIDS_MAX 64u
#define IB_PORTS_MAX 64u

struct found {
    struct finding finding;
    uint64_t at_ns;
};

struct looker;
/* One look. False: it is never to be done again. */
typedef bool (*look_fn)(struct looker *looker);

/* A thread that looks, waits, and looks again. */
struct looker {
    struct watch *watch;
    const char *probe, *what; /* of the finding, when a look does not end */
    uint64_t period_ms, deadline_ms;
    look_fn look;
    void *past;               /* its own; heap */
    pthread_t thread;
    bool runs;
    atomic_bool ended;
    atomic_uint_fast64_t began_ns; /* of the look; 0: it waits */
};

enum { LOOK_GPU, LOOK_IB, LOOK_HOST, LOOK_NCCL, LOOKERS };

struct watch {
    struct watch_options options;
    struct health *health;
    void (*changed)(void *context);
    void *context;
    uv_loop_t *loop;
    uv_timer_t tick, nic_timer;
    uv_async_t async;
    uv_poll_t netlink_poll, kmsg_poll;
    int netlink, kmsg;        /* -1: none */
    struct nic_past nics[WATCH_NICS_MAX];
    struct {
        int index;            /* of the kernel, now: an interface that is made anew has another */
        bool listed;          /* by the dump that is going on */
    } nic_at[WATCH_NICS_MAX];
    size_t nic_count;
    uint32_t dump;            /* sequence number of the newest */
    struct looker lookers[LOOKERS];
    /* Below: under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t wake;      /* stop */
    bool stop;
    struct found found[WATCH_FOUND_MAX];
    size_t found_count;
    int32_t pids[WATCH_PIDS_MAX];
    size_t pid_count, still_count; /* the first of them stand still */
};

/* watch.c: from any thread; from the loop; is it told to end? */
void watch_found(struct watch *watch, const struct finding *finding, uint64_t at_ns);
void watch_take(struct watch *watch, const struct finding *finding, uint64_t at_ns);
bool watch_stopping(struct watch *watch);

/* look_*.c: on threads of their own */
bool look_gpu(struct looker *looker);
/* … at that time */
bool look_gpu_at(struct looker *looker, uint64_t now_ns);
/* Before its past is freed; NULL is legal. */
void look_gpu_forget(void *past);
bool look_ib(struct looker *looker);
bool look_host(struct looker *looker);
bool look_nccl(struct looker *looker);
/* One port, from below `root` (/sys/class/infiniband in a test's directory). False: it cannot be read. */
bool port_read(const char *root, const char *device, const char *port, struct port_reading *ret_reading);

/* "/proc/pressure/io" of this host, or below the root of a test. */
#define WATCH_PATH_MAX 512u
void watch_path(const struct watch *watch, const char *path, char to[WATCH_PATH_MAX]);

/* nics.c: what the kernel says of links, as it came; true: some of it was lost, and all has to be asked for anew */
bool nics_hear(struct watch *watch, const void *bytes, size_t count);
/* The descriptor's poll handle: libuv stops it when the kernel reports an error there, and that is how "some was lost" is said. */
void nics_ready(uv_poll_t *poll, int status, int events);
void kmsg_ready(uv_poll_t *poll, int status, int events);

/* kernel.c, nics.c: on the loop; what cannot be opened is said once */
void kernel_open(struct watch *watch);
void nics_open(struct watch *watch);
void nics_wait(struct watch *watch);

#endif
