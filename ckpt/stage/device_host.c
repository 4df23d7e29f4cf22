/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ckpt/stage/device.h"

static enum tide_status copy(void *to, const void *from, size_t bytes, struct err *err)
{
    (void)err;
    /* A region of no bytes may have no address either. */
    if (bytes > 0)
        memcpy(to, from, bytes);
    return TIDE_OK;
}

static enum tide_status synchronise(struct err *err)
{
    (void)err;
    return TIDE_OK;
}

const struct device_ops device_host = {.name = "host", .copy_out = copy, .copy_in = copy, .synchronise = synchronise};
