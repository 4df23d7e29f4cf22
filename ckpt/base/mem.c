/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/base/mem.h"

#include <assert.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <tidemark/types.h>

#define HUGE_PAGE_BYTES ((size_t)2 << 20)

static unsigned long fail_at;

void mem_fail_at(unsigned long n)
{
    fail_at = n;
}

static int fails(void)
{
    return fail_at > 0 && --fail_at == 0;
}

void *mem_try_array(size_t count, size_t size)
{
    if (fails())
        return NULL;
    return calloc(count ? count : 1, size ? size : 1);
}

void *mem_try_alloc(size_t bytes)
{
    return mem_try_array(1, bytes);
}

static void *must(void *pointer, size_t bytes)
{
    if (pointer == NULL) {
        fprintf(stderr, "fatal: out of memory asking for %zu bytes; give this host more memory or a higher limit\n", bytes);
        abort();
    }
    return pointer;
}

void *mem_array(size_t count, size_t size)
{
    return must(calloc(count ? count : 1, size ? size : 1), count * size);
}

void *mem_alloc(size_t bytes)
{
    return mem_array(1, bytes);
}

void *mem_grow(void *old, size_t count, size_t size)
{
    return must(reallocarray(old, count ? count : 1, size), count * size);
}

char *mem_strdup(const char *text)
{
    return must(strdup(text), strlen(text) + 1);
}

char *mem_format(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = NULL;
    int n = vasprintf(&text, format, args);
    va_end(args);
    return must(n < 0 ? NULL : text, 0);
}

void mem_free(void *pointer)
{
    free(pointer);
}

void mem_trim(void)
{
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

/* Begun at a huge page: more is asked for, and what is around it given back. */
void *mem_try_pages(size_t bytes)
{
    size_t asked = bytes + HUGE_PAGE_BYTES;
    assert(bytes % HUGE_PAGE_BYTES == 0);
    if (fails())
        return NULL;
    unsigned char *from = mmap(NULL, asked, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (from == MAP_FAILED)
        return NULL;
    size_t before = (HUGE_PAGE_BYTES - (uintptr_t)from % HUGE_PAGE_BYTES) % HUGE_PAGE_BYTES;
    unsigned char *pages = from + before;
    mem_pages_free(before > 0 ? from : NULL, before);
    mem_pages_free(pages + bytes, asked - before - bytes);
    (void)madvise(pages, bytes, MADV_HUGEPAGE); /* a kernel without is only slower */
    return pages;
}

void mem_pages_free(void *pages, size_t bytes)
{
    if (pages != NULL)
        munmap(pages, bytes);
}

int mem_pages_lend(void *pages, size_t bytes)
{
    return madvise(pages, bytes, MADV_FREE);
}

void text_copy(char *to, size_t size, const char *from)
{
    size_t n = strnlen(from, size - 1);
    memmove(to, from, n);
    to[n] = '\0';
}

static int name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

int name_valid(const char *name)
{
    size_t n = strnlen(name, TIDE_NAME_MAX + 1);
    if (n == 0 || n > TIDE_NAME_MAX || !name_char(name[0]))
        return 0;
    for (size_t i = 0; i < n; i++)
        if (!name_char(name[i]) && name[i] != '.' && name[i] != '_' && name[i] != '-')
            return 0;
    return 1;
}
