/* SPDX-License-Identifier: Apache-2.0 */
/* cluster init and cluster issue: a cluster's CA and what it gives, on this machine's disk. No network. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/secure/idir.h"
#include "ckpt/secure/join.h"
#include "coordinator/cli/cluster.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/units.h"

#define PORT_API 7070
#define PORT_PEER 7071
#define PORT_MAX 65535
#define MEMBERS_USUAL_MAX 5
#define CA_KEY_FILE "ca.key"
#define CLUSTER_FILE "cluster.json"
#define JOIN_FILE "join-token"
#define AGENT_DIR "agent"
#define ADMIN_DIR "admin" /* and the name in its certificate */
#define ANY_NODE "*"
#define JOIN_NAME "join" /* of the token behind it */

/* ---- HOST[:API_PORT[:PEER_PORT]] ---- */

static bool take_port(const char **at, uint32_t *ret_port)
{
    char digits[8];
    uint64_t port;
    if (**at != ':')
        return **at == '\0';
    size_t n = strcspn(++*at, ":");
    snprintf(digits, sizeof digits, "%.*s", n < sizeof digits ? (int)n : 0, *at);
    *at += n;
    if (number_parse(digits, 1, PORT_MAX, &port, NULL) != TIDE_OK)
        return false;
    *ret_port = (uint32_t)port;
    return true;
}

enum tide_status member_parse(const char *text, bool insecure, struct member_address *m, struct fault *fault)
{
    char host[ADDRESS_MAX + 1];
    uint32_t api = PORT_API, peer = PORT_PEER, port;
    const char *at = text + (text[0] == '[' ? strcspn(text, "]") + 1 : strcspn(text, ":"));
    size_t n = (size_t)(at - text);
    bool good = text[0] != '[' || memchr(text, ']', n) != NULL;
    if (good && n > 0 && n + 8 < sizeof m->peer && take_port(&at, &api) && take_port(&at, &peer) && *at == '\0' &&
        api != peer) {
        snprintf(m->api, sizeof m->api, "%s://%.*s:%" PRIu32, insecure ? "http" : "https", (int)n, text, api);
        snprintf(m->peer, sizeof m->peer, "%.*s:%" PRIu32, (int)n, text, peer);
        bool address = address_split(m->peer, host, &port, NULL) == TIDE_OK;
        if (address && insecure && !address_loopback(m->peer))
            return fault_set(fault, TIDE_E_INVALID,
                             "name 127.0.0.1 with ports; other hosts need a cluster made without --insecure",
                             "%.100s: members without certificates talk on this machine only", text);
        if (address)
            return TIDE_OK;
    }
    return fault_set(fault, TIDE_E_INVALID, "write HOST[:API_PORT[:PEER_PORT]], as hosta, 10.0.0.11:7070:7071 or [fd00::1]",
                     "\"%.100s\" is not the address of a coordinator", text);
}

static enum tide_status check_count(size_t count, bool force, struct fault *fault)
{
    if (force || (count % 2 == 1 && count <= MEMBERS_USUAL_MAX))
        return TIDE_OK;
    if (count % 2 == 0)
        return fault_set(fault, TIDE_E_INVALID, "name one, three or five; --force if you know better",
                         "%zu members survive the loss of no more than %zu would: a majority of %zu is %zu", count,
                         count - 1, count, count / 2 + 1);
    return fault_set(fault, TIDE_E_INVALID, "five survive the loss of two; --force if you know better",
                     "with %zu members every decision waits for %zu of them", count, count / 2 + 1);
}

static enum tide_status parse_members(const struct cli *cli, struct identity *identity, struct fault *fault)
{
    struct err err = {0};
    enum tide_status status = check_count(cli->args.count, cli->options.force, fault);
    for (size_t i = 0; i < cli->args.count && status == TIDE_OK; i++) {
        struct member_address *m = codec_list_add(&member_address_codec, &identity->members);
        m->id = (uint32_t)i + 1;
        status = member_parse(cli->args.items[i], cli->options.insecure, m, fault);
    }
    if (status == TIDE_OK && identity_check(identity, &err) != TIDE_OK)
        status = fault_set(fault, err.status, "on one host, give each its ports: 127.0.0.1:7070:7071 127.0.0.1:7072:7073 …",
                           "%s", err.text);
    return status;
}

/* ---- identities ---- */

struct issue {
    const char *dir; /* of the cluster, or where it is being made */
    const struct identity *identity;
    const struct ca *ca; /* NULL: insecure */
    char *ca_pem;
};

/* A member is also reached at its own host as localhost. */
static void member_hosts(const struct member_address *m, struct strlist *hosts)
{
    char host[ADDRESS_MAX + 1];
    uint32_t port;
    static const char *const local[] = {"localhost", "127.0.0.1", "::1"};
    if (address_split(m->peer, host, &port, NULL) == TIDE_OK) /* the API is at the same host */
        strlist_add(hosts, host);
    for (size_t i = 0; i < sizeof local / sizeof local[0]; i++)
        if (hosts->count == 0 || strcmp(hosts->items[0], local[i]) != 0)
            strlist_add(hosts, local[i]);
}

/* What is written for `who`. A founding member learns of the founders alone: from them the group is made, whoever has been
 * added since. */
static void fill_own(const struct identity *all, const struct cert_name *who, struct identity *own)
{
    const struct member_address *self = who->kind == CERT_MEMBER ? identity_member(all, who->member) : NULL;
    codec_copy(&identity_codec, all, own);
    own->member = self ? self->id : 0;
    own->joining = self != NULL && self->added;
    bool founder = self != NULL && !self->added;
    for (size_t i = own->members.count; founder && i-- > 0;)
        if (own->members.items[i].added)
            codec_list_remove(&member_address_codec, &own->members, i);
    while (!founder && own->tokens.count > 0)
        codec_list_remove(&token_codec, &own->tokens, 0);
}

/* An identity directory DIR/NAME. */
static enum tide_status issue(const struct issue *to, const char *name, const struct cert_name *who, unsigned days,
                              struct err *err)
{
    struct identity own;
    fill_own(to->identity, who, &own);
    char *cert = NULL, *key = NULL, *path = mem_format("%s/%s", to->dir, name);
    struct strlist hosts = {0};
    if (who->kind == CERT_MEMBER)
        member_hosts(identity_member(&own, who->member), &hosts);
    enum tide_status status = to->ca ? ca_issue(to->ca, who, &hosts, days, &cert, &key, err) : TIDE_OK;
    if (status == TIDE_OK)
        status = idir_save(path, &own, to->ca_pem, cert, key, err);
    codec_release(&identity_codec, &own);
    strlist_release(&hosts);
    cert_key_free(key);
    mem_free(cert);
    mem_free(path);
    return status;
}

static struct cert_name name_of(const struct identity *identity, unsigned kind, const char *name)
{
    struct cert_name who = {.kind = kind, .role = kind == CERT_AGENT ? ROLE_AGENT : ROLE_ADMIN};
    text_copy(who.cluster, sizeof who.cluster, identity->cluster);
    text_copy(who.name, sizeof who.name, name);
    return who;
}

static enum tide_status put(const char *dir, const char *name, const char *text, mode_t mode, struct err *err)
{
    char *path = mem_format("%s/%s", dir, name);
    enum tide_status status = fsx_replace(path, text, strlen(text), mode, err);
    mem_free(path);
    return status;
}

/* What `issue` needs to know later: members, and hashes of tokens, but no secret. */
static enum tide_status put_cluster(const char *dir, const struct identity *identity, struct err *err)
{
    char *text = codec_print(&identity_codec, identity, CODEC_COMPACT), *line = mem_format("%s\n", text);
    enum tide_status status = put(dir, CLUSTER_FILE, line, 0644, err);
    mem_free(line);
    mem_free(text);
    return status;
}

/* ---- cluster init ---- */

/* The secret goes into the file, its hash into the members' identities: the first state has it. */
static enum tide_status make_join(struct identity *identity, const char *ca_pem, const char *dir, struct err *err)
{
    struct join join;
    char text[JOIN_CHARS + 1], line[JOIN_CHARS + 2];
    enum tide_status status = cert_pin(ca_pem, join.pin, NULL, err);
    if (status == TIDE_OK)
        status = secret_new(join.secret, err);
    if (status != TIDE_OK)
        return status;
    struct token *token = codec_list_add(&token_codec, &identity->tokens);
    token->role = ROLE_AGENT;
    text_copy(token->name, sizeof token->name, JOIN_NAME);
    sha256_hex(join.secret, strlen(join.secret), token->hash);
    join_format(&join, text);
    snprintf(line, sizeof line, "%s\n", text);
    status = put(dir, JOIN_FILE, line, 0600, err);
    secret_wipe(&join, sizeof join);
    secret_wipe(text, sizeof text);
    secret_wipe(line, sizeof line);
    return status;
}

static enum tide_status put_ca(const struct issue *to, struct err *err)
{
    char *key = ca_key_pem(to->ca);
    enum tide_status status = put(to->dir, CA_KEY_FILE, key, 0600, err);
    if (status == TIDE_OK)
        status = put(to->dir, IDENTITY_CA_FILE, to->ca_pem, 0644, err);
    cert_key_free(key);
    return status;
}

static enum tide_status make_members(const struct issue *to, struct err *err)
{
    enum tide_status status = TIDE_OK;
    for (size_t i = 0; i < to->identity->members.count && status == TIDE_OK; i++) {
        char name[32];
        struct cert_name who = name_of(to->identity, CERT_MEMBER, "");
        who.member = to->identity->members.items[i].id;
        snprintf(name, sizeof name, "member-%" PRIu32, who.member);
        status = issue(to, name, &who, CERT_DAYS_MACHINE, err);
    }
    return status;
}

static enum tide_status make_all(const char *dir, struct identity *identity, struct err *err)
{
    struct issue to = {.dir = dir, .identity = identity};
    struct ca *ca = NULL;
    struct cert_name agent = name_of(identity, CERT_AGENT, ANY_NODE), admin = name_of(identity, CERT_CLIENT, ADMIN_DIR);
    enum tide_status status = fsx_mkdirs(dir, 0700, err);
    if (status == TIDE_OK && !identity->insecure) {
        status = ca_create(identity->cluster, &ca, err);
        if (status != TIDE_OK)
            return status;
        to.ca = ca;
        to.ca_pem = ca_cert_pem(ca);
        status = put_ca(&to, err);
        if (status == TIDE_OK)
            status = make_join(identity, to.ca_pem, dir, err);
    }
    if (status == TIDE_OK)
        status = make_members(&to, err);
    if (status == TIDE_OK)
        status = issue(&to, AGENT_DIR, &agent, CERT_DAYS_MACHINE, err);
    if (status == TIDE_OK)
        status = issue(&to, ADMIN_DIR, &admin, CERT_DAYS_CLIENT, err);
    if (status == TIDE_OK)
        status = put_cluster(dir, identity, err);
    mem_free(to.ca_pem);
    ca_free(ca);
    return status;
}

/* Under another name first: a directory that is there is a whole one. */
static enum tide_status make_dir(const char *dir, struct identity *identity, struct err *err)
{
    char *making = mem_format("%s.new", dir);
    enum tide_status status = fsx_remove_tree(making, err);
    if (status == TIDE_OK)
        status = make_all(making, identity, err);
    if (status == TIDE_OK && rename(making, dir) != 0)
        status = errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR
                     ? err_set(err, TIDE_E_EXISTS, "%s exists already; remove it, or name another with --dir", dir)
                     : err_errno(err, "cannot make %s", dir);
    if (status != TIDE_OK)
        fsx_remove_tree(making, NULL);
    mem_free(making);
    return status;
}

static void print_urls(const struct identity *identity)
{
    for (size_t i = 0; i < identity->members.count; i++)
        printf("%s%s", i ? "," : "", identity->members.items[i].api);
}

static void print_next(const char *dir, const struct identity *identity)
{
    printf("Made cluster %s with %zu member%s in %s. What to do next:\n", identity->cluster, identity->members.count,
           identity->members.count == 1 ? "" : "s", dir);
    for (size_t i = 0; i < identity->members.count; i++) {
        const struct member_address *m = &identity->members.items[i];
        int n = (int)(strrchr(m->peer, ':') - m->peer);
        printf("\nCopy %s/member-%" PRIu32 " to %.*s, for nobody else to read, and run there:\n", dir, m->id, n, m->peer);
        printf("  tidemarkd --identity member-%" PRIu32 " --data DIR --store file:///DIR\n", m->id);
    }
    if (identity->insecure) {
        printf("\nOn this machine, for each node:\n  tidemark-agent --name NODE --coordinator ");
        print_urls(identity);
        printf("\n\nThen:\n  export TIDEMARK_COORDINATOR=");
        print_urls(identity);
        puts("");
    } else {
        printf("\nCopy %s/join-token to each host that trains, and run there:\n  tidemark-agent --name NODE --join-token "
               "join-token "
               "--coordinator ",
               dir);
        print_urls(identity);
        printf("\n\nThen, here or wherever you copy %s/admin to:\n  export TIDEMARK_IDENTITY=%s/admin\n", dir, dir);
    }
    puts("  tidemark cluster status");
    if (!identity->insecure)
        printf("\n%s/ca.key makes more identities (tidemark cluster issue): keep it where no daemon runs.\n", dir);
}

static int report(const struct err *err)
{
    struct fault fault = {.err = *err};
    return fault_report(&fault);
}

int cmd_cluster_init(struct cli *cli)
{
    struct identity identity = {.format = IDENTITY_FORMAT, .insecure = cli->options.insecure};
    struct rng rng = {.state = rng_entropy()};
    struct fault fault = {0};
    struct err err = {0};
    int code = EXIT_CODE_OK;
    rng_hex(&rng, identity.cluster, TIDE_UID_CHARS);
    if (parse_members(cli, &identity, &fault) != TIDE_OK)
        code = fault_report(&fault);
    else if (make_dir(cli->options.dir, &identity, &err) != TIDE_OK)
        code = report(&err);
    else
        print_next(cli->options.dir, &identity);
    codec_release(&identity_codec, &identity);
    return code;
}

/* ---- cluster issue ---- */

static enum tide_status read_file(const char *dir, const char *name, char **ret_text, struct err *err)
{
    size_t bytes;
    char *path = mem_format("%s/%s", dir, name);
    enum tide_status status = fsx_read(path, IDENTITY_BYTES_MAX, ret_text, &bytes, err);
    mem_free(path);
    return status;
}

/* ret_ca: NULL for a cluster without certificates. */
static enum tide_status read_cluster(const char *dir, struct identity *identity, struct ca **ret_ca, struct err *err)
{
    char *text = NULL, *cert = NULL, *key = NULL;
    enum tide_status status = read_file(dir, CLUSTER_FILE, &text, err);
    if (status == TIDE_E_NOT_FOUND)
        err_set(err, status, "%s is not a directory of tidemark cluster init; name that with --dir", dir);
    if (status == TIDE_OK)
        status = identity_parse(text, strlen(text), identity, err);
    bool secure = status == TIDE_OK && !identity->insecure;
    if (secure)
        status = read_file(dir, IDENTITY_CA_FILE, &cert, err);
    if (status == TIDE_OK && secure)
        status = read_file(dir, CA_KEY_FILE, &key, err);
    if (status == TIDE_OK && secure)
        status = ca_parse(cert, key, ret_ca, err);
    mem_free(text);
    mem_free(cert);
    cert_key_free(key);
    return status;
}

/* A member by its id: one that is known gets a new certificate, another joins the list. */
static enum tide_status find_member(const struct cli *cli, struct identity *identity, struct cert_name *who,
                                    struct fault *fault)
{
    uint64_t id;
    struct err err = {0};
    const char *host = cli->args.count > 2 ? cli->args.items[2] : NULL;
    if (number_parse(cli->args.items[1], 1, MEMBER_ID_MAX, &id, &err) != TIDE_OK)
        return fault_set(fault, TIDE_E_INVALID, NULL, "a member is named by its number: %s", err.text);
    who->member = (uint32_t)id;
    const struct member_address *known = identity_member(identity, who->member);
    if (known != NULL && host != NULL)
        return fault_set(fault, TIDE_E_EXISTS, "leave the host away to renew its certificate",
                         "there is a member %" PRIu64 " already, at %s", id, known->peer);
    if (known != NULL)
        return TIDE_OK;
    if (host == NULL)
        return fault_set(fault, TIDE_E_INVALID, NULL,
                         "where will the new member %" PRIu64 " be? Say HOST[:API_PORT[:PEER_PORT]] too", id);
    if (identity->members.count >= MEMBERS_MAX)
        return fault_set(fault, TIDE_E_LIMIT, NULL, "there are %d members, which is the most", MEMBERS_MAX);
    struct member_address *m = codec_list_add(&member_address_codec, &identity->members);
    m->id = who->member;
    m->added = true;
    if (member_parse(host, identity->insecure, m, fault) != TIDE_OK)
        return fault->err.status;
    return identity_check(identity, &err) == TIDE_OK ? TIDE_OK : fault_set(fault, err.status, NULL, "%s", err.text);
}

static enum tide_status find_who(const struct cli *cli, struct identity *identity, struct cert_name *who,
                                 struct fault *fault)
{
    const char *kind = cli->args.items[0], *name = cli->args.items[1];
    *who = name_of(identity, strcmp(kind, "agent") == 0 ? CERT_AGENT : CERT_CLIENT, name);
    if (strcmp(kind, "member") == 0) {
        who->kind = CERT_MEMBER;
        return find_member(cli, identity, who, fault);
    }
    if (strcmp(kind, "agent") != 0 && strcmp(kind, "client") != 0)
        return fault_set(fault, TIDE_E_INVALID, NULL, "\"%.40s\" is not a kind of identity: member, agent or client", kind);
    if (!name_valid(name) && !(who->kind == CERT_AGENT && strcmp(name, ANY_NODE) == 0))
        return fault_set(fault, TIDE_E_INVALID, "use 1 to 63 of A-Z a-z 0-9 . _ -, first a letter or digit",
                         "\"%.80s\" is not a name", name);
    if (cli->args.count > 2)
        return fault_set(fault, TIDE_E_INVALID, NULL, "only a member has a host: \"%.80s\"", cli->args.items[2]);
    if (who->kind == CERT_CLIENT)
        who->role = cli->options.role + ROLE_AGENT;
    if (who->kind == CERT_CLIENT && who->role == ROLE_AGENT)
        return fault_set(fault, TIDE_E_INVALID, "tidemark cluster issue agent NODE makes an agent's",
                         "a client's role is viewer, operator or admin");
    return TIDE_OK;
}

/* Where cluster init made the same one, else KIND-NAME. */
static char *issue_dir(const struct cli *cli, const struct cert_name *who)
{
    if (who->kind == CERT_AGENT && strcmp(who->name, ANY_NODE) == 0)
        return mem_strdup(AGENT_DIR);
    if (who->kind == CERT_CLIENT && who->role == ROLE_ADMIN && strcmp(who->name, ADMIN_DIR) == 0)
        return mem_strdup(ADMIN_DIR);
    return mem_format("%s-%s", cli->args.items[0], cli->args.items[1]);
}

static int issue_one(const struct cli *cli, struct identity *identity, const struct ca *ca)
{
    struct issue to = {.dir = cli->options.dir, .identity = identity, .ca = ca};
    struct cert_name who;
    struct fault fault = {0};
    struct err err = {0};
    if (find_who(cli, identity, &who, &fault) != TIDE_OK)
        return fault_report(&fault);
    if (ca == NULL && who.kind != CERT_MEMBER) {
        fault_set(&fault, TIDE_E_STATE, NULL,
                  "the cluster in %s was made without certificates: there is nothing to issue but more members", to.dir);
        return fault_report(&fault);
    }
    unsigned days =
        cli->options.days ? (unsigned)cli->options.days : (who.kind == CERT_CLIENT ? CERT_DAYS_CLIENT : CERT_DAYS_MACHINE);
    char *name = issue_dir(cli, &who), uri[CERT_NAME_MAX + 1];
    to.ca_pem = ca ? ca_cert_pem(ca) : NULL;
    enum tide_status status = issue(&to, name, &who, days, &err);
    if (status == TIDE_OK && who.kind == CERT_MEMBER)
        status = put_cluster(to.dir, identity, &err);
    cert_name_format(&who, uri);
    if (status == TIDE_OK && ca != NULL)
        printf("%s/%s: %s, good for %u days\n", to.dir, name, uri, days);
    else if (status == TIDE_OK)
        printf("%s/%s: %s, without a certificate\n", to.dir, name, uri);
    mem_free(name);
    mem_free(to.ca_pem);
    return status == TIDE_OK ? EXIT_CODE_OK : report(&err);
}

int cmd_cluster_issue(struct cli *cli)
{
    struct identity identity = {0};
    struct ca *ca = NULL;
    struct err err = {0};
    int code =
        read_cluster(cli->options.dir, &identity, &ca, &err) == TIDE_OK ? issue_one(cli, &identity, ca) : report(&err);
    ca_free(ca);
    codec_release(&identity_codec, &identity);
    return code;
}
