/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_CKPT_STORE_H
#define COORDINATOR_CLI_CKPT_STORE_H

/* What commands share that read stores themselves. */

#include "ckpt/store/store.h"
#include "coordinator/cli/client.h"
#include "coordinator/cli/command.h"

/* The checkpoint that the words name, with its job. On success the caller releases ret_view and ret_json. */
MUST_USE enum tide_status ckpt_find(const struct cli *cli, struct job_view *ret_view, json_t **ret_json,
                                    const struct ckpt **ret_ckpt, struct fault *fault);
/* The store that --store names, else the job's, or of an inherited checkpoint (NULL: of none) that of whose it is, else the
 * cluster's. ret_url holds TIDE_PATH_MAX + 1 bytes. */
MUST_USE enum tide_status job_store_url(const struct cli *cli, const struct job *job, const struct ckpt *ckpt, char *ret_url,
                                        struct fault *fault);
MUST_USE enum tide_status job_store_open(const struct cli *cli, const struct job *job, const struct ckpt *ckpt, char *ret_url,
                                         struct store **ret_store, struct fault *fault);
/* The directory of a store must be there: opening creates it, where a file system is not mounted, perhaps, which would only turn
 * "not on this machine" into "no such object". TIDE_OK for any other store. hint: where it is not there. */
MUST_USE enum tide_status store_dir_there(const char *url, const char *hint, struct fault *fault);
/* One that must be there already. */
MUST_USE enum tide_status store_open_there(const char *url, struct store **ret_store, struct fault *fault);
/* Is it to be in a store? Errors: STATE. */
MUST_USE enum tide_status ckpt_stored(const struct job *job, const struct ckpt *ckpt, struct fault *fault);
/* Its manifest is NOT_FOUND in that store, as fault says: CORRUPT, where that store has lost it; else NOT_FOUND, and what to do. */
MUST_USE enum tide_status manifest_not_there(const struct cli *cli, struct store *store, const struct job *job, const struct ckpt *ckpt,
                                             struct fault *fault);
/* A checkpoint is not to be deleted while it is read: it is held, for a while in case this ends before it can let it go. One that is kept
 * by hand, or condemned, is left as it is; where it cannot be held that is said, and it is read all the same. */
struct hold {
    const struct cli *cli;
    char path[TIDE_NAME_MAX + 64];
    bool held;
};
void hold_begin(struct hold *hold, const struct cli *cli, const struct job *job, const struct ckpt *ckpt);
void hold_end(struct hold *hold);
/* How far a long read is, on a terminal. */
struct meter {
    const char *what; /* "reading fashion/7" */
    uint64_t done, total, begun_ns, shown_ns;
};
void meter_begin(struct meter *meter, const char *what, uint64_t total);
void meter_add(void *meter, uint64_t bytes);

#endif
