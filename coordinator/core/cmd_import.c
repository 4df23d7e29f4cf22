/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "ckpt/base/digest.h"
#include "ckpt/format/keys.h"
#include "ckpt/format/retain.h"
#include "coordinator/core/inner.h"

/* Checkpoints that another cluster's log knew, or an earlier one of this: found in a store, read by who asks for it, and registered
 * here. They are listed under a job of the name and uid they were made by, which is over (imported) and of which nothing ever runs:
 * its generations are the other log's. Each is pinned: the rule of this cluster deletes none of them before somebody says that it may.
 * A job that is to go on from one, imported or not, gets it as its own first checkpoint; the objects stay the other's.
 *
 * One that is known, and was found corrupt, is readmitted if whoever asks has read every byte of it: a store that could not read an
 * object for a minute, or got it back from elsewhere, has cost nothing then. */

/* ---- registering ---- */

static bool hex_of(const char *text, size_t chars)
{
    return strlen(text) == chars && strspn(text, "0123456789abcdef") == chars;
}

static enum tide_status check_names(struct change *change)
{
    const struct command *command = change->command;
    const struct cut_name name = {.job = command->job, .uid = command->uid, .cut = command->cut, .generation = command->generation};
    struct digest digest;
    object_key key;
    if (!name_valid(command->job) || !hex_of(command->uid, TIDE_UID_CHARS))
        return err_set(change->err, TIDE_E_INVALID, "\"%.80s\" with uid \"%.40s\" cannot be a job", command->job, command->uid);
    if (command->cut == 0 || command->generation == 0 || command->step == 0)
        return err_set(change->err, TIDE_E_INVALID, "checkpoint %" PRIu64 " of generation %" PRIu64 " at step %" PRIu64
                       " was never recorded: all of these count from 1", command->cut, command->generation, command->step);
    key_commit(&name, key);
    if (strcmp(command->key, key) != 0)
        return err_set(change->err, TIDE_E_INVALID, "checkpoint %s/%" PRIu64 " lies under %s, not under \"%.200s\"", command->job,
                       command->cut, key, command->key);
    if (digest_parse(command->digest, &digest) != 0)
        return err_set(change->err, TIDE_E_INVALID, "\"%.40s\" is not the digest of a manifest", command->digest);
    if (command->spec.nnodes == 0 || command->spec.nnodes > TIDE_RANKS_MAX)
        return err_set(change->err, TIDE_E_INVALID, "a checkpoint of %u ranks is not possible", command->spec.nnodes);
    if (command->store[0] == '\0')
        return err_set(change->err, TIDE_E_INVALID, "in which store checkpoint %s/%" PRIu64 " lies is not said", command->job,
                       command->cut);
    return TIDE_OK;
}

static enum tide_status check_corrupt(struct change *change, const struct ckpt *ckpt)
{
    const struct command *command = change->command;
    if (ckpt->given_up)
        return err_set(change->err, TIDE_E_STATE,
                       "checkpoint %s/%" PRIu64 " was given up when the job went back to an earlier one, or is corrupt since before that "
                       "was kept in mind, and is not restored any more; tidemark ckpt export reads it nevertheless",
                       command->job, command->cut);
    if (strcmp(ckpt->manifest_key, command->key) != 0)
        return err_set(change->err, TIDE_E_CONFLICT, "checkpoint %s/%" PRIu64 " lies under %s, and is another job's", command->job,
                       command->cut, ckpt->manifest_key);
    if (!command->force)
        return err_set(change->err, TIDE_E_STATE,
                       "checkpoint %s/%" PRIu64 " is corrupt here: %s; where its objects are whole again, tidemark ckpt verify --readmit "
                       "%s/%" PRIu64 " has it committed again",
                       command->job, command->cut, ckpt->reason, command->job, command->cut);
    return TIDE_OK;
}

static enum tide_status check_known(struct change *change, const struct job_record *record, const struct ckpt *ckpt)
{
    const struct command *command = change->command;
    if (record->job.state != TIDE_JOB_IMPORTED && ckpt == NULL)
        return err_set(change->err, TIDE_E_STATE,
                       "job %s, uid %s, is this cluster's own: what of it is kept is in the log, and checkpoint %" PRIu64 " is not",
                       command->job, command->uid, command->cut);
    if (ckpt == NULL)
        return TIDE_OK;
    bool same = strcmp(ckpt->manifest, command->digest) == 0;
    if (same && ckpt->state == TIDE_CKPT_CORRUPT && change->state->level >= READMIT_LEVEL)
        return check_corrupt(change, ckpt);
    if (same && (ckpt->state == TIDE_CKPT_COMMITTED || ckpt->state == TIDE_CKPT_CONDEMNED))
        return err_set(change->err, TIDE_E_EXISTS, "checkpoint %s/%" PRIu64 " is known already", command->job, command->cut);
    if (same || ckpt->manifest[0] == '\0')
        return err_set(change->err, TIDE_E_STATE, "checkpoint %s/%" PRIu64 " is %s here: %s", command->job, command->cut,
                       ckpt_state_names[ckpt->state], ckpt->reason);
    return err_set(change->err, TIDE_E_CONFLICT,
                   "another checkpoint %s/%" PRIu64 " is known, of generation %" PRIu64 ": its log was restored to an earlier state once",
                   command->job, command->cut, ckpt->generation);
}

static enum tide_status check_pins(struct change *change, const struct job_record *record)
{
    const char *name = change->command->job;
    size_t kept = 0;
    for (size_t i = 0; i < record->job.ckpts.count; i++)
        kept += ckpt_kept_by_hand(&record->job.ckpts.items[i]);
    if (kept >= RETAIN_PINNED_MAX)
        return err_set(change->err, TIDE_E_LIMIT,
                       "job %s has %d checkpoints that are pinned or held, the most there can be; unpin some of them: they stay until "
                       "tidemark ckpt drop",
                       name, RETAIN_PINNED_MAX);
    return TIDE_OK;
}

static enum tide_status check_room(struct change *change, const struct job_record *record)
{
    const char *name = change->command->job;
    enum tide_status status = check_pins(change, record);
    if (status != TIDE_OK)
        return status;
    if (record->job.ckpts.count >= TIDE_CKPTS_MAX)
        return err_set(change->err, TIDE_E_LIMIT, "job %s has %d checkpoints, more are not remembered", name, TIDE_CKPTS_MAX);
    /* An elastic job has been of different sizes. */
    if (change->state->level < 3 && job_world_size(&record->job.spec) != change->command->spec.nnodes)
        return err_set(change->err, TIDE_E_CONFLICT, "job %s has %u ranks in its other checkpoints, and %u in %" PRIu64, name,
                       job_world_size(&record->job.spec), change->command->spec.nnodes, change->command->cut);
    return TIDE_OK;
}

/* The job they are listed under, made with the first. */
static enum tide_status find_record(struct change *change, struct job_record **ret_record)
{
    const struct command *command = change->command;
    struct job_record *record = state_job_uid(change->state, command->uid);
    const struct job_record *named = state_job(change->state, command->job);
    if (record != NULL && strcmp(record->job.spec.name, command->job) != 0)
        return err_set(change->err, TIDE_E_CONFLICT, "uid %s is that of job %s, not of %s", command->uid, record->job.spec.name,
                       command->job);
    if (record == NULL && named != NULL && job_active(named))
        return err_set(change->err, TIDE_E_STATE,
                       "a job named %s is %s here, and it is not the one that made this checkpoint: import it when that has ended",
                       command->job, job_state_names[named->job.state]);
    *ret_record = record;
    return TIDE_OK;
}

/* Which ranks shared a node is not in the manifest, and does not matter: as many as it takes to be possible. */
static uint32_t ranks_per_node(uint32_t world)
{
    for (uint32_t ranks = 1; ranks <= TIDE_LOCAL_RANKS_MAX; ranks++)
        if (world % ranks == 0 && world / ranks <= TIDE_NODES_MAX)
            return ranks;
    return 1; /* it will be refused */
}

static enum tide_status make_record(struct change *change, struct job_record **ret_record)
{
    const struct command *command = change->command;
    struct job_spec spec = {.nproc_per_node = ranks_per_node(command->spec.nnodes)};
    spec.nnodes = command->spec.nnodes / spec.nproc_per_node;
    text_copy(spec.name, sizeof spec.name, command->job);
    text_copy(spec.store, sizeof spec.store, command->store);
    strlist_add(&spec.argv, "(imported)");
    enum tide_status status = job_spec_check(&spec, change->err);
    /* A store may hold those of any number of jobs: what this group remembers of its own is not given up for them. */
    if (status == TIDE_OK && change->state->jobs.count >= TIDE_JOBS_MAX)
        status = err_set(change->err, TIDE_E_LIMIT,
                         "%d jobs are remembered, the most there can be: of job %s nothing is imported. A new job takes the place of "
                         "the oldest that has ended, an import does not: use a cluster of its own for so many",
                         TIDE_JOBS_MAX, command->job);
    if (status != TIDE_OK) {
        codec_release(&job_spec_codec, &spec);
        return status;
    }
    struct job_record *record = codec_list_add(&job_record_codec, &change->state->jobs);
    record->job.spec = spec;
    text_copy(record->job.uid, sizeof record->job.uid, command->uid);
    record->job.state = TIDE_JOB_IMPORTED;
    record->job.next_cut = 1;
    record->job.submitted_ms = record->job.ended_ms = command->at_ms;
    STATE_TEXT(change->state, record->job.reason, "its checkpoints were found in %s", command->store);
    *ret_record = record;
    return TIDE_OK;
}

/* By id, whatever the order in which they are found. */
static struct ckpt *insert(struct job *job, uint64_t cut)
{
    const struct ckpt *last = codec_list_add(&ckpt_codec, &job->ckpts);
    size_t at = (size_t)(last - job->ckpts.items);
    for (; at > 0 && job->ckpts.items[at - 1].cut > cut; at--)
        job->ckpts.items[at] = job->ckpts.items[at - 1];
    job->ckpts.items[at] = (struct ckpt){.cut = cut};
    return &job->ckpts.items[at];
}

static void take(struct change *change, struct job_record *record)
{
    const struct command *command = change->command;
    struct job *job = &record->job;
    struct ckpt *ckpt = insert(job, command->cut);
    ckpt->generation = command->generation;
    ckpt->attempt = 1;
    ckpt->state = TIDE_CKPT_COMMITTED;
    ckpt->step = command->step;
    ckpt->imported = ckpt->pinned = true;
    ckpt->world_size = job_world_size(&job->spec) != command->spec.nnodes ? command->spec.nnodes : 0;
    ckpt->opened_ms = ckpt->committed_ms = command->at_ms;
    ckpt->raw_bytes = command->bytes;
    ckpt->stored_bytes = command->stored;
    text_copy(ckpt->manifest, sizeof ckpt->manifest, command->digest);
    text_copy(ckpt->manifest_key, sizeof ckpt->manifest_key, command->key);
    job->next_cut = command->cut >= job->next_cut ? command->cut + 1 : job->next_cut;
    job->generation = command->generation > job->generation ? command->generation : job->generation;
    change->job = record;
    event_add(change, EVENT_COMMITTED, NULL, -1, ckpt->cut, "checkpoint %" PRIu64 " (step %" PRIu64 ") is imported from %s", ckpt->cut,
              ckpt->step, command->store);
    change->outcome->cut = ckpt->cut;
    TEXT(change->outcome->text, "checkpoint %s/%" PRIu64 " is imported, and kept until it is unpinned and dropped", command->job,
         ckpt->cut);
}

/* It is pinned as any other that is imported: by the rule of a job that went on without it, it might go at once. */
static enum tide_status readmit(struct change *change, struct job_record *record, struct ckpt *ckpt)
{
    const struct command *command = change->command;
    enum tide_status status = ckpt_kept_by_hand(ckpt) ? TIDE_OK : check_pins(change, record);
    if (status != TIDE_OK)
        return status;
    ckpt->state = TIDE_CKPT_COMMITTED;
    ckpt->pinned = true;
    ckpt->reason[0] = '\0';
    change->job = record;
    event_add(change, EVENT_KEPT, NULL, -1, ckpt->cut,
              "checkpoint %" PRIu64 " (step %" PRIu64 ") was corrupt, and is readmitted: every byte of it was read in %s", ckpt->cut,
              ckpt->step, command->store);
    change->outcome->cut = ckpt->cut;
    TEXT(change->outcome->text, "checkpoint %s/%" PRIu64 " is committed again, and kept until it is unpinned", command->job, ckpt->cut);
    return TIDE_OK;
}

enum tide_status apply_CKPT_IMPORT(struct change *change)
{
    const struct command *command = change->command;
    struct job_record *record = NULL;
    enum tide_status status = check_names(change);
    if (status == TIDE_OK)
        status = find_record(change, &record);
    struct ckpt *known = status == TIDE_OK && record != NULL ? job_ckpt(&record->job, command->cut) : NULL;
    if (status == TIDE_OK && record != NULL)
        status = check_known(change, record, known);
    const char *store = record != NULL ? job_store(change->state, record) : command->store;
    if (status == TIDE_OK && strcmp(store, command->store) != 0)
        status = err_set(change->err, TIDE_E_CONFLICT,
                         "checkpoints of job %s, uid %s, are known in %s; those in %s are not taken beside them", command->job,
                         command->uid, store, command->store);
    if (status == TIDE_OK && known != NULL)
        return readmit(change, record, known);
    if (status == TIDE_OK)
        status = record != NULL ? check_room(change, record) : make_record(change, &record);
    if (status == TIDE_OK)
        take(change, record);
    return status;
}

/* ---- going on from one ---- */

/* "JOB" or "JOB/CUT". */
static enum tide_status parse_origin(const char *text, char job[TIDE_NAME_MAX + 1], uint64_t *ret_cut, struct err *err)
{
    const char *slash = strchr(text, '/');
    size_t n = slash != NULL ? (size_t)(slash - text) : strlen(text);
    char *end = NULL;
    uint64_t cut = slash != NULL ? strtoull(slash + 1, &end, 10) : 0;
    if (n > 0 && n <= TIDE_NAME_MAX) {
        memcpy(job, text, n);
        job[n] = '\0';
    }
    bool numbered = slash == NULL || (cut != 0 && *end == '\0' && slash[1] >= '1' && slash[1] <= '9');
    if (n == 0 || n > TIDE_NAME_MAX || !name_valid(job) || !numbered)
        return err_set(err, TIDE_E_INVALID, "\"%.80s\" names no checkpoint: write JOB/7, or JOB for its newest", text);
    *ret_cut = cut;
    return TIDE_OK;
}

/* Of those that ran here the newest is meant by the name, as ever. Which of several that were found is newer, nobody knows. */
static enum tide_status check_meant(const struct state *state, const struct job_record *record, const char *name, struct err *err)
{
    if (record->job.state != TIDE_JOB_IMPORTED || strcmp(record->job.uid, name) == 0)
        return TIDE_OK;
    for (size_t i = 0; i < state->jobs.count; i++) {
        const struct job *other = &state->jobs.items[i].job;
        if (other != &record->job && strcmp(other->spec.name, name) == 0)
            return err_set(err, TIDE_E_CONFLICT,
                           "more than one job named %s is known, of uids %s and %s; write the uid in place of the name: "
                           "--restore-from UID/7",
                           name, other->uid, record->job.uid);
    }
    return TIDE_OK;
}

static const struct ckpt *newest_stored(const struct job *job)
{
    for (size_t i = job->ckpts.count; i-- > 0;)
        if (job->ckpts.items[i].state == TIDE_CKPT_COMMITTED)
            return &job->ckpts.items[i];
    return NULL;
}

enum tide_status origin_find(const struct state *state, const struct job_spec *spec, struct ckpt *ret_ckpt, struct job_origin *ret_origin,
                             struct err *err)
{
    char name[TIDE_NAME_MAX + 1] = "";
    uint64_t cut = 0;
    enum tide_status status = parse_origin(spec->restore_from, name, &cut, err);
    if (status != TIDE_OK)
        return status;
    const struct job_record *record = state_job(state, name);
    if (record == NULL)
        return err_set(err, TIDE_E_NOT_FOUND,
                       "there is no job named %s to restore from; tidemark ckpt import URL makes known what a store holds", name);
    status = check_meant(state, record, name, err);
    if (status != TIDE_OK)
        return status;
    const struct ckpt *ckpt = cut != 0 ? job_ckpt(&record->job, cut) : newest_stored(&record->job);
    if (ckpt == NULL)
        return err_set(err, TIDE_E_NOT_FOUND, "job %s has no %scheckpoint%s to restore from; tidemark ckpt list %s", name,
                       cut == 0 ? "committed " : "", cut != 0 ? " of that id" : "", name);
    if (ckpt->state != TIDE_CKPT_COMMITTED)
        return err_set(err, TIDE_E_STATE, "checkpoint %s/%" PRIu64 " is %s; another job can go on from committed ones only", name,
                       ckpt->cut, ckpt_state_names[ckpt->state]);
    uint32_t world = ckpt_world(&record->job, ckpt);
    if (world != job_world_size(spec) && !job_elastic(spec))
        return err_set(err, TIDE_E_INVALID,
                       "checkpoint %s/%" PRIu64 " is of %u ranks, the job has %u; run it with as many, or, where the program allows "
                       "another number, with --elastic",
                       name, ckpt->cut, world, job_world_size(spec));
    *ret_ckpt = (struct ckpt){.cut = ckpt->cut, .generation = ckpt->generation, .attempt = 1, .state = TIDE_CKPT_COMMITTED,
                              .step = ckpt->step, .inherited = true, .opened_ms = ckpt->opened_ms, .committed_ms = ckpt->committed_ms,
                              .raw_bytes = ckpt->raw_bytes, .stored_bytes = ckpt->stored_bytes};
    ret_ckpt->world_size = world != job_world_size(spec) ? world : 0;
    text_copy(ret_ckpt->manifest, sizeof ret_ckpt->manifest, ckpt->manifest);
    text_copy(ret_ckpt->manifest_key, sizeof ret_ckpt->manifest_key, ckpt->manifest_key);
    *ret_origin = record->job.origin;
    if (ckpt->inherited)
        return TIDE_OK;
    *ret_origin = (struct job_origin){.cut = ckpt->cut};
    text_copy(ret_origin->job, sizeof ret_origin->job, record->job.spec.name);
    text_copy(ret_origin->uid, sizeof ret_origin->uid, record->job.uid);
    text_copy(ret_origin->store, sizeof ret_origin->store, job_store(state, record));
    return TIDE_OK;
}

void origin_take(struct job *job, const struct ckpt *ckpt, const struct job_origin *origin)
{
    struct ckpt *own = codec_list_add(&ckpt_codec, &job->ckpts);
    *own = *ckpt;
    TEXT(own->reason, "it is checkpoint %" PRIu64 " of job %s, uid %s", origin->cut, origin->job, origin->uid);
    job->origin = *origin;
    job->next_cut = ckpt->cut + 1;
}

bool ckpt_lent(const struct state *state, const struct job *job, uint64_t cut)
{
    for (size_t i = 0; i < state->jobs.count; i++) {
        const struct job_record *record = &state->jobs.items[i];
        if (!job_active(record) || record->job.origin.cut != cut || strcmp(record->job.origin.uid, job->uid) != 0)
            continue;
        const struct ckpt *own = job_ckpt(&record->job, cut);
        if (own != NULL && own->inherited && (own->state == TIDE_CKPT_COMMITTED || own->state == TIDE_CKPT_CONDEMNED))
            return true;
    }
    return false;
}
