/* SPDX-License-Identifier: Apache-2.0 */

/* Preloaded before libtidemark_mpi and libtidemark: any MPI program becomes one that can be ordered to flip. It has no safe points, so
 * that no cut of it is whole; what is tested is that its messages are none the worse for what is tried. */

#include <dlfcn.h>
#include <mpi.h>
#include <stdio.h>
#include <tidemark/tidemark.h>

static void attach(void)
{
    struct tide *tide = NULL;
    struct tide_options options = {.size = sizeof options, .cut = TIDE_CUT_FREE};
    if (tide_init(&tide, &options) != TIDE_OK || tide_step(tide, 1) != TIDE_OK)
        fprintf(stderr, "cut_attach: %s\n", tide_error_text(tide));
}

int MPI_Init(int *argc, char ***argv)
{
    int (*init)(int *, char ***);
    *(void **)&init = dlsym(RTLD_NEXT, "MPI_Init");
    int error = init(argc, argv);
    attach();
    return error;
}

int MPI_Init_thread(int *argc, char ***argv, int required, int *provided)
{
    int (*init)(int *, char ***, int, int *);
    *(void **)&init = dlsym(RTLD_NEXT, "MPI_Init_thread");
    int error = init(argc, argv, required, provided);
    attach();
    return error;
}
