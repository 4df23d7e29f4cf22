/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/logs.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "coordinator/cli/term.h"
#include "coordinator/cli/units.h"

#define LINE_BYTES_MAX 65536u /* a longer line is broken, so that one rank cannot fill the memory */
#define HOLD_MS 2000u         /* an agent holds an answer back that long */
#define HOLD_SOURCES_MAX 48u  /* with more of them connections would run out: ask again instead */
#define AGAIN_MS 300u         /* … that often; and after a failure */
#define ANSWER_MS 10000u
#define NODES_AGE_MS 1000u /* how often the addresses are asked for again at most */
#define OVER_MS 5000u      /* silence after the end that is taken for the end of the log */
#define FAILURES_MAX 5u    /* of a node, once its generation is over */

struct log_source {
    uint32_t rank;
    bool err;
    uint64_t offset;
    size_t home, tried;        /* which of the places is asked: (home + tried) % count */
    bool running, ended, seen; /* seen: some node has it */
    bool caught_up;            /* all there is has been read once: the tail can be printed */
    unsigned failures;
    uint64_t again_ns;
    struct http_call call;
    char *line; /* begun, without its newline */
    size_t line_bytes;
    struct strlist tail; /* the last lines so far; a ring once it is full */
    size_t tail_first;
};

/* ---- which ranks ---- */

static bool take_range(const char **at, uint32_t ranks, uint64_t *ret_from, uint64_t *ret_to)
{
    char word[32];
    size_t n = strcspn(*at, ",");
    if (n == 0 || n >= sizeof word)
        return false;
    memcpy(word, *at, n);
    word[n] = '\0';
    char *dash = strchr(word, '-');
    if (dash != NULL)
        *dash = '\0';
    *at += n + ((*at)[n] == ',');
    return number_parse(word, 0, ranks - 1, ret_from, NULL) == TIDE_OK &&
           number_parse(dash ? dash + 1 : word, *ret_from, ranks - 1, ret_to, NULL) == TIDE_OK;
}

enum tide_status ranks_parse(const char *text, uint32_t ranks, uint32_t **ret_ranks, size_t *ret_count, struct fault *fault)
{
    uint32_t *list = mem_array(ranks, sizeof *list);
    size_t count = 0;
    char all[64];
    snprintf(all, sizeof all, "0-%u", ranks - 1);
    const char *at = text ? text : all;
    do {
        uint64_t from, to;
        if (!take_range(&at, ranks, &from, &to) || count + (to - from) >= ranks) {
            mem_free(list);
            return fault_set(fault, TIDE_E_INVALID, "write for example --rank 0,2-4", "\"%.80s\": the job has ranks 0 to %u",
                             text, ranks - 1);
        }
        for (uint64_t r = from; r <= to; r++)
            list[count++] = (uint32_t)r;
    } while (*at != '\0');
    *ret_ranks = list;
    *ret_count = count;
    return TIDE_OK;
}

/* ---- which nodes ---- */

static size_t add_place(struct strlist *places, const char *name)
{
    for (size_t i = 0; i < places->count; i++)
        if (strcmp(places->items[i], name) == 0)
            return i;
    if (name[0] != '\0')
        strlist_add(places, name);
    return places->count ? places->count - 1 : 0;
}

/* Every node that ever had a part in the job, those of this generation first. */
static void collect_places(struct log_reader *reader, const struct job *job)
{
    for (size_t i = 0; reader->generation == job->generation && i < job->nodes.count; i++)
        add_place(&reader->places, job->nodes.items[i]);
    for (size_t i = 0; i < job->ckpts.count; i++)
        for (size_t n = 0; n < job->ckpts.items[i].nodes.count; n++)
            if (job->ckpts.items[i].generation == reader->generation)
                add_place(&reader->places, job->ckpts.items[i].nodes.items[n]);
    for (size_t i = 0; i < job->nodes.count; i++)
        add_place(&reader->places, job->nodes.items[i]);
    for (size_t i = 0; i < job->recoveries.count; i++)
        add_place(&reader->places, job->recoveries.items[i].node);
    for (size_t i = 0; i < job->ckpts.count; i++)
        for (size_t n = 0; n < job->ckpts.items[i].nodes.count; n++)
            add_place(&reader->places, job->ckpts.items[i].nodes.items[n]);
    for (size_t i = 0; i < job->spares.count; i++)
        add_place(&reader->places, job->spares.items[i]);
}

/* Where this rank most likely ran in that generation; the others are asked after it. */
static size_t home_of(struct log_reader *reader, const struct job *job, uint32_t rank)
{
    uint32_t node_rank = rank / (job->spec.nproc_per_node ? job->spec.nproc_per_node : 1);
    const struct strlist *nodes = &job->nodes;
    for (size_t i = 0; reader->generation != job->generation && i < job->ckpts.count; i++)
        if (job->ckpts.items[i].generation == reader->generation)
            nodes = &job->ckpts.items[i].nodes;
    return node_rank < nodes->count ? add_place(&reader->places, nodes->items[node_rank]) : 0;
}

static const struct node *node_named(const struct log_reader *reader, const char *name)
{
    for (size_t i = 0; i < reader->nodes.nodes.count; i++)
        if (strcmp(reader->nodes.nodes.items[i].node.name, name) == 0)
            return &reader->nodes.nodes.items[i].node;
    return NULL;
}

static enum tide_status ask_nodes(struct log_reader *reader, struct fault *fault)
{
    struct node_list fresh;
    struct client *client = reader->client;
    uint64_t timeout_ms = client->timeout_ms;
    /* Lines of other nodes must not wait for a coordinator that is away: with old addresses most still can be read. */
    if (reader->nodes_at_ns != 0)
        client->timeout_ms = NODES_AGE_MS;
    enum tide_status status = client_noun(client, "GET", "/v1/nodes", NULL, 0, &node_list_codec, &fresh, NULL, fault);
    client->timeout_ms = timeout_ms;
    reader->nodes_at_ns = clock_mono_ns();
    if (status != TIDE_OK)
        return status;
    codec_release(&node_list_codec, &reader->nodes);
    reader->nodes = fresh;
    return TIDE_OK;
}

/* ---- printing ---- */

static FILE *stream_of(const struct log_reader *reader, const struct log_source *s)
{
    return reader->wish.all_to_stderr || (s->err && reader->wish.err_to_stderr) ? stderr : stdout;
}

static void put_line(const struct log_reader *reader, const struct log_source *s, const char *line, size_t bytes,
                     bool newline)
{
    FILE *to = stream_of(reader, s);
    progress_clear();
    if (reader->prefix)
        fprintf(to, "%u: ", s->rank);
    fwrite(line, 1, bytes, to);
    if (newline)
        fputc('\n', to);
}

static void tail_add(struct log_reader *reader, struct log_source *s, const char *line, size_t bytes)
{
    char *copy = mem_format("%.*s", (int)bytes, line);
    if (s->tail.count < reader->wish.tail) {
        strlist_add(&s->tail, copy);
        mem_free(copy);
        return;
    }
    mem_free(s->tail.items[s->tail_first]);
    s->tail.items[s->tail_first] = copy;
    s->tail_first = (s->tail_first + 1) % s->tail.count;
}

static bool in_tail(const struct log_reader *reader, const struct log_source *s)
{
    return reader->wish.tail > 0 && !s->caught_up;
}

static void take_line(struct log_reader *reader, struct log_source *s, bool newline)
{
    if (in_tail(reader, s))
        tail_add(reader, s, s->line, s->line_bytes);
    else
        put_line(reader, s, s->line, s->line_bytes, newline);
    s->line_bytes = 0;
}

static void take_bytes(struct log_reader *reader, struct log_source *s, const char *data, size_t bytes)
{
    /* One rank alone is passed on byte for byte, as if it were in the foreground. */
    if (!reader->prefix && !in_tail(reader, s)) {
        progress_clear();
        if (reader->open_line && reader->last != s && stream_of(reader, reader->last) == stream_of(reader, s))
            fputc('\n', stream_of(reader, s));
        reader->last = s;
        reader->open_line = data[bytes - 1] != '\n';
        fwrite(data, 1, bytes, stream_of(reader, s));
        return;
    }
    while (bytes > 0) {
        const char *newline = memchr(data, '\n', bytes);
        size_t n = newline ? (size_t)(newline - data) : bytes;
        size_t room = LINE_BYTES_MAX - s->line_bytes;
        n = n < room ? n : room;
        s->line = mem_grow(s->line, s->line_bytes + n + 1, 1);
        memcpy(s->line + s->line_bytes, data, n);
        s->line_bytes += n;
        bool whole = n < bytes && data[n] == '\n';
        if (whole || s->line_bytes == LINE_BYTES_MAX)
            take_line(reader, s, true);
        data += n + whole;
        bytes -= n + whole;
    }
}

static void flush_tail(struct log_reader *reader, struct log_source *s)
{
    if (!in_tail(reader, s))
        return;
    s->caught_up = true;
    for (size_t i = 0; i < s->tail.count; i++) {
        const char *line = s->tail.items[(s->tail_first + i) % s->tail.count];
        put_line(reader, s, line, strlen(line), true);
    }
    strlist_release(&s->tail);
}

static void end_source(struct log_reader *reader, struct log_source *s)
{
    if (s->line_bytes > 0)
        take_line(reader, s, true);
    flush_tail(reader, s);
    s->ended = true;
}

static void warn_node(struct log_reader *reader, const char *name, const char *why)
{
    for (size_t i = 0; i < reader->warned.count; i++)
        if (strcmp(reader->warned.items[i], name) == 0)
            return;
    strlist_add(&reader->warned, name);
    say_note("the logs on node %s cannot be read (%s); lines of its ranks may be missing", name, why);
}

/* ---- one source ---- */

static void next_place(struct log_reader *reader, struct log_source *s, bool over)
{
    s->failures = 0;
    if (s->seen || ++s->tried >= reader->places.count) {
        s->tried = 0;
        /* Nobody has it: not started yet, or gone for good. */
        if (over || s->seen || !reader->wish.follow)
            end_source(reader, s);
        s->again_ns = clock_mono_ns() + AGAIN_MS * NS_PER_MS;
    }
}

static void start_source(struct log_reader *reader, struct log_source *s, bool over)
{
    struct err err;
    if (reader->places.count == 0) {
        if (over || !reader->wish.follow)
            end_source(reader, s);
        return;
    }
    const char *name = reader->places.items[(s->home + s->tried) % reader->places.count];
    const struct node *node = node_named(reader, name);
    if (node == NULL || node->log_port == 0) {
        next_place(reader, s, over);
        return;
    }
    bool hold = reader->wish.follow && reader->source_count <= HOLD_SOURCES_MAX && !over;
    bool v6 = strchr(node->address, ':') != NULL;
    s->call.method = "GET";
    s->call.timeout_ms = ANSWER_MS;
    s->call.bearer = reader->key[0] != '\0' ? reader->key : NULL;
    s->call.pin = node->pin[0] != '\0' ? node->pin : NULL;
    snprintf(s->call.url, sizeof s->call.url,
             "%s://%s%s%s:%u/v1/logs?job=%s&uid=%s&generation=%" PRIu64 "&rank=%u&stream=%s&offset=%" PRIu64 "&wait_ms=%u",
             s->call.pin != NULL ? "https" : "http", v6 ? "[" : "", node->address, v6 ? "]" : "", node->log_port, reader->job,
             reader->uid, reader->generation, s->rank, s->err ? "err" : "out", s->offset, hold ? HOLD_MS : 0);
    if (http_start(reader->client->http, &s->call, &err) == TIDE_OK)
        s->running = true;
    else
        s->again_ns = clock_mono_ns() + AGAIN_MS * NS_PER_MS;
}

static void on_unreachable(struct log_reader *reader, struct log_source *s, bool over)
{
    const char *name = reader->places.items[(s->home + s->tried) % reader->places.count];
    struct fault fault = {0};
    uint64_t now = clock_mono_ns();
    s->failures++;
    s->again_ns = now + AGAIN_MS * NS_PER_MS;
    /* A restarted agent listens elsewhere. */
    if (now - reader->nodes_at_ns > NODES_AGE_MS * NS_PER_MS && ask_nodes(reader, &fault) != TIDE_OK)
        return;
    const struct node *node = node_named(reader, name);
    bool lost = node == NULL || node->state == TIDE_NODE_LOST;
    if (!reader->wish.follow || lost || (over && s->failures >= FAILURES_MAX)) {
        warn_node(reader, name, lost ? "the node is lost" : s->call.error);
        next_place(reader, s, over);
    }
}

static void on_answer(struct log_reader *reader, struct log_source *s, bool over)
{
    uint64_t now = clock_mono_ns();
    size_t bytes = s->call.answer_bytes;
    s->failures = 0;
    if (!s->seen && s->tried > 0) {
        s->home += s->tried;
        s->tried = 0;
    }
    s->seen = true;
    if (s->call.log_offset > s->offset)
        say_note("rank %u: %" PRIu64 " bytes of std%s are gone by rotation", s->rank, s->call.log_offset - s->offset,
                 s->err ? "err" : "out");
    if (bytes > 0) {
        take_bytes(reader, s, s->call.answer, bytes);
        s->offset = s->call.log_next ? s->call.log_next : s->offset + bytes;
        reader->over_ns = reader->over_ns ? now : 0;
        return;
    }
    if (s->call.log_ended || !reader->wish.follow || (over && now - reader->over_ns > OVER_MS * NS_PER_MS)) {
        end_source(reader, s);
        return;
    }
    if (s->line_bytes == 0)
        flush_tail(reader, s);
    if (reader->source_count > HOLD_SOURCES_MAX || over)
        s->again_ns = now + AGAIN_MS * NS_PER_MS;
}

static void reap_source(struct log_reader *reader, struct log_source *s, bool over)
{
    s->running = false;
    if (!s->call.reached)
        on_unreachable(reader, s, over);
    else if (s->call.status == 404)
        next_place(reader, s, over);
    else if (s->call.status / 100 == 2)
        on_answer(reader, s, over);
    else {
        snprintf(s->call.error, sizeof s->call.error, "HTTP status %ld", s->call.status);
        on_unreachable(reader, s, over);
    }
    http_release(reader->client->http, &s->call);
}

/* ---- the reader ---- */

static void add_source(struct log_reader *reader, const struct job *job, uint32_t rank, bool err)
{
    struct log_source *s = &reader->sources[reader->source_count++];
    s->rank = rank;
    s->err = err;
    s->home = home_of(reader, job, rank);
}

enum tide_status log_reader_init(struct log_reader *reader, struct client *client, const struct log_wish *wish,
                                 const struct job_view *view, uint64_t generation, struct fault *fault)
{
    uint32_t *ranks;
    size_t count;
    *reader = (struct log_reader){.client = client, .wish = *wish, .generation = generation};
    text_copy(reader->job, sizeof reader->job, view->job.spec.name);
    text_copy(reader->uid, sizeof reader->uid, view->job.uid);
    text_copy(reader->key, sizeof reader->key, view->log_key);
    enum tide_status status = ranks_parse(wish->ranks, job_world(&view->job), &ranks, &count, fault);
    if (status != TIDE_OK)
        return status;
    status = ask_nodes(reader, fault);
    collect_places(reader, &view->job);
    reader->prefix = count > 1;
    reader->sources = mem_array(2 * count, sizeof *reader->sources);
    for (size_t i = 0; i < count; i++) {
        if (wish->stream != STREAM_ERR)
            add_source(reader, &view->job, ranks[i], false);
        if (wish->stream != STREAM_OUT)
            add_source(reader, &view->job, ranks[i], true);
    }
    mem_free(ranks);
    if (status != TIDE_OK)
        log_reader_release(reader);
    return status;
}

void log_reader_release(struct log_reader *reader)
{
    for (size_t i = 0; i < reader->source_count; i++) {
        http_release(reader->client->http, &reader->sources[i].call);
        strlist_release(&reader->sources[i].tail);
        mem_free(reader->sources[i].line);
    }
    mem_free(reader->sources);
    strlist_release(&reader->places);
    strlist_release(&reader->warned);
    codec_release(&node_list_codec, &reader->nodes);
    *reader = (struct log_reader){0};
}

bool log_reader_step(struct log_reader *reader, bool over)
{
    uint64_t now = clock_mono_ns();
    bool all = true;
    if (over && reader->over_ns == 0)
        reader->over_ns = now;
    for (size_t i = 0; i < reader->source_count; i++) {
        struct log_source *s = &reader->sources[i];
        if (s->running && s->call.done)
            reap_source(reader, s, over);
        if (!s->ended && !s->running && now >= s->again_ns)
            start_source(reader, s, over);
        all = all && s->ended;
        /* Without -f each log is printed whole before the next one is begun. */
        if (!s->ended && !reader->wish.follow)
            break;
    }
    fflush(stdout);
    return all;
}
