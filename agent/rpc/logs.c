/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/rpc/logs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/rpc/dirs.h"
#include "agent/step/link.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "ckpt/wire/job.h"

#define WAIT_MS_MAX 60000u
#define BASE_FILE_MAX 64u
#define KEY_FILE "key"
#define KEY_MODE 0600
#define ENTRIES_MAX 65536u
#define ROTATION_TRIES 5u
#define NAME_ROOM (TIDE_NAME_MAX + TIDE_UID_CHARS + 2)
#define PATH_ROOM (TIDE_PATH_MAX + NAME_ROOM + 64)

/* ---- the request ---- */

static enum tide_status set_number(const char *name, const char *value, uint64_t most, uint64_t *ret_number, struct err *err)
{
    char *end = NULL;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 || number > most)
        return err_set(err, TIDE_E_INVALID, "%s=%.40s is no number from 0 to %llu", name, value, (unsigned long long)most);
    *ret_number = number;
    return TIDE_OK;
}

enum tide_status log_query_set(struct log_query *query, const char *name, const char *value, struct err *err)
{
    uint64_t rank = 0;
    enum tide_status status = TIDE_OK;
    if (strcmp(name, "job") == 0) {
        if (!name_valid(value))
            return err_set(err, TIDE_E_INVALID, "job=%.70s is no job name", value);
        text_copy(query->job, sizeof query->job, value);
    } else if (strcmp(name, "uid") == 0) {
        if (!uid_valid(value))
            return err_set(err, TIDE_E_INVALID, "uid=%.40s is no job uid", value);
        text_copy(query->uid, sizeof query->uid, value);
    } else if (strcmp(name, "stream") == 0) {
        if (strcmp(value, "out") != 0 && strcmp(value, "err") != 0)
            return err_set(err, TIDE_E_INVALID, "stream=%.40s is neither out nor err", value);
        text_copy(query->stream, sizeof query->stream, value);
    } else if (strcmp(name, "rank") == 0) {
        status = set_number(name, value, TIDE_RANKS_MAX, &rank, err);
        query->rank = (uint32_t)rank;
    } else if (strcmp(name, "generation") == 0) {
        status = set_number(name, value, UINT64_MAX, &query->generation, err);
    } else if (strcmp(name, "offset") == 0) {
        status = set_number(name, value, UINT64_MAX, &query->offset, err);
    } else if (strcmp(name, "wait_ms") == 0) {
        status = set_number(name, value, WAIT_MS_MAX, &query->wait_ms, err);
    } else {
        return err_set(err, TIDE_E_INVALID, "there is no parameter \"%.40s\"", name);
    }
    return status;
}

/* ---- who may read them ---- */

static void key_path(const char *logs, const char *job, const char *uid, char to[PATH_ROOM])
{
    snprintf(to, PATH_ROOM, "%s/%s.%s/" KEY_FILE, logs, job, uid);
}

enum tide_status logs_key(const char *logs, const struct log_query *query, char **ret_key, struct err *err)
{
    char path[PATH_ROOM];
    size_t bytes;
    *ret_key = NULL;
    key_path(logs, query->job, query->uid, path);
    enum tide_status status = fsx_read(path, TIDE_TOKEN_CHARS, ret_key, &bytes, err);
    return status == TIDE_E_NOT_FOUND ? TIDE_OK : status;
}

enum tide_status logs_key_save(const char *logs, const char *job, const char *uid, const char *key, struct err *err)
{
    char path[PATH_ROOM];
    key_path(logs, job, uid, path);
    return fsx_replace(path, key, strlen(key), KEY_MODE, err);
}

/* ---- directories: <job>.<uid>/<generation> ---- */

struct log_job {
    char name[NAME_ROOM];
    struct timespec changed;
};

static bool split_name(const char *entry, char *job, char *uid)
{
    const char *dot = strrchr(entry, '.');
    if (dot == NULL || !uid_valid(dot + 1) || (size_t)(dot - entry) > TIDE_NAME_MAX)
        return false;
    text_copy(uid, TIDE_UID_CHARS + 1, dot + 1);
    text_copy(job, (size_t)(dot - entry) + 1, entry);
    return name_valid(job);
}

static int younger_first(const void *a, const void *b)
{
    const struct timespec *x = &((const struct log_job *)a)->changed, *y = &((const struct log_job *)b)->changed;
    if (x->tv_sec != y->tv_sec)
        return x->tv_sec < y->tv_sec ? 1 : -1;
    return (x->tv_nsec < y->tv_nsec) - (x->tv_nsec > y->tv_nsec);
}

static struct log_job *list_jobs(const char *logs, size_t *ret_count)
{
    struct log_job *jobs = NULL;
    size_t count = 0;
    DIR *dir = opendir(logs);
    for (struct dirent *entry; dir != NULL && count < ENTRIES_MAX && (entry = readdir(dir)) != NULL;) {
        char job[TIDE_NAME_MAX + 1], uid[TIDE_UID_CHARS + 1];
        struct stat info;
        if (!split_name(entry->d_name, job, uid) || fstatat(dirfd(dir), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        jobs = mem_grow(jobs, count + 1, sizeof jobs[0]);
        text_copy(jobs[count].name, sizeof jobs[count].name, entry->d_name);
        jobs[count++].changed = info.st_mtim;
    }
    if (dir != NULL)
        closedir(dir);
    if (count > 1)
        qsort(jobs, count, sizeof jobs[0], younger_first);
    *ret_count = count;
    return jobs;
}

static int number_order(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Ascending; heap. */
static uint64_t *list_generations(const char *path, size_t *ret_count)
{
    uint64_t *generations = NULL;
    size_t count = 0;
    DIR *dir = opendir(path);
    for (struct dirent *entry; dir != NULL && count < ENTRIES_MAX && (entry = readdir(dir)) != NULL;) {
        char *end = NULL;
        uint64_t generation = strtoull(entry->d_name, &end, 10);
        if (generation == 0 || *end != '\0')
            continue;
        generations = mem_grow(generations, count + 1, sizeof generations[0]);
        generations[count++] = generation;
    }
    if (dir != NULL)
        closedir(dir);
    if (count > 1)
        qsort(generations, count, sizeof generations[0], number_order);
    *ret_count = count;
    return generations;
}

static enum tide_status find_uid(const char *logs, struct log_query *query, struct err *err)
{
    size_t count = 0;
    struct log_job *jobs = list_jobs(logs, &count);
    enum tide_status status = TIDE_E_NOT_FOUND;
    for (size_t i = 0; i < count && status != TIDE_OK; i++) {
        char job[TIDE_NAME_MAX + 1], uid[TIDE_UID_CHARS + 1];
        if (!split_name(jobs[i].name, job, uid) || strcmp(job, query->job) != 0)
            continue;
        text_copy(query->uid, sizeof query->uid, uid);
        status = TIDE_OK;
    }
    mem_free(jobs);
    return status == TIDE_OK ? status : err_set(err, status, "no rank of job \"%s\" has run on this node", query->job);
}

enum tide_status logs_find(const char *logs, struct log_query *query, struct err *err)
{
    if (query->job[0] == '\0')
        return err_set(err, TIDE_E_INVALID, "no job is named; say /v1/logs?job=NAME&rank=R");
    if (query->uid[0] == '\0' && find_uid(logs, query, err) != TIDE_OK)
        return TIDE_E_NOT_FOUND;
    char path[PATH_ROOM];
    snprintf(path, sizeof path, "%s/%s.%s", logs, query->job, query->uid);
    size_t count = 0;
    uint64_t *generations = list_generations(path, &count);
    bool found = false;
    if (query->generation == 0 && count > 0)
        query->generation = generations[count - 1];
    for (size_t i = 0; i < count; i++)
        found = found || generations[i] == query->generation;
    mem_free(generations);
    if (!found)
        return err_set(err, TIDE_E_NOT_FOUND, "no rank of generation %llu of job \"%s\" has run on this node, or its logs were removed",
                       (unsigned long long)query->generation, query->job);
    return TIDE_OK;
}

void logs_prune(const char *logs, const char *job, const char *uid, bool (*running)(void *context, const char *uid), void *context)
{
    size_t count = 0;
    char path[PATH_ROOM];
    struct log_job *jobs = list_jobs(logs, &count);
    for (size_t i = LOG_JOBS_MAX; i < count; i++) {
        char name[TIDE_NAME_MAX + 1], other[TIDE_UID_CHARS + 1];
        if (!split_name(jobs[i].name, name, other) || running(context, other))
            continue;
        snprintf(path, sizeof path, "%s/%s", logs, jobs[i].name);
        fsx_remove_tree(path, NULL);
    }
    mem_free(jobs);
    snprintf(path, sizeof path, "%s/%s.%s", logs, job, uid);
    uint64_t *generations = list_generations(path, &count);
    for (size_t i = 0; i + LOG_GENERATIONS_MAX < count; i++) {
        snprintf(path, sizeof path, "%s/%s.%s/%llu", logs, job, uid, (unsigned long long)generations[i]);
        fsx_remove_tree(path, NULL);
    }
    mem_free(generations);
}

/* ---- the stream ---- */

/* -1: there is no base file. */
static int read_base(const char *file, uint64_t *ret_base)
{
    char path[PATH_ROOM + 8], *data = NULL;
    size_t bytes = 0;
    *ret_base = 0;
    snprintf(path, sizeof path, "%s" STEP_LOG_BASE_SUFFIX, file);
    if (fsx_read(path, BASE_FILE_MAX, &data, &bytes, NULL) != TIDE_OK)
        return -1;
    *ret_base = strtoull(data, NULL, 10);
    mem_free(data);
    return 0;
}

struct stream {
    int old_fd, fd; /* -1: not there */
    uint64_t base, old_bytes;
};

static void stream_close(struct stream *stream)
{
    if (stream->old_fd >= 0)
        close(stream->old_fd);
    if (stream->fd >= 0)
        close(stream->fd);
}

/* The two files as they were at one moment; false while they move. */
static bool stream_open(const char *file, struct stream *ret_stream)
{
    char old[PATH_ROOM + 8];
    uint64_t again = 0;
    struct stat info;
    struct stream stream = {.old_fd = -1, .fd = -1};
    snprintf(old, sizeof old, "%s" STEP_LOG_OLD_SUFFIX, file);
    int before = read_base(file, &stream.base);
    stream.old_fd = open(old, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    stream.fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    int after = read_base(file, &again);
    bool moved = before != after || again != stream.base || (stream.old_fd >= 0 && after != 0);
    if (!moved && stream.old_fd >= 0 && fstat(stream.old_fd, &info) == 0)
        stream.old_bytes = (uint64_t)info.st_size;
    if (moved)
        stream_close(&stream);
    else
        *ret_stream = stream;
    return !moved;
}

static enum tide_status read_at(int fd, uint64_t offset, struct log_piece *piece, size_t room, const char *file, struct err *err)
{
    if (fd < 0)
        return TIDE_OK;
    ssize_t n = pread(fd, piece->data + piece->bytes, room - piece->bytes, (off_t)offset);
    if (n < 0)
        return err_errno(err, "cannot read %s", file);
    piece->bytes += (size_t)n;
    return TIDE_OK;
}

static enum tide_status read_stream(const struct stream *stream, uint64_t offset, const char *file, struct log_piece *piece,
                                    struct err *err)
{
    struct stat info = {0};
    uint64_t middle = stream->base + stream->old_bytes;
    if (stream->fd >= 0 && fstat(stream->fd, &info) != 0)
        return err_errno(err, "cannot examine %s", file);
    uint64_t end = middle + (uint64_t)info.st_size;
    piece->exists = stream->fd >= 0;
    piece->offset = offset < stream->base ? stream->base : offset > end ? end : offset;
    /* No more than there is: hundreds may follow a log that has nothing new. */
    uint64_t left = end - piece->offset;
    size_t room = left < LOG_PIECE_MAX ? (size_t)left : LOG_PIECE_MAX;
    piece->data = mem_alloc(room);
    enum tide_status status = TIDE_OK;
    if (piece->offset < middle)
        status = read_at(stream->old_fd, piece->offset - stream->base, piece, room, file, err);
    if (status == TIDE_OK && piece->offset + piece->bytes >= middle)
        status = read_at(stream->fd, piece->offset + piece->bytes - middle, piece, room, file, err);
    return status;
}

enum tide_status logs_read(const char *logs, const struct log_query *query, struct log_piece *ret_piece, struct err *err)
{
    char dir[PATH_ROOM], file[PATH_ROOM + 32];
    struct stream stream;
    snprintf(dir, sizeof dir, "%s/%s.%s/%llu", logs, query->job, query->uid, (unsigned long long)query->generation);
    snprintf(file, sizeof file, STEP_LOG_FORMAT, dir, query->rank, query->stream[0] != '\0' ? query->stream : "out");
    for (unsigned i = 0; i < ROTATION_TRIES; i++) {
        if (!stream_open(file, &stream))
            continue;
        struct log_piece piece = {0};
        enum tide_status status = read_stream(&stream, query->offset, file, &piece, err);
        stream_close(&stream);
        if (status == TIDE_OK)
            *ret_piece = piece;
        else
            mem_free(piece.data);
        return status;
    }
    return err_set(err, TIDE_E_UNAVAILABLE, "%s is being rotated; ask again", file);
}
