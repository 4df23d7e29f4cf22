/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/client/nccl/inside.h"

/* What the streams of a communicator have come to, where the host alone cannot tell: a mark is an event before a collective and one
 * behind it. The program's thread records them; a thread of ours asks for them, and another one (watch.c) tells the agent: to ask
 * may take as long as whatever hangs. */

static _Atomic bool marking; /* somebody is told of it, and CUDA was found */
static pthread_mutex_t telling = PTHREAD_MUTEX_INITIALIZER; /* over `told_to`; before that of comms */
static struct control_progress *told_to;
static pid_t looking; /* the process that has the thread that asks */
static uint32_t round_number;

/* ---- on the program's thread ---- */

/* It is ours, not the program's. The events are no use there: of another context, or the device has failed. */
static void give_up(struct marks *marks)
{
    cuda.GetLastError();
    atomic_store(&marks->off, true);
}

static bool is_captured(cudaStream_t stream)
{
    enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusActive;
    if (cuda.StreamIsCapturing(stream, &status) == cudaSuccess)
        return status != cudaStreamCaptureStatusNone;
    cuda.GetLastError();
    return true;
}

static bool has_gpu(struct comm *comm)
{
    struct marks *marks = &comm->marks;
    if (LIKELY(marks->has_gpu))
        return true;
    marks->has_gpu = real.CommCuDevice(comm->handle, &marks->gpu) == ncclSuccess;
    return marks->has_gpu;
}

static bool has_events(struct mark *mark)
{
    return mark->after != NULL ||
           ((mark->before != NULL || cuda.EventCreateWithFlags(&mark->before, cudaEventDisableTiming) == cudaSuccess) &&
            cuda.EventCreateWithFlags(&mark->after, cudaEventDisableTiming) == cudaSuccess);
}

/* Of a GPU: where it is the default stream's, that is the one in use. Its communicator's, as NCCL has it. */
static cudaError_t record(const struct marks *marks, cudaEvent_t event, cudaStream_t stream)
{
    int before = cuda_use(marks->gpu);
    cudaError_t error = cuda.EventRecord(event, stream);
    if (before != marks->gpu)
        cuda.SetDevice(before);
    return error;
}

/* Some milliseconds are near enough; the exact time costs more than all else that we do in a call. */
static uint64_t about_now_ns(void)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* On the communicator's GPU. */
static struct mark *begin(struct marks *marks, struct mark *mark, cudaStream_t stream)
{
    if (is_captured(stream))
        return NULL;
    if (has_events(mark) && cuda.EventRecord(mark->before, stream) == cudaSuccess)
        return mark;
    give_up(marks);
    return NULL;
}

struct mark *mark_before(struct comm *comm, uint64_t op, cudaStream_t stream)
{
    struct marks *marks = &comm->marks;
    uint32_t head = atomic_load_explicit(&marks->head, memory_order_relaxed);
    if (LIKELY(!atomic_load_explicit(&marking, memory_order_relaxed)) || comm->background || atomic_load(&marks->off) ||
        atomic_load(&marks->untold))
        return NULL;
    uint64_t now_ns = about_now_ns();
    if (!mark_due(now_ns, marks->last_ns, head - atomic_load_explicit(&marks->tail, memory_order_acquire)))
        return NULL;
    marks->last_ns = now_ns;
    if (!has_gpu(comm)) {
        give_up(marks);
        return NULL;
    }
    int before = cuda_use(marks->gpu);
    struct mark *mark = begin(marks, &marks->items[head % MARKS], stream);
    if (before != marks->gpu)
        cuda.SetDevice(before);
    if (mark != NULL)
        mark->op = op;
    return mark;
}

void mark_after(struct comm *comm, const struct mark *mark, cudaStream_t stream, ncclResult_t result)
{
    struct marks *marks = &comm->marks;
    if (result != ncclSuccess) /* nothing of it is in the stream */
        return;
    if (record(marks, mark->after, stream) != cudaSuccess) {
        give_up(marks);
        return;
    }
    atomic_fetch_add_explicit(&marks->head, 1, memory_order_release);
}

void marks_free(struct marks *marks)
{
    for (size_t i = 0; i < MARKS; i++) {
        if (marks->items[i].before != NULL)
            cuda.EventDestroy(marks->items[i].before);
        if (marks->items[i].after != NULL)
            cuda.EventDestroy(marks->items[i].after);
        marks->items[i] = (struct mark){0};
    }
}

/* ---- on the thread that asks ---- */

/* Of a device that has failed nothing is known any more. */
static bool has_come(struct marks *marks, cudaEvent_t event)
{
    cudaError_t error = cuda.EventQuery(event);
    if (error != cudaSuccess && error != cudaErrorNotReady)
        give_up(marks);
    return error == cudaSuccess;
}

static void grow(_Atomic uint64_t *to, uint64_t op)
{
    if (atomic_load(to) < op)
        atomic_store(to, op);
}

/* Those that are whole make room. Who asks may have to wait himself: then that is not whole. */
static uint32_t take_whole(struct marks *marks, uint32_t tail, uint32_t head)
{
    for (; tail != head; tail++) {
        const struct mark *mark = &marks->items[tail % MARKS];
        atomic_store(&marks->undone, mark->op);
        if (!has_come(marks, mark->after))
            break;
        grow(&marks->reached, mark->op);
        grow(&marks->done, mark->op);
        atomic_store_explicit(&marks->tail, tail + 1, memory_order_release);
    }
    return tail;
}

/* How far is it to the others? They may be in several streams. */
static void ask_before(struct marks *marks, uint32_t tail, uint32_t head)
{
    uint64_t unreached = 0, undone = tail != head ? marks->items[tail % MARKS].op : 0;
    for (; tail != head; tail++) {
        const struct mark *mark = &marks->items[tail % MARKS];
        if (has_come(marks, mark->before))
            grow(&marks->reached, mark->op);
        else if (unreached == 0)
            unreached = mark->op;
    }
    atomic_store(&marks->unreached, unreached);
    atomic_store(&marks->undone, undone);
}

/* Else the thread's first call would begin to use the first of all. */
static void use_only(int gpu)
{
    static int used = -1; /* by the one thread that asks */
    if (gpu != used && cuda.SetDevice(gpu) == cudaSuccess)
        used = gpu;
}

/* While the program goes on nobody needs to know what is under way. */
static void look_at(struct comm *comm)
{
    struct marks *marks = &comm->marks;
    uint64_t begun = atomic_load(&comm->collectives);
    uint32_t head = atomic_load_explicit(&marks->head, memory_order_acquire), tail = atomic_load(&marks->tail);
    bool stands = begun == marks->seen_begun;
    marks->seen_begun = begun;
    if (head != tail && !atomic_load(&marks->off)) {
        use_only(marks->gpu);
        tail = take_whole(marks, tail, head);
    }
    if (stands && !atomic_load(&marks->off))
        ask_before(marks, tail, head);
    if (!stands || atomic_load(&marks->off))
        ask_before(marks, head, head);
}

/* One of those that are told of and was not looked at in this round; a reference. */
static struct comm *next_to_look_at(void)
{
    struct comm *next = NULL;
    uint32_t told = 0;
    pthread_mutex_lock(&comms.lock);
    for (struct comm *comm = comms.first; comm && next == NULL && told < CONTROL_PROGRESS_MAX; comm = comm->next) {
        told += !comm_is_dead(comm);
        if (!comm_is_dead(comm) && comm->marks.round != round_number)
            next = comm;
    }
    if (next != NULL) {
        next->marks.round = round_number;
        atomic_fetch_add(&next->refs, 1);
    }
    pthread_mutex_unlock(&comms.lock);
    return next;
}

/* A dead one gets no marks any more, once all who have found it alive are back; a program may keep it for long. */
static struct comm *next_to_empty(void)
{
    struct comm *next = NULL;
    pthread_mutex_lock(&comms.lock);
    for (struct comm *comm = comms.first; comm && next == NULL; comm = comm->next)
        if (comm_is_dead(comm) && atomic_load(&comm->refs) == 1 && comm->marks.has_gpu)
            next = comm;
    if (next != NULL)
        atomic_fetch_add(&next->refs, 1);
    pthread_mutex_unlock(&comms.lock);
    return next;
}

static void *look(void *unused)
{
    const struct timespec pause = {.tv_nsec = WATCH_MS * NS_PER_MS};
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed; /* to ask harms no capture of the program's */
    (void)unused;
    cuda.ThreadExchangeStreamCaptureMode(&mode);
    for (;;) {
        nanosleep(&pause, NULL);
        round_number++;
        struct comm *comm;
        while (atomic_load(&marking) && (comm = next_to_look_at()) != NULL) {
            look_at(comm);
            comm_put(comm);
        }
        while ((comm = next_to_empty()) != NULL) {
            marks_free(&comm->marks);
            comm->marks.has_gpu = false;
            comm_put(comm);
        }
    }
    return NULL;
}

/* ---- what is told ---- */

static void tell_of(struct comm *comm, struct control_progress_comm *to, uint64_t now_ns)
{
    struct marks *marks = &comm->marks;
    uint64_t begun = atomic_load(&comm->collectives);
    if (begun != marks->told_begun || marks->since_ns == 0)
        marks->since_ns = now_ns;
    marks->told_begun = begun;
    *to = (struct control_progress_comm){.id = comm->id, .begun = begun, .reached = atomic_load(&marks->reached),
                                         .unreached = atomic_load(&marks->unreached), .done = atomic_load(&marks->done),
                                         .undone = atomic_load(&marks->undone), .since_ns = marks->since_ns,
                                         .size = (uint32_t)comm->size, .member = (uint32_t)comm->rank,
                                         .messages = atomic_load(&comm->sent) != NULL || atomic_load(&comm->received) != NULL};
    text_copy(to->name, sizeof to->name, comm->name);
}

void marks_tell(void)
{
    uint64_t now_ns = clock_mono_ns();
    pthread_mutex_lock(&telling);
    struct control_progress *to = told_to;
    uint32_t count = 0, more = 0;
    if (to != NULL)
        atomic_fetch_add(&to->version, 1);
    pthread_mutex_lock(&comms.lock);
    for (struct comm *comm = comms.first; to != NULL && comm; comm = comm->next) {
        if (comm->past || comm_is_dead(comm))
            continue;
        comm_ask_size_locked(comm);
        atomic_store(&comm->marks.untold, count == CONTROL_PROGRESS_MAX);
        if (count < CONTROL_PROGRESS_MAX)
            tell_of(comm, &to->comms[count++], now_ns);
        else
            more++;
    }
    pthread_mutex_unlock(&comms.lock);
    if (to != NULL) {
        to->count = count;
        to->more = more;
        atomic_fetch_add(&to->version, 1);
    }
    pthread_mutex_unlock(&telling);
}

void tide_nccl_tell(struct control_progress *to)
{
    bool asks = to != NULL && cuda_find();
    pthread_mutex_lock(&telling);
    told_to = to;
    bool first = asks && looking != getpid();
    if (first)
        looking = getpid();
    pthread_mutex_unlock(&telling);
    if (first && !run_beside(look, NULL)) {
        looking = 0;
        asks = false;
    }
    atomic_store(&marking, asks);
}
