/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_WATCH_H
#define COORDINATOR_CLI_WATCH_H

#include "coordinator/cli/client.h"

/* Watch a job until `enough` says so. `what` is what a person waits for ("fashion to end"). The terminal sees how it
 * goes; a pipe sees nothing. On success the caller releases ret_view and ret_json (which may be NULL).
 * Errors: those of the API; TIMEOUT after within_ms, saying where the job stands; UNAVAILABLE when no coordinator answered
 * for the time of --timeout. */
MUST_USE enum tide_status watch_job(struct client *client, const char *job, uint64_t within_ms, const char *what,
                                    bool (*enough)(const struct job_view *view, void *context), void *context,
                                    struct job_view *ret_view, json_t **ret_json, struct fault *fault);

/* Nothing more will become of it: a sealed one that says why is not going to be stored. */
bool ckpt_settled(const struct ckpt *ckpt);
bool watch_ended(const struct job_view *view, void *context);

#define WATCH_MS_TERMINAL 500 /* how often the elapsed time on a terminal moves */
#define WATCH_MS_PIPE 20000

#endif
