/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/step/step.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

#define QUEUE_ROOM_BYTES (4 * STEP_LINE_MAX) /* nothing more is queued above it; what is a level is said later */
#define STALL_MS 10000u                      /* an agent that takes nothing for so long is cut off; it comes again */
#define WATCH_MS 1000u
#define LISTEN_BACKLOG 8

struct line_write {
    uv_write_t request;
    struct step *step;
    char *text;
};

static void on_client_closed(uv_handle_t *handle)
{
    mem_free(handle);
}

static void drop_client(struct step *step, const char *why)
{
    struct agent_link *link = &step->agent;
    if (link->client == NULL)
        return;
    log_info("agent's connection closed: %s", why);
    uv_close((uv_handle_t *)link->client, on_client_closed);
    link->client = NULL;
    mem_free(link->line);
    link->line = NULL;
    link->line_bytes = link->line_room = 0;
    link->status_due = link->nudge_due = false;
    uv_timer_stop(&link->watch);
}

/* ---- to the agent ---- */

static size_t queued(const struct agent_link *link)
{
    return uv_stream_get_write_queue_size((const uv_stream_t *)link->client);
}

static bool has_room(const struct agent_link *link)
{
    return link->client != NULL && queued(link) < QUEUE_ROOM_BYTES;
}

bool agent_link_idle(const struct step *step)
{
    return step->agent.client != NULL && queued(&step->agent) == 0 && !step->agent.status_due;
}

static void on_written(uv_write_t *request, int status)
{
    struct line_write *line = (struct line_write *)request;
    struct step *step = line->step;
    bool current = step->agent.client != NULL && (uv_stream_t *)step->agent.client == request->handle;
    mem_free(line->text);
    mem_free(line);
    if (!current || status != 0)
        return;
    step->agent.progress_ns = clock_mono_ns();
    if (has_room(&step->agent) && step->agent.status_due)
        agent_link_status(step);
    if (has_room(&step->agent) && step->agent.nudge_due)
        agent_link_nudge(step);
    mesh_pump(step);
    if (agent_link_idle(step))
        step_heard(step);
}

static void send_line(struct step *step, const struct step_line *line)
{
    struct line_write *out = mem_alloc(sizeof *out);
    char *text = codec_print(&step_line_codec, line, CODEC_COMPACT);
    size_t bytes = strlen(text);
    out->step = step;
    out->text = mem_grow(text, bytes + 1, 1);
    out->text[bytes] = '\n'; /* over the NUL: the length is told apart */
    if (queued(&step->agent) == 0)
        step->agent.progress_ns = clock_mono_ns();
    uv_buf_t buffer = uv_buf_init(out->text, (unsigned)(bytes + 1));
    int bad = uv_write(&out->request, (uv_stream_t *)step->agent.client, &buffer, 1, on_written);
    if (bad == 0)
        return;
    mem_free(out->text);
    mem_free(out);
    drop_client(step, uv_strerror(bad));
}

void agent_link_status(struct step *step)
{
    step->agent.status_due = step->agent.client != NULL && !has_room(&step->agent);
    if (!has_room(&step->agent))
        return;
    struct step_line line = {.kind = STEP_STATUS};
    status_fill(step, &line.status);
    send_line(step, &line);
    status_release(&line.status);
}

void agent_link_nudge(struct step *step)
{
    step->agent.nudge_due = step->agent.client != NULL && !has_room(&step->agent);
    if (has_room(&step->agent))
        send_line(step, &(struct step_line){.kind = STEP_NUDGE});
}

bool agent_link_send_frame(struct step *step, const struct mesh_frame *frame)
{
    if (!has_room(&step->agent))
        return false;
    struct step_line line = {.kind = STEP_MESH, .frame = *frame};
    send_line(step, &line);
    return true;
}

/* ---- from the agent ---- */

static void take_line(struct step *step, const struct step_line *line)
{
    switch (line->kind) {
    case STEP_MESH:
        mesh_frame(step, &line->frame);
        break;
    case STEP_ANSWER:
        rank_link_answer(step, &line->answer);
        break;
    case STEP_END:
        step_end(step, line->grace_ms);
        break;
    case STEP_LEAVE:
        stay_leave(step, line->generation);
        break;
    case STEP_GO_OVER:
        stay_go_over(step, line->generation);
        break;
    case STEP_WIDEN:
        slots_widen(step);
        break;
    default:
        log_warn("the agent sent a line of a kind that only steps send");
        break;
    }
}

/* False: the connection is gone. */
static bool take_text(struct step *step, const char *text, size_t bytes)
{
    struct step_line line;
    struct err err = {0};
    if (bytes == 0)
        return true;
    if (codec_parse(&step_line_codec, text, bytes, CODEC_LENIENT, &line, &err) != TIDE_OK) {
        log_warn("the agent sent a line that cannot be read: %s", err.text);
        drop_client(step, "bad line");
        return false;
    }
    take_line(step, &line);
    codec_release(&step_line_codec, &line);
    return step->agent.client != NULL;
}

static void take_bytes(struct step *step, const char *data, size_t bytes)
{
    struct agent_link *link = &step->agent;
    while (bytes > 0) {
        const char *end = memchr(data, '\n', bytes);
        size_t n = end != NULL ? (size_t)(end - data) : bytes;
        if (link->line_bytes + n > STEP_LINE_MAX) {
            drop_client(step, "a line longer than the limit");
            return;
        }
        if (link->line_bytes + n > link->line_room) {
            link->line_room = 2 * (link->line_bytes + n);
            link->line = mem_grow(link->line, link->line_room, 1);
        }
        if (n > 0)
            memcpy(link->line + link->line_bytes, data, n);
        link->line_bytes += n;
        if (end == NULL)
            return;
        data = end + 1;
        bytes -= n + 1;
        n = link->line_bytes;
        link->line_bytes = 0;
        if (!take_text(step, link->line, n))
            return;
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)suggested;
    struct step *step = handle->loop->data;
    *buffer = uv_buf_init(step->read_buffer, sizeof step->read_buffer);
}

static void on_read(uv_stream_t *stream, ssize_t bytes, const uv_buf_t *buffer)
{
    struct step *step = stream->loop->data;
    if (bytes < 0)
        drop_client(step, bytes == UV_EOF ? "the agent has gone" : uv_strerror((int)bytes));
    else
        take_bytes(step, buffer->base, (size_t)bytes);
}

/* ---- connections ---- */

static void on_watch(uv_timer_t *timer)
{
    struct step *step = timer->data;
    if (step->agent.client == NULL || queued(&step->agent) == 0)
        return;
    if (clock_mono_ns() - step->agent.progress_ns > STALL_MS * NS_PER_MS)
        drop_client(step, "the agent does not read");
}

/* The newest connection is the agent's: an older one is of an agent that has died. */
static void on_connection(uv_stream_t *server, int status)
{
    struct step *step = server->loop->data;
    if (status != 0)
        return;
    uv_pipe_t *client = mem_alloc(sizeof *client);
    uv_pipe_init(server->loop, client, 0);
    if (uv_accept(server, (uv_stream_t *)client) != 0 || uv_read_start((uv_stream_t *)client, on_alloc, on_read) != 0) {
        uv_close((uv_handle_t *)client, on_client_closed);
        return;
    }
    drop_client(step, "replaced by a newer one");
    step->agent.client = client;
    step->agent.progress_ns = clock_mono_ns();
    uv_timer_start(&step->agent.watch, on_watch, WATCH_MS, WATCH_MS);
    log_info("an agent has connected");
    agent_link_status(step);
    mesh_reconnected(step);
}

enum tide_status agent_link_listen(struct step *step, struct err *err)
{
    char path[TIDE_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/" STEP_SOCKET_FILE, step->socket_dir);
    unlink(path);
    uv_timer_init(&step->loop, &step->agent.watch);
    step->agent.watch.data = step;
    uv_pipe_init(&step->loop, &step->agent.server, 0);
    int bad = uv_pipe_bind(&step->agent.server, path);
    if (bad == 0 && chmod(path, 0600) != 0)
        return err_errno(err, "cannot protect %s", path);
    if (bad == 0)
        bad = uv_listen((uv_stream_t *)&step->agent.server, LISTEN_BACKLOG, on_connection);
    return bad == 0 ? TIDE_OK : err_set(err, TIDE_E_IO, "cannot listen on %s: %s", path, uv_strerror(bad));
}
