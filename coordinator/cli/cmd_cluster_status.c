/* SPDX-License-Identifier: Apache-2.0 */
/* cluster status: the leader's view, completed by what each member says of itself. Without a leader: what there is. */
#include <inttypes.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "coordinator/cli/cluster.h"
#include "coordinator/cli/exits.h"
#include "coordinator/cli/show.h"
#include "coordinator/cli/units.h"

#define LEADER_MS 5000u  /* an election takes less */
#define ATTEMPT_MS 1500u /* one that stands still must not keep us from those that do not */
#define ASK_MS 3000u     /* for what one member says */
#define ASKED_MAX (COORDINATORS_MAX > MEMBERS_MAX ? COORDINATORS_MAX : MEMBERS_MAX)

/* One member, asked for what it has itself. */
struct side {
    struct http_call call;
    bool asked, answered;
    struct cluster_view view; /* its own; once it has answered */
};

struct look {
    struct cli *cli;
    struct cluster_view view;
    json_t *json; /* the same */
    bool led;     /* it is the leader's */
    bool alone;   /* --stale: one member's, and no other is asked */
    struct side sides[ASKED_MAX];
    struct strlist problems;
};

/* ---- asking ---- */

static uint64_t at_most(const struct look *look, uint64_t ms)
{
    return look->cli->options.timeout_ms < ms ? look->cli->options.timeout_ms : ms;
}

static void side_start(struct look *look, struct side *side, const char *url)
{
    struct err err = {0};
    side->call.method = "GET";
    side->call.timeout_ms = at_most(look, ASK_MS);
    snprintf(side->call.url, sizeof side->call.url, "%s/v1/cluster?stale=true", url);
    side->asked = http_start(look->cli->client->http, &side->call, &err) == TIDE_OK;
}

static void side_take(struct side *side)
{
    struct fault fault;
    struct err err = {0};
    if (side->call.reached && side->call.status != 200) {
        fault_from_answer(&side->call, &fault);
        text_fit(side->call.error, sizeof side->call.error, fault.err.text);
    } else if (side->call.reached) {
        side->answered = codec_parse(&cluster_view_codec, side->call.answer, side->call.answer_bytes, CODEC_LENIENT,
                                     &side->view, &err) == TIDE_OK;
        if (!side->answered)
            text_fit(side->call.error, sizeof side->call.error, err.text);
    }
}

static void sides_await(struct look *look, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct side *side = &look->sides[i];
        while (side->asked && !side->call.done)
            http_wait(look->cli->client->http, (int)ASK_MS);
        if (side->asked)
            side_take(side);
    }
}

static void sides_release(struct look *look)
{
    for (size_t i = 0; i < ASKED_MAX; i++) {
        struct side *side = &look->sides[i];
        if (side->asked)
            http_release(look->cli->client->http, &side->call);
        if (side->answered)
            codec_release(&cluster_view_codec, &side->view);
        memset(side, 0, sizeof *side);
    }
}

/* ---- without a leader ---- */

static uint64_t term_of(const struct cluster_view *view)
{
    uint64_t term = 0;
    for (size_t i = 0; i < view->members.count; i++)
        term = view->members.items[i].term > term ? view->members.items[i].term : term;
    return term;
}

static uint64_t epoch_of(const struct cluster_view *view)
{
    uint64_t epoch = 0;
    struct err unused = {0};
    return epoch_parse(view->epoch, &epoch, &unused) == TIDE_OK ? epoch : 0;
}

/* Of whoever was recovered, before those that were left behind. */
static bool further(const struct cluster_view *a, const struct cluster_view *b)
{
    uint64_t of_a = epoch_of(a), of_b = epoch_of(b);
    return of_a != of_b ? epoch_stale(of_b, of_a) : term_of(a) > term_of(b);
}

/* The view of whoever of those named is furthest. */
static bool any_view(struct look *look)
{
    const struct strlist *urls = &look->cli->client->urls;
    const struct side *best = NULL;
    for (size_t i = 0; i < urls->count; i++)
        side_start(look, &look->sides[i], urls->items[i]);
    sides_await(look, urls->count);
    for (size_t i = 0; i < urls->count; i++) {
        const struct side *side = &look->sides[i];
        if (side->answered && (best == NULL || further(&side->view, &best->view)))
            best = side;
    }
    if (best != NULL) {
        codec_copy(&cluster_view_codec, &best->view, &look->view);
        look->json = json_loadb(best->call.answer, best->call.answer_bytes, 0, NULL);
    }
    sides_release(look);
    return best != NULL;
}

/* ---- put together ---- */

/* Whose view it is knows these of itself. */
static bool knows_itself(const struct member_view *m)
{
    return m->log_bytes > 0 || m->free_bytes > 0 || m->sync_us > 0;
}

static void side_merge(struct look *look, struct member_view *m, const struct side *side)
{
    const struct member_view *own = cluster_member(&side->view, m->id);
    if (own == NULL)
        return;
    m->log_bytes = own->log_bytes;
    m->free_bytes = own->free_bytes;
    m->sync_us = own->sync_us;
    m->sync_age_ms = own->sync_age_ms;
    m->turn_us_max = own->turn_us_max;
    m->snapshot_index = own->snapshot_index;
    m->applied_index = own->applied_index;
    if (look->led)
        return;
    m->term = own->term;
    m->commit_index = own->commit_index;
    m->match_index = own->match_index;
    text_copy(m->role, sizeof m->role, own->role);
}

static void ask_members(struct look *look)
{
    for (size_t i = 0; i < look->view.members.count; i++)
        if (strstr(look->view.members.items[i].address, "://") != NULL)
            side_start(look, &look->sides[i], look->view.members.items[i].address);
    sides_await(look, look->view.members.count);
    for (size_t i = 0; i < look->view.members.count; i++)
        if (look->sides[i].answered)
            side_merge(look, &look->view.members.items[i], &look->sides[i]);
}

static const char *version_of(const struct look *look, size_t i)
{
    const struct member_view *m = &look->view.members.items[i];
    if (look->sides[i].answered)
        return look->sides[i].view.version;
    return !look->sides[i].asked && knows_itself(m) ? look->view.version : "-";
}

static const char *state_of(const struct look *look, size_t i)
{
    const struct member_view *m = &look->view.members.items[i];
    const struct side *side = &look->sides[i];
    if (look->alone)
        return knows_itself(m) ? "up" : "-";
    if (!look->led)
        return side->answered ? "up" : "down";
    if (member_heard(m))
        return side->asked && !side->answered ? "no API" : "up";
    return side->answered ? "cut off" : "down";
}

static void add_problem(struct look *look, const char *format, ...) PRINTF_LIKE(2, 3);
static void add_problem(struct look *look, const char *format, ...)
{
    char text[TIDE_TEXT_MAX + 1];
    va_list args;
    va_start(args, format);
    text_say_list(text, sizeof text, format, args);
    va_end(args);
    strlist_add(&look->problems, text);
}

static void no_leader_problem(struct look *look)
{
    size_t voters = cluster_voters(&look->view), there = 0;
    for (size_t i = 0; i < look->view.members.count; i++)
        there += look->sides[i].answered && !look->view.members.items[i].learner;
    if (there < voters / 2 + 1)
        add_problem(look,
                    "no leader: %zu of %zu voters answer, and %zu must reach each other; start the others, or, if they are "
                    "lost for good, see tidemark help cluster recover",
                    there, voters, voters / 2 + 1);
    else
        add_problem(look, "no leader: %zu of %zu voters answer, which is enough; do they reach each other? See their logs",
                    there, voters);
}

static void find_problems(struct look *look)
{
    if (!look->led && !look->alone)
        no_leader_problem(look);
    cluster_problems(&look->view, look->led, &look->problems);
    for (size_t i = 0; i < look->view.members.count; i++) {
        const struct member_view *m = &look->view.members.items[i];
        const struct side *side = &look->sides[i];
        if (side->asked && !side->answered)
            add_problem(look, "member %" PRIu64 " does not answer at %s: %.200s", m->id, m->address, side->call.error);
        if (side->answered && side->view.epoch[0] != '\0' && strcmp(look->view.epoch, side->view.epoch) != 0)
            add_problem(look, "member %" PRIu64 " is of epoch %s, and not %s: it was left behind by a recovery", m->id,
                        side->view.epoch, look->view.epoch);
        if (side->answered && strcmp(look->view.version, side->view.version) != 0)
            add_problem(look, "member %" PRIu64 " runs version %s, %s %s", m->id, side->view.version,
                        look->led ? "the leader" : "another", look->view.version);
    }
}

/* ---- shown ---- */

static void member_row(struct table *t, const struct look *look, size_t i, bool wide)
{
    const struct member_view *m = &look->view.members.items[i];
    char text[UNIT_TEXT_MAX];
    const char *state = state_of(look, i);
    bool itself = knows_itself(m), ok = strcmp(state, "up") == 0;
    table_cell(t, TINT_NONE, "%" PRIu64, m->id);
    table_cell(t, m->leader ? TINT_GREEN : TINT_NONE, "%s", m->leader ? "leader" : m->learner ? "learner" : "voter");
    table_cell(t, ok ? TINT_NONE : TINT_YELLOW, "%s", state);
    table_cell(t, TINT_NONE, "%" PRIu64, m->match_index ? m->match_index : m->commit_index);
    if (look->led)
        table_cell(t, m->lag > CAUGHT_UP_LAG_MAX ? TINT_YELLOW : TINT_NONE, "%" PRIu64, m->lag);
    else
        table_cell(t, TINT_NONE, "-");
    table_cell(t, TINT_NONE, "%s", look->led && !m->leader ? duration_text(m->contact_ms, text) : "-");
    table_cell(t, TINT_NONE, "%s", itself ? size_text(m->log_bytes, text) : "-");
    table_cell(t, TINT_NONE, "%s", m->free_bytes ? size_text(m->free_bytes, text) : "-");
    table_cell(t, TINT_NONE, "%s", m->sync_us ? stall_text(m->sync_us, text) : "-");
    table_cell(t, TINT_NONE, "%s", version_of(look, i));
    if (wide) {
        table_cell(t, TINT_NONE, "%" PRIu64, m->term);
        table_cell(t, TINT_NONE, "%" PRIu64, m->applied_index);
        table_cell(t, TINT_NONE, "%" PRIu64, m->snapshot_index);
        table_cell(t, TINT_NONE, "%s", size_text(m->queued_bytes, text));
    }
    table_cell(t, TINT_NONE, "%s", m->address);
    table_cell(t, TINT_NONE, "%s", m->peer[0] ? m->peer : "-");
}

static void print_members(const struct look *look, bool wide)
{
    static const char *const headings[] = {"MEMBER", "ROLE", "STATE", "MATCH", "LAG",
                                           "HEARD",  "LOG",  "FREE",  "SYNC",  "VERSION"};
    static const char *const more[] = {"TERM", "APPLIED", "SNAPSHOT", "QUEUED"};
    struct table t = {0};
    for (size_t i = 0; i < sizeof headings / sizeof headings[0]; i++)
        table_column(&t, headings[i], i == 0 || (i > 2 && i < 9));
    for (size_t i = 0; wide && i < sizeof more / sizeof more[0]; i++)
        table_column(&t, more[i], true);
    table_column(&t, "API", false);
    table_column(&t, "PEERS", false);
    for (size_t i = 0; i < look->view.members.count; i++)
        member_row(&t, look, i, wide);
    table_print(&t, stdout, term_columns());
}

static void print_leader(const struct look *look)
{
    uint64_t leader = cluster_leader(&look->view), term = term_of(&look->view);
    if (look->led)
        field_print("leader", TINT_GREEN, "member %" PRIu64 ", term %" PRIu64, leader, term);
    else if (leader != 0)
        field_print("leader", look->alone ? TINT_NONE : TINT_RED, "%smember %" PRIu64 ", term %" PRIu64 ", as far as %s",
                    look->alone ? "" : "does not answer; ", leader, term,
                    look->alone ? "the member asked knows" : "others know");
    else
        field_print("leader", TINT_RED, "none; the newest term is %" PRIu64, term);
}

static void print_look(const struct look *look, bool wide)
{
    const struct cluster_view *c = &look->view;
    char time[UNIT_TEXT_MAX], lease[UNIT_TEXT_MAX];
    field_print("cluster", TINT_BOLD, "%s", c->cluster);
    print_leader(look);
    if (epoch_of(c) != 0)
        field_print("epoch", TINT_NONE, "%s, since it was recovered", c->epoch);
    field_print("version", TINT_NONE, "%s", c->version);
    field_print("up", TINT_NONE, "%s", duration_text(c->uptime_ms, time));
    field_print("revision", TINT_NONE, "%" PRIu64 "%s", c->revision,
                look->led ? "" : ", which may be old, as all that follows");
    field_print("nodes", c->nodes_lost ? TINT_YELLOW : TINT_NONE, "%u ready, %u lost, %u drained", c->nodes_ready,
                c->nodes_lost, c->nodes_drained);
    field_print("jobs", TINT_NONE, "%u active, %u in all", c->jobs_active, c->jobs_total);
    field_print("lease", TINT_NONE, "%s, heartbeat every %s", duration_text(c->lease_ms, lease),
                duration_text(c->heartbeat_ms, time));
    field_print("store", TINT_NONE, "%s", c->store[0] ? c->store : "none; jobs name their own with --store");
    if (c->members.count > 0)
        putchar('\n');
    print_members(look, wide);
    for (size_t i = 0; i < look->problems.count; i++)
        printf("%s%s%s%s\n", i ? "" : "\n", tint_on(TINT_YELLOW), look->problems.items[i], tint_off());
}

/* The noun as it came, and beside it what was found out; fields are only ever added. */
static void print_json(const struct look *look)
{
    json_t *members = json_array(), *problems = json_array();
    for (size_t i = 0; i < look->view.members.count; i++) {
        const struct member_view *m = &look->view.members.items[i];
        const struct side *side = &look->sides[i];
        json_t *one = codec_encode(&member_view_codec, m, 0);
        const char *version = version_of(look, i);
        json_object_set_new(one, "state", json_string(state_of(look, i)));
        json_object_set_new(one, "voter", json_boolean(!m->learner));
        json_object_set_new(one, "connected", json_boolean(look->led && member_heard(m)));
        json_object_set_new(one, "answers", json_boolean(side->answered));
        json_object_set_new(one, "version", json_string(strcmp(version, "-") != 0 ? version : ""));
        json_array_append_new(members, one);
    }
    for (size_t i = 0; i < look->problems.count; i++)
        json_array_append_new(problems, json_string(look->problems.items[i]));
    json_object_set_new(look->json, "members", members);
    json_object_set_new(look->json, "led", json_boolean(look->led));
    json_object_set_new(look->json, "leader", json_integer((json_int_t)cluster_leader(&look->view)));
    json_object_set_new(look->json, "term", json_integer((json_int_t)term_of(&look->view)));
    json_object_set_new(look->json, "problems", problems);
    show_json(look->json);
}

/* ---- the command ---- */

/* Errors: nobody has answered, or not as a coordinator does. */
static enum tide_status look_around(struct look *look, struct fault *fault)
{
    struct client *client = look->cli->client;
    look->alone = look->cli->options.stale;
    client->timeout_ms = at_most(look, LEADER_MS);
    client->attempt_ms = ATTEMPT_MS;
    if (look->alone)
        client_ask_first(client);
    enum tide_status status = client_noun(client, "GET", look->alone ? "/v1/cluster?stale=true" : "/v1/cluster", NULL, 0,
                                          &cluster_view_codec, &look->view, &look->json, fault);
    look->led = status == TIDE_OK && !look->alone;
    if (status == TIDE_E_UNAVAILABLE || status == TIDE_E_TIMEOUT)
        status = !look->alone && any_view(look) ? TIDE_OK : status;
    if (status != TIDE_OK)
        return status;
    if (!look->alone)
        ask_members(look);
    find_problems(look);
    return TIDE_OK;
}

int cmd_cluster_status(struct cli *cli)
{
    struct look *look = mem_alloc(sizeof *look);
    struct fault fault = {0};
    int code;
    look->cli = cli;
    if (look_around(look, &fault) != TIDE_OK) {
        code = fault_report(&fault);
    } else {
        if (wants_json(cli))
            print_json(look);
        else if (cli->options.output == OUTPUT_NAME)
            puts(look->view.cluster);
        else
            print_look(look, cli->options.output == OUTPUT_WIDE);
        bool leader = look->led || (look->alone && cluster_leader(&look->view) != 0);
        code = leader ? EXIT_CODE_OK : EXIT_CODE_NO_LEADER;
        codec_release(&cluster_view_codec, &look->view);
    }
    json_decref(look->json);
    sides_release(look);
    strlist_release(&look->problems);
    mem_free(look);
    return code;
}
