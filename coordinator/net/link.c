/* SPDX-License-Identifier: Apache-2.0 */

/* One connection: bytes in, bytes out, deadlines. What the frames of a connection that is not up yet mean is in greet.c. */

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "coordinator/net/inner.h"

#define PIECES_PER_WRITE 64u

const char *link_name(const struct link *link, char room[ADDRESS_MAX + 64])
{
    const char *where = link->dialled ? "at" : "from";
    if (link->peer != NULL)
        snprintf(room, ADDRESS_MAX + 64, "member %" PRIu64 " %s %s", link->peer->id, where, link->remote);
    else
        snprintf(room, ADDRESS_MAX + 64, "a connection %s %s", where, link->remote);
    return room;
}

/* ---- its end ---- */

static void on_closed(uv_handle_t *handle)
{
    struct link *link = handle->data, **at = &link->net->links;
    while (*at != link)
        at = &(*at)->next;
    *at = link->next;
    SSL_free(link->ssl);
    queue_clear(&link->out);
    mem_free(link->in);
    close(link->fd);
    net_let_go(link->net);
    mem_free(link);
}

void link_close(struct link *link)
{
    if (link->state == LINK_CLOSED)
        return;
    link->state = LINK_CLOSED;
    if (link->peer != NULL) {
        struct net_peer *peer = link->peer;
        peer->dialled = peer->dialled == link ? NULL : peer->dialled;
        peer->accepted = peer->accepted == link ? NULL : peer->accepted;
        peer->up = peer->up == link ? NULL : peer->up;
        link->peer = NULL;
    }
    uv_close((uv_handle_t *)&link->poll, on_closed);
    shutdown(link->fd, SHUT_RDWR); /* the other side need not wait for this loop's turn */
}

static void doom(struct link *link)
{
    link->dead = true;
    link->net->dirty = true;
}

void link_kill(struct link *link, const char *format, ...)
{
    if (link->dead || link->state == LINK_CLOSED)
        return;
    if (link->state != LINK_LINGERING) {
        va_list args;
        va_start(args, format);
        text_say_list(link->why, sizeof link->why, format, args);
        va_end(args);
    }
    doom(link);
}

void link_refuse(struct link *link, const char *format, ...)
{
    if (link->dead || link->state == LINK_CLOSED || link->state == LINK_LINGERING)
        return;
    bool was_up = link->state == LINK_UP, can_tell = was_up || link->state == LINK_GREETING;
    char room[ADDRESS_MAX + 64];
    va_list args;
    va_start(args, format);
    text_say_list(link->why, sizeof link->why, format, args);
    va_end(args);
    voice_say(link->peer ? &link->peer->voice : &link->net->voice, net_now_ms(), LOG_WARN, "refused %s: %s",
              link_name(link, room), link->why);
    if (can_tell)
        link_frame(link, FRAME_REFUSE, link->why, strlen(link->why));
    link->state = LINK_LINGERING;
    link->age = 0;
    link_write(link);
    if (was_up)
        doom(link);
}

/* ---- out ---- */

void link_frame(struct link *link, enum frame_type type, const void *data, size_t bytes)
{
    uint8_t head[FRAME_HEAD_BYTES];
    frame_head_write(head, type, data, bytes, NULL, 0);
    queue_copy(&link->out, head, sizeof head);
    queue_copy(&link->out, data, bytes);
    link->net->dirty = true;
}

static enum io send_some(struct link *link, size_t most, size_t *ret_bytes)
{
    struct iovec pieces[PIECES_PER_WRITE];
    size_t count = queue_peek(&link->out, pieces, PIECES_PER_WRITE);
    if (link->ssl != NULL) {
        size_t n = pieces[0].iov_len < most ? pieces[0].iov_len : most;
        return tls_write(link->ssl, pieces[0].iov_base, n, ret_bytes, link->why);
    }
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
    ssize_t n = sendmsg(link->fd, &message, MSG_NOSIGNAL);
    if (n >= 0) {
        *ret_bytes = (size_t)n;
        return IO_DONE;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return IO_AGAIN_WRITE;
    struct err err = {0};
    err_errno(&err, "the connection broke");
    text_fit(link->why, sizeof link->why, err.text);
    return IO_BROKEN;
}

void link_write(struct link *link)
{
    size_t left = NET_TURN_BYTES, n = 0;
    link->want_write = false;
    while (link->out.bytes > 0 && !link->dead) {
        enum io io = left > 0 ? send_some(link, left, &n) : IO_AGAIN_WRITE;
        if (io == IO_END)
            link_kill(link, "it closed the connection");
        else if (io == IO_BROKEN || io == IO_FAILED)
            doom(link);
        link->want_write = io == IO_AGAIN_WRITE;
        if (io != IO_DONE)
            break;
        queue_drop(&link->out, n);
        link->said = 0;
        left -= n < left ? n : left;
        if (link->peer != NULL)
            link->peer->bytes_sent += n;
    }
    if (link->state == LINK_LINGERING && link->out.bytes == 0)
        shutdown(link->fd, SHUT_WR);
    link_watch(link);
}

/* ---- in ---- */

static bool listens(const struct link *link)
{
    return !link->dead && (link->state == LINK_GREETING || link->state == LINK_UP);
}

static void take_message(struct link *link, const struct frame_head *head, const uint8_t *payload)
{
    struct net *net = link->net;
    link->peer->messages_received++;
    net->options.on_message(net->options.context, link->peer->id, payload, head->bytes);
}

static void take_frame(struct link *link, const struct frame_head *head, const uint8_t *payload)
{
    struct err err = {0};
    if (frame_payload_check(head, payload, &err) != TIDE_OK)
        link_refuse(link, "%s", err.text);
    else if (head->type == FRAME_MESSAGE)
        take_message(link, head, payload);
    else if (head->type != FRAME_PING)
        greet_frame(link, head, payload);
}

/* Whole frames, one after the other; `need` is then the room that the rest of the last one wants. */
static size_t take_frames(struct link *link)
{
    size_t need = 0;
    while (listens(link) && link->in_end - link->in_begin >= FRAME_HEAD_BYTES) {
        const uint8_t *at = (const uint8_t *)link->in + link->in_begin;
        struct frame_head head;
        struct err err = {0};
        if (frame_head_read(at, link->state != LINK_UP, &head, &err) != TIDE_OK) {
            link_refuse(link, "%s", err.text);
            break;
        }
        need = FRAME_HEAD_BYTES + head.bytes;
        if (link->in_end - link->in_begin < need)
            break;
        link->in_begin += need;
        need = 0;
        take_frame(link, &head, at + FRAME_HEAD_BYTES);
    }
    return need;
}

static void make_room(struct link *link, size_t need)
{
    if (link->in_begin > 0)
        memmove(link->in, link->in + link->in_begin, link->in_end - link->in_begin);
    link->in_end -= link->in_begin;
    link->in_begin = 0;
    size_t usual = link->state == LINK_UP ? NET_READ_BYTES : NET_EARLY_READ_BYTES;
    size_t want = need > usual ? need : usual;
    if (want > link->in_room) {
        link->in = mem_grow(link->in, want, 1);
        link->in_room = want;
    }
}

static enum io receive_some(struct link *link, size_t *ret_bytes)
{
    char *to = link->in + link->in_end;
    size_t room = link->in_room - link->in_end;
    if (link->ssl != NULL)
        return tls_read(link->ssl, to, room, ret_bytes, link->why);
    ssize_t n = recv(link->fd, to, room, 0);
    if (n > 0) {
        *ret_bytes = (size_t)n;
        return IO_DONE;
    }
    if (n == 0)
        return IO_END;
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)
        return IO_AGAIN;
    struct err err = {0};
    err_errno(&err, "the connection broke");
    text_fit(link->why, sizeof link->why, err.text);
    return IO_BROKEN;
}

/* Whatever still comes is thrown away; the other side may be reading why it was refused. */
static void drain(struct link *link)
{
    char waste[4096];
    for (unsigned i = 0; i < NET_TURN_BYTES / sizeof waste; i++) {
        ssize_t n = recv(link->fd, waste, sizeof waste, 0);
        if (n > 0 || (n < 0 && errno == EINTR))
            continue;
        if (n == 0 || (errno != EAGAIN && errno != EWOULDBLOCK))
            doom(link);
        return;
    }
}

static void on_idle(uv_idle_t *idle)
{
    struct net *net = idle->data;
    uv_idle_stop(idle);
    for (struct link *link = net->links; link != NULL; link = link->next)
        if (link->read_more)
            link_read(link);
}

void link_read(struct link *link)
{
    size_t taken = 0, need = take_frames(link), n = 0;
    link->read_more = false;
    while (listens(link)) {
        if (taken >= NET_TURN_BYTES) {
            /* Level-triggered polling tells of what the socket still holds, not of what OpenSSL has taken out of it. */
            link->read_more = link->ssl != NULL;
            break;
        }
        make_room(link, need);
        enum io io = receive_some(link, &n);
        if (io == IO_END)
            link_kill(link, link->state == LINK_UP ? "it closed the connection" : "it closed the connection without a word");
        else if (io == IO_BROKEN || io == IO_FAILED)
            doom(link);
        link->want_write |= io == IO_AGAIN_WRITE;
        if (io != IO_DONE)
            break;
        link->in_end += n;
        link->heard = 0;
        taken += n;
        if (link->peer != NULL) {
            link->peer->bytes_received += n;
            link->peer->contact_ms = net_now_ms();
        }
        need = take_frames(link);
    }
    if (link->read_more && !link->net->closing)
        uv_idle_start(&link->net->idle, on_idle);
}

/* ---- the loop ---- */

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct link *link = poll->data;
    if (link->dead)
        return;
    if (status <
        0) { /* libuv watches no more; what the matter is, the next call on the socket tells, and what came before it */
        link->events = 0;
        events = UV_READABLE;
    }
    if (link->state == LINK_CONNECTING)
        greet_connected(link);
    else if (link->state == LINK_WAITING)
        greet_first_byte(link);
    else if (link->state == LINK_SHAKING)
        greet_shake(link);
    else if (link->state == LINK_LINGERING)
        drain(link);
    if ((events & UV_WRITABLE) && (listens(link) || link->state == LINK_LINGERING))
        link_write(link);
    if (events & UV_READABLE)
        link_read(link);
    if (status < 0)
        link_kill(link, "the connection broke");
    link_watch(link);
}

void link_watch(struct link *link)
{
    if (link->state == LINK_CLOSED)
        return;
    int events = link->state == LINK_CONNECTING ? UV_WRITABLE : UV_READABLE;
    if (link->want_write)
        events |= UV_WRITABLE;
    if (link->dead || link->held)
        events = 0;
    if (events == link->events)
        return;
    link->events = events;
    if (events == 0)
        uv_poll_stop(&link->poll);
    else
        uv_poll_start(&link->poll, events, on_poll);
}

struct link *link_open(struct net *net, int fd, enum link_state state, struct net_peer *peer, const char *remote)
{
    struct link *link = mem_alloc(sizeof *link);
    if (uv_poll_init(net->options.loop, &link->poll, fd) != 0) {
        mem_free(link);
        return NULL;
    }
    link->net = net;
    link->fd = fd;
    link->state = state;
    link->peer = peer;
    link->dialled = peer != NULL;
    text_copy(link->remote, sizeof link->remote, remote);
    link->poll.data = link;
    link->next = net->links;
    net->links = link;
    net->open++;
    link_watch(link);
    return link;
}

/* ---- deadlines ---- */

/* Counted in ticks, not by the clock: a process that was stopped for a while must first read what has come meanwhile. */
void link_tick(struct link *link)
{
    if (link->dead || link->state == LINK_CLOSED)
        return;
    link->age++;
    link->heard++;
    link->said++;
    if (link->held) {
        greet_first_byte(link);
        link_watch(link);
    }
    if (link->state == LINK_LINGERING) {
        if (link->age > NET_TICKS(NET_LINGER_MS))
            doom(link);
    } else if (link->state != LINK_UP) {
        if (link->age > NET_TICKS(NET_HANDSHAKE_MS) && link->dialled)
            link_kill(link, "no answer within %u ms", NET_HANDSHAKE_MS);
        else if (link->age > NET_TICKS(NET_HANDSHAKE_MS))
            link_refuse(link, "it did not say who it is within %u ms", NET_HANDSHAKE_MS);
    } else if (link->heard > NET_TICKS(NET_SILENCE_MS)) {
        link_kill(link, "it was silent for %u ms", NET_SILENCE_MS);
    } else if (link->said >= NET_TICKS(NET_PING_MS) && link->out.bytes == 0) {
        link_frame(link, FRAME_PING, NULL, 0);
    }
    if (link->in_room > NET_READ_BYTES && link->in_begin == link->in_end) {
        mem_free(link->in);
        link->in = NULL;
        link->in_room = link->in_begin = link->in_end = 0;
    }
}
