/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/device.h"

const struct device_ops *device_for(enum tide_memory memory)
{
    return memory == TIDE_HOST ? &device_host : NULL;
}
