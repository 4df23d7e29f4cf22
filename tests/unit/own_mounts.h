/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_OWN_MOUNTS_H
#define TESTS_UNIT_OWN_MOUNTS_H

/* A process that mounts what nobody else sees. */

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

static inline bool write_line(const char *path, const char *format, unsigned id)
{
    FILE *to = fopen(path, "we");
    if (to == NULL)
        return false;
    fprintf(to, format, id, id);
    return fclose(to) == 0;
}

/* Who is not root is it in a user namespace, where that is allowed. */
static inline bool own_mounts(void)
{
    unsigned uid = getuid(), gid = getgid();
    if (uid == 0)
        return unshare(CLONE_NEWNS) == 0;
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_line("/proc/self/uid_map", "%u %u 1", uid) &&
           write_line("/proc/self/setgroups", "deny", 0) && write_line("/proc/self/gid_map", "%u %u 1", gid);
}

#endif
