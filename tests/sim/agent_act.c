/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent's core asks for, done in the model: processes, control pages, slots, the store. Work of threads ends later;
 * an agent that is killed in between has done it or has not, and is never told. */
#include "tests/sim/sim.h"

struct arena *arena_of(struct host *h, const char *uid)
{
    for (uint32_t i = 0; i < JOBS_MAX; i++)
        if (h->arenas[i].there && strcmp(h->arenas[i].uid, uid) == 0)
            return &h->arenas[i];
    return NULL;
}

struct arena *arena_make(struct world *w, struct host *h, const char *uid, const char *job)
{
    struct arena *arena = arena_of(h, uid);
    for (uint32_t i = 0; i < JOBS_MAX && arena == NULL; i++)
        if (!h->arenas[i].there)
            arena = &h->arenas[i];
    if (arena == NULL) {
        violation(w, "%s keeps the arenas of %u jobs: old ones are not removed", h->name, JOBS_MAX);
        return &h->arenas[0];
    }
    arena->there = true;
    text_copy(arena->uid, sizeof arena->uid, uid);
    text_copy(arena->job, sizeof arena->job, job);
    return arena;
}

void slot_digest(const char *uid, uint32_t rank, const struct slot_model *slot, char to[DIGEST_HEX_CHARS + 1])
{
    struct rng rng = {.state = mix(mix(text_hash(uid), rank), mix(mix(slot->cut, slot->step), slot->sum))};
    rng_hex(&rng, to, DIGEST_HEX_CHARS);
}

void held_list(const struct arena *arena, bool copies, struct agent_held **ret_items, size_t *ret_count)
{
    struct agent_held *items = mem_array((size_t)WORLD_MAX * SLOTS, sizeof *items);
    size_t count = 0;
    for (uint32_t r = 0; r < WORLD_MAX; r++)
        for (uint32_t s = 0; s < SLOTS; s++) {
            const struct slot_model *slot = copies ? &arena->copies[r][s] : &arena->slots[r][s];
            if (slot->cut == 0 || !slot->summed)
                continue;
            struct agent_held *held = &items[count++];
            held->rank = r;
            held->slot = s;
            held->cut = slot->cut;
            slot_digest(arena->uid, r, slot, held->digest);
        }
    *ret_items = items;
    *ret_count = count;
}

/* The event that will answer an action. */
static struct agent_event reply_to(const struct agent_action *action, unsigned kind)
{
    struct agent_event event = {.kind = kind, .generation = action->generation, .rank = action->rank, .slot = action->slot,
                                .attempt = action->attempt, .cut = action->cut, .step = action->step};
    text_copy(event.uid, sizeof event.uid, action->uid);
    text_copy(event.job, sizeof event.job, action->job);
    return event;
}

static void fail(struct agent_event *event, enum tide_status status, const char *text)
{
    event->status = status;
    text_copy(event->text, sizeof event->text, text);
}

/* ---- starting ---- */

static bool agent_is(const struct world *w, const struct args *args)
{
    const struct host *h = &w->hosts[args->host];
    return h->agent_up && h->agent_epoch == args->epoch;
}

static void start_process(struct world *w, struct args *args)
{
    struct host *h = &w->hosts[args->host];
    if (!agent_is(w, args))
        return; /* killed between writing the directory and starting the process */
    struct step_model *step = step_find(h, args->event->uid, args->event->generation);
    if (step == NULL)
        return;
    step_begin(w, h, step);
    agent_feed_later(w, h, 0, args->event);
    step_status(w, h, step);
}

/* The step is told, and says itself what has become of it. */
static void go_over(struct world *w, struct args *args)
{
    struct host *h = &w->hosts[args->host];
    struct step_model *step = step_find(h, args->event->uid, args->number);
    struct step_spec spec;
    struct err err = {0};
    if (!agent_is(w, args))
        return; /* killed between the note and the word to the step */
    if (codec_parse(&step_spec_codec, args->text, strlen(args->text), CODEC_STRICT, &spec, &err) != TIDE_OK) {
        violation(w, "a step's spec cannot be read back: %s", err.text);
        return;
    }
    bool over = step != NULL && stay_go_over(w, h, step, &spec, args->cut);
    if (!over)
        args->event->kind = EV_STEP_FAILED;
    if (step == NULL)
        codec_release(&step_spec_codec, &spec);
    agent_feed_later(w, h, 0, args->event);
    if (over)
        step_status(w, h, step);
}

static void write_step_dir(struct world *w, struct args *args)
{
    struct host *h = &w->hosts[args->host];
    struct step_spec spec;
    struct err err = {0};
    if (!agent_is(w, args))
        return;
    struct step_model *step = NULL;
    for (size_t i = 0; i < STEPS_MAX && step == NULL; i++)
        if (!h->steps[i].there)
            step = &h->steps[i];
    if (step == NULL) {
        violation(w, "%s keeps %u step directories: old ones are not removed", h->name, STEPS_MAX);
        return;
    }
    if (codec_parse(&step_spec_codec, args->text, strlen(args->text), CODEC_STRICT, &spec, &err) != TIDE_OK) {
        violation(w, "a step's spec cannot be read back: %s", err.text);
        return;
    }
    *step = (struct step_model){.there = true, .epoch = ++h->next_step_epoch, .generation = spec.generation, .spec = spec,
                                .rank_count = spec.job.nproc_per_node, .restore_cut = args->cut};
    text_copy(step->uid, sizeof step->uid, spec.uid);
    text_copy(step->token, sizeof step->token, spec.token);
    for (uint32_t i = 0; i < step->rank_count; i++)
        step->ranks[i].rank = spec.node_rank * step->rank_count + i;
    later(w, between(w, MS(2), MS(20)), start_process, args_copy(args));
}

static void act_start(struct world *w, struct host *h, const struct agent_action *action)
{
    const struct assignment *order = action->order;
    struct agent_event event = reply_to(action, EV_STEP_STARTED);
    struct step_spec spec = {.generation = action->generation, .node_rank = order->node_rank, .master_port = order->master_port,
                             .restarts = order->restarts};
    if (!w->healed && chance(w, w->lies.start_fails)) {
        event.kind = EV_STEP_FAILED;
        fail(&event, TIDE_E_IO, "fork: Resource temporarily unavailable");
        agent_feed_later(w, h, MS(3), &event);
        return;
    }
    struct arena *arena = arena_make(w, h, action->uid, action->job);
    if (action->generation > arena->generation)
        arena->generation = action->generation;
    codec_copy(&job_spec_codec, &order->spec, &spec.job);
    text_copy(spec.uid, sizeof spec.uid, action->uid);
    text_copy(spec.node, sizeof spec.node, h->name);
    text_copy(spec.token, sizeof spec.token, order->token);
    for (size_t i = 0; i < order->peers.count; i++)
        *(struct peer *)codec_list_add(&peer_codec, &spec.peers) = order->peers.items[i];
    struct args args = {.host = host_index(w, h), .epoch = h->agent_epoch, .cut = order->restore_cut};
    args.text = codec_print(&step_spec_codec, &spec, CODEC_COMPACT);
    codec_release(&step_spec_codec, &spec);
    args.event = mem_alloc(sizeof event);
    *args.event = event;
    args.number = action->from;
    later(w, between(w, MS(1), MS(5)), action->from != 0 ? go_over : write_step_dir, args);
}

/* Room is found sooner or later; and a file that was there is there for the next generation, whose step says so from the first. */
static void act_widen(struct world *w, struct host *h, const struct agent_action *action)
{
    struct step_model *step = step_find(h, action->uid, action->generation);
    for (uint32_t i = 0; step != NULL && step->alive && i < step->rank_count; i++)
        if (!chance(w, w->lies.narrow))
            step->ranks[i].slots = SLOTS;
    if (step != NULL && step->alive)
        step_status(w, h, step);
}

/* ---- control pages ---- */

static enum agent_arm_outcome arm_page(struct world *w, struct host *h, const struct agent_action *action, uint64_t *ret_step)
{
    struct step_model *step = step_find(h, action->uid, action->generation);
    struct rank_model *rank = step != NULL && step->alive ? step_rank(step, action->rank) : NULL;
    struct arena *arena = arena_of(h, action->uid);
    if (rank == NULL || arena == NULL)
        return ARM_NO_PAGE;
    struct agent_page *page = &rank->page;
    bool same = page->armed_cut == action->cut && page->armed_attempt == action->attempt;
    if (page->armed_step == STEP_TAKEN)
        return same ? ARM_ARMED : ARM_BUSY;
    if (page->armed_step != STEP_NONE && same)
        return ARM_ARMED;
    page->armed_step = STEP_NONE;
    if (page->step >= action->step) {
        *ret_step = page->step;
        return ARM_MISSED;
    }
    check_armed(w, step, rank, &arena->slots[rank->rank][action->slot], action->cut);
    page->armed_cut = action->cut;
    page->armed_attempt = action->attempt;
    page->armed_slot = action->slot;
    page->armed_epoch = action->epoch;
    page->armed_step = action->step;
    return ARM_ARMED;
}

static void act_arm(struct world *w, struct host *h, const struct agent_action *action)
{
    struct agent_event event = reply_to(action, EV_ARMED);
    event.outcome = arm_page(w, h, action, &event.step);
    trace(w, "%s arms rank %u for step %" PRIu64 ", cut %" PRIu64 ".%u: %u", h->name, action->rank, action->step, action->cut,
          action->attempt, event.outcome);
    agent_feed_later(w, h, 0, &event);
}

static void act_disarm(struct host *h, const struct agent_action *action)
{
    struct step_model *step = step_find(h, action->uid, action->generation);
    struct rank_model *rank = step != NULL ? step_rank(step, action->rank) : NULL;
    if (rank == NULL || rank->page.armed_step == STEP_TAKEN || rank->page.armed_cut != action->cut)
        return;
    rank->page.armed_step = STEP_NONE;
}

static bool raise(uint64_t *word, uint64_t to)
{
    bool more = to > *word;
    *word = more ? to : *word;
    return more;
}

static void act_epochs(struct host *h, const struct agent_action *action)
{
    struct step_model *step = step_find(h, action->uid, action->generation);
    struct rank_model *rank = step != NULL ? step_rank(step, action->rank) : NULL;
    if (rank == NULL)
        return;
    struct epoch_order *here = &rank->page.epochs;
    raise(&here->go, action->epochs.go);
    raise(&here->flip, action->epochs.flip);
    bool settled = raise(&here->settled, action->epochs.settled), closed = raise(&here->closed, action->epochs.closed);
    if ((settled || closed) && rank->page.armed_epoch <= rank->page.epoch && rank->page.armed_step == STEP_NONE)
        rank->page.armed_step = STEP_NEXT;
}

/* ---- work of threads ---- */

static void work_sum(struct world *w, struct arena *arena, struct agent_event *event)
{
    struct slot_model *slot = &arena->slots[event->rank][event->slot];
    if (slot->cut != event->cut) {
        fail(event, TIDE_E_NOT_FOUND, "the slot holds another cut");
        return;
    }
    slot->sum = slot->content;
    slot->summed = true;
    check_summed(w, event->uid, event->rank, slot);
    slot_digest(arena->uid, event->rank, slot, event->digest);
}

static void work_find(const struct arena *arena, struct agent_event *event)
{
    for (uint32_t s = 0; s < SLOTS; s++) {
        const struct slot_model *slot = &arena->slots[event->rank][s];
        if (slot->cut != event->cut || !slot->summed)
            continue;
        if (slot->content != slot->sum) {
            fail(event, TIDE_E_CORRUPT, "chunk 0 is not what was recorded");
            return;
        }
        event->slot = s;
        slot_digest(arena->uid, event->rank, slot, event->digest);
        return;
    }
    fail(event, TIDE_E_NOT_FOUND, "no slot holds it");
}

static void shard_key(const struct agent_event *event, char *to, size_t size)
{
    snprintf(to, size, "%s/%" PRIu64 "/r%u", event->uid, event->cut, event->rank);
}

static void work_store(struct world *w, struct arena *arena, struct agent_event *event)
{
    struct slot_model *slot = &arena->slots[event->rank][event->slot];
    if (slot->cut != event->cut || !slot->summed || slot->content != slot->sum) {
        fail(event, slot->cut != event->cut ? TIDE_E_NOT_FOUND : TIDE_E_CORRUPT, "the slot is not what was recorded");
        return;
    }
    if (!depot_up(w)) {
        fail(event, TIDE_E_NOSPACE, "no space left on device");
        return;
    }
    struct object object = {.generation = slot->generation, .cut = slot->cut, .step = slot->step, .content = slot->content,
                            .sum = slot->sum, .rank = event->rank, .received = slot->received, .sent = slot->sent,
                            .logged = slot->logged};
    shard_key(event, object.key, sizeof object.key);
    text_copy(object.uid, sizeof object.uid, event->uid);
    slot_digest(arena->uid, event->rank, slot, object.digest);
    enum tide_status status = depot_put(w, &object);
    if (status != TIDE_OK) {
        fail(event, status, "another object is there");
        return;
    }
    text_copy(event->key, sizeof event->key, object.key);
    text_copy(event->digest, sizeof event->digest, object.digest);
    event->raw_bytes = event->stored_bytes = 1000;
}

static void work_fetch(struct world *w, struct arena *arena, struct agent_event *event, const char *manifest_key)
{
    const struct object *manifest = depot_find(w, manifest_key);
    if (!depot_up(w)) {
        fail(event, TIDE_E_UNAVAILABLE, "the store does not answer");
        return;
    }
    if (manifest == NULL || manifest->corrupt || strcmp(manifest->digest, event->digest) != 0 || event->rank >= manifest->world) {
        fail(event, manifest == NULL ? TIDE_E_NOT_FOUND : TIDE_E_CORRUPT, "the manifest is not what was committed");
        return;
    }
    const struct object *shard = depot_find(w, manifest->shard_keys[event->rank]);
    if (shard == NULL || shard->corrupt || strcmp(shard->digest, manifest->shard_digests[event->rank]) != 0) {
        fail(event, shard == NULL ? TIDE_E_NOT_FOUND : TIDE_E_CORRUPT, "a shard is not what was committed");
        return;
    }
    arena->slots[event->rank][event->slot] =
        (struct slot_model){.cut = shard->cut, .step = shard->step, .generation = shard->generation, .content = shard->content,
                            .sum = shard->sum, .summed = true, .received = shard->received, .sent = shard->sent,
                            .logged = shard->logged};
}

static void work_commit(struct world *w, struct agent_event *event, const char *order_text)
{
    struct cut_order order;
    struct err err = {0};
    if (codec_parse(&cut_order_codec, order_text, strlen(order_text), CODEC_LENIENT, &order, &err) != TIDE_OK) {
        violation(w, "a cut order cannot be read back: %s", err.text);
        return;
    }
    struct object object = {.manifest = true, .generation = order.generation, .cut = order.cut, .step = order.step,
                            .world = (uint32_t)order.shards.count};
    snprintf(object.key, sizeof object.key, "%s/%" PRIu64 "/manifest", event->uid, order.cut);
    text_copy(object.uid, sizeof object.uid, event->uid);
    for (uint32_t i = 0; i < order.shards.count && i < WORLD_MAX; i++) {
        text_copy(object.shard_keys[i], sizeof object.shard_keys[i], order.shards.items[i].key);
        text_copy(object.shard_digests[i], sizeof object.shard_digests[i], order.shards.items[i].digest);
        object.content = mix(object.content, text_hash(object.shard_digests[i]));
    }
    struct rng rng = {.state = mix(object.content, mix(order.cut, order.step))};
    rng_hex(&rng, object.digest, DIGEST_HEX_CHARS);
    codec_release(&cut_order_codec, &order);
    enum tide_status status = depot_up(w) ? depot_put(w, &object) : TIDE_E_NOSPACE;
    if (status != TIDE_OK)
        fail(event, status, "the manifest was not written");
    text_copy(event->key, sizeof event->key, object.key);
    text_copy(event->digest, sizeof event->digest, object.digest);
}

static size_t numbers_of(const struct strlist *texts, uint64_t *to)
{
    for (size_t i = 0; i < texts->count; i++)
        to[i] = strtoull(texts->items[i], NULL, 10);
    return texts->count;
}

static void work_sweep(struct world *w, const char *uid, const char *text)
{
    uint64_t live[TIDE_CKPTS_MAX], over[TIDE_CKPTS_MAX];
    struct assignment order;
    struct err err = {0};
    if (codec_parse(&assignment_codec, text, strlen(text), CODEC_STRICT, &order, &err) != TIDE_OK) {
        violation(w, "an order cannot be read back: %s", err.text);
        return;
    }
    struct orphan_rule rule = {.live = live, .over = over, .below = order.sweep_below};
    rule.live_count = numbers_of(&order.sweep_live, live);
    rule.over_count = numbers_of(&order.sweep_over, over);
    depot_sweep(w, uid, &rule);
    codec_release(&assignment_codec, &order);
}

static void work_purge(struct world *w, struct agent_event *event, const char *text)
{
    if (!depot_up(w)) {
        fail(event, TIDE_E_UNAVAILABLE, "the store does not answer");
        return;
    }
    if (event->cut == 0) {
        work_sweep(w, event->uid, text);
        return;
    }
    check_purge(w, event->uid, event->cut);
    depot_purge(w, event->uid, event->cut);
}

/* What a look finds is told later than it was seen. */
static void work_look(struct world *w, struct host *h, const struct arena *arena, const struct agent_event *event)
{
    struct agent_held *held = NULL;
    size_t count = 0;
    if (arena != NULL)
        held_list(arena, false, &held, &count);
    struct args args = {.host = host_index(w, h), .epoch = h->agent_epoch};
    args.event = mem_alloc(sizeof *args.event);
    *args.event = *event;
    size_t bytes = count * 64 + 1;
    args.text = mem_alloc(bytes);
    for (size_t i = 0, at = 0; i < count; i++)
        at += (size_t)snprintf(args.text + at, bytes - at, "%u %u %" PRIu64 " %s\n", held[i].rank, held[i].slot, held[i].cut,
                               held[i].digest);
    mem_free(held);
    later(w, between(w, 0, MS(2)), host_on_looked, args);
}

static void work(struct world *w, struct args *args)
{
    struct host *h = &w->hosts[args->host];
    struct agent_event *event = args->event;
    if (!agent_is(w, args))
        return;
    if (args->index != 0) { /* from another host's memory, or given back */
        char *token = strchr(args->text, ' ');
        *token++ = '\0';
        copies_fetch(w, h, args->text, token, event);
        agent_feed_later(w, h, between(w, 0, MS(2)), event);
        return;
    }
    if (event->kind == EV_UNCOPIED) {
        copies_drop(h, event);
        agent_feed_later(w, h, between(w, 0, MS(2)), event);
        return;
    }
    struct arena *arena = arena_of(h, event->uid);
    bool needs_arena = event->kind != EV_COMMITTED && event->kind != EV_PURGED && event->kind != EV_LOOKED;
    if (arena == NULL && event->kind == EV_FETCHED)
        arena = arena_make(w, h, event->uid, event->job);
    if (arena == NULL && needs_arena) {
        fail(event, TIDE_E_NOT_FOUND, "there is no arena");
    } else {
        switch (event->kind) {
        case EV_SUMMED: work_sum(w, arena, event); break;
        case EV_FOUND: work_find(arena, event); break;
        case EV_FETCHED: work_fetch(w, arena, event, args->text); break;
        case EV_LOOKED: work_look(w, h, arena, event); return;
        case EV_STORED: work_store(w, arena, event); break;
        case EV_COMMITTED: work_commit(w, event, args->text); break;
        default: work_purge(w, event, args->text); break;
        }
    }
    trace(w, "%s work %u rank %u cut %" PRIu64 " slot %u: %s", h->name, event->kind, event->rank, event->cut, event->slot,
          tide_status_name(event->status));
    agent_feed_later(w, h, between(w, 0, MS(2)), event);
}

static void act_work(struct world *w, struct host *h, const struct agent_action *action)
{
    static const unsigned kinds[ACT_KINDS] = {[ACT_SUM] = EV_SUMMED,   [ACT_FIND] = EV_FOUND,       [ACT_FETCH] = EV_FETCHED,
                                              [ACT_LOOK] = EV_LOOKED,  [ACT_STORE] = EV_STORED,     [ACT_COMMIT] = EV_COMMITTED,
                                              [ACT_PURGE] = EV_PURGED, [ACT_COPY] = EV_COPIED,      [ACT_UNCOPY] = EV_UNCOPIED};
    struct args args = {.host = host_index(w, h), .epoch = h->agent_epoch};
    struct agent_event event = reply_to(action, kinds[action->kind]);
    if (action->kind == ACT_FETCH) {
        struct arena *arena = arena_of(h, action->uid);
        if (arena != NULL) /* its old contents go first */
            memset(&arena->slots[action->rank][action->slot], 0, sizeof arena->slots[0][0]);
        text_copy(event.digest, sizeof event.digest, action->order->restore_manifest);
        args.text = mem_strdup(action->order->restore_manifest_key);
    }
    if (action->kind == ACT_COPY || (action->kind == ACT_FETCH && action->tier == LOCAL_TIER_PEER)) {
        mem_free(args.text);
        args.index = 1;
        args.text = mem_format("%s %s", action->copy != NULL ? action->copy->node : action->order->restore_peer,
                               action->order->token);
    }
    if (action->kind == ACT_COMMIT)
        args.text = codec_print(&cut_order_codec, action->stored, 0);
    if (action->kind == ACT_PURGE && action->cut == 0)
        args.text = codec_print(&assignment_codec, action->order, 0);
    args.event = mem_alloc(sizeof event);
    *args.event = event;
    bool far = action->kind == ACT_COPY || action->kind == ACT_STORE || action->kind == ACT_FETCH ||
               action->kind == ACT_COMMIT || action->kind == ACT_PURGE;
    if (action->kind == ACT_STORE && w->n1_stores_ns != 0 && strcmp(h->name, "n1") == 0) {
        later(w, w->n1_stores_ns, work, args);
        return;
    }
    if (action->kind == ACT_STORE && !w->healed && w->lies.store_lags != 0 && chance(w, w->lies.store_lags)) {
        later(w, between(w, MS(500), SECONDS(8)), work, args);
        return;
    }
    later(w, far ? between(w, MS(2), MS(120)) : between(w, 100000, MS(8)), work, args);
}

/* ---- the table ---- */

static void remove_step_dir(struct world *w, struct host *h, const struct agent_action *action)
{
    struct step_model *step = step_find(h, action->uid, action->generation);
    if (step == NULL)
        return;
    if (step->alive)
        violation(w, "%s removes the directory of a step that runs: generation %" PRIu64, h->name, step->generation);
    codec_release(&step_spec_codec, &step->spec);
    memset(step, 0, sizeof *step);
}

static void remove_arena(struct world *w, struct host *h, const struct agent_action *action)
{
    struct arena *arena = arena_of(h, action->uid);
    for (size_t s = 0; s < STEPS_MAX; s++)
        if (h->steps[s].there && h->steps[s].alive && strcmp(h->steps[s].uid, action->uid) == 0)
            violation(w, "%s removes the arena of a job whose ranks run", h->name);
    if (arena != NULL)
        memset(arena, 0, sizeof *arena);
}

static void leave_by_agent(struct world *w, struct host *h, struct step_model *step)
{
    check_ending(w, h, step);
    stay_leave(w, h, step);
}

static void end_by_agent(struct world *w, struct host *h, struct step_model *step, const struct agent_action *action)
{
    check_ending(w, h, step);
    if (action->kind == ACT_END_STEP)
        step_end(w, h, step, action->grace_ms);
    else
        step_kill(w, h, step);
}

void agent_act(struct world *w, struct host *h, const struct agent_action *action)
{
    struct step_model *step = step_find(h, action->uid, action->generation);
    if (action->kind != ACT_HEARTBEAT && action->kind != ACT_SAY)
        trace(w, "%s does %s gen %" PRIu64 " rank %u cut %" PRIu64, h->name, agent_action_names[action->kind], action->generation,
              action->rank, action->cut);
    switch (action->kind) {
    case ACT_HEARTBEAT: agent_send_heartbeat(w, h); break;
    case ACT_SAY: trace(w, "%s says: %.300s", h->name, action->text); break;
    case ACT_START_STEP: act_start(w, h, action); break;
    case ACT_LEAVE_STEP:
        if (step != NULL)
            leave_by_agent(w, h, step);
        break;
    case ACT_END_STEP:
    case ACT_KILL_STEP:
        if (step != NULL)
            end_by_agent(w, h, step, action);
        break;
    case ACT_ANSWER:
        if (step != NULL)
            step_answer(w, h, step, &action->answer);
        break;
    case ACT_WIDEN: act_widen(w, h, action); break;
    case ACT_REMOVE_STEP_DIR: remove_step_dir(w, h, action); break;
    case ACT_ARM: act_arm(w, h, action); break;
    case ACT_DISARM: act_disarm(h, action); break;
    case ACT_EPOCHS: act_epochs(h, action); break;
    case ACT_REMOVE_ARENA: remove_arena(w, h, action); break;
    default: act_work(w, h, action); break;
    }
}
