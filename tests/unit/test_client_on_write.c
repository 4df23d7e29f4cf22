/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "ckpt/base/clock.h"
#include "tests/unit/fake_step.h"

/* Regions that are copied while the program writes to them: what is recorded is what was there at the safe point. */

#define BYTES ((size_t)24 << 20)
#define ODD 1234 /* the region does not begin with its page */
#define DONE_MS 60000
#define ROUNDS 12

static struct fake_step step;
static struct tide *tide;
static unsigned char *memory, *bytes, *expected;
static size_t mapped;

static void map(int huge)
{
    mapped = BYTES + ((size_t)4 << 20);
    memory = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    if (huge)
        madvise(memory, mapped, MADV_HUGEPAGE);
    bytes = memory + ODD;
}

static void add(unsigned flags)
{
    struct tide_region region = {.name = "state", .data = bytes, .bytes = BYTES, .flags = flags};
    assert_int_equal(tide_register(tide, &region), TIDE_OK);
}

static int setup(void **state)
{
    (void)state;
    fake_start(&step, 3);
    expected = malloc(BYTES);
    map(0);
    assert_int_equal(tide_init(&tide, NULL), TIDE_OK);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tide_finalize(tide);
    tide = NULL;
    munmap(memory, mapped);
    free(expected);
    fake_stop(&step);
    return 0;
}

/* The memory as it is now is what is to be recorded. */
static void record_at(uint64_t cut, uint64_t at)
{
    for (size_t i = 0; i < BYTES; i += 509)
        bytes[i] = (unsigned char)(i * cut >> 7);
    memcpy(expected, bytes, BYTES);
    fake_arm(&step, cut, at, cut % 2);
    assert_int_equal(tide_step(tide, at), TIDE_OK);
}

static void record(uint64_t cut)
{
    record_at(cut, cut);
}

static void wait_recorded(uint64_t cut)
{
    for (int ms = 0; ms < DONE_MS && atomic_load(&step.page->recorded_cut) != cut; ms++)
        usleep(1000);
    assert_int_equal(step.page->recorded_cut, cut);
}

static void check_slot(uint64_t cut)
{
    char path[256], root[DIGEST_HEX_CHARS + 1];
    struct slot slot;
    struct err err = {0};
    wait_recorded(cut);
    assert_string_equal(step.page->record_detail, "");
    assert_int_equal(step.page->record_result, RECORD_DONE);
    assert_int_equal(stage_sum(step.dir, 1, cut % 2, TEST_UID, cut, root, &err), TIDE_OK);
    snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, step.dir, 1u, (unsigned)(cut % 2));
    assert_int_equal(slot_map(path, 0, &slot, &err), TIDE_OK);
    assert_memory_equal(slot.data, expected, BYTES);
    slot_unmap(&slot);
}

static void on_write(void)
{
    assert_int_equal(step.page->record_copy, RECORD_COPY_ON_WRITE);
    assert_true(step.page->record_copy_bytes > BYTES - 8192);
    assert_true(step.page->record_copy_ns >= step.page->record_stall_ns);
}

static void write_all(unsigned char value, int backwards)
{
    for (size_t i = 0; i < BYTES; i += 4096)
        bytes[backwards ? BYTES - 1 - i : i] = value;
}

/* ---- the program's own writes ---- */

static void writes_race_the_copy_and_lose(void **state)
{
    (void)state;
    add(TIDE_COPY_ON_WRITE);
    uint64_t waits = 0;
    for (uint64_t cut = 1; cut <= ROUNDS; cut++) {
        record(cut);
        write_all((unsigned char)cut, cut % 2 == 0);
        check_slot(cut);
        on_write();
        waits += step.page->record_copy_waits;
    }
    assert_true(waits > 0); /* else nothing was raced */
}

static void huge_pages_too(void **state)
{
    (void)state;
    munmap(memory, mapped);
    map(1);
    add(TIDE_COPY_ON_WRITE);
    for (uint64_t cut = 1; cut <= ROUNDS / 4; cut++) {
        record(cut);
        write_all((unsigned char)cut, 1);
        check_slot(cut);
        on_write();
    }
}

/* Each its own bytes, of all pages. */
static void *write_from_afar(void *offset)
{
    for (size_t i = 0; i < BYTES; i += 4096)
        bytes[BYTES - 1 - i - *(size_t *)offset] = 9;
    return NULL;
}

static void threads_race_it_too(void **state)
{
    (void)state;
    pthread_t others[2];
    size_t offsets[2] = {0, 7};
    add(TIDE_COPY_ON_WRITE);
    for (uint64_t cut = 1; cut <= ROUNDS / 4; cut++) {
        record_at(cut, cut * 1000);
        for (int i = 0; i < 2; i++)
            assert_int_equal(pthread_create(&others[i], NULL, write_from_afar, &offsets[i]), 0);
        for (uint64_t k = 1; k < 100; k++) /* the rank goes on stepping meanwhile */
            assert_int_equal(tide_step(tide, cut * 1000 + k), TIDE_OK);
        for (int i = 0; i < 2; i++)
            pthread_join(others[i], NULL);
        check_slot(cut);
    }
}

/* Memory that was never written to has no pages yet. */
static void untouched_memory_is_zero(void **state)
{
    (void)state;
    add(TIDE_COPY_ON_WRITE);
    memset(expected, 0, BYTES);
    fake_arm(&step, 1, 1, 1);
    assert_int_equal(tide_step(tide, 1), TIDE_OK);
    write_all(5, 1);
    check_slot(1);
    on_write();
}

/* ---- writes by the kernel ---- */

static void reads_from_a_file_wait_as_well(void **state)
{
    (void)state;
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    add(TIDE_COPY_ON_WRITE);
    for (uint64_t cut = 1; cut <= ROUNDS / 2; cut++) {
        record(cut);
        /* From the end, where the copy comes last. */
        for (size_t at = BYTES; at >= 65536; at -= 65536)
            assert_int_equal(read(zero, bytes + at - 65536, 65536), 65536);
        check_slot(cut);
    }
    close(zero);
}

/* ---- what else a program does with its memory ---- */

static void a_forked_child_writes_to_its_own(void **state)
{
    (void)state;
    int status;
    add(TIDE_COPY_ON_WRITE);
    for (uint64_t cut = 1; cut <= ROUNDS / 4; cut++) {
        record(cut);
        pid_t pid = fork();
        if (pid == 0) {
            write_all(77, 1);
            tide_finalize(tide);
            _exit(bytes[0] == 77 || bytes[BYTES - 1] == 77 ? 0 : 1);
        }
        write_all(3, 1);
        check_slot(cut);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
    }
}

static void unregister_gives_the_memory_back(void **state)
{
    (void)state;
    for (uint64_t cut = 1; cut <= ROUNDS / 4; cut++) {
        add(TIDE_COPY_ON_WRITE);
        record(cut);
        assert_int_equal(tide_unregister(tide, "state"), TIDE_OK);
        assert_int_equal(munmap(memory, mapped), 0);
        check_slot(cut);
        map(0);
    }
}

/* Against the rules, but it costs the record, not the process; and nobody waits for ever. */
static void memory_that_goes_away_fails_the_record(void **state)
{
    (void)state;
    unsigned failed = 0;
    for (uint64_t cut = 1; cut <= ROUNDS; cut++) {
        unsigned char *other = mmap(NULL, BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        add(TIDE_COPY_ON_WRITE);
        record(cut);
        if (cut % 3 == 0)
            assert_int_equal(munmap(memory, mapped), 0);
        else if (cut % 3 == 1)
            assert_int_equal(madvise(memory + 4096 * 64, BYTES / 2, MADV_DONTNEED), 0);
        else
            assert_ptr_equal(mremap(memory + BYTES / 2, BYTES / 4, BYTES / 4, MREMAP_MAYMOVE | MREMAP_FIXED, other), other);
        wait_recorded(cut);
        if (step.page->record_result != RECORD_DONE) {
            assert_int_equal(step.page->record_result, RECORD_FAILED);
            assert_non_null(strstr(step.page->record_detail, "region \"state\" was"));
            assert_non_null(strstr(step.page->record_detail, "tide_unregister"));
            failed++;
        }
        assert_int_equal(tide_unregister(tide, "state"), TIDE_OK);
        munmap(other, BYTES);
        munmap(memory, mapped);
        map(0);
    }
    assert_true(failed > 0);
}

static void finalize_waits_for_the_copy(void **state)
{
    (void)state;
    add(TIDE_COPY_ON_WRITE);
    record(1);
    tide_finalize(tide);
    tide = NULL;
    check_slot(1);
}

/* ---- where it cannot be ---- */

static void shared_memory_is_copied_at_once(void **state)
{
    (void)state;
    munmap(memory, mapped);
    memory = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bytes = memory + ODD;
    add(TIDE_COPY_ON_WRITE);
    record(1);
    assert_int_equal(step.page->recorded_cut, 1);
    assert_int_equal(step.page->record_copy, RECORD_COPY_REFUSED);
    assert_int_equal(step.page->record_copy_errno, EINVAL);
    check_slot(1);
}

static void who_does_not_ask_is_copied_at_once(void **state)
{
    (void)state;
    add(0);
    record(1);
    assert_int_equal(step.page->recorded_cut, 1);
    assert_int_equal(step.page->record_copy, RECORD_COPY_PLAIN);
    assert_int_equal(step.page->record_copy_bytes, 0);
    check_slot(1);
    struct tide_region region = {.name = "more", .data = bytes, .bytes = 4, .flags = 16};
    assert_int_equal(tide_register(tide, &region), TIDE_E_INVALID);
}

#define REFUSE(number)                                                                                                      \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)

/* As where unprivileged programs may not have it. For this process and for good: it is the last test. */
static void refuse_userfaultfd(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        REFUSE(SYS_userfaultfd),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_ioctl, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
        REFUSE(_IO(0xAA, 0)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
    assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void where_it_is_refused_the_copy_is_made_at_once(void **state)
{
    (void)state;
    refuse_userfaultfd();
    add(TIDE_COPY_ON_WRITE);
    record(1);
    assert_int_equal(step.page->recorded_cut, 1);
    assert_int_equal(step.page->record_copy, RECORD_COPY_REFUSED);
    assert_int_equal(step.page->record_copy_errno, EPERM);
    check_slot(1);
}

#define IN_A_JOB(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_A_JOB(writes_race_the_copy_and_lose),
        IN_A_JOB(huge_pages_too),
        IN_A_JOB(threads_race_it_too),
        IN_A_JOB(untouched_memory_is_zero),
        IN_A_JOB(reads_from_a_file_wait_as_well),
        IN_A_JOB(a_forked_child_writes_to_its_own),
        IN_A_JOB(unregister_gives_the_memory_back),
        IN_A_JOB(memory_that_goes_away_fails_the_record),
        IN_A_JOB(finalize_waits_for_the_copy),
        IN_A_JOB(shared_memory_is_copied_at_once),
        IN_A_JOB(who_does_not_ask_is_copied_at_once),
        IN_A_JOB(where_it_is_refused_the_copy_is_made_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
