/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/cut/comm_id.h"
#include "ckpt/cut/verdict.h"

#define SLOTS_FIRST 64u
#define MULTIPLIER UINT64_C(0x9e3779b97f4a7c15)

/* Those of its members that have the count of the first, and those that have another. */
struct known {
    struct cut_members same, differ; /* differ.members 0: none */
};

struct cut_comms {
    struct known *items;
    uint32_t *slots; /* open addressing; index + 1 of an item, 0: free */
    uint32_t count, room, slot_bits;
};

struct cut_comms *cut_comms_create(void)
{
    struct cut_comms *comms = mem_alloc(sizeof *comms);
    comms->slot_bits = 6;
    comms->slots = mem_array(SLOTS_FIRST, sizeof *comms->slots);
    return comms;
}

void cut_comms_free(struct cut_comms *comms)
{
    if (comms == NULL)
        return;
    mem_free(comms->items);
    mem_free(comms->slots);
    mem_free(comms);
}

static uint32_t *slot_of(const struct cut_comms *comms, uint64_t id)
{
    uint32_t mask = (1u << comms->slot_bits) - 1;
    uint32_t at = (uint32_t)((id * MULTIPLIER) >> (64 - comms->slot_bits));
    while (comms->slots[at] != 0 && comms->items[comms->slots[at] - 1].same.comm.id != id)
        at = (at + 1) & mask;
    return &comms->slots[at];
}

static void grow(struct cut_comms *comms)
{
    if (comms->count == comms->room) {
        comms->room = comms->room ? 2 * comms->room : SLOTS_FIRST / 2;
        comms->items = mem_grow(comms->items, comms->room, sizeof *comms->items);
    }
    if (2 * (comms->count + 1) <= 1u << comms->slot_bits)
        return;
    mem_free(comms->slots);
    comms->slot_bits++;
    comms->slots = mem_array((size_t)1 << comms->slot_bits, sizeof *comms->slots);
    for (uint32_t i = 0; i < comms->count; i++)
        *slot_of(comms, comms->items[i].same.comm.id) = i + 1;
}

static void join(struct cut_members *to, const struct cut_members *more)
{
    to->members += more->members;
    to->sent += more->sent;
    to->received += more->received;
    to->balance = (to->balance + more->balance) & CUT_BALANCE_MASK;
}

enum tide_status cut_comms_add(struct cut_comms *comms, const struct cut_members *members, struct err *err)
{
    if (members->comm.size <= 1 || members->members == 0)
        return TIDE_OK;
    uint32_t *slot = slot_of(comms, members->comm.id);
    if (*slot == 0) {
        if (comms->count == CUT_VERDICT_COMMS_MAX)
            return err_set(err, TIDE_E_LIMIT, "more than %u communicators at a cut; free those that are not used",
                           CUT_VERDICT_COMMS_MAX);
        grow(comms);
        comms->items[comms->count] = (struct known){.same = *members};
        *slot_of(comms, members->comm.id) = ++comms->count;
        return TIDE_OK;
    }
    struct known *known = &comms->items[*slot - 1];
    if (known->same.comm.collectives == members->comm.collectives && known->same.comm.size == members->comm.size)
        join(&known->same, members);
    else if (known->differ.members == 0)
        known->differ = *members;
    else
        join(&known->differ, members);
    return TIDE_OK;
}

int cut_comms_line(const struct cut_comms *comms, size_t index, struct cut_members *ret_members)
{
    /* First one line of each, then what differs. */
    if (index < comms->count) {
        *ret_members = comms->items[index].same;
        return 0;
    }
    index -= comms->count;
    for (uint32_t i = 0; i < comms->count; i++)
        if (comms->items[i].differ.members > 0 && index-- == 0) {
            *ret_members = comms->items[i].differ;
            return 0;
        }
    return -1;
}

static const char *name_of(const struct cut_comm *comm)
{
    return comm->name[0] ? comm->name : "without a name";
}

enum cut_misfit cut_comms_judge(const struct cut_comms *comms, uint32_t world, char *why, size_t why_size)
{
    uint32_t all = *slot_of(comms, CUT_COMM_WORLD), told = all != 0 ? comms->items[all - 1].same.members : 0;
    if (world > 1 && (all == 0 || comms->items[all - 1].same.comm.size != world)) {
        snprintf(why, why_size, "%u of %u ranks have not told their communicators", world - told, world);
        return CUT_MISFIT_COLLECTIVE;
    }
    for (uint32_t i = 0; i < comms->count; i++) {
        const struct cut_members *a = &comms->items[i].same, *b = &comms->items[i].differ;
        if (b->members > 0) {
            snprintf(why, why_size,
                     "the cut lies inside a collective: of communicator %s (%016" PRIx64
                     ", %u members) rank %u has entered %" PRIu64 " and rank %u %" PRIu64,
                     name_of(&a->comm), a->comm.id, a->comm.size, a->rank, a->comm.collectives, b->rank,
                     b->comm.collectives);
            return CUT_MISFIT_COLLECTIVE;
        }
        if (a->members != a->comm.size) {
            snprintf(why, why_size,
                     "communicator %s (%016" PRIx64 ") has %u members and %u of them know it at the cut, rank %u for one",
                     name_of(&a->comm), a->comm.id, a->comm.size, a->members, a->rank);
            return CUT_MISFIT_COLLECTIVE;
        }
        if (a->sent != a->received || a->balance != 0) {
            snprintf(why, why_size,
                     "messages of communicator %s (%016" PRIx64 ", %u members) are under way: %" PRIu64 " were sent and %" PRIu64
                     " received%s",
                     name_of(&a->comm), a->comm.id, a->comm.size, a->sent, a->received,
                     a->sent == a->received ? ", not by those they were sent to" : "");
            return CUT_MISFIT_COLLECTIVE;
        }
    }
    return CUT_FITS;
}
