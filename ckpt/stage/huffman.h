/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_HUFFMAN_H
#define CKPT_STAGE_HUFFMAN_H

/* Bytes as an ordinary zstd frame (RFC 8878) of which no block has a sequence: all are literals, in Huffman's code. zstd makes as
 * much of them at its lowest levels, but counts every byte, and appends one code after the other. Here a sample is counted, and codes are
 * looked up and joined 64 at a time where the processor can. Pure: same bytes in, same bytes out, on every processor. */

#include <stddef.h>

/* Fewer are not worth a tree. */
#define HUFFMAN_BYTES_MIN 1024u

/* By which instructions; what comes out is the same. */
enum huffman_way {
    HUFFMAN_PORTABLE,
    HUFFMAN_BMI2, /* the same code, with shifts that leave the flags alone */
    HUFFMAN_WIDE  /* AVX-512 with VBMI, and BMI2 */
};

struct huffman;
/* NULL: no memory. Every frame is made in this memory. */
struct huffman *huffman_create(void);
void huffman_free(struct huffman *huffman); /* NULL is legal */
/* That way or, where this processor cannot, the next one before it, which is returned. The last one until it is said otherwise. */
enum huffman_way huffman_choose(struct huffman *huffman, enum huffman_way way);

/* One frame of `bytes` bytes, from HUFFMAN_BYTES_MIN to UINT32_MAX, to `to`; returns its length. 0: it would be longer than `room`; what is
 * there may be written over. */
size_t huffman_frame(struct huffman *huffman, void *to, size_t room, const void *from, size_t bytes);

#endif
