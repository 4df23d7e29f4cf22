/* SPDX-License-Identifier: Apache-2.0 */

/* A sparse exchange in each round (Hoefler, Siebert and Lumsdaine, "Scalable communication protocols for dynamic sparse data
 * exchange", 2010): a rank sends synchronously to some others, receives what a probe finds, enters a barrier when its sends are
 * complete, and is done when the barrier is. It holds only while a synchronous send is not complete before its receive has begun:
 * else a message is left behind. In every second round the receives are posted ahead, and each rank waits for its sends before a
 * blocking barrier. And in each round three of them meet: one receives of any source, and comes to a barrier; one sends to it,
 * synchronously, before the barrier, and one behind it: that must not be received first. All ranks are on one machine, and note in
 * shared memory what they begin to receive; so a send that is complete too soon is told from the others in any case.
 *
 *     cut_sparse ROUNDS */

#include <fcntl.h>
#include <mpi.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <tidemark/states.h>
#include <tidemark/tidemark.h>
#include <unistd.h>

#define RANKS_MAX 16
#define BURST_MAX 3 /* messages to one rank in one round */
#define SENDS_MAX (RANKS_MAX * BURST_MAX)
#define WORDS_MAX 4000 /* some are sent when they are asked for only */
#define TAG_FIRST 10
#define TAG_MEETING 5
#define TAGS 100 /* rounds that follow each other have others */

struct state {
    uint64_t round, sent, received, sum_sent, sum_received, too_soon, left, overtaken;
};

static struct tide *tide;
static struct state state;
static int rank, size;
/* Receives that rank has begun of messages of another, since this generation began. */
static _Atomic uint32_t (*begun)[RANKS_MAX];
static uint32_t complete[RANKS_MAX]; /* sends of ours, likewise */
static uint64_t out[SENDS_MAX][WORDS_MAX], in[SENDS_MAX][WORDS_MAX];
static MPI_Request sends[SENDS_MAX], receives[SENDS_MAX];
static int to[SENDS_MAX], send_count;

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static void give_up(const char *what)
{
    fprintf(stderr, "cut_sparse: rank %d: %s: %s\n", rank, what, tide_error_text(tide));
    MPI_Abort(MPI_COMM_WORLD, TIDE_EXIT_DO_NOT_RESTART);
    exit(TIDE_EXIT_DO_NOT_RESTART);
}

static void share(void)
{
    char path[64];
    snprintf(path, sizeof path, "/dev/shm/cut-sparse-%d", (int)getppid());
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    size_t bytes = sizeof *begun * RANKS_MAX;
    if (fd < 0 || ftruncate(fd, (off_t)bytes) != 0)
        give_up(path);
    begun = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (begun == MAP_FAILED)
        give_up("mmap");
    MPI_Barrier(MPI_COMM_WORLD);
    unlink(path);
}

static int burst(int from, int dest, uint64_t round)
{
    uint64_t drawn = mix(round << 16 | (uint64_t)from << 8 | (uint64_t)dest);
    return from == dest || drawn % 3 == 0 ? 0 : (int)(drawn >> 8) % (BURST_MAX + 1);
}

/* ---- sending ---- */

static void send_all(uint64_t round, int tag)
{
    send_count = 0;
    for (int dest = 0; dest < size; dest++) {
        for (int i = burst(rank, dest, round); i > 0; i--) {
            uint64_t *words = out[send_count];
            uint64_t drawn = mix(round * 977 + state.sent);
            words[0] = drawn;
            MPI_Issend(words, drawn % 8 == 0 ? WORDS_MAX : 1 + (int)(drawn % 50), MPI_UINT64_T, dest, tag, MPI_COMM_WORLD,
                       &sends[send_count]);
            to[send_count++] = dest;
            state.sent++;
            state.sum_sent += drawn;
        }
    }
}

static void note_complete(int i)
{
    state.too_soon += atomic_load(&begun[to[i]][rank]) < ++complete[to[i]];
}

/* In order: of two to one rank the first one is received first. */
static bool sends_are_complete(int *next)
{
    int done = 1;
    while (*next < send_count) {
        MPI_Test(&sends[*next], &done, MPI_STATUS_IGNORE);
        if (!done)
            return false;
        note_complete((*next)++);
    }
    return true;
}

/* ---- receiving ---- */

static void note_received(uint64_t word)
{
    state.received++;
    state.sum_received += word;
}

static bool receive_one(int tag)
{
    int found = 0;
    MPI_Status status;
    MPI_Iprobe(MPI_ANY_SOURCE, tag, MPI_COMM_WORLD, &found, &status);
    if (!found)
        return false;
    atomic_fetch_add(&begun[rank][status.MPI_SOURCE], 1);
    MPI_Recv(in[0], WORDS_MAX, MPI_UINT64_T, status.MPI_SOURCE, tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    note_received(in[0][0]);
    return true;
}

static void exchange(uint64_t round, int tag)
{
    MPI_Request barrier = MPI_REQUEST_NULL;
    int next = 0, done = 0;
    bool entered = false;
    send_all(round, tag);
    while (!done) {
        receive_one(tag);
        if (entered) {
            MPI_Test(&barrier, &done, MPI_STATUS_IGNORE);
        } else if (sends_are_complete(&next)) {
            MPI_Ibarrier(MPI_COMM_WORLD, &barrier);
            entered = true;
        }
    }
    while (receive_one(tag))
        state.left++;
}

/* Receives are posted before a barrier that senders come to behind their sends. */
static void exchange_posted(uint64_t round, int tag)
{
    int next = 0, count = 0;
    for (int source = 0; source < size; source++) {
        for (int i = burst(source, rank, round); i > 0; i--) {
            atomic_fetch_add(&begun[rank][source], 1);
            MPI_Irecv(in[count], WORDS_MAX, MPI_UINT64_T, source, tag, MPI_COMM_WORLD, &receives[count]);
            count++;
        }
    }
    send_all(round, tag);
    while (!sends_are_complete(&next))
        MPI_Wait(&sends[next], MPI_STATUS_IGNORE);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Waitall(count, receives, MPI_STATUSES_IGNORE);
    for (int i = 0; i < count; i++)
        note_received(in[i][0]);
}

/* The barrier is entered behind the synchronous send, so that has its receive when the other is sent. */
static void meeting(uint64_t round)
{
    MPI_Request first = MPI_REQUEST_NULL;
    uint64_t got[2] = {0, 0}, words[2] = {mix(round), mix(round) + 1};
    int receiver = (int)(round % (uint64_t)size), before = (receiver + 1) % size, behind = (receiver + 2) % size;
    if (rank == receiver)
        MPI_Irecv(&got[0], 1, MPI_UINT64_T, MPI_ANY_SOURCE, TAG_MEETING, MPI_COMM_WORLD, &first);
    if (rank == before)
        MPI_Ssend(&words[0], 1, MPI_UINT64_T, receiver, TAG_MEETING, MPI_COMM_WORLD);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == behind)
        MPI_Send(&words[1], 1, MPI_UINT64_T, receiver, TAG_MEETING, MPI_COMM_WORLD);
    if (rank != receiver)
        return;
    MPI_Wait(&first, MPI_STATUS_IGNORE);
    MPI_Recv(&got[1], 1, MPI_UINT64_T, MPI_ANY_SOURCE, TAG_MEETING, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    state.overtaken += got[0] != words[0] || got[1] != words[1];
}

/* ---- all of it ---- */

static void join(void)
{
    struct tide_options options = {.size = sizeof options, .cut = TIDE_CUT_FREE};
    struct tide_region region = {.name = "state", .data = &state, .bytes = sizeof state};
    uint64_t step = 0;
    if (tide_init(&tide, &options) != TIDE_OK || tide_register(tide, &region) != TIDE_OK)
        give_up("tide_init");
    enum tide_status status = tide_restore(tide, &step);
    if (status != TIDE_OK && status != TIDE_E_NO_CHECKPOINT)
        give_up("tide_restore");
}

static bool audit(void)
{
    uint64_t mine[] = {state.sent - state.received, state.sum_sent - state.sum_received, state.too_soon, state.left,
                       state.overtaken},
             all[5];
    MPI_Allreduce(mine, all, 5, MPI_UINT64_T, MPI_SUM, MPI_COMM_WORLD);
    bool right = (all[0] | all[1] | all[2] | all[3] | all[4]) == 0;
    if (rank == 0)
        printf("cut_sparse %s: %lld lost or twice, %llu complete too soon, %llu left behind, %llu overtaken\n", right ? "right" : "WRONG",
               (long long)all[0], (unsigned long long)all[2], (unsigned long long)all[3], (unsigned long long)all[4]);
    return right;
}

int main(int argc, char **argv)
{
    uint64_t rounds = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    if (size > RANKS_MAX)
        give_up("too many ranks");
    share();
    join();
    while (state.round < rounds) {
        uint64_t round = ++state.round;
        int tag = TAG_FIRST + (int)(round % TAGS);
        if (round % 2)
            exchange(round, tag);
        else
            exchange_posted(round, tag);
        meeting(round);
        if (tide_step(tide, round) != TIDE_OK)
            give_up("tide_step");
    }
    tide_finalize(tide);
    bool right = audit();
    MPI_Finalize();
    return !right;
}
