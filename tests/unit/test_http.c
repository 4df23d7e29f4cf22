/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
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

struct world {
    uv_loop_t loop;
    struct http *http;
    uv_async_t end;
    struct sockaddr_in to;
    int answered;
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

static const struct http_route routes[] = {{"GET", "/later", get_later, 0}};

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

/* A resumed connection needs libmicrohttpd to be run again, whatever else looks at its timers meanwhile: here the sweep,
 * every millisecond. */
static void every_late_answer_is_sent(void **state)
{
    (void)state;
    struct world world = {0};
    struct err err = {0};
    uv_loop_init(&world.loop);
    struct http_options options = {.loop = &world.loop,
                                   .listen = "127.0.0.1:0",
                                   .routes = routes,
                                   .route_count = 1,
                                   .context = &world,
                                   .sweep_ms = 1,
                                   .stamp = no_stamp};
    assert_int_equal(http_open(&options, &world.http, &err), TIDE_OK);
    const char *port = strrchr(http_address(world.http), ':') + 1;
    world.to = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons((uint16_t)strtoul(port, NULL, 10)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    uv_async_init(&world.loop, &world.end, on_end);
    world.end.data = &world;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, client, &world), 0);
    uv_run(&world.loop, UV_RUN_DEFAULT);
    pthread_join(thread, NULL);
    assert_int_equal(uv_loop_close(&world.loop), 0);
    assert_int_equal(world.answered, ROUNDS);
}

int main(void)
{
    log_init("test_http", LOG_ERROR);
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_late_answer_is_sent)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
