/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_CUT_LIMITS_H
#define CKPT_CUT_LIMITS_H

/* Limits of the cut; README.md beside this file says what happens beyond each. */

#include <stdint.h>

#define CUT_COMMS_MAX 1024u                             /* communicators of a rank at a record */
#define CUT_VERDICT_COMMS_MAX (1u << 18)                /* different ones that a verdict holds, over all ranks */
#define CUT_CHANNEL_BYTES_DEFAULT (UINT64_C(256) << 20) /* of a rank's channel log */
#define CUT_HOLD_MS 300u   /* an unflipped rank waits for the old colour while the new one has a match */
#define CUT_EARLY_TRIES 5u /* attempts in a row that may end since ranks do not fit before the cut is given up */
#define CUT_STEP_TRIES 3u  /* such attempts in step mode before the free one is tried */

#endif
