/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/secure/tls.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"

/* AES in hardware is there on everything this runs on; 128 bits of it are enough and cost less. */
#define TLS_CIPHERS "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define TLS_READ_BUFFER (64u << 10) /* one read brings several records */

/* The newest words of OpenSSL, and its queue empty. */
void tls_words(char to[TIDE_TEXT_MAX + 1])
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;
    bool alert = ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) >= SSL_AD_REASON_OFFSET;
    text_say(to, TIDE_TEXT_MAX + 1, "%s%s", alert ? "it refused us: " : "", reason ? reason : "the connection broke");
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
static pthread_once_t socket_method_once = PTHREAD_ONCE_INIT;

static void socket_method_make(void)
{
    socket_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket without signals");
    BIO_meth_set_write(socket_method, bio_write);
    BIO_meth_set_read(socket_method, bio_read);
    BIO_meth_set_ctrl(socket_method, bio_ctrl);
}

/* ---- a side ---- */

enum tide_status tls_create(SSL_CTX **ret_tls, struct err *err)
{
    pthread_once(&socket_method_once, socket_method_make);
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
    *ret_tls = tls;
    return TIDE_OK;
}

void tls_free(SSL_CTX *tls)
{
    SSL_CTX_free(tls);
}

/* Whose key it is, its pin says: the certificate is only what TLS carries a key in. */
static int any_certificate(X509_STORE_CTX *store, void *arg)
{
    (void)store, (void)arg;
    return 1;
}

enum tide_status tls_create_pinned(const struct port_key *key, SSL_CTX **ret_tls, struct err *err)
{
    SSL_CTX *tls = NULL;
    enum tide_status status = tls_create(&tls, err);
    if (status != TIDE_OK)
        return status;
    BIO *cert_bio = BIO_new_mem_buf(key->cert_pem, -1), *key_bio = BIO_new_mem_buf(key->key_pem, -1);
    X509 *cert = PEM_read_bio_X509(cert_bio, NULL, NULL, NULL);
    EVP_PKEY *secret = PEM_read_bio_PrivateKey(key_bio, NULL, NULL, NULL);
    if (cert == NULL || secret == NULL || SSL_CTX_use_certificate(tls, cert) != 1 || SSL_CTX_use_PrivateKey(tls, secret) != 1)
        status = err_set(err, TIDE_E_INVALID, "the key of this agent's ports cannot be used");
    SSL_CTX_set_cert_verify_callback(tls, any_certificate, NULL);
    X509_free(cert);
    EVP_PKEY_free(secret);
    BIO_free(cert_bio);
    BIO_free(key_bio);
    ERR_clear_error();
    if (status != TIDE_OK)
        SSL_CTX_free(tls);
    else
        *ret_tls = tls;
    return status;
}

/* ---- who it is ---- */

enum tide_status tls_name(SSL *ssl, struct cert_name *ret_name, struct err *err)
{
    X509 *cert = SSL_get0_peer_certificate(ssl);
    return cert ? cert_name_of(cert, ret_name, err) : err_set(err, TIDE_E_INVALID, "there is no certificate");
}

enum tide_status tls_pin(SSL *ssl, char ret_pin[SHA256_HEX_CHARS + 1], struct err *err)
{
    X509 *cert = SSL_get0_peer_certificate(ssl);
    return cert ? cert_pin_of(cert, ret_pin, err) : err_set(err, TIDE_E_INVALID, "there is no certificate");
}

/* ---- a connection ---- */

/* It has the BIOs, which may be one. NULL: no memory; then they are gone. */
static SSL *side_create(SSL_CTX *tls, BIO *in, BIO *out, bool dialled)
{
    SSL *ssl = in != NULL && out != NULL ? SSL_new(tls) : NULL;
    if (ssl == NULL) {
        BIO_free(in);
        if (out != in)
            BIO_free(out);
        return NULL;
    }
    SSL_set_bio(ssl, in, out);
    if (dialled)
        SSL_set_connect_state(ssl);
    else
        SSL_set_accept_state(ssl);
    return ssl;
}

SSL *tls_begin(SSL_CTX *tls, int fd, bool dialled)
{
    BIO *bio = BIO_new(socket_method);
    if (bio != NULL) {
        BIO_set_data(bio, (void *)(intptr_t)fd);
        BIO_set_init(bio, 1);
    }
    return side_create(tls, bio, bio, dialled);
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
            text_fit(ret_why, TIDE_TEXT_MAX + 1, err.text);
            return IO_BROKEN;
        }
        break;
    default:
        break;
    }
    long verdict = SSL_get_verify_result(ssl);
    if (verdict != X509_V_OK) {
        text_say(ret_why, TIDE_TEXT_MAX + 1, "its certificate is not good: %s", X509_verify_cert_error_string(verdict));
        ERR_clear_error();
    } else {
        tls_words(ret_why);
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

/* ---- without a socket ---- */

struct tls_pipe {
    SSL *ssl;
    BIO *in, *out; /* the SSL's */
    bool shaken;
};

struct tls_pipe *tls_pipe_create(SSL_CTX *tls, bool dialled)
{
    struct tls_pipe *pipe = mem_alloc(sizeof *pipe);
    pipe->in = BIO_new(BIO_s_mem());
    pipe->out = BIO_new(BIO_s_mem());
    pipe->ssl = side_create(tls, pipe->in, pipe->out, dialled);
    if (pipe->ssl == NULL) {
        mem_free(pipe);
        return NULL;
    }
    return pipe;
}

void tls_pipe_free(struct tls_pipe *pipe)
{
    if (pipe == NULL)
        return;
    SSL_free(pipe->ssl);
    mem_free(pipe);
}

struct ssl_st *tls_pipe_ssl(const struct tls_pipe *pipe)
{
    return pipe->ssl;
}

bool tls_pipe_shaken(const struct tls_pipe *pipe)
{
    return pipe->shaken;
}

void tls_pipe_feed(struct tls_pipe *pipe, const void *data, size_t bytes)
{
    if (bytes > 0)
        BIO_write(pipe->in, data, (int)bytes);
}

enum io tls_pipe_read(struct tls_pipe *pipe, void *to, size_t room, size_t *ret_bytes, char ret_why[TIDE_TEXT_MAX + 1])
{
    if (!pipe->shaken) {
        enum io io = tls_shake(pipe->ssl, ret_why);
        if (io != IO_DONE)
            return io;
        pipe->shaken = true;
    }
    return tls_read(pipe->ssl, to, room, ret_bytes, ret_why);
}

enum io tls_pipe_write(struct tls_pipe *pipe, const void *from, size_t bytes, char ret_why[TIDE_TEXT_MAX + 1])
{
    for (size_t done = 0, n = 0; done < bytes; done += n) {
        enum io io = tls_write(pipe->ssl, (const char *)from + done, bytes - done, &n, ret_why);
        if (io != IO_DONE)
            return io == IO_AGAIN || io == IO_AGAIN_WRITE ? IO_FAILED : io; /* memory takes everything */
    }
    return IO_DONE;
}

char *tls_pipe_take(struct tls_pipe *pipe, size_t *ret_bytes)
{
    size_t waiting = BIO_ctrl_pending(pipe->out);
    *ret_bytes = waiting;
    if (waiting == 0)
        return NULL;
    char *data = mem_alloc(waiting);
    BIO_read(pipe->out, data, (int)waiting);
    return data;
}
