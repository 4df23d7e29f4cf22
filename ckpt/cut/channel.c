/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/cut/channel.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#define HEAD_MAGIC "TIDMCHAN"
#define ENTRY_MAGIC "TMSG"
#define MAGIC_BYTES 8u
#define ENTRY_MAGIC_BYTES 4u

static unsigned char *put(unsigned char *to, uint64_t value, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++)
        *to++ = (unsigned char)(value >> (8 * i));
    return to;
}

static uint64_t get(const unsigned char *from, unsigned bytes)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++)
        value |= (uint64_t)from[i] << (8 * i);
    return value;
}

/* Of what stands in front of a payload: a log that was torn is told from one that is whole. */
static uint32_t check_of(const struct cut_entry *entry)
{
    uint64_t parts[] = {entry->comm, entry->source, (uint32_t)entry->tag, entry->bytes}, sum = UINT64_C(0x9e3779b97f4a7c15);
    for (unsigned i = 0; i < 4; i++) {
        sum = (sum ^ parts[i]) * UINT64_C(0xbf58476d1ce4e5b9);
        sum ^= sum >> 29;
    }
    return (uint32_t)(sum >> 32);
}

/* ---- printing ---- */

void cut_channel_print_head(void *to, const struct cut_comm *comms, size_t count)
{
    assert(count <= CUT_COMMS_MAX);
    unsigned char *at = to;
    memcpy(at, HEAD_MAGIC, MAGIC_BYTES);
    at = put(at + MAGIC_BYTES, count, 8);
    for (size_t i = 0; i < count; i++) {
        at = put(at, comms[i].id, 8);
        at = put(at, comms[i].collectives, 8);
        at = put(at, comms[i].size, 8);
        memset(at, 0, CUT_COMM_NAME_BYTES);
        memcpy(at, comms[i].name, strnlen(comms[i].name, CUT_COMM_NAME_BYTES - 1));
        at += CUT_COMM_NAME_BYTES;
    }
}

void *cut_channel_frame(void *to, const struct cut_entry *entry)
{
    unsigned char *at = to;
    memcpy(at, ENTRY_MAGIC, ENTRY_MAGIC_BYTES);
    at = put(at + ENTRY_MAGIC_BYTES, check_of(entry), 4);
    at = put(at, entry->comm, 8);
    at = put(at, entry->source, 4);
    at = put(at, (uint32_t)entry->tag, 4);
    at = put(at, entry->bytes, 8);
    memset(at + entry->bytes, 0, cut_channel_entry_bytes(entry->bytes) - CUT_CHANNEL_ENTRY_BYTES - (size_t)entry->bytes);
    return at;
}

/* ---- reading ---- */

static enum tide_status corrupt(const struct cut_channel *channel, const unsigned char *at, const char *what,
                                struct err *err)
{
    return err_set(err, TIDE_E_CORRUPT, "channel log: %s at byte %td of %td", what, at - channel->begin,
                   channel->end - channel->begin);
}

static enum tide_status check_comms(const struct cut_channel *c, struct err *err)
{
    for (uint32_t i = 0; i < c->comms; i++) {
        const unsigned char *at = c->begin + CUT_CHANNEL_HEAD_BYTES + (size_t)i * CUT_CHANNEL_COMM_BYTES;
        if (get(at + 16, 8) == 0 || get(at + 16, 8) > UINT32_MAX)
            return corrupt(c, at, "a communicator of no possible size", err);
        if (memchr(at + 24, 0, CUT_COMM_NAME_BYTES) == NULL)
            return corrupt(c, at, "a communicator's name without an end", err);
    }
    return TIDE_OK;
}

enum tide_status cut_channel_open(struct cut_channel *ret_channel, const void *log, size_t bytes, struct err *err)
{
    struct cut_channel c = {.begin = log, .at = log, .end = (const unsigned char *)log + bytes};
    if (bytes < CUT_CHANNEL_HEAD_BYTES || memcmp(log, HEAD_MAGIC, MAGIC_BYTES) != 0)
        return corrupt(&c, c.begin, "no head", err);
    uint64_t count = get(c.begin + MAGIC_BYTES, 8);
    if (count > CUT_COMMS_MAX || bytes < cut_channel_head_bytes((size_t)count))
        return corrupt(&c, c.begin + MAGIC_BYTES, "more communicators than there can be", err);
    c.comms = (uint32_t)count;
    c.at = c.begin + cut_channel_head_bytes((size_t)count);
    enum tide_status status = check_comms(&c, err);
    if (status == TIDE_OK)
        *ret_channel = c;
    return status;
}

void cut_channel_comm(const struct cut_channel *channel, uint32_t index, struct cut_comm *ret_comm)
{
    assert(index < channel->comms);
    const unsigned char *at = channel->begin + CUT_CHANNEL_HEAD_BYTES + (size_t)index * CUT_CHANNEL_COMM_BYTES;
    *ret_comm = (struct cut_comm){.id = get(at, 8), .collectives = get(at + 8, 8), .size = (uint32_t)get(at + 16, 8)};
    memcpy(ret_comm->name, at + 24, CUT_COMM_NAME_BYTES);
}

enum tide_status cut_channel_next(struct cut_channel *channel, struct cut_entry *ret_entry, const void **ret_payload,
                                  struct err *err)
{
    const unsigned char *at = channel->at;
    size_t left = (size_t)(channel->end - at);
    if (left == 0) {
        *ret_payload = NULL;
        return TIDE_OK;
    }
    if (left < CUT_CHANNEL_ENTRY_BYTES || memcmp(at, ENTRY_MAGIC, ENTRY_MAGIC_BYTES) != 0)
        return corrupt(channel, at, "no message", err);
    struct cut_entry entry = {.comm = get(at + 8, 8),
                              .source = (uint32_t)get(at + 16, 4),
                              .tag = (int32_t)(uint32_t)get(at + 20, 4),
                              .bytes = get(at + 24, 8)};
    if (get(at + 4, 4) != check_of(&entry))
        return corrupt(channel, at, "a message whose head is not what was written", err);
    left -= CUT_CHANNEL_ENTRY_BYTES;
    if (entry.bytes > left || cut_channel_entry_bytes(entry.bytes) - CUT_CHANNEL_ENTRY_BYTES > left)
        return corrupt(channel, at, "a message that is longer than the log", err);
    channel->at = at + cut_channel_entry_bytes(entry.bytes);
    *ret_entry = entry;
    *ret_payload = at + CUT_CHANNEL_ENTRY_BYTES;
    return TIDE_OK;
}
