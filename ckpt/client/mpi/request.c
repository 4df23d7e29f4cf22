/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>
#include <sys/mman.h>

#include "ckpt/client/mpi/inside.h"

struct requests requests;

/* ---- the arena ---- */

/* Address space: what is not used takes no memory. NULL: there is none. */
static void *room_for(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

#if MPI_HANDLES_ARE_POINTERS
#define PROBE_FIRST 1000

/* Where in an object Open MPI keeps the number that Fortran knows it by: its own function tells, of an object that counts.
 */
static int fortran_offset(void)
{
    int32_t object[FORTRAN_ROOM / sizeof(int32_t)];
    const int words = (int)(sizeof object / sizeof object[0]);
    for (int i = 0; i < words; i++)
        object[i] = PROBE_FIRST + i;
    int at = real.Request_c2f((MPI_Request)(void *)object) - PROBE_FIRST;
    return at > 0 && at < words ? at * (int)sizeof(int32_t) : 0;
}

static bool handles_init(void)
{
    _Static_assert(sizeof(struct request) / HANDLE_SHRINK >= sizeof(int32_t), "a number between two handles");
    requests.handles = room_for(REQUESTS_MAX * sizeof(struct request) / HANDLE_SHRINK + FORTRAN_ROOM);
    requests.fortran_at = fortran_offset();
    return requests.handles != NULL;
}

/* Negative: Open MPI's own numbers are not. */
static int32_t number_of(const struct request *request)
{
    return -2 - (int32_t)(request - requests.arena);
}

static void handle_init(struct request *request)
{
    int32_t number = number_of(request);
    if (requests.fortran_at)
        memcpy((char *)request_handle(request) + requests.fortran_at, &number, sizeof number);
}
#else
static bool handles_init(void)
{
    return true;
}

static void handle_init(struct request *request)
{
    (void)request;
}
#endif

int requests_init(void)
{
    requests.arena = room_for(REQUESTS_MAX * sizeof(struct request));
    return requests.arena && handles_init() ? MPI_SUCCESS : MPI_ERR_NO_MEM;
}

static struct request *request_new(void)
{
    if (requests.used == REQUESTS_MAX)
        return NULL;
    struct request *request = &requests.arena[requests.used++];
    handle_init(request);
    return request;
}

struct request *request_create(enum request_kind kind, struct comm *comm)
{
    struct request *request = requests.free;
    if (LIKELY(request != NULL))
        requests.free = request->next_free;
    else if ((request = request_new()) == NULL)
        return NULL;
    request->kind = (uint8_t)kind;
    request->state = REQUEST_INACTIVE;
    request->comm = comm;
    request->error = MPI_SUCCESS;
    request->mode = 0; /* SEND_STANDARD */
    return request;
}

void request_destroy(struct request *request)
{
    struct comm *comm = request->comm;
    if (UNLIKELY(request->own_type))
        real.Type_free(&request->type);
    if (UNLIKELY(request->kind == REQUEST_PASSED && request->real != MPI_REQUEST_NULL))
        real.Request_free(&request->real);
    request->persistent = request->cancelling = request->own_type = request->unheld = request->ours = request->taken_back =
        request->told = request->matched = false;
    request->parcel = NULL;
    request->copy = NULL;
    request_give(request);
    if (UNLIKELY(comm && comm->freed))
        comm_unpend(comm);
}

uint32_t requests_on(const struct comm *comm)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < requests.used; i++)
        count += requests.arena[i].kind != REQUEST_FREE && requests.arena[i].comm == comm;
    return count;
}

int request_pass(int error, enum passed what, MPI_Comm handle, MPI_Request *real_request)
{
    if (!inside.on || error != MPI_SUCCESS)
        return error;
    inside_lock();
    struct request *request = request_create(REQUEST_PASSED, comm_find(handle));
    if (request) {
        request->persistent = true;
        request->mode = (uint8_t)what;
        request->real = *real_request;
        *real_request = request_handle(request);
    }
    inside_unlock();
    return request ? MPI_SUCCESS : raise_error(NULL, MPI_ERR_NO_MEM);
}

/* ---- handles of the Fortran bindings ---- */

#if MPI_HANDLES_ARE_POINTERS
static struct request *of_number(MPI_Fint number)
{
    uint32_t at = (uint32_t)(-2 - number);
    return number <= -2 && at < requests.used ? &requests.arena[at] : NULL;
}

MPI_Fint MPI_Request_c2f(MPI_Request handle)
{
    struct request *request = request_of(handle);
    return request ? number_of(request) : real.Request_c2f(handle);
}

MPI_Request MPI_Request_f2c(MPI_Fint number)
{
    struct request *request = of_number(number);
    return request ? request_handle(request) : real.Request_f2c(number);
}

MPI_Fint MPI_Message_c2f(MPI_Message handle)
{
    struct request *request = message_of(handle);
    return request ? number_of(request) : real.Message_c2f(handle);
}

MPI_Message MPI_Message_f2c(MPI_Fint number)
{
    struct request *request = of_number(number);
    return request ? message_handle(request) : real.Message_f2c(number);
}

INTERPOSED(Request_c2f);
INTERPOSED(Request_f2c);
INTERPOSED(Message_c2f);
INTERPOSED(Message_f2c);
#endif

/* ---- freeing, cancelling ---- */

/* Ours that nobody waits for any more: what is under way goes on. */
static void let_go(struct request *request)
{
    bool active = request->state == REQUEST_REAL || request->state == REQUEST_QUEUED;
    if (request->state != REQUEST_INACTIVE)
        inside.outstanding--;
    if (!active) {
        request_destroy(request);
        return;
    }
    request->unheld = true;
    inside.unheld++;
    request->persistent = false;
    settle_quick(); /* it is looked after */
}

int MPI_Request_free(MPI_Request *handle)
{
    if (!inside.on || *handle == MPI_REQUEST_NULL)
        return real.Request_free(handle);
    inside_lock();
    struct request *request = request_of(*handle);
    int error = MPI_SUCCESS;
    if (request) {
        let_go(request);
        *handle = MPI_REQUEST_NULL;
    } else {
        MPI_Request gone = *handle;
        error = real.Request_free(handle);
        if (error == MPI_SUCCESS)
            request_gone(gone);
    }
    inside_unlock();
    return error;
}

#define UNREPEATABLE_MAX 1024u
static struct {
    MPI_Request handle;
    enum unrepeatable what;
} unrepeatable[UNREPEATABLE_MAX];

static void unrepeatable_note(MPI_Request handle, enum unrepeatable what)
{
    if (inside.unrepeatable == UNREPEATABLE_MAX) {
        inside.unrepeatable_unnoted = true;
        return;
    }
    unrepeatable[inside.unrepeatable].handle = handle;
    unrepeatable[inside.unrepeatable++].what = what;
}

void request_held(int error, MPI_Request handle, enum unrepeatable what)
{
    if (!inside.on || error != MPI_SUCCESS)
        return;
    inside_lock();
    inside.outstanding++;
    if (what != REPEATABLE)
        unrepeatable_note(handle, what);
    inside_unlock();
}

static void unrepeatable_forget(MPI_Request handle)
{
    for (uint32_t i = 0; i < inside.unrepeatable; i++) {
        if (unrepeatable[i].handle != handle)
            continue;
        unrepeatable[i] = unrepeatable[--inside.unrepeatable];
        return;
    }
}

/* Started, and not completed. */
static bool is_under_way(const struct request *request)
{
    return request->kind != REQUEST_FREE && request->state != REQUEST_INACTIVE;
}

static bool both_under_way(const struct request *request)
{
    return request->kind == REQUEST_BOTH && is_under_way(request);
}

static bool is_partitioned(const struct request *request)
{
    return request->kind == REQUEST_PASSED && request->mode == PASSED_PARTITIONED;
}

static bool collective_under_way(const struct request *request)
{
    return request->kind == REQUEST_PASSED && request->mode == PASSED_COLLECTIVE && is_under_way(request);
}

static bool foreign_under_way(const struct request *request)
{
    return request->kind == REQUEST_PASSED && request->mode == PASSED_FOREIGN && is_under_way(request);
}

static bool any(bool (*rule)(const struct request *))
{
    for (uint32_t i = 0; i < requests.used; i++) {
        if (rule(&requests.arena[i]))
            return true;
    }
    return false;
}

/* Some members may have completed a collective and others not. */
const char *unrepeatable_why(void)
{
    if (inside.unrepeatable > 0 && unrepeatable[0].what == UNREPEATABLE_FILE)
        return "a nonblocking MPI file operation is outstanding at the safe point; complete it before tide_step";
    if (any(is_partitioned))
        return "a partitioned MPI request exists: its messages are not followed";
    if (any(foreign_under_way))
        return "an MPI request with processes outside MPI_COMM_WORLD is outstanding at the safe point";
    if (inside.unrepeatable > 0 || inside.unrepeatable_unnoted || any(collective_under_way))
        return "a nonblocking MPI collective is outstanding at the safe point: a rank that has completed it would not begin "
               "it again after "
               "a restart; complete it before tide_step";
    if (any(both_under_way))
        return "an MPI_Isendrecv is outstanding at the safe point: to post it again would send its message twice; complete "
               "it before "
               "tide_step";
    return NULL;
}

/* MPI's own requests of the program: those that can be cancelled. */
#define GREQUESTS_MAX 256
static MPI_Request grequests[GREQUESTS_MAX];

static MPI_Request *grequest_place(MPI_Request handle)
{
    for (int i = 0; i < GREQUESTS_MAX; i++) {
        if (grequests[i] == handle)
            return &grequests[i];
    }
    return NULL;
}

int MPI_Grequest_start(MPI_Grequest_query_function *query, MPI_Grequest_free_function *release,
                       MPI_Grequest_cancel_function *cancel, void *state, MPI_Request *handle)
{
    int error = real.Grequest_start(query, release, cancel, state, handle);
    if (!inside.on || error)
        return error;
    inside_lock();
    static bool begun;
    for (int i = 0; !begun && i < GREQUESTS_MAX; i++)
        grequests[i] = MPI_REQUEST_NULL;
    begun = true;
    MPI_Request *place = grequest_place(MPI_REQUEST_NULL);
    if (place) {
        *place = *handle;
        inside.grequests++;
    }
    inside.outstanding++;
    inside_unlock();
    return error;
}

static void grequest_forget(MPI_Request handle)
{
    MPI_Request *place = grequest_place(handle);
    if (place) {
        *place = MPI_REQUEST_NULL;
        inside.grequests--;
    }
}

void request_forget(MPI_Request handle)
{
    if (inside.grequests)
        grequest_forget(handle);
    if (inside.unrepeatable)
        unrepeatable_forget(handle);
}

/* A send cannot be taken back: that is one of the two outcomes MPI allows, and the count stays right. */
int MPI_Cancel(MPI_Request *handle)
{
    if (!inside.on || *handle == MPI_REQUEST_NULL)
        return real.Cancel(handle);
    inside_lock();
    struct request *request = request_of(*handle);
    int error = MPI_SUCCESS;
    if (request == NULL && grequest_place(*handle) != NULL)
        error = real.Cancel(handle);
    else if (request && request->kind == REQUEST_RECV)
        error = receive_cancel(request);
    else if (request && request->kind == REQUEST_PASSED && request->state == REQUEST_REAL)
        error = real.Cancel(&request->real);
    inside_unlock();
    return error;
}

/* Receives that wait need their datatype longer than the program. */
int MPI_Type_free(MPI_Datatype *type)
{
    if (!inside.on)
        return real.Type_free(type);
    inside_lock();
    for (uint32_t i = 0; i < requests.used; i++) {
        struct request *request = &requests.arena[i];
        if ((request->kind == REQUEST_RECV || request->kind == REQUEST_SEND) && request->type == *type && !request->own_type)
            request->own_type = PMPI_Type_dup(*type, &request->type) == MPI_SUCCESS;
    }
    inside_unlock();
    return real.Type_free(type);
}

INTERPOSED(Request_free);
INTERPOSED(Grequest_start);
INTERPOSED(Cancel);
INTERPOSED(Type_free);
