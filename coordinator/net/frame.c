/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/net/frame.h"

#include <ctype.h>
#include <endian.h>
#include <string.h>
/* Compiled in: a state on the stack must not depend on the version of a shared library. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#define SUM_AT 8u

static uint64_t get_u64(const uint8_t *from)
{
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return le64toh(value);
}

static void put_u64(uint8_t *to, uint64_t value)
{
    value = htole64(value);
    memcpy(to, &value, sizeof value);
}

static void put_u32(uint8_t *to, uint32_t value)
{
    value = htole32(value);
    memcpy(to, &value, sizeof value);
}

static uint32_t get_u32(const uint8_t *from)
{
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return le32toh(value);
}

enum tide_status frame_head_read(const uint8_t from[FRAME_HEAD_BYTES], bool early, struct frame_head *ret_head,
                                 struct err *err)
{
    struct frame_head head = {.bytes = get_u32(from + 4), .sum = get_u64(from + SUM_AT), .seed = get_u64(from)};
    if (from[0] != FRAME_MAGIC_0 || from[1] != FRAME_MAGIC_1)
        return err_set(err, TIDE_E_CORRUPT, "what came is not a frame of tidemark");
    if (from[2] != FRAME_VERSION)
        return err_set(err, TIDE_E_VERSION, "frame of version %u; this member speaks %u", from[2], FRAME_VERSION);
    if (from[3] < FRAME_HELLO || from[3] > FRAME_MESSAGE || (early && from[3] > FRAME_REFUSE))
        return err_set(err, TIDE_E_CORRUPT, "frame of type %u where none may come", from[3]);
    head.type = (enum frame_type)from[3];
    uint32_t most = head.type == FRAME_MESSAGE ? NET_MESSAGE_MAX : FRAME_EARLY_MAX;
    if (head.bytes > most)
        return err_set(err, TIDE_E_LIMIT, "frame of %u bytes; the most is %u", head.bytes, most);
    *ret_head = head;
    return TIDE_OK;
}

enum tide_status frame_payload_check(const struct frame_head *head, const void *payload, struct err *err)
{
    if (XXH3_64bits_withSeed(payload, head->bytes, head->seed) != head->sum)
        return err_set(err, TIDE_E_CORRUPT, "the checksum of a frame is wrong");
    return TIDE_OK;
}

static uint64_t sum_of(uint64_t seed, const void *data, size_t bytes, const struct net_part *parts, size_t count)
{
    if (count == 0)
        return XXH3_64bits_withSeed(data, bytes, seed);
    XXH3_state_t state;
    XXH3_INITSTATE(&state);
    XXH3_64bits_reset_withSeed(&state, seed);
    XXH3_64bits_update(&state, data, bytes);
    for (size_t i = 0; i < count; i++)
        XXH3_64bits_update(&state, parts[i].data, parts[i].bytes);
    return XXH3_64bits_digest(&state);
}

void frame_head_write(uint8_t to[FRAME_HEAD_BYTES], enum frame_type type, const void *data, size_t bytes,
                      const struct net_part *parts, size_t count)
{
    size_t all = bytes;
    for (size_t i = 0; i < count; i++)
        all += parts[i].bytes;
    uint32_t length = htole32((uint32_t)all);
    to[0] = FRAME_MAGIC_0;
    to[1] = FRAME_MAGIC_1;
    to[2] = FRAME_VERSION;
    to[3] = (uint8_t)type;
    memcpy(to + 4, &length, sizeof length);
    put_u64(to + SUM_AT, sum_of(get_u64(to), data, bytes, parts, count));
}

/* u16 oldest, u16 newest, u32 tag, u64 self, u64 wanted, uid, u64 epoch, u32 level. */
void frame_hello_write(uint8_t to[FRAME_HELLO_BYTES], const struct frame_hello *hello)
{
    memset(to, 0, FRAME_HELLO_BYTES);
    to[0] = (uint8_t)hello->oldest;
    to[1] = (uint8_t)(hello->oldest >> 8);
    to[2] = (uint8_t)hello->newest;
    to[3] = (uint8_t)(hello->newest >> 8);
    put_u32(to + 4, hello->tag);
    put_u64(to + 8, hello->self);
    put_u64(to + 16, hello->wanted);
    memcpy(to + 24, hello->cluster, TIDE_UID_CHARS);
    put_u64(to + FRAME_HELLO_BYTES_MIN, hello->epoch);
    put_u32(to + FRAME_HELLO_BYTES_EPOCH, hello->level);
}

enum tide_status frame_hello_read(const uint8_t *from, size_t bytes, struct frame_hello *ret_hello, struct err *err)
{
    if (bytes < FRAME_HELLO_BYTES_MIN)
        return err_set(err, TIDE_E_CORRUPT, "a hello of only %zu bytes", bytes);
    struct frame_hello hello = {.oldest = (uint16_t)(from[0] | from[1] << 8),
                                .newest = (uint16_t)(from[2] | from[3] << 8),
                                .tag = get_u32(from + 4),
                                .self = get_u64(from + 8),
                                .wanted = get_u64(from + 16),
                                .epoch = bytes < FRAME_HELLO_BYTES_EPOCH ? 0 : get_u64(from + FRAME_HELLO_BYTES_MIN),
                                .level = bytes < FRAME_HELLO_BYTES ? 0 : get_u32(from + FRAME_HELLO_BYTES_EPOCH)};
    for (unsigned i = 0; i < TIDE_UID_CHARS; i++) {
        if (!isxdigit(from[24 + i])) /* it is shown to people */
            return err_set(err, TIDE_E_CORRUPT, "a hello without a cluster uid");
        hello.cluster[i] = (char)from[24 + i];
    }
    *ret_hello = hello;
    return TIDE_OK;
}
