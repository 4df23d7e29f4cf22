/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_STANDALONE_H
#define COORDINATOR_CLI_STANDALONE_H

#include <sys/types.h>

#include "coordinator/cli/client.h"

/* A coordinator and an agent of our own, for one job. They are in a session of their own, so that Ctrl-C reaches only
 * us; they get SIGTERM from the kernel when we are killed, and end what they started. */
struct standalone {
    char dir[TIDE_PATH_MAX + 1];   /* …/tidemark/standalone/<random>, locked by lock_fd while we live */
    char store[TIDE_PATH_MAX + 1]; /* URL */
    int lock_fd;
    pid_t coordinator, agent; /* 0: not running */
    bool keep;
};

/* Removes what killed runs left behind, then starts both and waits until the node is ready. `slots`: ranks to run. On
 * failure everything is down again. ret_client talks to it; free it before standalone_stop.
 * Errors: IO, EXEC (daemon not found), TIMEOUT; the text ends with the daemon's last words. */
MUST_USE enum tide_status standalone_start(struct standalone *s, uint32_t slots, bool keep, uint64_t timeout_ms,
                                           struct client **ret_client, struct fault *fault);
/* Have both daemons been alive so far? Errors: UNAVAILABLE with the last words of the one that is not. */
MUST_USE enum tide_status standalone_check(struct standalone *s, struct fault *fault);
/* Ends both and every process they started, and removes the state unless it is to be kept. `now`: ranks get no grace. */
void standalone_stop(struct standalone *s, bool now);

#endif
