/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ckpt/base/mem.h"
#include "coordinator/http/inner.h"

#define LISTEN_BACKLOG 1024

/* "host:port" or "[v6]:port" into two strings. */
static enum tide_status split(const char *address, char host[ADDRESS_MAX + 1], char port[8], struct err *err)
{
    const char *colon = strrchr(address, ':');
    size_t n = colon ? (size_t)(colon - address) : 0;
    if (colon == NULL || n == 0 || n > ADDRESS_MAX || strlen(colon + 1) == 0 || strlen(colon + 1) > 5 ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1))
        return err_set(err, TIDE_E_INVALID, "\"%s\" is not host:port; for example --listen 127.0.0.1:7070 or [::1]:7070",
                       address);
    bool brackets = address[0] == '[' && n >= 2 && address[n - 1] == ']';
    memcpy(host, address + (brackets ? 1 : 0), n - (brackets ? 2 : 0));
    host[n - (brackets ? 2 : 0)] = '\0';
    text_copy(port, 8, colon + 1);
    return TIDE_OK;
}

enum tide_status address_text(const struct sockaddr *address, socklen_t bytes, char ret_text[ADDRESS_MAX + 1], struct err *err)
{
    char host[128], port[8];
    if (getnameinfo(address, bytes, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return err_set(err, TIDE_E_IO, "cannot write down the address of a socket");
    snprintf(ret_text, ADDRESS_MAX + 1, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    return TIDE_OK;
}

static enum tide_status bound_name(int fd, char ret_bound[ADDRESS_MAX + 1], struct err *err)
{
    struct sockaddr_storage name;
    socklen_t bytes = sizeof name;
    if (getsockname(fd, (struct sockaddr *)&name, &bytes) != 0)
        return err_errno(err, "cannot ask for the address of the listening socket");
    return address_text((struct sockaddr *)&name, bytes, ret_bound, err);
}

static enum tide_status bind_one(const struct addrinfo *info, const char *address, int *ret_fd, struct err *err)
{
    int fd = socket(info->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        return err_errno(err, "cannot make a socket for %s", address);
    /* A port whose last connections are still in TIME_WAIT is free. */
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, info->ai_addr, info->ai_addrlen) == 0 && listen(fd, LISTEN_BACKLOG) == 0) {
        *ret_fd = fd;
        return TIDE_OK;
    }
    int number = errno;
    close(fd);
    if (number == EADDRINUSE)
        return err_set(err, TIDE_E_CONFLICT,
                       "cannot listen on %s: the address is in use, perhaps by another tidemarkd; stop that "
                       "one, or choose another address with --listen HOST:PORT",
                       address);
    errno = number;
    if (number == EACCES)
        return err_set(err, TIDE_E_DENIED, "cannot listen on %s: permission denied; choose a port above 1023 with --listen",
                       address);
    return err_errno(err, "cannot listen on %s; choose an address of this host with --listen HOST:PORT", address);
}

enum tide_status listen_open(const char *address, int *ret_fd, char ret_bound[ADDRESS_MAX + 1], struct err *err)
{
    char host[ADDRESS_MAX + 1], port[8];
    enum tide_status status = split(address, host, port, err);
    if (status != TIDE_OK)
        return status;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
    int failed = getaddrinfo(host, port, &hints, &found);
    if (failed != 0)
        return err_set(err, TIDE_E_INVALID, "cannot listen on %s: %s", address, gai_strerror(failed));
    int fd = -1;
    status = bind_one(found, address, &fd, err);
    freeaddrinfo(found);
    if (status == TIDE_OK)
        status = bound_name(fd, ret_bound, err);
    if (status != TIDE_OK) {
        if (fd >= 0)
            close(fd);
        return status;
    }
    *ret_fd = fd;
    return TIDE_OK;
}
