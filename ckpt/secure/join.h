/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_SECURE_JOIN_H
#define CKPT_SECURE_JOIN_H

/* The join token: one word that lets a new host's agent in. It carries the pin of the cluster's CA, so that the agent
 * knows the coordinators before it has anything else of the cluster's, and a secret by which they know the agent. */

#include "ckpt/secure/secret.h"

#define JOIN_PREFIX "tidejoin1" /* the number is the version of the format */
#define JOIN_CHARS 144          /* "tidejoin1.<pin>.<secret>" */

struct join {
    char pin[SHA256_HEX_CHARS + 1]; /* as of cert_pin */
    char secret[SECRET_CHARS + 1];  /* a bearer token */
};

void join_format(const struct join *join, char ret_text[JOIN_CHARS + 1]);
/* Blanks and newlines around it are passed over. Errors: INVALID; the text, a secret, is not repeated. */
MUST_USE enum tide_status join_parse(const char *text, struct join *ret_join, struct err *err);

#endif
