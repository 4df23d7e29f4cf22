/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/cut/mode.h"

const char *cut_mode_name(unsigned mode)
{
    static const char *const names[CUT_MODES] = {"auto", "step", "free"};
    return mode < CUT_MODES ? names[mode] : "unknown";
}

static enum cut_mode other(unsigned mode)
{
    return mode == CUT_MODE_STEP ? CUT_MODE_FREE : CUT_MODE_STEP;
}

enum cut_mode cut_mode_next(const struct cut_past *past)
{
    if (past->declared == CUT_MODE_STEP || past->declared == CUT_MODE_FREE)
        return (enum cut_mode)past->declared;
    if (past->tried == CUT_MODE_AUTO)
        return CUT_MODE_STEP;
    uint32_t tries = past->tried == CUT_MODE_STEP ? CUT_STEP_TRIES : CUT_EARLY_TRIES;
    return past->misfits < tries ? (enum cut_mode)past->tried : other(past->tried);
}

void cut_past_add(struct cut_past *past, enum cut_mode mode, enum cut_misfit misfit)
{
    if (past->tried != mode)
        past->misfits = 0;
    past->tried = mode;
    if (misfit == CUT_FITS) {
        past->misfits = past->row = 0;
    } else if (misfit < CUT_MISFIT_FAILED) {
        past->misfits++;
        past->row++;
    }
}

int cut_past_hopeless(const struct cut_past *past)
{
    return past->row >= (past->declared == CUT_MODE_AUTO ? CUT_STEP_TRIES : 0) + CUT_EARLY_TRIES;
}
