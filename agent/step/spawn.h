/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_STEP_SPAWN_H
#define AGENT_STEP_SPAWN_H

/* Fork and exec of a rank. Between the two the child makes only async-signal-safe calls: libpmix has threads by then. */

#include <sys/types.h>
#include <tidemark/types.h>

#include "ckpt/base/err.h"

struct spawn {
    char *const *argv;
    char *const *env;  /* its PATH is searched for an argv[0] without a slash */
    const char *cwd;   /* empty: as the step */
    int out_fd, err_fd;
    int cgroup_fd;     /* cgroup.procs of its group, or -1 */
};

/* What the child could not do. Written to the failure pipe as it is; the pipe just closes when exec succeeds. */
struct spawn_failure {
    int stage; /* enum spawn_stage */
    int number; /* errno */
};

enum spawn_stage { SPAWN_GROUP, SPAWN_CWD, SPAWN_STDIO, SPAWN_EXEC };

/* The child leads a process group of its own, dies with the calling thread, has default signals and no descriptor beyond
 * its stdio. ret_failure_fd: read end of the failure pipe, non-blocking. Errors: IO (no process to be had). */
MUST_USE enum tide_status spawn_start(const struct spawn *spawn, pid_t *ret_pid, int *ret_failure_fd, struct err *err);

/* "cannot execute './x': No such file or directory". */
void spawn_failure_text(const struct spawn_failure *failure, const char *program, const char *cwd,
                        char ret_text[TIDE_TEXT_MAX + 1]);

#endif
