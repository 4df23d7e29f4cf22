/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
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

static const char question[] = "SET FORMAT json\nVERBOSE STATUS\n";

struct nccl_past {
    struct ras_past ras;
    bool odd_said;
    bool told;
};

static int ask(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(RAS_PORT), .sin_addr = {htonl(INADDR_LOOPBACK)}};
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
        if (n == 0)
            break;
        if (n > 0)
            bytes += (size_t)n;
    }
    *ret_bytes = bytes;
    return text;
}

/* It answers "OK" to the first line before the object. */
static void judge_answer(struct looker *looker, const char *text, size_t bytes, const struct ras_own *own)
{
    struct nccl_past *past = looker->past;
    struct finding finding;
    struct err err = {0};
    const char *object = memchr(text, '{', bytes);
    size_t left = object != NULL ? bytes - (size_t)(object - text) : 0;
    if (left > 0 && ras_judge(&past->ras, object, left, own, clock_mono_ns(), &finding, &err) == TIDE_OK) {
        watch_found(looker->watch, &finding, clock_mono_ns());
        past->told = past->told || finding.state != TIDE_HEALTH_HEALTHY;
        return;
    }
    if (!past->odd_said)
        log_warn("health: NCCL's RAS is not understood (2.28.7 and later are): %s", err.text);
    past->odd_said = true;
}

/* Ranks that move are good, whatever was found. */
static void all_is_well(struct looker *looker)
{
    struct nccl_past *past = looker->past;
    past->ras.since_ns = 0;
    if (!past->told)
        return;
    past->told = false;
    struct finding finding = {.probe = "nccl", .subject = "collectives"};
    watch_found(looker->watch, &finding, clock_mono_ns());
}

bool look_nccl(struct looker *looker)
{
    struct watch *watch = looker->watch;
    int32_t pids[WATCH_PIDS_MAX];
    struct ras_own own = {.pids = pids};
    if (looker->past == NULL)
        looker->past = mem_alloc(sizeof(struct nccl_past));
    pthread_mutex_lock(&watch->lock);
    memcpy(pids, watch->pids, sizeof pids);
    own.pid_count = watch->pid_count;
    uint64_t still_ms = watch->still_ms;
    pthread_mutex_unlock(&watch->lock);
    text_copy(own.address, sizeof own.address, watch->options.address);
    int fd = own.pid_count > 0 && still_ms >= RAS_STILL_MS ? ask() : -1;
    if (fd < 0) {
        all_is_well(looker);
        return true;
    }
    size_t bytes = 0;
    char *text = read_all(watch, fd, &bytes);
    close(fd);
    judge_answer(looker, text, bytes, &own);
    mem_free(text);
    return true;
}
