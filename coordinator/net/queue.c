/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/net/queue.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "ckpt/base/mem.h"

struct chunk {
    struct chunk *next;
    const char *data;
    size_t begin, end; /* of what has not left */
    size_t room;       /* for copies; 0: refers to somebody else's bytes */
    void *owner;
    void (*release)(void *owner);
    char copies[];
};

static struct chunk *append(struct queue *queue, struct chunk *chunk)
{
    chunk->next = NULL;
    if (queue->last != NULL)
        queue->last->next = chunk;
    else
        queue->first = chunk;
    queue->last = chunk;
    return chunk;
}

static struct chunk *with_room(struct queue *queue)
{
    struct chunk *chunk = queue->last;
    if (chunk != NULL && chunk->end < chunk->room)
        return chunk;
    chunk = queue->spare;
    queue->spare = NULL;
    if (chunk == NULL) {
        chunk = mem_alloc(sizeof *chunk + QUEUE_CHUNK_BYTES);
        chunk->data = chunk->copies;
        chunk->room = QUEUE_CHUNK_BYTES;
    }
    chunk->begin = chunk->end = 0;
    return append(queue, chunk);
}

void queue_copy(struct queue *queue, const void *data, size_t bytes)
{
    queue->bytes += bytes;
    for (const char *from = data; bytes > 0;) {
        struct chunk *chunk = with_room(queue);
        size_t n = chunk->room - chunk->end < bytes ? chunk->room - chunk->end : bytes;
        memcpy(chunk->copies + chunk->end, from, n);
        chunk->end += n;
        from += n;
        bytes -= n;
    }
}

void queue_refer(struct queue *queue, const void *data, size_t bytes, void *owner, void (*release)(void *owner))
{
    if (bytes <= QUEUE_COPY_MAX) {
        queue_copy(queue, data, bytes);
        release(owner);
        return;
    }
    struct chunk *chunk = mem_alloc(sizeof *chunk);
    *chunk = (struct chunk){.data = data, .end = bytes, .owner = owner, .release = release};
    append(queue, chunk);
    queue->bytes += bytes;
}

size_t queue_peek(const struct queue *queue, struct iovec *ret_pieces, size_t room)
{
    size_t count = 0;
    for (struct chunk *chunk = queue->first; chunk != NULL && count < room; chunk = chunk->next)
        ret_pieces[count++] = (struct iovec){.iov_base = (void *)(uintptr_t)(chunk->data + chunk->begin),
                                             .iov_len = chunk->end - chunk->begin};
    return count;
}

static void drop_first(struct queue *queue)
{
    struct chunk *chunk = queue->first;
    queue->first = chunk->next;
    if (queue->first == NULL)
        queue->last = NULL;
    if (chunk->release != NULL)
        chunk->release(chunk->owner);
    if (chunk->room > 0 && queue->spare == NULL)
        queue->spare = chunk;
    else
        mem_free(chunk);
}

void queue_drop(struct queue *queue, size_t bytes)
{
    assert(bytes <= queue->bytes);
    queue->bytes -= bytes;
    while (bytes > 0) {
        struct chunk *chunk = queue->first;
        size_t n = chunk->end - chunk->begin < bytes ? chunk->end - chunk->begin : bytes;
        chunk->begin += n;
        bytes -= n;
        if (chunk->begin == chunk->end)
            drop_first(queue);
    }
}

void queue_clear(struct queue *queue)
{
    queue_drop(queue, queue->bytes);
    mem_free(queue->spare);
    *queue = (struct queue){0};
}
