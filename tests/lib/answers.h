/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_ANSWERS_H
#define TESTS_LIB_ANSWERS_H

/* An HTTP server on loopback that answers what it is told to, once each, or breaks off: what a real one does only when it is
 * least wanted. One request a connection; cmocka asserts that it can be started. */

#include <pthread.h>
#include <stdint.h>

#define ANSWERS_MAX 8
#define REQUEST_MAX 8192
#define ANSWERS_WAIT_S 10
#define BREAK_OFF "" /* reads the request, then closes the connection */
#define AT_ONCE "!"  /* what follows is sent before anything is read */
#define HEAD(status, length) "HTTP/1.1 " status "\r\nConnection: close\r\nContent-Length: " length "\r\n\r\n"

struct answers {
    int listener;
    uint16_t port;
    const char *const *list; /* NULL behind the last */
    unsigned asked;
    char requests[ANSWERS_MAX][REQUEST_MAX];
    pthread_t thread;
};

void answers_begin(struct answers *server, const char *const *list);
/* All that was to be asked was. */
void answers_end(struct answers *server, unsigned asked);

#endif
