/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/store/store_url.h"

#include <string.h>
#include <tidemark/types.h>

#include "ckpt/store/s3_url.h"
#include "ckpt/store/store.h"

/* ---- keys ---- */

static int key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
}

int store_key_valid(const char *key)
{
    if (strnlen(key, TIDE_PATH_MAX + 1) > TIDE_PATH_MAX)
        return 0;
    for (;;) {
        size_t n = 0;
        while (key_char(key[n]))
            n++;
        /* "." and ".." would leave the store; nothing longer is special. */
        if (n == 0 || (n == 1 && key[0] == '.') || (n == 2 && key[0] == '.' && key[1] == '.'))
            return 0;
        if (key[n] == '\0')
            return 1;
        if (key[n] != '/')
            return 0;
        key += n + 1;
    }
}

/* ---- addresses ---- */

enum tide_status store_url_path(const char *url, const char **ret_path, struct err *err)
{
    const char *path = strncmp(url, "file://", 7) == 0 ? url + 7 : url;
    if (path == url && strstr(url, "://"))
        return err_set(err, TIDE_E_UNSUPPORTED, "store %.200s: use file:///directory or s3://bucket/prefix", url);
    if (path[0] != '/')
        return err_set(err, TIDE_E_INVALID, "store \"%.200s\" is not an absolute path; use file:///directory or /directory",
                       url);
    if (strlen(path) > TIDE_PATH_MAX)
        return err_set(err, TIDE_E_INVALID, "store path has %zu bytes; at most %d are possible", strlen(path),
                       TIDE_PATH_MAX);
    *ret_path = path;
    return TIDE_OK;
}

enum tide_status store_url_check(const char *url, struct err *err)
{
    const char *path;
    struct s3_url parsed;
    return s3_url_is(url) ? s3_url_parse(url, NULL, &parsed, err) : store_url_path(url, &path, err);
}
