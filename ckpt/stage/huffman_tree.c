/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/huffman_tree.h"

#include <string.h>

#define SYMBOLS 256u
#define WEIGHTS (HUFFMAN_BITS_MAX + 1)

/* ---- lengths ---- */

/* Keys are a count above a symbol, so that no two are equal. Few symbols occur in what is worth a code. */
static unsigned sorted(const uint32_t counts[SYMBOLS], uint32_t keys[SYMBOLS])
{
    unsigned n = 0;
    for (uint32_t symbol = 0; symbol < SYMBOLS; symbol++) {
        uint32_t key = counts[symbol] << 8 | symbol;
        if (counts[symbol] == 0)
            continue;
        unsigned at = n++;
        for (; at > 0 && keys[at - 1] > key; at--)
            keys[at] = keys[at - 1];
        keys[at] = key;
    }
    return n;
}

/* Huffman's tree over leaves that come in the order of their counts: the nodes made come in order, too, so that the two lightest are
 * always at the head of one of two queues. How many leaves lie how deep is all that is kept; what lies deeper than may be counts as if it
 * lay as deep as may be. */
static void count_depths(const uint32_t keys[SYMBOLS], unsigned n, unsigned depths[HUFFMAN_BITS_MAX + 1])
{
    uint32_t weight[SYMBOLS];
    uint16_t parent_of_leaf[SYMBOLS], parent[SYMBOLS], depth[SYMBOLS];
    unsigned leaf = 0, node = 0;
    for (unsigned made = 0; made < n - 1; made++) {
        weight[made] = 0;
        for (unsigned side = 0; side < 2; side++)
            if (leaf < n && (node == made || keys[leaf] >> 8 <= weight[node])) {
                parent_of_leaf[leaf] = (uint16_t)made;
                weight[made] += keys[leaf++] >> 8;
            } else {
                parent[node] = (uint16_t)made;
                weight[made] += weight[node++];
            }
    }
    depth[n - 2] = 0;
    for (unsigned i = n - 2; i-- > 0;)
        depth[i] = (uint16_t)(depth[parent[i]] + 1);
    for (unsigned i = 0; i < n; i++) {
        unsigned d = depth[parent_of_leaf[i]] + 1u;
        depths[d < HUFFMAN_BITS_MAX ? d : HUFFMAN_BITS_MAX]++;
    }
}

/* Those that were moved up take more room than there is: room is made where it costs least, until the codes fill it exactly. */
static void fit(unsigned depths[HUFFMAN_BITS_MAX + 1])
{
    uint32_t taken = 0;
    for (unsigned d = 1; d <= HUFFMAN_BITS_MAX; d++)
        taken += depths[d] << (HUFFMAN_BITS_MAX - d);
    for (; taken > 1u << HUFFMAN_BITS_MAX; taken--) {
        unsigned d = HUFFMAN_BITS_MAX - 1;
        while (depths[d] == 0)
            d--;
        depths[HUFFMAN_BITS_MAX]--;
        depths[d]--;
        depths[d + 1] += 2;
    }
}

void huffman_codes_build(const uint32_t counts[SYMBOLS], struct huffman_codes *ret)
{
    uint32_t keys[SYMBOLS];
    unsigned depths[HUFFMAN_BITS_MAX + 1] = {0}, n = sorted(counts, keys), at = 0;
    uint16_t next[HUFFMAN_BITS_MAX + 2] = {0}, code = 0;
    memset(ret, 0, sizeof *ret);
    count_depths(keys, n, depths);
    fit(depths);
    for (unsigned d = HUFFMAN_BITS_MAX; d > 0; d--) {
        if (depths[d] > 0 && ret->longest == 0)
            ret->longest = d;
        for (unsigned k = 0; k < depths[d]; k++)
            ret->bits[keys[at++] & 0xff] = (uint8_t)d;
    }
    /* The longest codes begin at 0; among those of one length symbols come in order. */
    for (unsigned d = ret->longest; d > 0; d--) {
        next[d] = code;
        code = (uint16_t)((code + depths[d]) >> 1);
    }
    for (unsigned symbol = 0; symbol < SYMBOLS; symbol++)
        if (ret->bits[symbol] > 0) {
            ret->code[symbol] = next[ret->bits[symbol]]++;
            ret->last = symbol;
        }
}

/* ---- the tree written down: weights of all symbols before the last, in finite state entropy code (RFC 8878, 4.1 and 4.2.1) ---- */

#define STATES_LOG 6u
#define STATES (1u << STATES_LOG)
#define SPREAD_STEP (STATES / 2 + STATES / 8 + 3)

/* Bits from the lowest up, as many as the caller knows there is room for. */
struct bits {
    unsigned char *to;
    uint32_t held;
    unsigned count;
};

static void put_bits(struct bits *b, uint32_t value, unsigned count)
{
    b->held |= value << b->count;
    for (b->count += count; b->count >= 8; b->count -= 8) {
        *b->to++ = (unsigned char)b->held;
        b->held >>= 8;
    }
}

static void put_last_bits(struct bits *b)
{
    if (b->count > 0)
        *b->to++ = (unsigned char)b->held;
    *b = (struct bits){.to = b->to};
}

/* How many states each weight has; nonzero: there is but one weight, which is no code. */
static int share_states(const uint8_t weights[], unsigned n, unsigned states[WEIGHTS])
{
    unsigned counts[WEIGHTS] = {0}, most = 0, left = STATES;
    for (unsigned i = 0; i < n; i++)
        counts[weights[i]]++;
    for (unsigned w = 0; w < WEIGHTS; w++) {
        if (counts[w] == n)
            return -1;
        states[w] = counts[w] * STATES / n;
        if (counts[w] > 0 && states[w] == 0)
            states[w] = 1;
        most = counts[w] > counts[most] ? w : most;
    }
    /* Of 12 weights the commonest has always more than the others were given too much. */
    for (unsigned w = 0; w < WEIGHTS; w++)
        left -= states[w];
    states[most] += left;
    return 0;
}

static void put_shares(struct bits *b, const unsigned states[WEIGHTS])
{
    unsigned remaining = STATES + 1, threshold = STATES, width = STATES_LOG + 1, w = 0;
    put_bits(b, STATES_LOG - 5, 4);
    while (remaining > 1) {
        unsigned above = 2 * threshold - 1 - remaining, value = states[w] + 1;
        remaining -= states[w];
        if (value >= threshold)
            value += above;
        put_bits(b, value, width - (value < above));
        for (; remaining < threshold; threshold >>= 1)
            width--;
        if (states[w++] > 0)
            continue;
        unsigned zeros = 0; /* that follow: 3 for three and more to come */
        for (; states[w] == 0; w++)
            zeros++;
        for (; zeros >= 3; zeros -= 3)
            put_bits(b, 3, 2);
        put_bits(b, zeros, 2);
    }
}

/* cells[w][k]: the state that is the k-th of weight w. */
static void spread(const unsigned states[WEIGHTS], uint8_t cells[WEIGHTS][STATES])
{
    uint8_t of[STATES];
    unsigned at = 0, seen[WEIGHTS] = {0};
    for (unsigned w = 0; w < WEIGHTS; w++)
        for (unsigned k = 0; k < states[w]; k++) {
            of[at] = (uint8_t)w;
            at = (at + SPREAD_STEP) % STATES;
        }
    for (unsigned s = 0; s < STATES; s++)
        cells[of[s]][seen[of[s]]++] = (uint8_t)s;
}

/* Backwards, by two states in turn; who reads has the first weight from the first one. */
static void put_weights(struct bits *b, const uint8_t weights[], unsigned n, const unsigned states[WEIGHTS])
{
    uint8_t cells[WEIGHTS][STATES];
    unsigned state[2];
    spread(states, cells);
    for (unsigned i = n; i-- > 0;) {
        unsigned w = weights[i], *s = &state[i % 2], x = *s + STATES, out = 0;
        if (i + 2 >= n) {
            *s = cells[w][0]; /* which reads bits that are not there: so the end is known */
            continue;
        }
        while (x >> out >= 2 * states[w])
            out++;
        put_bits(b, x & ((1u << out) - 1), out);
        *s = cells[w][(x >> out) - states[w]];
    }
    put_bits(b, state[1], STATES_LOG);
    put_bits(b, state[0], STATES_LOG);
    put_bits(b, 1, 1);
    put_last_bits(b);
}

/* Four bits each, the first one higher. */
static unsigned print_direct(const uint8_t weights[], unsigned n, unsigned char to[HUFFMAN_TREE_MAX])
{
    if (n > 128)
        return 0;
    to[0] = (unsigned char)(127 + n);
    for (unsigned i = 0; i < n; i += 2)
        to[1 + i / 2] = (unsigned char)(weights[i] << 4 | (i + 1 < n ? weights[i + 1] : 0));
    return 1 + (n + 1) / 2;
}

unsigned huffman_tree_print(const struct huffman_codes *codes, unsigned char to[HUFFMAN_TREE_MAX])
{
    uint8_t weights[SYMBOLS];
    unsigned char text[2 * SYMBOLS];
    unsigned states[WEIGHTS], n = codes->last;
    struct bits b = {.to = text};
    for (unsigned i = 0; i < n; i++)
        weights[i] = (uint8_t)(codes->bits[i] > 0 ? codes->longest + 1 - codes->bits[i] : 0);
    if (n < 2 || share_states(weights, n, states))
        return print_direct(weights, n, to);
    put_shares(&b, states);
    put_last_bits(&b);
    put_weights(&b, weights, n, states);
    unsigned bytes = (unsigned)(b.to - text);
    if (bytes >= HUFFMAN_TREE_MAX)
        return 0;
    to[0] = (unsigned char)bytes;
    memcpy(to + 1, text, bytes);
    return 1 + bytes;
}
