/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_SHELL_H
#define AGENT_RPC_SHELL_H

/* The agent's shell: one libuv loop that turns what happens into events of agent/core and does the actions that come out. */

#include <stdbool.h>
#include <tidemark/types.h>

#include "ckpt/base/err.h"
#include "ckpt/wire/node.h"

struct shell_options {
    char coordinators[4 * TIDE_PATH_MAX]; /* empty: those of the identity */
    char identity[TIDE_PATH_MAX + 1];     /* directory; empty: none */
    char join[TIDE_PATH_MAX + 1];         /* join token or a file with one; empty: none */
    char name[TIDE_NAME_MAX + 1];
    char domain[TIDE_NAME_MAX + 1]; /* empty: the node is one of its own */
    char state[TIDE_PATH_MAX + 1];
    char address[ADDRESS_MAX + 1]; /* empty: found out */
    char host[ADDRESS_MAX + 1];    /* empty: the host's */
    char arena[TIDE_PATH_MAX + 1]; /* empty: /dev/shm */
    char step[TIDE_PATH_MAX + 1];  /* the step program; empty: looked for */
    uint64_t arena_bytes_max;      /* 0: half of the arena's file system */
    uint32_t slots;                /* 0: one per processor */
    uint32_t mesh_port, log_port;  /* 0: those of last time if free, else any */
    unsigned probes;               /* enum watch_probe */
    uint64_t hang_ms;              /* as in watch_options */
    char nics[TIDE_TEXT_MAX + 1];  /* empty: those that are hardware */
    uint64_t scrub_rate;           /* bytes per second, of checkpoints in the store that are read to see whether they are whole; 0: none */
    uint64_t scrub_every_s;        /* each once in so long */
    uint32_t share_nodes;          /* of a job, that store once what they hold alike; 1: each stores all it holds */
    uint32_t encode_helpers;       /* threads that help to encode or decode each shard, or HELPERS_BY_CORES (ckpt/stage/helpers.h) */
    bool kill_on_exit;             /* end the steps when told to end */
};

/* Runs until SIGTERM or SIGINT. *ret_hung is always set: true when a worker thread is still at something that may never end,
 * a store that hangs for one. Then the process must end by _exit, since exit handlers wait for all threads.
 * Errors: everything that keeps an agent from starting. */
MUST_USE enum tide_status shell_run(const struct shell_options *options, bool *ret_hung, struct err *err);

#endif
