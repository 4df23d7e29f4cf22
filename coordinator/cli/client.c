/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/client.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/home.h"
#include "coordinator/cli/signals.h"
#include "coordinator/cli/term.h"
#include "coordinator/cli/units.h"

#define ATTEMPT_MS_MAX 10000u
#define BACKOFF_MS_FIRST 50u
#define BACKOFF_MS_MAX 2000u
#define PATIENCE_MS 1000u /* before the terminal is told that nobody answers */
#define REQUEST_KEY_CHARS 32

enum tide_status fault_set(struct fault *fault, enum tide_status status, const char *hint, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fault->err.status = status;
    text_say_list(fault->err.text, sizeof fault->err.text, format, args);
    va_end(args);
    text_fit(fault->hint, sizeof fault->hint, hint ? hint : "");
    return status;
}

int fault_report(const struct fault *fault)
{
    say_error("%s", fault->err.text);
    if (fault->hint[0] != '\0')
        say_hint("%s", fault->hint);
    return exit_of_status(fault->err.status);
}

/* ---- addresses ---- */

static enum tide_status add_url(struct client *client, const char *text, size_t bytes, struct fault *fault)
{
    while (bytes > 0 && text[bytes - 1] == '/')
        bytes--;
    if (bytes == 0)
        return TIDE_OK;
    bool scheme = memmem(text, bytes, "://", 3) != NULL;
    if (bytes > TIDE_PATH_MAX || (scheme && strncmp(text, "http://", 7) != 0 && strncmp(text, "https://", 8) != 0))
        return fault_set(fault, TIDE_E_INVALID, "write http://HOST:PORT; several are separated by commas",
                         "\"%.*s\" is not the address of a coordinator", (int)(bytes < 200 ? bytes : 200), text);
    if (client->urls.count >= COORDINATORS_MAX)
        return fault_set(fault, TIDE_E_LIMIT, NULL, "more than %d coordinators are named", COORDINATORS_MAX);
    char *url = mem_format("%s%.*s", scheme ? "" : "http://", (int)bytes, text);
    strlist_add(&client->urls, url);
    mem_free(url);
    return TIDE_OK;
}

enum tide_status client_create(const char *list, const struct http_creds *creds, uint64_t timeout_ms,
                               struct client **ret_client, struct fault *fault)
{
    struct client *client = mem_alloc(sizeof *client);
    client->http = http_create(creds);
    client->rng.state = rng_entropy();
    client->timeout_ms = timeout_ms;
    client->attempt_ms = ATTEMPT_MS_MAX;
    enum tide_status status = TIDE_OK;
    if (client->http == NULL)
        status = fault_set(fault, TIDE_E_IO, NULL, "libcurl could not be started");
    for (const char *p = list; status == TIDE_OK && *p != '\0';) {
        size_t n = strcspn(p, ", ");
        status = add_url(client, p, n, fault);
        p += n + (p[n] != '\0');
    }
    if (status == TIDE_OK && client->urls.count == 0)
        status = fault_set(fault, TIDE_E_INVALID, "write http://HOST:PORT", "no coordinator is named");
    if (status != TIDE_OK) {
        client_free(client);
        return status;
    }
    *ret_client = client;
    return TIDE_OK;
}

void client_free(struct client *client)
{
    if (client == NULL)
        return;
    strlist_release(&client->urls);
    http_free(client->http);
    mem_free(client);
}

void client_ask_first(struct client *client)
{
    while (client->urls.count > 1) {
        mem_free(client->urls.items[--client->urls.count]);
        client->urls.items[client->urls.count] = NULL;
    }
    client->preferred = 0;
}

/* ---- one call ---- */

static enum tide_status status_named(const char *code)
{
    static const enum tide_status all[] = {
#define X(number, symbol, name, meaning) TIDE_E_##symbol,
        TIDE_STATUS_MAP(X)
#undef X
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (strcmp(tide_status_name(all[i]), code) == 0)
            return all[i];
    return TIDE_E_IO;
}

static enum tide_status status_of_http(long status)
{
    return status == 400   ? TIDE_E_INVALID
           : status == 401 ? TIDE_E_DENIED
           : status == 403 ? TIDE_E_DENIED
           : status == 404 ? TIDE_E_NOT_FOUND
           : status == 409 ? TIDE_E_STATE
           : status == 503 ? TIDE_E_UNAVAILABLE
           : status == 504 ? TIDE_E_TIMEOUT
                           : TIDE_E_IO;
}

enum tide_status fault_from_answer(const struct http_call *call, struct fault *fault)
{
    struct api_error error;
    json_t *json = call->answer ? json_loadb(call->answer, call->answer_bytes, 0, NULL) : NULL;
    json_t *inner = json_object_get(json, "error");
    enum tide_status status;
    if (inner != NULL && codec_decode(&api_error_codec, inner, CODEC_LENIENT, &error, NULL) == TIDE_OK) {
        status = status_named(error.code);
        fault_set(fault, status, error.hint, "%s", error.message);
    } else {
        status = fault_set(fault, status_of_http(call->status), "is that the address of a tidemark coordinator?",
                           "%s answered with HTTP status %ld", call->url, call->status);
    }
    json_decref(json);
    return status;
}

static bool worth_a_retry(const struct http_call *call)
{
    return (!call->reached && !call->untrusted) || call->status == 502 || call->status == 503 || call->status == 504;
}

struct attempt {
    const char *method, *path, *body;
    char key[HTTP_KEY_MAX + 1];
    uint64_t begun_ns, deadline_ns, wait_ms;
    uint64_t whole_ms; /* an answer that has begun may take so long, deadline or not; 0: it may not */
    unsigned number;
    char reasons[ERR_TEXT_MAX]; /* of the last round: "URL (why), URL (why)" */
    struct fault last;          /* the last 503 or 504 */
};

static uint64_t ms_left(const struct attempt *a)
{
    uint64_t now = clock_mono_ns();
    return now >= a->deadline_ns ? 0 : (a->deadline_ns - now) / NS_PER_MS;
}

static bool interrupted(const struct client *client)
{
    return signals_count() > client->signals_seen;
}

/* One request to one coordinator. */
static void attempt_once(struct client *client, const struct attempt *a, struct http_call *call)
{
    struct err err;
    uint64_t most = client->attempt_ms + a->wait_ms, left = ms_left(a);
    const char *url = client->urls.items[(client->preferred + a->number) % client->urls.count];
    call->method = a->method;
    call->body = a->body;
    call->timeout_ms = a->whole_ms ? a->whole_ms : left < most ? left + 1 : most;
    memcpy(call->key, a->key, sizeof call->key);
    snprintf(call->url, sizeof call->url, "%s%s", url, a->path);
    if (http_start(client->http, call, &err) != TIDE_OK) {
        text_fit(call->error, sizeof call->error, err.text);
        call->done = true;
        return;
    }
    while (!call->done && !interrupted(client))
        http_wait(client->http, 1000);
}

/* Whatever a coordinator says that was left behind when its group was recovered, it is as if it had not answered. */
static void believe(struct http_call *call)
{
    if (!call->reached || call->cluster[0] == '\0' || call->epoch == EPOCH_UNKNOWN)
        return;
    uint64_t met = epoch_met(call->cluster);
    if (call->epoch == met)
        return;
    if (!epoch_stale(call->epoch, met)) {
        epoch_meet(call->cluster, call->epoch);
        return;
    }
    call->reached = false;
    text_copy(call->error, sizeof call->error,
              "it was left behind when the cluster was recovered; stop it, and remove its data");
}

static void remember_failure(struct client *client, struct attempt *a, const struct http_call *call)
{
    if (a->number % client->urls.count == 0)
        a->reasons[0] = '\0';
    const char *url = client->urls.items[(client->preferred + a->number) % client->urls.count];
    if (call->reached)
        fault_from_answer(call, &a->last);
    else
        a->last.err.status = TIDE_OK;
    text_say(a->reasons, sizeof a->reasons, "%s%s%s (%s)", a->reasons, a->reasons[0] ? ", " : "", url,
             call->reached ? a->last.err.text : call->error);
    if (!client->quiet && clock_mono_ns() - a->begun_ns > PATIENCE_MS * NS_PER_MS)
        progress_show("waiting for a coordinator: %s", a->reasons);
}

/* After each round through all coordinators: full jitter, doubling. */
static void back_off(struct client *client, struct attempt *a)
{
    a->number++;
    if (a->number % client->urls.count != 0)
        return;
    unsigned round = a->number / (unsigned)client->urls.count;
    uint64_t most = round > 6 ? BACKOFF_MS_MAX : BACKOFF_MS_FIRST << round;
    most = most > BACKOFF_MS_MAX ? BACKOFF_MS_MAX : most;
    uint64_t left = ms_left(a), pause = 1 + rng_below(&client->rng, most);
    uint64_t until = clock_mono_ns() + (pause < left ? pause : left) * NS_PER_MS;
    for (uint64_t now; (now = clock_mono_ns()) < until && !interrupted(client);)
        http_wait(client->http, (int)((until - now) / NS_PER_MS) + 1);
}

static enum tide_status give_up(struct client *client, const struct attempt *a, struct fault *fault)
{
    char time[UNIT_TEXT_MAX];
    if (a->last.err.status != TIDE_OK) {
        *fault = a->last;
        return fault->err.status;
    }
    return fault_set(fault, TIDE_E_UNAVAILABLE,
                     "is it running? Start one with: tidemarkd --data DIR; or name another with --coordinator URL or "
                     "TIDEMARK_COORDINATOR",
                     "no coordinator answered within %s; tried %s", duration_text(client->timeout_ms, time), a->reasons);
}

static enum tide_status untrusted(const struct http_call *call, struct fault *fault)
{
    return fault_set(fault, TIDE_E_DENIED,
                     "name the cluster's own CA: --identity DIR or TIDEMARK_IDENTITY, --cacert FILE or TIDEMARK_CACERT",
                     "no trust in %.200s: %s", call->url, call->error);
}

static enum tide_status take_json(const struct http_call *call, json_t **ret_json, struct fault *fault)
{
    json_error_t where;
    *ret_json = NULL;
    if (call->answer_bytes == 0)
        return TIDE_OK;
    *ret_json = json_loadb(call->answer, call->answer_bytes, 0, &where);
    if (*ret_json == NULL)
        return fault_set(fault, TIDE_E_IO, "is that the address of a tidemark coordinator?",
                         "%s did not answer with JSON: %s", call->url, where.text);
    return TIDE_OK;
}

/* A member that does not lead sends us on: the one that answered is asked first next time. */
static void prefer(struct client *client, const struct attempt *a, const char *answered)
{
    client->preferred = (client->preferred + a->number) % client->urls.count;
    for (size_t i = 0; i < client->urls.count; i++) {
        size_t n = strlen(client->urls.items[i]);
        if (strncmp(answered, client->urls.items[i], n) == 0 && answered[n] == '/')
            client->preferred = i;
    }
}

/* On success the answer is in `call`, the caller's to release; else nothing is. */
static enum tide_status exchange(struct client *client, struct attempt *a, struct http_call *call, struct fault *fault)
{
    enum tide_status status;
    a->begun_ns = clock_mono_ns();
    a->deadline_ns = a->begun_ns + (client->timeout_ms + a->wait_ms) * NS_PER_MS;
    if (strcmp(a->method, "GET") != 0)
        rng_hex(&client->rng, a->key, REQUEST_KEY_CHARS);
    for (;;) {
        attempt_once(client, a, call);
        believe(call);
        if (interrupted(client)) {
            status = fault_set(fault, TIDE_E_STATE, NULL, "interrupted");
            break;
        }
        if (!worth_a_retry(call)) {
            progress_clear();
            prefer(client, a, call->url);
            bool fine = call->status >= 200 && call->status < 300;
            status = call->untrusted ? untrusted(call, fault) : fine ? TIDE_OK : fault_from_answer(call, fault);
            break;
        }
        remember_failure(client, a, call);
        http_release(client->http, call);
        back_off(client, a);
        if (ms_left(a) == 0) {
            status = give_up(client, a, fault);
            break;
        }
    }
    if (status != TIDE_OK)
        http_release(client->http, call);
    return status;
}

enum tide_status client_call(struct client *client, const char *method, const char *path, const char *body, uint64_t wait_ms,
                             json_t **ret_json, struct fault *fault)
{
    struct attempt a = {.method = method, .path = path, .body = body, .wait_ms = wait_ms};
    struct http_call call = {0};
    enum tide_status status = exchange(client, &a, &call, fault);
    if (status != TIDE_OK)
        return status;
    status = take_json(&call, ret_json, fault);
    http_release(client->http, &call);
    return status;
}

enum tide_status client_fetch(struct client *client, const char *path, uint64_t whole_ms, struct http_call *ret_call,
                              struct fault *fault)
{
    struct attempt a = {.method = "GET", .path = path, .whole_ms = whole_ms};
    *ret_call = (struct http_call){0};
    return exchange(client, &a, ret_call, fault);
}

/* ---- nouns ---- */

enum tide_status client_noun(struct client *client, const char *method, const char *path, const char *body, uint64_t wait_ms,
                             const struct codec *codec, void *ret_noun, json_t **ret_json, struct fault *fault)
{
    json_t *json = NULL;
    enum tide_status status = client_call(client, method, path, body, wait_ms, &json, fault);
    if (status != TIDE_OK)
        return status;
    struct err err = {0};
    if (codec_decode(codec, json, CODEC_LENIENT, ret_noun, &err) != TIDE_OK) {
        json_decref(json);
        return fault_set(fault, TIDE_E_VERSION, "is the coordinator of another version? See tidemark cluster status",
                         "the coordinator's answer to %s %s is not understood: %s", method, path, err.text);
    }
    if (ret_json != NULL)
        *ret_json = json;
    else
        json_decref(json);
    return TIDE_OK;
}

enum tide_status client_job(struct client *client, const char *job, uint64_t after, uint64_t wait_ms,
                            struct job_view *ret_view, json_t **ret_json, struct fault *fault)
{
    char path[256];
    if (!name_valid(job))
        return fault_set(fault, TIDE_E_NOT_FOUND, "tidemark job list -a shows all jobs",
                         "\"%.80s\" is not the name of a job", job);
    int n = snprintf(path, sizeof path, "/v1/jobs/%s", job);
    if (after > 0)
        snprintf(path + n, sizeof path - (size_t)n, "?after=%" PRIu64 "&wait_ms=%" PRIu64, after, wait_ms);
    return client_noun(client, "GET", path, NULL, after > 0 ? wait_ms : 0, &job_view_codec, ret_view, ret_json, fault);
}

enum tide_status client_outcome(struct client *client, const char *method, const char *path, const char *body,
                                struct outcome *ret_outcome, json_t **ret_json, struct fault *fault)
{
    return client_noun(client, method, path, body, 0, &outcome_codec, ret_outcome, ret_json, fault);
}
