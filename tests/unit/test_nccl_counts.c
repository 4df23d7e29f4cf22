/* SPDX-License-Identifier: Apache-2.0 */

/* libtidemark_nccl on the simulator: what it counts, who a communicator is, and how survivors get out of a dead one. */

#include "tests/unit/nccl_world.h"

#include <pthread.h>

#include "ckpt/base/clock.h"

#define OUT_MS 2000

static void run_equal(int rank, int ranks, void *shared)
{
    ncclComm_t comm = join(rank, ranks, shared), half = NULL;
    float *at = floats();
    must(ncclCommSplit(comm, rank == 1 ? NCCL_SPLIT_NOCOLOR : 3, rank, &half, NULL) == ncclSuccess);
    for (int i = 0; i < 5; i++)
        must(ncclAllReduce(at, at, 4, ncclFloat32, ncclSum, comm, NULL) == ncclSuccess);
    must(ncclBcast(at, 4, ncclFloat32, 0, comm, NULL) == ncclSuccess); /* one, though NCCL makes another call of it */
    if (half)
        must(ncclAllGather(at, at, 1, ncclFloat32, half, NULL) == ncclSuccess);
    must(ncclGroupStart() == ncclSuccess);
    must(ncclSend(at, 1, ncclFloat32, (rank + 1) % ranks, comm, NULL) == ncclSuccess);
    must(ncclRecv(at, 1, ncclFloat32, (rank + ranks - 1) % ranks, comm, NULL) == ncclSuccess);
    char why[256] = "";
    must(tide_nccl_may_record(why, sizeof why) == TIDE_E_STATE && strstr(why, "ncclGroupStart"));
    must(ncclGroupEnd() == ncclSuccess && cudaStreamSynchronize(NULL) == cudaSuccess);
    tell(shared, rank);
    must(half == NULL || ncclCommDestroy(half) == ncclSuccess);
    must(ncclCommDestroy(comm) == ncclSuccess);
    must(tide_nccl_comms((struct control_comm[1]){{0}}, 1) == 0);
}

static void test_equal_counts_are_a_cut(void **state)
{
    char why[256] = "";
    struct world *w = world_make();
    (void)state;
    together(RANKS, 0, run_equal, w);
    assert_int_equal(w->count[0], 2);
    assert_int_equal(w->count[1], 1);
    assert_int_equal(w->told[0][0].collectives, 6);
    assert_int_equal(w->told[2][1].collectives, 1);
    assert_int_equal(w->told[2][1].size, 2);
    assert_true(w->told[0][0].sent == 1 && w->told[0][0].received == 1 && w->told[0][0].balance != 0);
    assert_true(w->told[0][1].id == w->told[2][1].id && w->told[0][1].id != w->told[0][0].id);
    assert_string_equal(w->told[0][1].name, "nccl 0.0 split 0:3");
    assert_int_equal(judge(w, why, sizeof why), CUT_FITS);
}

/* The same program in the next generation, with another unique id. */
static void test_an_identity_outlives_the_unique_id(void **state)
{
    struct world *first = world_make();
    (void)state;
    together(RANKS, 0, run_equal, first);
    ncclUniqueId before = first->id;
    /* Its process would be another, and count from 0 again. */
    struct world *second = together_share(sizeof *second);
    memcpy(&second->id, &first->id, sizeof second->id);
    for (int i = 0; i < 32; i++)
        second->id.internal[i] = second->id.internal[i] == '0' ? '1' : '0';
    assert_memory_not_equal(&before, &second->id, 32);
    together(RANKS, 0, run_equal, second);
    assert_true(first->told[1][0].id == second->told[1][0].id && first->told[0][1].id == second->told[0][1].id);
}

static void run_only_simulated(int rank, int ranks, void *shared)
{
    ncclComm_t comm = join(rank, ranks, shared);
    ncclSimInfo_t info = NCCL_SIM_INFO_INITIALIZER;
    float *at = floats();
    must(ncclGroupStart() == ncclSuccess);
    must(ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, comm, NULL) == ncclSuccess);
    must(ncclGroupSimulateEnd(&info) == ncclSuccess && cudaStreamSynchronize(NULL) == cudaSuccess);
    tell(shared, rank);
    must(ncclCommDestroy(comm) == ncclSuccess);
}

static void test_a_group_that_is_only_simulated_has_ended(void **state)
{
    char why[256] = "";
    struct world *w = world_make();
    (void)state;
    together(RANKS, 0, run_only_simulated, w);
    assert_int_equal(judge(w, why, sizeof why), CUT_FITS);
}

/* NCCL tells it when the group ends, and by then nobody asks us. */
static void run_split_in_a_group(int rank, int ranks, void *shared)
{
    ncclComm_t comm = join(rank, ranks, shared), child = NULL;
    char why[256] = "";
    must(ncclGroupStart() == ncclSuccess);
    must(ncclCommSplit(comm, rank == 1 ? NCCL_SPLIT_NOCOLOR : 0, rank, &child, NULL) == ncclSuccess && child == NULL);
    must(ncclGroupEnd() == ncclSuccess && (child == NULL) == (rank == 1));
    enum tide_status may = tide_nccl_may_record(why, sizeof why);
    must(rank == 1 ? may == TIDE_OK : may == TIDE_E_STATE && strstr(why, "split or shrunk inside a group"));
    must(tide_nccl_comms((struct control_comm[2]){{0}}, 2) == 1);
    must(child == NULL || ncclCommDestroy(child) == ncclSuccess);
    must(ncclCommDestroy(comm) == ncclSuccess);
}

static void test_a_communicator_that_is_not_known_is_no_cut(void **state)
{
    (void)state;
    together(RANKS, 0, run_split_in_a_group, world_make());
}

static void run_ahead(int rank, int ranks, void *shared)
{
    ncclComm_t comm = join(rank, ranks, shared);
    float *at = floats();
    for (int i = 0; i < (rank == 2 ? 4 : 3); i++)
        must(ncclAllReduce(at, at, 4, ncclFloat32, ncclSum, comm, NULL) == ncclSuccess);
    tell(shared, rank);
    _exit(0); /* nobody will do them */
}

static void test_unequal_counts_are_none_and_named(void **state)
{
    char why[256] = "";
    struct world *w = world_make();
    (void)state;
    together(RANKS, 0, run_ahead, w);
    assert_int_equal(judge(w, why, sizeof why), CUT_MISFIT_COLLECTIVE);
    assert_non_null(strstr(why, "communicator nccl 0."));
    assert_non_null(strstr(why, "rank 0 has entered 3 and rank 2 4"));
}

/* As much was received as sent, but by others. */
static void run_crossed(int rank, int ranks, void *shared)
{
    ncclComm_t comm = join(rank, ranks, shared);
    float *at = floats();
    if (rank == 0)
        must(ncclSend(at, 1, ncclFloat32, 1, comm, NULL) == ncclSuccess);
    if (rank == 2)
        must(ncclRecv(at, 1, ncclFloat32, 1, comm, NULL) == ncclSuccess);
    tell(shared, rank);
    _exit(0);
}

static void run_under_way(int rank, int ranks, void *shared)
{
    ncclComm_t comm = join(rank, ranks, shared);
    float *at = floats();
    if (rank == 0)
        must(ncclSend(at, 1, ncclFloat32, 1, comm, NULL) == ncclSuccess);
    tell(shared, rank);
    _exit(0);
}

static void test_messages_under_way_are_no_cut(void **state)
{
    char why[256] = "";
    struct world *w = world_make();
    (void)state;
    together(RANKS, 0, run_under_way, w);
    assert_int_equal(judge(w, why, sizeof why), CUT_MISFIT_COLLECTIVE);
    assert_non_null(strstr(why, "1 were sent and 0 received"));
    together(RANKS, 0, run_crossed, w = world_make());
    assert_int_equal(judge(w, why, sizeof why), CUT_MISFIT_COLLECTIVE);
    assert_non_null(strstr(why, "1 were sent and 1 received, not by those"));
}

/* Whoever is left waits for its stream alone, as programs do. */
static void run_with_a_death(int rank, int ranks, void *shared)
{
    ncclComm_t comm = join(rank, ranks, shared), child = NULL;
    ncclResult_t error = ncclSuccess;
    char why[256] = "";
    float *at = floats();
    if (rank == 1)
        raise(SIGKILL);
    uint64_t begin = clock_mono_ns();
    must(ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, comm, NULL) == ncclSuccess);
    must(cudaStreamSynchronize(NULL) == cudaSuccess && clock_mono_ns() - begin < OUT_MS * NS_PER_MS);
    must(ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, comm, NULL) == ncclRemoteError);
    must(ncclCommGetAsyncError(comm, &error) == ncclSuccess && error == ncclRemoteError);
    must(ncclCommSplit(comm, 0, 0, &child, NULL) == ncclRemoteError && ncclCommFinalize(comm) == ncclRemoteError);
    must(tide_nccl_may_record(why, sizeof why) == TIDE_E_STATE && strstr(why, "has failed"));
    must(ncclCommDestroy(comm) == ncclSuccess && tide_nccl_may_record(why, sizeof why) == TIDE_OK);
}

/* NCCL has freed it, and is not asked about it. */
static void run_questions_of_a_dead_one(int rank, int ranks, void *shared)
{
    ncclComm_t comm = join(rank, ranks, shared);
    int number = -1;
    void *registered = NULL;
    ncclWindow_t window = NULL;
    ncclRedOp_t op = ncclSum;
    float *at = floats(), scalar = 1.0f;
    must(ncclCommCount(comm, &number) == ncclSuccess && number == ranks);
    must(ncclCommUserRank(comm, &number) == ncclSuccess && number == rank);
    must(ncclCommCuDevice(comm, &number) == ncclSuccess && number == 0);
    if (rank == 1)
        raise(SIGKILL);
    must(ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, comm, NULL) == ncclSuccess);
    must(cudaStreamSynchronize(NULL) == cudaSuccess);
    number = -1;
    must(ncclCommCount(comm, &number) == ncclRemoteError && ncclCommUserRank(comm, &number) == ncclRemoteError);
    must(ncclCommCuDevice(comm, &number) == ncclRemoteError && number == -1);
    must(ncclCommRegister(comm, at, 64, &registered) == ncclRemoteError && registered == NULL);
    must(ncclCommWindowRegister(comm, at, 64, &window, 0) == ncclRemoteError && window == NULL);
    must(ncclRedOpCreatePreMulSum(&op, &scalar, ncclFloat32, ncclScalarHostImmediate, comm) == ncclRemoteError);
    must(ncclCommDeregister(comm, at) == ncclSuccess && ncclCommWindowDeregister(comm, window) == ncclSuccess);
    must(ncclRedOpDestroy(op, comm) == ncclSuccess && ncclCommRevoke(comm, NCCL_REVOKE_DEFAULT) == ncclSuccess);
    must(ncclCommAbort(comm) == ncclSuccess);
}

static void test_a_dead_one_is_not_asked(void **state)
{
    (void)state;
    together(RANKS, 1, run_questions_of_a_dead_one, world_make());
}

static void test_survivors_leave_a_dead_collective(void **state)
{
    (void)state;
    together(RANKS, 1, run_with_a_death, world_make());
}

/* One sits in a call, another's stream stands: the former is got out, too. */
static void run_with_an_error(int rank, int ranks, void *shared)
{
    ncclComm_t comm = join(rank, ranks, shared);
    float *at = floats();
    uint64_t begin = clock_mono_ns();
    ncclResult_t result = ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, comm, NULL);
    must(cudaStreamSynchronize(NULL) == cudaSuccess && clock_mono_ns() - begin < OUT_MS * NS_PER_MS);
    ncclResult_t error = rank == 1 ? ncclSystemError : ncclRemoteError;
    must(result == error || (rank != 0 && result == ncclSuccess)); /* the watch may have seen it before the call is over */
    must(ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, comm, NULL) == error);
    must(ncclCommAbort(comm) == ncclSuccess);
}

static void test_an_error_of_one_gets_all_out(void **state)
{
    char hang[128], error[128];
    (void)state;
    snprintf(hang, sizeof hang, "/tmp/sim-nccl-hang.%d", getpid());
    snprintf(error, sizeof error, "/tmp/sim-nccl-error.%d", getpid());
    char text[256];
    snprintf(text, sizeof text, "0:1:%s", hang);
    setenv("SIM_NCCL_HANG", text, 1);
    snprintf(text, sizeof text, "1:1:%s", error);
    setenv("SIM_NCCL_ERROR", text, 1);
    together(RANKS, 0, run_with_an_error, world_make());
    unsetenv("SIM_NCCL_HANG");
    unsetenv("SIM_NCCL_ERROR");
    assert_int_equal(unlink(hang), 0);
    assert_int_equal(unlink(error), 0);
}

/* ---- from one generation to the next in the process ---- */

#define MANY 70 /* more than are aborted at a time */

static void run_many(int rank, int ranks, void *shared)
{
    struct control_comm told[COMMS_MAX];
    ncclComm_t comms[MANY] = {join(rank, ranks, shared)};
    for (int i = 1; i < MANY; i++)
        must(ncclCommSplit(comms[0], 0, rank, &comms[i], NULL) == ncclSuccess);
    tide_nccl_leave();
    must(tide_nccl_comms(told, COMMS_MAX) == 0);
    float *at = floats();
    for (int i = 0; i < MANY; i++)
        must(ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, comms[i], NULL) == ncclRemoteError && ncclCommDestroy(comms[i]) == ncclSuccess);
}

static void test_of_many_none_goes_over(void **state)
{
    (void)state;
    struct world *w = world_make();
    setenv("SIM_NCCL_ABORTS_MEET", "64", 1);
    together(1, 0, run_many, w);
    unsetenv("SIM_NCCL_ABORTS_MEET");
}

/* The program does not end them. */
static void run_past(int rank, int ranks, void *shared)
{
    char why[256] = "";
    (void)rank, (void)ranks, (void)shared;
    for (unsigned i = 0; i < CONTROL_COMMS_MAX; i++) {
        ncclUniqueId id;
        ncclComm_t comm = NULL;
        must(ncclGetUniqueId(&id) == ncclSuccess && ncclCommInitRank(&comm, 1, id, 0) == ncclSuccess);
    }
    must(tide_nccl_may_record(why, sizeof why) == TIDE_E_LIMIT && strstr(why, "1024 NCCL communicators"));
    tide_nccl_leave();
    must(tide_nccl_may_record(why, sizeof why) == TIDE_OK);
}

static void test_those_of_before_are_not_too_many(void **state)
{
    (void)state;
    together(1, 0, run_past, world_make());
}

struct two_worlds {
    struct world now, then;
    _Atomic int made;
};

static void *end_generation(void *unused)
{
    const struct timespec pause = {.tv_nsec = 20 * NS_PER_MS};
    nanosleep(&pause, NULL);
    tide_nccl_over();
    return unused;
}

/* Rank 2 does not come: nothing is wrong that NCCL would know of. */
static void run_over(int rank, int ranks, void *shared)
{
    struct two_worlds *w = shared;
    ncclComm_t old = join(rank, ranks, &w->now), comm;
    struct control_comm told[COMMS_MAX];
    char why[256] = "";
    float *at = floats();
    pthread_t thread;
    must(tide_nccl_comms(told, COMMS_MAX) == 1);
    uint64_t begin = clock_mono_ns();
    must(pthread_create(&thread, NULL, end_generation, NULL) == 0);
    must(rank == 2 || ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, old, NULL) == ncclSuccess);
    must(cudaStreamSynchronize(NULL) == cudaSuccess && clock_mono_ns() - begin < OUT_MS * NS_PER_MS);
    must(pthread_join(thread, NULL) == 0);
    must(ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, old, NULL) == ncclRemoteError);
    must(tide_nccl_may_record(why, sizeof why) == TIDE_E_STATE);
    tide_nccl_leave();
    must(tide_nccl_may_record(why, sizeof why) == TIDE_OK && tide_nccl_comms(told, COMMS_MAX) == 0);
    must(ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, old, NULL) == ncclRemoteError && ncclCommDestroy(old) == ncclSuccess);
    if (rank == 0)
        must(ncclGetUniqueId(&w->then.id) == ncclSuccess);
    for (w->made += rank == 0; w->made == 0;)
        nanosleep(&(struct timespec){.tv_nsec = NS_PER_MS}, NULL);
    comm = join(rank, ranks, &w->then);
    must(tide_nccl_comms(told, COMMS_MAX) == 1 && strcmp(told[0].name, "nccl 0.0") == 0 && told[0].collectives == 0);
    must(ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, comm, NULL) == ncclSuccess);
    must(cudaStreamSynchronize(NULL) == cudaSuccess);
    must(tide_nccl_comms(told, COMMS_MAX) == 1 && told[0].collectives == 1);
    must(tide_nccl_may_record(why, sizeof why) == TIDE_OK && ncclCommDestroy(comm) == ncclSuccess);
}

static void test_what_goes_over_counts_from_the_beginning(void **state)
{
    (void)state;
    struct two_worlds *w = together_share(sizeof *w);
    struct world *first = world_make();
    w->now = *first;
    together(RANKS, 0, run_over, w);
}

static char mark[128];

/* Real ones that hang in each other: none has an end before both are aborted. */
static void run_aborted_side_by_side(int rank, int ranks, void *shared)
{
    struct world *w = shared;
    ncclComm_t first = join(rank, ranks, w), second = join(rank, ranks, w + 1);
    float *at = floats();
    ncclResult_t error = ncclSuccess;
    if (rank == 1)
        raise(SIGKILL);
    uint64_t begin = clock_mono_ns();
    must(ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, first, NULL) == ncclSuccess);
    must(ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, second, NULL) == ncclSuccess);
    must(cudaStreamSynchronize(NULL) == cudaSuccess && clock_mono_ns() - begin < OUT_MS * NS_PER_MS);
    must(ncclCommGetAsyncError(first, &error) == ncclSuccess && error == ncclRemoteError);
    must(ncclCommGetAsyncError(second, &error) == ncclSuccess && error == ncclRemoteError);
}

static void test_the_watch_aborts_side_by_side(void **state)
{
    struct world *w = together_share(2 * sizeof *w);
    (void)state;
    *w = *world_make();
    assert_int_equal(ncclGetUniqueId(&w[1].id), ncclSuccess);
    setenv("SIM_NCCL_ABORTS_MEET", "2", 1);
    together(RANKS, 1, run_aborted_side_by_side, w);
    unsetenv("SIM_NCCL_ABORTS_MEET");
}

/* One rank alone, to whose first collective that happens. */
static void with_fault(const char *fault, void (*run)(int rank, int ranks, void *shared))
{
    char text[256];
    snprintf(mark, sizeof mark, "/tmp/%s.%d", fault, getpid());
    snprintf(text, sizeof text, "0:1:%s", mark);
    setenv(fault, text, 1);
    together(1, 0, run, world_make());
    unsetenv(fault);
    assert_int_equal(unlink(mark), 0);
}

static void *abort_who_hangs(void *comm)
{
    while (access(mark, F_OK) != 0)
        usleep(1000);
    must(ncclCommAbort(comm) == ncclSuccess);
    return NULL;
}

static void run_aborted_by_the_program(int rank, int ranks, void *shared)
{
    pthread_t thread;
    ncclComm_t comm = join(rank, ranks, shared);
    float *at = floats();
    must(pthread_create(&thread, NULL, abort_who_hangs, comm) == 0);
    must(ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, comm, NULL) == ncclSystemError);
    must(pthread_join(thread, NULL) == 0);
    must(tide_nccl_comms((struct control_comm[1]){{0}}, 1) == 0);
}

static void test_a_call_comes_back_from_what_the_program_has_aborted(void **state)
{
    (void)state;
    with_fault("SIM_NCCL_HANG", run_aborted_by_the_program);
}

static void run_out_in_time(int rank, int ranks, void *shared)
{
    ncclComm_t comm = join(rank, ranks, shared);
    float *at = floats();
    must(ncclAllReduce(at, at, 1, ncclFloat32, ncclSum, comm, NULL) == ncclSystemError);
    must(strcmp(ncclGetLastError(comm), "no error") == 0);
    must(ncclCommAbort(comm) == ncclSuccess);
}

static void test_the_watch_lets_calls_come_back_first(void **state)
{
    (void)state;
    with_fault("SIM_NCCL_LINGER", run_out_in_time);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_equal_counts_are_a_cut),
                                       cmocka_unit_test(test_an_identity_outlives_the_unique_id),
                                       cmocka_unit_test(test_a_group_that_is_only_simulated_has_ended),
                                       cmocka_unit_test(test_a_communicator_that_is_not_known_is_no_cut),
                                       cmocka_unit_test(test_unequal_counts_are_none_and_named),
                                       cmocka_unit_test(test_messages_under_way_are_no_cut),
                                       cmocka_unit_test(test_survivors_leave_a_dead_collective),
                                       cmocka_unit_test(test_a_dead_one_is_not_asked),
                                       cmocka_unit_test(test_an_error_of_one_gets_all_out),
                                       cmocka_unit_test(test_what_goes_over_counts_from_the_beginning),
                                       cmocka_unit_test(test_of_many_none_goes_over),
                                       cmocka_unit_test(test_those_of_before_are_not_too_many),
                                       cmocka_unit_test(test_the_watch_aborts_side_by_side),
                                       cmocka_unit_test(test_a_call_comes_back_from_what_the_program_has_aborted),
                                       cmocka_unit_test(test_the_watch_lets_calls_come_back_first)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
