/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/step/exchange.h"

#include <pmix_common.h>
#include <string.h>

#include "agent/step/base64.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

/* One node's part in a fence. */
struct part {
    bool member;
    bool got;   /* its contribution is here */
    bool acked; /* it has ours */
    bool owed;  /* it waits for our acknowledgement, which found no room */
    char *data;
    size_t bytes;
    uint64_t due_ns; /* send ours (again) */
};

struct fence {
    uint64_t list, sequence;
    bool begun; /* the local ranks have arrived: request, members and text are valid */
    bool done;  /* answered; kept until every member has our contribution */
    void *request;
    int32_t status; /* first one that is not 0 */
    char *text;     /* our contribution in base64 */
    int32_t own_status;
    struct part *parts; /* by node rank */
};

/* How many fences were begun over a list of processes; PMIx gives fences no number. */
struct list_count {
    uint64_t list, begun;
};

struct modex_asked {
    void *request;
    uint64_t id, due_ns, deadline_ns;
    uint32_t rank, node;
};

struct modex_served {
    uint64_t key, id;
    uint32_t rank, node;
};

struct exchange {
    const struct step_spec *spec;
    struct exchange_ops ops;
    uint32_t nodes;
    struct fence *fences[EXCHANGE_FENCES_MAX];
    size_t fence_count;
    struct list_count lists[EXCHANGE_LISTS_MAX];
    size_t list_count;
    struct modex_asked *asked;
    size_t asked_count;
    struct modex_served *served;
    size_t served_count;
    uint64_t next_id;
};

struct exchange *exchange_create(const struct step_spec *spec, const struct exchange_ops *ops)
{
    struct exchange *ex = mem_alloc(sizeof *ex);
    ex->spec = spec;
    ex->ops = *ops;
    ex->nodes = (uint32_t)spec->peers.count;
    ex->asked = mem_array(EXCHANGE_MODEX_MAX, sizeof *ex->asked);
    ex->served = mem_array(EXCHANGE_MODEX_MAX, sizeof *ex->served);
    ex->next_id = 1;
    return ex;
}

static void fence_free(const struct exchange *ex, struct fence *fence)
{
    for (uint32_t n = 0; n < ex->nodes; n++)
        mem_free(fence->parts[n].data);
    mem_free(fence->parts);
    mem_free(fence->text);
    mem_free(fence);
}

void exchange_free(struct exchange *ex)
{
    if (ex == NULL)
        return;
    for (size_t i = 0; i < ex->fence_count; i++)
        fence_free(ex, ex->fences[i]);
    mem_free(ex->asked);
    mem_free(ex->served);
    mem_free(ex);
}

/* ---- frames ---- */

static bool send_fence(struct exchange *ex, const struct fence *fence, uint32_t node)
{
    struct mesh_frame frame = mesh_frame_to(ex->spec, node, MESH_FENCE);
    frame.id = fence->list;
    frame.sequence = fence->sequence;
    frame.status = fence->own_status;
    frame.data = fence->text;
    return ex->ops.send(ex->ops.context, &frame);
}

static bool send_ack(struct exchange *ex, uint32_t node, uint64_t list, uint64_t sequence)
{
    struct mesh_frame frame = mesh_frame_to(ex->spec, node, MESH_FENCE_ACK);
    frame.id = list;
    frame.sequence = sequence;
    return ex->ops.send(ex->ops.context, &frame);
}

static bool send_ask(struct exchange *ex, const struct modex_asked *asked)
{
    struct mesh_frame frame = mesh_frame_to(ex->spec, asked->node, MESH_MODEX_ASK);
    frame.id = asked->id;
    frame.rank = asked->rank;
    return ex->ops.send(ex->ops.context, &frame);
}

static void send_reply(struct exchange *ex, const struct modex_served *served, int32_t status, const void *data, size_t bytes)
{
    struct mesh_frame frame = mesh_frame_to(ex->spec, served->node, MESH_MODEX_REPLY);
    frame.id = served->id;
    frame.rank = served->rank;
    frame.data = base64_encode(data, status == PMIX_SUCCESS ? bytes : 0);
    if (strlen(frame.data) > MESH_DATA_MAX) {
        frame.data[0] = '\0';
        status = PMIX_ERR_OUT_OF_RESOURCE;
    }
    frame.status = status;
    ex->ops.send(ex->ops.context, &frame);
    mem_free(frame.data);
}

/* ---- fences ---- */

static struct fence *fence_find(const struct exchange *ex, uint64_t list, uint64_t sequence)
{
    for (size_t i = 0; i < ex->fence_count; i++)
        if (ex->fences[i]->list == list && ex->fences[i]->sequence == sequence)
            return ex->fences[i];
    return NULL;
}

static struct fence *fence_make(struct exchange *ex, uint64_t list, uint64_t sequence)
{
    if (ex->fence_count == EXCHANGE_FENCES_MAX)
        return NULL;
    struct fence *fence = mem_alloc(sizeof *fence);
    fence->list = list;
    fence->sequence = sequence;
    fence->parts = mem_array(ex->nodes, sizeof *fence->parts);
    ex->fences[ex->fence_count++] = fence;
    return fence;
}

static struct list_count *count_of(struct exchange *ex, uint64_t list)
{
    for (size_t i = 0; i < ex->list_count; i++)
        if (ex->lists[i].list == list)
            return &ex->lists[i];
    return NULL;
}

static void fence_answer(struct exchange *ex, struct fence *fence)
{
    size_t total = 0, used = 0;
    for (uint32_t n = 0; n < ex->nodes; n++)
        if (fence->parts[n].member)
            total += fence->parts[n].bytes;
    char *all = fence->status == PMIX_SUCCESS && total > 0 ? mem_alloc(total) : NULL;
    for (uint32_t n = 0; n < ex->nodes && all != NULL; n++) {
        if (!fence->parts[n].member || fence->parts[n].bytes == 0)
            continue;
        memcpy(all + used, fence->parts[n].data, fence->parts[n].bytes);
        used += fence->parts[n].bytes;
    }
    fence->done = true;
    ex->ops.answer(ex->ops.context, fence->request, fence->status, all, used);
}

static void fence_try(struct exchange *ex, struct fence *fence)
{
    if (!fence->begun || fence->done)
        return;
    /* One bad contribution fails it for everybody; nobody waits for the rest. */
    for (uint32_t n = 0; n < ex->nodes && fence->status == PMIX_SUCCESS; n++)
        if (fence->parts[n].member && !fence->parts[n].got)
            return;
    fence_answer(ex, fence);
}

static bool fence_acked(const struct exchange *ex, const struct fence *fence)
{
    for (uint32_t n = 0; n < ex->nodes; n++)
        if ((fence->parts[n].member && !fence->parts[n].acked) || fence->parts[n].owed)
            return false;
    return true;
}

static void fences_sweep(struct exchange *ex)
{
    for (size_t i = 0; i < ex->fence_count;) {
        struct fence *fence = ex->fences[i];
        if (!fence->done || !fence_acked(ex, fence)) {
            i++;
            continue;
        }
        fence_free(ex, fence);
        ex->fences[i] = ex->fences[--ex->fence_count];
    }
}

/* The next fence over `list`; NULL when there are too many. */
static struct fence *fence_next(struct exchange *ex, uint64_t list)
{
    struct list_count *count = count_of(ex, list);
    if (count == NULL && ex->list_count == EXCHANGE_LISTS_MAX)
        return NULL;
    uint64_t sequence = count != NULL ? count->begun + 1 : 1;
    struct fence *fence = fence_find(ex, list, sequence);
    if (fence == NULL)
        fence = fence_make(ex, list, sequence);
    if (fence == NULL)
        return NULL;
    if (count == NULL) {
        count = &ex->lists[ex->list_count++];
        count->list = list;
    }
    count->begun = sequence;
    return fence;
}

void exchange_fence(struct exchange *ex, void *request, uint64_t list, const bool *members, int32_t status, const void *data,
                    size_t bytes, uint64_t now_ns)
{
    struct fence *fence = fence_next(ex, list);
    if (fence == NULL) {
        ex->ops.answer(ex->ops.context, request, PMIX_ERR_OUT_OF_RESOURCE, NULL, 0);
        return;
    }
    fence->begun = true;
    fence->request = request;
    fence->text = base64_encode(data, status == PMIX_SUCCESS ? bytes : 0);
    if (strlen(fence->text) > MESH_DATA_MAX) {
        fence->text[0] = '\0';
        status = PMIX_ERR_OUT_OF_RESOURCE;
    }
    fence->own_status = status;
    for (uint32_t n = 0; n < ex->nodes; n++)
        fence->parts[n].member = members[n];
    struct part *own = &fence->parts[ex->spec->node_rank];
    own->member = own->got = own->acked = true;
    if (status == PMIX_SUCCESS && bytes > 0) {
        own->data = mem_alloc(bytes);
        memcpy(own->data, data, bytes);
        own->bytes = bytes;
    }
    if (fence->status == PMIX_SUCCESS)
        fence->status = status;
    fence_try(ex, fence);
    exchange_pump(ex, now_ns);
}

/* Contributions to a fence leave when the node's earlier ones over the same list are answered (is_held). So a node that
 * has come to this fence has all we said in those before, whether or not its acknowledgements were lost. */
static void take_silent_acks(struct exchange *ex, const struct mesh_frame *frame)
{
    for (size_t i = 0; i < ex->fence_count; i++)
        if (ex->fences[i]->list == frame->id && ex->fences[i]->sequence < frame->sequence && ex->fences[i]->begun)
            ex->fences[i]->parts[frame->from].acked = true;
}

static void take_contribution(struct exchange *ex, const struct mesh_frame *frame)
{
    take_silent_acks(ex, frame);
    struct list_count *count = count_of(ex, frame->id);
    struct fence *fence = fence_find(ex, frame->id, frame->sequence);
    bool over = fence == NULL && count != NULL && frame->sequence <= count->begun;
    if (fence == NULL && !over)
        fence = fence_make(ex, frame->id, frame->sequence);
    if (fence == NULL && !over)
        return;
    struct part *part = fence != NULL ? &fence->parts[frame->from] : NULL;
    if (part != NULL && !part->got) {
        if (base64_decode(frame->data != NULL ? frame->data : "", &part->data, &part->bytes) != 0)
            return;
        part->got = true;
        if (fence->status == PMIX_SUCCESS)
            fence->status = frame->status;
        fence_try(ex, fence);
    }
    /* Without room: of a fence that is over nobody waits for it, and who asks again gets it again. */
    bool sent = send_ack(ex, frame->from, frame->id, frame->sequence);
    fence = fence_find(ex, frame->id, frame->sequence);
    if (fence != NULL)
        fence->parts[frame->from].owed = !sent;
    fences_sweep(ex);
}

static void take_ack(struct exchange *ex, const struct mesh_frame *frame)
{
    struct fence *fence = fence_find(ex, frame->id, frame->sequence);
    if (fence == NULL || !fence->begun)
        return;
    fence->parts[frame->from].acked = true;
    fences_sweep(ex);
}

/* ---- direct modex ---- */

void exchange_modex(struct exchange *ex, void *request, uint32_t rank, uint64_t now_ns)
{
    uint32_t node = rank / ex->spec->job.nproc_per_node;
    bool possible = node < ex->nodes && node != ex->spec->node_rank;
    if (!possible || ex->asked_count == EXCHANGE_MODEX_MAX) {
        ex->ops.answer(ex->ops.context, request, possible ? PMIX_ERR_OUT_OF_RESOURCE : PMIX_ERR_NOT_FOUND, NULL, 0);
        return;
    }
    struct modex_asked *asked = &ex->asked[ex->asked_count++];
    *asked = (struct modex_asked){.request = request, .id = ex->next_id++, .rank = rank, .node = node,
                                  .deadline_ns = now_ns + EXCHANGE_MODEX_DEADLINE_MS * NS_PER_MS};
    exchange_pump(ex, now_ns);
}

static void take_ask(struct exchange *ex, const struct mesh_frame *frame)
{
    for (size_t i = 0; i < ex->served_count; i++)
        if (ex->served[i].node == frame->from && ex->served[i].id == frame->id)
            return; /* on its way */
    if (ex->served_count == EXCHANGE_MODEX_MAX)
        return;
    struct modex_served served = {.key = ex->next_id++, .id = frame->id, .rank = frame->rank, .node = frame->from};
    bool ours = frame->rank / ex->spec->job.nproc_per_node == ex->spec->node_rank;
    /* Noted first: the answer may come inside the call. */
    ex->served[ex->served_count++] = served;
    int32_t status = ours ? ex->ops.fetch(ex->ops.context, served.key, frame->rank) : PMIX_ERR_NOT_FOUND;
    if (status != PMIX_SUCCESS)
        exchange_fetched(ex, served.key, status, NULL, 0);
}

void exchange_fetched(struct exchange *ex, uint64_t key, int32_t status, const void *data, size_t bytes)
{
    for (size_t i = 0; i < ex->served_count; i++) {
        if (ex->served[i].key != key)
            continue;
        struct modex_served served = ex->served[i];
        ex->served[i] = ex->served[--ex->served_count];
        send_reply(ex, &served, status, data, bytes);
        return;
    }
}

void exchange_rank_gone(struct exchange *ex, uint32_t rank)
{
    for (size_t i = ex->served_count; i-- > 0;)
        if (ex->served[i].rank == rank)
            exchange_fetched(ex, ex->served[i].key, PMIX_ERR_PROC_TERM_WO_SYNC, NULL, 0);
}

static void answer_asked(struct exchange *ex, size_t index, int32_t status, char *data, size_t bytes)
{
    void *request = ex->asked[index].request;
    ex->asked[index] = ex->asked[--ex->asked_count];
    ex->ops.answer(ex->ops.context, request, status, data, bytes);
}

static void take_reply(struct exchange *ex, const struct mesh_frame *frame)
{
    for (size_t i = 0; i < ex->asked_count; i++) {
        if (ex->asked[i].id != frame->id || ex->asked[i].node != frame->from)
            continue;
        char *data = NULL;
        size_t bytes = 0;
        if (base64_decode(frame->data != NULL ? frame->data : "", &data, &bytes) != 0)
            return;
        answer_asked(ex, i, frame->status, data, bytes);
        return;
    }
}

/* ---- all kinds ---- */

void exchange_frame(struct exchange *ex, const struct mesh_frame *frame, uint64_t now_ns)
{
    if (!mesh_frame_is_for(ex->spec, frame))
        return;
    switch (frame->kind) {
    case MESH_FENCE:
        take_contribution(ex, frame);
        break;
    case MESH_FENCE_ACK:
        take_ack(ex, frame);
        break;
    case MESH_MODEX_ASK:
        take_ask(ex, frame);
        break;
    case MESH_MODEX_REPLY:
        take_reply(ex, frame);
        break;
    default:
        break;
    }
    exchange_pump(ex, now_ns);
}

void exchange_reconnected(struct exchange *ex)
{
    for (size_t i = 0; i < ex->fence_count; i++)
        for (uint32_t n = 0; n < ex->nodes; n++)
            ex->fences[i]->parts[n].due_ns = 0;
    for (size_t i = 0; i < ex->asked_count; i++)
        ex->asked[i].due_ns = 0;
}

static bool is_held(const struct exchange *ex, const struct fence *fence)
{
    for (size_t i = 0; i < ex->fence_count; i++)
        if (ex->fences[i]->list == fence->list && ex->fences[i]->sequence < fence->sequence && ex->fences[i]->begun &&
            !ex->fences[i]->done)
            return true;
    return false;
}

static bool pump_fence(struct exchange *ex, struct fence *fence, uint64_t now_ns)
{
    bool may_say = fence->begun && !is_held(ex, fence);
    for (uint32_t n = 0; n < ex->nodes; n++) {
        struct part *part = &fence->parts[n];
        if (part->owed && !send_ack(ex, n, fence->list, fence->sequence))
            return false;
        part->owed = false;
        if (!may_say || !part->member || part->acked || part->due_ns > now_ns)
            continue;
        if (!send_fence(ex, fence, n))
            return false;
        part->due_ns = now_ns + EXCHANGE_RESEND_MS * NS_PER_MS;
    }
    return true;
}

static void expire_asked(struct exchange *ex, uint64_t now_ns)
{
    for (size_t i = ex->asked_count; i-- > 0;)
        if (now_ns >= ex->asked[i].deadline_ns)
            answer_asked(ex, i, PMIX_ERR_TIMEOUT, NULL, 0);
}

void exchange_pump(struct exchange *ex, uint64_t now_ns)
{
    expire_asked(ex, now_ns);
    for (size_t i = 0; i < ex->fence_count; i++)
        if (!pump_fence(ex, ex->fences[i], now_ns))
            return;
    for (size_t i = 0; i < ex->asked_count; i++) {
        struct modex_asked *asked = &ex->asked[i];
        if (asked->due_ns > now_ns)
            continue;
        if (!send_ask(ex, asked))
            return;
        asked->due_ns = now_ns + EXCHANGE_RESEND_MS * NS_PER_MS;
    }
    fences_sweep(ex);
}

bool exchange_settled(const struct exchange *ex)
{
    for (size_t i = 0; i < ex->fence_count; i++)
        if (ex->fences[i]->begun)
            return false;
    return ex->asked_count == 0;
}
