/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_DIRS_H
#define AGENT_RPC_DIRS_H

/* Where an agent keeps what outlives it. The node's uid names the state directory's agent for good; every shared place
 * (arena, cgroup, short directory for sockets) carries it, so that several agents on one machine never meet. */

#include <stdbool.h>
#include <stdint.h>
#include <tidemark/types.h>

#include "ckpt/base/err.h"

struct dirs {
    char state[TIDE_PATH_MAX + 1];
    char steps[TIDE_PATH_MAX + 1];  /* short enough for Unix sockets below it */
    char logs[TIDE_PATH_MAX + 1];
    char begun[TIDE_PATH_MAX + 1];
    char arena[TIDE_PATH_MAX + 1];
    char cgroup[TIDE_PATH_MAX + 1]; /* empty: none can be written here */
    char uid[TIDE_UID_CHARS + 1];
    char cluster[TIDE_UID_CHARS + 1]; /* empty: never joined one */
    uint64_t epoch;                   /* newest recovery of it that is known (ckpt/wire/identity.h) */
    int lock_fd;
};

/* Make what is missing, take the lock, read or make the uid. arena: NULL for the default.
 * Errors: STATE (another agent uses the directory), IO, NOSPACE. */
MUST_USE enum tide_status dirs_open(const char *state, const char *arena, struct dirs *ret_dirs, struct err *err);
/* Give the lock back; remove arena and cgroup if nothing is left in them. */
void dirs_close(struct dirs *dirs);
/* Durable before the first desired state of that cluster, and of that recovery of it, is followed. Errors: STALE (an epoch of
 * before a recovery that is known), IO, NOSPACE. */
MUST_USE enum tide_status dirs_join(struct dirs *dirs, const char *cluster, uint64_t epoch, struct err *err);

/* Into `to` of TIDE_PATH_MAX + 1 bytes. Errors: LIMIT. */
MUST_USE enum tide_status dirs_step(const struct dirs *dirs, const char *uid, uint64_t generation, char *to, struct err *err);
MUST_USE enum tide_status dirs_arena(const struct dirs *dirs, const char *uid, char *to, struct err *err);
MUST_USE enum tide_status dirs_log(const struct dirs *dirs, const char *job, const char *uid, uint64_t generation, char *to,
                                   struct err *err);

/* "<uid>.g<generation>", as the directories of steps are named. */
bool generation_parse(const char *name, char uid[TIDE_UID_CHARS + 1], uint64_t *ret_generation);

/* TIDE_UID_CHARS lower-case hex digits: what may become part of a path. */
int uid_valid(const char *uid);

/* Which generations were begun here, in the state directory: a second memory for a node that loses its arena. One empty file
 * per job, named by uid and generation. Not synced: a host that goes down within seconds took the ranks along. */
MUST_USE enum tide_status begun_note(const struct dirs *dirs, const char *uid, uint64_t generation, struct err *err);
void begun_forget(const struct dirs *dirs, const char *uid);
void begun_each(const struct dirs *dirs, void (*visit)(void *context, const char *uid, uint64_t generation), void *context);

/* The note in a job's arena: who it is and the newest generation begun, for an agent that comes back. */
struct arena_note {
    char job[TIDE_NAME_MAX + 1];
    uint64_t generation;
};
MUST_USE enum tide_status arena_note_write(const char *arena, const struct arena_note *note, struct err *err);
MUST_USE enum tide_status arena_note_read(const char *arena, struct arena_note *ret_note, struct err *err);

#endif
