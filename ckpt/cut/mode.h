/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CUT_MODE_H
#define CKPT_CUT_MODE_H

/* In which mode the next attempt is made: whether a program's ranks count steps alike is found out by trying. */

#include "ckpt/cut/verdict.h"

enum cut_mode {
    CUT_MODE_AUTO, /* declared by nobody; never the mode of an attempt */
    CUT_MODE_STEP, /* all ranks record at one step */
    CUT_MODE_FREE, /* each records at its next safe point */
    CUT_MODES
};
const char *cut_mode_name(unsigned mode);

/* What is remembered of a job's attempts. All zero at first. */
struct cut_past {
    unsigned declared; /* enum cut_mode: by the program; wins */
    unsigned tried;    /* the mode of the last attempt, or AUTO */
    uint32_t misfits;  /* attempts in a row in that mode in which ranks did not fit */
    uint32_t row;      /* … in any mode */
};

enum cut_mode cut_mode_next(const struct cut_past *past);
/* An attempt has ended: CUT_FITS with a valid cut. Only ranks that do not fit (MISSED to COLLECTIVE) speak against a mode.
 */
void cut_past_add(struct cut_past *past, enum cut_mode mode, enum cut_misfit misfit);
/* It has not fitted so often that a cut is to be given up, and the reason told to people. */
int cut_past_hopeless(const struct cut_past *past);

#endif
