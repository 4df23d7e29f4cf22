/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/base/team.h"

#include <sched.h>

#include "ckpt/base/thread.h"

struct team {
    void (*work)(void *context);
    void *context;
};

unsigned team_size(unsigned most)
{
    cpu_set_t mine;
    unsigned have = sched_getaffinity(0, sizeof mine, &mine) == 0 ? (unsigned)CPU_COUNT(&mine) : 1;
    have = have < most ? have : most;
    return have > 0 ? have : 1;
}

static void *member(void *context)
{
    const struct team *team = context;
    team->work(team->context);
    return NULL;
}

void team_run(unsigned size, void (*work)(void *context), void *context)
{
    struct team team = {.work = work, .context = context};
    pthread_t threads[TEAM_MOST];
    unsigned count = 0, most = size < TEAM_MOST ? size : TEAM_MOST, others = most > 0 ? most - 1 : 0;
    while (count < others && thread_begin(&threads[count], member, &team) == 0)
        count++;
    work(context);
    while (count > 0)
        pthread_join(threads[--count], NULL);
}
