/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_SECURE_TLS_H
#define CKPT_SECURE_TLS_H

/* TLS 1.3 with a certificate on each side, on a non-blocking socket or without one. OpenSSL. */

#include <stdbool.h>
#include <stddef.h>

#include "ckpt/secure/certs.h"
#include "ckpt/secure/port_key.h"

struct ssl_st;     /* OpenSSL's SSL */
struct ssl_ctx_st; /* … SSL_CTX */

/* One side of connections, without a certificate yet; the other side must show one, of the CAs that are loaded into it.
 * Errors: UNSUPPORTED. */
MUST_USE enum tide_status tls_create(struct ssl_ctx_st **ret_tls, struct err *err);
/* … with this key, and anybody's on the other side: tls_pin says whose, and somebody who knows must look. Errors: INVALID. */
MUST_USE enum tide_status tls_create_pinned(const struct port_key *key, struct ssl_ctx_st **ret_tls, struct err *err);
void tls_free(struct ssl_ctx_st *tls); /* NULL is legal */

/* OpenSSL's newest words, and its queue empty. */
void tls_words(char ret_words[TIDE_TEXT_MAX + 1]);

/* ---- on a socket ---- */

/* END: the other side closed it. BROKEN: the network did, which says nothing about who is there. FAILED: what was said is not
 * as it must be, by either side's judgement. */
enum io { IO_DONE, IO_AGAIN, IO_AGAIN_WRITE, IO_END, IO_BROKEN, IO_FAILED };

/* NULL: no memory. */
struct ssl_st *tls_begin(struct ssl_ctx_st *tls, int fd, bool dialled);
enum io tls_shake(struct ssl_st *ssl, char ret_why[TIDE_TEXT_MAX + 1]);
enum io tls_read(struct ssl_st *ssl, void *to, size_t room, size_t *ret_bytes, char ret_why[TIDE_TEXT_MAX + 1]);
enum io tls_write(struct ssl_st *ssl, const void *from, size_t bytes, size_t *ret_bytes, char ret_why[TIDE_TEXT_MAX + 1]);

/* ---- who it is, once shaken ---- */

/* The name in the other side's certificate. Errors: INVALID. */
MUST_USE enum tide_status tls_name(struct ssl_st *ssl, struct cert_name *ret_name, struct err *err);
/* The pin of its key. Errors: INVALID. */
MUST_USE enum tide_status tls_pin(struct ssl_st *ssl, char ret_pin[SHA256_HEX_CHARS + 1], struct err *err);

/* ---- without a socket: for streams that somebody else reads and writes ---- */

#define TLS_FIRST_BYTE 0x16 /* what a connection with TLS begins with */

struct tls_pipe;
struct tls_pipe *tls_pipe_create(struct ssl_ctx_st *tls, bool dialled); /* NULL: no memory */
void tls_pipe_free(struct tls_pipe *pipe);                              /* NULL is legal */
struct ssl_st *tls_pipe_ssl(const struct tls_pipe *pipe);
bool tls_pipe_shaken(const struct tls_pipe *pipe);
/* What came from the other side. */
void tls_pipe_feed(struct tls_pipe *pipe, const void *data, size_t bytes);
/* What it says, after the handshake, which is made by this. AGAIN: more must be fed. */
enum io tls_pipe_read(struct tls_pipe *pipe, void *to, size_t room, size_t *ret_bytes, char ret_why[TIDE_TEXT_MAX + 1]);
/* To be said; only once shaken. All of it, or neither DONE nor AGAIN. */
enum io tls_pipe_write(struct tls_pipe *pipe, const void *from, size_t bytes, char ret_why[TIDE_TEXT_MAX + 1]);
/* What is to go to the other side, after each of the above; heap. NULL: nothing. */
char *tls_pipe_take(struct tls_pipe *pipe, size_t *ret_bytes);

#endif
