/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "ckpt/client/mpi/inside.h"
#include "ckpt/cut/channel.h"

/* What libtidemark calls (link.h). */

/* A mapping of our own: after tide_finalize messages are still sent and received. */
static struct control_page *map_again(struct control_page *page)
{
    void *at = mremap(page, 0, CONTROL_PAGE_BYTES, MREMAP_MAYMOVE);
    return at == MAP_FAILED ? NULL : at;
}

int tide_mpi_attach(const struct tide_mpi_host *host)
{
    if (!inside.on || host->version != TIDE_MPI_LINK_VERSION || inside.attached)
        return 0;
    if (host->rank != (uint32_t)inside.rank || host->world_size != (uint32_t)inside.world_size)
        return 0;
    inside_lock();
    struct control_page *page = inside.page;
    if (beside_drain() && page == NULL)
        page = map_again(host->page);
    if (page) {
        inside.host = *host;
        inside.page = page;
        inside.attached = true;
        inside.word = &page->call_epoch;
        inside.seen = NEVER;
        progress();
        atomic_store(&page->coloured, 1);
        settle_quick();
    }
    inside_unlock();
    return page != NULL;
}

void tide_mpi_detach(void)
{
    inside_lock();
    if (inside.logging) /* nobody is there to append to */
        give_up("the program called tide_finalize while messages of the checkpoint were on their way");
    inside.attached = false;
    inside_unlock();
}

void link_finish(void)
{
    if (inside.page == NULL)
        return;
    if (inside.logging && inside.cut.state == CUT_RANK_DRAINING)
        give_up("the program called MPI_Finalize while messages of the checkpoint were on their way");
    uint64_t sent = 0, arrived = 0;
    comms_add_up();
    cut_rank_finish(&inside.cut);
    cut_rank_sums(&inside.cut, &sent, &arrived);
    atomic_store(&inside.page->sent_before, sent);
    atomic_store(&inside.page->arrived_before, arrived);
    atomic_store(&inside.page->ended_epoch, UINT64_MAX);
}

/* ---- records ---- */

static enum tide_status refuse(char *why, size_t size, enum tide_status status, const char *text)
{
    snprintf(why, size, "%s", text);
    return status;
}

/* One that is complete may not have been asked for yet. */
static bool synchronous_under_way(void)
{
    bool any = false;
    for (uint32_t i = 0; i < requests.used; i++) {
        struct request *request = &requests.arena[i];
        any |= request->kind == REQUEST_SEND && request->mode == SEND_SYNCHRONOUS && !request_advance(request);
    }
    return any;
}

static enum tide_status may(char *why, size_t size)
{
    const bool reposted = inside.host.flags & TIDE_MPI_REQUESTS_REPOSTED;
    size_t comms = comms_list(NULL, 0);
    if (!inside.on)
        return refuse(why, size, TIDE_E_STATE, "the program has called MPI_Finalize");
    if (inside.foreign)
        return refuse(why, size, TIDE_E_STATE,
                      "the program has a communicator with processes outside MPI_COMM_WORLD (spawned or connected)");
    if (inside.outstanding && !reposted) {
        snprintf(why, size,
                 "%llu MPI requests are outstanding at the safe point; complete them first, or set TIDE_REQUESTS_REPOSTED "
                 "and post "
                 "them again after a restart",
                 (unsigned long long)inside.outstanding);
        return TIDE_E_STATE;
    }
    if (inside.outstanding == 0)
        inside.unrepeatable_unnoted = false;
    if (unrepeatable_why())
        return refuse(why, size, TIDE_E_STATE, unrepeatable_why());
    if (synchronous_under_way())
        return refuse(
            why, size, TIDE_E_STATE,
            "a synchronous MPI send is under way at the safe point, and to save its message would tell the program "
            "that it is received; complete it before tide_step");
    if (inside.matched)
        return refuse(why, size, TIDE_E_STATE, "a message found by MPI_Mprobe is not received yet");
    if (inside.windows_shared)
        return refuse(why, size, TIDE_E_STATE, "an MPI window of shared memory exists: what others write there is not seen");
    if (inside.windows_open)
        return refuse(why, size, TIDE_E_STATE, "an epoch of an MPI window is open");
    if (inside.uncoloured)
        return refuse(why, size, TIDE_E_STATE, inside.uncoloured);
    if (inside.files_open)
        return refuse(why, size, TIDE_E_STATE, "an MPI file operation has begun and not ended");
    if (session_why())
        return refuse(why, size, TIDE_E_STATE, session_why());
    if (comms > CONTROL_COMMS_MAX) {
        snprintf(why, size, "the program has %zu communicators; at most %u are possible in a checkpoint", comms,
                 CONTROL_COMMS_MAX);
        return TIDE_E_LIMIT;
    }
    if (cut_rank_record(&inside.cut) != 0)
        return refuse(why, size, TIDE_E_STATE, "the order to record was taken back");
    return TIDE_OK;
}

int tide_mpi_unfollowed(char *why, size_t why_size)
{
    if (session_why() == NULL)
        return 0;
    snprintf(why, why_size, "%s", session_why());
    return 1;
}

/* The lock is held until tide_mpi_flip: nobody receives between the copy of the regions and the flip. */
enum tide_status tide_mpi_may_record(char *why, size_t why_size)
{
    inside_lock();
    bool alone = beside_drain();
    progress();
    return alone ? may(why, why_size)
                 : refuse(why, why_size, TIDE_E_STATE, "another thread is in a callback of MPI's that calls MPI");
}

void tide_mpi_flip(uint64_t epoch, int recorded)
{
    if (inside.on && epoch > inside.cut.epoch)
        flip(epoch, recorded != 0);
    settle_quick();
    inside_unlock();
}

size_t tide_mpi_comms(struct tide_mpi_comm *to, size_t room)
{
    inside_lock();
    size_t count = comms_list(to, room);
    inside_unlock();
    return count;
}

void tide_mpi_poll(void)
{
    inside_lock();
    cut_rank_not_held(&inside.cut);
    if (atomic_load(inside.word) != inside.seen)
        beside_drain();
    progress();
    settle_quick();
    inside_unlock();
}

/* ---- after a restart ---- */

/* As the program that made the checkpoint knew it. */
static enum tide_status missing(const struct cut_channel *channel, uint64_t id, char *why, size_t why_size)
{
    struct cut_comm comm = {.id = 0};
    for (uint32_t i = 0; i < channel->comms && comm.id != id; i++)
        cut_channel_comm(channel, i, &comm);
    if (comm.id != id)
        return refuse(why, why_size, TIDE_E_CORRUPT,
                      "a message of the channel log is for a communicator that its head does not have");
    snprintf(why, why_size,
             "the checkpoint has a message for communicator \"%s\" (%u members, identity %016llx) that the program has not "
             "made; make the "
             "same communicators in the same order before tide_restore",
             comm.name[0] ? comm.name : "without a name", comm.size, (unsigned long long)id);
    return TIDE_E_MISMATCH;
}

static enum tide_status load_entry(const struct cut_channel *channel, const struct cut_entry *entry, const void *payload,
                                   char *why, size_t why_size)
{
    struct comm *comm = inside.comms;
    while (comm && comm->id != entry->comm)
        comm = comm->next;
    if (comm == NULL)
        return missing(channel, entry->comm, why, why_size);
    if (entry->source >= (uint32_t)comm->size)
        return refuse(why, why_size, TIDE_E_CORRUPT,
                      "a message of the channel log is from a rank that its communicator does not have");
    if (parcel_load(comm, (int)entry->source, entry->tag, payload, entry->bytes) != TIDE_OK)
        return refuse(why, why_size, TIDE_E_NOMEM, "no memory for the messages of the checkpoint");
    return TIDE_OK;
}

enum tide_status tide_mpi_load(const void *log, size_t bytes, char *why, size_t why_size)
{
    struct cut_channel channel;
    struct cut_entry entry;
    const void *payload = NULL;
    struct err err = {.text = ""};
    inside_lock();
    enum tide_status status = cut_channel_open(&channel, log, bytes, &err);
    while (status == TIDE_OK) {
        status = cut_channel_next(&channel, &entry, &payload, &err);
        if (status != TIDE_OK || payload == NULL)
            break;
        status = load_entry(&channel, &entry, payload, why, why_size);
    }
    if (err.text[0])
        snprintf(why, why_size, "%s", err.text);
    settle_quick();
    inside_unlock();
    return status;
}
