/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/encode.h"

#include <string.h>
#include <zstd.h>

#include "ckpt/base/mem.h"

#define ZSTD_LEVEL 1
#define PAYS_DIVISOR 16 /* compressed must be shorter by a 16th, or a restore pays for nothing */

struct encoder {
    ZSTD_CCtx *out;
    ZSTD_DCtx *in;
};

enum tide_status encoder_create(struct encoder **ret_encoder, struct err *err)
{
    struct encoder *encoder = mem_try_alloc(sizeof *encoder);
    if (encoder) {
        encoder->out = ZSTD_createCCtx();
        encoder->in = ZSTD_createDCtx();
    }
    if (encoder == NULL || encoder->out == NULL || encoder->in == NULL ||
        ZSTD_isError(ZSTD_CCtx_setParameter(encoder->out, ZSTD_c_compressionLevel, ZSTD_LEVEL))) {
        encoder_free(encoder);
        return err_set(err, TIDE_E_NOMEM, "no memory for the compressor");
    }
    *ret_encoder = encoder;
    return TIDE_OK;
}

void encoder_free(struct encoder *encoder)
{
    if (encoder == NULL)
        return;
    ZSTD_freeCCtx(encoder->out);
    ZSTD_freeDCtx(encoder->in);
    mem_free(encoder);
}

static int all_zero(const unsigned char *raw, uint32_t bytes)
{
    /* Equal to itself one byte further and zero at the front: memcmp is as fast as memory. */
    return raw[0] == 0 && memcmp(raw, raw + 1, bytes - 1) == 0;
}

void encode_chunk(struct encoder *encoder, const void *raw, uint32_t raw_bytes, void *to, enum chunk_codec *ret_codec,
                  uint32_t *ret_length)
{
    *ret_length = 0;
    *ret_codec = CHUNK_ZERO;
    if (all_zero(raw, raw_bytes))
        return;
    size_t n = ZSTD_compress2(encoder->out, to, raw_bytes - raw_bytes / PAYS_DIVISOR, raw, raw_bytes);
    if (!ZSTD_isError(n) && n < raw_bytes) {
        *ret_codec = CHUNK_ZSTD;
        *ret_length = (uint32_t)n;
        return;
    }
    /* The usual error is that the room ran out, which is how we learn that it does not pay. */
    memcpy(to, raw, raw_bytes);
    *ret_codec = CHUNK_RAW;
    *ret_length = raw_bytes;
}

enum tide_status decode_chunk(struct encoder *encoder, enum chunk_codec codec, const void *from, uint32_t length, void *to,
                              uint32_t raw_bytes, struct err *err)
{
    size_t n = raw_bytes;
    if (codec == CHUNK_ZERO)
        memset(to, 0, raw_bytes);
    else if (codec == CHUNK_RAW && length == raw_bytes)
        memcpy(to, from, raw_bytes);
    else if (codec == CHUNK_ZSTD)
        n = ZSTD_decompressDCtx(encoder->in, to, raw_bytes, from, length);
    else
        n = 0;
    if (ZSTD_isError(n) || n != raw_bytes)
        return err_set(err, TIDE_E_CORRUPT, "it cannot be decoded to %u bytes", raw_bytes);
    return TIDE_OK;
}
