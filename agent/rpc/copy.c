/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/copy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/thread.h"

#define SUM_BYTES_MAX ((RANK_CHUNKS_MAX + 16u) * sizeof(struct digest))

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

static enum tide_status ask(struct transfer *transfer, CURL *curl, const char *part, curl_write_callback take)
{
    const struct copy_place *place = transfer->place;
    char query[TIDE_UID_CHARS + 128];
    struct err why = {0};
    snprintf(query, sizeof query, "uid=%s&rank=%u&cut=%" PRIu64 "&part=%s", place->job_uid, place->rank, place->cut, part);
    const struct slot_question question = {
        .source = transfer->source, .query = query, .deadline_ms = COPY_DEADLINE_S * 1000, .take = take, .context = transfer};
    enum tide_status status = slot_client_ask(curl, &question, &why);
    if (status == TIDE_OK || transfer->status != TIDE_OK) /* what arrived was wrong: that is why it ended */
        return transfer->status;
    return err_set(transfer->err, status, "%s", why.text);
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
