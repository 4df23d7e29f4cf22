/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <openssl/x509.h>

#include "ckpt/base/log.h"
#include "coordinator/net/inner.h"

static int no_passphrase(char *to, int room, int writing, void *arg)
{
    (void)to, (void)room, (void)writing, (void)arg;
    return 0; /* a daemon has nobody to ask */
}

static enum tide_status check_own(const struct net_options *options, SSL_CTX *tls, struct err *err)
{
    struct cert_name name;
    X509 *cert = SSL_CTX_get0_certificate(tls);
    if (cert_name_of(cert, &name, err) != TIDE_OK)
        return err_wrap(err, "%s", options->cert);
    if (name.kind != CERT_MEMBER || name.member != options->self || strcmp(name.cluster, options->cluster) != 0) {
        char uri[CERT_NAME_MAX + 1];
        cert_name_format(&name, uri);
        return err_set(err, TIDE_E_INVALID,
                       "%s is the certificate of %s, and this is member %" PRIu64 " of cluster %s; use the one made for it",
                       options->cert, uri, options->self, options->cluster);
    }
    if (X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0)
        log_error("%s has expired: no other member will talk to this one; issue a new one", options->cert);
    return TIDE_OK;
}

static enum tide_status fail(struct err *err, const char *what, const char *path)
{
    char words[TIDE_TEXT_MAX + 1];
    tls_words(words);
    return err_set(err, TIDE_E_INVALID, "cannot use %s %s: %s", what, path, words);
}

static enum tide_status load(const struct net_options *options, SSL_CTX *tls, struct err *err)
{
    SSL_CTX_set_default_passwd_cb(tls, no_passphrase);
    if (SSL_CTX_load_verify_locations(tls, options->ca, NULL) != 1)
        return fail(err, "the CA's certificate", options->ca);
    if (SSL_CTX_use_certificate_chain_file(tls, options->cert) != 1)
        return fail(err, "the certificate", options->cert);
    if (SSL_CTX_use_PrivateKey_file(tls, options->key, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(tls) != 1)
        return fail(err, "the key", options->key);
    return check_own(options, tls, err);
}

enum tide_status net_tls_open(const struct net_options *options, SSL_CTX **ret_tls, struct err *err)
{
    SSL_CTX *tls = NULL;
    enum tide_status status = tls_create(&tls, err);
    if (status == TIDE_OK)
        status = load(options, tls, err);
    if (status != TIDE_OK) {
        tls_free(tls);
        return status;
    }
    *ret_tls = tls;
    return TIDE_OK;
}
