/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CUT_CHANNEL_H
#define CKPT_CUT_CHANNEL_H

/* The bytes of a channel log, the region CUT_CHANNEL_REGION of a shard: the communicators at the record, then the messages
 * that were sent in the cut and not received in it, in the order they were taken. Little-endian; everything is a multiple
 * of 8.
 *
 *   head    "TIDMCHAN" · count u32 · 0 u32 · count communicators
 *   comm    id u64 · collectives u64 · size u32 · 0 u32 · name 64 bytes, NUL behind it
 *   entry   "TMSG" · check u32 · id of its communicator u64 · source u32 · tag i32 · bytes u64 · payload · 0 to a multiple
 * of 8 */

#include <stddef.h>
#include <stdint.h>

#include "ckpt/base/err.h"
#include "ckpt/cut/limits.h"

#define CUT_CHANNEL_REGION "tidemark.channel"
#define CUT_COMM_NAME_BYTES 64u
#define CUT_CHANNEL_HEAD_BYTES 16u
#define CUT_CHANNEL_COMM_BYTES 88u
#define CUT_CHANNEL_ENTRY_BYTES 32u

/* As struct tide_mpi_comm. */
struct cut_comm {
    uint64_t id, collectives;
    uint32_t size;
    char name[CUT_COMM_NAME_BYTES];
};

struct cut_entry {
    uint64_t comm;
    uint32_t source; /* a rank of the communicator, as the program sees it */
    int32_t tag;
    uint64_t bytes;
};

static inline size_t cut_channel_head_bytes(size_t comms)
{
    return CUT_CHANNEL_HEAD_BYTES + comms * CUT_CHANNEL_COMM_BYTES;
}

/* The head of a log, cut_channel_head_bytes of it; at most CUT_COMMS_MAX communicators. */
void cut_channel_print_head(void *to, const struct cut_comm *comms, size_t count);

static inline size_t cut_channel_entry_bytes(uint64_t payload_bytes)
{
    return CUT_CHANNEL_ENTRY_BYTES + (size_t)((payload_bytes + 7) / 8 * 8);
}

/* All of an entry but its payload: cut_channel_entry_bytes(entry->bytes), zeroes at the end. Returns where entry->bytes
 * bytes of payload are to be put, or stand already. */
void *cut_channel_frame(void *to, const struct cut_entry *entry);

/* Reading. Bytes that are no log are CORRUPT, with what is wrong and where; nothing outside is ever read. */
struct cut_channel {
    const unsigned char *begin, *at, *end;
    uint32_t comms;
};

enum tide_status cut_channel_open(struct cut_channel *ret_channel, const void *log, size_t bytes, struct err *err) MUST_USE;
/* index below channel->comms. */
void cut_channel_comm(const struct cut_channel *channel, uint32_t index, struct cut_comm *ret_comm);
/* The next entry; *ret_payload NULL behind the last one, else entry->bytes bytes inside the log. */
enum tide_status cut_channel_next(struct cut_channel *channel, struct cut_entry *ret_entry, const void **ret_payload,
                                  struct err *err) MUST_USE;

#endif
