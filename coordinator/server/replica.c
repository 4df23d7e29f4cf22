/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/server/replica.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/replica_inner.h"

/* What the disk cannot hold must not be promised, and what it may hold must not be promised twice: there is no going on. */
void replica_fatal(const char *what, const struct err *err)
{
    log_error("fatal: %s: %s. The coordinator stops: everything acknowledged is in the log; make the disk good and start it "
              "again",
              what, err->text);
    abort();
}

const struct state *replica_state(const struct replica *replica)
{
    return &replica->state;
}

const char *replica_cluster(const struct replica *replica)
{
    return replica->dir.cluster;
}

void replica_status(const struct replica *replica, struct replica_status *ret_status)
{
    *ret_status = (struct replica_status){.term = replica->ballot.term,
                                          .last_index = replica->last_index,
                                          .applied_index = replica->state.revision,
                                          .log_bytes = replica->log_bytes,
                                          .snapshot_index = replica->snapshot_index};
}

/* ---- propose ---- */

static enum tide_status refuse_full(struct replica *replica, bool own, struct err *err)
{
    /* The leader's own verdicts may use half of the reserve: they end jobs and drop checkpoints, which is what helps. */
    uint64_t reserve = own ? DATA_RESERVE_BYTES / 2 : DATA_RESERVE_BYTES;
    if (replica->free_bytes >= reserve)
        return TIDE_OK;
    /* Somebody may have made room: have the worker look, for the next one who asks. */
    replica->prepare = true;
    replica_work(replica);
    return err_set(err, TIDE_E_UNAVAILABLE,
                   "the file system of the data directory %s has only %" PRIu64 " MiB left, and %" PRIu64
                   " MiB are kept in reserve: no command is taken until there is more room; nothing that runs is touched",
                   replica->dir.path, replica->free_bytes >> 20, reserve >> 20);
}

static void proposal_free(struct proposal *p)
{
    codec_release(&command_codec, &p->command);
    mem_free(p->text);
    mem_free(p);
}

/* What will be applied is what the log says, not what the caller held: a replay must see nothing else. */
static enum tide_status write_down(struct replica *replica, const struct command *command, struct proposal **ret_proposal,
                                   struct err *err)
{
    struct command stamped = *command; /* borrows */
    uint64_t now = clock_wall_ms();
    stamped.at_ms = replica->at_ms = now > replica->at_ms ? now : replica->at_ms;
    struct proposal *p = mem_alloc(sizeof *p);
    p->text = codec_print(&command_codec, &stamped, CODEC_COMPACT);
    p->bytes = strlen(p->text);
    if (p->bytes > RECORD_BYTES_MAX) {
        size_t bytes = p->bytes;
        mem_free(p->text);
        mem_free(p);
        return err_set(err, TIDE_E_LIMIT, "a command of %zu bytes is larger than the log takes (%" PRIu64 ")", bytes,
                       RECORD_BYTES_MAX);
    }
    enum tide_status status = codec_parse(&command_codec, p->text, p->bytes, CODEC_STRICT, &p->command, err);
    if (status != TIDE_OK) {
        mem_free(p->text);
        mem_free(p);
        return status;
    }
    *ret_proposal = p;
    return TIDE_OK;
}

enum tide_status replica_propose(struct replica *replica, const struct command *command, bool own, replica_done *done,
                                 void *arg, struct err *err)
{
    if (replica->idle != NULL)
        return err_set(err, TIDE_E_UNAVAILABLE, "this coordinator is stopping");
    if (replica->proposals >= PROPOSALS_MAX)
        return err_set(err, TIDE_E_UNAVAILABLE, "%u commands are being written already; ask again in a moment",
                       PROPOSALS_MAX);
    struct proposal *p = NULL;
    enum tide_status status = refuse_full(replica, own, err);
    if (status == TIDE_OK)
        status = write_down(replica, command, &p, err);
    if (status != TIDE_OK)
        return status;
    p->done = done;
    p->arg = arg;
    *replica->waiting_end = p;
    replica->waiting_end = &p->next;
    replica->proposals++;
    replica_work(replica);
    return TIDE_OK;
}

/* ---- apply ---- */

enum tide_status replica_apply(struct replica *replica, const struct command *command, uint64_t index,
                               struct outcome *ret_outcome, struct err *err)
{
    struct err broken = {0};
    enum tide_status status = apply(&replica->state, command, index, ret_outcome, err);
    if (state_check(&replica->state, &broken) != TIDE_OK) {
        /* Better no coordinator than a wrong one: ranks run on without it, and the log still holds the truth. */
        log_error("fatal: command %" PRIu64
                  " (%s) broke a rule of the state: %s. This is a defect of tidemarkd; keep %s and "
                  "report it",
                  index, command_kind_names[command->kind], broken.text, replica->dir.path);
        abort();
    }
    return status;
}

void replica_apply_batch(struct replica *replica, struct proposal *batch)
{
    uint64_t index = replica->state.revision;
    for (struct proposal *p = batch, *next; p != NULL; p = next) {
        next = p->next;
        struct outcome outcome = {0};
        struct err err = {0};
        enum tide_status status = replica_apply(replica, &p->command, ++index, &outcome, &err);
        replica->proposals--;
        p->done(p->arg, status, &outcome, &err);
        proposal_free(p);
    }
}

/* ---- open ---- */

static enum tide_status load_image(struct replica *replica, uint64_t *ret_term, struct err *err)
{
    struct snapshot snapshot;
    enum tide_status status = snapshot_newest(replica->dir.path, replica->dir.cluster, &snapshot, err);
    if (status != TIDE_OK || snapshot.data == NULL)
        return status;
    status = codec_parse(&state_codec, snapshot.data, snapshot.bytes, CODEC_STRICT, &replica->state, err);
    if (status == TIDE_OK && replica->state.revision != snapshot.index)
        status = err_set(err, TIDE_E_CORRUPT, "it is of index %" PRIu64, replica->state.revision);
    if (status != TIDE_OK)
        err_wrap(err, "the snapshot of index %" PRIu64 " in %s is whole, but no state of this version", snapshot.index,
                 replica->dir.path);
    replica->snapshot_index = snapshot.index;
    *ret_term = snapshot.term;
    snapshot_release(&snapshot);
    return status;
}

static enum tide_status replay_one(void *arg, const struct wal_entry *entry, struct err *err)
{
    struct replica *replica = arg;
    struct command command;
    enum tide_status status = codec_parse(&command_codec, entry->data, entry->bytes, CODEC_STRICT, &command, err);
    if (status != TIDE_OK) {
        err_set(err, TIDE_E_VERSION,
                "record %" PRIu64 " in %s is whole, but no command of this version (%.300s); start the "
                "version that wrote it",
                entry->index, replica->dir.path, err ? err->text : "");
        return TIDE_E_VERSION;
    }
    struct outcome outcome = {0};
    struct err refused = {0}; /* a refusal was an answer then, and is again */
    if (command.at_ms > replica->at_ms)
        replica->at_ms = command.at_ms;
    replica_apply(replica, &command, entry->index, &outcome, &refused);
    codec_release(&command_codec, &command);
    return TIDE_OK;
}

static enum tide_status replay(struct replica *replica, struct err *err)
{
    uint64_t first = replica->state.revision + 1, last = wal_last(replica->wal);
    return wal_read(replica->wal, first, last, replay_one, replica, err);
}

static enum tide_status open_disk(struct replica *replica, const struct replica_options *o, struct err *err)
{
    struct rng rng = {.state = rng_entropy()};
    char uid[TIDE_UID_CHARS + 1];
    rng_hex(&rng, uid, TIDE_UID_CHARS);
    uint64_t term = 0;
    enum tide_status status = datadir_open(o->data, o->cluster, o->member, false, &replica->dir, err);
    if (status == TIDE_E_NOT_FOUND)
        status = datadir_open(o->data, o->cluster ? o->cluster : uid, o->member ? o->member : 1, true, &replica->dir, err);
    if (status == TIDE_OK)
        status = ballot_load(replica->dir.path, &replica->ballot, err);
    if (status == TIDE_OK)
        status = load_image(replica, &term, err);
    if (replica->ballot.term == 0)
        replica->ballot.term = 1;
    if (status == TIDE_OK)
        status = wal_open(replica->dir.path, replica->dir.cluster, NULL, replica->dir.fresh, replica->state.revision + 1,
                          term, &replica->wal, err);
    if (status == TIDE_OK && replica->dir.fresh) {
        status = ballot_save(replica->dir.path, replica->ballot, err);
        if (status == TIDE_OK)
            status = datadir_commit(&replica->dir, err);
    }
    return status;
}

enum tide_status replica_open(const struct replica_options *options, struct replica **ret_replica, struct err *err)
{
    struct replica *replica = mem_alloc(sizeof *replica);
    replica->options = *options;
    replica->dir.lock_fd = -1;
    replica->waiting_end = &replica->waiting;
    replica->snapshot_every = options->snapshot_every ? options->snapshot_every : SNAPSHOT_EVERY;
    enum tide_status status = open_disk(replica, options, err);
    if (status == TIDE_OK)
        status = replay(replica, err);
    if (status == TIDE_OK)
        status = datadir_free_bytes(replica->dir.path, &replica->free_bytes, err);
    if (status != TIDE_OK) {
        replica_close(replica);
        return status;
    }
    replica->image_at = replica->snapshot_index + replica->snapshot_every;
    replica->last_index = wal_last(replica->wal);
    replica->log_bytes = wal_bytes(replica->wal);
    *ret_replica = replica;
    return TIDE_OK;
}

void replica_close(struct replica *replica)
{
    if (replica == NULL)
        return;
    wal_close(replica->wal);
    state_release(&replica->state);
    datadir_close(&replica->dir);
    mem_free(replica);
}
