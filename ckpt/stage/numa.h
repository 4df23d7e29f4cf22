/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_NUMA_H
#define CKPT_STAGE_NUMA_H

/* On which of a host's memory nodes a rank's slots should lie: that of its GPU, else that of its CPUs. A copy from a GPU across the
 * link between sockets takes longer, and takes from everybody there. A wish: where the kernel does not know, or does not let us, slots
 * lie where there is memory. */

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NUMA_ANYWHERE (-1)
#define NUMA_NODES_MAX 1024u /* of the kernel's largest configuration */
#define NUMA_LOOKS 16u       /* pages of a slot that are looked at, to tell where it lies */
#define NUMA_BUS_MAX 31      /* bytes of "0000:65:00.0" */
#define NUMA_WHOSE_MAX 63

/* ---- what the kernel's files say; pure ---- */

/* "0-3,8-11": how many are in it? Is that one? Text that is no such list has none. */
unsigned numa_list_count(const char *list);
bool numa_list_has(const char *list, unsigned number);
/* The name of a device below /sys/bus/pci/devices, "0000:65:00.0", from what CUDA or NVML call it. False: that is none. */
bool numa_bus_name(const char *bus_id, char to[NUMA_BUS_MAX + 1]);

/* ---- looking; below `root`, which is "" but for a test ---- */

struct numa_home {
    int node;                       /* NUMA_ANYWHERE: this host has one, or does not say */
    char whose[NUMA_WHOSE_MAX + 1]; /* "GPU 0000:65:00.0", "its CPUs" */
};
/* bus_id: of the rank's GPU; "": it has none. cpus: on which it may run. */
void numa_find(const char *root, const char *bus_id, const cpu_set_t *cpus, struct numa_home *ret_home);

/* ---- memory that this thread makes the kernel give ---- */

struct numa_policy {
    bool set;
    int mode;
    unsigned long nodes[NUMA_NODES_MAX / (8 * sizeof(unsigned long))];
};
/* Prefer that node from now on, until numa_unprefer. False: the kernel refuses (errno); all is as before. */
bool numa_prefer(int node, struct numa_policy *ret_before);
void numa_unprefer(const struct numa_policy *before);
/* Of NUMA_LOOKS pages of a file, how many lie there? Pages that cannot be looked at do not count: *ret_looks did. */
unsigned numa_pages_on(const char *path, int node, unsigned *ret_looks);

#endif
