/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/secure/idir.h"
#include "ckpt/secure/join.h"

#define UID "0123456789abcdef"
#define OTHER_UID "fedcba9876543210"

static struct err err;

/* ---- secrets ---- */

static void secrets_are_new_and_known_by_their_shape(void **state)
{
    (void)state;
    char a[SECRET_CHARS + 1], b[SECRET_CHARS + 1];
    assert_int_equal(secret_new(a, &err), TIDE_OK);
    assert_int_equal(secret_new(b, &err), TIDE_OK);
    assert_string_not_equal(a, b);
    assert_true(secret_plausible(a));
    assert_int_equal(strncmp(a, SECRET_PREFIX, strlen(SECRET_PREFIX)), 0);
    a[SECRET_CHARS - 1] = '\0';
    assert_false(secret_plausible(a));
    b[SECRET_CHARS - 1] = 'G';
    assert_false(secret_plausible(b));
    assert_true(secret_equal("abc", "abc", 3));
    assert_false(secret_equal("abc", "abd", 3));
}

static void the_hash_is_sha256(void **state)
{
    (void)state;
    char hex[SHA256_HEX_CHARS + 1];
    sha256_hex("abc", 3, hex); /* FIPS 180-2, appendix B.1 */
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* ---- join tokens ---- */

static void a_join_token_is_read_as_it_was_written(void **state)
{
    (void)state;
    struct join join, read;
    char text[JOIN_CHARS + 1], padded[JOIN_CHARS + 8];
    sha256_hex("ca", 2, join.pin);
    assert_int_equal(secret_new(join.secret, &err), TIDE_OK);
    join_format(&join, text);
    assert_int_equal(strlen(text), JOIN_CHARS);
    snprintf(padded, sizeof padded, " %s\n", text);
    assert_int_equal(join_parse(padded, &read, &err), TIDE_OK);
    assert_string_equal(read.pin, join.pin);
    assert_string_equal(read.secret, join.secret);
    for (size_t i = 0; i < JOIN_CHARS; i++) {
        char bad[JOIN_CHARS + 1];
        memcpy(bad, text, sizeof bad);
        bad[i] = '!';
        assert_int_equal(join_parse(bad, &read, &err), TIDE_E_INVALID);
        assert_null(strstr(err.text, join.secret));
        bad[i] = '\0';
        assert_int_equal(join_parse(bad, &read, &err), TIDE_E_INVALID);
    }
    snprintf(padded, sizeof padded, "%s x", text);
    assert_int_equal(join_parse(padded, &read, &err), TIDE_E_INVALID);
}

/* ---- certificates ---- */

static struct ca *new_ca(const char *cluster)
{
    struct ca *ca = NULL;
    assert_int_equal(ca_create(cluster, &ca, &err), TIDE_OK);
    return ca;
}

static void a_certificate_says_who_it_is_for(void **state)
{
    (void)state;
    struct ca *ca = new_ca(UID), *stranger = new_ca(UID);
    char *ca_pem = ca_cert_pem(ca), *other_pem = ca_cert_pem(stranger), *cert, *key, *cert2, *key2;
    struct cert_name name = {.cluster = UID, .kind = CERT_CLIENT, .name = "alice", .role = ROLE_OPERATOR}, read = {0};
    unsigned days = 0;
    assert_int_equal(ca_issue(ca, &name, NULL, 90, &cert, &key, &err), TIDE_OK);
    assert_int_equal(ca_issue(ca, &name, NULL, 90, &cert2, &key2, &err), TIDE_OK);
    assert_int_equal(cert_check(cert, key, ca_pem, &read, &days, &err), TIDE_OK);
    assert_string_equal(read.cluster, UID);
    assert_int_equal(read.kind, CERT_CLIENT);
    assert_string_equal(read.name, "alice");
    assert_int_equal(read.role, ROLE_OPERATOR);
    assert_in_range(days, 89, 90);

    assert_int_equal(cert_check(cert, key2, ca_pem, &read, &days, &err), TIDE_E_INVALID);
    assert_non_null(strstr(err.text, "not the key"));
    assert_int_equal(cert_check(cert, key, other_pem, &read, &days, &err), TIDE_E_INVALID);
    assert_non_null(strstr(err.text, "not issued"));
    assert_int_equal(cert_check("nonsense", key, ca_pem, &read, &days, &err), TIDE_E_INVALID);
    assert_int_equal(cert_check(cert, "nonsense", ca_pem, &read, &days, &err), TIDE_E_INVALID);
    /* A CA's own certificate names a cluster, but nobody in it. */
    char *ca_key = ca_key_pem(ca);
    assert_int_equal(cert_check(ca_pem, ca_key, ca_pem, &read, &days, &err), TIDE_E_INVALID);
    assert_non_null(strstr(err.text, "no name"));

    cert_key_free(ca_key);
    cert_key_free(key);
    cert_key_free(key2);
    mem_free(cert);
    mem_free(cert2);
    mem_free(ca_pem);
    mem_free(other_pem);
    ca_free(ca);
    ca_free(stranger);
}

static void an_expired_certificate_tells(void **state)
{
    (void)state;
    struct ca *ca = new_ca(UID);
    char *ca_pem = ca_cert_pem(ca), *cert, *key;
    struct cert_name name = {.cluster = UID, .kind = CERT_AGENT, .name = "*"}, read;
    unsigned days = 9;
    assert_int_equal(ca_issue(ca, &name, NULL, 0, &cert, &key, &err), TIDE_OK);
    sleep(1);
    assert_int_equal(cert_check(cert, key, ca_pem, &read, &days, &err), TIDE_OK);
    assert_int_equal(days, 0);
    cert_key_free(key);
    mem_free(cert);
    mem_free(ca_pem);
    ca_free(ca);
}

static void hosts_are_names_or_addresses(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "a b", "a,DNS:b", "http://a", "*.example", "a\nb", "::1::"};
    struct ca *ca = new_ca(UID);
    struct cert_name name = {.cluster = UID, .kind = CERT_MEMBER, .member = 1};
    struct strlist hosts = {0};
    char *cert, *key;
    strlist_add(&hosts, "hosta.example");
    strlist_add(&hosts, "10.0.0.11");
    strlist_add(&hosts, "fd00::1");
    assert_int_equal(ca_issue(ca, &name, &hosts, 1, &cert, &key, &err), TIDE_OK);
    cert_key_free(key);
    mem_free(cert);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        strlist_add(&hosts, bad[i]);
        if (ca_issue(ca, &name, &hosts, 1, &cert, &key, &err) != TIDE_E_INVALID)
            fail_msg("\"%s\" was taken for a host", bad[i]);
        mem_free(hosts.items[--hosts.count]);
        hosts.items[hosts.count] = NULL;
    }
    strlist_release(&hosts);
    ca_free(ca);
}

static void a_ca_is_kept_and_read_again(void **state)
{
    (void)state;
    struct ca *ca = new_ca(UID), *other = new_ca(UID), *again = NULL;
    char *cert = ca_cert_pem(ca), *key = ca_key_pem(ca), *other_key = ca_key_pem(other);
    assert_int_equal(ca_parse(cert, key, &again, &err), TIDE_OK);
    ca_free(again);
    assert_int_equal(ca_parse(cert, other_key, &again, &err), TIDE_E_INVALID);
    assert_int_equal(ca_parse(key, key, &again, &err), TIDE_E_INVALID);
    assert_int_equal(ca_parse(cert, cert, &again, &err), TIDE_E_INVALID);
    cert_key_free(key);
    cert_key_free(other_key);
    mem_free(cert);
    ca_free(ca);
    ca_free(other);
}

static void a_pin_is_of_the_first_certificate_alone(void **state)
{
    (void)state;
    struct ca *ca = new_ca(UID), *other = new_ca(UID);
    char *one = ca_cert_pem(ca), *two = ca_cert_pem(other), *both = mem_format("%s%s", one, two), *trusted;
    char pin_one[SHA256_HEX_CHARS + 1], pin_two[SHA256_HEX_CHARS + 1], pin_both[SHA256_HEX_CHARS + 1];
    assert_int_equal(cert_pin(one, pin_one, NULL, &err), TIDE_OK);
    assert_int_equal(cert_pin(two, pin_two, NULL, &err), TIDE_OK);
    assert_int_equal(cert_pin(both, pin_both, &trusted, &err), TIDE_OK);
    assert_string_equal(pin_one, pin_both);
    assert_string_not_equal(pin_one, pin_two);
    assert_string_equal(trusted, one);
    assert_int_equal(cert_pin("", pin_one, NULL, &err), TIDE_E_INVALID);
    mem_free(trusted);
    mem_free(both);
    mem_free(one);
    mem_free(two);
    ca_free(ca);
    ca_free(other);
}

/* ---- directories ---- */

static char *new_dir(void)
{
    char template[] = "/tmp/tidemark-secure-XXXXXX";
    assert_non_null(mkdtemp(template));
    return mem_strdup(template);
}

static struct identity member_one(const char *cluster)
{
    struct identity identity = {.format = IDENTITY_FORMAT, .member = 1};
    text_copy(identity.cluster, sizeof identity.cluster, cluster);
    struct member_address *m = codec_list_add(&member_address_codec, &identity.members);
    *m = (struct member_address){.id = 1, .peer = "a:7071", .api = "https://a:7070"};
    return identity;
}

static void a_directory_is_whole_or_refused(void **state)
{
    (void)state;
    char *dir = new_dir(), *key_file = mem_format("%s/" IDENTITY_KEY_FILE, dir);
    struct ca *ca = new_ca(UID);
    char *ca_pem = ca_cert_pem(ca), *cert, *key;
    struct cert_name name = {.cluster = UID, .kind = CERT_MEMBER, .member = 1};
    struct identity identity = member_one(UID);
    struct idir idir;
    struct stat st;
    assert_int_equal(idir_load(dir, &idir, &err), TIDE_E_NOT_FOUND);
    assert_int_equal(ca_issue(ca, &name, NULL, 10, &cert, &key, &err), TIDE_OK);
    assert_int_equal(idir_save(dir, &identity, ca_pem, cert, key, &err), TIDE_OK);
    assert_int_equal(stat(key_file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    assert_int_equal(idir_load(dir, &idir, &err), TIDE_OK);
    assert_int_equal(idir.identity.member, 1);
    assert_int_equal(idir.name.kind, CERT_MEMBER);
    assert_string_equal(idir.key_file, key_file);
    idir_release(&idir);

    assert_int_equal(chmod(key_file, 0644), 0);
    assert_int_equal(idir_load(dir, &idir, &err), TIDE_E_DENIED);
    assert_int_equal(chmod(key_file, 0600), 0);

    identity.member = 0;
    assert_int_equal(idir_save(dir, &identity, ca_pem, cert, key, &err), TIDE_OK);
    assert_int_equal(idir_load(dir, &idir, &err), TIDE_E_INVALID);
    identity.member = 1;
    text_copy(identity.cluster, sizeof identity.cluster, OTHER_UID);
    assert_int_equal(idir_save(dir, &identity, ca_pem, cert, key, &err), TIDE_OK);
    assert_int_equal(idir_load(dir, &idir, &err), TIDE_E_INVALID);
    assert_non_null(strstr(err.text, OTHER_UID));

    codec_release(&identity_codec, &identity);
    fsx_remove_tree(dir, NULL);
    cert_key_free(key);
    mem_free(cert);
    mem_free(ca_pem);
    mem_free(key_file);
    mem_free(dir);
    ca_free(ca);
}

static void an_insecure_directory_has_no_certificates(void **state)
{
    (void)state;
    char *dir = new_dir();
    struct identity identity = member_one(UID);
    struct idir idir;
    identity.insecure = true;
    text_copy(identity.members.items[0].api, sizeof identity.members.items[0].api, "http://a:7070");
    assert_int_equal(idir_save(dir, &identity, NULL, NULL, NULL, &err), TIDE_OK);
    assert_int_equal(idir_load(dir, &idir, &err), TIDE_OK);
    assert_true(idir.identity.insecure);
    assert_null(idir.cert_pem);
    idir_release(&idir);
    codec_release(&identity_codec, &identity);
    fsx_remove_tree(dir, NULL);
    mem_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(secrets_are_new_and_known_by_their_shape),
        cmocka_unit_test(the_hash_is_sha256),
        cmocka_unit_test(a_join_token_is_read_as_it_was_written),
        cmocka_unit_test(a_certificate_says_who_it_is_for),
        cmocka_unit_test(an_expired_certificate_tells),
        cmocka_unit_test(hosts_are_names_or_addresses),
        cmocka_unit_test(a_ca_is_kept_and_read_again),
        cmocka_unit_test(a_pin_is_of_the_first_certificate_alone),
        cmocka_unit_test(a_directory_is_whole_or_refused),
        cmocka_unit_test(an_insecure_directory_has_no_certificates),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
