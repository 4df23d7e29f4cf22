/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <openssl/err.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/secure/certs.h"
#include "coordinator/net/inner.h"

/* AES in hardware is there on everything this runs on; 128 bits of it are enough and cost less. */
#define TLS_CIPHERS "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define TLS_READ_BUFFER (64u << 10) /* one read brings several records */

/* The newest words of OpenSSL, and its queue empty. */
static void ssl_words(char to[TIDE_TEXT_MAX + 1])
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    bool alert = ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) >= SSL_AD_REASON_OFFSET;
    snprintf(to, TIDE_TEXT_MAX + 1, "%s%s", alert ? "it refused us: " : "", reason ? reason : "the connection broke");
    ERR_clear_error();
}

/* ---- a socket that raises no SIGPIPE, whoever's process this is ---- */

static int bio_fd(BIO *bio)
{
    return (int)(intptr_t)BIO_get_data(bio);
}

static int bio_done(BIO *bio, ssize_t n, int flag)
{
    BIO_clear_retry_flags(bio);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        BIO_set_flags(bio, flag | BIO_FLAGS_SHOULD_RETRY);
    return (int)n;
}

static int bio_write(BIO *bio, const char *data, int bytes)
{
    return bio_done(bio, send(bio_fd(bio), data, (size_t)bytes, MSG_NOSIGNAL), BIO_FLAGS_WRITE);
}

static int bio_read(BIO *bio, char *data, int bytes)
{
    return bio_done(bio, recv(bio_fd(bio), data, (size_t)bytes, 0), BIO_FLAGS_READ);
}

static long bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *socket_method;
static uv_once_t socket_method_once = UV_ONCE_INIT;

static void socket_method_make(void)
{
    socket_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket without signals");
    BIO_meth_set_write(socket_method, bio_write);
    BIO_meth_set_read(socket_method, bio_read);
    BIO_meth_set_ctrl(socket_method, bio_ctrl);
}

/* ---- our own certificate ---- */

static int no_passphrase(char *to, int room, int writing, void *arg)
{
    (void)to, (void)room, (void)writing, (void)arg;
    return 0; /* a daemon has nobody to ask */
}

enum tide_status tls_name(SSL *ssl, struct cert_name *ret_name, struct err *err)
{
    X509 *cert = SSL_get0_peer_certificate(ssl);
    return cert ? cert_name_of(cert, ret_name, err) : err_set(err, TIDE_E_INVALID, "there is no certificate");
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
    ssl_words(words);
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

enum tide_status tls_open(const struct net_options *options, SSL_CTX **ret_tls, struct err *err)
{
    uv_once(&socket_method_once, socket_method_make);
    ERR_clear_error();
    SSL_CTX *tls = SSL_CTX_new(TLS_method());
    if (tls == NULL || SSL_CTX_set_min_proto_version(tls, TLS1_3_VERSION) != 1 ||
        SSL_CTX_set_ciphersuites(tls, TLS_CIPHERS) != 1) {
        SSL_CTX_free(tls);
        return err_set(err, TIDE_E_UNSUPPORTED, "this OpenSSL does not speak TLS 1.3");
    }
    SSL_CTX_set_verify(tls, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(tls, 0);
    SSL_CTX_set_read_ahead(tls, 1);
    SSL_CTX_set_default_read_buffer_len(tls, TLS_READ_BUFFER);
    enum tide_status status = load(options, tls, err);
    if (status != TIDE_OK) {
        SSL_CTX_free(tls);
        return status;
    }
    *ret_tls = tls;
    return TIDE_OK;
}

/* ---- a connection ---- */

SSL *tls_begin(SSL_CTX *tls, int fd, bool dialled)
{
    SSL *ssl = SSL_new(tls);
    BIO *bio = BIO_new(socket_method);
    if (ssl == NULL || bio == NULL) {
        SSL_free(ssl);
        BIO_free(bio);
        return NULL;
    }
    BIO_set_data(bio, (void *)(intptr_t)fd);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    if (dialled)
        SSL_set_connect_state(ssl);
    else
        SSL_set_accept_state(ssl);
    return ssl;
}

static enum io outcome(SSL *ssl, int done, char ret_why[TIDE_TEXT_MAX + 1])
{
    int number = errno;
    switch (done == 1 ? SSL_ERROR_NONE : SSL_get_error(ssl, done)) {
    case SSL_ERROR_NONE:
        return IO_DONE;
    case SSL_ERROR_WANT_READ:
        return IO_AGAIN;
    case SSL_ERROR_WANT_WRITE:
        return IO_AGAIN_WRITE;
    case SSL_ERROR_ZERO_RETURN:
        return IO_END;
    case SSL_ERROR_SYSCALL:
        if (ERR_peek_error() == 0 && number == 0)
            return IO_END;
        if (ERR_peek_error() == 0) {
            struct err err = {0};
            errno = number;
            err_errno(&err, "the connection broke");
            text_copy(ret_why, TIDE_TEXT_MAX + 1, err.text);
            return IO_FAILED;
        }
        break;
    default:
        break;
    }
    long verdict = SSL_get_verify_result(ssl);
    if (verdict != X509_V_OK) {
        snprintf(ret_why, TIDE_TEXT_MAX + 1, "its certificate is not good: %s", X509_verify_cert_error_string(verdict));
        ERR_clear_error();
    } else {
        ssl_words(ret_why);
    }
    return IO_FAILED;
}

enum io tls_shake(SSL *ssl, char ret_why[TIDE_TEXT_MAX + 1])
{
    ERR_clear_error();
    errno = 0;
    return outcome(ssl, SSL_do_handshake(ssl), ret_why);
}

enum io tls_read(SSL *ssl, void *to, size_t room, size_t *ret_bytes, char ret_why[TIDE_TEXT_MAX + 1])
{
    ERR_clear_error();
    errno = 0;
    return outcome(ssl, SSL_read_ex(ssl, to, room, ret_bytes), ret_why);
}

enum io tls_write(SSL *ssl, const void *from, size_t bytes, size_t *ret_bytes, char ret_why[TIDE_TEXT_MAX + 1])
{
    ERR_clear_error();
    errno = 0;
    return outcome(ssl, SSL_write_ex(ssl, from, bytes, ret_bytes), ret_why);
}
