/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CUT_STORY_H
#define TESTS_CUT_STORY_H

/* Stories of cut_scripted that are told outside of scripted.c. */

#include <mpi.h>

#define STORY_CHILD "child" /* the first argument of one that a story spawns */
extern const char *program;

/* To the other rank, and not followed. Disconnect it. */
MPI_Comm foreign_comm(void);

void story_child(void);
void story_counted(void);
void story_freed(void);
void story_leaders(void);
void story_looks(void);
void story_neighbours(void);
void story_offers(void);
void story_offers_any(void);
void story_offers_before(void);
void story_offers_threads(void);
void story_order(void);
void story_room(void);
void story_ssend(void);
void story_ssend_behind(void);
void story_ssend_posted(void);
void story_ssend_refused(void);
void story_threads(void);
void story_threads_woken(void);

#endif
