/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_SHELL_INNER_H
#define AGENT_RPC_SHELL_INNER_H

/* Shared by shell.c (life of the process), perform.c (actions) and host.c (what this machine is). */

#include <uv.h>

#include "agent/health/watch/watch.h"
#include "agent/rpc/coord.h"
#include "agent/rpc/dirs.h"
#include "agent/rpc/log_server.h"
#include "agent/rpc/mesh.h"
#include "agent/rpc/scrub.h"
#include "agent/rpc/shell.h"
#include "agent/rpc/steps.h"
#include "agent/rpc/work.h"

struct shell {
    struct shell_options options;
    struct agent_creds creds;
    struct port_key port_key; /* empty: this agent's ports are plain */
    uv_loop_t loop;
    uv_timer_t tick, look;
    uint64_t look_ms; /* the pause before the look that is due; 0: none is */
    uv_signal_t term, interrupt;
    struct dirs dirs;
    struct agent_core *core;
    struct http_client http;
    struct coord *coord;
    struct steps *steps;
    struct mesh *mesh;
    struct log_server *log_server;
    struct work *work;
    struct scrub *scrub; /* NULL: nothing is read that nobody asked for */
    struct watch *watch;
    struct node_hello hello;
    struct agent_actions actions;
    struct agent_event *queue; /* answers of actions, while actions are being done */
    size_t queued, queue_room;
    bool busy;
    bool ending;
    uint64_t end_by_ns;  /* kill_on_exit: not waited longer than that */
    char refusal[ERR_TEXT_MAX]; /* why the coordinator does not want this node; ends the process */
};

/* shell.c: take in an event, do what comes out. Borrowed pointers in it are only legal while no action is being done. */
void shell_event(struct shell *shell, const struct agent_event *event);

/* perform.c */
void perform(struct shell *shell, const struct agent_action *action);
void arenas_found(struct shell *shell); /* EV_ARENA_FOUND for each; what is no arena is removed */

/* host.c: fill in what the options left open. */
MUST_USE enum tide_status host_fill(struct shell_options *options, struct err *err);
/* Ports of the last run are taken again: peers and logs readers know them. */
void host_ports_load(const struct dirs *dirs, uint32_t *mesh_port, uint32_t *log_port);
void host_ports_save(const struct dirs *dirs, uint32_t mesh_port, uint32_t log_port);
/* Half of the file system the arena is in. */
uint64_t host_arena_max(const char *path);

#endif
