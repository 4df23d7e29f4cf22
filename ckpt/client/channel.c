/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/client/client.h"

#define CONNECT_PAUSE_MS 5

/* Wait until the socket is ready. Zero when it is, ETIMEDOUT, or another errno. */
static int await(int fd, short events, uint64_t deadline_ns)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = events};
        uint64_t now = clock_mono_ns();
        if (now >= deadline_ns)
            return ETIMEDOUT;
        uint64_t ms = (deadline_ns - now) / NS_PER_MS + 1;
        int n = poll(&p, 1, ms > 60000 ? 60000 : (int)ms);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return errno;
    }
}

enum tide_status channel_connect(const char *path, uint64_t deadline_ns, int *ret_fd, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return err_set(err, TIDE_E_UNAVAILABLE, "the path in " ENV_SOCKET " has %zu bytes; a socket's has at most %zu",
                       strlen(path), sizeof address.sun_path - 1);
    text_copy(address.sun_path, sizeof address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(err, "cannot make a socket");
    while (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int number = errno;
        /* EAGAIN: other ranks stand in line before us. */
        if ((number == EAGAIN || number == EINTR) && clock_mono_ns() < deadline_ns) {
            poll(NULL, 0, CONNECT_PAUSE_MS);
            continue;
        }
        close(fd);
        errno = number;
        err_errno(err, "no step process answers at %s; was this process started by tidemark?", path);
        if (err)
            err->status = TIDE_E_UNAVAILABLE;
        return TIDE_E_UNAVAILABLE;
    }
    *ret_fd = fd;
    return TIDE_OK;
}

static void sign(const struct tide *tide, struct local_message *message)
{
    message->magic = LOCAL_MAGIC;
    message->rank = tide->rank;
    message->generation = tide->generation;
    message->pid = (int32_t)tide->pid;
}

static enum tide_status gone(int number, const char *what, struct err *err)
{
    char reason[64];
    if (number == ETIMEDOUT)
        return err_set(err, TIDE_E_TIMEOUT, "the step process did not %s within the deadline", what);
    return err_set(err, TIDE_E_UNAVAILABLE, "the step process has gone: %s", strerror_r(number, reason, sizeof reason));
}

enum tide_status channel_send(struct tide *tide, struct local_message *message, uint64_t deadline_ns, struct err *err)
{
    sign(tide, message);
    for (;;) {
        if (send(tide->fd, message, sizeof *message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0)
            return TIDE_OK;
        int number = errno;
        if (number == EAGAIN)
            number = await(tide->fd, POLLOUT, deadline_ns);
        if (number != 0 && number != EINTR)
            return gone(number, "take a message", err);
    }
}

void channel_tell(struct tide *tide, struct local_message *message)
{
    if (tide->fd < 0)
        return;
    sign(tide, message);
    while (send(tide->fd, message, sizeof *message, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EINTR)
        ;
}

void channel_nudge(struct tide *tide, enum local_type type)
{
    channel_tell(tide, &(struct local_message){.type = type});
}

/* One message. EAGAIN when there is none at the moment. */
static int receive(int fd, struct local_message *to)
{
    for (;;) {
        ssize_t n = recv(fd, to, sizeof *to, MSG_DONTWAIT | MSG_TRUNC);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            return ECONNRESET;
        if (n != (ssize_t)sizeof *to || to->magic != LOCAL_MAGIC)
            return EPROTO;
        to->text[TIDE_TEXT_MAX] = '\0';
        return 0;
    }
}

/* An answer that came after its deadline must not be taken for that to the next question. */
static void drain(int fd)
{
    struct local_message stale;
    int number;
    do
        number = receive(fd, &stale);
    while (number == 0 || number == EPROTO);
}

static enum tide_status refused(const struct local_message *answer, struct err *err)
{
    enum tide_status status = (enum tide_status)answer->status;
    if (status == TIDE_OK || strcmp(tide_status_name(status), "unknown") == 0)
        status = TIDE_E_UNAVAILABLE;
    return err_set(err, status, "%s", answer->text[0] ? answer->text : tide_status_text(status));
}

enum tide_status channel_wait(struct tide *tide, uint64_t question, unsigned wanted, uint64_t deadline_ns,
                              struct local_message *ret_answer, struct err *err)
{
    struct local_message answer;
    for (;;) {
        int number = await(tide->fd, POLLIN, deadline_ns);
        if (number == 0)
            number = receive(tide->fd, &answer);
        if (number == EAGAIN)
            continue;
        if (number == EPROTO)
            return err_set(err, TIDE_E_VERSION, "the step process speaks another version of tidemark than this library");
        if (number != 0)
            return gone(number, "answer", err);
        if (answer.question != question)
            continue; /* to one that was given up */
        if (answer.type == LOCAL_REFUSED)
            return refused(&answer, err);
        if (answer.type >= 32 || !(wanted & 1u << answer.type))
            continue;
        *ret_answer = answer;
        return TIDE_OK;
    }
}

enum tide_status channel_ask(struct tide *tide, struct local_message *message, unsigned wanted, uint64_t deadline_ns,
                             struct local_message *ret_answer, struct err *err)
{
    drain(tide->fd);
    enum tide_status status = channel_send(tide, message, deadline_ns, err);
    return status == TIDE_OK ? channel_wait(tide, message->question, wanted, deadline_ns, ret_answer, err) : status;
}
