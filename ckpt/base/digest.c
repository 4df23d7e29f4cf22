/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/base/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

struct digest digest_of(const void *data, size_t bytes)
{
    XXH128_hash_t h = XXH3_128bits(data, bytes);
    return (struct digest){.high = h.high64, .low = h.low64};
}

int digest_equal(struct digest a, struct digest b)
{
    return a.high == b.high && a.low == b.low;
}

void digest_hex(struct digest digest, char to[DIGEST_HEX_CHARS + 1])
{
    snprintf(to, DIGEST_HEX_CHARS + 1, "%016" PRIx64 "%016" PRIx64, digest.high, digest.low);
}

static int hex_word(const char *hex, uint64_t *ret_word)
{
    uint64_t word = 0;
    for (int i = 0; i < 16; i++) {
        const char *at = hex[i] ? strchr("0123456789abcdef", hex[i]) : NULL;
        if (at == NULL)
            return -1;
        word = word << 4 | (uint64_t)(at - "0123456789abcdef");
    }
    *ret_word = word;
    return 0;
}

int digest_parse(const char *hex, struct digest *ret_digest)
{
    struct digest d;
    if (strlen(hex) != DIGEST_HEX_CHARS || hex_word(hex, &d.high) || hex_word(hex + 16, &d.low))
        return -1;
    *ret_digest = d;
    return 0;
}
