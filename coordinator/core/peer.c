/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/peer.h"

#include <stdio.h>
#include <string.h>

#include "ckpt/base/digest.h"

#define KEY_TEXT_MAX 96

struct peer_seat peer_seat_of(const char *name, const char *domain, bool usable)
{
    const char *its = domain[0] != '\0' ? domain : name;
    return (struct peer_seat){.name = name, .domain = its, .hash = digest_of(name, strlen(name)).low,
                              .domain_hash = digest_of(its, strlen(its)).low, .usable = usable};
}

uint64_t peer_key(const char *job_uid, uint64_t node_rank)
{
    char text[KEY_TEXT_MAX];
    int n = snprintf(text, sizeof text, "%s/%llu", job_uid, (unsigned long long)node_rank);
    return digest_of(text, (size_t)n).low;
}

/* Two digests made one: every pair is asked for, so this is not another digest (the finalizer of splitmix64). */
static uint64_t score(uint64_t key, uint64_t hash)
{
    uint64_t x = key ^ (hash * UINT64_C(0x9e3779b97f4a7c15));
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* Asked of every pair: what they are called lies elsewhere in memory, and is hardly ever looked at. */
static bool same_domain(const struct peer_seat *a, const struct peer_seat *b)
{
    return a->domain_hash == b->domain_hash && strcmp(a->domain, b->domain) == 0;
}

struct bid {
    size_t index;
    bool same;
    uint32_t load;
    uint64_t score;
    const char *name;
};

static bool better(const struct bid *a, const struct bid *b)
{
    if (b->index == PEER_NONE)
        return true;
    if (a->same != b->same)
        return b->same;
    if (a->load != b->load)
        return a->load < b->load;
    return a->score != b->score ? a->score > b->score : strcmp(a->name, b->name) < 0;
}

size_t peer_pick(const struct peer_seat *seats, size_t count, uint64_t key, const struct peer_seat *self)
{
    struct bid best = {.index = PEER_NONE};
    for (size_t i = 0; i < count; i++) {
        if (!seats[i].usable || &seats[i] == self)
            continue;
        struct bid bid = {.index = i, .same = same_domain(&seats[i], self), .load = seats[i].load,
                          .score = score(key, seats[i].hash), .name = seats[i].name};
        if (better(&bid, &best))
            best = bid;
    }
    return best.index;
}
