/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_STEP_CGROUP_H
#define AGENT_STEP_CGROUP_H

#include <stdbool.h>

#include "ckpt/base/err.h"

/* Version 2 control groups, as far as a step needs them: to kill all of a tree at once and to know that it is empty.
 * No controller is asked for, so this works beside version 1 and in any directory the agent may write. */

/* mkdir; a group that is there already is killed first. Errors: IO (not a cgroup2 directory, not writable). */
MUST_USE enum tide_status cgroup_make(const char *path, struct err *err);

/* For the child to write "0" into before exec. -1 on failure. */
int cgroup_open_procs(const char *path);

/* SIGKILL to every process of the tree; falls back to one by one where the kernel has no cgroup.kill. */
void cgroup_kill(const char *path);

/* No process is left in the tree; also when the group does not exist. */
bool cgroup_empty(const char *path);

/* rmdir of it and of its children; what is not empty stays. */
void cgroup_remove(const char *path);

#endif
