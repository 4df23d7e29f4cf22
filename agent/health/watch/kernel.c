/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "agent/health/watch/inner.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"

/* The kernel's log. Its descriptor never blocks. */

#define KMSG_PATH "/dev/kmsg"
#define KMSG_TURN_MAX 256u /* records of one turn of the loop */

void kmsg_ready(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = poll->data;
    char record[KMSG_RECORD_MAX];
    (void)events;
    for (unsigned i = 0; i < KMSG_TURN_MAX; i++) {
        ssize_t n = read(watch->kmsg, record, sizeof record);
        if (n < 0 && (errno == EPIPE || errno == EINTR)) /* EPIPE: some were overwritten before they were read */
            continue;
        if (n < 0 && errno != EAGAIN) {
            log_warn("health: the kernel's log is not watched any more: it cannot be read");
            uv_poll_stop(poll);
            return;
        }
        if (n <= 0)
            break;
        struct finding finding;
        if (kmsg_judge(record, (size_t)n, &finding))
            watch_take(watch, &finding, clock_mono_ns());
    }
    /* That records were overwritten is an error to libuv, which stops watching. */
    if (status < 0)
        uv_poll_start(poll, UV_READABLE, kmsg_ready);
}

void kernel_open(struct watch *watch)
{
    char path[WATCH_PATH_MAX];
    watch_path(watch, KMSG_PATH, path);
    watch->kmsg = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    /* From now on: what was before is not known to be so still. A pipe, as tests have it, knows no other. */
    bool at_end = watch->kmsg >= 0 && (lseek(watch->kmsg, 0, SEEK_END) >= 0 || errno == ESPIPE);
    if (!at_end || uv_poll_init(watch->loop, &watch->kmsg_poll, watch->kmsg) != 0) {
        log_info("health: the kernel's log is not watched: %s cannot be read by this user", path);
        if (watch->kmsg >= 0)
            close(watch->kmsg);
        watch->kmsg = -1;
        return;
    }
    watch->kmsg_poll.data = watch;
    uv_poll_start(&watch->kmsg_poll, UV_READABLE, kmsg_ready);
}
