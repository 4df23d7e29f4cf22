/* SPDX-License-Identifier: Apache-2.0 */
/* What may lie in a store: chunks of every kind, as they were stored or not, and lines of a chunk table. */

#include <tidemark/tidemark.h>

#include "ckpt/base/mem.h"
#include "ckpt/stage/encode.h"
#include "tests/fuzz/fuzz.h"

#define RAW_MAX (64u << 10)

static struct encoder *encoder;

/* At the end of a block of its own, so that a byte too far is found. */
static uint8_t *exact(const uint8_t *from, size_t bytes, uint8_t **ret_block)
{
    *ret_block = mem_alloc(bytes + 1);
    if (bytes > 0)
        memcpy(*ret_block + 1, from, bytes);
    return *ret_block + 1;
}

static void decode(enum chunk_codec codec, const uint8_t *stored, size_t length, uint32_t raw_bytes)
{
    struct err err = {0};
    uint8_t *from_block, *to_block = mem_alloc(raw_bytes + 1);
    const uint8_t *from = exact(stored, length, &from_block);
    enum tide_status status = decode_chunk(encoder, codec, from, (uint32_t)length, to_block + 1, raw_bytes, &err);
    FUZZ_CHECK(status == TIDE_OK || (status == TIDE_E_CORRUPT && err.text[0] != '\0'));
    mem_free(from_block);
    mem_free(to_block);
}

/* Regions and their bytes, invented: what is encoded comes back; and then with one byte changed. */
static void round_trip(struct fuzz_in *in)
{
    struct rank_manifest m = {0};
    struct segments segments;
    struct err err = {0};
    enum chunk_codec codec;
    uint32_t length, change = (uint32_t)fuzz_number(in, 2);
    size_t cursor = 0;
    uint8_t *raw = mem_alloc(RAW_MAX), *stored = mem_alloc(RAW_MAX), *back = mem_alloc(RAW_MAX);
    while (in->left > 0) {
        uint32_t dtype = (uint32_t)fuzz_number(in, 1), bytes = (uint32_t)fuzz_number(in, 2),
                 period = 1 + (uint32_t)fuzz_number(in, 1);
        uint64_t end = region_end_aligned(m.data_bytes, bytes);
        size_t given;
        const uint8_t *pattern = fuzz_take(in, period, &given);
        if (end > RAW_MAX || given == 0)
            break;
        struct region_entry *r = codec_list_add(&region_entry_codec, &m.regions);
        *r = (struct region_entry){.dtype = dtype, .offset = m.data_bytes, .bytes = bytes};
        for (uint32_t i = 0; i < bytes; i++)
            raw[m.data_bytes + i] = (uint8_t)(pattern[i % given] + (period & 1 ? i * i >> 7 : 0));
        m.data_bytes = end;
    }
    uint32_t raw_bytes = (uint32_t)m.data_bytes;
    if (raw_bytes > 0) {
        segments_plan(&m, 0, &cursor, &segments);
        encode_chunk(encoder, raw, raw_bytes, &segments, stored, &codec, &length);
        FUZZ_CHECK(length <= raw_bytes);
        FUZZ_CHECK(decode_chunk(encoder, codec, stored, length, back, raw_bytes, &err) == TIDE_OK);
        FUZZ_CHECK(memcmp(raw, back, raw_bytes) == 0);
        if (length > 0) {
            stored[change % length] ^= (uint8_t)(1 + change % 255);
            decode(codec, stored, length, raw_bytes);
        }
    }
    codec_release(&rank_manifest_codec, &m);
    mem_free(raw);
    mem_free(stored);
    mem_free(back);
}

/* What is understood is written again in the same letters. */
static void line(const uint8_t *text, size_t bytes)
{
    struct chunk chunk;
    struct err err = {0};
    char *copy = mem_alloc(bytes + 1), again[CHUNK_TEXT_MAX];
    if (bytes > 0)
        memcpy(copy, text, bytes);
    if (chunk_parse(copy, &chunk, &err) == TIDE_OK) {
        chunk_print(&chunk, again);
        FUZZ_CHECK(strcmp(copy, again) == 0);
    } else {
        FUZZ_CHECK(err.text[0] != '\0');
    }
    mem_free(copy);
}

static void forget(void)
{
    encoder_free(encoder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_in in = {.at = data, .left = bytes};
    if (encoder == NULL) {
        FUZZ_CHECK(encoder_create(&encoder, NULL) == TIDE_OK);
        atexit(forget);
    }
    unsigned what = (unsigned)fuzz_number(&in, 1) % (CHUNK_CODECS + 2);
    if (what == CHUNK_CODECS) {
        line(in.at, in.left);
    } else if (what > CHUNK_CODECS) {
        round_trip(&in);
    } else {
        uint32_t raw_bytes = 1 + (uint32_t)fuzz_number(&in, 2);
        decode((enum chunk_codec)what, in.at, in.left, raw_bytes);
    }
    return 0;
}
