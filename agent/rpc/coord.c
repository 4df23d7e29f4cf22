/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/coord.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/wire/identity.h"
#include "ckpt/wire/view.h"

#define COORDINATORS_MAX 16u
#define BACKOFF_MS_MIN 50u
#define BACKOFF_MS_MAX 2000u
#define JOIN_PAUSE_MS_MAX 1000u /* of an agent that was started again, and does not know the lease its node still has */
#define REFUSED_CLUSTER_MS 5000u
#define HEARTBEAT_MS_FALLBACK 250u
#define REGISTER_TIMEOUT_MS 5000u
#define HEARTBEAT_TIMEOUT_MS_MIN 250u
#define HEARTBEAT_TIMEOUT_MS_MAX 2000u
#define DESIRED_WAIT_MS 30000u
#define DESIRED_TIMEOUT_MS (DESIRED_WAIT_MS + 10000u)
#define DESIRED_PAUSE_MS 100u /* an answer without news that came at once: do not spin */
#define SMALL_ANSWER_MAX 65536u
#define DESIRED_ANSWER_MAX (128u << 20)
#define URL_MAX (TIDE_PATH_MAX + 256)

/* One kind of call: at most one in flight, its own pauses. */
struct lane {
    uv_timer_t timer;
    struct coord *coord;
    bool in_flight;
    unsigned failures;
    uint64_t began_ns;
};

struct coord {
    struct http_client *client;
    struct agent_creds *creds;
    struct strlist urls;
    size_t named;   /* the first so many were named at the start; behind them, what the leader told */
    size_t current; /* the one that answered last */
    struct node_hello hello;
    struct coord_hooks hooks;
    struct rng rng;
    struct lane join, beat, poll;
    size_t poll_at; /* where the poll was sent */
    bool joined, ever_joined, closing;
    bool beat_wanted; /* something changed while one was in flight */
    bool unreachable_said, left_behind_said; /* since one answered that is followed */
    uint64_t heartbeat_ms, beat_timeout_ms;
};

static void send_register(struct coord *coord);
static void send_beat(struct coord *coord);
static void send_poll(struct coord *coord);

static bool url_plausible(const char *url)
{
    return (strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0) && strlen(url) <= TIDE_PATH_MAX &&
           strpbrk(url, " \t\n?#") == NULL;
}

static enum tide_status split_urls(const char *urls, struct strlist *list, struct err *err)
{
    char *copy = mem_strdup(urls), *rest = NULL;
    enum tide_status status = TIDE_OK;
    for (char *url = strtok_r(copy, ",", &rest); url != NULL && status == TIDE_OK; url = strtok_r(NULL, ",", &rest)) {
        size_t n = strlen(url);
        while (n > 0 && url[n - 1] == '/')
            url[--n] = '\0';
        if (!url_plausible(url))
            status = err_set(err, TIDE_E_INVALID, "\"%.200s\" is no coordinator's URL; say http://host:port[,http://…]", url);
        else if (list->count == COORDINATORS_MAX)
            status = err_set(err, TIDE_E_LIMIT, "more than %u coordinators are named", COORDINATORS_MAX);
        else
            strlist_add(list, url);
    }
    mem_free(copy);
    if (status == TIDE_OK && list->count == 0)
        status = err_set(err, TIDE_E_INVALID, "no coordinator is named; say --coordinator https://host:port");
    return status;
}

static void lane_init(struct coord *coord, struct lane *lane)
{
    lane->coord = coord;
    uv_timer_init(coord->client->loop, &lane->timer);
    lane->timer.data = lane;
}

enum tide_status coord_create(struct http_client *client, const char *urls, struct agent_creds *creds, const struct node_hello *hello,
                              const struct coord_hooks *hooks, struct coord **ret_coord, struct err *err)
{
    struct coord *coord = mem_alloc(sizeof *coord);
    enum tide_status status = split_urls(urls, &coord->urls, err);
    if (status != TIDE_OK) {
        coord_free(coord);
        return status;
    }
    coord->named = coord->urls.count;
    coord->client = client;
    coord->creds = creds;
    coord->hello = *hello;
    coord->hooks = *hooks;
    coord->rng.state = rng_entropy();
    coord->heartbeat_ms = HEARTBEAT_MS_FALLBACK;
    coord->beat_timeout_ms = HEARTBEAT_TIMEOUT_MS_MAX;
    lane_init(coord, &coord->join);
    lane_init(coord, &coord->beat);
    lane_init(coord, &coord->poll);
    *ret_coord = coord;
    return TIDE_OK;
}

void coord_close(struct coord *coord)
{
    coord->closing = true;
    uv_close((uv_handle_t *)&coord->join.timer, NULL);
    uv_close((uv_handle_t *)&coord->beat.timer, NULL);
    uv_close((uv_handle_t *)&coord->poll.timer, NULL);
}

void coord_free(struct coord *coord)
{
    if (coord == NULL)
        return;
    strlist_release(&coord->urls);
    mem_free(coord);
}

uint64_t coord_heartbeat_ms(const struct coord *coord)
{
    return coord->heartbeat_ms;
}

/* Full jitter: any pause up to the present cap, so that a thousand agents do not come back as one. */
static uint64_t pause_ms(struct coord *coord, struct lane *lane)
{
    uint64_t cap = BACKOFF_MS_MIN << (lane->failures < 16 ? lane->failures : 16);
    /* A leader that is back gives everybody one lease: who must be heard by then must not wait for longer. */
    uint64_t most = lane == &coord->beat ? coord->beat_timeout_ms / 2 : lane == &coord->join ? JOIN_PAUSE_MS_MAX : BACKOFF_MS_MAX;
    if (cap > most)
        cap = most;
    lane->failures++;
    return 1 + rng_below(&coord->rng, cap);
}

static void call(struct coord *coord, struct lane *lane, const struct http_call *call_order)
{
    lane->in_flight = true;
    lane->began_ns = clock_mono_ns();
    http_client_start(coord->client, call_order);
}

/* A follower sends us on to the leader: ask that one next time. */
static void prefer(struct coord *coord, const char *url)
{
    for (size_t i = 0; i < coord->urls.count; i++) {
        size_t n = strlen(coord->urls.items[i]);
        if (strncmp(url, coord->urls.items[i], n) == 0 && url[n] == '/') {
            coord->current = i;
            return;
        }
    }
}

static bool knows(const struct coord *coord, size_t count, const char *url)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(coord->urls.items[i], url) == 0)
            return true;
    return false;
}

/* The members of the group are others by and by: who was named at the start may be gone one day. */
static void learn_members(struct coord *coord, const json_t *members)
{
    size_t told = 0, i;
    const json_t *member;
    bool same = true;
    json_array_foreach(members, i, member) {
        const char *url = json_string_value(member);
        bool counts = url != NULL && url_plausible(url) && !knows(coord, coord->named, url);
        told += counts;
        same = same && (!counts || knows(coord, coord->urls.count, url));
    }
    if (members == NULL || (same && told == coord->urls.count - coord->named))
        return;
    struct strlist old = coord->urls;
    coord->urls = (struct strlist){0};
    for (i = 0; i < coord->named; i++)
        strlist_add(&coord->urls, old.items[i]);
    json_array_foreach(members, i, member) {
        const char *url = json_string_value(member);
        if (url != NULL && url_plausible(url) && !knows(coord, coord->urls.count, url) && coord->urls.count < COORDINATORS_MAX)
            strlist_add(&coord->urls, url);
    }
    size_t now = 0;
    for (i = 0; i < coord->urls.count; i++)
        if (strcmp(coord->urls.items[i], old.items[coord->current]) == 0)
            now = i;
    coord->current = now;
    coord->poll_at = SIZE_MAX; /* numbers mean others now: the poll is asked anew with the next heartbeat */
    log_info("%zu coordinators are known, %zu of them from the leader", coord->urls.count, coord->urls.count - coord->named);
    strlist_release(&old);
}

static void read_beat_answer(struct coord *coord, const struct http_answer *answer)
{
    json_error_t unused;
    json_t *body = json_loadb(answer->body, answer->bytes, 0, &unused);
    learn_members(coord, json_object_get(body, "coordinators"));
    json_decref(body);
}

/* One that says no epoch is of a version that knew of none, and so of a group that was never recovered. */
static uint64_t epoch_of(const struct http_answer *answer)
{
    uint64_t epoch = 0;
    struct err unused = {0};
    return epoch_parse(answer->epoch, &epoch, &unused) == TIDE_OK ? epoch : 0;
}

static enum coord_history history_of(const struct coord *coord, const struct http_answer *answer)
{
    return answer->status == 0 ? COORD_SAME : coord->hooks.history(coord->hooks.context, answer->cluster, epoch_of(answer));
}

/* Whatever a coordinator says that was left behind, it is as if nobody had answered. */
static struct http_answer believed(struct coord *coord, const struct http_answer *answer)
{
    static const char why[] = "it was left behind when the cluster was recovered: stop it, and remove its data";
    if (history_of(coord, answer) != COORD_LEFT_BEHIND)
        return *answer;
    if (!coord->left_behind_said)
        log_error("the coordinator at %s is not followed: %s", coord->urls.items[coord->current], why);
    coord->left_behind_said = true;
    return (struct http_answer){.body = "", .error = why, .url = answer->url, .cluster = "", .epoch = ""};
}

/* What every answer means for whom to ask next. True: it is a 2xx. */
static bool judge(struct coord *coord, struct lane *lane, const struct http_answer *answer, struct api_error *ret_error)
{
    lane->in_flight = false;
    memset(ret_error, 0, sizeof *ret_error);
    if (answer->status >= 200 && answer->status < 300) {
        lane->failures = 0;
        prefer(coord, answer->url);
        if (coord->unreachable_said)
            log_info("the coordinator at %s answers again", coord->urls.items[coord->current]);
        coord->unreachable_said = coord->left_behind_said = false;
        return true;
    }
    json_error_t unused;
    json_t *body = answer->status != 0 ? json_loadb(answer->body, answer->bytes, 0, &unused) : NULL;
    json_t *error = json_object_get(body, "error");
    struct err err = {0};
    if (error == NULL || codec_decode(&api_error_codec, error, CODEC_LENIENT, ret_error, &err) != TIDE_OK)
        snprintf(ret_error->message, sizeof ret_error->message, "%.200s",
                 answer->status == 0 ? answer->error : "an answer that is none of a coordinator");
    json_decref(body);
    if (answer->status == 0 || answer->status >= 500) {
        if (!coord->unreachable_said)
            log_warn("no answer from the coordinator at %s: %.300s; ranks keep running, asking on", coord->urls.items[coord->current],
                     ret_error->message);
        coord->unreachable_said = true;
        /* A poll that was left waiting elsewhere says nothing of the one that answers now. */
        if (lane != &coord->poll || coord->poll_at == coord->current)
            coord->current = (coord->current + 1) % coord->urls.count;
    }
    return false;
}

/* ---- registration ---- */

static void rejoin(struct coord *coord)
{
    if (!coord->joined)
        return;
    coord->joined = false;
    uv_timer_stop(&coord->beat.timer);
    uv_timer_stop(&coord->poll.timer);
    send_register(coord);
}

static void on_join_timer(uv_timer_t *timer)
{
    send_register(((struct lane *)timer->data)->coord);
}

static void register_refused(struct coord *coord, const struct api_error *error)
{
    if (!coord->ever_joined) {
        char why[ERR_TEXT_MAX + TIDE_TEXT_MAX + 4];
        snprintf(why, sizeof why, "%s%s%s", error->message, error->hint[0] != '\0' ? "; " : "", error->hint);
        coord->hooks.refused(coord->hooks.context, why);
        return;
    }
    log_error("the coordinator refuses this node: %s", error->message);
    uv_timer_start(&coord->join.timer, on_join_timer, REFUSED_CLUSTER_MS, 0);
}

/* One heartbeat that gets lost on its way must leave time for another within the lease. */
static uint64_t beat_timeout_ms(uint64_t lease_ms)
{
    uint64_t half_ms = lease_ms > 0 ? lease_ms / 2 : HEARTBEAT_TIMEOUT_MS_MAX;
    if (half_ms < HEARTBEAT_TIMEOUT_MS_MIN)
        return HEARTBEAT_TIMEOUT_MS_MIN;
    return half_ms < HEARTBEAT_TIMEOUT_MS_MAX ? half_ms : HEARTBEAT_TIMEOUT_MS_MAX;
}

static void on_registered(void *context, const struct http_answer *told)
{
    struct coord *coord = context;
    struct http_answer heard = believed(coord, told), *answer = &heard;
    struct api_error error;
    if (!judge(coord, &coord->join, answer, &error)) {
        if (answer->status >= 400 && answer->status < 500)
            register_refused(coord, &error);
        else
            uv_timer_start(&coord->join.timer, on_join_timer, pause_ms(coord, &coord->join), 0);
        return;
    }
    struct node_welcome welcome;
    struct err err = {0};
    if (codec_parse(&node_welcome_codec, answer->body, answer->bytes, CODEC_LENIENT, &welcome, &err) != TIDE_OK) {
        log_error("the coordinator's welcome cannot be read: %s", err.text);
        uv_timer_start(&coord->join.timer, on_join_timer, pause_ms(coord, &coord->join), 0);
        return;
    }
    if (!coord->hooks.welcomed(coord->hooks.context, &welcome, epoch_of(answer))) {
        uv_timer_start(&coord->join.timer, on_join_timer, REFUSED_CLUSTER_MS, 0);
        return;
    }
    coord->joined = coord->ever_joined = true;
    if (welcome.heartbeat_ms > 0)
        coord->heartbeat_ms = welcome.heartbeat_ms;
    coord->beat_timeout_ms = beat_timeout_ms(welcome.lease_ms);
    send_beat(coord);
    send_poll(coord);
}

/* Before the CA is known nobody can be told from anybody else: whoever answers is asked for nothing but the CA. */
static void on_ca(void *context, const struct http_answer *answer)
{
    struct coord *coord = context;
    struct api_error error;
    struct err err = {0};
    const char *url = coord->urls.items[coord->current];
    if (!judge(coord, &coord->join, answer, &error)) {
        log_warn("the coordinator at %s does not show its CA: %.300s", url, error.message);
        uv_timer_start(&coord->join.timer, on_join_timer, pause_ms(coord, &coord->join), 0);
        return;
    }
    if (creds_take_ca(coord->creds, answer->body, &err) != TIDE_OK) {
        char why[ERR_TEXT_MAX + TIDE_PATH_MAX + 64];
        snprintf(why, sizeof why, "the coordinator at %s is not believed: %s", url, err.text);
        coord->hooks.refused(coord->hooks.context, why);
        return;
    }
    send_register(coord);
}

static void send_ca(struct coord *coord)
{
    char url[URL_MAX];
    snprintf(url, sizeof url, "%s/v1/ca", coord->urls.items[coord->current]);
    call(coord, &coord->join, &(struct http_call){.method = "GET", .url = url, .timeout_ms = REGISTER_TIMEOUT_MS,
         .unverified = true, .answer_bytes_max = SMALL_ANSWER_MAX, .done = on_ca, .context = coord});
}

static void send_register(struct coord *coord)
{
    if (coord->closing || coord->join.in_flight)
        return;
    if (creds_want_ca(coord->creds)) {
        send_ca(coord);
        return;
    }
    char url[URL_MAX];
    snprintf(url, sizeof url, "%s/v1/agent/register", coord->urls.items[coord->current]);
    char *body = codec_print(&node_hello_codec, &coord->hello, 0);
    call(coord, &coord->join, &(struct http_call){.method = "POST", .url = url, .body = body, .timeout_ms = REGISTER_TIMEOUT_MS,
         .answer_bytes_max = SMALL_ANSWER_MAX, .done = on_registered, .context = coord});
    mem_free(body);
}

void coord_start(struct coord *coord)
{
    send_register(coord);
}

/* ---- heartbeats ---- */

static bool forgotten(const struct http_answer *answer, const struct api_error *error)
{
    return answer->status >= 400 && answer->status < 500 &&
           (strcmp(error->code, tide_status_name(TIDE_E_NOT_FOUND)) == 0 || strcmp(error->code, tide_status_name(TIDE_E_STALE)) == 0);
}

/* Remembered before anything else is taken from it (dirs_join): that is what registering does. */
static bool heard_of_recovery(struct coord *coord, const struct http_answer *answer)
{
    if (history_of(coord, answer) != COORD_LATER)
        return false;
    log_warn("the cluster was recovered, and is of epoch %s now: registering again", answer->epoch);
    rejoin(coord);
    return true;
}

static void on_beat_timer(uv_timer_t *timer)
{
    send_beat(((struct lane *)timer->data)->coord);
}

static void on_poll(void *context, const struct http_answer *answer);

/* Heartbeats are answered by another than the one at which the poll waits: it may wait there for long, at a leader that stands
 * still or was deposed without knowing. */
static void on_poll_elsewhere(uv_timer_t *timer)
{
    struct coord *coord = ((struct lane *)timer->data)->coord;
    if (coord->closing || !coord->joined)
        return;
    http_client_cancel(coord->client, on_poll, coord);
    coord->poll.in_flight = false;
    send_poll(coord);
}

static void on_beat(void *context, const struct http_answer *told)
{
    struct coord *coord = context;
    struct http_answer heard = believed(coord, told), *answer = &heard;
    struct api_error error;
    bool good = judge(coord, &coord->beat, answer, &error);
    if (!coord->joined || heard_of_recovery(coord, answer))
        return;
    if (forgotten(answer, &error)) {
        log_warn("the coordinator does not know this incarnation (%s): registering again", error.message);
        rejoin(coord);
        return;
    }
    if (!good && answer->status >= 400 && answer->status < 500)
        log_error("the coordinator does not take this heartbeat: %s", error.message);
    if (good)
        read_beat_answer(coord, answer);
    if (good && coord->poll.in_flight && coord->poll_at != coord->current)
        uv_timer_start(&coord->poll.timer, on_poll_elsewhere, 0, 0);
    if (good && coord->beat_wanted)
        send_beat(coord);
    else
        uv_timer_start(&coord->beat.timer, on_beat_timer, good ? coord->heartbeat_ms : pause_ms(coord, &coord->beat), 0);
}

static void send_beat(struct coord *coord)
{
    if (coord->closing || !coord->joined || coord->beat.in_flight)
        return;
    coord->beat_wanted = false;
    char url[URL_MAX];
    snprintf(url, sizeof url, "%s/v1/agent/heartbeat", coord->urls.items[coord->current]);
    char *body = coord->hooks.heartbeat(coord->hooks.context);
    call(coord, &coord->beat, &(struct http_call){.method = "POST", .url = url, .body = body, .timeout_ms = coord->beat_timeout_ms,
         .answer_bytes_max = SMALL_ANSWER_MAX, .done = on_beat, .context = coord});
    mem_free(body);
}

/* Sent from the loop's next turn: what one event changes in several places goes in one heartbeat. */
void coord_beat_now(struct coord *coord)
{
    coord->beat_wanted = true;
    if (!coord->closing && coord->joined && !coord->beat.in_flight && coord->beat.failures == 0)
        uv_timer_start(&coord->beat.timer, on_beat_timer, 0, 0);
}

/* ---- desired state ---- */

static void on_poll_timer(uv_timer_t *timer)
{
    send_poll(((struct lane *)timer->data)->coord);
}

static void take_desired(struct coord *coord, const struct http_answer *answer)
{
    struct desired desired;
    struct err err = {0};
    if (codec_parse(&desired_codec, answer->body, answer->bytes, CODEC_LENIENT, &desired, &err) != TIDE_OK) {
        log_error("the desired state from %s cannot be read and is ignored: %s", coord->urls.items[coord->current], err.text);
        return;
    }
    coord->hooks.desired(coord->hooks.context, &desired);
    codec_release(&desired_codec, &desired);
}

static void on_poll(void *context, const struct http_answer *told)
{
    struct coord *coord = context;
    struct http_answer heard = believed(coord, told), *answer = &heard;
    struct api_error error;
    bool good = judge(coord, &coord->poll, answer, &error);
    if (!coord->joined || heard_of_recovery(coord, answer))
        return;
    /* An incarnation that is not known any more is noticed by the heartbeats. */
    uint64_t pause = pause_ms(coord, &coord->poll);
    if (good) {
        uint64_t before = coord->hooks.revision(coord->hooks.context);
        uint64_t took_ms = (clock_mono_ns() - coord->poll.began_ns) / NS_PER_MS;
        take_desired(coord, answer);
        bool news = coord->hooks.revision(coord->hooks.context) > before;
        pause = news || took_ms >= DESIRED_PAUSE_MS ? 0 : DESIRED_PAUSE_MS;
        coord->poll.failures = 0;
    }
    uv_timer_start(&coord->poll.timer, on_poll_timer, pause, 0);
}

static void send_poll(struct coord *coord)
{
    if (coord->closing || !coord->joined || coord->poll.in_flight)
        return;
    char url[URL_MAX];
    coord->poll_at = coord->current;
    snprintf(url, sizeof url, "%s/v1/agent/desired?node=%s&incarnation=%s&after=%llu&wait_ms=%u", coord->urls.items[coord->current],
             coord->hello.name, coord->hello.incarnation, (unsigned long long)coord->hooks.revision(coord->hooks.context),
             DESIRED_WAIT_MS);
    call(coord, &coord->poll, &(struct http_call){.method = "GET", .url = url, .timeout_ms = DESIRED_TIMEOUT_MS,
         .answer_bytes_max = DESIRED_ANSWER_MAX, .done = on_poll, .context = coord});
}
