/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_BASE_ERR_H
#define CKPT_BASE_ERR_H

#include <stdarg.h>
#include <tidemark/error.h>

#define ERR_TEXT_MAX 1024

/* A status with its sentence. The callee fills it on failure and leaves it untouched on success, so one struct serves
 * a whole function. Sentences say what happened, to what, and what to do next. */
struct err {
    enum tide_status status;
    char text[ERR_TEXT_MAX];
};

#define MUST_USE __attribute__((warn_unused_result))
#define PRINTF_LIKE(words, first) __attribute__((__format__(__printf__, words, first)))

/* Fill `err` (NULL is legal) and return `status`, so that a function can say: return err_set(err, TIDE_E_IO, …). */
enum tide_status err_set(struct err *err, enum tide_status status, const char *format, ...) PRINTF_LIKE(3, 4);

/* Put "words: " before the present text, and return its status: one more step of context as an error rises. */
enum tide_status err_wrap(struct err *err, const char *format, ...) PRINTF_LIKE(2, 3);

/* As err_set with ": strerror(errno)" at the end; ENOSPC and EDQUOT become NOSPACE, ENOMEM NOMEM, all else IO. */
enum tide_status err_errno(struct err *err, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
