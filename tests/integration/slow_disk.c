/* SPDX-License-Identifier: Apache-2.0 */
/* Preloaded into an agent: making an object durable takes longer than anybody waits, as on a store that hangs. */
#include <sys/syscall.h>
#include <unistd.h>

#define DELAY_S 15

int fdatasync(int fd)
{
    sleep(DELAY_S);
    return (int)syscall(SYS_fdatasync, fd);
}
