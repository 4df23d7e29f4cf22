/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CLIENT_MPI_COUNTERS_H
#define CKPT_CLIENT_MPI_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

/* How many collectives the program has entered on MPI_COMM_WORLD since MPI_Init, as `ckpt show` and the slot tell it. Whether a
 * cut is one is decided by the communicators of link.h; `sent` and `received` stay 0. */
struct tide_mpi_counters {
    _Atomic uint64_t collectives, sent, received;
};

/* Defined by libtidemark_mpi; weak in libtidemark, where its absence means that nothing is counted. */
__attribute__((visibility("default"))) const struct tide_mpi_counters *tide_mpi_counters(void);

#endif
