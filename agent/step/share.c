/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/step/share.h"

#include <string.h>

#include "agent/step/base64.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

/* A question of a rank of this node. */
struct asking {
    bool open;
    uint64_t id, due_ns, deadline_ns;
    uint32_t asker, from;
    char name[TIDE_NAME_MAX + 1];
};

/* One of another node, of what was not given yet. */
struct asked {
    uint32_t node, from;
    uint64_t id;
    char name[TIDE_NAME_MAX + 1];
};

struct share {
    const struct step_spec *spec;
    struct share_ops ops;
    struct share_value *values;
    size_t value_count;
    struct asking asking[TIDE_LOCAL_RANKS_MAX];
    struct asked *asked;
    size_t asked_count;
    uint64_t next_id;
};

struct share *share_create(const struct step_spec *spec, const struct share_ops *ops)
{
    struct share *share = mem_alloc(sizeof *share);
    share->spec = spec;
    share->ops = *ops;
    share->values = mem_array(TIDE_SHARES_MAX, sizeof *share->values);
    share->asked = mem_array(SHARE_ASKED_MAX, sizeof *share->asked);
    share->next_id = 1;
    return share;
}

void share_free(struct share *share)
{
    if (share == NULL)
        return;
    mem_free(share->values);
    mem_free(share->asked);
    mem_free(share);
}

static const struct share_value *find(const struct share *share, uint32_t rank, const char *name)
{
    for (size_t i = 0; i < share->value_count; i++)
        if (share->values[i].rank == rank && strcmp(share->values[i].name, name) == 0)
            return &share->values[i];
    return NULL;
}

static uint32_t node_of(const struct share *share, uint32_t rank)
{
    return rank / share->spec->job.nproc_per_node;
}

static void reply(struct share *share, uint32_t node, uint64_t id, const struct share_value *value)
{
    struct mesh_frame frame = mesh_frame_to(share->spec, node, MESH_SHARE_REPLY);
    frame.id = id;
    frame.rank = value->rank;
    frame.data = base64_encode(value->data, value->bytes);
    share->ops.send(share->ops.context, &frame);
    mem_free(frame.data);
}

/* ---- giving ---- */

static void answer_all(struct share *share, const struct share_value *value)
{
    for (size_t i = 0; i < TIDE_LOCAL_RANKS_MAX; i++) {
        struct asking *a = &share->asking[i];
        if (!a->open || a->from != value->rank || strcmp(a->name, value->name) != 0)
            continue;
        a->open = false;
        share->ops.answer(share->ops.context, a->asker, TIDE_OK, value);
    }
    for (size_t i = share->asked_count; i-- > 0;) {
        struct asked asked = share->asked[i];
        if (asked.from != value->rank || strcmp(asked.name, value->name) != 0)
            continue;
        share->asked[i] = share->asked[--share->asked_count];
        reply(share, asked.node, asked.id, value);
    }
}

enum tide_status share_give(struct share *share, const struct share_value *value)
{
    const struct share_value *before = find(share, value->rank, value->name);
    if (before != NULL)
        return before->bytes == value->bytes && memcmp(before->data, value->data, value->bytes) == 0 ? TIDE_OK
                                                                                                     : TIDE_E_EXISTS;
    if (share->value_count == TIDE_SHARES_MAX)
        return TIDE_E_LIMIT;
    share->values[share->value_count++] = *value;
    answer_all(share, value);
    return TIDE_OK;
}

/* ---- asking ---- */

void share_forget(struct share *share, uint32_t asker)
{
    for (size_t i = 0; i < TIDE_LOCAL_RANKS_MAX; i++)
        if (share->asking[i].asker == asker)
            share->asking[i].open = false;
}

void share_ask(struct share *share, uint32_t asker, uint32_t from, const char *name, uint64_t deadline_ns, uint64_t now_ns)
{
    const struct share_value *value = find(share, from, name);
    struct asking *a = &share->asking[asker % share->spec->job.nproc_per_node];
    share_forget(share, asker);
    if (value != NULL || node_of(share, from) >= share->spec->peers.count) {
        share->ops.answer(share->ops.context, asker, value != NULL ? TIDE_OK : TIDE_E_INVALID, value);
        return;
    }
    *a = (struct asking){.open = true, .id = share->next_id++, .deadline_ns = deadline_ns, .asker = asker, .from = from};
    text_copy(a->name, sizeof a->name, name);
    share_pump(share, now_ns);
}

static void take_ask(struct share *share, const struct mesh_frame *frame)
{
    const char *name = frame->data != NULL ? frame->data : "";
    const struct share_value *value = find(share, frame->rank, name);
    if (value != NULL) {
        reply(share, frame->from, frame->id, value);
        return;
    }
    for (size_t i = 0; i < share->asked_count; i++)
        if (share->asked[i].node == frame->from && share->asked[i].id == frame->id)
            return;
    if (share->asked_count == SHARE_ASKED_MAX || strlen(name) > TIDE_NAME_MAX)
        return;
    struct asked *asked = &share->asked[share->asked_count++];
    *asked = (struct asked){.node = frame->from, .from = frame->rank, .id = frame->id};
    text_copy(asked->name, sizeof asked->name, name);
}

static void take_reply(struct share *share, const struct mesh_frame *frame)
{
    struct share_value value = {.rank = frame->rank};
    char *data = NULL;
    size_t bytes = 0;
    for (size_t i = 0; i < TIDE_LOCAL_RANKS_MAX; i++) {
        struct asking *a = &share->asking[i];
        if (!a->open || a->id != frame->id || a->from != frame->rank)
            continue;
        if (base64_decode(frame->data != NULL ? frame->data : "", &data, &bytes) != 0)
            return;
        if (bytes <= sizeof value.data) {
            a->open = false;
            text_copy(value.name, sizeof value.name, a->name);
            value.bytes = (uint32_t)bytes;
            memcpy(value.data, data, bytes);
            share->ops.answer(share->ops.context, a->asker, TIDE_OK, &value);
        }
        mem_free(data);
        return;
    }
}

void share_frame(struct share *share, const struct mesh_frame *frame)
{
    if (!mesh_frame_is_for(share->spec, frame))
        return;
    if (frame->kind == MESH_SHARE_ASK)
        take_ask(share, frame);
    else if (frame->kind == MESH_SHARE_REPLY)
        take_reply(share, frame);
}

void share_reconnected(struct share *share)
{
    for (size_t i = 0; i < TIDE_LOCAL_RANKS_MAX; i++)
        share->asking[i].due_ns = 0;
}

void share_pump(struct share *share, uint64_t now_ns)
{
    for (size_t i = 0; i < TIDE_LOCAL_RANKS_MAX; i++) {
        struct asking *a = &share->asking[i];
        if (a->open && now_ns >= a->deadline_ns) {
            a->open = false;
            share->ops.answer(share->ops.context, a->asker, TIDE_E_TIMEOUT, NULL);
        }
        if (!a->open || a->due_ns > now_ns || node_of(share, a->from) == share->spec->node_rank)
            continue;
        struct mesh_frame frame = mesh_frame_to(share->spec, node_of(share, a->from), MESH_SHARE_ASK);
        frame.id = a->id;
        frame.rank = a->from;
        frame.data = a->name;
        if (share->ops.send(share->ops.context, &frame))
            a->due_ns = now_ns + SHARE_RESEND_MS * NS_PER_MS;
    }
}

bool share_settled(const struct share *share)
{
    for (size_t i = 0; i < TIDE_LOCAL_RANKS_MAX; i++)
        if (share->asking[i].open)
            return false;
    return true;
}
