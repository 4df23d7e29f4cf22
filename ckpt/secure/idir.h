/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_SECURE_IDIR_H
#define CKPT_SECURE_IDIR_H

/* An identity directory (ckpt/wire/identity.h) on the disk. */

#include "ckpt/secure/certs.h"

#define CERT_DAYS_WARN 30u

struct idir {
    struct identity identity;
    struct cert_name name;                    /* in the certificate; all zero in an insecure directory */
    unsigned days_left;                       /* of the certificate; 0: expired */
    char *ca_file, *cert_file, *key_file;     /* paths; NULL in an insecure directory */
    char *ca_pem, *cert_pem, *key_pem;        /* their texts; … */
};

/* All of it, or an error: identity.json is valid, the certificate comes from the CA beside it, is that of the key, and says
 * what identity.json says; nobody else may read the key. Expiry is the caller's to judge.
 * Errors: NOT_FOUND, INVALID, VERSION, DENIED (key readable by others), IO; nothing is left to release then. */
MUST_USE enum tide_status idir_load(const char *path, struct idir *ret_idir, struct err *err);
void idir_release(struct idir *idir);

/* Make or replace one; PEM texts NULL: insecure. Errors: IO, NOSPACE. */
MUST_USE enum tide_status idir_save(const char *path, const struct identity *identity, const char *ca_pem,
                                    const char *cert_pem, const char *key_pem, struct err *err);

#endif
