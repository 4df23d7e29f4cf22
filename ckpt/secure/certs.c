/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/secure/certs.h"

#include <arpa/inet.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "ckpt/base/mem.h"

#define SERIAL_BITS 127
#define SECONDS_PER_DAY 86400L
#define SKEW_S 3600L /* clocks of new hosts are behind by so much at most */

struct ca {
    EVP_PKEY *key;
    X509 *cert;
};

static enum tide_status failed(struct err *err, const char *what)
{
    char reason[160];
    ERR_error_string_n(ERR_peek_last_error(), reason, sizeof reason);
    ERR_clear_error();
    return err_set(err, TIDE_E_IO, "%s: %s", what, reason);
}

/* ---- PEM ---- */

static char *bio_text(BIO *bio)
{
    char *data;
    long n = BIO_get_mem_data(bio, &data);
    char *text = mem_alloc((size_t)n + 1);
    memcpy(text, data, (size_t)n);
    BIO_free(bio);
    return text;
}

static char *cert_text(X509 *cert)
{
    BIO *bio = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(bio, cert);
    return bio_text(bio);
}

static char *key_text(EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_secmem());
    PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
    return bio_text(bio);
}

static X509 *cert_read(const char *pem)
{
    BIO *bio = BIO_new_mem_buf(pem, -1);
    X509 *cert = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    ERR_clear_error();
    return cert;
}

/* A key with a passphrase is none for a daemon: the empty one is tried instead of asking the terminal. */
static EVP_PKEY *key_read(const char *pem)
{
    char none[] = "";
    BIO *bio = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, NULL, none);
    BIO_free(bio);
    ERR_clear_error();
    return key;
}

char *ca_cert_pem(const struct ca *ca)
{
    return cert_text(ca->cert);
}

char *ca_key_pem(const struct ca *ca)
{
    return key_text(ca->key);
}

void cert_key_free(char *key_pem)
{
    if (key_pem != NULL)
        secret_wipe(key_pem, strlen(key_pem));
    mem_free(key_pem);
}

/* ---- making certificates ---- */

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    bool good = extension != NULL && X509_add_ext(cert, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return good;
}

static bool set_serial(X509 *cert)
{
    BIGNUM *number = BN_new();
    bool good = BN_rand(number, SERIAL_BITS, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) == 1 &&
                BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;
    BN_free(number);
    return good;
}

static bool set_subject(X509 *cert, const char *common_name)
{
    X509_NAME *subject = X509_get_subject_name(cert);
    return X509_NAME_add_entry_by_txt(subject, "O", MBSTRING_ASC, (const unsigned char *)"tidemark", -1, -1, 0) == 1 &&
           X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)common_name, -1, -1, 0) == 1;
}

static bool set_basics(X509 *cert, EVP_PKEY *key, const char *common_name, unsigned days)
{
    return X509_set_version(cert, X509_VERSION_3) == 1 && set_serial(cert) &&
           X509_gmtime_adj(X509_getm_notBefore(cert), -SKEW_S) != NULL &&
           X509_gmtime_adj(X509_getm_notAfter(cert), (long)days * SECONDS_PER_DAY) != NULL &&
           X509_set_pubkey(cert, key) == 1 && set_subject(cert, common_name);
}

enum tide_status ca_create(const char *cluster, struct ca **ret_ca, struct err *err)
{
    struct ca *ca = mem_alloc(sizeof *ca);
    char name[64];
    snprintf(name, sizeof name, "tidemark cluster %s", cluster);
    ca->key = EVP_EC_gen("P-256");
    ca->cert = X509_new();
    bool good = ca->key != NULL && ca->cert != NULL && set_basics(ca->cert, ca->key, name, CERT_DAYS_CA) &&
                X509_set_issuer_name(ca->cert, X509_get_subject_name(ca->cert)) == 1 &&
                add_extension(ca->cert, ca->cert, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
                add_extension(ca->cert, ca->cert, NID_key_usage, "critical,keyCertSign,cRLSign") &&
                add_extension(ca->cert, ca->cert, NID_subject_key_identifier, "hash") &&
                X509_sign(ca->cert, ca->key, EVP_sha256()) > 0;
    if (!good) {
        ca_free(ca);
        return failed(err, "no certificate authority could be made");
    }
    *ret_ca = ca;
    return TIDE_OK;
}

enum tide_status ca_parse(const char *cert_pem, const char *key_pem, struct ca **ret_ca, struct err *err)
{
    struct ca *ca = mem_alloc(sizeof *ca);
    ca->cert = cert_read(cert_pem);
    ca->key = key_read(key_pem);
    enum tide_status status = TIDE_OK;
    if (ca->cert == NULL)
        status = err_set(err, TIDE_E_INVALID, "the CA's certificate is not a certificate in PEM");
    else if (ca->key == NULL)
        status = err_set(err, TIDE_E_INVALID, "the CA's key is not a key in PEM without a passphrase");
    else if (X509_check_private_key(ca->cert, ca->key) != 1)
        status = err_set(err, TIDE_E_INVALID, "the CA's key is not that of the CA's certificate");
    ERR_clear_error();
    if (status != TIDE_OK) {
        ca_free(ca);
        return status;
    }
    *ret_ca = ca;
    return TIDE_OK;
}

void ca_free(struct ca *ca)
{
    if (ca == NULL)
        return;
    EVP_PKEY_free(ca->key);
    X509_free(ca->cert);
    mem_free(ca);
}

static bool add_text_name(GENERAL_NAMES *names, int type, const char *text)
{
    GENERAL_NAME *name = GENERAL_NAME_new();
    ASN1_IA5STRING *value = ASN1_IA5STRING_new();
    if (name == NULL || value == NULL || ASN1_STRING_set(value, text, -1) != 1)
        return false;
    GENERAL_NAME_set0_value(name, type, value);
    return sk_GENERAL_NAME_push(names, name) > 0;
}

static bool add_host(GENERAL_NAMES *names, const char *host)
{
    ASN1_OCTET_STRING *address = a2i_IPADDRESS(host);
    if (address == NULL) {
        ERR_clear_error();
        return add_text_name(names, GEN_DNS, host);
    }
    GENERAL_NAME *name = GENERAL_NAME_new();
    GENERAL_NAME_set0_value(name, GEN_IPADD, address);
    return sk_GENERAL_NAME_push(names, name) > 0;
}

static bool host_plausible(const char *host)
{
    static const char dns[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.-_";
    unsigned char address[sizeof(struct in6_addr)];
    size_t n = strlen(host);
    return (n > 0 && n <= ADDRESS_MAX && strspn(host, dns) == n) || inet_pton(AF_INET6, host, address) == 1;
}

static bool add_alt_names(X509 *cert, const char *uri, const struct strlist *hosts)
{
    GENERAL_NAMES *names = GENERAL_NAMES_new();
    bool good = names != NULL && add_text_name(names, GEN_URI, uri);
    for (size_t i = 0; good && hosts != NULL && i < hosts->count; i++)
        good = add_host(names, hosts->items[i]);
    good = good && X509_add1_ext_i2d(cert, NID_subject_alt_name, names, 0, X509V3_ADD_DEFAULT) == 1;
    GENERAL_NAMES_free(names);
    return good;
}

static bool make_leaf(const struct ca *ca, const struct cert_name *name, const struct strlist *hosts, unsigned days,
                      X509 *cert, EVP_PKEY *key)
{
    char uri[CERT_NAME_MAX + 1], common[TIDE_NAME_MAX + 1];
    cert_name_format(name, uri);
    if (name->kind == CERT_MEMBER)
        snprintf(common, sizeof common, "member %u", name->member);
    else
        text_copy(common, sizeof common, name->name);
    return set_basics(cert, key, common, days) && X509_set_issuer_name(cert, X509_get_subject_name(ca->cert)) == 1 &&
           add_extension(cert, ca->cert, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(cert, ca->cert, NID_key_usage, "critical,digitalSignature") &&
           add_extension(cert, ca->cert, NID_ext_key_usage,
                         name->kind == CERT_MEMBER ? "serverAuth,clientAuth" : "clientAuth") &&
           add_extension(cert, ca->cert, NID_authority_key_identifier, "keyid:always") && add_alt_names(cert, uri, hosts) &&
           X509_sign(cert, ca->key, EVP_sha256()) > 0;
}

enum tide_status ca_issue(const struct ca *ca, const struct cert_name *name, const struct strlist *hosts, unsigned days,
                          char **ret_cert_pem, char **ret_key_pem, struct err *err)
{
    for (size_t i = 0; hosts != NULL && i < hosts->count; i++)
        if (i >= CERT_HOSTS_MAX || !host_plausible(hosts->items[i]))
            return err_set(err, TIDE_E_INVALID, "\"%.100s\" cannot be a host of a certificate", hosts->items[i]);
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    enum tide_status status = TIDE_OK;
    if (key == NULL || cert == NULL || !make_leaf(ca, name, hosts, days, cert, key))
        status = failed(err, "no certificate could be made");
    if (status == TIDE_OK) {
        *ret_cert_pem = cert_text(cert);
        *ret_key_pem = key_text(key);
    }
    X509_free(cert);
    EVP_PKEY_free(key);
    return status;
}

/* ---- reading them ---- */

enum tide_status cert_name_of(struct x509_st *cert, struct cert_name *ret_name, struct err *err)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
    char uri[CERT_NAME_MAX + 1] = "";
    unsigned found = 0;
    for (int i = 0; names != NULL && i < sk_GENERAL_NAME_num(names); i++) {
        const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
        if (name->type != GEN_URI)
            continue;
        const char *text = (const char *)ASN1_STRING_get0_data(name->d.uniformResourceIdentifier);
        size_t n = (size_t)ASN1_STRING_length(name->d.uniformResourceIdentifier);
        /* A NUL inside would make two readers see two names. */
        if (n < strlen(CERT_SCHEME) || strncmp(text, CERT_SCHEME, strlen(CERT_SCHEME)) != 0 || n > CERT_NAME_MAX ||
            memchr(text, '\0', n) != NULL)
            continue;
        memcpy(uri, text, n);
        uri[n] = '\0';
        found++;
    }
    GENERAL_NAMES_free(names);
    ERR_clear_error();
    if (found != 1)
        return err_set(err, TIDE_E_INVALID, "the certificate carries %s name of a tidemark cluster; it must carry one",
                       found ? "more than one" : "no");
    return cert_name_parse(uri, ret_name, err);
}

static enum tide_status check_issued(X509 *cert, X509 *ca, struct err *err)
{
    if (X509_check_issued(ca, cert) == X509_V_OK && X509_verify(cert, X509_get0_pubkey(ca)) == 1)
        return TIDE_OK;
    ERR_clear_error();
    return err_set(err, TIDE_E_INVALID, "the certificate was not issued by the CA beside it");
}

static unsigned days_left(X509 *cert)
{
    int days = 0, seconds = 0;
    ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(cert));
    /* On its last day it is still good. */
    return days > 0 ? (unsigned)days : days == 0 && seconds > 0;
}

enum tide_status cert_check(const char *cert_pem, const char *key_pem, const char *ca_pem, struct cert_name *ret_name,
                            unsigned *ret_days_left, struct err *err)
{
    X509 *cert = cert_read(cert_pem), *ca = cert_read(ca_pem);
    EVP_PKEY *key = key_read(key_pem);
    enum tide_status status;
    if (cert == NULL || ca == NULL)
        status =
            err_set(err, TIDE_E_INVALID, "%s is not a certificate in PEM", cert ? IDENTITY_CA_FILE : IDENTITY_CERT_FILE);
    else if (key == NULL)
        status = err_set(err, TIDE_E_INVALID, IDENTITY_KEY_FILE " is not a key in PEM without a passphrase");
    else if (X509_check_private_key(cert, key) != 1)
        status = err_set(err, TIDE_E_INVALID, IDENTITY_KEY_FILE " is not the key of " IDENTITY_CERT_FILE);
    else
        status = check_issued(cert, ca, err);
    if (status == TIDE_OK)
        status = cert_name_of(cert, ret_name, err);
    if (status == TIDE_OK)
        *ret_days_left = days_left(cert);
    ERR_clear_error();
    X509_free(cert);
    X509_free(ca);
    EVP_PKEY_free(key);
    return status;
}

enum tide_status cert_pin_of(struct x509_st *cert, char ret_pin[SHA256_HEX_CHARS + 1], struct err *err)
{
    unsigned char *der = NULL;
    int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
    if (n <= 0)
        return err_set(err, TIDE_E_INVALID, "the certificate has no key");
    sha256_hex(der, (size_t)n, ret_pin);
    OPENSSL_free(der);
    return TIDE_OK;
}

enum tide_status cert_pin(const char *pem, char ret_pin[SHA256_HEX_CHARS + 1], char **ret_pem, struct err *err)
{
    X509 *cert = cert_read(pem);
    if (cert == NULL)
        return err_set(err, TIDE_E_INVALID, "that is not a certificate in PEM");
    enum tide_status status = cert_pin_of(cert, ret_pin, err);
    if (status == TIDE_OK && ret_pem != NULL)
        *ret_pem = cert_text(cert);
    X509_free(cert);
    return status;
}

enum tide_status cert_self(char **key_pem, char **ret_cert_pem, struct err *err)
{
    EVP_PKEY *key = *key_pem != NULL ? key_read(*key_pem) : EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    enum tide_status status = TIDE_OK;
    if (key == NULL && *key_pem != NULL)
        status = err_set(err, TIDE_E_INVALID, "that is not a key in PEM without a passphrase");
    else if (key == NULL || cert == NULL || !set_basics(cert, key, "tidemark agent", CERT_DAYS_MACHINE) ||
             X509_set_issuer_name(cert, X509_get_subject_name(cert)) != 1 || X509_sign(cert, key, EVP_sha256()) <= 0)
        status = failed(err, "no certificate could be made");
    if (status == TIDE_OK) {
        *ret_cert_pem = cert_text(cert);
        if (*key_pem == NULL)
            *key_pem = key_text(key);
    }
    X509_free(cert);
    EVP_PKEY_free(key);
    return status;
}
