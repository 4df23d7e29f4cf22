/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_WIRE_ACCESS_H
#define CKPT_WIRE_ACCESS_H

/* Who may do what: roles, and the bearer tokens that carry one. */

#include "ckpt/wire/node.h"

#define TOKENS_MAX 1024      /* of a cluster, expired ones included */
#define TOKEN_HASH_CHARS 64  /* hex digits of a SHA-256 */

/* A viewer looks, an operator runs jobs and drains nodes, an admin gives tokens and changes the group. An agent speaks for
 * its node and reads nothing else: a role beside the others, not below them. */
enum access_role { ROLE_NONE, ROLE_AGENT, ROLE_VIEWER, ROLE_OPERATOR, ROLE_ADMIN };
extern const char *const role_names[];

/* Whether a caller of role `has` may do what asks for at least `least`; ROLE_NONE is what everybody may do. */
bool role_allows(unsigned has, unsigned least);
/* A role by name, ROLE_NONE excepted; nonzero when it is none. */
int role_parse(const char *name, unsigned *ret_role);

/* What is kept of a token. The secret is 256 random bits, so that nobody finds it by trying and its plain SHA-256 gives
 * nothing away: salts and slow hashes are for secrets that people choose. */
struct token {
    char name[TIDE_NAME_MAX + 1];
    unsigned role;                   /* enum access_role */
    char hash[TOKEN_HASH_CHARS + 1]; /* SHA-256 of the secret as text */
    char node[TIDE_NAME_MAX + 1];    /* role agent: the one node it may speak for; empty: any */
    uint64_t created_ms;             /* wall clock of the leader */
    uint64_t expires_ms;             /* 0: never */
};
extern const struct codec token_codec;

/* GET /v1/tokens; hashes are left out. */
struct token_list {
    LIST_OF(struct token) tokens;
};
extern const struct codec token_list_codec;

/* POST /v1/tokens. Whoever asks chooses the secret and sends its hash: the secret itself travels only with the calls it is
 * for, and an answer that was lost can be asked for again. */
struct token_request {
    char name[TIDE_NAME_MAX + 1];
    unsigned role;
    char hash[TOKEN_HASH_CHARS + 1];
    char node[TIDE_NAME_MAX + 1];
    uint64_t ttl_ms; /* 0: for ever */
};
extern const struct codec token_request_codec;

/* ---- certificates that count no more ---- */

#define REVOCATIONS_MAX 1024
#define SERIAL_CHARS 40                     /* hex digits of a certificate's serial number, at most */
#define REVOKED_MAX (TIDE_NAME_MAX + 8)     /* bytes of such a name */

/* Whose: "agent:<node>", "agent:*" (that is not bound to a node), "client:<name>", or one certificate, "serial:<hex>", lower
 * case and without zeros in front. A name stands for all its certificates, also those that are issued later. A member's
 * counts while it is in the group, and no longer. */
struct revocation {
    char what[REVOKED_MAX + 1];
    uint64_t since_ms; /* wall clock of the leader */
};
extern const struct codec revocation_codec;

/* GET /v1/revocations */
struct revocation_list {
    LIST_OF(struct revocation) revocations;
};
extern const struct codec revocation_list_codec;

/* Errors: INVALID, in words. */
MUST_USE enum tide_status revocation_check(const char *what, struct err *err);
/* Of the bytes of a serial number, the first one the highest; empty: more than there may be. */
void serial_format(const unsigned char *bytes, size_t count, char ret_text[SERIAL_CHARS + 1]);

/* Hash as above: exactly TOKEN_HASH_CHARS lower-case hex digits. */
bool token_hash_valid(const char *hash);
/* Errors: INVALID with the field. For tokens that come from outside of the replicated state. */
MUST_USE enum tide_status token_check(const struct token *token, struct err *err);

#endif
