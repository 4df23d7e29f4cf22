/* SPDX-License-Identifier: Apache-2.0 */
/* Records of the log, a line each: parsed, applied, and the state as an image and back. */

#include "ckpt/base/mem.h"
#include "coordinator/core/core.h"
#include "tests/fuzz/fuzz.h"

#define COMMANDS_MAX 64u

static void apply_line(struct state *state, const char *line, size_t bytes, uint64_t index)
{
    struct command command;
    struct outcome outcome = {0};
    struct err err = {0};
    char *text = mem_alloc(bytes + 1);
    memcpy(text, line, bytes);
    if (codec_parse(&command_codec, text, bytes, CODEC_STRICT, &command, &err) == TIDE_OK) {
        enum tide_status status = apply(state, &command, index, &outcome, &err);
        FUZZ_CHECK(status == TIDE_OK || err.text[0] != '\0');
        FUZZ_CHECK(state->revision == index);
        if (state_check(state, &err) != TIDE_OK) {
            fprintf(stderr, "%s\n", err.text);
            abort();
        }
        codec_release(&command_codec, &command);
    }
    mem_free(text);
}

/* A member that starts from the image has the same state. */
static void image_and_back(const struct state *state)
{
    struct state loaded;
    struct err err = {0};
    char *image = codec_print(&state_codec, state, CODEC_COMPACT);
    if (codec_parse(&state_codec, image, strlen(image), CODEC_STRICT, &loaded, &err) != TIDE_OK) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    char *again = codec_print(&state_codec, &loaded, CODEC_COMPACT);
    FUZZ_CHECK(strcmp(image, again) == 0);
    state_release(&loaded);
    mem_free(image);
    mem_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct state state = {0};
    const char *at = (const char *)data, *end = at + bytes;
    uint64_t index = 0;
    while (at < end && index < COMMANDS_MAX) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((newline ? newline : end) - at);
        apply_line(&state, at, n, ++index);
        at += n + 1;
    }
    image_and_back(&state);
    state_release(&state);
    return 0;
}
