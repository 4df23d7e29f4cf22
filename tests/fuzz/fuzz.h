/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

/* What the targets share. A target is one function over some bytes; it aborts when something that must hold does not. With
 * libFuzzer it is driven by invented bytes, with replay.c by those that were kept. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/err.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define FUZZ_CHECK(what)                                                                                                    \
    do {                                                                                                                    \
        if (!(what)) {                                                                                                      \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what);                                              \
            abort();                                                                                                        \
        }                                                                                                                   \
    } while (0)

/* The input as a stream of decisions; behind its end all are 0. */
struct fuzz_in {
    const uint8_t *at;
    size_t left;
};

static inline uint64_t fuzz_number(struct fuzz_in *in, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes && in->left > 0; i++, in->left--)
        value |= (uint64_t)*in->at++ << (8 * i);
    return value;
}

/* The next bytes of the input, at most so many. */
static inline const uint8_t *fuzz_take(struct fuzz_in *in, size_t most, size_t *ret_bytes)
{
    const uint8_t *from = in->at;
    *ret_bytes = most < in->left ? most : in->left;
    in->at += *ret_bytes;
    in->left -= *ret_bytes;
    return from;
}

static char fuzz_dir_name[64];

static inline void fuzz_dir_remove(void)
{
    fsx_remove_tree(fuzz_dir_name, NULL);
}

/* An empty directory in memory; the same for each input of a process. */
static inline const char *fuzz_dir(void)
{
    if (fuzz_dir_name[0] == '\0') {
        log_init("fuzz", LOG_ERROR);
        atexit(fuzz_dir_remove);
        snprintf(fuzz_dir_name, sizeof fuzz_dir_name, "%s/tidemark-fuzz-%ld",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (long)getpid());
    }
    fsx_remove_tree(fuzz_dir_name, NULL);
    FUZZ_CHECK(fsx_mkdirs(fuzz_dir_name, 0700, NULL) == TIDE_OK);
    return fuzz_dir_name;
}

#endif
