/* SPDX-License-Identifier: Apache-2.0 */
/* A machine, and the agent's shell on it: registers, beats, polls, and tells the real core what it sees. */
#include "tests/sim/sim.h"

#define REQUEST_TIMEOUT_MS 2000u
#define POLL_TIMEOUT_MS 8000u
#define POLL_AGAIN_MS 250u
#define REGISTER_AGAIN_MS 300u
#define BEAT_MS 250u

uint32_t host_index(const struct world *w, const struct host *h)
{
    return (uint32_t)(h - w->hosts);
}

/* Is the agent that asked for this still the one? A stopped one will be, later. */
static bool stale(struct world *w, struct args *args, happen_fn again)
{
    struct host *h = &w->hosts[args->host];
    if (!h->agent_up || h->agent_epoch != args->epoch)
        return true;
    if (h->stopped_until <= w->now)
        return false;
    later(w, h->stopped_until - w->now, again, args_copy(args));
    return true;
}

static struct args mine(const struct world *w, const struct host *h)
{
    return (struct args){.host = host_index(w, h), .epoch = h->agent_epoch, .coord = h->coord};
}

static void poll(struct world *w, struct host *h);

/* What waits at the one asked before may wait there for long: it is asked for again where answers come from. */
static void turn_to(struct world *w, struct host *h, uint32_t coord)
{
    bool moved = h->coord != coord;
    h->coord = coord;
    if (moved && h->registered && !h->registering)
        poll(w, h);
}

/* Nobody answers there, or not as a leader would: the next one, another time. */
static void ask_another(struct world *w, struct host *h, uint32_t asked)
{
    if (h->coord == asked)
        turn_to(w, h, (h->coord + 1) % w->coord_count);
}

/* ---- feeding the core ---- */

static void poll_pages(struct world *w, struct args *args)
{
    if (stale(w, args, poll_pages))
        return;
    struct host *h = &w->hosts[args->host];
    h->polling_pages = false;
    agent_look_at_pages(w, h);
}

void agent_feed(struct world *w, struct host *h, const struct agent_event *event)
{
    agent_actions_clear(&h->actions);
    agent_step(h->core, event, w->now, &h->actions);
    for (size_t i = 0; i < h->actions.count && !w->stop; i++)
        agent_act(w, h, &h->actions.items[i]);
    if (agent_look_ms(h->core) != 0 && !h->polling_pages) {
        h->polling_pages = true;
        later(w, MS(agent_look_ms(h->core)), poll_pages, mine(w, h));
    }
}

static void feed_now(struct world *w, struct args *args)
{
    if (!stale(w, args, feed_now))
        agent_feed(w, &w->hosts[args->host], args->event);
}

void agent_feed_later(struct world *w, struct host *h, uint64_t delay_ns, const struct agent_event *event)
{
    struct args args = mine(w, h);
    args.event = mem_alloc(sizeof *args.event);
    *args.event = *event;
    later(w, delay_ns, feed_now, args);
}

void host_on_looked(struct world *w, struct args *args)
{
    if (stale(w, args, host_on_looked))
        return;
    struct agent_held held[WORLD_MAX * SLOTS];
    int used = 0;
    size_t count = 0;
    for (const char *at = args->text; count < WORLD_MAX * SLOTS; at += used, count++) {
        struct agent_held *to = &held[count];
        if (sscanf(at, "%u %u %" SCNu64 " %32s\n%n", &to->rank, &to->slot, &to->cut, to->digest, &used) != 4)
            break;
    }
    args->event->held = held;
    args->event->held_count = count;
    agent_feed(w, &w->hosts[args->host], args->event);
}

static void tick(struct world *w, struct args *args)
{
    if (stale(w, args, tick))
        return;
    struct host *h = &w->hosts[args->host];
    later(w, MS(AGENT_TICK_MS), tick, mine(w, h));
    agent_feed(w, h, &(struct agent_event){.kind = EV_TICK});
    if (!h->polling_pages)
        agent_look_at_pages(w, h);
}

void agent_look_at_pages(struct world *w, struct host *h)
{
    for (size_t s = 0; s < STEPS_MAX; s++) {
        const struct step_model *step = &h->steps[s];
        for (uint32_t r = 0; step->there && step->alive && r < step->rank_count && !w->stop; r++) {
            struct agent_event event = {.kind = EV_PAGE, .generation = step->generation, .rank = step->ranks[r].rank};
            text_copy(event.uid, sizeof event.uid, step->uid);
            event.page = step->ranks[r].page;
            event.comms = step->ranks[r].comms;
            agent_feed(w, h, &event);
        }
    }
}

/* ---- register ---- */

static void register_now(struct world *w, struct args *args);

static void register_timeout(struct world *w, struct args *args)
{
    if (stale(w, args, register_timeout))
        return;
    struct host *h = &w->hosts[args->host];
    if (!h->registering || h->register_number != args->number)
        return;
    ask_another(w, h, args->coord);
    register_now(w, args);
}

static void register_now(struct world *w, struct args *args)
{
    if (stale(w, args, register_now))
        return;
    struct host *h = &w->hosts[args->host];
    struct node_hello hello = {.mesh_port = 7000, .log_port = 7001, .slots = h->slots};
    text_copy(hello.name, sizeof hello.name, h->name);
    text_copy(hello.domain, sizeof hello.domain, h->domain);
    text_copy(hello.uid, sizeof hello.uid, h->uid);
    text_copy(hello.incarnation, sizeof hello.incarnation, h->incarnation);
    text_copy(hello.host, sizeof hello.host, h->name);
    snprintf(hello.address, sizeof hello.address, "10.0.0.%u", args->host + 1);
    h->registering = true;
    h->register_number++;
    struct args ask = mine(w, h);
    ask.number = h->register_number;
    later(w, MS(REQUEST_TIMEOUT_MS), register_timeout, ask);
    ask.text = codec_print(&node_hello_codec, &hello, 0);
    send_to_leader(w, h, leader_on_register, ask);
}

static void register_again(struct world *w, struct host *h)
{
    if (h->registering)
        return;
    h->registering = true;
    h->registered = false;
    later(w, MS(REGISTER_AGAIN_MS), register_now, mine(w, h));
}

static void beat_timer(struct world *w, struct args *args)
{
    if (stale(w, args, beat_timer))
        return;
    struct host *h = &w->hosts[args->host];
    later(w, MS(BEAT_MS), beat_timer, mine(w, h));
    agent_send_heartbeat(w, h);
}

void host_on_registered(struct world *w, struct args *args)
{
    if (stale(w, args, host_on_registered))
        return;
    struct host *h = &w->hosts[args->host];
    struct node_welcome welcome;
    struct err err = {0};
    if (!h->registering || h->register_number != args->number)
        return;
    h->registering = false;
    h->coord = args->coord;
    if (args->slot == TIDE_E_UNAVAILABLE)
        ask_another(w, h, args->coord);
    if (args->slot != TIDE_OK) {
        trace(w, "%s is not let in: %s", h->name, tide_status_name((enum tide_status)args->slot));
        register_again(w, h);
        return;
    }
    if (codec_parse(&node_welcome_codec, args->text, strlen(args->text), CODEC_LENIENT, &welcome, &err) != TIDE_OK) {
        violation(w, "a welcome cannot be read: %s", err.text);
        return;
    }
    h->registered = true;
    h->first_poll = h->poll_number;
    text_copy(h->cluster, sizeof h->cluster, welcome.cluster);
    struct agent_event event = {.kind = EV_REGISTERED};
    text_copy(event.cluster, sizeof event.cluster, welcome.cluster);
    agent_feed(w, h, &event);
    poll(w, h);
}

/* ---- heartbeat: one in flight, the newest truth next ---- */

static void beat_timeout(struct world *w, struct args *args)
{
    if (stale(w, args, beat_timeout))
        return;
    struct host *h = &w->hosts[args->host];
    if (!h->beat_in_flight || h->beat_number != args->number)
        return;
    h->beat_in_flight = false;
    ask_another(w, h, args->coord);
    agent_send_heartbeat(w, h);
}

void agent_send_heartbeat(struct world *w, struct host *h)
{
    if (!h->registered)
        return;
    if (h->beat_in_flight) {
        h->beat_due = true;
        return;
    }
    struct heartbeat heartbeat;
    agent_heartbeat(h->core, w->now, &heartbeat);
    h->beat_in_flight = true;
    h->beat_due = false;
    h->beat_number++;
    struct args args = mine(w, h);
    args.number = h->beat_number;
    later(w, MS(1000), beat_timeout, args);
    args.text = codec_print(&heartbeat_codec, &heartbeat, CODEC_COMPACT);
    codec_release(&heartbeat_codec, &heartbeat);
    send_to_leader(w, h, leader_on_heartbeat, args);
}

void host_on_beat_answer(struct world *w, struct args *args)
{
    if (stale(w, args, host_on_beat_answer))
        return;
    struct host *h = &w->hosts[args->host];
    if (!h->beat_in_flight || h->beat_number != args->number)
        return;
    h->beat_in_flight = false;
    if (args->slot == TIDE_E_UNAVAILABLE)
        ask_another(w, h, args->coord); /* with the next beat of the timer */
    else
        turn_to(w, h, args->coord);
    if (args->slot == TIDE_E_NOT_FOUND || args->slot == TIDE_E_STALE)
        register_again(w, h);
    else if (h->beat_due)
        agent_send_heartbeat(w, h);
}

/* ---- desired ---- */

static void poll_timeout(struct world *w, struct args *args)
{
    if (stale(w, args, poll_timeout))
        return;
    struct host *h = &w->hosts[args->host];
    if (!h->registered || h->poll_number != args->number)
        return;
    if (h->coord == args->coord)
        h->coord = (h->coord + 1) % w->coord_count;
    poll(w, h);
}

static void poll(struct world *w, struct host *h)
{
    struct args args = mine(w, h);
    args.number = ++h->poll_number;
    args.step = agent_revision(h->core);
    text_copy(args.uid, sizeof args.uid, h->incarnation);
    later(w, MS(POLL_TIMEOUT_MS), poll_timeout, args);
    send_to_leader(w, h, leader_on_desired, args);
}

void host_on_desired(struct world *w, struct args *args)
{
    if (stale(w, args, host_on_desired))
        return;
    struct host *h = &w->hosts[args->host];
    struct desired desired;
    struct err err = {0};
    bool late = args->number != h->poll_number;
    if (!h->registered || args->number <= h->first_poll || (late && args->slot != TIDE_OK))
        return;
    if (args->slot == TIDE_E_UNAVAILABLE) {
        later(w, MS(POLL_AGAIN_MS), poll_timeout,
              (struct args){.host = args->host, .epoch = args->epoch, .number = args->number, .coord = args->coord});
        return;
    }
    if (args->slot != TIDE_OK) {
        register_again(w, h);
        return;
    }
    if (codec_parse(&desired_codec, args->text, strlen(args->text), CODEC_LENIENT, &desired, &err) != TIDE_OK) {
        violation(w, "a desired state cannot be read: %s", err.text);
        return;
    }
    agent_feed(w, h, &(struct agent_event){.kind = EV_DESIRED, .desired = &desired});
    codec_release(&desired_codec, &desired);
    if (!late) /* else: an answer that was given up, or came twice */
        poll(w, h);
}

/* ---- life ---- */

static void find_arenas(struct world *w, struct host *h)
{
    for (uint32_t i = 0; i < JOBS_MAX; i++) {
        struct arena *arena = &h->arenas[i];
        if (!arena->there)
            continue;
        struct agent_event event = {.kind = EV_ARENA_FOUND, .generation = arena->generation};
        struct agent_held *held = NULL, *copies = NULL;
        text_copy(event.uid, sizeof event.uid, arena->uid);
        text_copy(event.job, sizeof event.job, arena->job);
        held_list(arena, false, &held, &event.held_count);
        held_list(arena, true, &copies, &event.copies_count);
        event.held = held;
        event.copies = copies;
        agent_feed(w, h, &event);
        mem_free(held);
        mem_free(copies);
    }
}

static void find_steps(struct world *w, struct host *h)
{
    for (size_t s = 0; s < STEPS_MAX; s++) {
        struct step_model *step = &h->steps[s];
        if (!step->there)
            continue;
        struct agent_event found = {.kind = EV_STEP_FOUND, .spec = &step->spec};
        for (uint32_t r = 0; r < step->rank_count; r++)
            found.stays = found.stays || step->ranks[r].page.stays;
        agent_feed(w, h, &found);
        /* Connect, or read the status it left behind. */
        step_status(w, h, step);
        if (step->alive)
            continue;
        struct agent_event gone = {.kind = EV_STEP_GONE, .generation = step->generation};
        text_copy(gone.uid, sizeof gone.uid, step->uid);
        agent_feed_later(w, h, MS(1), &gone);
    }
}

void agent_boot(struct world *w, struct host *h)
{
    struct agent_identity identity = {0};
    if (!h->up || h->agent_up)
        return;
    h->agent_epoch++;
    h->agent_up = true;
    h->registered = h->registering = h->beat_in_flight = h->beat_due = h->polling_pages = false;
    h->stopped_until = 0;
    rng_hex(&w->rng, h->incarnation, TIDE_UID_CHARS);
    text_copy(identity.node, sizeof identity.node, h->name);
    text_copy(identity.uid, sizeof identity.uid, h->uid);
    text_copy(identity.incarnation, sizeof identity.incarnation, h->incarnation);
    text_copy(identity.cluster, sizeof identity.cluster, h->cluster);
    h->core = agent_create(&identity);
    trace(w, "agent of %s up", h->name);
    sick_agent_starts(w, h);
    find_arenas(w, h);
    find_steps(w, h);
    later(w, MS(AGENT_TICK_MS), tick, mine(w, h));
    later(w, MS(BEAT_MS), beat_timer, mine(w, h));
    register_now(w, &(struct args){.host = host_index(w, h), .epoch = h->agent_epoch});
}

void agent_crash(struct world *w, struct host *h)
{
    if (!h->agent_up)
        return;
    trace(w, "agent of %s killed", h->name);
    h->agent_up = false;
    h->agent_epoch++;
    agent_free(h->core);
    h->core = NULL;
}

void host_boot(struct world *w, struct host *h)
{
    h->up = true;
    sick_host_starts(h);
    trace(w, "%s is on", h->name);
    agent_boot(w, h);
}

/* Power off: memory is gone, and with it arenas and processes. The disk with the step directories stays, or is a new one. */
void host_lose(struct world *w, struct host *h, bool wipe_state)
{
    if (!h->up)
        return;
    trace(w, "%s is off%s", h->name, wipe_state ? ", its disk too" : "");
    agent_crash(w, h);
    h->up = false;
    for (size_t s = 0; s < STEPS_MAX; s++) {
        struct step_model *step = &h->steps[s];
        step->alive = false;
        for (uint32_t r = 0; r < step->rank_count; r++)
            step->ranks[r].alive = step->ranks[r].asking = false;
        if (wipe_state) {
            codec_release(&step_spec_codec, &step->spec);
            memset(step, 0, sizeof *step);
        }
    }
    memset(h->arenas, 0, sizeof h->arenas);
    if (!wipe_state)
        return;
    rng_hex(&w->rng, h->uid, TIDE_UID_CHARS);
    h->cluster[0] = '\0';
}
