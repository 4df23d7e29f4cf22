/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_BASE_THREAD_H
#define CKPT_BASE_THREAD_H

#include <pthread.h>

#include "ckpt/base/err.h"

/* A thread that is deaf to signals: the program's, or the loop's, are for the threads that expect them. 0, or what pthread_create says. */
MUST_USE int thread_begin(pthread_t *ret_thread, void *(*run)(void *context), void *context);

#endif
