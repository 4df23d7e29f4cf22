/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_NET_QUEUE_H
#define COORDINATOR_NET_QUEUE_H

/* Bytes that wait to be written, in order. Small pieces are copied behind each other, so that many of them leave with one
 * call; large ones are only referred to. The caller bounds it by `bytes`. */

#include <stddef.h>
#include <sys/uio.h>

#define QUEUE_CHUNK_BYTES (64u << 10)
#define QUEUE_COPY_MAX (16u << 10) /* a piece up to this is cheaper to copy than to write on its own */

struct chunk;

struct queue {
    struct chunk *first, *last, *spare;
    size_t bytes;
};

void queue_copy(struct queue *queue, const void *data, size_t bytes);
/* Takes the reference over; release(owner) when the bytes have left, or at once when they were copied. */
void queue_refer(struct queue *queue, const void *data, size_t bytes, void *owner, void (*release)(void *owner));
/* The oldest bytes, in up to `room` pieces; returns how many pieces. */
size_t queue_peek(const struct queue *queue, struct iovec *ret_pieces, size_t room);
void queue_drop(struct queue *queue, size_t bytes); /* the oldest, which have left */
void queue_clear(struct queue *queue);

#endif
