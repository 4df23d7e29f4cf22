/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/client/mpi/inside.h"

/* Attributes of a communicator that the program frees while we need it: MPI would call what the program has to be called at
 * their end, and so it is called then. Which keys there are is remembered when they are made; those of Fortran are not seen,
 * and theirs are called when we free it. */

#define KEYS_MAX 1024u /* those beyond are treated as Fortran's */

static int keys[KEYS_MAX];
static unsigned key_count;

static int key_made(int error, const int *key)
{
    inside_lock();
    if (error == MPI_SUCCESS && key_count < KEYS_MAX)
        keys[key_count++] = *key;
    inside_unlock();
    return error;
}

static void key_gone(int key)
{
    inside_lock();
    for (unsigned i = 0; i < key_count; i++) {
        if (keys[i] == key)
            keys[i--] = keys[--key_count];
    }
    inside_unlock();
}

int attributes_delete(MPI_Comm handle)
{
    int error = MPI_SUCCESS;
    void *value = NULL;
    for (unsigned i = 0; error == MPI_SUCCESS && i < key_count; i++) {
        int found = 0, key = keys[i];
        if (PMPI_Comm_get_attr(handle, key, &value, &found) == MPI_SUCCESS && found)
            error = PMPI_Comm_delete_attr(handle, key);
    }
    return error;
}

int MPI_Comm_create_keyval(MPI_Comm_copy_attr_function *copy, MPI_Comm_delete_attr_function *drop, int *key, void *extra)
{
    return key_made(real.Comm_create_keyval(copy, drop, key, extra), key);
}

int MPI_Comm_free_keyval(int *key)
{
    key_gone(*key);
    return real.Comm_free_keyval(key);
}

INTERPOSED(Comm_create_keyval);
INTERPOSED(Comm_free_keyval);
