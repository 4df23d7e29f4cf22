/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/net/voice.h"

#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"

void voice_say(struct voice *voice, uint64_t now_ms, enum log_level level, const char *format, ...)
{
    char text[TIDE_TEXT_MAX + 1];
    va_list args;
    va_start(args, format);
    text_say_list(text, sizeof text, format, args);
    va_end(args);
    if (now_ms - voice->window_ms >= VOICE_WINDOW_MS) {
        voice->window_ms = now_ms;
        voice->lines = 0;
    }
    bool same = strcmp(text, voice->last) == 0 && now_ms - voice->last_ms < VOICE_SAME_MS;
    if (same || voice->lines == VOICE_LINES) {
        voice->kept++;
        return;
    }
    voice->lines++;
    voice->last_ms = now_ms;
    text_copy(voice->last, sizeof voice->last, text);
    if (voice->kept > 0)
        log_at(level, "%s (%u lines like this or the one before were left out)", text, voice->kept);
    else
        log_at(level, "%s", text);
    voice->kept = 0;
}
