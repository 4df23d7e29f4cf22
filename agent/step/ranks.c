/* SPDX-License-Identifier: Apache-2.0 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/step/cgroup.h"
#include "agent/step/environ.h"
#include "agent/step/host.h"
#include "agent/step/spawn.h"
#include "agent/step/step.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "ckpt/stage/numa.h"

static void stream_init(struct rank *rank, struct stream *stream, const char *name)
{
    stream->rank = rank;
    stream->name = name;
    stream->file.fd = -1;
}

void ranks_init(struct step *step)
{
    step->rank_count = step->spec.job.nproc_per_node;
    for (uint32_t i = 0; i < step->rank_count; i++) {
        struct rank *rank = &step->ranks[i];
        rank->step = step;
        rank->local = i;
        rank->home = NUMA_ANYWHERE;
        rank->report.rank = step->spec.node_rank * step->rank_count + i;
        rank->report.state = TIDE_RANK_STARTING;
        rank->failure_fd = -1;
        stream_init(rank, &rank->out, "out");
        stream_init(rank, &rank->err, "err");
        uv_timer_init(&step->loop, &rank->abort_timer);
        rank->abort_timer.data = rank;
    }
}

void ranks_renew(struct rank *rank)
{
    struct rank_report *report = &rank->report;
    bool lives = rank->ended_ns == 0;
    *report = (struct rank_report){.rank = report->rank,
                                   .state = lives ? TIDE_RANK_RUNNING : TIDE_RANK_STARTING,
                                   .pid = lives ? report->pid : 0,
                                   .born = lives ? report->born : 0,
                                   .attached = lives};
    rank->ended_ns = 0;
    rank->stay = RANK_STAYS_NOT;
    rank->reserved_bytes = 0;
    rank->wide_refused = false;
    rank_link_renew(rank);
}

struct rank *ranks_find(struct step *step, uint32_t number)
{
    uint32_t first = step->spec.node_rank * step->rank_count;
    return number >= first && number - first < step->rank_count ? &step->ranks[number - first] : NULL;
}

/* ---- standard output ---- */

static void stream_close(struct stream *stream)
{
    if (!stream->open)
        return;
    stream->open = false;
    uv_close((uv_handle_t *)&stream->pipe, NULL);
    output_close(&stream->file);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)suggested;
    struct step *step = handle->loop->data;
    *buffer = uv_buf_init(step->read_buffer, sizeof step->read_buffer);
}

static void on_read(uv_stream_t *pipe, ssize_t bytes, const uv_buf_t *buffer)
{
    struct stream *stream = pipe->data;
    if (bytes < 0) {
        stream_close(stream);
        return;
    }
    if (!output_write(&stream->file, buffer->base, (size_t)bytes))
        log_warn("what rank %u prints cannot be kept: %s does not take it (full disk?)", stream->rank->report.rank,
                 stream->file.path);
}

/* ret_fd: the rank's end. */
static enum tide_status stream_open(struct step *step, struct stream *stream, int *ret_fd, struct err *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return err_errno(err, "cannot create a pipe");
    uv_pipe_init(&step->loop, &stream->pipe, 0);
    stream->pipe.data = stream;
    int bad = uv_pipe_open(&stream->pipe, ends[0]);
    if (bad == 0)
        bad = uv_read_start((uv_stream_t *)&stream->pipe, on_alloc, on_read);
    if (bad != 0) {
        close(ends[1]);
        return err_set(err, TIDE_E_IO, "cannot read from a pipe: %s", uv_strerror(bad));
    }
    stream->open = true;
    *ret_fd = ends[1];
    return TIDE_OK;
}

/* ---- start ---- */

static void failure_take(struct rank *rank)
{
    struct spawn_failure failure = {0};
    if (rank->failure_fd < 0)
        return;
    ssize_t n = read(rank->failure_fd, &failure, sizeof failure);
    if (n < 0 && errno == EAGAIN)
        return;
    uv_poll_stop(&rank->failure_poll);
    uv_close((uv_handle_t *)&rank->failure_poll, NULL);
    close(rank->failure_fd);
    rank->failure_fd = -1;
    if (n == (ssize_t)sizeof failure) {
        const struct job_spec *job = &rank->step->spec.job;
        rank->report.exec_failed = failure.stage == SPAWN_EXEC || failure.stage == SPAWN_CWD;
        spawn_failure_text(&failure, job->argv.items[0], job->cwd, rank->report.detail);
    } else if (rank->ended_ns == 0) {
        rank->report.state = TIDE_RANK_RUNNING;
    }
    status_changed(rank->step);
}

static void on_failure(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    failure_take(poll->data);
}

static enum tide_status start_process(struct rank *rank, const struct strlist *env, struct err *err)
{
    struct step *step = rank->step;
    struct spawn spawn = {.argv = step->spec.job.argv.items, .env = env->items, .cwd = step->spec.job.cwd, .out_fd = -1,
                          .err_fd = -1, .cgroup_fd = rank->cgroup[0] != '\0' ? cgroup_open_procs(rank->cgroup) : -1};
    enum tide_status status = stream_open(step, &rank->out, &spawn.out_fd, err);
    if (status == TIDE_OK)
        status = stream_open(step, &rank->err, &spawn.err_fd, err);
    pid_t pid = 0;
    if (status == TIDE_OK)
        status = spawn_start(&spawn, &pid, &rank->failure_fd, err);
    if (spawn.out_fd >= 0)
        close(spawn.out_fd);
    if (spawn.err_fd >= 0)
        close(spawn.err_fd);
    if (spawn.cgroup_fd >= 0)
        close(spawn.cgroup_fd);
    if (status != TIDE_OK)
        return status;
    rank->report.pid = pid;
    rank->report.born = step->spec.generation;
    uv_poll_init(&step->loop, &rank->failure_poll, rank->failure_fd);
    rank->failure_poll.data = rank;
    uv_poll_start(&rank->failure_poll, UV_READABLE | UV_DISCONNECT, on_failure);
    return TIDE_OK;
}

static enum tide_status start_rank(struct rank *rank, const struct environ_facts *facts, struct err *err)
{
    struct step *step = rank->step;
    struct strlist env = {0};
    environ_build(&step->spec, facts, rank->local, &env);
    const struct strlist *more = step->pmix != NULL ? host_pmix_environ(step->pmix, rank->local) : NULL;
    for (size_t i = 0; more != NULL && i < more->count; i++)
        environ_put(&env, more->items[i]);
    enum tide_status status = start_process(rank, &env, err);
    strlist_release(&env);
    return status;
}

void ranks_start(struct step *step)
{
    char interface[IF_NAMESIZE];
    struct environ_facts facts = {
        .inherited = step->inherited.items,
        .rank_socket = step->rank_socket,
        .shared_memory = step->shared_memory[0] != '\0' ? step->shared_memory : NULL,
        .interface = host_interface(step->spec.address, interface) ? interface : NULL,
        .crowded = host_crowded(step->rank_count),
        .fast_fabric = host_fast_fabric(),
    };
    struct err err = {0};
    for (uint32_t i = 0; i < step->rank_count; i++)
        if (step->ranks[i].report.pid == 0 && start_rank(&step->ranks[i], &facts, &err) != TIDE_OK) {
            err_wrap(&err, "rank %u cannot be started", step->ranks[i].report.rank);
            step_cannot_start(step, err.text);
            return;
        }
    step->spawned = true;
    status_changed(step);
}

/* ---- the end of a rank: detail says only what exit_code and signal do not ---- */

static void describe_exit(struct rank *rank, int code)
{
    struct rank_report *report = &rank->report;
    report->exit_code = code;
    if (code == 0 && rank->connected && !rank->left) {
        report->exit_code = 1;
        snprintf(report->detail, sizeof report->detail,
                 "exited with status 0 after MPI_Init but without MPI_Finalize: the other ranks would wait for it");
    }
}

static void describe_signal(struct rank *rank, int number, bool dumped)
{
    struct rank_report *report = &rank->report;
    bool told = rank->step->told_to_end;
    report->signal = number;
    snprintf(report->detail, sizeof report->detail, "%s%s%s", told ? "its step was told to end" : "", told && dumped ? "; " : "",
             dumped ? "core dumped" : "");
}

static void describe_abort(struct rank *rank)
{
    int32_t code = rank->abort_status & 0xff;
    rank->report.exit_code = code != 0 ? code : 1;
    snprintf(rank->report.detail, sizeof rank->report.detail, "called MPI_Abort(%d)%s%.180s", rank->abort_status,
             rank->abort_text[0] != '\0' ? ": " : "", rank->abort_text);
}

static void rank_ended(struct rank *rank, int status)
{
    struct step *step = rank->step;
    failure_take(rank);
    rank->ended_ns = clock_mono_ns();
    uv_timer_stop(&rank->abort_timer);
    bool executed = rank->report.detail[0] == '\0';
    if (!executed)
        rank->report.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    else if (rank->aborted)
        describe_abort(rank);
    else if (WIFSIGNALED(status))
        describe_signal(rank, WTERMSIG(status), WCOREDUMP(status));
    else
        describe_exit(rank, WEXITSTATUS(status));
    bool good = executed && rank->report.exit_code == 0 && rank->report.signal == 0;
    rank->report.state = good ? TIDE_RANK_FINISHED : TIDE_RANK_EXITED;
    log_info("rank %u (pid %d) has ended: status %d, signal %d%s%s", rank->report.rank, rank->report.pid, rank->report.exit_code,
             rank->report.signal, rank->report.detail[0] != '\0' ? ": " : "", rank->report.detail);
    rank_link_drop(rank);
    mesh_rank_gone(step, rank->report.rank);
    status_changed(step);
    step_near_end(step);
}

static struct rank *rank_of_pid(struct step *step, pid_t pid)
{
    for (uint32_t i = 0; i < step->rank_count; i++)
        if (step->ranks[i].report.pid == pid && step->ranks[i].ended_ns == 0)
            return &step->ranks[i];
    return NULL;
}

void ranks_reap(struct step *step)
{
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0)
            return;
        /* What a rank told libpmix before it ended decides how its end is judged: all of it is queued by now. */
        mesh_drain(step);
        struct rank *rank = rank_of_pid(step, info.si_pid);
        /* Its group goes while the zombie still keeps the number from being used again. */
        if (rank != NULL)
            kill(-rank->report.pid, SIGKILL);
        if (rank != NULL && rank->cgroup[0] != '\0')
            cgroup_kill(rank->cgroup);
        int status = 0;
        if (waitpid(info.si_pid, &status, 0) == info.si_pid && rank != NULL)
            rank_ended(rank, status);
    }
}

void ranks_signal(struct step *step, int number)
{
    for (uint32_t i = 0; i < step->rank_count; i++)
        if (step->ranks[i].report.pid > 0 && step->ranks[i].ended_ns == 0)
            kill(-step->ranks[i].report.pid, number);
}

/* ---- what ranks leave behind ---- */

static pid_t parent_of(const char *pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    /* "pid (name) state ppid …"; the name may hold anything. */
    const char *behind = strrchr(text, ')');
    return behind != NULL && strlen(behind) > 4 ? (pid_t)strtol(behind + 4, NULL, 10) : 0;
}

/* Orphans come to us, their subreaper. Killing one brings its children with the next look. */
void ranks_kill_orphans(struct step *step)
{
    DIR *proc = opendir("/proc");
    if (proc == NULL)
        return;
    struct dirent *entry;
    while ((entry = readdir(proc)) != NULL) {
        if (!isdigit((unsigned char)entry->d_name[0]) || parent_of(entry->d_name) != getpid())
            continue;
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (rank_of_pid(step, pid) == NULL)
            kill(pid, SIGKILL);
    }
    closedir(proc);
}

static bool has_children(void)
{
    siginfo_t info = {0};
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0 || errno != ECHILD;
}

void ranks_kill_rest(struct step *step)
{
    if (step->cgroup[0] != '\0' && !cgroup_empty(step->cgroup))
        cgroup_kill(step->cgroup);
    if (has_children())
        ranks_kill_orphans(step);
}

bool ranks_alone(struct step *step)
{
    ranks_reap(step);
    return !has_children() && (step->cgroup[0] == '\0' || cgroup_empty(step->cgroup));
}

bool ranks_gone(const struct step *step)
{
    for (uint32_t i = 0; i < step->rank_count; i++)
        if (step->ranks[i].ended_ns == 0)
            return false;
    return true;
}

bool ranks_resolved(const struct step *step)
{
    for (uint32_t i = 0; i < step->rank_count; i++)
        if (step->ranks[i].failure_fd >= 0)
            return false;
    return true;
}

bool ranks_closed(struct rank *rank, uint64_t now_ns)
{
    if (now_ns - rank->ended_ns >= STEP_DRAIN_MS * NS_PER_MS) {
        stream_close(&rank->out);
        stream_close(&rank->err);
    }
    return !rank->out.open && !rank->err.open;
}

bool ranks_drained(struct step *step, bool force)
{
    bool drained = true;
    for (uint32_t i = 0; i < step->rank_count; i++) {
        struct rank *rank = &step->ranks[i];
        if (force) {
            stream_close(&rank->out);
            stream_close(&rank->err);
        }
        drained &= !rank->out.open && !rank->err.open;
    }
    return drained;
}
