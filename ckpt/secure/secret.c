/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/secure/secret.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <string.h>

#define SECRET_BYTES 32u

static void hex(const unsigned char *data, size_t bytes, char *to)
{
    for (size_t i = 0; i < bytes; i++)
        snprintf(to + 2 * i, 3, "%02x", data[i]);
}

enum tide_status secret_new(char ret_secret[SECRET_CHARS + 1], struct err *err)
{
    unsigned char random[SECRET_BYTES];
    if (RAND_priv_bytes(random, sizeof random) != 1)
        return err_set(err, TIDE_E_IO, "the system gives no random bytes for a secret");
    snprintf(ret_secret, SECRET_CHARS + 1, "%s", SECRET_PREFIX);
    hex(random, sizeof random, ret_secret + strlen(SECRET_PREFIX));
    secret_wipe(random, sizeof random);
    return TIDE_OK;
}

bool secret_plausible(const char *text)
{
    size_t prefix = strlen(SECRET_PREFIX);
    return strlen(text) == SECRET_CHARS && strncmp(text, SECRET_PREFIX, prefix) == 0 &&
           strspn(text + prefix, "0123456789abcdef") == SECRET_CHARS - prefix;
}

bool secret_equal(const void *a, const void *b, size_t bytes)
{
    return CRYPTO_memcmp(a, b, bytes) == 0;
}

void secret_wipe(void *data, size_t bytes)
{
    OPENSSL_cleanse(data, bytes);
}

void sha256_hex(const void *data, size_t bytes, char ret_hex[SHA256_HEX_CHARS + 1])
{
    unsigned char sum[SHA256_DIGEST_LENGTH];
    SHA256(data, bytes, sum);
    hex(sum, sizeof sum, ret_hex);
}
