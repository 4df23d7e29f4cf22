/* SPDX-License-Identifier: Apache-2.0 */
/* A member that was left behind when its group was recovered (tidemarkd recover), and has heard of it. With others like it
 * it would be a majority of what they know, and go on from before. It takes no part any more, and its data directory says
 * so, also when whom it heard it from is not to be reached. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/wire/identity.h"
#include "coordinator/server/member_inner.h"

#define MARK "left-behind"
#define MARK_BYTES_MAX 256u
#define MARK_MODE 0644

enum tide_status left_behind_load(const char *dir, uint64_t *ret_epoch, struct err *err)
{
    char path[DATA_FILE_MAX], *text = NULL;
    size_t bytes = 0;
    datadir_file(dir, MARK, path);
    *ret_epoch = 0;
    if (access(path, F_OK) != 0)
        return TIDE_OK;
    enum tide_status status = fsx_read(path, MARK_BYTES_MAX, &text, &bytes, err);
    if (status != TIDE_OK)
        return status;
    text[strcspn(text, "\n")] = '\0';
    status = epoch_parse(text, ret_epoch, err);
    if (status != TIDE_OK)
        status = err_set(err, TIDE_E_CORRUPT, "%s does not say an epoch: %.80s", path, text);
    mem_free(text);
    return status;
}

enum tide_status left_behind_forget(const char *dir, struct err *err)
{
    char path[DATA_FILE_MAX];
    datadir_file(dir, MARK, path);
    if (access(path, F_OK) != 0)
        return TIDE_OK;
    if (unlink(path) != 0)
        return err_errno(err, "cannot remove %s", path);
    return fsx_sync_dir(dir, err);
}

enum tide_status left_behind_check(struct member *member, struct err *err)
{
    uint64_t later, own = raft_config_of(member->raft)->epoch;
    char theirs[EPOCH_TEXT_MAX + 1], ours[EPOCH_TEXT_MAX + 1];
    enum tide_status status = left_behind_load(member->dir.path, &later, err);
    if (status != TIDE_OK || later == 0)
        return status;
    if (!epoch_stale(own, later)) /* recovered itself since */
        return left_behind_forget(member->dir.path, err);
    epoch_format(own, ours);
    epoch_format(later, theirs);
    return err_set(err, TIDE_E_CONFLICT,
                   "member %" PRIu64
                   " was left behind when its group was recovered: %s is of epoch %s, the group of %s. Remove "
                   "that directory, and add this host under a new id: tidemark cluster issue member, then add. Only if that "
                   "recovery was a mistake: see to it that whoever was recovered never runs again, and remove %s/" MARK,
                   member->id, member->dir.path, ours, theirs, member->dir.path);
}

void left_behind_heard(struct member *member, uint64_t peer, uint64_t epoch)
{
    char path[DATA_FILE_MAX], text[EPOCH_TEXT_MAX + 2], theirs[EPOCH_TEXT_MAX + 1];
    struct err err = {0};
    epoch_format(epoch, theirs);
    /* A group that decides is not ended by somebody who recovers one of its members by mistake. */
    if (member->later != 0 || member->turn.leader != 0)
        return;
    member->later = epoch;
    hand_turn(member);
    log_error("member %" PRIu64 " was left behind when the group was recovered: member %" PRIu64
              " is of epoch %s. It takes no part "
              "any more, and answers nobody. Stop it, remove %s, and add this host under a new id: tidemark cluster issue "
              "member, then add",
              member->id, peer, theirs, member->dir.path);
    int n = snprintf(text, sizeof text, "%s\n", theirs);
    datadir_file(member->dir.path, MARK, path);
    if (fsx_replace(path, text, (size_t)n, MARK_MODE, &err) != TIDE_OK)
        log_error("it cannot be noted that this member was left behind: %s", err.text);
}
