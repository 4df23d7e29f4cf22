/* SPDX-License-Identifier: Apache-2.0 */
/* Long polls. Every watched thing has a version, a number of this server that grows whenever the bytes served of it
 * change, whether the log changed them or a heartbeat did. A watch with another number than the present one is answered
 * at once; so a client never misses a change, and never returns for nothing. A leader counts from its term, so that they
 * grow from leader to leader whatever their clocks say: what an agent was told by a leader that was deposed without knowing
 * is older than what the next one says. They jump over any larger number a client brings. */
#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/inner.h"

#define SWEEP_BUDGET_NS (5 * NS_PER_MS) /* one turn of the loop; the rest in the next */
#define SWEEP_REST 3u                   /* times as long as a sweep of several turns took, before the next one */
#define NEXT_TURN_MS 1u
#define LIVE_DELAY_MS 100u              /* steps change all the time: at most ten answers a second for them */
#define VERSION_TERM_SHIFT 32u          /* 4 thousand million versions a term */

_Static_assert(WATCH_MS_MAX / TICK_MS + 2 < WATCH_DUE_SLOTS, "no two ticks of a wait share a slot");

static void on_sweep(uv_timer_t *timer);

void watch_init(struct server *server)
{
    struct watches *w = &server->watches;
    w->epoch = 1;
    w->due_tick = clock_mono_ns() / (TICK_MS * NS_PER_MS);
    uv_timer_init(server->loop, &w->sweep);
    w->sweep.data = server;
}

void watch_new_term(struct server *server, uint64_t term)
{
    struct watches *w = &server->watches;
    uint64_t first = term << VERSION_TERM_SHIFT;
    if (first > w->version && first < VERSION_MAX)
        w->version = first;
    for (unsigned b = 0; b < WATCH_BUCKETS; b++)
        for (struct watched *t = w->buckets[b]; t != NULL; t = t->next)
            t->version = t->epoch = 0;
}

/* ---- things ---- */

static struct watched *thing(struct watches *w, unsigned kind, const char *key)
{
    struct watched **bucket = &w->buckets[XXH3_64bits_withSeed(key, strlen(key), kind) % WATCH_BUCKETS];
    for (struct watched *t = *bucket; t != NULL; t = t->next)
        if (t->kind == kind && strcmp(t->key, key) == 0)
            return t;
    struct watched *t = mem_alloc(sizeof *t);
    t->kind = kind;
    text_copy(t->key, sizeof t->key, key);
    t->next = *bucket;
    *bucket = t;
    return t;
}

static void thing_drop(struct watches *w, struct watched *gone)
{
    struct watched **at = &w->buckets[XXH3_64bits_withSeed(gone->key, strlen(gone->key), gone->kind) % WATCH_BUCKETS];
    while (*at != gone)
        at = &(*at)->next;
    *at = gone->next;
    mem_free(gone->text);
    mem_free(gone);
}

/* Does it change with each heartbeat? */
static bool is_live(const struct watched *t)
{
    return t->kind == WATCH_JOB || t->kind == WATCH_NODE || t->kind == WATCH_NODES;
}

/* The number that changes whenever the thing may have. */
static uint64_t epoch_of(const struct watches *w, const struct watched *t)
{
    return is_live(t) ? w->epoch + w->live : w->epoch;
}

/* Bring version and text up to date. Errors: NOT_FOUND. */
static enum tide_status look(struct server *server, struct watched *t, struct err *err)
{
    struct watches *w = &server->watches;
    if (t->epoch == epoch_of(w, t) && t->text != NULL)
        return TIDE_OK;
    char *rest;
    struct digest digest;
    enum tide_status status = view_of(server, t->kind, t->key, &rest, &digest, err);
    if (status != TIDE_OK)
        return status;
    if (t->version == 0 || !digest_equal(digest, t->digest))
        t->version = ++w->version;
    t->digest = digest;
    t->epoch = epoch_of(w, t);
    mem_free(t->text);
    t->text = mem_format("{\"revision\":%" PRIu64 "%s%s\n", t->version, rest[1] == '}' ? "" : ",", rest + 1);
    mem_free(rest);
    return TIDE_OK;
}

uint64_t watch_version(struct server *server, unsigned kind, const char *key)
{
    struct watched *t = thing(&server->watches, kind, key);
    if (t->epoch == epoch_of(&server->watches, t))
        return t->version;
    if (look(server, t, NULL) == TIDE_OK)
        return t->version;
    if (t->watchers == NULL)
        thing_drop(&server->watches, t);
    return 0;
}

/* ---- watchers ---- */

/* Into the slot of the first tick behind its deadline. */
static void due_add(struct watches *w, struct watcher *watcher)
{
    struct watcher **slot = &w->due[(watcher->deadline_ns / (TICK_MS * NS_PER_MS) + 1) % WATCH_DUE_SLOTS];
    watcher->due_next = *slot;
    watcher->due_link = slot;
    if (*slot != NULL)
        (*slot)->due_link = &watcher->due_next;
    *slot = watcher;
}

static void due_remove(struct watcher *watcher)
{
    *watcher->due_link = watcher->due_next;
    if (watcher->due_next != NULL)
        watcher->due_next->due_link = watcher->due_link;
}

static void leave(struct watches *w, struct watcher *watcher)
{
    w->parked--;
    w->parked_live -= is_live(watcher->watched);
    due_remove(watcher);
}

static void answer_one(struct server *server, struct watched *t, struct watcher **at, const struct err *err)
{
    struct watcher *watcher = *at;
    *at = watcher->next;
    leave(&server->watches, watcher);
    if (err != NULL)
        http_reply_err(watcher->request, err);
    else
        http_reply(watcher->request, 200, "application/json", mem_strdup(t->text));
    mem_free(watcher);
}

/* Answer those for whom there is news, or whose time is over. Drops the thing if it is gone. */
static void serve_watchers(struct server *server, struct watched *t, uint64_t now_ns)
{
    struct err err = {0};
    bool gone = look(server, t, &err) != TIDE_OK;
    for (struct watcher **at = &t->watchers; *at != NULL;) {
        if (gone || (*at)->after != t->version || now_ns >= (*at)->deadline_ns)
            answer_one(server, t, at, gone ? &err : NULL);
        else
            at = &(*at)->next;
    }
    if (gone) {
        thing_drop(&server->watches, t);
    } else if (t->watchers == NULL) {
        mem_free(t->text);
        t->text = NULL;
    }
}

/* Nobody waits any more: it is answered, to whom it does not matter, and so forgotten. */
static void on_gone(void *arg, struct http_request *request)
{
    struct watcher *watcher = arg;
    (void)request;
    watcher->deadline_ns = 0;
    serve_watchers(watcher->server, watcher->watched, clock_mono_ns());
}

static void park(struct server *server, struct http_request *request, struct watched *t, uint64_t after, uint64_t wait_ms)
{
    struct watcher *watcher = mem_alloc(sizeof *watcher);
    watcher->server = server;
    watcher->watched = t;
    watcher->request = request;
    watcher->after = after;
    watcher->deadline_ns = clock_mono_ns() + (wait_ms < WATCH_MS_MAX ? wait_ms : WATCH_MS_MAX) * NS_PER_MS;
    watcher->next = t->watchers;
    t->watchers = watcher;
    server->watches.parked++;
    server->watches.parked_live += is_live(t);
    due_add(&server->watches, watcher);
    http_on_gone(request, on_gone, watcher);
}

void watch_serve(struct server *server, struct http_request *request, unsigned kind, const char *key)
{
    struct watches *w = &server->watches;
    struct err err = {0};
    uint64_t after = 0, wait_ms = 0;
    enum tide_status status = http_query_u64(request, "after", 0, &after, &err);
    if (status == TIDE_OK)
        status = http_query_u64(request, "wait_ms", 0, &wait_ms, &err);
    if (status == TIDE_OK && after > VERSION_MAX)
        status = err_set(&err, TIDE_E_INVALID, "query parameter \"after\" is larger than any revision");
    if (status == TIDE_OK && strlen(key) > TIDE_NAME_MAX)
        status = err_set(&err, TIDE_E_NOT_FOUND, "a name has at most %d bytes", TIDE_NAME_MAX);
    if (status != TIDE_OK) {
        http_reply_err(request, &err);
        return;
    }
    struct watched *t = thing(w, kind, key);
    if (after > w->version) {
        /* No leader of this group has said that; whoever did, what is newer must have a larger number. */
        w->version = after;
        t->version = 0;
        t->epoch = 0;
    }
    status = look(server, t, &err);
    if (status != TIDE_OK) {
        http_reply_err(request, &err);
        serve_watchers(server, t, clock_mono_ns());
        return;
    }
    if (after == t->version && wait_ms > 0 && !server->stopping)
        park(server, request, t, after, wait_ms);
    else
        http_reply(request, 200, "application/json", mem_strdup(t->text));
    serve_watchers(server, t, clock_mono_ns());
}

/* ---- changes ---- */

/* Where ten thousand watch, a sweep takes as long as a thousand heartbeats, and a node that registers must not begin one after
 * another. Small ones begin at once. */
static void sweep_soon(struct watches *w)
{
    uint64_t now = clock_mono_ns();
    w->swept_soon = true;
    uv_timer_start(&w->sweep, on_sweep, w->rest_until_ns > now ? (w->rest_until_ns - now) / NS_PER_MS : 0, 0);
}

/* In the next turn of the loop. A timer of 0 ms that is set by its own callback is due in the same turn (libuv 1.44). */
static void sweep_on(struct watches *w)
{
    w->swept_soon = true;
    uv_timer_start(&w->sweep, on_sweep, NEXT_TURN_MS, 0);
}

/* Heartbeats come all the time, and ten thousand agents wait for something else. */
static void sweep_for_live(struct server *server)
{
    struct watches *w = &server->watches;
    if (w->parked_live > 0 && !uv_is_active((uv_handle_t *)&w->sweep) && !server->stopping)
        uv_timer_start(&w->sweep, on_sweep, LIVE_DELAY_MS, 0);
}

static void on_sweep(uv_timer_t *timer)
{
    struct server *server = timer->data;
    struct watches *w = &server->watches;
    w->swept_soon = false;
    uint64_t begun = clock_mono_ns(), now = begun;
    while (w->cursor < WATCH_BUCKETS) {
        for (struct watched *t = w->buckets[w->cursor], *next; t != NULL; t = next) {
            next = t->next;
            /* Also when the thing is up to date: whoever brought it there (a heartbeat asking for the version) told nobody.
             */
            if (t->watchers != NULL)
                serve_watchers(server, t, now);
        }
        if (w->buckets[w->cursor++] == NULL)
            continue;
        now = clock_mono_ns();
        if (now - begun > SWEEP_BUDGET_NS && w->cursor < WATCH_BUCKETS) {
            /* Others want the loop, too. */
            w->took_ns += now - begun;
            sweep_on(w);
            return;
        }
    }
    if (w->took_ns > 0)
        w->rest_until_ns = now + SWEEP_REST * (w->took_ns + now - begun);
    w->took_ns = 0;
    w->cursor = 0;
    if (w->sweep_again)
        sweep_soon(w);
    else if (w->live_again)
        sweep_for_live(server);
    w->sweep_again = w->live_again = false;
}

void watch_changed(struct server *server)
{
    struct watches *w = &server->watches;
    w->epoch++;
    /* A sweep under way is not begun again, or the last buckets would never have their turn. */
    w->sweep_again = w->cursor > 0;
    if (w->parked > 0 && !w->swept_soon && !server->stopping)
        sweep_soon(w);
}

void watch_live_changed(struct server *server)
{
    struct watches *w = &server->watches;
    w->live++;
    /* It may be the last for long. */
    w->live_again = w->cursor > 0;
    sweep_for_live(server);
}

/* After a stop of this process some of the slot may have come since, for the next time round. */
static const struct watcher *first_due(const struct watcher *watcher, uint64_t now_ns)
{
    while (watcher != NULL && watcher->deadline_ns > now_ns)
        watcher = watcher->due_next;
    return watcher;
}

/* Only those whose time is over are looked at: ten thousand wait for half a minute each. */
void watch_tick(struct server *server, uint64_t now_ns)
{
    struct watches *w = &server->watches;
    uint64_t now = now_ns / (TICK_MS * NS_PER_MS);
    if (now - w->due_tick > WATCH_DUE_SLOTS) /* after a long stop each slot is looked at once */
        w->due_tick = now - WATCH_DUE_SLOTS;
    while (w->due_tick < now) {
        const struct watcher *watcher;
        w->due_tick++;
        while ((watcher = first_due(w->due[w->due_tick % WATCH_DUE_SLOTS], now_ns)) != NULL)
            serve_watchers(server, watcher->watched, now_ns); /* it is answered, and so leaves */
    }
}

void watch_send_away(struct server *server)
{
    struct watches *w = &server->watches;
    for (unsigned b = 0; b < WATCH_BUCKETS; b++)
        for (struct watched *t = w->buckets[b]; t != NULL; t = t->next)
            while (t->watchers != NULL) {
                struct watcher *watcher = t->watchers;
                t->watchers = watcher->next;
                leave(w, watcher);
                lead_redirect(server, watcher->request);
                mem_free(watcher);
            }
}

void watch_stop(struct server *server)
{
    struct watches *w = &server->watches;
    struct err err = {0};
    err_set(&err, TIDE_E_UNAVAILABLE, "this coordinator is stopping");
    for (unsigned b = 0; b < WATCH_BUCKETS; b++)
        while (w->buckets[b] != NULL) {
            struct watched *t = w->buckets[b];
            while (t->watchers != NULL)
                answer_one(server, t, &t->watchers, &err);
            thing_drop(w, t);
        }
    uv_close((uv_handle_t *)&w->sweep, NULL);
}
