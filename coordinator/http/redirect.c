/* SPDX-License-Identifier: Apache-2.0 */
/* "Ask there": the target of a request, put together again. */
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "ckpt/wire/view.h"
#include "coordinator/http/inner.h"

#define HEX_DIGITS "0123456789ABCDEF"
#define UNRESERVED "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"

#define TARGET_BYTES_MAX 8192

struct target {
    char text[TARGET_BYTES_MAX + 1];
    size_t bytes;
    bool full;
};

static void put_char(struct target *to, char c)
{
    if (to->bytes + 1 < sizeof to->text)
        to->text[to->bytes++] = c;
    else
        to->full = true;
}

/* `safe`: what may stand there as it is, beside what may stand everywhere. */
static void put_escaped(struct target *to, const char *text, const char *safe)
{
    for (const char *p = text; *p != '\0'; p++) {
        unsigned char c = (unsigned char)*p;
        if (strchr(UNRESERVED, c) != NULL || strchr(safe, c) != NULL) {
            put_char(to, *p);
            continue;
        }
        put_char(to, '%');
        put_char(to, HEX_DIGITS[c >> 4]);
        put_char(to, HEX_DIGITS[c & 15]);
    }
}

static enum MHD_Result put_argument(void *arg, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct target *to = arg;
    (void)kind;
    put_char(to, strchr(to->text, '?') == NULL ? '?' : '&');
    put_escaped(to, key, "");
    if (value != NULL) {
        put_char(to, '=');
        put_escaped(to, value, "");
    }
    return MHD_YES;
}

void http_redirect(struct http_request *request, const char *base, const char *format, ...)
{
    struct target target = {0};
    struct api_error error = {.hint = "the header Location says where"};
    va_list args;
    va_start(args, format);
    text_say_list(error.message, sizeof error.message, format, args);
    va_end(args);
    text_copy(error.code, sizeof error.code, tide_status_name(TIDE_E_UNAVAILABLE));
    for (const char *p = base; *p != '\0'; p++)
        put_char(&target, *p);
    put_escaped(&target, request->path, "/");
    MHD_get_connection_values(request->connection->mhd, MHD_GET_ARGUMENT_KIND, put_argument, &target);
    if (target.full) {
        struct err err = {0};
        err_set(&err, TIDE_E_LIMIT, "%s; the path is too long to be sent on", error.message);
        http_reply_err(request, &err);
        return;
    }
    request->location = mem_strdup(target.text);
    json_t *body = json_object();
    json_object_set_new(body, "error", codec_encode(&api_error_codec, &error, 0));
    json_object_set_new(body, "leader", json_string(base));
    char *line = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    char *text = mem_format("%s\n", line ? line : "{}");
    mem_free(line);
    http_reply(request, MHD_HTTP_TEMPORARY_REDIRECT, "application/json", text);
}
