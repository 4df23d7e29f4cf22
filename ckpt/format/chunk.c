/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/format/chunk.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static const char codec_letters[] = "0rz8p";

void chunk_print(const struct chunk *chunk, char to[CHUNK_TEXT_MAX])
{
    char hex[DIGEST_HEX_CHARS + 1];
    digest_hex(chunk->digest, hex);
    int n = snprintf(to, CHUNK_TEXT_MAX, "%c %s", codec_letters[chunk->codec], hex);
    if (chunk->codec != CHUNK_ZERO)
        snprintf(to + n, CHUNK_TEXT_MAX - (size_t)n, " %" PRIu32 " %" PRIu64 " %" PRIu32, chunk->pack, chunk->offset,
                 chunk->length);
}

/* " <decimal>", without sign, blanks or leading zeros; steps past it. */
static int number(const char **at, uint64_t max, uint64_t *ret_number)
{
    const char *p = *at;
    uint64_t n = 0;
    if (*p++ != ' ' || *p < '0' || *p > '9' || (p[0] == '0' && p[1] >= '0' && p[1] <= '9'))
        return -1;
    for (; *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (n > (max - digit) / 10)
            return -1;
        n = n * 10 + digit;
    }
    *at = p;
    *ret_number = n;
    return 0;
}

static int parse(const char *text, struct chunk *to)
{
    char hex[DIGEST_HEX_CHARS + 1];
    const char *letter = text[0] ? strchr(codec_letters, text[0]) : NULL;
    if (letter == NULL || strnlen(text, 2 + DIGEST_HEX_CHARS) < 2 + DIGEST_HEX_CHARS || text[1] != ' ')
        return -1;
    memcpy(hex, text + 2, DIGEST_HEX_CHARS);
    hex[DIGEST_HEX_CHARS] = '\0';
    to->codec = (enum chunk_codec)(letter - codec_letters);
    const char *at = text + 2 + DIGEST_HEX_CHARS;
    if (digest_parse(hex, &to->digest))
        return -1;
    uint64_t pack = 0, offset = 0, length = 0;
    if (to->codec != CHUNK_ZERO &&
        (number(&at, UINT32_MAX, &pack) || number(&at, INT64_MAX, &offset) || number(&at, UINT32_MAX, &length)))
        return -1;
    to->pack = (uint32_t)pack;
    to->offset = offset;
    to->length = (uint32_t)length;
    return *at == '\0' ? 0 : -1;
}

enum tide_status chunk_parse(const char *text, struct chunk *ret_chunk, struct err *err)
{
    struct chunk chunk;
    if (parse(text, &chunk))
        return err_set(err, TIDE_E_INVALID, "\"%.80s\" is not a line of a chunk table", text);
    *ret_chunk = chunk;
    return TIDE_OK;
}
