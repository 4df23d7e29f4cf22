/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/client/client.h"

/* ---- the environment ---- */

static enum tide_status env_number(const char *name, uint64_t max, uint64_t *ret_number, struct err *err)
{
    const char *text = getenv(name);
    char *end;
    if (text == NULL)
        return err_set(err, TIDE_E_INVALID, "%s is not set although " ENV_SOCKET " is; was the environment passed on?",
                       name);
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno || end == text || *end || text[0] < '0' || text[0] > '9' || n > max)
        return err_set(err, TIDE_E_INVALID, "%s=%.80s is not a number up to %llu", name, text, (unsigned long long)max);
    *ret_number = n;
    return TIDE_OK;
}

static enum tide_status env_text(const char *name, char *to, size_t size, struct err *err)
{
    const char *text = getenv(name);
    if (text == NULL || text[0] == '\0')
        return err_set(err, TIDE_E_INVALID, "%s is not set although " ENV_SOCKET " is; was the environment passed on?",
                       name);
    if (strlen(text) >= size)
        return err_set(err, TIDE_E_INVALID, "%s has %zu bytes; at most %zu are possible", name, strlen(text), size - 1);
    text_copy(to, size, text);
    return TIDE_OK;
}

static enum tide_status read_environment(struct tide *tide, struct err *err)
{
    uint64_t rank = 0, world_size = 0;
    enum tide_status status = env_number("RANK", TIDE_RANKS_MAX - 1, &rank, err);
    if (status == TIDE_OK)
        status = env_number("WORLD_SIZE", TIDE_RANKS_MAX, &world_size, err);
    if (status == TIDE_OK)
        status = env_number(ENV_GENERATION, UINT64_MAX, &tide->generation, err);
    if (status == TIDE_OK)
        status = env_text(ENV_ARENA, tide->arena, sizeof tide->arena, err);
    if (status == TIDE_OK)
        status = env_text(ENV_JOB_UID, tide->job_uid, sizeof tide->job_uid, err);
    tide->rank = (uint32_t)rank;
    tide->world_size = (uint32_t)world_size;
    return status;
}

/* ---- the control page ---- */

static enum tide_status map_page(int fd, const char *path, struct control_page **ret_page, struct err *err)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return err_errno(err, "cannot stat control page %s", path);
    if (info.st_size < (off_t)CONTROL_PAGE_BYTES)
        return err_set(err, TIDE_E_VERSION, "control page %s has %lld bytes: it is of another version of tidemark", path,
                       (long long)info.st_size);
    void *at = mmap(NULL, CONTROL_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        return err_errno(err, "cannot map control page %s", path);
    *ret_page = at;
    return TIDE_OK;
}

static enum tide_status check_page(const struct tide *tide, const struct control_page *page, struct err *err)
{
    if (page->magic != CONTROL_MAGIC)
        return err_set(err, TIDE_E_VERSION, "the control page is of another version of tidemark than this library");
    if (page->generation != tide->generation || page->rank != tide->rank || page->world_size != tide->world_size)
        return err_set(
            err, TIDE_E_UNAVAILABLE,
            "the control page is that of rank %u of %u in generation %llu, not of this process (rank %u of %u, %llu)",
            page->rank, page->world_size, (unsigned long long)page->generation, tide->rank, tide->world_size,
            (unsigned long long)tide->generation);
    return TIDE_OK;
}

static enum tide_status open_page(struct tide *tide, struct err *err)
{
    char path[TIDE_PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/" CONTROL_FILE_FORMAT, tide->arena, tide->rank);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return err_errno(err, "cannot open control page %s", path);
    struct control_page *page = NULL;
    enum tide_status status = map_page(fd, path, &page, err);
    close(fd);
    if (status == TIDE_OK)
        status = check_page(tide, page, err);
    if (status == TIDE_OK)
        tide->page = page;
    else if (page != NULL)
        munmap(page, CONTROL_PAGE_BYTES);
    return status;
}

enum tide_status attach_page(struct tide *tide, struct err *err)
{
    enum tide_status status = open_page(tide, err);
    if (status != TIDE_OK)
        return status;
    atomic_store(&tide->page->cut_declared, (uint32_t)tide->options.cut);
    atomic_store(&tide->page->pid, (int32_t)tide->pid);
    return TIDE_OK;
}

/* ---- both ways to begin ---- */

enum tide_status attach(struct tide *tide, struct err *err)
{
    struct local_message hello = {.type = LOCAL_HELLO}, welcome;
    uint64_t deadline = clock_mono_ns() + tide->options.deadline_ms * NS_PER_MS;
    enum tide_status status = read_environment(tide, err);
    if (status == TIDE_OK)
        status = channel_connect(getenv(ENV_SOCKET), deadline, &tide->fd, err);
    if (status == TIDE_OK)
        status = channel_ask(tide, &hello, 1u << LOCAL_WELCOME, deadline, &welcome, err);
    if (status == TIDE_OK)
        status = attach_page(tide, err);
    if (status != TIDE_OK)
        return status;
    tide->in_job = 1;
    colour_attach(tide);
    comms_attach(tide);
    atomic_store(&tide->page->phase, CONTROL_ATTACHED);
    return TIDE_OK;
}

enum tide_status attach_nowhere(struct tide *tide, struct err *err)
{
    void *at = mmap(NULL, CONTROL_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return err_errno(err, "cannot map a page");
    tide->page = at;
    atomic_store(&tide->page->armed_step, STEP_NONE);
    return TIDE_OK;
}
