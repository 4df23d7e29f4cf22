/* SPDX-License-Identifier: Apache-2.0 */
/* What is held is handed out, and whose first: as ckpt/client/mpi/parcel.c. */
#include "tests/sim/cut/sim.h"

bool firsts_has(const struct rank *rank, unsigned comm, uint32_t peer)
{
    return cut_rank_is_first(&rank->cut, peer) && rank->arrived[comm][peer] < rank->first[comm][peer];
}

void firsts_arrived(const struct world *world, struct rank *rank, unsigned comm, uint8_t peer)
{
    bool waits = false;
    if (++rank->arrived[comm][peer] != rank->first[comm][peer])
        return;
    for (unsigned other = 0; other < world->program->comms; other++)
        waits |= rank->arrived[other][peer] < rank->first[other][peer];
    if (!waits)
        cut_rank_prefer_over(&rank->cut, peer);
}

static bool release_one(struct world *world, struct rank *rank, unsigned comm, uint8_t peer)
{
    struct cut_message *m = cut_rank_hands_out(&rank->cut, peer) ? cut_queue_release(&rank->queue[comm], peer) : NULL;
    if (m == NULL)
        return false;
    cut_rank_released(&rank->cut, peer);
    firsts_arrived(world, rank, comm, peer);
    shell_arrive(world, rank, (struct qmsg *)m, comm);
    return true;
}

void firsts_release_all(struct world *world, struct rank *rank)
{
    for (unsigned comm = 0; comm < world->program->comms; comm++)
        for (uint8_t peer = 0; peer < world->program->ranks; peer++)
            while (firsts_has(rank, comm, peer) && release_one(world, rank, comm, peer))
                ;
}

void firsts_release(struct world *world, struct rank *rank, uint32_t peer)
{
    bool others_waited = cut_rank_is_first(&rank->cut, peer);
    firsts_release_all(world, rank);
    for (uint8_t other = 0; other < world->program->ranks; other++)
        for (unsigned comm = 0; (others_waited || other == peer) && comm < world->program->comms; comm++)
            while (release_one(world, rank, comm, other))
                ;
}
