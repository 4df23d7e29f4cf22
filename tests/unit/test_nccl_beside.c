/* SPDX-License-Identifier: Apache-2.0 */

/* libtidemark_nccl where a process is several members of one communicator, a GPU for each: on the simulators. */

#define RANKS 2
#include "tests/unit/nccl_told.h"

#include <pthread.h>
#include <stdatomic.h>

#define GPUS 2 /* of each process */
#define MEMBERS (RANKS * GPUS)
#define APART_US 12000 /* more than MARK_GAP_NS, by a clock of a few milliseconds */
#define CALM 3
#define OUT_MS 5000
#define SOON_MS 10000

/* What a process has on each of its GPUs. */
struct gpus {
    ncclComm_t comm[GPUS];
    float *at[GPUS], *other[GPUS];
};

static void buffers(struct gpus *g)
{
    for (int i = 0; i < GPUS; i++) {
        must(cudaSetDevice(i) == cudaSuccess);
        g->at[i] = floats();
        g->other[i] = floats();
    }
}

static struct gpus join_with_all(int rank, struct world *w)
{
    struct gpus g;
    must(ncclGroupStart() == ncclSuccess);
    for (int i = 0; i < GPUS; i++) {
        must(cudaSetDevice(i) == cudaSuccess);
        must(ncclCommInitRank(&g.comm[i], MEMBERS, w->id, rank * GPUS + i) == ncclSuccess);
    }
    must(ncclGroupEnd() == ncclSuccess);
    buffers(&g);
    return g;
}

static void synchronize(void)
{
    for (int i = 0; i < GPUS; i++)
        must(cudaSetDevice(i) == cudaSuccess && cudaStreamSynchronize(NULL) == cudaSuccess);
}

/* Into the default stream of each, while one of the GPUs is in use. */
static void reduce_all(const struct gpus *g)
{
    usleep(APART_US);
    must(ncclGroupStart() == ncclSuccess);
    for (int i = 0; i < GPUS; i++)
        must(ncclAllReduce(g->at[i], g->at[i], 4, ncclFloat32, ncclSum, g->comm[i], NULL) == ncclSuccess);
    must(ncclGroupEnd() == ncclSuccess);
}

static void destroy_all(const struct gpus *g)
{
    for (int i = 0; i < GPUS; i++)
        must(ncclCommDestroy(g->comm[i]) == ncclSuccess);
    must(tide_nccl_comms((struct control_comm[1]){{0}}, 1) == 0);
}

/* ---- counts ---- */

static void pass_on(const struct gpus *g, int rank)
{
    must(ncclGroupStart() == ncclSuccess);
    for (int i = 0; i < GPUS; i++) {
        int member = rank * GPUS + i;
        must(ncclSend(g->at[i], 4, ncclFloat32, (member + 1) % MEMBERS, g->comm[i], NULL) == ncclSuccess);
        must(ncclRecv(g->other[i], 4, ncclFloat32, (member + MEMBERS - 1) % MEMBERS, g->comm[i], NULL) == ncclSuccess);
    }
    must(ncclGroupEnd() == ncclSuccess);
}

static void run_equal(int rank, int ranks, void *shared)
{
    struct gpus g = join_with_all(rank, shared);
    (void)ranks;
    for (int i = 0; i < GPUS; i++)
        ((float *)sim_view(g.at[i]))[0] = (float)(rank * GPUS + i + 1);
    for (int i = 0; i < CALM; i++)
        reduce_all(&g);
    pass_on(&g, rank);
    synchronize();
    for (int i = 0; i < GPUS; i++) /* 1 + 2 + 3 + 4, and the sum of four such, and again */
        must(((float *)sim_view(g.at[i]))[0] == 160.0f && ((float *)sim_view(g.other[i]))[0] == 160.0f);
    tell(shared, rank);
    destroy_all(&g);
}

static void test_each_member_is_counted(void **state)
{
    char why[256] = "";
    struct world *w = world_make();
    (void)state;
    together(RANKS, 0, run_equal, w);
    for (int r = 0; r < RANKS; r++) {
        assert_int_equal(w->count[r], GPUS);
        for (int i = 0; i < GPUS; i++) {
            const struct control_comm *c = &w->told[r][i];
            assert_true(c->id == w->told[0][0].id && c->size == MEMBERS && c->collectives == CALM);
            assert_true(c->sent == 1 && c->received == 1 && strcmp(c->name, "nccl 0.0") == 0);
        }
    }
    assert_int_equal(judge(w, why, sizeof why), CUT_FITS);
}

/* One of them has entered one more. */
static void run_unequal(int rank, int ranks, void *shared)
{
    struct gpus g = join_with_all(rank, shared);
    ncclSimInfo_t info = NCCL_SIM_INFO_INITIALIZER;
    (void)ranks;
    must(ncclGroupStart() == ncclSuccess);
    if (rank == 1)
        must(ncclAllReduce(g.at[1], g.at[1], 4, ncclFloat32, ncclSum, g.comm[1], NULL) == ncclSuccess);
    must(ncclGroupSimulateEnd(&info) == ncclSuccess);
    tell(shared, rank);
    destroy_all(&g);
}

static void test_members_that_differ_are_no_cut(void **state)
{
    char why[256] = "";
    struct world *w = world_make();
    (void)state;
    together(RANKS, 0, run_unequal, w);
    assert_int_equal(judge(w, why, sizeof why), CUT_MISFIT_COLLECTIVE);
    assert_non_null(strstr(why, "rank 0 has entered 0 and rank 1 1"));
}

/* ---- messages ---- */

struct marked_world {
    struct world world;
    struct control_channel channels[RANKS][MEMBERS];
    _Atomic int marked;
};

/* The bookmarks of all, as steps exchange them: those that lead to this rank. */
static size_t exchange(struct marked_world *w, int rank, struct control_channel *arriving)
{
    size_t count = 0;
    must(tide_nccl_channels(w->channels[rank], MEMBERS) == 3);
    for (atomic_fetch_add(&w->marked, 1); atomic_load(&w->marked) < RANKS;)
        usleep(LOOK_US);
    for (int r = 0; r < RANKS; r++)
        for (int i = 0; i < 3; i++)
            if ((int)w->channels[r][i].to / GPUS == rank)
                arriving[count++] = w->channels[r][i];
    return count;
}

static float received(const struct gpus *g, int i, int from)
{
    must(ncclRecv(g->other[i], 4, ncclFloat32, from, g->comm[i], NULL) == ncclSuccess);
    synchronize();
    return ((float *)sim_view(g->other[i]))[0];
}

/* From the first of each process to its second, and to both of the other's: they are taken for the checkpoint, and each member gets its
 * own. */
static void run_taken(int rank, int ranks, void *shared)
{
    struct marked_world *w = shared;
    struct gpus g = join_with_all(rank, &w->world);
    struct control_channel arriving[MEMBERS];
    char why[256] = "";
    int own = rank * GPUS, others = (ranks - 1 - rank) * GPUS;
    const int to[] = {own + 1, others, others + 1};
    float *each[] = {g.at[0], g.other[0], g.at[0] + 4};
    for (int i = 0; i < 3; i++) {
        ((float *)sim_view(each[i]))[0] = (float)(10 * own + to[i]);
        must(ncclSend(each[i], 4, ncclFloat32, to[i], g.comm[0], NULL) == ncclSuccess);
    }
    must(exchange(w, rank, arriving) == 3);
    must(tide_nccl_take(arriving, 3, 1024, clock_mono_ns() + SOON_MS * NS_PER_MS, why, sizeof why) == TIDE_OK);
    must(tide_nccl_held_bytes() > 0);
    tell(&w->world, rank);
    must(received(&g, 1, others) == (float)(10 * others + own + 1) && received(&g, 0, others) == (float)(10 * others + own));
    must(received(&g, 1, own) == (float)(10 * own + own + 1) && tide_nccl_held_bytes() == 0);
    destroy_all(&g);
}

static void test_messages_to_each_member_are_taken(void **state)
{
    char why[256] = "";
    struct marked_world *w = together_share(sizeof *w);
    (void)state;
    w->world = *world_make();
    together(RANKS, 0, run_taken, w);
    assert_int_equal(judge(&w->world, why, sizeof why), CUT_FITS);
}

/* ---- who it is ---- */

static struct gpus make_all(void)
{
    struct gpus g;
    must(ncclCommInitAll(g.comm, GPUS, NULL) == ncclSuccess);
    buffers(&g);
    return g;
}

static void run_alone(int rank, int ranks, void *shared)
{
    struct gpus g = make_all(), second = make_all();
    (void)ranks;
    for (int i = 0; i < CALM; i++)
        reduce_all(&g);
    synchronize();
    tell(shared, rank);
    for (int i = 0; i < GPUS; i++)
        must(ncclCommDestroy(second.comm[i]) == ncclSuccess);
    destroy_all(&g);
}

static void test_one_that_is_in_one_process_is_its_own(void **state)
{
    char why[256] = "";
    struct world *w = world_make(), *again = world_make();
    (void)state;
    together(RANKS, 0, run_alone, w);
    together(RANKS, 0, run_alone, again);
    assert_int_equal(judge(w, why, sizeof why), CUT_FITS);
    const struct control_comm *c = w->told[1];
    assert_true(w->count[1] == 2 * (size_t)GPUS && c[0].id == c[1].id && c[2].id == c[3].id && c[0].id != c[2].id);
    assert_true(c[0].id != w->told[0][0].id && c[0].size == GPUS && c[0].collectives == CALM && c[2].collectives == 0);
    assert_memory_equal(w->told, again->told, sizeof w->told); /* in the next generation, too */
}

/* ---- how far they are ---- */

static bool calm(const struct control_progress_comm *is)
{
    return is->begun == CALM && is->done == CALM && is->undone == 0 && is->unreached == 0;
}

static void run_told(int rank, int ranks, void *shared)
{
    tide_nccl_tell(&progress);
    struct gpus g = join_with_all(rank, shared);
    (void)ranks;
    for (int i = 0; i < CALM; i++)
        reduce_all(&g);
    synchronize();
    for (unsigned i = 0; i < GPUS; i++)
        must(await_told(i, calm).member == (unsigned)rank * GPUS + i);
    tide_nccl_tell(NULL);
    destroy_all(&g);
}

static void test_each_member_is_told_of(void **state)
{
    (void)state;
    together(RANKS, 0, run_told, world_make());
}

/* ---- the end ---- */

static void must_be_dead(const struct gpus *g, ncclResult_t how)
{
    for (int i = 0; i < GPUS; i++) {
        ncclResult_t error = ncclSuccess;
        must(ncclCommGetAsyncError(g->comm[i], &error) == ncclSuccess && error == how);
        must(ncclAllReduce(g->at[i], g->at[i], 4, ncclFloat32, ncclSum, g->comm[i], NULL) == how);
    }
}

static void run_with_a_death(int rank, int ranks, void *shared)
{
    struct gpus g = join_with_all(rank, shared);
    char why[256] = "";
    (void)ranks;
    if (rank == 1)
        raise(SIGKILL);
    uint64_t begin = clock_mono_ns();
    reduce_all(&g);
    synchronize();
    must(clock_mono_ns() - begin < OUT_MS * NS_PER_MS);
    must_be_dead(&g, ncclRemoteError);
    must(tide_nccl_may_record(why, sizeof why) == TIDE_E_STATE && strstr(why, "has failed"));
    destroy_all(&g);
    must(tide_nccl_may_record(why, sizeof why) == TIDE_OK);
}

/* No abort of one comes to an end before all are begun. */
static void test_all_members_of_a_survivor_are_aborted(void **state)
{
    (void)state;
    setenv("SIM_NCCL_ABORTS_MEET", "2", 1);
    together(RANKS, 1, run_with_a_death, world_make());
    unsetenv("SIM_NCCL_ABORTS_MEET");
}

static void *end_generation(void *unused)
{
    usleep(APART_US);
    tide_nccl_over();
    return unused;
}

/* Of a member alone that waits for the other one of its process. */
static void run_over(int rank, int ranks, void *shared)
{
    struct gpus g = make_all();
    struct control_comm told[COMMS_MAX];
    pthread_t thread;
    (void)rank, (void)ranks, (void)shared;
    must(pthread_create(&thread, NULL, end_generation, NULL) == 0);
    must(ncclAllReduce(g.at[0], g.at[0], 4, ncclFloat32, ncclSum, g.comm[0], NULL) == ncclSuccess);
    synchronize();
    must(pthread_join(thread, NULL) == 0);
    must_be_dead(&g, ncclRemoteError);
    tide_nccl_leave();
    must(tide_nccl_comms(told, COMMS_MAX) == 0);
    destroy_all(&g);
    g = make_all();
    must(tide_nccl_comms(told, COMMS_MAX) == GPUS && told[1].collectives == 0);
    reduce_all(&g);
    synchronize();
    must(tide_nccl_comms(told, COMMS_MAX) == GPUS && told[0].collectives == 1 && told[1].collectives == 1);
    destroy_all(&g);
}

static void test_all_members_go_over(void **state)
{
    (void)state;
    together(1, 0, run_over, world_make());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_member_is_counted),
        cmocka_unit_test(test_members_that_differ_are_no_cut),
        cmocka_unit_test(test_messages_to_each_member_are_taken),
        cmocka_unit_test(test_one_that_is_in_one_process_is_its_own),
        cmocka_unit_test(test_each_member_is_told_of),
        cmocka_unit_test(test_all_members_of_a_survivor_are_aborted),
        cmocka_unit_test(test_all_members_go_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
