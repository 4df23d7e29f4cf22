/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_STEP_OUTPUT_H
#define AGENT_STEP_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tidemark/types.h>

#include "ckpt/base/err.h"

/* What a rank printed on one stream, kept in two files of at most `bytes_max` each: FILE, and FILE.1 with what came right
 * before it. link.h says how a reader finds the offset of the first byte (FILE.base). */
struct output {
    char path[TIDE_PATH_MAX + 1];
    int fd;        /* -1: could not be opened; tried again with every write */
    bool base_due; /* FILE.base could not be written; the same */
    uint64_t bytes_max;
    uint64_t base; /* offset of the first byte still kept */
    uint64_t used; /* bytes in FILE */
    uint64_t lost; /* bytes that could not be written */
};

#define OUTPUT_BYTES_MAX_DEFAULT (UINT64_C(16) << 20)

/* Create the file anew. bytes_max 0: the default. Errors: IO, LIMIT (path). */
MUST_USE enum tide_status output_open(struct output *output, const char *path, uint64_t bytes_max, struct err *err);

/* Append. A disk that does not take it costs the bytes (counted in `lost`), never the rank. Returns false the first time. */
bool output_write(struct output *output, const char *data, size_t bytes);

void output_close(struct output *output);

#endif
