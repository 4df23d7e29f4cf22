/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CLIENT_MPI_COUNTERS_H
#define CKPT_CLIENT_MPI_COUNTERS_H

#include <stdatomic.h>
#include <stdint.h>

/* What libtidemark_mpi has seen of the program's MPI traffic since MPI_Init. A cut is sealed only if all ranks entered the
 * same number of collectives on MPI_COMM_WORLD.
 *
 * Point-to-point messages are not counted yet: a receive is known only when its request completes, through any of the Wait
 * and Test calls. `sent` and `received` stay 0 on every rank, and a program that has such messages in flight at a
 * tide_step must not be cut there. */
struct tide_mpi_counters {
    _Atomic uint64_t collectives, sent, received;
};

/* Defined by libtidemark_mpi; weak in libtidemark, where its absence means that nothing is counted. */
__attribute__((visibility("default"))) const struct tide_mpi_counters *tide_mpi_counters(void);

#endif
