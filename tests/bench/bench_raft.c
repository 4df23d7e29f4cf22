/* SPDX-License-Identifier: Apache-2.0 */
/* A group of three members, each a process with its disk, TLS between them: commits per second and latency of commands of
 * 256 bytes through the internal proposal path (member.h), one, 64 and 256 at a time, against fdatasync alone; then the
 * leader is killed with -9 over and over: time until the next write is acknowledged.
 *
 * Each member process leads itself: who is ready proposes, and tells the parent what it measured. BENCH_KILLS: how many
 * leaders are killed with each time-out. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/member.h"
#include "tests/bench/measure.h"

#define MEMBERS 3u
#define COMMAND_BYTES 256u
#define WARM_S 0.5
#define SECONDS_EACH 3.0
#define SAMPLES_MAX 400000u
#define DEPTH_MAX 256u
#define PATIENCE_MS 20000
#define KILLS_DEFAULT 20u
#define PORT_FIRST 20000u
#define PORT_RANGE 20000u
#define PATH_ROOM 512
#define IMAGE_EVERY 50000u /* entries */
#define HUNG_S 6.0         /* one member stands still for so long, under load */
#define HUNG_DEPTH 64u

struct shape {
    unsigned election_ticks, heartbeat_ticks;
    bool for_ever;  /* no end of the measurement */
    unsigned depth; /* 0: one at a time, and tell of the first after each election */
};

/* What a leader tells the parent; smaller than a pipe's atomic write. */
struct told {
    unsigned member;
    double at; /* of the first acknowledged write in office; 0: this is a result */
    double per_s, p50_us, p99_us, p999_us;
};

static char directory[PATH_ROOM];
static unsigned port_first;

/* ---- a member ---- */

struct driver {
    struct member *member;
    struct shape shape;
    unsigned id;
    int pipe;
    bool leads, told_first, measured;
    double ready_at, measure_from;
    struct raft_blob *blob;
    struct cookie {
        double since;
        bool busy;
    } cookies[DEPTH_MAX];
    uint64_t counted;
    float *samples;
    size_t sample_count;
    uint64_t applied, applied_term, imaged;
    struct raft_blob *config;
    uv_loop_t *loop;
    uv_work_t image;
    struct snapshot snapshot; /* being written */
    bool imaging;
};

static void give_up(const char *what, const struct err *err)
{
    fprintf(stderr, "bench_raft: %s: %s\n", what, err->text);
    exit(1);
}

static void propose(struct driver *d, struct cookie *cookie)
{
    struct err err = {0};
    cookie->since = seconds();
    cookie->busy = member_propose(d->member, d->blob, cookie, &err) == TIDE_OK;
}

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static double quantile_us(const struct driver *d, double q)
{
    return d->sample_count ? (double)d->samples[(size_t)((double)(d->sample_count - 1) * q)] * 1e6 : -1;
}

static void tell(struct driver *d, struct told told)
{
    told.member = d->id;
    if (write(d->pipe, &told, sizeof told) != (ssize_t)sizeof told)
        exit(1);
}

static void tell_result(struct driver *d, double now)
{
    d->measured = true;
    qsort(d->samples, d->sample_count, sizeof *d->samples, by_size);
    tell(d, (struct told){.per_s = (double)d->counted / (now - d->measure_from),
                          .p50_us = quantile_us(d, 0.5),
                          .p99_us = quantile_us(d, 0.99),
                          .p999_us = quantile_us(d, 0.999)});
}

static void acknowledged(struct driver *d, struct cookie *cookie)
{
    double now = seconds();
    cookie->busy = false;
    if (!d->told_first) {
        d->told_first = true;
        tell(d, (struct told){.at = now});
        if (d->shape.depth == 0)
            return;
    }
    if (now >= d->measure_from && !d->measured) {
        d->counted++;
        if (d->sample_count < SAMPLES_MAX)
            d->samples[d->sample_count++] = (float)(now - cookie->since);
        if (now > d->measure_from + SECONDS_EACH && !d->shape.for_ever)
            tell_result(d, now);
    }
    if (d->leads && !d->measured)
        propose(d, cookie);
}

/* The state is nothing: an image only lets the log go. */
static void image_run(uv_work_t *work)
{
    struct driver *d = work->data;
    struct err err = {0};
    if (member_save_image(d->member, &d->snapshot, &err) != TIDE_OK)
        give_up("an image", &err);
}

static void image_done(uv_work_t *work, int cancelled)
{
    struct driver *d = work->data;
    (void)cancelled;
    d->imaging = false;
}

static void image_if_due(struct driver *d)
{
    if (d->imaging || d->applied < d->imaged + IMAGE_EVERY)
        return;
    d->imaging = true;
    d->imaged = d->applied;
    d->snapshot = (struct snapshot){.index = d->applied,
                                    .term = d->applied_term,
                                    .config = d->config->data,
                                    .config_bytes = d->config->bytes,
                                    .bytes = 1};
    static char nothing[] = "x";
    d->snapshot.data = nothing;
    d->image.data = d;
    uv_queue_work(d->loop, &d->image, image_run, image_done);
}

static void on_committed(void *context, const struct member_entry *entry)
{
    struct driver *d = context;
    d->applied = entry->index;
    d->applied_term = entry->term;
    if (entry->type == RAFT_CONFIG) {
        raft_blob_unref(d->config);
        d->config = raft_blob_ref(entry->blob);
    }
    image_if_due(d);
    raft_blob_unref(entry->blob);
    if (entry->cookie != NULL)
        acknowledged(d, entry->cookie);
}

static void on_failed(void *context, void *cookie, enum tide_status status, const struct err *err)
{
    (void)context, (void)status, (void)err;
    ((struct cookie *)cookie)->busy = false;
}

static void on_read(void *context, void *cookie, bool permitted)
{
    (void)context, (void)cookie, (void)permitted;
}

static void *on_parse(void *context, const struct snapshot *snapshot, struct err *err)
{
    (void)context, (void)snapshot, (void)err;
    return mem_alloc(1);
}

static void on_restored(void *context, void *parsed, uint64_t index, uint64_t term, const struct raft_config *config)
{
    struct driver *d = context;
    mem_free(parsed);
    raft_blob_unref(d->config);
    d->config = raft_config_encode(config);
    d->applied = d->imaged = index;
    d->applied_term = term;
}

static void on_drop(void *context, void *parsed)
{
    (void)context;
    mem_free(parsed);
}

static void on_turned(void *context, const struct member_turn *turn)
{
    struct driver *d = context;
    bool led = d->leads;
    d->leads = turn->ready;
    if (!turn->ready || led)
        return;
    d->told_first = d->measured = false;
    d->ready_at = seconds();
    d->measure_from = d->ready_at + WARM_S;
    for (unsigned i = 0; i < (d->shape.depth ? d->shape.depth : 1); i++)
        if (!d->cookies[i].busy)
            propose(d, &d->cookies[i]);
}

static void on_stopped(void *context)
{
    (void)context;
}

static void run_member(unsigned id, const struct shape *shape, int to)
{
    static const struct member_calls calls = {.committed = on_committed,
                                              .failed = on_failed,
                                              .read = on_read,
                                              .parse = on_parse,
                                              .restored = on_restored,
                                              .drop = on_drop,
                                              .turned = on_turned,
                                              .stopped = on_stopped};
    struct driver *d = mem_alloc(sizeof *d);
    char data[PATH_ROOM + 32], ca[PATH_ROOM + 64], cert[PATH_ROOM + 64], key[PATH_ROOM + 64], bytes[COMMAND_BYTES] = {1};
    struct raft_config founders = {0};
    struct err err = {0};
    uv_loop_t loop;
    *d = (struct driver){.shape = *shape, .id = id, .pipe = to};
    d->samples = mem_array(SAMPLES_MAX, sizeof *d->samples);
    d->blob = raft_blob_create(bytes, sizeof bytes);
    for (unsigned i = 1; i <= MEMBERS; i++) {
        struct raft_member member = {.id = i, .voter = true};
        snprintf(member.peer, sizeof member.peer, "127.0.0.1:%u", port_first + 2 * i);
        snprintf(member.api, sizeof member.api, "https://127.0.0.1:%u", port_first + 2 * i + 1);
        if (raft_config_add(&founders, &member, &err) != TIDE_OK)
            give_up("the configuration", &err);
    }
    snprintf(data, sizeof data, "%s/data-%u", directory, id);
    snprintf(ca, sizeof ca, "%s/identity/member-%u/ca.pem", directory, id);
    snprintf(cert, sizeof cert, "%s/identity/member-%u/cert.pem", directory, id);
    snprintf(key, sizeof key, "%s/identity/member-%u/key.pem", directory, id);
    char cluster[TIDE_UID_CHARS + 1] = "", path[PATH_ROOM + 64], *text = NULL;
    size_t length = 0;
    snprintf(path, sizeof path, "%s/identity/member-%u/identity.json", directory, id);
    if (fsx_read(path, 1 << 16, &text, &length, &err) != TIDE_OK || strstr(text, "\"cluster\"") == NULL ||
        sscanf(strstr(text, "\"cluster\""), "\"cluster\"%*[: ]\"%16[0-9a-f]", cluster) != 1)
        give_up("the identity", &err);
    mem_free(text);
    uv_loop_init(&loop);
    d->loop = &loop;
    log_init("bench_raft", LOG_ERROR);
    struct member_options options = {.loop = &loop,
                                     .data = data,
                                     .cluster = cluster,
                                     .id = id,
                                     .founders = &founders,
                                     .peer_listen = founders.members[id - 1].peer,
                                     .ca = ca,
                                     .cert = cert,
                                     .key = key,
                                     .election_ticks = shape->election_ticks,
                                     .heartbeat_ticks = shape->heartbeat_ticks,
                                     .calls = &calls,
                                     .context = d};
    if (member_open(&options, &d->member, &err) != TIDE_OK)
        give_up("a member", &err);
    member_start(d->member);
    uv_run(&loop, UV_RUN_DEFAULT);
    exit(0);
}

/* ---- the parent ---- */

struct group {
    pid_t pids[MEMBERS + 1];
    int from, to;
    struct shape shape;
};

static void start_member(struct group *g, unsigned id)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        close(g->from);
        run_member(id, &g->shape, g->to);
    }
    g->pids[id] = pid;
}

static void start_group(struct group *g, struct shape shape)
{
    int ends[2];
    struct err err = {0};
    for (unsigned i = 1; i <= MEMBERS; i++) {
        char data[PATH_ROOM + 32];
        snprintf(data, sizeof data, "%s/data-%u", directory, i);
        if (fsx_remove_tree(data, &err) != TIDE_OK)
            give_up("the data", &err);
    }
    if (pipe2(ends, O_CLOEXEC) != 0)
        give_up("a pipe", &err);
    *g = (struct group){.from = ends[0], .to = ends[1], .shape = shape};
    for (unsigned i = 1; i <= MEMBERS; i++)
        start_member(g, i);
}

static void kill_member(struct group *g, unsigned id)
{
    kill(g->pids[id], SIGKILL);
    waitpid(g->pids[id], NULL, 0);
}

static void end_group(struct group *g)
{
    for (unsigned i = 1; i <= MEMBERS; i++)
        kill_member(g, i);
    close(g->from);
    close(g->to);
}

static struct told hear(const struct group *g)
{
    struct told told;
    struct pollfd wait = {.fd = g->from, .events = POLLIN};
    if (poll(&wait, 1, PATIENCE_MS) != 1 || read(g->from, &told, sizeof told) != (ssize_t)sizeof told) {
        fprintf(stderr, "bench_raft: the group says nothing for %d s\n", PATIENCE_MS / 1000);
        exit(1);
    }
    return told;
}

static struct told hear_result(const struct group *g)
{
    struct told told;
    do
        told = hear(g);
    while (told.at != 0);
    return told;
}

/* p50 of a write of one command and its sync, alone on this disk: seconds. */
static double bare_sync(void)
{
    char path[PATH_ROOM + 16];
    snprintf(path, sizeof path, "%s/bare", directory);
    enum { ROUNDS = 1000, BYTES = 1 << 20 };
    float took[ROUNDS];
    char *zeros = mem_alloc(BYTES);
    struct err err = {0};
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || fsx_write_all(fd, zeros, BYTES, path, &err) != TIDE_OK || fsync(fd) != 0)
        give_up("the bare file", &err);
    for (unsigned i = 0; i < ROUNDS; i++) {
        double since = seconds();
        if (pwrite(fd, zeros, COMMAND_BYTES, (off_t)(i * COMMAND_BYTES % BYTES)) != COMMAND_BYTES || fdatasync(fd) != 0)
            give_up("the bare file", &err);
        took[i] = (float)(seconds() - since);
    }
    qsort(took, ROUNDS, sizeof *took, by_size);
    close(fd);
    mem_free(zeros);
    return (double)took[ROUNDS / 2];
}

static void measure_depths(double bare_s)
{
    static const unsigned depths[] = {1, 64, 256};
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) {
        struct group g;
        char metric[64];
        start_group(&g, (struct shape){.depth = depths[i]});
        struct told told = hear_result(&g);
        end_group(&g);
        snprintf(metric, sizeof metric, "commits_per_s_%u", depths[i]);
        result("raft", metric, told.per_s, "1/s", depths[i] / bare_s, -1);
        snprintf(metric, sizeof metric, "commit_p50_%u", depths[i]);
        result("raft", metric, told.p50_us, "us", bare_s * 1e6, -1);
        snprintf(metric, sizeof metric, "commit_p99_%u", depths[i]);
        result("raft", metric, told.p99_us, "us", -1, -1);
        snprintf(metric, sizeof metric, "commit_p999_%u", depths[i]);
        result("raft", metric, told.p999_us, "us", -1, -1);
    }
}

static void measure_kills(const char *name, unsigned election_ticks, unsigned heartbeat_ticks, unsigned kills)
{
    struct group g;
    float took[1024];
    char metric[64];
    unsigned count = 0;
    start_group(&g, (struct shape){.election_ticks = election_ticks, .heartbeat_ticks = heartbeat_ticks});
    struct told leader = hear(&g);
    while (count < kills && count < sizeof took / sizeof took[0]) {
        usleep(300000); /* all have the leader's word that it leads */
        double since = seconds();
        kill_member(&g, leader.member);
        struct told next = hear(&g);
        took[count++] = (float)(next.at - since);
        start_member(&g, leader.member);
        leader = next;
        usleep(300000); /* and the one that was killed is back */
    }
    end_group(&g);
    qsort(took, count, sizeof *took, by_size);
    snprintf(metric, sizeof metric, "leader_killed_%s_p50", name);
    result("raft", metric, (double)took[count / 2] * 1e3, "ms", election_ticks * (double)RAFT_TICK_MS, -1);
    snprintf(metric, sizeof metric, "leader_killed_%s_p99", name);
    result("raft", metric, (double)took[(count - 1) * 99 / 100] * 1e3, "ms", -1, -1);
}

/* Resident memory of a process in MB. */
static double rss_mb(pid_t pid)
{
    char path[64], *text = NULL;
    size_t bytes = 0;
    struct err err = {0};
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    if (fsx_read(path, 1 << 16, &text, &bytes, &err) != TIDE_OK)
        give_up("the status of a member", &err);
    const char *at = strstr(text, "VmRSS:");
    double kb = at ? strtod(at + 6, NULL) : 0;
    mem_free(text);
    return kb / 1024;
}

/* One of three stands still under load: what the leader keeps for it is bounded, as it is cut off and sent a snapshot later.
 */
static void measure_hung_peer(void)
{
    struct group g;
    start_group(&g, (struct shape){.depth = HUNG_DEPTH, .for_ever = true});
    struct told leader = hear(&g);
    unsigned other = leader.member % MEMBERS + 1;
    usleep((useconds_t)(HUNG_S / 2 * 1e6));
    double before = rss_mb(g.pids[leader.member]), most = 0;
    kill(g.pids[other], SIGSTOP);
    for (double until = seconds() + HUNG_S; seconds() < until; usleep(100000)) {
        double now = rss_mb(g.pids[leader.member]);
        most = now > most ? now : most;
    }
    kill(g.pids[other], SIGCONT);
    end_group(&g);
    result("raft", "leader_rss_all_well", before, "MB", -1, -1);
    result("raft", "leader_rss_one_member_hung", most, "MB", -1, -1);
}

static void make_identities(const char *self)
{
    char tidemark[PATH_ROOM + 16], dir[PATH_ROOM + 16], addresses[MEMBERS][64];
    char *argv[6 + MEMBERS] = {tidemark, "cluster", "init", "--dir", dir};
    snprintf(tidemark, sizeof tidemark, "%s", self);
    char *slash = strrchr(tidemark, '/');
    snprintf(slash ? slash + 1 : tidemark, sizeof "tidemark", "tidemark");
    snprintf(dir, sizeof dir, "%s/identity", directory);
    for (unsigned i = 0; i < MEMBERS; i++) {
        snprintf(addresses[i], sizeof addresses[i], "127.0.0.1:%u:%u", port_first + 2 * i + 3, port_first + 2 * i + 2);
        argv[5 + i] = addresses[i];
    }
    posix_spawn_file_actions_t quiet;
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    pid_t pid = -1;
    int status = -1;
    if (posix_spawnp(&pid, tidemark, &quiet, NULL, argv, environ) == 0)
        waitpid(pid, &status, 0);
    posix_spawn_file_actions_destroy(&quiet);
    if (status != 0) {
        fprintf(stderr, "bench_raft: %s cluster init failed\n", tidemark);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    (void)argc;
    const char *wanted = getenv("BENCH_KILLS");
    unsigned kills = wanted ? (unsigned)strtoul(wanted, NULL, 10) : KILLS_DEFAULT;
    struct err err = {0};
    char name[] = "tidemark-bench-raft-XXXXXX";
    signal(SIGPIPE, SIG_IGN);
    if (mkdtemp(name) == NULL || getcwd(directory, sizeof directory - sizeof name - 1) == NULL)
        give_up("the directory", &err);
    size_t n = strlen(directory);
    snprintf(directory + n, sizeof directory - n, "/%s", name);
    port_first = PORT_FIRST + (unsigned)getpid() % PORT_RANGE;
    make_identities(argv[0]);
    measure_depths(bare_sync());
    measure_hung_peer();
    measure_kills("100_20", 10, 2, kills);
    measure_kills("default", RAFT_ELECTION_TICKS_DEFAULT, RAFT_HEARTBEAT_TICKS_DEFAULT, kills);
    return fsx_remove_tree(directory, &err) == TIDE_OK ? 0 : 1;
}
