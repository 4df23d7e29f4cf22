/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CUT_QUEUE_H
#define CKPT_CUT_QUEUE_H

/* Matching in MPI's place, one queue per communicator: messages that have arrived, receives that were posted, messages that
 * are held. All that stands in it belongs to the caller, who embeds these structs; nothing is allocated. No message in it
 * matches a receive in it, ever. */

#include <stddef.h>
#include <stdint.h>

#define CUT_ANY (-1) /* source or tag of a receive */
#define CUT_QUEUE_BUCKETS 16u

struct cut_link {
    struct cut_link *prev, *next;
};

/* source is a rank of the communicator, as the program sees it (of the remote group of an intercommunicator). */
struct cut_message {
    struct cut_link order, bucket; /* in arrival order: all, and those of some sources */
    int32_t source, tag;
    uint32_t peer; /* the sender's world rank */
    void *payload; /* the caller's */
};

struct cut_receive {
    struct cut_link order; /* in posted order */
    int32_t source, tag;   /* or CUT_ANY */
    void *context;         /* the caller's */
};

struct cut_queue {
    struct cut_link messages, receives;
    struct cut_link buckets[CUT_QUEUE_BUCKETS]; /* of messages, by source */
    struct cut_link held[CUT_QUEUE_BUCKETS];    /* by peer */
    size_t message_count, receive_count, held_count;
};

void cut_queue_init(struct cut_queue *queue);
/* Nothing there that a receive or probe of MPI's would have to look at first. */
static inline int cut_queue_empty(const struct cut_queue *queue)
{
    return queue->message_count == 0;
}

/* A message has arrived: returns the receive that gets it, which is out of the queue then, or NULL: it is queued. */
struct cut_receive *cut_queue_arrive(struct cut_queue *queue, struct cut_message *message);
/* A receive is posted: returns the message it gets, which is out of the queue then, or NULL: it is queued. */
struct cut_message *cut_queue_post(struct cut_queue *queue, struct cut_receive *receive);
/* What a probe finds: the first that matches, or NULL. It stays; cut_queue_take takes it out. */
struct cut_message *cut_queue_find(const struct cut_queue *queue, int32_t source, int32_t tag);
void cut_queue_take(struct cut_queue *queue, struct cut_message *message);
/* Take back a receive: cancelled, or handed to MPI. */
void cut_queue_unpost(struct cut_queue *queue, struct cut_receive *receive);

/* Of the new colour, and its sender is not drained: nobody sees it. */
void cut_queue_hold(struct cut_queue *queue, struct cut_message *message);
/* The next one held of that peer, which is held no longer; NULL: none. Hand each to cut_queue_arrive. */
struct cut_message *cut_queue_release(struct cut_queue *queue, uint32_t peer);
/* The next of any peer, each peer's in order. */
struct cut_message *cut_queue_release_any(struct cut_queue *queue);

/* In arrival order, in posted order; NULL behind the last. What stands first may be taken out before the next is asked for.
 */
struct cut_message *cut_queue_first(const struct cut_queue *queue);
struct cut_message *cut_queue_next(const struct cut_queue *queue, const struct cut_message *message);
struct cut_receive *cut_queue_first_receive(const struct cut_queue *queue);
struct cut_receive *cut_queue_next_receive(const struct cut_queue *queue, const struct cut_receive *receive);

#endif
