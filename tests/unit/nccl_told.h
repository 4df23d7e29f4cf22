/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_NCCL_TOLD_H
#define TESTS_UNIT_NCCL_TOLD_H

/* What libtidemark_nccl tells in a rank of how far its communicators are. */

#include "tests/unit/nccl_world.h"

#include <stdbool.h>
#include <unistd.h>

#include "ckpt/base/clock.h"

#define TOLD_S 25 /* what a rank of `together` has */
#define LOOK_US 5000

static struct control_progress progress;

/* As another process would: it looks at the version before and after, of which ThreadSanitizer knows nothing. */
__attribute__((no_sanitize("thread"))) static inline struct control_progress_comm told(unsigned at)
{
    struct control_progress_comm is = {0};
    const volatile uint64_t *from = (const void *)&progress.comms[at];
    uint64_t version, *to = (void *)&is;
    do {
        version = atomic_load(&progress.version);
        for (size_t i = 0; i < sizeof is / sizeof *to; i++)
            to[i] = from[i];
    } while (version % 2 == 1 || atomic_load(&progress.version) != version);
    return is;
}

static inline struct control_progress_comm await_told(unsigned at, bool (*is_so)(const struct control_progress_comm *is))
{
    uint64_t until_ns = clock_mono_ns() + TOLD_S * NS_PER_S;
    struct control_progress_comm is = told(at);
    while (!is_so(&is) && clock_mono_ns() < until_ns) {
        usleep(LOOK_US);
        is = told(at);
    }
    if (!is_so(&is))
        fprintf(stderr, "begun %d reached %d unreached %d done %d undone %d\n", (int)is.begun, (int)is.reached, (int)is.unreached,
                (int)is.done, (int)is.undone);
    must(is_so(&is));
    return is;
}

#endif
