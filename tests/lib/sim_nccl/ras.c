/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/sim_nccl/sim.h"

/* NCCL's RAS, as far as it tells how many collectives each rank has begun: the first process of a host that gets the port
 * answers, in the form of NCCL's JSON, about the communicators it is in. */

#define RETRY_US 200000u
#define QUESTION_BYTES 4096u
#define BACKLOG 8

static const char *const names[SIM_COLLECTIVES] = {"AllReduce",     "Reduce",   "Broadcast", "AllGather",
                                                   "ReduceScatter", "AlltoAll", "Gather",    "Scatter"};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct ncclComm *comms;
static pid_t serving; /* a child that was forked has no such thread */

/* That of its first interface but loopback. */
void sim_host(char *to, size_t size)
{
    struct ifaddrs *all = NULL;
    snprintf(to, size, "127.0.0.1");
    if (getifaddrs(&all) != 0)
        return;
    for (const struct ifaddrs *i = all; i; i = i->ifa_next) {
        if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET)
            continue;
        const struct sockaddr_in *in = (const void *)i->ifa_addr;
        if (ntohl(in->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET)
            continue;
        inet_ntop(AF_INET, &in->sin_addr, to, (socklen_t)size);
        break;
    }
    freeifaddrs(all);
}

static void print_rank(FILE *to, const struct ncclComm *comm, int rank)
{
    fprintf(to, "%s{\"rank\":%d,\"host\":\"%s\",\"pid\":%d,\"collective_counts\":{", rank ? "," : "", rank,
            comm->shared->members[rank].host, (int)atomic_load(&comm->shared->members[rank].pid));
    for (unsigned k = 0; k < SIM_COLLECTIVES; k++)
        fprintf(to, "%s\"%s\":%llu", k ? "," : "", names[k],
                (unsigned long long)atomic_load(&comm->shared->members[rank].begun[k]));
    fputs("}}", to);
}

static void answer(int fd)
{
    char question[QUESTION_BYTES];
    FILE *to = recv(fd, question, sizeof question, 0) > 0 ? fdopen(fd, "w") : NULL;
    if (to == NULL) {
        close(fd);
        return;
    }
    fputs("OK\n{\"nccl_version\":\"simulated\",\"communicators\":[", to);
    pthread_mutex_lock(&lock);
    for (const struct ncclComm *comm = comms; comm; comm = comm->next) {
        fprintf(to, "%s{\"hash\":\"0x%.16s\",\"size\":%d,\"ranks\":[", comm == comms ? "" : ",", comm->id, comm->ranks);
        for (int r = 0; r < comm->ranks; r++)
            print_rank(to, comm, r);
        fputs("]}", to);
    }
    pthread_mutex_unlock(&lock);
    fputs("]}\n", to);
    fclose(to);
}

static void *serve(void *port)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)(uintptr_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int yes = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    while (bind(fd, (const struct sockaddr *)&at, sizeof at) != 0)
        usleep(RETRY_US);
    if (listen(fd, BACKLOG) != 0)
        return NULL;
    for (;;) {
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        if (client >= 0)
            answer(client);
    }
    return NULL;
}

void sim_ras_add(struct ncclComm *comm)
{
    const char *port = getenv("SIM_NCCL_RAS");
    pthread_t thread;
    pthread_mutex_lock(&lock);
    comm->next = comms;
    comms = comm;
    bool first = port != NULL && serving != getpid();
    if (first)
        serving = getpid();
    pthread_mutex_unlock(&lock);
    if (first && pthread_create(&thread, NULL, serve, (void *)(uintptr_t)strtoul(port, NULL, 10)) == 0)
        pthread_detach(thread);
}

void sim_ras_remove(const struct ncclComm *comm)
{
    pthread_mutex_lock(&lock);
    for (struct ncclComm **at = &comms; *at; at = &(*at)->next)
        if (*at == comm) {
            *at = comm->next;
            break;
        }
    pthread_mutex_unlock(&lock);
}
