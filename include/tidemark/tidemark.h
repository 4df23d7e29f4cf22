/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TIDEMARK_TIDEMARK_H
#define TIDEMARK_TIDEMARK_H

/* What a training process calls. Link with -ltidemark.
 *
 *     struct tide *t;
 *     tide_init(&t, NULL);
 *     tide_register(t, &(struct tide_region){.name = "weights", .data = w, .bytes = n * 4, .dtype = TIDE_F32});
 *     uint64_t step = 0;
 *     tide_restore(t, &step);                  // TIDE_OK: state and step are those of a checkpoint
 *     for (; step < steps; ) {                 //   TIDE_E_NO_CHECKPOINT: start from the beginning
 *         train_one_step();
 *         tide_step(t, ++step);                // the safe point: state is that after `step` steps
 *     }
 *     tide_finalize(t);
 *
 * Outside a tidemark job (no TIDEMARK_SOCKET in the environment) every call succeeds and does nothing, so that one
 * binary runs with and without tidemark; tide_restore then says TIDE_E_NO_CHECKPOINT.
 *
 * A handle is used by one thread at a time. No call prints, exits or raises a signal. A failed checkpoint is never an
 * error of the program: tide_step stays TIDE_OK and the coordinator is told. Behind the first tide_step a thread of the
 * library, deaf to signals and of the lowest priority, maps memory for checkpoints, and ends. */

#include <stddef.h>
#include <stdint.h>
#include <tidemark/error.h>
#include <tidemark/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define TIDE_MUST_USE __attribute__((warn_unused_result))
#else
#define TIDE_MUST_USE
#endif

struct tide; /* opaque; one per process */

enum tide_memory { TIDE_HOST = 0, TIDE_DEVICE = 1 };

enum tide_dtype {
    TIDE_BYTES = 0, /* opaque: no assumption about the contents */
    TIDE_F64,
    TIDE_F32,
    TIDE_BF16,
    TIDE_F16,
    TIDE_F8,
    TIDE_I64,
    TIDE_I32,
    TIDE_I16,
    TIDE_I8
};

/* How a device region gets into a checkpoint. */
enum tide_copy {
    TIDE_COPY_AUTO = 0, /* SLAB where enough was granted by tide_set_spare, else SYNC */
    TIDE_COPY_SYNC,     /* tide_step returns when its bytes are on the host */
    TIDE_COPY_SLAB,     /* tide_step has it copied to spare device memory and returns; from there it goes to the host in the
                           background. The streams of tide_set_streams wait, on the device, for the former alone */
    TIDE_COPY_LAZY      /* tide_step returns at once; it goes to the host in the background, and the program promises to call
                           tide_before_update before it has the region written to */
};

/* COPY_ON_WRITE: for host memory of a megabyte or more that is not written again soon. tide_step then only protects it and
 * returns; a thread of the library copies it while the program runs on, and a write to a page that was not copied yet waits
 * until it is. The checkpoint holds what was there in tide_step, as always. Only for memory that is private to the process
 * (malloc, mmap MAP_PRIVATE), and that nothing but its processor writes to: no device that has it pinned, as network cards and
 * GPUs do. Where the kernel does not allow it (userfaultfd, see vm.unprivileged_userfaultfd) the region is copied as others are;
 * the agent's log tells. */
/* REPLICATED, SHARD, DROPPABLE: at most one of them. How the region is a part of what all ranks have together, so that a job
 * that was started with --elastic can go on with another number of ranks:
 *   none         this rank's own. A checkpoint with such a region is restored by as many ranks as made it
 *   REPLICATED   the same on every rank, as weights are in data-parallel training
 *   SHARD        a box of one tensor that all ranks have together: `shape` of it, row-major, from `at` on, of `whole`. Each rank
 *                registers the box that it is to have now; it is filled with what whichever ranks had of it. Boxes of several ranks
 *                are the same, or have nothing in common. Numbers are as wide as dtype says (TIDE_BYTES: a byte)
 *   DROPPABLE    this rank's own, and not missed: with another number of ranks it keeps what the program has put there */
enum tide_region_flag { TIDE_COPY_ON_WRITE = 1, TIDE_REPLICATED = 2, TIDE_SHARD = 4, TIDE_DROPPABLE = 8 };

/* One piece of state. `data` must stay valid until tide_unregister or tide_finalize. Names are unique in a rank, at most
 * TIDE_NAME_MAX bytes. dtype and shape are metadata for readers and encoders, but of a TIDE_SHARD; bytes alone decides what is
 * saved. */
struct tide_region {
    const char *name;
    void *data;
    size_t bytes;
    enum tide_memory memory;
    enum tide_dtype dtype;
    unsigned ndim;
    unsigned flags; /* of enum tide_region_flag */
    uint64_t shape[TIDE_DIMS_MAX];
    uint64_t whole[TIDE_DIMS_MAX], at[TIDE_DIMS_MAX]; /* looked at with TIDE_SHARD alone */
};

/* What the ranks' steps have to do with each other. STEP: all count them alike, and a checkpoint is the state of all after
 * one and the same step. FREE: each rank counts its own (stages of a pipeline, servers, workers); a checkpoint takes each
 * rank at a safe point of its own, with the messages that are under way between them, and after a restart each continues
 * from its own step. FREE needs libtidemark_mpi where ranks pass messages. AUTO: it is found out. */
enum tide_cut { TIDE_CUT_AUTO = 0, TIDE_CUT_STEP, TIDE_CUT_FREE };

/* Set size to sizeof(struct tide_options); fields are only ever added. NULL means all defaults. */
struct tide_options {
    size_t size;
    uint64_t deadline_ms; /* longest silence of tidemark's processes in init and restore; 0: 60,000. A state that takes long
                             to come, from a slow store or one that is out of reach for a while, is no silence */
    enum tide_cut cut;    /* the same on all ranks */
    /* Nonzero: MPI requests that are outstanding at a safe point are made again by the program after a restart, see below.
     * 0: there are none at a safe point, and one that is found there fails the checkpoint, by name. */
    unsigned requests_reposted;
    /* Most bytes of messages that were on their way to this rank and are saved with it; 0: 256 MiB. A checkpoint that would
     * need more fails, and training goes on. */
    uint64_t channel_bytes_max;
};

/* Requests at a safe point. With libtidemark_mpi a rank may have receives posted when it calls tide_step, as a pipeline that
 * receives one activation ahead. Requests are no part of a checkpoint, so the program makes them again after tide_restore,
 * just as it did before the step that it continues from:
 *
 *     struct tide_options options = {.size = sizeof options, .requests_reposted = 1};
 *     ...
 *     tide_restore(t, &step);
 *     MPI_Irecv(next, n, MPI_FLOAT, before, TAG, comm, &request);   // also after a restart: it gets what was on its way
 *     for (; step < steps;) {
 *         MPI_Wait(&request, MPI_STATUS_IGNORE);
 *         swap(&now, &next);
 *         MPI_Irecv(next, n, MPI_FLOAT, before, TAG, comm, &request);
 *         work_on(now);
 *         tide_step(t, ++step);                                     // `request` is outstanding here
 *     }
 *
 * The buffer of a posted receive is not state: do not register it, or expect it to be written again. A send that is
 * outstanding at a safe point is not made again: its message is in the checkpoint, with the receiver. Persistent requests
 * are made and started again in the same way. A synchronous send (MPI_Issend, MPI_Ssend_init) must be complete at a safe
 * point, as the program could not tell after a restart whether its receive had begun: else the checkpoint fails, by name. */

/* Join the job named by the environment. On failure *ret_tide is untouched.
 * Errors: UNAVAILABLE (no step process answers), VERSION, NOMEM, IO. */
TIDE_MUST_USE enum tide_status tide_init(struct tide **ret_tide, const struct tide_options *options);

/* Nonzero when the process runs inside a tidemark job. */
int tide_active(const struct tide *tide);

/* Add a region. Errors: INVALID, EXISTS (name taken), LIMIT, UNSUPPORTED (device memory, and libtidemark_cuda or CUDA's
 * runtime is not installed), UNAVAILABLE (device memory, and no GPU or driver that could be used). Device memory: what
 * cudaMalloc, cudaMallocAsync, and mappings of virtual memory give, each on any GPU of the process; managed memory too,
 * which is always copied as in TIDE_COPY_SYNC. */
TIDE_MUST_USE enum tide_status tide_register(struct tide *tide, const struct tide_region *region);

/* Remove a region by name. Errors: NOT_FOUND. */
TIDE_MUST_USE enum tide_status tide_unregister(struct tide *tide, const char *name);

/* Fill all registered regions from the checkpoint this generation starts from and set *ret_step to its step. Every
 * chunk's hash is checked first; a bad one is fetched from the next tier. Regions are matched by name and must have the
 * same bytes; where another number of ranks made the checkpoint (--elastic), what TIDE_REPLICATED, TIDE_SHARD and TIDE_DROPPABLE
 * say, and every region must be one of these. Call it once, after registering and before the first tide_step.
 * Errors: NO_CHECKPOINT (start from the beginning; nothing was touched), MISMATCH, CORRUPT (no valid copy is left; the
 * process should exit: the coordinator restarts the job from an older checkpoint), UNAVAILABLE, TIMEOUT. After any error
 * but NO_CHECKPOINT the contents of the regions are undefined. */
TIDE_MUST_USE enum tide_status tide_restore(struct tide *tide, uint64_t *ret_step);

/* The safe point: "my registered state is that after `step` steps". Steps must grow from call to call, and every rank of
 * the job counts them alike. Nothing armed: one exchange, one load, one branch. Armed for this step: copies the regions
 * into the arena and returns.
 * Errors: INVALID (step did not grow), RESTART (only where tide_set_restart has asked for it). */
enum tide_status tide_step(struct tide *tide, uint64_t step);

/* Have all ranks know what one of them does before anything else connects them: an ncclUniqueId, an address. For rank `from` it
 * gives `bytes` of `data`, at most TIDE_SHARE_BYTES_MAX, under that name; for all others it waits until that was done, at most
 * deadline_ms of tide_options, and fills `data`. A name is given once in a generation, and is new in the next. Outside a job
 * nothing is done. Errors: INVALID, EXISTS (given before, and something else), LIMIT (the ranks of this node have given
 * TIDE_SHARES_MAX names in this generation), MISMATCH (so many bytes were not given), TIMEOUT, UNAVAILABLE. */
TIDE_MUST_USE enum tide_status tide_share(struct tide *tide, const char *name, uint32_t from, void *data, size_t bytes);

/* ---- restart in the process. When a rank or a node of the job has failed, all other ranks are ended and started anew with it;
 * unless the program asks for another way. Then this process, its rank number and its node unchanged, goes over to the next
 * generation, and only what was lost is started anew:
 *
 *     tide_init(&t, NULL);
 *     tide_set_restart(t, NULL, NULL);                     // UNSUPPORTED: the process is ended and started anew, as ever
 *     register_regions(t);
 * again:
 *     tide_share(t, "all", 0, &id, sizeof id);             // of a new ncclUniqueId
 *     ncclCommInitRank(&comm, ranks, id, rank);
 *     if (tide_restore(t, &step) == TIDE_E_NO_CHECKPOINT)
 *         step = from_the_beginning();                     // regions hold what they held: the program begins anew by itself
 *     for (; step < steps;)
 *         if (train_one_step() != ncclSuccess || tide_step(t, ++step) == TIDE_E_RESTART) {
 *             ncclCommAbort(comm);
 *             cudaStreamSynchronize(stream);               // what was in it has ended
 *             if (tide_restart(t) != TIDE_OK)
 *                 exit(1);                                 // then the job starts this rank anew, too
 *             goto again;
 *         }
 *
 * Every call on the handle but tide_restart says TIDE_E_RESTART, or what it always says, once the generation is over. A process
 * that has not called tide_restart within a few seconds from then on is killed, and started anew. So it must keep its handle:
 * tide_init after tide_finalize is refused once it has gone over. What it has left behind as a daemon, whose parent has ended, is
 * killed with each generation; its children stay.
 *
 * Its environment stays that of its first generation, since no library can change that while other threads read it. RANK, LOCAL_RANK,
 * WORLD_SIZE, the other numbers of ranks and nodes, and TIDEMARK_NODE stay right: a job that goes on with other numbers, or on another
 * node, starts its processes anew. MASTER_PORT, TIDEMARK_GENERATION, TORCHELASTIC_RESTART_COUNT and TORCHELASTIC_ERROR_FILE are old,
 * and so is MASTER_ADDR where the node of rank 0 was lost: ask tide_get_generation. A program that has something else read them
 * (torch.distributed from "env://") sets them behind tide_restart, by setenv, where no other thread of it looks at the environment. */

/* Ask for it; once, before the first tide_restart. `callback` may be NULL; it is called once for each generation that ends so, with
 * `user`, by a thread of the library, deaf to signals, and gets the program's own threads out of what they wait for: ncclCommAbort,
 * shutdown of a socket. Communicators that libtidemark_nccl knows have been aborted before. Outside a job nothing is done.
 * Errors: UNSUPPORTED (MPI: libtidemark_mpi is loaded, or the launcher is PMIx; an older step process), EXISTS, NOMEM. */
TIDE_MUST_USE enum tide_status tide_set_restart(struct tide *tide, void (*callback)(void *user), void *user);

/* Leave the generation that is over and go over to the next: wait until this one is over, at most deadline_ms of tide_options, and
 * until the next has begun. A program calls it when TIDE_E_RESTART was said, and when something between ranks has failed, by
 * which it often learns of a peer's end first. By then it has ended what connects it to others, and nothing of its own is
 * under way on its regions. On success it is as after tide_init and tide_register: tide_share, tide_restore and tide_step follow.
 * Errors: STATE (not asked for, or not in a job), TIMEOUT (the generation is not over: what failed is the program's own),
 * UNAVAILABLE and others; the process should exit then. */
TIDE_MUST_USE enum tide_status tide_restart(struct tide *tide);

/* The present generation, as the environment tells it to a process that is started for it. Set size to sizeof(struct tide_generation);
 * fields are only ever added. */
struct tide_generation {
    size_t size;
    uint64_t number;           /* TIDEMARK_GENERATION */
    uint32_t restarts;         /* TORCHELASTIC_RESTART_COUNT */
    uint32_t master_port;      /* MASTER_PORT */
    char master_address[256];  /* MASTER_ADDR: of the node of rank 0 */
};

/* Outside a job: what the environment says; zero and "" where it says nothing. Errors: INVALID, RESTART (that generation is over, and
 * tide_restart has not succeeded), UNSUPPORTED (an older step process). On failure *ret_generation is untouched. */
TIDE_MUST_USE enum tide_status tide_get_generation(struct tide *tide, struct tide_generation *ret_generation);

/* ---- device regions. Each of these calls waits first for a checkpoint that is still on its way to the host, but
 * tide_before_update, which never waits. Outside a job they do nothing and succeed. ---- */

/* The streams (cudaStream_t) of GPU `device` in which the program works on its regions, instead of those named before; 0
 * streams: the default stream, which is also what is meant where this is never called. A checkpoint holds what these will
 * have done that were put into them before tide_step. Work in other streams must be ordered before or behind them by the
 * program. Name others before one of them is destroyed. Errors: LIMIT (more than 64), UNAVAILABLE, UNSUPPORTED. */
TIDE_MUST_USE enum tide_status tide_set_streams(struct tide *tide, int device, void *const *streams, unsigned count);

/* Grant device memory for TIDE_COPY_SLAB: allocated here, until another number or tide_finalize; 0 gives it back, for which
 * CUDA waits for the whole GPU. Errors: NOMEM, UNAVAILABLE, UNSUPPORTED. */
TIDE_MUST_USE enum tide_status tide_set_spare(struct tide *tide, int device, size_t bytes);

/* How that region is to be copied from now on. Where it cannot be done it is done as in TIDE_COPY_SYNC. Errors: NOT_FOUND,
 * INVALID. */
TIDE_MUST_USE enum tide_status tide_set_copy(struct tide *tide, const char *name, enum tide_copy copy);

/* Call it before work is put into `stream` (a cudaStream_t) that writes to regions: that work is then done behind the copies
 * still under way. The program itself does not wait. Nothing under way: a few loads. Errors: STATE (the stream is capturing
 * a graph). */
enum tide_status tide_before_update(struct tide *tide, void *stream);

/* How that region was copied last: SYNC, SLAB or LAZY; AUTO: not yet. Errors: NOT_FOUND. */
TIDE_MUST_USE enum tide_status tide_copied(struct tide *tide, const char *name, enum tide_copy *ret_copy);

/* Leave: after it, the end of the process is not a failure if its exit status is 0. Frees the handle; NULL is legal. */
void tide_finalize(struct tide *tide);

/* The last error's text: what happened, to what, what to do next. Valid until the next call on the handle; NULL asks for the
 * last failed tide_init of this process. Never NULL. */
const char *tide_error_text(const struct tide *tide);

#ifdef __cplusplus
}
#endif

#endif /* TIDEMARK_TIDEMARK_H */
