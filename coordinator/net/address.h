/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_NET_ADDRESS_H
#define COORDINATOR_NET_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "ckpt/base/err.h"
#include "ckpt/wire/node.h"

#define PORT_TEXT_MAX 8u

struct address {
    struct sockaddr_storage storage;
    socklen_t bytes;
};

/* As address_split of ckpt/wire, and port 0 is legal: any free one, to listen on. Errors: INVALID. */
MUST_USE enum tide_status address_parts(const char *text, char ret_host[ADDRESS_MAX + 1], char ret_port[PORT_TEXT_MAX],
                                        struct err *err);
/* False: `host` is a name, and somebody else must be asked. */
bool address_numeric(const char *host, const char *port, struct address *ret_address);
bool address_is_loopback(const struct address *address);
/* "host:port"; or the host alone. */
void address_print(const struct address *address, bool port, char ret_text[ADDRESS_MAX + 1]);

#endif
