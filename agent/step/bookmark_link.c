/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/step/step.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/wire/local.h"

/* Between the bookmarks of ranks (bookmark.h), their control pages, which are files here, and the mesh. */

static void on_pump(uv_timer_t *timer)
{
    struct step *step = timer->data;
    bookmarks_pump(step->marks, clock_mono_ns());
    if (bookmarks_settled(step->marks))
        uv_timer_stop(timer);
}

static bool op_send(void *context, const struct mesh_frame *frame)
{
    return agent_link_send_frame(context, frame);
}

static int open_page(const struct step *step, uint32_t rank)
{
    char path[TIDE_PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/" CONTROL_FILE_FORMAT, step->spec.arena, rank);
    return open(path, O_RDWR | O_CLOEXEC);
}

/* false: there is no whole page, or it is not as a rank writes it. */
static bool read_marks(const struct step *step, uint32_t rank, struct control_marks *ret_marks)
{
    int fd = open_page(step, rank);
    ssize_t n = fd < 0 ? -1 : pread(fd, ret_marks, sizeof *ret_marks, offsetof(struct control_page, marks));
    if (fd >= 0)
        close(fd);
    return n == (ssize_t)sizeof *ret_marks && ret_marks->channel_count <= CONTROL_CHANNELS_MAX &&
           ret_marks->member_count <= CONTROL_CHANNELS_MAX;
}

static bool write_arriving(const struct step *step, uint32_t rank, const struct control_marks *marks)
{
    const size_t from = offsetof(struct control_marks, arriving_count), bytes = sizeof *marks - from;
    int fd = open_page(step, rank);
    ssize_t n =
        fd < 0 ? -1 : pwrite(fd, (const char *)marks + from, bytes, (off_t)(offsetof(struct control_page, marks) + from));
    if (fd >= 0)
        close(fd);
    return n == (ssize_t)bytes;
}

static void tell(struct rank *rank, enum local_type type, enum tide_status status, const char *text)
{
    struct local_message message = {.type = type, .status = status, .question = rank->question};
    text_copy(message.text, sizeof message.text, text);
    rank_link_tell(rank, &message);
}

/* All bookmarks are here: into the page with those that lead to this rank. */
static void hand_over(struct step *step, struct rank *rank)
{
    struct control_marks *marks = mem_alloc(sizeof *marks);
    uint32_t number = rank->report.rank;
    size_t count = 0;
    bool good = read_marks(step, number, marks);
    if (good)
        count = bookmarks_to(step->marks, marks->members, marks->member_count, marks->arriving, CONTROL_CHANNELS_MAX);
    marks->arriving_count = (uint32_t)count;
    if (!good || (count <= CONTROL_CHANNELS_MAX && !write_arriving(step, number, marks)))
        tell(rank, LOCAL_REFUSED, TIDE_E_IO, "its control page cannot be read or written");
    else if (count > CONTROL_CHANNELS_MAX)
        tell(rank, LOCAL_REFUSED, TIDE_E_LIMIT, "too many channels lead to it");
    else
        tell(rank, LOCAL_MARKED, TIDE_OK, "");
    mem_free(marks);
}

static void op_answer(void *context, uint32_t number, enum tide_status status, const char *why)
{
    struct rank *rank = ranks_find(context, number);
    if (rank == NULL)
        return;
    if (status == TIDE_OK)
        hand_over(context, rank);
    else
        tell(rank, LOCAL_REFUSED, status, why);
}

void marks_renew(struct step *step)
{
    struct bookmark_ops ops = {.context = step, .send = op_send, .answer = op_answer};
    bookmarks_free(step->marks);
    step->marks = bookmarks_create(&step->spec, &ops);
}

void marks_start(struct step *step)
{
    marks_renew(step);
    uv_timer_init(&step->loop, &step->marks_timer);
    step->marks_timer.data = step;
}

void marks_take(struct step *step, struct rank *rank, const struct local_message *message)
{
    struct bookmark_key key = {.cut = message->cut, .attempt = message->attempt};
    struct control_marks *marks = mem_alloc(sizeof *marks);
    uint64_t now = clock_mono_ns();
    rank->question = message->question;
    if (!read_marks(step, rank->report.rank, marks))
        marks->channel_count = 0;
    bookmarks_give(step->marks, rank->report.rank, key, marks->channels, marks->channel_count);
    mem_free(marks);
    if (message->slot != 0)
        bookmarks_ask(step->marks, rank->report.rank, key, now + message->bytes * NS_PER_MS, now);
    if (!bookmarks_settled(step->marks) && !uv_is_active((uv_handle_t *)&step->marks_timer))
        uv_timer_start(&step->marks_timer, on_pump, BOOKMARK_RESEND_MS / 5, BOOKMARK_RESEND_MS / 5);
}
