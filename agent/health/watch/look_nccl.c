/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/health/watch/inner.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

#define ANSWER_ROOM_FIRST 65536u
#define ANSWER_POLL_MS 500

static const char question[] = "TIMEOUT " RAS_LEG_S "\nSET FORMAT json\nVERBOSE STATUS\n";

struct nccl_past {
    struct ras_past ras;
    bool odd_said;
    bool told;
    unsigned asked; /* since ranks here stand still */
};

static int ask(unsigned port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct timeval wait = {.tv_usec = ANSWER_POLL_MS * 1000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) == 0 && connect(fd, (struct sockaddr *)&to, sizeof to) == 0 &&
        send(fd, question, sizeof question - 1, MSG_NOSIGNAL) == (ssize_t)sizeof question - 1)
        return fd;
    close(fd);
    return -1;
}

/* All that comes until it is closed, or RAS has had its time. */
static char *read_all(struct watch *watch, int fd, size_t *ret_bytes)
{
    size_t room = ANSWER_ROOM_FIRST, bytes = 0;
    char *text = mem_alloc(room);
    uint64_t until_ns = clock_mono_ns() + RAS_DEADLINE_MS * NS_PER_MS;
    while (bytes < RAS_ANSWER_MAX && clock_mono_ns() < until_ns && !watch_stopping(watch)) {
        if (bytes == room)
            text = mem_grow(text, room *= 2, 1);
        ssize_t n = recv(fd, text + bytes, room - bytes, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
            break;
        if (n > 0)
            bytes += (size_t)n;
    }
    *ret_bytes = bytes;
    return text;
}

/* It answers "OK" to the lines before the object. */
static void judge_answer(struct looker *looker, const char *text, size_t bytes, const struct ras_own *own)
{
    struct nccl_past *past = looker->past;
    struct finding finding;
    struct err err = {0};
    const char *object = memchr(text, '{', bytes);
    size_t left = object != NULL ? bytes - (size_t)(object - text) : 0;
    uint64_t now_ns = clock_mono_ns();
    if (left > 0 && ras_judge(&past->ras, object, left, own, now_ns, &finding, &err) == TIDE_OK) {
        past->told = past->told || finding.state != TIDE_HEALTH_HEALTHY;
        watch_found(looker->watch, &finding, now_ns);
        if (ras_hung(&past->ras, looker->watch->options.hang_ms, now_ns, &finding))
            watch_found(looker->watch, &finding, now_ns);
        return;
    }
    if (!past->odd_said)
        log_warn("health: NCCL's RAS is not understood (2.28.7 and later are): %s",
                 left > 0 ? err.text : bytes > 0 ? "there is no object in its answer" : "it says nothing");
    past->odd_said = true;
}

/* Ranks that move are good, whatever was found. */
static void all_is_well(struct looker *looker)
{
    struct nccl_past *past = looker->past;
    looker->period_ms = RAS_PERIOD_MS;
    past->asked = 0;
    past->ras = (struct ras_past){0};
    if (!past->told)
        return;
    past->told = false;
    struct finding finding = {.probe = "nccl", .subject = RAS_SUBJECT};
    watch_found(looker->watch, &finding, clock_mono_ns());
}

static void own_addresses(const struct watch *watch, struct ras_own *to)
{
    struct ifaddrs *all = NULL;
    text_copy(to->addresses[to->address_count++], sizeof to->addresses[0], watch->options.address);
    if (getifaddrs(&all) != 0)
        return;
    for (const struct ifaddrs *i = all; i != NULL && to->address_count < RAS_ADDRESSES_MAX; i = i->ifa_next) {
        unsigned family = i->ifa_addr != NULL ? i->ifa_addr->sa_family : AF_UNSPEC;
        const void *at = family == AF_INET    ? (const void *)&((const struct sockaddr_in *)(const void *)i->ifa_addr)->sin_addr
                         : family == AF_INET6 ? (const void *)&((const struct sockaddr_in6 *)(const void *)i->ifa_addr)->sin6_addr
                                              : NULL;
        if (at != NULL && inet_ntop((int)family, at, to->addresses[to->address_count], sizeof to->addresses[0]) != NULL)
            to->address_count++;
    }
    freeifaddrs(all);
}

static void ask_and_judge(struct looker *looker, const struct ras_own *own)
{
    struct watch *watch = looker->watch;
    int fd = ask(watch->options.ras_port != 0 ? watch->options.ras_port : RAS_PORT);
    if (fd < 0) /* nobody there: nothing is known */
        return;
    size_t bytes = 0;
    char *text = read_all(watch, fd, &bytes);
    close(fd);
    judge_answer(looker, text, bytes, own);
    mem_free(text);
}

bool look_nccl(struct looker *looker)
{
    struct watch *watch = looker->watch;
    int32_t pids[WATCH_PIDS_MAX];
    struct ras_own own = {.pids = pids};
    if (looker->past == NULL)
        looker->past = mem_alloc(sizeof(struct nccl_past));
    struct nccl_past *past = looker->past;
    pthread_mutex_lock(&watch->lock);
    memcpy(pids, watch->pids, sizeof pids);
    own.pid_count = watch->still_count;
    pthread_mutex_unlock(&watch->lock);
    if (own.pid_count == 0) {
        all_is_well(looker);
        return true;
    }
    own_addresses(watch, &own);
    if (++past->asked > RAS_OFTEN)
        looker->period_ms = RAS_PERIOD_LONG_MS;
    ask_and_judge(looker, &own);
    return true;
}
