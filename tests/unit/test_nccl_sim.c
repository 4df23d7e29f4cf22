/* SPDX-License-Identifier: Apache-2.0 */

/* The simulator of NCCL: sums, order, errors. */

#include "tests/lib/together.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/health/ras.h"
#include "ckpt/base/clock.h"
#include "tests/lib/sim_cuda/sim_cuda.h"
#include "tests/lib/sim_nccl/sim.h"

#define RANKS 3
#define MANY ((size_t)300000) /* more than one piece */
#define GONE_MS 2000
#define GATE_S 20
#define LOOK_US 1000

struct world {
    ncclUniqueId id;
    _Atomic int ready;
};

static ncclComm_t join(int rank, int ranks, struct world *w)
{
    ncclComm_t comm = NULL;
    must(ncclCommInitRank(&comm, ranks, w->id, rank) == ncclSuccess);
    return comm;
}

static float *device_floats(size_t count, float first, float grows)
{
    float *at = NULL;
    must(cudaMalloc((void **)&at, count * sizeof *at) == cudaSuccess);
    float *view = sim_view(at);
    for (size_t i = 0; i < count; i++)
        view[i] = first + grows * (float)i;
    return at;
}

static void run_collectives(int rank, int ranks, void *shared)
{
    ncclComm_t comm = join(rank, ranks, shared);
    float mine = (float)(rank + 1);
    float *from = device_floats(MANY, mine, 0.0f), *to = device_floats(MANY * RANKS, -1.0f, 0.0f);
    float *at = sim_view(to);
    must(ncclAllReduce(from, to, MANY, ncclFloat32, ncclSum, comm, NULL) == ncclSuccess);
    must(cudaStreamSynchronize(NULL) == cudaSuccess);
    must(at[0] == 6.0f && at[MANY - 1] == 6.0f && at[MANY] == -1.0f);
    must(ncclAllReduce(from, to, MANY, ncclFloat32, ncclMax, comm, NULL) == ncclSuccess);
    must(ncclBroadcast(from, to, MANY, ncclFloat32, 1, comm, NULL) == ncclSuccess);
    must(cudaStreamSynchronize(NULL) == cudaSuccess && at[MANY - 1] == 2.0f);
    must(ncclAllGather(from, to, MANY, ncclFloat32, comm, NULL) == ncclSuccess);
    must(cudaStreamSynchronize(NULL) == cudaSuccess && at[0] == 1.0f && at[MANY] == 2.0f && at[3 * MANY - 1] == 3.0f);
    float *all = device_floats(3 * MANY, mine, 1.0f);
    must(ncclReduceScatter(all, to, MANY, ncclFloat32, ncclSum, comm, NULL) == ncclSuccess);
    must(cudaStreamSynchronize(NULL) == cudaSuccess && at[5] == 6.0f + 3.0f * (float)((size_t)rank * MANY + 5));
    must(ncclAllReduce(from, to, 10, ncclFloat32, (ncclRedOp_t)77, comm, NULL) == ncclInvalidArgument);
    must(ncclCommFinalize(comm) == ncclSuccess && ncclCommDestroy(comm) == ncclSuccess);
}

static void test_collectives_are_done_between_processes(void **state)
{
    struct world *w = together_share(sizeof *w);
    (void)state;
    assert_int_equal(ncclGetUniqueId(&w->id), ncclSuccess);
    together(RANKS, 0, run_collectives, w);
}

/* Not even begun before somebody waits; then in the order of the stream. */
static void run_order(int rank, int ranks, void *shared)
{
    ncclComm_t comm = join(rank, ranks, shared);
    cudaStream_t stream;
    float *at = device_floats(4, (float)rank, 0.0f), *copy = device_floats(4, 0.0f, 0.0f);
    must(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
    must(ncclAllReduce(at, at, 4, ncclFloat32, ncclSum, comm, stream) == ncclSuccess);
    must(cudaMemcpyAsync(copy, at, 16, cudaMemcpyDeviceToDevice, stream) == cudaSuccess);
    must(ncclAllReduce(at, at, 4, ncclFloat32, ncclSum, comm, stream) == ncclSuccess);
    must(((float *)sim_view(at))[0] == (float)rank);
    must(cudaStreamSynchronize(stream) == cudaSuccess);
    must(((float *)sim_view(copy))[3] == 3.0f && ((float *)sim_view(at))[3] == 9.0f);
    must(ncclCommDestroy(comm) == ncclSuccess);
}

static void test_the_order_is_the_streams(void **state)
{
    struct world *w = together_share(sizeof *w);
    (void)state;
    assert_int_equal(ncclGetUniqueId(&w->id), ncclSuccess);
    together(RANKS, 0, run_order, w);
}

/* All send and receive at once, more than fits into a mail: only a group can do that. */
static void run_ring(int rank, int ranks, void *shared)
{
    ncclComm_t comm = join(rank, ranks, shared);
    float *from = device_floats(MANY, (float)rank, 1.0f), *to = device_floats(MANY, -1.0f, 0.0f);
    int next = (rank + 1) % ranks, before = (rank + ranks - 1) % ranks;
    must(ncclGroupStart() == ncclSuccess);
    must(ncclSend(from, MANY, ncclFloat32, next, comm, NULL) == ncclSuccess);
    must(ncclRecv(to, MANY, ncclFloat32, before, comm, NULL) == ncclSuccess);
    must(ncclGroupEnd() == ncclSuccess && ncclGroupEnd() == ncclInvalidUsage);
    must(cudaStreamSynchronize(NULL) == cudaSuccess);
    must(((float *)sim_view(to))[MANY - 1] == (float)before + (float)(MANY - 1));
    must(ncclCommDestroy(comm) == ncclSuccess);
}

static void test_a_group_sends_and_receives_at_once(void **state)
{
    struct world *w = together_share(sizeof *w);
    (void)state;
    assert_int_equal(ncclGetUniqueId(&w->id), ncclSuccess);
    together(RANKS, 0, run_ring, w);
}

static void run_made_of_others(int rank, int ranks, void *shared)
{
    ncclComm_t comm = join(rank, ranks, shared), half = NULL, less = NULL;
    int size = 0, place = -1, without = 1;
    must(ncclCommSplit(comm, rank == 1 ? NCCL_SPLIT_NOCOLOR : 7, -rank, &half, NULL) == ncclSuccess);
    must((half == NULL) == (rank == 1));
    if (half) {
        must(ncclCommCount(half, &size) == ncclSuccess && size == 2);
        must(ncclCommUserRank(half, &place) == ncclSuccess && place == (rank == 2 ? 0 : 1));
        must(ncclCommShrink(comm, &without, 1, &less, NULL, NCCL_SHRINK_DEFAULT) == ncclSuccess);
        float *at = device_floats(1, (float)rank, 0.0f);
        must(ncclBroadcast(at, at, 1, ncclFloat32, 0, less, NULL) == ncclSuccess &&
             cudaStreamSynchronize(NULL) == cudaSuccess);
        must(((float *)sim_view(at))[0] == 0.0f);
        must(ncclCommDestroy(half) == ncclSuccess && ncclCommDestroy(less) == ncclSuccess);
    }
    must(ncclCommDestroy(comm) == ncclSuccess);
}

static void test_communicators_are_split_and_shrunk(void **state)
{
    struct world *w = together_share(sizeof *w);
    (void)state;
    assert_int_equal(ncclGetUniqueId(&w->id), ncclSuccess);
    together(RANKS, 0, run_made_of_others, w);
}

static void *abort_on_error(void *context)
{
    ncclResult_t error = ncclSuccess;
    while (ncclCommGetAsyncError(context, &error) == ncclSuccess && error == ncclSuccess)
        usleep(1000);
    must(error == ncclRemoteError && ncclCommAbort(context) == ncclSuccess);
    return NULL;
}

static void run_with_a_death(int rank, int ranks, void *shared)
{
    struct world *w = shared;
    ncclComm_t comm = join(rank, ranks, w);
    pthread_t thread;
    float *at = device_floats(1, 1.0f, 0.0f);
    if (rank == 1)
        raise(SIGKILL);
    uint64_t begin = clock_mono_ns();
    must(pthread_create(&thread, NULL, abort_on_error, comm) == 0);
    must(ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, comm, NULL) == ncclSuccess);
    must(cudaStreamSynchronize(NULL) == cudaSuccess);
    must(pthread_join(thread, NULL) == 0 && clock_mono_ns() - begin < GONE_MS * NS_PER_MS);
}

static void test_a_dead_peer_is_an_asynchronous_error(void **state)
{
    struct world *w = together_share(sizeof *w);
    (void)state;
    assert_int_equal(ncclGetUniqueId(&w->id), ncclSuccess);
    together(RANKS, 1, run_with_a_death, w);
}

#define PORT_FIRST 20000u
#define PORTS 12000u /* up to where the system takes ports of connections from */

static unsigned ras_port;

/* One that nobody has. */
static unsigned free_port(void)
{
    for (unsigned i = 0; i < PORTS; i++) {
        unsigned port = PORT_FIRST + ((unsigned)getpid() + i) % PORTS;
        struct sockaddr_in at = {
            .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        int fd = socket(AF_INET, SOCK_STREAM, 0), taken = bind(fd, (const struct sockaddr *)&at, sizeof at);
        close(fd);
        if (taken == 0)
            return port;
    }
    fail_msg("all of %u ports are taken", PORTS);
    return 0;
}

/* Whoever got the port may not listen yet. */
static size_t ras_ask(char *to, size_t room)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)ras_port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    size_t bytes = 0;
    int fd = -1;
    for (int i = 0; fd < 0 && i < 400; i++) {
        fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fd, (const struct sockaddr *)&at, sizeof at) == 0)
            break;
        close(fd);
        fd = -1;
        usleep(10000);
    }
    must(fd >= 0 && send(fd, "SET FORMAT json\nVERBOSE STATUS\n", 31, 0) == 31);
    for (ssize_t n; bytes < room && (n = recv(fd, to + bytes, room - bytes, 0)) > 0;)
        bytes += (size_t)n;
    close(fd);
    return bytes;
}

static void wait_for(const _Atomic int *word, int least)
{
    for (int i = 0; i < 1000 && atomic_load(word) < least; i++)
        usleep(10000);
    must(atomic_load(word) >= least);
}

/* Rank 1 does not come to the second sum; rank 0 asks as the agent does. */
static void run_one_behind(int rank, int ranks, void *shared)
{
    struct world *w = shared;
    ncclComm_t comm = join(rank, ranks, w);
    float *at = device_floats(1, 1.0f, 0.0f);
    for (int i = 0; i < (rank == 1 ? 1 : 2); i++)
        must(ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, comm, NULL) == ncclSuccess);
    atomic_fetch_add(&w->ready, 1);
    wait_for(&w->ready, rank == 0 ? ranks : ranks + 1);
    if (rank > 0)
        _exit(0);
    char text[8192];
    size_t bytes = ras_ask(text, sizeof text);
    const char *object = memchr(text, '{', bytes);
    must(object != NULL);
    struct ras_own own = {.address_count = 1, .pid_count = 1, .pids = (int32_t[]){atomic_load(&comm->shared->members[1].pid)}};
    snprintf(own.addresses[0], sizeof own.addresses[0], "%s", comm->shared->members[1].host);
    struct ras_past past = {.since_ns = 0};
    struct finding finding;
    for (uint64_t ms = 1; ms <= 1 + RAS_STUCK_MS; ms += RAS_STUCK_MS)
        must(ras_judge(&past, object, bytes - (size_t)(object - text), &own, ms * NS_PER_MS, &finding, NULL) == TIDE_OK);
    must(finding.state == TIDE_HEALTH_DEGRADED && strstr(finding.text, "rank 1 of communicator 0x"));
    must(strstr(finding.text, "has begun 1 AllReduce, others 2") != NULL);
    atomic_fetch_add(&w->ready, 1);
    _exit(0);
}

static void test_the_one_that_is_behind_is_told_by_ras(void **state)
{
    struct world *w = together_share(sizeof *w);
    char port[16];
    (void)state;
    snprintf(port, sizeof port, "%u", ras_port = free_port());
    setenv("SIM_NCCL_RAS", port, 1);
    assert_int_equal(ncclGetUniqueId(&w->id), ncclSuccess);
    together(RANKS, 0, run_one_behind, w);
    unsetenv("SIM_NCCL_RAS");
}

/* ---- a device works by itself ---- */

struct gate {
    _Atomic int open, passed; /* -1: it never was opened */
};

static void CUDART_CB wait_for_gate(void *context)
{
    struct gate *gate = context;
    uint64_t until_ns = clock_mono_ns() + GATE_S * NS_PER_S;
    while (!atomic_load(&gate->open) && clock_mono_ns() < until_ns)
        usleep(LOOK_US);
    atomic_store(&gate->passed, atomic_load(&gate->open) ? 1 : -1);
}

static bool comes(cudaEvent_t event)
{
    uint64_t until_ns = clock_mono_ns() + GATE_S * NS_PER_S;
    cudaError_t error;
    while ((error = cudaEventQuery(event)) == cudaErrorNotReady && clock_mono_ns() < until_ns)
        usleep(LOOK_US);
    return error == cudaSuccess;
}

static void test_who_is_told_at_once_waits_for_no_call_of_the_host(void **state)
{
    static struct gate gate;
    cudaStream_t stream, other;
    cudaEvent_t before, behind;
    size_t free_before = 0, free_behind = 0, whole = 0;
    void *at = NULL;
    (void)state;
    assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
    assert_int_equal(cudaEventCreateWithFlags(&before, cudaEventDisableTiming), cudaSuccess);
    assert_int_equal(cudaEventCreateWithFlags(&behind, cudaEventDisableTiming), cudaSuccess);
    assert_int_equal(cudaMemGetInfo(&free_before, &whole), cudaSuccess);
    assert_int_equal(cudaMalloc(&at, 64), cudaSuccess);
    assert_int_equal(cudaEventRecord(before, stream), cudaSuccess);
    assert_int_equal(cudaLaunchHostFunc(stream, wait_for_gate, &gate), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(at, 1, 64, stream), cudaSuccess);
    assert_int_equal(cudaFreeAsync(at, stream), cudaSuccess);
    assert_int_equal(cudaEventRecord(behind, stream), cudaSuccess);
    assert_int_equal(cudaEventQuery(behind), cudaErrorNotReady);
    assert_int_equal(cudaEventQuery(before), cudaSuccess);
    assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
    assert_int_equal(cudaEventRecord(behind, stream), cudaErrorInvalidResourceHandle);
    assert_int_equal(cudaStreamSynchronize(other), cudaSuccess); /* one stream is held up, and no other */
    assert_int_equal(cudaEventQuery(behind), cudaErrorNotReady);
    assert_int_equal(atomic_load(&gate.passed), 0);
    atomic_store(&gate.open, 1);
    assert_true(comes(behind));
    assert_int_equal(atomic_load(&gate.passed), 1);
    assert_int_equal(cudaMemGetInfo(&free_behind, &whole), cudaSuccess);
    assert_int_equal(free_behind, free_before);
    assert_int_equal(cudaStreamDestroy(other), cudaSuccess);
    assert_int_equal(cudaEventDestroy(before), cudaSuccess);
    assert_int_equal(cudaEventDestroy(behind), cudaSuccess);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_collectives_are_done_between_processes),
                                       cmocka_unit_test(test_the_order_is_the_streams),
                                       cmocka_unit_test(test_a_group_sends_and_receives_at_once),
                                       cmocka_unit_test(test_communicators_are_split_and_shrunk),
                                       cmocka_unit_test(test_a_dead_peer_is_an_asynchronous_error),
                                       cmocka_unit_test(test_the_one_that_is_behind_is_told_by_ras),
                                       cmocka_unit_test(test_who_is_told_at_once_waits_for_no_call_of_the_host)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
