/* SPDX-License-Identifier: Apache-2.0 */

/* One life of a data directory, told again and again: each time another one of its system calls fails, or the process dies
 * in its place. Whatever had been acknowledged by then must be found afterwards, and nothing that never was. */

#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <cmocka.h>

#include "ckpt/base/log.h"
#include "coordinator/disk/check.h"
#include "coordinator/disk/snapshot_file.h"
#include "coordinator/disk/wal.h"
#include "disk_dir.h"
#include "tests/lib/disk_fault.h"

#define CLUSTER "00112233445566aa"
#define MEMBER 3u
#define ENTRIES_MAX 256u
#define CALLS_MAX 2000u /* more than a story makes: the loop over them must end */
#define RECEIVED_INDEX 55u
#define RECEIVED_TERM 3u

static const struct wal_options small = {.segment_bytes = 4096};

/* ---- what was promised ---- */

/* In memory that the process leaves behind when it dies. */
struct promises {
    bool committed; /* the directory is made */
    struct ballot ballot, ballot_next;
    uint64_t snapshot, snapshot_term; /* newest durable image */
    uint64_t last;                    /* newest durable entry */
    uint64_t terms[ENTRIES_MAX];      /* of each entry as it was written last; 0: never */
};

static struct promises *made;

static void payload(uint64_t index, uint64_t term, char to[80])
{
    snprintf(to, 80, "entry %" PRIu64 " of term %" PRIu64 " %.*s", index, term, (int)(index * 7 % 40),
             "........................................");
}

/* ---- the story ---- */

struct story {
    const char *path;
    struct datadir dir;
    struct wal *wal;
    struct err err;
};

/* A step that must go well for the story to go on. */
#define STEP(call)                                                                                                          \
    do {                                                                                                                    \
        if ((call) != TIDE_OK)                                                                                              \
            return s->err.status;                                                                                           \
    } while (0)

static enum tide_status append(struct story *s, uint64_t first, uint64_t last, uint64_t term)
{
    for (uint64_t i = first; i <= last;) {
        struct wal_entry batch[5];
        char texts[5][80];
        size_t n = 0;
        for (; n < 5 && i <= last; n++, i++) {
            payload(i, term, texts[n]);
            batch[n] = (struct wal_entry){.index = i, .term = term, .data = texts[n], .bytes = strlen(texts[n])};
            made->terms[i] = term;
        }
        STEP(wal_append(s->wal, batch, n, &s->err));
        STEP(wal_sync(s->wal, &s->err));
        made->last = i - 1;
        STEP(wal_prepare(s->wal, &s->err));
    }
    return TIDE_OK;
}

static enum tide_status vote(struct story *s, uint64_t term, uint64_t for_whom)
{
    made->ballot_next = (struct ballot){.term = term, .vote = for_whom};
    STEP(ballot_save(s->path, made->ballot_next, &s->err));
    made->ballot = made->ballot_next;
    return TIDE_OK;
}

static enum tide_status image(struct story *s, uint64_t index)
{
    char config[] = "of three", data[] = "the state";
    struct snapshot snapshot = {.index = index, .term = wal_term(s->wal, index), .config = config, .config_bytes = 8};
    snapshot.data = data;
    snapshot.bytes = strlen(data);
    uint64_t digest, oldest = 0;
    STEP(snapshot_save(s->path, CLUSTER, &snapshot, &digest, &s->err));
    made->snapshot = index;
    made->snapshot_term = snapshot.term;
    STEP(snapshot_prune(s->path, &oldest, &s->err));
    return oldest > 0 ? wal_compact(s->wal, oldest, &s->err) : TIDE_OK;
}

static char *foreign;
static size_t foreign_bytes;
static uint64_t foreign_digest;

/* The leader's image of a history that ours is not a part of. */
static enum tide_status receive(struct story *s)
{
    struct snapshot_receive r;
    uint64_t oldest;
    STEP(
        snapshot_receive_begin(s->path, CLUSTER, RECEIVED_INDEX, RECEIVED_TERM, foreign_bytes, foreign_digest, &r, &s->err));
    while (r.offset < foreign_bytes) {
        size_t n = foreign_bytes - r.offset < 60 ? foreign_bytes - r.offset : 60;
        if (snapshot_receive_append(&r, r.offset, foreign + r.offset, n, &s->err) != TIDE_OK) {
            snapshot_receive_close(&r);
            return s->err.status;
        }
    }
    STEP(snapshot_receive_finish(&r, &s->err));
    made->snapshot = RECEIVED_INDEX;
    made->snapshot_term = RECEIVED_TERM;
    made->last = RECEIVED_INDEX;
    STEP(wal_reset(s->wal, RECEIVED_INDEX + 1, &s->err));
    return snapshot_prune(s->path, &oldest, &s->err);
}

static enum tide_status tell(struct story *s)
{
    STEP(datadir_open(s->path, CLUSTER, MEMBER, true, &s->dir, &s->err));
    STEP(wal_open(s->path, CLUSTER, &small, s->dir.fresh, 1, 0, &s->wal, &s->err));
    STEP(vote(s, 1, MEMBER));
    STEP(datadir_commit(&s->dir, &s->err));
    made->committed = true;
    STEP(append(s, 1, 90, 1));
    STEP(vote(s, 2, 1));
    made->last = 32;
    STEP(wal_truncate_from(s->wal, 33, &s->err));
    STEP(append(s, 33, 100, 2));
    STEP(image(s, 30));
    STEP(image(s, 50));
    STEP(vote(s, 3, 2));
    STEP(receive(s));
    STEP(append(s, 56, 130, 3));
    return TIDE_OK;
}

static enum tide_status story(const char *path, struct err *err)
{
    struct story s = {.path = path, .dir = {.lock_fd = -1}};
    enum tide_status status = tell(&s);
    if (status != TIDE_OK && s.wal != NULL && made->last > 0) {
        /* If the log itself broke it stays so; if not, it still serves. Either way it never tells of an entry that it lacks.
         */
        struct err again = {0};
        if (wal_sync(s.wal, &again) != TIDE_OK)
            assert_non_null(strstr(again.text, "closed after an error"));
    }
    wal_close(s.wal);
    datadir_close(&s.dir);
    if (err != NULL)
        *err = s.err;
    return status;
}

/* ---- afterwards ---- */

static enum tide_status expect_true_entry(void *arg, const struct wal_entry *entry, struct err *err)
{
    (void)err;
    const uint64_t *snapshot_index = arg;
    char text[80];
    payload(entry->index, entry->term, text);
    assert_int_equal(entry->bytes, strlen(text));
    assert_memory_equal(entry->data, text, entry->bytes);
    assert_true(entry->index < ENTRIES_MAX && entry->term <= made->terms[entry->index]);
    if (entry->index <= made->last && entry->index > *snapshot_index)
        assert_int_equal(entry->term, made->terms[entry->index]);
    return TIDE_OK;
}

static void expect_log(const char *path, const struct snapshot *snapshot)
{
    struct wal *wal = NULL;
    struct err err = {0};
    if (wal_open(path, CLUSTER, &small, false, snapshot->index + 1, snapshot->term, &wal, &err) != TIDE_OK)
        fail_msg("%s", err.text);
    uint64_t first = wal_first(wal), last = wal_last(wal), covered = snapshot->index;
    assert_true(first <= covered + 1);
    assert_true(last >= covered);
    /* An image that was received lets go of what it replaces from the moment it has its name. */
    assert_true(last >= (covered == RECEIVED_INDEX && made->snapshot != covered ? covered : made->last));
    if (covered >= first)
        assert_int_equal(wal_term(wal, covered), snapshot->term);
    if (covered == RECEIVED_INDEX)
        for (uint64_t i = covered + 1; i <= last; i++)
            assert_int_equal(wal_term(wal, i), RECEIVED_TERM);
    assert_int_equal(wal_read(wal, first, last, expect_true_entry, &covered, NULL), TIDE_OK);
    /* And it goes on from there. */
    uint64_t term = last > covered ? wal_term(wal, last) : snapshot->term ? snapshot->term : 1;
    for (uint64_t i = last + 1; i <= last + 60; i++)
        assert_int_equal(wal_append(wal, &(struct wal_entry){.index = i, .term = term, .data = "x", .bytes = 1}, 1, NULL),
                         TIDE_OK);
    assert_int_equal(wal_sync(wal, NULL), TIDE_OK);
    wal_close(wal);
}

static void no_report(void *arg, const char *file, bool bad, const char *verdict)
{
    (void)arg;
    if (bad)
        fail_msg("%s: %s", file, verdict);
}

static void expect_kept(const char *path)
{
    struct datadir dir;
    struct err err = {0};
    enum tide_status status = datadir_open(path, CLUSTER, MEMBER, true, &dir, &err);
    if (status != TIDE_OK)
        fail_msg("%s", err.text);
    if (dir.fresh) {
        assert_false(made->committed);
        datadir_close(&dir);
        return;
    }
    struct ballot ballot;
    struct snapshot snapshot;
    assert_int_equal(ballot_load(path, &ballot, NULL), TIDE_OK);
    assert_true(memcmp(&ballot, &made->ballot, sizeof ballot) == 0 ||
                memcmp(&ballot, &made->ballot_next, sizeof ballot) == 0);
    assert_int_equal(snapshot_newest(path, CLUSTER, &snapshot, NULL), TIDE_OK);
    assert_true(snapshot.index >= made->snapshot);
    datadir_close(&dir);
    if (check_data(path, no_report, NULL, &err) != TIDE_OK)
        fail_msg("%s", err.text);
    expect_log(path, &snapshot);
    if (check_data(path, no_report, NULL, &err) != TIDE_OK)
        fail_msg("%s", err.text);
    snapshot_release(&snapshot);
}

static int begin(void **dir)
{
    made = mmap(NULL, sizeof *made, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(made, MAP_FAILED);
    dir_make(dir);
    char config[] = "of five", data[] = "the state of another history, some way ahead of our own", path[DATA_FILE_MAX];
    struct snapshot snapshot = {.index = RECEIVED_INDEX, .term = RECEIVED_TERM, .config = config, .config_bytes = 7};
    snapshot.data = data;
    snapshot.bytes = strlen(data);
    assert_int_equal(snapshot_save(*dir, CLUSTER, &snapshot, &foreign_digest, NULL), TIDE_OK);
    datadir_numbered(*dir, "snap-", RECEIVED_INDEX, ".img", path);
    foreign = file_read(path, &foreign_bytes);
    assert_int_equal(unlink(path), 0);
    return 0;
}

static int end(void **dir)
{
    disk_fault_plan(NULL);
    mem_free(foreign);
    munmap(made, sizeof *made);
    return dir_drop(dir);
}

/* ---- tests ---- */

static void undisturbed_it_ends_well(void **dir)
{
    char path[DATA_FILE_MAX];
    datadir_file(*dir, "data", path);
    disk_fault_plan("any:100000:EIO");
    assert_int_equal(story(path, NULL), TIDE_OK);
    assert_in_range(disk_fault_matched(), 100, CALLS_MAX);
    disk_fault_plan(NULL);
    assert_int_equal(made->last, 130);
    expect_kept(path);
}

/* Tell the story once for each call that matches, with `action` at that one; returns how often it struck. */
static unsigned long fail_each(const char *dir, const char *calls, const char *action, bool must_fail)
{
    unsigned long n = 0;
    for (bool struck = true; struck; n++) {
        char path[DATA_FILE_MAX], plan[256], name[32];
        struct err err = {0};
        assert_true(n < CALLS_MAX);
        snprintf(name, sizeof name, "data%lu", n);
        datadir_file(dir, name, path);
        /* Not the lock: that holds a pid for people, and works without. */
        snprintf(plan, sizeof plan, "%s:%lu:%s:%s!(/lock)", calls, n + 1, action, path);
        memset(made, 0, sizeof *made);
        disk_fault_plan(plan);
        enum tide_status status = story(path, &err);
        struck = disk_fault_struck();
        disk_fault_plan(NULL);
        if (struck && must_fail) {
            assert_int_not_equal(status, TIDE_OK);
            assert_true(err.status == TIDE_E_IO || err.status == TIDE_E_NOSPACE);
            assert_non_null(strstr(err.text, path));
        } else {
            assert_int_equal(status, TIDE_OK);
        }
        expect_kept(path);
        assert_int_equal(fsx_remove_tree(path, NULL), TIDE_OK);
    }
    return n - 1;
}

static void a_failed_call_is_told_and_loses_nothing(void **dir)
{
    static const struct {
        const char *call, *action;
        unsigned long at_least;
    } faults[] = {{"write", "EIO", 50},   {"write", "ENOSPC", 50}, {"sync", "EIO", 50},
                  {"sync", "lose", 50},   {"rename", "EIO", 8},    {"unlink", "EIO", 3},
                  {"open", "ENOSPC", 10}, {"truncate", "EIO", 1},  {"truncate", "EROFS", 1}};
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        assert_true(fail_each(*dir, faults[i].call, faults[i].action, true) >= faults[i].at_least);
}

static void a_short_write_is_gone_on_with(void **dir)
{
    assert_true(fail_each(*dir, "write", "half", false) >= 50);
}

static int live_and_die(const char *path, unsigned long n, const char *action)
{
    pid_t child = fork();
    if (child == 0) {
        char plan[256];
        snprintf(plan, sizeof plan, "any:%lu:%s:%s*", n, action, path);
        disk_fault_plan(plan);
        _exit(story(path, NULL) == TIDE_OK ? 0 : 3);
    }
    int status = 0;
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void die_at_each(const char *dir, const char *action)
{
    unsigned long n = 1;
    for (bool alive = false; !alive; n++) {
        char path[DATA_FILE_MAX];
        datadir_file(dir, "data", path);
        memset(made, 0, sizeof *made);
        assert_true(n < CALLS_MAX);
        int status = live_and_die(path, n, action);
        alive = WIFEXITED(status);
        if (alive)
            assert_int_equal(WEXITSTATUS(status), 0);
        else
            assert_int_equal(WTERMSIG(status), SIGKILL);
        expect_kept(path);
        assert_int_equal(fsx_remove_tree(path, NULL), TIDE_OK);
    }
    assert_true(n > 100);
}

static void a_death_at_any_call_loses_nothing(void **dir)
{
    die_at_each(*dir, "kill");
}

static void a_power_cut_at_any_call_loses_nothing(void **dir)
{
    die_at_each(*dir, "cut");
}

static void a_new_directory_is_itself_durable(void **dir)
{
    char path[DATA_FILE_MAX], plan[256];
    struct datadir opened;
    struct err err = {0};
    datadir_file(*dir, "a/b/data", path);
    static const char *const parents[] = {"", "/a", "/a/b"};
    for (size_t i = 0; i < 3; i++) {
        snprintf(plan, sizeof plan, "sync:1:EIO:%s%s", (char *)*dir, parents[i]);
        disk_fault_plan(plan);
        assert_int_equal(datadir_open(path, CLUSTER, MEMBER, true, &opened, &err), TIDE_E_IO);
        assert_true(disk_fault_struck());
    }
    disk_fault_plan(NULL);
    assert_int_equal(datadir_open(path, CLUSTER, MEMBER, true, &opened, &err), TIDE_OK);
    datadir_close(&opened);
}

static struct wal *three_entries(const char *dir)
{
    struct wal *wal = NULL;
    assert_int_equal(wal_open(dir, CLUSTER, &small, true, 1, 0, &wal, NULL), TIDE_OK);
    for (uint64_t i = 1; i <= 4; i++) {
        assert_int_equal(wal_append(wal, &(struct wal_entry){.index = i, .term = 1, .data = "abc", .bytes = 3}, 1, NULL),
                         TIDE_OK);
        if (i < 4)
            assert_int_equal(wal_sync(wal, NULL), TIDE_OK);
    }
    return wal;
}

static enum tide_status read_nothing(void *arg, const struct wal_entry *entry, struct err *err)
{
    (void)arg, (void)entry, (void)err;
    return TIDE_OK;
}

static void after_a_failed_sync_nothing_is_tried_again(void **dir)
{
    disk_fault_plan("sync:4:lose:*/log-*");
    struct wal *wal = three_entries(*dir);
    struct err err = {0};
    assert_int_equal(wal_sync(wal, &err), TIDE_E_IO);
    assert_non_null(strstr(err.text, "fdatasync"));
    assert_int_equal(wal_synced(wal), 3);
    disk_fault_plan("any:100000:EIO"); /* counts */
    struct wal_entry next = {.index = 5, .term = 1, .data = "abc", .bytes = 3};
    assert_int_equal(wal_sync(wal, &err), TIDE_E_IO);
    assert_int_equal(wal_append(wal, &next, 1, &err), TIDE_E_IO);
    assert_int_equal(wal_prepare(wal, &err), TIDE_E_IO);
    assert_int_equal(wal_truncate_from(wal, 2, &err), TIDE_E_IO);
    assert_int_equal(wal_compact(wal, 2, &err), TIDE_E_IO);
    assert_int_equal(wal_reset(wal, 9, &err), TIDE_E_IO);
    assert_int_equal(wal_read(wal, 1, 3, read_nothing, NULL, &err), TIDE_E_IO);
    assert_non_null(strstr(err.text, "closed after an error"));
    wal_close(wal);
    assert_int_equal(disk_fault_matched(), 0);
    disk_fault_plan(NULL);
    assert_int_equal(wal_open(*dir, CLUSTER, &small, false, 1, 0, &wal, NULL), TIDE_OK);
    assert_int_equal(wal_last(wal), 3);
    wal_close(wal);
}

/* Else, after a power cut, an old mark could speak of entries that were taken back. */
static void before_entries_go_their_mark_is_durably_forgotten(void **dir)
{
    struct wal *wal = three_entries(*dir);
    struct err err = {0};
    disk_fault_plan("sync:1:EIO:*/synced");
    assert_int_equal(wal_truncate_from(wal, 3, &err), TIDE_E_IO);
    assert_non_null(strstr(err.text, "/synced"));
    wal_close(wal);
    disk_fault_plan(NULL);
    assert_int_equal(wal_open(*dir, CLUSTER, &small, false, 1, 0, &wal, NULL), TIDE_OK);
    assert_int_equal(wal_last(wal), 4);
    disk_fault_plan("sync:1:EIO:*/synced");
    assert_int_equal(wal_reset(wal, 9, &err), TIDE_E_IO);
    assert_non_null(strstr(err.text, "/synced"));
    wal_close(wal);
    disk_fault_plan(NULL);
}

static void no_room_for_the_next_segment_breaks_nothing_yet(void **dir)
{
    struct wal *wal = three_entries(*dir);
    struct err err = {0};
    char text[1000] = "";
    for (uint64_t i = 5; i <= 6; i++)
        assert_int_equal(
            wal_append(wal, &(struct wal_entry){.index = i, .term = 1, .data = text, .bytes = sizeof text}, 1, NULL),
            TIDE_OK);
    disk_fault_plan("write:1+:ENOSPC:*/segment.tmp");
    assert_int_equal(wal_prepare(wal, &err), TIDE_E_NOSPACE);
    assert_int_equal(wal_prepare(wal, &err), TIDE_E_NOSPACE);
    struct wal_entry more = {.index = 7, .term = 1, .data = text, .bytes = sizeof text};
    assert_int_equal(wal_append(wal, &more, 1, NULL), TIDE_OK);
    assert_int_equal(wal_sync(wal, NULL), TIDE_OK);
    more.index = 8;
    assert_int_equal(wal_append(wal, &more, 1, &err), TIDE_E_NOSPACE);
    disk_fault_plan(NULL);
    assert_int_equal(wal_append(wal, &more, 1, &err), TIDE_E_NOSPACE);
    wal_close(wal);
    assert_int_equal(wal_open(*dir, CLUSTER, &small, false, 1, 0, &wal, NULL), TIDE_OK);
    assert_int_equal(wal_last(wal), 7);
    wal_close(wal);
}

static enum tide_status look(const char *path, struct err *err)
{
    struct datadir dir;
    struct ballot ballot;
    struct snapshot snapshot = {0};
    struct snapshot_file file = {.fd = -1};
    struct wal *wal = NULL;
    char byte;
    size_t n;
    enum tide_status status = datadir_open(path, CLUSTER, MEMBER, false, &dir, err);
    if (status != TIDE_OK)
        return status;
    status = ballot_load(path, &ballot, err);
    if (status == TIDE_OK)
        status = snapshot_newest(path, CLUSTER, &snapshot, err);
    if (status == TIDE_OK)
        status = snapshot_file_open(path, CLUSTER, snapshot.index, &file, err);
    if (status == TIDE_OK)
        status = snapshot_file_read(&file, 0, &byte, 1, &n, err);
    if (status == TIDE_OK)
        status = wal_open(path, CLUSTER, &small, false, snapshot.index + 1, snapshot.term, &wal, err);
    if (status == TIDE_OK)
        status = wal_read(wal, wal_first(wal), wal_last(wal), read_nothing, NULL, err);
    wal_close(wal);
    snapshot_file_close(&file);
    snapshot_release(&snapshot);
    datadir_close(&dir);
    return status;
}

/* What cannot be read is not what is corrupt: nothing is cut, passed over or removed. */
static void a_failed_read_changes_nothing(void **dir)
{
    char path[DATA_FILE_MAX], plan[256];
    datadir_file(*dir, "data", path);
    assert_int_equal(story(path, NULL), TIDE_OK);
    unsigned long n = 0;
    for (bool struck = true; struck; n++) {
        struct err err = {0};
        snprintf(plan, sizeof plan, "read:%lu:EIO:%s!(/lock)", n + 1, path);
        disk_fault_plan(plan);
        enum tide_status status = look(path, &err);
        struck = disk_fault_struck();
        disk_fault_plan(NULL);
        assert_int_equal(status, struck ? TIDE_E_IO : TIDE_OK);
        assert_true(n < CALLS_MAX);
    }
    assert_true(n > 20);
    expect_kept(path);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
    log_init("test_disk_fault", LOG_ERROR);
    const struct CMUnitTest tests[] = {
        TEST(undisturbed_it_ends_well),
        TEST(a_failed_call_is_told_and_loses_nothing),
        TEST(a_short_write_is_gone_on_with),
        TEST(a_death_at_any_call_loses_nothing),
        TEST(a_power_cut_at_any_call_loses_nothing),
        TEST(a_new_directory_is_itself_durable),
        TEST(after_a_failed_sync_nothing_is_tried_again),
        TEST(before_entries_go_their_mark_is_durably_forgotten),
        TEST(no_room_for_the_next_segment_breaks_nothing_yet),
        TEST(a_failed_read_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
