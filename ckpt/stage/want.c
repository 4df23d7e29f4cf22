/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/stage/want.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"

static size_t table_bytes(const struct slot_header *facts)
{
    return facts->region_count * (sizeof(struct slot_region) + (facts->parts ? sizeof(struct slot_part) : 0));
}

enum tide_status want_save(const char *path, const struct slot_header *facts, const struct slot_region *regions, struct err *err)
{
    size_t bytes = sizeof *facts + table_bytes(facts);
    struct slot_header *image = mem_try_alloc(bytes);
    if (image == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to write %s", path);
    *image = *facts;
    image->magic = SLOT_MAGIC;
    memcpy(image + 1, regions, bytes - sizeof *facts);
    enum tide_status status = fsx_replace(path, image, bytes, 0600, err);
    mem_free(image);
    return status;
}

static enum tide_status read_all(int fd, void *to, size_t bytes, const char *path, struct err *err)
{
    for (size_t used = 0; used < bytes;) {
        ssize_t n = read(fd, (char *)to + used, bytes - used);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(err, "cannot read %s", path);
        if (n == 0)
            return err_set(err, TIDE_E_CORRUPT, "%s is shorter than what it says", path);
        used += (size_t)n;
    }
    return TIDE_OK;
}

static enum tide_status judge(const struct slot_header *h, const char *path, const char *job_uid, uint64_t generation, uint32_t rank,
                              struct err *err)
{
    if (h->magic != SLOT_MAGIC || h->region_count > TIDE_REGIONS_MAX || h->parts > 1 || h->data_bytes > RANK_BYTES_MAX ||
        h->world_size == 0 || h->rank >= h->world_size || strnlen(h->job_uid, sizeof h->job_uid) == sizeof h->job_uid)
        return err_set(err, TIDE_E_CORRUPT, "%s is no table of a rank's regions", path);
    if (strcmp(h->job_uid, job_uid) != 0 || h->generation != generation || h->rank != rank)
        return err_set(err, TIDE_E_NOT_FOUND, "%s is of rank %u in generation %llu of job %s", path, h->rank,
                       (unsigned long long)h->generation, h->job_uid);
    return TIDE_OK;
}

static enum tide_status load(int fd, const char *path, const char *job_uid, uint64_t generation, uint32_t rank, struct want *want,
                             struct err *err)
{
    enum tide_status status = read_all(fd, &want->facts, sizeof want->facts, path, err);
    if (status == TIDE_OK)
        status = judge(&want->facts, path, job_uid, generation, rank, err);
    if (status != TIDE_OK)
        return status;
    want->regions = mem_try_alloc(table_bytes(&want->facts) + 1);
    if (want->regions == NULL)
        return err_set(err, TIDE_E_NOMEM, "no memory to read %s", path);
    status = read_all(fd, want->regions, table_bytes(&want->facts), path, err);
    want->parts = want->facts.parts ? (struct slot_part *)(want->regions + want->facts.region_count) : NULL;
    return status == TIDE_OK ? slot_check_table(&want->facts, want->regions, err) : status;
}

enum tide_status want_load(const char *path, const char *job_uid, uint64_t generation, uint32_t rank, struct want *ret_want,
                           struct err *err)
{
    struct want want = {.regions = NULL};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return err_set(err, TIDE_E_NOT_FOUND, "there is no %s", path);
    if (fd < 0)
        return err_errno(err, "cannot open %s", path);
    enum tide_status status = load(fd, path, job_uid, generation, rank, &want, err);
    close(fd);
    if (status == TIDE_OK)
        *ret_want = want;
    else
        want_release(&want);
    return status;
}

void want_release(struct want *want)
{
    mem_free(want->regions);
    *want = (struct want){.regions = NULL};
}
