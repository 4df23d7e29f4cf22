/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/cut/queue.h"

#define FROM(type, member, link) ((type *)(void *)((char *)(link)-offsetof(type, member)))

static void link_init(struct cut_link *list)
{
    list->prev = list->next = list;
}

static void link_append(struct cut_link *list, struct cut_link *link)
{
    link->prev = list->prev;
    link->next = list;
    list->prev->next = link;
    list->prev = link;
}

static void link_remove(struct cut_link *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->prev = link->next = NULL;
}

static unsigned bucket_of(uint32_t number)
{
    return number % CUT_QUEUE_BUCKETS;
}

static int matches(int32_t source, int32_t tag, const struct cut_message *message)
{
    return (source == CUT_ANY || source == message->source) && (tag == CUT_ANY || tag == message->tag);
}

void cut_queue_init(struct cut_queue *queue)
{
    *queue = (struct cut_queue){0};
    link_init(&queue->messages);
    link_init(&queue->receives);
    for (unsigned i = 0; i < CUT_QUEUE_BUCKETS; i++) {
        link_init(&queue->buckets[i]);
        link_init(&queue->held[i]);
    }
}

struct cut_receive *cut_queue_arrive(struct cut_queue *queue, struct cut_message *message)
{
    for (struct cut_link *at = queue->receives.next; at != &queue->receives; at = at->next) {
        struct cut_receive *receive = FROM(struct cut_receive, order, at);
        if (matches(receive->source, receive->tag, message)) {
            cut_queue_unpost(queue, receive);
            return receive;
        }
    }
    link_append(&queue->messages, &message->order);
    link_append(&queue->buckets[bucket_of((uint32_t)message->source)], &message->bucket);
    queue->message_count++;
    return NULL;
}

struct cut_message *cut_queue_post(struct cut_queue *queue, struct cut_receive *receive)
{
    struct cut_message *message = cut_queue_find(queue, receive->source, receive->tag);
    if (message != NULL) {
        cut_queue_take(queue, message);
        return message;
    }
    link_append(&queue->receives, &receive->order);
    queue->receive_count++;
    return NULL;
}

struct cut_message *cut_queue_find(const struct cut_queue *queue, int32_t source, int32_t tag)
{
    if (source == CUT_ANY) {
        for (struct cut_message *m = cut_queue_first(queue); m != NULL; m = cut_queue_next(queue, m))
            if (matches(source, tag, m))
                return m;
        return NULL;
    }
    const struct cut_link *bucket = &queue->buckets[bucket_of((uint32_t)source)];
    for (struct cut_link *at = bucket->next; at != bucket; at = at->next) {
        struct cut_message *m = FROM(struct cut_message, bucket, at);
        if (matches(source, tag, m))
            return m;
    }
    return NULL;
}

void cut_queue_take(struct cut_queue *queue, struct cut_message *message)
{
    link_remove(&message->order);
    link_remove(&message->bucket);
    queue->message_count--;
}

void cut_queue_unpost(struct cut_queue *queue, struct cut_receive *receive)
{
    link_remove(&receive->order);
    queue->receive_count--;
}

/* ---- held ---- */

void cut_queue_hold(struct cut_queue *queue, struct cut_message *message)
{
    link_append(&queue->held[bucket_of(message->peer)], &message->bucket);
    queue->held_count++;
}

static struct cut_message *unhold(struct cut_queue *queue, struct cut_link *at)
{
    link_remove(at);
    queue->held_count--;
    return FROM(struct cut_message, bucket, at);
}

struct cut_message *cut_queue_release(struct cut_queue *queue, uint32_t peer)
{
    struct cut_link *bucket = &queue->held[bucket_of(peer)];
    for (struct cut_link *at = bucket->next; at != bucket; at = at->next)
        if (FROM(struct cut_message, bucket, at)->peer == peer)
            return unhold(queue, at);
    return NULL;
}

struct cut_message *cut_queue_release_any(struct cut_queue *queue)
{
    for (unsigned i = 0; i < CUT_QUEUE_BUCKETS && queue->held_count > 0; i++)
        if (queue->held[i].next != &queue->held[i])
            return unhold(queue, queue->held[i].next);
    return NULL;
}

/* ---- in order ---- */

struct cut_message *cut_queue_first(const struct cut_queue *queue)
{
    struct cut_link *at = queue->messages.next;
    return at == &queue->messages ? NULL : FROM(struct cut_message, order, at);
}

struct cut_message *cut_queue_next(const struct cut_queue *queue, const struct cut_message *message)
{
    struct cut_link *at = message->order.next;
    return at == &queue->messages ? NULL : FROM(struct cut_message, order, at);
}

struct cut_receive *cut_queue_first_receive(const struct cut_queue *queue)
{
    struct cut_link *at = queue->receives.next;
    return at == &queue->receives ? NULL : FROM(struct cut_receive, order, at);
}

struct cut_receive *cut_queue_next_receive(const struct cut_queue *queue, const struct cut_receive *receive)
{
    struct cut_link *at = receive->order.next;
    return at == &queue->receives ? NULL : FROM(struct cut_receive, order, at);
}
