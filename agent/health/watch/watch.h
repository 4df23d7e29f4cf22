/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_HEALTH_WATCH_WATCH_H
#define AGENT_HEALTH_WATCH_WATCH_H

/* The eyes of agent/health: looks at this host, hands what it sees to the tables, and keeps the book. What may block is looked at by
 * threads; the loop takes in what they found, and notices when one does not come back. */

#include <uv.h>

#include "agent/health/health.h"

/* What can be left out, by name in options and documentation. */
enum watch_probe {
    WATCH_GPU = 1,    /* "gpu": xid, ecc, throttle, links, gpu, memory */
    WATCH_NIC = 2,    /* "nic" */
    WATCH_IB = 4,     /* "ib" */
    WATCH_KERNEL = 8, /* "kernel" */
    WATCH_HOST = 16,  /* "host": disk, clock, pressure */
    WATCH_NCCL = 32,  /* "nccl" */
    WATCH_ALL = 63
};
/* "gpu,nic", "all", "none". Errors: INVALID. */
MUST_USE enum tide_status watch_parse(const char *text, unsigned *ret_probes, struct err *err);

#define WATCH_NICS_MAX 32u
#define WATCH_DISKS_MAX 2u

struct watch_options {
    unsigned probes;         /* enum watch_probe */
    const char *nics;        /* "eth1,eth2"; empty: those that are hardware; then only the one with `address` is one that ranks need */
    const char *address;     /* of this host, as its ranks know it */
    const char *disks[WATCH_DISKS_MAX];
    const char *root;        /* what is looked at below /dev, /proc and /sys is there; NULL: this host's */
    uint16_t ras_port;       /* 0: RAS_PORT */
    uint64_t hang_ms;        /* a rank that is behind in a collective for so long hangs (ras.h); 0: that is never said */
};

struct watch;
/* changed: the report is not what it was; from the loop. All in options must outlive the watch. */
struct watch *watch_create(uv_loop_t *loop, const struct watch_options *options, void (*changed)(void *context), void *context);
/* What ranks there are here; the first `still` of them are of jobs that stand still. */
void watch_ranks(struct watch *watch, const int32_t *pids, size_t count, size_t still);
/* A person has forgiven what has no larger serial (health_forgive); from the loop. */
void watch_forgive(struct watch *watch, uint64_t serial);
/* What the coordinators know of this node already (health_above); from the loop. */
void watch_above(struct watch *watch, uint64_t serial);
/* Release with health_report_codec. */
void watch_report(const struct watch *watch, struct health_report *ret_report);
/* The loop must run until its handles are closed. False: a thread does not end; then neither may the memory. */
bool watch_close(struct watch *watch);
void watch_free(struct watch *watch);

#endif
