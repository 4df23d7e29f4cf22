/* SPDX-License-Identifier: Apache-2.0 */
/* The member that leads: one judge at a time, and the requests of agents and people. All it knows besides the replicated state
 * is gone with its office. */
#include "tests/sim/sim.h"

#define LEASE_MS 2000u
#define HEARTBEAT_MS 250u
#define GOOD_MS 3000u
#define POLL_MS 5000u
#define WALL_BASE_MS UINT64_C(1700000000000)
#define REFUSED_MAX 100u /* verdicts refused in a row: judge does not see what apply sees */
#define VERDICTS_PER_SECOND_MAX 400u
#define JUDGE_AGAIN_MS 50u /* after a verdict that could not even be proposed */

static void judge_soon(struct world *w, struct coord *c, uint64_t delay_ns);

static uint64_t mono(const struct world *w, const struct coord *c)
{
    return c->mono_base + w->now;
}

static uint64_t wall_ms(const struct world *w, const struct coord *c)
{
    return WALL_BASE_MS + c->wall_skew_ms + w->now / NS_PER_MS;
}

const struct job_record *leader_job(const struct world *w, const char *name)
{
    return w->leader.up ? state_job(&w->leader.state, name) : NULL;
}

/* False: it could not be proposed, and is not in the log. */
static bool append(struct world *w, struct coord *c, struct command *command, struct waiter waiter)
{
    struct office *o = &c->office;
    struct raft_entry entry;
    struct err err = {0};
    command->at_ms = wall_ms(w, c);
    if (o->waiter_count == o->waiter_room) {
        o->waiter_room = o->waiter_room ? 2 * o->waiter_room : 64;
        o->waiters = mem_grow(o->waiters, o->waiter_room, sizeof o->waiters[0]);
    }
    char *text = codec_print(&command_codec, command, CODEC_COMPACT);
    enum tide_status status = coord_propose(w, c, text, &entry, &err);
    mem_free(text);
    if (status != TIDE_OK) {
        trace(w, "coordinator %u cannot propose: %s", c->slot + 1, err.text);
        return false;
    }
    waiter.entry = entry.index;
    waiter.term = entry.term;
    if (waiter.kind != WAIT_NOBODY && o->taken)
        o->waiters[o->waiter_count++] = waiter;
    return true;
}

/* ---- answers ---- */

static void op_answer(struct world *w, struct args *args)
{
    person_hears(w, args->index, args->slot, args->text);
}

static void register_answer(struct world *w, struct args *args)
{
    host_on_registered(w, args);
}

static void answer_register(struct world *w, struct coord *c, const struct waiter *waiter, enum tide_status status)
{
    struct node_welcome welcome = {.heartbeat_ms = c->state.heartbeat_ms, .lease_ms = c->state.lease_ms};
    struct host *h = &w->hosts[waiter->index];
    text_copy(welcome.cluster, sizeof welcome.cluster, c->state.cluster);
    if (status == TIDE_OK)
        book_registered(&c->office.book, &c->state, h->name, mono(w, c));
    send_to_host(w, h, register_answer,
                 (struct args){.host = waiter->index, .number = waiter->number, .epoch = waiter->asker_epoch, .coord = c->slot,
                               .slot = (uint32_t)status, .text = codec_print(&node_welcome_codec, &welcome, 0)});
}

static void answer(struct world *w, struct coord *c, const struct waiter *waiter, enum tide_status status,
                   const struct outcome *outcome)
{
    struct office *o = &c->office;
    switch (waiter->kind) {
    case WAIT_OP:
        send_person(w, op_answer,
                    (struct args){.index = waiter->index, .slot = (uint32_t)status,
                                  .text = codec_print(&outcome_codec, outcome, CODEC_COMPACT)});
        break;
    case WAIT_REGISTER:
        answer_register(w, c, waiter, status);
        break;
    case WAIT_JUDGE:
        o->verdicts--;
        o->refused_verdicts = status == TIDE_OK ? 0 : o->refused_verdicts + 1;
        if (o->refused_verdicts > REFUSED_MAX)
            violation(w, "%u verdicts in a row were refused, the last as %s: judge and apply disagree", REFUSED_MAX,
                      tide_status_name(status));
        break;
    default:
        break;
    }
}

/* Proposals are applied in the order in which they were made; those of other terms belong to other offices. */
void office_applied(struct world *w, struct coord *c, const struct raft_entry *entry, enum tide_status status,
                    const struct outcome *outcome)
{
    struct office *o = &c->office;
    if (o->waiter_count == 0 || o->waiters[0].entry != entry->index || o->waiters[0].term != entry->term)
        return;
    struct waiter waiter = o->waiters[0];
    memmove(o->waiters, o->waiters + 1, --o->waiter_count * sizeof o->waiters[0]);
    answer(w, c, &waiter, status, outcome);
}

/* ---- judge ---- */

/* A judge that keeps saying things is not making progress: nothing in the world happens that often. */
static void count_verdicts(struct world *w, struct office *o, size_t count)
{
    if (o->busy_second != w->now / NS_PER_S)
        o->busy_second = w->now / NS_PER_S, o->busy_count = 0;
    o->busy_count += count;
    if (o->busy_count > VERDICTS_PER_SECOND_MAX)
        violation(w, "judge gave more than %u verdicts within a second", VERDICTS_PER_SECOND_MAX);
}

/* As every leader does that knows of levels. */
static void raise_level(struct world *w, struct coord *c)
{
    uint32_t lowest = LEVEL_NEWEST;
    struct command command;
    for (uint32_t i = 0; i < w->coord_count; i++) {
        uint32_t knows = w->coords[i].up ? w->coords[i].knows : 0;
        lowest = knows < lowest ? knows : lowest;
    }
    if (c->knows > 0 && level_verdict(&c->state, lowest, &command))
        append(w, c, &command, (struct waiter){.kind = WAIT_NOBODY});
}

static void judge_now(struct world *w, struct args *args)
{
    struct coord *c = &w->coords[args->coord];
    struct office *o = &c->office;
    if (!o->taken || args->epoch != o->epoch || args->number != o->judge_number)
        return;
    if (c->paused_until > w->now) {
        later(w, c->paused_until - w->now, judge_now, *args);
        return;
    }
    o->judge_due = false;
    if (o->verdicts > 0 || c->state.cluster[0] == '\0')
        return; /* the last of them brings us back */
    struct command_list list = {0};
    uint64_t next_ns = 0;
    raise_level(w, c);
    judge(&c->state, &o->book, mono(w, c), wall_ms(w, c), &c->rng, &list, &next_ns);
    count_verdicts(w, o, list.count);
    uint64_t epoch = o->epoch;
    for (size_t i = 0; i < list.count && o->taken && o->epoch == epoch; i++) {
        o->verdicts++; /* a group of one may apply it within the call */
        if (!append(w, c, &list.items[i], (struct waiter){.kind = WAIT_JUDGE}))
            o->verdicts--;
    }
    if (o->taken && list.count > 0 && o->verdicts == 0) {
        judge_soon(w, c, MS(JUDGE_AGAIN_MS));
    } else if (list.count == 0 && next_ns != 0) {
        uint64_t wait = next_ns > mono(w, c) ? next_ns - mono(w, c) : 0;
        judge_soon(w, c, wait < MS(1) ? MS(1) : wait > SECONDS(5) ? SECONDS(5) : wait);
    }
    command_list_release(&list);
}

/* The newest wish counts; an earlier one in the heap is void, unless it is for right now. */
static void judge_soon(struct world *w, struct coord *c, uint64_t delay_ns)
{
    struct office *o = &c->office;
    if (o->judge_due && delay_ns == 0)
        return;
    o->judge_due = delay_ns == 0;
    later(w, delay_ns, judge_now, (struct args){.coord = c->slot, .epoch = o->epoch, .number = ++o->judge_number});
}

/* ---- requests of agents ---- */

/* Whom a request reaches: the member asked if it is in office; the one it knows to lead, by way of a redirect; or nobody.
 * ret_refused: the connection is refused, or the member says that it cannot help. */
static struct coord *receive(struct world *w, struct args *args, happen_fn again, bool *ret_refused)
{
    struct coord *c = &w->coords[args->coord];
    *ret_refused = false;
    if (c->up && c->paused_until > w->now) {
        later(w, c->paused_until - w->now, again, args_copy(args));
        return NULL;
    }
    if (c->up && c->office.taken)
        return c;
    uint64_t leader = c->up ? c->status.leader : 0;
    if (leader != 0 && leader - 1 != c->slot && args->rank < w->coord_count) {
        struct args on = args_copy(args);
        on.coord = (uint32_t)leader - 1;
        on.rank++; /* redirects so far */
        later(w, MS(1), again, on);
        return NULL;
    }
    *ret_refused = true;
    return NULL;
}

static void refuse(struct world *w, const struct args *args, happen_fn heard)
{
    send_to_host(w, &w->hosts[args->host], heard,
                 (struct args){.host = args->host, .epoch = args->epoch, .number = args->number, .coord = args->coord,
                               .slot = TIDE_E_UNAVAILABLE});
}

void leader_on_register(struct world *w, struct args *args)
{
    struct command command = {.kind = CMD_NODE_REGISTER};
    struct err err = {0};
    bool refused;
    struct coord *c = receive(w, args, leader_on_register, &refused);
    if (c == NULL) {
        if (refused)
            refuse(w, args, register_answer);
        return;
    }
    if (codec_parse(&node_hello_codec, args->text, strlen(args->text), CODEC_LENIENT, &command.hello, &err) != TIDE_OK) {
        violation(w, "the agent's hello cannot be read: %s", err.text);
        return;
    }
    if (w->leader.state.level < 3)
        command.hello.domain[0] = '\0';
    append(w, c, &command,
           (struct waiter){.kind = WAIT_REGISTER, .index = args->host, .number = args->number, .asker_epoch = args->epoch});
}

void leader_on_heartbeat(struct world *w, struct args *args)
{
    struct heartbeat heartbeat;
    struct err err = {0};
    bool changed = false, refused;
    struct coord *c = receive(w, args, leader_on_heartbeat, &refused);
    if (c == NULL) {
        if (refused)
            refuse(w, args, host_on_beat_answer);
        return;
    }
    if (codec_parse(&heartbeat_codec, args->text, strlen(args->text), CODEC_LENIENT, &heartbeat, &err) != TIDE_OK) {
        violation(w, "a heartbeat cannot be read: %s", err.text);
        return;
    }
    enum tide_status status = book_heartbeat(&c->office.book, &c->state, &heartbeat, mono(w, c), &changed, &err);
    if (status != TIDE_OK) {
        codec_release(&heartbeat_codec, &heartbeat);
        trace(w, "heartbeat of %s refused: %s", w->hosts[args->host].name, err.text);
    } else if (changed) {
        judge_soon(w, c, 0);
    }
    send_to_host(w, &w->hosts[args->host], host_on_beat_answer,
                 (struct args){.host = args->host, .epoch = args->epoch, .number = args->number, .coord = c->slot,
                               .slot = (uint32_t)status});
}

static void poll_answer(struct world *w, struct coord *c, uint32_t host)
{
    struct poll *poll = &c->office.polls[host];
    const struct node *node = state_node(&c->state, w->hosts[host].name);
    struct desired desired = {0};
    struct err err = {0};
    enum tide_status status = node == NULL ? TIDE_E_NOT_FOUND : TIDE_OK;
    if (node != NULL && strcmp(node->incarnation, poll->incarnation) != 0)
        status = TIDE_E_STALE;
    if (status == TIDE_OK)
        status = desired_build(&c->state, &c->office.book, node->name, &desired, &err);
    struct args args = {
        .host = host, .epoch = poll->host_epoch, .number = poll->number, .coord = c->slot, .slot = (uint32_t)status};
    if (status == TIDE_OK) {
        args.text = codec_print(&desired_codec, &desired, CODEC_COMPACT);
        codec_release(&desired_codec, &desired);
    }
    poll->parked = false;
    send_to_host(w, &w->hosts[host], host_on_desired, args);
}

static void poll_over(struct world *w, struct args *args)
{
    struct coord *c = &w->coords[args->coord];
    const struct poll *poll = &c->office.polls[args->host];
    if (c->office.taken && args->epoch == c->office.epoch && poll->parked && poll->number == args->number)
        poll_answer(w, c, args->host);
}

void office_batch_applied(struct world *w, struct coord *c)
{
    for (uint32_t i = 0; i < w->host_count; i++)
        if (c->office.polls[i].parked && c->state.revision > c->office.polls[i].after)
            poll_answer(w, c, i);
    judge_soon(w, c, 0);
}

void leader_on_desired(struct world *w, struct args *args)
{
    bool refused;
    struct coord *c = receive(w, args, leader_on_desired, &refused);
    if (c == NULL) {
        if (refused)
            refuse(w, args, host_on_desired);
        return;
    }
    struct poll *poll = &c->office.polls[args->host];
    *poll = (struct poll){.parked = true, .number = args->number, .host_epoch = args->epoch, .after = args->step};
    text_copy(poll->incarnation, sizeof poll->incarnation, args->uid);
    if (c->state.revision > poll->after)
        poll_answer(w, c, args->host);
    else
        later(w, MS(POLL_MS), poll_over,
              (struct args){.host = args->host, .epoch = c->office.epoch, .number = args->number, .coord = c->slot});
}

/* A story puts a verdict of its own into the log. */
void leader_propose(struct world *w, struct command *command)
{
    struct coord *c = coord_in_office(w);
    if (c == NULL || !append(w, c, command, (struct waiter){.kind = WAIT_NOBODY}))
        violation(w, "nobody takes a story's proposal");
}

/* ---- requests of people ---- */

static void op_command(struct world *w, struct coord *c, const struct op *op, struct command *command)
{
    static const unsigned kinds[] = {CMD_JOB_SUBMIT, CMD_CKPT_REQUEST, CMD_JOB_ROLLBACK, CMD_JOB_CANCEL,
                                     CMD_CKPT_DROP,  CMD_NODE_DRAIN,   CMD_NODE_RESUME,  CMD_CKPT_PIN,
                                     CMD_CKPT_UNPIN, CMD_CKPT_GC};
    struct err err = {0};
    memset(command, 0, sizeof *command);
    command->kind = kinds[op->kind];
    text_copy(command->request, sizeof command->request, op->request);
    text_copy(command->job, sizeof command->job, op->job);
    text_copy(command->node, sizeof command->node, op->node);
    command->cut = op->cut;
    command->force = op->force;
    if (op->kind == OP_PIN)
        command->ms = op->hold_ms;
    if (op->kind == OP_ROLLBACK)
        command->step = INT64_MAX;
    if (op->kind == OP_DRAIN)
        text_copy(command->text, sizeof command->text, "drained by hand");
    if (op->kind != OP_SUBMIT)
        return;
    codec_copy(&job_spec_codec, &w->plans[op->plan].spec, &command->spec);
    if (job_spec_check(&command->spec, &err) != TIDE_OK)
        violation(w, "the plan's spec is refused: %s", err.text);
    rng_hex(&c->rng, command->uid, TIDE_UID_CHARS);
}

void leader_on_op(struct world *w, struct args *args)
{
    bool refused;
    struct coord *c = receive(w, args, leader_on_op, &refused);
    if (c == NULL)
        return; /* they ask again */
    struct command command;
    struct outcome refused_as = {0};
    struct err err = {0};
    op_command(w, c, &w->ops[args->index], &command);
    struct waiter waiter = {.kind = WAIT_OP, .index = args->index};
    if (level_admits(&c->state, &command, &err) != TIDE_OK)
        answer(w, c, &waiter, err.status, &refused_as);
    else
        append(w, c, &command, waiter);
    codec_release(&job_spec_codec, &command.spec);
}

/* ---- in and out of office ---- */

static void found_cluster(struct world *w, struct coord *c)
{
    struct command command = {.kind = CMD_CLUSTER_INIT, .lease_ms = LEASE_MS, .heartbeat_ms = HEARTBEAT_MS, .health_good_ms = GOOD_MS};
    struct rng rng = {.state = mix(w->seed, 1)}; /* the uid was given out with the members' identities */
    rng_hex(&rng, command.text, TIDE_UID_CHARS);
    text_copy(command.store, sizeof command.store, "file:///depot");
    command.level = c->knows;
    append(w, c, &command, (struct waiter){.kind = WAIT_NOBODY});
}

void office_take(struct world *w, struct coord *c)
{
    struct office *o = &c->office;
    uint64_t epoch = o->epoch + 1, number = o->judge_number;
    mem_free(o->waiters);
    *o = (struct office){.taken = true, .epoch = epoch, .judge_number = number};
    book_init(&o->book, &c->state, mono(w, c));
    w->leader.offices++;
    trace(w, "coordinator %u leads term %" PRIu64 " at revision %" PRIu64, c->slot + 1, c->status.term, c->state.revision);
    if (c->state.cluster[0] == '\0')
        found_cluster(w, c);
    judge_soon(w, c, 0);
}

void office_leave(struct world *w, struct coord *c)
{
    struct office *o = &c->office;
    trace(w, "coordinator %u leads no more", c->slot + 1);
    o->taken = false;
    o->waiter_count = 0; /* whoever waits is told nothing: the outcome is unknown */
    o->verdicts = 0;
    for (uint32_t i = 0; i < w->host_count; i++) {
        struct poll *poll = &o->polls[i];
        if (poll->parked)
            refuse(w, &(struct args){.host = i, .epoch = poll->host_epoch, .number = poll->number, .coord = c->slot},
                   host_on_desired);
        poll->parked = false;
    }
    book_release(&o->book);
    o->book = (struct book){0};
}
