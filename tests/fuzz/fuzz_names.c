/* SPDX-License-Identifier: Apache-2.0 */
/* Who somebody says he is: names in certificates, addresses, join tokens. And keys of objects.
 * The first byte chooses; the rest is the text. What is taken must be written again in the same letters, or two readers could see
 * two names in one. */

#include "ckpt/base/mem.h"
#include "ckpt/format/keys.h"
#include "ckpt/secure/join.h"
#include "ckpt/wire/identity.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_MAX 1024u

static void try_cert_name(const char *text)
{
    struct cert_name name;
    char again[CERT_NAME_MAX + 1];
    if (cert_name_parse(text, &name, NULL) != TIDE_OK)
        return;
    cert_name_format(&name, again);
    FUZZ_CHECK(strcmp(again, text) == 0);
    FUZZ_CHECK(cluster_uid_valid(name.cluster));
    FUZZ_CHECK(name.role > ROLE_NONE && name.role <= ROLE_ADMIN);
    FUZZ_CHECK((name.kind == CERT_MEMBER) == (name.member != 0));
    FUZZ_CHECK((name.kind == CERT_AGENT) == (name.role == ROLE_AGENT) || name.kind == CERT_CLIENT);
}

static void try_address(const char *text)
{
    char host[ADDRESS_MAX + 1], again[ADDRESS_MAX + 16];
    uint32_t port;
    if (address_split(text, host, &port, NULL) != TIDE_OK) {
        FUZZ_CHECK(!address_loopback(text));
        return;
    }
    FUZZ_CHECK(port >= 1 && port <= 65535 && host[0] != '\0');
    snprintf(again, sizeof again, text[0] == '[' ? "[%s]:%u" : "%s:%u", host, port);
    FUZZ_CHECK(strcmp(again, text) == 0);
}

static void try_join(const char *text)
{
    struct join join, second;
    char again[JOIN_CHARS + 1];
    if (join_parse(text, &join, NULL) != TIDE_OK)
        return;
    join_format(&join, again);
    FUZZ_CHECK(strstr(text, again) != NULL);
    FUZZ_CHECK(join_parse(again, &second, NULL) == TIDE_OK && strcmp(join.secret, second.secret) == 0);
}

static void try_token(const char *text)
{
    struct token token = {.role = ROLE_VIEWER};
    unsigned role = ROLE_NONE;
    text_copy(token.name, sizeof token.name, text);
    text_copy(token.hash, sizeof token.hash, text);
    if (token_check(&token, NULL) == TIDE_OK)
        FUZZ_CHECK(name_valid(token.name) && strlen(token.hash) == TOKEN_HASH_CHARS);
    if (role_parse(text, &role) == 0)
        FUZZ_CHECK(strcmp(text, role_names[role]) == 0 && role != ROLE_NONE);
}

/* What a store lists decides what is deleted: no key may be read as another job's, or as one outside of its place. */
static void try_key(const char *text)
{
    struct object_name name;
    if (key_object_parse(text, "job", "0123456789abcdef", &name) != 0)
        return;
    FUZZ_CHECK(strstr(text, "/job.0123456789abcdef/") != NULL && strstr(text, "..") == NULL && strchr("cmngd", text[0]) != NULL);
    FUZZ_CHECK((name.kind == OBJECT_PACK) == (text[0] == 'c') && (name.kind == OBJECT_NEED) == (text[0] == 'n'));
    FUZZ_CHECK((name.kind == OBJECT_COMMIT) == (key_is_commit(text) != 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static void (*const tries[])(const char *text) = {try_cert_name, try_address, try_join, try_token};
    char text[TEXT_MAX + 1];
    if (bytes == 0)
        return 0;
    size_t n = bytes - 1 < TEXT_MAX ? bytes - 1 : TEXT_MAX;
    memcpy(text, data + 1, n);
    text[n] = '\0';
    if (data[0] == 'k') {
        try_key(text);
        return 0;
    }
    tries[data[0] % (sizeof tries / sizeof tries[0])](text);
    return 0;
}
