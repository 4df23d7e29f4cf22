/* SPDX-License-Identifier: Apache-2.0 */

/* Messages of Raft as bytes: there and back, and everything that is no message refused. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "coordinator/net/net.h"
#include "coordinator/raft/wire.h"

_Static_assert(RAFT_WIRE_BYTES_MAX <= NET_MESSAGE_MAX, "the transport takes every message");

#define ROUNDS 200
#define FLIPS 20000

struct bytes {
    uint8_t *data;
    size_t count;
};

/* What arrives at the other side. */
static struct bytes flat(const struct raft_message *m)
{
    struct raft_wire wire = {0};
    raft_message_encode(m, &wire);
    size_t count = wire.head_bytes;
    for (size_t i = 0; i < wire.blob_count; i++)
        count += wire.blobs[i]->bytes;
    assert_true(count <= RAFT_WIRE_BYTES_MAX);
    struct bytes bytes = {.data = mem_alloc(count), .count = count};
    memcpy(bytes.data, wire.head, wire.head_bytes);
    size_t at = wire.head_bytes;
    for (size_t i = 0; i < wire.blob_count; i++) {
        memcpy(bytes.data + at, wire.blobs[i]->data, wire.blobs[i]->bytes);
        at += wire.blobs[i]->bytes;
    }
    raft_wire_release(&wire);
    return bytes;
}

static struct raft_blob *random_blob(struct rng *rng, size_t bytes)
{
    struct raft_blob *blob = raft_blob_create(NULL, bytes);
    for (size_t i = 0; i < bytes; i++)
        blob->data[i] = (char)rng_next(rng);
    return blob;
}

static void random_entries(struct rng *rng, struct raft_message *m, size_t count, size_t most)
{
    m->append.entries = count ? mem_array(count, sizeof *m->append.entries) : NULL;
    m->append.count = count;
    for (size_t i = 0; i < count; i++) {
        size_t bytes = rng_below(rng, most);
        m->append.entries[i] = (struct raft_entry){.index = m->append.prev_index + 1 + i,
                                                   .term = rng_next(rng),
                                                   .type = (uint32_t)rng_below(rng, RAFT_ENTRY_TYPES),
                                                   .blob = bytes ? random_blob(rng, bytes) : NULL};
    }
}

static bool coin(struct rng *rng)
{
    return rng_below(rng, 2) == 1;
}

static void random_snapshot(struct rng *rng, struct raft_message *m, size_t most)
{
    m->snapshot.index = rng_next(rng);
    m->snapshot.last_term = rng_next(rng);
    m->snapshot.digest = rng_next(rng);
    m->snapshot.offset = rng_below(rng, 1u << 30);
    m->snapshot.bytes = (uint32_t)rng_below(rng, most);
    m->snapshot.total = m->snapshot.offset + m->snapshot.bytes + rng_below(rng, 3);
    m->snapshot.config = coin(rng) ? random_blob(rng, 1 + rng_below(rng, 3000)) : NULL;
    m->snapshot.data = m->snapshot.bytes ? random_blob(rng, m->snapshot.bytes) : NULL;
}

static struct raft_message random_message(struct rng *rng, uint32_t kind, size_t most)
{
    struct raft_message m = {
        .kind = kind, .from = 1 + rng_below(rng, 100), .to = 1 + rng_below(rng, 100), .term = rng_next(rng)};
    if (kind == RAFT_MSG_VOTE) {
        m.vote.last_index = rng_next(rng);
        m.vote.last_term = rng_next(rng);
        m.vote.pre = coin(rng);
        m.vote.transfer = coin(rng);
    } else if (kind == RAFT_MSG_VOTE_REPLY) {
        m.vote_reply.pre = coin(rng);
        m.vote_reply.granted = coin(rng);
    } else if (kind == RAFT_MSG_APPEND) {
        m.append.prev_index = rng_next(rng) >> 1;
        m.append.prev_term = rng_next(rng);
        m.append.commit = rng_next(rng);
        m.append.round = rng_next(rng);
        random_entries(rng, &m, rng_below(rng, 20), most);
    } else if (kind == RAFT_MSG_APPEND_REPLY) {
        m.append_reply.accepted = coin(rng);
        m.append_reply.prev_index = rng_next(rng);
        m.append_reply.match = rng_next(rng);
        m.append_reply.hint_index = rng_next(rng);
        m.append_reply.hint_term = rng_next(rng);
        m.append_reply.round = rng_next(rng);
    } else if (kind == RAFT_MSG_SNAPSHOT) {
        random_snapshot(rng, &m, most);
    } else if (kind == RAFT_MSG_SNAPSHOT_REPLY) {
        m.snapshot_reply.index = rng_next(rng);
        m.snapshot_reply.offset = rng_next(rng);
        m.snapshot_reply.done = coin(rng);
    }
    return m;
}

static void same_blob(const struct raft_blob *a, const struct raft_blob *b)
{
    assert_int_equal(a == NULL, b == NULL);
    if (a == NULL)
        return;
    assert_int_equal(a->bytes, b->bytes);
    assert_memory_equal(a->data, b->data, a->bytes);
}

static void same_append(const struct raft_message *a, const struct raft_message *b)
{
    assert_int_equal(a->append.prev_index, b->append.prev_index);
    assert_int_equal(a->append.prev_term, b->append.prev_term);
    assert_int_equal(a->append.commit, b->append.commit);
    assert_int_equal(a->append.round, b->append.round);
    assert_int_equal(a->append.count, b->append.count);
    for (size_t i = 0; i < a->append.count; i++) {
        assert_int_equal(a->append.entries[i].index, b->append.entries[i].index);
        assert_int_equal(a->append.entries[i].term, b->append.entries[i].term);
        assert_int_equal(a->append.entries[i].type, b->append.entries[i].type);
        same_blob(a->append.entries[i].blob, b->append.entries[i].blob);
    }
}

static void same_numbers(const struct raft_message *a, const struct raft_message *b)
{
    if (a->kind == RAFT_MSG_VOTE) {
        assert_int_equal(a->vote.last_index, b->vote.last_index);
        assert_int_equal(a->vote.last_term, b->vote.last_term);
        assert_int_equal(a->vote.pre, b->vote.pre);
        assert_int_equal(a->vote.transfer, b->vote.transfer);
    } else if (a->kind == RAFT_MSG_VOTE_REPLY) {
        assert_int_equal(a->vote_reply.granted, b->vote_reply.granted);
        assert_int_equal(a->vote_reply.pre, b->vote_reply.pre);
    } else if (a->kind == RAFT_MSG_APPEND_REPLY) {
        assert_int_equal(a->append_reply.accepted, b->append_reply.accepted);
        assert_int_equal(a->append_reply.prev_index, b->append_reply.prev_index);
        assert_int_equal(a->append_reply.match, b->append_reply.match);
        assert_int_equal(a->append_reply.hint_index, b->append_reply.hint_index);
        assert_int_equal(a->append_reply.hint_term, b->append_reply.hint_term);
        assert_int_equal(a->append_reply.round, b->append_reply.round);
    } else if (a->kind == RAFT_MSG_SNAPSHOT_REPLY) {
        assert_int_equal(a->snapshot_reply.index, b->snapshot_reply.index);
        assert_int_equal(a->snapshot_reply.offset, b->snapshot_reply.offset);
        assert_int_equal(a->snapshot_reply.done, b->snapshot_reply.done);
    }
}

static void same(const struct raft_message *a, const struct raft_message *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->from, b->from);
    assert_int_equal(a->to, b->to);
    assert_int_equal(a->term, b->term);
    if (a->kind == RAFT_MSG_APPEND) {
        same_append(a, b);
    } else if (a->kind == RAFT_MSG_SNAPSHOT) {
        same_blob(a->snapshot.config, b->snapshot.config);
        same_blob(a->snapshot.data, b->snapshot.data);
        assert_int_equal(a->snapshot.index, b->snapshot.index);
        assert_int_equal(a->snapshot.last_term, b->snapshot.last_term);
        assert_int_equal(a->snapshot.total, b->snapshot.total);
        assert_int_equal(a->snapshot.digest, b->snapshot.digest);
        assert_int_equal(a->snapshot.offset, b->snapshot.offset);
        assert_int_equal(a->snapshot.bytes, b->snapshot.bytes);
    } else {
        same_numbers(a, b);
    }
}

static void there_and_back(const struct raft_message *m)
{
    struct bytes bytes = flat(m);
    struct raft_message back;
    struct err err = {0};
    if (raft_message_decode(bytes.data, bytes.count, &back, &err) != TIDE_OK)
        fail_msg("%s", err.text);
    same(m, &back);
    raft_message_release(&back);
    mem_free(bytes.data);
}

static void test_there_and_back(void **state)
{
    (void)state;
    struct rng rng = {.state = 1};
    for (unsigned round = 0; round < ROUNDS; round++)
        for (uint32_t kind = RAFT_MSG_VOTE; kind < RAFT_MESSAGE_KINDS; kind++) {
            struct raft_message m = random_message(&rng, kind, round % 10 == 0 ? 3 * RAFT_WIRE_COPY_MAX : 300);
            there_and_back(&m);
            raft_message_release(&m);
        }
}

/* The largest there can be. */
static void test_largest(void **state)
{
    (void)state;
    struct rng rng = {.state = 2};
    struct raft_message m = random_message(&rng, RAFT_MSG_APPEND, 1);
    raft_message_release(&m);
    m = (struct raft_message){.kind = RAFT_MSG_APPEND, .from = 1, .to = 2, .term = 3, .append = {.prev_index = 7}};
    random_entries(&rng, &m, RAFT_APPEND_ENTRIES_MAX, 2 * RAFT_APPEND_BYTES_MAX / RAFT_APPEND_ENTRIES_MAX);
    there_and_back(&m);
    raft_message_release(&m);
    m = (struct raft_message){.kind = RAFT_MSG_APPEND, .from = 1, .to = 2, .term = 3};
    random_entries(&rng, &m, 1, 2);
    raft_blob_unref(m.append.entries[0].blob);
    m.append.entries[0].blob = raft_blob_create(NULL, RAFT_ENTRY_BYTES_MAX);
    there_and_back(&m);
    raft_message_release(&m);
    m = (struct raft_message){.kind = RAFT_MSG_SNAPSHOT, .from = 1, .to = 2, .term = 3};
    m.snapshot.total = m.snapshot.bytes = RAFT_CHUNK_BYTES;
    m.snapshot.data = raft_blob_create(NULL, RAFT_CHUNK_BYTES);
    m.snapshot.config = raft_blob_create(NULL, RAFT_CONFIG_BYTES_MAX);
    there_and_back(&m);
    raft_message_release(&m);
}

/* A large blob is not copied, and the small ones behind it keep their place. */
static void test_references(void **state)
{
    (void)state;
    struct raft_wire wire = {0};
    struct raft_message m = {.kind = RAFT_MSG_APPEND, .from = 1, .to = 2};
    struct raft_entry entries[3];
    for (unsigned i = 0; i < 3; i++)
        entries[i] = (struct raft_entry){.index = i + 1, .term = 1, .type = RAFT_COMMAND};
    entries[0].blob = raft_blob_create("first", 5);
    entries[1].blob = raft_blob_create(NULL, RAFT_WIRE_COPY_MAX + 1);
    entries[2].blob = raft_blob_create("third", 5);
    m.append.entries = entries;
    m.append.count = 3;
    raft_message_encode(&m, &wire);
    assert_int_equal(wire.blob_count, 2);
    assert_ptr_equal(wire.blobs[0], entries[1].blob);
    assert_ptr_equal(wire.blobs[1], entries[2].blob);
    assert_memory_equal(wire.head + wire.head_bytes - 5, "first", 5);
    there_and_back(&m);
    raft_wire_release(&wire);
    for (unsigned i = 0; i < 3; i++)
        raft_blob_unref(entries[i].blob);
}

static enum tide_status decode(const uint8_t *data, size_t bytes)
{
    struct raft_message m;
    struct err err = {0};
    enum tide_status status = raft_message_decode(data, bytes, &m, &err);
    if (status == TIDE_OK)
        raft_message_release(&m);
    else
        assert_true(err.text[0] != '\0');
    return status;
}

/* Cut anywhere, or with a byte too many. */
static void test_cut_and_trailing(void **state)
{
    (void)state;
    struct rng rng = {.state = 3};
    for (uint32_t kind = RAFT_MSG_VOTE; kind < RAFT_MESSAGE_KINDS; kind++) {
        struct raft_message m = random_message(&rng, kind, 30);
        struct bytes bytes = flat(&m);
        for (size_t n = 0; n < bytes.count; n++) {
            uint8_t *cut = mem_alloc(n + 1);
            memcpy(cut, bytes.data, n);
            assert_int_not_equal(decode(cut, n), TIDE_OK);
            mem_free(cut);
        }
        uint8_t *longer = mem_alloc(bytes.count + 1);
        memcpy(longer, bytes.data, bytes.count);
        assert_int_equal(decode(longer, bytes.count + 1), TIDE_E_INVALID);
        mem_free(longer);
        mem_free(bytes.data);
        raft_message_release(&m);
    }
}

/* A field of a good message changed: at `offset`, `bytes` long. */
static enum tide_status changed(const struct raft_message *m, size_t offset, uint64_t value, size_t bytes)
{
    struct bytes flat_ = flat(m);
    assert_int_equal(decode(flat_.data, flat_.count), TIDE_OK);
    memcpy(flat_.data + offset, &value, bytes);
    enum tide_status status = decode(flat_.data, flat_.count);
    mem_free(flat_.data);
    return status;
}

static void test_bad_fields(void **state)
{
    (void)state;
    struct raft_message reply = {.kind = RAFT_MSG_VOTE_REPLY, .from = 1, .to = 2, .term = 3};
    assert_int_equal(changed(&reply, 0, RAFT_WIRE_VERSION + 1, 1), TIDE_E_VERSION);
    assert_int_equal(changed(&reply, 1, 0, 1), TIDE_E_INVALID);
    assert_int_equal(changed(&reply, 1, RAFT_MESSAGE_KINDS, 1), TIDE_E_INVALID);
    assert_int_equal(changed(&reply, 2, 4, 2), TIDE_E_INVALID); /* an unknown flag */
    assert_int_equal(changed(&reply, 4, 1, 4), TIDE_E_INVALID); /* entries where none can be */
    assert_int_equal(changed(&reply, 8, 0, 8), TIDE_E_INVALID); /* from nobody */
    assert_int_equal(changed(&reply, 16, 0, 8), TIDE_E_INVALID);

    struct raft_message now = {.kind = RAFT_MSG_TIMEOUT_NOW, .from = 1, .to = 2, .term = 3};
    assert_int_equal(changed(&now, 2, 1, 2), TIDE_E_INVALID);

    struct raft_entry entry = {.index = 1, .term = 1, .type = RAFT_COMMAND, .blob = raft_blob_create("abcd", 4)};
    struct raft_message append = {.kind = RAFT_MSG_APPEND, .from = 1, .to = 2, .append = {.entries = &entry, .count = 1}};
    assert_int_equal(changed(&append, 4, RAFT_APPEND_ENTRIES_MAX + 1, 4), TIDE_E_LIMIT);
    assert_int_equal(changed(&append, 4, 2, 4), TIDE_E_INVALID);
    assert_int_equal(changed(&append, 32, UINT64_MAX, 8), TIDE_E_INVALID); /* indexes would begin again */
    assert_int_equal(changed(&append, 64 + 8, RAFT_ENTRY_TYPES, 4), TIDE_E_INVALID);
    assert_int_equal(changed(&append, 64 + 12, RAFT_ENTRY_BYTES_MAX + 1, 4), TIDE_E_LIMIT);
    assert_int_equal(changed(&append, 64 + 12, 3, 4), TIDE_E_INVALID);
    assert_int_equal(changed(&append, 64 + 12, 5, 4), TIDE_E_INVALID);
    raft_blob_unref(entry.blob);

    struct raft_message snapshot = {.kind = RAFT_MSG_SNAPSHOT, .from = 1, .to = 2, .snapshot = {.total = 4, .bytes = 4}};
    snapshot.snapshot.data = raft_blob_create("abcd", 4);
    assert_int_equal(changed(&snapshot, 48, 3, 8), TIDE_E_INVALID); /* ends behind its end */
    assert_int_equal(changed(&snapshot, 64, 5, 8), TIDE_E_INVALID); /* begins there */
    assert_int_equal(changed(&snapshot, 72, RAFT_CHUNK_BYTES + 1, 4), TIDE_E_LIMIT);
    assert_int_equal(changed(&snapshot, 76, RAFT_CONFIG_BYTES_MAX + 1, 4), TIDE_E_LIMIT);
    assert_int_equal(changed(&snapshot, 76, 1, 4), TIDE_E_INVALID);
    raft_blob_unref(snapshot.snapshot.data);
}

/* Whatever is changed: refused, or a message that says the same when it is written again. */
static void test_flips(void **state)
{
    (void)state;
    struct rng rng = {.state = 4};
    unsigned good = 0;
    for (unsigned i = 0; i < FLIPS; i++) {
        struct raft_message m = random_message(&rng, 1 + i % (RAFT_MESSAGE_KINDS - 1), 20), back;
        struct bytes bytes = flat(&m), again;
        struct err err = {0};
        for (uint64_t n = 1 + rng_below(&rng, 3); n > 0; n--)
            bytes.data[rng_below(&rng, bytes.count)] ^= (uint8_t)(1u << rng_below(&rng, 8));
        if (raft_message_decode(bytes.data, bytes.count, &back, &err) == TIDE_OK) {
            good++;
            again = flat(&back);
            assert_int_equal(again.count, bytes.count);
            assert_memory_equal(again.data, bytes.data, bytes.count);
            mem_free(again.data);
            raft_message_release(&back);
        }
        mem_free(bytes.data);
        raft_message_release(&m);
    }
    assert_true(good > 0 && good < FLIPS);
}

/* ---- configurations ---- */

static struct raft_config config_of(uint64_t epoch)
{
    struct raft_config config = {.epoch = epoch};
    struct raft_member member = {.id = 2, .voter = true, .peer = "p:1", .api = "a"};
    assert_int_equal(raft_config_add(&config, &member, NULL), TIDE_OK);
    return config;
}

/* As it was before there were epochs: what is in the logs and snapshots of older versions, and read by them. */
static void test_config_plain(void **state)
{
    (void)state;
    static const uint8_t plain[] = {1, 1, 2, 0, 0, 0, 0, 0, 0, 0, 1, 3, 'p', ':', '1', 1, 'a'};
    struct raft_config config = config_of(0), back;
    struct raft_blob *blob = raft_config_encode(&config);
    assert_int_equal(blob->bytes, sizeof plain);
    assert_memory_equal(blob->data, plain, sizeof plain);
    assert_int_equal(raft_config_decode(plain, sizeof plain, &back, NULL), TIDE_OK);
    assert_int_equal(back.epoch, 0);
    assert_string_equal(back.members[0].peer, "p:1");
    raft_blob_unref(blob);
}

static void test_config_epoch(void **state)
{
    (void)state;
    struct raft_config config = config_of(UINT64_C(0x0000000289abcdef)), back;
    struct raft_blob *blob = raft_config_encode(&config);
    assert_int_equal(raft_config_decode(blob->data, blob->bytes, &back, NULL), TIDE_OK);
    assert_true(back.epoch == config.epoch && back.count == 1 && back.members[0].id == 2 && back.members[0].voter);
    for (size_t bytes = 0; bytes < blob->bytes; bytes++)
        assert_int_equal(raft_config_decode(blob->data, bytes, &back, NULL), TIDE_E_INVALID);
    memset(blob->data + 2, 0, sizeof(uint64_t)); /* epoch 0 is written without */
    assert_int_equal(raft_config_decode(blob->data, blob->bytes, &back, NULL), TIDE_E_INVALID);
    blob->data[0] = 3;
    assert_int_equal(raft_config_decode(blob->data, blob->bytes, &back, NULL), TIDE_E_INVALID);
    raft_blob_unref(blob);
    /* Changes keep it. */
    raft_config_remove(&config, 2);
    assert_true(config.epoch == UINT64_C(0x0000000289abcdef));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),   cmocka_unit_test(test_largest),      cmocka_unit_test(test_references),
        cmocka_unit_test(test_cut_and_trailing), cmocka_unit_test(test_bad_fields),   cmocka_unit_test(test_flips),
        cmocka_unit_test(test_config_plain),     cmocka_unit_test(test_config_epoch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
