/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_SEEN_H
#define CKPT_STAGE_SEEN_H

/* What has been looked at already, by a digest of what it is: a set of bounded size. What it has no room for, or no memory, it forgets:
 * that is looked at again. */

#include <stdbool.h>

#include "ckpt/base/digest_index.h"

#define SEEN_MAX (UINT64_C(1) << 20) /* 24 MiB */

struct seen {
    struct digest *items; /* NULL: nothing is kept */
    uint64_t count, most;
    struct digest_index index;
};

/* For `most` at most, and SEEN_MAX. */
void seen_init(struct seen *seen, uint64_t most);
void seen_release(struct seen *seen);
bool seen_has(const struct seen *seen, struct digest what);
void seen_add(struct seen *seen, struct digest what);

#endif
