/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CLIENT_NCCL_LINK_H
#define CKPT_CLIENT_NCCL_LINK_H

/* Between libtidemark and libtidemark_nccl, two libraries of one process; either may be there without the other. An ABI of
 * its own: both check `version`. The calls are made by the thread that calls tide_init, tide_step and tide_finalize. */

#include <stddef.h>
#include <stdint.h>
#include <tidemark/error.h>

struct control_page;
struct control_comm;

#define TIDE_NCCL_LINK_VERSION 1u

/* Offered by libtidemark; what it points to stays valid until tide_nccl_detach. */
struct tide_nccl_host {
    uint32_t version;
    uint32_t rank, world_size;
    struct control_page *page;
};

/* ---- defined by libtidemark_nccl; weak in libtidemark, where absence means that nothing is counted ---- */

#define TIDE_NCCL_LINK __attribute__((visibility("default")))

/* 0: it is of another version, or has another handle already. */
TIDE_NCCL_LINK int tide_nccl_attach(const struct tide_nccl_host *host);
TIDE_NCCL_LINK void tide_nccl_detach(void);
/* At a safe point that will record: may it? Errors, with a sentence in `why`: STATE (inside a group of calls, or a
 * communicator was aborted, or there is one that is not known), LIMIT. */
TIDE_NCCL_LINK enum tide_status tide_nccl_may_record(char *why, size_t why_size);
/* Communicators at a record: up to `room` of them into `to`; returns how many were written. */
TIDE_NCCL_LINK size_t tide_nccl_comms(struct control_comm *to, size_t room);

#endif
