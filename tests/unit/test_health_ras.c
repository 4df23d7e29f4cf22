/* SPDX-License-Identifier: Apache-2.0 */
/* How NCCL's RAS is asked, against a server that speaks its protocol (NCCL, "RAS", and src/ras/client_support.cc of 2.30): lines of
 * commands, each answered by a line; then the object, and the end of the connection. And against one that does not. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/health/watch/inner.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"

#define DEADLINE_S 60u
#define LINE_MAX_BYTES 256u
#define BACKLOG 8
#define POLL_MS 20

enum manner {
    ANSWERS,  /* as NCCL does */
    MOVES,    /* … and the rank that is behind makes another step each time */
    HANGS,    /* takes the question, and says nothing */
    CLOSES,   /* at once */
    HALF,     /* in the middle of the object */
    RUBBISH,
    TRICKLES, /* one byte now and then */
    OLD,      /* before 2.28.7: knows no format, and answers in words */
};

struct server {
    enum manner manner;
    int listener;
    unsigned port;
    pthread_t thread;
    atomic_bool stop;
    atomic_uint asked; /* questions */
    char timeout[32], format[32];
};

/* As printed by rasDumpCommsToJSON: rank 0 here, rank 1 here and behind, rank 2 on another host that does not answer. */
static void print_answer(FILE *to, unsigned count)
{
    static const char *const functions[] = {"Broadcast", "Reduce", "AllGather", "ReduceScatter", "AllReduce"};
    fprintf(to, "{\n  \"nccl_version\": \"2.30.7\",\n  \"cuda_runtime_version\": 13000,\n  \"cuda_driver_version\": 13000,\n"
                "  \"timestamp\": \"2026-11-27 12:00:00\",\n  \"communicators_count\": 1,\n  \"communicators\": [\n    {\n"
                "      \"hash\": \"0x8f3cbe1f52be5ce0\",\n      \"secondary_hash\": \"0x31a9b4f0c59a1a8:0x7c5c1c5e3d9e4a11\",\n"
                "      \"size\": 3,\n      \"ranks_count\": 2,\n      \"missing_ranks_count\": 1,\n      \"ranks\": [\n");
    for (int rank = 0; rank < 2; rank++) {
        fprintf(to, "%s        {\n          \"rank\": %d,\n          \"host\": \"127.0.0.1\",\n          \"pid\": %d,\n"
                    "          \"cuda_dev\": %d,\n          \"nvml_dev\": %d,\n          \"status\": {\n            \"init_state\": 0,\n"
                    "            \"async_error\": 0,\n            \"finalize_called\": false,\n            \"destroy_flag\": false,\n"
                    "            \"abort_flag\": false\n          },\n          \"collective_counts\": {\n",
                rank > 0 ? ",\n" : "", rank, 700 + rank, rank, rank);
        for (size_t f = 0; f < sizeof functions / sizeof functions[0]; f++)
            fprintf(to, "            \"%s\": %u%s\n", functions[f], f == 4 ? (rank == 0 ? 1000 : count) : 3, f < 4 ? "," : "");
        fputs("          }\n        }", to);
    }
    fputs("\n      ],\n      \"missing_ranks\": [\n        {\n          \"rank\": 2,\n          \"host\": \"10.0.0.8\",\n"
          "          \"pid\": 900,\n"
          "          \"cuda_dev\": 0,\n          \"nvml_dev\": 0,\n          \"status\": {\n            \"unresponsive\": true,\n"
          "            \"considered_dead\": false\n          }\n        }\n      ]\n    }\n  ],\n  \"ras\": {\n"
          "    \"collection_time_sec\": 1.002,\n    \"timeouts_count\": 1\n  }\n}\n", to);
}

static void wait_or_stop(struct server *server, unsigned ms)
{
    for (unsigned waited = 0; waited < ms && !atomic_load(&server->stop); waited += POLL_MS)
        usleep(POLL_MS * 1000);
}

static void status(struct server *server, FILE *to)
{
    unsigned asked = atomic_fetch_add(&server->asked, 1);
    char *text = NULL;
    size_t bytes = 0;
    FILE *all = open_memstream(&text, &bytes);
    print_answer(all, server->manner == MOVES ? 900 + asked : 999);
    fclose(all);
    if (server->manner == OLD) {
        fputs("NCCL version 2.24.3 compiled with CUDA 12.8\n\nJob summary\n===========\n", to);
    } else if (server->manner == TRICKLES) {
        for (size_t i = 0; i < bytes && !atomic_load(&server->stop) && fputc(text[i], to) != EOF && fflush(to) == 0; i++)
            wait_or_stop(server, 100);
    } else if (server->manner == HANGS) {
        wait_or_stop(server, DEADLINE_S * 1000);
    } else {
        fwrite(text, 1, server->manner == HALF ? bytes / 2 : bytes, to);
    }
    free(text);
}

/* False: that was the last one. */
static bool command(struct server *server, char *line, FILE *to)
{
    line[strcspn(line, "\r\n")] = '\0';
    if (strncasecmp(line, "client protocol ", 16) == 0) {
        fputs("SERVER PROTOCOL 2\n", to);
    } else if (strncasecmp(line, "timeout ", 8) == 0) {
        snprintf(server->timeout, sizeof server->timeout, "%s", line + 8);
        fputs("OK\n", to);
    } else if (strncasecmp(line, "set format ", 11) == 0 && server->manner != OLD) {
        snprintf(server->format, sizeof server->format, "%s", line + 11);
        fputs("OK\n", to);
    } else if (strcasecmp(line, "verbose status") == 0) {
        status(server, to);
        return false;
    } else {
        fprintf(to, "ERROR: Unknown command %s\n", line);
    }
    fflush(to);
    return true;
}

static void serve_one(struct server *server, int fd)
{
    char line[LINE_MAX_BYTES];
    FILE *from = fdopen(fd, "r"), *to = fdopen(dup(fd), "w");
    if (server->manner == RUBBISH) {
        atomic_fetch_add(&server->asked, 1);
        fputs("HTTP/1.1 400 Bad Request\r\n\r\n{{{\xff]]]", to);
    } else if (server->manner == CLOSES) {
        atomic_fetch_add(&server->asked, 1);
    } else {
        while (fgets(line, sizeof line, from) != NULL && command(server, line, to))
            continue;
    }
    fclose(to);
    fclose(from);
}

static void *serve(void *context)
{
    struct server *server = context;
    struct pollfd ready = {.fd = server->listener, .events = POLLIN};
    while (!atomic_load(&server->stop))
        if (poll(&ready, 1, POLL_MS) > 0)
            serve_one(server, accept(server->listener, NULL, NULL));
    return NULL;
}

static void server_listen(struct server *server)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof at;
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&at, &size), 0);
    server->port = ntohs(at.sin_port);
}

static void server_start(struct server *server, enum manner manner)
{
    memset(server, 0, sizeof *server);
    server->manner = manner;
    server_listen(server);
    assert_int_equal(listen(server->listener, BACKLOG), 0);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void server_stop(struct server *server)
{
    atomic_store(&server->stop, true);
    pthread_join(server->thread, NULL);
    close(server->listener);
}

/* ---- the probe ---- */

struct eye {
    uv_loop_t loop;
    uv_timer_t deadline;
    struct watch *watch;
    unsigned changes;
    bool late;
};

static void on_changed(void *context)
{
    struct eye *eye = context;
    eye->changes++;
    uv_stop(&eye->loop);
}

static void on_deadline(uv_timer_t *timer)
{
    ((struct eye *)timer->data)->late = true;
    uv_stop(timer->loop);
}

static void open_eye(struct eye *eye, unsigned port, uint64_t hang_ms, unsigned probes)
{
    static const char nothing[] = "";
    struct watch_options options = {
        .probes = probes, .nics = nothing, .address = "10.0.0.7", .ras_port = (uint16_t)port, .hang_ms = hang_ms};
    memset(eye, 0, sizeof *eye);
    uv_loop_init(&eye->loop);
    uv_timer_init(&eye->loop, &eye->deadline);
    eye->deadline.data = eye;
    uv_timer_start(&eye->deadline, on_deadline, DEADLINE_S * 1000, 0);
    eye->watch = watch_create(&eye->loop, &options, on_changed, eye);
}

static void close_eye(struct eye *eye)
{
    assert_true(watch_close(eye->watch));
    uv_close((uv_handle_t *)&eye->deadline, NULL);
    uv_run(&eye->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&eye->loop), 0);
    watch_free(eye->watch);
}

/* Rank 1 here is 701. */
static void stand_still(struct eye *eye, bool still)
{
    static const int32_t pids[] = {700, 701};
    watch_ranks(eye->watch, pids, 2, still ? 2 : 0);
}

static void wait_for(struct eye *eye, unsigned changes)
{
    while (eye->changes < changes && !eye->late)
        uv_run(&eye->loop, UV_RUN_DEFAULT);
    assert_true(eye->changes >= changes);
}

static struct health_fact told(struct eye *eye, const char *probe)
{
    struct health_report report;
    watch_report(eye->watch, &report);
    const struct health_fact *found = health_find(&report.facts, probe, RAS_SUBJECT);
    struct health_fact fact = found != NULL ? *found : (struct health_fact){.state = TIDE_HEALTH_HEALTHY};
    codec_release(&health_report_codec, &report);
    return fact;
}

static void test_who_is_behind_is_named_in_time(void **unused)
{
    (void)unused;
    struct server server;
    struct eye eye;
    server_start(&server, ANSWERS);
    open_eye(&eye, server.port, RAS_STUCK_MS + 500, WATCH_NCCL);
    uint64_t began_ns = clock_mono_ns();
    stand_still(&eye, true);
    wait_for(&eye, 1);
    uint64_t took_ms = (clock_mono_ns() - began_ns) / NS_PER_MS;
    print_message("%u ms from standing still to the name\n", (unsigned)took_ms);
    struct health_fact fact = told(&eye, "nccl");
    assert_int_equal(fact.state, TIDE_HEALTH_DEGRADED);
    assert_false(fact.restart);
    assert_string_equal(fact.text, "rank 1 of communicator 0x8f3cbe1f52be5ce0 has begun 999 AllReduce, others 1000, and none moves");
    wait_for(&eye, 2); /* it goes on */
    fact = told(&eye, "nccl-hang");
    assert_int_equal(fact.state, TIDE_HEALTH_DEGRADED);
    assert_true(fact.restart);
    /* They move again: that is over, and nobody asks any more. */
    stand_still(&eye, false);
    usleep(2 * RAS_PERIOD_MS * 1000);
    unsigned asked = atomic_load(&server.asked);
    usleep(2 * RAS_PERIOD_MS * 1000);
    assert_int_equal(atomic_load(&server.asked), asked);
    close_eye(&eye);
    server_stop(&server);
    assert_string_equal(server.format, "json");
    assert_string_equal(server.timeout, RAS_LEG_S);
}

/* One look, as its thread does it; how long it took, ms. */
static unsigned look(struct eye *eye, void **past)
{
    struct looker looker = {.watch = eye->watch, .past = *past};
    uint64_t began_ns = clock_mono_ns();
    assert_true(look_nccl(&looker));
    *past = looker.past;
    uv_run(&eye->loop, UV_RUN_NOWAIT);
    return (unsigned)((clock_mono_ns() - began_ns) / NS_PER_MS);
}

/* Nobody is blamed by what is no answer, and each look ends in time. */
static void test_no_verdict_without_an_answer(void **unused)
{
    (void)unused;
    static const enum manner manners[] = {MOVES, CLOSES, HALF, RUBBISH, OLD, HANGS, TRICKLES};
    for (size_t m = 0; m < sizeof manners / sizeof manners[0]; m++) {
        struct server server;
        struct eye eye;
        void *past = NULL;
        bool slow = manners[m] == HANGS || manners[m] == TRICKLES;
        server_start(&server, manners[m]);
        open_eye(&eye, server.port, 1, 0);
        stand_still(&eye, true);
        uint64_t until_ns = clock_mono_ns() + (RAS_STUCK_MS + 500) * NS_PER_MS;
        do {
            unsigned ms = look(&eye, &past);
            assert_true(ms < RAS_DEADLINE_MS + 10000); /* a machine that is busy */
            if (slow)
                assert_true(ms >= RAS_DEADLINE_MS - 100);
            usleep(100000);
        } while (manners[m] == MOVES && clock_mono_ns() < until_ns);
        assert_true(atomic_load(&server.asked) > 0);
        assert_int_equal(eye.changes, 0);
        mem_free(past);
        close_eye(&eye);
        server_stop(&server);
    }
}

/* Nobody listens; or somebody does, and takes no connection. */
static void test_no_verdict_without_a_server(void **unused)
{
    (void)unused;
    struct server server = {.manner = ANSWERS};
    struct eye eye;
    void *past = NULL;
    server_listen(&server);
    open_eye(&eye, server.port, 1, 0);
    stand_still(&eye, true);
    assert_true(look(&eye, &past) < RAS_DEADLINE_MS);
    assert_int_equal(listen(server.listener, 0), 0);
    look(&eye, &past);
    look(&eye, &past);
    assert_int_equal(eye.changes, 0);
    mem_free(past);
    close_eye(&eye);
    close(server.listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_who_is_behind_is_named_in_time),
        cmocka_unit_test(test_no_verdict_without_an_answer),
        cmocka_unit_test(test_no_verdict_without_a_server),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
