/* SPDX-License-Identifier: Apache-2.0 */
/* The coordinator's shell: a log that is durable only up to the last fsync, group commit, one judge at a time. */
#include <assert.h>

#include "tests/sim/sim.h"

#define LEASE_MS 2000u
#define HEARTBEAT_MS 250u
#define POLL_MS 5000u
#define IMAGE_EVERY 150u          /* entries between snapshots */
#define REPLAY_EVERY 97u          /* entries between checks that a replay gives the same state */
#define WALL_BASE_MS UINT64_C(1700000000000)
#define REFUSED_MAX 100u          /* verdicts refused in a row: judge does not see what apply sees */
#define VERDICTS_PER_SECOND_MAX 400u

static void judge_soon(struct world *w, uint64_t delay_ns);
static void sync_soon(struct world *w);

static uint64_t mono(const struct world *w)
{
    return w->leader.mono_base + w->now;
}

static uint64_t wall_ms(const struct world *w)
{
    return WALL_BASE_MS + w->leader.wall_skew_ms + w->now / NS_PER_MS;
}

const struct job_record *leader_job(const struct world *w, const char *name)
{
    return w->leader.up ? state_job(&w->leader.state, name) : NULL;
}

/* ---- the log ---- */

static void append(struct world *w, struct command *command, struct entry entry)
{
    struct leader *l = &w->leader;
    command->at_ms = wall_ms(w);
    entry.text = codec_print(&command_codec, command, CODEC_COMPACT);
    if (l->log_count == l->log_room) {
        l->log_room = l->log_room ? 2 * l->log_room : 256;
        l->log = mem_grow(l->log, l->log_room, sizeof l->log[0]);
    }
    l->log[l->log_count++] = entry;
    sync_soon(w);
}

/* What an entry does to a state: decoded from the bytes that are on disk, as a replay would. */
static enum tide_status apply_entry(struct world *w, struct state *state, size_t index, struct command *ret_command,
                                    struct outcome *ret_outcome, struct err *err)
{
    const char *text = w->leader.log[index].text;
    if (codec_parse(&command_codec, text, strlen(text), CODEC_STRICT, ret_command, err) != TIDE_OK) {
        violation(w, "log entry %zu cannot be read back: %s: %.200s", index + 1, err->text, text);
        memset(ret_command, 0, sizeof *ret_command);
        return err->status;
    }
    return apply(state, ret_command, index + 1, ret_outcome, err);
}

static void replay(struct world *w, struct state *state, size_t from, size_t to)
{
    for (size_t i = from; i < to && !w->stop; i++) {
        struct command command;
        struct outcome outcome = {0};
        struct err err = {0};
        apply_entry(w, state, i, &command, &outcome, &err);
        codec_release(&command_codec, &command);
    }
}

static void expect_same(struct world *w, const struct state *a, const char *b_text, const char *what)
{
    char *text = codec_print(&state_codec, a, CODEC_STRICT);
    size_t at = 0;
    while (text[at] != '\0' && text[at] == b_text[at])
        at++;
    if (text[at] != b_text[at])
        violation(w, "%s differs from the state at revision %" PRIu64 ": …%.100s… is not …%.100s…", what, a->revision,
                  text + (at > 40 ? at - 40 : 0), b_text + (at > 40 ? at - 40 : 0));
    mem_free(text);
}

/* From the whole log, and from the last snapshot plus the rest, the same bytes of state. */
void check_replay(struct world *w)
{
    struct leader *l = &w->leader;
    char *now = codec_print(&state_codec, &l->state, CODEC_STRICT);
    struct state state = {0};
    struct err err = {0};
    if (l->image_index == 0 || l->applied < 2000) {
        replay(w, &state, 0, l->applied);
        expect_same(w, &state, now, "a replay of the log");
        state_release(&state);
    }
    if (l->image != NULL && !w->stop) {
        if (codec_parse(&state_codec, l->image, strlen(l->image), CODEC_STRICT, &state, &err) != TIDE_OK) {
            violation(w, "the snapshot cannot be read back: %s", err.text);
        } else {
            replay(w, &state, l->image_index, l->applied);
            expect_same(w, &state, now, "snapshot and rest of the log");
            state_release(&state);
        }
    }
    mem_free(now);
    w->replays++;
}

/* ---- answers ---- */

static void op_answer(struct world *w, struct args *args);
static void register_answer(struct world *w, struct args *args);

static char *outcome_text(const struct outcome *outcome)
{
    return codec_print(&outcome_codec, outcome, CODEC_COMPACT);
}

static void answer_register(struct world *w, uint32_t host, uint64_t number, uint64_t host_epoch, enum tide_status status)
{
    struct leader *l = &w->leader;
    struct node_welcome welcome = {.heartbeat_ms = l->state.heartbeat_ms, .lease_ms = l->state.lease_ms};
    text_copy(welcome.cluster, sizeof welcome.cluster, l->state.cluster);
    if (status == TIDE_OK)
        book_registered(&l->book, &l->state, w->hosts[host].name, mono(w));
    send_to_host(w, &w->hosts[host], register_answer,
                 (struct args){.host = host, .number = number, .epoch = host_epoch, .slot = (uint32_t)status,
                               .text = codec_print(&node_welcome_codec, &welcome, 0)});
}

static void answer(struct world *w, const struct entry *entry, enum tide_status status, const struct outcome *outcome)
{
    struct leader *l = &w->leader;
    if (entry->epoch != l->epoch)
        return; /* whoever asked talked to an earlier life */
    switch (entry->waiter) {
    case WAIT_OP:
        send_person(w, op_answer, (struct args){.index = entry->index, .slot = (uint32_t)status, .text = outcome_text(outcome)});
        break;
    case WAIT_REGISTER:
        answer_register(w, entry->index, entry->number, entry->asker_epoch, status);
        break;
    case WAIT_JUDGE:
        l->verdicts--;
        l->refused_verdicts = status == TIDE_OK ? 0 : l->refused_verdicts + 1;
        if (l->refused_verdicts > REFUSED_MAX)
            violation(w, "%u verdicts in a row were refused, the last as %s: judge and apply disagree", REFUSED_MAX,
                      tide_status_name(status));
        break;
    default:
        break;
    }
}

/* ---- apply ---- */

static void polls_wake(struct world *w);

static void take_image(struct leader *l)
{
    if (l->applied < l->image_index + IMAGE_EVERY)
        return;
    mem_free(l->image);
    l->image = codec_print(&state_codec, &l->state, CODEC_STRICT);
    l->image_index = l->applied;
}

static void apply_next(struct world *w)
{
    struct leader *l = &w->leader;
    const struct entry entry = l->log[l->applied];
    struct command command;
    struct outcome outcome = {0};
    struct err err = {0};
    bool known = false;
    struct command peek;
    /* A repeated request must change nothing: kept to compare. Only then, since printing the state is slow. */
    if (codec_parse(&command_codec, entry.text, strlen(entry.text), CODEC_STRICT, &peek, &err) == TIDE_OK) {
        for (size_t i = 0; peek.request[0] != '\0' && i < l->state.sessions.count && !known; i++)
            known = strcmp(l->state.sessions.items[i].request, peek.request) == 0;
        codec_release(&command_codec, &peek);
    }
    char *old = known ? codec_print(&state_codec, &l->state, CODEC_STRICT) : NULL;
    enum tide_status status = apply_entry(w, &l->state, l->applied, &command, &outcome, &err);
    l->applied++;
    l->seen = l->applied;
    w->applied_total++;
    trace(w, "apply %zu %s %s gen %" PRIu64 " cut %" PRIu64 " step %" PRIu64 " %s%s -> %s %.150s", l->applied,
          command_kind_names[command.kind], command.job, command.generation, command.cut, command.step,
          command.node[0] ? command.node : command.hello.name, command.final ? " final" : "", tide_status_name(status),
          status == TIDE_OK ? command.event.text : err.text);
    if (l->state.revision != l->applied)
        violation(w, "apply left revision %" PRIu64 ", not %zu", l->state.revision, l->applied);
    if (state_check(&l->state, &err) != TIDE_OK)
        violation(w, "state_check after %s: %s", command_kind_names[command.kind], err.text);
    check_applied(w, &command, status, old);
    if (w->on_applied != NULL)
        w->on_applied(w, &command, status);
    answer(w, &entry, status, &outcome);
    codec_release(&command_codec, &command);
    mem_free(old);
    if (l->applied % REPLAY_EVERY == 0)
        check_replay(w);
    take_image(l);
}

static void synced(struct world *w, struct args *args)
{
    struct leader *l = &w->leader;
    if (args->epoch != l->epoch || !l->up)
        return;
    l->durable = args->number;
    l->syncing = false;
    while (l->applied < l->durable && !w->stop)
        apply_next(w);
    polls_wake(w);
    sync_soon(w);
    judge_soon(w, 0);
}

static void sync_soon(struct world *w)
{
    struct leader *l = &w->leader;
    if (l->syncing || l->durable == l->log_count)
        return;
    l->syncing = true;
    uint64_t delay = !w->healed && chance(w, 5000) ? between(w, MS(50), MS(800)) : between(w, 80000, MS(3));
    later(w, delay, synced, (struct args){.epoch = l->epoch, .number = l->log_count});
}

/* ---- judge ---- */

/* A judge that keeps saying things is not making progress: nothing in the world happens that often. */
static void count_verdicts(struct world *w, size_t count)
{
    struct leader *l = &w->leader;
    if (l->busy_second != w->now / NS_PER_S)
        l->busy_second = w->now / NS_PER_S, l->busy_count = 0;
    l->busy_count += count;
    if (l->busy_count > VERDICTS_PER_SECOND_MAX)
        violation(w, "judge gave more than %u verdicts within a second", VERDICTS_PER_SECOND_MAX);
}

static void judge_now(struct world *w, struct args *args)
{
    struct leader *l = &w->leader;
    if (args->epoch != l->epoch || !l->up || args->number != l->judge_number)
        return;
    l->judge_due = false;
    if (l->verdicts > 0)
        return; /* the last of them brings us back */
    struct command_list list = {0};
    uint64_t next_ns = 0;
    judge(&l->state, &l->book, mono(w), wall_ms(w), &l->rng, &list, &next_ns);
    count_verdicts(w, list.count);
    for (size_t i = 0; i < list.count; i++) {
        l->verdicts++;
        append(w, &list.items[i], (struct entry){.waiter = WAIT_JUDGE, .epoch = l->epoch});
    }
    if (list.count == 0 && next_ns != 0) {
        uint64_t wait = next_ns > mono(w) ? next_ns - mono(w) : 0;
        judge_soon(w, wait < MS(1) ? MS(1) : wait > SECONDS(5) ? SECONDS(5) : wait);
    }
    command_list_release(&list);
}

/* The newest wish counts; an earlier one in the heap is void, unless it is for right now. */
static void judge_soon(struct world *w, uint64_t delay_ns)
{
    struct leader *l = &w->leader;
    if (l->judge_due && delay_ns == 0)
        return;
    l->judge_due = delay_ns == 0;
    later(w, delay_ns, judge_now, (struct args){.epoch = l->epoch, .number = ++l->judge_number});
}

/* ---- requests of agents ---- */

void leader_on_register(struct world *w, struct args *args)
{
    struct leader *l = &w->leader;
    struct command command = {.kind = CMD_NODE_REGISTER};
    struct err err = {0};
    if (!l->up)
        return;
    if (codec_parse(&node_hello_codec, args->text, strlen(args->text), CODEC_LENIENT, &command.hello, &err) != TIDE_OK) {
        violation(w, "the agent's hello cannot be read: %s", err.text);
        return;
    }
    append(w, &command, (struct entry){.waiter = WAIT_REGISTER, .index = args->host, .number = args->number, .epoch = l->epoch,
                                       .asker_epoch = args->epoch});
}

static void register_answer(struct world *w, struct args *args)
{
    host_on_registered(w, args);
}

void leader_on_heartbeat(struct world *w, struct args *args)
{
    struct leader *l = &w->leader;
    struct heartbeat heartbeat;
    struct err err = {0};
    bool changed = false;
    if (!l->up)
        return;
    if (codec_parse(&heartbeat_codec, args->text, strlen(args->text), CODEC_LENIENT, &heartbeat, &err) != TIDE_OK) {
        violation(w, "a heartbeat cannot be read: %s", err.text);
        return;
    }
    enum tide_status status = book_heartbeat(&l->book, &l->state, &heartbeat, mono(w), &changed, &err);
    if (status != TIDE_OK) {
        codec_release(&heartbeat_codec, &heartbeat);
        trace(w, "heartbeat of %s refused: %s", w->hosts[args->host].name, err.text);
    } else if (changed) {
        judge_soon(w, 0);
    }
    send_to_host(w, &w->hosts[args->host], host_on_beat_answer,
                 (struct args){.host = args->host, .epoch = args->epoch, .number = args->number, .slot = (uint32_t)status});
}

static void poll_answer(struct world *w, uint32_t host)
{
    struct leader *l = &w->leader;
    struct poll *poll = &l->polls[host];
    const struct node *node = state_node(&l->state, w->hosts[host].name);
    struct desired desired = {0};
    struct err err = {0};
    enum tide_status status = node == NULL ? TIDE_E_NOT_FOUND : TIDE_OK;
    if (node != NULL && strcmp(node->incarnation, poll->incarnation) != 0)
        status = TIDE_E_STALE;
    if (status == TIDE_OK)
        status = desired_build(&l->state, &l->book, node->name, &desired, &err);
    struct args args = {.host = host, .epoch = poll->host_epoch, .number = poll->number, .slot = (uint32_t)status};
    if (status == TIDE_OK) {
        args.text = codec_print(&desired_codec, &desired, CODEC_COMPACT);
        codec_release(&desired_codec, &desired);
    }
    poll->parked = false;
    send_to_host(w, &w->hosts[host], host_on_desired, args);
}

static void poll_over(struct world *w, struct args *args)
{
    struct poll *poll = &w->leader.polls[args->host];
    if (w->leader.up && args->epoch == w->leader.epoch && poll->parked && poll->number == args->number)
        poll_answer(w, args->host);
}

static void polls_wake(struct world *w)
{
    for (uint32_t i = 0; i < w->host_count; i++)
        if (w->leader.polls[i].parked && w->leader.state.revision > w->leader.polls[i].after)
            poll_answer(w, i);
}

/* The connection is refused or reset: the agent sees that at once. */
static void poll_refused(struct world *w, uint32_t host, uint64_t host_epoch, uint64_t number)
{
    send_to_host(w, &w->hosts[host], host_on_desired,
                 (struct args){.host = host, .epoch = host_epoch, .number = number, .slot = TIDE_E_UNAVAILABLE});
}

void leader_on_desired(struct world *w, struct args *args)
{
    struct leader *l = &w->leader;
    struct poll *poll = &l->polls[args->host];
    if (!l->up) {
        poll_refused(w, args->host, args->epoch, args->number);
        return;
    }
    *poll = (struct poll){.parked = true, .number = args->number, .host_epoch = args->epoch, .after = args->step};
    text_copy(poll->incarnation, sizeof poll->incarnation, args->uid);
    if (l->state.revision > poll->after)
        poll_answer(w, args->host);
    else
        later(w, MS(POLL_MS), poll_over, (struct args){.host = args->host, .epoch = l->epoch, .number = args->number});
}

/* A story puts a verdict of its own into the log. */
void leader_propose(struct world *w, struct command *command)
{
    append(w, command, (struct entry){.epoch = w->leader.epoch});
}

/* ---- requests of people ---- */

static void op_command(struct world *w, const struct op *op, struct command *command)
{
    static const unsigned kinds[] = {CMD_JOB_SUBMIT, CMD_CKPT_REQUEST, CMD_JOB_ROLLBACK, CMD_JOB_CANCEL,
                                     CMD_CKPT_DROP,  CMD_NODE_DRAIN,   CMD_NODE_RESUME};
    struct err err = {0};
    memset(command, 0, sizeof *command);
    command->kind = kinds[op->kind];
    text_copy(command->request, sizeof command->request, op->request);
    text_copy(command->job, sizeof command->job, op->job);
    text_copy(command->node, sizeof command->node, op->node);
    command->cut = op->cut;
    command->force = op->force;
    if (op->kind == OP_ROLLBACK)
        command->step = INT64_MAX;
    if (op->kind == OP_DRAIN)
        text_copy(command->text, sizeof command->text, "drained by hand");
    if (op->kind != OP_SUBMIT)
        return;
    codec_copy(&job_spec_codec, &w->plans[op->plan].spec, &command->spec);
    if (job_spec_check(&command->spec, &err) != TIDE_OK)
        violation(w, "the plan's spec is refused: %s", err.text);
    rng_hex(&w->leader.rng, command->uid, TIDE_UID_CHARS);
}

void leader_on_op(struct world *w, struct args *args)
{
    if (!w->leader.up)
        return;
    struct command command;
    op_command(w, &w->ops[args->index], &command);
    append(w, &command, (struct entry){.waiter = WAIT_OP, .index = args->index, .epoch = w->leader.epoch});
    codec_release(&job_spec_codec, &command.spec);
}

static void op_answer(struct world *w, struct args *args)
{
    person_hears(w, args->index, args->slot, args->text);
}

/* ---- life ---- */

static void found_cluster(struct world *w)
{
    struct command command = {.kind = CMD_CLUSTER_INIT, .lease_ms = LEASE_MS, .heartbeat_ms = HEARTBEAT_MS};
    rng_hex(&w->leader.rng, command.text, TIDE_UID_CHARS);
    text_copy(command.store, sizeof command.store, "file:///depot");
    append(w, &command, (struct entry){.epoch = w->leader.epoch});
}

void leader_boot(struct world *w)
{
    struct leader *l = &w->leader;
    struct err err = {0};
    l->epoch++;
    l->up = true;
    l->rng.state = rng_next(&w->rng);
    l->mono_base = rng_below(&w->rng, SECONDS(1000)); /* another machine's clock, as far as anybody may assume */
    l->wall_skew_ms = rng_below(&w->rng, 10000);      /* and its wall clock may be behind that of the last life */
    l->syncing = l->judge_due = false;
    l->verdicts = 0;
    l->refused_verdicts = 0;
    memset(l->polls, 0, sizeof l->polls);
    l->applied = 0;
    if (l->image != NULL && codec_parse(&state_codec, l->image, strlen(l->image), CODEC_STRICT, &l->state, &err) != TIDE_OK)
        violation(w, "the snapshot cannot be read back: %s", err.text);
    if (l->image != NULL)
        l->applied = l->image_index;
    replay(w, &l->state, l->applied, l->seen);
    l->applied = l->seen;
    book_init(&l->book, &l->state, mono(w));
    /* Entries that reached the disk without anybody knowing. */
    while (l->applied < l->durable && !w->stop)
        apply_next(w);
    book_release(&l->book);
    book_init(&l->book, &l->state, mono(w));
    trace(w, "coordinator up at revision %" PRIu64, l->state.revision);
    if (l->log_count == 0)
        found_cluster(w);
    judge_soon(w, 0);
}

/* kill -9: what was synced stays; of the rest the disk may have written some, in order. */
void leader_crash(struct world *w)
{
    struct leader *l = &w->leader;
    if (!l->up)
        return;
    check_replay(w);
    size_t keep = l->durable + (size_t)rng_below(&w->rng, l->log_count - l->durable + 1);
    trace(w, "coordinator killed at revision %" PRIu64 ", %zu of %zu unsynced entries reached the disk", l->state.revision,
          keep - l->durable, l->log_count - l->durable);
    while (l->log_count > keep)
        mem_free(l->log[--l->log_count].text);
    for (uint32_t i = 0; i < w->host_count; i++)
        if (l->polls[i].parked)
            poll_refused(w, i, l->polls[i].host_epoch, l->polls[i].number);
    l->durable = keep;
    l->up = false;
    l->epoch++;
    state_release(&l->state);
    book_release(&l->book);
    memset(&l->book, 0, sizeof l->book);
}

void leader_release(struct world *w)
{
    struct leader *l = &w->leader;
    state_release(&l->state);
    book_release(&l->book);
    while (l->log_count > 0)
        mem_free(l->log[--l->log_count].text);
    mem_free(l->log);
    mem_free(l->image);
}
