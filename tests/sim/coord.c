/* SPDX-License-Identifier: Apache-2.0 */
/* A member of the group: the real Raft core with a disk that is durable only up to the last fsync, and the replicated state. */
#include "tests/sim/sim.h"

#define IMAGE_EVERY 40u  /* entries between snapshots */
#define COMPARE_EVERY 41u /* entries between checks that a member's state is that of all */

/* ---- the durable log ---- */

static void put_entry(struct coord_disk *d, const struct raft_entry *entry)
{
    if (d->count == d->room) {
        d->room = d->room ? 2 * d->room : 256;
        d->log = mem_grow(d->log, d->room, sizeof d->log[0]);
    }
    d->log[d->count++] = *entry;
    raft_blob_ref(entry->blob);
}

static void drop_from(struct coord_disk *d, uint64_t from)
{
    while (d->count > 0 && d->first + d->count > from)
        raft_blob_unref(d->log[--d->count].blob);
}

static void drop_through(struct coord_disk *d, uint64_t through)
{
    size_t gone = 0;
    while (gone < d->count && d->first + gone <= through)
        raft_blob_unref(d->log[gone++].blob);
    memmove(d->log, d->log + gone, (d->count - gone) * sizeof d->log[0]);
    d->count -= gone;
    d->first += gone;
}

static void write_through(struct world *w, struct coord_disk *d, const struct raft_write *write, size_t entries)
{
    if (write->has_ballot)
        d->ballot = write->ballot;
    if (write->reset_to != 0) {
        drop_from(d, 0);
        d->first = write->reset_to;
    }
    if (write->truncate_from != 0)
        drop_from(d, write->truncate_from);
    for (size_t i = 0; i < entries; i++) {
        if (write->entries[i].index != d->first + d->count)
            violation(w, "entry %" PRIu64 " is written behind %" PRIu64, write->entries[i].index, d->first + d->count - 1);
        put_entry(d, &write->entries[i]);
    }
}

static void write_release(struct raft_write *write)
{
    for (size_t i = 0; i < write->count; i++)
        raft_blob_unref(write->entries[i].blob);
    mem_free(write->entries);
}

static void queue_drop(struct coord_disk *d, size_t count)
{
    for (size_t i = 0; i < count; i++)
        write_release(&d->queue[i]);
    d->queued -= count;
    if (d->queued > 0)
        memmove(d->queue, d->queue + count, d->queued * sizeof d->queue[0]);
}

static void image_release(struct image *image)
{
    mem_free(image->text);
    *image = (struct image){0};
}

static void image_keep(struct coord_disk *d, struct image image)
{
    image_release(&d->images[1]);
    d->images[1] = d->images[0];
    d->images[0] = image;
    /* As tidemarkd does: back to the older image, so that a damaged one costs nothing. */
    if (d->images[1].index > 0)
        drop_through(d, d->images[1].index);
}

/* ---- one step of the core, and what follows ---- */

static void step(struct world *w, struct coord *c, struct raft_event *event);

/* Is the process that began this still there? A stopped one will be, later. */
static bool stale(struct world *w, struct args *args, happen_fn again)
{
    struct coord *c = &w->coords[args->coord];
    if (!c->up || args->epoch != c->epoch)
        return true;
    if (c->paused_until <= w->now)
        return false;
    later(w, c->paused_until - w->now, again, args_copy(args));
    return true;
}

static void synced(struct world *w, struct args *args)
{
    struct coord *c = &w->coords[args->coord];
    struct coord_disk *d = &c->disk;
    if (stale(w, args, synced))
        return;
    size_t done = d->syncing;
    uint64_t number = d->queue[done - 1].number;
    for (size_t i = 0; i < done; i++)
        write_through(w, d, &d->queue[i], d->queue[i].count);
    queue_drop(d, done);
    d->syncing = 0;
    step(w, c, &(struct raft_event){.kind = RAFT_EV_PERSISTED, .number = number});
}

static void sync_soon(struct world *w, struct coord *c)
{
    if (c->disk.syncing > 0 || c->disk.queued == 0 || !c->up)
        return;
    c->disk.syncing = c->disk.queued;
    uint64_t delay = !w->healed && chance(w, 5000) ? between(w, MS(50), MS(800)) : between(w, 80000, MS(3));
    later(w, delay, synced, (struct args){.coord = c->slot, .epoch = c->epoch});
}

static void queue_write(struct world *w, struct coord *c, struct raft_write *write)
{
    struct coord_disk *d = &c->disk;
    if (write->number == 0)
        return;
    if (d->queued == d->queue_room) {
        d->queue_room = d->queue_room ? 2 * d->queue_room : 16;
        d->queue = mem_grow(d->queue, d->queue_room, sizeof d->queue[0]);
    }
    d->queue[d->queued++] = *write;
    *write = (struct raft_write){0};
    sync_soon(w, c);
}

/* ---- messages ---- */

static void on_message(struct world *w, struct args *args)
{
    struct coord *c = &w->coords[args->coord];
    if (!c->up)
        return;
    if (c->paused_until > w->now) { /* its socket holds it */
        later(w, c->paused_until - w->now, on_message, args_copy(args));
        return;
    }
    step(w, c, &(struct raft_event){.kind = RAFT_EV_MESSAGE, .message = args->message});
}

static bool fill_chunk(const struct coord *c, struct raft_message *message)
{
    for (size_t i = 0; i < 2; i++) {
        const struct image *image = &c->disk.images[i];
        if (image->index == message->snapshot.index && image->text != NULL) {
            message->snapshot.data = raft_blob_create(image->text + message->snapshot.offset, message->snapshot.bytes);
            return true;
        }
    }
    return false;
}

static void send(struct world *w, struct coord *c, struct raft_message *from)
{
    struct raft_message *message = mem_alloc(sizeof *message);
    *message = *from;
    *from = (struct raft_message){0};
    struct args args = {.coord = (uint32_t)message->to - 1, .message = message};
    if (message->to > w->coord_count || (message->kind == RAFT_MSG_SNAPSHOT && !fill_chunk(c, message)))
        args_release(&args);
    else
        send_between_coords(w, c, args.coord, on_message, args);
}

/* ---- apply ---- */

static void compare(struct world *w, const struct coord *c)
{
    char what[40];
    snprintf(what, sizeof what, "the state of coordinator %u", c->slot + 1);
    char *truth = codec_print(&state_codec, &w->leader.state, CODEC_STRICT);
    truth_expect(w, &c->state, truth, what);
    mem_free(truth);
}

static void apply_one(struct world *w, struct coord *c, const struct raft_entry *entry)
{
    struct command command;
    struct outcome outcome = {0};
    struct err err = {0};
    enum tide_status status = TIDE_OK;
    truth_commit(w, entry);
    c->applied = entry->index;
    if (w->stop)
        return;
    if (entry->type == RAFT_COMMAND && truth_parse(w, entry->blob->data, &command)) {
        if (command_level(&command) > c->knows || command.level > c->knows)
            violation(w, "coordinator %u, which knows level %u, is given %s", c->slot + 1, c->knows, command_kind_names[command.kind]);
        status = apply(&c->state, &command, entry->index, &outcome, &err);
        codec_release(&command_codec, &command);
    }
    if (c->applied == w->leader.count && c->applied % COMPARE_EVERY == c->slot)
        compare(w, c);
    if (c->office.taken)
        office_applied(w, c, entry, status, &outcome);
}

static void load_image(struct world *w, struct coord *c, uint64_t index)
{
    struct err err = {0};
    state_release(&c->state);
    c->applied = 0;
    for (size_t i = 0; i < 2; i++) {
        const struct image *image = &c->disk.images[i];
        if (image->text == NULL || image->index != index)
            continue;
        if (codec_parse(&state_codec, image->text, strlen(image->text), CODEC_STRICT, &c->state, &err) != TIDE_OK)
            violation(w, "coordinator %u cannot read its snapshot: %s", c->slot + 1, err.text);
        c->applied = index;
        return;
    }
    if (index != 0)
        violation(w, "coordinator %u shall restore %" PRIu64 " and has no such snapshot", c->slot + 1, index);
}

static void image_taken(struct world *w, struct args *args)
{
    struct coord *c = &w->coords[args->coord];
    struct image image = {.index = args->number, .term = args->generation, .text = args->text};
    struct err err = {0};
    if (stale(w, args, image_taken) || image.index <= c->disk.images[0].index)
        return;
    if (raft_config_at(c->raft, image.index, &image.config, &err) != TIDE_OK)
        return;
    args->text = NULL;
    image_keep(&c->disk, image);
    step(w, c, &(struct raft_event){.kind = RAFT_EV_SNAPSHOT,
                                    .number = image.index,
                                    .total = strlen(image.text),
                                    .digest = text_hash(image.text)});
}

static void take_image(struct world *w, struct coord *c)
{
    if (c->applied < c->disk.images[0].index + IMAGE_EVERY)
        return;
    struct args args = {.coord = c->slot, .epoch = c->epoch, .number = c->applied, .generation = raft_term_at(c->raft, c->applied)};
    args.text = codec_print(&state_codec, &c->state, CODEC_STRICT);
    later(w, between(w, MS(1), MS(30)), image_taken, args);
}

/* ---- receiving an image ---- */

static void installed(struct world *w, struct args *args)
{
    struct coord *c = &w->coords[args->coord];
    struct coord_disk *d = &c->disk;
    if (stale(w, args, installed))
        return;
    if (text_hash(d->receiving.text) != d->receiving_digest) {
        violation(w, "coordinator %u has put an image together that is not what was sent", c->slot + 1);
        return;
    }
    image_keep(d, d->receiving);
    d->receiving = (struct image){0};
    w->leader.installs++;
    trace(w, "coordinator %u has the snapshot of %" PRIu64, c->slot + 1, args->number);
    step(w, c, &(struct raft_event){.kind = RAFT_EV_INSTALLED, .number = args->number});
}

static void chunk_stored(struct world *w, struct args *args)
{
    struct coord *c = &w->coords[args->coord];
    if (!stale(w, args, chunk_stored))
        step(w, c, &(struct raft_event){.kind = RAFT_EV_CHUNK_STORED, .number = args->number, .offset = c->disk.received});
}

static void take_chunk(struct world *w, struct coord *c, struct raft_chunk *chunk)
{
    struct coord_disk *d = &c->disk;
    const struct raft_snapshot *s = &chunk->snapshot;
    if (d->receiving.index != s->index || d->receiving_digest != s->digest || d->receiving_total != s->total) {
        image_release(&d->receiving);
        d->receiving = (struct image){.index = s->index, .term = s->term, .config = s->config, .text = mem_alloc(s->total + 1)};
        d->receiving_total = s->total;
        d->receiving_digest = s->digest;
        d->received = 0;
    }
    if (chunk->offset == d->received) {
        memcpy(d->receiving.text + d->received, chunk->data->data, chunk->data->bytes);
        d->received += chunk->data->bytes;
    }
    later(w, between(w, 50000, MS(2)), d->received == s->total ? installed : chunk_stored,
          (struct args){.coord = c->slot, .epoch = c->epoch, .number = s->index});
}

/* ---- the shell, in the order raft.h asks for ---- */

static void look_at_office(struct world *w, struct coord *c)
{
    bool ready = c->status.ready && c->applied == c->status.commit;
    if (c->office.taken && c->status.role != RAFT_LEADER)
        office_leave(w, c);
    else if (!c->office.taken && ready)
        office_take(w, c);
}

static void follow_update(struct world *w, struct coord *c, struct raft_update *update)
{
    queue_write(w, c, &update->write);
    for (size_t i = 0; i < update->message_count; i++)
        send(w, c, &update->messages[i]);
    if (update->restore != 0) {
        if (update->restore > w->leader.count)
            violation(w, "coordinator %u restores %" PRIu64 ", more than was ever committed", c->slot + 1, update->restore);
        load_image(w, c, update->restore);
    }
    uint64_t before = c->applied;
    while (c->applied < update->commit && !w->stop)
        apply_one(w, c, raft_entry_at(c->raft, c->applied + 1));
    if (w->stop)
        return;
    if (c->office.taken && c->applied > before)
        office_batch_applied(w, c);
    if (update->chunk.snapshot.index != 0)
        take_chunk(w, c, &update->chunk);
    if (c->applied > before)
        take_image(w, c);
}

static enum tide_status step_asked(struct world *w, struct coord *c, struct raft_event *event, struct err *err)
{
    struct raft_update update = {0};
    enum tide_status status = raft_step(c->raft, event, &update, err);
    struct err broken = {0};
    raft_get_status(c->raft, &c->status);
    if (status == TIDE_E_CORRUPT)
        violation(w, "coordinator %u stops: %s", c->slot + 1, err->text);
    if (!w->stop)
        follow_update(w, c, &update);
    raft_update_release(&update);
    if (!w->stop && w->events % 16 == 0 && raft_check(c->raft, &broken) != TIDE_OK)
        violation(w, "%s", broken.text);
    if (!w->stop)
        look_at_office(w, c);
    return status;
}

static void step(struct world *w, struct coord *c, struct raft_event *event)
{
    struct err err = {0};
    (void)step_asked(w, c, event, &err);
    if (c->up)
        sync_soon(w, c);
}

/* With its NUL, so that whoever applies it finds text. */
enum tide_status coord_propose(struct world *w, struct coord *c, const char *text, struct raft_entry *ret_entry, struct err *err)
{
    struct raft_entry entry = {.type = RAFT_COMMAND, .blob = raft_blob_create(text, strlen(text) + 1)};
    enum tide_status status =
        step_asked(w, c, &(struct raft_event){.kind = RAFT_EV_PROPOSE, .entries = &entry, .count = 1}, err);
    raft_blob_unref(entry.blob);
    *ret_entry = entry;
    return status;
}

static void tick(struct world *w, struct args *args)
{
    struct coord *c = &w->coords[args->coord];
    if (stale(w, args, tick))
        return;
    later(w, c->tick_ns, tick, (struct args){.coord = c->slot, .epoch = c->epoch});
    step(w, c, &(struct raft_event){.kind = RAFT_EV_TICK});
}

void coord_pause(struct world *w, struct coord *c, uint64_t time_ns)
{
    trace(w, "coordinator %u is stopped", c->slot + 1);
    c->paused_until = w->now + time_ns;
}

/* ---- life ---- */

static void found(struct world *w, struct coord *c)
{
    struct raft_config config = {0};
    struct raft_entry first;
    struct err err = {0};
    for (uint32_t i = 0; i < w->coord_count; i++) {
        struct raft_member member = {.id = i + 1, .voter = true};
        snprintf(member.peer, sizeof member.peer, "c%u:1", i + 1);
        if (raft_config_add(&config, &member, &err) != TIDE_OK)
            violation(w, "no first configuration: %s", err.text);
    }
    raft_first_entry(&config, &first);
    c->disk.first = 1;
    c->disk.ballot.term = 1;
    put_entry(&c->disk, &first);
    raft_blob_unref(first.blob);
}

void coord_boot(struct world *w, struct coord *c)
{
    struct coord_disk *d = &c->disk;
    struct err err = {0};
    if (c->up || w->stop)
        return;
    c->knows = c->knows_next;
    if (d->first == 0)
        found(w, c);
    const struct image *image = &d->images[0];
    /* A snapshot has replaced a log that does not reach it or went another way. */
    bool holds = image->index >= d->first && image->index < d->first + d->count;
    if (image->index + 1 < d->first || image->index > d->first + d->count - 1 ||
        (holds && d->log[image->index - d->first].term != image->term)) {
        drop_from(d, 0);
        d->first = image->index + 1;
    }
    struct raft_options options = {
        .id = c->slot + 1,
        .seed = rng_next(&w->rng),
        .ballot = d->ballot,
        .snapshot = {.index = image->index, .term = image->term, .config = image->config},
        .entries = d->log,
        .count = d->count};
    if (image->text != NULL) {
        options.snapshot.total = strlen(image->text);
        options.snapshot.digest = text_hash(image->text);
    }
    if (raft_create(&options, &c->raft, &err) != TIDE_OK) {
        violation(w, "coordinator %u cannot start from its disk: %s", c->slot + 1, err.text);
        return;
    }
    c->epoch++;
    c->up = w->leader.up = true;
    c->paused_until = 0;
    c->rng.state = rng_next(&w->rng);
    c->mono_base = rng_below(&w->rng, SECONDS(1000)); /* another machine's clock, as far as anybody may assume */
    c->wall_skew_ms = rng_below(&w->rng, 10000);      /* and its wall clock may be behind that of the last life */
    c->tick_ns = MS(RAFT_TICK_MS) / 100 * between(w, 85, 118);
    raft_get_status(c->raft, &c->status);
    load_image(w, c, image->index);
    trace(w, "coordinator %u up: term %" PRIu64 ", snapshot %" PRIu64 ", last %" PRIu64, c->slot + 1, c->status.term,
          image->index, c->status.last);
    later(w, between(w, 1, c->tick_ns), tick, (struct args){.coord = c->slot, .epoch = c->epoch});
}

/* kill -9: what was synced stays; of what was under way the disk may have written some, in order, the last one in part. */
void coord_crash(struct world *w, struct coord *c)
{
    struct coord_disk *d = &c->disk;
    if (!c->up)
        return;
    size_t keep = (size_t)rng_below(&w->rng, d->queued + 1);
    for (size_t i = 0; i < keep; i++)
        write_through(w, d, &d->queue[i], d->queue[i].count);
    if (keep < d->queued && d->queue[keep].count > 0)
        write_through(w, d, &d->queue[keep], (size_t)rng_below(&w->rng, d->queue[keep].count));
    trace(w, "coordinator %u killed at entry %" PRIu64 ", %zu of %zu writes under way reached the disk", c->slot + 1, c->applied,
          keep, d->queued);
    queue_drop(d, d->queued);
    d->syncing = 0;
    if (c->office.taken)
        office_leave(w, c);
    image_release(&d->receiving);
    d->receiving_total = 0;
    raft_free(c->raft);
    c->raft = NULL;
    c->up = false;
    c->epoch++;
    c->status = (struct raft_status){0};
    state_release(&c->state);
    c->applied = 0;
    w->leader.up = false;
    for (uint32_t i = 0; i < w->coord_count; i++)
        w->leader.up = w->leader.up || w->coords[i].up;
}

struct coord *coord_in_office(struct world *w)
{
    struct coord *best = NULL;
    for (uint32_t i = 0; i < w->coord_count; i++) {
        struct coord *c = &w->coords[i];
        if (c->up && c->office.taken && (best == NULL || c->status.term > best->status.term))
            best = c;
    }
    return best;
}

void leader_boot(struct world *w)
{
    if (w->coord_count == 0)
        w->coord_count = 1;
    for (uint32_t i = 0; i < w->coord_count; i++) {
        w->coords[i].slot = i;
        coord_boot(w, &w->coords[i]);
    }
}

void leader_crash(struct world *w)
{
    for (uint32_t i = 0; i < w->coord_count; i++)
        coord_crash(w, &w->coords[i]);
    check_replay(w);
}

void check_coords_agree(struct world *w)
{
    for (uint32_t i = 0; i < w->coord_count && !w->stop; i++)
        if (w->coords[i].up && w->coords[i].applied == w->leader.count)
            compare(w, &w->coords[i]);
}

void leader_release(struct world *w)
{
    struct truth_log *l = &w->leader;
    for (uint32_t i = 0; i < COORDS_MAX; i++) {
        struct coord *c = &w->coords[i];
        struct coord_disk *d = &c->disk;
        book_release(&c->office.book);
        mem_free(c->office.waiters);
        state_release(&c->state);
        raft_free(c->raft);
        queue_drop(d, d->queued);
        mem_free(d->queue);
        drop_from(d, 0);
        mem_free(d->log);
        image_release(&d->images[0]);
        image_release(&d->images[1]);
        image_release(&d->receiving);
    }
    state_release(&l->state);
    while (l->count > 0)
        mem_free(l->log[--l->count].text);
    mem_free(l->log);
    mem_free(l->image);
}
