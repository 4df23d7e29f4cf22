/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/store/crew.h"

#include <stddef.h>

#include "ckpt/base/thread.h"

void crew_init(struct crew *crew, unsigned most)
{
    *crew = (struct crew){.last = &crew->first, .most = most < CREW_MOST ? most : CREW_MOST};
    pthread_mutex_init(&crew->lock, NULL);
    pthread_cond_init(&crew->changed, NULL);
}

void crew_release(struct crew *crew)
{
    pthread_mutex_lock(&crew->lock);
    crew->closing = 1;
    pthread_cond_broadcast(&crew->changed);
    pthread_mutex_unlock(&crew->lock);
    for (unsigned i = 0; i < crew->count; i++)
        pthread_join(crew->threads[i], NULL);
    pthread_cond_destroy(&crew->changed);
    pthread_mutex_destroy(&crew->lock);
}

static void *work(void *argument)
{
    struct crew *crew = argument;
    pthread_mutex_lock(&crew->lock);
    for (;;) {
        struct store_op *op = crew->first;
        if (op == NULL && crew->closing)
            break;
        if (op == NULL) {
            pthread_cond_wait(&crew->changed, &crew->lock);
            continue;
        }
        crew->first = op->next;
        if (crew->first == NULL)
            crew->last = &crew->first;
        pthread_mutex_unlock(&crew->lock);
        store_perform(op);
        pthread_mutex_lock(&crew->lock);
        op->running = 0;
        pthread_cond_broadcast(&crew->changed);
    }
    pthread_mutex_unlock(&crew->lock);
    return NULL;
}

/* One more with each that is begun, until there are enough. */
static void start(struct crew *crew)
{
    if (crew->count < crew->most && thread_begin(&crew->threads[crew->count], work, crew) == 0)
        crew->count++;
}

void crew_begin(struct crew *crew, struct store_op *op)
{
    pthread_mutex_lock(&crew->lock);
    start(crew);
    int there = crew->count > 0;
    op->running = there;
    if (there) {
        op->next = NULL;
        *crew->last = op;
        crew->last = &op->next;
        pthread_cond_broadcast(&crew->changed);
    }
    pthread_mutex_unlock(&crew->lock);
    if (!there)
        store_perform(op);
}

int crew_pending(struct crew *crew, struct store_op *op)
{
    pthread_mutex_lock(&crew->lock);
    int running = op->running;
    pthread_mutex_unlock(&crew->lock);
    return running;
}

enum tide_status crew_finish(struct crew *crew, struct store_op *op, struct err *err)
{
    pthread_mutex_lock(&crew->lock);
    while (op->running)
        pthread_cond_wait(&crew->changed, &crew->lock);
    pthread_mutex_unlock(&crew->lock);
    return op->status == TIDE_OK ? TIDE_OK : err_set(err, op->status, "%s", op->err.text);
}
