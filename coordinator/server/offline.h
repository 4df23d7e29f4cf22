/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_SERVER_OFFLINE_H
#define COORDINATOR_SERVER_OFFLINE_H

/* What is done to a data directory that no tidemarkd uses, when a cluster has to be saved. */

#include "ckpt/secure/idir.h"
#include "coordinator/raft/entry.h"

/* What a member knows by itself. */
struct recovery_view {
    uint64_t member, index, term; /* of the last entry it has */
    char cluster[TIDE_UID_CHARS + 1];
    struct raft_config config; /* newest it knows of */
    uint64_t epoch;            /* newest it has heard of: its group's, or that of whoever left it behind */
};

/* Look only. Errors: as datadir_open, CORRUPT, STATE (it is in no group). */
MUST_USE enum tide_status recover_look(const char *data, struct recovery_view *ret_view, struct err *err);
/* Make this member the only one of its group: it starts as the leader of a group of one, with everything it has; entries
 * that were not yet committed are, from then on. ret_epoch: that the group is now. Errors: the same, LIMIT, NOSPACE, IO. */
MUST_USE enum tide_status recover_alone(const char *data, uint64_t *ret_epoch, struct err *err);

struct restored_view {
    uint64_t member, index, digest; /* digest: the same at every member that was restored alike */
    char cluster[TIDE_UID_CHARS + 1], from_cluster[TIDE_UID_CHARS + 1];
};

/* A new data directory whose state is that of a backup. With an identity it is that member's, of the group that the identity
 * founds: every one of its members must be restored from the same file. Without: a group of one, of a new cluster.
 * Errors: EXISTS (something is there), NOT_FOUND, CORRUPT, VERSION, NOSPACE, IO. */
MUST_USE enum tide_status restore_backup(const char *data, const char *from, const struct identity *identity,
                                         struct restored_view *ret_view, struct err *err);

/* tidemarkd recover …, tidemarkd restore …: the exit status. */
int recover_main(int argc, char **argv);
int restore_main(int argc, char **argv);

#endif
