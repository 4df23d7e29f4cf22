/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_HEALTH_PROBES_H
#define AGENT_HEALTH_PROBES_H

/* One verdict per probe: what was read, and what was read before, go in; a finding comes out, healthy when nothing is wrong. A
 * question that was answered before and is not now says nothing: the finding has no probe (NULL), and what was found before stays.
 * PERIOD: how often it is looked at. DEADLINE: a look that takes longer is a finding itself (late_judge). Sources of every
 * threshold are in README.md. */

#include "agent/health/health.h"

/* ---- xid.c: errors the NVIDIA driver reports, by event of NVML or as a line of the kernel's log ---- */

#define XID_RANK_FOR_MS 3600000u /* how long one that was fatal to a rank counts … */
#define XID_RANK_TIMES_MAX 3u    /* … and so many of them on one GPU are the GPU's */
#define XID_NOTE_FOR_MS 600000u

enum xid_scope {
    XID_NOTHING, /* of the program, or follows from another one: no alarm */
    XID_NOTE,    /* shown */
    XID_PROGRAM, /* the rank there cannot go on, and may have caused it itself */
    XID_RANK,    /* the rank there cannot go on, the GPU can */
    XID_LINK,    /* NVLink: nothing new is started there */
    XID_GPU,     /* the GPU must be reset */
    XID_HOST,    /* … the host be started anew */
    XID_SCOPES
};
enum xid_scope xid_scope(unsigned code);
void xid_judge(unsigned code, const char *gpu, struct finding *ret_finding);

/* ---- what NVML says of one GPU ---- */

#define GPU_PERIOD_MS 1000u
#define GPU_DEADLINE_MS 5000u
#define GPU_EVENT_WAIT_MS 100u /* of one wait for events: also how late the end of the agent is noticed */
#define GPUS_MAX 64u

/* Bits of gpu_reading.known: what this driver and this GPU can say. */
enum {
    GPU_KNOWS_ECC = 1, GPU_KNOWS_REMAP = 2, GPU_KNOWS_RETIRED = 4, GPU_KNOWS_THROTTLE = 8, GPU_KNOWS_PCIE = 16,
    GPU_KNOWS_NVLINK = 32, GPU_KNOWS_RECOVERY = 64, GPU_KNOWS_MEMORY = 128, GPU_KNOWS_NVLINK_ERRORS = 256, GPU_KNOWS = 511
};

struct gpu_reading {
    char subject[HEALTH_SUBJECT_MAX + 1]; /* "GPU 0000:65:00" */
    unsigned known;
    bool lost;                       /* the driver says so */
    unsigned recovery;               /* NVML_FI_DEV_GET_GPU_RECOVERY_ACTION */
    uint64_t ecc_corrected, ecc_uncorrected; /* volatile: since the driver was loaded */
    uint64_t ecc_aggregate;                  /* uncorrected, in its life */
    bool remap_pending, remap_failed;
    bool retired_pending;
    uint32_t retired;                /* pages, by double-bit errors */
    uint64_t throttle;               /* nvmlClocksEventReason… */
    uint64_t pcie_replays;
    uint32_t nvlinks;                /* that are active */
    uint64_t nvlink_crc, nvlink_replay, nvlink_recovery; /* of all of them */
    uint64_t memory_used;            /* bytes */
};

/* A counter that only grows, in windows: how much it grew within the present one. */
struct growth {
    bool seen;
    uint64_t base, base_ns;
};
/* The first value, and one that fell (a driver loaded anew), is where it starts. */
uint64_t growth_of(struct growth *growth, uint64_t value, uint64_t window_ms, uint64_t now_ns);

/* ecc.c */
#define ECC_STORM_MS 3600000u
#define ECC_STORM_CORRECTED 1000u /* corrected errors in that time */
#define ECC_RISEN_FOR_MS 3600000u
#define ECC_RETIRED_MAX 60u       /* pages: from there on the board is replaced */
struct ecc_past {
    unsigned known; /* of it, so far */
    struct growth corrected;
    bool seen;
    uint64_t uncorrected;
};
void ecc_judge(struct ecc_past *past, const struct gpu_reading *reading, uint64_t now_ns, struct finding *ret_finding);

/* throttle.c */
#define THROTTLE_DEGRADED_MS 10000u /* without a break */
#define THROTTLE_SUSPECT_MS 120000u
struct throttle_past {
    unsigned known;    /* of it, so far */
    uint64_t since_ns; /* 0: it is not slowed down */
};
void throttle_judge(struct throttle_past *past, const struct gpu_reading *reading, uint64_t now_ns, struct finding *ret_finding);

/* links.c */
#define PCIE_REPLAYS_MAX 8u   /* a minute */
#define NVLINK_REPLAYS_MAX 8u /* a minute */
#define NVLINK_CRC_MAX 100u   /* a minute */
#define LINKS_WINDOW_MS 60000u
struct links_past {
    unsigned known; /* of it, so far */
    struct growth pcie, crc, replay, recovery;
    uint32_t nvlinks_most;
};
void links_judge(struct links_past *past, const struct gpu_reading *reading, uint64_t now_ns, struct finding *ret_finding);

/* lost.c: not there any more, or it says itself what it needs */
struct lost_past {
    unsigned known; /* of it, so far */
};
void lost_judge(struct lost_past *past, const struct gpu_reading *reading, struct finding *ret_finding);

/* Is one of `wants` unknown now that was known before? Keeps what was. */
bool gpu_forgot(unsigned *known, const struct gpu_reading *reading, unsigned wants);
/* "NVLinks, used memory": the questions that these bits of `known` are about. */
void gpu_questions(unsigned known, char *to, size_t size);

/* unwatched.c: one that was there when NVML was opened, and cannot be asked for anything; its subject is its number. Lost is lost. */
#define NVML_SAYS_GOOD 0 /* nvmlReturn_t */
#define NVML_SAYS_LOST 15
void unwatched_judge(unsigned index, int code, struct finding *ret_finding);
/* "the driver is not loaded (NVML says 9); modprobe nvidia, …": what it is, and what to do. */
void nvml_says(int code, char *to, size_t size);

/* memory.c: what killed ranks leave on a device */
#define MEMORY_GRACE_MS 50000u
#define MEMORY_TOLERANCE_BYTES (UINT64_C(512) << 20)
struct memory_past {
    bool seen;
    uint64_t least;    /* used, ever: what the driver takes for itself */
    bool had_ranks;    /* since this agent was started */
    uint64_t empty_ns; /* no rank is on this host since then */
};
void memory_judge(struct memory_past *past, const struct gpu_reading *reading, bool ranks_here, uint64_t now_ns,
                  struct finding *ret_finding);

/* late.c: a look that does not end */
#define LATE_SUSPECT_TIMES 4u /* … in so many deadlines the node is suspect */
void late_judge(const char *probe, const char *what, uint64_t took_ms, uint64_t deadline_ms, struct finding *ret_finding);

/* ---- nic.c: links of network interfaces, told by the kernel at once ---- */

#define NIC_DOWN_MS 500u   /* down for so long: failed, if ranks need it. Shorter: it flapped */
#define NIC_FLAP_FOR_MS 300000u
#define NIC_FLAPS_MAX 2u   /* within that: suspect */
struct nic_past {
    char name[32];
    bool needed;       /* by ranks: it was named, or the host's address is its. Others are only shown */
    bool seen_up;      /* one that never was cannot go down */
    bool up, told;
    uint64_t down_ns;  /* since then; 0: it is up */
};
/* It is up, or not. */
void nic_judge(struct nic_past *past, bool up, uint64_t now_ns, struct finding *ret_finding);
/* Time has passed. How long until it wants to be asked again, 0: not at all. */
uint64_t nic_wait_ms(const struct nic_past *past, uint64_t now_ns);

/* ---- port.c: ports in /sys/class/infiniband ---- */

#define PORT_PERIOD_MS 500u
#define PORT_DEADLINE_MS 5000u
#define PORT_SYMBOLS_MAX 120u /* errors an hour: IBTA allows a bit error rate of 1e-12 */
#define PORT_SYMBOLS_MS 3600000u
#define PORT_ACTIVE 4u        /* "4: ACTIVE" */
enum { PORT_KNOWS_DOWNED = 1, PORT_KNOWS_SYMBOLS = 2 };
struct port_reading {
    char subject[HEALTH_SUBJECT_MAX + 1]; /* "mlx5_0 port 1" */
    unsigned state;
    unsigned known; /* of the counters */
    uint64_t link_downed, symbol_errors;
};
#define PORT_DOWN_LOOKS 2u /* in a row not active: one may be in the middle of a change */
struct port_past {
    bool seen_active;
    unsigned down_looks;
    unsigned known; /* of the counters, so far */
    bool seen;
    uint64_t link_downed;
    struct growth symbols;
};
void port_judge(struct port_past *past, const struct port_reading *reading, uint64_t now_ns, struct finding *ret_finding);

/* ---- kmsg.c: a record of /dev/kmsg ---- */

#define KMSG_RECORD_MAX 8192u /* of the kernel: longer ones do not come */
#define KMSG_FOR_MS 600000u
/* "6,339,5140900,-;text\n KEY=value". False: it says nothing about the health of this host. */
bool kmsg_judge(const char *record, size_t bytes, struct finding *ret_finding);
/* The name of a GPU in findings, from a PCI address in any of its forms: "GPU 0000:65:00". */
void gpu_subject(const char *bus_id, char to[HEALTH_SUBJECT_MAX + 1]);

/* ---- host.c ---- */

#define HOST_PERIOD_MS 5000u
#define HOST_DEADLINE_MS 10000u
#define DISK_DEGRADED_PERMILLE 50u /* free */
#define DISK_SUSPECT_PERMILLE 10u
struct disk_reading {
    const char *path;
    uint64_t bytes, free_bytes;  /* for this user */
    uint64_t files, free_files;  /* 0: that file system does not count them */
};
void disk_judge(const struct disk_reading *reading, struct finding *ret_finding);

#define CLOCK_STEP_MS 1000u
#define CLOCK_FOR_MS 600000u
struct clock_past {
    bool seen;
    int64_t offset_ms; /* wall clock less monotonic clock */
};
void clock_judge(struct clock_past *past, uint64_t wall_ms, uint64_t mono_ms, struct finding *ret_finding);

/* "full": nobody on the whole host made progress for want of it, this share of the last 10 s. */
#define PSI_DEGRADED_PERCENT 40u
#define PSI_DEGRADED_LOOKS 3u /* in a row */
enum psi_kind { PSI_MEMORY, PSI_IO, PSI_KINDS };
struct psi_past {
    unsigned looks;
};
/* Text of /proc/pressure/KIND. */
void psi_judge(struct psi_past *past, enum psi_kind kind, const char *text, struct finding *ret_finding);

#endif
