/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_FORMAT_ORPHAN_H
#define CKPT_FORMAT_ORPHAN_H

/* What may be deleted of the objects that a store lists, by what the log knows of a job. Only final verdicts count: an id is
 * never used again, and what was dropped or aborted stays so. So it does no harm if it is done late, twice, or by somebody
 * who has been replaced meanwhile. What was aborted is in neither list, as what is not remembered: it was never ordered to be
 * stored, so a COMMIT of that id is that of another history. */

#include <stddef.h>
#include <stdint.h>

struct orphan_rule {
    const uint64_t *live; /* may be needed: open, sealed, committed, condemned, corrupt; sorted */
    size_t live_count;
    const uint64_t *over; /* dropped; sorted */
    size_t over_count;
    uint64_t below;       /* ids from here on were not given yet when this was written */
};

enum orphan_verdict {
    ORPHAN_NOT,
    ORPHAN_DELETE,
    ORPHAN_STRANGE /* committed, and by the log it is not: that of another history, perhaps. Left for people */
};

/* committed: it has a COMMIT object. */
enum orphan_verdict orphan_judge(const struct orphan_rule *rule, uint64_t cut, int committed);

#endif
