/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_STEPS_INNER_H
#define AGENT_RPC_STEPS_INNER_H

/* Shared by steps.c (which there are), step_process.c (life and death) and step_socket.c (what is said). */

#include <sys/resource.h>

#include "agent/rpc/frame.h"
#include "agent/rpc/steps.h"

struct step_socket; /* one connection; lives until libuv has closed it */

struct step_process {
    struct steps *steps;
    struct step_process *next;
    struct step_spec spec;
    struct pages pages;
    pid_t pid;
    int pidfd;
    uv_poll_t death;  /* on pidfd */
    uv_timer_t timer; /* next connection try; after death: next look for what is left */
    uint64_t check_ms; /* until the next of those looks */
    unsigned handles; /* open ones; freed with the last */
    bool watched;     /* `death` is open */
    bool dead, gone, dropped;
    bool connected;
    bool leave_due;
    struct step_socket *socket; /* NULL: none */
};

struct kept_frame {
    struct mesh_frame frame;
    char pin[PIN_CHARS + 1];
    uint64_t until_ns;
};

struct steps {
    uv_loop_t *loop;
    const struct dirs *dirs;
    char node[TIDE_NAME_MAX + 1];
    char program[TIDE_PATH_MAX + 1];
    struct rlimit files; /* as this process was given it: what ranks get */
    struct steps_hooks hooks;
    struct step_process *first;
    LIST_OF(struct kept_frame) kept;
    bool closing;
};

/* steps.c */
struct step_process *process_of(struct steps *steps, const char *uid, uint64_t generation);
void process_say(struct step_process *process, const struct step_status *status); /* EV_STEP_STATUS */
void process_found(struct step_process *process); /* EV_STEP_FOUND */
void process_look(struct step_process *process);
/* Of a step's directory. Errors: IO, NOT_FOUND, INVALID. */
MUST_USE enum tide_status spec_read(const char *dir, struct step_spec *ret_spec, struct err *err);
void kept_flush(struct step_process *process);
void leave_flush(struct step_process *process); /* STEP_LEAVE that could not be said before */

/* step_process.c */
struct step_process *process_make(struct steps *steps, struct step_spec *spec); /* the spec moves */
MUST_USE enum tide_status process_spawn(struct step_process *process, struct err *err);
/* Have a step that has left its generation go over to that of the spec, which moves on success. Errors: IO, NOSPACE, UNAVAILABLE. */
MUST_USE enum tide_status process_go_over(struct step_process *process, struct step_spec *spec, struct err *err);
/* It speaks of a newer generation than its directory did when it was found: an agent that is gone had it go over. */
void process_reread(struct step_process *process);
void process_adopt(struct step_process *process);
void process_kill(struct step_process *process);
void process_drop(struct step_process *process); /* close handles, free when they are closed */

/* step_socket.c */
void socket_connect(struct step_process *process);
void socket_close(struct step_process *process);
/* False: not connected. */
bool socket_send(struct step_process *process, const struct step_line *line);

#endif
