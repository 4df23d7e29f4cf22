/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/step/host.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ckpt/base/mem.h"

#define COMM_MAX 16 /* bytes of a process name, as the kernel keeps it */

static bool has_address(const struct ifaddrs *entry, const struct in_addr *v4, const struct in6_addr *v6)
{
    if (entry->ifa_addr == NULL)
        return false;
    if (v4 != NULL && entry->ifa_addr->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const void *)entry->ifa_addr;
        if ((ntohl(v4->s_addr) >> 24) == IN_LOOPBACKNET)
            return (ntohl(in->sin_addr.s_addr) >> 24) == IN_LOOPBACKNET;
        return in->sin_addr.s_addr == v4->s_addr;
    }
    if (v6 != NULL && entry->ifa_addr->sa_family == AF_INET6)
        return memcmp(&((const struct sockaddr_in6 *)(const void *)entry->ifa_addr)->sin6_addr, v6, sizeof *v6) == 0;
    return false;
}

bool host_interface(const char *address, char ret_name[IF_NAMESIZE])
{
    struct in_addr v4;
    struct in6_addr v6;
    bool is_v4 = inet_pton(AF_INET, address, &v4) == 1, is_v6 = !is_v4 && inet_pton(AF_INET6, address, &v6) == 1;
    struct ifaddrs *all = NULL;
    if ((!is_v4 && !is_v6) || getifaddrs(&all) != 0)
        return false;
    bool found = false;
    for (const struct ifaddrs *entry = all; entry != NULL && !found; entry = entry->ifa_next)
        if (has_address(entry, is_v4 ? &v4 : NULL, is_v6 ? &v6 : NULL)) {
            snprintf(ret_name, IF_NAMESIZE, "%s", entry->ifa_name);
            /* An alias ("eth0:1") is the same device. */
            ret_name[strcspn(ret_name, ":")] = '\0';
            found = true;
        }
    freeifaddrs(all);
    return found;
}

static bool is_process(const char *pid, const char *name)
{
    char path[64], comm[COMM_MAX + 1] = "";
    snprintf(path, sizeof path, "/proc/%.20s/comm", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, comm, COMM_MAX);
    close(fd);
    if (n <= 0)
        return false;
    comm[strcspn(comm, "\n")] = '\0';
    return strcmp(comm, name) == 0;
}

static uint32_t agents_here(void)
{
    DIR *proc = opendir("/proc");
    if (proc == NULL)
        return 1;
    uint32_t agents = 0, steps = 0;
    struct dirent *entry;
    while ((entry = readdir(proc)) != NULL) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        agents += is_process(entry->d_name, "tidemark-agent");
        steps += is_process(entry->d_name, "tidemark-step");
    }
    closedir(proc);
    uint32_t most = agents > steps ? agents : steps;
    return most > 0 ? most : 1;
}

bool host_crowded(uint32_t ranks)
{
    cpu_set_t mine;
    CPU_ZERO(&mine);
    if (sched_getaffinity(0, sizeof mine, &mine) != 0)
        return false;
    return ranks * agents_here() > (uint32_t)CPU_COUNT(&mine);
}

bool host_fast_fabric(void)
{
    return access("/dev/infiniband", F_OK) == 0;
}
