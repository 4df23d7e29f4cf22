/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CLIENT_NCCL_LINK_H
#define CKPT_CLIENT_NCCL_LINK_H

/* Between libtidemark and libtidemark_nccl, two libraries of one process; either may be there without the other. An ABI of
 * its own: both check the version. The calls are made by the thread that calls tide_init, tide_restore, tide_step, tide_restart and
 * tide_finalize, but for tide_nccl_over, which a thread of libtidemark calls. A sentence in `why` goes with every error; deadlines
 * are of clock_mono_ns. */

#include <stddef.h>
#include <stdint.h>
#include <tidemark/error.h>

struct control_comm;
struct control_channel;
struct control_member;
struct control_progress;

#define TIDE_NCCL_LINK_VERSION 4u

/* ---- defined by libtidemark_nccl; weak in libtidemark, where absence means that nothing is counted ---- */

#define TIDE_NCCL_LINK __attribute__((visibility("default")))

/* 0: it is of another version, or somebody else has attached it. */
TIDE_NCCL_LINK int tide_nccl_attach(uint32_t version);
TIDE_NCCL_LINK void tide_nccl_detach(void);
/* At a safe point that will record: may it? Errors: STATE (inside a group of calls, or a communicator was aborted, or there
 * is one that is not known), LIMIT. */
TIDE_NCCL_LINK enum tide_status tide_nccl_may_record(char *why, size_t why_size);
/* Communicators at a record: up to `room` of them into `to`; returns how many were written. */
TIDE_NCCL_LINK size_t tide_nccl_comms(struct control_comm *to, size_t room);

/* Messages under way (README.md). The channels on which this rank has sent; 0 as well where there are more than `room`. */
TIDE_NCCL_LINK size_t tide_nccl_channels(struct control_channel *to, size_t room);
/* The members of communicators that this rank is, of those where it has ever received; the same. */
TIDE_NCCL_LINK size_t tide_nccl_members(struct control_member *to, size_t room);
/* Receive what was sent on these channels and not received, up to `bytes_max` of all that is held, and hold it for the
 * program. Errors: LIMIT, TIMEOUT, UNAVAILABLE, NOMEM, UNSUPPORTED; what was begun is held nevertheless. */
TIDE_NCCL_LINK enum tide_status tide_nccl_take(const struct control_channel *arriving, size_t count, uint64_t bytes_max,
                                               uint64_t deadline_ns, char *why, size_t why_size);
/* A log (ckpt/cut/channel.h) of what is held: its bytes, 0 where nothing is; write so many. Errors: STATE (something was
 * received meanwhile), TIMEOUT, UNAVAILABLE. */
TIDE_NCCL_LINK uint64_t tide_nccl_held_bytes(void);
TIDE_NCCL_LINK enum tide_status tide_nccl_held_write(void *to, uint64_t bytes, uint64_t deadline_ns, char *why,
                                                     size_t why_size);
/* Hold what such a log holds. Errors: CORRUPT, NOMEM. */
TIDE_NCCL_LINK enum tide_status tide_nccl_load(const void *log, size_t bytes, char *why, size_t why_size);

/* From now on it is told there how far each communicator is, several times a second; NULL: no more, nowhere. */
TIDE_NCCL_LINK void tide_nccl_tell(struct control_progress *to);

/* The generation is over: every live communicator is dead, and aborted, as if it had failed. May be said again, for what was made
 * meanwhile. */
TIDE_NCCL_LINK void tide_nccl_over(void);
/* The next begins in this process: no communicator of before counts, nothing is held, and who makes one is counted from 0, as in a
 * process that was started for it. The program may still end those of before, until it makes others. */
TIDE_NCCL_LINK void tide_nccl_leave(void);

#endif
