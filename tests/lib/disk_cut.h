/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_LIB_DISK_CUT_H
#define TESTS_LIB_DISK_CUT_H

/* What a host that loses power would not have kept: bytes written to a file since its last sync, and names made, changed or
 * removed since the last sync of their directory. disk_fault.c notes them as they happen; the worst is then made true. */

#include <sys/types.h>

void cut_wrote(int fd, off_t from, ssize_t bytes);
void cut_synced(int fd, const char *path);
void cut_will_create(const char *path); /* before an open that may create it */
void cut_will_rename(const char *from, const char *to);
void cut_will_unlink(const char *path);

/* The unsynced bytes of this file become zeros. */
void cut_lose(int fd);
/* All unsynced bytes become zeros, all unsynced changes of names are undone. The process should die now. */
void cut_all(void);
void cut_forget(void);

#endif
