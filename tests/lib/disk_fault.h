/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_DISK_FAULT_H
#define TESTS_LIB_DISK_FAULT_H

/* A disk that fails at a chosen call. disk_fault.c stands before the C library's calls: linked into a unit test, or
 * preloaded into a daemon with the plan in TIDE_DISK_FAULT. A plan is one or more rules with ";" between them:
 *
 *     CALL:N:ACTION[:PATTERN]
 *
 * CALL     open write sync rename unlink truncate read, or any of these but read.
 *          open: to write; sync: fsync and fdatasync; read: also to open for reading
 * N        the n-th call that matches, from 1; with "+" behind it also all later ones
 * ACTION   EIO ENOSPC EROFS EDQUOT: fails so, nothing done
 *          half: a write of half the bytes
 *          lose: a sync that fails with EIO, and what was written to the file since the sync before is gone (it reads as
 * zeros) kill: the process dies by SIGKILL instead of the call PATTERN  of the whole path, as fnmatch has it with
 * FNM_EXTMATCH; default: all */

#include <stdbool.h>

/* Forget all counts and follow this plan from now on; NULL: no faults. Aborts on a plan it cannot read. */
void disk_fault_plan(const char *plan);
/* How many calls the first rule has matched so far, and whether any rule has struck. */
unsigned long disk_fault_matched(void);
bool disk_fault_struck(void);

#endif
