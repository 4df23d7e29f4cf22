/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/base/mem.h"
#include "ckpt/client/mpi/inside.h"

/* Windows and files: which communicator each was made of, where its collective calls are counted. */

#define PLACES_FIRST 16u

static struct made {
    uint64_t key; /* 0: a free place */
    struct comm *comm;
} * places;
static size_t place_count;

static struct made *place_of(uint64_t key)
{
    for (size_t i = 0; i < place_count; i++) {
        if (places[i].key == key)
            return &places[i];
    }
    return NULL;
}

static struct made *place_free(void)
{
    struct made *place = place_of(0);
    if (place)
        return place;
    size_t count = place_count ? place_count * 2 : PLACES_FIRST;
    struct made *grown = mem_try_array(count, sizeof *grown);
    if (grown == NULL)
        return NULL;
    for (size_t i = 0; i < place_count; i++)
        grown[i] = places[i];
    place = &grown[place_count];
    mem_free(places);
    places = grown;
    place_count = count;
    return place;
}

void made_note(uint64_t key, MPI_Comm handle)
{
    if (!inside.on)
        return;
    inside_lock();
    struct comm *comm = comm_find(handle);
    struct made *place = comm ? place_free() : NULL;
    if (place) {
        *place = (struct made){.key = key, .comm = comm};
        comm->holds++;
    }
    inside_unlock();
}

void made_forget(uint64_t key)
{
    if (!inside.on)
        return;
    inside_lock();
    struct made *place = place_of(key);
    if (place) {
        struct comm *comm = place->comm;
        *place = (struct made){.key = 0};
        comm_release(comm);
    }
    inside_unlock();
}

void made_forget_all(const struct comm *comm)
{
    for (size_t i = 0; i < place_count; i++) {
        if (places[i].comm == comm)
            places[i] = (struct made){.key = 0};
    }
}

void made_collective(uint64_t key)
{
    if (!inside.on)
        return;
    inside_lock();
    struct made *place = place_of(key);
    if (place)
        place->comm->collectives++;
    inside_unlock();
}
