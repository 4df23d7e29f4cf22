/* SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <execinfo.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/client/mpi/inside.h"
#include "ckpt/cut/channel.h"

/* A rank that has not flipped, and can only go on with a message that was sent behind the sender's record. */

#define FRAMES_MAX 48
#define LOOK_EVERY_NS NS_PER_MS /* a probe on the other colour takes longer than one in vain on the right one */

static bool is_mpi(const char *path)
{
    const char *name = strrchr(path, '/');
    return strstr(name ? name : path, "libmpi") != NULL;
}

/* Where in the program the call comes from: the first frame outside of this library and of MPI's own. */
static void call_site(char *to, size_t size)
{
    void *frames[FRAMES_MAX];
    Dl_info here, info;
    int count = backtrace(frames, FRAMES_MAX);
    text_copy(to, size, "an unknown place");
    if (!dladdr((void *)(uintptr_t)&call_site, &here))
        return;
    for (int i = 0; i < count; i++) {
        if (!dladdr(frames[i], &info) || info.dli_fbase == here.dli_fbase || is_mpi(info.dli_fname))
            continue;
        const char *module = strrchr(info.dli_fname, '/');
        module = module ? module + 1 : info.dli_fname;
        unsigned long at = (unsigned long)((char *)frames[i] - (char *)info.dli_fbase);
        if (info.dli_sname)
            snprintf(to, size, "%s (%s+0x%lx)", info.dli_sname, module, at);
        else
            snprintf(to, size, "%s+0x%lx", module, at);
        return;
    }
}

static void report(const struct comm *comm, const MPI_Status *status)
{
    char why[WHY_MAX], site[WHY_MAX / 2], name[CUT_COMM_NAME_BYTES];
    call_site(site, sizeof site);
    comm_describe(comm, name, sizeof name);
    snprintf(why, sizeof why,
             "rank %u needed a message of rank %u (tag %d, communicator %s) that was sent behind that rank's record, in %s",
             inside.cut.rank, comm->world[status->MPI_SOURCE], status->MPI_TAG, name, site);
    if (inside.attached)
        inside.host.give_up(inside.host.context, RECORD_EARLY, why);
}

/* waits: the receive that would get it, NULL for a probe. One that MPI does not give back has got a message of the old
 * colour, and is waiting for its bytes: it needs none of the new one. */
static void look_for(const struct comm *comm, int source, int tag, const struct request *waits)
{
    static uint64_t looked_ns;
    int found = 0;
    MPI_Status status;
    if (inside.cut.aim == 0 || !cut_rank_polls(&inside.cut) || cut_rank_matches(&inside.cut))
        return;
    uint64_t now = clock_mono_ns();
    if (now - looked_ns < LOOK_EVERY_NS)
        return;
    looked_ns = now;
    if (real.Iprobe(source, tag, comm->colour[inside.cut.colour ^ 1], &found, &status) != MPI_SUCCESS || !found)
        return;
    if (!cut_rank_early(&inside.cut, now))
        return;
    if (waits && receive_has_matched(waits)) {
        cut_rank_not_held(&inside.cut);
        return;
    }
    report(comm, &status);
    flip(inside.cut.aim, false);
}

void look_early(const struct comm *comm, int source, int tag)
{
    look_for(comm, source, tag, NULL);
}

bool look_early_asked(const struct request *request)
{
    int found = 0;
    MPI_Status status;
    const struct comm *comm = request->comm;
    if (inside.cut.aim == 0 || cut_rank_matches(&inside.cut) ||
        real.Iprobe(request->peer, request->tag, comm->colour[inside.cut.colour ^ 1], &found, &status) != MPI_SUCCESS ||
        !found)
        return false;
    report(comm, &status);
    flip(inside.cut.aim, false);
    return true;
}

void flip_asked(uint32_t by)
{
    char why[WHY_MAX];
    if (inside.cut.aim == 0 || cut_rank_matches(&inside.cut))
        return;
    snprintf(why, sizeof why,
             "rank %u made way for a synchronous send of rank %u: that waits for a receive of any source, and its receiver "
             "is in a call "
             "that waits for others",
             inside.cut.rank, by);
    if (inside.attached)
        inside.host.give_up(inside.host.context, RECORD_EARLY, why);
    flip(inside.cut.aim, false);
}

void look_early_for(const struct request *request)
{
    if (request->kind == REQUEST_RECV && request->state == REQUEST_REAL && request->comm && request->peer != MPI_PROC_NULL &&
        !request->matched)
        look_for(request->comm, request->peer, request->tag, request);
}
