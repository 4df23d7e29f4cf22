/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_BASE_TEXT_H
#define CKPT_BASE_TEXT_H

/* Sentences for people, in the room that there is for them. */

#include <stddef.h>

#include "ckpt/base/err.h"

#define TEXT_LEFT_OUT "…"               /* stands for what had no room */
#define TEXT_FORMAT_MAX (2 * ERR_TEXT_MAX) /* bytes that text_say formats before it makes them fit */

/* `from` in `size` bytes, NUL included. What has no room is left out of the middle, where "…" stands for it: a sentence begins with
 * what happened and ends with why and what to do next. Characters (UTF-8) stay whole, and half of one at the end of `from`
 * goes; in JSON it would cost the whole text. `from` may be `to`. */
void text_fit(char *to, size_t size, const char *from);
/* The same, formatted; an argument may be the present text. */
void text_say(char *to, size_t size, const char *format, ...) PRINTF_LIKE(3, 4);
void text_say_list(char *to, size_t size, const char *format, va_list args);

/* Bytes of the last character of text that are there but not all of it; 0 when it is whole. */
size_t text_broken_tail(const char *text, size_t bytes);

#endif
