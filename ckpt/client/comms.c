/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>

#include "ckpt/base/mem.h"
#include "ckpt/client/client.h"
#include "ckpt/cut/comm_id.h"

/* Present only when those libraries are loaded. */
#pragma weak tide_mpi_comms
#pragma weak tide_nccl_attach
#pragma weak tide_nccl_detach
#pragma weak tide_nccl_may_record
#pragma weak tide_nccl_comms

void comms_attach(struct tide *tide)
{
    if (tide_nccl_attach == NULL || tide->counted || !tide->in_job || getpid() != tide->pid)
        return;
    tide->nccl_host = (struct tide_nccl_host){
        .version = TIDE_NCCL_LINK_VERSION, .rank = tide->rank, .world_size = tide->world_size, .page = tide->page};
    tide->counted = tide_nccl_attach(&tide->nccl_host);
}

void comms_detach(struct tide *tide)
{
    if (tide->counted && getpid() == tide->pid)
        tide_nccl_detach();
    tide->counted = 0;
}

enum tide_status comms_may_record(const struct tide *tide, struct err *err)
{
    char why[TIDE_TEXT_MAX + 1] = "";
    enum tide_status status = tide->counted ? tide_nccl_may_record(why, sizeof why) : TIDE_OK;
    return status == TIDE_OK ? TIDE_OK : err_set(err, status, "%s", why[0] ? why : tide_status_text(status));
}

/* Names may be longer there than here. */
static size_t tell_mpi(struct control_comm *to)
{
    struct tide_mpi_comm *comms = mem_try_array(CONTROL_COMMS_MAX, sizeof *comms);
    size_t count = comms != NULL ? tide_mpi_comms(comms, CONTROL_COMMS_MAX) : 0;
    if (count > CONTROL_COMMS_MAX)
        count = CONTROL_COMMS_MAX;
    for (size_t i = 0; i < count; i++) {
        to[i] = (struct control_comm){.id = comms[i].id, .collectives = comms[i].collectives, .size = comms[i].size};
        text_copy(to[i].name, sizeof to[i].name, comms[i].name);
    }
    mem_free(comms);
    return count;
}

/* Where MPI's are not told, this says that the rank has told all it has. */
static size_t tell_world(const struct tide *tide, struct control_comm *to)
{
    *to = (struct control_comm){.id = CUT_COMM_WORLD, .size = tide->world_size};
    text_copy(to->name, sizeof to->name, "of all ranks");
    return 1;
}

void comms_tell(const struct tide *tide)
{
    struct control_comm *comms = tide->page->comms;
    size_t count = tide->coloured ? tell_mpi(comms) : tide->counted ? tell_world(tide, comms) : 0;
    if (tide->counted)
        count += tide_nccl_comms(comms + count, CONTROL_COMMS_MAX - count);
    atomic_store(&tide->page->record_comms, (uint32_t)count);
}
