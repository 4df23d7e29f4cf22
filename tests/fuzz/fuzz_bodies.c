/* SPDX-License-Identifier: Apache-2.0 */
/* The bodies of the API, strict and lenient: the first byte chooses the noun, the rest is its text. */

#include "ckpt/base/mem.h"
#include "ckpt/wire/access.h"
#include "ckpt/wire/identity.h"
#include "ckpt/wire/job.h"
#include "ckpt/wire/node.h"
#include "ckpt/wire/view.h"
#include "tests/fuzz/fuzz.h"

#define BODY_BYTES_MAX (1u << 20)

static const struct codec *const nouns[] = {
    &job_spec_codec,      &node_hello_codec, &heartbeat_codec,    &rollback_request_codec,
    &token_request_codec, &desired_codec,    &node_welcome_codec, &job_view_codec,
    &job_list_codec,      &node_view_codec,  &node_list_codec,    &cluster_view_codec,
    &outcome_codec,       &api_error_codec,  &token_list_codec,   &identity_codec,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_in in = {.at = data, .left = bytes};
    unsigned choice = (unsigned)fuzz_number(&in, 1);
    const struct codec *codec = nouns[(choice & 127) % (sizeof nouns / sizeof nouns[0])];
    unsigned flags = choice & 128 ? CODEC_LENIENT : CODEC_STRICT;
    if (in.left > BODY_BYTES_MAX)
        return 0;
    char *body = mem_alloc(in.left + 1); /* exactly as long as it is */
    if (in.left > 0)
        memcpy(body, in.at, in.left);
    void *noun = mem_alloc(codec->size), *again = mem_alloc(codec->size);
    struct err err = {0};
    if (codec_parse(codec, body, in.left, flags, noun, &err) == TIDE_OK) {
        char *text = codec_print(codec, noun, CODEC_COMPACT);
        /* What was taken can be passed on, and says the same there. */
        FUZZ_CHECK(codec_parse(codec, text, strlen(text), CODEC_STRICT, again, &err) == TIDE_OK);
        char *second = codec_print(codec, again, CODEC_COMPACT);
        FUZZ_CHECK(strcmp(text, second) == 0);
        codec_release(codec, again);
        codec_copy(codec, noun, again);
        mem_free(second);
        second = codec_print(codec, again, CODEC_COMPACT);
        FUZZ_CHECK(strcmp(text, second) == 0);
        codec_release(codec, again);
        codec_release(codec, noun);
        mem_free(second);
        mem_free(text);
    } else {
        FUZZ_CHECK(err.status != TIDE_OK && err.text[0] != '\0');
    }
    mem_free(noun);
    mem_free(again);
    mem_free(body);
    return 0;
}
