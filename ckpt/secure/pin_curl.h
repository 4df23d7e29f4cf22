/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_SECURE_PIN_CURL_H
#define CKPT_SECURE_PIN_CURL_H

/* For libcurl's callers; ckpt/secure itself is not linked with it. */

#include <curl/curl.h>

#include "ckpt/base/mem.h"
#include "ckpt/secure/port_key.h"

/* Only an agent's port that shows the key of this pin is spoken to. Its certificate is signed by nobody and names no host: the key is what
 * counts, and that alone. */
static inline void pin_require(CURL *curl, const char *pin)
{
    char text[PIN_CURL_CHARS + 1];
    if (!pin_for_curl(pin, text))
        text_copy(text, sizeof text, "sha256//"); /* which no key has */
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, CURL_SSLVERSION_TLSv1_3);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(curl, CURLOPT_PINNEDPUBLICKEY, text);
}

#endif
