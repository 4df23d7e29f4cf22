/* SPDX-License-Identifier: Apache-2.0 */

/* Commands over a member: what is proposed, logged, applied, imaged and read again.
 *
 * data/golden-1 is a data directory as the tidemarkd of its time left it, with the state it had: two segments, two images, a
 * ballot. It is never made again; `test_replica make DIR` is how it was made. A version that cannot read it must say so by
 * DATA_FORMAT, and bring a way. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "coordinator/disk/check.h"
#include "coordinator/disk/datadir.h"
#include "coordinator/disk/snapshot.h"
#include "coordinator/server/replica.h"
#include "tests/unit/disk_dir.h"

#define SEGMENT (16u << 10)
#define WAIT_S 20u
#define GOLDEN TEST_DATA "/golden-1"
#define STATE_BYTES_MAX (16u << 20)

struct world {
    uv_loop_t loop;
    uv_timer_t beat;
    struct replica *replica;
    bool leads, stopped;
    unsigned done, refused, permitted, not_permitted;
    uint64_t written;
    enum tide_status last;
};

static void on_applied(void *context)
{
    (void)context;
}

static void on_turned(void *context, const struct member_turn *turn)
{
    struct world *w = context;
    w->leads = turn->ready;
}

static void on_stopped(void *context)
{
    struct world *w = context;
    w->stopped = true;
}

static void on_done(void *arg, enum tide_status status, const struct outcome *outcome, const struct err *err)
{
    struct world *w = arg;
    (void)err;
    assert_non_null(outcome);
    w->done++;
    w->refused += status != TIDE_OK;
    w->last = status;
}

static void on_ready(void *arg, bool permitted)
{
    struct world *w = arg;
    if (permitted)
        w->permitted++;
    else
        w->not_permitted++;
}

static void on_written(void *arg, uint64_t index, const struct err *err)
{
    struct world *w = arg;
    (void)err;
    assert_true(index > 0);
    w->written = index;
}

static void on_beat(uv_timer_t *timer)
{
    (void)timer;
}

#define UNTIL(w, condition)                                                                                                 \
    do {                                                                                                                    \
        uint64_t until_ = clock_mono_ns() + WAIT_S * NS_PER_S;                                                              \
        while (!(condition) && clock_mono_ns() < until_)                                                                    \
            uv_run(&(w)->loop, UV_RUN_ONCE);                                                                                \
        assert_true(condition);                                                                                             \
    } while (0)

static enum tide_status world_open(struct world *w, const char *dir, struct err *err)
{
    *w = (struct world){0};
    uv_loop_init(&w->loop);
    uv_timer_init(&w->loop, &w->beat);
    uv_timer_start(&w->beat, on_beat, 10, 10);
    return replica_open(&(struct replica_options){.loop = &w->loop,
                                                  .member = {.data = dir, .segment_bytes = SEGMENT},
                                                  .snapshot_every = 1000000,
                                                  .applied = on_applied,
                                                  .turned = on_turned,
                                                  .stopped = on_stopped,
                                                  .context = w},
                        &w->replica, err);
}

static void world_start(struct world *w, const char *dir)
{
    struct err err = {0};
    if (world_open(w, dir, &err) != TIDE_OK)
        fail_msg("%s", err.text);
    replica_start(w->replica);
    UNTIL(w, w->leads);
}

static void world_end(struct world *w)
{
    replica_stop(w->replica, true);
    UNTIL(w, w->stopped);
    uv_close((uv_handle_t *)&w->beat, NULL);
    uv_run(&w->loop, UV_RUN_DEFAULT);
    replica_close(w->replica);
    assert_int_equal(uv_loop_close(&w->loop), 0);
}

static enum tide_status propose(struct world *w, const struct command *command)
{
    struct err err = {0};
    unsigned done = w->done;
    enum tide_status status = replica_propose(w->replica, command, false, on_done, w, &err);
    if (status != TIDE_OK)
        return status;
    UNTIL(w, w->done > done);
    return w->last;
}

static void found(struct world *w)
{
    struct command command = {.kind = CMD_CLUSTER_INIT, .lease_ms = 2000, .heartbeat_ms = 250};
    text_copy(command.text, sizeof command.text, member_cluster(replica_member(w->replica)));
    assert_int_equal(propose(w, &command), TIDE_OK);
}

static enum tide_status submit(struct world *w, const char *name, const char *request)
{
    struct command command = {.kind = CMD_JOB_SUBMIT};
    text_copy(command.spec.name, sizeof command.spec.name, name);
    text_copy(command.job, sizeof command.job, name);
    text_copy(command.request, sizeof command.request, request);
    snprintf(command.uid, sizeof command.uid, "%016x", w->done + 1);
    strlist_add(&command.spec.argv, "/bin/true");
    assert_int_equal(job_spec_check(&command.spec, NULL), TIDE_OK);
    enum tide_status status = propose(w, &command);
    codec_release(&job_spec_codec, &command.spec);
    return status;
}

static void enrol(struct world *w, const char *name)
{
    struct command command = {.kind = CMD_NODE_REGISTER};
    text_copy(command.node, sizeof command.node, name);
    text_copy(command.hello.name, sizeof command.hello.name, name);
    text_copy(command.hello.uid, sizeof command.hello.uid, "00000000000000aa");
    text_copy(command.hello.incarnation, sizeof command.hello.incarnation, "00000000000000bb");
    text_copy(command.hello.host, sizeof command.hello.host, name);
    text_copy(command.hello.address, sizeof command.hello.address, "127.0.0.1");
    command.hello.slots = 4;
    command.hello.mesh_port = command.hello.log_port = 1;
    assert_int_equal(propose(w, &command), TIDE_OK);
    codec_release(&node_hello_codec, &command.hello);
}

static void image(struct world *w)
{
    w->written = 0;
    replica_image(w->replica, on_written, w);
    UNTIL(w, w->written > 0);
}

static char *print(const struct world *w)
{
    return codec_print(&state_codec, replica_state(w->replica), CODEC_COMPACT);
}

static void history(struct world *w)
{
    char name[32];
    found(w);
    enrol(w, "n1");
    enrol(w, "n2");
    for (unsigned i = 0; i < 120; i++) {
        snprintf(name, sizeof name, "job-%u", i);
        assert_int_equal(submit(w, name, name), TIDE_OK);
        if (i % 3 == 0) {
            struct command cancel = {.kind = CMD_JOB_CANCEL};
            text_copy(cancel.job, sizeof cancel.job, name);
            assert_int_equal(propose(w, &cancel), TIDE_OK);
        }
        if (i == 40 || i == 80)
            image(w);
    }
}

static void no_report(void *arg, const char *file, bool bad, const char *verdict)
{
    (void)arg;
    if (bad)
        fail_msg("%s: %s", file, verdict);
}

/* ---- tests ---- */

static void what_was_applied_is_there_again(void **dir)
{
    struct world w;
    world_start(&w, *dir);
    history(&w);
    char *before = print(&w);
    world_end(&w);
    world_start(&w, *dir);
    char *after = print(&w);
    assert_string_equal(before, after);
    mem_free(before);
    mem_free(after);
    world_end(&w);
    assert_int_equal(check_data(*dir, no_report, NULL, NULL), TIDE_OK);
}

static void the_shadow_is_the_state(void **dir)
{
    struct world w;
    struct snapshot snapshot;
    struct err err = {0};
    world_start(&w, *dir);
    history(&w);
    image(&w);
    char *state = print(&w);
    assert_int_equal(snapshot_load(*dir, member_cluster(replica_member(w.replica)), w.written, &snapshot, &err), TIDE_OK);
    assert_string_equal(snapshot.data, state);
    snapshot_release(&snapshot);
    /* Nothing has happened since: it is not written again. */
    uint64_t first = w.written;
    image(&w);
    assert_int_equal(w.written, first);
    mem_free(state);
    world_end(&w);
}

static void a_request_is_done_once(void **dir)
{
    struct world w;
    world_start(&w, *dir);
    found(&w);
    assert_int_equal(submit(&w, "once", "key"), TIDE_OK);
    size_t jobs = replica_state(w.replica)->jobs.count;
    assert_int_equal(submit(&w, "twice", "key"), TIDE_OK); /* the answer of the first */
    assert_int_equal(replica_state(w.replica)->jobs.count, jobs);
    world_end(&w);
    world_start(&w, *dir);
    assert_int_equal(submit(&w, "thrice", "key"), TIDE_OK);
    assert_int_equal(replica_state(w.replica)->jobs.count, jobs);
    world_end(&w);
}

static size_t json_bytes; /* that jansson has asked for */

static void *count_json(size_t bytes)
{
    json_bytes += bytes;
    return malloc(bytes);
}

static void what_is_too_large_is_refused_before_any_of_it_is_made(void **dir)
{
    struct world w;
    struct err err = {0};
    struct command command = {.kind = CMD_JOB_SUBMIT};
    char *word = mem_alloc(RAFT_ENTRY_BYTES_MAX);
    world_start(&w, *dir);
    found(&w);
    memset(word, 'x', RAFT_ENTRY_BYTES_MAX - 1);
    strlist_add(&command.spec.argv, word);
    json_set_alloc_funcs(count_json, free);
    json_bytes = 0;
    assert_int_equal(replica_propose(w.replica, &command, false, on_done, &w, &err), TIDE_E_LIMIT);
    json_set_alloc_funcs(malloc, free);
    assert_true(json_bytes < 4096);
    assert_non_null(strstr(err.text, "is larger than the log takes"));
    assert_int_equal(submit(&w, "small", "small"), TIDE_OK);
    codec_release(&command_codec, &command);
    mem_free(word);
    world_end(&w);
}

static void who_does_not_lead_refuses(void **dir)
{
    struct world w;
    struct err err = {0};
    struct command command = {.kind = CMD_NODE_RESUME, .node = "n1"};
    assert_int_equal(world_open(&w, *dir, &err), TIDE_OK);
    replica_start(w.replica);
    assert_int_equal(replica_propose(w.replica, &command, false, on_done, &w, &err), TIDE_E_UNAVAILABLE);
    assert_int_equal(replica_read(w.replica, on_ready, &w, &err), TIDE_E_UNAVAILABLE);
    UNTIL(&w, w.leads);
    assert_int_equal(replica_read(w.replica, on_ready, &w, &err), TIDE_OK);
    UNTIL(&w, w.permitted == 1);
    world_end(&w);
}

static void a_refusal_is_an_answer(void **dir)
{
    struct world w;
    struct command command = {.kind = CMD_JOB_CANCEL, .job = "nobody"};
    world_start(&w, *dir);
    found(&w);
    assert_int_equal(propose(&w, &command), TIDE_E_NOT_FOUND);
    assert_int_equal(w.refused, 1);
    world_end(&w);
}

static void copy_all(const char *from, const char *to)
{
    static const char *const prefixes[][2] = {{"log-", ".wal"}, {"snap-", ".img"}};
    char source[DATA_FILE_MAX], target[DATA_FILE_MAX];
    static const char *const names[] = {"format", "ballot"};
    size_t bytes;
    for (size_t i = 0; i < 2; i++) {
        datadir_file(from, names[i], source);
        datadir_file(to, names[i], target);
        char *data = file_read(source, &bytes);
        file_write(target, data, bytes);
        mem_free(data);
    }
    for (size_t k = 0; k < 2; k++) {
        uint64_t *numbers = NULL;
        size_t count = 0;
        assert_int_equal(datadir_list(from, prefixes[k][0], prefixes[k][1], &numbers, &count, NULL), TIDE_OK);
        assert_true(count >= 2);
        for (size_t i = 0; i < count; i++) {
            datadir_numbered(from, prefixes[k][0], numbers[i], prefixes[k][1], source);
            datadir_numbered(to, prefixes[k][0], numbers[i], prefixes[k][1], target);
            char *data = file_read(source, &bytes);
            file_write(target, data, bytes);
            mem_free(data);
        }
        mem_free(numbers);
    }
}

static void the_golden_directory_is_read(void **dir)
{
    struct world w;
    size_t bytes;
    copy_all(GOLDEN, *dir);
    assert_int_equal(check_data(*dir, no_report, NULL, NULL), TIDE_OK);
    world_start(&w, *dir);
    char *state = print(&w), *then = file_read(GOLDEN "/state.json", &bytes);
    then[strcspn(then, "\n")] = '\0';
    assert_string_equal(state, then);
    mem_free(state);
    mem_free(then);
    /* It was written before there were levels: what others could not read is refused until the group is at one. */
    struct command pin = {.kind = CMD_CKPT_PIN};
    struct command level = {.kind = CMD_CLUSTER_LEVEL, .level = 1};
    assert_int_equal(replica_state(w.replica)->level, 0);
    assert_int_equal(propose(&w, &pin), TIDE_E_STATE);
    assert_int_equal(propose(&w, &level), TIDE_OK);
    assert_int_equal(propose(&w, &pin), TIDE_E_NOT_FOUND); /* there is no such job */
    /* And it goes on. */
    assert_int_equal(submit(&w, "afterwards", "afterwards"), TIDE_OK);
    world_end(&w);
}

/* By whoever would start from it, also where that level brought what this version cannot read. The image is behind all there is
 * in the log, as one that was received. */
static void a_state_of_a_later_level_is_refused(void **dir)
{
    struct world w;
    struct err err = {0};
    struct snapshot snapshot;
    char cluster[TIDE_UID_CHARS + 1];
    uint64_t digest;
    world_start(&w, *dir);
    found(&w);
    image(&w);
    text_copy(cluster, sizeof cluster, member_cluster(replica_member(w.replica)));
    world_end(&w);
    assert_int_equal(snapshot_newest(*dir, cluster, &snapshot, NULL), TIDE_OK);
    snapshot.index += 1000;
    snapshot.term += 1000;
    char *said = snapshot.data;
    snapshot.data = mem_format("{\"brought_by_it\":[1],\"level\":%u,%s", LEVEL_NEWEST + 1, said + 1);
    snapshot.bytes = strlen(snapshot.data);
    mem_free(said);
    assert_int_equal(snapshot_save(*dir, cluster, &snapshot, &digest, NULL), TIDE_OK);
    snapshot_release(&snapshot);
    assert_int_equal(world_open(&w, *dir, &err), TIDE_E_VERSION);
    char *wanted = mem_format("it is of level %u, and this version knows %u at most; start a newer one", LEVEL_NEWEST + 1, LEVEL_NEWEST);
    assert_non_null(strstr(err.text, wanted));
    mem_free(wanted);
    uv_close((uv_handle_t *)&w.beat, NULL);
    uv_run(&w.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&w.loop), 0);
}

static int make(const char *dir)
{
    struct world w;
    char path[DATA_FILE_MAX];
    world_start(&w, dir);
    history(&w);
    char *state = print(&w), *line = mem_format("%s\n", state);
    datadir_file(dir, "state.json", path);
    file_write(path, line, strlen(line));
    mem_free(line);
    mem_free(state);
    world_end(&w);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_was_applied_is_there_again, dir_make, dir_drop),
        cmocka_unit_test_setup_teardown(the_shadow_is_the_state, dir_make, dir_drop),
        cmocka_unit_test_setup_teardown(a_request_is_done_once, dir_make, dir_drop),
        cmocka_unit_test_setup_teardown(what_is_too_large_is_refused_before_any_of_it_is_made, dir_make, dir_drop),
        cmocka_unit_test_setup_teardown(who_does_not_lead_refuses, dir_make, dir_drop),
        cmocka_unit_test_setup_teardown(a_refusal_is_an_answer, dir_make, dir_drop),
        cmocka_unit_test_setup_teardown(the_golden_directory_is_read, dir_make, dir_drop),
        cmocka_unit_test_setup_teardown(a_state_of_a_later_level_is_refused, dir_make, dir_drop),
    };
    log_init("test_replica", LOG_ERROR);
    if (argc == 3 && strcmp(argv[1], "make") == 0)
        return make(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
