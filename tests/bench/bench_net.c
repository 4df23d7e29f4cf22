/* SPDX-License-Identifier: Apache-2.0 */

/* The transport between members: round trips between two threads, against bare blocking sockets, and messages per second
 * with both ends on one loop, which is one core. Plain and with TLS. */

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/secure/certs.h"
#include "coordinator/net/net.h"
#include "tests/bench/measure.h"

#define CLUSTER "00c0ffee00c0ffee"
#define SMALL_BYTES 256u
#define LARGE_BYTES (1u << 20)
#define TRIPS 5000u
#define TRIPS_WARM 500u
#define SECONDS_EACH 1.0
#define BURST 64u              /* messages sent in one turn of the loop */
#define WAITING_MAX (4u << 20) /* bytes, before the sender lets the loop turn */

struct end {
    uint64_t id;
    uv_loop_t loop;
    uv_async_t stop;
    struct net *net;
    bool up, echoes;
    uint64_t messages, bytes;
    double sent_at;
    double *trips; /* of the one that asks */
    size_t trip_count;
};

static char dir[] = "tidemark-bench-net-XXXXXX";
static char message[LARGE_BYTES];

static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "bench_net: %s: %s\n", what, why);
    exit(1);
}

/* ---- ends ---- */

static void ask(struct end *end)
{
    end->sent_at = seconds();
    net_send(end->net, end->id == 1 ? 2 : 1, message, SMALL_BYTES, NULL, 0);
}

static void on_message(void *context, uint64_t from, const void *data, size_t bytes)
{
    struct end *end = context;
    end->messages++;
    end->bytes += bytes;
    if (end->echoes) {
        net_send(end->net, from, data, bytes, NULL, 0);
    } else if (end->trips != NULL && end->trip_count < TRIPS) {
        end->trips[end->trip_count++] = seconds() - end->sent_at;
        ask(end);
    }
}

static void on_up(void *context, uint64_t peer)
{
    struct end *end = context;
    (void)peer;
    end->up = true;
}

static void on_down(void *context, uint64_t peer, const char *why)
{
    const struct end *end = context;
    (void)peer;
    if (!end->echoes) /* the one that echoes is left at the end */
        give_up("the connection was lost", why);
}

static void save(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0)
        give_up("cannot write", path);
}

static void certificate(const struct ca *ca, uint64_t id, char file[128], char key_file[128])
{
    struct cert_name name = {.cluster = CLUSTER, .kind = CERT_MEMBER, .member = (uint32_t)id, .role = ROLE_ADMIN};
    struct strlist hosts = {0};
    struct err err = {0};
    char *cert = NULL, *key = NULL;
    strlist_add(&hosts, "127.0.0.1");
    snprintf(file, 128, "%s/cert-%u.pem", dir, (unsigned)id);
    snprintf(key_file, 128, "%s/key-%u.pem", dir, (unsigned)id);
    if (ca_issue(ca, &name, &hosts, 1, &cert, &key, &err) != TIDE_OK)
        give_up("certificates", err.text);
    save(file, cert);
    save(key_file, key);
    mem_free(cert);
    cert_key_free(key);
    strlist_release(&hosts);
}

static void end_open(struct end *end, uint64_t id, uv_loop_t *loop, const struct ca *ca)
{
    char ca_file[128], cert[128], key[128];
    struct err err = {0};
    end->id = id;
    struct net_options options = {.loop = loop,
                                  .self = id,
                                  .cluster = CLUSTER,
                                  .listen = "127.0.0.1:0",
                                  .context = end,
                                  .on_message = on_message,
                                  .on_up = on_up,
                                  .on_down = on_down};
    if (ca != NULL) {
        char *pem = ca_cert_pem(ca);
        snprintf(ca_file, sizeof ca_file, "%s/ca.pem", dir);
        save(ca_file, pem);
        mem_free(pem);
        certificate(ca, id, cert, key);
        options.ca = ca_file;
        options.cert = cert;
        options.key = key;
    }
    if (net_open(&options, &end->net, &err) != TIDE_OK)
        give_up("open", err.text);
}

static void introduce(struct end *a, const struct end *b)
{
    struct err err = {0};
    if (net_peer(a->net, b->id, net_address(b->net), &err) != TIDE_OK)
        give_up("peer", err.text);
}

/* ---- round trips ---- */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Without the first ones. */
static double percentile_us(double *trips, double p)
{
    qsort(trips + TRIPS_WARM, TRIPS - TRIPS_WARM, sizeof *trips, by_size);
    return trips[TRIPS_WARM + (size_t)((double)(TRIPS - TRIPS_WARM - 1) * p)] * 1e6;
}

static void on_stop(uv_async_t *stop)
{
    struct end *end = stop->data;
    net_close(end->net);
    uv_close((uv_handle_t *)stop, NULL);
}

static void *serve(void *arg)
{
    struct end *end = arg;
    uv_run(&end->loop, UV_RUN_DEFAULT);
    return NULL;
}

static void net_trips(const struct ca *ca, double *trips)
{
    struct end ends[2] = {0};
    pthread_t server;
    for (unsigned i = 0; i < 2; i++) {
        uv_loop_init(&ends[i].loop);
        end_open(&ends[i], i + 1, &ends[i].loop, ca);
    }
    ends[1].echoes = true;
    ends[1].stop.data = &ends[1];
    uv_async_init(&ends[1].loop, &ends[1].stop, on_stop);
    introduce(&ends[0], &ends[1]);
    pthread_create(&server, NULL, serve, &ends[1]);
    while (!ends[0].up)
        uv_run(&ends[0].loop, UV_RUN_ONCE);
    ends[0].trips = trips;
    ask(&ends[0]);
    while (ends[0].trip_count < TRIPS)
        uv_run(&ends[0].loop, UV_RUN_ONCE);
    net_close(ends[0].net);
    uv_run(&ends[0].loop, UV_RUN_DEFAULT);
    uv_loop_close(&ends[0].loop);
    uv_async_send(&ends[1].stop);
    pthread_join(server, NULL);
    uv_loop_close(&ends[1].loop);
}

static void bare_io(int fd, char *data)
{
    if (send(fd, data, SMALL_BYTES, MSG_NOSIGNAL) != SMALL_BYTES || recv(fd, data, SMALL_BYTES, MSG_WAITALL) != SMALL_BYTES)
        give_up("bare sockets", "cut short");
}

static void *bare_echo(void *arg)
{
    int fd = *(int *)arg;
    char data[SMALL_BYTES];
    while (recv(fd, data, sizeof data, MSG_WAITALL) == sizeof data)
        if (send(fd, data, sizeof data, MSG_NOSIGNAL) != sizeof data)
            break;
    close(fd);
    return NULL;
}

/* What the machine does at best: two blocking threads and nothing around the bytes. */
static void bare_trips(double *trips)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
        on = 1;
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 1) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &bytes) != 0 || connect(fd, (struct sockaddr *)&at, sizeof at) != 0)
        give_up("bare sockets", "cannot connect");
    int other = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(other, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    pthread_t server;
    pthread_create(&server, NULL, bare_echo, &other);
    char data[SMALL_BYTES] = {0};
    for (unsigned i = 0; i < TRIPS; i++) {
        double since = seconds();
        bare_io(fd, data);
        trips[i] = seconds() - since;
    }
    close(fd);
    pthread_join(server, NULL);
    close(listener);
}

/* ---- messages per second, both ends on one core ---- */

static void keep(void *owner)
{
    (void)owner; /* the message is for all */
}

static double per_second(const struct ca *ca, size_t bytes, unsigned burst)
{
    struct end ends[2] = {0};
    uv_loop_t loop;
    uv_loop_init(&loop);
    end_open(&ends[0], 1, &loop, ca);
    end_open(&ends[1], 2, &loop, ca);
    introduce(&ends[0], &ends[1]);
    while (!ends[0].up || !ends[1].up)
        uv_run(&loop, UV_RUN_ONCE);
    struct net_part part = {.data = message, .bytes = bytes, .owner = message, .release = keep};
    double begin = seconds(), now = begin;
    uint64_t sent = 0;
    while (now - begin < SECONDS_EACH) {
        for (unsigned i = 0; i < burst && (sent - ends[1].messages) * bytes < WAITING_MAX; i++, sent++)
            net_send(ends[0].net, 2, "head", 4, &part, 1);
        uv_run(&loop, UV_RUN_NOWAIT);
        now = seconds();
    }
    double rate = (double)ends[1].messages / (now - begin);
    net_close(ends[0].net);
    net_close(ends[1].net);
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    return rate;
}

static void measure(const char *kind, const struct ca *ca, double bare_p50, double bare_p99)
{
    static double trips[TRIPS];
    char metric[64];
    net_trips(ca, trips);
    snprintf(metric, sizeof metric, "round_trip_p50_%s", kind);
    result("net", metric, percentile_us(trips, 0.5), "us", bare_p50, -1);
    snprintf(metric, sizeof metric, "round_trip_p99_%s", kind);
    result("net", metric, percentile_us(trips, 0.99), "us", bare_p99, -1);
    snprintf(metric, sizeof metric, "messages_of_256_%s", kind);
    result("net", metric, per_second(ca, SMALL_BYTES, BURST), "1/s", -1, -1);
    snprintf(metric, sizeof metric, "messages_of_256_one_a_turn_%s", kind);
    result("net", metric, per_second(ca, SMALL_BYTES, 1), "1/s", -1, -1);
    snprintf(metric, sizeof metric, "messages_of_1_mib_%s", kind);
    result("net", metric, per_second(ca, LARGE_BYTES, 1), "1/s", -1, -1);
}

int main(void)
{
    static double trips[TRIPS];
    struct err err = {0};
    struct ca *ca = NULL;
    log_init("bench_net", LOG_ERROR);
    if (mkdtemp(dir) == NULL)
        give_up("the directory", "cannot be made");
    if (ca_create(CLUSTER, &ca, &err) != TIDE_OK)
        give_up("certificates", err.text);
    bare_trips(trips);
    double p50 = percentile_us(trips, 0.5), p99 = percentile_us(trips, 0.99);
    measure("plain", NULL, p50, p99);
    measure("tls", ca, p50, p99);
    ca_free(ca);
    return fsx_remove_tree(dir, &err) == TIDE_OK ? 0 : 1;
}
