/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "coordinator/net/inner.h"

#define LISTEN_BACKLOG 128

static bool is_pending(const struct link *link)
{
    return !link->dialled && !link->dead && link->state != LINK_UP && link->state != LINK_CLOSED;
}

/* Make room for a newcomer: who has been silent longest goes. Links stand newest first. */
static void limit_pending(struct net *net)
{
    unsigned count = 0;
    struct link *oldest = NULL;
    for (struct link *link = net->links; link != NULL; link = link->next)
        if (is_pending(link)) {
            count++;
            oldest = link;
        }
    if (count < NET_PENDING_MAX)
        return;
    voice_say(&net->voice, net_now_ms(), LOG_WARN,
              "more than %u connections that do not say who they are: closed the oldest, from %s", NET_PENDING_MAX,
              oldest->remote);
    link_close(oldest);
}

static void take(struct net *net, int fd, const struct address *from)
{
    char remote[ADDRESS_MAX + 1];
    int on = 1;
    limit_pending(net);
    address_print(from, false, remote);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (link_open(net, fd, LINK_WAITING, NULL, remote) == NULL)
        close(fd);
}

static void on_listener(uv_poll_t *poll, int status, int events)
{
    struct net *net = poll->data;
    (void)status, (void)events;
    for (unsigned i = 0; i < NET_ACCEPTS_PER_TURN; i++) {
        struct address from = {.bytes = sizeof from.storage};
        int fd = accept4(net->listen_fd, (struct sockaddr *)&from.storage, &from.bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take(net, fd, &from);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            struct err err = {0};
            err_errno(&err, "cannot take connections of other members for a while");
            voice_say(&net->voice, net_now_ms(), LOG_ERROR, "%s", err.text);
            net->accept_pause = NET_TICKS(NET_ACCEPT_PAUSE_MS);
            uv_poll_stop(&net->listener);
        }
        return;
    }
}

void accept_resume(struct net *net)
{
    uv_poll_start(&net->listener, UV_READABLE, on_listener);
}

static enum tide_status bind_to(const struct address *address, const char *text, int *ret_fd, struct err *err)
{
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    if (fd < 0)
        return err_errno(err, "cannot make a socket for %s", text);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (const struct sockaddr *)&address->storage, address->bytes) == 0 && listen(fd, LISTEN_BACKLOG) == 0) {
        *ret_fd = fd;
        return TIDE_OK;
    }
    int number = errno;
    close(fd);
    if (number == EADDRINUSE)
        return err_set(
            err, TIDE_E_CONFLICT,
            "cannot listen for other members on %s: the address is in use, perhaps by another tidemarkd; stop that "
            "one, or choose another address",
            text);
    if (number == EACCES)
        return err_set(err, TIDE_E_DENIED,
                       "cannot listen for other members on %s: permission denied; choose a port above 1023", text);
    errno = number;
    return err_errno(err, "cannot listen for other members on %s; choose an address of this host", text);
}

static enum tide_status find(const struct net *net, const char *text, struct address *ret_address, struct err *err)
{
    char host[ADDRESS_MAX + 1], port[PORT_TEXT_MAX];
    enum tide_status status = address_parts(text, host, port, err);
    if (status != TIDE_OK)
        return status;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV}, *found;
    int failed = getaddrinfo(host, port, &hints, &found);
    if (failed != 0)
        return err_set(err, TIDE_E_INVALID, "cannot listen for other members on %s: %s", text, gai_strerror(failed));
    memcpy(&ret_address->storage, found->ai_addr, found->ai_addrlen);
    ret_address->bytes = found->ai_addrlen;
    freeaddrinfo(found);
    if (net->tls == NULL && !address_is_loopback(ret_address))
        return err_set(err, TIDE_E_DENIED,
                       "without TLS members meet on loopback only, and %s is elsewhere; make certificates with tidemark "
                       "cluster init, or choose an address as 127.0.0.1:7071",
                       text);
    return TIDE_OK;
}

enum tide_status accept_open(struct net *net, const char *text, struct err *err)
{
    struct address address = {0};
    enum tide_status status = find(net, text, &address, err);
    if (status == TIDE_OK)
        status = bind_to(&address, text, &net->listen_fd, err);
    if (status != TIDE_OK)
        return status;
    address.bytes = sizeof address.storage;
    if (getsockname(net->listen_fd, (struct sockaddr *)&address.storage, &address.bytes) != 0 ||
        uv_poll_init(net->options.loop, &net->listener, net->listen_fd) != 0) {
        close(net->listen_fd);
        return err_set(err, TIDE_E_IO, "cannot watch the socket of %s", text);
    }
    address_print(&address, true, net->address);
    net->listener.data = net;
    net->open++;
    accept_resume(net);
    return TIDE_OK;
}
