/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/step/host_pmix.h"

#include <inttypes.h>
#include <pmix.h>
#include <pmix_server.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "agent/step/host_pmix_job.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

#define QUEUE_MAX 65536u /* events; far above what 64 ranks can have open */
#define CALL_WAIT_S 20   /* longest wait of the starting thread for one answer of libpmix */
#define NSPACE_TOKEN_CHARS 12

struct host_pmix {
    const struct step_spec *spec;
    char server_dir[TIDE_PATH_MAX + 1], client_dir[TIDE_PATH_MAX + 1];
    char nspace[PMIX_MAX_NSLEN + 1];
    void (*wake)(void *context);
    void *context;
    struct strlist environ[TIDE_LOCAL_RANKS_MAX];
    pthread_mutex_t lock; /* of the queue */
    struct pmix_event *first, *last;
    size_t queued;
};

/* Upcalls carry no context of ours. */
static struct host_pmix *the_host;

/* What a fence or modex upcall wants called. */
struct request {
    pmix_modex_cbfunc_t answer;
    void *context;
};

void pmix_event_free(struct pmix_event *event)
{
    if (event == NULL)
        return;
    mem_free(event->members);
    mem_free(event->data);
    mem_free(event);
}

/* ---- the queue ---- */

static struct pmix_event *event_make(enum pmix_event_kind kind, uint32_t rank)
{
    struct pmix_event *event = mem_alloc(sizeof *event);
    event->kind = kind;
    event->rank = rank;
    return event;
}

static bool push(struct host_pmix *host, struct pmix_event *event)
{
    pthread_mutex_lock(&host->lock);
    bool room = host->queued < QUEUE_MAX;
    if (room) {
        if (host->last != NULL)
            host->last->next = event;
        else
            host->first = event;
        host->last = event;
        host->queued++;
    }
    pthread_mutex_unlock(&host->lock);
    if (room)
        host->wake(host->context);
    else
        pmix_event_free(event);
    return room;
}

struct pmix_event *host_pmix_next(struct host_pmix *host)
{
    pthread_mutex_lock(&host->lock);
    struct pmix_event *event = host->first;
    if (event != NULL) {
        host->first = event->next;
        host->last = host->first != NULL ? host->last : NULL;
        host->queued--;
    }
    pthread_mutex_unlock(&host->lock);
    return event;
}

/* ---- upcalls, on libpmix's thread: queue and return ---- */

static bool is_ours(const pmix_proc_t *proc)
{
    return strncmp(proc->nspace, the_host->nspace, PMIX_MAX_NSLEN) == 0;
}

static pmix_status_t up_connected(const pmix_proc_t *proc, void *object, pmix_info_t info[], size_t count,
                                  pmix_op_cbfunc_t done, void *context)
{
    (void)object, (void)info, (void)count, (void)done, (void)context;
    if (is_ours(proc))
        push(the_host, event_make(PMIX_CONNECTED, proc->rank));
    return PMIX_OPERATION_SUCCEEDED;
}

static pmix_status_t up_finalized(const pmix_proc_t *proc, void *object, pmix_op_cbfunc_t done, void *context)
{
    (void)object, (void)done, (void)context;
    if (is_ours(proc))
        push(the_host, event_make(PMIX_LEFT, proc->rank));
    return PMIX_OPERATION_SUCCEEDED;
}

static pmix_status_t up_abort(const pmix_proc_t *proc, void *object, int status, const char text[], pmix_proc_t procs[],
                              size_t count, pmix_op_cbfunc_t done, void *context)
{
    (void)object, (void)procs, (void)count, (void)done, (void)context;
    if (!is_ours(proc))
        return PMIX_ERR_NOT_SUPPORTED;
    struct pmix_event *event = event_make(PMIX_ABORTED, proc->rank);
    event->status = status;
    text_copy(event->text, sizeof event->text, text != NULL ? text : "");
    push(the_host, event);
    return PMIX_OPERATION_SUCCEEDED;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

/* The same on every node, whatever the order of the list; 63 bits, as JSON's integers are signed. */
static uint64_t name_list(const pmix_proc_t procs[], size_t count)
{
    uint64_t sum = count;
    for (size_t i = 0; i < count; i++) {
        uint64_t hash = mix(UINT64_C(0x243f6a8885a308d3), procs[i].rank);
        for (const char *c = procs[i].nspace; *c != '\0'; c++)
            hash = mix(hash, (unsigned char)*c);
        sum += hash;
    }
    return sum >> 1;
}

static bool *members_of(const pmix_proc_t procs[], size_t count)
{
    const struct step_spec *spec = the_host->spec;
    size_t nodes = spec->peers.count;
    bool *members = mem_array(nodes, sizeof *members);
    members[spec->node_rank] = true;
    for (size_t i = 0; i < count; i++) {
        size_t node = procs[i].rank / spec->job.nproc_per_node;
        if (procs[i].rank == PMIX_RANK_WILDCARD)
            memset(members, 1, nodes * sizeof *members);
        else if (node < nodes)
            members[node] = true;
    }
    return members;
}

static struct request *request_make(pmix_modex_cbfunc_t answer, void *context)
{
    struct request *request = mem_alloc(sizeof *request);
    request->answer = answer;
    request->context = context;
    return request;
}

static pmix_status_t push_request(struct pmix_event *event)
{
    void *request = event->request;
    if (push(the_host, event))
        return PMIX_SUCCESS;
    mem_free(request);
    return PMIX_ERR_OUT_OF_RESOURCE;
}

static pmix_status_t up_fence(const pmix_proc_t procs[], size_t count, const pmix_info_t info[], size_t info_count, char *data,
                              size_t bytes, pmix_modex_cbfunc_t answer, void *context)
{
    struct pmix_event *event = event_make(PMIX_FENCED, 0);
    for (size_t i = 0; i < info_count; i++)
        if (PMIX_CHECK_KEY(&info[i], PMIX_LOCAL_COLLECTIVE_STATUS))
            event->status = info[i].value.data.status;
    event->request = request_make(answer, context);
    event->list = name_list(procs, count);
    event->members = members_of(procs, count);
    event->data = data; /* libpmix has unloaded it for us */
    event->bytes = bytes;
    return push_request(event);
}

static pmix_status_t up_modex(const pmix_proc_t *proc, const pmix_info_t info[], size_t count, pmix_modex_cbfunc_t answer,
                              void *context)
{
    (void)info, (void)count;
    if (!is_ours(proc))
        return PMIX_ERR_NOT_FOUND;
    struct pmix_event *event = event_make(PMIX_WANTED, proc->rank);
    event->request = request_make(answer, context);
    return push_request(event);
}

static pmix_status_t up_register_events(pmix_status_t *codes, size_t count, const pmix_info_t info[], size_t info_count,
                                        pmix_op_cbfunc_t done, void *context)
{
    (void)codes, (void)count, (void)info, (void)info_count, (void)done, (void)context;
    return PMIX_OPERATION_SUCCEEDED;
}

static pmix_status_t up_deregister_events(pmix_status_t *codes, size_t count, pmix_op_cbfunc_t done, void *context)
{
    (void)codes, (void)count, (void)done, (void)context;
    return PMIX_OPERATION_SUCCEEDED;
}

static pmix_status_t up_notify(pmix_status_t code, const pmix_proc_t *source, pmix_data_range_t range, pmix_info_t info[],
                               size_t count, pmix_op_cbfunc_t done, void *context)
{
    (void)code, (void)source, (void)range, (void)info, (void)count, (void)done, (void)context;
    return PMIX_OPERATION_SUCCEEDED;
}

/* What is not here libpmix answers with NOT_SUPPORTED: nothing Open MPI needs for a job that does not spawn. */
static pmix_server_module_t module = {
    .client_connected2 = up_connected,
    .client_finalized = up_finalized,
    .abort = up_abort,
    .fence_nb = up_fence,
    .direct_modex = up_modex,
    .register_events = up_register_events,
    .deregister_events = up_deregister_events,
    .notify_event = up_notify,
};

/* A death is seen by the step itself a second earlier than libpmix tells of it, so this is for the log only. */
static void on_event(size_t id, pmix_status_t status, const pmix_proc_t *source, pmix_info_t info[], size_t count,
                     pmix_info_t *results, size_t result_count, pmix_event_notification_cbfunc_fn_t done, void *context)
{
    (void)id, (void)info, (void)count, (void)results, (void)result_count;
    log_debug("libpmix: %s, rank %u", PMIx_Error_string(status), source != NULL ? source->rank : 0);
    if (done != NULL)
        done(PMIX_EVENT_ACTION_COMPLETE, NULL, 0, NULL, NULL, context);
}

/* ---- starting, on a thread of its own ---- */

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
    pmix_status_t status;
};

static void waiter_done(pmix_status_t status, void *context)
{
    struct waiter *waiter = context;
    pthread_mutex_lock(&waiter->lock);
    waiter->status = status;
    waiter->done = true;
    pthread_cond_signal(&waiter->changed);
    pthread_mutex_unlock(&waiter->lock);
}

static void waiter_registered(pmix_status_t status, size_t reference, void *context)
{
    (void)reference;
    waiter_done(status, context);
}

/* On the heap and not freed when the wait was in vain: libpmix may still come back to it. */
static struct waiter *waiter_make(void)
{
    struct waiter *waiter = mem_alloc(sizeof *waiter);
    pthread_mutex_init(&waiter->lock, NULL);
    pthread_cond_init(&waiter->changed, NULL);
    return waiter;
}

static pmix_status_t waiter_wait(struct waiter *waiter, pmix_status_t called)
{
    if (called != PMIX_SUCCESS) {
        mem_free(waiter);
        return called == PMIX_OPERATION_SUCCEEDED ? PMIX_SUCCESS : called;
    }
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += CALL_WAIT_S;
    int late = 0;
    pthread_mutex_lock(&waiter->lock);
    while (!waiter->done && late == 0)
        late = pthread_cond_timedwait(&waiter->changed, &waiter->lock, &until);
    pmix_status_t status = waiter->done ? waiter->status : PMIX_ERR_TIMEOUT;
    pthread_mutex_unlock(&waiter->lock);
    if (status != PMIX_ERR_TIMEOUT)
        mem_free(waiter);
    return status == PMIX_OPERATION_SUCCEEDED ? PMIX_SUCCESS : status;
}

static pmix_status_t init_server(const struct host_pmix *host)
{
    struct info_list info = {0};
    char name[PMIX_MAX_NSLEN + 1];
    pmix_rank_t rank = host->spec->node_rank;
    snprintf(name, sizeof name, "tidemark-step.%s", host->spec->node);
    info_add(&info, PMIX_SERVER_NSPACE, name, PMIX_STRING);
    info_add(&info, PMIX_SERVER_RANK, &rank, PMIX_PROC_RANK);
    info_add(&info, PMIX_SERVER_TMPDIR, host->server_dir, PMIX_STRING);
    info_add(&info, PMIX_HOSTNAME, host->spec->node, PMIX_STRING);
    pmix_status_t status = PMIx_server_init(&module, info.items, info.count);
    info_release(&info);
    if (status != PMIX_SUCCESS)
        return status;
    struct waiter *waiter = waiter_make();
    PMIx_Register_event_handler(NULL, 0, NULL, 0, on_event, waiter_registered, waiter);
    return waiter_wait(waiter, PMIX_SUCCESS);
}

static pmix_status_t register_job(const struct host_pmix *host)
{
    struct info_list info = {0};
    host_pmix_job_info(host->spec, host->nspace, host->client_dir, &info);
    struct waiter *waiter = waiter_make();
    int local_size = (int)host->spec->job.nproc_per_node;
    pmix_status_t status = waiter_wait(
        waiter, PMIx_server_register_nspace(host->nspace, local_size, info.items, info.count, waiter_done, waiter));
    if (status != PMIX_ERR_TIMEOUT) /* else libpmix may still read it */
        info_release(&info);
    return status;
}

static pmix_proc_t proc_of(const struct host_pmix *host, uint32_t rank)
{
    pmix_proc_t proc;
    PMIX_LOAD_PROCID(&proc, host->nspace, rank);
    return proc;
}

/* The user and group must be those the rank will have: libpmix refuses any other. */
static pmix_status_t register_ranks(const struct host_pmix *host)
{
    uint32_t nproc = host->spec->job.nproc_per_node;
    for (uint32_t i = 0; i < nproc; i++) {
        pmix_proc_t proc = proc_of(host, host->spec->node_rank * nproc + i);
        struct waiter *waiter = waiter_make();
        pmix_status_t status =
            waiter_wait(waiter, PMIx_server_register_client(&proc, geteuid(), getegid(), NULL, waiter_done, waiter));
        if (status != PMIX_SUCCESS)
            return status;
    }
    return PMIX_SUCCESS;
}

static pmix_status_t collect_environ(struct host_pmix *host, uint32_t local)
{
    pmix_proc_t proc = proc_of(host, host->spec->node_rank * host->spec->job.nproc_per_node + local);
    /* libpmix grows the array with realloc, so it has to be the C library's; the first entry is ours and left out. */
    char **env = mem_array(2, sizeof *env);
    env[0] = mem_strdup("TIDEMARK=1");
    pmix_status_t status = PMIx_server_setup_fork(&proc, &env);
    for (char **entry = env; *entry != NULL; entry++) {
        if (status == PMIX_SUCCESS && entry != env)
            strlist_add(&host->environ[local], *entry);
        mem_free(*entry);
    }
    mem_free(env);
    return status;
}

static pmix_status_t start(struct host_pmix *host, const char **ret_what)
{
    *ret_what = "PMIx_server_init";
    pmix_status_t status = init_server(host);
    if (status != PMIX_SUCCESS)
        return status;
    *ret_what = "PMIx_server_register_nspace";
    status = register_job(host);
    if (status != PMIX_SUCCESS)
        return status;
    *ret_what = "PMIx_server_register_client";
    status = register_ranks(host);
    *ret_what = status == PMIX_SUCCESS ? "PMIx_server_setup_fork" : *ret_what;
    for (uint32_t i = 0; i < host->spec->job.nproc_per_node && status == PMIX_SUCCESS; i++)
        status = collect_environ(host, i);
    return status;
}

static void *start_thread(void *context)
{
    struct host_pmix *host = context;
    const char *what = NULL;
    pmix_status_t status = start(host, &what);
    struct pmix_event *event = event_make(PMIX_UP, 0);
    event->status = status;
    if (status != PMIX_SUCCESS)
        snprintf(event->text, sizeof event->text, "the PMIx server for MPI does not start: %s: %s", what,
                 PMIx_Error_string(status));
    push(host, event);
    return NULL;
}

/* libpmix reads its settings from the environment of this process; what is there belongs to another launcher. */
static void own_environ(void)
{
    static const char *const prefixes[] = {"PMIX_", "PMI_", "OMPI_", "ORTE_", "PRTE_"};
    for (char **entry = environ; entry != NULL && *entry != NULL;) {
        char name[TIDE_PATH_MAX + 1];
        bool foreign = false;
        for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
            foreign |= strncmp(*entry, prefixes[i], strlen(prefixes[i])) == 0;
        snprintf(name, sizeof name, "%.*s", (int)strcspn(*entry, "="), *entry);
        if (!foreign || unsetenv(name) != 0)
            entry++;
    }
    setenv("PMIX_MCA_gds", "hash", 1);
    /* hwloc's plugins can hang on an X display, or take memory of a GPU. */
    setenv("HWLOC_COMPONENTS", "-gl,-opencl,-cuda,-nvml,-rsmi,-levelzero", 1);
}

static enum tide_status make_dirs(struct host_pmix *host, const char *dir, struct err *err)
{
    char job[TIDE_PATH_MAX + 1];
    snprintf(host->server_dir, sizeof host->server_dir, "%s/server", dir);
    snprintf(host->client_dir, sizeof host->client_dir, "%s/ranks", dir);
    snprintf(job, sizeof job, "%s/ranks/job", dir);
    enum tide_status status = fsx_mkdirs(host->server_dir, 0700, err);
    return status == TIDE_OK ? fsx_mkdirs(job, 0700, err) : status;
}

enum tide_status host_pmix_start(const struct step_spec *spec, const char *dir, void (*wake)(void *context), void *context,
                                 struct host_pmix **ret_pmix, struct err *err)
{
    struct host_pmix *host = mem_alloc(sizeof *host);
    host->spec = spec;
    host->wake = wake;
    host->context = context;
    pthread_mutex_init(&host->lock, NULL);
    snprintf(host->nspace, sizeof host->nspace, "tidemark.%s.%" PRIu64 ".%.*s", spec->uid, spec->generation,
             NSPACE_TOKEN_CHARS, spec->token);
    own_environ();
    the_host = host;
    pthread_t thread;
    enum tide_status status = make_dirs(host, dir, err);
    if (status == TIDE_OK && pthread_create(&thread, NULL, start_thread, host) != 0)
        status = err_errno(err, "cannot create a thread");
    if (status != TIDE_OK) {
        mem_free(host);
        return status;
    }
    pthread_detach(thread);
    *ret_pmix = host;
    return TIDE_OK;
}

const struct strlist *host_pmix_environ(const struct host_pmix *host, uint32_t local)
{
    return &host->environ[local];
}

/* ---- downcalls; all are queued to libpmix's thread and return at once ---- */

void host_pmix_answer(struct host_pmix *host, void *context, int32_t status, char *data, size_t bytes)
{
    (void)host;
    struct request *request = context;
    request->answer(status, data, bytes, request->context, mem_free, data);
    mem_free(request);
}

static void on_fetched(pmix_status_t status, char *data, size_t bytes, void *context)
{
    struct pmix_event *event = context;
    event->status = status;
    if (data != NULL && bytes > 0) {
        event->data = mem_alloc(bytes);
        memcpy(event->data, data, bytes);
        event->bytes = bytes;
    }
    push(the_host, event);
}

int32_t host_pmix_fetch(struct host_pmix *host, uint64_t key, uint32_t rank)
{
    pmix_proc_t proc = proc_of(host, rank);
    struct pmix_event *event = event_make(PMIX_FETCHED, rank);
    event->key = key;
    pmix_status_t status = PMIx_server_dmodex_request(&proc, on_fetched, event);
    if (status != PMIX_SUCCESS)
        pmix_event_free(event);
    return status;
}
