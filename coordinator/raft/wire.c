/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/raft/wire.h"

#include <assert.h>
#include <string.h>

#include "ckpt/base/mem.h"

#define HEAD_ROOM_MIN 1024u
#define BLOBS_ROOM_MIN 8u

/* Meaning by kind of message; a bit that is none of these is refused. */
#define FLAG_FIRST 1u  /* vote and its reply: pre. Replies of append and snapshot: accepted, done */
#define FLAG_SECOND 2u /* vote: transfer. Its reply: granted */

/* ---- writing ---- */

static uint8_t *grow(struct raft_wire *wire, size_t bytes)
{
    size_t need = wire->head_bytes + bytes;
    if (need > wire->head_room) {
        size_t room = wire->head_room ? wire->head_room : HEAD_ROOM_MIN;
        while (room < need)
            room *= 2;
        wire->head = mem_grow(wire->head, room, 1);
        wire->head_room = room;
    }
    uint8_t *at = wire->head + wire->head_bytes;
    wire->head_bytes = need;
    return at;
}

static void put(struct raft_wire *wire, uint64_t value, unsigned bytes)
{
    uint8_t *at = grow(wire, bytes);
    for (unsigned i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

static void put_u64s(struct raft_wire *wire, const uint64_t *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        put(wire, values[i], 8);
}

/* Small ones are copied; behind a large one nothing can be. */
static void put_blob(struct raft_wire *wire, struct raft_blob *blob)
{
    if (blob == NULL || blob->bytes == 0)
        return;
    if (wire->blob_count == 0 && blob->bytes <= RAFT_WIRE_COPY_MAX) {
        memcpy(grow(wire, blob->bytes), blob->data, blob->bytes);
        return;
    }
    if (wire->blob_count == wire->blob_room) {
        wire->blob_room = wire->blob_room ? wire->blob_room * 2 : BLOBS_ROOM_MIN;
        wire->blobs = mem_grow(wire->blobs, wire->blob_room, sizeof *wire->blobs);
    }
    wire->blobs[wire->blob_count++] = blob;
}

static uint32_t blob_bytes(const struct raft_blob *blob)
{
    return blob ? blob->bytes : 0;
}

static void put_append(struct raft_wire *wire, const struct raft_message *m)
{
    assert(m->append.count <= RAFT_APPEND_ENTRIES_MAX);
    put_u64s(wire, (uint64_t[]){m->append.prev_index, m->append.prev_term, m->append.commit, m->append.round}, 4);
    for (size_t i = 0; i < m->append.count; i++) {
        const struct raft_entry *entry = &m->append.entries[i];
        assert(entry->index == m->append.prev_index + 1 + i && blob_bytes(entry->blob) <= RAFT_ENTRY_BYTES_MAX);
        put(wire, entry->term, 8);
        put(wire, entry->type, 4);
        put(wire, blob_bytes(entry->blob), 4);
    }
    for (size_t i = 0; i < m->append.count; i++)
        put_blob(wire, m->append.entries[i].blob);
}

static void put_snapshot(struct raft_wire *wire, const struct raft_message *m)
{
    assert(blob_bytes(m->snapshot.data) == m->snapshot.bytes && m->snapshot.bytes <= RAFT_CHUNK_BYTES);
    assert(blob_bytes(m->snapshot.config) <= RAFT_CONFIG_BYTES_MAX);
    put_u64s(
        wire,
        (uint64_t[]){m->snapshot.index, m->snapshot.last_term, m->snapshot.total, m->snapshot.digest, m->snapshot.offset},
        5);
    put(wire, m->snapshot.bytes, 4);
    put(wire, blob_bytes(m->snapshot.config), 4);
    put_blob(wire, m->snapshot.config);
    put_blob(wire, m->snapshot.data);
}

static unsigned flags_of(const struct raft_message *m)
{
    switch (m->kind) {
    case RAFT_MSG_VOTE:
        return (m->vote.pre ? FLAG_FIRST : 0) | (m->vote.transfer ? FLAG_SECOND : 0);
    case RAFT_MSG_VOTE_REPLY:
        return (m->vote_reply.pre ? FLAG_FIRST : 0) | (m->vote_reply.granted ? FLAG_SECOND : 0);
    case RAFT_MSG_APPEND_REPLY:
        return m->append_reply.accepted ? FLAG_FIRST : 0;
    case RAFT_MSG_SNAPSHOT_REPLY:
        return m->snapshot_reply.done ? FLAG_FIRST : 0;
    default:
        return 0;
    }
}

/* u8 version, u8 kind, u16 flags, u32 count of entries, u64 from, u64 to, u64 term. */
static void put_head(struct raft_wire *wire, const struct raft_message *m)
{
    put(wire, RAFT_WIRE_VERSION, 1);
    put(wire, m->kind, 1);
    put(wire, flags_of(m), 2);
    put(wire, m->kind == RAFT_MSG_APPEND ? m->append.count : 0, 4);
    put_u64s(wire, (uint64_t[]){m->from, m->to, m->term}, 3);
}

void raft_message_encode(const struct raft_message *m, struct raft_wire *wire)
{
    wire->head_bytes = wire->blob_count = 0;
    put_head(wire, m);
    switch (m->kind) {
    case RAFT_MSG_VOTE:
        put_u64s(wire, (uint64_t[]){m->vote.last_index, m->vote.last_term}, 2);
        break;
    case RAFT_MSG_APPEND:
        put_append(wire, m);
        break;
    case RAFT_MSG_APPEND_REPLY:
        put_u64s(wire,
                 (uint64_t[]){m->append_reply.prev_index, m->append_reply.match, m->append_reply.hint_index,
                              m->append_reply.hint_term, m->append_reply.round},
                 5);
        break;
    case RAFT_MSG_SNAPSHOT:
        put_snapshot(wire, m);
        break;
    case RAFT_MSG_SNAPSHOT_REPLY:
        put_u64s(wire, (uint64_t[]){m->snapshot_reply.index, m->snapshot_reply.offset}, 2);
        break;
    default:
        assert(m->kind == RAFT_MSG_VOTE_REPLY || m->kind == RAFT_MSG_TIMEOUT_NOW);
    }
}

void raft_wire_release(struct raft_wire *wire)
{
    mem_free(wire->head);
    mem_free(wire->blobs);
    *wire = (struct raft_wire){0};
}

/* ---- reading ---- */

struct reader {
    const uint8_t *at, *end;
    bool cut; /* more was asked for than there is; everything is 0 from then on */
};

static uint64_t get(struct reader *r, unsigned bytes)
{
    uint64_t value = 0;
    if (r->cut || (size_t)(r->end - r->at) < bytes) {
        r->cut = true;
        return 0;
    }
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)r->at[i] << (8 * i);
    r->at += bytes;
    return value;
}

static struct raft_blob *get_blob(struct reader *r, uint32_t bytes)
{
    if (bytes == 0)
        return NULL;
    if (r->cut || (size_t)(r->end - r->at) < bytes) {
        r->cut = true;
        return NULL;
    }
    struct raft_blob *blob = raft_blob_create(r->at, bytes);
    r->at += bytes;
    return blob;
}

static enum tide_status get_entry(struct reader *r, struct raft_entry *ret_entry, uint32_t *ret_bytes, struct err *err)
{
    ret_entry->term = get(r, 8);
    ret_entry->type = (uint32_t)get(r, 4);
    *ret_bytes = (uint32_t)get(r, 4);
    if (ret_entry->type >= RAFT_ENTRY_TYPES)
        return err_set(err, TIDE_E_INVALID, "an entry of unknown type %u", ret_entry->type);
    if (*ret_bytes > RAFT_ENTRY_BYTES_MAX)
        return err_set(err, TIDE_E_LIMIT, "an entry of %u bytes; the most is %u", *ret_bytes, RAFT_ENTRY_BYTES_MAX);
    return TIDE_OK;
}

/* The table first: only when it and the bytes behind it fit together is anything allocated for them. */
static enum tide_status get_entries(struct reader *r, struct raft_message *m, size_t count, struct err *err)
{
    uint32_t lengths[RAFT_APPEND_ENTRIES_MAX];
    size_t all = 0;
    if (r->cut || (size_t)(r->end - r->at) < count * RAFT_WIRE_ENTRY_BYTES || m->append.prev_index > UINT64_MAX - count)
        return err_set(err, TIDE_E_INVALID, "a message with %zu entries is cut short", count);
    m->append.entries = count > 0 ? mem_array(count, sizeof *m->append.entries) : NULL;
    m->append.count = count;
    for (size_t i = 0; i < count; i++) {
        struct raft_entry *entry = &m->append.entries[i];
        entry->index = m->append.prev_index + 1 + i;
        enum tide_status status = get_entry(r, entry, &lengths[i], err);
        if (status != TIDE_OK)
            return status;
        all += lengths[i];
    }
    if (all != (size_t)(r->end - r->at))
        return err_set(err, TIDE_E_INVALID, "%zu bytes behind a table of entries that have %zu", (size_t)(r->end - r->at),
                       all);
    for (size_t i = 0; i < count; i++)
        m->append.entries[i].blob = get_blob(r, lengths[i]);
    return TIDE_OK;
}

static enum tide_status get_append(struct reader *r, struct raft_message *m, uint64_t count, struct err *err)
{
    m->append.prev_index = get(r, 8);
    m->append.prev_term = get(r, 8);
    m->append.commit = get(r, 8);
    m->append.round = get(r, 8);
    if (count > RAFT_APPEND_ENTRIES_MAX)
        return err_set(err, TIDE_E_LIMIT, "a message with %u entries; the most is %u", (unsigned)count,
                       RAFT_APPEND_ENTRIES_MAX);
    return get_entries(r, m, (size_t)count, err);
}

static enum tide_status get_snapshot(struct reader *r, struct raft_message *m, struct err *err)
{
    m->snapshot.index = get(r, 8);
    m->snapshot.last_term = get(r, 8);
    m->snapshot.total = get(r, 8);
    m->snapshot.digest = get(r, 8);
    m->snapshot.offset = get(r, 8);
    m->snapshot.bytes = (uint32_t)get(r, 4);
    uint32_t config = (uint32_t)get(r, 4);
    if (m->snapshot.bytes > RAFT_CHUNK_BYTES || config > RAFT_CONFIG_BYTES_MAX)
        return err_set(err, TIDE_E_LIMIT, "a piece of a snapshot of %u bytes, with a configuration of %u", m->snapshot.bytes,
                       config);
    if (m->snapshot.offset > m->snapshot.total || m->snapshot.bytes > m->snapshot.total - m->snapshot.offset)
        return err_set(err, TIDE_E_INVALID, "a piece of a snapshot that lies outside of it");
    m->snapshot.config = get_blob(r, config);
    m->snapshot.data = get_blob(r, m->snapshot.bytes);
    return TIDE_OK;
}

static void get_append_reply(struct reader *r, struct raft_message *m)
{
    m->append_reply.prev_index = get(r, 8);
    m->append_reply.match = get(r, 8);
    m->append_reply.hint_index = get(r, 8);
    m->append_reply.hint_term = get(r, 8);
    m->append_reply.round = get(r, 8);
}

static void set_flags(struct raft_message *m, unsigned flags)
{
    bool first = flags & FLAG_FIRST, second = flags & FLAG_SECOND;
    if (m->kind == RAFT_MSG_VOTE) {
        m->vote.pre = first;
        m->vote.transfer = second;
    } else if (m->kind == RAFT_MSG_VOTE_REPLY) {
        m->vote_reply.pre = first;
        m->vote_reply.granted = second;
    } else if (m->kind == RAFT_MSG_APPEND_REPLY) {
        m->append_reply.accepted = first;
    } else if (m->kind == RAFT_MSG_SNAPSHOT_REPLY) {
        m->snapshot_reply.done = first;
    }
}

static enum tide_status get_body(struct reader *r, struct raft_message *m, uint64_t count, struct err *err)
{
    switch (m->kind) {
    case RAFT_MSG_VOTE:
        m->vote.last_index = get(r, 8);
        m->vote.last_term = get(r, 8);
        return TIDE_OK;
    case RAFT_MSG_APPEND:
        return get_append(r, m, count, err);
    case RAFT_MSG_APPEND_REPLY:
        get_append_reply(r, m);
        return TIDE_OK;
    case RAFT_MSG_SNAPSHOT:
        return get_snapshot(r, m, err);
    case RAFT_MSG_SNAPSHOT_REPLY:
        m->snapshot_reply.index = get(r, 8);
        m->snapshot_reply.offset = get(r, 8);
        return TIDE_OK;
    case RAFT_MSG_VOTE_REPLY:
    case RAFT_MSG_TIMEOUT_NOW:
        return TIDE_OK;
    default:
        return err_set(err, TIDE_E_INVALID, "a message of unknown kind %u", m->kind);
    }
}

enum tide_status raft_message_decode(const void *data, size_t bytes, struct raft_message *ret_message, struct err *err)
{
    struct reader r = {.at = data, .end = (const uint8_t *)data + bytes};
    struct raft_message m = {0};
    unsigned version = (unsigned)get(&r, 1);
    if (version != RAFT_WIRE_VERSION)
        return err_set(err, TIDE_E_VERSION, "a message of version %u; this member speaks %u", version, RAFT_WIRE_VERSION);
    m.kind = (uint32_t)get(&r, 1);
    unsigned flags = (unsigned)get(&r, 2);
    uint64_t count = get(&r, 4);
    m.from = get(&r, 8);
    m.to = get(&r, 8);
    m.term = get(&r, 8);
    enum tide_status status = get_body(&r, &m, count, err);
    set_flags(&m, flags);
    if (status == TIDE_OK && (r.cut || r.at != r.end))
        status = err_set(err, TIDE_E_INVALID, "a message of kind %u that cannot have %zu bytes", m.kind, bytes);
    if (status == TIDE_OK && (m.from == 0 || m.to == 0 || flags_of(&m) != flags || (m.kind != RAFT_MSG_APPEND && count > 0)))
        status = err_set(err, TIDE_E_INVALID, "a message of kind %u whose head makes no sense", m.kind);
    if (status != TIDE_OK) {
        raft_message_release(&m);
        return status;
    }
    *ret_message = m;
    return TIDE_OK;
}
