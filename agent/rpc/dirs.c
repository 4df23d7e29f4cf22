/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/dirs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/rpc/cgroup.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/wire/codec.h"
#include "ckpt/wire/identity.h"

#define DIR_MODE 0755
#define FILE_MODE 0644
#define SMALL_FILE_MAX 4096u
#define ARENA_ROOT "/dev/shm"
#define RUN_ROOT "/tmp"
#define NOTE_FILE "job.json"
#define EPOCH_FILE "cluster.epoch"
/* sun_path is 108; below steps/ come "/<uid>.g<20 digits>/agent.sock". */
#define STEPS_PATH_MAX (107 - 1 - TIDE_UID_CHARS - 2 - 20 - 11)

static const struct codec_field note_fields[] = {
    CODEC_NAME_OF(arena_note, job, .required = true),
    CODEC_FIELD(arena_note, generation, CODEC_U64, .required = true),
};
static CODEC_DEFINE(note_codec, arena_note, "arena note", note_fields);

int uid_valid(const char *uid)
{
    return strlen(uid) == TIDE_UID_CHARS && strspn(uid, "0123456789abcdef") == TIDE_UID_CHARS;
}

static enum tide_status path_of(char *to, struct err *err, const char *format, ...) PRINTF_LIKE(3, 4);
static enum tide_status path_of(char *to, struct err *err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(to, TIDE_PATH_MAX + 1, format, args);
    va_end(args);
    if (n < 0 || n > TIDE_PATH_MAX)
        return err_set(err, TIDE_E_LIMIT, "the path %.100s… has %d bytes; at most %d are possible", to, n, TIDE_PATH_MAX);
    return TIDE_OK;
}

static enum tide_status take_lock(struct dirs *dirs, struct err *err)
{
    char path[TIDE_PATH_MAX + 1];
    enum tide_status status = path_of(path, err, "%s/lock", dirs->state);
    if (status != TIDE_OK)
        return status;
    dirs->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, FILE_MODE);
    if (dirs->lock_fd < 0)
        return err_errno(err, "cannot open %s", path);
    if (flock(dirs->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return TIDE_OK;
    if (errno == EWOULDBLOCK)
        return err_set(err, TIDE_E_STATE, "another agent uses %s; give this one a --state directory of its own", dirs->state);
    return err_errno(err, "cannot lock %s", path);
}

/* A small file with one uid in it. Errors: NOT_FOUND, CORRUPT. */
static enum tide_status read_uid(const struct dirs *dirs, const char *file, char uid[TIDE_UID_CHARS + 1], struct err *err)
{
    char path[TIDE_PATH_MAX + 1], *data = NULL;
    size_t bytes = 0;
    enum tide_status status = path_of(path, err, "%s/%s", dirs->state, file);
    if (status == TIDE_OK)
        status = fsx_read(path, SMALL_FILE_MAX, &data, &bytes, err);
    if (status != TIDE_OK)
        return status;
    data[strcspn(data, "\n")] = '\0';
    if (uid_valid(data))
        memcpy(uid, data, TIDE_UID_CHARS + 1);
    else
        status = err_set(err, TIDE_E_CORRUPT, "%s does not hold %d hex digits; restore it or begin with an empty --state directory",
                         path, TIDE_UID_CHARS);
    mem_free(data);
    return status;
}

static enum tide_status write_uid(const struct dirs *dirs, const char *file, const char *uid, struct err *err)
{
    char path[TIDE_PATH_MAX + 1], text[TIDE_UID_CHARS + 2];
    enum tide_status status = path_of(path, err, "%s/%s", dirs->state, file);
    int n = snprintf(text, sizeof text, "%s\n", uid);
    return status != TIDE_OK ? status : fsx_replace(path, text, (size_t)n, FILE_MODE, err);
}

/* "<cluster> <epoch>": what is said of another cluster than that of cluster.uid is of the past. */
static enum tide_status read_epoch(struct dirs *dirs, struct err *err)
{
    char path[TIDE_PATH_MAX + 1], *data = NULL;
    size_t bytes = 0;
    enum tide_status status = path_of(path, err, "%s/" EPOCH_FILE, dirs->state);
    if (status == TIDE_OK)
        status = fsx_read(path, SMALL_FILE_MAX, &data, &bytes, err);
    if (status != TIDE_OK)
        return status;
    data[strcspn(data, "\n")] = '\0';
    char *space = strchr(data, ' ');
    if (space != NULL)
        *space = '\0';
    if (space == NULL || !uid_valid(data) || epoch_parse(space + 1, &dirs->epoch, err) != TIDE_OK)
        status = err_set(err, TIDE_E_CORRUPT, "%s does not hold a cluster and its epoch; restore it or begin with an empty --state "
                                              "directory", path);
    else if (strcmp(data, dirs->cluster) != 0)
        dirs->epoch = 0;
    mem_free(data);
    return status;
}

static enum tide_status write_epoch(const struct dirs *dirs, const char *cluster, uint64_t epoch, struct err *err)
{
    char path[TIDE_PATH_MAX + 1], text[TIDE_UID_CHARS + EPOCH_TEXT_MAX + 3], number[EPOCH_TEXT_MAX + 1];
    enum tide_status status = path_of(path, err, "%s/" EPOCH_FILE, dirs->state);
    epoch_format(epoch, number);
    int n = snprintf(text, sizeof text, "%s %s\n", cluster, number);
    return status != TIDE_OK ? status : fsx_replace(path, text, (size_t)n, FILE_MODE, err);
}

static enum tide_status know_uids(struct dirs *dirs, struct err *err)
{
    enum tide_status status = read_uid(dirs, "node.uid", dirs->uid, err);
    if (status == TIDE_E_NOT_FOUND) {
        struct rng rng = {rng_entropy()};
        rng_hex(&rng, dirs->uid, TIDE_UID_CHARS);
        status = write_uid(dirs, "node.uid", dirs->uid, err);
    }
    if (status != TIDE_OK)
        return status;
    status = read_uid(dirs, "cluster.uid", dirs->cluster, err);
    if (status == TIDE_OK)
        status = read_epoch(dirs, err);
    return status == TIDE_E_NOT_FOUND ? TIDE_OK : status;
}

static enum tide_status make_places(struct dirs *dirs, const char *arena, struct err *err)
{
    enum tide_status status = path_of(dirs->arena, err, "%s/tidemark-%s", arena != NULL ? arena : ARENA_ROOT, dirs->uid);
    if (status == TIDE_OK)
        status = path_of(dirs->logs, err, "%s/logs", dirs->state);
    if (status == TIDE_OK)
        status = path_of(dirs->begun, err, "%s/begun", dirs->state);
    if (status == TIDE_OK)
        status = path_of(dirs->steps, err, "%s/steps", dirs->state);
    if (status == TIDE_OK && strlen(dirs->steps) > STEPS_PATH_MAX) {
        status = path_of(dirs->steps, err, "%s/tidemark-%s", RUN_ROOT, dirs->uid);
        if (status == TIDE_OK)
            status = fsx_mkdir_own(dirs->steps, DIR_MODE, err);
        if (status == TIDE_OK)
            status = path_of(dirs->steps, err, "%s/tidemark-%s/steps", RUN_ROOT, dirs->uid);
    }
    if (status == TIDE_OK)
        status = fsx_mkdir_own(dirs->arena, DIR_MODE, err);
    if (status == TIDE_OK)
        status = fsx_mkdirs(dirs->logs, DIR_MODE, err);
    if (status == TIDE_OK)
        status = fsx_mkdirs(dirs->begun, DIR_MODE, err);
    if (status == TIDE_OK)
        status = fsx_mkdirs(dirs->steps, DIR_MODE, err);
    return status;
}

enum tide_status dirs_open(const char *state, const char *arena, struct dirs *ret_dirs, struct err *err)
{
    struct dirs dirs = {.lock_fd = -1};
    enum tide_status status = fsx_mkdirs(state, DIR_MODE, err);
    /* Steps are told absolute paths: they outlive our working directory. */
    if (status == TIDE_OK && realpath(state, dirs.state) == NULL)
        status = err_errno(err, "cannot resolve %s", state);
    if (status == TIDE_OK)
        status = take_lock(&dirs, err);
    if (status == TIDE_OK)
        status = know_uids(&dirs, err);
    if (status == TIDE_OK)
        status = make_places(&dirs, arena, err);
    if (status != TIDE_OK) {
        if (dirs.lock_fd >= 0)
            close(dirs.lock_fd);
        return status;
    }
    cgroup_make(dirs.uid, dirs.cgroup);
    *ret_dirs = dirs;
    return TIDE_OK;
}

void dirs_close(struct dirs *dirs)
{
    rmdir(dirs->arena); /* fails while something is held there, as it should */
    if (strncmp(dirs->steps, RUN_ROOT "/tidemark-", sizeof RUN_ROOT "/tidemark-" - 1) == 0 && rmdir(dirs->steps) == 0) {
        *strrchr(dirs->steps, '/') = '\0';
        rmdir(dirs->steps);
    }
    cgroup_unmake(dirs->cgroup);
    close(dirs->lock_fd);
}

enum tide_status dirs_join(struct dirs *dirs, const char *cluster, uint64_t epoch, struct err *err)
{
    bool same = strcmp(dirs->cluster, cluster) == 0;
    if (!uid_valid(cluster))
        return err_set(err, TIDE_E_INVALID, "the coordinator named its cluster \"%.40s\", which is no uid", cluster);
    if (same && dirs->epoch == epoch)
        return TIDE_OK;
    if (same && epoch_stale(epoch, dirs->epoch))
        return err_set(err, TIDE_E_STALE, "the coordinator is one of before a recovery of cluster %s that this node knows of", cluster);
    enum tide_status status = epoch == 0 ? TIDE_OK : write_epoch(dirs, cluster, epoch, err);
    if (status == TIDE_OK && !same)
        status = write_uid(dirs, "cluster.uid", cluster, err);
    if (status == TIDE_OK) {
        memcpy(dirs->cluster, cluster, sizeof dirs->cluster);
        dirs->epoch = epoch;
    }
    return status;
}

enum tide_status dirs_step(const struct dirs *dirs, const char *uid, uint64_t generation, char *to, struct err *err)
{
    return path_of(to, err, "%s/%s.g%llu", dirs->steps, uid, (unsigned long long)generation);
}

enum tide_status dirs_arena(const struct dirs *dirs, const char *uid, char *to, struct err *err)
{
    return path_of(to, err, "%s/%s", dirs->arena, uid);
}

enum tide_status dirs_log(const struct dirs *dirs, const char *job, const char *uid, uint64_t generation, char *to, struct err *err)
{
    return path_of(to, err, "%s/%s.%s/%llu", dirs->logs, job, uid, (unsigned long long)generation);
}

bool generation_parse(const char *name, char uid[TIDE_UID_CHARS + 1], uint64_t *ret_generation)
{
    char *end = NULL;
    if (strlen(name) < TIDE_UID_CHARS + 3 || strncmp(name + TIDE_UID_CHARS, ".g", 2) != 0)
        return false;
    text_copy(uid, TIDE_UID_CHARS + 1, name);
    errno = 0;
    *ret_generation = strtoull(name + TIDE_UID_CHARS + 2, &end, 10);
    return uid_valid(uid) && errno == 0 && *end == '\0' && *ret_generation != 0;
}

void begun_each(const struct dirs *dirs, void (*visit)(void *context, const char *uid, uint64_t generation), void *context)
{
    DIR *dir = opendir(dirs->begun);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char uid[TIDE_UID_CHARS + 1];
        uint64_t generation = 0;
        if (generation_parse(entry->d_name, uid, &generation))
            visit(context, uid, generation);
    }
    if (dir != NULL)
        closedir(dir);
}

struct begun_removal {
    const struct dirs *dirs;
    const char *uid;
    uint64_t below;
};

static void remove_begun(void *context, const char *uid, uint64_t generation)
{
    const struct begun_removal *removal = context;
    char path[TIDE_PATH_MAX + 64];
    if (strcmp(uid, removal->uid) != 0 || generation >= removal->below)
        return;
    snprintf(path, sizeof path, "%s/%s.g%llu", removal->dirs->begun, uid, (unsigned long long)generation);
    unlink(path);
}

enum tide_status begun_note(const struct dirs *dirs, const char *uid, uint64_t generation, struct err *err)
{
    char path[TIDE_PATH_MAX + 1];
    enum tide_status status = path_of(path, err, "%s/%s.g%llu", dirs->begun, uid, (unsigned long long)generation);
    if (status != TIDE_OK)
        return status;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, FILE_MODE);
    if (fd < 0)
        return err_errno(err, "cannot create %s", path);
    close(fd);
    struct begun_removal removal = {.dirs = dirs, .uid = uid, .below = generation};
    begun_each(dirs, remove_begun, &removal);
    return TIDE_OK;
}

void begun_forget(const struct dirs *dirs, const char *uid)
{
    struct begun_removal removal = {.dirs = dirs, .uid = uid, .below = UINT64_MAX};
    begun_each(dirs, remove_begun, &removal);
}

enum tide_status arena_note_write(const char *arena, const struct arena_note *note, struct err *err)
{
    char path[TIDE_PATH_MAX + 1];
    enum tide_status status = path_of(path, err, "%s/" NOTE_FILE, arena);
    if (status != TIDE_OK)
        return status;
    char *text = codec_print(&note_codec, note, 0);
    status = fsx_replace(path, text, strlen(text), FILE_MODE, err);
    mem_free(text);
    return status;
}

enum tide_status arena_note_read(const char *arena, struct arena_note *ret_note, struct err *err)
{
    char path[TIDE_PATH_MAX + 1], *data = NULL;
    size_t bytes = 0;
    enum tide_status status = path_of(path, err, "%s/" NOTE_FILE, arena);
    if (status == TIDE_OK)
        status = fsx_read(path, SMALL_FILE_MAX, &data, &bytes, err);
    if (status == TIDE_OK)
        status = codec_parse(&note_codec, data, bytes, CODEC_LENIENT, ret_note, err);
    mem_free(data);
    return status;
}
