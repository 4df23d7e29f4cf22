/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/secure/port_key.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/secure/certs.h"

#define KEY_MODE 0600

static enum tide_status load_or_make(const char *file, struct port_key *key, struct err *err)
{
    size_t bytes = 0;
    enum tide_status status = fsx_read(file, CERT_PEM_MAX, &key->key_pem, &bytes, err);
    if (status == TIDE_OK)
        return cert_self(&key->key_pem, &key->cert_pem, err);
    if (status != TIDE_E_NOT_FOUND)
        return status;
    status = cert_self(&key->key_pem, &key->cert_pem, err);
    return status == TIDE_OK ? fsx_replace(file, key->key_pem, strlen(key->key_pem), KEY_MODE, err) : status;
}

enum tide_status port_key_load(const char *file, struct port_key *ret_key, struct err *err)
{
    struct port_key key = {0};
    enum tide_status status = load_or_make(file, &key, err);
    if (status == TIDE_OK)
        status = cert_pin(key.cert_pem, key.pin, NULL, err);
    if (status != TIDE_OK) {
        port_key_release(&key);
        return err_wrap(err, "the key of this agent's ports, %s", file);
    }
    *ret_key = key;
    return TIDE_OK;
}

void port_key_release(struct port_key *key)
{
    cert_key_free(key->key_pem);
    mem_free(key->cert_pem);
    *key = (struct port_key){0};
}

bool pin_for_curl(const char *pin, char ret_text[PIN_CURL_CHARS + 1])
{
    unsigned char hash[SHA256_HEX_CHARS / 2];
    size_t bytes = 0;
    if (strlen(pin) != SHA256_HEX_CHARS || OPENSSL_hexstr2buf_ex(hash, sizeof hash, &bytes, pin, '\0') != 1 || bytes != sizeof hash)
        return false;
    int n = snprintf(ret_text, PIN_CURL_CHARS + 1, "sha256//");
    EVP_EncodeBlock((unsigned char *)ret_text + n, hash, sizeof hash);
    return true;
}
