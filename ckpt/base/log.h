/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_BASE_LOG_H
#define CKPT_BASE_LOG_H

#include "ckpt/base/err.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Lines on stderr: "2026-01-02T03:04:05.678Z info  tidemarkd: text". `program` must outlive the process. Called before anything is
 * opened: from then on no file or socket gets the number of stdin, stdout or stderr, which may have been closed. */
void log_init(const char *program, enum log_level max);
void log_at(enum log_level level, const char *format, ...) PRINTF_LIKE(2, 3);
/* "error", "warn", "info", "debug"; nonzero when `name` is none of them. */
int log_level_parse(const char *name, enum log_level *ret_level);

#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

#endif
