/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ckpt/base/digest.h"
#include "ckpt/base/digest_index.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/base/strlist.h"
#include "ckpt/base/team.h"
#include "ckpt/base/text.h"
#include "ckpt/base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <tidemark/types.h>

static void statuses_have_names(void **state)
{
    (void)state;
    assert_string_equal(tide_status_name(TIDE_OK), "ok");
    assert_string_equal(tide_status_name(TIDE_E_NOT_FOUND), "not_found");
    assert_string_equal(tide_status_name((enum tide_status)9999), "unknown");
    assert_non_null(strstr(tide_status_text(TIDE_E_TIMEOUT), "unknown"));
}

static void errors_gain_context_as_they_rise(void **state)
{
    (void)state;
    struct err err = {0};
    assert_int_equal(err_set(&err, TIDE_E_CORRUPT, "chunk %d is bad", 7), TIDE_E_CORRUPT);
    assert_int_equal(err_wrap(&err, "slot %s", "r0"), TIDE_E_CORRUPT);
    assert_string_equal(err.text, "slot r0: chunk 7 is bad");
    errno = ENOSPC;
    assert_int_equal(err_errno(&err, "cannot write %s", "x"), TIDE_E_NOSPACE);
    assert_string_equal(err.text, "cannot write x: No space left on device");
    assert_int_equal(err_set(NULL, TIDE_E_IO, "nobody listens"), TIDE_E_IO);
}

static void an_error_may_quote_itself(void **state)
{
    (void)state;
    struct err err = {0};
    err_set(&err, TIDE_E_IO, "inner");
    err_set(&err, TIDE_E_IO, "outer: %s", err.text);
    assert_string_equal(err.text, "outer: inner");
}

#define ROOM 33u /* of a text, NUL included */

static void a_text_that_is_too_long_is_cut_in_its_middle(void **state)
{
    (void)state;
    char to[ROOM];
    text_fit(to, sizeof to, "as long as there is room for it.");
    assert_string_equal(to, "as long as there is room for it.");
    text_fit(to, sizeof to, "cannot write c/00/job/7/8.pk: the disk is full; free some");
    assert_string_equal(to, "cannot write c/00/j… free some");
    assert_int_equal(strlen(to), ROOM - 1);
    /* What had no room before is not missed twice. */
    text_say(to, sizeof to, "%s, %d more", to, 12);
    assert_string_equal(to, "cannot write c/00/j…e, 12 more");
    text_say(to, sizeof to, "%s: %s", "rank 3", "no answer");
    assert_string_equal(to, "rank 3: no answer");
    /* Where there is no room for a mark the end goes. */
    text_fit(to, 8, "much too long");
    assert_string_equal(to, "much to");
    text_fit(to, 1, "nothing");
    assert_string_equal(to, "");
}

/* Of an error, and of a text that is longer than what is formatted at once. */
static void what_is_left_out_is_marked_everywhere(void **state)
{
    (void)state;
    struct err err = {0};
    char longer[2 * TEXT_FORMAT_MAX], to[TEXT_FORMAT_MAX];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    err_set(&err, TIDE_E_IO, "cannot read %.*s: do this", ERR_TEXT_MAX, longer);
    assert_int_equal(strlen(err.text), sizeof err.text - 1);
    assert_non_null(strstr(err.text, "…"));
    assert_string_equal(err.text + strlen(err.text) - 9, ": do this");
    err_wrap(&err, "rank %d", 7);
    assert_int_equal(strncmp(err.text, "rank 7: cannot read x", 21), 0);
    assert_string_equal(err.text + strlen(err.text) - 9, ": do this");
    errno = ENOSPC;
    err_errno(&err, "cannot write %s/9.pk", longer);
    assert_non_null(strstr(err.text, "…"));
    assert_non_null(strstr(err.text, ": No space left"));
    text_say(to, sizeof to, "%s", longer);
    assert_string_equal(to + strlen(to) - strlen("x…"), "x…");
}

/* A list that grows word by word is cut as it would be at once. */
static void a_list_that_grows_has_one_mark(void **state)
{
    (void)state;
    char to[ROOM] = "";
    for (unsigned i = 1; i <= 40; i++)
        text_say(to, sizeof to, "%sn%u,", to, i);
    assert_string_equal(to, "n1,n2,n3,n4,n5,n6,n…8,n39,n40,");
}

/* However much room there is, and wherever it begins and ends. */
static void characters_stay_whole(void **state)
{
    (void)state;
    static const char *const characters[] = {"x", "é", "€", "𝄞"};
    char from[256] = "", to[256];
    size_t used = 0;
    for (unsigned i = 0; i < 60; i++)
        used += (size_t)snprintf(from + used, sizeof from - used, "%s", characters[i * 7 / 3 % 4]);
    for (size_t size = 1; size < sizeof to; size++) {
        memset(to, 'z', sizeof to);
        text_fit(to, size, from);
        size_t bytes = strlen(to), at = 0;
        assert_true(bytes < size);
        assert_true(bytes + 8 >= size || strcmp(to, from) == 0);
        while (at < bytes) {
            size_t n = 1;
            while (((unsigned char)to[at + n] & 0xc0) == 0x80)
                n++;
            assert_int_equal(text_broken_tail(to, at + n), 0);
            at += n;
        }
        assert_int_equal(strcmp(to, from) != 0 && size > 12, strstr(to, "…") != NULL);
    }
    /* Half of one at the end of what was cut before. */
    text_fit(to, sizeof to, "caf\xc3");
    assert_string_equal(to, "caf");
    text_fit(to, sizeof to, "\xf0\x9d\x84");
    assert_string_equal(to, "");
}

static void names_are_safe_everywhere(void **state)
{
    (void)state;
    char longest[TIDE_NAME_MAX + 2];
    memset(longest, 'a', sizeof longest);
    longest[TIDE_NAME_MAX + 1] = '\0';
    assert_false(name_valid(longest));
    longest[TIDE_NAME_MAX] = '\0';
    assert_true(name_valid(longest));
    assert_true(name_valid("n1.rack-2_b"));
    const char *const bad[] = {"", ".", "..", "-x", "_x", "a/b", "a b", "a\n", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(name_valid(bad[i]));
}

static void text_is_cut_and_ended(void **state)
{
    (void)state;
    char to[4];
    text_copy(to, sizeof to, "abcdef");
    assert_string_equal(to, "abc");
    text_copy(to, sizeof to, "");
    assert_string_equal(to, "");
}

static void allocations_fail_when_told(void **state)
{
    (void)state;
    mem_fail_at(2);
    void *first = mem_try_alloc(8);
    assert_non_null(first);
    assert_null(mem_try_alloc(8));
    void *third = mem_try_alloc(8);
    assert_non_null(third);
    mem_free(first);
    mem_free(third);
}

static void a_digest_does_not_depend_on_the_pieces(void **state)
{
    (void)state;
    static unsigned char data[200000];
    struct digest_run *run = digest_run_create();
    assert_non_null(run);
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 13);
    assert_true(digest_equal(digest_run_end(run), digest_of("", 0)));
    for (size_t piece = 1; piece < sizeof data; piece = piece * 7 + 1) {
        digest_run_restart(run);
        for (size_t at = 0; at < sizeof data; at += piece)
            digest_run_add(run, data + at, piece < sizeof data - at ? piece : sizeof data - at);
        assert_true(digest_equal(digest_run_end(run), digest_of(data, sizeof data)));
    }
    digest_run_free(run);
    char hex[DIGEST_HEX_CHARS + 1]; /* as the plainest code has it */
    digest_hex(digest_of(data, sizeof data), hex);
    assert_string_equal(hex, "f1ffbf83b3454ed855d44bab173f5da1");
}

static void digests_survive_their_hex(void **state)
{
    (void)state;
    struct digest d = digest_of("tidemark", 8), back;
    char hex[DIGEST_HEX_CHARS + 1];
    digest_hex(d, hex);
    assert_int_equal(strlen(hex), DIGEST_HEX_CHARS);
    assert_int_equal(digest_parse(hex, &back), 0);
    assert_true(digest_equal(d, back));
    assert_false(digest_equal(d, digest_of("tidemarl", 8)));
    assert_int_not_equal(digest_parse("00", &back), 0);
    hex[5] = 'G';
    assert_int_not_equal(digest_parse(hex, &back), 0);
    /* The published XXH3-128 value of no bytes, seed 0. */
    digest_hex(digest_of("", 0), hex);
    assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
}

static void chance_is_replayed_from_its_seed(void **state)
{
    (void)state;
    struct rng a = {.state = 42}, b = {.state = 42};
    for (int i = 0; i < 1000; i++)
        assert_int_equal(rng_next(&a), rng_next(&b));
    /* First output of SplitMix64 for seed 0, as in its reference implementation. */
    struct rng zero = {0};
    assert_true(rng_next(&zero) == UINT64_C(0xe220a8397b1dcdaf));
    unsigned seen[7] = {0};
    for (int i = 0; i < 7000; i++)
        seen[rng_below(&a, 7)]++;
    for (int i = 0; i < 7; i++)
        assert_in_range(seen[i], 800, 1200);
    char hex[9];
    rng_hex(&a, hex, 8);
    assert_int_equal(strspn(hex, "0123456789abcdef"), 8);
}

static void lists_of_strings_are_argvs(void **state)
{
    (void)state;
    struct strlist list = {0};
    strlist_add(&list, "a");
    strlist_add(&list, "b");
    assert_int_equal(list.count, 2);
    assert_string_equal(list.items[1], "b");
    assert_null(list.items[2]);
    struct strlist more = {0};
    strlist_append(&list, &more);
    strlist_add(&more, "c");
    strlist_append(&list, &more);
    assert_int_equal(more.count, 0);
    strlist_append(&more, &list);
    assert_int_equal(list.count, 0);
    assert_int_equal(more.count, 3);
    assert_string_equal(more.items[2], "c");
    assert_null(more.items[3]);
    strlist_append(&list, &more);
    strlist_release(&list);
    assert_int_equal(list.count, 0);
    assert_null(list.items);
}

static void files_are_replaced_whole(void **state)
{
    (void)state;
    char dir[] = "/tmp/tide-base-XXXXXX", path[256], deep[256];
    assert_non_null(mkdtemp(dir));
    snprintf(deep, sizeof deep, "%s/a/b/c", dir);
    snprintf(path, sizeof path, "%s/file", deep);
    struct err err = {0};
    char *data = NULL;
    size_t bytes = 0;
    assert_int_equal(fsx_mkdirs(deep, 0700, &err), TIDE_OK);
    assert_int_equal(fsx_mkdirs(deep, 0700, &err), TIDE_OK);
    assert_int_equal(fsx_read(path, 100, &data, &bytes, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(fsx_replace(path, "one", 3, 0600, &err), TIDE_OK);
    assert_int_equal(fsx_replace(path, "second", 6, 0600, &err), TIDE_OK);
    assert_int_equal(fsx_read(path, 6, &data, &bytes, &err), TIDE_OK);
    assert_int_equal(bytes, 6);
    assert_string_equal(data, "second");
    mem_free(data);
    assert_int_equal(fsx_read(path, 5, &data, &bytes, &err), TIDE_E_LIMIT);
    snprintf(path, sizeof path, "%s/file/below", deep);
    assert_int_equal(fsx_mkdirs(path, 0700, &err), TIDE_E_IO);
    assert_non_null(strstr(err.text, "cannot create directory"));
    assert_int_equal(fsx_remove_tree(dir, &err), TIDE_OK);
    assert_int_equal(fsx_remove_tree(dir, &err), TIDE_OK);
    assert_int_not_equal(access(dir, F_OK), 0);
}

/* In a directory that all may write to, a name may have been taken by somebody else. */
static void a_directory_of_others_is_not_taken(void **state)
{
    (void)state;
    char root[] = "/tmp/tide-own-XXXXXX", path[64];
    struct err err = {0};
    assert_non_null(mkdtemp(root));
    snprintf(path, sizeof path, "%s/ours", root);
    assert_int_equal(fsx_mkdir_own(path, 0755, &err), TIDE_OK);
    assert_int_equal(fsx_mkdir_own(path, 0755, &err), TIDE_OK);
    assert_int_equal(chmod(path, 0777), 0);
    assert_int_equal(fsx_mkdir_own(path, 0755, &err), TIDE_E_DENIED);
    assert_non_null(strstr(err.text, path));
    if (geteuid() == 0) {
        assert_int_equal(chmod(path, 0755), 0);
        assert_int_equal(chown(path, 65534, 65534), 0);
        assert_int_equal(fsx_mkdir_own(path, 0755, &err), TIDE_E_DENIED);
        assert_non_null(strstr(err.text, "65534"));
    }
    snprintf(path, sizeof path, "%s/link", root);
    assert_int_equal(symlink("/tmp", path), 0);
    assert_int_equal(fsx_mkdir_own(path, 0755, &err), TIDE_E_DENIED);
    assert_int_equal(fsx_remove_tree(root, &err), TIDE_OK);
}

static void log_levels_have_names(void **state)
{
    (void)state;
    enum log_level level;
    assert_int_equal(log_level_parse("debug", &level), 0);
    assert_int_equal(level, LOG_DEBUG);
    assert_int_not_equal(log_level_parse("loud", &level), 0);
}

/* In a child, as who has no stderr has nothing to tell a failed assertion with. */
static void log_lines_go_into_no_file_that_is_opened(void **state)
{
    (void)state;
    char path[] = "/tmp/tidemark-base.XXXXXX";
    struct stat info;
    int status = 0, made = mkstemp(path);
    assert_true(made >= 0);
    close(made);
    pid_t child = fork();
    if (child == 0) {
        close_range(STDIN_FILENO, STDERR_FILENO, 0);
        log_init("test_base", LOG_INFO);
        int fd = open(path, O_WRONLY | O_APPEND);
        log_error("this is for nobody");
        _exit(fd > STDERR_FILENO && write(STDOUT_FILENO, "x", 1) < 0 && read(STDIN_FILENO, path, 1) < 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_size, 0);
    unlink(path);
}

static atomic_uint deaf, hears;

static void take_signals(void *context)
{
    sigset_t mask;
    (void)context;
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    atomic_fetch_add(sigismember(&mask, SIGTERM) && sigismember(&mask, SIGUSR1) ? &deaf : &hears, 1);
}

static void *take_signals_once(void *context)
{
    take_signals(context);
    return NULL;
}

static void signals_stay_with_the_thread_that_begins_others(void **state)
{
    (void)state;
    pthread_t thread;
    team_run(3, take_signals, NULL);
    assert_int_equal(deaf, 2);
    assert_int_equal(hears, 1);
    assert_int_equal(thread_begin(&thread, take_signals_once, NULL), 0);
    pthread_join(thread, NULL);
    assert_int_equal(deaf, 3);
    take_signals(NULL);
    assert_int_equal(hears, 2);
}

/* Also of those that begin at the same place, round the end of the table; of two alike the first. */
static void items_are_found_by_their_digests(void **state)
{
    (void)state;
    struct {
        uint32_t number;
        struct digest digest;
    } items[6] = {{0}};
    struct digest_index index = {0};
    assert_int_equal(digest_index_find(&index, &items->digest, sizeof items[0], items[0].digest), 0);
    assert_int_equal(digest_index_init(&index, 6), 0);
    for (uint32_t i = 0; i < 6; i++) {
        items[i].digest = (struct digest){.high = i < 5 ? i : 2, .low = UINT64_MAX};
        assert_int_equal(digest_index_add(&index, &items->digest, sizeof items[0], i), i < 5);
    }
    for (uint32_t i = 0; i < 5; i++)
        assert_int_equal(digest_index_find(&index, &items->digest, sizeof items[0], items[i].digest), i + 1);
    assert_int_equal(digest_index_find(&index, &items->digest, sizeof items[0], (struct digest){.high = 5, .low = UINT64_MAX}), 0);
    digest_index_release(&index);
    mem_fail_at(1);
    assert_int_not_equal(digest_index_init(&index, 6), 0);
    digest_index_release(&index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statuses_have_names),
        cmocka_unit_test(errors_gain_context_as_they_rise),
        cmocka_unit_test(an_error_may_quote_itself),
        cmocka_unit_test(names_are_safe_everywhere),
        cmocka_unit_test(text_is_cut_and_ended),
        cmocka_unit_test(allocations_fail_when_told),
        cmocka_unit_test(a_digest_does_not_depend_on_the_pieces),
        cmocka_unit_test(digests_survive_their_hex),
        cmocka_unit_test(items_are_found_by_their_digests),
        cmocka_unit_test(chance_is_replayed_from_its_seed),
        cmocka_unit_test(lists_of_strings_are_argvs),
        cmocka_unit_test(signals_stay_with_the_thread_that_begins_others),
        cmocka_unit_test(files_are_replaced_whole),
        cmocka_unit_test(a_text_that_is_too_long_is_cut_in_its_middle),
        cmocka_unit_test(what_is_left_out_is_marked_everywhere),
        cmocka_unit_test(a_list_that_grows_has_one_mark),
        cmocka_unit_test(characters_stay_whole),
        cmocka_unit_test(a_directory_of_others_is_not_taken),
        cmocka_unit_test(log_levels_have_names),
        cmocka_unit_test(log_lines_go_into_no_file_that_is_opened),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
