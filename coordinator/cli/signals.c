/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/signals.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

#include "coordinator/cli/exits.h"

static int pipe_fds[2] = {-1, -1};
static atomic_int count, first;

static void on_signal(int number)
{
    int saved = errno, none = 0;
    atomic_compare_exchange_strong(&first, &none, number);
    atomic_fetch_add(&count, 1);
    if (write(pipe_fds[1], "", 1) < 0) {
        /* A full pipe wakes the loop just as well. */
    }
    errno = saved;
}

void signals_catch(void)
{
    if (pipe_fds[0] >= 0 || pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK) != 0)
        return;
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
}

int signals_count(void)
{
    return atomic_load(&count);
}

int signals_exit(void)
{
    return atomic_load(&first) == SIGINT ? EXIT_CODE_INTERRUPTED : EXIT_CODE_TERMINATED;
}

int signals_fd(void)
{
    return pipe_fds[0];
}

void signals_drain(void)
{
    char bytes[64];
    while (pipe_fds[0] >= 0 && read(pipe_fds[0], bytes, sizeof bytes) > 0)
        ;
}
