/* SPDX-License-Identifier: Apache-2.0 */
/* The log's thread: all writes that wait become one batch with one fdatasync. */
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/member_inner.h"

#define NS_PER_US 1000u
#define COMPACT_BATCHES_MAX 64u /* a log that is never at rest is compacted after so many, or it would grow without end */

/* ---- on the log's thread ---- */

static void save_ballot(struct member *member, const struct raft_write *write)
{
    struct err err = {0};
    struct ballot ballot = {.term = write->ballot.term, .vote = write->ballot.vote};
    /* What was appended before must not be younger on the disk than this. */
    if (wal_sync(member->wal, &err) != TIDE_OK)
        member_fatal("the log cannot be written", &err);
    if (ballot_save(member->dir.path, ballot, &err) != TIDE_OK)
        member_fatal("the ballot cannot be written", &err);
}

static void append_entries(struct member *member, const struct raft_entry *entries, size_t count)
{
    struct err err = {0};
    struct wal_entry *records = mem_array(count, sizeof *records);
    for (size_t i = 0; i < count; i++) {
        const struct raft_entry *e = &entries[i];
        records[i] = (struct wal_entry){.index = e->index, .term = e->term, .type = (uint16_t)e->type};
        records[i].data = e->blob ? e->blob->data : "";
        records[i].bytes = e->blob ? e->blob->bytes : 0;
    }
    if (wal_append(member->wal, records, count, &err) != TIDE_OK)
        member_fatal("the log cannot be written", &err);
    mem_free(records);
}

static void do_write(struct member *member, struct raft_write *write)
{
    struct err err = {0};
    if (write->has_ballot)
        save_ballot(member, write);
    if (write->reset_to != 0 && wal_reset(member->wal, write->reset_to, &err) != TIDE_OK)
        member_fatal("the log cannot be begun anew", &err);
    if (write->truncate_from != 0 && wal_truncate_from(member->wal, write->truncate_from, &err) != TIDE_OK)
        member_fatal("the log cannot be cut", &err);
    if (write->count > 0)
        append_entries(member, write->entries, write->count);
}

static void free_write(struct raft_write *write)
{
    for (size_t i = 0; i < write->count; i++)
        raft_blob_unref(write->entries[i].blob);
    mem_free(write->entries);
}

/* No room for it is no news yet: commands are refused long before the present segment is full. */
static void prepare(struct member *member)
{
    struct err err = {0};
    enum tide_status status = wal_prepare(member->wal, &err);
    if (status == TIDE_E_NOSPACE)
        log_error("the next segment of the log cannot be made: %s", err.text);
    else if (status != TIDE_OK)
        member_fatal("the next segment of the log cannot be made", &err);
    member->log.prepare = false;
}

static void measure(struct member *member, uint64_t done, uint64_t took_ns)
{
    struct log_thread *log = &member->log;
    struct err err = {0};
    uint64_t free_bytes = 0;
    if (datadir_free_bytes(member->dir.path, &free_bytes, &err) != TIDE_OK)
        member_fatal("the data directory cannot be examined", &err);
    if (atomic_load(&member->free_bytes) >= DATA_RESERVE_BYTES && free_bytes < DATA_RESERVE_BYTES)
        log_error("the file system of %s has only %" PRIu64 " MiB left: commands are refused until there is more room",
                  member->dir.path, free_bytes >> 20);
    atomic_store(&member->free_bytes, free_bytes);
    pthread_mutex_lock(&log->lock);
    if (done != 0)
        log->done_number = done;
    log->free_bytes = free_bytes;
    log->log_bytes = wal_bytes(member->wal);
    if (took_ns != 0) {
        log->sync_us = took_ns / NS_PER_US;
        log->sync_ns = clock_mono_ns();
        log->syncing_ns = 0;
        if (log->sync_us > log->sync_us_max)
            log->sync_us_max = log->sync_us;
    }
    pthread_mutex_unlock(&log->lock);
}

static void do_writes(struct member *member, struct raft_write *writes, size_t count)
{
    struct err err = {0};
    uint64_t begun = clock_mono_ns();
    pthread_mutex_lock(&member->log.lock);
    member->log.syncing_ns = begun;
    pthread_mutex_unlock(&member->log.lock);
    for (size_t i = 0; i < count; i++)
        do_write(member, &writes[i]);
    if (wal_sync(member->wal, &err) != TIDE_OK)
        member_fatal("the log cannot be written", &err);
    measure(member, writes[count - 1].number, clock_mono_ns() - begun);
    uv_async_send(&member->logged);
    for (size_t i = 0; i < count; i++)
        free_write(&writes[i]);
    member->log.prepare = true;
}

static uint64_t write_bytes(const struct raft_write *write)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < write->count; i++)
        bytes += write->entries[i].blob ? write->entries[i].blob->bytes : 0;
    return bytes;
}

/* Under the lock: as much of the queue as one batch may hold. */
static size_t take_batch(struct log_thread *log, struct raft_write **ret_writes)
{
    size_t count = 0;
    for (uint64_t bytes = 0; count < log->count && (count == 0 || bytes < LOG_BATCH_BYTES); count++)
        bytes += write_bytes(&log->writes[count]);
    struct raft_write *batch = mem_array(count, sizeof *batch);
    memcpy(batch, log->writes, count * sizeof *batch);
    memmove(log->writes, log->writes + count, (log->count - count) * sizeof *batch);
    log->count -= count;
    *ret_writes = batch;
    return count;
}

static void compact(struct member *member, uint64_t through)
{
    struct err err = {0};
    if (wal_compact(member->wal, through, &err) != TIDE_OK)
        member_fatal("the log cannot be compacted", &err);
    measure(member, 0, 0);
}

static void housekeeping(struct member *member)
{
    if (member->log.prepare)
        prepare(member);
    measure(member, 0, 0);
}

static bool compacts_now(const struct log_thread *log)
{
    return log->compact_through != 0 && (log->count == 0 || log->batches >= COMPACT_BATCHES_MAX);
}

/* One turn, entered and left under the lock. False: it is over. */
static bool turn(struct member *member)
{
    struct log_thread *log = &member->log;
    if (compacts_now(log)) {
        uint64_t through = log->compact_through;
        log->compact_through = log->batches = 0;
        pthread_mutex_unlock(&log->lock);
        compact(member, through);
        pthread_mutex_lock(&log->lock);
    } else if (log->count > 0) {
        struct raft_write *batch = NULL;
        size_t count = take_batch(log, &batch);
        log->batches++;
        pthread_mutex_unlock(&log->lock);
        do_writes(member, batch, count);
        mem_free(batch);
        pthread_mutex_lock(&log->lock);
    } else if (log->stop) {
        return false;
    } else if (log->look || log->prepare) {
        /* Making a segment takes a while: not while somebody waits for an answer. */
        log->look = false;
        pthread_mutex_unlock(&log->lock);
        housekeeping(member);
        pthread_mutex_lock(&log->lock);
    } else {
        pthread_cond_wait(&log->wake, &log->lock);
    }
    return true;
}

static void *log_run(void *arg)
{
    struct member *member = arg;
    pthread_mutex_lock(&member->log.lock);
    while (turn(member))
        ;
    pthread_mutex_unlock(&member->log.lock);
    return NULL;
}

/* ---- on the member's thread ---- */

void journal_start(struct member *member)
{
    struct log_thread *log = &member->log;
    pthread_mutex_init(&log->lock, NULL);
    pthread_cond_init(&log->wake, NULL);
    log->log_bytes = wal_bytes(member->wal);
    log->look = log->prepare = true;
    if (pthread_create(&log->thread, NULL, log_run, member) != 0)
        member_fatal("no thread can be made", &(struct err){.text = "pthread_create failed"});
    log->running = true;
}

void journal_stop(struct member *member)
{
    struct log_thread *log = &member->log;
    if (!log->running)
        return;
    pthread_mutex_lock(&log->lock);
    log->stop = true;
    pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->lock);
    pthread_join(log->thread, NULL);
    log->running = false;
    pthread_mutex_destroy(&log->lock);
    pthread_cond_destroy(&log->wake);
}

void journal_write(struct member *member, struct raft_write *write)
{
    struct log_thread *log = &member->log;
    pthread_mutex_lock(&log->lock);
    if (log->count == log->room) {
        log->room = log->room ? log->room * 2 : 16;
        log->writes = mem_grow(log->writes, log->room, sizeof *log->writes);
    }
    log->writes[log->count++] = *write;
    pthread_cond_signal(&log->wake);
    pthread_mutex_unlock(&log->lock);
    *write = (struct raft_write){0};
}

void journal_compact(struct member *member, uint64_t through)
{
    pthread_mutex_lock(&member->log.lock);
    member->log.compact_through = through;
    pthread_cond_signal(&member->log.wake);
    pthread_mutex_unlock(&member->log.lock);
}

void journal_look(struct member *member)
{
    pthread_mutex_lock(&member->log.lock);
    member->log.look = true;
    pthread_cond_signal(&member->log.wake);
    pthread_mutex_unlock(&member->log.lock);
}

void journal_collect(struct member *member)
{
    pthread_mutex_lock(&member->log.lock);
    uint64_t done = member->log.done_number;
    pthread_mutex_unlock(&member->log.lock);
    if (done <= member->persisted)
        return;
    member->persisted = done;
    if (member->later != 0)
        return;
    struct err err = {0};
    struct raft_event event = {.kind = RAFT_EV_PERSISTED, .number = done};
    if (member_step(member, &event, &err) != TIDE_OK)
        member_fatal("the core did not take a write's end", &err);
}
