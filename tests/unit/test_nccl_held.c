/* SPDX-License-Identifier: Apache-2.0 */

/* Messages of NCCL's that are under way at a record, on the simulator: libtidemark_nccl receives them, they are in the
 * checkpoint, and the program gets them all the same; then again after a restart. */

#include "tests/unit/nccl_world.h"

#include <string.h>

#include "ckpt/base/clock.h"

#define WAIT_S 20
#define SOON_MS 100
#define LOG_MAX ((size_t)4 << 20)
#define BYTES_MAX ((uint64_t)1 << 30)
#define BIG ((size_t)100000) /* floats: more than the simulator has between two ranks */

/* What the ranks' steps would carry, and what checkpoints hold. */
struct flight {
    struct world world;
    _Atomic uint32_t arrived;
    struct control_channel channels[RANKS][CONTROL_CHANNELS_MAX];
    size_t channel_count[RANKS];
    uint64_t log_bytes[RANKS];
    char logs[RANKS][LOG_MAX];
    int generation;
    uint32_t step; /* of the last cut */
    char mark[64];
};

static struct flight *flight_make(void)
{
    struct flight *f = together_share(sizeof *f);
    f->world = *world_make();
    return f;
}

static uint64_t in_ms(uint64_t ms)
{
    return clock_mono_ns() + ms * NS_PER_MS;
}

static void meet(struct flight *f)
{
    uint32_t round = atomic_fetch_add(&f->arrived, 1) / RANKS + 1;
    for (int i = 0; i < WAIT_S * 1000 && atomic_load(&f->arrived) < round * RANKS; i++)
        usleep(1000);
    must(atomic_load(&f->arrived) >= round * RANKS);
}

/* As libtidemark and the steps do it: all say what they have sent, then each takes what leads to it. */
static enum tide_status take(struct flight *f, int rank, uint64_t bytes_max, uint64_t ms, char *why, size_t size)
{
    struct control_member members[CONTROL_CHANNELS_MAX];
    struct control_channel arriving[CONTROL_CHANNELS_MAX];
    size_t member_count = tide_nccl_members(members, CONTROL_CHANNELS_MAX), count = 0;
    must(tide_nccl_may_record(why, size) == TIDE_OK);
    f->channel_count[rank] = tide_nccl_channels(f->channels[rank], CONTROL_CHANNELS_MAX);
    meet(f);
    for (size_t m = 0; m < member_count; m++)
        for (int r = 0; r < RANKS; r++)
            for (size_t i = 0; i < f->channel_count[r]; i++)
                if (f->channels[r][i].comm == members[m].comm && f->channels[r][i].to == members[m].rank)
                    arriving[count++] = f->channels[r][i];
    return tide_nccl_take(arriving, count, bytes_max, in_ms(ms), why, size);
}

static void save(struct flight *f, int rank)
{
    char why[256] = "";
    f->log_bytes[rank] = tide_nccl_held_bytes();
    must(f->log_bytes[rank] <= LOG_MAX);
    must(f->log_bytes[rank] == 0 ||
         tide_nccl_held_write(f->logs[rank], f->log_bytes[rank], in_ms(1000), why, sizeof why) == TIDE_OK);
    tell(&f->world, rank);
}

/* … which copies regions behind what is in the streams. */
static void record(struct flight *f, int rank)
{
    char why[256] = "";
    enum tide_status status = take(f, rank, BYTES_MAX, 5000, why, sizeof why);
    if (status != TIDE_OK)
        fprintf(stderr, "rank %d: %s\n", rank, why);
    must(status == TIDE_OK && cudaStreamSynchronize(NULL) == cudaSuccess);
    save(f, rank);
    meet(f);
}

static void restore(struct flight *f, int rank)
{
    char why[256] = "";
    if (f->log_bytes[rank] > 0)
        must(tide_nccl_load(f->logs[rank], f->log_bytes[rank], why, sizeof why) == TIDE_OK);
}

/* Bits of which no arithmetic leaves anything: NaNs, each another. */
static uint32_t bits_of(uint32_t message, size_t i)
{
    return UINT32_C(0x7f800001) + message * 1000 + (uint32_t)(i % 997);
}

static uint32_t *device_words(size_t count)
{
    uint32_t *at = NULL;
    must(cudaMalloc((void **)&at, count * sizeof *at) == cudaSuccess);
    return at;
}

static void send_message(ncclComm_t comm, int to, uint32_t message, size_t count)
{
    uint32_t *at = device_words(count), *view = sim_view(at);
    for (size_t i = 0; i < count; i++)
        view[i] = bits_of(message, i);
    must(ncclSend(at, count, ncclFloat32, to, comm, NULL) == ncclSuccess);
}

static void receive_in(cudaStream_t stream, ncclComm_t comm, int from, uint32_t message, size_t count)
{
    uint32_t *at = device_words(count);
    const uint32_t *view = sim_view(at);
    must(ncclRecv(at, count, ncclFloat32, from, comm, stream) == ncclSuccess);
    must(cudaStreamSynchronize(stream) == cudaSuccess);
    for (size_t i = 0; i < count; i++)
        must(view[i] == bits_of(message, i));
    must(cudaFree(at) == cudaSuccess);
}

static void receive_message(ncclComm_t comm, int from, uint32_t message, size_t count)
{
    receive_in(NULL, comm, from, message, count);
}

static ncclComm_t join_all(struct flight *f, int rank)
{
    struct world world = f->world;
    world.id.internal[0] = (char)('a' + f->generation); /* another in each generation */
    return join(rank, RANKS, &world);
}

#define LINE 12u
#define LAG 3u

/* Message n of a line of stages is `1 + 10 n` long, or BIG. */
static size_t length_of(uint32_t message)
{
    return message == 4 ? BIG : 1 + 10 * (size_t)message;
}

/* Rank 0 is `lag` messages ahead of rank 1, before and after. */
static void run_line(struct flight *f, int rank, ncclComm_t comm, uint32_t from, uint32_t until, uint32_t lag, uint32_t cut)
{
    cudaEvent_t sent[LINE];
    for (uint32_t n = from; n < until; n++) {
        must(cudaEventCreate(&sent[n]) == cudaSuccess);
        if (rank == 0)
            send_message(comm, 1, n, length_of(n));
        must(cudaEventRecord(sent[n], NULL) == cudaSuccess);
        if (n >= from + lag)
            must(cudaEventSynchronize(sent[n - lag]) == cudaSuccess); /* the simulator sends when somebody waits */
        if (rank == 1 && n >= lag)
            receive_message(comm, 0, n - lag, length_of(n - lag));
        if (n == cut)
            record(f, rank);
    }
    for (uint32_t n = until - lag; rank == 1 && n < until; n++)
        receive_message(comm, 0, n, length_of(n));
    must(cudaStreamSynchronize(NULL) == cudaSuccess);
}

static void run_pipeline(int rank, int ranks, void *shared)
{
    struct flight *f = shared;
    (void)ranks;
    ncclComm_t comm = join_all(f, rank);
    run_line(f, rank, comm, 0, LINE, LAG, f->step);
    must(tide_nccl_held_bytes() == 0);
    must(ncclCommDestroy(comm) == ncclSuccess);
}

static void run_pipeline_again(int rank, int ranks, void *shared)
{
    struct flight *f = shared;
    (void)ranks;
    restore(f, rank);
    must((tide_nccl_held_bytes() > 0) == (rank == 1));
    ncclComm_t comm = join_all(f, rank);
    run_line(f, rank, comm, f->step + 1, LINE, LAG, f->step + 1); /* there is another cut at once */
    must(tide_nccl_held_bytes() == 0);
    must(ncclCommDestroy(comm) == ncclSuccess);
}

static void test_messages_under_way_are_in_the_cut_and_come_again(void **state)
{
    char why[256] = "";
    struct flight *f = flight_make();
    (void)state;
    f->step = 5;
    together(RANKS, 0, run_pipeline, f);
    assert_true(f->log_bytes[1] > BIG * 4 && f->log_bytes[0] == 0 && f->log_bytes[2] == 0);
    assert_int_equal(judge(&f->world, why, sizeof why), CUT_FITS);
    assert_true(f->world.told[0][0].sent == 6 && f->world.told[1][0].received == 6);
    /* Each time from the cut of the time before, which holds what that one was given and has not seen. */
    for (f->generation = 1; f->generation <= 2; f->generation++, f->step++) {
        uint64_t before = f->log_bytes[1];
        atomic_store(&f->arrived, 0);
        together(RANKS, 0, run_pipeline_again, f);
        assert_int_equal(judge(&f->world, why, sizeof why), CUT_FITS);
        assert_true(f->log_bytes[1] != before && (f->log_bytes[1] > BIG * 4) == (f->generation == 1));
    }
}

/* Everybody sends to everybody in two communicators, and nobody has received the last. */
static void run_ring(int rank, int ranks, void *shared)
{
    struct flight *f = shared;
    ncclComm_t comm = join_all(f, rank), child = NULL;
    must(ncclCommSplit(comm, 0, ranks - rank, &child, NULL) == ncclSuccess); /* where ranks are in another order */
    int me = 0;
    must(ncclCommUserRank(child, &me) == ncclSuccess && me == ranks - 1 - rank);
    for (uint32_t round = 0; round < 4; round++) {
        for (int d = 1; d < ranks; d++) {
            send_message(comm, (rank + d) % ranks, 10 * round + (uint32_t)rank, 8);
            send_message(child, (me + d) % ranks, 100 + 10 * round + (uint32_t)me, 9);
        }
        must(cudaStreamSynchronize(NULL) == cudaSuccess);
        if (round == 1 || round == 2)
            record(f, rank); /* twice: what is held at the first is in the second, too */
        if (round == 1)
            continue;
        for (uint32_t r = round == 2 ? 1 : round; r <= round; r++)
            for (int d = 1; d < ranks; d++) {
                int from = (rank + d) % ranks, child_from = (me + d) % ranks;
                receive_message(child, child_from, 100 + 10 * r + (uint32_t)child_from, 9);
                receive_message(comm, from, 10 * r + (uint32_t)from, 8);
            }
    }
    must(tide_nccl_held_bytes() == 0);
    must(ncclCommDestroy(child) == ncclSuccess && ncclCommDestroy(comm) == ncclSuccess);
}

static void run_ring_again(int rank, int ranks, void *shared)
{
    struct flight *f = shared;
    restore(f, rank);
    uint64_t bytes = tide_nccl_held_bytes();
    must(bytes == f->log_bytes[rank] && bytes > 0);
    ncclComm_t comm = join_all(f, rank), child = NULL;
    must(ncclCommSplit(comm, 0, ranks - rank, &child, NULL) == ncclSuccess);
    int me = 0;
    must(ncclCommUserRank(child, &me) == ncclSuccess);
    for (uint32_t r = 1; r <= 2; r++)
        for (int d = 1; d < ranks; d++) {
            int from = (rank + d) % ranks, child_from = (me + d) % ranks;
            receive_message(comm, from, 10 * r + (uint32_t)from, 8);
            receive_message(child, child_from, 100 + 10 * r + (uint32_t)child_from, 9);
        }
    must(tide_nccl_held_bytes() == 0);
    must(ncclCommDestroy(child) == ncclSuccess && ncclCommDestroy(comm) == ncclSuccess);
}

static void test_all_channels_of_all_communicators_at_once(void **state)
{
    char why[256] = "";
    struct flight *f = flight_make();
    (void)state;
    together(RANKS, 0, run_ring, f);
    assert_int_equal(judge(&f->world, why, sizeof why), CUT_FITS);
    f->generation = 1;
    together(RANKS, 0, run_ring_again, f);
}

static void first_comes(ncclComm_t comm, int rank)
{
    if (rank == 0)
        send_message(comm, 1, 0, 5);
    must(cudaStreamSynchronize(NULL) == cudaSuccess);
    if (rank == 1)
        receive_message(comm, 0, 0, 5);
}

/* Rank 1 has so much to do before that the message does not come in time. */
static void run_late(int rank, int ranks, void *shared)
{
    struct flight *f = shared;
    char why[256] = "";
    (void)ranks;
    ncclComm_t comm = join_all(f, rank);
    first_comes(comm, rank);
    if (rank == 1)
        sim_work(NULL, 4 * SOON_MS * NS_PER_MS);
    if (rank == 0)
        send_message(comm, 1, 1, 5);
    enum tide_status status = take(f, rank, BYTES_MAX, SOON_MS, why, sizeof why);
    must(rank == 1 ? status == TIDE_E_TIMEOUT && strstr(why, "in time") : status == TIDE_OK);
    if (rank == 1) {
        cudaStream_t other = NULL; /* that waits for nothing by itself */
        must(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking) == cudaSuccess);
        receive_in(other, comm, 0, 1, 5);
    }
    must(cudaStreamSynchronize(NULL) == cudaSuccess);
    meet(f);
    if (rank == 0)
        send_message(comm, 1, 2, 5); /* and training goes on */
    record(f, rank);
    if (rank == 1)
        receive_message(comm, 0, 2, 5);
    must(tide_nccl_held_bytes() == 0 && ncclCommDestroy(comm) == ncclSuccess);
}

static void test_what_comes_too_late_is_not_lost(void **state)
{
    char why[256] = "";
    struct flight *f = flight_make();
    (void)state;
    together(RANKS, 0, run_late, f);
    assert_int_equal(judge(&f->world, why, sizeof why), CUT_FITS);
}

static void run_too_many(int rank, int ranks, void *shared)
{
    struct flight *f = shared;
    char why[256] = "";
    uint32_t many = CONTROL_CHANNEL_LAST + 1;
    (void)ranks;
    ncclComm_t comm = join_all(f, rank);
    first_comes(comm, rank);
    if (rank == 0)
        for (uint32_t n = 1; n <= many; n++)
            send_message(comm, 1, n, 5);
    enum tide_status status = take(f, rank, BYTES_MAX, 5000, why, sizeof why);
    must(rank == 1 ? status == TIDE_E_LIMIT && strstr(why, "9 messages of communicator nccl 0.") : status == TIDE_OK);
    must(tide_nccl_held_bytes() == 0);
    save(f, rank);
    for (uint32_t n = 1; rank == 1 && n <= many - 1; n++)
        receive_message(comm, 0, n, 5);
    must(cudaStreamSynchronize(NULL) == cudaSuccess);
    status = take(f, rank, 19, 5000, why, sizeof why);
    must(rank == 1 ? status == TIDE_E_LIMIT && strstr(why, "more than 19 bytes") : status == TIDE_OK);
    if (rank == 1)
        receive_message(comm, 0, many, 5);
    must(cudaStreamSynchronize(NULL) == cudaSuccess && ncclCommDestroy(comm) == ncclSuccess);
}

static void test_too_much_is_refused_by_name_and_goes_on(void **state)
{
    char why[256] = "";
    struct flight *f = flight_make();
    (void)state;
    together(RANKS, 0, run_too_many, f);
    assert_int_equal(judge(&f->world, why, sizeof why), CUT_MISFIT_COLLECTIVE);
    assert_non_null(strstr(why, "10 were sent and 1 received"));
}

/* Two are under way, and NCCL refuses the second: it still has both. */
static void run_refused(int rank, int ranks, void *shared)
{
    struct flight *f = shared;
    char why[256] = "", fault[256];
    (void)ranks;
    ncclComm_t comm = join_all(f, rank);
    first_comes(comm, rank);
    for (uint32_t n = 1; rank == 0 && n < 3; n++)
        send_message(comm, 1, n, 5);
    if (rank == 1) { /* the third that it receives */
        snprintf(fault, sizeof fault, "1:3:%s", f->mark);
        must(setenv("SIM_NCCL_REFUSE", fault, 1) == 0);
    }
    enum tide_status status = take(f, rank, BYTES_MAX, 5000, why, sizeof why);
    must(status == (rank == 1 ? TIDE_E_UNAVAILABLE : TIDE_OK));
    must(rank != 1 || strcmp(why, "messages that are under way cannot be received: NCCL's error 3") == 0);
    must(tide_nccl_held_bytes() == 0);
    tell(&f->world, rank);
    meet(f);
    for (uint32_t n = 1; rank == 1 && n < 3; n++)
        receive_message(comm, 0, n, 5);
    must(cudaStreamSynchronize(NULL) == cudaSuccess && ncclCommDestroy(comm) == ncclSuccess);
}

static void test_what_nccl_refuses_it_still_has(void **state)
{
    char why[256] = "";
    struct flight *f = flight_make();
    (void)state;
    snprintf(f->mark, sizeof f->mark, "/tmp/SIM_NCCL_REFUSE.%d", getpid());
    together(RANKS, 0, run_refused, f);
    assert_int_equal(unlink(f->mark), 0);
    assert_int_equal(judge(&f->world, why, sizeof why), CUT_MISFIT_COLLECTIVE);
    assert_non_null(strstr(why, "3 were sent and 1 received"));
}

/* What is in a stream when a call returns is not known then. */
static void run_in_background(int rank, int ranks, void *shared)
{
    struct flight *f = shared;
    char why[256] = "";
    ncclComm_t comm = NULL;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    must(ncclCommInitRankConfig(&comm, ranks, f->world.id, rank, &config) == ncclSuccess);
    first_comes(comm, rank);
    if (rank == 0)
        send_message(comm, 1, 1, 5);
    enum tide_status status = take(f, rank, BYTES_MAX, 5000, why, sizeof why);
    must(status == (rank == 1 ? TIDE_E_UNSUPPORTED : TIDE_OK));
    must(rank != 1 || strstr(why, "its calls do not block") != NULL);
    meet(f);
    if (rank == 1)
        receive_message(comm, 0, 1, 5);
    must(cudaStreamSynchronize(NULL) == cudaSuccess && ncclCommDestroy(comm) == ncclSuccess);
}

static void test_calls_in_the_background_are_refused_by_name(void **state)
{
    (void)state;
    together(RANKS, 0, run_in_background, flight_make());
}

/* Another length than was sent, a communicator that ends before; nothing is left of either. */
static void run_careless(int rank, int ranks, void *shared)
{
    struct flight *f = shared;
    uint32_t *at = device_words(16);
    (void)ranks;
    ncclComm_t comm = join_all(f, rank);
    first_comes(comm, rank);
    if (rank == 0)
        for (uint32_t n = 1; n < 3; n++)
            send_message(comm, 1, n, 5);
    record(f, rank);
    if (rank == 1) {
        must(ncclRecv(at, 6, ncclFloat32, 0, comm, NULL) == ncclInvalidUsage);
        receive_message(comm, 0, 1, 5);
        must(tide_nccl_held_bytes() > 0);
    }
    must(ncclCommDestroy(comm) == ncclSuccess && tide_nccl_held_bytes() == 0);
}

static void test_a_wrong_length_is_an_error_and_an_end_is_one(void **state)
{
    (void)state;
    together(RANKS, 0, run_careless, flight_make());
}

/* The communicator is on a GPU that is not the program's current one at its safe point, or when it receives. */
static void run_on_another_gpu(int rank, int ranks, void *shared)
{
    struct flight *f = shared;
    cudaStream_t stream = NULL;
    (void)ranks;
    must(cudaSetDevice(1) == cudaSuccess && cudaStreamCreate(&stream) == cudaSuccess);
    ncclComm_t comm = join_all(f, rank);
    if (rank == 0)
        send_message(comm, 1, 0, 5);
    must(cudaStreamSynchronize(NULL) == cudaSuccess);
    if (rank == 1)
        receive_in(stream, comm, 0, 0, 5);
    if (rank == 0)
        for (uint32_t n = 1; n < 3; n++)
            send_message(comm, 1, n, length_of(n));
    if (rank > 0)
        must(cudaSetDevice(0) == cudaSuccess);
    record(f, rank);
    int gpu = -1;
    must(cudaGetDevice(&gpu) == cudaSuccess && gpu == (rank == 0));
    for (uint32_t n = 1; rank == 1 && n < 3; n++)
        receive_in(stream, comm, 0, n, length_of(n));
    must(cudaGetDevice(&gpu) == cudaSuccess && gpu == (rank == 0));
    must(tide_nccl_held_bytes() == 0 && ncclCommDestroy(comm) == ncclSuccess);
}

static void test_the_gpu_is_that_of_the_communicator(void **state)
{
    char why[256] = "";
    struct flight *f = flight_make();
    (void)state;
    together(RANKS, 0, run_on_another_gpu, f);
    assert_true(f->log_bytes[1] > 0);
    assert_int_equal(judge(&f->world, why, sizeof why), CUT_FITS);
}

static void test_a_log_that_is_damaged_is_not_loaded(void **state)
{
    char why[256] = "", log[64] = "TIDMCHAN";
    (void)state;
    assert_int_equal(tide_nccl_load(log, 8, why, sizeof why), TIDE_E_CORRUPT);
    assert_int_equal(tide_nccl_load(log, sizeof log, why, sizeof why), TIDE_E_CORRUPT);
    assert_non_null(strstr(why, "channel log"));
    assert_int_equal(tide_nccl_held_bytes(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_messages_under_way_are_in_the_cut_and_come_again),
                                       cmocka_unit_test(test_all_channels_of_all_communicators_at_once),
                                       cmocka_unit_test(test_what_comes_too_late_is_not_lost),
                                       cmocka_unit_test(test_too_much_is_refused_by_name_and_goes_on),
                                       cmocka_unit_test(test_what_nccl_refuses_it_still_has),
                                       cmocka_unit_test(test_calls_in_the_background_are_refused_by_name),
                                       cmocka_unit_test(test_a_wrong_length_is_an_error_and_an_end_is_one),
                                       cmocka_unit_test(test_the_gpu_is_that_of_the_communicator),
                                       cmocka_unit_test(test_a_log_that_is_damaged_is_not_loaded)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
