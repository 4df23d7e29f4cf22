/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_DEVICE_H
#define CKPT_STAGE_DEVICE_H

#include <stddef.h>
#include <tidemark/tidemark.h>

#include "ckpt/base/err.h"

/* Where a region lives, as verbs. Copies may return before the bytes have moved; synchronise waits for all of them, and
 * until then neither side of a copy is touched. Called by the thread that owns the handle. */
struct device_ops {
    const char *name;
    enum tide_status (*copy_out)(void *to_host, const void *from, size_t bytes, struct err *err);
    enum tide_status (*copy_in)(void *to, const void *from_host, size_t bytes, struct err *err);
    enum tide_status (*synchronise)(struct err *err);
};

extern const struct device_ops device_host;

/* NULL for a kind of memory this build has no backend for. */
const struct device_ops *device_for(enum tide_memory memory);

#endif
