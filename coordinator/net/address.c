/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/net/address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"

#define PORT_DIGITS_MAX 5u
#define LOOPBACK_V4 127u

enum tide_status address_parts(const char *text, char ret_host[ADDRESS_MAX + 1], char ret_port[PORT_TEXT_MAX],
                               struct err *err)
{
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : 0;
    size_t digits = colon ? strlen(colon + 1) : 0;
    if (n == 0 || n > ADDRESS_MAX || digits == 0 || digits > PORT_DIGITS_MAX || strspn(colon + 1, "0123456789") != digits)
        return err_set(err, TIDE_E_INVALID, "\"%s\" is not host:port; for example 10.0.0.11:7071 or [::1]:7071", text);
    size_t brackets = text[0] == '[' && n > 2 && text[n - 1] == ']' ? 1 : 0;
    memcpy(ret_host, text + brackets, n - 2 * brackets);
    ret_host[n - 2 * brackets] = '\0';
    text_copy(ret_port, PORT_TEXT_MAX, colon + 1);
    return TIDE_OK;
}

bool address_numeric(const char *host, const char *port, struct address *ret_address)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *found;
    if (getaddrinfo(host, port, &hints, &found) != 0)
        return false;
    memcpy(&ret_address->storage, found->ai_addr, found->ai_addrlen);
    ret_address->bytes = found->ai_addrlen;
    freeaddrinfo(found);
    return true;
}

bool address_is_loopback(const struct address *address)
{
    if (address->storage.ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address->storage;
        return ntohl(v4->sin_addr.s_addr) >> 24 == LOOPBACK_V4;
    }
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address->storage;
    if (address->storage.ss_family != AF_INET6)
        return false;
    return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr) ||
           (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr) && v6->sin6_addr.s6_addr[12] == LOOPBACK_V4);
}

void address_print(const struct address *address, bool port, char ret_text[ADDRESS_MAX + 1])
{
    char host[INET6_ADDRSTRLEN + 32], number[PORT_TEXT_MAX];
    if (getnameinfo((const struct sockaddr *)&address->storage, address->bytes, host, sizeof host, number, sizeof number,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0) {
        text_copy(ret_text, ADDRESS_MAX + 1, "?");
        return;
    }
    const char *form = port ? strchr(host, ':') ? "[%s]:%s" : "%s:%s" : "%s";
    snprintf(ret_text, ADDRESS_MAX + 1, form, host, number);
}
