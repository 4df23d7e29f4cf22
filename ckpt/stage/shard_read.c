/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdatomic.h>

#include "ckpt/base/mem.h"
#include "ckpt/stage/shard.h"

#define SPANS_BEYOND 2u          /* those the store moves at once: one is decoded, one waits */

static atomic_uint readers; /* of this process; they share what a store moves at once */

/* ---- what is got together ---- */

/* Does the stored chunk go on where the span ends, or close behind? */
static int goes_on(const struct span *span, const struct chunk *chunk)
{
    uint64_t end = span->offset + span->bytes;
    return chunk->pack == span->pack && chunk->offset >= end && chunk->offset - end <= SPAN_GAP_MAX &&
           chunk->offset + chunk->length - span->offset <= SPAN_BYTES_MAX;
}

uint64_t shard_wanted(const struct shard_reader *reader, uint64_t index)
{
    return reader->wanted != NULL ? reader->wanted(reader->context, index) : index;
}

/* The span that begins with the next stored chunk. Nonzero: there is none. */
static int plan(struct shard_reader *reader, struct span *span)
{
    const struct strlist *chunks = &reader->manifest->chunks;
    reader->ahead = shard_wanted(reader, reader->ahead);
    span->first = reader->ahead;
    span->bytes = 0;
    for (; reader->ahead < chunks->count; reader->ahead = shard_wanted(reader, reader->ahead + 1)) {
        struct chunk chunk;
        if (chunk_parse(chunks->items[reader->ahead], &chunk, NULL) != TIDE_OK || chunk.codec == CHUNK_ZERO)
            continue;
        if (span->bytes == 0) {
            span->pack = chunk.pack;
            span->offset = chunk.offset;
        } else if (!goes_on(span, &chunk)) {
            break;
        }
        span->bytes = (uint32_t)(chunk.offset + chunk.length - span->offset);
    }
    span->end = reader->ahead;
    return span->bytes == 0;
}

enum tide_status shard_reader_init(struct shard_reader *reader, struct store *store, const struct rank_manifest *manifest,
                                   struct err *err)
{
    *reader = (struct shard_reader){.store = store, .manifest = manifest};
    reader->most = SPANS_MAX;
    reader->plan = plan;
    atomic_fetch_add(&readers, 1);
    reader->raw = mem_try_alloc(CHUNK_BYTES);
    enum tide_status status = reader->raw != NULL ? decoder_create(&reader->encoder, err)
                                                  : err_set(err, TIDE_E_NOMEM, "no memory to read a chunk");
    if (status != TIDE_OK)
        shard_reader_release(reader);
    return status;
}

/* How many spans a reader has under way, or in memory: beyond its part of what the store moves at once they would only wait, in memory
 * that is new to the process and has to be cleared for it. */
static unsigned useful(const struct shard_reader *reader)
{
    unsigned sharing = atomic_load(&readers), at_once = store_gets_at_once(reader->store);
    unsigned each = (at_once + sharing - 1) / sharing + SPANS_BEYOND;
    return each < reader->most ? each : reader->most;
}

/* The next span's: one that a span had that is done with, if there is one. */
static unsigned char *take_room(struct shard_reader *reader)
{
    for (unsigned i = reader->count; i < SPANS_MAX; i++) {
        struct span *done = &reader->spans[(reader->head + i) % SPANS_MAX];
        unsigned char *room = done->room;
        done->room = NULL;
        if (room != NULL)
            return room;
    }
    return mem_try_pages(SPAN_BYTES_MAX);
}

void shard_read_ahead(struct shard_reader *reader)
{
    while (reader->count < useful(reader)) {
        struct span *span = &reader->spans[(reader->head + reader->count) % SPANS_MAX];
        if (reader->plan(reader, span))
            return;
        span->room = take_room(reader);
        reader->count++;
        span->status = TIDE_OK;
        span->waited = span->room == NULL;
        if (span->waited)
            span->status = err_set(&span->err, TIDE_E_NOMEM, "no memory to read %u bytes of a pack", SPAN_BYTES_MAX);
        else
            store_begin_get(reader->store, &span->op, reader->manifest->packs.items[span->pack].key, span->offset,
                            span->room, span->bytes);
    }
}

static void await(struct span *span)
{
    if (!span->waited)
        span->status = store_finish(&span->op, &span->err);
    span->waited = 1;
}

/* Done with the one that was got first. */
static void pop(struct shard_reader *reader)
{
    await(&reader->spans[reader->head]);
    reader->head = (reader->head + 1) % SPANS_MAX;
    reader->count--;
}

struct span *shard_span_next(struct shard_reader *reader, struct span *done)
{
    if (done != NULL)
        pop(reader);
    shard_read_ahead(reader);
    if (reader->count == 0)
        return NULL;
    await(&reader->spans[reader->head]);
    return &reader->spans[reader->head];
}

void shard_reader_pass(struct shard_reader *reader, uint64_t index)
{
    while (reader->count > 0 && reader->spans[reader->head].end <= index)
        pop(reader);
    if (reader->count == 0 && reader->ahead < index)
        reader->ahead = index;
    shard_read_ahead(reader);
}

/* The span that holds a stored chunk. What lies before it and is not got yet is passed over. */
static struct span *span_of(struct shard_reader *reader, uint64_t index)
{
    shard_reader_pass(reader, index);
    struct span *span = &reader->spans[reader->head];
    await(span);
    return span;
}

void shard_reader_hand_on(struct shard_reader *from, struct shard_reader *to)
{
    while (from->count > 0)
        pop(from);
    for (unsigned i = 0; i < SPANS_MAX; i++) {
        to->spans[i].room = from->spans[i].room;
        from->spans[i].room = NULL;
    }
}

void shard_reader_release(struct shard_reader *reader)
{
    while (reader->count > 0)
        pop(reader);
    for (unsigned i = 0; i < SPANS_MAX; i++)
        mem_pages_free(reader->spans[i].room, SPAN_BYTES_MAX);
    mem_free(reader->raw);
    encoder_free(reader->encoder);
    if (reader->most > 0)
        atomic_fetch_sub(&readers, 1);
    *reader = (struct shard_reader){0};
}

/* ---- chunks ---- */

/* Who goes back to one that is not there any more would be given other bytes, or none of the reader's. */
static int is_in(const struct span *span, uint64_t index)
{
    return index >= span->first && index < span->end;
}

static const char *key_of(const struct shard_reader *reader, const struct chunk *chunk)
{
    return chunk->codec == CHUNK_ZERO ? "nothing" : reader->manifest->packs.items[chunk->pack].key;
}

/* One that is stored as it is stays where it was read to. */
static enum tide_status raw_of(struct encoder *encoder, unsigned char *room, const struct chunk *chunk, const unsigned char *from,
                               uint32_t bytes, const unsigned char **ret_bytes, struct err *err)
{
    if (chunk->codec == CHUNK_RAW && chunk->length == bytes) {
        *ret_bytes = from;
        return TIDE_OK;
    }
    *ret_bytes = room;
    return decode_chunk(encoder, chunk->codec, from, chunk->length, room, bytes, err);
}

enum tide_status shard_decode(struct encoder *encoder, unsigned char *room, const struct chunk *chunk, const unsigned char *from,
                              uint32_t raw_bytes, const unsigned char **ret_bytes, struct err *err)
{
    const unsigned char *bytes = NULL;
    enum tide_status status = raw_of(encoder, room, chunk, from, raw_bytes, &bytes, err);
    if (status == TIDE_OK && !digest_equal(chunk->digest, digest_of(bytes, raw_bytes)))
        status = err_set(err, TIDE_E_CORRUPT, "it does not match its digest");
    if (status == TIDE_OK)
        *ret_bytes = bytes;
    return status;
}

static const unsigned char *stored_form(const struct span *span, const struct chunk *chunk)
{
    return span != NULL ? span->room + (chunk->offset - span->offset) : NULL;
}

/* To where it belongs in its span. */
static enum tide_status get_alone(struct shard_reader *reader, const struct span *span, const struct chunk *chunk, struct err *err)
{
    return store_get(reader->store, reader->manifest->packs.items[span->pack].key, chunk->offset,
                     span->room + (chunk->offset - span->offset), chunk->length, err);
}

/* What cannot be read of a span, a sector of a disk or the end that a pack has lost, takes no chunk with it that lies beside it: one whose
 * span could not be got is got alone. A store out of reach, or without the pack, is not asked again for each. */
static enum tide_status have_stored(struct shard_reader *reader, const struct span *span, const struct chunk *chunk, struct err *err)
{
    if (span == NULL || span->status == TIDE_OK)
        return TIDE_OK;
    if (!shard_is_unread(span->status) && span->status != TIDE_E_CORRUPT)
        return err_set(err, span->status, "%s", span->err.text);
    return get_alone(reader, span, chunk, err);
}

static enum tide_status decode_alone(struct shard_reader *reader, const struct span *span, const struct chunk *chunk, uint64_t index,
                                     const unsigned char **ret_bytes, struct err *err)
{
    uint32_t raw = chunk_raw_bytes(reader->manifest->data_bytes, index);
    return shard_decode(reader->encoder, reader->raw, chunk, stored_form(span, chunk), raw, ret_bytes, err);
}

enum tide_status shard_span_chunk(struct shard_reader *reader, struct span *span, uint64_t index, const unsigned char **ret_bytes,
                                  struct digest *ret_digest, struct err *err)
{
    const struct rank_manifest *m = reader->manifest;
    struct chunk chunk;
    struct err why;
    const unsigned char *bytes = NULL;
    enum tide_status status = chunk_parse(m->chunks.items[index], &chunk, err);
    if (status == TIDE_OK)
        status = have_stored(reader, span, &chunk, err);
    if (status != TIDE_OK)
        return status;
    status = decode_alone(reader, span, &chunk, index, &bytes, &why);
    /* A byte may have been changed on its way here, and who is told that a checkpoint is damaged gives it up for good. */
    if (status != TIDE_OK && span != NULL) {
        status = get_alone(reader, span, &chunk, err);
        if (status != TIDE_OK)
            return status;
        status = decode_alone(reader, span, &chunk, index, &bytes, &why);
    }
    if (status != TIDE_OK)
        return err_set(err, TIDE_E_CORRUPT, "chunk %" PRIu64 " of rank %u in object %s: %s", index, m->rank, key_of(reader, &chunk),
                       why.text);
    *ret_bytes = bytes;
    *ret_digest = chunk.digest;
    return TIDE_OK;
}

enum tide_status shard_read_chunk(struct shard_reader *reader, uint64_t index, const unsigned char **ret_bytes, struct digest *ret_digest,
                                  struct err *err)
{
    struct chunk chunk;
    enum tide_status status = chunk_parse(reader->manifest->chunks.items[index], &chunk, err);
    if (status != TIDE_OK)
        return status;
    struct span *span = chunk.codec != CHUNK_ZERO ? span_of(reader, index) : NULL;
    if (span != NULL && !is_in(span, index))
        return err_set(err, TIDE_E_INVALID, "chunk %" PRIu64 " of rank %u was asked for behind a later one", index,
                       reader->manifest->rank);
    return shard_span_chunk(reader, span, index, ret_bytes, ret_digest, err);
}

/* ---- with helpers ---- */

static struct span *span_with(struct shard_reader *reader, uint64_t index)
{
    for (unsigned i = 0; i < reader->count; i++) {
        struct span *span = &reader->spans[(reader->head + i) % SPANS_MAX];
        if (is_in(span, index))
            return span;
    }
    return NULL;
}

enum shard_where shard_look(struct shard_reader *reader, uint64_t index, struct chunk *ret_chunk, const unsigned char **ret_from)
{
    struct chunk chunk;
    struct span *span = NULL;
    if (chunk_parse(reader->manifest->chunks.items[index], &chunk, NULL) != TIDE_OK)
        return SHARD_ODD;
    if (chunk.codec != CHUNK_ZERO) {
        span = span_with(reader, index);
        if (span == NULL)
            return SHARD_LATER;
        if (!span->waited && store_pending(&span->op))
            return SHARD_UNDER_WAY;
        await(span);
        if (span->status != TIDE_OK)
            return SHARD_ODD;
    }
    *ret_chunk = chunk;
    *ret_from = stored_form(span, &chunk);
    return SHARD_HERE;
}

void shard_await(struct shard_reader *reader, uint64_t index)
{
    struct span *span = span_with(reader, index);
    if (span != NULL)
        await(span);
}
