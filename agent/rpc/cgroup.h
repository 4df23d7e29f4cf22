/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_CGROUP_H
#define AGENT_RPC_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <tidemark/types.h>

/* cgroup v2 where it can be written, found through mountinfo (it may be mounted beside v1); else process groups and a look
 * through /proc. */

/* The agent's own parent group, tidemark/<uid>, made if possible; `to` (TIDE_PATH_MAX + 1 bytes) is empty if not. */
void cgroup_make(const char *uid, char *to);
/* Remove it if it is empty. "" is legal. */
void cgroup_unmake(const char *path);

/* The group of one step (STEP_CGROUP_FORMAT). kill is repeated by the caller until it is empty. */
void cgroup_kill(const char *path);
bool cgroup_populated(const char *path); /* false too when there is no such group */
void cgroup_remove(const char *path);

/* Processes whose environment names this job, this node and one of these generations: what a dead step without a cgroup may have
 * left. Each is killed with SIGKILL; returns how many there were. */
size_t procs_kill(const char *job_uid, uint64_t first, uint64_t last, const char *node);
/* The process `tidemark-step <dir>`; 0: none. */
pid_t procs_find_step(const char *dir);
/* The same, killed with SIGKILL; false: there is none. */
bool procs_kill_step(const char *dir);

#endif
