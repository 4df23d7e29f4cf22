/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "ckpt/wire/view.h"
#include "coordinator/http/inner.h"

/* ---- routes ---- */

/* Does `path` fit `pattern`? at: where in it the segments that stand for a {word} begin. */
static bool fits(const char *pattern, const char *path, size_t at[HTTP_PARAMS_MAX], size_t *ret_count)
{
    size_t count = 0, i = 0;
    while (*pattern != '\0') {
        if (*pattern != '{') {
            if (*pattern++ != path[i++])
                return false;
            continue;
        }
        size_t n = strcspn(path + i, "/");
        if (n == 0 || count == HTTP_PARAMS_MAX)
            return false;
        at[count++] = i;
        i += n;
        pattern += strcspn(pattern, "}") + 1;
    }
    *ret_count = count;
    return path[i] == '\0';
}

static void cut_segments(struct http_request *request, const size_t *at, size_t count)
{
    request->segments = count > 0 ? mem_strdup(request->path) : NULL;
    for (size_t k = 0; k < count; k++)
        request->params[k] = request->segments + at[k];
    for (size_t k = 0; k < count; k++)
        request->segments[at[k] + strcspn(request->params[k], "/")] = '\0';
}

void route_find(struct http_request *request, const char *method)
{
    const struct http_options *options = &request->http->options;
    for (size_t i = 0; i < options->route_count; i++) {
        const struct http_route *route = &options->routes[i];
        size_t at[HTTP_PARAMS_MAX], count;
        if (!fits(route->path, request->path, at, &count))
            continue;
        if (strcmp(route->method, method) == 0) {
            request->route = route;
            cut_segments(request, at, count);
            return;
        }
        char *before = request->allow;
        request->allow = before ? mem_format("%s, %s", before, route->method) : mem_strdup(route->method);
        mem_free(before);
    }
    if (request->allow != NULL)
        request_refuse(request, 405, TIDE_E_INVALID, "%s is not possible on %.200s; possible: %s", method, request->path,
                       request->allow);
    else
        request_refuse(request, 404, TIDE_E_NOT_FOUND, "there is no %.200s; the paths of this API begin with /v1",
                       request->path);
}

/* ---- what was asked ---- */

const char *http_param(const struct http_request *request, const char *name)
{
    size_t count = 0, n = strlen(name);
    for (const char *at = request->route->path; (at = strchr(at, '{')) != NULL; at++, count++)
        if (strncmp(at + 1, name, n) == 0 && at[1 + n] == '}')
            return request->params[count];
    return "";
}

const char *http_query(const struct http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection->mhd, MHD_GET_ARGUMENT_KIND, name);
}

const char *http_header_of(const struct http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection->mhd, MHD_HEADER_KIND, name);
}

const char *http_body(const struct http_request *request, size_t *ret_bytes)
{
    *ret_bytes = request->body_bytes;
    return request->body ? request->body : "";
}

enum tide_status http_query_u64(const struct http_request *request, const char *name, uint64_t otherwise,
                                uint64_t *ret_value, struct err *err)
{
    const char *text = http_query(request, name);
    if (text == NULL) {
        *ret_value = otherwise;
        return TIDE_OK;
    }
    uint64_t value = 0;
    size_t n = strlen(text);
    bool good = n > 0 && n <= 19 && strspn(text, "0123456789") == n; /* 19 digits always fit */
    for (size_t i = 0; good && i < n; i++)
        value = value * 10 + (uint64_t)(text[i] - '0');
    if (!good)
        return err_set(err, TIDE_E_INVALID, "query parameter \"%s\" is \"%.40s\"; it must be a whole number of 0 or more",
                       name, text);
    *ret_value = value;
    return TIDE_OK;
}

const char *http_peer(const struct http_request *request, const char **ret_why)
{
    const struct connection *c = request->connection;
    if (ret_why != NULL)
        *ret_why = c->peer_fault;
    return c->peer;
}

const char *http_peer_serial(const struct http_request *request)
{
    const struct connection *c = request->connection;
    return c->peer_serial ? c->peer_serial : "";
}

void http_peer_address(const struct http_request *request, char ret_address[ADDRESS_MAX + 1])
{
    struct sockaddr_storage name;
    socklen_t bytes = sizeof name;
    if (getpeername(request->connection->fd, (struct sockaddr *)&name, &bytes) != 0 ||
        address_text((struct sockaddr *)&name, bytes, ret_address, NULL) != TIDE_OK)
        text_copy(ret_address, ADDRESS_MAX + 1, "(gone)");
}

const char *http_method(const struct http_request *request)
{
    return request->method ? request->method : "";
}

const char *http_path(const struct http_request *request)
{
    return request->path ? request->path : "";
}

void http_on_gone(struct http_request *request, http_gone *gone, void *arg)
{
    request->gone = gone;
    request->gone_arg = arg;
    request_await_end(request);
}

/* ---- the answer ---- */

void http_header(struct http_request *request, const char *name, const char *value)
{
    if (request->answer != NULL) { /* the stamp: the answer is being made */
        MHD_add_response_header(request->answer, name, value);
        return;
    }
    if (request->header_count == HTTP_ANSWER_HEADERS_MAX)
        return;
    struct answer_header *header = &request->headers[request->header_count++];
    header->name = name;
    header->value = mem_strdup(value);
}

void http_reply(struct http_request *request, unsigned code, const char *type, char *text)
{
    http_reply_bytes(request, code, type, text, strlen(text));
}

void http_reply_bytes(struct http_request *request, unsigned code, const char *type, char *data, size_t bytes)
{
    if (request->answer != NULL) { /* a second answer is nobody's */
        mem_free(data);
        return;
    }
    request->code = code;
    request->answer = MHD_create_response_from_buffer(bytes, data, MHD_RESPMEM_MUST_FREE);
    request->http->options.stamp(request->http->options.context, request);
    MHD_add_response_header(request->answer, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    for (size_t i = 0; i < request->header_count; i++)
        MHD_add_response_header(request->answer, request->headers[i].name, request->headers[i].value);
    if (request->location != NULL)
        MHD_add_response_header(request->answer, MHD_HTTP_HEADER_LOCATION, request->location);
    request_answered(request);
}

void http_reply_json(struct http_request *request, json_t *json)
{
    char *line = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    char *text = mem_format("%s\n", line ? line : "{}");
    mem_free(line);
    http_reply(request, 200, "application/json", text);
}

void http_reply_noun(struct http_request *request, const struct codec *codec, const void *noun, unsigned flags)
{
    http_reply_json(request, codec_encode(codec, noun, flags));
}

unsigned http_code(enum tide_status status)
{
    switch (status) {
    case TIDE_OK:
        return 200;
    case TIDE_E_INVALID:
    case TIDE_E_LIMIT:
        return 400;
    case TIDE_E_DENIED:
        return 403;
    case TIDE_E_NOT_FOUND:
        return 404;
    case TIDE_E_EXISTS:
    case TIDE_E_STATE:
    case TIDE_E_CONFLICT:
    case TIDE_E_STALE:
    case TIDE_E_NO_CHECKPOINT:
        return 409;
    case TIDE_E_UNAVAILABLE:
        return 503;
    case TIDE_E_TIMEOUT:
        return 504;
    default:
        return 500;
    }
}

static const char *hint_of(unsigned code, enum tide_status status)
{
    if (code == 401)
        return "show who you are: --identity DIR or TIDEMARK_IDENTITY names an identity directory, TIDEMARK_TOKEN a token";
    switch (status) {
    case TIDE_E_DENIED:
        return "an admin of the cluster gives more: tidemark token create, or tidemark cluster issue";
    case TIDE_E_UNAVAILABLE:
    case TIDE_E_TIMEOUT:
        return "nothing is known to be lost; ask again under the same Idempotency-Key";
    case TIDE_E_STALE:
        return "ask for the present state and decide again";
    default:
        return "";
    }
}

static void reply_error(struct http_request *request, unsigned code, const struct err *err)
{
    struct api_error error = {0};
    text_copy(error.code, sizeof error.code, tide_status_name(err->status));
    text_copy(error.message, sizeof error.message, err->text[0] ? err->text : tide_status_text(err->status));
    text_copy(error.hint, sizeof error.hint, hint_of(code, err->status));
    json_t *body = json_object();
    json_object_set_new(body, "error", codec_encode(&api_error_codec, &error, 0));
    char *line = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    char *text = mem_format("%s\n", line ? line : "{}");
    mem_free(line);
    http_reply(request, code, "application/json", text);
}

void http_reply_err(struct http_request *request, const struct err *err)
{
    reply_error(request, request->refusal_code ? request->refusal_code : http_code(err->status), err);
}

void request_refuse(struct http_request *request, unsigned code, enum tide_status status, const char *format, ...)
{
    if (request->refusal_code != 0)
        return;
    char text[ERR_TEXT_MAX / 2];
    va_list args;
    va_start(args, format);
    text_say_list(text, sizeof text, format, args);
    va_end(args);
    request->refusal_code = code;
    mem_free(request->refusal);
    request->refusal = mem_alloc(sizeof *request->refusal);
    err_set(request->refusal, status, "%s", text);
}

void request_free(struct http_request *request)
{
    if (request == NULL)
        return;
    request->http->body_bytes -= request->body_room;
    if (request->answer != NULL)
        MHD_destroy_response(request->answer);
    for (size_t i = 0; i < request->header_count; i++)
        mem_free(request->headers[i].value);
    mem_free(request->refusal);
    mem_free(request->path);
    mem_free(request->allow);
    mem_free(request->segments);
    mem_free(request->body);
    mem_free(request->location);
    mem_free(request);
}
