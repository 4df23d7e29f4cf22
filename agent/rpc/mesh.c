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
#include "ckpt/secure/tls.h"

#define BACKLOG 256
#define READ_BYTES 65536u
#define LOOK_MS 500u /* how often who must prove something is looked at */

/* One connection; outgoing ones have an address, incoming ones an inflow. */
struct link {
    uv_tcp_t tcp;
    struct mesh *mesh;
    struct link *next;
    bool outgoing, connected, closing;
    bool begun;    /* incoming: its first byte has come */
    bool shown;    /* by TLS: its key is known */
    bool believed; /* incoming: one of its frames was */
    unsigned looks; /* since it was made */
    char address[ADDRESS_MAX + 1];
    uint32_t port;
    char pin[PIN_CHARS + 1]; /* outgoing: of who must be there; incoming: of who is, empty: plain */
    struct tls_pipe *pipe;   /* NULL: plain, or not begun */
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
    struct ssl_ctx_st *tls; /* NULL: plain */
    uv_timer_t look;
    mesh_take *frame;
    void *context;
    char buffer[READ_BYTES];
    char plain[READ_BYTES]; /* out of TLS */
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
    tls_pipe_free(link->pipe);
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

/* ---- bytes on their way ---- */

static void on_written(uv_write_t *write, int status)
{
    struct parcel *parcel = write->data;
    struct link *link = parcel->link;
    link->waiting_bytes -= parcel->bytes;
    parcel_free(parcel);
    if (status != 0)
        link_close(link);
}

/* Its bytes are counted already. */
static void parcel_write(struct link *link, struct parcel *parcel)
{
    parcel->write.data = parcel;
    uv_buf_t buffer = uv_buf_init(parcel->data, (unsigned)parcel->bytes);
    if (uv_write(&parcel->write, (uv_stream_t *)&link->tcp, &buffer, 1, on_written) != 0) {
        link->waiting_bytes -= parcel->bytes;
        parcel_free(parcel);
        link_close(link);
    }
}

/* What TLS has to say. */
static void send_records(struct link *link)
{
    struct parcel *parcel = mem_alloc(sizeof *parcel);
    parcel->link = link;
    parcel->data = tls_pipe_take(link->pipe, &parcel->bytes);
    if (parcel->data == NULL) {
        mem_free(parcel);
        return;
    }
    link->waiting_bytes += parcel->bytes;
    parcel_write(link, parcel);
}

static void flush(struct link *link)
{
    char why[TIDE_TEXT_MAX + 1];
    while (link->first != NULL && !link->closing) {
        struct parcel *parcel = link->first;
        link->first = parcel->next;
        if (link->first == NULL)
            link->last = NULL;
        if (link->pipe == NULL) {
            parcel_write(link, parcel);
            continue;
        }
        enum io io = tls_pipe_write(link->pipe, parcel->data, parcel->bytes, why);
        link->waiting_bytes -= parcel->bytes;
        parcel_free(parcel);
        if (io == IO_DONE)
            send_records(link);
        else
            link_close(link);
    }
}

/* ---- who is there ---- */

static const char *link_name(const struct link *link)
{
    return link->outgoing ? link->address : "a caller";
}

static void check_pin(struct link *link)
{
    char pin[PIN_CHARS + 1];
    struct err err = {0};
    enum tide_status status = tls_pin(tls_pipe_ssl(link->pipe), pin, &err);
    if (status == TIDE_OK && link->outgoing && strcmp(pin, link->pin) != 0)
        status = err_set(&err, TIDE_E_DENIED, "its key is not that of the node that should be there (pin %s, not %s)", pin, link->pin);
    if (status != TIDE_OK) {
        log_warn("the agent at %s port %u is not believed: %s", link_name(link), link->port, err.text);
        link_close(link);
        return;
    }
    text_copy(link->pin, sizeof link->pin, pin);
    link->shown = true;
    if (link->outgoing) {
        link->connected = true;
        flush(link);
    }
}

/* Whoever it is can make a key, and a frame: only one that is for a step here, with its secret, is a reason to keep a connection. */
static bool proved(const struct link *link)
{
    return link->outgoing ? link->connected : link->believed;
}

static void on_look(uv_timer_t *timer)
{
    struct mesh *mesh = timer->data;
    for (struct link *link = mesh->links; link != NULL; link = link->next)
        if (!link->closing && !proved(link) && ++link->looks > MESH_PROOF_MS / LOOK_MS) {
            log_debug("%s port %u has not shown who it is within %u ms: the connection is cut off", link_name(link), link->port,
                      MESH_PROOF_MS);
            link_close(link);
        }
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
        link->believed = link->mesh->frame(link->mesh->context, &frame, link->pin) || link->believed;
        codec_release(&mesh_frame_codec, &frame);
    }
    return status;
}

static void take(struct link *link, const char *data, size_t bytes)
{
    struct err err = {0};
    if (link->outgoing || take_frames(link, data, bytes, &err) != TIDE_OK) {
        log_warn("a connection to the mesh port is cut off: %.300s", link->outgoing ? "nothing is said on it this way" : err.text);
        link_close(link);
    }
}

/* What came is fed to TLS; what that has to say, and what it says was meant, goes its way. */
static void take_records(struct link *link, const char *data, size_t bytes)
{
    char why[TIDE_TEXT_MAX + 1] = "it ended the connection";
    enum io io = IO_DONE;
    tls_pipe_feed(link->pipe, data, bytes);
    while (io == IO_DONE && !link->closing) {
        size_t n = 0;
        io = tls_pipe_read(link->pipe, link->mesh->plain, sizeof link->mesh->plain, &n, why);
        send_records(link);
        if (!link->closing && !link->shown && tls_pipe_shaken(link->pipe))
            check_pin(link);
        if (io == IO_DONE && !link->closing)
            take(link, link->mesh->plain, n);
    }
    if (io != IO_AGAIN && io != IO_AGAIN_WRITE && !link->closing) {
        if (!link->shown)
            log_warn("no TLS with %s port %u: %s", link_name(link), link->port, why);
        link_close(link);
    }
}

static void begin_tls(struct link *link)
{
    link->pipe = link->mesh->tls != NULL ? tls_pipe_create(link->mesh->tls, link->outgoing) : NULL;
    if (link->pipe == NULL) {
        log_warn("%s port %u speaks TLS, and this agent has no key: the connection is cut off", link_name(link), link->port);
        link_close(link);
    }
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buffer)
{
    struct link *link = stream->data;
    if (n == 0)
        return;
    if (n < 0 || (link->outgoing && link->pipe == NULL)) { /* plain outgoing ones only ever learn that the peer is gone */
        link_close(link);
        return;
    }
    /* No frame is so long that its length could begin with what TLS begins with. */
    if (!link->outgoing && !link->begun && buffer->base[0] == TLS_FIRST_BYTE)
        begin_tls(link);
    link->begun = true;
    if (link->closing)
        return;
    if (link->pipe != NULL)
        take_records(link, buffer->base, (size_t)n);
    else
        take(link, buffer->base, (size_t)n);
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

static void on_connected(uv_connect_t *connect, int status)
{
    struct link *link = connect->data;
    if (status != 0) {
        if (status != UV_ECANCELED)
            log_debug("no connection to the agent at %s:%u: %s", link->address, link->port, uv_strerror(status));
        link_close(link);
        return;
    }
    uv_tcp_nodelay(&link->tcp, 1);
    if (link->pin[0] != '\0')
        begin_tls(link);
    if (link->closing)
        return;
    uv_read_start((uv_stream_t *)&link->tcp, give_buffer, on_read);
    if (link->pipe != NULL) {
        take_records(link, NULL, 0);
        return;
    }
    link->connected = true;
    flush(link);
}

static struct link *link_to(struct mesh *mesh, const char *address, uint32_t port, const char *pin)
{
    for (struct link *link = mesh->links; link != NULL; link = link->next)
        if (link->outgoing && !link->closing && link->port == port && strcmp(link->address, address) == 0 &&
            strcmp(link->pin, pin) == 0)
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
    text_copy(link->pin, sizeof link->pin, pin);
    link->port = port;
    link->connect.data = link;
    if (uv_tcp_connect(&link->connect, &link->tcp, (const struct sockaddr *)&to, on_connected) != 0)
        link_close(link);
    else
        bound_silence(link);
    return link->closing ? NULL : link;
}

void mesh_send(struct mesh *mesh, const char *address, uint32_t port, const char *pin, const struct mesh_frame *frame)
{
    struct link *link = mesh->closing ? NULL : link_to(mesh, address, port, pin);
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

static enum tide_status listen_on(struct mesh *mesh, const struct sockaddr *at, const char *address, uint32_t *port, struct err *err)
{
    uv_tcp_init(mesh->loop, &mesh->listener);
    mesh->listener.data = mesh;
    int code = uv_tcp_bind(&mesh->listener, at, 0);
    if (code == 0)
        code = uv_listen((uv_stream_t *)&mesh->listener, BACKLOG, on_connection);
    if (code == 0)
        code = real_port(&mesh->listener, port);
    if (code == 0)
        return TIDE_OK;
    uv_close((uv_handle_t *)&mesh->listener, NULL);
    uv_run(mesh->loop, UV_RUN_NOWAIT);
    return err_set(err, TIDE_E_IO, "cannot listen for agents on %s port %u: %s; choose another with --address and --mesh-port",
                   address, *port, uv_strerror(code));
}

enum tide_status mesh_create(uv_loop_t *loop, const char *address, uint32_t *port, const struct port_key *key, mesh_take *frame,
                             void *context, struct mesh **ret_mesh, struct err *err)
{
    struct sockaddr_storage at = {0};
    if (uv_ip4_addr(address, (int)*port, (struct sockaddr_in *)&at) != 0 &&
        uv_ip6_addr(address, (int)*port, (struct sockaddr_in6 *)&at) != 0)
        return err_set(err, TIDE_E_INVALID, "\"%s\" is no IP address of this host; say --address IP", address);
    struct mesh *mesh = mem_alloc(sizeof *mesh);
    mesh->loop = loop;
    mesh->frame = frame;
    mesh->context = context;
    enum tide_status status = key != NULL ? tls_create_pinned(key, &mesh->tls, err) : TIDE_OK;
    if (status == TIDE_OK)
        status = listen_on(mesh, (const struct sockaddr *)&at, address, port, err);
    if (status != TIDE_OK) {
        mesh_free(mesh);
        return status;
    }
    uv_timer_init(loop, &mesh->look);
    mesh->look.data = mesh;
    uv_timer_start(&mesh->look, on_look, LOOK_MS, LOOK_MS);
    *ret_mesh = mesh;
    return TIDE_OK;
}

void mesh_close(struct mesh *mesh)
{
    mesh->closing = true;
    uv_close((uv_handle_t *)&mesh->listener, NULL);
    uv_close((uv_handle_t *)&mesh->look, NULL);
    for (struct link *link = mesh->links; link != NULL; link = link->next)
        link_close(link);
}

void mesh_free(struct mesh *mesh)
{
    tls_free(mesh->tls);
    mem_free(mesh);
}
