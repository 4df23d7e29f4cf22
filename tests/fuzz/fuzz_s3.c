/* SPDX-License-Identifier: Apache-2.0 */
/* What an S3 server answers, the address it is reached at, a file of keys, text that is encoded to be signed, and requests that are.
 * The first byte chooses. */

#include "ckpt/base/mem.h"
#include "ckpt/store/s3_url.h"
#include "ckpt/store/s3_xml.h"
#include "ckpt/store/sigv4.h"
#include "ckpt/store/store.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_MAX 8192u
#define SIGNS_FROM 128u /* the first byte is at least so much: a request is signed */
#define PAIRS_MOST 6u
#define WORD_MOST 40u
#define SECRET "hush-hush/hush"

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

/* ---- signing ---- */

struct words {
    char name[WORD_MOST + 1], value[WORD_MOST + 1];
};

static void take_word(struct fuzz_in *in, char to[WORD_MOST + 1])
{
    size_t n;
    const uint8_t *from = fuzz_take(in, fuzz_number(in, 1) % (WORD_MOST + 1), &n);
    if (n > 0)
        memcpy(to, from, n);
    to[n] = '\0';
    to[strcspn(to, "\r\n")] = '\0'; /* what curl would not send */
}

static size_t take_pairs(struct fuzz_in *in, struct words *words, struct sigv4_pair *pairs)
{
    size_t count = fuzz_number(in, 1) % (PAIRS_MOST + 1);
    for (size_t i = 0; i < count; i++) {
        take_word(in, words[i].name);
        take_word(in, words[i].value);
        pairs[i] = (struct sigv4_pair){words[i].name, words[i].value};
    }
    return count;
}

/* Those are the caller's own. */
static void as_header(char *name)
{
    for (; *name; name++)
        *name = (char)(*name == '-' ? '-' : 'a' + (unsigned char)*name % 26);
}

/* Each "name=value" of it in its place by name, then value, and one for each that was given. */
static void query_is_sorted(const char *query, size_t count)
{
    char before[6 * WORD_MOST + 2] = "", now[6 * WORD_MOST + 2];
    size_t seen = 0;
    while (*query) {
        size_t n = strcspn(query, "&");
        FUZZ_CHECK(n < sizeof now);
        memcpy(now, query, n);
        now[n] = '\0';
        char *value = strchr(now, '=');
        FUZZ_CHECK(value != NULL && strchr(value + 1, '=') == NULL && strpbrk(now, " /+?\r\n") == NULL);
        *value = '\x01'; /* below all that may be in a name */
        FUZZ_CHECK(strcmp(before, now) <= 0);
        text_copy(before, sizeof before, now);
        query += n + (query[n] == '&');
        seen++;
    }
    FUZZ_CHECK(seen == count);
}

/* One line a header, none of which has blanks at its ends or two in a row. */
static void headers_are_trimmed(const char *canonical, size_t count)
{
    size_t lines = 0;
    for (const char *c = canonical; *c; c++) {
        lines += *c == '\n';
        FUZZ_CHECK(lines < 3 || lines >= 3 + count || *c != ' ' || (c[1] != ' ' && c[1] != '\n' && c[-1] != '\n'));
    }
    FUZZ_CHECK(lines == 5 + count);
}

/* Too little room is told, and not gone beyond; the secret is nowhere. */
static void sign_request(const struct sigv4_request *request, size_t room)
{
    struct sigv4_key key = {.access = "ACCESS", .secret = SECRET, .region = "us-east-1", .service = "s3"};
    char line[2 * TEXT_MAX], *small = mem_alloc(room + 1);
    sigv4_time(1369353600, key.time);
    enum tide_status status = sigv4_authorization(&key, request, line, sizeof line, NULL);
    FUZZ_CHECK(status == TIDE_OK && strstr(line, SECRET) == NULL);
    FUZZ_CHECK(strlen(strstr(line, "Signature=") + strlen("Signature=")) == SIGV4_HASH_CHARS);
    status = sigv4_authorization(&key, request, small, room + 1, NULL);
    FUZZ_CHECK(status == (strlen(line) <= room ? TIDE_OK : TIDE_E_LIMIT));
    mem_free(small);
}

static void try_sign(struct fuzz_in *in)
{
    struct words words[2 * PAIRS_MOST];
    struct sigv4_pair pairs[2 * PAIRS_MOST];
    char query[TEXT_MAX], path[4 * WORD_MOST], name[WORD_MOST + 1], canonical[2 * TEXT_MAX];
    size_t room = fuzz_number(in, 2) % TEXT_MAX, asked = take_pairs(in, words, pairs);
    FUZZ_CHECK(sigv4_query(pairs, asked, query, sizeof query, NULL) == TIDE_OK);
    query_is_sorted(query, asked);
    take_word(in, name);
    FUZZ_CHECK(sigv4_encode(name, 1, path, sizeof path, NULL) == TIDE_OK);
    size_t count = take_pairs(in, words + PAIRS_MOST, pairs);
    for (size_t i = 0; i < count; i++)
        as_header(words[PAIRS_MOST + i].name);
    struct sigv4_request request = {"PUT", path, query, pairs, count, SIGV4_UNSIGNED};
    FUZZ_CHECK(sigv4_canonical(&request, canonical, sizeof canonical, NULL) == TIDE_OK);
    headers_are_trimmed(canonical, count);
    sign_request(&request, room);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static void (*const tries[])(const char *text, size_t bytes) = {try_page, try_error, try_url, try_keys, try_encode};
    char text[TEXT_MAX + 1];
    if (bytes == 0)
        return 0;
    if (data[0] >= SIGNS_FROM) {
        try_sign(&(struct fuzz_in){.at = data + 1, .left = bytes - 1});
        return 0;
    }
    size_t n = bytes - 1 < TEXT_MAX ? bytes - 1 : TEXT_MAX;
    memcpy(text, data + 1, n);
    text[n] = '\0';
    tries[data[0] % (sizeof tries / sizeof tries[0])](text, n);
    return 0;
}
