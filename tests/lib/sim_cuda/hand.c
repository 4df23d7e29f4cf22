/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/lib/sim_cuda/sim.h"

/* A device works by itself. The simulator is lazy instead, and whoever looks does the work; but not where that may take for ever, and
 * he would be told at once by a real one: then a thread of ours does it, one for each stream. */

static void *work(void *stream)
{
    struct CUstream_st *s = stream;
    pthread_mutex_lock(&sim.lock);
    while (s->wanted) {
        struct sim_op *op = s->wanted;
        op->refs++;
        sim_await(op);
        if (s->wanted == op) {
            s->wanted = NULL;
            sim_unref(op);
        }
        sim_unref(op);
    }
    s->hand = 0;
    sim.hands--;
    sim_free_if_over(s);
    pthread_cond_broadcast(&sim.changed);
    pthread_mutex_unlock(&sim.lock);
    return NULL;
}

/* Deaf to the signals of the program. */
static void start_hand(struct CUstream_st *s)
{
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_create(&thread, NULL, work, s) != 0) {
        fputs("the simulator of CUDA has no thread for a stream\n", stderr);
        abort();
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_detach(thread);
    s->hand = 1;
    sim.hands++;
}

void sim_begin_op(struct sim_op *op)
{
    struct CUstream_st *s = op->stream;
    if (s->wanted && s->wanted->number >= op->number)
        return;
    op->refs++;
    sim_unref(s->wanted);
    s->wanted = op;
    if (!s->hand)
        start_hand(s);
}

void sim_begin(cudaStream_t stream)
{
    sim_enter(SIM_ANY);
    struct CUstream_st *s = sim_stream(stream);
    if (s && s->tail)
        sim_begin_op(s->tail);
    pthread_mutex_unlock(&sim.lock);
}
