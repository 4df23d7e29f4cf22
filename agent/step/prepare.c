/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/step/cgroup.h"
#include "agent/step/step.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/wire/local.h"

#define SPEC_BYTES_MAX (64u << 20) /* a command line of any length, and 4096 peers */
#define SHARED_MEMORY_PREFIX "mpi.g"

/* ---- the spec ---- */

static enum tide_status check_spec(struct step_spec *spec, struct err *err)
{
    enum tide_status status = job_spec_check(&spec->job, err);
    if (status != TIDE_OK)
        return status;
    if (spec->peers.count == 0 || spec->peers.count > TIDE_NODES_MAX || spec->node_rank >= spec->peers.count)
        return err_set(err, TIDE_E_INVALID, "step spec: node rank %u does not fit %zu peers", spec->node_rank,
                       spec->peers.count);
    if (spec->peers.count * spec->job.nproc_per_node > TIDE_RANKS_MAX)
        return err_set(err, TIDE_E_LIMIT, "step spec: %zu nodes with %u ranks each are more than %d ranks", spec->peers.count,
                       spec->job.nproc_per_node, TIDE_RANKS_MAX);
    if (spec->generation == 0 || spec->uid[0] == '\0' || spec->token[0] == '\0')
        return err_set(err, TIDE_E_INVALID, "step spec: generation, uid or token is empty");
    if (spec->arena[0] != '/' || spec->logs[0] != '/')
        return err_set(err, TIDE_E_INVALID, "step spec: arena \"%s\" and logs \"%s\" must be absolute paths", spec->arena,
                       spec->logs);
    return TIDE_OK;
}

static enum tide_status read_spec(const char *path, struct step_spec *ret_spec, struct err *err)
{
    char *text = NULL;
    size_t bytes = 0;
    enum tide_status status = fsx_read(path, SPEC_BYTES_MAX, &text, &bytes, err);
    if (status != TIDE_OK)
        return status;
    status = codec_parse(&step_spec_codec, text, bytes, CODEC_LENIENT, ret_spec, err);
    mem_free(text);
    if (status == TIDE_OK && (status = check_spec(ret_spec, err)) != TIDE_OK)
        codec_release(&step_spec_codec, ret_spec);
    return status == TIDE_OK ? status : err_wrap(err, "%s", path);
}

/* All that ranks which stay have in common with their next generation. */
static enum tide_status check_next(const struct step_spec *was, const struct step_spec *next, struct err *err)
{
    if (strcmp(was->uid, next->uid) == 0 && next->generation > was->generation && next->node_rank == was->node_rank &&
        next->peers.count == was->peers.count && next->job.nproc_per_node == was->job.nproc_per_node &&
        next->job.launcher == LAUNCHER_NONE && step_spec_born(next) == step_spec_born(was) && strcmp(was->arena, next->arena) == 0)
        return TIDE_OK;
    return err_set(err, TIDE_E_INVALID, "generation %llu is none that the ranks of generation %llu could go over to",
                   (unsigned long long)next->generation, (unsigned long long)was->generation);
}

enum tide_status prepare_next(struct step *step, uint64_t generation, struct err *err)
{
    char from[TIDE_PATH_MAX + 32], to[TIDE_PATH_MAX + 32];
    struct step_spec next;
    snprintf(from, sizeof from, "%s/" STEP_NEXT_FILE, step->dir);
    snprintf(to, sizeof to, "%s/" STEP_SPEC_FILE, step->dir);
    enum tide_status status = read_spec(from, &next, err);
    if (status != TIDE_OK)
        return status;
    status = check_next(&step->spec, &next, err);
    if (status == TIDE_OK && next.generation != generation)
        status = err_set(err, TIDE_E_INVALID, "%s: it is of another generation than was ordered", from);
    /* An agent that comes back finds the one or the other. */
    if (status == TIDE_OK && rename(from, to) != 0)
        status = err_errno(err, "cannot replace %s", to);
    if (status != TIDE_OK) {
        codec_release(&step_spec_codec, &next);
        return status;
    }
    codec_release(&step_spec_codec, &step->spec);
    step->spec = next;
    return TIDE_OK;
}

enum tide_status prepare_spec(struct step *step, const char *dir, struct err *err)
{
    char *real = realpath(dir, NULL);
    if (real == NULL)
        return err_errno(err, "cannot enter %s", dir);
    bool fits = strlen(real) <= TIDE_PATH_MAX;
    text_copy(step->dir, sizeof step->dir, real);
    mem_free(real);
    if (!fits)
        return err_set(err, TIDE_E_LIMIT, "%s: path longer than %d bytes", dir, TIDE_PATH_MAX);
    /* Before libpmix's settings change it. */
    for (char **entry = environ; *entry != NULL; entry++)
        strlist_add(&step->inherited, *entry);
    char path[TIDE_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/" STEP_SPEC_FILE, step->dir);
    return read_spec(path, &step->spec, err);
}

/* ---- sockets ---- */

/* A socket's address is short. A long directory gets a link in a place of our own, which works for ranks as well. */
static enum tide_status make_alias(struct step *step, struct err *err)
{
    char name[] = "/tmp/tidemark-XXXXXX";
    if (mkdtemp(name) == NULL)
        return err_errno(err, "cannot create a directory in /tmp (%s is too long for a socket's address)", step->dir);
    text_copy(step->alias_dir, sizeof step->alias_dir, name);
    snprintf(step->socket_dir, sizeof step->socket_dir, "%s/d", name);
    if (symlink(step->dir, step->socket_dir) != 0)
        return err_errno(err, "cannot link %s to %s", step->socket_dir, step->dir);
    return TIDE_OK;
}

enum tide_status prepare_sockets(struct step *step, struct err *err)
{
    text_copy(step->socket_dir, sizeof step->socket_dir, step->dir);
    if (strlen(step->dir) + sizeof "/" STEP_SOCKET_FILE - 1 > STEP_SOCKET_PATH_MAX) {
        enum tide_status status = make_alias(step, err);
        if (status != TIDE_OK)
            return status;
    }
    snprintf(step->rank_socket, sizeof step->rank_socket, "%.*s/" STEP_RANK_SOCKET_FILE, (int)STEP_SOCKET_PATH_MAX,
             step->socket_dir);
    return TIDE_OK;
}

/* ---- arena ---- */

/* A new file, so that a rank of an older generation is left with a page that nobody reads. */
static enum tide_status write_page(const struct step *step, uint32_t number, struct err *err)
{
    char path[TIDE_PATH_MAX + 64], temporary[TIDE_PATH_MAX + 64];
    int n = snprintf(path, sizeof path, "%s/" CONTROL_FILE_FORMAT, step->spec.arena, number);
    snprintf(temporary, sizeof temporary, "%.*s.tmp", n, path);
    union {
        struct control_page page;
        char bytes[CONTROL_PAGE_BYTES];
    } *whole = mem_alloc(sizeof *whole);
    whole->page.magic = CONTROL_MAGIC;
    whole->page.generation = step->spec.generation;
    whole->page.rank = number;
    whole->page.world_size = (uint32_t)step->spec.peers.count * step->spec.job.nproc_per_node;
    whole->page.restarts = step->spec.restarts;
    whole->page.master_port = step->spec.master_port;
    text_copy(whole->page.master_address, sizeof whole->page.master_address, step->spec.master_address);
    whole->page.may_stay = step->spec.job.launcher == LAUNCHER_NONE;
    atomic_init(&whole->page.armed_step, STEP_NONE);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    enum tide_status status = fd < 0 ? err_errno(err, "cannot create %s", temporary)
                                     : fsx_write_all(fd, whole->bytes, sizeof whole->bytes, temporary, err);
    if (fd >= 0)
        close(fd);
    if (status == TIDE_OK && rename(temporary, path) != 0)
        status = err_errno(err, "cannot replace %s", path);
    mem_free(whole);
    return status;
}

/* Shared-memory files of MPI: ours, and those an older generation's killed step could not remove. */
static void remove_shared_memory(const struct step *step)
{
    DIR *arena = opendir(step->spec.arena);
    if (arena == NULL)
        return;
    struct dirent *entry;
    while ((entry = readdir(arena)) != NULL) {
        char path[TIDE_PATH_MAX + 300];
        if (strncmp(entry->d_name, SHARED_MEMORY_PREFIX, strlen(SHARED_MEMORY_PREFIX)) != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", step->spec.arena, entry->d_name);
        fsx_remove_tree(path, NULL);
    }
    closedir(arena);
}

static enum tide_status make_arena(struct step *step, struct err *err)
{
    enum tide_status status = fsx_mkdirs(step->spec.arena, 0700, err);
    for (uint32_t i = 0; i < step->rank_count && status == TIDE_OK; i++)
        status = write_page(step, step->ranks[i].report.rank, err);
    if (status != TIDE_OK || step->spec.job.launcher != LAUNCHER_PMIX)
        return status;
    remove_shared_memory(step);
    int n = snprintf(step->shared_memory, sizeof step->shared_memory, "%s/" SHARED_MEMORY_PREFIX "%llu", step->spec.arena,
                     (unsigned long long)step->spec.generation);
    if ((size_t)n >= sizeof step->shared_memory)
        return err_set(err, TIDE_E_LIMIT, "%s: path too long", step->spec.arena);
    return fsx_mkdirs(step->shared_memory, 0700, err);
}

/* ---- logs and control groups ---- */

static enum tide_status open_logs(struct step *step, struct err *err)
{
    enum tide_status status = fsx_mkdirs(step->spec.logs, 0750, err);
    for (uint32_t i = 0; i < 2 * step->rank_count && status == TIDE_OK; i++) {
        struct rank *rank = &step->ranks[i / 2];
        struct stream *stream = i % 2 == 0 ? &rank->out : &rank->err;
        char path[TIDE_PATH_MAX + 64];
        snprintf(path, sizeof path, STEP_LOG_FORMAT, step->spec.logs, rank->report.rank, stream->name);
        output_close(&stream->file); /* of an older generation, where the rank stays */
        status = output_open(&stream->file, path, step->spec.log_bytes_max, err);
    }
    return status;
}

/* Without control groups process groups and the subreaper have to do. */
static void make_cgroups(struct step *step)
{
    struct err err = {0};
    int n = snprintf(step->cgroup, sizeof step->cgroup, STEP_CGROUP_FORMAT, step->spec.cgroup, step->spec.uid,
                     (unsigned long long)step_spec_born(&step->spec));
    enum tide_status status = TIDE_OK;
    if ((size_t)n >= sizeof step->cgroup)
        status = err_set(&err, TIDE_E_LIMIT, "%s: path too long", step->spec.cgroup);
    if (status == TIDE_OK)
        status = cgroup_make(step->cgroup, &err);
    for (uint32_t i = 0; i < step->rank_count && status == TIDE_OK; i++) {
        struct rank *rank = &step->ranks[i];
        char path[TIDE_PATH_MAX + 32];
        snprintf(path, sizeof path, "%s/r%u", step->cgroup, rank->report.rank);
        text_copy(rank->cgroup, sizeof rank->cgroup, path);
        status = cgroup_make(rank->cgroup, &err);
    }
    if (status == TIDE_OK)
        return;
    log_warn("%s; ranks run in process groups only", err.text);
    cgroup_remove(step->cgroup);
    step->cgroup[0] = '\0';
    for (uint32_t i = 0; i < step->rank_count; i++)
        step->ranks[i].cgroup[0] = '\0';
}

enum tide_status prepare_generation(struct step *step, struct err *err)
{
    enum tide_status status = make_arena(step, err);
    return status == TIDE_OK ? open_logs(step, err) : status;
}

enum tide_status prepare_host(struct step *step, struct err *err)
{
    enum tide_status status = prepare_generation(step, err);
    if (status == TIDE_OK && step->spec.cgroup[0] != '\0')
        make_cgroups(step);
    return status;
}

void prepare_undo(struct step *step)
{
    char path[TIDE_PATH_MAX + 32];
    if (step->cgroup[0] != '\0')
        cgroup_remove(step->cgroup);
    if (step->shared_memory[0] != '\0')
        fsx_remove_tree(step->shared_memory, NULL);
    snprintf(path, sizeof path, "%s/pmix", step->dir);
    fsx_remove_tree(path, NULL);
    if (step->rank_socket[0] != '\0')
        unlink(step->rank_socket);
    if (step->alias_dir[0] != '\0') {
        unlink(step->socket_dir);
        rmdir(step->alias_dir);
    }
}
