/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "coordinator/core/inner.h"

/* What a command is about; apply() looks it up and refuses what is not there or no longer so. */
enum target {
    TARGET_NONE,       /* the cluster, a node, or a new job */
    TARGET_JOB,        /* a job by name, and by uid if the command has one */
    TARGET_VERDICT,    /* of the leader about a job: name and uid; an ended one is fine */
    TARGET_GENERATION  /* … about the present generation of one that has not ended */
};

struct handler {
    enum tide_status (*apply)(struct change *change);
    enum target target;
    uint32_t level; /* the first that knows it */
};

static const struct handler handlers[COMMAND_KINDS] = {
    [CMD_CLUSTER_INIT] = {apply_CLUSTER_INIT, TARGET_NONE},
    [CMD_JOB_SUBMIT] = {apply_JOB_SUBMIT, TARGET_NONE},
    [CMD_JOB_CANCEL] = {apply_JOB_CANCEL, TARGET_JOB},
    [CMD_JOB_ROLLBACK] = {apply_JOB_ROLLBACK, TARGET_JOB},
    [CMD_CKPT_REQUEST] = {apply_CKPT_REQUEST, TARGET_JOB},
    [CMD_CKPT_DROP] = {apply_CKPT_DROP, TARGET_JOB},
    [CMD_CKPT_PIN] = {apply_CKPT_PIN, TARGET_JOB, 1},
    [CMD_CKPT_UNPIN] = {apply_CKPT_UNPIN, TARGET_JOB, 1},
    [CMD_CKPT_GC] = {apply_CKPT_GC, TARGET_JOB, 1},
    [CMD_CKPT_IMPORT] = {apply_CKPT_IMPORT, TARGET_NONE, 2},
    [CMD_CKPT_EXPIRE] = {apply_CKPT_EXPIRE, TARGET_VERDICT, 1},
    [CMD_NODE_REGISTER] = {apply_NODE_REGISTER, TARGET_NONE},
    [CMD_NODE_DRAIN] = {apply_NODE_DRAIN, TARGET_NONE},
    [CMD_NODE_RESUME] = {apply_NODE_RESUME, TARGET_NONE},
    [CMD_NODE_LOST] = {apply_NODE_LOST, TARGET_NONE},
    [CMD_NODE_HEALTH] = {apply_NODE_HEALTH, TARGET_NONE, 1},
    [CMD_NODE_FIT] = {apply_NODE_FIT, TARGET_NONE, 1},
    [CMD_GEN_FAIL] = {apply_GEN_FAIL, TARGET_GENERATION},
    [CMD_GEN_LAUNCH] = {apply_GEN_LAUNCH, TARGET_VERDICT},
    [CMD_GEN_STARTED] = {apply_GEN_STARTED, TARGET_GENERATION},
    [CMD_GEN_STEPPING] = {apply_GEN_STEPPING, TARGET_GENERATION},
    [CMD_JOB_FINISH] = {apply_JOB_FINISH, TARGET_GENERATION},
    [CMD_JOB_STOPPED] = {apply_JOB_STOPPED, TARGET_GENERATION},
    [CMD_CUT_OPEN] = {apply_CUT_OPEN, TARGET_GENERATION},
    [CMD_CUT_REARM] = {apply_CUT_REARM, TARGET_GENERATION},
    [CMD_CUT_GO] = {apply_CUT_GO, TARGET_GENERATION},
    [CMD_CUT_VOID] = {apply_CUT_VOID, TARGET_GENERATION},
    [CMD_CUT_SETTLED] = {apply_CUT_SETTLED, TARGET_GENERATION},
    [CMD_CUT_CLOSED] = {apply_CUT_CLOSED, TARGET_GENERATION},
    [CMD_CUT_ABORT] = {apply_CUT_ABORT, TARGET_GENERATION},
    [CMD_CUT_SEAL] = {apply_CUT_SEAL, TARGET_GENERATION},
    [CMD_CKPT_COMMIT] = {apply_CKPT_COMMIT, TARGET_GENERATION},
    [CMD_STORE_FAIL] = {apply_STORE_FAIL, TARGET_VERDICT},
    [CMD_CKPT_CORRUPT] = {apply_CKPT_CORRUPT, TARGET_VERDICT},
    [CMD_CKPT_PURGED] = {apply_CKPT_PURGED, TARGET_VERDICT},
    [CMD_ARENA_LOST] = {apply_ARENA_LOST, TARGET_VERDICT},
    [CMD_CKPT_PEERED] = {apply_CKPT_PEERED, TARGET_GENERATION, 3},
    [CMD_CKPT_UNPEERED] = {apply_CKPT_UNPEERED, TARGET_GENERATION, 3},
    [CMD_CKPT_STORED] = {apply_CKPT_STORED, TARGET_VERDICT},
    [CMD_TOKEN_ADD] = {apply_TOKEN_ADD, TARGET_NONE},
    [CMD_TOKEN_REMOVE] = {apply_TOKEN_REMOVE, TARGET_NONE},
    [CMD_CERT_REVOKE] = {apply_CERT_REVOKE, TARGET_NONE},
    [CMD_CERT_ALLOW] = {apply_CERT_ALLOW, TARGET_NONE},
    [CMD_CLUSTER_LEVEL] = {apply_CLUSTER_LEVEL, TARGET_NONE},
};

static uint32_t spec_level(const struct job_spec *spec)
{
    if (spec->elastic_min != 0 || spec->elastic_max != 0 || spec->copies != COPIES_PEER)
        return 3;
    if (spec->restore_from[0] != '\0')
        return 2;
    return spec->ckpt_keep_every != 0 || spec->ckpt_keep_every_ms != 0 || spec->ckpt_grace_ms != 0;
}

uint32_t command_level(const struct command *command)
{
    switch (command->kind) { /* those that got a field since, or another value of one */
    case CMD_JOB_SUBMIT:
        return spec_level(&command->spec);
    case CMD_GEN_FAIL:
        return command->event.kind == EVENT_NODE_HEALTH;
    case CMD_NODE_REGISTER:
        return command->hello.pin[0] != '\0' || command->hello.domain[0] != '\0' ? PIN_LEVEL : 0;
    case CMD_STORE_FAIL:
        return command->final ? 3 : 0;
    case CMD_CKPT_IMPORT:
        return command->force ? READMIT_LEVEL : handlers[command->kind].level;
    default:
        return handlers[command->kind].level;
    }
}

static enum tide_status find_verdict_job(struct change *change, const struct command *command)
{
    struct job_record *record = state_job_uid(change->state, command->uid);
    if (record == NULL || strcmp(record->job.spec.name, command->job) != 0)
        return err_set(change->err, TIDE_E_STALE, "%s: there is no job %s with uid %s (any more)",
                       command_kind_names[command->kind], command->job, command->uid);
    change->job = record;
    if (handlers[command->kind].target != TARGET_GENERATION)
        return TIDE_OK;
    if (!job_active(record) || record->job.generation != command->generation)
        return err_set(change->err, TIDE_E_STALE,
                       "%s: generation %" PRIu64 " of job %s is over; the present one is %" PRIu64,
                       command_kind_names[command->kind], command->generation, command->job, record->job.generation);
    return TIDE_OK;
}

static enum tide_status find_job(struct change *change, const struct command *command)
{
    struct job_record *record = state_job(change->state, command->job);
    if (record == NULL)
        return err_set(change->err, TIDE_E_NOT_FOUND, "there is no job named %s; tidemark job list shows all", command->job);
    if (command->uid[0] && strcmp(record->job.uid, command->uid) != 0)
        return err_set(change->err, TIDE_E_STALE, "job %s is a newer one now: its uid is %s, not %s", command->job,
                       record->job.uid, command->uid);
    change->job = record;
    return TIDE_OK;
}

static enum tide_status dispatch(struct change *change)
{
    const struct command *command = change->command;
    const struct handler *handler = &handlers[command->kind];
    enum tide_status status = TIDE_OK;
    if (handler->target == TARGET_JOB)
        status = find_job(change, command);
    else if (handler->target != TARGET_NONE)
        status = find_verdict_job(change, command);
    if (status == TIDE_OK)
        status = handler->apply(change);
    return status;
}

/* change->job is not valid any more: a command may have moved the list of jobs. */
static void fill_outcome(struct change *change)
{
    const struct command *command = change->command;
    const struct job_record *record = command->job[0] ? state_job(change->state, command->job) : NULL;
    if (command->kind == CMD_JOB_SUBMIT)
        record = state_job(change->state, command->spec.name);
    change->outcome->revision = change->revision;
    if (record == NULL)
        return;
    text_copy(change->outcome->job, sizeof change->outcome->job, record->job.spec.name);
    text_copy(change->outcome->uid, sizeof change->outcome->uid, record->job.uid);
    change->outcome->generation = record->job.generation;
}

static struct session *find_session(const struct state *state, const char *request)
{
    for (size_t i = state->sessions.count; i-- > 0;)
        if (strcmp(state->sessions.items[i].request, request) == 0)
            return &state->sessions.items[i];
    return NULL;
}

static void remember(struct change *change, enum tide_status status)
{
    struct state *state = change->state;
    if (state->sessions.count >= SESSIONS_MAX)
        codec_list_remove(&session_codec, &state->sessions, 0);
    struct session *session = codec_list_add(&session_codec, &state->sessions);
    text_copy(session->request, sizeof session->request, change->command->request);
    session->status = status;
    session->outcome = *change->outcome;
}

enum tide_status apply(struct state *state, const struct command *command, uint64_t index, struct outcome *ret_outcome,
                       struct err *err)
{
    assert(index > state->revision);
    assert(command->kind < COMMAND_KINDS);
    state->revision = index;
    *ret_outcome = (struct outcome){0};
    const struct session *session = command->request[0] ? find_session(state, command->request) : NULL;
    if (session != NULL) {
        *ret_outcome = session->outcome;
        enum tide_status first = (enum tide_status)session->status;
        return first == TIDE_OK ? TIDE_OK : err_set(err, first, "%s", session->outcome.text);
    }
    struct err local = {0};
    struct change change = {.state = state, .command = command, .revision = index, .outcome = ret_outcome, .err = &local};
    enum tide_status status = dispatch(&change);
    fill_outcome(&change);
    if (status != TIDE_OK) {
        STATE_TEXT(state, ret_outcome->text, "%s", local.text);
        err_set(err, status, "%s", local.text);
    }
    if (command->request[0])
        remember(&change, status);
    return status;
}

enum tide_status apply_CLUSTER_INIT(struct change *change)
{
    struct state *state = change->state;
    const struct command *command = change->command;
    if (state->cluster[0] == '\0' && command->text[0] == '\0')
        return err_set(change->err, TIDE_E_INVALID, "a new cluster needs a uid");
    if (state->cluster[0] && command->text[0] && strcmp(state->cluster, command->text) != 0)
        return err_set(change->err, TIDE_E_EXISTS, "this is cluster %s already; it cannot become %s", state->cluster,
                       command->text);
    if (state->cluster[0] == '\0') {
        enum tide_status status = tokens_take(change);
        if (status != TIDE_OK)
            return status;
        text_copy(state->cluster, sizeof state->cluster, command->text);
        state->level = command->level;
    }
    /* The settings may be new at every start of the coordinator. */
    state->lease_ms = command->lease_ms;
    state->heartbeat_ms = command->heartbeat_ms;
    state->health_good_ms = command->health_good_ms;
    text_copy(state->store, sizeof state->store, command->store);
    TEXT(change->outcome->text, "cluster %s: lease %" PRIu64 " ms, heartbeat %" PRIu64 " ms", state->cluster,
         state_lease_ms(state), state_heartbeat_ms(state));
    return TIDE_OK;
}
