/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/step/bookmark.h"

#include <stdio.h>
#include <string.h>

#include "agent/step/base64.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

/* A rank of this node. */
struct giver {
    bool given, waits;
    uint64_t deadline_ns;
    size_t count;
    struct control_channel channels[CONTROL_CHANNELS_MAX];
};

/* Another node. */
struct place {
    bool got;
    uint64_t due_ns;          /* ask it (again) */
    struct bookmark_key owed; /* it has asked for those of this record, and they are not all here; cut 0: nothing is owed */
    struct control_channel *channels;
    size_t count;
};

struct bookmarks {
    const struct step_spec *spec;
    struct bookmark_ops ops;
    struct bookmark_key key; /* of what is here */
    uint32_t givers, nodes;
    struct giver *ranks; /* of this node, by local rank */
    struct place *places;
};

struct bookmarks *bookmarks_create(const struct step_spec *spec, const struct bookmark_ops *ops)
{
    struct bookmarks *marks = mem_alloc(sizeof *marks);
    marks->spec = spec;
    marks->ops = *ops;
    marks->givers = spec->job.nproc_per_node;
    marks->nodes = (uint32_t)spec->peers.count;
    marks->ranks = mem_array(marks->givers, sizeof *marks->ranks);
    marks->places = mem_array(marks->nodes, sizeof *marks->places);
    return marks;
}

static void drop_places(struct bookmarks *marks)
{
    for (uint32_t n = 0; n < marks->nodes; n++) {
        struct place *place = &marks->places[n];
        mem_free(place->channels);
        *place = (struct place){.owed = place->owed};
    }
}

void bookmarks_free(struct bookmarks *marks)
{
    if (marks == NULL)
        return;
    drop_places(marks);
    mem_free(marks->places);
    mem_free(marks->ranks);
    mem_free(marks);
}

static int compare(struct bookmark_key a, struct bookmark_key b)
{
    if (a.cut != b.cut)
        return a.cut < b.cut ? -1 : 1;
    return a.attempt == b.attempt ? 0 : a.attempt < b.attempt ? -1 : 1;
}

static struct giver *giver_of(const struct bookmarks *marks, uint32_t rank)
{
    return &marks->ranks[rank % marks->givers];
}

static uint32_t rank_of(const struct bookmarks *marks, uint32_t local)
{
    return marks->spec->node_rank * marks->givers + local;
}

static void answer(struct bookmarks *marks, uint32_t local, enum tide_status status, const char *why)
{
    marks->ranks[local].waits = false;
    marks->ops.answer(marks->ops.context, rank_of(marks, local), status, why);
}

/* What there is of an older record is of no use to anybody. */
static void begin(struct bookmarks *marks, struct bookmark_key key)
{
    marks->key = key;
    for (uint32_t i = 0; i < marks->givers; i++) {
        marks->ranks[i].given = false;
        if (marks->ranks[i].waits)
            answer(marks, i, TIDE_E_STALE, "another record has begun");
    }
    drop_places(marks);
}

/* The first of this node that has not given; marks->givers: all have. */
static uint32_t missing_giver(const struct bookmarks *marks)
{
    uint32_t i = 0;
    while (i < marks->givers && marks->ranks[i].given)
        i++;
    return i;
}

static uint32_t missing_node(const struct bookmarks *marks)
{
    uint32_t n = 0;
    while (n < marks->nodes && (marks->places[n].got || n == marks->spec->node_rank))
        n++;
    return n;
}

/* ---- frames ---- */

static struct mesh_frame frame_to(const struct bookmarks *marks, uint32_t node, enum mesh_kind kind)
{
    struct mesh_frame frame = mesh_frame_to(marks->spec, node, kind);
    frame.id = marks->key.cut;
    frame.sequence = marks->key.attempt;
    return frame;
}

static void reply(struct bookmarks *marks, uint32_t node)
{
    struct control_channel *all = mem_array((size_t)marks->givers * CONTROL_CHANNELS_MAX + 1, sizeof *all);
    size_t count = 0;
    for (uint32_t i = 0; i < marks->givers; i++) {
        memcpy(all + count, marks->ranks[i].channels, marks->ranks[i].count * sizeof *all);
        count += marks->ranks[i].count;
    }
    struct mesh_frame frame = frame_to(marks, node, MESH_MARKS);
    frame.data = base64_encode(all, count * sizeof *all);
    marks->ops.send(marks->ops.context, &frame);
    mem_free(frame.data);
    mem_free(all);
}

/* Something has come: is somebody waiting for it? */
static void look(struct bookmarks *marks)
{
    if (missing_giver(marks) < marks->givers)
        return;
    for (uint32_t n = 0; n < marks->nodes; n++) {
        if (marks->places[n].owed.cut == 0 || compare(marks->places[n].owed, marks->key) != 0)
            continue;
        marks->places[n].owed.cut = 0;
        reply(marks, n);
    }
    if (missing_node(marks) < marks->nodes)
        return;
    for (uint32_t i = 0; i < marks->givers; i++)
        if (marks->ranks[i].waits)
            answer(marks, i, TIDE_OK, "");
}

static void take_ask(struct bookmarks *marks, const struct mesh_frame *frame, struct bookmark_key key)
{
    int order = compare(key, marks->key);
    if (order == 0 && missing_giver(marks) == marks->givers)
        reply(marks, frame->from);
    else if (order >= 0 && compare(key, marks->places[frame->from].owed) > 0)
        marks->places[frame->from].owed = key;
}

static void take_marks(struct bookmarks *marks, const struct mesh_frame *frame, struct bookmark_key key)
{
    struct place *place = &marks->places[frame->from];
    char *data = NULL;
    size_t bytes = 0;
    if (compare(key, marks->key) != 0 || place->got)
        return;
    if (base64_decode(frame->data != NULL ? frame->data : "", &data, &bytes) != 0)
        return;
    if (bytes % sizeof *place->channels != 0) {
        mem_free(data);
        return;
    }
    place->got = true;
    place->channels = (struct control_channel *)(void *)data;
    place->count = bytes / sizeof *place->channels;
    look(marks);
}

void bookmarks_frame(struct bookmarks *marks, const struct mesh_frame *frame)
{
    struct bookmark_key key = {.cut = frame->id, .attempt = (uint32_t)frame->sequence};
    if (!mesh_frame_is_for(marks->spec, frame) || key.cut == 0)
        return;
    if (frame->kind == MESH_MARKS_ASK)
        take_ask(marks, frame, key);
    else if (frame->kind == MESH_MARKS)
        take_marks(marks, frame, key);
}

/* ---- ranks of this node ---- */

void bookmarks_give(struct bookmarks *marks, uint32_t rank, struct bookmark_key key, const struct control_channel *channels,
                    size_t count)
{
    int order = compare(key, marks->key);
    struct giver *giver = giver_of(marks, rank);
    if (order < 0 || count > CONTROL_CHANNELS_MAX)
        return;
    if (order > 0)
        begin(marks, key);
    giver->given = true;
    giver->count = count;
    memcpy(giver->channels, channels, count * sizeof *channels);
    look(marks);
}

void bookmarks_forget(struct bookmarks *marks, uint32_t rank)
{
    giver_of(marks, rank)->waits = false;
}

void bookmarks_ask(struct bookmarks *marks, uint32_t rank, struct bookmark_key key, uint64_t deadline_ns, uint64_t now_ns)
{
    struct giver *giver = giver_of(marks, rank);
    giver->waits = true;
    giver->deadline_ns = deadline_ns;
    if (compare(key, marks->key) != 0) {
        answer(marks, rank % marks->givers, TIDE_E_STALE, "another record has begun");
        return;
    }
    look(marks);
    bookmarks_pump(marks, now_ns);
}

static size_t pick(const struct control_channel *from, size_t count, const struct control_member *member,
                   struct control_channel *to, size_t have, size_t room)
{
    for (size_t i = 0; i < count; i++) {
        if (from[i].comm != member->comm || from[i].to != member->rank)
            continue;
        if (have < room)
            to[have] = from[i];
        have++;
    }
    return have;
}

size_t bookmarks_to(const struct bookmarks *marks, const struct control_member *members, size_t member_count,
                    struct control_channel *to, size_t room)
{
    size_t have = 0;
    for (size_t m = 0; m < member_count; m++) {
        for (uint32_t i = 0; i < marks->givers; i++)
            have = pick(marks->ranks[i].channels, marks->ranks[i].count, &members[m], to, have, room);
        for (uint32_t n = 0; n < marks->nodes; n++)
            have = pick(marks->places[n].channels, marks->places[n].count, &members[m], to, have, room);
    }
    return have;
}

/* ---- time ---- */

void bookmarks_reconnected(struct bookmarks *marks)
{
    for (uint32_t n = 0; n < marks->nodes; n++)
        marks->places[n].due_ns = 0;
}

static void give_up(struct bookmarks *marks, uint32_t local)
{
    char why[TIDE_TEXT_MAX + 1];
    uint32_t rank = missing_giver(marks), node = missing_node(marks);
    if (rank < marks->givers)
        snprintf(why, sizeof why, "rank %u has not come to this step in time", rank_of(marks, rank));
    else
        snprintf(why, sizeof why,
                 "the ranks of node %u of the job have not come to this step in time, or it does not answer", node);
    answer(marks, local, TIDE_E_TIMEOUT, why);
}

void bookmarks_pump(struct bookmarks *marks, uint64_t now_ns)
{
    for (uint32_t i = 0; i < marks->givers; i++)
        if (marks->ranks[i].waits && now_ns >= marks->ranks[i].deadline_ns)
            give_up(marks, i);
    for (uint32_t n = 0; n < marks->nodes && !bookmarks_settled(marks); n++) {
        struct place *place = &marks->places[n];
        if (n == marks->spec->node_rank || place->got || place->due_ns > now_ns)
            continue;
        struct mesh_frame frame = frame_to(marks, n, MESH_MARKS_ASK);
        if (marks->ops.send(marks->ops.context, &frame))
            place->due_ns = now_ns + BOOKMARK_RESEND_MS * NS_PER_MS;
    }
}

bool bookmarks_settled(const struct bookmarks *marks)
{
    for (uint32_t i = 0; i < marks->givers; i++)
        if (marks->ranks[i].waits)
            return false;
    return true;
}
