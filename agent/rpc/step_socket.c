/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "agent/rpc/steps_inner.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

#define READ_BYTES 65536u

struct step_socket {
    uv_pipe_t pipe;
    uv_connect_t connect;
    struct step_process *process; /* NULL: given up */
    struct inflow inflow;
    char buffer[READ_BYTES];
};

struct line_write {
    uv_write_t write;
    struct step_socket *socket;
    char *text;
};

static void on_closed(uv_handle_t *handle)
{
    struct step_socket *socket = handle->data;
    inflow_release(&socket->inflow);
    mem_free(socket);
}

void socket_close(struct step_process *process)
{
    struct step_socket *socket = process->socket;
    process->socket = NULL;
    process->connected = false;
    if (socket == NULL)
        return;
    socket->process = NULL;
    uv_close((uv_handle_t *)&socket->pipe, on_closed);
}

static void on_retry(uv_timer_t *timer)
{
    socket_connect(timer->data);
}

/* Not there yet, or gone for a moment: asked again for as long as the process lives. */
static void try_later(struct step_process *process)
{
    socket_close(process);
    if (!process->dead && !process->dropped)
        uv_timer_start(&process->timer, on_retry, STEP_CONNECT_MS, 0);
}

static void take_line(struct step_process *process, const char *text, size_t bytes)
{
    struct step_line line;
    struct err err = {0};
    if (codec_parse(&step_line_codec, text, bytes, CODEC_LENIENT, &line, &err) != TIDE_OK) {
        log_error("job %s, generation %llu: its step says what cannot be read: %.300s", process->spec.job.name,
                  (unsigned long long)process->spec.generation, err.text);
        return;
    }
    switch (line.kind) {
    case STEP_STATUS:
        /* The pages first: a status that says "attached" should not be news without them. */
        process_look(process);
        process_say(process, &line.status);
        break;
    case STEP_NUDGE:
        process_look(process);
        break;
    case STEP_MESH:
        process->steps->hooks.mesh(process->steps->hooks.context, &process->spec, &line.frame);
        break;
    default:
        break;
    }
    codec_release(&step_line_codec, &line);
}

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)suggested;
    struct step_socket *socket = handle->data;
    *buffer = uv_buf_init(socket->buffer, sizeof socket->buffer);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct step_socket *socket = stream->data;
    struct step_process *process = socket->process;
    struct err err = {0};
    if (process == NULL || n == 0)
        return;
    if (n < 0) {
        try_later(process);
        return;
    }
    if (inflow_add(&socket->inflow, buffer->base, (size_t)n, &err) != TIDE_OK) {
        log_error("job %s: its step says too much at once: %s", process->spec.job.name, err.text);
        try_later(process);
        return;
    }
    const char *text = NULL;
    size_t bytes = 0;
    /* What a line leads to may close this very socket. */
    while (socket->process != NULL && inflow_line(&socket->inflow, &text, &bytes))
        take_line(process, text, bytes);
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct step_socket *socket = connect->data;
    struct step_process *process = socket->process;
    if (process == NULL)
        return;
    if (status != 0) {
        try_later(process);
        return;
    }
    process->connected = true;
    uv_read_start((uv_stream_t *)&socket->pipe, give_buffer, on_read);
    leave_flush(process);
    kept_flush(process);
}

void socket_connect(struct step_process *process)
{
    char path[TIDE_PATH_MAX + 32];
    if (process->socket != NULL || process->dead || process->dropped || process->steps->closing)
        return;
    struct step_socket *socket = mem_alloc(sizeof *socket);
    inflow_init(&socket->inflow, STEP_LINE_MAX + READ_BYTES);
    socket->process = process;
    uv_pipe_init(process->steps->loop, &socket->pipe, 0);
    socket->pipe.data = socket;
    socket->connect.data = socket;
    process->socket = socket;
    snprintf(path, sizeof path, "%s/" STEP_SOCKET_FILE, process->spec.dir);
    uv_pipe_connect(&socket->connect, &socket->pipe, path, on_connected);
}

static void on_written(uv_write_t *write, int status)
{
    struct line_write *line = write->data;
    if (status != 0 && line->socket->process != NULL)
        try_later(line->socket->process);
    mem_free(line->text);
    mem_free(line);
}

bool socket_send(struct step_process *process, const struct step_line *line)
{
    struct step_socket *socket = process->socket;
    if (socket == NULL || !process->connected)
        return false;
    if (uv_stream_get_write_queue_size((uv_stream_t *)&socket->pipe) > STEP_QUEUE_BYTES_MAX) {
        log_warn("job %s: its step does not take what it is told; connecting anew", process->spec.job.name);
        try_later(process);
        return false;
    }
    struct line_write *write = mem_alloc(sizeof *write);
    char *text = codec_print(&step_line_codec, line, CODEC_COMPACT);
    write->text = mem_format("%s\n", text);
    mem_free(text);
    write->socket = socket;
    write->write.data = write;
    uv_buf_t buffer = uv_buf_init(write->text, (unsigned)strlen(write->text));
    if (uv_write(&write->write, (uv_stream_t *)&socket->pipe, &buffer, 1, on_written) == 0)
        return true;
    mem_free(write->text);
    mem_free(write);
    try_later(process);
    return false;
}
