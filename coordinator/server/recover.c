/* SPDX-License-Identifier: Apache-2.0 */
/* A majority is lost for good: one member goes on alone with what it has. */
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/wire/identity.h"
#include "coordinator/disk/datadir.h"
#include "coordinator/disk/snapshot.h"
#include "coordinator/disk/wal.h"
#include "coordinator/raft/raft.h"
#include "coordinator/server/member_inner.h"
#include "coordinator/server/offline.h"

struct found {
    struct datadir dir;
    struct ballot ballot;
    struct wal *wal;
    struct recovery_view view;
};

static void found_close(struct found *found)
{
    wal_close(found->wal);
    datadir_close(&found->dir);
}

static enum tide_status take_entry(void *arg, const struct wal_entry *entry, struct err *err)
{
    struct recovery_view *view = arg;
    view->index = entry->index;
    view->term = entry->term;
    return entry->type == RAFT_CONFIG ? raft_config_decode(entry->data, entry->bytes, &view->config, err) : TIDE_OK;
}

static enum tide_status read_all(struct found *found, struct err *err)
{
    struct snapshot snapshot = {0};
    struct recovery_view *view = &found->view;
    uint64_t later = 0;
    enum tide_status status = ballot_load(found->dir.path, &found->ballot, err);
    if (status == TIDE_OK)
        status = snapshot_newest(found->dir.path, found->dir.cluster, &snapshot, err);
    if (status == TIDE_OK && snapshot.data != NULL)
        status = raft_config_decode(snapshot.config, snapshot.config_bytes, &view->config, err);
    view->index = snapshot.index;
    view->term = snapshot.term;
    if (status == TIDE_OK)
        status =
            wal_open(found->dir.path, found->dir.cluster, NULL, false, snapshot.index + 1, snapshot.term, &found->wal, err);
    if (status == TIDE_OK && wal_last(found->wal) > snapshot.index)
        status = wal_read(found->wal, snapshot.index + 1, wal_last(found->wal), take_entry, view, err);
    snapshot_release(&snapshot);
    if (status == TIDE_OK)
        status = left_behind_load(found->dir.path, &later, err);
    view->epoch = epoch_stale(view->config.epoch, later) ? later : view->config.epoch;
    return status;
}

static enum tide_status look(const char *data, struct found *found, struct err *err)
{
    *found = (struct found){.dir.lock_fd = -1};
    enum tide_status status = datadir_open(data, NULL, 0, false, &found->dir, err);
    if (status == TIDE_OK)
        status = read_all(found, err);
    found->view.member = found->dir.member;
    text_copy(found->view.cluster, sizeof found->view.cluster, found->dir.cluster);
    if (status == TIDE_OK && raft_config_member(&found->view.config, found->dir.member) == NULL)
        status = err_set(err, TIDE_E_STATE,
                         "member %" PRIu64 " in %s knows of no group that it belongs to: it was not added yet, or has left; "
                         "recover another member",
                         found->dir.member, found->dir.path);
    if (status != TIDE_OK)
        found_close(found);
    return status;
}

enum tide_status recover_look(const char *data, struct recovery_view *ret_view, struct err *err)
{
    struct found found;
    enum tide_status status = look(data, &found, err);
    if (status != TIDE_OK)
        return status;
    *ret_view = found.view;
    found_close(&found);
    return TIDE_OK;
}

/* As if the group had decided it: an entry of a new term, behind all others, that names this member alone. The term first:
 * no log holds an entry of a term that its member does not know. */
static enum tide_status go_alone(struct found *found, uint64_t epoch, struct err *err)
{
    struct raft_member self = *raft_config_member(&found->view.config, found->dir.member);
    struct raft_config alone = {.count = 1, .epoch = epoch};
    uint64_t term = found->ballot.term > found->view.term ? found->ballot.term : found->view.term;
    struct ballot ballot = {.term = term + 1, .vote = found->dir.member};
    self.voter = true;
    alone.members[0] = self;
    struct raft_blob *blob = raft_config_encode(&alone);
    struct wal_entry entry = {
        .index = found->view.index + 1, .term = term + 1, .type = RAFT_CONFIG, .data = blob->data, .bytes = blob->bytes};
    enum tide_status status = ballot_save(found->dir.path, ballot, err);
    if (status == TIDE_OK)
        status = wal_append(found->wal, &entry, 1, err);
    if (status == TIDE_OK)
        status = wal_sync(found->wal, err);
    raft_blob_unref(blob);
    return status == TIDE_OK ? left_behind_forget(found->dir.path, err) : status;
}

enum tide_status recover_alone(const char *data, uint64_t *ret_epoch, struct err *err)
{
    struct found found;
    uint64_t epoch = 0;
    enum tide_status status = look(data, &found, err);
    if (status != TIDE_OK)
        return status;
    status = epoch_next(found.view.epoch, (uint32_t)rng_entropy(), &epoch, err);
    if (status == TIDE_OK)
        status = go_alone(&found, epoch, err);
    found_close(&found);
    if (status == TIDE_OK)
        *ret_epoch = epoch;
    return status;
}
