/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/shared.h"

#include <pthread.h>
#include <string.h>
#include <time.h>

#include "ckpt/base/digest_index.h"
#include "ckpt/base/mem.h"

#define ROOM_FIRST 1024u

enum writer_state { WRITING, DURABLE, LOST };

struct shared_writer {
    struct shared_writer *next; /* of its table; freed with it, because claims point here */
    struct table *table;
    enum writer_state state;
    uint32_t number; /* in the order they joined */
    struct pack_entry *packs; /* DURABLE: its own */
    struct timespec until;    /* from then on it waits for nobody */
};

struct claim {
    struct digest digest;
    struct shared_writer *writer;
    uint64_t offset;
    uint32_t length, pack;
    enum chunk_codec codec;
};

/* One cut that is being stored. */
struct table {
    struct table *next;
    struct store *store;
    char job[TIDE_NAME_MAX + 1], uid[TIDE_UID_CHARS + 1];
    uint64_t cut, generation;
    unsigned joined; /* … and not left */
    uint32_t writers;
    struct shared_writer *first;
    struct claim *claims;
    struct digest_index index; /* of the claims */
    uint32_t count, room;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t settled;
    struct table *first;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER, .settled = PTHREAD_COND_INITIALIZER};

/* ---- joining ---- */

static struct table *table_of(struct store *store, const struct cut_name *name)
{
    struct table *t = all.first;
    while (t != NULL && (t->store != store || t->cut != name->cut || t->generation != name->generation ||
                         strcmp(t->uid, name->uid) != 0 || strcmp(t->job, name->job) != 0))
        t = t->next;
    return t;
}

static struct table *table_make(struct store *store, const struct cut_name *name)
{
    struct table *t = mem_try_alloc(sizeof *t);
    if (t == NULL)
        return NULL;
    t->store = store;
    t->cut = name->cut;
    t->generation = name->generation;
    text_copy(t->job, sizeof t->job, name->job);
    text_copy(t->uid, sizeof t->uid, name->uid);
    t->next = all.first;
    all.first = t;
    return t;
}

static void table_free(struct table *table)
{
    struct table **at = &all.first;
    while (*at != table)
        at = &(*at)->next;
    *at = table->next;
    for (struct shared_writer *w = table->first, *next; w != NULL; w = next) {
        next = w->next;
        mem_free(w->packs);
        mem_free(w);
    }
    mem_free(table->claims);
    digest_index_release(&table->index);
    mem_free(table);
}

struct shared_writer *shared_join(struct store *store, const struct cut_name *name)
{
    struct shared_writer *writer = mem_try_alloc(sizeof *writer);
    if (writer == NULL)
        return NULL;
    pthread_mutex_lock(&all.lock);
    struct table *table = table_of(store, name);
    if (table == NULL)
        table = table_make(store, name);
    if (table != NULL) {
        table->joined++;
        *writer = (struct shared_writer){.next = table->first, .table = table, .number = table->writers++};
        table->first = writer;
    }
    pthread_mutex_unlock(&all.lock);
    if (table != NULL)
        return writer;
    mem_free(writer);
    return NULL;
}

void shared_leave(struct shared_writer *writer)
{
    if (writer == NULL)
        return;
    pthread_mutex_lock(&all.lock);
    if (writer->state == WRITING)
        writer->state = LOST;
    pthread_cond_broadcast(&all.settled);
    if (--writer->table->joined == 0)
        table_free(writer->table);
    pthread_mutex_unlock(&all.lock);
}

/* The bits of the number, turned round: a half, a quarter, three quarters, … so that however many come they are far from each other. */
uint64_t shared_begin(const struct shared_writer *writer, uint64_t count)
{
    uint64_t part = 0;
    for (uint32_t bit = 0; writer != NULL && bit < 32; bit++)
        part |= (uint64_t)(writer->number >> bit & 1) << (31 - bit);
    return count * part >> 32;
}

/* ---- claims; all with the lock ---- */

static struct claim *claim_of(const struct table *table, struct digest digest)
{
    uint32_t found = table->count > 0 ? digest_index_find(&table->index, &table->claims->digest, sizeof *table->claims, digest) : 0;
    return found != 0 ? &table->claims[found - 1] : NULL;
}

static void enter(struct table *table, uint32_t index)
{
    digest_index_add(&table->index, &table->claims->digest, sizeof *table->claims, index);
}

/* Nonzero: there is no room. */
static int widen(struct table *table)
{
    uint32_t room = table->room > 0 ? 2 * table->room : ROOM_FIRST;
    if (table->count < table->room)
        return 0;
    if (room > SHARED_CHUNKS_MAX)
        return -1;
    struct claim *claims = mem_try_array(room, sizeof *claims);
    struct digest_index index;
    if (claims == NULL || digest_index_init(&index, room) != 0) {
        mem_free(claims);
        return -1;
    }
    if (table->count > 0)
        memcpy(claims, table->claims, table->count * sizeof *claims);
    mem_free(table->claims);
    digest_index_release(&table->index);
    table->claims = claims;
    table->index = index;
    table->room = room;
    for (uint32_t i = 0; i < table->count; i++)
        enter(table, i);
    return 0;
}

int shared_claim(struct shared_writer *writer, struct digest digest)
{
    if (writer == NULL)
        return 1;
    pthread_mutex_lock(&all.lock);
    struct table *table = writer->table;
    struct claim *claim = claim_of(table, digest);
    int mine = claim == NULL || claim->writer == writer || claim->writer->state == LOST;
    if (claim != NULL && claim->writer->state == LOST)
        *claim = (struct claim){.digest = digest, .writer = writer};
    if (claim == NULL && widen(table) == 0) {
        table->claims[table->count] = (struct claim){.digest = digest, .writer = writer};
        enter(table, table->count++);
    }
    pthread_mutex_unlock(&all.lock);
    return mine;
}

void shared_note(struct shared_writer *writer, const struct chunk *chunk)
{
    if (writer == NULL)
        return;
    pthread_mutex_lock(&all.lock);
    struct claim *claim = claim_of(writer->table, chunk->digest);
    if (claim != NULL && claim->writer == writer) {
        claim->codec = chunk->codec;
        claim->pack = chunk->pack;
        claim->offset = chunk->offset;
        claim->length = chunk->length;
    }
    pthread_mutex_unlock(&all.lock);
}

void shared_publish(struct shared_writer *writer, const struct pack_entry *packs, size_t count)
{
    if (writer == NULL)
        return;
    struct pack_entry *copy = mem_try_array(count, sizeof *copy);
    if (copy != NULL && count > 0)
        memcpy(copy, packs, count * sizeof *copy);
    clock_gettime(CLOCK_MONOTONIC, &writer->until);
    writer->until.tv_sec += SHARED_WAIT_S;
    pthread_mutex_lock(&all.lock);
    writer->packs = copy;
    writer->state = copy != NULL || count == 0 ? DURABLE : LOST;
    pthread_cond_broadcast(&all.settled);
    pthread_mutex_unlock(&all.lock);
}

/* The lock is given up while it waits, and the claims may move. */
static struct claim *settled(const struct shared_writer *writer, struct digest digest)
{
    for (int late = 0;;) {
        struct claim *claim = claim_of(writer->table, digest);
        if (claim == NULL || claim->writer->state != WRITING || late)
            return claim != NULL && claim->writer->state == DURABLE ? claim : NULL;
        late = pthread_cond_clockwait(&all.settled, &all.lock, CLOCK_MONOTONIC, &writer->until) != 0;
    }
}

int shared_find(struct shared_writer *writer, struct digest digest, struct chunk *ret_chunk, struct pack_entry *ret_pack)
{
    if (writer == NULL)
        return 0;
    pthread_mutex_lock(&all.lock);
    const struct claim *claim = settled(writer, digest);
    if (claim != NULL) {
        *ret_chunk = (struct chunk){.codec = claim->codec, .offset = claim->offset, .length = claim->length, .digest = digest};
        *ret_pack = claim->codec == CHUNK_ZERO ? (struct pack_entry){0} : claim->writer->packs[claim->pack];
    }
    pthread_mutex_unlock(&all.lock);
    return claim != NULL;
}
