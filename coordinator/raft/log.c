/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ckpt/base/mem.h"
#include "coordinator/raft/inner.h"

#define LOG_ROOM_FIRST 64u

uint64_t log_last(const struct log *log)
{
    return log->base + log->count;
}

const struct raft_entry *log_entry(const struct log *log, uint64_t index)
{
    if (index <= log->base || index > log_last(log))
        return NULL;
    return &log->items[log->start + (size_t)(index - log->base) - 1];
}

uint64_t log_term(const struct log *log, uint64_t index)
{
    if (index == log->base)
        return log->base_term;
    const struct raft_entry *entry = log_entry(log, index);
    return entry ? entry->term : 0;
}

static uint64_t entry_bytes(const struct raft_entry *entry)
{
    return sizeof *entry + (entry->blob ? entry->blob->bytes : 0);
}

void log_append(struct log *log, const struct raft_entry *entry)
{
    if (log->start + log->count == log->room) {
        /* Room at the front is worth a move only when it is large: then each entry is moved at most once on average. */
        if (log->start > log->room / 2) {
            memmove(log->items, log->items + log->start, log->count * sizeof *log->items);
            log->start = 0;
        } else {
            log->room = log->room ? log->room * 2 : LOG_ROOM_FIRST;
            log->items = mem_grow(log->items, log->room, sizeof *log->items);
        }
    }
    log->items[log->start + log->count] = *entry;
    raft_blob_ref(entry->blob);
    log->count++;
    log->bytes += entry_bytes(entry);
}

static void drop(struct log *log, size_t at)
{
    log->bytes -= entry_bytes(&log->items[at]);
    raft_blob_unref(log->items[at].blob);
}

void log_truncate(struct log *log, uint64_t from)
{
    while (log->count > 0 && log_last(log) >= from) {
        drop(log, log->start + log->count - 1);
        log->count--;
    }
}

void log_compact(struct log *log, uint64_t through)
{
    uint64_t term = log_term(log, through);
    while (log->base < through) {
        drop(log, log->start);
        log->start++;
        log->count--;
        log->base++;
    }
    log->base_term = term;
}

void log_reset(struct log *log, uint64_t base, uint64_t base_term)
{
    log_truncate(log, 0);
    log->start = 0;
    log->base = base;
    log->base_term = base_term;
}

uint64_t log_not_newer(const struct log *log, uint64_t index, uint64_t term)
{
    if (index > log_last(log))
        index = log_last(log);
    while (index > log->base && log_term(log, index) > term)
        index--;
    return index;
}
