/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CLIENT_MPI_LINK_H
#define CKPT_CLIENT_MPI_LINK_H

/* Between libtidemark and libtidemark_mpi, two libraries of one process. Either may be there without the other, and MPI_Init
 * may come before or after tide_init; they meet in the first call of tide_init or tide_step behind both. What follows is an
 * ABI of its own: both check `version`. All calls of tide_mpi_* are made by the thread that calls tide_step. */

#include <stddef.h>
#include <stdint.h>
#include <tidemark/error.h>

struct control_page;

#define TIDE_MPI_LINK_VERSION 1u

/* One communicator at a record. */
struct tide_mpi_comm {
    uint64_t id;          /* the same on all members, and in the next generation (ckpt/cut/README.md) */
    uint64_t collectives; /* entered since the generation began */
    uint32_t size;        /* members; of an intercommunicator both groups */
    char name[64];        /* MPI_Comm_get_name; where that is empty, members and origin */
};

/* Offered by libtidemark; stays valid until tide_mpi_detach. */
struct tide_mpi_host {
    uint32_t version;
    uint32_t rank, world_size;
    struct control_page *page;
    unsigned flags; /* enum tide_mpi_flag */
    void *context;  /* of append */
    /* One more message into the channel log of the record under way, which is not whole until settled. `entry` is what
     * ckpt/cut/channel.h printed. Errors: LIMIT, NOSPACE, UNAVAILABLE: the record has failed. */
    enum tide_status (*append)(void *context, const void *entry, size_t bytes);
    /* The record that was made when this epoch began is void: publish RECORD_FAILED or RECORD_EARLY with the reason. */
    void (*give_up)(void *context, uint32_t record_result, const char *why);
};

enum tide_mpi_flag { TIDE_MPI_REQUESTS_REPOSTED = 1 }; /* the program posts again what was outstanding at a safe point */

/* ---- defined by libtidemark_mpi; weak in libtidemark, where absence means that messages are not coloured ---- */

#define TIDE_MPI_LINK __attribute__((visibility("default")))

/* 0 when MPI is not initialised (yet), or the library was told to stay out: then call again later. */
TIDE_MPI_LINK int tide_mpi_attach(const struct tide_mpi_host *host);
TIDE_MPI_LINK void tide_mpi_detach(void);

/* Without tide_mpi_attach: nonzero where messages are passed that are not followed, with a sentence in `why`. Then there is
 * no record. */
TIDE_MPI_LINK int tide_mpi_unfollowed(char *why, size_t why_size);
/* At a safe point that will record: may it? Errors, with a sentence in `why`: STATE (requests outstanding, a matched probe,
 * a window or file open, MPI is finalised), LIMIT. Nothing has changed then, and tide_mpi_flip must still be called. */
TIDE_MPI_LINK enum tide_status tide_mpi_may_record(char *why, size_t why_size);
/* Into the next epoch, which must be `epoch`. recorded: regions are copied, and what arrives of older epochs is to be
 * appended; first of all what has arrived and was not received by the program yet. Publishes sent_before, arrived_before,
 * epoch. Cannot fail, does not wait. */
TIDE_MPI_LINK void tide_mpi_flip(uint64_t epoch, int recorded);
/* Communicators at a record: up to `room` of them into `to`; returns how many there are. */
TIDE_MPI_LINK size_t tide_mpi_comms(struct tide_mpi_comm *to, size_t room);
/* At a safe point while something is armed or in transition: look at the page, do what it says, take what has arrived. */
TIDE_MPI_LINK void tide_mpi_poll(void);
/* In tide_restore: the entries of a channel log, in order. Errors: MISMATCH (a communicator that does not exist, named),
 * CORRUPT, NOMEM. */
TIDE_MPI_LINK enum tide_status tide_mpi_load(const void *log, size_t bytes, char *why, size_t why_size);

#endif
