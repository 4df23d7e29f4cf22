/* SPDX-License-Identifier: Apache-2.0 */
#include "core_saves.h"
#include "coordinator/core/judge.h"

/* What is done about checkpoints that lie in the store, and with what nodes can read there. */

static void damage_that_was_found_by_reading_is_no_restart(void **context)
{
    (void)context;
    struct world w;
    struct desired desired;
    start_job(&w, 2, 2, 0);
    save_job(&w);
    save_job(&w);
    /* One node is asked to read both, the other none. */
    assert_int_equal(desired_build(&w.state, &w.book, "n2", &desired, &w.err), TIDE_OK);
    assert_int_equal(desired.jobs.items[0].scrub.count, 0);
    codec_release(&desired_codec, &desired);
    assert_int_equal(desired_build(&w.state, &w.book, "n1", &desired, &w.err), TIDE_OK);
    assert_int_equal(desired.jobs.items[0].scrub.count, 2);
    assert_int_equal(desired.jobs.items[0].scrub.items[1].cut, 2);
    assert_string_equal(desired.jobs.items[0].scrub.items[1].manifest_key, ckpt_of(&w, "j", 2)->manifest_key);
    codec_release(&desired_codec, &desired);
    fake_of(&w, "n1")->damaged = 2;
    run(&w, 300);
    assert_int_equal(ckpt_of(&w, "j", 2)->state, TIDE_CKPT_CORRUPT);
    assert_text(ckpt_of(&w, "j", 2)->reason, "n1 read it in the store: chunk 5 in object c/x");
    assert_int_equal(event_count(&w, "j", EVENT_CORRUPT), 1);
    assert_int_equal(job_of(&w, "j")->generation, 1);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_COMMITTED);
    crash(&w, 0);
    run(&w, 300);
    assert_int_equal(job_of(&w, "j")->restore_cut, 1);
    /* Ranks are being restored from it: whether it is any good they find out themselves. */
    w.ranks[0].stuck_step = true;
    crash(&w, 0);
    fake_of(&w, "n1")->damaged = 1;
    run(&w, 300);
    assert_int_equal(job_of(&w, "j")->restore_cut, 1);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_COMMITTED);
    w.ranks[0].stuck_step = false;
    run(&w, 300);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_CORRUPT);
    world_release(&w);
}

static bool metric_is(const struct world *w, const char *line)
{
    char *text = metrics_text(&w->state, &w->book, w->now_ns, w->wall_ms);
    bool is = strstr(text, line) != NULL;
    if (!is)
        print_message("%s", text);
    mem_free(text);
    return is;
}

static void what_was_read_and_when_is_told_in_numbers(void **context)
{
    (void)context;
    struct world w;
    char line[96];
    start_job(&w, 2, 2, 0);
    assert_true(metric_is(&w, "\ntidemark_scrub_checkpoints{job=\"j\"} 0\n"));
    assert_true(metric_is(&w, "\ntidemark_scrub_last_timestamp_seconds{job=\"j\"} 0\n"));
    save_job(&w);
    save_job(&w);
    run(&w, 300);
    assert_true(metric_is(&w, "# TYPE tidemark_checkpoints gauge\n"));
    assert_true(metric_is(&w, "\ntidemark_checkpoints{job=\"j\",state=\"committed\"} 2\n"));
    assert_true(metric_is(&w, "\ntidemark_scrub_checkpoints{job=\"j\"} 2\n"));
    assert_true(metric_is(&w, "\ntidemark_scrub_bytes{job=\"j\"} 2000\n"));
    uint64_t heard_ns = w.now_ns - book_find(&w.book, "n1")->heard_ns;
    snprintf(line, sizeof line, "\ntidemark_scrub_last_timestamp_seconds{job=\"j\"} %" PRIu64 "\n",
             (w.wall_ms - FAKE_SCRUB_AGO_MS - heard_ns / NS_PER_MS) / MS_PER_S);
    assert_true(metric_is(&w, line));
    fake_of(&w, "n1")->damaged = 2;
    run(&w, 300);
    assert_true(metric_is(&w, "\ntidemark_checkpoints{job=\"j\",state=\"corrupt\"} 1\n"));
    world_release(&w);
}

static bool shares(struct world *w, const char *node)
{
    struct desired desired;
    assert_int_equal(desired_build(&w->state, &w->book, node, &desired, &w->err), TIDE_OK);
    bool share = desired.jobs.items[0].share;
    codec_release(&desired_codec, &desired);
    return share;
}

static void ranks_share_what_every_node_can_read(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 3, 2, 1);
    fake_of(&w, "n1")->store_hangs = fake_of(&w, "n2")->store_hangs = true;
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    run(&w, 900);
    assert_int_equal(ckpt_of(&w, "j", 1)->state, TIDE_CKPT_SEALED);
    assert_true(shares(&w, "n1") && shares(&w, "n2"));
    fake_of(&w, "n3")->old = true; /* a spare, that may have to restore it */
    run(&w, 300);
    assert_false(shares(&w, "n1") || shares(&w, "n2"));
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_read_and_when_is_told_in_numbers),
        cmocka_unit_test(damage_that_was_found_by_reading_is_no_restart),
        cmocka_unit_test(ranks_share_what_every_node_can_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
