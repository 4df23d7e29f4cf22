/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_RPC_SHUN_H
#define AGENT_RPC_SHUN_H

/* Agents that gave no answer are left alone for a while, so that a host that is gone or cut off costs its deadline once and not with
 * every checkpoint. Decides only: no clock, no lock.
 *
 *                       no answer, and it took time: SHUN_MIN_S, then twice as long each time, SHUN_MAX_S at most
 *        ┌────────┐ ────────────────────────────────────────────────────────────► ┌───────────┐
 *        │ asked  │                                                               │ left alone│
 *        └────────┘ ◄──────────────────────────────────────────────────────────── └───────────┘
 *                       the time is over: asked once more; an answer, of any kind, and it is as if nothing had been
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ckpt/wire/node.h"

#define SHUN_MIN_S 60u
#define SHUN_MAX_S 960u
#define SHUN_COST_MS 500u  /* a question that ended sooner cost nothing: a port where nobody listens, say of an agent started again */
#define SHUN_PEERS_MAX 64u /* remembered; the one that is asked again first makes room */

struct shun_peer {
    char address[ADDRESS_MAX + 1];
    uint32_t port;
    uint32_t row; /* questions without an answer, in a row */
    uint64_t until_ns;
};

struct shun {
    struct shun_peer peers[SHUN_PEERS_MAX];
    size_t count;
};

bool shun_is(const struct shun *shun, const char *address, uint32_t port, uint64_t now_ns);
/* A question took that long and brought no answer. Returns for how many seconds it is left alone; 0: it is not. */
uint32_t shun_silent(struct shun *shun, const char *address, uint32_t port, uint64_t took_ns, uint64_t now_ns);
void shun_answered(struct shun *shun, const char *address, uint32_t port);

#endif
