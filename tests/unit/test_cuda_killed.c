/* SPDX-License-Identifier: Apache-2.0 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/unit/cuda_rank.h"

/* A process that trains on a GPU is killed after a checkpoint, and in the middle of the next; another one goes on from the former, and
 * what it then has on the GPU, recorded once more, has the same digests. This program is parent and children alike: CUDA does not
 * outlive a fork. On the simulator, and on a GPU (tests/gpu/run). */

#define WEIGHTS_BYTES (((size_t)16 << 20) + 5)
#define MOMENTS_BYTES ((size_t)1000003)
#define CUT_STEP 5u
#define SPARE_BYTES ((size_t)32 << 20)
#define CHILD_S 60u /* a child that nobody kills ends */

extern char **environ;

static struct cuda_rank rank;
static char me[PATH_MAX]; /* by its name: beside what it was started as, the plugin is looked for */

/* ---- the children ---- */

static void child_joins(enum tide_copy copy)
{
    cuda_region(&rank, "weights", 0, WEIGHTS_BYTES);
    cuda_region(&rank, "moments", 0, MOMENTS_BYTES);
    cuda_join(&rank);
    if (copy == TIDE_COPY_SLAB)
        assert_int_equal(tide_set_spare(rank.tide, 0, SPARE_BYTES), TIDE_OK);
    cuda_ways(&rank, copy);
}

/* Until it is killed. */
static void child_trains(enum tide_copy copy)
{
    child_joins(copy);
    for (uint64_t s = 1;; s++) {
        assert_int_equal(tide_before_update(rank.tide, rank.streams[0]), TIDE_OK);
        cuda_update(&rank, s);
        assert_int_equal(tide_step(rank.tide, s), TIDE_OK);
    }
}

static void child_goes_on(enum tide_copy copy)
{
    uint64_t at = 0;
    child_joins(copy);
    assert_int_equal(tide_restore(rank.tide, &at), TIDE_OK);
    assert_int_equal(at, CUT_STEP);
    for (unsigned i = 0; i < rank.count; i++) {
        struct cuda_region *r = &rank.regions[i];
        char *has = mem_alloc(r->bytes), *want = cuda_state(r, CUT_STEP);
        CUDA_OK(cudaMemcpy(has, r->at, r->bytes, cudaMemcpyDeviceToHost));
        assert_memory_equal(has, want, r->bytes);
        mem_free(has);
        mem_free(want);
    }
    assert_int_equal(tide_step(rank.tide, CUT_STEP + 1), TIDE_OK); /* armed */
    assert_int_equal(cuda_way(&rank, "weights"), copy == TIDE_COPY_LAZY ? TIDE_COPY_SYNC : copy); /* nothing was updated yet */
    cuda_leave(&rank);
}

/* ---- the parent ---- */

static pid_t child(const char *does, enum tide_copy copy)
{
    char way[8];
    pid_t pid = 0;
    snprintf(way, sizeof way, "%d", (int)copy);
    char *argv[] = {me, (char *)does, way, NULL};
    assert_int_equal(posix_spawn(&pid, me, NULL, NULL, argv, environ), 0);
    return pid;
}

static void slot_digests(uint32_t number, struct slot_sum *ret_sum)
{
    char path[256];
    struct slot slot;
    snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, rank.step.dir, 1u, number);
    assert_int_equal(slot_map(path, 0, &slot, NULL), TIDE_OK);
    assert_int_equal(slot_check(&slot, TEST_UID, 0, 1, NULL), TIDE_OK);
    assert_int_equal(slot_sum_compute(&slot, ret_sum, NULL), TIDE_OK);
    slot_unmap(&slot);
}

static void train_until_killed(enum tide_copy copy)
{
    int status = 0;
    fake_arm(&rank.step, 1, CUT_STEP, 0);
    pid_t pid = child("train", copy);
    assert_int_equal(cuda_recorded(&rank, 1), RECORD_DONE);
    cuda_sum(&rank, 0);
    /* Another, into the other slot, which is not waited for. */
    fake_arm(&rank.step, 2, atomic_load(&rank.step.page->step) + 2, 1);
    usleep(2000 * (useconds_t)copy);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void killed_and_gone_on(enum tide_copy copy)
{
    int status = 0;
    struct slot_sum before, after;
    fake_start(&rank.step, 3);
    train_until_killed(copy);
    fake_next_generation(&rank.step, 4);
    rank.step.answers[0] = (struct local_message){.type = LOCAL_RESTORE_FROM, .cut = 1, .step = CUT_STEP, .slot = 0};
    rank.step.answer_count = 1;
    fake_arm(&rank.step, 3, CUT_STEP + 1, 1);
    pid_t pid = child("go on", copy);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(cuda_recorded(&rank, 3), RECORD_DONE);
    slot_digests(0, &before);
    slot_digests(1, &after);
    assert_int_equal(before.cut, 1);
    assert_int_equal(after.cut, 3);
    assert_true(before.chunk_count > (WEIGHTS_BYTES >> 20));
    assert_int_equal(after.chunk_count, before.chunk_count);
    assert_memory_equal(after.chunks, before.chunks, before.chunk_count * sizeof *before.chunks);
    slot_sum_release(&before);
    slot_sum_release(&after);
    fake_stop(&rank.step);
}

static void a_killed_process_goes_on_from_what_it_waited_for(void **state)
{
    (void)state;
    killed_and_gone_on(TIDE_COPY_SYNC);
}

static void a_killed_process_goes_on_from_a_slab(void **state)
{
    (void)state;
    killed_and_gone_on(TIDE_COPY_SLAB);
}

static void a_killed_process_goes_on_from_a_lazy_copy(void **state)
{
    (void)state;
    killed_and_gone_on(TIDE_COPY_LAZY);
}

static int nothing(void **state)
{
    (void)state;
    return 0;
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, nothing, nothing)
    const struct CMUnitTest tests[] = {
        TEST(a_killed_process_goes_on_from_what_it_waited_for),
        TEST(a_killed_process_goes_on_from_a_slab),
        TEST(a_killed_process_goes_on_from_a_lazy_copy),
    };
    assert_true(readlink("/proc/self/exe", me, sizeof me - 1) > 0);
    if (argc != 3)
        return cmocka_run_group_tests(tests, NULL, NULL);
    enum tide_copy copy = (enum tide_copy)strtol(argv[2], NULL, 10);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    alarm(CHILD_S);
    if (strcmp(argv[1], "train") == 0)
        child_trains(copy);
    child_goes_on(copy);
    return 0;
}
