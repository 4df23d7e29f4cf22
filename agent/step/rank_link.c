/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/step/step.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "ckpt/stage/arena.h"
#include "ckpt/stage/numa.h"
#include "ckpt/wire/local.h"

#define RANK_LINKS_MAX (4 * TIDE_LOCAL_RANKS_MAX) /* connections, those that have not said hello included */

/* A connection of libtidemark. */
struct rank_link {
    struct step *step;
    struct rank *rank; /* NULL before its hello */
    int fd;
    int32_t pid;
    uv_poll_t poll;
    bool reserving; /* a worker uses it … */
    bool ahead;     /* … for what nobody waits for */
    uint64_t reserve_next; /* asked for meanwhile: bytes; 0: nothing */
    bool dead;      /* closed meanwhile */
    char whose[NUMA_WHOSE_MAX + 1]; /* memory node rank->home is: "GPU 0000:65:00.0" */
};

struct reservation {
    uv_work_t request;
    struct rank_link *link;
    char arena[TIDE_PATH_MAX + 1];
    uint32_t number;
    uint64_t bytes, before_bytes;
    int home;                      /* memory node; NUMA_ANYWHERE: none is asked for */
    char whose[NUMA_WHOSE_MAX + 1];
    unsigned made, preferred;      /* files that were made or grown; of them those on whose place the kernel let us have a say */
    unsigned looks, there;         /* pages of them that were looked at, and lie at home */
    enum tide_status status;
    struct err err;
};

/* ---- connections ---- */

static void on_link_closed(uv_handle_t *handle)
{
    struct rank_link *link = handle->data;
    close(link->fd);
    link->step->rank_links--;
    mem_free(link);
}

static void link_close(struct rank_link *link)
{
    if (link->dead)
        return;
    link->dead = true;
    uv_poll_stop(&link->poll);
    struct rank *rank = link->rank;
    if (rank != NULL && rank->link == link) {
        rank->link = NULL;
        if (rank->asking)
            status_changed(link->step);
        rank->asking = false;
        share_forget(link->step->share, rank->report.rank);
        bookmarks_forget(link->step->marks, rank->report.rank);
    }
    if (!link->reserving)
        uv_close((uv_handle_t *)&link->poll, on_link_closed);
}

void rank_link_drop(struct rank *rank)
{
    if (rank->link != NULL)
        link_close(rank->link);
}

/* A rank waits for every answer, so its buffer has room; one whose has not is not libtidemark. */
static void link_send(struct rank_link *link, struct local_message *message)
{
    message->magic = LOCAL_MAGIC;
    message->rank = link->rank != NULL ? link->rank->report.rank : message->rank;
    message->generation = link->step->spec.generation;
    if (link->dead)
        return;
    if (send(link->fd, message, sizeof *message, MSG_DONTWAIT | MSG_NOSIGNAL) != (ssize_t)sizeof *message)
        link_close(link);
}

void rank_link_tell(struct rank *rank, struct local_message *message)
{
    if (rank->link != NULL)
        link_send(rank->link, message);
}

static void refuse(struct rank_link *link, enum tide_status status, const char *text)
{
    struct local_message message = {.type = LOCAL_REFUSED, .status = status};
    text_fit(message.text, sizeof message.text, text);
    link_send(link, &message);
}

void rank_link_renew(struct rank *rank)
{
    rank->asking = false;
    rank->ask = (struct step_ask){.bad_slot = -1};
    share_forget(rank->step->share, rank->report.rank);
    bookmarks_forget(rank->step->marks, rank->report.rank);
}

/* ---- hello ---- */

static bool alive(const struct rank_link *link)
{
    return link != NULL && (kill(link->pid, 0) == 0 || errno != ESRCH);
}

static void take_hello(struct rank_link *link, const struct local_message *message)
{
    struct step *step = link->step;
    struct rank *rank = ranks_find(step, message->rank);
    char text[TIDE_TEXT_MAX + 1] = "";
    enum tide_status status = TIDE_E_INVALID;
    if (message->generation != step->spec.generation) {
        status = TIDE_E_STALE;
        snprintf(text, sizeof text, "this is generation %" PRIu64 " of the job, not %" PRIu64 ": the process is a left-over",
                 step->spec.generation, message->generation);
    } else if (rank == NULL) {
        snprintf(text, sizeof text, "rank %u does not run on this node", message->rank);
    } else if (stay_over(rank)) {
        status = TIDE_E_RESTART;
        snprintf(text, sizeof text, "generation %" PRIu64 " of the job is over; end this process", step->spec.generation);
    } else if (link->rank != NULL || (rank->link != NULL && rank->link != link && alive(rank->link))) {
        status = TIDE_E_STATE;
        snprintf(text, sizeof text, "rank %u has called tide_init already, in process %d", message->rank,
                 rank->link != NULL ? rank->link->pid : link->pid);
    }
    if (text[0] != '\0') {
        refuse(link, status, text);
        return;
    }
    rank_link_drop(rank);
    link->rank = rank;
    rank->link = link;
    rank->report.attached = true;
    link_send(link, &(struct local_message){.type = LOCAL_WELCOME});
    status_changed(step);
    agent_link_nudge(step);
}

/* ---- reserving slots ---- */

static void reserve_one(struct reservation *want, const char *path)
{
    bool preferred = false;
    want->status = slot_reserve_on(path, want->bytes, want->home, &preferred, &want->err);
    if (want->status != TIDE_OK || want->home == NUMA_ANYWHERE)
        return;
    unsigned looks = 0;
    want->there += numa_pages_on(path, want->home, &looks);
    want->looks += looks;
    want->made++;
    want->preferred += preferred;
}

/* Where they lie, as far as that matters: on a host with one memory node nobody says where. */
static void tell_home(const struct reservation *want)
{
    if (want->status != TIDE_OK || want->made == 0)
        return;
    if (want->preferred < want->made)
        log_info("rank %u: its slots should lie on memory node %d, that of %s, and the kernel does not let us ask for it: they lie where "
                 "there is memory", want->number, want->home, want->whose);
    else
        log_info("rank %u: its slots are to lie on memory node %d, that of %s: %u of %u pages that were looked at do", want->number,
                 want->home, want->whose, want->there, want->looks);
}

/* On a worker: real blocks for gigabytes take seconds. */
static void on_reserve(uv_work_t *request)
{
    struct reservation *want = (struct reservation *)request;
    uint64_t before[SLOTS_ALWAYS];
    uint32_t slot = 0;
    for (; slot < SLOTS_ALWAYS; slot++) {
        char path[TIDE_PATH_MAX + 64];
        slots_path(want->arena, want->number, slot, path);
        before[slot] = slots_file_bytes(path);
        if (before[slot] >= want->bytes)
            continue;
        reserve_one(want, path);
        if (want->status != TIDE_OK)
            break;
    }
    /* Half a reservation helps nobody: give back what was taken. */
    for (uint32_t i = 0; want->status != TIDE_OK && i <= slot; i++) {
        char path[TIDE_PATH_MAX + 64];
        slots_path(want->arena, want->number, i, path);
        if (before[i] == 0)
            unlink(path);
        else if (before[i] < want->bytes && truncate(path, (off_t)before[i]) != 0)
            log_warn("cannot shorten %s", path);
    }
}

static void take_reserve(struct rank_link *link, uint64_t bytes, bool ahead);

/* Nobody has waited for this one, but somebody may by now. */
static void reserved_ahead(struct rank_link *link, const struct reservation *done)
{
    uint64_t next = link->reserve_next;
    link->reserve_next = 0;
    if (done->status != TIDE_OK)
        log_warn("rank %u: %s; tried again when its state is recorded", done->number, done->err.text);
    if (next != 0)
        take_reserve(link, next, false);
}

static void on_reserved(uv_work_t *request, int status)
{
    (void)status; /* never cancelled */
    struct reservation *want = (struct reservation *)request;
    struct rank_link *link = want->link;
    link->reserving = false;
    status_changed(link->step); /* a third slot may be too short by now */
    tell_home(want);
    if (want->status != TIDE_OK)
        link->rank->reserved_bytes = want->before_bytes;
    if (link->dead)
        uv_close((uv_handle_t *)&link->poll, on_link_closed);
    else if (link->ahead)
        reserved_ahead(link, want);
    else if (want->status == TIDE_OK)
        link_send(link, &(struct local_message){.type = LOCAL_GRANTED, .bytes = want->bytes});
    else
        refuse(link, want->status, want->err.text);
    mem_free(want);
}

static void reserve_refused(struct rank_link *link, bool ahead, enum tide_status status, const char *text)
{
    if (ahead)
        log_warn("%s", text);
    else
        refuse(link, status, text);
}

static void take_reserve(struct rank_link *link, uint64_t bytes, bool ahead)
{
    struct step *step = link->step;
    struct rank *rank = link->rank;
    uint64_t max = step->spec.arena_bytes_max, own = slots_bytes(rank);
    uint64_t others = slots_bytes_of_others(step, rank) + slots_third_bytes(rank);
    if (link->reserving || bytes == 0 || bytes > INT64_MAX / SLOTS_ALWAYS) {
        reserve_refused(link, ahead, TIDE_E_INVALID, "a reservation of that size is not possible, or another is under way");
        return;
    }
    uint64_t want_bytes = bytes > own ? bytes : own;
    if (max != 0 && (others > max || SLOTS_ALWAYS * want_bytes > max - others)) {
        char text[TIDE_TEXT_MAX + 1];
        snprintf(text, sizeof text,
                 "rank %u needs two slots of %" PRIu64 " bytes, other slots hold %" PRIu64
                 " bytes, and the agent's arena is limited to %" PRIu64 ": raise --arena-max or run fewer ranks here",
                 rank->report.rank, bytes, others, max);
        reserve_refused(link, ahead, TIDE_E_LIMIT, text);
        return;
    }
    struct reservation *want = mem_alloc(sizeof *want);
    want->link = link;
    want->number = rank->report.rank;
    want->bytes = bytes;
    want->before_bytes = rank->reserved_bytes;
    want->home = rank->home;
    text_copy(want->whose, sizeof want->whose, link->whose);
    text_copy(want->arena, sizeof want->arena, step->spec.arena);
    rank->reserved_bytes = want_bytes;
    link->reserving = true;
    link->ahead = ahead;
    if (uv_queue_work(&step->loop, &want->request, on_reserve, on_reserved) == 0)
        return;
    link->reserving = false;
    rank->reserved_bytes = want->before_bytes;
    mem_free(want);
    reserve_refused(link, ahead, TIDE_E_IO, "no worker thread is to be had");
}

static void take_reserve_message(struct rank_link *link, const struct local_message *message)
{
    bool ahead = message->flags & LOCAL_RESERVE_AHEAD;
    link->rank->home = message->slot <= NUMA_NODES_MAX ? (int)message->slot - 1 : NUMA_ANYWHERE;
    text_copy(link->whose, sizeof link->whose, message->text);
    /* Who takes checkpoints by hand, or none, may need the memory for something else. */
    if (ahead && link->step->spec.job.ckpt_every_ms == 0)
        return;
    if (!ahead && link->reserving && link->ahead)
        link->reserve_next = message->bytes;
    else
        take_reserve(link, message->bytes, ahead);
}

/* ---- restoring ---- */

static void take_bad(struct rank_link *link, const struct local_message *message)
{
    struct rank *rank = link->rank;
    rank->ask.bad_slot = (int32_t)message->slot;
    text_copy(rank->ask.bad_detail, sizeof rank->ask.bad_detail, message->text);
    log_warn("rank %u: the copy in slot %u is bad: %s", rank->report.rank, message->slot, message->text);
}

static void answer_rank(struct rank *rank, struct local_message *message)
{
    rank->asking = false;
    rank->ask.bad_slot = -1;
    rank->ask.bad_detail[0] = '\0';
    if (rank->link != NULL)
        link_send(rank->link, message);
    status_changed(rank->step);
}

void rank_link_say_wait(struct rank *rank, uint32_t attempt, uint64_t question)
{
    struct rank_link *link = rank->link;
    if (link == NULL)
        return;
    struct local_message message = {.magic = LOCAL_MAGIC, .type = LOCAL_RESTORE_WAIT, .rank = rank->report.rank,
                                    .generation = link->step->spec.generation, .attempt = attempt, .question = question};
    if (send(link->fd, &message, sizeof message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 && errno != EAGAIN && errno != EINTR)
        link_close(link);
}

static void on_restore_timer(uv_timer_t *timer)
{
    struct step *step = timer->data;
    uint64_t now_ns = clock_mono_ns();
    bool asking = false;
    for (uint32_t i = 0; i < step->rank_count; i++) {
        struct rank *rank = &step->ranks[i];
        if (!rank->asking)
            continue;
        if (now_ns - rank->asked_ns >= STEP_RESTORE_MS * NS_PER_MS) {
            struct local_message message = {.type = LOCAL_REFUSED, .status = TIDE_E_TIMEOUT, .attempt = rank->ask.attempt};
            snprintf(message.text, sizeof message.text,
                     "no answer within %u h: is tidemark-agent running on node %s, and its store reachable?",
                     STEP_RESTORE_MS / 3600000u, step->spec.node);
            answer_rank(rank, &message);
        } else {
            rank_link_say_wait(rank, rank->ask.attempt, 0);
        }
        asking = asking || rank->asking;
    }
    if (!asking)
        uv_timer_stop(timer);
}

static void take_ask(struct rank_link *link, const struct local_message *message)
{
    struct rank *rank = link->rank;
    rank->ask.rank = rank->report.rank;
    rank->ask.attempt = message->attempt;
    rank->asking = true;
    rank->asked_ns = clock_mono_ns();
    if (!uv_is_active((uv_handle_t *)&link->step->restore_timer))
        uv_timer_start(&link->step->restore_timer, on_restore_timer, STEP_RESTORE_SAY_MS, STEP_RESTORE_SAY_MS);
    status_changed(link->step);
}

void rank_link_answer(struct step *step, const struct step_answer *answer)
{
    struct rank *rank = ranks_find(step, answer->rank);
    if (rank == NULL || !rank->asking || rank->ask.attempt != answer->attempt)
        return; /* said before, or of an older question */
    if (answer->result != LOCAL_RESTORE_FROM && answer->result != LOCAL_RESTORE_NONE && answer->result != LOCAL_REFUSED) {
        log_warn("the agent's answer for rank %u is of no kind known here (%u)", answer->rank, answer->result);
        return;
    }
    struct local_message message = {.type = answer->result, .slot = answer->slot, .attempt = answer->attempt,
                                    .flags = answer->tier, .status = answer->status, .cut = answer->cut};
    text_copy(message.text, sizeof message.text, answer->text);
    answer_rank(rank, &message);
}

/* ---- messages ---- */

/* Of a rank whose generation is over: a question is not answered any more. False: it is none. */
static bool take_late(struct rank_link *link, const struct local_message *message)
{
    struct local_message answer = {.type = LOCAL_REFUSED, .status = TIDE_E_RESTART, .question = message->question};
    switch (message->type) {
    case LOCAL_LEFT:
        stay_take_left(link->rank, message);
        return true;
    case LOCAL_RECORDED:
    case LOCAL_RESTORED:
    case LOCAL_GOODBYE:
    case LOCAL_RESTORE_BAD:
        return false;
    case LOCAL_MARKS:
    case LOCAL_RESERVE:
        if (message->type == LOCAL_MARKS ? message->slot == 0 : message->flags & LOCAL_RESERVE_AHEAD)
            return true; /* nobody waits for an answer */
        break;
    default:
        break;
    }
    link_send(link, &answer);
    return true;
}

static void take_message(struct rank_link *link, const struct local_message *message)
{
    if (message->type == LOCAL_HELLO) {
        take_hello(link, message);
        return;
    }
    if (link->rank == NULL || message->rank != link->rank->report.rank) {
        refuse(link, TIDE_E_INVALID, "say hello first, and keep to one rank");
        link_close(link);
        return;
    }
    if (message->generation != link->step->spec.generation) {
        refuse(link, TIDE_E_STALE, "the message is of another generation");
        return;
    }
    if (stay_over(link->rank) && take_late(link, message))
        return;
    switch (message->type) {
    case LOCAL_RESERVE:
        take_reserve_message(link, message);
        break;
    case LOCAL_RESTORE_ASK:
        take_ask(link, message);
        break;
    case LOCAL_RESTORE_BAD:
        take_bad(link, message);
        break;
    case LOCAL_SHARE_GIVE:
    case LOCAL_SHARE_ASK:
        share_take(link->step, link->rank, message);
        break;
    case LOCAL_MARKS:
        marks_take(link->step, link->rank, message);
        break;
    case LOCAL_RECORDED:
    case LOCAL_RESTORED:
    case LOCAL_GOODBYE:
        agent_link_nudge(link->step);
        break;
    default:
        refuse(link, TIDE_E_INVALID, "a message of a kind that ranks do not send");
        break;
    }
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct rank_link *link = poll->data;
    (void)events;
    if (status != 0) {
        link_close(link);
        return;
    }
    struct local_message message;
    ssize_t n = recv(link->fd, &message, sizeof message, MSG_DONTWAIT | MSG_TRUNC);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n > 0 && (n != (ssize_t)sizeof message || message.magic != LOCAL_MAGIC))
        log_warn("a message on %s is none of libtidemark's; is it of another version?", link->step->rank_socket);
    if (n != (ssize_t)sizeof message || message.magic != LOCAL_MAGIC) {
        link_close(link);
        return;
    }
    message.text[sizeof message.text - 1] = '\0';
    take_message(link, &message);
}

static void on_connection(uv_poll_t *poll, int status, int events)
{
    struct step *step = poll->data;
    (void)events;
    int fd = status == 0 ? accept4(step->rank_listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK) : -1;
    struct ucred who = {0};
    socklen_t bytes = sizeof who;
    if (fd < 0)
        return;
    if (step->rank_links == RANK_LINKS_MAX || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) != 0 ||
        (who.uid != geteuid() && who.uid != 0)) {
        close(fd);
        return;
    }
    struct rank_link *link = mem_alloc(sizeof *link);
    link->step = step;
    link->fd = fd;
    link->pid = who.pid;
    step->rank_links++;
    uv_poll_init(&step->loop, &link->poll, fd);
    link->poll.data = link;
    uv_poll_start(&link->poll, UV_READABLE | UV_DISCONNECT, on_readable);
}

enum tide_status rank_link_listen(struct step *step, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    text_copy(address.sun_path, sizeof address.sun_path, step->rank_socket);
    unlink(step->rank_socket);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(err, "cannot create a socket");
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || chmod(step->rank_socket, 0600) != 0 ||
        listen(fd, RANK_LINKS_MAX) != 0) {
        enum tide_status status = err_errno(err, "cannot listen on %s", step->rank_socket);
        close(fd);
        return status;
    }
    step->rank_listen_fd = fd;
    uv_timer_init(&step->loop, &step->restore_timer);
    step->restore_timer.data = step;
    for (uint32_t i = 0; i < step->rank_count; i++)
        step->ranks[i].ask.bad_slot = -1;
    uv_poll_init(&step->loop, &step->rank_listener, fd);
    step->rank_listener.data = step;
    uv_poll_start(&step->rank_listener, UV_READABLE, on_connection);
    return TIDE_OK;
}
