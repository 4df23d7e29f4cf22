/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/inner.h"

/* The object as text, without its revision. Takes a reference over. */
static char *take_text(json_t *json)
{
    json_object_del(json, "revision");
    char *text = json_dumps(json, JSON_COMPACT);
    json_decref(json);
    return text ? text : mem_strdup("{}");
}

static void take(json_t *json, char **ret_text, struct digest *ret_basis)
{
    *ret_text = take_text(json);
    *ret_basis = digest_of(*ret_text, strlen(*ret_text));
}

static enum tide_status jobs_of(struct server *server, char **ret_text, struct digest *ret_basis)
{
    struct job_list list = {0};
    view_jobs(server_state(server), &list);
    take(codec_encode(&job_list_codec, &list, 0), ret_text, ret_basis);
    codec_release(&job_list_codec, &list);
    return TIDE_OK;
}

static enum tide_status job_of(struct server *server, const char *key, char **ret_text, struct digest *ret_basis,
                               struct err *err)
{
    struct job_view view = {0};
    enum tide_status status = view_job(server_state(server), &server->book, key, clock_mono_ns(), &view, err);
    if (status != TIDE_OK)
        return status;
    take(codec_encode(&job_view_codec, &view, 0), ret_text, ret_basis);
    codec_release(&job_view_codec, &view);
    return TIDE_OK;
}

/* Silence grows by itself, and is no change. */
static char *node_text(struct node_view *view, struct digest *ret_basis)
{
    char *text = take_text(codec_encode(&node_view_codec, view, 0));
    view->silent_ms = 0;
    char *still = take_text(codec_encode(&node_view_codec, view, 0));
    *ret_basis = digest_of(still, strlen(still));
    mem_free(still);
    return text;
}

/* As one tree of JSON ten thousand nodes would take 30 MB, and leave the memory in pieces. */
struct nodes_text {
    char *text;
    size_t used, room;
    struct digest *basis; /* of each node */
    size_t count;
};

static void nodes_add(struct nodes_text *to, const char *text)
{
    size_t bytes = strlen(text);
    if (to->used + bytes >= to->room) {
        to->room = (to->used + bytes) * 3 / 2 + 1;
        to->text = mem_grow(to->text, to->room, 1);
    }
    memcpy(to->text + to->used, text, bytes + 1);
    to->used += bytes;
}

static void nodes_add_node(void *arg, struct node_view *view)
{
    struct nodes_text *to = arg;
    char *text = node_text(view, &to->basis[to->count]);
    nodes_add(to, to->count++ > 0 ? "," : "");
    nodes_add(to, text);
    mem_free(text);
}

static enum tide_status nodes_of(struct server *server, char **ret_text, struct digest *ret_basis)
{
    const struct state *state = server_state(server);
    struct nodes_text to = {.basis = mem_array(state->nodes.count, sizeof *to.basis)};
    nodes_add(&to, "{\"nodes\":[");
    view_nodes(state, &server->book, clock_mono_ns(), nodes_add_node, &to);
    nodes_add(&to, "]}");
    *ret_text = to.text;
    *ret_basis = digest_of(to.basis, to.count * sizeof *to.basis);
    mem_free(to.basis);
    return TIDE_OK;
}

static enum tide_status node_of(struct server *server, const char *key, char **ret_text, struct digest *ret_basis,
                                struct err *err)
{
    struct node_view view;
    enum tide_status status = view_node(server_state(server), &server->book, key, clock_mono_ns(), &view, err);
    if (status != TIDE_OK)
        return status;
    *ret_text = node_text(&view, ret_basis);
    codec_release(&node_view_codec, &view);
    return TIDE_OK;
}

static enum tide_status desired_of(struct server *server, const char *key, char **ret_text, struct digest *ret_basis,
                                   struct err *err)
{
    struct desired desired = {0};
    enum tide_status status = desired_build(server_state(server), &server->book, key, &desired, err);
    if (status != TIDE_OK)
        return status;
    take(codec_encode(&desired_codec, &desired, CODEC_COMPACT), ret_text, ret_basis);
    codec_release(&desired_codec, &desired);
    return TIDE_OK;
}

enum tide_status view_of(struct server *server, unsigned kind, const char *key, char **ret_text, struct digest *ret_basis,
                         struct err *err)
{
    switch (kind) {
    case WATCH_JOBS:
        return jobs_of(server, ret_text, ret_basis);
    case WATCH_JOB:
        return job_of(server, key, ret_text, ret_basis, err);
    case WATCH_NODES:
        return nodes_of(server, ret_text, ret_basis);
    case WATCH_NODE:
        return node_of(server, key, ret_text, ret_basis, err);
    default:
        return desired_of(server, key, ret_text, ret_basis, err);
    }
}
