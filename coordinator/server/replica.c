/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/server/replica.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/replica_inner.h"

#define CHECK_CHEAP_NS (50 * UINT64_C(1000)) /* a look at all rules that costs so little follows every command */
#define CHECK_SHARE 20u                      /* else it gets one part in so many of the time … */
#define CHECK_DEAR_NS (2 * NS_PER_MS)        /* … and beyond this is left to whoever writes images */

const struct state *replica_state(const struct replica *replica)
{
    return &replica->state;
}

struct member *replica_member(struct replica *replica)
{
    return replica->member;
}

const struct member_turn *replica_turn(const struct replica *replica)
{
    return &replica->turn;
}

struct raft_blob *replica_config(struct replica *replica)
{
    return replica->config;
}

void replica_status(const struct replica *replica, struct replica_status *ret_status)
{
    *ret_status = (struct replica_status){.applied_index = replica->index, .snapshot_index = replica->snapshot_index};
}

/* ---- propose ---- */

static enum tide_status refuse_full(struct replica *replica, bool own, struct err *err)
{
    /* The leader's own verdicts may use half of the reserve: they end jobs and drop checkpoints, which is what helps. */
    uint64_t reserve = own ? DATA_RESERVE_BYTES / 2 : DATA_RESERVE_BYTES, free_bytes = member_free_bytes(replica->member);
    if (free_bytes >= reserve)
        return TIDE_OK;
    /* Somebody may have made room: look, for the next one who asks. */
    member_look_at_disk(replica->member);
    return err_set(err, TIDE_E_UNAVAILABLE,
                   "the file system of the data directory %s has only %" PRIu64 " MiB left, and %" PRIu64
                   " MiB are kept in reserve: no command is taken until there is more room; nothing that runs is touched",
                   member_data(replica->member), free_bytes >> 20, reserve >> 20);
}

static void proposal_free(struct proposal *p)
{
    if (p->command != NULL)
        codec_release(&command_codec, p->command);
    mem_free(p->command);
    mem_free(p);
}

static struct proposal *proposal_create(replica_done *done, void *arg)
{
    struct proposal *p = mem_alloc(sizeof *p);
    p->done = done;
    p->arg = arg;
    return p;
}

/* What will be applied is what the log says, not what the caller held: a replay must see nothing else. */
static enum tide_status write_down(struct replica *replica, const struct command *command, struct proposal *p,
                                   struct raft_blob **ret_blob, struct err *err)
{
    struct command stamped = *command; /* borrows */
    uint64_t now = clock_wall_ms();
    stamped.at_ms = replica->at_ms = now > replica->at_ms ? now : replica->at_ms;
    size_t bytes = codec_bytes(&command_codec, &stamped, CODEC_COMPACT); /* looked at before any of it is made */
    if (bytes > RAFT_ENTRY_BYTES_MAX)
        return err_set(err, TIDE_E_LIMIT, "a command of %zu bytes is larger than the log takes (%u)", bytes, RAFT_ENTRY_BYTES_MAX);
    char *text = codec_print(&command_codec, &stamped, CODEC_COMPACT);
    bytes = strlen(text);
    p->command = mem_alloc(sizeof *p->command);
    enum tide_status status = command_parse(text, bytes, p->command, err);
    if (status == TIDE_OK) {
        *ret_blob = raft_blob_create(text, bytes);
    } else {
        mem_free(p->command);
        p->command = NULL;
    }
    mem_free(text);
    return status;
}

static enum tide_status refuse_away(struct replica *replica, struct err *err)
{
    if (replica->stopping)
        return err_set(err, TIDE_E_UNAVAILABLE, "this coordinator is stopping");
    if (!replica->turn.ready)
        return err_set(err, TIDE_E_UNAVAILABLE, "this member does not lead the cluster");
    return TIDE_OK;
}

enum tide_status replica_propose(struct replica *replica, const struct command *command, bool own, replica_done *done,
                                 void *arg, struct err *err)
{
    struct raft_blob *blob = NULL;
    struct proposal *p = proposal_create(done, arg);
    enum tide_status status = refuse_away(replica, err);
    if (status == TIDE_OK)
        status = level_admits(&replica->state, command, err);
    if (status == TIDE_OK)
        status = refuse_full(replica, own, err);
    if (status == TIDE_OK)
        status = write_down(replica, command, p, &blob, err);
    if (status == TIDE_OK)
        status = member_propose(replica->member, blob, p, err);
    raft_blob_unref(blob);
    if (status != TIDE_OK)
        proposal_free(p);
    return status;
}

enum tide_status replica_change(struct replica *replica, enum member_change change, const struct raft_member *who,
                                replica_done *done, void *arg, struct err *err)
{
    enum tide_status status = refuse_away(replica, err);
    if (status == TIDE_OK)
        member_change(replica->member, change, who, proposal_create(done, arg));
    return status;
}

enum tide_status replica_read(struct replica *replica, replica_ready *ready, void *arg, struct err *err)
{
    struct reading *reading = mem_alloc(sizeof *reading);
    *reading = (struct reading){.ready = ready, .arg = arg};
    enum tide_status status = refuse_away(replica, err);
    if (status == TIDE_OK)
        status = member_read(replica->member, reading, err);
    if (status != TIDE_OK)
        mem_free(reading);
    return status;
}

/* ---- apply ---- */

void replica_broken(struct replica *replica, uint64_t index, unsigned kind, const struct err *broken)
{
    /* Better no coordinator than a wrong one: ranks run on without it, and the log still holds the truth. */
    log_error("fatal: command %" PRIu64
              " (%s) broke a rule of the state: %s. This is a defect of tidemarkd; keep %s and report it",
              index, command_kind_names[kind], broken->text, member_data(replica->member));
    abort();
}

void replica_parse(const struct replica *replica, const struct member_entry *entry, struct command *ret_command)
{
    struct err err = {0};
    const struct raft_blob *blob = entry->blob;
    if (command_parse(blob ? blob->data : "", blob ? blob->bytes : 0, ret_command, &err) == TIDE_OK)
        return;
    log_error("fatal: record %" PRIu64
              " in %s is whole, but no command of this version (%s); start the version that wrote it",
              entry->index, member_data(replica->member), err.text);
    abort();
}

/* Checked in full after every command while that is cheap; of a large state as often as the loop can bear. */
static void check(struct replica *replica, uint64_t index, unsigned kind)
{
    struct err broken = {0};
    uint64_t begun = clock_mono_ns();
    if (replica->check_ns > CHECK_DEAR_NS || (replica->check_ns > CHECK_CHEAP_NS && begun < replica->check_again_ns))
        return;
    if (state_check(&replica->state, &broken) != TIDE_OK)
        replica_broken(replica, index, kind, &broken);
    uint64_t ended = clock_mono_ns();
    replica->check_ns = ended - begun;
    replica->check_again_ns = ended + CHECK_SHARE * replica->check_ns;
}

static void apply_command(struct replica *replica, const struct member_entry *entry, struct proposal *p)
{
    struct command parsed;
    struct outcome outcome = {0};
    struct err err = {0};
    const struct command *command = p ? p->command : &parsed;
    if (p == NULL)
        replica_parse(replica, entry, &parsed);
    if (command->at_ms > replica->at_ms)
        replica->at_ms = command->at_ms;
    enum tide_status status = apply(&replica->state, command, entry->index, &outcome, &err);
    check(replica, entry->index, command->kind);
    if (p != NULL)
        p->done(p->arg, status, &outcome, &err);
    else
        codec_release(&command_codec, &parsed);
}

static void apply_entry(struct replica *replica, const struct member_entry *entry)
{
    struct proposal *p = entry->cookie;
    replica->index = entry->index;
    replica->term = entry->term;
    if (entry->type == RAFT_COMMAND) {
        apply_command(replica, entry, p);
    } else if (entry->type == RAFT_CONFIG) {
        raft_blob_unref(replica->config);
        replica->config = raft_blob_ref(entry->blob);
        struct outcome outcome = {.revision = replica->state.revision};
        if (p != NULL)
            p->done(p->arg, TIDE_OK, &outcome, &(struct err){0});
    }
    if (p != NULL)
        proposal_free(p);
    image_take(replica, entry);
}

/* ---- what was decided, in order ---- */

/* Giving back a large state takes a while: not on the loop. */
struct garbage {
    uv_work_t work;
    struct state state;
};

static void garbage_run(uv_work_t *work)
{
    struct garbage *garbage = work->data;
    state_release(&garbage->state);
}

static void garbage_done(uv_work_t *work, int cancelled)
{
    (void)cancelled;
    mem_free(work->data);
}

void replica_discard(struct replica *replica, struct state *state)
{
    struct garbage *garbage = mem_alloc(sizeof *garbage);
    garbage->state = *state;
    *state = (struct state){0};
    garbage->work.data = garbage;
    uv_queue_work(replica->options.loop, &garbage->work, garbage_run, garbage_done);
}

static void take_restored(struct replica *replica, struct decided *d)
{
    replica_discard(replica, &replica->state);
    replica->state = *d->state;
    mem_free(d->state);
    raft_blob_unref(replica->config);
    replica->config = raft_config_encode(d->config);
    mem_free(d->config);
    replica->index = replica->snapshot_index = d->index;
    replica->term = d->term;
    image_restored(replica, d->shadow);
    mem_free(d->shadow);
}

static void fail(struct decided *d)
{
    struct proposal *p = d->cookie;
    struct outcome outcome = {0};
    p->done(p->arg, d->err->status, d->err->status == TIDE_OK ? &outcome : NULL, d->err);
    proposal_free(p);
    mem_free(d->err);
}

static void take(struct replica *replica, struct decided *d)
{
    switch (d->kind) {
    case DECIDED_ENTRY:
        apply_entry(replica, &d->entry);
        break;
    case DECIDED_FAILURE:
        fail(d);
        break;
    case DECIDED_READ: {
        struct reading *reading = d->cookie;
        reading->ready(reading->arg, d->permitted);
        mem_free(reading);
        break;
    }
    case DECIDED_RESTORED:
        take_restored(replica, d);
        break;
    default:
        replica->turn = *d->turn;
        replica->options.turned(replica->options.context, d->turn);
        mem_free(d->turn);
    }
}

void replica_end_if_idle(struct replica *replica)
{
    if (!replica->member_stopped || replica->imaging || replica->decided != NULL || replica->idle_closed)
        return;
    replica->idle_closed = true;
    uv_close((uv_handle_t *)&replica->more, NULL);
    replica->options.stopped(replica->options.context);
}

static void on_more(uv_idle_t *idle)
{
    struct replica *replica = idle->data;
    uint64_t until = clock_mono_ns() + APPLY_BUDGET_NS;
    bool applied = false;
    while (replica->decided != NULL) {
        struct decided *d = replica->decided;
        replica->decided = d->next;
        if (replica->decided == NULL)
            replica->decided_end = &replica->decided;
        applied = applied || d->kind == DECIDED_ENTRY || d->kind == DECIDED_RESTORED;
        take(replica, d);
        mem_free(d);
        if (clock_mono_ns() > until)
            break;
    }
    if (applied)
        replica->options.applied(replica->options.context);
    image_if_due(replica);
    if (replica->decided == NULL) {
        replica->busy = false;
        uv_idle_stop(idle);
    }
    replica_end_if_idle(replica);
}

static void decide(struct replica *replica, const struct decided *decided)
{
    struct decided *d = mem_alloc(sizeof *d);
    *d = *decided;
    *replica->decided_end = d;
    replica->decided_end = &d->next;
    if (!replica->busy)
        uv_idle_start(&replica->more, on_more);
    replica->busy = true;
}

/* ---- what the member says ---- */

static void on_committed(void *context, const struct member_entry *entry)
{
    decide(context, &(struct decided){.kind = DECIDED_ENTRY, .entry = *entry});
}

static void on_failed(void *context, void *cookie, enum tide_status status, const struct err *err)
{
    struct err *copy = mem_alloc(sizeof *copy);
    *copy = *err;
    copy->status = status;
    decide(context, &(struct decided){.kind = DECIDED_FAILURE, .cookie = cookie, .err = copy});
}

static void on_read(void *context, void *cookie, bool permitted)
{
    decide(context, &(struct decided){.kind = DECIDED_READ, .cookie = cookie, .permitted = permitted});
}

static void on_image_lost(void *context, uint64_t index)
{
    image_lost(context, index);
}

static void on_turned(void *context, const struct member_turn *turn)
{
    struct member_turn *copy = mem_alloc(sizeof *copy);
    *copy = *turn;
    decide(context, &(struct decided){.kind = DECIDED_TURN, .turn = copy});
}

static void on_stopped(void *context)
{
    struct replica *replica = context;
    replica->member_stopped = true;
    replica_end_if_idle(replica);
}

/* ---- snapshots of others, and one's own at the start ---- */

struct parsed {
    struct state state, shadow;
    uint64_t check_ns;
};

static void *on_parse(void *context, const struct snapshot *snapshot, struct err *err)
{
    (void)context;
    struct parsed *parsed = mem_alloc(sizeof *parsed);
    enum tide_status status = state_parse(snapshot->data, snapshot->bytes, &parsed->state, err);
    if (status != TIDE_OK) {
        mem_free(parsed);
        return NULL;
    }
    uint64_t begun = clock_mono_ns();
    status = state_check(&parsed->state, err);
    parsed->check_ns = clock_mono_ns() - begun;
    if (status == TIDE_OK && parsed->state.revision > snapshot->index)
        status = err_set(err, TIDE_E_CORRUPT, "it is of index %" PRIu64, parsed->state.revision);
    if (status != TIDE_OK) {
        state_release(&parsed->state);
        mem_free(parsed);
        return NULL;
    }
    codec_copy(&state_codec, &parsed->state, &parsed->shadow);
    return parsed;
}

static void on_drop(void *context, void *arg)
{
    (void)context;
    struct parsed *parsed = arg;
    state_release(&parsed->state);
    state_release(&parsed->shadow);
    mem_free(parsed);
}

static void on_restored(void *context, void *arg, uint64_t index, uint64_t term, const struct raft_config *config)
{
    struct replica *replica = context;
    struct parsed *parsed = arg;
    struct decided d = {.kind = DECIDED_RESTORED, .index = index, .term = term};
    d.state = mem_alloc(sizeof *d.state);
    *d.state = parsed->state;
    d.config = mem_alloc(sizeof *d.config);
    *d.config = *config;
    d.shadow = mem_alloc(sizeof *d.shadow);
    *d.shadow = parsed->shadow;
    replica->check_ns = parsed->check_ns;
    mem_free(parsed);
    if (replica->member == NULL)
        take_restored(replica, &d); /* from within member_open */
    else
        decide(replica, &d);
}

/* ---- life ---- */

static const struct member_calls calls = {.committed = on_committed,
                                          .failed = on_failed,
                                          .read = on_read,
                                          .parse = on_parse,
                                          .restored = on_restored,
                                          .drop = on_drop,
                                          .image_lost = on_image_lost,
                                          .turned = on_turned,
                                          .stopped = on_stopped};

enum tide_status replica_open(const struct replica_options *options, struct replica **ret_replica, struct err *err)
{
    struct replica *replica = mem_alloc(sizeof *replica);
    replica->options = *options;
    replica->decided_end = &replica->decided;
    replica->snapshot_every = options->snapshot_every ? options->snapshot_every : SNAPSHOT_EVERY;
    struct member_options member = options->member;
    member.loop = options->loop;
    member.level = LEVEL_NEWEST;
    member.calls = &calls;
    member.context = replica;
    enum tide_status status = member_open(&member, &replica->member, err);
    if (status != TIDE_OK) {
        replica_close(replica);
        return status;
    }
    *ret_replica = replica;
    return TIDE_OK;
}

void replica_start(struct replica *replica)
{
    uv_idle_init(replica->options.loop, &replica->more);
    replica->more.data = replica;
    member_start(replica->member);
}

void replica_stop(struct replica *replica, bool hand_over)
{
    replica->stopping = true;
    member_stop(replica->member, hand_over);
}

void replica_close(struct replica *replica)
{
    if (replica == NULL)
        return;
    member_close(replica->member);
    image_release(replica);
    state_release(&replica->state);
    raft_blob_unref(replica->config);
    mem_free(replica);
}
