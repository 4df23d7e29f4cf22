/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_NET_VOICE_H
#define COORDINATOR_NET_VOICE_H

/* Log lines about others, who must not be able to fill the disk: the same words again are said once a minute, and at most
 * VOICE_LINES in VOICE_WINDOW_MS; how many were kept back is said with the next one. */

#include <stdbool.h>
#include <stdint.h>
#include <tidemark/types.h>

#include "ckpt/base/log.h"

#define VOICE_LINES 10u
#define VOICE_WINDOW_MS 10000u
#define VOICE_SAME_MS 60000u

struct voice {
    char last[TIDE_TEXT_MAX + 1];
    uint64_t last_ms, window_ms;
    unsigned lines, kept;
};

void voice_say(struct voice *voice, uint64_t now_ms, enum log_level level, const char *format, ...) PRINTF_LIKE(4, 5);

#endif
