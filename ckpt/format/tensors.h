/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_FORMAT_TENSORS_H
#define CKPT_FORMAT_TENSORS_H

/* A shard's regions as the tensors of a safetensors file: 8 bytes with the header's length, little-endian; the header, JSON,
 * filled up with blanks; the tensors without gaps. */

#include "ckpt/format/manifest.h"

#define TENSOR_METADATA "__metadata__" /* no tensor may be called so */

struct tensor {
    const struct region_entry *region; /* borrowed */
    const char *dtype;                 /* in the words of safetensors; what it has no word for is U8 */
    unsigned width;
    unsigned ndim;
    uint64_t shape[TIDE_DIMS_MAX];
    uint64_t begin;                    /* behind the header; it ends region->bytes later */
};

struct tensors {
    struct tensor *items; /* as in the file: those of wide numbers first, so that all are aligned */
    size_t count;
    uint64_t bytes;
};

/* The program's regions; not those that are called tidemark.something. Errors: INVALID: two have one name, or one that no
 * tensor may have. */
MUST_USE enum tide_status tensors_plan(const struct rank_manifest *manifest, struct tensors *ret_tensors, struct err *err);
void tensors_release(struct tensors *tensors);
/* All that comes before the tensors; heap memory. */
char *tensors_header(const struct rank_manifest *manifest, const struct tensors *tensors, size_t *ret_bytes);
/* The same as a list, for people and programs that read the bare bytes; heap memory. */
char *tensors_index(const struct rank_manifest *manifest, const struct tensors *tensors);

#endif
