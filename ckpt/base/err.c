/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/text.h"

const char *tide_status_name(enum tide_status status)
{
    switch ((int)status) {
#define X(number, symbol, name, meaning) \
    case number:                         \
        return name;
        TIDE_STATUS_MAP(X)
#undef X
    default:
        return "unknown";
    }
}

const char *tide_status_text(enum tide_status status)
{
    switch ((int)status) {
#define X(number, symbol, name, meaning) \
    case number:                         \
        return meaning;
        TIDE_STATUS_MAP(X)
#undef X
    default:
        return "unknown status";
    }
}

enum tide_status err_set(struct err *err, enum tide_status status, const char *format, ...)
{
    if (err == NULL)
        return status;
    va_list args;
    va_start(args, format);
    text_say_list(err->text, sizeof err->text, format, args); /* an argument may be the present text */
    va_end(args);
    err->status = status;
    return status;
}

enum tide_status err_wrap(struct err *err, const char *format, ...)
{
    if (err == NULL)
        return TIDE_E_IO;
    va_list args;
    va_start(args, format);
    char words[ERR_TEXT_MAX / 2];
    text_say_list(words, sizeof words, format, args);
    va_end(args);
    text_say(err->text, sizeof err->text, "%s: %s", words, err->text);
    return err->status;
}

static enum tide_status status_of_errno(int number)
{
    switch (number) {
    case ENOSPC:
    case EDQUOT:
        return TIDE_E_NOSPACE;
    case ENOMEM:
        return TIDE_E_NOMEM;
    default:
        return TIDE_E_IO;
    }
}

enum tide_status err_errno(struct err *err, const char *format, ...)
{
    int number = errno;
    va_list args;
    va_start(args, format);
    char words[ERR_TEXT_MAX / 2];
    text_say_list(words, sizeof words, format, args);
    va_end(args);
    char reason[128];
    return err_set(err, status_of_errno(number), "%s: %s", words, strerror_r(number, reason, sizeof reason));
}
