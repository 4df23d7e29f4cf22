/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "ckpt/client/nccl/inside.h"

/* What libtidemark calls (link.h). */

static _Atomic int attached;

int tide_nccl_attach(uint32_t version)
{
    int none = 0;
    return version == TIDE_NCCL_LINK_VERSION && atomic_compare_exchange_strong(&attached, &none, 1);
}

void tide_nccl_detach(void)
{
    atomic_store(&attached, 0);
}

enum tide_status tide_nccl_may_record(char *why, size_t size)
{
    size_t count = 0;
    const struct comm *dead = NULL;
    pthread_mutex_lock(&comms.lock);
    for (const struct comm *comm = comms.first; comm; comm = comm->next) {
        count += !comm->past;
        if (atomic_load(&comm->error) != ncclSuccess && !comm->past)
            dead = comm;
    }
    if (dead)
        snprintf(why, size, "NCCL communicator %s (%016llx) has failed and was aborted", dead->name,
                 (unsigned long long)dead->id);
    pthread_mutex_unlock(&comms.lock);
    if (dead)
        return TIDE_E_STATE;
    const char *unseen = atomic_load(&comms.unseen);
    if (unseen != NULL) {
        snprintf(why, size, "%s", unseen);
        return TIDE_E_STATE;
    }
    if (call_group_depth() > 0) {
        snprintf(why, size, "tide_step was called between ncclGroupStart and ncclGroupEnd: nothing of that group is begun");
        return TIDE_E_STATE;
    }
    if (count >= CONTROL_COMMS_MAX) {
        snprintf(why, size, "the program has %zu NCCL communicators; fewer than %u are possible in a checkpoint", count,
                 CONTROL_COMMS_MAX);
        return TIDE_E_LIMIT;
    }
    return TIDE_OK;
}

size_t tide_nccl_comms(struct control_comm *to, size_t room)
{
    return comms_list(to, room);
}
