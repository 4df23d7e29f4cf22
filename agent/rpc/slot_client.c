/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/slot_client.h"

#include <stdio.h>
#include <string.h>

#include "agent/rpc/slot_server.h"
#include "ckpt/base/mem.h"
#include "ckpt/secure/pin_curl.h"

#define RECEIVE_BYTES (512L << 10)
/* The shorter key first: a third faster, and no weaker than the exchange of keys before it (128 bits). The port takes what is asked for. */
#define CIPHERS "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

static enum tide_status status_of(long http)
{
    switch (http) {
    case 404:
        return TIDE_E_NOT_FOUND;
    case 401:
    case 503:
        return TIDE_E_UNAVAILABLE;
    default:
        return TIDE_E_IO;
    }
}

static void describe(CURL *curl, const struct slot_question *question, char *auth, size_t auth_bytes)
{
    const struct copy_source *source = question->source;
    char url[2 * ADDRESS_MAX], secret[SHA256_HEX_CHARS + 1];
    int v6 = strchr(source->address, ':') != NULL;
    snprintf(url, sizeof url, "%s://%s%s%s:%u" SLOT_SERVER_PATH "?%s", source->pin[0] != '\0' ? "https" : "http", v6 ? "[" : "",
             source->address, v6 ? "]" : "", source->port, question->query);
    slot_secret(source->token, secret);
    snprintf(auth, auth_bytes, "Authorization: Bearer %s", secret);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    if (source->pin[0] != '\0') {
        pin_require(curl, source->pin);
        curl_easy_setopt(curl, CURLOPT_TLS13_CIPHERS, CIPHERS); /* a libcurl that cannot is only slower */
    }
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, RECEIVE_BYTES);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, question->connect_s != 0 ? question->connect_s : SLOT_CONNECT_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, SLOT_STALL_BYTES);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, SLOT_STALL_S);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, question->deadline_ms);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, question->take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, question->context);
}

enum tide_status slot_client_ask(CURL *curl, const struct slot_question *question, struct err *err)
{
    const struct copy_source *source = question->source;
    char auth[SHA256_HEX_CHARS + 64];
    long http = 0;
    describe(curl, question, auth, sizeof auth);
    struct curl_slist *headers = curl_slist_append(NULL, auth);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    CURLcode code = headers != NULL ? curl_easy_perform(curl) : CURLE_OUT_OF_MEMORY;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &http);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    if (code == CURLE_OK)
        return TIDE_OK;
    if (code == CURLE_HTTP_RETURNED_ERROR)
        return err_set(err, status_of(http), http == 404 ? "the agent at %s:%u does not have it (any more) (%ld)"
                                                         : "the agent at %s:%u does not give it (%ld)",
                       source->address, source->port, http);
    return err_set(err, TIDE_E_UNAVAILABLE, "the agent at %s:%u: %s", source->address, source->port, curl_easy_strerror(code));
}

struct kept {
    char *data;
    size_t count, most;
    bool too_long;
};

static size_t keep(char *data, size_t one, size_t count, void *context)
{
    struct kept *kept = context;
    size_t bytes = one * count;
    if (bytes > kept->most - kept->count) {
        kept->too_long = true;
        return 0;
    }
    kept->data = mem_grow(kept->data, kept->count + bytes, 1);
    memcpy(kept->data + kept->count, data, bytes);
    kept->count += bytes;
    return bytes;
}

enum tide_status slot_client_get(CURL *curl, const struct slot_question *question, size_t most, void **ret_data, size_t *ret_count,
                                 struct err *err)
{
    struct kept kept = {.most = most};
    struct slot_question whole = *question;
    whole.take = keep;
    whole.context = &kept;
    enum tide_status status = slot_client_ask(curl, &whole, err);
    if (kept.too_long)
        status = err_set(err, TIDE_E_CORRUPT, "the agent at %s:%u sent more than the %zu bytes that such an answer can have",
                         question->source->address, question->source->port, most);
    if (status != TIDE_OK) {
        mem_free(kept.data);
        return status;
    }
    *ret_data = kept.data;
    *ret_count = kept.count;
    return TIDE_OK;
}
