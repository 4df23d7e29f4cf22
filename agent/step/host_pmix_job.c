/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/step/host_pmix_job.h"

#include <pmix_server.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"

void info_add(struct info_list *list, const char *key, const void *value, pmix_data_type_t type)
{
    if (list->count == list->room) {
        list->room = list->room != 0 ? list->room * 2 : 16;
        list->items = mem_grow(list->items, list->room, sizeof *list->items);
    }
    pmix_info_t *item = &list->items[list->count++];
    memset(item, 0, sizeof *item);
    PMIX_INFO_LOAD(item, key, value, type);
}

void info_release(struct info_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        PMIX_INFO_DESTRUCT(&list->items[i]);
    mem_free(list->items);
    *list = (struct info_list){0};
}

static void add_u32(struct info_list *list, const char *key, uint32_t value)
{
    info_add(list, key, &value, PMIX_UINT32);
}

static void add_rank(struct info_list *list, const char *key, uint32_t rank)
{
    pmix_rank_t value = rank;
    info_add(list, key, &value, PMIX_PROC_RANK);
}

static void add_sizes(const struct step_spec *spec, struct info_list *list)
{
    uint32_t nproc = spec->job.nproc_per_node, nodes = (uint32_t)spec->peers.count, world = nproc * nodes;
    add_u32(list, PMIX_UNIV_SIZE, world);
    add_u32(list, PMIX_JOB_SIZE, world);
    add_u32(list, PMIX_MAX_PROCS, world);
    add_u32(list, PMIX_APP_SIZE, world);
    add_u32(list, PMIX_JOB_NUM_APPS, 1);
    add_u32(list, PMIX_NUM_NODES, nodes);
    add_u32(list, PMIX_LOCAL_SIZE, nproc);
    add_u32(list, PMIX_NODE_SIZE, nproc);
    add_u32(list, PMIX_NODEID, spec->node_rank);
}

/* libpmix hands out heap text of its own. */
static void add_packed(struct info_list *list, const char *key, pmix_status_t (*pack)(const char *input, char **packed),
                       const char *plain)
{
    char *packed = NULL;
    if (pack(plain, &packed) == PMIX_SUCCESS && packed != NULL)
        info_add(list, key, packed, PMIX_REGEX);
    mem_free(packed);
}

/* Which nodes there are and which ranks run where. Nodes go by their tidemark names, which are unique even when several
 * share a host; nobody resolves them. */
static void add_maps(const struct step_spec *spec, struct info_list *list)
{
    uint32_t nproc = spec->job.nproc_per_node;
    char *nodes = NULL, *procs = NULL, *peers = NULL;
    size_t nodes_bytes = 0, procs_bytes = 0, peers_bytes = 0;
    FILE *node_text = open_memstream(&nodes, &nodes_bytes), *proc_text = open_memstream(&procs, &procs_bytes);
    FILE *peer_text = open_memstream(&peers, &peers_bytes);
    if (node_text == NULL || proc_text == NULL || peer_text == NULL)
        return;
    for (uint32_t n = 0; n < spec->peers.count; n++) {
        fprintf(node_text, "%s%s", n > 0 ? "," : "", spec->peers.items[n].node);
        for (uint32_t i = 0; i < nproc; i++) {
            fprintf(proc_text, "%s%u", i > 0 ? "," : n > 0 ? ";" : "", n * nproc + i);
            if (n == spec->node_rank)
                fprintf(peer_text, "%s%u", i > 0 ? "," : "", n * nproc + i);
        }
    }
    fclose(node_text);
    fclose(proc_text);
    fclose(peer_text);
    add_packed(list, PMIX_NODE_MAP, PMIx_generate_regex, nodes);
    add_packed(list, PMIX_PROC_MAP, PMIx_generate_ppn, procs);
    /* Explicit, since these and not host names decide which ranks talk over shared memory. */
    info_add(list, PMIX_LOCAL_PEERS, peers, PMIX_STRING);
    add_rank(list, PMIX_LOCALLDR, spec->node_rank * nproc);
    mem_free(nodes);
    mem_free(procs);
    mem_free(peers);
}

static void add_dirs(const char *nspace, const char *client_dir, struct info_list *list)
{
    bool yes = true, no = false;
    char path[TIDE_PATH_MAX + 1];
    info_add(list, PMIX_SPAWNED, &no, PMIX_BOOL);
    info_add(list, PMIX_JOBID, nspace, PMIX_STRING);
    info_add(list, PMIX_TMPDIR, client_dir, PMIX_STRING);
    snprintf(path, sizeof path, "%s/job", client_dir);
    info_add(list, PMIX_NSDIR, path, PMIX_STRING);
    info_add(list, PMIX_TDIR_RMCLEAN, &yes, PMIX_BOOL);
}

static void add_proc(const struct step_spec *spec, uint32_t rank, struct info_list *list)
{
    struct info_list proc = {0};
    uint16_t local = (uint16_t)(rank % spec->job.nproc_per_node);
    uint32_t node = rank / spec->job.nproc_per_node;
    add_rank(&proc, PMIX_RANK, rank);
    add_u32(&proc, PMIX_APPNUM, 0);
    add_rank(&proc, PMIX_APPLDR, 0);
    add_rank(&proc, PMIX_GLOBAL_RANK, rank);
    add_rank(&proc, PMIX_APP_RANK, rank);
    info_add(&proc, PMIX_LOCAL_RANK, &local, PMIX_UINT16);
    info_add(&proc, PMIX_NODE_RANK, &local, PMIX_UINT16);
    info_add(&proc, PMIX_HOSTNAME, spec->peers.items[node].node, PMIX_STRING);
    add_u32(&proc, PMIX_NODEID, node);
    pmix_data_array_t array = {.type = PMIX_INFO, .size = proc.count, .array = proc.items};
    info_add(list, PMIX_PROC_INFO_ARRAY, &array, PMIX_DATA_ARRAY);
    info_release(&proc);
}

void host_pmix_job_info(const struct step_spec *spec, const char *nspace, const char *client_dir, struct info_list *ret_list)
{
    add_sizes(spec, ret_list);
    add_maps(spec, ret_list);
    add_dirs(nspace, client_dir, ret_list);
    uint32_t world = spec->job.nproc_per_node * (uint32_t)spec->peers.count;
    for (uint32_t rank = 0; rank < world; rank++)
        add_proc(spec, rank, ret_list);
}
