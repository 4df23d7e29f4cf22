/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/store/s3_url.h"

/* Visible ASCII only: they become parts of headers. */
static int fits(const char *value, size_t size)
{
    for (const char *c = value; *c; c++)
        if (*c <= ' ' || *c > '~')
            return 0;
    return strlen(value) < size;
}

enum tide_status s3_keys_make(const char *access, const char *secret, const char *token, struct s3_keys *ret_keys,
                              struct err *err)
{
    token = token ? token : "";
    if (!fits(access, sizeof ret_keys->access) || !fits(secret, sizeof ret_keys->secret) ||
        !fits(token, sizeof ret_keys->token))
        return err_set(err, TIDE_E_INVALID,
                       "the access key, the secret key or the session token has bytes that no key has, or too many");
    text_copy(ret_keys->access, sizeof ret_keys->access, access);
    text_copy(ret_keys->secret, sizeof ret_keys->secret, secret);
    text_copy(ret_keys->token, sizeof ret_keys->token, token);
    return TIDE_OK;
}

static int is_set(const char *value)
{
    return value != NULL && value[0] != '\0';
}

enum tide_status s3_keys_env(s3_env env, struct s3_keys *ret_keys, struct err *err)
{
    const char *access = env("AWS_ACCESS_KEY_ID"), *secret = env("AWS_SECRET_ACCESS_KEY");
    if (!is_set(access) && !is_set(secret))
        return err_set(err, TIDE_E_NOT_FOUND, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set");
    if (!is_set(access) || !is_set(secret))
        return err_set(err, TIDE_E_INVALID, "of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY only one is set; set both");
    return s3_keys_make(access, secret, env("AWS_SESSION_TOKEN"), ret_keys, err);
}

/* ---- a shared credentials file ---- */

#define LINE_MAX_BYTES (S3_TOKEN_MAX + 64)

struct found {
    char access[S3_ACCESS_MAX + 2], secret[S3_SECRET_MAX + 2],
        token[S3_TOKEN_MAX + 2]; /* one more than fits, to be noticed */
};

static char *trim(char *text)
{
    text += strspn(text, " \t\r");
    size_t n = strlen(text);
    while (n > 0 && strchr(" \t\r", text[n - 1]))
        text[--n] = '\0';
    return text;
}

static int is_section(const char *line, const char *profile)
{
    size_t n = strlen(profile);
    return strncmp(line + 1, profile, n) == 0 && strcmp(line + 1 + n, "]") == 0;
}

static void take_line(struct found *found, char *line)
{
    char *value = strchr(line, '=');
    if (value == NULL)
        return;
    *value++ = '\0';
    const char *name = trim(line);
    value = trim(value);
    if (strcmp(name, "aws_access_key_id") == 0)
        text_copy(found->access, sizeof found->access, value);
    else if (strcmp(name, "aws_secret_access_key") == 0)
        text_copy(found->secret, sizeof found->secret, value);
    else if (strcmp(name, "aws_session_token") == 0)
        text_copy(found->token, sizeof found->token, value);
}

static void take_profile(const char *text, const char *profile, struct found *found)
{
    int inside = 0;
    while (*text) {
        char line[LINE_MAX_BYTES + 1];
        size_t n = strcspn(text, "\n");
        text_copy(line, (n < LINE_MAX_BYTES ? n : LINE_MAX_BYTES) + 1, text);
        text += n;
        text += *text == '\n';
        char *words = trim(line);
        if (words[0] == '[')
            inside = is_section(words, profile);
        else if (inside && words[0] != '#' && words[0] != ';')
            take_line(found, words);
    }
}

enum tide_status s3_keys_parse(const char *text, const char *profile, struct s3_keys *ret_keys, struct err *err)
{
    struct found found = {0};
    take_profile(text, profile, &found);
    if (found.access[0] == '\0' || found.secret[0] == '\0')
        return err_set(err, TIDE_E_NOT_FOUND, "profile %.100s has no aws_access_key_id and aws_secret_access_key", profile);
    return s3_keys_make(found.access, found.secret, found.token, ret_keys, err);
}
