/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ckpt/client/mpi/inside.h"

/* ---- the page ---- */

static void publish(void)
{
    uint64_t sent = 0, arrived = 0;
    cut_rank_sums(&inside.cut, &sent, &arrived);
    atomic_store(&inside.page->sent_before, sent);
    atomic_store(&inside.page->arrived_before, arrived);
    atomic_store(&inside.page->epoch, inside.cut.epoch);
}

static struct cut_words words(void)
{
    struct control_page *page = inside.page;
    return (struct cut_words){.armed_epoch = atomic_load(&page->armed_epoch),
                              .armed_step = atomic_load(&page->armed_step),
                              .go_epoch = atomic_load(&page->go_epoch),
                              .flip_epoch = atomic_load(&page->flip_epoch),
                              .settled_epoch = atomic_load(&page->settled_epoch),
                              .closed_epoch = atomic_load(&page->closed_epoch)};
}

void give_up(const char *why)
{
    if (inside.logging && inside.attached)
        inside.host.give_up(inside.host.context, RECORD_FAILED, why);
    inside.logging = false;
    cut_rank_void(&inside.cut);
}

/* Everything that MPI has of ours goes to our queues first, so that nothing new of the old colour is matched unseen. */
void flip(uint64_t epoch, bool recorded)
{
    if (!inside.many_threads)
        inside.quick = NEVER;
    comms_add_up();
    receives_take_back();
    cut_rank_flip(&inside.cut, epoch, recorded);
    comms_colour();
    receives_requeue();
    inside.logging = recorded;
    inside.uncoloured = NULL;
    if (recorded) {
        parcels_log_all(); /* what is in the queues came before what MPI has matched since */
        receives_log();
        parcels_progress();
    }
    publish();
    bookmarks_tell();
    parcels_pull_first();
}

/* Settled: nothing of the old colour comes any more. Those in the queues came first, and stay there for whoever wants them.
 */
static void release(void)
{
    parcels_pull_first();
    parcels_release_all();
    parcels_progress();
    receives_to_mpi();
    inside.logging = false;
    atomic_store(&inside.page->ended_epoch, inside.cut.epoch);
}

static void look(void)
{
    if (inside.page == NULL || !beside_empty())
        return;
    uint64_t seen = atomic_load(inside.word);
    struct cut_words now = words();
    unsigned acts = cut_rank_look(&inside.cut, &now);
    if (acts & CUT_ACT_RELEASE)
        release();
    if (acts & CUT_ACT_PLAIN) {
        comms_free_late();
        offers_end();
    }
    if (acts & CUT_ACT_POLLING) {
        inside.uncoloured = NULL;
        offers_begin();
        atomic_store(&inside.page->polling_epoch, inside.cut.aim);
    }
    if (acts & CUT_ACT_FLIP)
        flip(inside.cut.aim, false);
    inside.seen = seen;
}

void bookmarks_receive(void)
{
    struct cut_bookmark bookmark;
    int found = 0;
    MPI_Status status;
    while (real.Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, inside.bookmarks, &found, &status) == MPI_SUCCESS && found) {
        real.Recv(&bookmark, (int)sizeof bookmark, MPI_BYTE, status.MPI_SOURCE, status.MPI_TAG, inside.bookmarks,
                  MPI_STATUS_IGNORE);
        if (cut_rank_bookmark(&inside.cut, (uint32_t)status.MPI_SOURCE, &bookmark))
            parcels_release((uint32_t)status.MPI_SOURCE);
    }
}

void progress(void)
{
    if (inside.unadded)
        comms_add_up();
    if (inside.page && (atomic_load(inside.word) != inside.seen || cut_rank_polls(&inside.cut)))
        look();
    if (cut_rank_polls(&inside.cut) || cut_rank_copies(&inside.cut))
        offers_take();
    if (cut_rank_matches(&inside.cut)) {
        receives_unpark(); /* another thread parked them; from here on we match again */
        bookmarks_receive();
        parcels_pull();
        receives_progress();
        parcels_progress();
        atomic_store(&inside.page->arrived_before, inside.cut.arrived_before);
    } else {
        if (cut_rank_polls(&inside.cut))
            offers_answer();
        if (inside.parcels.next != &inside.parcels)
            parcels_progress();
        if (inside.unheld)
            receives_progress();
    }
    if (inside.untold)
        bookmarks_tell();
    if (inside.copies)
        copies_progress();
}

/* ---- calls of MPI's that wait for others ---- */

/* Not a collective of a communicator that is followed: it may wait for anybody. */
static struct cut_call call_of(MPI_Comm handle, int root)
{
    const struct comm *comm = handle != MPI_COMM_NULL ? comm_of(handle) : NULL;
    if (comm == NULL)
        return (struct cut_call){0};
    bool for_one = root >= 0 && root < comm->size && comm->world[root] != (uint32_t)inside.rank;
    return (struct cut_call){.comm = comm->id, .number = comm->collectives, .root = for_one ? comm->world[root] : CUT_CALL_OF_ALL};
}

bool blocked_enter_slow(MPI_Comm collective, int root)
{
    if (!inside.on)
        return false;
    inside_lock();
    progress();
    inside.call = inside.blocked == 0 ? call_of(collective, root) : (struct cut_call){0};
    inside.blocked++;
    inside.tell_anew = true;
    settle_quick();
    inside_unlock();
    return true;
}

void blocked_leave(void)
{
    inside_lock();
    inside.blocked--;
    inside.call = (struct cut_call){0};
    inside.tell_anew = true; /* of another thread, which is in a call still, it is not known in which */
    receives_unpark();
    progress();
    settle_quick();
    inside_unlock();
}

void look_once(void)
{
    if (quick() || !inside.on)
        return;
    inside_lock();
    progress();
    settle_quick();
    inside_unlock();
}

/* What calls look at when there is nothing to do; else NEVER. */
static uint64_t word_when_calm(void)
{
    bool idle = inside.cut.state == CUT_RANK_IDLE || inside.cut.state == CUT_RANK_FINISHED;
    bool nothing =
        inside.queued == 0 && inside.parcels.next == &inside.parcels && inside.copies == NULL && inside.unheld == 0;
    return inside.on && idle && nothing && inside.draining == 0 ? inside.seen : NEVER;
}

void settle_calm(void)
{
    uint64_t calm = inside.many_threads ? word_when_calm() : NEVER;
    if (atomic_load_explicit(&inside.calm, memory_order_relaxed) != calm)
        atomic_store(&inside.calm, calm);
}

/* Where a thread is in such a call, what waits is parked whenever nobody else looks. */
void settle_quick(void)
{
    if (UNLIKELY(inside.blocked)) {
        offers_tell();
        receives_park();
    }
    if (UNLIKELY(inside.many_threads)) {
        settle_calm();
        return;
    }
    inside.quick = word_when_calm();
    inside.unadded |= inside.quick != NEVER;
}
