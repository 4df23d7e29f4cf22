/* SPDX-License-Identifier: Apache-2.0 */

/* How far the streams of a communicator are, as libtidemark_nccl tells it: by events before and behind collectives, on the simulators. */

#include "tests/unit/nccl_told.h"

#include <unistd.h>

#include "ckpt/client/nccl/inside.h"

#define APART_US 12000 /* more than MARK_GAP_NS, by a clock of a few milliseconds */
#define CALM 3        /* collectives that nothing is wrong with */
#define LONG_NS UINT64_C(3600000000000)

static void in_the_world(int rank)
{
    char text[16];
    snprintf(text, sizeof text, "%d", rank);
    setenv("RANK", text, 1);
}

/* Who leaves is missed by the others, and their communicator ends. */
static void leave_together(struct world *w, int rank, int ranks)
{
    uint64_t until_ns = clock_mono_ns() + TOLD_S * NS_PER_S;
    __atomic_store_n(&w->count[rank], 1, __ATOMIC_SEQ_CST);
    for (int r = 0; r < ranks && clock_mono_ns() < until_ns; r += __atomic_load_n(&w->count[r], __ATOMIC_SEQ_CST) == 1)
        usleep(LOOK_US);
    _exit(0);
}

static void reduce(float *at, ncclComm_t comm, cudaStream_t stream)
{
    usleep(APART_US);
    must(ncclAllReduce(at, at, 4, ncclFloat32, ncclSum, comm, stream) == ncclSuccess);
}

static ncclComm_t calm(int rank, int ranks, struct world *w, float **ret_at, cudaStream_t *ret_stream)
{
    in_the_world(rank);
    tide_nccl_tell(&progress);
    ncclComm_t comm = join(rank, ranks, w);
    *ret_at = floats();
    must(cudaStreamCreateWithFlags(ret_stream, cudaStreamNonBlocking) == cudaSuccess);
    for (int i = 0; i < CALM; i++) {
        reduce(*ret_at, comm, *ret_stream);
        must(cudaStreamSynchronize(*ret_stream) == cudaSuccess);
    }
    return comm;
}

static bool all_done(const struct control_progress_comm *is)
{
    return is->begun == CALM && is->done == CALM && is->reached == CALM && is->undone == 0 && is->unreached == 0;
}

static bool is_inside(const struct control_progress_comm *is)
{
    return is->begun == CALM + 1 && is->reached == CALM + 1 && is->unreached == 0 && is->done == CALM && is->undone == CALM + 1;
}

static bool is_behind(const struct control_progress_comm *is)
{
    return is->begun == CALM + 2 && is->reached == CALM + 2 && is->unreached == 0 && is->done == CALM + 1 && is->undone == CALM + 2;
}

static bool is_stuck(const struct control_progress_comm *is)
{
    return is->begun == CALM + 2 && is->reached == CALM + 1 && is->unreached == CALM + 2 && is->done == CALM && is->undone == CALM + 1;
}

static bool is_before(const struct control_progress_comm *is)
{
    return is->begun == CALM + 1 && is->reached == CALM && is->unreached == CALM + 1 && is->done == CALM && is->undone == CALM + 1;
}

/* Outlives its processes. */
static void fault_at(const char *name, int rank, int op)
{
    char text[256];
    snprintf(text, sizeof text, "%s/tidemark-marks-%s-%d", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp", name, (int)getpid());
    unlink(text);
    char value[300];
    snprintf(value, sizeof value, "%d:%d:%s", rank, op, text);
    setenv(name, value, 1);
}

static void fault_over(const char *name)
{
    unlink(strchr(strchr(getenv(name), ':') + 1, ':') + 1);
    unsetenv(name);
}

static void run_inside(int rank, int ranks, void *shared)
{
    float *at;
    cudaStream_t stream;
    ncclComm_t comm = calm(rank, ranks, shared, &at, &stream);
    struct control_progress_comm is = await_told(0, all_done);
    must(is.size == (uint32_t)ranks && is.member == (uint32_t)rank && strcmp(is.name, "nccl 0.0") == 0 && is.messages == 0);
    reduce(at, comm, stream);
    is = await_told(0, is_inside);
    must(is.since_ns > 0 && is.since_ns <= clock_mono_ns());
    leave_together(shared, rank, ranks);
}

/* All are inside, as far as anybody can tell. */
static void test_inside_a_collective(void **state)
{
    (void)state;
    struct world *w = world_make();
    fault_at("SIM_NCCL_STALL", 1, CALM + 1);
    together(RANKS, 0, run_inside, w);
    fault_over("SIM_NCCL_STALL");
}

static void run_stuck(int rank, int ranks, void *shared)
{
    float *at;
    cudaStream_t stream;
    ncclComm_t comm = calm(rank, ranks, shared, &at, &stream);
    reduce(at, comm, stream);
    reduce(at, comm, stream);
    (void)await_told(0, rank == 1 ? is_stuck : is_behind);
    leave_together(shared, rank, ranks);
}

/* It hangs in its own: the others have completed that, and wait in the next. None waits for its stream: the device goes on by itself. */
static void test_stuck_in_a_kernel(void **state)
{
    (void)state;
    struct world *w = world_make();
    fault_at("SIM_NCCL_STICK", 1, CALM + 1);
    together(RANKS, 0, run_stuck, w);
    fault_over("SIM_NCCL_STICK");
}

static void run_before(int rank, int ranks, void *shared)
{
    float *at;
    cudaStream_t stream;
    ncclComm_t comm = calm(rank, ranks, shared, &at, &stream);
    if (rank == 2)
        sim_work(stream, LONG_NS);
    reduce(at, comm, stream);
    (void)await_told(0, rank == 2 ? is_before : is_inside);
    leave_together(shared, rank, ranks);
}

/* A kernel of the program's that does not end. */
static void test_before_a_collective(void **state)
{
    (void)state;
    together(RANKS, 0, run_before, world_make());
}

static bool has_more(const struct control_progress_comm *is)
{
    return is->begun == CALM + 4 && is->done == CALM + 3;
}

/* Nothing of ours goes into a graph; and a group gets one mark, behind all of it. */
static void run_captured(int rank, int ranks, void *shared)
{
    float *at;
    cudaStream_t stream;
    cudaGraph_t graph = NULL;
    ncclComm_t comm = calm(rank, ranks, shared, &at, &stream);
    must(ncclGroupStart() == ncclSuccess);
    for (int i = 0; i < 3; i++)
        reduce(at, comm, stream);
    must(ncclGroupEnd() == ncclSuccess && cudaStreamSynchronize(stream) == cudaSuccess);
    must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal) == cudaSuccess);
    reduce(at, comm, stream);
    (void)await_told(0, has_more);
    must(cudaStreamEndCapture(stream, &graph) == cudaSuccess && sim_counts().captures_broken == 0);
    must(told(0).undone == 0 && told(0).unreached == 0);
    tide_nccl_tell(NULL);
    must(ncclCommDestroy(comm) == ncclSuccess);
}

static void test_captures_and_groups(void **state)
{
    (void)state;
    together(RANKS, 0, run_captured, world_make());
}

static bool is_unknown(const struct control_progress_comm *is)
{
    return is->begun == CALM + 1 && is->done == CALM && is->undone == 0 && is->unreached == 0;
}

/* Nobody is blamed for what a GPU that has failed does not tell. */
static void run_failed_gpu(int rank, int ranks, void *shared)
{
    float *at;
    cudaStream_t stream;
    ncclComm_t comm = calm(rank, ranks, shared, &at, &stream);
    reduce(at, comm, stream);
    (void)await_told(0, is_inside);
    sim_fault(0, cudaErrorECCUncorrectable, 0);
    must(cudaMemcpy(at + 4, at + 8, 4, cudaMemcpyDeviceToDevice) == cudaErrorECCUncorrectable);
    (void)await_told(0, is_unknown);
    leave_together(shared, rank, ranks);
}

static void test_a_gpu_that_fails_tells_nothing(void **state)
{
    (void)state;
    struct world *w = world_make();
    fault_at("SIM_NCCL_STALL", 1, CALM + 1);
    together(RANKS, 0, run_failed_gpu, w);
    fault_over("SIM_NCCL_STALL");
}

static bool first_is_done(const struct control_progress_comm *is)
{
    return is->begun == 2 && is->done == 2;
}

/* See told. */
__attribute__((no_sanitize("thread"))) static bool counts_are(uint32_t count, uint32_t more)
{
    const volatile struct control_progress *is = &progress;
    return is->count == count && is->more == more;
}

static void await_count(uint32_t count, uint32_t more)
{
    uint64_t until_ns = clock_mono_ns() + TOLD_S * NS_PER_S;
    while (!counts_are(count, more) && clock_mono_ns() < until_ns)
        usleep(LOOK_US);
    must(counts_are(count, more));
}

/* Those that nobody is told of cost nothing; until there is room. */
static void run_too_many(int rank, int ranks, void *shared)
{
    float *at = floats();
    ncclComm_t many[CONTROL_PROGRESS_MAX + 1] = {join(rank, ranks, shared)}, *last = &many[CONTROL_PROGRESS_MAX];
    in_the_world(rank);
    for (unsigned i = 1; i <= CONTROL_PROGRESS_MAX; i++)
        must(ncclCommSplit(many[0], 0, rank, &many[i], NULL) == ncclSuccess);
    tide_nccl_tell(&progress);
    await_count(CONTROL_PROGRESS_MAX, 1);
    uint64_t before = sim_counts().event_records;
    reduce(at, *last, NULL);
    must(cudaStreamSynchronize(NULL) == cudaSuccess && sim_counts().event_records == before);
    reduce(at, many[0], NULL);
    must(cudaStreamSynchronize(NULL) == cudaSuccess && sim_counts().event_records == before + 2);
    must(ncclCommDestroy(many[0]) == ncclSuccess);
    await_count(CONTROL_PROGRESS_MAX, 0);
    reduce(at, *last, NULL);
    must(cudaStreamSynchronize(NULL) == cudaSuccess);
    (void)await_told(CONTROL_PROGRESS_MAX - 1, first_is_done);
}

static void test_too_many_are_not_marked(void **state)
{
    (void)state;
    together(RANKS, 0, run_too_many, world_make());
}

/* The program keeps it, and we nothing that CUDA counts. */
static void run_dead_and_kept(int rank, int ranks, void *shared)
{
    float *at;
    cudaStream_t stream;
    ncclComm_t comm = calm(rank, ranks, shared, &at, &stream);
    uint64_t until_ns = clock_mono_ns() + TOLD_S * NS_PER_S;
    must(sim_counts().events > 0);
    tide_nccl_over();
    while (sim_counts().events > 0 && clock_mono_ns() < until_ns)
        usleep(LOOK_US);
    must(sim_counts().events == 0);
    must(ncclAllReduce(at, at, 4, ncclFloat32, ncclSum, comm, stream) == ncclRemoteError && ncclCommDestroy(comm) == ncclSuccess);
}

static void test_a_dead_one_has_no_events(void **state)
{
    (void)state;
    together(1, 0, run_dead_and_kept, world_make());
}

#define ALIVE 8u     /* communicators at a time */
#define LOOKED_AT 60 /* events, while they come and go */

/* Destroyed and aborted while they are looked at. */
static void run_come_and_go(int rank, int ranks, void *shared)
{
    ncclComm_t alive[ALIVE] = {NULL};
    float *at = floats();
    uint64_t until_ns = clock_mono_ns() + TOLD_S * NS_PER_S, before = sim_counts().event_queries;
    (void)rank, (void)ranks, (void)shared;
    tide_nccl_tell(&progress);
    for (unsigned i = 0; i % ALIVE != 0 || (sim_counts().event_queries < before + LOOKED_AT && clock_mono_ns() < until_ns); i++) {
        ncclComm_t *comm = &alive[i % ALIVE];
        ncclUniqueId id;
        must(*comm == NULL || (i & 1 ? ncclCommDestroy(*comm) : ncclCommAbort(*comm)) == ncclSuccess);
        must(ncclGetUniqueId(&id) == ncclSuccess && ncclCommInitRank(comm, 1, id, 0) == ncclSuccess);
        must(ncclAllReduce(at, at, 4, ncclFloat32, ncclSum, *comm, NULL) == ncclSuccess);
    }
    must(sim_counts().event_queries >= before + LOOKED_AT);
    for (unsigned i = 0; i < ALIVE; i++)
        must(ncclCommDestroy(alive[i]) == ncclSuccess);
    while (sim_counts().events > 0 && clock_mono_ns() < until_ns)
        usleep(LOOK_US);
    must(sim_counts().events == 0);
}

static void test_they_end_while_they_are_looked_at(void **state)
{
    (void)state;
    together(1, 0, run_come_and_go, world_make());
}

static void test_when_a_mark_is_due(void **state)
{
    static const struct {
        uint64_t now_ns, last_ns;
        uint32_t pending;
        bool due;
    } cases[] = {
        {MARK_GAP_NS, 0, 0, true},          {MARK_GAP_NS - 1, 0, 0, false},          {MARK_GAP_NS, 0, MARKS - 1, true},
        {MARK_GAP_NS * 9, 0, MARKS, false}, {MARK_GAP_NS * 9, MARK_GAP_NS * 9, 0, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(mark_due(cases[i].now_ns, cases[i].last_ns, cases[i].pending), cases[i].due);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_inside_a_collective), cmocka_unit_test(test_stuck_in_a_kernel),
        cmocka_unit_test(test_before_a_collective), cmocka_unit_test(test_captures_and_groups),
        cmocka_unit_test(test_a_gpu_that_fails_tells_nothing), cmocka_unit_test(test_too_many_are_not_marked),
        cmocka_unit_test(test_a_dead_one_has_no_events), cmocka_unit_test(test_they_end_while_they_are_looked_at),
        cmocka_unit_test(test_when_a_mark_is_due),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
