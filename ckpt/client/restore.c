/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/team.h"
#include "ckpt/base/text.h"
#include "ckpt/client/client.h"

#define CHUNKS_BYTES ((size_t)DEVICE_LANES * CHUNK_BYTES)
#define RESTORE_THREADS (DEVICE_LANES / 2) /* while the program waits: what they do is bounded by memory beyond that */

/* A slot on its way back into the program. */
struct source {
    struct slot slot;
    struct slot_sum sum;
    struct region **targets;     /* by the slot's region number */
    struct slot_region *regions; /* a copy, as it was verified */
    struct slot_part *parts;     /* the same; NULL: there are none */
    uint32_t region_count;
    struct region channel, held; /* where messages go, which are no region of the program's; data is owned */
    /* CHUNKS_BYTES: what is hashed is what is handed over, whatever becomes of shared memory; some are read and
     * checked while others are on their way to a device. A chunk of one region in host memory needs none of it. */
    unsigned char *chunks;
};

static void source_release(const struct tide *tide, struct source *s)
{
    for (unsigned lane = 0; lane < DEVICE_LANES; lane++)
        (void)!devices_copy_in_wait(tide, lane, NULL);
    devices_unpin(tide, s->chunks);
    slot_unmap(&s->slot);
    slot_sum_release(&s->sum);
    mem_free(s->targets);
    mem_free(s->regions);
    mem_free(s->parts);
    mem_free(s->channel.data);
    mem_free(s->held.data);
    mem_pages_free(s->chunks, CHUNKS_BYTES);
}

static enum tide_status source_open(struct tide *tide, const struct local_message *from, struct source *s, struct err *err)
{
    char path[TIDE_PATH_MAX + 64], sum_path[TIDE_PATH_MAX + 64];
    if (from->slot >= SLOTS)
        return err_set(err, TIDE_E_CORRUPT, "the agent named slot %u of %u", from->slot, SLOTS);
    snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, tide->arena, tide->rank, from->slot);
    snprintf(sum_path, sizeof sum_path, "%s/" SLOT_SUM_FILE_FORMAT, tide->arena, tide->rank, from->slot);
    enum tide_status status = slot_open(path, sum_path, tide->job_uid, from->cut, tide->rank, &s->slot, &s->sum, err);
    if (status != TIDE_OK)
        return status;
    s->region_count = s->slot.header->region_count;
    s->regions = mem_try_array(s->region_count, sizeof *s->regions);
    s->targets = mem_try_array(s->region_count, sizeof *s->targets);
    s->chunks = mem_try_pages(CHUNKS_BYTES);
    const struct slot_part *parts = slot_parts(&s->slot);
    s->parts = parts != NULL ? mem_try_array(s->region_count, sizeof *s->parts) : NULL;
    if (s->regions == NULL || s->targets == NULL || s->chunks == NULL || (parts != NULL && s->parts == NULL))
        return err_set(err, TIDE_E_NOMEM, "no memory to restore from cut %llu", (unsigned long long)from->cut);
    memcpy(s->regions, s->slot.regions, s->region_count * sizeof *s->regions);
    if (parts != NULL)
        memcpy(s->parts, parts, s->region_count * sizeof *s->parts);
    devices_pin(tide, s->chunks, CHUNKS_BYTES, NULL);
    return TIDE_OK;
}

/* A region of ours. */
static enum tide_status match_own(struct tide *tide, struct source *s, uint32_t index, struct err *err)
{
    const struct slot_region *had = &s->regions[index];
    bool is_held = strcmp(had->name, SLOT_HELD_REGION) == 0;
    struct region *to = is_held ? &s->held : &s->channel;
    if (!is_held && strcmp(had->name, SLOT_CHANNEL_REGION) != 0)
        return err_set(err, TIDE_E_VERSION,
                       "checkpoint %llu holds \"%.63s\", which this version of libtidemark does not know",
                       (unsigned long long)s->sum.cut, had->name);
    enum tide_status status = is_held ? comms_may_load(tide, s->sum.cut, had->bytes, err)
                                      : colour_may_load(tide, s->sum.cut, had->bytes, err);
    if (status != TIDE_OK)
        return status;
    status = devices_need(tide, TIDE_HOST, err);
    if (status != TIDE_OK)
        return status;
    mem_free(to->data);
    *to = (struct region){.entry = *had, .data = mem_try_alloc((size_t)had->bytes + 1)};
    to->entry.memory = TIDE_HOST;
    if (to->data == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory for %llu bytes of messages", (unsigned long long)had->bytes);
    s->targets[index] = to;
    return TIDE_OK;
}

/* Where either side does not say that it is a shard, it is taken to be what it was. */
static int same_part(const struct source *s, uint32_t index, const struct region *has)
{
    struct box was, is;
    if (s->parts == NULL || s->regions[index].kind != REGION_SHARD || has->entry.kind != REGION_SHARD)
        return 1;
    slot_box(&s->regions[index], &s->parts[index], &was);
    slot_box(&has->entry, &has->part, &is);
    return box_equal(&was, &is);
}

static enum tide_status match_region(struct tide *tide, struct source *s, uint32_t index, struct err *err)
{
    const struct slot_region *had = &s->regions[index];
    unsigned long long cut = s->sum.cut;
    if (strncmp(had->name, SLOT_RESERVED_PREFIX, strlen(SLOT_RESERVED_PREFIX)) == 0)
        return match_own(tide, s, index, err);
    struct region *has = region_named(tide, had->name, index);
    if (has == NULL)
        return err_set(err, TIDE_E_MISMATCH, "rank %u: checkpoint %llu holds region \"%.63s\", which is not registered",
                       tide->rank, cut, had->name);
    if (has->entry.bytes != had->bytes)
        return err_set(err, TIDE_E_MISMATCH, "rank %u: region \"%.63s\" has %llu bytes in checkpoint %llu and %llu here",
                       tide->rank, had->name, (unsigned long long)had->bytes, cut, (unsigned long long)has->entry.bytes);
    if (!same_part(s, index, has))
        return err_set(err, TIDE_E_MISMATCH,
                       "rank %u: region \"%.63s\" is another part of the whole than in checkpoint %llu, or of another whole; with as many "
                       "ranks each must have the shard it had",
                       tide->rank, had->name, cut);
    s->targets[index] = has;
    return TIDE_OK;
}

static int is_target(const struct source *s, const struct region *region)
{
    for (uint32_t i = 0; i < s->region_count; i++)
        if (s->targets[i] == region)
            return 1;
    return 0;
}

/* Every region of the checkpoint has its place in the program, and every place gets something. */
static enum tide_status match(struct tide *tide, struct source *s, struct err *err)
{
    enum tide_status status = TIDE_OK;
    if (s->slot.header->world_size != tide->world_size)
        return err_set(err, TIDE_E_MISMATCH,
                       "checkpoint %llu was made by %u ranks and this job has %u; submit it with as many",
                       (unsigned long long)s->sum.cut, s->slot.header->world_size, tide->world_size);
    for (uint32_t i = 0; status == TIDE_OK && i < s->region_count; i++)
        status = match_region(tide, s, i, err);
    if (status != TIDE_OK)
        return status;
    /* Names are unique on both sides, so that equal counts leave none over. */
    uint32_t theirs = s->region_count - (s->channel.data != NULL) - (s->held.data != NULL);
    for (uint32_t i = 0; theirs < tide->region_count && i < tide->region_count; i++)
        if (tide->regions[i].entry.kind != REGION_DROPPABLE && !is_target(s, &tide->regions[i]))
            return err_set(err, TIDE_E_MISMATCH, "rank %u: region \"%s\" is registered and not in checkpoint %llu",
                           tide->rank, tide->regions[i].entry.name, (unsigned long long)s->sum.cut);
    return TIDE_OK;
}

/* Chunks on their way in. Any thread reads and checks one, and puts what is host memory into its place; what goes to a device is
 * handed over in order, by the thread that owns the handle. */
struct intake {
    const struct tide *tide;
    struct source *s;
    pthread_t owner;
    unsigned lanes, in_flight; /* in use; of these, on their way to a device */
    pthread_mutex_t lock;      /* of all that follows */
    pthread_cond_t moved;
    uint64_t next;                /* the first that nobody has taken */
    uint64_t freed;               /* those before it need their lane no more */
    uint64_t ready[DEVICE_LANES]; /* 1 + the chunk that was read into this lane, or into its place */
    enum tide_status status;      /* of the first that failed: then all stop */
    struct err err;
};

static unsigned char *lane_of(const struct intake *in, uint64_t index)
{
    return in->s->chunks + (size_t)(index % in->lanes) * CHUNK_BYTES;
}

static void intake_failed(struct intake *in, enum tide_status status, const struct err *err)
{
    pthread_mutex_lock(&in->lock);
    if (in->status == TIDE_OK) {
        in->status = status;
        in->err = *err;
    }
    pthread_cond_broadcast(&in->moved);
    pthread_mutex_unlock(&in->lock);
}

/* Hand what chunk `index` has of regions on devices (or: not on devices) to them. *cursor: a region that is not behind it. */
static enum tide_status scatter(struct intake *in, uint64_t index, bool to_devices, uint32_t *cursor, struct err *err)
{
    struct source *s = in->s;
    enum tide_status status = TIDE_OK;
    uint64_t start = index * CHUNK_BYTES, stop = start + CHUNK_BYTES;
    for (uint32_t i = *cursor; status == TIDE_OK && i < s->region_count; i++) {
        const struct slot_region *r = &s->regions[i];
        if (r->offset >= stop)
            break;
        *cursor = i;
        uint64_t from = r->offset > start ? r->offset : start;
        uint64_t end = r->offset + r->bytes < stop ? r->offset + r->bytes : stop;
        if (from < end && (s->targets[i]->entry.memory == TIDE_DEVICE) == to_devices)
            status = devices_copy_in(in->tide, s->targets[i], from - r->offset, lane_of(in, index) + (from - start),
                                     (size_t)(end - from), (unsigned)(index % in->lanes), err);
    }
    return status;
}

/* Where a chunk belongs that lies within one region in host memory; else NULL. */
static unsigned char *place_of(const struct intake *in, uint64_t index, uint32_t *cursor)
{
    const struct source *s = in->s;
    uint64_t start = index * CHUNK_BYTES;
    while (*cursor < s->region_count && s->regions[*cursor].offset + s->regions[*cursor].bytes <= start)
        ++*cursor;
    if (*cursor == s->region_count)
        return NULL;
    const struct slot_region *r = &s->regions[*cursor];
    bool within = r->offset <= start && r->offset + r->bytes - start >= CHUNK_BYTES;
    return within && s->targets[*cursor]->entry.memory == TIDE_HOST
               ? (unsigned char *)s->targets[*cursor]->data + (start - r->offset)
               : NULL;
}

static void read_chunk(struct intake *in, uint64_t index, uint32_t *cursor)
{
    struct err err = {.status = TIDE_OK};
    uint32_t bytes = 0;
    unsigned char *place = place_of(in, index, cursor);
    enum tide_status status =
        slot_chunk_read(&in->s->slot, &in->s->sum, index, place ? place : lane_of(in, index), &bytes, &err);
    if (status == TIDE_E_INVALID && place != NULL)
        status = err_wrap(&err, "region \"%.63s\"", in->s->regions[*cursor].name);
    if (status == TIDE_OK && place == NULL)
        status = scatter(in, index, false, cursor, &err);
    if (status != TIDE_OK) {
        intake_failed(in, status, &err);
        return;
    }
    pthread_mutex_lock(&in->lock);
    in->ready[index % in->lanes] = index + 1;
    pthread_cond_broadcast(&in->moved);
    pthread_mutex_unlock(&in->lock);
}

/* The next chunk that nobody has taken, where there is a lane for it; else wait until something has moved. With the lock held. */
static void read_or_wait(struct intake *in, uint32_t *cursor)
{
    if (in->next == in->s->sum.chunk_count || in->next >= in->freed + in->lanes) {
        pthread_cond_wait(&in->moved, &in->lock);
        return;
    }
    uint64_t mine = in->next++;
    pthread_mutex_unlock(&in->lock);
    read_chunk(in, mine, cursor);
    pthread_mutex_lock(&in->lock);
}

static void help(struct intake *in)
{
    uint32_t cursor = 0;
    pthread_mutex_lock(&in->lock);
    while (in->status == TIDE_OK && in->next < in->s->sum.chunk_count)
        read_or_wait(in, &cursor);
    pthread_mutex_unlock(&in->lock);
}

/* While another has it, those behind it are read. False: something has failed. */
static bool await_chunk(struct intake *in, uint64_t index, uint32_t *cursor)
{
    pthread_mutex_lock(&in->lock);
    while (in->status == TIDE_OK && in->ready[index % in->lanes] != index + 1)
        read_or_wait(in, cursor);
    bool good = in->status == TIDE_OK;
    pthread_mutex_unlock(&in->lock);
    return good;
}

static void hand_over(struct intake *in)
{
    uint32_t reading = 0, handing = 0;
    struct err err = {.status = TIDE_OK};
    for (uint64_t i = 0; i < in->s->sum.chunk_count && await_chunk(in, i, &reading); i++) {
        enum tide_status status = scatter(in, i, true, &handing, &err);
        if (status == TIDE_OK && i >= in->in_flight)
            status = devices_copy_in_wait(in->tide, (unsigned)((i - in->in_flight) % in->lanes), &err);
        if (status != TIDE_OK) {
            intake_failed(in, status, &err);
            return;
        }
        pthread_mutex_lock(&in->lock);
        in->freed = i >= in->in_flight ? i - in->in_flight + 1 : 0;
        pthread_cond_broadcast(&in->moved);
        pthread_mutex_unlock(&in->lock);
    }
}

static void work_of_intake(void *context)
{
    struct intake *in = context;
    if (pthread_equal(pthread_self(), in->owner))
        hand_over(in);
    else
        help(in);
}

static enum tide_status copy_in(const struct tide *tide, struct source *s, struct err *err)
{
    unsigned size = team_size(RESTORE_THREADS);
    size = s->sum.chunk_count < size ? (unsigned)s->sum.chunk_count : size;
    struct intake in = {.tide = tide, .s = s, .owner = pthread_self(), .lanes = 2 * (size > 0 ? size : 1)};
    in.in_flight = in.lanes / 2;
    enum tide_status status = devices_copy_in_begin(tide, err);
    if (status != TIDE_OK)
        return status;
    pthread_mutex_init(&in.lock, NULL);
    pthread_cond_init(&in.moved, NULL);
    team_run(size, work_of_intake, &in);
    pthread_cond_destroy(&in.moved);
    pthread_mutex_destroy(&in.lock);
    if (in.status != TIDE_OK)
        return err_set(err, in.status, "%s", in.err.text);
    for (unsigned lane = 0; status == TIDE_OK && lane < in.lanes; lane++)
        status = devices_copy_in_wait(tide, lane, err);
    return status;
}

static enum tide_status restore_from(struct tide *tide, const struct local_message *from, uint64_t *ret_step,
                                     struct err *err)
{
    struct source s = {0};
    enum tide_status status = source_open(tide, from, &s, err);
    uint64_t step = status == TIDE_OK ? s.slot.header->step : 0;
    if (status == TIDE_OK)
        status = match(tide, &s, err);
    if (status == TIDE_OK)
        status = copy_in(tide, &s, err);
    if (status == TIDE_OK && s.channel.data != NULL)
        status = colour_load(tide, s.sum.cut, s.channel.data, s.channel.entry.bytes, err);
    if (status == TIDE_OK && s.held.data != NULL)
        status = comms_load(tide, s.sum.cut, s.held.data, s.held.entry.bytes, err);
    source_release(tide, &s);
    if (status == TIDE_OK)
        *ret_step = step;
    return status;
}

/* ---- asking ---- */

static enum tide_status ask(struct tide *tide, uint32_t attempt, struct local_message *ret_answer)
{
    struct local_message message = {.type = LOCAL_RESTORE_ASK, .attempt = attempt};
    unsigned wanted = 1u << LOCAL_RESTORE_FROM | 1u << LOCAL_RESTORE_NONE | 1u << LOCAL_RESTORE_WAIT;
    uint64_t silence_ns = tide->options.deadline_ms * NS_PER_MS;
    enum tide_status status = channel_ask(tide, &message, wanted, clock_mono_ns() + silence_ns, ret_answer, &tide->err);
    /* The step bounds the whole of it; we only bound its silence. */
    while (status == TIDE_OK && ret_answer->type == LOCAL_RESTORE_WAIT)
        status = channel_wait(tide, 0, wanted, clock_mono_ns() + silence_ns, ret_answer, &tide->err);
    return status;
}

static enum tide_status tell_bad(struct tide *tide, const struct local_message *from, uint32_t attempt)
{
    struct local_message message = {
        .type = LOCAL_RESTORE_BAD, .slot = from->slot, .attempt = attempt, .cut = from->cut, .status = tide->err.status};
    struct err why;
    text_fit(message.text, sizeof message.text, tide->err.text);
    enum tide_status status = channel_send(tide, &message, clock_mono_ns() + tide->options.deadline_ms * NS_PER_MS, &why);
    if (status != TIDE_OK)
        tide->err = why;
    return status;
}

/* Is another copy worth asking for? */
static int is_bad_copy(enum tide_status status)
{
    return status == TIDE_E_CORRUPT || status == TIDE_E_NOT_FOUND || status == TIDE_E_IO;
}

static enum tide_status restore(struct tide *tide, uint64_t *ret_step, uint64_t *ret_cut)
{
    struct local_message answer = {.type = LOCAL_RESTORE_NONE};
    enum tide_status status = regions_have_kinds(tide) ? regions_tell(tide, &tide->err) : TIDE_OK;
    if (status != TIDE_OK)
        return err_wrap(&tide->err, "rank %u cannot tell what it has registered", tide->rank);
    for (uint32_t attempt = 1; attempt <= RESTORE_ATTEMPTS_MAX; attempt++) {
        status = ask(tide, attempt, &answer);
        if (status != TIDE_OK)
            return status;
        if (answer.type == LOCAL_RESTORE_NONE)
            return err_set(&tide->err, TIDE_E_NO_CHECKPOINT, "there is no checkpoint: start from the beginning");
        *ret_cut = answer.cut;
        status = restore_from(tide, &answer, ret_step, &tide->err);
        if (!is_bad_copy(status))
            return status;
        status = tell_bad(tide, &answer, attempt);
        if (status != TIDE_OK)
            return status;
    }
    return err_set(&tide->err, TIDE_E_CORRUPT, "%u copies of checkpoint %llu were bad; the last one: %.400s",
                   RESTORE_ATTEMPTS_MAX, (unsigned long long)answer.cut, tide->err.text);
}

static void publish(struct tide *tide, uint64_t cut, uint64_t step, uint64_t ns)
{
    tide->first_min = step + 1;
    atomic_store(&tide->page->restored_step, step);
    atomic_store(&tide->page->restore_ns, ns);
    atomic_store(&tide->page->restored_cut, cut);
    atomic_store(&tide->page->step, step);
}

enum tide_status tide_restore(struct tide *tide, uint64_t *ret_step)
{
    if (tide == NULL || ret_step == NULL)
        return TIDE_E_INVALID;
    if (!tide->in_job)
        return err_set(&tide->err, TIDE_E_NO_CHECKPOINT, "not in a tidemark job: start from the beginning");
    if (tide->stepping || getpid() != tide->pid)
        return err_set(&tide->err, TIDE_E_STATE,
                       "tide_restore comes before the first tide_step, in the process of tide_init");
    uint64_t begin = clock_mono_ns(), step = 0, cut = 0;
    colour_attach(tide);
    atomic_store(&tide->page->phase, CONTROL_RESTORING);
    enum tide_status status = restore(tide, &step, &cut);
    if (status == TIDE_OK) {
        publish(tide, cut, step, clock_mono_ns() - begin);
        *ret_step = step;
    }
    atomic_store(&tide->page->phase, CONTROL_ATTACHED);
    if (status == TIDE_OK || status == TIDE_E_NO_CHECKPOINT)
        channel_nudge(tide, LOCAL_RESTORED);
    return status;
}
