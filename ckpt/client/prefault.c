/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/team.h"
#include "ckpt/base/thread.h"
#include "ckpt/client/client.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define PIECE_BYTES ((size_t)4 << 20) /* a fork, or another mapping of the program's, waits for no more than that */
#define LOOK_MS 20                    /* between looks whether the step process has made the files */
#define FILES_MS 30000u               /* it does not make them: nobody takes checkpoints by himself */
#define THREAD_NICE 19
#define THREADS 4u /* clearing pages is bounded by memory beyond that */

struct prefault {
    pthread_t thread;
    _Atomic int stop;
    uint64_t bytes;
    const struct tide *tide; /* its devices, which pin what is mapped */
    uint32_t rank;
    char arena[TIDE_PATH_MAX + 1];
    struct slot slots[SLOTS_ALWAYS]; /* a third one comes late, and its pages with the first record into it */
};

static int large_enough(const char *path, uint64_t bytes)
{
    struct stat info;
    return stat(path, &info) == 0 && (uint64_t)info.st_size >= bytes;
}

static int await_file(const struct prefault *p, const char *path)
{
    uint64_t until_ns = clock_mono_ns() + FILES_MS * NS_PER_MS;
    while (!large_enough(path, p->bytes)) {
        if (atomic_load(&p->stop) || clock_mono_ns() >= until_ns)
            return -1;
        poll(NULL, 0, LOOK_MS);
    }
    return 0;
}

/* A restore has the memory to itself: the program waits for that, and for this nobody does. */
static int go_on(const struct prefault *p)
{
    while (atomic_load(&p->tide->page->phase) == CONTROL_RESTORING && !atomic_load(&p->stop))
        poll(NULL, 0, LOOK_MS);
    return !atomic_load(&p->stop);
}

/* A slot, of which each thread takes the next piece. */
struct populating {
    const struct prefault *p;
    const struct slot *slot;
    _Atomic size_t next;
};

/* Nothing is written: what the slot holds may still be needed. */
static void populate(void *context)
{
    struct populating *all = context;
    size_t bytes = all->slot->mapped_bytes;
    while (go_on(all->p)) {
        size_t at = atomic_fetch_add(&all->next, PIECE_BYTES), left = at < bytes ? bytes - at : 0;
        if (left == 0)
            return;
        if (madvise((char *)all->slot->header + at, left < PIECE_BYTES ? left : PIECE_BYTES, MADV_POPULATE_WRITE) != 0 &&
            errno != EAGAIN)
            return; /* then the pages come one by one, as they are written */
    }
}

static void *run(void *context)
{
    struct prefault *p = context;
    char path[TIDE_PATH_MAX + 64];
    setpriority(PRIO_PROCESS, 0, THREAD_NICE); /* of this thread alone, on Linux */
    for (uint32_t s = 0; s < SLOTS_ALWAYS; s++) {
        snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, p->arena, p->rank, s);
        if (await_file(p, path) != 0 || slot_map(path, 1, &p->slots[s], NULL) != TIDE_OK)
            break;
        struct populating populating = {.p = p, .slot = &p->slots[s]};
        team_run(team_size(THREADS), populate, &populating); /* as nice as this one */
        if (go_on(p))
            devices_pin(p->tide, p->slots[s].header, p->slots[s].mapped_bytes, &p->stop);
    }
    return NULL;
}

void prefault_begin(struct tide *tide, uint64_t bytes)
{
    struct prefault *p = tide->prefault == NULL ? mem_try_alloc(sizeof *p) : NULL;
    if (p == NULL)
        return;
    p->bytes = bytes;
    p->tide = tide;
    p->rank = tide->rank;
    text_copy(p->arena, sizeof p->arena, tide->arena);
    if (thread_begin(&p->thread, run, p) != 0)
        mem_free(p);
    else
        tide->prefault = p;
}

void prefault_end(struct tide *tide)
{
    struct prefault *p = tide->prefault;
    tide->prefault = NULL;
    if (p == NULL || getpid() != tide->pid) /* a forked child has the memory and not the thread */
        return;
    atomic_store(&p->stop, 1);
    pthread_join(p->thread, NULL);
    for (uint32_t s = 0; s < SLOTS_ALWAYS; s++)
        if (tide->slots[s].header == NULL)
            tide->slots[s] = p->slots[s];
        else {
            devices_unpin(tide, p->slots[s].header);
            slot_unmap(&p->slots[s]);
        }
    mem_free(p);
}
