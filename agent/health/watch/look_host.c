/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <sys/statvfs.h>

#include "agent/health/watch/inner.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"

#define PRESSURE_MAX 512u

struct host_past {
    struct clock_past clock;
    struct psi_past psi[PSI_KINDS];
};

static void look_disk(struct looker *looker, const char *path)
{
    struct statvfs info;
    struct finding finding;
    if (statvfs(path, &info) != 0)
        return;
    struct disk_reading reading = {.path = path,
                                   .bytes = (uint64_t)info.f_blocks * info.f_frsize,
                                   .free_bytes = (uint64_t)info.f_bavail * info.f_frsize,
                                   .files = info.f_files,
                                   .free_files = info.f_favail};
    disk_judge(&reading, &finding);
    watch_found(looker->watch, &finding, clock_mono_ns());
}

static void look_pressure(struct looker *looker, struct host_past *past)
{
    char path[WATCH_PATH_MAX];
    static const char *const paths[PSI_KINDS] = {"/proc/pressure/memory", "/proc/pressure/io"};
    for (unsigned kind = 0; kind < PSI_KINDS; kind++) {
        char *text = NULL;
        size_t bytes = 0;
        struct finding finding;
        watch_path(looker->watch, paths[kind], path);
        if (fsx_read(path, PRESSURE_MAX, &text, &bytes, NULL) == TIDE_OK) {
            psi_judge(&past->psi[kind], kind, text, &finding);
            watch_found(looker->watch, &finding, clock_mono_ns());
        }
        mem_free(text);
    }
}

bool look_host(struct looker *looker)
{
    if (looker->past == NULL)
        looker->past = mem_alloc(sizeof(struct host_past));
    struct host_past *past = looker->past;
    struct finding finding;
    clock_judge(&past->clock, clock_wall_ms(), clock_mono_ns() / NS_PER_MS, &finding);
    watch_found(looker->watch, &finding, clock_mono_ns());
    look_pressure(looker, past);
    for (unsigned i = 0; i < WATCH_DISKS_MAX; i++)
        if (looker->watch->options.disks[i] != NULL)
            look_disk(looker, looker->watch->options.disks[i]);
    return true;
}
