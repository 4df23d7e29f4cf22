/* SPDX-License-Identifier: Apache-2.0 */
/* What an S3 server answers, the address it is reached at, a file of keys, and text that is encoded to be signed. The first
 * byte chooses. */

#include "ckpt/base/mem.h"
#include "ckpt/store/s3_url.h"
#include "ckpt/store/s3_xml.h"
#include "ckpt/store/sigv4.h"
#include "ckpt/store/store.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_MAX 8192u

static void try_page(const char *text, size_t bytes)
{
    struct s3_page page = {0};
    if (s3_page_parse(text, bytes, &page, NULL) != TIDE_OK) {
        FUZZ_CHECK(page.keys.count == 0);
        return;
    }
    FUZZ_CHECK(!page.truncated || page.next[0] != '\0');
    for (size_t i = 0; i < page.keys.count; i++)
        FUZZ_CHECK(strlen(page.keys.items[i]) <= 2 * TIDE_PATH_MAX);
    strlist_release(&page.keys);
}

static void try_error(const char *text, size_t bytes)
{
    struct s3_error error;
    s3_error_parse(text, bytes, &error);
    for (const char *c = error.message; *c; c++)
        FUZZ_CHECK(*c >= ' ' && *c <= '~');
}

static void try_url(const char *text, size_t bytes)
{
    (void)bytes;
    struct s3_url url;
    if (s3_url_parse(text, NULL, &url, NULL) != TIDE_OK)
        return;
    FUZZ_CHECK(url.bucket[0] != '\0' && url.host[0] != '\0' && url.region[0] != '\0' && url.timeout_s > 0);
    FUZZ_CHECK(strpbrk(url.host, "/@?# \r\n") == NULL);
    size_t n = strlen(url.prefix);
    FUZZ_CHECK(n == 0 || url.prefix[n - 1] == '/');
    if (n > 0)
        url.prefix[n - 1] = '\0';
    FUZZ_CHECK(n == 0 || store_key_valid(url.prefix));
}

static void try_keys(const char *text, size_t bytes)
{
    (void)bytes;
    struct s3_keys keys;
    if (s3_keys_parse(text, "default", &keys, NULL) == TIDE_OK)
        FUZZ_CHECK(keys.access[0] != '\0' && strpbrk(keys.access, " \r\n") == NULL && strpbrk(keys.token, " \r\n") == NULL);
}

/* What is encoded, decoded again by the reader of lists, is what it was. */
static void try_encode(const char *text, size_t bytes)
{
    char coded[3 * TEXT_MAX + 1];
    (void)bytes;
    FUZZ_CHECK(sigv4_encode(text, 0, coded, sizeof coded, NULL) == TIDE_OK);
    FUZZ_CHECK(strpbrk(coded, "/ &=+?\r\n") == NULL);
    size_t n = 0;
    for (const char *c = coded; *c; c++, n++) {
        char hex[3] = {0};
        if (*c != '%') {
            FUZZ_CHECK(*c == text[n]);
            continue;
        }
        memcpy(hex, c + 1, 2);
        FUZZ_CHECK((char)strtoul(hex, NULL, 16) == text[n]);
        c += 2;
    }
    FUZZ_CHECK(text[n] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static void (*const tries[])(const char *text, size_t bytes) = {try_page, try_error, try_url, try_keys, try_encode};
    char text[TEXT_MAX + 1];
    if (bytes == 0)
        return 0;
    size_t n = bytes - 1 < TEXT_MAX ? bytes - 1 : TEXT_MAX;
    memcpy(text, data + 1, n);
    text[n] = '\0';
    tries[data[0] % (sizeof tries / sizeof tries[0])](text, n);
    return 0;
}
