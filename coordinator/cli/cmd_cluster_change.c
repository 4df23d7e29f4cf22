/* SPDX-License-Identifier: Apache-2.0 */
/* cluster add, promote, remove, transfer. A coordinator does not remember the request ids of these; but the members of the
 * group, looked at before and after, tell whether a change whose answer was lost has been made. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "coordinator/cli/cluster.h"
#include "coordinator/cli/creds.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/units.h"

#define GAP_MS 200      /* between two looks at a member that catches up */
#define SETTLE_MS 5000u /* to find out what became of a change */
#define PATH_BYTES 64

struct change {
    struct cli *cli;
    uint64_t id; /* 0: any */
    struct cluster_view before;
    bool (*made)(const struct change *change, const struct cluster_view *view);
    const struct member_address *moved; /* update */
    const char *said;                   /* "member 4 is a learner", if the answer was lost */
};

/* ---- what was asked for is so ---- */

static bool is_member(const struct change *change, const struct cluster_view *view)
{
    return cluster_member(view, change->id) != NULL;
}

static bool is_voter(const struct change *change, const struct cluster_view *view)
{
    const struct member_view *m = cluster_member(view, change->id);
    return m != NULL && !m->learner;
}

static bool is_gone(const struct change *change, const struct cluster_view *view)
{
    return cluster_member(view, change->id) == NULL;
}

static bool leads_now(const struct change *change, const struct cluster_view *view)
{
    uint64_t leader = cluster_leader(view);
    return change->id != 0 ? leader == change->id : leader != 0 && leader != cluster_leader(&change->before);
}

/* ---- one change ---- */

static bool made_after_all(const struct change *change)
{
    struct client *client = change->cli->client;
    struct cluster_view view;
    struct fault fault = {0};
    uint64_t timeout_ms = client->timeout_ms;
    if (change->made(change, &change->before))
        return false;
    client->timeout_ms = timeout_ms < SETTLE_MS ? timeout_ms : SETTLE_MS;
    bool got = cluster_get(client, &view, &fault) == TIDE_OK;
    bool made = got && change->made(change, &view);
    if (got)
        codec_release(&cluster_view_codec, &view);
    client->timeout_ms = timeout_ms;
    return made;
}

static enum tide_status do_change(const struct change *change, const char *method, const char *path, const char *body,
                                  struct outcome *ret_outcome, json_t **ret_json, struct fault *fault)
{
    enum tide_status status = client_outcome(change->cli->client, method, path, body, ret_outcome, ret_json, fault);
    bool unsure = status == TIDE_E_TIMEOUT || status == TIDE_E_UNAVAILABLE || status == TIDE_E_EXISTS ||
                  status == TIDE_E_NOT_FOUND || status == TIDE_E_STATE;
    if (!unsure || !made_after_all(change))
        return status;
    *ret_outcome = (struct outcome){0};
    text_copy(ret_outcome->text, sizeof ret_outcome->text, change->said);
    *ret_json = codec_encode(&outcome_codec, ret_outcome, 0);
    return TIDE_OK;
}

static enum tide_status begin(struct cli *cli, struct change *change, struct fault *fault)
{
    change->cli = cli;
    return cluster_get(cli->client, &change->before, fault);
}

static enum tide_status take_id(const char *text, uint64_t *ret_id, struct fault *fault)
{
    if (number_parse(text, 1, MEMBER_ID_MAX, ret_id, NULL) == TIDE_OK)
        return TIDE_OK;
    return fault_set(fault, TIDE_E_INVALID, "tidemark cluster status shows them",
                     "\"%.40s\" is not the id of a member: a number from 1 to %d", text, MEMBER_ID_MAX);
}

static int end(struct change *change, enum tide_status status, const struct outcome *outcome, json_t *json,
               const struct fault *fault)
{
    char name[32];
    codec_release(&cluster_view_codec, &change->before);
    if (status != TIDE_OK)
        return fault_report(fault);
    snprintf(name, sizeof name, "%" PRIu64, change->id);
    if (wants_json(change->cli) || change->cli->options.output == OUTPUT_NAME)
        return show_outcome(change->cli, outcome, json, name);
    puts(outcome->text);
    json_decref(json);
    return EXIT_CODE_OK;
}

/* ---- promote ---- */

static bool caught_up(const struct member_view *m)
{
    return member_heard(m) && m->match_index > 0 && m->lag <= CAUGHT_UP_LAG_MAX && strcmp(m->replication, "snapshot") != 0;
}

static void tell_progress(const struct member_view *m, uint64_t begun_ns)
{
    char time[UNIT_TEXT_MAX];
    duration_text((clock_mono_ns() - begun_ns) / NS_PER_MS, time);
    if (!member_heard(m))
        progress_show("waiting for member %" PRIu64 ": it is not connected yet, %s", m->id, time);
    else
        progress_show("waiting for member %" PRIu64 ": %s%" PRIu64 " entries behind, %s", m->id,
                      strcmp(m->replication, "snapshot") == 0 ? "gets a snapshot, " : "", m->lag, time);
}

static enum tide_status too_late(const struct change *change, const struct member_view *m, struct fault *fault)
{
    char time[UNIT_TEXT_MAX], hint[TIDE_TEXT_MAX + 1], why[TIDE_TEXT_MAX + 1];
    if (!member_heard(m))
        text_say(why, sizeof why, "is not connected%s%s", m->error[0] ? ": " : "", m->error);
    else
        snprintf(why, sizeof why, "is %" PRIu64 " entries behind", m->lag);
    text_say(hint, sizeof hint, "it stays a learner; let its tidemarkd run, then: tidemark cluster promote %" PRIu64,
             change->id);
    return fault_set(fault, TIDE_E_TIMEOUT, hint, "waited %s for member %" PRIu64 " to catch up; it %s",
                     duration_text(change->cli->options.within_ms, time), change->id, why);
}

static enum tide_status promote(struct change *change, struct outcome *ret_outcome, json_t **ret_json, struct fault *fault)
{
    char path[PATH_BYTES], said[PATH_BYTES];
    snprintf(path, sizeof path, "/v1/cluster/members/%" PRIu64 "/promote", change->id);
    snprintf(said, sizeof said, "member %" PRIu64 " is a voter now", change->id);
    change->made = is_voter;
    change->said = said;
    enum tide_status status = do_change(change, "POST", path, NULL, ret_outcome, ret_json, fault);
    change->said = NULL;
    return status;
}

static void pause_between(struct client *client)
{
    uint64_t until = clock_mono_ns() + GAP_MS * NS_PER_MS;
    for (uint64_t now; (now = clock_mono_ns()) < until;)
        http_wait(client->http, (int)((until - now) / NS_PER_MS) + 1);
}

/* One look, and a try if it is worth one. ret_over: no other is needed. */
static enum tide_status try_promote(struct change *change, uint64_t begun_ns, bool late, bool *ret_over,
                                    struct outcome *ret_outcome, json_t **ret_json, struct fault *fault)
{
    codec_release(&cluster_view_codec, &change->before);
    *ret_over = true;
    enum tide_status status = cluster_get(change->cli->client, &change->before, fault);
    if (status != TIDE_OK)
        return status;
    const struct member_view *m = cluster_member(&change->before, change->id);
    bool ready = m == NULL || !m->learner || caught_up(m);
    if (ready)
        status = promote(change, ret_outcome, ret_json, fault);
    if (ready && status != TIDE_E_STATE)
        return status;
    if (late)
        return ready ? status : too_late(change, m, fault);
    tell_progress(m, begun_ns);
    *ret_over = false;
    return TIDE_OK;
}

/* Until it can be promoted, and is. */
static enum tide_status await_promotion(struct change *change, uint64_t begun_ns, struct outcome *ret_outcome,
                                        json_t **ret_json, struct fault *fault)
{
    struct client *client = change->cli->client;
    uint64_t within_ms = change->cli->options.within_ms, timeout_ms = client->timeout_ms;
    for (;;) {
        uint64_t gone_ms = (clock_mono_ns() - begun_ns) / NS_PER_MS;
        uint64_t left_ms = gone_ms < within_ms ? within_ms - gone_ms : 0;
        bool over;
        client->timeout_ms = left_ms == 0 || left_ms > timeout_ms ? timeout_ms : left_ms;
        enum tide_status status = try_promote(change, begun_ns, left_ms == 0, &over, ret_outcome, ret_json, fault);
        if (over) {
            progress_clear();
            client->timeout_ms = timeout_ms;
            return status;
        }
        pause_between(client);
    }
}

int cmd_cluster_promote(struct cli *cli)
{
    struct change change = {0};
    struct outcome outcome;
    struct fault fault = {0};
    json_t *json = NULL;
    uint64_t begun_ns = clock_mono_ns();
    enum tide_status status = take_id(cli->args.items[0], &change.id, &fault);
    if (status == TIDE_OK)
        status = begin(cli, &change, &fault);
    if (status == TIDE_OK)
        status = cli->options.wait ? await_promotion(&change, begun_ns, &outcome, &json, &fault)
                                   : promote(&change, &outcome, &json, &fault);
    return end(&change, status, &outcome, json, &fault);
}

/* ---- add ---- */

/* Where the identity is, if one was named; else NULL. */
static const char *identity_dir(const struct cli *cli)
{
    return cli->args.count == 1 ? cli->args.items[0] : NULL;
}

static enum tide_status take_identity(const struct change *change, struct member_address *ret_member, struct fault *fault)
{
    struct idir idir;
    struct err err = {0};
    const char *dir = identity_dir(change->cli);
    if (idir_load(dir, &idir, &err) != TIDE_OK)
        return fault_set(fault, err.status,
                         "write ID HOST[:API_PORT[:PEER_PORT]], or the directory of tidemark cluster issue", "%s", err.text);
    const struct member_address *self = identity_member(&idir.identity, idir.identity.member);
    enum tide_status status = TIDE_OK;
    if (self == NULL)
        status = fault_set(fault, TIDE_E_INVALID, "tidemark cluster issue member ID HOST makes one",
                           "%s is not the identity of a member", dir);
    else if (strcmp(idir.identity.cluster, change->before.cluster) != 0)
        status = fault_set(fault, TIDE_E_INVALID, "issue it in the directory of this cluster, where its ca.key is",
                           "%s is of cluster %s; this is cluster %s", dir, idir.identity.cluster, change->before.cluster);
    else
        *ret_member = *self;
    idir_release(&idir);
    return status;
}

static enum tide_status take_member(const struct change *change, struct member_address *ret_member, struct fault *fault)
{
    const struct cli *cli = change->cli;
    uint64_t id;
    if (cli->args.count == 1)
        return take_identity(change, ret_member, fault);
    bool insecure = strncmp(cli->client->urls.items[0], "http://", 7) == 0;
    enum tide_status status = take_id(cli->args.items[0], &id, fault);
    *ret_member = (struct member_address){0};
    if (status == TIDE_OK)
        status = member_parse(cli->args.items[1], insecure, ret_member, fault);
    if (status == TIDE_OK)
        ret_member->id = (uint32_t)id;
    return status;
}

static enum tide_status add(struct change *change, const struct member_address *member, struct outcome *ret_outcome,
                            json_t **ret_json, struct fault *fault)
{
    char said[PATH_BYTES];
    struct member_address asked = *member;
    asked.added = false; /* of an identity, not of the request */
    change->id = member->id;
    change->made = is_member;
    snprintf(said, sizeof said, "member %" PRIu64 " is a learner now", change->id);
    change->said = said;
    char *body = codec_print(&member_address_codec, &asked, CODEC_COMPACT);
    enum tide_status status = do_change(change, "POST", "/v1/cluster/members", body, ret_outcome, ret_json, fault);
    mem_free(body);
    change->said = NULL;
    return status;
}

static void print_next(const struct change *change, const struct member_address *member)
{
    const char *dir = identity_dir(change->cli);
    char name[32];
    snprintf(name, sizeof name, "member-%" PRIu32, member->id);
    const char *last = dir != NULL ? strrchr(dir, '/') : NULL;
    const char *copied = dir == NULL ? name : last != NULL && last[1] != '\0' ? last + 1 : dir;
    int n = (int)(strrchr(member->peer, ':') - member->peer);
    if (dir == NULL)
        printf("Its identity, if there is none yet: tidemark cluster issue member %" PRIu32 " %.*s\n", member->id, n,
               member->peer);
    printf("Copy %s to %.*s, for nobody else to read, and run there:\n  tidemarkd --identity %s --data DIR\n",
           dir != NULL ? dir : name, n, member->peer, copied);
    if (!change->cli->options.wait)
        printf("When it has caught up (tidemark cluster status):\n  tidemark cluster promote %" PRIu32 "\n", member->id);
    fflush(stdout);
}

int cmd_cluster_add(struct cli *cli)
{
    struct change change = {0};
    struct member_address member;
    struct outcome outcome;
    struct fault fault = {0};
    json_t *json = NULL;
    bool quiet = wants_json(cli) || cli->options.output == OUTPUT_NAME;
    uint64_t begun_ns = clock_mono_ns();
    enum tide_status status = begin(cli, &change, &fault);
    if (status == TIDE_OK)
        status = take_member(&change, &member, &fault);
    if (status == TIDE_OK)
        status = add(&change, &member, &outcome, &json, &fault);
    if (status == TIDE_OK && cli->options.wait) {
        if (!quiet)
            puts(outcome.text);
        if (!quiet)
            print_next(&change, &member);
        json_decref(json);
        json = NULL;
        status = await_promotion(&change, begun_ns, &outcome, &json, &fault);
    }
    int code = end(&change, status, &outcome, json, &fault);
    if (code == EXIT_CODE_OK && !quiet && !cli->options.wait)
        print_next(&change, &member);
    return code;
}

/* ---- update ---- */

static bool is_there(const struct change *change, const struct cluster_view *view)
{
    const struct member_view *m = cluster_member(view, change->id);
    return m != NULL && strcmp(m->peer, change->moved->peer) == 0 && strcmp(m->address, change->moved->api) == 0;
}

int cmd_cluster_update(struct cli *cli)
{
    struct member_address member;
    struct change change = {.made = is_there, .moved = &member};
    struct outcome outcome;
    struct fault fault = {0};
    json_t *json = NULL;
    char path[PATH_BYTES], said[PATH_BYTES], *body = NULL;
    enum tide_status status = begin(cli, &change, &fault);
    if (status == TIDE_OK)
        status = take_member(&change, &member, &fault);
    if (status == TIDE_OK) {
        change.id = member.id;
        body = codec_print(&member_address_codec, &member, CODEC_COMPACT);
        snprintf(path, sizeof path, "/v1/cluster/members/%" PRIu64 "/address", change.id);
        snprintf(said, sizeof said, "member %" PRIu64 " is at its new address now", change.id);
        change.said = said;
        status = do_change(&change, "POST", path, body, &outcome, &json, &fault);
    }
    mem_free(body);
    int code = end(&change, status, &outcome, json, &fault);
    if (code == EXIT_CODE_OK && cli->options.output == OUTPUT_TABLE)
        puts("Start its tidemarkd there, with its data. Its certificate names the hosts it may be reached at: tidemark "
             "cluster "
             "issue member ID makes another");
    return code;
}

/* ---- remove ---- */

/* Why one should think twice; empty: no reason. */
static void doubts(const struct change *change, char *to, size_t size)
{
    const struct member_view *m = cluster_member(&change->before, change->id);
    size_t voters = cluster_voters(&change->before);
    to[0] = '\0';
    if (m == NULL || m->learner || voters < 2)
        return; /* the leader knows what to say to that */
    size_t survived = (voters - 1) / 2, then = (voters - 2) / 2;
    if (m->leader)
        snprintf(to, size, "Member %" PRIu64 " leads. ", m->id);
    size_t n = strlen(to);
    if (then < survived)
        snprintf(to + n, size - n, "%zu voters would be left, which survive the loss of %zu; now it is %zu. ", voters - 1,
                 then, survived);
}

static bool says_yes(const char *why)
{
    char answer[16];
    fprintf(stderr, "%sGo on? [y/N] ", why);
    return fgets(answer, sizeof answer, stdin) != NULL && (answer[0] == 'y' || answer[0] == 'Y');
}

static enum tide_status confirm(const struct change *change, struct fault *fault)
{
    char why[TIDE_TEXT_MAX + 1];
    doubts(change, why, sizeof why);
    if (why[0] == '\0' || change->cli->options.yes)
        return TIDE_OK;
    if (isatty(STDIN_FILENO) && isatty(STDERR_FILENO))
        return says_yes(why) ? TIDE_OK : fault_set(fault, TIDE_E_STATE, NULL, "nothing was changed");
    return fault_set(fault, TIDE_E_STATE, "--yes if that is what you want",
                     "%sNobody is here to be asked; nothing was changed", why);
}

int cmd_cluster_remove(struct cli *cli)
{
    struct change change = {.made = is_gone};
    struct outcome outcome;
    struct fault fault = {0};
    json_t *json = NULL;
    char path[PATH_BYTES], said[PATH_BYTES];
    enum tide_status status = take_id(cli->args.items[0], &change.id, &fault);
    if (status == TIDE_OK)
        status = begin(cli, &change, &fault);
    if (status == TIDE_OK)
        status = confirm(&change, &fault);
    snprintf(path, sizeof path, "/v1/cluster/members/%" PRIu64, change.id);
    snprintf(said, sizeof said, "member %" PRIu64 " has left the group", change.id);
    change.said = said;
    if (status == TIDE_OK)
        status = do_change(&change, "DELETE", path, NULL, &outcome, &json, &fault);
    int code = end(&change, status, &outcome, json, &fault);
    if (code == EXIT_CODE_OK && cli->options.output == OUTPUT_TABLE)
        puts("Stop its tidemarkd. Whoever takes its place gets another id: tidemark cluster issue member ID HOST");
    return code;
}

/* ---- transfer ---- */

int cmd_cluster_transfer(struct cli *cli)
{
    struct change change = {.made = leads_now, .said = "another member leads now"};
    struct transfer_request request = {0};
    struct outcome outcome;
    struct fault fault = {0};
    json_t *json = NULL;
    enum tide_status status = cli->args.count > 0 ? take_id(cli->args.items[0], &change.id, &fault) : TIDE_OK;
    if (status == TIDE_OK)
        status = begin(cli, &change, &fault);
    request.to = change.id;
    char *body = change.id != 0 ? codec_print(&transfer_request_codec, &request, CODEC_COMPACT) : NULL;
    if (status == TIDE_OK)
        status = do_change(&change, "POST", "/v1/cluster/transfer", body, &outcome, &json, &fault);
    mem_free(body);
    return end(&change, status, &outcome, json, &fault);
}
