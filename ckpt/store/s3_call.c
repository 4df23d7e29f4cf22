/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/store/s3_call.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/base/thread.h"
#include "ckpt/store/s3_imds.h"
#include "ckpt/store/s3_try.h"

#define MIB ((size_t)1 << 20)
#define LAST_TRY_MS UINT64_C(100) /* with less time left nothing is tried any more */
#define POLL_MS_MAX UINT64_C(1000)
#define LOOK_S UINT64_C(10) /* between two looks for other keys */
#define SHORT_TRY_US 1000000 /* too little for an answer: that nothing came is no reason */

struct s3_call {
    struct s3_call *next; /* in the one queue it is in */
    struct s3_client *client;
    struct s3_request request;
    char key[2 * TIDE_PATH_MAX + 1];
    char payload[SIGV4_HASH_CHARS + 1];
    uint64_t deadline_ns;
    uint64_t due_ns; /* it rests until then */
    unsigned tries;
    int unsure;
    unsigned number; /* of the keys it was signed with */
    int renewed;     /* it is made once more, with others */
    struct s3_try now;
    enum tide_status status;
    struct err why;
    int done; /* under the client's lock */
};

struct queue {
    struct s3_call *first, **last;
};

struct s3_client {
    struct s3_url url;
    unsigned timeout_s;
    s3_keys_source source;    /* NULL: there are no others */
    pthread_mutex_t renewing; /* of who looks for others, and of when that was last: */
    uint64_t looked_ns;
    pthread_mutex_t lock; /* new, closing, done of calls, and: */
    struct s3_keys keys;  /* the newest, */
    unsigned number;      /* their number, */
    uint64_t expires_s;   /* and since 1970; 0: never */
    pthread_cond_t finished;
    struct queue new;
    int closing;
    pthread_t thread;
    CURLM *multi;
    /* All below is the thread's alone. */
    struct s3_keys signing; /* those of number signing_number */
    unsigned signing_number;
    struct queue waiting; /* in the order they came, resting or not */
    struct pace pace;
    unsigned running;
    CURL *idle[S3_CONNECTIONS];
    unsigned idle_count;
    struct rng rng;
};

static void queue_init(struct queue *queue)
{
    *queue = (struct queue){.last = &queue->first};
}

static void queue_add(struct queue *queue, struct s3_call *call)
{
    call->next = NULL;
    *queue->last = call;
    queue->last = &call->next;
}

/* ---- the thread: what becomes of a call ---- */

static void call_done(struct s3_call *call, enum tide_status status)
{
    struct s3_client *client = call->client;
    call->status = status;
    pthread_mutex_lock(&client->lock);
    call->done = 1;
    pthread_cond_broadcast(&client->finished);
    pthread_mutex_unlock(&client->lock);
}

static void curl_give(struct s3_client *client, CURL *curl)
{
    client->idle[client->idle_count++] = curl; /* no more than run at once are ever made */
}

static CURL *curl_take(struct s3_client *client)
{
    return client->idle_count > 0 ? client->idle[--client->idle_count] : curl_easy_init();
}

/* When to try again: near the end of its time the waits get shorter, so that it is used to the end. Nonzero: it is over. */
static int rest(struct s3_call *call, enum backoff_verdict verdict, uint64_t now_ns)
{
    uint64_t left_ns = now_ns < call->deadline_ns ? call->deadline_ns - now_ns : 0;
    uint64_t wait_ns = backoff_wait_ms(verdict, call->tries, rng_next(&call->client->rng)) * NS_PER_MS;
    if (left_ns < LAST_TRY_MS * NS_PER_MS)
        return 1;
    call->due_ns = now_ns + (wait_ns < left_ns / 2 ? wait_ns : left_ns / 2);
    return 0;
}

static void call_start(struct s3_call *call, uint64_t now_ns)
{
    struct s3_client *client = call->client;
    CURL *curl = curl_take(client);
    if (curl == NULL) {
        call_done(call, err_set(&call->why, TIDE_E_NOMEM, "no memory to talk to %s", client->url.host));
        return;
    }
    call->now = (struct s3_try){.url = &client->url, .keys = &client->signing, .request = &call->request};
    call->number = client->signing_number;
    enum tide_status status =
        s3_try_begin(&call->now, curl, call->payload, (call->deadline_ns - now_ns) / NS_PER_MS + 1, &call->why);
    if (status == TIDE_OK && (curl_easy_setopt(curl, CURLOPT_PRIVATE, call) != CURLE_OK ||
                              curl_multi_add_handle(client->multi, curl) != CURLM_OK))
        status = err_set(&call->why, TIDE_E_NOMEM, "no memory to talk to %s", client->url.host);
    if (status == TIDE_OK) {
        call->tries++;
        client->running++;
        return;
    }
    s3_try_release(&call->now);
    curl_give(client, curl);
    call_done(call, status);
}

/* Near the end of a call's time a try has hardly any: what those before have met says more. */
static int tells_nothing(const struct s3_call *call, CURLcode code)
{
    curl_off_t took_us = SHORT_TRY_US;
    curl_easy_getinfo(call->now.curl, CURLINFO_TOTAL_TIME_T, &took_us);
    return code == CURLE_OPERATION_TIMEDOUT && took_us < SHORT_TRY_US && call->why.text[0] != '\0';
}

static void call_tried(struct s3_call *call, CURLcode code)
{
    struct s3_client *client = call->client;
    enum tide_status status = TIDE_OK;
    struct err unheard = {0};
    enum backoff_verdict verdict = s3_try_end(&call->now, code, &status, tells_nothing(call, code) ? &unheard : &call->why);
    curl_multi_remove_handle(client->multi, call->now.curl);
    s3_try_release(&call->now);
    curl_give(client, call->now.curl);
    client->running--;
    if (verdict == BACKOFF_SLOW)
        pace_slow(&client->pace);
    if (verdict == BACKOFF_FINAL) {
        pace_success(&client->pace);
        call_done(call, status);
    } else if (rest(call, verdict, clock_mono_ns())) {
        call_done(call, status);
    } else {
        call->unsure = 1;
        queue_add(&client->waiting, call);
    }
}

static void call_late(struct s3_call *call)
{
    if (call->tries == 0)
        err_set(&call->why, TIDE_E_UNAVAILABLE, "%s is busy with %u other requests", call->client->url.host,
                call->client->running);
    call_done(call, TIDE_E_UNAVAILABLE);
}

/* ---- the thread: all calls ---- */

/* Nonzero when it shall end. */
static int take_new(struct s3_client *client)
{
    pthread_mutex_lock(&client->lock);
    int closing = client->closing;
    if (client->signing_number != client->number) {
        client->signing = client->keys;
        client->signing_number = client->number;
    }
    if (client->new.first != NULL) {
        *client->waiting.last = client->new.first;
        client->waiting.last = client->new.last;
        queue_init(&client->new);
    }
    pthread_mutex_unlock(&client->lock);
    return closing;
}

/* Whose turn it is begins. Returns how long the others may be left alone. */
static uint64_t start_due(struct s3_client *client)
{
    uint64_t now_ns = clock_mono_ns(), next_ns = now_ns + POLL_MS_MAX * NS_PER_MS;
    struct queue all = client->waiting;
    queue_init(&client->waiting);
    for (struct s3_call *call = all.first, *next; call != NULL; call = next) {
        next = call->next;
        if (now_ns >= call->deadline_ns) {
            call_late(call);
        } else if (call->due_ns <= now_ns && client->running < client->pace.limit) {
            call_start(call, now_ns);
        } else {
            uint64_t look_ns = call->due_ns > now_ns ? call->due_ns : call->deadline_ns;
            next_ns = look_ns < next_ns ? look_ns : next_ns;
            queue_add(&client->waiting, call);
        }
    }
    return (next_ns - now_ns) / NS_PER_MS + 1;
}

static void take_ended(struct s3_client *client)
{
    int left = 0;
    for (CURLMsg *message; (message = curl_multi_info_read(client->multi, &left)) != NULL;) {
        char *call = NULL;
        CURLcode code = message->data.result; /* the message goes with its handle */
        if (message->msg == CURLMSG_DONE && curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &call) == CURLE_OK)
            call_tried((struct s3_call *)(void *)call, code);
    }
}

static void *run(void *argument)
{
    struct s3_client *client = argument;
    while (!take_new(client)) {
        int moving = 0;
        uint64_t wait_ms = start_due(client);
        curl_multi_perform(client->multi, &moving);
        unsigned before = client->running;
        take_ended(client);
        /* An ended one makes room: for those that wait, at once. */
        if (client->running == before)
            curl_multi_poll(client->multi, NULL, 0, (int)wait_ms, NULL);
    }
    return NULL;
}

/* ---- the client ---- */

static void client_release(struct s3_client *client)
{
    for (unsigned i = 0; i < client->idle_count; i++)
        curl_easy_cleanup(client->idle[i]);
    curl_multi_cleanup(client->multi);
    pthread_cond_destroy(&client->finished);
    pthread_mutex_destroy(&client->lock);
    pthread_mutex_destroy(&client->renewing);
    OPENSSL_cleanse(&client->keys, sizeof client->keys);
    OPENSSL_cleanse(&client->signing, sizeof client->signing);
    mem_free(client);
    curl_global_cleanup();
}

enum tide_status s3_client_create(const struct s3_url *url, const struct s3_keys *keys, struct s3_client **ret_client,
                                  struct err *err)
{
    /* Counted by libcurl, and safe in threads: others of this process use it too. */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return err_set(err, TIDE_E_IO, "libcurl cannot be initialized");
    struct s3_client *client = mem_try_alloc(sizeof *client);
    if (client == NULL) {
        curl_global_cleanup();
        return err_set(err, TIDE_E_NOMEM, "no memory to open the store");
    }
    client->url = *url;
    client->keys = client->signing = *keys;
    client->timeout_s = url->timeout_s;
    client->rng.state = rng_entropy();
    pace_init(&client->pace, S3_CONNECTIONS);
    queue_init(&client->new);
    queue_init(&client->waiting);
    pthread_mutex_init(&client->lock, NULL);
    pthread_mutex_init(&client->renewing, NULL);
    pthread_cond_init(&client->finished, NULL);
    client->multi = curl_multi_init();
    if (client->multi == NULL || curl_multi_setopt(client->multi, CURLMOPT_MAXCONNECTS, 2L * S3_CONNECTIONS) != CURLM_OK ||
        thread_begin(&client->thread, run, client)) {
        client_release(client);
        return err_set(err, TIDE_E_NOMEM, "no memory or no thread to open the store");
    }
    *ret_client = client;
    return TIDE_OK;
}

void s3_client_free(struct s3_client *client)
{
    if (client == NULL)
        return;
    pthread_mutex_lock(&client->lock);
    client->closing = 1;
    pthread_mutex_unlock(&client->lock);
    curl_multi_wakeup(client->multi);
    pthread_join(client->thread, NULL);
    client_release(client);
}

void s3_client_timeout(struct s3_client *client, unsigned seconds)
{
    client->timeout_s = seconds;
}

/* ---- other keys ---- */

void s3_client_renews(struct s3_client *client, s3_keys_source source, uint64_t expires_s)
{
    client->source = source;
    client->expires_s = expires_s;
}

int s3_client_expires(struct s3_client *client)
{
    pthread_mutex_lock(&client->lock);
    uint64_t expires_s = client->expires_s;
    pthread_mutex_unlock(&client->lock);
    return expires_s != 0 && clock_wall_ms() / MS_PER_S + IMDS_AHEAD_S >= expires_s;
}

int s3_refuses_keys(const struct s3_answer *answer)
{
    static const char *const codes[] = {"AccessDenied", "ExpiredToken",          "InvalidAccessKeyId", "InvalidToken",
                                        "SignatureDoesNotMatch", "TokenRefreshRequired", NULL};
    for (const char *const *code = codes; *code != NULL; code++)
        if (strcmp(answer->error.code, *code) == 0)
            return 1;
    return answer->error.code[0] == '\0' && (answer->http == 400 || answer->http == 403); /* of a HEAD no more is told */
}

static unsigned number_of(struct s3_client *client)
{
    pthread_mutex_lock(&client->lock);
    unsigned number = client->number;
    pthread_mutex_unlock(&client->lock);
    return number;
}

static int same_keys(const struct s3_keys *a, const struct s3_keys *b)
{
    return strcmp(a->access, b->access) == 0 && strcmp(a->secret, b->secret) == 0 && strcmp(a->token, b->token) == 0;
}

/* With `renewing`. Where none are to be had the old ones have to do. */
static void look_for_keys(struct s3_client *client)
{
    struct s3_keys keys = {{0}, {0}, {0}};
    uint64_t expires_s = 0, now_ns = clock_mono_ns();
    struct err why;
    if (client->looked_ns != 0 && now_ns - client->looked_ns < LOOK_S * NS_PER_S)
        return;
    client->looked_ns = now_ns;
    if (client->source(&keys, &expires_s, &why) == TIDE_OK) {
        pthread_mutex_lock(&client->lock);
        client->number += !same_keys(&keys, &client->keys);
        client->keys = keys;
        client->expires_s = expires_s;
        pthread_mutex_unlock(&client->lock);
    }
    OPENSSL_cleanse(&keys, sizeof keys);
}

/* Nonzero: there are others than those of that number. */
static int renewed(struct s3_client *client, unsigned number)
{
    if (client->source == NULL)
        return 0;
    pthread_mutex_lock(&client->renewing);
    if (number_of(client) == number)
        look_for_keys(client);
    pthread_mutex_unlock(&client->renewing);
    return number_of(client) != number;
}

/* Whoever comes first looks; the others go on with those that are good for a while yet. */
static void renew_ahead(struct s3_client *client)
{
    if (client->source == NULL || !s3_client_expires(client) || pthread_mutex_trylock(&client->renewing) != 0)
        return;
    look_for_keys(client);
    pthread_mutex_unlock(&client->renewing);
}

/* ---- callers ---- */

static enum tide_status payload_of(const struct s3_client *client, const struct s3_request *request,
                                   char to[SIGV4_HASH_CHARS + 1], struct err *err)
{
    if (request->body_bytes == 0)
        text_copy(to, SIGV4_HASH_CHARS + 1, SIGV4_EMPTY);
    else if (!client->url.payload_signed)
        text_copy(to, SIGV4_HASH_CHARS + 1, SIGV4_UNSIGNED);
    else
        return sigv4_hash(request->body, request->body_bytes, to, err);
    return TIDE_OK;
}

/* From here on it has all its time. */
static void hand_over(struct s3_call *call)
{
    struct s3_client *client = call->client;
    size_t mib = (call->request.body_bytes + (call->request.ranged ? call->request.range_bytes : 0)) / MIB;
    call->deadline_ns = clock_mono_ns() + (client->timeout_s + mib) * NS_PER_S;
    call->due_ns = 0;
    call->tries = 0;
    pthread_mutex_lock(&client->lock);
    call->done = 0;
    queue_add(&client->new, call);
    pthread_mutex_unlock(&client->lock);
    curl_multi_wakeup(client->multi);
}

enum tide_status s3_begin(struct s3_client *client, const struct s3_request *request, struct s3_call **ret_call,
                          struct err *err)
{
    struct s3_call *call = mem_try_alloc(sizeof *call);
    if (call == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to talk to %s", client->url.host);
    call->client = client;
    call->request = *request;
    text_copy(call->key, sizeof call->key, request->key);
    call->request.key = call->key;
    enum tide_status status = payload_of(client, request, call->payload, err);
    if (status != TIDE_OK) {
        mem_free(call);
        return status;
    }
    renew_ahead(client);
    hand_over(call);
    *ret_call = call;
    return TIDE_OK;
}

int s3_pending(struct s3_call *call)
{
    pthread_mutex_lock(&call->client->lock);
    int done = call->done;
    pthread_mutex_unlock(&call->client->lock);
    return !done;
}

static void await(struct s3_call *call)
{
    struct s3_client *client = call->client;
    pthread_mutex_lock(&client->lock);
    while (!call->done) /* its deadline is the thread's to keep */
        pthread_cond_wait(&client->finished, &client->lock);
    pthread_mutex_unlock(&client->lock);
}

enum tide_status s3_finish(struct s3_call *call, struct s3_answer *ret_answer, struct err *err)
{
    await(call);
    while (call->status == TIDE_OK && !call->renewed && s3_refuses_keys(&call->now.answer) && renewed(call->client, call->number)) {
        call->renewed = 1;
        hand_over(call);
        await(call);
    }
    enum tide_status status = call->status;
    if (status == TIDE_OK) {
        *ret_answer = call->now.answer;
        ret_answer->unsure = call->unsure;
    } else {
        err_set(err, status, "%s (tries: %u)", call->why.text, call->tries);
    }
    mem_free(call);
    return status;
}

enum tide_status s3_ask(struct s3_client *client, const struct s3_request *request, struct s3_answer *ret_answer,
                        struct err *err)
{
    struct s3_call *call = NULL;
    enum tide_status status = s3_begin(client, request, &call, err);
    return status == TIDE_OK ? s3_finish(call, ret_answer, err) : status;
}
