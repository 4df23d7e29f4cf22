/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/copy.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "agent/rpc/slot_server.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/thread.h"
#include "ckpt/secure/pin_curl.h"

#define SUM_BYTES_MAX ((RANK_CHUNKS_MAX + 16u) * sizeof(struct digest))
#define RECEIVE_BYTES (512L << 10)

struct bytes {
    char *data;
    size_t count;
};

struct transfer {
    const struct copy_source *source;
    const struct copy_place *place;
    struct slot_copy *copy;
    struct bytes sum;
    enum tide_status status;
    char *root;
    struct err *err;
};

/* ---- what arrives ---- */

static size_t on_sum(char *data, size_t one, size_t count, void *context)
{
    struct transfer *transfer = context;
    size_t bytes = one * count;
    if (bytes > SUM_BYTES_MAX - transfer->sum.count) {
        transfer->status = err_set(transfer->err, TIDE_E_CORRUPT, "the other host sent more digests than a slot can have");
        return 0;
    }
    transfer->sum.data = mem_grow(transfer->sum.data, transfer->sum.count + bytes, 1);
    memcpy(transfer->sum.data + transfer->sum.count, data, bytes);
    transfer->sum.count += bytes;
    return bytes;
}

static size_t on_slot(char *data, size_t one, size_t count, void *context)
{
    struct transfer *transfer = context;
    transfer->status = slot_copy_add(transfer->copy, data, one * count, transfer->err);
    return transfer->status == TIDE_OK ? one * count : 0;
}

/* ---- asking ---- */

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

static void describe(CURL *curl, const struct transfer *transfer, const char *part, char *url, size_t url_bytes, char *auth,
                     size_t auth_bytes)
{
    const struct copy_source *source = transfer->source;
    const struct copy_place *place = transfer->place;
    int v6 = strchr(source->address, ':') != NULL;
    snprintf(url, url_bytes, "%s://%s%s%s:%u/v1/slots?uid=%s&rank=%u&cut=%" PRIu64 "&part=%s",
             source->pin[0] != '\0' ? "https" : "http", v6 ? "[" : "", source->address, v6 ? "]" : "",
             source->port, place->job_uid, place->rank, place->cut, part);
    char secret[SHA256_HEX_CHARS + 1];
    slot_secret(source->token, secret);
    snprintf(auth, auth_bytes, "Authorization: Bearer %s", secret);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    if (source->pin[0] != '\0')
        pin_require(curl, source->pin);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, RECEIVE_BYTES);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, COPY_CONNECT_S);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, COPY_STALL_BYTES);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, COPY_STALL_S);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, COPY_DEADLINE_S);
}

static enum tide_status ask(struct transfer *transfer, CURL *curl, const char *part, curl_write_callback take)
{
    char url[2 * ADDRESS_MAX], auth[SHA256_HEX_CHARS + 64];
    long http = 0;
    describe(curl, transfer, part, url, sizeof url, auth, sizeof auth);
    struct curl_slist *headers = curl_slist_append(NULL, auth);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
    CURLcode code = headers != NULL ? curl_easy_perform(curl) : CURLE_OUT_OF_MEMORY;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &http);
    curl_slist_free_all(headers);
    if (code == CURLE_OK || transfer->status != TIDE_OK)
        return transfer->status;
    if (code == CURLE_HTTP_RETURNED_ERROR)
        return err_set(transfer->err, status_of(http), http == 404 ? "the agent at %s:%u does not have it (any more) (%ld)"
                                                                   : "the agent at %s:%u does not give it (%ld)",
                       transfer->source->address, transfer->source->port, http);
    return err_set(transfer->err, TIDE_E_UNAVAILABLE, "the agent at %s:%u: %s", transfer->source->address, transfer->source->port,
                   curl_easy_strerror(code));
}

static void run(struct transfer *transfer)
{
    const struct copy_place *place = transfer->place;
    CURL *curl = curl_easy_init();
    if (curl == NULL) {
        transfer->status = err_set(transfer->err, TIDE_E_NOMEM, "no memory to ask another agent");
        return;
    }
    transfer->status = ask(transfer, curl, "sum", on_sum);
    if (transfer->status == TIDE_OK)
        transfer->status = slot_copy_begin(place->dir, place->rank, place->slot, place->job_uid, place->cut, transfer->sum.data,
                                           transfer->sum.count, place->most, &transfer->copy, transfer->err);
    if (transfer->status == TIDE_OK)
        transfer->status = ask(transfer, curl, "slot", on_slot);
    if (transfer->status == TIDE_OK)
        transfer->status = slot_copy_end(transfer->copy, place->keep, transfer->root, transfer->err);
    else
        slot_copy_abort(transfer->copy, place->keep);
    mem_free(transfer->sum.data);
    curl_easy_cleanup(curl);
}

/* In a thread of its own: what has become nice does not become less so without privileges. */
static void *run_background(void *context)
{
    if (setpriority(PRIO_PROCESS, (id_t)gettid(), COPY_NICE) != 0)
        log_debug("a copy is made with the agent's own priority: errno %d", errno);
    run(context);
    return NULL;
}

enum tide_status copy_fetch(const struct copy_source *source, const struct copy_place *place, char ret_root[DIGEST_HEX_CHARS + 1],
                            struct err *err)
{
    struct err local = {0};
    struct transfer transfer = {.source = source, .place = place, .root = ret_root, .err = err != NULL ? err : &local};
    pthread_t thread;
    if (place->background && thread_begin(&thread, run_background, &transfer) == 0)
        pthread_join(thread, NULL);
    else
        run(&transfer);
    return transfer.status;
}

uint64_t copy_room(const char *arenas, uint64_t arena_max)
{
    uint64_t own = 0, copies = 0;
    struct statvfs fs;
    if (statvfs(arenas, &fs) != 0)
        return 0;
    uint64_t all = (uint64_t)fs.f_blocks * fs.f_frsize, beside = all > arena_max ? all - arena_max : 0;
    slot_copy_usage(arenas, &own, &copies);
    uint64_t within = own + copies < arena_max ? arena_max - own - copies : 0;
    uint64_t apart = copies < beside ? beside - copies : 0;
    return within < apart ? within : apart;
}
