/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_BASE_MEM_H
#define CKPT_BASE_MEM_H

#include <stdarg.h>
#include <stddef.h>

#include "ckpt/base/err.h"

/* The allocator seam. The daemons and the CLI cannot do their work without a few bytes of memory: mem_* says so on
 * stderr and aborts, and the supervisor starts them again from durable state. What runs inside a training process
 * (ckpt/client) must never do that and uses mem_try_*. Zeroed, always. */
MUST_USE void *mem_alloc(size_t bytes);
MUST_USE void *mem_array(size_t count, size_t size);
MUST_USE void *mem_grow(void *old, size_t count, size_t size); /* new tail is not zeroed */
MUST_USE char *mem_strdup(const char *text);
MUST_USE char *mem_format(const char *format, ...) PRINTF_LIKE(1, 2);
void mem_free(void *pointer); /* NULL is legal */
/* What is free goes back to the system, for a thread that was done with much of it at a time: its part of the heap would keep
 * it. Takes a few ms of a large heap. */
void mem_trim(void);

MUST_USE void *mem_try_alloc(size_t bytes);
MUST_USE void *mem_try_array(size_t count, size_t size);

/* For what is filled from one end to the other, again and again: whole huge pages where the kernel has them, because else it is
 * given one small page at a time, which costs as much as filling them. Only what is written is ever there. bytes: a multiple of
 * 2 MiB. */
MUST_USE void *mem_try_pages(size_t bytes);
void mem_pages_free(void *pages, size_t bytes); /* NULL is legal */
/* What they hold is of no use until they are written again. Meanwhile the kernel may take them, and does so before it takes what
 * is in use; what it has not taken is there at once. Nonzero: this kernel, or a limit on locked memory, has no such thing. */
MUST_USE int mem_pages_lend(void *pages, size_t bytes);

/* Tests: the n-th next mem_try_* (1 is the next) returns NULL; 0 switches it off. */
void mem_fail_at(unsigned long n);

/* Copy with truncation, always terminated. Never for identifiers (see name_valid); sentences that may be too long: text_fit (text.h). */
void text_copy(char *to, size_t size, const char *from);

/* 1..TIDE_NAME_MAX of [A-Za-z0-9._-], first one alphanumeric: names become file names, object keys and host names. */
int name_valid(const char *name);

#endif
