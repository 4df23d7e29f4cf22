/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/base/digest.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>
#ifdef TIDE_XXH_DISPATCH
#include <xxh_x86dispatch.h> /* the widest registers this processor has: three times as fast as what every one has */
#endif

struct digest digest_of(const void *data, size_t bytes)
{
    XXH128_hash_t h = XXH3_128bits(data, bytes);
    return (struct digest){.high = h.high64, .low = h.low64};
}

struct digest_run *digest_run_create(void)
{
    XXH3_state_t *state = XXH3_createState(); /* it wants to lie at a multiple of 64 */
    if (state != NULL)
        XXH3_128bits_reset(state);
    return (struct digest_run *)state;
}

void digest_run_free(struct digest_run *run)
{
    XXH3_freeState((XXH3_state_t *)run);
}

void digest_run_restart(struct digest_run *run)
{
    XXH3_128bits_reset((XXH3_state_t *)run);
}

void digest_run_add(struct digest_run *run, const void *data, size_t bytes)
{
    XXH3_128bits_update((XXH3_state_t *)run, data, bytes);
}

struct digest digest_run_end(const struct digest_run *run)
{
    XXH128_hash_t h = XXH3_128bits_digest((const XXH3_state_t *)run);
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
