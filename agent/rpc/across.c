/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/across_inner.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/stage/copy.h"

struct across {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct across_cut *first;
    struct shun shun;
};

struct across *across_create(void)
{
    struct across *across = mem_alloc(sizeof *across);
    pthread_mutex_init(&across->lock, NULL);
    pthread_cond_init(&across->changed, NULL);
    return across;
}

pthread_mutex_t *across_lock(struct across_cut *cut)
{
    return &cut->across->lock;
}

struct shun *across_shun(struct across_cut *cut)
{
    return &cut->across->shun;
}

struct spread_scope across_scope(const struct across_cut *cut, uint32_t node)
{
    return (struct spread_scope){.cut = cut->cut,
                                 .generation = cut->generation,
                                 .first = cut->first + node * cut->ranks_per_node,
                                 .ranks = cut->ranks_per_node};
}

/* ---- one cut's memory ---- */

static void view_release(struct across_cut *cut)
{
    for (uint32_t i = 0; i < cut->nodes; i++) {
        across_hang_up(&cut->peers[i]);
        spread_release(&cut->peers[i].table);
        mem_free(cut->peers[i].packs);
        cut->peers[i].packs = NULL;
        cut->peers[i].state = PEER_NONE;
        cut->peers[i].tries = 0;
    }
    mem_free(cut->chunks);
    digest_index_release(&cut->index);
    cut->chunks = NULL;
    cut->count = 0;
    cut->wanted = 0;
    cut->view = VIEW_NONE;
}

static void cut_free(struct across_cut *cut)
{
    view_release(cut);
    spread_release(&cut->table);
    mem_free(cut->shown);
    mem_free(cut);
}

void across_free(struct across *across)
{
    if (across == NULL)
        return;
    for (struct across_cut *cut = across->first, *next; cut != NULL; cut = next) {
        next = cut->next;
        cut_free(cut);
    }
    pthread_cond_destroy(&across->changed);
    pthread_mutex_destroy(&across->lock);
    mem_free(across);
}

/* With the lock. The oldest go that nobody has joined, where there are too many. */
static void forget_old(struct across *across)
{
    unsigned kept = 0;
    for (struct across_cut **at = &across->first; *at != NULL;) {
        struct across_cut *cut = *at;
        unsigned of_job = 0;
        for (struct across_cut *newer = across->first; newer != cut; newer = newer->next)
            of_job += strcmp(newer->uid, cut->uid) == 0;
        if (cut->joined > 0 || (kept < ACROSS_KEPT && of_job < ACROSS_KEPT_OF_JOB)) {
            kept++;
            at = &cut->next;
            continue;
        }
        *at = cut->next;
        cut_free(cut);
    }
}

static struct across_cut *cut_of(const struct across *across, const char *uid, uint64_t id, uint64_t generation)
{
    struct across_cut *cut = across->first;
    while (cut != NULL && (cut->cut != id || cut->generation != generation || strcmp(cut->uid, uid) != 0))
        cut = cut->next;
    return cut;
}

/* ---- who holds what ---- */

struct across_chunk *across_find_chunk(const struct across_cut *cut, struct digest digest)
{
    uint32_t found = cut->count > 0 ? digest_index_find(&cut->index, &cut->chunks->digest, sizeof *cut->chunks, digest) : 0;
    return found != 0 ? &cut->chunks[found - 1] : NULL;
}

/* Where the same is met again the first place counts: it is the first for whoever has the same. */
static void enter(struct across_cut *cut, const struct slot_sum *sum, struct digest zero)
{
    for (uint64_t i = 0; i < sum->chunk_count && cut->count < ACROSS_CHUNKS_MAX; i++) {
        struct digest digest = sum->chunks[i];
        if (digest_equal(digest, zero))
            continue;
        cut->chunks[cut->count] = (struct across_chunk){
            .digest = digest, .lead = sum->chunks[i - i % SPREAD_RUN_CHUNKS].low, .nodes = 1u << cut->node};
        cut->count += digest_index_add(&cut->index, &cut->chunks->digest, sizeof *cut->chunks, cut->count);
    }
}

static enum tide_status own_sum(const struct across_cut *cut, uint32_t rank, struct slot_sum *ret_sum, struct err *err)
{
    char path[TIDE_PATH_MAX + 1], sum_path[TIDE_PATH_MAX + 1];
    uint64_t bytes = 0;
    enum tide_status status = slot_copy_source(cut->arena, cut->uid, rank, cut->cut, path, sum_path, &bytes, err);
    return status == TIDE_OK ? slot_sum_load(sum_path, ret_sum, err) : status;
}

/* Nothing is stored of zeros: they are no reason to wait for anybody. Nonzero: no memory. */
static int zero_digest(struct digest *ret_digest)
{
    unsigned char *zeros = mem_try_alloc(CHUNK_BYTES);
    if (zeros == NULL)
        return -1;
    *ret_digest = digest_of(zeros, CHUNK_BYTES);
    mem_free(zeros);
    return 0;
}

/* The digests of this node's ranks. Without memory, or a rank that is not here, of fewer. */
static void view_own(struct across_cut *cut)
{
    struct slot_sum sums[TIDE_LOCAL_RANKS_MAX] = {{0}};
    struct digest zero;
    uint64_t all = 0;
    for (uint32_t r = 0; r < cut->ranks_per_node; r++)
        if (own_sum(cut, across_scope(cut, cut->node).first + r, &sums[r], NULL) == TIDE_OK)
            all += sums[r].chunk_count;
    all = all < ACROSS_CHUNKS_MAX ? all : ACROSS_CHUNKS_MAX;
    cut->chunks = mem_try_array(all, sizeof *cut->chunks);
    if (cut->chunks != NULL && digest_index_init(&cut->index, all) == 0 && zero_digest(&zero) == 0)
        for (uint32_t r = 0; r < cut->ranks_per_node; r++)
            enter(cut, &sums[r], zero);
    for (uint32_t r = 0; r < cut->ranks_per_node; r++)
        slot_sum_release(&sums[r]);
}

/* Of what this node holds, how much others are to write: is that worth waiting? */
static void weigh(struct across_cut *cut)
{
    uint32_t theirs = 0;
    for (uint32_t i = 0; i < cut->count; i++)
        theirs += spread_writer(cut->chunks[i].lead, cut->chunks[i].nodes) != cut->node;
    cut->worth = spread_worth(theirs, cut->count);
    log_debug("job %s: of %u chunks of checkpoint %" PRIu64 " other nodes write %u%s", cut->job, cut->count, cut->cut, theirs,
              cut->worth || theirs == 0 ? "" : ", which is not worth waiting for");
}

/* ---- joining ---- */

static void on_wrote(void *context, const struct chunk *chunk, const struct pack_entry *pack);
static int is_elsewhere(void *context, struct digest digest);
static int find(void *context, struct digest digest, struct chunk *ret_chunk, struct pack_entry *ret_pack, uint64_t *ret_id);
static int is_there(void *context, struct store *store, const struct pack_entry *pack, uint64_t id);

static struct across_cut *cut_make(struct across *across, const struct across_plan *plan)
{
    struct across_cut *cut = mem_try_alloc(sizeof *cut);
    if (cut == NULL)
        return NULL;
    cut->across = across;
    cut->ops = (struct stage_across){.context = cut, .elsewhere = is_elsewhere, .wrote = on_wrote, .find = find, .there = is_there};
    text_copy(cut->arena, sizeof cut->arena, plan->arena);
    text_copy(cut->job, sizeof cut->job, plan->job);
    text_copy(cut->uid, sizeof cut->uid, plan->uid);
    cut->cut = plan->cut;
    cut->generation = plan->generation;
    cut->node = plan->node;
    cut->nodes = plan->nodes;
    cut->first = plan->first;
    cut->ranks_per_node = plan->ranks_per_node;
    for (uint32_t i = 0; i < plan->nodes; i++)
        cut->peers[i].source = plan->peers[i];
    cut->next = across->first;
    across->first = cut;
    return cut;
}

/* Told otherwise than before, of the same cut: not by any order that there is. */
static bool fits(const struct across_cut *cut, const struct across_plan *plan)
{
    return cut->node == plan->node && cut->nodes == plan->nodes && cut->first == plan->first && cut->ranks_per_node == plan->ranks_per_node;
}

/* With the lock, which is given up meanwhile. Who comes first looks for all. False: he still does. */
static bool view_made(struct across *across, struct across_cut *cut)
{
    struct timespec until;
    int late = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += ACROSS_JOIN_S;
    while (cut->view == VIEW_BEING_MADE && !late)
        late = pthread_cond_clockwait(&across->changed, &across->lock, CLOCK_MONOTONIC, &until) != 0;
    if (cut->view != VIEW_NONE)
        return cut->view == VIEW_MADE;
    cut->view = VIEW_BEING_MADE;
    pthread_mutex_unlock(&across->lock);
    view_own(cut);
    across_look(cut);
    weigh(cut);
    pthread_mutex_lock(&across->lock);
    cut->began_ns = clock_mono_ns();
    cut->view = VIEW_MADE;
    pthread_cond_broadcast(&across->changed);
    return true;
}

struct across_cut *across_join(struct across *across, const struct across_plan *plan, bool *ret_later)
{
    *ret_later = false;
    if (plan->nodes > SPREAD_NODES_MAX || plan->node >= plan->nodes || plan->ranks_per_node > TIDE_LOCAL_RANKS_MAX)
        return NULL;
    pthread_mutex_lock(&across->lock);
    struct across_cut *cut = cut_of(across, plan->uid, plan->cut, plan->generation);
    if (cut == NULL)
        cut = cut_make(across, plan);
    if (cut != NULL && !fits(cut, plan))
        cut = NULL;
    if (cut != NULL) {
        cut->joined++;
        forget_old(across);
        *ret_later = !view_made(across, cut);
        cut->joined -= *ret_later; /* who looks has joined, so that it stays */
    }
    pthread_mutex_unlock(&across->lock);
    return *ret_later ? NULL : cut;
}

void across_leave(struct across_cut *cut)
{
    if (cut == NULL)
        return;
    struct across *across = cut->across;
    pthread_mutex_lock(&across->lock);
    if (--cut->joined == 0)
        view_release(cut);
    forget_old(across);
    pthread_mutex_unlock(&across->lock);
}

const struct stage_across *across_ops(const struct across_cut *cut)
{
    return &cut->ops;
}

/* ---- writing and showing ---- */

static int is_elsewhere(void *context, struct digest digest)
{
    struct across_cut *cut = context;
    int elsewhere = 0;
    pthread_mutex_lock(&cut->across->lock);
    const struct across_chunk *chunk = cut->worth ? across_find_chunk(cut, digest) : NULL;
    unsigned writer = chunk != NULL ? spread_writer(chunk->lead, chunk->nodes) : cut->node;
    if (writer != cut->node && cut->peers[writer].state != PEER_GONE) {
        elsewhere = 1;
        cut->wanted |= 1u << writer;
    }
    pthread_mutex_unlock(&cut->across->lock);
    return elsewhere;
}

static void on_wrote(void *context, const struct chunk *chunk, const struct pack_entry *pack)
{
    struct across_cut *cut = context;
    struct pack_name name = {0};
    if (pack != NULL && key_pack_parse(pack->key, cut->job, cut->uid, &name) != 0)
        return;
    pthread_mutex_lock(&cut->across->lock);
    const struct across_chunk *held = cut->shown == NULL ? across_find_chunk(cut, chunk->digest) : NULL;
    if (held != NULL && held->nodes != 1u << cut->node && spread_add(&cut->table, chunk, &name, pack != NULL ? pack->bytes : 0) != 0)
        log_debug("job %s: there is no room to tell other nodes of a chunk: they write it, too", cut->job);
    pthread_mutex_unlock(&cut->across->lock);
}

/* With the lock. */
static void show(struct across_cut *cut)
{
    const struct spread_scope scope = across_scope(cut, cut->node);
    struct err err = {0};
    if (spread_print(&cut->table, &scope, &cut->shown, &cut->shown_bytes, &err) != TIDE_OK)
        log_warn("job %s: other nodes write what this one has written, too: %s", cut->job, err.text);
    spread_release(&cut->table);
}

void across_over(struct across_cut *cut, uint32_t rank)
{
    uint32_t first = across_scope(cut, cut->node).first, left = 0;
    if (rank < first || rank - first >= cut->ranks_per_node)
        return;
    pthread_mutex_lock(&cut->across->lock);
    if (!cut->over[rank - first])
        cut->wrote_ns = clock_mono_ns();
    cut->over[rank - first] = true;
    for (uint32_t r = 0; r < cut->ranks_per_node; r++)
        left += !cut->over[r];
    if (left == 0 && cut->shown == NULL)
        show(cut);
    pthread_mutex_unlock(&cut->across->lock);
}

void across_table(struct across *across, const char *uid, uint64_t id, uint64_t generation, void **ret_bytes, size_t *ret_count)
{
    *ret_bytes = NULL;
    *ret_count = 0;
    pthread_mutex_lock(&across->lock);
    const struct across_cut *cut = cut_of(across, uid, id, generation);
    void *copy = cut != NULL && cut->shown != NULL ? mem_try_alloc(cut->shown_bytes) : NULL;
    if (copy != NULL) {
        memcpy(copy, cut->shown, cut->shown_bytes);
        *ret_bytes = copy;
        *ret_count = cut->shown_bytes;
    }
    pthread_mutex_unlock(&across->lock);
}

/* ---- waiting and taking ---- */

/* With the lock. Those that are still waited for. */
static uint32_t missing(const struct across_cut *cut)
{
    uint32_t nodes = 0;
    for (uint32_t i = 0; i < cut->nodes; i++)
        if (cut->wanted >> i & 1 && cut->peers[i].state == PEER_HOLDS)
            nodes |= 1u << i;
    return nodes;
}

static uint64_t patience_ns(const struct across_cut *cut)
{
    uint64_t writing = cut->wrote_ns > cut->began_ns ? cut->wrote_ns - cut->began_ns : 0; /* a view may have been made anew */
    uint64_t ns = ACROSS_WAIT_MIN_S * NS_PER_S + 2 * writing;
    return ns < ACROSS_WAIT_MAX_S * NS_PER_S ? ns : ACROSS_WAIT_MAX_S * NS_PER_S;
}

static void give_up(struct across_cut *cut, uint32_t nodes)
{
    for (uint32_t i = 0; i < cut->nodes; i++)
        if (nodes >> i & 1) {
            cut->peers[i].state = PEER_GONE;
            log_warn("job %s: the agent at %s:%u has not told within %" PRIu64 " s where its part of checkpoint %" PRIu64
                     " lies: what it holds is written here, too",
                     cut->job, cut->peers[i].source.address, cut->peers[i].source.port, patience_ns(cut) / NS_PER_S, cut->cut);
        }
}

bool across_settled(struct across_cut *cut)
{
    pthread_mutex_t *lock = &cut->across->lock;
    pthread_mutex_lock(lock);
    uint64_t now = clock_mono_ns();
    if (cut->waits_ns < cut->wrote_ns) /* each rank that is over here is a reason for more patience */
        cut->waits_ns = now;
    uint32_t nodes = missing(cut);
    if (nodes != 0 && !cut->asking && now - cut->waits_ns > patience_ns(cut)) {
        give_up(cut, nodes);
    } else if (nodes != 0 && !cut->asking && now - cut->asked_last_ns >= ACROSS_POLL_MS * NS_PER_MS) {
        cut->asking = true;
        pthread_mutex_unlock(lock);
        across_ask(cut, nodes);
        pthread_mutex_lock(lock);
        cut->asking = false;
        cut->asked_last_ns = clock_mono_ns();
    }
    bool settled = missing(cut) == 0;
    pthread_mutex_unlock(lock);
    return settled;
}

/* The chosen one first; but whoever wrote it will do. With the lock. */
static const struct spread_place *place_of(const struct across_cut *cut, struct digest digest, uint32_t *ret_node)
{
    const struct across_chunk *chunk = across_find_chunk(cut, digest);
    uint32_t chosen = chunk != NULL ? spread_writer(chunk->lead, chunk->nodes) : 0;
    for (uint32_t i = 0; i < cut->nodes; i++) {
        uint32_t node = (chosen + i) % cut->nodes;
        const struct spread_place *place = cut->peers[node].state == PEER_WROTE ? spread_find(&cut->peers[node].table, digest) : NULL;
        if (place != NULL) {
            *ret_node = node;
            return place;
        }
    }
    return NULL;
}

static int find(void *context, struct digest digest, struct chunk *ret_chunk, struct pack_entry *ret_pack, uint64_t *ret_id)
{
    struct across_cut *cut = context;
    const struct cut_name name = {.job = cut->job, .uid = cut->uid, .cut = cut->cut, .generation = cut->generation};
    char content[PACK_CONTENT_CHARS + 1] = "";
    uint32_t node = 0;
    pthread_mutex_lock(&cut->across->lock);
    const struct spread_place *place = place_of(cut, digest, &node);
    if (place != NULL) {
        *ret_chunk = (struct chunk){.codec = place->codec, .offset = place->offset, .length = place->length, .digest = digest};
        *ret_pack = (struct pack_entry){0};
    }
    if (place != NULL && place->codec != CHUNK_ZERO) {
        const struct spread_pack *pack = &cut->peers[node].table.packs[place->pack];
        memcpy(content, pack->content, sizeof pack->content);
        key_pack(&name, pack->rank, pack->seq, content, ret_pack->key);
        ret_pack->bytes = pack->bytes;
        *ret_id = (uint64_t)node << 32 | place->pack;
    }
    pthread_mutex_unlock(&cut->across->lock);
    return place != NULL;
}

static int is_there(void *context, struct store *store, const struct pack_entry *pack, uint64_t id)
{
    struct across_cut *cut = context;
    const struct across_node *peer = &cut->peers[id >> 32];
    pthread_mutex_lock(&cut->across->lock);
    enum pack_look look = peer->packs != NULL ? peer->packs[(uint32_t)id] : PACK_UNKNOWN;
    pthread_mutex_unlock(&cut->across->lock);
    if (look != PACK_UNKNOWN)
        return look == PACK_THERE;
    uint64_t bytes = 0;
    look = store_size(store, pack->key, &bytes, NULL) == TIDE_OK && bytes == pack->bytes ? PACK_THERE : PACK_MISSING;
    if (look == PACK_MISSING)
        log_warn("job %s: the agent at %s:%u says that %s is in the store, and it is not, as seen from here: what it holds is written "
                 "here, too",
                 cut->job, peer->source.address, peer->source.port, pack->key);
    pthread_mutex_lock(&cut->across->lock);
    if (peer->packs != NULL)
        peer->packs[(uint32_t)id] = (unsigned char)look;
    pthread_mutex_unlock(&cut->across->lock);
    return look == PACK_THERE;
}
