/* SPDX-License-Identifier: Apache-2.0 */
/* A member with a thread, a disk and a network: what the core decides really happens. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "coordinator/disk/datadir.h"
#include "tests/unit/group_world.h"

#define BEHIND (RAFT_TRAILING_ENTRIES + 500u) /* more than a leader keeps for those who are a little behind */
#define BUSY_COMMAND 30000u
#define BUSY_SYNC_US 30000u
#define BUSY_NS (10 * NS_PER_S)
#define BUSY_PAUSE_US 500u
#define BUSY_IMAGE_EVERY 300u /* commands */

/* A disk that takes its time, or hangs: stands before the one of the C library. */
static _Atomic unsigned sync_takes_us;
static _Atomic bool sync_hangs;
int fdatasync(int fd)
{
    usleep(sync_takes_us);
    while (sync_hangs)
        usleep(1000);
    return (int)syscall(SYS_fdatasync, fd);
}

static void alone_it_leads_at_once(void **state)
{
    (void)state;
    struct group g;
    group_start(&g, 1);
    struct mate *n = wait_leader(&g);
    propose_many(&g, n, 100);
    assert_int_equal(n->commands, 100);
    uint64_t sum = n->sum;
    node_stop(&g, n, true);
    node_start(&g, n);
    assert_true(UNTIL(&g, n->turn.ready));
    assert_int_equal(n->commands, 100);
    assert_true(n->sum == sum);
    group_end(&g);
}

static struct member_status status_of(const struct mate *n)
{
    static struct member_status status;
    member_get_status(n->member, &status);
    return status;
}

/* How long a write of the log takes is told when it is done, with when that was; of one that is not done it is told since when it lasts. */
static void a_write_that_hangs_is_told_while_it_does(void **state)
{
    (void)state;
    struct group g;
    group_start(&g, 1);
    struct mate *n = wait_leader(&g);
    propose_many(&g, n, 1);
    assert_true(UNTIL(&g, status_of(n).sync_ns != 0 && status_of(n).syncing_ns == 0));
    uint64_t before_ns = clock_mono_ns();
    sync_hangs = true;
    enum tide_status proposed = propose(n, "slow");
    bool seen = UNTIL(&g, status_of(n).syncing_ns >= before_ns);
    struct member_status hung = status_of(n);
    sync_hangs = false;
    assert_int_equal(proposed, TIDE_OK);
    assert_true(seen);
    assert_true(hung.syncing_ns != 0 && hung.sync_ns < before_ns); /* not done yet: the one before it is the last */
    assert_true(UNTIL(&g, status_of(n).syncing_ns == 0));
    assert_true(status_of(n).sync_ns >= hung.syncing_ns);
    group_end(&g);
}

static void three_agree(void **state)
{
    (void)state;
    struct group g;
    group_start(&g, 3);
    struct mate *leader = wait_leader(&g), *follower = other_than(&g, leader);
    propose_many(&g, leader, 1000);
    assert_true(UNTIL(&g, same(&g)));
    assert_int_equal(follower->commands, 1000);
    assert_int_equal(follower->turn.leader, leader->id);
    assert_non_null(strstr(follower->turn.api, "http://127.0.0.1:"));
    group_end(&g);
}

static void a_follower_refuses(void **state)
{
    (void)state;
    struct group g;
    group_start(&g, 3);
    struct mate *leader = wait_leader(&g), *follower = other_than(&g, leader);
    assert_true(UNTIL(&g, follower->turn.leader == leader->id));
    assert_int_equal(propose(follower, "x"), TIDE_OK);
    assert_true(UNTIL(&g, follower->refused == 1));
    assert_non_null(strstr(follower->last.text, "does not lead"));
    assert_int_equal(member_read(follower->member, follower, NULL), TIDE_OK);
    assert_true(UNTIL(&g, follower->reads_refused == 1));
    group_end(&g);
}

static void reads_share_a_round(void **state)
{
    (void)state;
    struct group g;
    group_start(&g, 3);
    struct mate *leader = wait_leader(&g);
    for (unsigned i = 0; i < 500; i++)
        assert_int_equal(member_read(leader->member, leader, NULL), TIDE_OK);
    assert_true(UNTIL(&g, leader->reads == 500));
    group_end(&g);
}

static void the_leader_dies(void **state)
{
    (void)state;
    struct group g;
    group_start(&g, 3);
    struct mate *old = wait_leader(&g);
    propose_many(&g, old, 50);
    node_stop(&g, old, false);
    struct mate *next = wait_leader(&g);
    assert_true(next != old);
    assert_int_equal(next->commands, 50);
    propose_many(&g, next, 50);
    node_start(&g, old);
    assert_true(UNTIL(&g, old->commands == 100 && same(&g)));
    group_end(&g);
}

static void without_a_majority_nothing_is_done(void **state)
{
    (void)state;
    struct group g;
    group_start(&g, 3);
    struct mate *leader = wait_leader(&g);
    propose_many(&g, leader, 10);
    for (struct mate *n; (n = other_than(&g, leader)) != NULL;)
        node_stop(&g, n, false);
    assert_int_equal(propose(leader, "nobody hears this"), TIDE_OK);
    assert_int_equal(member_read(leader->member, leader, NULL), TIDE_OK);
    assert_true(UNTIL(&g, leader->unknown == 1));
    assert_int_equal(leader->reads, 0);
    assert_true(UNTIL(&g, leader->reads_refused == 1));
    assert_int_equal(leader->turn.ready, false);
    assert_int_equal(leader->own, 10);
    /* With the others back it is done or it is not: nobody was told either. */
    for (unsigned i = 0; i < 3; i++)
        if (g.nodes[i].member == NULL)
            node_start(&g, &g.nodes[i]);
    propose_many(&g, wait_leader(&g), 1);
    assert_true(UNTIL(&g, same(&g)));
    assert_true(leader->commands == 11 || leader->commands == 12);
    group_end(&g);
}

static void a_lost_proposal_is_looked_after(void **state)
{
    (void)state;
    struct group g;
    group_start(&g, 3);
    struct mate *old = wait_leader(&g), *others[2];
    propose_many(&g, old, 5);
    for (unsigned i = 0; i < 2; i++) {
        others[i] = other_than(&g, old);
        node_stop(&g, others[i], false);
    }
    assert_int_equal(propose(old, "only here"), TIDE_OK);
    for (unsigned i = 0; i < 2; i++)
        node_start(&g, others[i]);
    assert_true(UNTIL(&g, old->own == 6 || old->failures == 1));
    propose_many(&g, wait_leader(&g), 3);
    assert_true(UNTIL(&g, same(&g)));
    /* Told that it was done: it is there. Told that it was not: it is not. */
    bool there = old->commands == 9;
    if (old->unknown == 0)
        assert_true(there == (old->refused == 0));
    group_end(&g);
}

/* One is stopped, and what it misses is in no log any more. */
static struct mate *leave_far_behind(struct group *g)
{
    group_start(g, 3);
    struct mate *leader = wait_leader(g), *late = other_than(g, leader);
    node_stop(g, late, false);
    propose_many(g, leader, BEHIND);
    for (unsigned i = 0; i < 3; i++)
        if (g->nodes[i].member != NULL)
            assert_true(UNTIL(g, g->nodes[i].commands == BEHIND));
    save_image(leader);
    propose_many(g, leader, BEHIND);
    save_image(leader);
    propose_many(g, leader, 10);
    return late;
}

static void far_behind_it_gets_a_snapshot(void **state)
{
    (void)state;
    struct group g;
    struct mate *late = leave_far_behind(&g);
    node_start(&g, late);
    assert_true(UNTIL(&g, late->restored > 0 && same(&g)));
    assert_int_equal(late->commands, 2 * BEHIND + 10);
    /* And it stands on it: also after a restart. */
    uint64_t sum = late->sum;
    node_stop(&g, late, false);
    late->restored = 0;
    node_start(&g, late);
    assert_int_equal(late->restored, 1);
    assert_true(UNTIL(&g, late->sum == sum));
    group_end(&g);
}

#define DIR_SAID "its directory: "

/* In a process of its own, which ends by it. */
static int an_older_version_gets_a_snapshot(void)
{
    struct group g;
    struct mate *late = leave_far_behind(&g);
    fprintf(stderr, DIR_SAID "%s\n", g.dir);
    late->old = true;
    node_start(&g, late);
    (void)UNTIL(&g, late->restored > 0);
    return 0;
}

/* Once: the leader would send it for ever. */
static void what_a_newer_version_sends_stops_it_with_the_level_it_needs(void **state)
{
    (void)state;
    char *const argv[] = {(char[]){"test_member"}, (char[]){"older-version"}, NULL};
    char said[8192] = "";
    size_t bytes = 0;
    int out[2], how;
    assert_int_equal(pipe(out), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out[1], STDERR_FILENO);
        execv("/proc/self/exe", argv);
        _exit(1);
    }
    close(out[1]);
    for (ssize_t n; (n = read(out[0], said + bytes, sizeof said - 1 - bytes)) > 0;)
        bytes += (size_t)n;
    close(out[0]);
    assert_int_equal(waitpid(pid, &how, 0), pid);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGABRT);
    char *dir = strstr(said, DIR_SAID); /* behind what was logged until then */
    assert_non_null(dir);
    dir += strlen(DIR_SAID);
    char *log = dir + strcspn(dir, "\n");
    *log++ = '\0';
    assert_int_equal(access(dir, F_OK), 0);
    assert_int_equal(fsx_remove_tree(dir, NULL), TIDE_OK);
    assert_non_null(strstr(log, "fatal: the leader has sent a snapshot that this version cannot read: it is of level 1000"));
}

static void spoil_newest(const struct mate *n, bool cut)
{
    uint64_t *indexes = NULL;
    size_t count = 0, bytes = 0;
    char path[DATA_FILE_MAX], *data = NULL;
    struct err err = {0};
    assert_int_equal(datadir_list(n->data, "snap-", ".img", &indexes, &count, &err), TIDE_OK);
    assert_true(count > 0 && indexes[count - 1] == n->index);
    datadir_numbered(n->data, "snap-", indexes[count - 1], ".img", path);
    assert_int_equal(fsx_read(path, 1 << 20, &data, &bytes, &err), TIDE_OK);
    data[bytes - 1] ^= 1;
    assert_int_equal(fsx_replace(path, data, cut ? bytes / 2 : bytes, 0644, &err), TIDE_OK);
    mem_free(data);
    mem_free(indexes);
}

/* Nothing happens in the group, so that no other image will be made; and the one there is cannot be sent, or is not what it
 * was. */
static void an_image_that_is_spoiled_is_made_again(void **state)
{
    (void)state;
    for (unsigned cut = 0; cut < 2; cut++) {
        struct group g;
        group_start(&g, 3);
        struct mate *leader = wait_leader(&g), *late = other_than(&g, leader);
        node_stop(&g, late, false);
        propose_many(&g, leader, BEHIND);
        save_image(leader);
        propose_many(&g, leader, BEHIND);
        assert_true(UNTIL(&g, same(&g)));
        for (unsigned i = 0; i < 3; i++) /* whoever leads then */
            if (g.nodes[i].member != NULL) {
                save_image(&g.nodes[i]);
                spoil_newest(&g.nodes[i], cut == 1);
            }
        node_start(&g, late);
        assert_true(UNTIL(&g, late->restored > 0 && same(&g)));
        assert_int_equal(late->commands, 2 * BEHIND);
        assert_true(g.nodes[0].images_lost + g.nodes[1].images_lost + g.nodes[2].images_lost > 0);
        group_end(&g);
    }
}

static void the_leadership_is_handed_over(void **state)
{
    (void)state;
    struct group g;
    group_start(&g, 3);
    struct mate *old = wait_leader(&g), *wanted = other_than(&g, old);
    propose_many(&g, old, 20);
    uint64_t failures = old->failures;
    member_change(old->member, MEMBER_TRANSFER, &(struct raft_member){.id = wanted->id}, old);
    /* What is proposed meanwhile is refused by whoever does not lead any more, and certainly not done. */
    assert_int_equal(propose(old, "meanwhile"), TIDE_OK);
    assert_true(UNTIL(&g, old->failures == failures + 2));
    assert_int_equal(old->refused, 1);
    assert_int_equal(old->unknown, 0);
    assert_true(UNTIL(&g, wanted->turn.ready));
    assert_int_equal(wanted->commands, 20);
    /* On the way out, too. */
    node_stop(&g, wanted, true);
    uint64_t begun = clock_mono_ns();
    wait_leader(&g);
    assert_true(clock_mono_ns() - begun < 2 * NS_PER_S);
    group_end(&g);
}

static void members_come_and_go(void **state)
{
    (void)state;
    struct group g;
    group_start(&g, 3);
    struct mate *leader = wait_leader(&g), *fourth = &g.nodes[3];
    propose_many(&g, leader, 30);
    struct raft_member member = {.id = 4};
    text_copy(member.peer, sizeof member.peer, fourth->peer);
    text_copy(member.api, sizeof member.api, "http://127.0.0.1:4");
    assert_int_equal(changed(&g, leader, MEMBER_PROMOTE, &member), 0); /* it is none yet */
    assert_int_equal(changed(&g, leader, MEMBER_ADD, &member), 1);
    assert_int_equal(changed(&g, leader, MEMBER_ADD, &member), 0);
    assert_int_equal(leader->last.status, TIDE_E_EXISTS);
    node_start(&g, fourth);
    assert_true(UNTIL(&g, same(&g) && fourth->commands == 30));
    assert_true(UNTIL(&g, changed(&g, leader, MEMBER_PROMOTE, &member) == 1));
    /* The leader itself goes: another one leads, of three. */
    assert_int_equal(changed(&g, leader, MEMBER_REMOVE, &(struct raft_member){.id = leader->id}), 1);
    assert_true(UNTIL(&g, !leader->turn.ready));
    node_stop(&g, leader, false);
    struct mate *next = wait_leader(&g);
    propose_many(&g, next, 5);
    assert_true(UNTIL(&g, same(&g) && fourth->commands == 35));
    group_end(&g);
}

/* It comes back somewhere else, and is found there, by who does not know of it yet, too. */
static void a_member_moves(void **state)
{
    (void)state;
    struct group g;
    group_start(&g, 3);
    struct mate *leader = wait_leader(&g), *moved = other_than(&g, leader);
    propose_many(&g, leader, 5);
    node_stop(&g, moved, false);
    struct raft_member member = *raft_config_member(&g.founders, moved->id);
    assert_int_equal(changed(&g, leader, MEMBER_UPDATE, &member), 0);
    assert_int_equal(leader->last.status, TIDE_E_EXISTS);
    text_copy(moved->peer, sizeof moved->peer, g.nodes[4].peer); /* which nobody uses */
    text_copy(member.peer, sizeof member.peer, moved->peer);
    assert_int_equal(changed(&g, leader, MEMBER_UPDATE, &member), 1);
    propose_many(&g, leader, 5);
    node_start(&g, moved);
    assert_true(UNTIL(&g, same(&g) && moved->commands == 10));
    /* It counts as it did: with it there is a majority. */
    struct mate *third = &g.nodes[0];
    while (third == leader || third == moved)
        third++;
    node_stop(&g, third, false);
    propose_many(&g, leader, 5);
    assert_true(UNTIL(&g, moved->commands == 15));
    group_end(&g);
}

static void a_directory_belongs_to_one_member(void **state)
{
    (void)state;
    struct group g;
    struct err err = {0};
    group_start(&g, 1);
    wait_leader(&g);
    node_stop(&g, &g.nodes[0], false);
    g.nodes[0].id = 2;
    assert_int_equal(node_open(&g, &g.nodes[0], &err), TIDE_E_CONFLICT);
    assert_non_null(strstr(err.text, "member 1"));
    g.nodes[0].id = 1;
    group_end(&g);
}

static void the_first_start_may_be_cut_short(void **state)
{
    (void)state;
    struct group g;
    group_init(&g, 1);
    struct err err = {0};
    /* Opened, never started: the next one finds a log that begins as it should. */
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(node_open(&g, &g.nodes[0], &err), TIDE_OK);
        member_close(g.nodes[0].member);
    }
    g.nodes[0].member = NULL;
    node_start(&g, &g.nodes[0]);
    wait_leader(&g);
    group_end(&g);
}

static void *save_aside(void *mate)
{
    save_image(mate);
    return NULL;
}

static uint64_t log_begins(const struct mate *n)
{
    uint64_t *firsts = NULL, first;
    size_t count = 0;
    struct err err = {0};
    assert_int_equal(datadir_list(n->data, "log-", ".wal", &firsts, &count, &err), TIDE_OK);
    assert_true(count > 0);
    first = firsts[0];
    mem_free(firsts);
    return first;
}

/* What two images cover leaves the log also while the disk is never at rest: else it would grow for as long as it is busy.
 */
static void a_busy_log_is_compacted(void **state)
{
    (void)state;
    struct group g;
    char large[BUSY_COMMAND + 1];
    memset(large, 'x', BUSY_COMMAND);
    large[BUSY_COMMAND] = '\0';
    group_init(&g, 1);
    g.segment_bytes = 4 * BUSY_COMMAND;
    struct mate *n = &g.nodes[0];
    node_start(&g, n);
    assert_true(UNTIL(&g, n->turn.ready));
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(propose(n, large), TIDE_OK);
        assert_true(UNTIL(&g, n->own == i + 1));
    }
    sync_takes_us = BUSY_SYNC_US;
    uint64_t end = clock_mono_ns() + BUSY_NS;
    unsigned images = 0;
    struct mate then[2];
    pthread_t aside[2];
    for (unsigned i = 1; log_begins(n) == 1 && clock_mono_ns() < end; i++) {
        assert_int_equal(propose(n, "small"), TIDE_OK);
        uv_run(&g.loop, UV_RUN_NOWAIT);
        usleep(BUSY_PAUSE_US);
        if (images == 2 || i % BUSY_IMAGE_EVERY != 0)
            continue;
        then[images] = *n; /* by somebody else: the log has no rest meanwhile */
        assert_int_equal(pthread_create(&aside[images], NULL, save_aside, &then[images]), 0);
        images++;
    }
    sync_takes_us = 0;
    for (unsigned i = 0; i < images; i++)
        assert_int_equal(pthread_join(aside[i], NULL), 0);
    assert_int_equal(images, 2);
    assert_true(clock_mono_ns() < end);
    group_end(&g);
}

/* Its ballot is gone: it does not know any more whom it voted for, and does not start as if it had voted for nobody. */
static void without_its_ballot_it_stays_away(void **state)
{
    (void)state;
    struct group g;
    group_init(&g, 1);
    node_start(&g, &g.nodes[0]);
    wait_leader(&g);
    node_stop(&g, &g.nodes[0], false);
    char path[DATA_FILE_MAX];
    struct err err = {0};
    datadir_file(g.nodes[0].data, "ballot", path);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(node_open(&g, &g.nodes[0], &err), TIDE_E_CORRUPT);
    assert_non_null(strstr(err.text, "could vote twice"));
    assert_null(g.nodes[0].member);
    group_end(&g);
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "older-version") == 0)
        return an_older_version_gets_a_snapshot();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone_it_leads_at_once),
        cmocka_unit_test(a_write_that_hangs_is_told_while_it_does),
        cmocka_unit_test(a_busy_log_is_compacted),
        cmocka_unit_test(three_agree),
        cmocka_unit_test(a_follower_refuses),
        cmocka_unit_test(reads_share_a_round),
        cmocka_unit_test(the_leader_dies),
        cmocka_unit_test(without_a_majority_nothing_is_done),
        cmocka_unit_test(a_lost_proposal_is_looked_after),
        cmocka_unit_test(far_behind_it_gets_a_snapshot),
        cmocka_unit_test(what_a_newer_version_sends_stops_it_with_the_level_it_needs),
        cmocka_unit_test(an_image_that_is_spoiled_is_made_again),
        cmocka_unit_test(the_leadership_is_handed_over),
        cmocka_unit_test(members_come_and_go),
        cmocka_unit_test(a_member_moves),
        cmocka_unit_test(a_directory_belongs_to_one_member),
        cmocka_unit_test(the_first_start_may_be_cut_short),
        cmocka_unit_test(without_its_ballot_it_stays_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
