/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_CUT_STORY_H
#define TESTS_CUT_STORY_H

/* Stories of cut_scripted that are told outside of scripted.c. */

#include <mpi.h>
#include <stdbool.h>
#include <stdint.h>

#define STORY_CHILD "child" /* the first argument of one that a story spawns */
extern const char *program;

/* Rank 1 has flipped and its receive waits in a queue; it comes to `call`, in which rank 0 sends to it first. */
void parked(uint64_t epoch, void (*call)(void));
/* To the other rank, and not followed. Disconnect it. */
MPI_Comm foreign_comm(void);

/* One that is only there, or has a part in story_leaders. */
void story_child(bool idle);
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
void story_threads_failed(void);
void story_threads_woken(void);

#endif
