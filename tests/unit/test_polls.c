/* SPDX-License-Identifier: Apache-2.0 */

/* Long polls (coordinator/server/watch.c), without HTTP and without a state: what a thing looks like is a number, and looking at it
 * may take long. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/inner.h"

#define THINGS 4u
#define LONG_LOOK_NS (8 * NS_PER_MS) /* more than a sweep may take of one turn */
#define TURN_PAUSE_US 200u
#define SWEEP_WAIT_MS 1000u          /* for all that a sweep may still do */

/* ---- what watch.c needs of others ---- */

struct http_request {
    uint64_t after, wait_ms;
    unsigned answers, code;
    char text[128];
};

static unsigned shows[THINGS]; /* the things' numbers */
static unsigned looks;
static int looked_at;          /* last */
static uint64_t look_ns;

enum tide_status view_of(struct server *server, unsigned kind, const char *key, char **ret_text, struct digest *ret_basis,
                         struct err *err)
{
    (void)server, (void)kind;
    looked_at = key[0] - '0';
    looks++;
    if (looked_at >= (int)THINGS)
        return err_set(err, TIDE_E_NOT_FOUND, "there is no %s", key);
    uint64_t until = clock_mono_ns() + look_ns;
    while (clock_mono_ns() < until)
        ;
    *ret_text = mem_format("{\"shows\":%u}", shows[looked_at]);
    *ret_basis = digest_of(*ret_text, strlen(*ret_text));
    return TIDE_OK;
}

enum tide_status http_query_u64(const struct http_request *request, const char *name, uint64_t otherwise, uint64_t *ret_value,
                                struct err *err)
{
    (void)otherwise, (void)err;
    *ret_value = strcmp(name, "after") == 0 ? request->after : request->wait_ms;
    return TIDE_OK;
}

void http_reply(struct http_request *request, unsigned code, const char *type, char *text)
{
    (void)type;
    request->answers++;
    request->code = code;
    text_copy(request->text, sizeof request->text, text);
    mem_free(text);
}

void http_reply_err(struct http_request *request, const struct err *err)
{
    request->answers++;
    request->code = 0;
    text_copy(request->text, sizeof request->text, err->text);
}

void http_on_gone(struct http_request *request, http_gone *gone, void *arg)
{
    (void)request, (void)gone, (void)arg;
}

void lead_redirect(struct server *server, struct http_request *request)
{
    (void)server;
    request->answers++;
}

/* ---- the story's words ---- */

static struct server *server;
static uv_loop_t loop;
static uv_timer_t limit; /* of a wait of the story's own */

static int open_server(void **state)
{
    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(uv_timer_init(&loop, &limit), 0);
    server = mem_alloc(sizeof *server);
    server->loop = &loop;
    watch_init(server);
    memset(shows, 0, sizeof shows);
    looks = 0;
    look_ns = 0;
    return 0;
}

static int close_server(void **state)
{
    (void)state;
    watch_stop(server);
    uv_close((uv_handle_t *)&limit, NULL);
    while (uv_run(&loop, UV_RUN_DEFAULT) != 0)
        ;
    assert_int_equal(uv_loop_close(&loop), 0);
    mem_free(server);
    return 0;
}

static uint64_t revision_in(const struct http_request *request)
{
    return strtoull(request->text + strlen("{\"revision\":"), NULL, 10);
}

/* Asks once what the thing is, then waits for another. Those that wait are answered behind the story, when the server stops: they
 * are static. */
static void wait_for_news(struct http_request *request, unsigned kind, const char *key)
{
    *request = (struct http_request){0};
    watch_serve(server, request, kind, key);
    assert_int_equal(request->code, 200);
    *request = (struct http_request){.after = revision_in(request), .wait_ms = WATCH_MS_MAX};
    watch_serve(server, request, kind, key);
    assert_int_equal(request->answers, 0);
}

static void on_time(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

/* Until so many looks were made, or the time is over. */
static void run_until(unsigned wanted, uint64_t ms)
{
    bool over = false;
    limit.data = &over;
    uv_timer_start(&limit, on_time, ms, 0);
    while (looks < wanted && !over) {
        uv_run(&loop, UV_RUN_NOWAIT); /* one turn; UV_RUN_ONCE would look at the timers twice */
        usleep(TURN_PAUSE_US);
    }
    uv_timer_stop(&limit);
}

/* ---- stories ---- */

static void a_watch_is_answered_when_its_thing_changes(void **state)
{
    (void)state;
    static struct http_request job, nodes;
    wait_for_news(&job, WATCH_JOB, "0");
    wait_for_news(&nodes, WATCH_NODES, "1");
    shows[0] = 7;
    watch_changed(server);
    run_until(UINT32_MAX, 50);
    assert_int_equal(job.answers, 1);
    assert_non_null(strstr(job.text, "\"shows\":7"));
    assert_int_equal(nodes.answers, 0); /* it is the same as before */
}

/* A sweep that takes several turns of the loop has been at a thing; then it changes, and nothing else ever does. */
static void behind_the_cursor(unsigned kind, void (*changed)(struct server *server))
{
    static const char *const keys[THINGS] = {"0", "1", "2", "3"};
    static struct http_request requests[THINGS];
    for (unsigned i = 0; i < THINGS; i++)
        wait_for_news(&requests[i], kind, keys[i]);
    looks = 0;
    look_ns = LONG_LOOK_NS;
    changed(server);
    run_until(1, SWEEP_WAIT_MS);
    assert_int_equal(looks, 1);
    assert_true(server->watches.cursor > 0);
    unsigned first = (unsigned)looked_at;
    shows[first] = 7;
    changed(server);
    run_until(UINT32_MAX, SWEEP_WAIT_MS);
    for (unsigned i = 0; i < THINGS; i++)
        assert_int_equal(requests[i].answers, i == first);
    assert_int_equal(server->watches.cursor, 0);
    /* The second sweep was the last one. */
    unsigned before = looks;
    run_until(UINT32_MAX, SWEEP_WAIT_MS);
    assert_int_equal(looks, before);
}

static void a_change_behind_a_sweep_is_seen(void **state)
{
    (void)state;
    behind_the_cursor(WATCH_JOB, watch_changed);
}

static void so_is_what_a_heartbeat_changes(void **state)
{
    (void)state;
    behind_the_cursor(WATCH_JOB, watch_live_changed);
}

/* Nobody is told of a heartbeat who waits for what no heartbeat changes. */
static void heartbeats_wake_only_who_asks_for_them(void **state)
{
    (void)state;
    static struct http_request desired;
    wait_for_news(&desired, WATCH_DESIRED, "0");
    looks = 0;
    shows[0] = 7;
    watch_live_changed(server);
    run_until(UINT32_MAX, 300);
    assert_int_equal(looks, 0);
    assert_int_equal(desired.answers, 0);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, open_server, close_server)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(a_watch_is_answered_when_its_thing_changes),
        CASE(a_change_behind_a_sweep_is_seen),
        CASE(so_is_what_a_heartbeat_changes),
        CASE(heartbeats_wake_only_who_asks_for_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
