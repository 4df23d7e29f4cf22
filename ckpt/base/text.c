/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/base/text.h"

#include <stdio.h>
#include <string.h>

#define MARK_BYTES (sizeof TEXT_LEFT_OUT - 1)
#define MARKED_MIN (4 * MARK_BYTES) /* where there is less room the end is left out, and nothing says so */

static int continues(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

size_t text_broken_tail(const char *text, size_t bytes)
{
    size_t back = 0;
    while (back < bytes && back < 3 && continues(text[bytes - 1 - back]))
        back++;
    if (back == bytes)
        return back;
    unsigned char lead = (unsigned char)text[bytes - 1 - back];
    size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    return want == back + 1 ? 0 : back + 1;
}

void text_fit(char *to, size_t size, const char *from)
{
    size_t bytes = strlen(from), room = size - 1;
    bytes -= text_broken_tail(from, bytes);
    size_t head = bytes, end = bytes, mark = 0; /* what is between head and end goes */
    if (bytes > room && room < MARKED_MIN) {
        head = room - text_broken_tail(from, room);
    } else if (bytes > room) {
        mark = MARK_BYTES;
        head = (room - MARK_BYTES) * 2 / 3;
        end = bytes - (room - MARK_BYTES - head);
        head -= text_broken_tail(from, head);
        while (end < bytes && continues(from[end]))
            end++;
    }
    memmove(to + head + mark, from + end, bytes - end);
    memmove(to, from, head);
    memcpy(to + head, TEXT_LEFT_OUT, mark);
    to[head + mark + (bytes - end)] = '\0';
}

void text_say_list(char *to, size_t size, const char *format, va_list args)
{
    char text[TEXT_FORMAT_MAX];
    if (vsnprintf(text, sizeof text, format, args) >= (int)sizeof text) { /* what was there at the end is not known */
        size_t bytes = sizeof text - 1 - MARK_BYTES;
        bytes -= text_broken_tail(text, bytes);
        memcpy(text + bytes, TEXT_LEFT_OUT, sizeof TEXT_LEFT_OUT);
    }
    text_fit(to, size, text);
}

void text_say(char *to, size_t size, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    text_say_list(to, size, format, args);
    va_end(args);
}
