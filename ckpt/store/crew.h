/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STORE_CREW_H
#define CKPT_STORE_CREW_H

/* Threads that put, remove or get for a store whose own verbs block, so that the next object is made while the last one is made
 * durable, and several are read at a time. Each is started when there is first something for it to do. */

#include <pthread.h>

#include "ckpt/store/store.h"

#define CREW_MOST 8u

struct crew {
    pthread_mutex_t lock; /* all below */
    pthread_cond_t changed;
    struct store_op *first, **last;
    pthread_t threads[CREW_MOST];
    unsigned count, most;
    int closing;
};

void crew_init(struct crew *crew, unsigned most); /* threads, at most CREW_MOST */
void crew_release(struct crew *crew); /* no operation may be under way */
/* Without a thread for it, it is done here and now. */
void crew_begin(struct crew *crew, struct store_op *op);
int crew_pending(struct crew *crew, struct store_op *op);
enum tide_status crew_finish(struct crew *crew, struct store_op *op, struct err *err);

#endif
