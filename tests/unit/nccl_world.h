/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_NCCL_WORLD_H
#define TESTS_UNIT_NCCL_WORLD_H

/* Ranks with libtidemark_nccl, on the simulators, and what their agents and the leader would do with what it tells. */

#include "tests/lib/together.h"

#include <nccl.h>

#include "ckpt/client/nccl/link.h"
#include "ckpt/cut/comm_id.h"
#include "ckpt/cut/verdict.h"
#include "ckpt/wire/local.h"
#include "tests/lib/sim_cuda/sim_cuda.h"

#ifndef RANKS
#define RANKS 3
#endif
#define COMMS_MAX 8

ncclResult_t ncclGroupStart(void); /* the header's are no prototypes */
ncclResult_t ncclGroupEnd(void);

struct world {
    ncclUniqueId id;
    struct control_comm told[RANKS][COMMS_MAX];
    size_t count[RANKS];
};

static inline struct world *world_make(void)
{
    struct world *w = together_share(sizeof *w);
    setenv(ENV_SOCKET, "nobody", 1);
    setenv("RANK", "0", 1);
    assert_int_equal(ncclGetUniqueId(&w->id), ncclSuccess);
    return w;
}

static inline void tell(struct world *w, int rank)
{
    char why[256] = "";
    must(tide_nccl_may_record(why, sizeof why) == TIDE_OK);
    w->count[rank] = tide_nccl_comms(w->told[rank], COMMS_MAX);
}

/* As agents and the leader do. */
static inline enum cut_misfit judge(const struct world *w, char *why, size_t size)
{
    struct cut_comms *comms = cut_comms_create();
    for (uint32_t r = 0; r < RANKS; r++) {
        struct cut_members world = {.comm = {.id = CUT_COMM_WORLD, .size = RANKS}, .members = 1, .rank = r};
        assert_int_equal(cut_comms_add(comms, &world, NULL), TIDE_OK);
        for (size_t i = 0; i < w->count[r]; i++) {
            const struct control_comm *c = &w->told[r][i];
            struct cut_members m = {
                .members = 1, .rank = r, .sent = c->sent, .received = c->received, .balance = c->balance};
            m.comm = (struct cut_comm){.id = c->id, .collectives = c->collectives, .size = c->size};
            snprintf(m.comm.name, sizeof m.comm.name, "%s", c->name);
            assert_int_equal(cut_comms_add(comms, &m, NULL), TIDE_OK);
        }
    }
    enum cut_misfit misfit = cut_comms_judge(comms, RANKS, why, size);
    cut_comms_free(comms);
    return misfit;
}

static inline ncclComm_t join(int rank, int ranks, struct world *w)
{
    ncclComm_t comm = NULL;
    must(ncclCommInitRank(&comm, ranks, w->id, rank) == ncclSuccess);
    return comm;
}

static inline float *floats(void)
{
    float *at = NULL;
    must(cudaMalloc((void **)&at, 64) == cudaSuccess);
    return at;
}

#endif
