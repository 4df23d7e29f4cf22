/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/copy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/thread.h"

#define QUERY_CHARS (TIDE_UID_CHARS + 128)

struct transfer {
    const struct copy_source *source;
    const struct copy_place *place;
    struct slot_copy *copy;
    enum tide_status status;
    char *root;
    struct err *err;
};

static size_t on_slot(char *data, size_t one, size_t count, void *context)
{
    struct transfer *transfer = context;
    transfer->status = slot_copy_add(transfer->copy, data, one * count, transfer->err);
    return transfer->status == TIDE_OK ? one * count : 0;
}

static struct slot_question question_for(struct transfer *transfer, const char *part, char query[QUERY_CHARS])
{
    const struct copy_place *place = transfer->place;
    snprintf(query, QUERY_CHARS, "uid=%s&rank=%u&cut=%" PRIu64 "&part=%s", place->job_uid, place->rank, place->cut, part);
    return (struct slot_question){.source = transfer->source,
                                  .query = query,
                                  .deadline_ms = COPY_DEADLINE_S * (long)MS_PER_S,
                                  .take = on_slot,
                                  .context = transfer};
}

/* Its digests, which the bytes are compared with as they come. */
static enum tide_status begin(struct transfer *transfer, CURL *curl)
{
    const struct copy_place *place = transfer->place;
    char query[QUERY_CHARS];
    const struct slot_question question = question_for(transfer, "sum", query);
    void *sum = NULL;
    size_t bytes = 0;
    enum tide_status status = slot_client_get(curl, &question, SLOT_SUM_BYTES_MAX, &sum, &bytes, transfer->err);
    if (status == TIDE_OK)
        status = slot_copy_begin(place->dir, place->rank, place->slot, place->job_uid, place->cut, sum, bytes, place->most,
                                 &transfer->copy, transfer->err);
    mem_free(sum);
    return status;
}

static enum tide_status bring(struct transfer *transfer, CURL *curl)
{
    char query[QUERY_CHARS];
    const struct slot_question question = question_for(transfer, "slot", query);
    struct err why = {0};
    enum tide_status status = slot_client_ask(curl, &question, &why);
    if (status == TIDE_OK || transfer->status != TIDE_OK) /* what arrived was wrong: that is why it ended */
        return transfer->status;
    return err_set(transfer->err, status, "%s", why.text);
}

/* Two copies that are damaged in different places are one that is whole. */
static void say_kept(const struct transfer *transfer, uint64_t kept)
{
    const struct copy_place *place = transfer->place;
    if (kept > 0)
        log_warn("checkpoint %" PRIu64 " of rank %u: %" PRIu64
                 " chunk%s came wrong from %s port %u, and %s right in the copy that this node "
                 "has: used from there",
                 place->cut, place->rank, kept, kept == 1 ? "" : "s", transfer->source->address, transfer->source->port,
                 kept == 1 ? "is" : "are");
}

static void run(struct transfer *transfer)
{
    const struct copy_place *place = transfer->place;
    CURL *curl = curl_easy_init();
    if (curl == NULL) {
        transfer->status = err_set(transfer->err, TIDE_E_NOMEM, "no memory to ask another agent");
        return;
    }
    transfer->status = begin(transfer, curl);
    if (transfer->status == TIDE_OK)
        transfer->status = bring(transfer, curl);
    if (transfer->status == TIDE_OK) {
        uint64_t kept = slot_copy_kept(transfer->copy);
        transfer->status = slot_copy_end(transfer->copy, place->keep, transfer->root, transfer->err);
        if (transfer->status == TIDE_OK)
            say_kept(transfer, kept);
    } else {
        slot_copy_abort(transfer->copy, place->keep);
    }
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
