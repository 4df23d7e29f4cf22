/* SPDX-License-Identifier: Apache-2.0 */
#include <unistd.h>

#include "ckpt/client/client.h"
#include "ckpt/cut/rank.h"

/* The safe point. */

/* Is what is armed for this step, as far as can be seen without taking it? */
static int is_due(const struct tide *tide, uint64_t step, uint64_t armed)
{
    const struct control_page *page = tide->page;
    struct cut_words words = {
        .armed_step = armed, .armed_epoch = atomic_load(&page->armed_epoch), .go_epoch = atomic_load(&page->go_epoch)};
    if (armed == STEP_NONE || armed == STEP_TAKEN)
        return 0;
    /* One that went by its step without a record is found by whoever armed it. */
    if (!tide->coloured || words.armed_epoch == 0)
        return armed == step || armed == STEP_NEXT;
    uint64_t epoch = atomic_load(&page->epoch);
    return epoch >= words.armed_epoch /* to be taken away */ || cut_point_at(&words, epoch, step) != CUT_POINT_GO_ON;
}

/* Something is armed, or messages are in transition. */
__attribute__((noinline)) static enum tide_status look(struct tide *tide, uint64_t step)
{
    if (getpid() != tide->pid)
        return TIDE_OK;
    colour_poll(tide);
    uint64_t armed = atomic_load(&tide->page->armed_step);
    if (armed == STEP_OVER)
        return restart_due(tide);
    if (is_due(tide, step, armed))
        record_make(tide, step, armed);
    if (colour_wakes(tide))
        tide->step_min = STEP_LIMIT;
    return TIDE_OK;
}

/* Either the rank sees what is armed or the agent sees its step, never neither: both are sequentially consistent. */
static inline enum tide_status pass(struct tide *tide, uint64_t step)
{
    struct control_page *page = tide->page;
    tide->step_min = step + 1;
    atomic_exchange_explicit(&page->step, step, memory_order_seq_cst);
    if (__builtin_expect(atomic_load_explicit(&page->armed_step, memory_order_seq_cst) == STEP_NONE, 1))
        return TIDE_OK;
    return look(tide, step);
}

/* The first step, one while messages are in transition, or one that is not possible. */
__attribute__((noinline)) static enum tide_status unusual_step(struct tide *tide, uint64_t step)
{
    if (step >= STEP_LIMIT)
        return err_set(&tide->err, TIDE_E_INVALID, "step %llu is not possible", (unsigned long long)step);
    uint64_t least = tide->stepping ? atomic_load(&tide->page->step) + 1 : tide->first_min;
    if (step < least)
        return err_set(&tide->err, TIDE_E_INVALID, "step %llu follows step %llu; steps must grow", (unsigned long long)step,
                       (unsigned long long)(least - 1));
    if (tide->in_job && getpid() == tide->pid) {
        colour_attach(tide);
        if (!tide->stepping)
            room_ahead(tide);
        atomic_store(&tide->page->phase, CONTROL_STEPPING);
    }
    tide->stepping = 1;
    tide->step_min = step + 1;
    atomic_exchange(&tide->page->step, step);
    return look(tide, step);
}

enum tide_status tide_step(struct tide *tide, uint64_t step)
{
    if (__builtin_expect(tide == NULL, 0))
        return TIDE_E_INVALID;
    /* One comparison for "too small" and "no step at all"; where the long way is due nothing passes it. */
    if (__builtin_expect(step - tide->step_min >= STEP_LIMIT - tide->step_min, 0))
        return unusual_step(tide, step);
    return pass(tide, step);
}
