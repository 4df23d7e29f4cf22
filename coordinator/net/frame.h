/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_NET_FRAME_H
#define COORDINATOR_NET_FRAME_H

/* What goes over a connection: frames, each 16 bytes of head and a payload.
 *
 *   0  "TM"      2  version    3  type    4  u32 bytes of the payload    8  u64 XXH3 of the payload, seeded with bytes 0 to
 * 7
 *
 * Numbers are little-endian. The head and the frames that say hello or refuse never change, so that any two versions can
 * tell each other that they do not fit. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <tidemark/types.h>

#include "ckpt/base/err.h"
#include "coordinator/net/net.h"

#define FRAME_HEAD_BYTES 16u
#define FRAME_MAGIC_0 'T'
#define FRAME_MAGIC_1 'M'
#define FRAME_VERSION 1u
#define FRAME_HELLO_BYTES 52u
#define FRAME_HELLO_BYTES_MIN 40u /* of versions that knew of no epochs */
#define FRAME_HELLO_BYTES_EPOCH 48u /* … and of no levels */
#define FRAME_EARLY_MAX 256u      /* payload before the other side has proved who it is, and of everything but messages */

/* What the messages mean; both sides say which they speak. */
#define NET_PROTOCOL_OLDEST 1u
#define NET_PROTOCOL_NEWEST 1u

enum frame_type { FRAME_HELLO = 1, FRAME_REFUSE = 2, FRAME_PING = 3, FRAME_MESSAGE = 4 };

struct frame_head {
    enum frame_type type;
    uint32_t bytes;
    uint64_t sum;
    uint64_t seed;
};

struct frame_hello {
    uint16_t oldest, newest; /* protocols spoken */
    uint32_t tag;            /* of its data; 0: it does not tell */
    uint64_t self, wanted;   /* who says it, and to whom */
    uint64_t epoch;          /* of its data; EPOCH_UNKNOWN: it has none yet */
    uint32_t level;          /* that it knows (coordinator/core/core.h); 0: nothing of levels */
    char cluster[TIDE_UID_CHARS + 1];
};

/* Errors: CORRUPT (not a frame), VERSION, LIMIT (payload). `early`: nothing but what may come before both sides are known.
 */
MUST_USE enum tide_status frame_head_read(const uint8_t from[FRAME_HEAD_BYTES], bool early, struct frame_head *ret_head,
                                          struct err *err);
MUST_USE enum tide_status frame_payload_check(const struct frame_head *head, const void *payload, struct err *err);
/* The head for a payload of two kinds of pieces: `data`, and `parts` behind it. */
void frame_head_write(uint8_t to[FRAME_HEAD_BYTES], enum frame_type type, const void *data, size_t bytes,
                      const struct net_part *parts, size_t count);

void frame_hello_write(uint8_t to[FRAME_HELLO_BYTES], const struct frame_hello *hello);
/* Longer ones, of later versions, are read as far as we know them. Errors: CORRUPT. */
MUST_USE enum tide_status frame_hello_read(const uint8_t *from, size_t bytes, struct frame_hello *ret_hello,
                                           struct err *err);

#endif
