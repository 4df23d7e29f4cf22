/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/store/store_s3.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tidemark/types.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/store/s3_call.h"
#include "ckpt/store/s3_imds.h"

#define PROVE_S 10u
#define KEYS_FILE_MAX 65536u
#define PAGE_BYTES ((size_t)8 << 20) /* 1,000 keys of the longest kind, three times as long encoded, in their XML */
#define PAGE_PAIRS 4u /* of its query; the last of which the first page does without */
#define LIST_KEYS_MAX ((size_t)1 << 20) /* below one prefix */
#define LIST_PAGES_MAX 65536u /* … and pages, some of which may be empty */

struct store_s3 {
    struct store base;
    struct s3_url url;
    struct s3_client *client;
    atomic_int refused; /* the keys are no good any more: there may be better ones by now */
};

typedef char s3_name[2 * TIDE_PATH_MAX + 1]; /* prefix and key */

static struct store_s3 *s3_of(struct store *store)
{
    return (struct store_s3 *)store;
}

static void name_of(const struct store_s3 *s3, const char *key, s3_name name)
{
    snprintf(name, sizeof(s3_name), "%s%s", s3->url.prefix, key);
}

/* ---- refusals ---- */

/* What an error code of the server means for the user. NULL: its own message has to do. */
static const struct s3_meaning {
    const char *code;
    enum tide_status status;
    const char *text;
    int quoted; /* the server says more, the right region perhaps */
} meanings[] = {
    {"NoSuchBucket", TIDE_E_UNAVAILABLE, "the bucket does not exist; create it or name another", 0},
    {"InvalidAccessKeyId", TIDE_E_DENIED, "the server does not know this access key; check AWS_ACCESS_KEY_ID", 0},
    {"SignatureDoesNotMatch", TIDE_E_DENIED,
     "the secret key is not this access key's; check AWS_SECRET_ACCESS_KEY and the region", 0},
    {"ExpiredToken", TIDE_E_DENIED, "the session token has expired; get new keys", 0},
    {"InvalidToken", TIDE_E_DENIED, "the session token is not valid; get new keys", 0},
    {"RequestTimeTooSkewed", TIDE_E_DENIED,
     "the clocks of this host and of the server differ too much; set this host's clock", 0},
    {"AccessDenied", TIDE_E_DENIED,
     "these keys may not do that in this bucket; let them get, put, delete and list there, or use others", 0},
    {"AuthorizationHeaderMalformed", TIDE_E_INVALID, "the region is probably another; name it with region=", 1},
    {"PermanentRedirect", TIDE_E_INVALID,
     "the bucket is at another endpoint or in another region; name it with region= or endpoint=", 1},
    {"TemporaryRedirect", TIDE_E_INVALID, "the bucket is served elsewhere for now; name that with endpoint=, or try later", 1},
    {"QuotaExceeded", TIDE_E_NOSPACE, "the quota is used up; raise it, or delete what nobody needs", 0},
    {"NotImplemented", TIDE_E_UNSUPPORTED, "the server cannot do that; a store must know If-None-Match", 0},
    {NULL, TIDE_OK, NULL, 0},
};

static enum tide_status status_of(unsigned http)
{
    switch (http) {
    case 401:
    case 403:
        return TIDE_E_DENIED;
    case 404:
        return TIDE_E_NOT_FOUND;
    case 416:
        return TIDE_E_CORRUPT;
    case 501:
        return TIDE_E_UNSUPPORTED;
    case 507:
        return TIDE_E_NOSPACE;
    default:
        return TIDE_E_IO;
    }
}

static enum tide_status refused(struct store_s3 *s3, const char *verb, const char *key, const struct s3_answer *answer,
                                struct err *err)
{
    const char *code = answer->error.code;
    if (s3_refuses_keys(answer)) /* and there are no others yet */
        atomic_store(&s3->refused, 1);
    for (const struct s3_meaning *m = meanings; m->code; m++) {
        if (strcmp(m->code, code) != 0)
            continue;
        /* What to do comes last: of a text that is too long for a person the middle is left out (ckpt/base/text.h). */
        int quoted = m->quoted && answer->error.message[0] != '\0';
        return err_set(err, m->status, "%u %s: cannot %s %s in bucket %s at %s%s%s%s: %s", answer->http, code, verb, key,
                       s3->url.bucket, s3->url.host, quoted ? " (" : "", quoted ? answer->error.message : "", quoted ? ")" : "",
                       m->text);
    }
    enum tide_status status = status_of(answer->http);
    /* What stands before a server answers so while it is not there, and would have checkpoints taken for damaged. */
    if (status == TIDE_E_NOT_FOUND && code[0] == '\0')
        return err_set(err, TIDE_E_UNAVAILABLE,
                       "404 without a code is no answer of an S3 server (cannot %s %s in bucket %s at %s); check endpoint=, and what "
                       "stands before the server",
                       verb, key, s3->url.bucket, s3->url.host);
    if (status == TIDE_E_NOT_FOUND)
        return err_set(err, status, "there is no object %s in bucket %s at %s", key, s3->url.bucket, s3->url.host);
    if (status == TIDE_E_CORRUPT)
        return err_set(err, status, "object %s in bucket %s at %s is shorter than expected", key, s3->url.bucket,
                       s3->url.host);
    return err_set(err, status, "%u %s: %s (cannot %s %s in bucket %s at %s)", answer->http, code[0] ? code : "without a code",
                   answer->error.message, verb, key, s3->url.bucket, s3->url.host);
}

static enum tide_status ask(struct store_s3 *s3, const char *key, const struct s3_request *request,
                            struct s3_answer *ret_answer, struct err *err)
{
    enum tide_status status = s3_ask(s3->client, request, ret_answer, err);
    if (status != TIDE_OK)
        err_wrap(err, "%s of %s in bucket %s", request->method, key[0] ? key : "keys", s3->url.bucket);
    return status;
}

/* ---- the verbs ---- */

static enum tide_status of_put(struct store_s3 *s3, struct store_op *op, const struct s3_answer *answer, struct err *err)
{
    if (answer->http == 200)
        return TIDE_OK;
    if (answer->http != 412)
        return refused(s3, "write", op->key, answer, err);
    /* An earlier try may have been done though its answer was lost: then it is ours that is there. */
    if (answer->unsure)
        return store_same(op->store, op->key, op->from, op->bytes, err);
    return err_set(err, TIDE_E_EXISTS, "object %s is there already", op->key);
}

/* HEAD has no body that would say what was not found, the object or its bucket; GET has. */
static enum tide_status find_out(struct store_s3 *s3, const char *key, const char *name, struct err *err)
{
    struct s3_answer answer;
    char byte;
    struct s3_request request = {
        .method = "GET", .key = name, .ranged = 1, .range_bytes = 1, .to = &byte, .to_bytes = sizeof byte};
    enum tide_status status = ask(s3, key, &request, &answer, err);
    if (status != TIDE_OK)
        return status;
    if (answer.http == 404 || answer.http == 403)
        return refused(s3, "find", key, &answer, err);
    return err_set(err, TIDE_E_UNAVAILABLE, "object %s in bucket %s came while it was looked for; ask again", key,
                   s3->url.bucket);
}

static enum tide_status s3_size(struct store *store, const char *key, uint64_t *ret_bytes, struct err *err)
{
    struct store_s3 *s3 = s3_of(store);
    struct s3_answer answer;
    s3_name name;
    name_of(s3, key, name);
    struct s3_request request = {.method = "HEAD", .key = name};
    enum tide_status status = ask(s3, key, &request, &answer, err);
    if (status != TIDE_OK)
        return status;
    if (answer.http == 404 || answer.http == 403)
        return find_out(s3, key, name, err);
    if (answer.http != 200)
        return refused(s3, "find", key, &answer, err);
    if (answer.length == S3_LENGTH_UNKNOWN)
        return err_set(err, TIDE_E_UNAVAILABLE,
                       "how long object %s in bucket %s is, %s does not say: a HEAD was answered without Content-Length; check what stands "
                       "before the server",
                       key, s3->url.bucket, s3->url.host);
    *ret_bytes = answer.length;
    return TIDE_OK;
}

static enum tide_status too_short(const struct store_s3 *s3, const char *key, uint64_t expected, struct err *err)
{
    return err_set(err, TIDE_E_CORRUPT, "object %s in bucket %s at %s is shorter than the expected %" PRIu64 " bytes", key,
                   s3->url.bucket, s3->url.host, expected);
}

static enum tide_status get_nothing(struct store *store, const char *key, uint64_t offset, struct err *err)
{
    uint64_t there = 0;
    enum tide_status status = s3_size(store, key, &there, err);
    return status == TIDE_OK && offset > there ? too_short(s3_of(store), key, offset, err) : status;
}

static enum tide_status of_get(struct store_s3 *s3, struct store_op *op, const struct s3_answer *answer, struct err *err)
{
    /* 200 would be the whole object: only right if it is all that was asked for, from its beginning. */
    if (answer->http != 206 && !(answer->http == 200 && op->offset == 0))
        return refused(s3, "read", op->key, answer, err);
    return answer->used == op->bytes ? TIDE_OK : too_short(s3, op->key, op->offset + op->bytes, err);
}

/* What was not there is fine, a bucket that is not there is not. */
static enum tide_status of_remove(struct store_s3 *s3, struct store_op *op, const struct s3_answer *answer, struct err *err)
{
    if (answer->http == 204 || answer->http == 200)
        return TIDE_OK;
    if (answer->http == 404 && answer->error.code[0] != '\0' && strcmp(answer->error.code, "NoSuchBucket") != 0)
        return TIDE_OK;
    return refused(s3, "delete", op->key, answer, err);
}

static const char *const method_of[] = {[STORE_PUT] = "PUT", [STORE_GET] = "GET", [STORE_REMOVE] = "DELETE"};

static void s3_op_begin(struct store_op *op)
{
    struct store_s3 *s3 = s3_of(op->store);
    struct s3_call *call = NULL;
    s3_name name;
    name_of(s3, op->key, name);
    struct s3_request request = {.method = "PUT", .key = name, .if_absent = 1, .body = op->from, .body_bytes = op->bytes};
    if (op->verb == STORE_REMOVE) {
        request = (struct s3_request){.method = "DELETE", .key = name};
    } else if (op->verb == STORE_GET) {
        /* No object is that long; a server would not even read the number. */
        if (op->bytes > 0 && op->offset > INT64_MAX - (uint64_t)op->bytes) {
            op->status = too_short(s3, op->key, op->offset, &op->err);
            return;
        }
        request = (struct s3_request){.method = "GET",
                                      .key = name,
                                      .ranged = 1,
                                      .offset = op->offset,
                                      .range_bytes = op->bytes,
                                      .to = op->to,
                                      .to_bytes = op->bytes};
        if (op->bytes == 0) /* a range cannot be empty: asked about when it is finished */
            return;
    }
    op->status = s3_begin(s3->client, &request, &call, &op->err);
    op->inner = call;
}

static enum tide_status s3_op_finish(struct store_op *op, struct err *err)
{
    struct store_s3 *s3 = s3_of(op->store);
    struct s3_answer answer = {0};
    if (op->status != TIDE_OK)
        return err_set(err, op->status, "%s", op->err.text);
    if (op->inner == NULL)
        return get_nothing(op->store, op->key, op->offset, err);
    enum tide_status status = s3_finish(op->inner, &answer, err);
    if (status != TIDE_OK)
        return err_wrap(err, "%s of %s in bucket %s", method_of[op->verb], op->key, s3->url.bucket);
    switch (op->verb) {
    case STORE_PUT:
        return of_put(s3, op, &answer, err);
    case STORE_GET:
        return of_get(s3, op, &answer, err);
    case STORE_REMOVE:
        return of_remove(s3, op, &answer, err);
    }
    return TIDE_E_INVALID;
}

static int s3_op_pending(struct store_op *op)
{
    return op->status == TIDE_OK && op->inner != NULL && s3_pending(op->inner);
}

static enum tide_status s3_put(struct store *store, const char *key, const void *data, size_t bytes, struct err *err)
{
    struct store_op op;
    store_begin_put(store, &op, key, data, bytes);
    return store_finish(&op, err);
}

static enum tide_status s3_get(struct store *store, const char *key, uint64_t offset, void *to, size_t bytes,
                               struct err *err)
{
    struct store_op op;
    store_begin_get(store, &op, key, offset, to, bytes);
    return store_finish(&op, err);
}

static enum tide_status s3_remove(struct store *store, const char *key, struct err *err)
{
    struct store_op op;
    store_begin_remove(store, &op, key);
    return store_finish(&op, err);
}

/* ---- list ---- */

static enum tide_status page_of(struct store_s3 *s3, const char *prefix, const struct s3_answer *answer, const char *body,
                                struct s3_page *ret_page, struct err *err)
{
    if (answer->http != 200)
        return refused(s3, "list", prefix, answer, err);
    return s3_page_parse(body, answer->used, ret_page, err);
}

/* For a page from `token` on, "": the first. It refers to all of these. */
static struct s3_request page_request(const char *prefix, const char *token, struct sigv4_pair query[PAGE_PAIRS], char *body)
{
    query[0] = (struct sigv4_pair){"list-type", "2"};
    query[1] = (struct sigv4_pair){"encoding-type", "url"};
    query[2] = (struct sigv4_pair){"prefix", prefix};
    query[3] = (struct sigv4_pair){"continuation-token", token};
    return (struct s3_request){.method = "GET", .key = "", .query = query, .query_count = token[0] ? PAGE_PAIRS : PAGE_PAIRS - 1,
                               .to = body, .to_bytes = PAGE_BYTES};
}

static enum tide_status ask_page(struct store_s3 *s3, const char *prefix, const char *token, char *body,
                                 struct s3_page *ret_page, struct err *err)
{
    struct s3_answer answer;
    struct sigv4_pair query[PAGE_PAIRS];
    struct s3_request request = page_request(prefix, token, query, body);
    enum tide_status status = ask(s3, prefix, &request, &answer, err);
    return status == TIDE_OK ? page_of(s3, prefix, &answer, body, ret_page, err) : status;
}

static enum tide_status take_keys(const struct store_s3 *s3, const char *prefix, const struct s3_page *page, struct strlist *keys,
                                  struct err *err)
{
    size_t n = strlen(s3->url.prefix);
    if (keys->count + page->keys.count > LIST_KEYS_MAX)
        return err_set(err, TIDE_E_LIMIT, "bucket %s has more than %zu keys below %s", s3->url.bucket, LIST_KEYS_MAX,
                       s3->url.prefix);
    for (size_t i = 0; i < page->keys.count; i++) {
        const char *key = page->keys.items[i];
        /* What is listed is what is deleted. */
        if (strncmp(key, prefix, strlen(prefix)) != 0)
            return err_set(err, TIDE_E_CORRUPT, "asked for keys below %.200s in bucket %s, %s lists %.200s, too: it cannot be a store",
                           prefix, s3->url.bucket, s3->url.host, key);
        /* Others may write into the bucket too; what is no key of ours is not seen. */
        if (store_key_valid(key + n))
            strlist_add(keys, key + n);
    }
    return TIDE_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum tide_status endless(const struct store_s3 *s3, struct err *err)
{
    return err_set(err, TIDE_E_CORRUPT, "the list of keys in bucket %s does not end", s3->url.bucket);
}

/* Nonzero in *ret_more: there is another page, from `token` on, which is the one before until then. */
static enum tide_status take_page(const struct store_s3 *s3, const char *prefix, struct s3_page *page, char token[S3_LIST_TOKEN_MAX + 1],
                                  struct strlist *keys, int *ret_more, struct err *err)
{
    enum tide_status status = take_keys(s3, prefix, page, keys, err);
    strlist_release(&page->keys);
    if (status == TIDE_OK && page->truncated && strcmp(token, page->next) == 0)
        return endless(s3, err);
    *ret_more = page->truncated;
    text_copy(token, S3_LIST_TOKEN_MAX + 1, page->next);
    return status;
}

static enum tide_status list_pages(struct store_s3 *s3, const char *prefix, char token[S3_LIST_TOKEN_MAX + 1], char *body,
                                   struct strlist *keys, struct err *err)
{
    enum tide_status status = TIDE_OK;
    unsigned pages = 0;
    for (int more = 1; status == TIDE_OK && more;) {
        struct s3_page page = {0};
        if (pages++ == LIST_PAGES_MAX)
            return endless(s3, err);
        status = ask_page(s3, prefix, token, body, &page, err);
        if (status == TIDE_OK)
            status = take_page(s3, prefix, &page, token, keys, &more, err);
    }
    return status;
}

static enum tide_status s3_list(struct store *store, const char *prefix, struct strlist *ret_keys, struct err *err)
{
    struct store_s3 *s3 = s3_of(store);
    s3_name name;
    if (strlen(prefix) > TIDE_PATH_MAX)
        return TIDE_OK;
    name_of(s3, prefix, name);
    char *body = mem_try_alloc(PAGE_BYTES);
    if (body == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to list keys");
    char token[S3_LIST_TOKEN_MAX + 1] = "";
    enum tide_status status = list_pages(s3, name, token, body, ret_keys, err);
    mem_free(body);
    if (status == TIDE_OK && ret_keys->count > 1)
        qsort(ret_keys->items, ret_keys->count, sizeof *ret_keys->items, by_name);
    return status;
}

/* The first page of a prefix, under way. */
struct first_page {
    struct s3_call *call; /* NULL: none */
    s3_name name;
    struct sigv4_pair query[PAGE_PAIRS];
    char *body; /* PAGE_BYTES; only what is used of them is ever there */
};

static enum tide_status first_begin(struct store_s3 *s3, struct first_page *first, const char *prefix, struct err *err)
{
    if (strlen(prefix) > TIDE_PATH_MAX) /* no key is that long */
        return TIDE_OK;
    if (first->body == NULL)
        first->body = mem_try_alloc(PAGE_BYTES);
    if (first->body == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to list keys");
    name_of(s3, prefix, first->name);
    struct s3_request request = page_request(first->name, "", first->query, first->body);
    return s3_begin(s3->client, &request, &first->call, err);
}

/* And whatever follows it, page by page. */
static enum tide_status first_finish(struct store_s3 *s3, struct first_page *first, struct strlist *keys, struct err *err)
{
    char token[S3_LIST_TOKEN_MAX + 1] = "";
    struct s3_answer answer;
    struct s3_page page = {0};
    struct strlist some = {0};
    int more = 0;
    if (first->call == NULL)
        return TIDE_OK;
    enum tide_status status = s3_finish(first->call, &answer, err);
    first->call = NULL;
    if (status != TIDE_OK)
        return err_wrap(err, "GET of %s in bucket %s", first->name, s3->url.bucket);
    status = page_of(s3, first->name, &answer, first->body, &page, err);
    if (status == TIDE_OK)
        status = take_page(s3, first->name, &page, token, &some, &more, err);
    if (status == TIDE_OK && more)
        status = list_pages(s3, first->name, token, first->body, &some, err);
    if (status == TIDE_OK)
        strlist_append(keys, &some);
    strlist_release(&some);
    return status;
}

/* It is waited for, because it writes into its body; what comes of it counts no more. */
static void first_forget(struct first_page *first)
{
    struct s3_answer answer;
    struct err why;
    enum tide_status status = first->call != NULL ? s3_finish(first->call, &answer, &why) : TIDE_OK;
    (void)status;
    first->call = NULL;
}

static enum tide_status s3_list_each(struct store *store, const struct strlist *prefixes, struct strlist *ret_keys, struct err *err)
{
    struct store_s3 *s3 = s3_of(store);
    struct first_page *firsts = mem_alloc(S3_CONNECTIONS * sizeof *firsts);
    enum tide_status status = TIDE_OK;
    for (size_t i = 0; i < prefixes->count + S3_CONNECTIONS; i++) {
        struct first_page *first = &firsts[i % S3_CONNECTIONS];
        if (status == TIDE_OK)
            status = first_finish(s3, first, ret_keys, err);
        else
            first_forget(first);
        if (status == TIDE_OK && i < prefixes->count)
            status = first_begin(s3, first, prefixes->items[i], err);
    }
    for (unsigned i = 0; i < S3_CONNECTIONS; i++)
        mem_free(firsts[i].body);
    mem_free(firsts);
    return status;
}

/* ---- opening ---- */

static int s3_moved(struct store *store)
{
    const struct store_s3 *s3 = s3_of(store);
    return atomic_load(&s3->refused) || s3_client_expires(s3->client);
}

static void s3_close(struct store *store)
{
    s3_client_free(s3_of(store)->client);
    mem_free(store);
}

static const struct store_ops s3_ops = {
    .scheme = "s3",
    .at_once = S3_CONNECTIONS,
    .gets_at_once = S3_CONNECTIONS,
    .removes_at_once = S3_CONNECTIONS,
    .put = s3_put,
    .get = s3_get,
    .begin = s3_op_begin,
    .finish = s3_op_finish,
    .pending = s3_op_pending,
    .size = s3_size,
    .list = s3_list,
    .list_each = s3_list_each,
    .remove = s3_remove,
    .moved = s3_moved,
    .close = s3_close,
};

static const char *from_env(const char *name)
{
    return getenv(name);
}

static const char *env_or(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : otherwise;
}

static enum tide_status keys_from_file(struct s3_keys *ret_keys, struct err *err)
{
    char path[TIDE_PATH_MAX + 1], *text = NULL;
    size_t bytes = 0;
    snprintf(path, sizeof path, "%s/.aws/credentials", env_or("HOME", "/root"));
    const char *file = env_or("AWS_SHARED_CREDENTIALS_FILE", path);
    enum tide_status status = fsx_read(file, KEYS_FILE_MAX, &text, &bytes, err);
    if (status == TIDE_OK) {
        status = s3_keys_parse(text, env_or("AWS_PROFILE", "default"), ret_keys, err);
        OPENSSL_cleanse(text, bytes);
        mem_free(text);
    }
    return status == TIDE_OK ? TIDE_OK : err_wrap(err, "no keys in %s", file);
}

static enum tide_status find_keys(struct s3_keys *ret_keys, uint64_t *ret_expires_s, struct err *err)
{
    struct err in_file = {0}, of_host = {0};
    enum tide_status status = s3_keys_env(from_env, ret_keys, err);
    if (status != TIDE_E_NOT_FOUND)
        return status;
    if (keys_from_file(ret_keys, &in_file) == TIDE_OK)
        return TIDE_OK;
    /* A file that holds something else was meant to be it. */
    status = in_file.status == TIDE_E_NOT_FOUND ? s3_imds_keys(from_env, ret_keys, ret_expires_s, &of_host) : TIDE_E_DENIED;
    if (status == TIDE_OK)
        return TIDE_OK;
    return err_set(err, TIDE_E_DENIED,
                   "there are no keys: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for this process, or write them "
                   "into a credentials file (%.300s%s%.300s)",
                   in_file.text, of_host.text[0] ? "; " : "", of_host.text);
}

enum tide_status store_s3_open(const char *url, struct store **ret_store, struct err *err)
{
    struct s3_keys keys = {0};
    uint64_t expires_s = 0;
    struct store_s3 *s3 = mem_try_alloc(sizeof *s3);
    if (s3 == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to open the store");
    s3->base.ops = &s3_ops;
    enum tide_status status = s3_url_parse(url, from_env, &s3->url, err);
    if (status == TIDE_OK)
        status = find_keys(&keys, &expires_s, err);
    if (status == TIDE_OK)
        status = s3_client_create(&s3->url, &keys, &s3->client, err);
    OPENSSL_cleanse(&keys, sizeof keys);
    if (status != TIDE_OK) {
        mem_free(s3);
        return status;
    }
    s3_client_renews(s3->client, find_keys, expires_s);
    s3_client_timeout(s3->client, s3->url.timeout_s < PROVE_S ? s3->url.timeout_s : PROVE_S);
    *ret_store = &s3->base;
    return TIDE_OK;
}

void store_s3_proved(struct store *store)
{
    s3_client_timeout(s3_of(store)->client, s3_of(store)->url.timeout_s);
}
