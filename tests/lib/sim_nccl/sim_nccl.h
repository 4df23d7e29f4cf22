/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_SIM_NCCL_SIM_NCCL_H
#define TESTS_LIB_SIM_NCCL_SIM_NCCL_H

/* A simulator of NCCL for machines without a GPU: a library with the name and the symbol version of libnccl.so.2, so that
 * what is shipped runs on it unchanged. Communicators are between processes of one machine, with any number of members in each;
 * operations are put into the streams of the simulator of CUDA, and done when that does them, through shared memory. Sums are taken in the
 * order of the ranks, so that they are the same each time. It knows the calls that tidemark and its tests use and no others.
 *
 * It proves order, counts, errors and what follows from them. It proves nothing about speed, nor about NCCL itself. What is
 * unlike the real one: an operation is begun when somebody waits for its stream, or asks it; at once only where another
 * member is in the same process. So two processes that wait for two communicators in a different order wait for ever here. What is
 * made of a communicator (split, shrunk) each member makes by a thread of its own.
 *
 * An error of a peer (it has died, or has aborted) shows as with the real one: in ncclCommGetAsyncError, while the operation
 * goes on until ncclCommAbort.
 *
 * SIM_NCCL_RAS=PORT in the environment: the first process of a host serves NCCL's RAS there, for those who look for a rank
 * that hangs (real ones do at 28028).
 *
 * SIM_NCCL_ABORTS_MEET=COUNT: no ncclCommAbort of a process comes back before that many were called.
 *
 * Faults, by the environment as ranks are processes; each is done once, by whoever makes the file MARK first, which must not
 * be there before. RANK is that of the environment, OP counts collectives of the process from 1; it is this one, or, if MARK was
 * removed since, the next one that is so many later:
 *
 *     SIM_NCCL_HANG=RANK:OP:MARK      the call does not come back until the communicator is aborted
 *     SIM_NCCL_STALL=RANK:OP:MARK     the call comes back, what it put into the stream does not end until then
 *     SIM_NCCL_ERROR=RANK:OP:MARK     as STALL, and ncclCommGetAsyncError says ncclSystemError
 *     SIM_NCCL_STICK=RANK:OP:MARK     what it put into the stream is done for all others, and does not end here until then
 *     SIM_NCCL_LINGER=RANK:OP:MARK    ncclCommGetAsyncError says ncclSystemError; the call comes back 20 ms after somebody
 * has heard it, and ncclGetLastError says whether the communicator was aborted before
 *     SIM_NCCL_REFUSE=RANK:OP:MARK    the call is refused, and with it all of its group. OP counts ncclSend and ncclRecv */

#include <nccl.h>

#endif
