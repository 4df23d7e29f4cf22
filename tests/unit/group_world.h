/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_GROUP_WORLD_H
#define TESTS_UNIT_GROUP_WORLD_H

/* Members of a group in one process: real threads, sockets on loopback and directories. The state machine is the sum of
 * what was applied, so that members can be compared at any index. Included after cmocka. */

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/member.h"

#define GROUP_MAX 5u
#define GROUP_CLUSTER "00c0ffee00c0ffee"
#define GROUP_WAIT_MS 20000u /* a busy machine and a sanitizer take their time */

struct mate {
    uint64_t id;
    struct member *member; /* NULL: not running */
    char data[128];
    char peer[32];
    uint64_t index, term, sum, commands; /* applied; sum: a chain over all commands */
    struct raft_blob *config;
    struct member_turn turn;
    uint64_t own, failures, unknown, refused; /* ends of this member's own proposals */
    struct err last;                          /* of a failure */
    uint64_t reads, reads_refused, restored;
    uint64_t images_lost, image_lost; /* how many, and the last one's index */
    bool stopped;
    bool old; /* cannot read any image */
};

struct group {
    uv_loop_t loop;
    uv_timer_t alarm;
    bool rang;
    char dir[64];
    struct mate nodes[GROUP_MAX];
    struct raft_config founders;
    uint64_t segment_bytes; /* of the logs; 0: the default */
};

static inline uint64_t chain(uint64_t sum, const struct raft_blob *blob)
{
    return XXH3_64bits_withSeed(blob->data, blob->bytes, sum);
}

static inline void on_committed(void *context, const struct member_entry *entry)
{
    struct mate *n = context;
    assert_true(entry->index == n->index + 1);
    assert_true(entry->term >= n->term);
    n->index = entry->index;
    n->term = entry->term;
    if (entry->type == RAFT_COMMAND) {
        n->sum = chain(n->sum, entry->blob);
        n->commands++;
    } else if (entry->type == RAFT_CONFIG) {
        raft_blob_unref(n->config);
        n->config = raft_blob_ref(entry->blob);
    }
    if (entry->cookie != NULL)
        n->own++;
    raft_blob_unref(entry->blob);
}

static inline void on_failed(void *context, void *cookie, enum tide_status status, const struct err *err)
{
    struct mate *n = context;
    assert_non_null(cookie);
    n->last = *err;
    n->failures++;
    n->unknown += status == TIDE_E_TIMEOUT;
    n->refused += status == TIDE_E_UNAVAILABLE;
}

static inline void on_read(void *context, void *cookie, bool permitted)
{
    struct mate *n = context;
    assert_non_null(cookie);
    if (permitted)
        n->reads++;
    else
        n->reads_refused++;
}

struct sums {
    uint64_t sum, commands;
};

static inline void *on_parse(void *context, const struct snapshot *snapshot, struct err *err)
{
    const struct mate *n = context;
    if (n->old) {
        err_set(err, TIDE_E_VERSION, "it is of level 1000");
        return NULL;
    }
    struct sums *sums = mem_alloc(sizeof *sums);
    if (sscanf(snapshot->data, "%" SCNu64 " %" SCNu64, &sums->sum, &sums->commands) == 2)
        return sums;
    mem_free(sums);
    err_set(err, TIDE_E_CORRUPT, "no sums");
    return NULL;
}

static inline void on_restored(void *context, void *parsed, uint64_t index, uint64_t term, const struct raft_config *config)
{
    struct mate *n = context;
    struct sums *sums = parsed;
    n->index = index;
    n->term = term;
    n->sum = sums->sum;
    n->commands = sums->commands;
    raft_blob_unref(n->config);
    n->config = raft_config_encode(config);
    n->restored++;
    mem_free(sums);
}

static inline void on_drop(void *context, void *parsed)
{
    (void)context;
    mem_free(parsed);
}

static inline void save_image(struct mate *n);
static inline void on_image_lost(void *context, uint64_t index)
{
    struct mate *n = context;
    n->images_lost++;
    n->image_lost = index;
    save_image(n);
}

static inline void on_turned(void *context, const struct member_turn *turn)
{
    struct mate *n = context;
    n->turn = *turn;
}

static inline void on_stopped(void *context)
{
    struct mate *n = context;
    n->stopped = true;
}

static const struct member_calls group_calls = {.committed = on_committed,
                                                .failed = on_failed,
                                                .read = on_read,
                                                .parse = on_parse,
                                                .restored = on_restored,
                                                .drop = on_drop,
                                                .image_lost = on_image_lost,
                                                .turned = on_turned,
                                                .stopped = on_stopped};

/* ---- time ---- */

static inline void on_alarm(uv_timer_t *timer)
{
    struct group *g = timer->data;
    g->rang = true;
}

/* Let the world run until `condition` holds; false: it never did. */
#define UNTIL(g, condition)                                                                                                 \
    ({                                                                                                                      \
        uint64_t until_ = clock_mono_ns() + GROUP_WAIT_MS * NS_PER_MS;                                                      \
        bool held_ = false;                                                                                                 \
        while (!(held_ = (condition)) && clock_mono_ns() < until_)                                                          \
            group_turn(g);                                                                                                  \
        held_;                                                                                                              \
    })

static inline void group_turn(struct group *g)
{
    uv_timer_start(&g->alarm, on_alarm, 5, 0);
    uv_run(&g->loop, UV_RUN_ONCE);
}

/* ---- members ---- */

/* Of the moment: somebody else may take one. All are held until each is known: one that was let go may be the next one
 * found. */
static inline void free_ports(unsigned ret_ports[GROUP_MAX])
{
    int fds[GROUP_MAX];
    for (unsigned i = 0; i < GROUP_MAX; i++) {
        struct sockaddr_in name = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t bytes = sizeof name;
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(bind(fds[i], (struct sockaddr *)&name, sizeof name), 0);
        assert_int_equal(getsockname(fds[i], (struct sockaddr *)&name, &bytes), 0);
        ret_ports[i] = ntohs(name.sin_port);
    }
    for (unsigned i = 0; i < GROUP_MAX; i++)
        close(fds[i]);
}

static inline enum tide_status node_open(struct group *g, struct mate *n, struct err *err)
{
    struct raft_config nobody = {0};
    bool founds = raft_config_member(&g->founders, n->id) != NULL;
    struct member_options options = {.loop = &g->loop,
                                     .data = n->data,
                                     .cluster = GROUP_CLUSTER,
                                     .id = n->id,
                                     .founders = founds ? &g->founders : &nobody,
                                     .peer_listen = n->peer,
                                     .election_ticks = 15,
                                     .heartbeat_ticks = 3,
                                     .segment_bytes = g->segment_bytes,
                                     .calls = &group_calls,
                                     .context = n};
    n->index = n->term = n->sum = n->commands = 0;
    n->stopped = false;
    n->turn = (struct member_turn){0};
    return member_open(&options, &n->member, err);
}

static inline void node_start(struct group *g, struct mate *n)
{
    struct err err = {0};
    if (node_open(g, n, &err) != TIDE_OK)
        fail_msg("member %d: %s", (int)n->id, err.text);
    member_start(n->member);
}

static inline void node_stop(struct group *g, struct mate *n, bool hand_over)
{
    member_stop(n->member, hand_over);
    assert_true(UNTIL(g, n->stopped));
    group_turn(g); /* the handle's end */
    member_close(n->member);
    n->member = NULL;
    raft_blob_unref(n->config);
    n->config = NULL;
}

/* A group of `founders`, with room for more; none runs yet. */
static inline void group_init(struct group *g, unsigned founders)
{
    *g = (struct group){0};
    snprintf(g->dir, sizeof g->dir, "%s/tidemark-group-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(g->dir));
    uv_loop_init(&g->loop);
    uv_timer_init(&g->loop, &g->alarm);
    g->alarm.data = g;
    unsigned ports[GROUP_MAX];
    free_ports(ports);
    for (unsigned i = 0; i < GROUP_MAX; i++) {
        struct mate *n = &g->nodes[i];
        n->id = i + 1;
        snprintf(n->data, sizeof n->data, "%s/%u", g->dir, i + 1);
        snprintf(n->peer, sizeof n->peer, "127.0.0.1:%u", ports[i]);
        struct raft_member member = {.id = n->id, .voter = true};
        text_copy(member.peer, sizeof member.peer, n->peer);
        snprintf(member.api, sizeof member.api, "http://127.0.0.1:%u", i + 1);
        struct err err = {0};
        if (i < founders)
            assert_int_equal(raft_config_add(&g->founders, &member, &err), TIDE_OK);
    }
}

static inline void group_start(struct group *g, unsigned founders)
{
    group_init(g, founders);
    for (unsigned i = 0; i < founders; i++)
        node_start(g, &g->nodes[i]);
}

static inline void group_end(struct group *g)
{
    for (unsigned i = 0; i < GROUP_MAX; i++)
        if (g->nodes[i].member != NULL)
            node_stop(g, &g->nodes[i], false);
    uv_close((uv_handle_t *)&g->alarm, NULL);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&g->loop), 0);
    assert_int_equal(fsx_remove_tree(g->dir, NULL), TIDE_OK);
}

static inline struct mate *leader_of(struct group *g)
{
    for (unsigned i = 0; i < GROUP_MAX; i++)
        if (g->nodes[i].member != NULL && g->nodes[i].turn.ready)
            return &g->nodes[i];
    return NULL;
}

static inline struct mate *wait_leader(struct group *g)
{
    assert_true(UNTIL(g, leader_of(g) != NULL));
    return leader_of(g);
}

static inline struct mate *other_than(struct group *g, const struct mate *n)
{
    for (unsigned i = 0; i < GROUP_MAX; i++)
        if (g->nodes[i].member != NULL && &g->nodes[i] != n)
            return &g->nodes[i];
    return NULL;
}

static inline enum tide_status propose(struct mate *n, const char *text)
{
    struct err err = {0};
    struct raft_blob *blob = raft_blob_create(text, strlen(text));
    enum tide_status status = member_propose(n->member, blob, n, &err);
    raft_blob_unref(blob);
    return status;
}

/* `count` commands at `n`, each acknowledged. */
static inline void propose_many(struct group *g, struct mate *n, unsigned count)
{
    uint64_t own = n->own;
    for (unsigned i = 0; i < count; i++) {
        char text[64];
        snprintf(text, sizeof text, "command %u of member %u", i, (unsigned)n->id);
        assert_true(UNTIL(g, propose(n, text) == TIDE_OK));
    }
    assert_true(UNTIL(g, n->own == own + count));
}

/* How many changes were made: one or none. */
static inline uint64_t changed(struct group *g, struct mate *leader, enum member_change change,
                               const struct raft_member *who)
{
    uint64_t own = leader->own, failures = leader->failures;
    member_change(leader->member, change, who, leader);
    assert_true(UNTIL(g, leader->own > own || leader->failures > failures));
    return leader->own - own;
}

static inline bool same(const struct group *g)
{
    const struct mate *first = NULL;
    for (unsigned i = 0; i < GROUP_MAX; i++) {
        const struct mate *n = &g->nodes[i];
        if (n->member == NULL)
            continue;
        if (first != NULL && (n->index != first->index || n->sum != first->sum || n->commands != first->commands))
            return false;
        first = n;
    }
    return true;
}

/* An image of what `n` has applied, as its replica would write it. */
static inline void save_image(struct mate *n)
{
    char text[64];
    struct err err = {0};
    snprintf(text, sizeof text, "%" PRIu64 " %" PRIu64, n->sum, n->commands);
    struct snapshot snapshot = {.index = n->index,
                                .term = n->term,
                                .config = n->config->data,
                                .config_bytes = n->config->bytes,
                                .data = text,
                                .bytes = strlen(text)};
    assert_int_equal(member_save_image(n->member, &snapshot, &err), TIDE_OK);
}

#endif
