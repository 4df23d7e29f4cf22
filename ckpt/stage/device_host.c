/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "ckpt/stage/device.h"

static enum tide_status open_host(uint64_t deadline_ms, struct device **ret_device, struct err *err)
{
    (void)deadline_ms, (void)err;
    *ret_device = NULL; /* there is nothing to keep */
    return TIDE_OK;
}

static void close_host(struct device *device)
{
    (void)device;
}

static enum tide_status adopt(struct device *device, const char *name, const void *at, size_t bytes,
                              struct device_place *ret_place, struct err *err)
{
    (void)device, (void)name, (void)at, (void)bytes, (void)err;
    *ret_place = (struct device_place){.ordinal = 0};
    return TIDE_OK;
}

static enum tide_status copy_in_begin(struct device *device, struct err *err)
{
    (void)device, (void)err;
    return TIDE_OK;
}

static enum tide_status copy_in(struct device *device, struct device_place place, void *to, const void *from_host,
                                size_t bytes, unsigned lane, struct err *err)
{
    (void)device, (void)place, (void)lane, (void)err;
    memcpy(to, from_host, bytes);
    return TIDE_OK;
}

static enum tide_status copy_in_wait(struct device *device, unsigned lane, struct err *err)
{
    (void)device, (void)lane, (void)err;
    return TIDE_OK;
}

/* What is not here concerns devices only: a record copies host memory itself. */
const struct device_ops device_host = {.abi = DEVICE_ABI,
                                       .name = "host",
                                       .open = open_host,
                                       .close = close_host,
                                       .adopt = adopt,
                                       .copy_in_begin = copy_in_begin,
                                       .copy_in = copy_in,
                                       .copy_in_wait = copy_in_wait};
