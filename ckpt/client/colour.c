/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>

#include "ckpt/client/client.h"

/* Present only when libtidemark_mpi is loaded too. */
#pragma weak tide_mpi_attach
#pragma weak tide_mpi_detach
#pragma weak tide_mpi_may_record
#pragma weak tide_mpi_unfollowed
#pragma weak tide_mpi_flip
#pragma weak tide_mpi_poll
#pragma weak tide_mpi_load

void colour_attach(struct tide *tide)
{
    if (tide_mpi_attach == NULL || tide->coloured || !tide->in_job || getpid() != tide->pid)
        return;
    tide->host = (struct tide_mpi_host){.version = TIDE_MPI_LINK_VERSION,
                                        .rank = tide->rank,
                                        .world_size = tide->world_size,
                                        .page = tide->page,
                                        .flags = tide->options.requests_reposted ? TIDE_MPI_REQUESTS_REPOSTED : 0,
                                        .context = tide,
                                        .append = channel_log_append,
                                        .give_up = record_give_up};
    tide->coloured = 1; /* before another thread may ask */
    if (tide_mpi_attach(&tide->host))
        atomic_store(&tide->page->coloured, 1);
    else
        tide->coloured = 0;
}

void colour_detach(struct tide *tide)
{
    if (tide->coloured && getpid() == tide->pid)
        tide_mpi_detach();
    tide->coloured = 0;
}

/* Where nothing is closed that was armed or begun, the rank polls at each step. */
int colour_wakes(const struct tide *tide)
{
    const struct control_page *page = tide->page;
    if (!tide->coloured)
        return tide_mpi_attach != NULL && tide->in_job; /* until MPI is there */
    uint64_t closed = atomic_load(&page->closed_epoch);
    return atomic_load(&page->armed_epoch) > closed || atomic_load(&page->epoch) > closed;
}

void colour_poll(const struct tide *tide)
{
    if (tide->coloured)
        tide_mpi_poll();
}

enum tide_status colour_may_record(struct tide *tide, struct err *err)
{
    char why[TIDE_TEXT_MAX + 1] = "";
    enum tide_status status = TIDE_OK;
    if (tide->coloured)
        status = tide_mpi_may_record(why, sizeof why);
    else if (tide_mpi_unfollowed != NULL && tide_mpi_unfollowed(why, sizeof why))
        status = TIDE_E_STATE;
    return status == TIDE_OK ? TIDE_OK : err_set(err, status, "%s", why[0] ? why : tide_status_text(status));
}

void colour_flip(struct tide *tide, uint64_t epoch, int recorded)
{
    if (!tide->coloured)
        return;
    if (recorded)
        comms_tell(tide);
    tide_mpi_flip(epoch, recorded);
}

/* ---- after a restart ---- */

enum tide_status colour_may_load(const struct tide *tide, uint64_t cut, uint64_t bytes, struct err *err)
{
    if (bytes == 0 || tide->coloured)
        return TIDE_OK;
    if (tide_mpi_load == NULL)
        return err_set(
            err, TIDE_E_MISMATCH,
            "checkpoint %llu holds %llu bytes of messages that were on their way to rank %u, and nothing here could "
            "deliver them: load libtidemark_mpi, as the program that made it did",
            (unsigned long long)cut, (unsigned long long)bytes, tide->rank);
    return err_set(
        err, TIDE_E_STATE,
        "checkpoint %llu holds messages that were on their way to rank %u: call MPI_Init, and make the communicators, "
        "before tide_restore",
        (unsigned long long)cut, tide->rank);
}

enum tide_status colour_load(struct tide *tide, uint64_t cut, const void *log, uint64_t bytes, struct err *err)
{
    char why[TIDE_TEXT_MAX + 1] = "";
    if (bytes == 0)
        return TIDE_OK;
    enum tide_status status = tide_mpi_load(log, (size_t)bytes, why, sizeof why);
    if (status == TIDE_OK)
        return TIDE_OK;
    return err_set(err, status, "the messages of checkpoint %llu that were on their way to rank %u cannot be delivered: %s",
                   (unsigned long long)cut, tide->rank, why[0] ? why : tide_status_text(status));
}
