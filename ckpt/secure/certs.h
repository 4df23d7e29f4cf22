/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_SECURE_CERTS_H
#define CKPT_SECURE_CERTS_H

/* A cluster's own certificate authority, and the certificates it gives. */

#include "ckpt/secure/secret.h"
#include "ckpt/wire/identity.h"

#define CERT_DAYS_CA 7300      /* twenty years: it is renewed by making a cluster's certificates anew */
#define CERT_DAYS_MACHINE 3650 /* members and agents: ten years, or a group ends on a day that nobody remembers */
#define CERT_DAYS_CLIENT 365   /* people leave */
#define CERT_PEM_MAX 65536u    /* bytes of a PEM file that is read */
#define CERT_HOSTS_MAX 64u

struct ca;
struct x509_st; /* OpenSSL's X509 */

/* A new key and a certificate for it that names the cluster. Errors: IO. */
MUST_USE enum tide_status ca_create(const char *cluster, struct ca **ret_ca, struct err *err);
/* From PEM. Errors: INVALID (not PEM, or the key is not that of the certificate). */
MUST_USE enum tide_status ca_parse(const char *cert_pem, const char *key_pem, struct ca **ret_ca, struct err *err);
void ca_free(struct ca *ca); /* NULL is legal */

/* PEM texts on the heap; wipe a key's before it is freed (cert_key_free). */
MUST_USE char *ca_cert_pem(const struct ca *ca);
MUST_USE char *ca_key_pem(const struct ca *ca);
void cert_key_free(char *key_pem);

/* A new key and a certificate with the URI of `name`, good for `days` from now (an hour ago, as clocks differ). A member's
 * is for both ends of a connection and names `hosts`: DNS names and IP addresses; an agent's and a client's is for
 * clients. Errors: INVALID (a host that is none), IO. */
MUST_USE enum tide_status ca_issue(const struct ca *ca, const struct cert_name *name, const struct strlist *hosts,
                                   unsigned days, char **ret_cert_pem, char **ret_key_pem, struct err *err);

/* The name in a certificate. Errors: INVALID when it has none of ours, or more than one. */
MUST_USE enum tide_status cert_name_of(struct x509_st *cert, struct cert_name *ret_name, struct err *err);
/* The name in the first certificate of a PEM text, which must have been issued by the one in ca_pem and be that of key_pem.
 * Whether it has expired is not asked: ret_days_left tells, 0 when it has. Errors: INVALID. */
MUST_USE enum tide_status cert_check(const char *cert_pem, const char *key_pem, const char *ca_pem, struct cert_name *ret_name,
                                     unsigned *ret_days_left, struct err *err);

/* SHA-256 of the public key (SubjectPublicKeyInfo) of the first certificate of a PEM text, and that certificate alone in
 * PEM: whoever has checked the pin trusts this one and not what came behind it. ret_pem may be NULL. Errors: INVALID. */
MUST_USE enum tide_status cert_pin(const char *pem, char ret_pin[SHA256_HEX_CHARS + 1], char **ret_pem, struct err *err);

MUST_USE enum tide_status cert_pin_of(struct x509_st *cert, char ret_pin[SHA256_HEX_CHARS + 1], struct err *err);

/* A certificate that a key signs for itself, with nothing in it that counts. *key_pem NULL: a new key is made. Errors: INVALID (no key in
 * PEM), IO. */
MUST_USE enum tide_status cert_self(char **key_pem, char **ret_cert_pem, struct err *err);

#endif
