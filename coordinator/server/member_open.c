/* SPDX-License-Identifier: Apache-2.0 */
/* A member from its data directory. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/member_inner.h"

#define ALONE_ID 1u

struct loaded {
    struct ballot ballot;
    struct raft_snapshot snapshot;
    struct raft_entry *entries;
    size_t count, room;
};

static void loaded_release(struct loaded *loaded)
{
    for (size_t i = 0; i < loaded->count; i++)
        raft_blob_unref(loaded->entries[i].blob);
    mem_free(loaded->entries);
}

/* ---- the newest snapshot ---- */

static enum tide_status take_snapshot(struct member *member, const struct snapshot *snapshot, struct loaded *loaded,
                                      struct err *err)
{
    const struct member_calls *calls = member->options.calls;
    struct snapshot_file file;
    enum tide_status status = raft_config_decode(snapshot->config, snapshot->config_bytes, &loaded->snapshot.config, err);
    if (status == TIDE_OK)
        status = snapshot_file_open(member->dir.path, member->dir.cluster, snapshot->index, &file, err);
    if (status != TIDE_OK)
        return status;
    loaded->snapshot.index = snapshot->index;
    loaded->snapshot.term = snapshot->term;
    loaded->snapshot.total = file.bytes;
    loaded->snapshot.digest = file.digest;
    snapshot_file_close(&file);
    void *parsed = calls->parse(member->options.context, snapshot, err);
    if (parsed == NULL)
        return err_wrap(err, "the snapshot of index %" PRIu64 " in %s is whole, but no state of this version",
                        snapshot->index, member->dir.path);
    member->applied = snapshot->index;
    calls->restored(member->options.context, parsed, snapshot->index, snapshot->term, &loaded->snapshot.config);
    return TIDE_OK;
}

static enum tide_status load_snapshot(struct member *member, struct loaded *loaded, struct err *err)
{
    struct snapshot snapshot;
    enum tide_status status = snapshot_newest(member->dir.path, member->dir.cluster, &snapshot, err);
    if (status != TIDE_OK || snapshot.data == NULL)
        return status;
    status = take_snapshot(member, &snapshot, loaded, err);
    snapshot_release(&snapshot);
    return status;
}

/* ---- the log ---- */

static enum tide_status load_entry(void *arg, const struct wal_entry *record, struct err *err)
{
    struct loaded *loaded = arg;
    if (record->type >= RAFT_ENTRY_TYPES)
        return err_set(err, TIDE_E_VERSION,
                       "record %" PRIu64
                       " is of a kind (%u) that this version does not know; start the version that wrote it",
                       record->index, (unsigned)record->type);
    if (loaded->count == loaded->room) {
        loaded->room = loaded->room ? loaded->room * 2 : 1024;
        loaded->entries = mem_grow(loaded->entries, loaded->room, sizeof *loaded->entries);
    }
    loaded->entries[loaded->count++] =
        (struct raft_entry){.index = record->index,
                            .term = record->term,
                            .type = record->type,
                            .blob = record->bytes > 0 ? raft_blob_create(record->data, record->bytes) : NULL};
    return TIDE_OK;
}

/* What every founding member's log begins with. Nothing was promised before it was there: it may be written again. */
static enum tide_status found(struct member *member, const struct loaded *loaded, struct err *err)
{
    struct raft_entry first = {0};
    if (wal_last(member->wal) != 0 || loaded->snapshot.index != 0 || member->options.founders->count == 0)
        return TIDE_OK;
    raft_first_entry(member->options.founders, &first);
    struct wal_entry record = {.index = first.index,
                               .term = first.term,
                               .type = (uint16_t)first.type,
                               .data = first.blob->data,
                               .bytes = first.blob->bytes};
    enum tide_status status = wal_append(member->wal, &record, 1, err);
    raft_blob_unref(first.blob);
    return status == TIDE_OK ? wal_sync(member->wal, err) : status;
}

/* Of a directory that was just made, before anything can have been promised: from then on a ballot that is not there is one
 * that was lost, and with it a vote. */
static enum tide_status begin_ballot(struct member *member, struct loaded *loaded, struct err *err)
{
    char path[DATA_FILE_MAX];
    datadir_file(member->dir.path, "ballot", path);
    if (member->dir.fresh) {
        loaded->ballot.term = member->options.founders->count > 0 ? 1 : 0;
        return ballot_save(member->dir.path, loaded->ballot, err);
    }
    if (access(path, F_OK) == 0)
        return TIDE_OK;
    return err_set(err, TIDE_E_CORRUPT,
                   "%s is gone, and with it the term and the vote of this member: it could vote twice. Restore the directory from "
                   "a backup of it, or remove this member from its group and add another one with a new id",
                   path);
}

static enum tide_status load_log(struct member *member, struct loaded *loaded, struct err *err)
{
    struct wal_options options = {.segment_bytes = member->options.segment_bytes};
    enum tide_status status = wal_open(member->dir.path, member->dir.cluster, &options, member->dir.fresh,
                                       loaded->snapshot.index + 1, loaded->snapshot.term, &member->wal, err);
    if (status == TIDE_OK)
        status = begin_ballot(member, loaded, err);
    if (status == TIDE_OK && member->dir.fresh)
        status = datadir_commit(&member->dir, err);
    if (status == TIDE_OK)
        status = found(member, loaded, err);
    if (status == TIDE_OK && wal_last(member->wal) >= wal_first(member->wal))
        status = wal_read(member->wal, wal_first(member->wal), wal_last(member->wal), load_entry, loaded, err);
    return status;
}

/* ---- all of it ---- */

static enum tide_status load_all(struct member *member, struct loaded *loaded, struct err *err)
{
    uint64_t free_bytes = 0;
    enum tide_status status = ballot_load(member->dir.path, &loaded->ballot, err);
    if (status == TIDE_OK)
        status = load_snapshot(member, loaded, err);
    if (status == TIDE_OK)
        status = load_log(member, loaded, err);
    if (status == TIDE_OK)
        status = datadir_free_bytes(member->dir.path, &free_bytes, err);
    if (status != TIDE_OK)
        return status;
    atomic_store(&member->free_bytes, free_bytes);
    struct raft_options options = {.id = member->id,
                                   .seed = rng_entropy(),
                                   .election_ticks = member->options.election_ticks,
                                   .heartbeat_ticks = member->options.heartbeat_ticks,
                                   .ballot = {.term = loaded->ballot.term, .vote = loaded->ballot.vote},
                                   .snapshot = loaded->snapshot,
                                   .entries = loaded->entries,
                                   .count = loaded->count};
    status = raft_create(&options, &member->raft, err);
    return status == TIDE_OK ? left_behind_check(member, err) : status;
}

/* A directory of any cluster, or a new one of a cluster of its own. */
static enum tide_status open_alone(struct member *member, struct err *err)
{
    struct rng rng = {.state = rng_entropy()};
    char uid[TIDE_UID_CHARS + 1];
    rng_hex(&rng, uid, TIDE_UID_CHARS);
    enum tide_status status = datadir_open(member->options.data, NULL, 0, false, &member->dir, err);
    if (status == TIDE_E_NOT_FOUND)
        status = datadir_open(member->options.data, uid, ALONE_ID, true, &member->dir, err);
    member->id = member->dir.member;
    return status;
}

enum tide_status member_load(struct member *member, struct err *err)
{
    struct loaded loaded = {0};
    struct raft_config alone = {.count = 1, .members = {{.voter = true, .peer = "nowhere"}}};
    enum tide_status status = TIDE_OK;
    if (member->options.cluster != NULL)
        status = datadir_open(member->options.data, member->options.cluster, member->id, true, &member->dir, err);
    else
        status = open_alone(member, err);
    alone.members[0].id = member->id;
    if (member->options.founders == NULL)
        member->options.founders = &alone;
    if (status == TIDE_OK)
        status = load_all(member, &loaded, err);
    member->options.founders = NULL; /* not needed any more */
    loaded_release(&loaded);
    return status;
}
