/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/inner.h"

static struct digest digest_json(const json_t *json)
{
    char *text = json_dumps(json, JSON_COMPACT);
    struct digest digest = digest_of(text ? text : "", text ? strlen(text) : 0);
    mem_free(text);
    return digest;
}

static enum tide_status jobs_of(struct server *server, json_t **ret_json, struct digest *ret_basis)
{
    struct job_list list = {0};
    view_jobs(server_state(server), &list);
    list.revision = 0;
    *ret_json = codec_encode(&job_list_codec, &list, 0);
    *ret_basis = digest_json(*ret_json);
    codec_release(&job_list_codec, &list);
    return TIDE_OK;
}

static enum tide_status job_of(struct server *server, const char *key, json_t **ret_json, struct digest *ret_basis,
                               struct err *err)
{
    struct job_view view = {0};
    enum tide_status status = view_job(server_state(server), &server->book, key, clock_mono_ns(), &view, err);
    if (status != TIDE_OK)
        return status;
    view.revision = 0;
    *ret_json = codec_encode(&job_view_codec, &view, 0);
    *ret_basis = digest_json(*ret_json);
    codec_release(&job_view_codec, &view);
    return TIDE_OK;
}

static enum tide_status nodes_of(struct server *server, json_t **ret_json, struct digest *ret_basis)
{
    struct node_list list = {0};
    view_nodes(server_state(server), &server->book, clock_mono_ns(), &list);
    list.revision = 0;
    *ret_json = codec_encode(&node_list_codec, &list, 0);
    /* Silence grows by itself. */
    for (size_t i = 0; i < list.nodes.count; i++)
        list.nodes.items[i].silent_ms = 0;
    json_t *still = codec_encode(&node_list_codec, &list, 0);
    *ret_basis = digest_json(still);
    json_decref(still);
    codec_release(&node_list_codec, &list);
    return TIDE_OK;
}

static enum tide_status node_of(struct server *server, const char *key, json_t **ret_json, struct digest *ret_basis,
                                struct err *err)
{
    struct node_list list = {0};
    json_t *found = NULL;
    view_nodes(server_state(server), &server->book, clock_mono_ns(), &list);
    for (size_t i = 0; i < list.nodes.count && found == NULL; i++) {
        struct node_view *view = &list.nodes.items[i];
        if (strcmp(view->node.name, key) != 0)
            continue;
        found = codec_encode(&node_view_codec, view, 0);
        view->silent_ms = 0;
        json_t *still = codec_encode(&node_view_codec, view, 0);
        *ret_basis = digest_json(still);
        json_decref(still);
    }
    codec_release(&node_list_codec, &list);
    if (found == NULL)
        return err_set(err, TIDE_E_NOT_FOUND, "there is no node %s; tidemark node list names those there are", key);
    *ret_json = found;
    return TIDE_OK;
}

static enum tide_status desired_of(struct server *server, const char *key, json_t **ret_json, struct digest *ret_basis,
                                   struct err *err)
{
    struct desired desired = {0};
    enum tide_status status = desired_build(server_state(server), &server->book, key, &desired, err);
    if (status != TIDE_OK)
        return status;
    desired.revision = 0;
    *ret_json = codec_encode(&desired_codec, &desired, CODEC_COMPACT);
    *ret_basis = digest_json(*ret_json);
    codec_release(&desired_codec, &desired);
    return TIDE_OK;
}

enum tide_status view_of(struct server *server, unsigned kind, const char *key, json_t **ret_json, struct digest *ret_basis,
                         struct err *err)
{
    switch (kind) {
    case WATCH_JOBS:
        return jobs_of(server, ret_json, ret_basis);
    case WATCH_JOB:
        return job_of(server, key, ret_json, ret_basis, err);
    case WATCH_NODES:
        return nodes_of(server, ret_json, ret_basis);
    case WATCH_NODE:
        return node_of(server, key, ret_json, ret_basis, err);
    default:
        return desired_of(server, key, ret_json, ret_basis, err);
    }
}
