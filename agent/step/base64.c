/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/step/base64.h"

#include <stdint.h>
#include <string.h>

#include "ckpt/base/mem.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *base64_encode(const void *data, size_t bytes)
{
    const unsigned char *from = data;
    char *text = mem_alloc((bytes + 2) / 3 * 4 + 1), *to = text;
    for (size_t i = 0; i < bytes; i += 3) {
        size_t left = bytes - i;
        uint32_t group = (uint32_t)from[i] << 16;
        if (left > 1)
            group |= (uint32_t)from[i + 1] << 8;
        if (left > 2)
            group |= from[i + 2];
        *to++ = alphabet[group >> 18 & 63];
        *to++ = alphabet[group >> 12 & 63];
        *to++ = left > 1 ? alphabet[group >> 6 & 63] : '=';
        *to++ = left > 2 ? alphabet[group & 63] : '=';
    }
    return text;
}

static int value_of(char c)
{
    const char *found = c != '\0' ? strchr(alphabet, c) : NULL;
    return found != NULL ? (int)(found - alphabet) : -1;
}

static int decode_group(const char *text, size_t pad, unsigned char *to)
{
    uint32_t group = 0;
    for (size_t i = 0; i < 4; i++) {
        int value = i >= 4 - pad ? 0 : value_of(text[i]);
        if (value < 0)
            return -1;
        group = group << 6 | (uint32_t)value;
    }
    to[0] = (unsigned char)(group >> 16);
    if (pad < 2)
        to[1] = (unsigned char)(group >> 8);
    if (pad < 1)
        to[2] = (unsigned char)group;
    return 0;
}

int base64_decode(const char *text, char **ret_data, size_t *ret_bytes)
{
    size_t chars = strlen(text), pad = 0;
    if (chars % 4 != 0)
        return -1;
    while (pad < 2 && pad < chars && text[chars - 1 - pad] == '=')
        pad++;
    unsigned char *data = mem_alloc(chars / 4 * 3 + 1);
    for (size_t i = 0; i < chars / 4; i++)
        if (decode_group(text + i * 4, i + 1 == chars / 4 ? pad : 0, data + i * 3) != 0) {
            mem_free(data);
            return -1;
        }
    *ret_data = (char *)data;
    *ret_bytes = chars / 4 * 3 - pad;
    return 0;
}
