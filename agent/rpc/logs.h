/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_LOGS_H
#define AGENT_RPC_LOGS_H

/* Reading what ranks have printed: a stream of bytes of which the oldest may be gone, kept in FILE.1 and FILE
 * (agent/step/link.h). Offsets count from the stream's first byte. Nothing of a request becomes part of a path before it was
 * found valid. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tidemark/types.h>

#include "ckpt/base/err.h"

#define LOG_JOBS_MAX 64u        /* jobs whose logs are kept, the youngest */
#define LOG_GENERATIONS_MAX 32u /* … and generations of each */
#define LOG_PIECE_MAX (256u << 10) /* bytes of one answer */

struct log_query {
    char job[TIDE_NAME_MAX + 1];
    char uid[TIDE_UID_CHARS + 1]; /* empty: the youngest job of that name */
    uint64_t generation;          /* 0: the newest there is */
    uint32_t rank;
    char stream[8]; /* "out" or "err" */
    uint64_t offset;
    uint64_t wait_ms;
};

/* One parameter of the request. Errors: INVALID with its name. An unknown name is an error. */
MUST_USE enum tide_status log_query_set(struct log_query *query, const char *name, const char *value, struct err *err);

/* The key of the job's logs, in its directory: heap, wipe and free it; NULL when everybody may read them. Errors: IO. */
MUST_USE enum tide_status logs_key(const char *logs, const struct log_query *query, char **ret_key, struct err *err);
/* Keep it there, for this agent and the next. Errors: IO, NOSPACE. */
MUST_USE enum tide_status logs_key_save(const char *logs, const char *job, const char *uid, const char *key, struct err *err);

/* Fill in uid and generation from what is there. Errors: NOT_FOUND, INVALID (no job was named). */
MUST_USE enum tide_status logs_find(const char *logs, struct log_query *query, struct err *err);

struct log_piece {
    char *data; /* heap */
    size_t bytes;
    uint64_t offset; /* of the first byte; >= the one asked for */
    bool exists;     /* the rank's file is there */
};

/* What is there from query->offset on; 0 bytes at the end. An offset behind the end is answered with the end.
 * Errors: UNAVAILABLE (the files are being rotated: ask again), IO. */
MUST_USE enum tide_status logs_read(const char *logs, const struct log_query *query, struct log_piece *ret_piece, struct err *err);

/* Remove the oldest jobs beyond LOG_JOBS_MAX, those that run excepted, and, of `job`.`uid`, generations beyond
 * LOG_GENERATIONS_MAX. */
void logs_prune(const char *logs, const char *job, const char *uid, bool (*running)(void *context, const char *uid), void *context);

#endif
