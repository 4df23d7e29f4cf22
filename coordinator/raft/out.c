/* SPDX-License-Identifier: Apache-2.0 */
/* What leaves the core: writes, and the messages that must wait for them. */
#include <string.h>

#include "ckpt/base/mem.h"
#include "coordinator/raft/inner.h"

#define ROOM_FIRST 8u

/* Room for one more of `size` bytes in a list that doubles. */
static void *grown(void *items, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return items;
    *room = *room ? *room * 2 : ROOM_FIRST;
    return mem_grow(items, *room, size);
}

/* ---- messages ---- */

static void push(struct raft_update *update, const struct raft_message *message)
{
    update->messages = grown(update->messages, update->message_count, &update->message_room, sizeof *update->messages);
    update->messages[update->message_count++] = *message;
}

/* "Updated on stable storage before responding to RPCs" (figure 2): whatever is said in a term, the term and the vote must
 * be durable first; `need` names a later write when the message promises more. Moves the message. */
void out_message(struct raft *raft, struct raft_update *update, struct raft_message *message, uint64_t need)
{
    message->from = raft->id;
    if (need < raft->ballot_write)
        need = raft->ballot_write;
    if (need <= raft->persisted) {
        push(update, message);
    } else if (raft->held_count == RAFT_HELD_MAX) {
        raft_message_release(message);
    } else {
        raft->held = grown(raft->held, raft->held_count, &raft->held_room, sizeof *raft->held);
        raft->held[raft->held_count++] = (struct held){.need = need, .message = *message};
    }
}

void out_held(struct raft *raft, struct raft_update *update)
{
    size_t kept = 0;
    for (size_t i = 0; i < raft->held_count; i++) {
        if (raft->held[i].need <= raft->persisted)
            push(update, &raft->held[i].message);
        else
            raft->held[kept++] = raft->held[i];
    }
    raft->held_count = kept;
}

void out_forget_held(struct raft *raft)
{
    for (size_t i = 0; i < raft->held_count; i++)
        raft_message_release(&raft->held[i].message);
    raft->held_count = 0;
}

void out_read(struct raft_update *update, uint64_t number, bool permitted, uint64_t index)
{
    update->reads = grown(update->reads, update->read_count, &update->read_room, sizeof *update->reads);
    update->reads[update->read_count++] = (struct raft_read){.number = number, .permitted = permitted, .index = index};
}

/* ---- writes ---- */

bool out_writes_full(const struct raft *raft)
{
    return raft->writes_count >= RAFT_WRITES_MAX;
}

static void writes_push(struct raft *raft, uint64_t number)
{
    if (raft->writes_start > 0 && raft->writes_start + raft->writes_count == raft->writes_room) {
        memmove(raft->writes, raft->writes + raft->writes_start, raft->writes_count * sizeof *raft->writes);
        raft->writes_start = 0;
    }
    raft->writes = grown(raft->writes, raft->writes_start + raft->writes_count, &raft->writes_room, sizeof *raft->writes);
    raft->writes[raft->writes_start + raft->writes_count++] =
        (struct pending_write){.number = number, .last = log_last(&raft->log)};
}

static struct pending_write *writes_last(struct raft *raft)
{
    return &raft->writes[raft->writes_start + raft->writes_count - 1];
}

struct raft_write *out_write(struct raft *raft, struct raft_update *update)
{
    if (update->write.number == 0) {
        update->write.number = ++raft->write_number;
        writes_push(raft, update->write.number);
        if (raft->ballot_owed)
            out_ballot(raft, update);
    }
    return &update->write;
}

void out_ballot(struct raft *raft, struct raft_update *update)
{
    struct raft_write *write = out_write(raft, update);
    write->has_ballot = true;
    write->ballot = raft->ballot;
    raft->ballot_write = write->number;
    raft->ballot_owed = false;
}

void out_append(struct raft *raft, struct raft_update *update, const struct raft_entry *entry)
{
    struct raft_write *write = out_write(raft, update);
    log_append(&raft->log, entry);
    write->entries = grown(write->entries, write->count, &write->room, sizeof *write->entries);
    write->entries[write->count++] = *entry;
    raft_blob_ref(entry->blob);
    writes_last(raft)->last = entry->index;
}

/* Writes still under way promise nothing about entries that are taken back behind them. */
static void writes_clamp(struct raft *raft, uint64_t last)
{
    for (size_t i = 0; i < raft->writes_count; i++)
        if (raft->writes[raft->writes_start + i].last > last)
            raft->writes[raft->writes_start + i].last = last;
    if (raft->stable > last)
        raft->stable = last;
}

void out_truncate(struct raft *raft, struct raft_update *update, uint64_t from)
{
    out_write(raft, update)->truncate_from = from;
    log_truncate(&raft->log, from);
    writes_clamp(raft, from - 1);
}

void out_reset(struct raft *raft, struct raft_update *update, uint64_t index, uint64_t term)
{
    out_write(raft, update)->reset_to = index + 1;
    log_reset(&raft->log, index, term);
    writes_clamp(raft, index);
    raft->stable = index; /* the snapshot is durable, whatever becomes of the log */
    writes_last(raft)->last = index;
}

EVENT(ev_persisted)
{
    if (event->number > raft->write_number)
        return err_set(err, TIDE_E_CORRUPT, "a write is said to be durable that was never asked for");
    if (event->number <= raft->persisted)
        return TIDE_OK;
    raft->persisted = event->number;
    while (raft->writes_count > 0 && raft->writes[raft->writes_start].number <= raft->persisted) {
        if (raft->writes[raft->writes_start].last > raft->stable)
            raft->stable = raft->writes[raft->writes_start].last;
        raft->writes_start++;
        raft->writes_count--;
    }
    if (raft->writes_count == 0)
        raft->writes_start = 0;
    out_held(raft, update);
    /* A candidate's own vote counts once it cannot forget it. */
    if (raft->role == RAFT_CANDIDATE && raft->ballot_write <= raft->persisted)
        count_vote(raft, update, raft->id, true);
    if (raft->role == RAFT_LEADER)
        commit_count(raft, update);
    return TIDE_OK;
}

/* ---- updates ---- */

void raft_update_release(struct raft_update *update)
{
    for (size_t i = 0; i < update->write.count; i++)
        raft_blob_unref(update->write.entries[i].blob);
    mem_free(update->write.entries);
    for (size_t i = 0; i < update->message_count; i++)
        raft_message_release(&update->messages[i]);
    mem_free(update->messages);
    mem_free(update->reads);
    raft_blob_unref(update->chunk.data);
    *update = (struct raft_update){0};
}
