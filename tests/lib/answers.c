/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "tests/lib/answers.h"

/* A request with its whole body. */
static void read_request(int fd, char *to)
{
    size_t used = 0;
    for (;;) {
        ssize_t n = recv(fd, to + used, REQUEST_MAX - 1 - used, 0);
        if (n <= 0)
            return;
        used += (size_t)n;
        to[used] = '\0';
        const char *end = strstr(to, "\r\n\r\n"), *length = strstr(to, "Content-Length: ");
        if (end && used >= (size_t)(end + 4 - to) + (length && length < end ? strtoul(length + 16, NULL, 10) : 0))
            return;
    }
}

static void *serve(void *argument)
{
    struct answers *server = argument;
    const struct timeval wait = {.tv_sec = ANSWERS_WAIT_S};
    for (; server->list[server->asked]; server->asked++) {
        int fd = accept(server->listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        const char *answer = server->list[server->asked];
        if (strncmp(answer, AT_ONCE, strlen(AT_ONCE)) == 0)
            answer += strlen(AT_ONCE);
        else
            read_request(fd, server->requests[server->asked]);
        if (send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0)
            server->requests[server->asked][0] = '\0';
        close(fd);
    }
    return NULL;
}

void answers_begin(struct answers *server, const char *const *list)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    const struct timeval wait = {.tv_sec = ANSWERS_WAIT_S};
    memset(server, 0, sizeof *server);
    server->list = list;
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(server->listener, ANSWERS_MAX), 0);
    assert_int_equal(getsockname(server->listener, (struct sockaddr *)&at, &bytes), 0);
    setsockopt(server->listener, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    server->port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

void answers_end(struct answers *server, unsigned asked)
{
    pthread_join(server->thread, NULL);
    close(server->listener);
    assert_int_equal(server->asked, asked);
}
