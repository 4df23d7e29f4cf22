/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/http/http.h"

#define ROUNDS 3000
#define ANSWER_S 5 /* an answer that takes longer was forgotten */
#define PARKED_US 50000

struct world {
    uv_loop_t loop;
    struct http *http;
    uv_async_t end;
    struct sockaddr_in to;
    int answered;
    uint64_t sweep_ms;
    atomic_bool gone;  /* a parked client's end was told */
    const char *ask;   /* of the client that asks once */
    char answer[4096]; /* what it got */
};

static void no_stamp(void *context, struct http_request *request)
{
    (void)context, (void)request;
}

/* As a command that goes through the log: a worker first, the answer from its end. */
struct slow {
    uv_work_t work;
    struct http_request *request;
};

static void slow_run(uv_work_t *work)
{
    (void)work;
}

static void slow_done(uv_work_t *work, int status)
{
    (void)status;
    struct slow *slow = work->data;
    http_reply(slow->request, 200, "text/plain", mem_strdup("later\n"));
    mem_free(slow);
}

static void get_later(void *context, struct http_request *request)
{
    struct world *world = context;
    struct slow *slow = mem_alloc(sizeof *slow);
    slow->request = request;
    slow->work.data = slow;
    uv_queue_work(&world->loop, &slow->work, slow_run, slow_done);
}

static void get_elsewhere(void *context, struct http_request *request)
{
    (void)context;
    http_redirect(request, "https://leader:7070", "member %d leads; ask it", 2);
}

static void on_gone(void *arg, struct http_request *request)
{
    struct world *world = arg;
    world->gone = true;
    http_reply(request, 200, "text/plain", mem_strdup("to nobody\n"));
}

static void get_parked(void *context, struct http_request *request)
{
    http_on_gone(request, on_gone, context);
}

static const struct http_route routes[] = {{"GET", "/later", get_later, 0},
                                           {"GET", "/parked", get_parked, 0},
                                           {"GET", "/v1/{word}", get_elsewhere, 0},
                                           {"PUT", "/v1/{word}/of/{two}", get_elsewhere, 0}};

static void on_end(uv_async_t *end)
{
    struct world *world = end->data;
    http_close(world->http);
    uv_close((uv_handle_t *)end, NULL);
}

/* One client on one connection, one request after the other. */
static void *client(void *arg)
{
    static const char ask[] = "GET /later HTTP/1.1\r\nHost: a\r\n\r\n";
    struct world *world = arg;
    struct timeval wait = {.tv_sec = ANSWER_S};
    char answer[2048];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (connect(fd, (struct sockaddr *)&world->to, sizeof world->to) == 0)
        for (; world->answered < ROUNDS; world->answered++) {
            size_t used = 0;
            answer[0] = '\0';
            if (send(fd, ask, sizeof ask - 1, MSG_NOSIGNAL) != (ssize_t)(sizeof ask - 1))
                break;
            while (strstr(answer, "later\n") == NULL && used < sizeof answer - 1) {
                ssize_t n = recv(fd, answer + used, sizeof answer - 1 - used, 0);
                if (n <= 0)
                    goto out;
                used += (size_t)n;
                answer[used] = '\0';
            }
        }
out:
    close(fd);
    uv_async_send(&world->end);
    return NULL;
}

/* One client, one request. */
static void *ask_once(void *arg)
{
    struct world *world = arg;
    struct timeval wait = {.tv_sec = ANSWER_S};
    size_t used = 0;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (connect(fd, (struct sockaddr *)&world->to, sizeof world->to) == 0 &&
        send(fd, world->ask, strlen(world->ask), MSG_NOSIGNAL) == (ssize_t)strlen(world->ask))
        for (ssize_t n; (n = recv(fd, world->answer + used, sizeof world->answer - 1 - used, 0)) > 0;)
            used += (size_t)n;
    close(fd);
    uv_async_send(&world->end);
    return NULL;
}

/* A client that asks for what takes long, and hangs up: at the other end nothing more comes of it but that. */
static void *hangs_up(void *arg)
{
    struct world *world = arg;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&world->to, sizeof world->to) == 0 &&
        send(fd, world->ask, strlen(world->ask), MSG_NOSIGNAL) == (ssize_t)strlen(world->ask))
        usleep(PARKED_US);
    close(fd);
    for (unsigned i = 0; i < ANSWER_S * 1000 && !world->gone; i++)
        usleep(1000);
    uv_async_send(&world->end);
    return NULL;
}

static void serve(struct world *world, void *(*run)(void *))
{
    struct err err = {0};
    uv_loop_init(&world->loop);
    struct http_options options = {.loop = &world->loop,
                                   .listen = "127.0.0.1:0",
                                   .routes = routes,
                                   .route_count = sizeof routes / sizeof routes[0],
                                   .context = world,
                                   .sweep_ms = world->sweep_ms ? world->sweep_ms : 1,
                                   .stamp = no_stamp};
    assert_int_equal(http_open(&options, &world->http, &err), TIDE_OK);
    const char *port = strrchr(http_address(world->http), ':') + 1;
    world->to = (struct sockaddr_in){.sin_family = AF_INET,
                                     .sin_port = htons((uint16_t)strtoul(port, NULL, 10)),
                                     .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uv_async_init(&world->loop, &world->end, on_end);
    world->end.data = world;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run, world), 0);
    uv_run(&world->loop, UV_RUN_DEFAULT);
    pthread_join(thread, NULL);
    assert_int_equal(uv_loop_close(&world->loop), 0);
}

/* A resumed connection needs libmicrohttpd to be run again, whatever else looks at its timers meanwhile: here the sweep,
 * every millisecond. */
static void every_late_answer_is_sent(void **state)
{
    struct world world = {0};
    (void)state;
    serve(&world, client);
    assert_int_equal(world.answered, ROUNDS);
}

/* The same path and query at another base, whatever they hold. */
static void a_caller_is_sent_on(void **state)
{
    struct world world = {
        .ask =
            "GET /v1/a%2520b%22%C3%A9?after=7&wait_ms=5&x=%26%3D%20+&flag HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"};
    (void)state;
    serve(&world, ask_once);
    assert_non_null(strstr(world.answer, "HTTP/1.1 307 "));
    assert_non_null(
        strstr(world.answer, "Location: https://leader:7070/v1/a%2520b%22%C3%A9?after=7&wait_ms=5&x=%26%3D%20%20&flag\r\n"));
    assert_non_null(strstr(world.answer, "\"leader\":\"https://leader:7070\""));
    assert_non_null(strstr(world.answer, "member 2 leads; ask it"));
}

static void a_long_target_is_sent_on_whole(void **state)
{
    char word[1500], ask[1700], location[1700];
    struct world world = {.ask = ask};
    (void)state;
    memset(word, 'w', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    snprintf(ask, sizeof ask, "GET /v1/w?x=%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", word);
    snprintf(location, sizeof location, "Location: https://leader:7070/v1/w?x=%s\r\n", word);
    serve(&world, ask_once);
    assert_non_null(strstr(world.answer, location));
}

/* By the system, not by a sweep over all who wait: there is none within this test. */
static void who_waits_for_a_client_is_told_when_it_has_gone(void **state)
{
    struct world world = {.ask = "GET /parked HTTP/1.1\r\nHost: a\r\n\r\n", .sweep_ms = 60000};
    (void)state;
    serve(&world, hangs_up);
    assert_true(world.gone);
}

static void a_method_that_does_not_fit_is_told_what_does(void **state)
{
    struct world world = {.ask = "POST /v1/one/of/two HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"};
    (void)state;
    serve(&world, ask_once);
    assert_non_null(strstr(world.answer, "HTTP/1.1 405 "));
    assert_non_null(strstr(world.answer, "Allow: PUT\r\n"));
}

int main(void)
{
    log_init("test_http", LOG_ERROR);
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_late_answer_is_sent), cmocka_unit_test(a_caller_is_sent_on),
                                       cmocka_unit_test(a_long_target_is_sent_on_whole),
                                       cmocka_unit_test(who_waits_for_a_client_is_told_when_it_has_gone),
                                       cmocka_unit_test(a_method_that_does_not_fit_is_told_what_does)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
