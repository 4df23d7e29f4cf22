/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/client/client.h"
#include "ckpt/cut/channel.h"

_Static_assert(CONTROL_COMMS_MAX == CUT_COMMS_MAX, "the page has room for as many communicators as a log");

#define GROW_FACTOR 2u

enum tide_status channel_log_begin(struct tide *tide, uint64_t data_bytes, struct err *err)
{
    struct record *record = &tide->record;
    struct slot *slot = record->slot;
    char path[TIDE_PATH_MAX + 64];
    room_path(tide, record->order.slot, path);
    record->fd = open(path, O_WRONLY | O_CLOEXEC);
    if (record->fd < 0)
        return err_errno(err, "cannot open slot %s", path);
    record->log_at = slot->header->data_offset + data_bytes;
    record->log_bytes = record->logged_bytes = record->logged = 0;
    record->log_entry = &slot->regions[slot->header->region_count - 1];
    *record->log_entry = (struct slot_region){.offset = data_bytes};
    text_copy(record->log_entry->name, sizeof record->log_entry->name, SLOT_CHANNEL_REGION);
    return TIDE_OK;
}

void channel_log_end(struct record *record)
{
    if (record->fd >= 0)
        close(record->fd);
    record->fd = -1;
    record->log_entry = NULL;
}

/* Room for `bytes` in all, the padding at the end included. More than is needed: each growth takes a message to the step. */
static enum tide_status make_room(struct tide *tide, uint64_t bytes, struct err *err)
{
    struct record *record = &tide->record;
    uint64_t most = tide->options.channel_bytes_max + (record->log_bytes - record->logged_bytes);
    uint64_t more = record->log_bytes * GROW_FACTOR < most ? record->log_bytes * GROW_FACTOR : most;
    if (region_end_aligned(record->log_at, bytes) <= tide->reserved_bytes)
        return TIDE_OK;
    uint64_t end = region_end_aligned(record->log_at, more > bytes ? more : bytes);
    if (end > RANK_BYTES_MAX)
        return err_set(err, TIDE_E_LIMIT, "regions and messages have more than %llu bytes together",
                       (unsigned long long)RANK_BYTES_MAX);
    return room_reserve(tide, end, err);
}

/* One piece of it: the head, or a message. */
static enum tide_status add(struct tide *tide, const void *from, size_t bytes, struct err *err)
{
    struct record *record = &tide->record;
    enum tide_status status = make_room(tide, record->log_bytes + bytes, err);
    if (status == TIDE_OK && !fsx_pwrite_all(record->fd, from, bytes, record->log_at + record->log_bytes))
        status = err_errno(err, "cannot write a message into the slot");
    if (status == TIDE_OK)
        record->log_bytes += bytes;
    return status;
}

/* Before the first message, so that a log without any has no bytes. */
static enum tide_status add_head(struct tide *tide, struct err *err)
{
    size_t count = atomic_load(&tide->page->record_comms), bytes = cut_channel_head_bytes(count);
    struct cut_comm *comms = mem_try_array(count + 1, sizeof *comms);
    void *head = mem_try_alloc(bytes);
    enum tide_status status = TIDE_OK;
    if (comms == NULL || head == NULL)
        status = err_set(err, TIDE_E_NOMEM, "no memory for the names of %zu communicators", count);
    for (size_t i = 0; status == TIDE_OK && i < count; i++) {
        const struct control_comm *from = &tide->page->comms[i];
        comms[i] = (struct cut_comm){.id = from->id, .collectives = from->collectives, .size = from->size};
        text_copy(comms[i].name, sizeof comms[i].name, from->name);
    }
    if (status == TIDE_OK) {
        cut_channel_print_head(head, comms, count);
        status = add(tide, head, bytes, err);
    }
    mem_free(head);
    mem_free(comms);
    return status;
}

static enum tide_status append(struct tide *tide, const void *entry, size_t bytes, struct err *err)
{
    struct record *record = &tide->record;
    uint64_t max = tide->options.channel_bytes_max;
    if (bytes > max || record->logged_bytes > max - bytes)
        return err_set(err, TIDE_E_LIMIT,
                       "messages on their way to rank %u have more than %" PRIu64
                       " bytes; raise tide_options.channel_bytes_max",
                       tide->rank, max);
    enum tide_status status = record->log_bytes == 0 ? add_head(tide, err) : TIDE_OK;
    if (status == TIDE_OK)
        status = add(tide, entry, bytes, err);
    if (status != TIDE_OK)
        return status;
    record->logged++;
    record->logged_bytes += bytes;
    /* Behind the bytes: who reads it finds them. */
    __atomic_store_n(&record->log_entry->bytes, record->log_bytes, __ATOMIC_RELEASE);
    atomic_store(&tide->page->record_logged_bytes, record->logged_bytes);
    atomic_store(&tide->page->record_logged, record->logged);
    return TIDE_OK;
}

enum tide_status channel_log_append(void *context, const void *entry, size_t bytes)
{
    struct tide *tide = context;
    struct record *record = &tide->record;
    enum tide_status status = TIDE_E_UNAVAILABLE;
    pthread_mutex_lock(&record->lock);
    if (record->fd >= 0 && record->result == RECORD_DONE) {
        struct err why = {.status = TIDE_OK, .text = ""};
        status = append(tide, entry, bytes, &why);
        if (status != TIDE_OK) {
            record->why = why;
            record->result = RECORD_FAILED;
            record_tell(tide);
        }
    }
    pthread_mutex_unlock(&record->lock);
    return status;
}
