/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_EXPORT_H
#define CKPT_STAGE_EXPORT_H

/* A rank's shard out of the store into files that others read. */

#include "ckpt/format/manifest.h"
#include "ckpt/store/store.h"

enum export_format {
    EXPORT_SAFETENSORS, /* rank-00000.safetensors */
    EXPORT_RAW          /* rank-00000.bin, the regions without gaps; rank-00000.json says what lies where */
};

/* progress: so many bytes more are done; NULL is legal. ret_path: of the file with the data, TIDE_PATH_MAX + 1 bytes. A file is
 * there under its name when all of it was compared with its digests, and not before; the index of raw bytes follows them. Until
 * then it is called NAME.part. Errors: EXISTS (a file of one of these names is there already: it is left as it is), INVALID (names,
 * tensors.h), CORRUPT, NOT_FOUND, NOSPACE, IO, those of the store. */
MUST_USE enum tide_status stage_export(struct store *store, const struct manifest *whole, uint32_t rank, enum export_format format,
                                       const char *dir, void (*progress)(void *context, uint64_t bytes), void *context,
                                       char *ret_path, struct err *err);

#endif
