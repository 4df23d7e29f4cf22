/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/mesh.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "agent/rpc/frame.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

#define BACKLOG 256
#define READ_BYTES 65536u

/* One connection; outgoing ones have an address, incoming ones an inflow. */
struct link {
    uv_tcp_t tcp;
    struct mesh *mesh;
    struct link *next;
    bool outgoing, connected, closing;
    char address[ADDRESS_MAX + 1];
    uint32_t port;
    uv_connect_t connect;
    struct inflow inflow;
    struct parcel *first, *last; /* waiting for the connection */
    size_t waiting_bytes;        /* those, and what libuv has not written yet */
};

struct parcel {
    uv_write_t write;
    struct parcel *next;
    struct link *link;
    char *data;
    size_t bytes;
};

struct mesh {
    uv_loop_t *loop;
    uv_tcp_t listener;
    struct link *links;
    size_t incoming, outgoing;
    bool closing;
    void (*frame)(void *context, const struct mesh_frame *frame);
    void *context;
    char buffer[READ_BYTES];
};

static void parcel_free(struct parcel *parcel)
{
    mem_free(parcel->data);
    mem_free(parcel);
}

static void link_closed(uv_handle_t *handle)
{
    struct link *link = handle->data;
    struct mesh *mesh = link->mesh;
    for (struct link **at = &mesh->links; *at != NULL; at = &(*at)->next)
        if (*at == link) {
            *at = link->next;
            break;
        }
    while (link->first != NULL) {
        struct parcel *parcel = link->first;
        link->first = parcel->next;
        parcel_free(parcel);
    }
    inflow_release(&link->inflow);
    link->outgoing ? mesh->outgoing-- : mesh->incoming--;
    mem_free(link);
}

static void link_close(struct link *link)
{
    if (link->closing)
        return;
    link->closing = true;
    uv_close((uv_handle_t *)&link->tcp, link_closed);
}

static struct link *link_make(struct mesh *mesh, bool outgoing)
{
    struct link *link = mem_alloc(sizeof *link);
    link->mesh = mesh;
    link->outgoing = outgoing;
    inflow_init(&link->inflow, FRAME_BYTES_MAX + FRAME_HEADER_BYTES + READ_BYTES);
    uv_tcp_init(mesh->loop, &link->tcp);
    link->tcp.data = link;
    link->next = mesh->links;
    mesh->links = link;
    outgoing ? mesh->outgoing++ : mesh->incoming++;
    return link;
}

/* ---- incoming ---- */

static void give_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)suggested;
    struct link *link = handle->data;
    *buffer = uv_buf_init(link->mesh->buffer, sizeof link->mesh->buffer);
}

static enum tide_status take_frames(struct link *link, const char *data, size_t bytes, struct err *err)
{
    enum tide_status status = inflow_add(&link->inflow, data, bytes, err);
    while (status == TIDE_OK && !link->closing) {
        const char *text = NULL;
        size_t length = 0;
        status = inflow_frame(&link->inflow, &text, &length, err);
        if (status != TIDE_OK || text == NULL)
            break;
        struct mesh_frame frame;
        status = frame_parse(text, length, &frame, err);
        if (status != TIDE_OK)
            break;
        link->mesh->frame(link->mesh->context, &frame);
        codec_release(&mesh_frame_codec, &frame);
    }
    return status;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct link *link = stream->data;
    struct err err = {0};
    if (n == 0)
        return;
    if (n < 0 || link->outgoing) { /* outgoing ones only ever learn that the peer is gone */
        link_close(link);
        return;
    }
    if (take_frames(link, buffer->base, (size_t)n, &err) != TIDE_OK) {
        log_warn("a connection to the mesh port is cut off: %.300s", err.text);
        link_close(link);
    }
}

/* Left to itself, TCP waits twice as long for each next try: half a minute of a cut cable would go on for another. */
static void bound_silence(struct link *link)
{
    uv_os_fd_t fd = -1;
    unsigned ms = MESH_SILENCE_MS;
    if (uv_fileno((uv_handle_t *)&link->tcp, &fd) == 0 && setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms) != 0)
        log_debug("the time a peer may be silent cannot be bounded");
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct mesh *mesh = listener->data;
    if (status != 0)
        return;
    struct link *link = link_make(mesh, false);
    if (uv_accept(listener, (uv_stream_t *)&link->tcp) != 0 || mesh->incoming > MESH_LINKS_MAX) {
        link_close(link);
        return;
    }
    uv_tcp_keepalive(&link->tcp, 1, MESH_KEEPALIVE_S);
    uv_read_start((uv_stream_t *)&link->tcp, give_buffer, on_read);
}

/* ---- outgoing ---- */

static void on_written(uv_write_t *write, int status)
{
    struct parcel *parcel = write->data;
    struct link *link = parcel->link;
    link->waiting_bytes -= parcel->bytes;
    parcel_free(parcel);
    if (status != 0)
        link_close(link);
}

static void flush(struct link *link)
{
    while (link->first != NULL && !link->closing) {
        struct parcel *parcel = link->first;
        link->first = parcel->next;
        if (link->first == NULL)
            link->last = NULL;
        parcel->write.data = parcel;
        uv_buf_t buffer = uv_buf_init(parcel->data, (unsigned)parcel->bytes);
        if (uv_write(&parcel->write, (uv_stream_t *)&link->tcp, &buffer, 1, on_written) != 0) {
            parcel_free(parcel);
            link_close(link);
        }
    }
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct link *link = connect->data;
    if (status != 0) {
        if (status != UV_ECANCELED)
            log_debug("no connection to the agent at %s:%u: %s", link->address, link->port, uv_strerror(status));
        link_close(link);
        return;
    }
    link->connected = true;
    uv_tcp_nodelay(&link->tcp, 1);
    uv_read_start((uv_stream_t *)&link->tcp, give_buffer, on_read);
    flush(link);
}

static struct link *link_to(struct mesh *mesh, const char *address, uint32_t port)
{
    for (struct link *link = mesh->links; link != NULL; link = link->next)
        if (link->outgoing && !link->closing && link->port == port && strcmp(link->address, address) == 0)
            return link;
    struct sockaddr_storage to = {0};
    if (mesh->outgoing >= MESH_LINKS_MAX || port == 0 || port > UINT16_MAX)
        return NULL;
    if (uv_ip4_addr(address, (int)port, (struct sockaddr_in *)&to) != 0 &&
        uv_ip6_addr(address, (int)port, (struct sockaddr_in6 *)&to) != 0) {
        log_warn("the peer address \"%s\" is no IP address; start its agent with --address IP", address);
        return NULL;
    }
    struct link *link = link_make(mesh, true);
    text_copy(link->address, sizeof link->address, address);
    link->port = port;
    link->connect.data = link;
    if (uv_tcp_connect(&link->connect, &link->tcp, (const struct sockaddr *)&to, on_connected) != 0)
        link_close(link);
    else
        bound_silence(link);
    return link->closing ? NULL : link;
}

void mesh_send(struct mesh *mesh, const char *address, uint32_t port, const struct mesh_frame *frame)
{
    struct link *link = mesh->closing ? NULL : link_to(mesh, address, port);
    if (link == NULL)
        return;
    struct parcel *parcel = mem_alloc(sizeof *parcel);
    parcel->link = link;
    parcel->data = frame_print(frame, &parcel->bytes);
    if (link->waiting_bytes + parcel->bytes > MESH_WAITING_BYTES_MAX) {
        log_warn("the agent at %s:%u does not take what it is sent: the connection is cut off", address, port);
        parcel_free(parcel);
        link_close(link);
        return;
    }
    link->waiting_bytes += parcel->bytes;
    if (link->last != NULL)
        link->last->next = parcel;
    else
        link->first = parcel;
    link->last = parcel;
    if (link->connected)
        flush(link);
}

/* ---- lifetime ---- */

static int real_port(const uv_tcp_t *tcp, uint32_t *port)
{
    struct sockaddr_storage own = {0};
    int length = sizeof own;
    int code = uv_tcp_getsockname(tcp, (struct sockaddr *)&own, &length);
    if (code != 0)
        return code;
    *port = ntohs(own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&own)->sin6_port : ((struct sockaddr_in *)&own)->sin_port);
    return 0;
}

enum tide_status mesh_create(uv_loop_t *loop, const char *address, uint32_t *port,
                             void (*frame)(void *context, const struct mesh_frame *frame), void *context, struct mesh **ret_mesh,
                             struct err *err)
{
    struct sockaddr_storage at = {0};
    if (uv_ip4_addr(address, (int)*port, (struct sockaddr_in *)&at) != 0 &&
        uv_ip6_addr(address, (int)*port, (struct sockaddr_in6 *)&at) != 0)
        return err_set(err, TIDE_E_INVALID, "\"%s\" is no IP address of this host; say --address IP", address);
    struct mesh *mesh = mem_alloc(sizeof *mesh);
    mesh->loop = loop;
    mesh->frame = frame;
    mesh->context = context;
    uv_tcp_init(loop, &mesh->listener);
    mesh->listener.data = mesh;
    int code = uv_tcp_bind(&mesh->listener, (const struct sockaddr *)&at, 0);
    if (code == 0)
        code = uv_listen((uv_stream_t *)&mesh->listener, BACKLOG, on_connection);
    if (code == 0)
        code = real_port(&mesh->listener, port);
    if (code == 0) {
        *ret_mesh = mesh;
        return TIDE_OK;
    }
    uv_close((uv_handle_t *)&mesh->listener, NULL);
    uv_run(loop, UV_RUN_NOWAIT);
    mem_free(mesh);
    return err_set(err, TIDE_E_IO, "cannot listen for agents on %s port %u: %s; choose another with --address and --mesh-port",
                   address, *port, uv_strerror(code));
}

void mesh_close(struct mesh *mesh)
{
    mesh->closing = true;
    uv_close((uv_handle_t *)&mesh->listener, NULL);
    for (struct link *link = mesh->links; link != NULL; link = link->next)
        link_close(link);
}

void mesh_free(struct mesh *mesh)
{
    mem_free(mesh);
}
