/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_NET_STRANGER_H
#define TESTS_UNIT_NET_STRANGER_H

/* A member that is as it should be, strangers that call it, and what it logged of them. */

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "tests/unit/net_world.h"

static struct ca *ca, *other_ca;
static int log_fd = -1, true_stderr = -1;

/* ---- what was logged ---- */

static void log_to_file(void)
{
    char path[128];
    snprintf(path, sizeof path, "%s/log", dir);
    fflush(stderr);
    true_stderr = dup(STDERR_FILENO);
    log_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_APPEND, 0600);
    assert_true(log_fd >= 0 && true_stderr >= 0);
    dup2(log_fd, STDERR_FILENO);
}

static int log_restore(void)
{
    if (true_stderr < 0)
        return 0;
    dup2(true_stderr, STDERR_FILENO);
    close(true_stderr);
    close(log_fd);
    true_stderr = -1;
    return 0;
}

static unsigned logged(const char *words)
{
    char text[65536];
    ssize_t n = pread(log_fd, text, sizeof text - 1, 0);
    unsigned count = 0;
    text[n > 0 ? n : 0] = '\0';
    for (const char *at = text; (at = strstr(at, words)) != NULL; at++)
        count++;
    return count;
}

static int story_begin(void **state)
{
    log_to_file();
    return world_begin(state);
}

static int story_end(void **state)
{
    int failed = world_end(state);
    log_restore();
    return failed;
}

static void one(struct member *m, bool tls)
{
    struct pki pki = tls ? member_pki(ca, CLUSTER, 1, "one") : (struct pki){0};
    member_open(m, 1, NULL, tls ? &pki : NULL);
}

static int call(const struct member *m)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons((uint16_t)strtoul(strrchr(net_address(m->net), ':') + 1, NULL, 10));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int on = 1;
    assert_true(fd >= 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
    return fd;
}

static int begin(void **state)
{
    ca = make_ca(CLUSTER);
    other_ca = make_ca(CLUSTER);
    return dir_make(state);
}

static int end(void **state)
{
    ca_free(ca);
    ca_free(other_ca);
    return dir_remove(state);
}

#endif
