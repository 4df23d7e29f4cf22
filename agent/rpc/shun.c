/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/shun.h"

#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

static size_t find(const struct shun *shun, const char *address, uint32_t port)
{
    size_t i = 0;
    while (i < shun->count && (shun->peers[i].port != port || strcmp(shun->peers[i].address, address) != 0))
        i++;
    return i;
}

bool shun_is(const struct shun *shun, const char *address, uint32_t port, uint64_t now_ns)
{
    size_t i = find(shun, address, port);
    return i < shun->count && now_ns < shun->peers[i].until_ns;
}

static struct shun_peer *place_for(struct shun *shun, const char *address, uint32_t port)
{
    size_t i = find(shun, address, port);
    if (i < shun->count)
        return &shun->peers[i];
    if (shun->count < SHUN_PEERS_MAX) {
        i = shun->count++;
    } else {
        i = 0;
        for (size_t k = 1; k < shun->count; k++)
            if (shun->peers[k].until_ns < shun->peers[i].until_ns)
                i = k;
    }
    shun->peers[i] = (struct shun_peer){.port = port};
    text_copy(shun->peers[i].address, sizeof shun->peers[i].address, address);
    return &shun->peers[i];
}

uint32_t shun_silent(struct shun *shun, const char *address, uint32_t port, uint64_t took_ns, uint64_t now_ns)
{
    if (took_ns < SHUN_COST_MS * NS_PER_MS)
        return 0;
    struct shun_peer *peer = place_for(shun, address, port);
    uint32_t seconds = SHUN_MIN_S;
    for (uint32_t i = 0; i < peer->row && seconds < SHUN_MAX_S; i++)
        seconds *= 2;
    seconds = seconds < SHUN_MAX_S ? seconds : SHUN_MAX_S;
    peer->row++;
    peer->until_ns = now_ns + seconds * NS_PER_S;
    return seconds;
}

void shun_answered(struct shun *shun, const char *address, uint32_t port)
{
    size_t i = find(shun, address, port);
    if (i < shun->count)
        shun->peers[i] = shun->peers[--shun->count];
}
