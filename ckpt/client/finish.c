/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <unistd.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/thread.h"
#include "ckpt/client/client.h"

/* For one record at a time: while it is under way the rank is not armed again. */
struct finisher {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int busy, stop;
    struct tide *tide;
};

static void *run(void *context)
{
    struct finisher *f = context;
    pthread_mutex_lock(&f->lock);
    for (;;) {
        while (!f->busy && !f->stop)
            pthread_cond_wait(&f->changed, &f->lock);
        if (!f->busy)
            break;
        pthread_mutex_unlock(&f->lock);
        struct err err = {.status = TIDE_OK, .text = ""};
        enum tide_status status = devices_finish(f->tide, &err);
        record_end(f->tide, status, &err);
        pthread_mutex_lock(&f->lock);
        f->busy = 0;
        pthread_cond_broadcast(&f->changed);
    }
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

static struct finisher *start(struct tide *tide)
{
    struct finisher *f = mem_try_alloc(sizeof *f);
    if (f == NULL)
        return NULL;
    f->tide = tide;
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    if (thread_begin(&f->thread, run, f) != 0) {
        mem_free(f);
        return NULL;
    }
    return f;
}

int finish_later(struct tide *tide)
{
    if (tide->finisher == NULL)
        tide->finisher = start(tide);
    struct finisher *f = tide->finisher;
    if (f == NULL)
        return -1;
    pthread_mutex_lock(&f->lock);
    f->busy = 1;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    return 0;
}

void finish_await(struct tide *tide)
{
    struct finisher *f = tide->finisher;
    if (f == NULL || getpid() != tide->pid) /* a forked child has the memory and not the thread */
        return;
    pthread_mutex_lock(&f->lock);
    while (f->busy)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

void finish_end(struct tide *tide)
{
    struct finisher *f = tide->finisher;
    tide->finisher = NULL;
    if (f == NULL || getpid() != tide->pid)
        return;
    pthread_mutex_lock(&f->lock);
    f->stop = 1;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    pthread_join(f->thread, NULL);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
    mem_free(f);
}
