/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_DEVICE_H
#define CKPT_STAGE_DEVICE_H

/* Where regions live, as verbs. Host memory is built in; device memory is a library of its own, found when the first region
 * of that kind is registered, so that nobody needs a GPU's software who has no GPU. */

#include <stddef.h>
#include <stdint.h>
#include <tidemark/tidemark.h>

#include "ckpt/base/err.h"

#define DEVICE_ABI 3u /* of all of this; both sides must have the same */
#define DEVICE_PLUGIN "libtidemark_cuda.so"
#define DEVICE_PLUGIN_SYMBOL "tidemark_device_plugin"
#define DEVICE_LANES 16u /* buffers a restore fills in turn */

struct device; /* what a backend keeps for one handle */

struct device_place {
    int ordinal;    /* the device's number in this process */
    int is_managed; /* its pages move between host and device */
};

/* One region on its way into a slot. */
struct device_part {
    const char *name;
    struct device_place place;
    const void *from;
    void *to;
    size_t bytes;
    enum tide_copy wanted;
    enum tide_copy copied; /* set by copy_out: SYNC, SLAB or LAZY */
    void *aside;           /* the backend's: where on the device it was copied to first */
};

/* Every call but pin, unpin and copy_out_finish is made by the thread that owns the handle, and no two at the same time but
 * for before_update, which may come while copy_out_finish or pin runs. */
struct device_ops {
    uint32_t abi;
    const char *name;

    /* No wait inside is longer than deadline_ms. Errors: NOMEM, UNAVAILABLE. */
    enum tide_status (*open)(uint64_t deadline_ms, struct device **ret_device, struct err *err);
    /* No copy is under way, or copy_out_finish has said TIMEOUT. NULL is legal. */
    void (*close)(struct device *device);

    /* Is [at, at + bytes) memory of this kind, which can be copied? Errors: INVALID, UNAVAILABLE. */
    enum tide_status (*adopt)(struct device *device, const char *name, const void *at, size_t bytes,
                              struct device_place *ret_place, struct err *err);
    enum tide_status (*set_streams)(struct device *device, int ordinal, void *const *streams, unsigned count,
                                    struct err *err);
    enum tide_status (*set_spare)(struct device *device, int ordinal, size_t bytes, struct err *err);

    /* Make host memory fast to copy from and to, slice by slice until *stop; what cannot be done is copied slower, and
     * note() says so. Again for the same memory: the rest. */
    void (*pin)(struct device *device, void *at, size_t bytes, const _Atomic int *stop);
    void (*unpin)(struct device *device, void *at);

    /* Copy all parts out, as they are behind all that the program has put into its streams. With *ret_pending set, some
     * bytes are still on their way: `parts` stays until copy_out_finish, which waits for them and may be called by another
     * thread. Errors: STATE (not at this moment), UNAVAILABLE, NOMEM, TIMEOUT; nothing is pending then. */
    enum tide_status (*copy_out)(struct device *device, struct device_part *parts, unsigned count, int *ret_pending,
                                 struct err *err);
    enum tide_status (*copy_out_finish)(struct device *device, struct err *err);
    /* What is put into `stream` from now on is done behind the copies under way. The caller does not wait. */
    enum tide_status (*before_update)(struct device *device, void *stream, struct err *err);
    /* Why the last copy_out was not done as wanted; "" when it was. */
    const char *(*note)(const struct device *device);

    /* Behind all that the program has put into its streams: */
    enum tide_status (*copy_in_begin)(struct device *device, struct err *err);
    /* … copy in; from_host belongs to that lane, and stays as it is until copy_in_wait(lane). */
    enum tide_status (*copy_in)(struct device *device, struct device_place place, void *to, const void *from_host,
                                size_t bytes, unsigned lane, struct err *err);
    enum tide_status (*copy_in_wait)(struct device *device, unsigned lane, struct err *err);

    /* Where on the host's buses the device is that was used first, as "0000:65:00.0"; "": nowhere, or it is not known. */
    void (*bus_id)(const struct device *device, char *to, size_t size);
};

extern const struct device_ops device_host;

/* The backend for a kind of memory. Errors: UNSUPPORTED, which tells what is not installed; VERSION. */
MUST_USE enum tide_status device_for(enum tide_memory memory, const struct device_ops **ret_ops, struct err *err);

#endif
