/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>

#include "agent/rpc/across_inner.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

#define LEAST_MS 100 /* of a question, however late it is */

static enum tide_status ask(struct across_node *node, const char *query, uint64_t deadline_ms, size_t most, void **ret_data,
                            size_t *ret_count, struct err *err)
{
    const struct slot_question question = {.source = &node->source,
                                           .query = query,
                                           .connect_s = ACROSS_CONNECT_S,
                                           .deadline_ms = deadline_ms > LEAST_MS ? (long)deadline_ms : LEAST_MS};
    if (node->curl == NULL)
        node->curl = curl_easy_init();
    if (node->curl == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to ask another agent");
    uint64_t from_ns = clock_mono_ns();
    enum tide_status status = slot_client_get(node->curl, &question, most, ret_data, ret_count, err);
    long http = 0;
    curl_easy_getinfo(node->curl, CURLINFO_RESPONSE_CODE, &http);
    node->answered = http != 0;
    node->took_ns = clock_mono_ns() - from_ns;
    return status;
}

void across_hang_up(struct across_node *node)
{
    if (node->curl != NULL)
        curl_easy_cleanup(node->curl);
    node->curl = NULL;
}

/* ---- who gives no answer ---- */

static bool left_alone(struct across_cut *cut, uint32_t node)
{
    const struct copy_source *source = &cut->peers[node].source;
    pthread_mutex_lock(across_lock(cut));
    bool alone = shun_is(across_shun(cut), source->address, source->port, clock_mono_ns());
    pthread_mutex_unlock(across_lock(cut));
    return alone;
}

static void answered(struct across_cut *cut, uint32_t node)
{
    const struct copy_source *source = &cut->peers[node].source;
    pthread_mutex_lock(across_lock(cut));
    shun_answered(across_shun(cut), source->address, source->port);
    pthread_mutex_unlock(across_lock(cut));
}

static void silent(struct across_cut *cut, uint32_t node)
{
    const struct copy_source *source = &cut->peers[node].source;
    pthread_mutex_lock(across_lock(cut));
    uint32_t seconds = shun_silent(across_shun(cut), source->address, source->port, cut->peers[node].took_ns, clock_mono_ns());
    pthread_mutex_unlock(across_lock(cut));
    if (seconds != 0)
        log_info("job %s: the agent at %s:%u gives no answer: it is not asked what it holds for %u s, and nothing is shared with it",
                 cut->job, source->address, source->port, seconds);
}

/* ---- what others hold ---- */

static enum tide_status ask_rank(struct across_cut *cut, uint32_t node, uint32_t rank, uint64_t until_ns, struct slot_sum *ret_sum,
                                 struct err *err)
{
    char query[TIDE_UID_CHARS + 128];
    uint64_t now = clock_mono_ns();
    void *data = NULL;
    size_t count = 0;
    if (now >= until_ns)
        return err_set(err, TIDE_E_UNAVAILABLE, "its part of the %u s for all was over before rank %u was asked", ACROSS_LOOK_S, rank);
    snprintf(query, sizeof query, "uid=%s&rank=%u&cut=%" PRIu64 "&part=share", cut->uid, rank, cut->cut);
    enum tide_status status = ask(&cut->peers[node], query, (until_ns - now) / NS_PER_MS, SLOT_SUM_BYTES_MAX, &data, &count, err);
    if (status == TIDE_OK)
        status = slot_sum_parse(data, count, "what another node holds", ret_sum, err);
    if (status == TIDE_OK && ret_sum->cut != cut->cut) {
        slot_sum_release(ret_sum);
        status = err_set(err, TIDE_E_NOT_FOUND, "it holds another checkpoint");
    }
    mem_free(data);
    return status;
}

static void mark(struct across_cut *cut, uint32_t node, const struct slot_sum *sum)
{
    for (uint64_t i = 0; i < sum->chunk_count; i++) {
        struct across_chunk *chunk = across_find_chunk(cut, sum->chunks[i]);
        if (chunk != NULL)
            chunk->nodes |= 1u << node;
    }
}

/* All of its ranks, or it is as if it held nothing. */
static void look_at(struct across_cut *cut, uint32_t node, uint64_t until_ns)
{
    struct err err = {0};
    enum tide_status status = TIDE_OK;
    uint32_t first = across_scope(cut, node).first;
    cut->peers[node].answered = false;
    cut->peers[node].took_ns = 0;
    for (uint32_t r = 0; status == TIDE_OK && r < cut->ranks_per_node; r++) {
        struct slot_sum sum = {0};
        status = ask_rank(cut, node, first + r, until_ns, &sum, &err);
        if (status == TIDE_OK)
            mark(cut, node, &sum);
        slot_sum_release(&sum);
    }
    if (cut->peers[node].answered)
        answered(cut, node);
    else if (status == TIDE_E_UNAVAILABLE)
        silent(cut, node);
    if (status == TIDE_OK) {
        cut->peers[node].state = PEER_HOLDS;
        return;
    }
    log_debug("job %s: nothing of checkpoint %" PRIu64 " is shared with the agent at %s:%u: %s", cut->job, cut->cut,
              cut->peers[node].source.address, cut->peers[node].source.port, err.text);
    for (uint32_t i = 0; i < cut->count; i++)
        cut->chunks[i].nodes &= ~(1u << node);
    across_hang_up(&cut->peers[node]);
}

/* One that never answers takes its part of what time is left, and not that of those who come behind it. */
void across_look(struct across_cut *cut)
{
    uint64_t until_ns = clock_mono_ns() + ACROSS_LOOK_S * NS_PER_S;
    for (uint32_t node = 0; cut->count > 0 && node < cut->nodes; node++) {
        uint64_t now = clock_mono_ns(), left_ns = now < until_ns ? until_ns - now : 0;
        uint32_t others = cut->nodes - node - (node < cut->node); /* this one and those behind it */
        if (node != cut->node && cut->peers[node].source.port != 0 && !left_alone(cut, node))
            look_at(cut, node, now + left_ns / others);
    }
}

/* ---- where it lies ---- */

/* PEER_HOLDS: nothing yet. */
static enum across_state ask_node(struct across_cut *cut, uint32_t node, struct spread_table *ret_table, struct err *err)
{
    char query[TIDE_UID_CHARS + 128];
    const struct spread_scope scope = across_scope(cut, node);
    void *data = NULL;
    size_t count = 0;
    struct across_node *peer = &cut->peers[node];
    snprintf(query, sizeof query, "uid=%s&cut=%" PRIu64 "&generation=%" PRIu64 "&part=packs", cut->uid, cut->cut, cut->generation);
    enum tide_status status = ask(peer, query, ACROSS_ASK_S * MS_PER_S, spread_bytes_max(), &data, &count, err);
    enum across_state state = PEER_HOLDS;
    if (status == TIDE_E_UNAVAILABLE)
        state = ++peer->tries < ACROSS_TRIES_MAX ? PEER_HOLDS : PEER_GONE;
    else if (status != TIDE_OK)
        state = PEER_GONE;
    else if (count > 0)
        state = spread_parse(data, count, &scope, ret_table, err) == TIDE_OK ? PEER_WROTE : PEER_GONE;
    if (status == TIDE_OK)
        peer->tries = 0;
    mem_free(data);
    return state;
}

void across_ask(struct across_cut *cut, uint32_t nodes)
{
    for (uint32_t node = 0; node < cut->nodes; node++) {
        struct spread_table table = {0};
        struct err err = {0};
        if (!(nodes >> node & 1))
            continue;
        enum across_state state = ask_node(cut, node, &table, &err);
        unsigned char *packs = state == PEER_WROTE ? mem_try_alloc(table.pack_count) : NULL;
        pthread_mutex_lock(across_lock(cut));
        cut->peers[node].table = table;
        cut->peers[node].packs = packs;
        cut->peers[node].state = state;
        pthread_mutex_unlock(across_lock(cut));
        if (state == PEER_GONE && !cut->peers[node].answered)
            silent(cut, node);
        if (state == PEER_GONE)
            log_info("job %s: what the agent at %s:%u holds of checkpoint %" PRIu64 " is written here, too: %s", cut->job,
                     cut->peers[node].source.address, cut->peers[node].source.port, cut->cut, err.text);
    }
}
