/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_WIRE_IDENTITY_H
#define CKPT_WIRE_IDENTITY_H

/* Who a process is and whom it belongs to: the name in its certificate, and identity.json beside that certificate.
 *
 * An identity directory holds identity.json, ca.pem, cert.pem and key.pem (the last three are absent in an insecure one). */

#include "ckpt/wire/access.h"

#define IDENTITY_FILE "identity.json"
#define IDENTITY_CA_FILE "ca.pem"
#define IDENTITY_CERT_FILE "cert.pem"
#define IDENTITY_KEY_FILE "key.pem"
#define IDENTITY_FORMAT 1         /* newest identity.json that is understood here */
#define IDENTITY_BYTES_MAX 262144 /* of identity.json */
#define MEMBERS_MAX 16            /* of a group, voters and learners */
#define MEMBER_ID_MAX 65535
#define API_URL_MAX (ADDRESS_MAX + 8) /* bytes of "https://host:port" */

/* ---- the name in a certificate ---- */

/* One URI in its subjectAltName:
 *   tidemark://<cluster uid>/member/<id>
 *   tidemark://<cluster uid>/agent/<node name, or * for any>
 *   tidemark://<cluster uid>/client/<name>?role=<role>
 * The role stands in the name because the name is what the CA has signed, and all that is ever compared: no second field
 * can be forgotten, and a tool that prints the certificate shows it. */
enum cert_kind { CERT_MEMBER, CERT_AGENT, CERT_CLIENT };

#define CERT_SCHEME "tidemark://"
#define CERT_NAME_MAX 160 /* bytes of such a URI */

struct cert_name {
    char cluster[TIDE_UID_CHARS + 1];
    unsigned kind;                /* enum cert_kind */
    uint32_t member;              /* member: its id, 1..MEMBER_ID_MAX */
    char name[TIDE_NAME_MAX + 1]; /* agent: node, or "*"; client: its name */
    unsigned role;                /* client: enum access_role; a member's is ROLE_ADMIN, an agent's ROLE_AGENT */
};

/* The URI of a valid name. */
void cert_name_format(const struct cert_name *name, char ret_uri[CERT_NAME_MAX + 1]);
/* Fills role for every kind. Errors: INVALID for anything cert_name_format would not have written. */
MUST_USE enum tide_status cert_name_parse(const char *uri, struct cert_name *ret_name, struct err *err);

/* TIDE_UID_CHARS lower-case hex digits. */
bool cluster_uid_valid(const char *uid);

/* ---- which of its histories ---- */

/* A group that has lost a majority for good goes on with one member (tidemarkd recover), and whoever was left behind holds
 * another history of the same cluster. The recovery epoch tells them apart. 0: never recovered. Else how often stands in
 * the upper half, and in the lower half a mark drawn at random: two members that were recovered, neither knowing of the
 * other, are not of one history either. */
#define EPOCH_UNKNOWN UINT64_MAX /* who says it has no data of a group yet */
#define EPOCH_NUMBER_MAX 0x7fffffffu
#define EPOCH_TEXT_MAX 20 /* bytes of "2147483647-89abcdef" */

/* Errors: LIMIT. */
MUST_USE enum tide_status epoch_next(uint64_t epoch, uint32_t mark, uint64_t *ret_epoch, struct err *err);
/* "0", or "2-00c0ffee". */
void epoch_format(uint64_t epoch, char ret_text[EPOCH_TEXT_MAX + 1]);
/* Errors: INVALID for anything epoch_format would not have written. */
MUST_USE enum tide_status epoch_parse(const char *text, uint64_t *ret_epoch, struct err *err);
/* Whether who knows of the epoch `known` must not follow one of `told`: it is older, or as old and another. */
bool epoch_stale(uint64_t told, uint64_t known);

/* ---- identity.json ---- */

struct member_address {
    uint32_t id;
    char peer[ADDRESS_MAX + 1]; /* "host:port" or "[v6]:port": other members reach it at */
    char api[API_URL_MAX + 1];  /* "https://host:port", or http:// in an insecure group: clients reach it at */
    bool added;                 /* after the group was made: it is not one of those that founded it */
};
extern const struct codec member_address_codec;

struct identity {
    uint32_t format;
    char cluster[TIDE_UID_CHARS + 1];
    uint32_t member; /* own id; 0: agent or client */
    bool joining;    /* this member is added to a group that exists: it starts empty and waits to be contacted */
    bool insecure;   /* no certificates: plain connections, loopback only */
    LIST_OF(struct member_address) members; /* as known when the directory was made; the group's own list counts later */
    LIST_OF(struct token) tokens;           /* that the first state of the group has; members only */
};
extern const struct codec identity_codec;

/* From the text of identity.json; unknown fields are passed over, but not an unknown format.
 * Errors: INVALID, VERSION; nothing is left to release then. */
MUST_USE enum tide_status identity_parse(const char *text, size_t bytes, struct identity *ret_identity, struct err *err);
/* What identity_parse demands beyond the fields: distinct ids and addresses, own id among them. Errors: INVALID, VERSION. */
MUST_USE enum tide_status identity_check(const struct identity *identity, struct err *err);
/* NULL when there is no such member. */
const struct member_address *identity_member(const struct identity *identity, uint32_t id);

/* Is it on this host only, whoever asks: 127.x.x.x, ::1 or localhost, with a port? */
bool address_loopback(const char *address);
/* "host:port" or "[v6]:port" into its parts. Errors: INVALID. */
MUST_USE enum tide_status address_split(const char *address, char ret_host[ADDRESS_MAX + 1], uint32_t *ret_port,
                                        struct err *err);

#endif
