/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_SECURE_PORT_KEY_H
#define CKPT_SECURE_PORT_KEY_H

/* The key that an agent's own ports show. The agent makes it, whether it has a certificate or only a join token, and nobody signs it: the
 * agent tells its pin to the coordinators, which know who the agent is, and they tell it to those who will meet it. */

#include <stdbool.h>

#include "ckpt/secure/secret.h"

struct port_key {
    char *cert_pem, *key_pem; /* the certificate is signed with the key itself */
    char pin[SHA256_HEX_CHARS + 1];
};

/* From that file, or a new one there that only the owner may read. Errors: INVALID, IO, NOSPACE; nothing is left to release then. */
MUST_USE enum tide_status port_key_load(const char *file, struct port_key *ret_key, struct err *err);
void port_key_release(struct port_key *key);

#define PIN_CURL_CHARS 52 /* "sha256//" and 44 of base64 */
/* A pin as libcurl's CURLOPT_PINNEDPUBLICKEY takes it; false: it is none. */
MUST_USE bool pin_for_curl(const char *pin, char ret_text[PIN_CURL_CHARS + 1]);

#endif
