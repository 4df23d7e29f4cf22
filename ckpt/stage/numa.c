/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/numa.h"

#include <ctype.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ckpt/base/mem.h"

#define TEXT_MAX 4096u /* of a file of /sys */
#define PATH_BYTES 512u
#define BITS (8 * sizeof(unsigned long))
#define MASK_BITS (NUMA_NODES_MAX + 1ul) /* the kernel counts one less than it is told */

/* ---- lists ---- */

/* The next range of a list; false: there is none, or it is no list. */
static bool next_range(const char **at, unsigned *ret_first, unsigned *ret_last)
{
    char *end;
    if (!isdigit((unsigned char)**at))
        return false;
    unsigned long first = strtoul(*at, &end, 10), last = first;
    if (*end == '-') {
        if (!isdigit((unsigned char)end[1]))
            return false;
        last = strtoul(end + 1, &end, 10);
    }
    if (last < first || last > UINT32_MAX - 1 || (*end != ',' && *end != '\n' && *end != '\0'))
        return false;
    *ret_first = (unsigned)first;
    *ret_last = (unsigned)last;
    *at = end + (*end != '\0');
    return true;
}

unsigned numa_list_count(const char *list)
{
    unsigned first, last, count = 0;
    while (next_range(&list, &first, &last))
        count += last - first + 1;
    return count;
}

bool numa_list_has(const char *list, unsigned number)
{
    unsigned first, last;
    while (next_range(&list, &first, &last))
        if (number >= first && number <= last)
            return true;
    return false;
}

bool numa_bus_name(const char *bus_id, char to[NUMA_BUS_MAX + 1])
{
    unsigned domain, bus, device, function;
    int used = 0;
    if (sscanf(bus_id, "%8x:%2x:%2x.%1x%n", &domain, &bus, &device, &function, &used) != 4 || bus_id[used] != '\0')
        return false;
    snprintf(to, NUMA_BUS_MAX + 1, "%04x:%02x:%02x.%x", domain, bus, device, function);
    return true;
}

/* ---- looking ---- */

static bool read_file(const char *path, char to[TEXT_MAX])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, to, TEXT_MAX - 1) : -1;
    if (fd >= 0)
        close(fd);
    to[n > 0 ? n : 0] = '\0';
    return n > 0;
}

static int node_of_device(const char *root, const char *bus)
{
    char path[PATH_BYTES], text[TEXT_MAX];
    snprintf(path, sizeof path, "%.255s/sys/bus/pci/devices/%s/numa_node", root, bus);
    return read_file(path, text) && isdigit((unsigned char)text[0]) ? (int)strtol(text, NULL, 10) : NUMA_ANYWHERE;
}

static bool all_in(const cpu_set_t *cpus, const char *list)
{
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, cpus) && !numa_list_has(list, cpu))
            return false;
    return CPU_COUNT(cpus) > 0;
}

/* A rank that may run on CPUs of several nodes has no home. */
static int node_of_cpus(const char *root, const char *online, const cpu_set_t *cpus)
{
    char path[PATH_BYTES], list[TEXT_MAX];
    for (unsigned node = 0; node < NUMA_NODES_MAX; node++) {
        snprintf(path, sizeof path, "%.255s/sys/devices/system/node/node%u/cpulist", root, node);
        if (numa_list_has(online, node) && read_file(path, list) && all_in(cpus, list))
            return (int)node;
    }
    return NUMA_ANYWHERE;
}

void numa_find(const char *root, const char *bus_id, const cpu_set_t *cpus, struct numa_home *ret_home)
{
    char path[PATH_BYTES], online[TEXT_MAX], bus[NUMA_BUS_MAX + 1];
    struct numa_home home = {.node = NUMA_ANYWHERE};
    snprintf(path, sizeof path, "%.255s/sys/devices/system/node/online", root);
    if (!read_file(path, online) || numa_list_count(online) < 2) {
        *ret_home = home;
        return;
    }
    if (numa_bus_name(bus_id, bus)) {
        home.node = node_of_device(root, bus);
        snprintf(home.whose, sizeof home.whose, "GPU %s", bus);
    }
    if (home.node == NUMA_ANYWHERE) {
        home.node = node_of_cpus(root, online, cpus);
        text_copy(home.whose, sizeof home.whose, "its CPUs");
    }
    if (home.node < 0 || home.node >= (int)NUMA_NODES_MAX || !numa_list_has(online, (unsigned)home.node))
        home = (struct numa_home){.node = NUMA_ANYWHERE};
    *ret_home = home;
}

/* ---- memory ---- */

bool numa_prefer(int node, struct numa_policy *ret_before)
{
    struct numa_policy before = {.set = true}, wish = {.set = true};
    wish.nodes[(unsigned)node / BITS] |= 1ul << ((unsigned)node % BITS);
    ret_before->set = false;
    if (syscall(SYS_get_mempolicy, &before.mode, before.nodes, MASK_BITS, NULL, 0ul) != 0 ||
        syscall(SYS_set_mempolicy, MPOL_PREFERRED, wish.nodes, MASK_BITS) != 0)
        return false;
    *ret_before = before;
    return true;
}

void numa_unprefer(const struct numa_policy *before)
{
    bool plain = before->mode == MPOL_DEFAULT; /* which takes no nodes */
    if (before->set && syscall(SYS_set_mempolicy, before->mode, plain ? NULL : before->nodes, plain ? 0ul : MASK_BITS) != 0)
        syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0ul);
}

unsigned numa_pages_on(const char *path, int node, unsigned *ret_looks)
{
    struct stat info;
    unsigned there = 0;
    *ret_looks = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    void *at = fstat(fd, &info) == 0 && info.st_size > 0 ? mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    close(fd);
    if (at == MAP_FAILED)
        return 0;
    for (unsigned i = 0; i < NUMA_LOOKS; i++) {
        char *page = (char *)at + (size_t)info.st_size / NUMA_LOOKS * i;
        int is = NUMA_ANYWHERE;
        if (syscall(SYS_get_mempolicy, &is, NULL, 0ul, page, (unsigned long)(MPOL_F_NODE | MPOL_F_ADDR)) != 0)
            continue;
        ++*ret_looks;
        there += is == node;
    }
    munmap(at, (size_t)info.st_size);
    return there;
}
