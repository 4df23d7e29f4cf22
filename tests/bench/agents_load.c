/* SPDX-License-Identifier: Apache-2.0 */
/* agents_load N SECONDS RATE HOST:PORT [HOST:PORT …]: N agents that do nothing but register, beat once a second and hold a
 * long poll, each from an address and over two connections of its own as a real one does; one process, one epoll. (From one
 * address there would soon be no port left that is not in TIME_WAIT, and the kernel would be busy looking for one.) Follows
 * redirects, and goes to the next coordinator when one does not answer. RATE: registrations a second at the start. Where
 * there are not descriptors for so many, at this end or at the coordinator's, the last agents keep their polls only and dial
 * anew for each beat. However many of these want to at a time, never are more connections open than fit: who finds none free
 * comes again in a moment.
 *
 * Last line on stdout: a JSON object: agents, beats, refused (answers 4xx to a beat), retried (calls that had to be made
 * again), with_two (agents that kept two connections), open_most (connections at a time), put_off (calls that found none
 * free), beat_p50_us, beat_p99_us, polls, beats_per_s (answered, from 2 s behind the last registration on). A line "ready"
 * when all have registered. Plain HTTP on loopback only. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/bench/measure.h"

#define MEMBERS_MAX 8
#define REQUEST_MAX 768
#define ANSWER_MAX 4096
#define EVENTS_MAX 1024
#define BEAT_S 1.0
#define PAUSE_S 0.2 /* after a call that failed */
#define CALL_S 2.0  /* a beat that is not answered by then is asked of another: as long as an agent waits, with such a lease */
#define SWEEP_S 0.02
#define AGENT_ADDRESSES 0x7f010000u /* 127.1.0.0: agent i is at that + i */
#define POLL_WAIT_MS 30000
#define SAMPLES_MAX 2000000
#define MEASURE_AFTER_S 2
#define DESCRIPTORS_KEPT 400 /* for all else that a process has open, the coordinator, too */
#define DIALLED_MAX 400      /* connections at a time of agents that dial anew */
#define PUT_OFF_S 0.01       /* a call that finds no connection free */

enum call { CALL_NONE, CALL_REGISTER, CALL_BEAT, CALL_POLL };

struct line { /* one connection */
    int fd;
    bool connected;
    enum call call, wanted; /* wanted: to be made at `due` */
    double due, sent_at;
    unsigned member;
    size_t used; /* bytes of its answer */
};

struct agent {
    struct line beat, poll;
    bool registered;
    unsigned long long sequence;
    unsigned long long revision;
};

static struct sockaddr_in members[MEMBERS_MAX];
static unsigned member_count;
static struct agent *agents;
static unsigned agent_count, registered;
static unsigned with_two; /* agents that keep two connections */
static unsigned open_count, open_most, open_limit;
static char (*answers)[ANSWER_MAX]; /* of all lines; apart, so that a look at every line is short */
static int events_fd;
static unsigned long long beats, refused_count, retried, put_off, polls;
static float *samples;
static size_t sample_count;
static double measure_from;
static unsigned long long measured;

static unsigned agent_of(const struct line *line)
{
    return (unsigned)(((const char *)line - (const char *)agents) / (long)sizeof(struct agent));
}

static bool is_poll(const struct line *line)
{
    return line == &agents[agent_of(line)].poll;
}

static char *answer_of(const struct line *line)
{
    return answers[2 * agent_of(line) + is_poll(line)];
}

static void hang_up(struct line *line)
{
    if (line->fd >= 0) {
        close(line->fd);
        open_count--;
    }
    line->fd = -1;
    line->connected = false;
    line->call = CALL_NONE;
    line->used = 0;
}

static void want(struct line *line, enum call call, double when)
{
    line->wanted = call;
    line->due = when;
}

/* The same again, elsewhere. */
static void failed(struct line *line, double now)
{
    enum call call = line->call ? line->call : line->wanted;
    hang_up(line);
    retried++;
    line->member = (line->member + 1) % member_count;
    want(line, call, now + PAUSE_S * (0.5 + (double)(agent_of(line) % 100) / 100));
}

static bool dial(struct line *line)
{
    int one = 1;
    line->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (line->fd < 0) {
        perror("agents_load: socket");
        exit(1);
    }
    open_count++;
    if (open_count > open_most)
        open_most = open_count;
    setsockopt(line->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(line->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    const struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(AGENT_ADDRESSES + agent_of(line))};
    if (bind(line->fd, (const struct sockaddr *)&from, sizeof from) != 0)
        return false;
    const struct sockaddr_in *to = &members[line->member];
    if (connect(line->fd, (const struct sockaddr *)to, sizeof *to) != 0 && errno != EINPROGRESS)
        return false;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = line};
    return epoll_ctl(events_fd, EPOLL_CTL_ADD, line->fd, &event) == 0;
}

static int write_request(struct line *line, char *to, size_t room)
{
    unsigned i = agent_of(line);
    struct agent *agent = &agents[i];
    char body[REQUEST_MAX / 2];
    if (line->call == CALL_POLL)
        return snprintf(to, room,
                        "GET /v1/agent/desired?node=a%u&incarnation=%016x&after=%llu&wait_ms=%d HTTP/1.1\r\nHost: c\r\n\r\n",
                        i, i + 1, agent->revision, POLL_WAIT_MS);
    int n =
        line->call == CALL_BEAT
            ? snprintf(body, sizeof body,
                       "{\"node\":\"a%u\",\"uid\":\"%016x\",\"incarnation\":\"%016x\",\"sequence\":%llu,\"jobs\":[]}", i,
                       i + 1, i + 1, ++agent->sequence)
            : snprintf(
                  body, sizeof body,
                  "{\"name\":\"a%u\",\"uid\":\"%016x\",\"incarnation\":\"%016x\",\"host\":\"a%u\",\"address\":\"127.0.0.1\","
                  "\"mesh_port\":1,\"log_port\":1,\"slots\":8}",
                  i, i + 1, i + 1, i);
    return snprintf(
        to, room, "POST /v1/agent/%s HTTP/1.1\r\nHost: c\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
        line->call == CALL_BEAT ? "heartbeat" : "register", n, body);
}

static void send_now(struct line *line, double now)
{
    char request[REQUEST_MAX];
    line->call = line->wanted;
    line->wanted = CALL_NONE;
    line->used = 0;
    line->sent_at = now;
    int n = write_request(line, request, sizeof request);
    if (send(line->fd, request, (size_t)n, MSG_NOSIGNAL) != n)
        failed(line, now);
}

static void proceed(struct line *line, double now)
{
    if (line->fd < 0 && open_count == open_limit) {
        put_off++;
        line->due = now + PUT_OFF_S;
        return;
    }
    if (line->fd < 0 && !dial(line)) {
        failed(line, now);
        return;
    }
    if (line->connected)
        send_now(line, now);
}

static void redirect(struct line *line, const char *headers, double now)
{
    const char *at = strstr(headers, "Location: http://");
    char host[64] = "";
    unsigned port = 0;
    struct in_addr address;
    enum call call = line->call;
    hang_up(line);
    want(line, call, now);
    if (at == NULL || sscanf(at, "Location: http://%63[0-9.]:%u", host, &port) != 2 || inet_aton(host, &address) == 0)
        return;
    for (unsigned m = 0; m < member_count; m++)
        if (members[m].sin_addr.s_addr == address.s_addr && ntohs(members[m].sin_port) == port)
            line->member = m;
}

static void took(const struct line *line, double now)
{
    if (line->sent_at < measure_from)
        return;
    measured++;
    if (sample_count < SAMPLES_MAX)
        samples[sample_count++] = (float)((now - line->sent_at) * 1e6);
}

static void answered(struct line *line, int status, const char *body, double now)
{
    struct agent *agent = &agents[agent_of(line)];
    enum call call = line->call;
    line->call = CALL_NONE;
    const char *revision = strstr(body, "\"revision\":");
    if (call == CALL_REGISTER && status == 200) {
        registered += !agent->registered;
        agent->registered = true;
        want(line, CALL_BEAT, now + BEAT_S * (double)(agent_of(line) % 1000) / 1000);
        agent->poll.member = line->member;
        want(&agent->poll, CALL_POLL, now);
    } else if (call == CALL_BEAT && status < 500) {
        beats++;
        refused_count += status >= 400;
        took(line, now);
        want(line, CALL_BEAT, line->sent_at + BEAT_S > now ? line->sent_at + BEAT_S : now);
    } else if (call == CALL_POLL && status == 200) {
        polls++;
        if (revision != NULL)
            agent->revision = strtoull(revision + 11, NULL, 10);
        want(line, CALL_POLL, now);
    } else {
        line->call = call;
        failed(line, now);
        return;
    }
    if (!is_poll(line) && agent_of(line) >= with_two)
        hang_up(line);
}

static void on_readable(struct line *line, double now)
{
    char *answer = answer_of(line);
    for (;;) {
        ssize_t n = recv(line->fd, answer + line->used, ANSWER_MAX - 1 - line->used, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            if (line->call != CALL_NONE)
                failed(line, now);
            else
                hang_up(line); /* idle: dialled again when there is something to ask */
            return;
        }
        line->used += (size_t)n;
        answer[line->used] = '\0';
        const char *end = strstr(answer, "\r\n\r\n"), *length = strstr(answer, "Content-Length: ");
        if (end == NULL || length == NULL || length > end)
            continue;
        size_t body = strtoul(length + 16, NULL, 10), head = (size_t)(end + 4 - answer);
        if (line->used < head + body && line->used < ANSWER_MAX - 1)
            continue;
        int status = (int)strtol(answer + 9, NULL, 10);
        if (status == 307)
            redirect(line, answer, now);
        else
            answered(line, status, end + 4, now);
        if (line->fd < 0)
            return;
        line->used = 0;
    }
}

static void on_event(const struct epoll_event *event, double now)
{
    struct line *line = event->data.ptr;
    if (line->fd < 0)
        return;
    if (event->events & (EPOLLERR | EPOLLHUP)) {
        if (line->call != CALL_NONE || line->wanted != CALL_NONE)
            failed(line, now);
        else
            hang_up(line);
        return;
    }
    if ((event->events & EPOLLOUT) && !line->connected) {
        line->connected = true;
        if (line->wanted != CALL_NONE && line->due <= now)
            send_now(line, now);
    }
    if (line->fd >= 0 && (event->events & EPOLLIN))
        on_readable(line, now);
}

static void sweep(double now)
{
    for (unsigned i = 0; i < 2 * agent_count; i++) {
        struct line *line = i < agent_count ? &agents[i].beat : &agents[i - agent_count].poll;
        double patience = is_poll(line) ? POLL_WAIT_MS / 1000.0 + 5 : CALL_S;
        if (line->call != CALL_NONE && now - line->sent_at > (line->call == CALL_REGISTER ? 10 : patience))
            failed(line, now);
        if (line->call == CALL_NONE && line->wanted != CALL_NONE && line->due <= now && (line->fd < 0 || line->connected))
            proceed(line, now);
    }
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double quantile(double q)
{
    return sample_count ? (double)samples[(size_t)((double)(sample_count - 1) * q)] : -1;
}

/* The coordinator has the same limit, and one of three may have all. */
static void share_descriptors(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) {
        perror("agents_load: getrlimit");
        exit(1);
    }
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0)
        perror("agents_load: setrlimit");
    if (files.rlim_max < agent_count + DIALLED_MAX + DESCRIPTORS_KEPT) {
        fprintf(stderr, "agents_load: %u agents need more than the %llu descriptors there are\n", agent_count,
                (unsigned long long)files.rlim_max);
        exit(1);
    }
    with_two = agent_count;
    open_limit = 2 * agent_count;
    if (files.rlim_max - DESCRIPTORS_KEPT < open_limit) {
        open_limit = (unsigned)files.rlim_max - DESCRIPTORS_KEPT;
        with_two = open_limit - DIALLED_MAX - agent_count;
    }
}

static void set_up(int argc, char **argv, double rate)
{
    share_descriptors();
    for (int i = 4; i < argc && member_count < MEMBERS_MAX; i++) {
        char host[64];
        unsigned port;
        if (sscanf(argv[i], "%63[0-9.]:%u", host, &port) != 2 || inet_aton(host, &members[member_count].sin_addr) == 0) {
            fprintf(stderr, "agents_load: \"%s\" is no HOST:PORT\n", argv[i]);
            exit(2);
        }
        members[member_count].sin_family = AF_INET;
        members[member_count++].sin_port = htons((uint16_t)port);
    }
    events_fd = epoll_create1(EPOLL_CLOEXEC);
    agents = calloc(agent_count, sizeof *agents);
    answers = calloc(2ul * agent_count, sizeof *answers);
    samples = calloc(SAMPLES_MAX, sizeof *samples);
    double now = seconds();
    for (unsigned i = 0; i < agent_count; i++) {
        agents[i].beat.fd = agents[i].poll.fd = -1;
        agents[i].beat.member = i % member_count;
        want(&agents[i].beat, CALL_REGISTER, now + i / rate);
    }
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        fprintf(stderr, "usage: agents_load N SECONDS RATE HOST:PORT [HOST:PORT …]\n");
        return 2;
    }
    agent_count = (unsigned)strtoul(argv[1], NULL, 10);
    double length = strtod(argv[2], NULL), end = 1e18, last_sweep = 0;
    set_up(argc, argv, strtod(argv[3], NULL));
    measure_from = 1e18;
    for (double now = seconds(); now < end; now = seconds()) {
        struct epoll_event events[EVENTS_MAX];
        int n = epoll_wait(events_fd, events, EVENTS_MAX, 2);
        now = seconds();
        for (int i = 0; i < n; i++)
            on_event(&events[i], now);
        if (now - last_sweep > SWEEP_S) {
            sweep(now);
            last_sweep = now;
        }
        if (end > 1e17 && registered == agent_count) {
            printf("ready\n");
            fflush(stdout);
            measure_from = now + MEASURE_AFTER_S;
            end = now + length;
        }
    }
    qsort(samples, sample_count, sizeof *samples, by_size);
    printf("{\"agents\":%u,\"with_two\":%u,\"open_most\":%u,\"put_off\":%llu,\"beats\":%llu,\"refused\":%llu,\"retried\":%llu,"
           "\"polls\":%llu,\"beat_p50_us\":%.0f,\"beat_p99_us\":%.0f,\"beats_per_s\":%.0f}\n",
           agent_count, with_two, open_most, put_off, beats, refused_count, retried, polls, quantile(0.5), quantile(0.99),
           (double)measured / (length - MEASURE_AFTER_S));
    return 0;
}
