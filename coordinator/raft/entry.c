/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/raft/entry.h"

#include <inttypes.h>
#include <string.h>

#include "ckpt/base/mem.h"

/* ---- blobs ---- */

struct raft_blob *raft_blob_create(const void *data, size_t bytes)
{
    struct raft_blob *blob = mem_alloc(sizeof *blob + bytes);
    atomic_init(&blob->refs, 1);
    blob->bytes = (uint32_t)bytes;
    if (data != NULL && bytes > 0)
        memcpy(blob->data, data, bytes);
    return blob;
}

struct raft_blob *raft_blob_ref(struct raft_blob *blob)
{
    if (blob != NULL)
        atomic_fetch_add_explicit(&blob->refs, 1, memory_order_relaxed);
    return blob;
}

void raft_blob_unref(struct raft_blob *blob)
{
    /* Release, then acquire: whoever frees it sees what all others did with it before they let go. */
    if (blob != NULL && atomic_fetch_sub_explicit(&blob->refs, 1, memory_order_acq_rel) == 1)
        mem_free(blob);
}

/* ---- configurations ---- */

const struct raft_member *raft_config_member(const struct raft_config *config, uint64_t id)
{
    for (size_t i = 0; i < config->count; i++)
        if (config->members[i].id == id)
            return &config->members[i];
    return NULL;
}

size_t raft_config_voters(const struct raft_config *config)
{
    size_t voters = 0;
    for (size_t i = 0; i < config->count; i++)
        voters += config->members[i].voter;
    return voters;
}

static enum tide_status check_member(const struct raft_config *config, const struct raft_member *member, struct err *err)
{
    if (member->id == 0)
        return err_set(err, TIDE_E_INVALID, "a member's id cannot be 0");
    if (member->peer[0] == '\0')
        return err_set(err, TIDE_E_INVALID, "member %" PRIu64 " has no address for its peers", member->id);
    for (size_t i = 0; i < config->count; i++) {
        const struct raft_member *other = &config->members[i];
        if (other->id == member->id)
            return err_set(err, TIDE_E_EXISTS, "member %" PRIu64 " is in the group already, at %s", other->id, other->peer);
        if (strcmp(other->peer, member->peer) == 0 || (member->api[0] != '\0' && strcmp(other->api, member->api) == 0))
            return err_set(err, TIDE_E_EXISTS, "member %" PRIu64 " has that address already: peers %s, API %s", other->id,
                           other->peer, other->api);
    }
    return TIDE_OK;
}

enum tide_status raft_config_add(struct raft_config *config, const struct raft_member *member, struct err *err)
{
    enum tide_status status = check_member(config, member, err);
    if (status != TIDE_OK)
        return status;
    if (config->count == RAFT_MEMBERS_MAX || (member->voter && raft_config_voters(config) == RAFT_VOTERS_MAX))
        return err_set(err, TIDE_E_LIMIT, "a group has at most %u members, %u of them voters", RAFT_MEMBERS_MAX, RAFT_VOTERS_MAX);
    size_t at = config->count;
    while (at > 0 && config->members[at - 1].id > member->id)
        at--;
    memmove(&config->members[at + 1], &config->members[at], (config->count - at) * sizeof *config->members);
    config->members[at] = *member;
    config->count++;
    return TIDE_OK;
}

void raft_config_remove(struct raft_config *config, uint64_t id)
{
    size_t kept = 0;
    for (size_t i = 0; i < config->count; i++)
        if (config->members[i].id != id)
            config->members[kept++] = config->members[i];
    config->count = kept;
}

/* ---- their bytes: a version, a count, in version 2 the epoch; per member id, voter, and two texts with their lengths ---- */

#define CONFIG_VERSION 2u
#define CONFIG_VERSION_PLAIN 1u /* of epoch 0: what was written before there were any */
#define U64_BYTES 8u

static size_t put_u64(char *to, uint64_t value)
{
    for (size_t i = 0; i < U64_BYTES; i++)
        to[i] = (char)(unsigned char)(value >> (8 * i));
    return U64_BYTES;
}

static size_t put_text(char *to, const char *text)
{
    size_t n = strlen(text);
    to[0] = (char)(unsigned char)n;
    memcpy(to + 1, text, n);
    return n + 1;
}

struct raft_blob *raft_config_encode(const struct raft_config *config)
{
    char bytes[RAFT_CONFIG_BYTES_MAX];
    size_t at = 0;
    bytes[at++] = config->epoch == 0 ? CONFIG_VERSION_PLAIN : CONFIG_VERSION;
    bytes[at++] = (char)(unsigned char)config->count;
    if (config->epoch != 0)
        at += put_u64(bytes + at, config->epoch);
    for (size_t i = 0; i < config->count; i++) {
        const struct raft_member *member = &config->members[i];
        at += put_u64(bytes + at, member->id);
        bytes[at++] = member->voter ? 1 : 0;
        at += put_text(bytes + at, member->peer);
        at += put_text(bytes + at, member->api);
    }
    return raft_blob_create(bytes, at);
}
_Static_assert(2 + U64_BYTES + RAFT_MEMBERS_MAX * (U64_BYTES + 1 + 2 * (RAFT_ADDRESS_MAX + 1)) <= RAFT_CONFIG_BYTES_MAX, "each fits");

struct reader {
    const unsigned char *at, *end;
};

static uint64_t get_u64(struct reader *r)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 8)
        value |= (uint64_t)*r->at++ << shift;
    return value;
}

static bool get_text(struct reader *r, char to[RAFT_ADDRESS_MAX + 1])
{
    if (r->at == r->end || (size_t)(r->end - r->at - 1) < r->at[0])
        return false;
    size_t n = *r->at++;
    memcpy(to, r->at, n);
    to[n] = '\0';
    r->at += n;
    return strlen(to) == n;
}

static bool get_member(struct reader *r, struct raft_member *ret_member)
{
    struct raft_member member = {0};
    if (r->end - r->at < 9)
        return false;
    member.id = get_u64(r);
    unsigned voter = *r->at++;
    member.voter = voter == 1;
    *ret_member = member;
    return voter <= 1 && get_text(r, ret_member->peer) && get_text(r, ret_member->api);
}

enum tide_status raft_config_decode(const void *data, size_t bytes, struct raft_config *ret_config, struct err *err)
{
    struct reader r = {.at = data, .end = (const unsigned char *)data + bytes};
    struct raft_config config = {0};
    if (bytes < 2 || bytes > RAFT_CONFIG_BYTES_MAX || r.at[0] < CONFIG_VERSION_PLAIN || r.at[0] > CONFIG_VERSION ||
        r.at[1] > RAFT_MEMBERS_MAX || (r.at[0] != CONFIG_VERSION_PLAIN && bytes < 2 + U64_BYTES))
        return err_set(err, TIDE_E_INVALID, "%zu bytes that are no configuration of a group", bytes);
    bool plain = r.at[0] == CONFIG_VERSION_PLAIN;
    size_t count = r.at[1];
    r.at += 2;
    config.epoch = plain ? 0 : get_u64(&r);
    if (!plain && config.epoch == 0)
        return err_set(err, TIDE_E_INVALID, "a configuration of epoch 0 that says so: nobody writes that");
    for (size_t i = 0; i < count; i++) {
        struct raft_member member;
        struct err why = {0};
        if (!get_member(&r, &member) || (i > 0 && member.id <= config.members[i - 1].id) ||
            raft_config_add(&config, &member, &why) != TIDE_OK)
            return err_set(err, TIDE_E_INVALID, "member %zu of a configuration cannot be read", i + 1);
    }
    if (r.at != r.end)
        return err_set(err, TIDE_E_INVALID, "%zu bytes behind a configuration", (size_t)(r.end - r.at));
    *ret_config = config;
    return TIDE_OK;
}
