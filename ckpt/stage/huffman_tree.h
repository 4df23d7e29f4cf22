/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_STAGE_HUFFMAN_TREE_H
#define CKPT_STAGE_HUFFMAN_TREE_H

/* The codes of a block's literals, and how zstd writes them down. Pure. */

#include <stdint.h>

#define HUFFMAN_BITS_MAX 11u  /* of one code: RFC 8878, 4.2.1 */
#define HUFFMAN_TREE_MAX 128u /* bytes written down: one byte tells how many follow, or that they are weights as they are */

struct huffman_codes {
    uint16_t code[256];
    uint8_t bits[256]; /* 0: it does not occur */
    unsigned longest;  /* bits of the longest */
    unsigned last;     /* the highest that occurs */
};

/* Codes for those whose count is above 0, which must be two or more; counts add up to less than 2^24. */
void huffman_codes_build(const uint32_t counts[256], struct huffman_codes *ret_codes);
/* The tree as it stands before the literals; returns its bytes. 0: it cannot be written down, which is so for almost flat ones only. */
unsigned huffman_tree_print(const struct huffman_codes *codes, unsigned char to[HUFFMAN_TREE_MAX]);

#endif
