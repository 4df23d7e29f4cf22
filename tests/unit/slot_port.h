/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_SLOT_PORT_H
#define TESTS_UNIT_SLOT_PORT_H

/* An agent's port that serves slots, on a loop of its own thread. */

#include <pthread.h>

#include "agent/rpc/log_server.h"

#define SLOT_PORT_ADDRESS "127.0.0.1"

struct slot_port {
    uv_loop_t loop;
    uv_async_t stop;
    struct log_server *server;
    pthread_t thread;
};

static inline bool slot_port_runs(void *context, const char *uid, uint64_t generation)
{
    (void)context, (void)uid, (void)generation;
    return false;
}

static inline void slot_port_on_stop(uv_async_t *async)
{
    struct slot_port *port = async->data;
    log_server_close(port->server);
    uv_close((uv_handle_t *)async, NULL);
}

static inline void *slot_port_serve(void *context)
{
    struct slot_port *port = context;
    uv_run(&port->loop, UV_RUN_DEFAULT);
    return NULL;
}

/* across: NULL: nothing is stored together with others. key: NULL: it is plain. ret_port: the number to ask at. */
static inline void slot_port_open_across(struct slot_port *port, const char *arenas, struct across *across,
                                         const char *(*token)(void *context, const char *uid), const struct port_key *key,
                                         uint32_t *ret_port)
{
    const struct slot_access slots = {.across = across, .arenas = arenas, .token = token};
    struct err err = {0};
    *ret_port = 0;
    assert_int_equal(uv_loop_init(&port->loop), 0);
    assert_int_equal(uv_async_init(&port->loop, &port->stop, slot_port_on_stop), 0);
    port->stop.data = port;
    assert_int_equal(log_server_create(&port->loop, arenas, SLOT_PORT_ADDRESS, ret_port, key, slot_port_runs, NULL, &slots, &port->server,
                                       &err), TIDE_OK);
    assert_int_equal(pthread_create(&port->thread, NULL, slot_port_serve, port), 0);
}

static inline void slot_port_open(struct slot_port *port, const char *arenas, const char *(*token)(void *context, const char *uid),
                                  const struct port_key *key, uint32_t *ret_port)
{
    slot_port_open_across(port, arenas, NULL, token, key, ret_port);
}

static inline void slot_port_close(struct slot_port *port)
{
    uv_async_send(&port->stop);
    pthread_join(port->thread, NULL);
    log_server_free(port->server);
    assert_int_equal(uv_loop_close(&port->loop), 0);
}

#endif
