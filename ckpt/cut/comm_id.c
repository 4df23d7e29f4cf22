/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/cut/comm_id.h"

#include "ckpt/base/digest.h"

#define BLOCK 256u
#define GIVEN_MAX 15u /* identities that are given lie below */

/* XXH3 over blocks of numbers, each with the sum so far in front. */
struct sum {
    uint64_t so_far;
    unsigned count;
    unsigned char bytes[8 + BLOCK * 8];
};

static void put64(unsigned char *to, uint64_t value)
{
    for (unsigned i = 0; i < 8; i++)
        to[i] = (unsigned char)(value >> (8 * i));
}

static void flush(struct sum *sum)
{
    put64(sum->bytes, sum->so_far);
    sum->so_far = digest_of(sum->bytes, 8 + sum->count * 8).low;
    sum->count = 0;
}

static void add(struct sum *sum, uint64_t value)
{
    put64(sum->bytes + 8 + sum->count * 8, value);
    if (++sum->count == BLOCK)
        flush(sum);
}

static void add_group(struct sum *sum, const uint32_t *ranks, size_t count)
{
    add(sum, count);
    for (size_t i = 0; i < count; i++)
        add(sum, ranks[i]);
}

static uint64_t end(struct sum *sum)
{
    flush(sum);
    return sum->so_far > GIVEN_MAX ? sum->so_far : sum->so_far + GIVEN_MAX + 1;
}

uint64_t cut_comm_base(uint64_t parent, const uint32_t *ranks, size_t count, const uint32_t *remote, size_t remote_count)
{
    struct sum sum = {.so_far = parent};
    /* Groups of an intercommunicator have no member in common, so that their first members tell them apart. */
    int swap = count > 0 && remote_count > 0 && remote[0] < ranks[0];
    add_group(&sum, swap ? remote : ranks, swap ? remote_count : count);
    add_group(&sum, swap ? ranks : remote, swap ? count : remote_count);
    return end(&sum);
}

uint64_t cut_comm_id(uint64_t base, uint64_t ordinal)
{
    struct sum sum = {.so_far = base};
    add(&sum, ordinal);
    return end(&sum);
}

uint64_t cut_balance_weight(uint32_t from, uint32_t to)
{
    struct sum sum = {.so_far = 0};
    add(&sum, from);
    add(&sum, to);
    return end(&sum) & CUT_BALANCE_MASK;
}
