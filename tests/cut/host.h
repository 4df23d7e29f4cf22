/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CUT_HOST_H
#define TESTS_CUT_HOST_H

/* One host of a job, played by one process: the step process's socket and the agent's pages and slots for ranks that a
 * launcher of MPI's starts. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ckpt/stage/arena.h"
#include "ckpt/wire/local.h"

#define HOST_RANKS_MAX 64
#define HOST_JOB "cut"
#define HOST_JOB_UID "0123456789abcdef"

struct host {
    char dir[64]; /* arena and socket */
    uint32_t ranks;
    uint64_t generation;
    pid_t launcher; /* its process group; 0: none */
    int listener;
    struct control_page *pages[HOST_RANKS_MAX];
    int clients[HOST_RANKS_MAX];
    uint32_t client_rank[HOST_RANKS_MAX];
    int client_count;
    /* What ranks restore from; cut 0: nothing. */
    uint64_t cut;
    uint32_t slot;
    uint64_t step[HOST_RANKS_MAX];
    uint32_t restored; /* ranks that did, in this generation */
    char refused[TIDE_TEXT_MAX + 1]; /* a rank said that what it restores from is bad */
};

/* All exit on what a test cannot go on without. */
void host_init(struct host *host, uint32_t ranks);
void host_release(struct host *host);
/* A new generation: new pages, and the launcher. argv: what is started on each rank. */
void host_start(struct host *host, const char *launcher, char **argv, const char *const *environment);
/* Answer what ranks ask, for that long at most. */
void host_serve(struct host *host, long us);
/* The launcher and all ranks. */
void host_kill(struct host *host);
/* Nonzero: the launcher has ended. */
bool host_ended(struct host *host, int *ret_status);
void host_slot_path(const struct host *host, uint32_t rank, uint32_t slot, char *to, size_t size);

#endif
