/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/helpers.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tidemark/types.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/team.h"

#define CGROUP_MOUNT "/sys/fs/cgroup"
#define SMALL_MAX 4096u
#define CORES_MAX 4096u
#define PATH_BYTES (2 * TIDE_PATH_MAX)

/* ---- pure ---- */

unsigned helpers_each(const struct helpers_facts *facts, enum helpers_way way)
{
    uint64_t idle = way == HELPERS_STORE ? 0 : facts->waiting < facts->ranks ? facts->waiting : facts->ranks;
    uint64_t busy = (facts->ranks - idle) * HELPERS_RANK_CORES + facts->shards[HELPERS_STORE] + facts->shards[HELPERS_FETCH];
    if (facts->shards[way] == 0 || facts->cores <= busy)
        return 0;
    uint64_t each = (facts->cores - busy) / facts->shards[way];
    return each < HELPERS_MAX ? (unsigned)each : HELPERS_MAX;
}

/* "200000 100000": µs of processor time in each period of so many µs; "max 100000": as much as there is. */
unsigned helpers_quota(const char *text, unsigned otherwise)
{
    unsigned long long quota = 0, period = 0;
    if (sscanf(text, "%19llu %19llu", &quota, &period) != 2 || period == 0)
        return otherwise;
    return quota / period < otherwise ? (unsigned)(quota / period) : otherwise;
}

/* ---- what the kernel says ---- */

/* Our group's path below the mount: "" at the root, and where it cannot be told. */
static void own_group(const char *root, char to[PATH_BYTES])
{
    char path[PATH_BYTES], *text = NULL;
    size_t bytes = 0;
    to[0] = '\0';
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    if (fsx_read(path, SMALL_MAX, &text, &bytes, NULL) != TIDE_OK)
        return;
    const char *line = strncmp(text, "0::/", 4) == 0 ? text : strstr(text, "\n0::/");
    if (line != NULL) {
        line = strstr(line, "0::/") + 3;
        snprintf(to, PATH_BYTES, "%.*s", (int)strcspn(line, "\n"), line);
    }
    mem_free(text);
}

static unsigned group_quota(const char *root, const char *group, unsigned otherwise)
{
    char path[2 * PATH_BYTES], *text = NULL;
    size_t bytes = 0;
    snprintf(path, sizeof path, "%s" CGROUP_MOUNT "%s/cpu.max", root, group);
    if (fsx_read(path, SMALL_MAX, &text, &bytes, NULL) != TIDE_OK)
        return otherwise; /* the root has none */
    unsigned quota = helpers_quota(text, otherwise);
    mem_free(text);
    return quota;
}

unsigned helpers_cores(const char *root)
{
    char group[PATH_BYTES];
    unsigned cores = team_size(CORES_MAX);
    own_group(root, group);
    /* Each group above ours may have a limit of its own. */
    for (char *end;; *end = '\0') {
        cores = group_quota(root, group, cores);
        end = strrchr(group, '/');
        if (end == NULL)
            return cores;
    }
}

/* ---- of this process ---- */

static struct {
    atomic_uint want, ranks, waiting, cores, shards[HELPERS_WAYS];
} here;

void helpers_want(unsigned each)
{
    atomic_store(&here.want, each != HELPERS_BY_CORES && each > HELPERS_MAX ? HELPERS_MAX : each);
}

void helpers_ranks(unsigned ranks, unsigned waiting)
{
    atomic_store(&here.ranks, ranks);
    atomic_store(&here.waiting, waiting);
}

void helpers_come(enum helpers_way way)
{
    if (atomic_load(&here.want) == HELPERS_BY_CORES)
        atomic_store(&here.cores, helpers_cores("")); /* it may have been moved */
    atomic_fetch_add(&here.shards[way], 1);
}

void helpers_leave(enum helpers_way way)
{
    atomic_fetch_sub(&here.shards[way], 1);
}

unsigned helpers_now(enum helpers_way way)
{
    unsigned want = atomic_load(&here.want);
    struct helpers_facts facts = {
        .cores = atomic_load(&here.cores), .ranks = atomic_load(&here.ranks), .waiting = atomic_load(&here.waiting)};
    for (int i = 0; i < HELPERS_WAYS; i++)
        facts.shards[i] = atomic_load(&here.shards[i]);
    return want == HELPERS_BY_CORES ? helpers_each(&facts, way) : want;
}

unsigned helpers_most(void)
{
    unsigned want = atomic_load(&here.want);
    const struct helpers_facts alone = {.cores = atomic_load(&here.cores), .shards[HELPERS_FETCH] = 1};
    return want == HELPERS_BY_CORES ? helpers_each(&alone, HELPERS_FETCH) : want;
}
