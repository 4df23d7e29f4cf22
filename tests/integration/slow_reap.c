/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into a step: reaping takes long, as on a machine that is busy, so that other ranks end meanwhile. */
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define DELAY_US 300000

pid_t waitpid(pid_t pid, int *status, int options)
{
    if (!(options & WNOHANG))
        usleep(DELAY_US);
    return (pid_t)syscall(SYS_wait4, pid, status, options, (void *)0);
}
