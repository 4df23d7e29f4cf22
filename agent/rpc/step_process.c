/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/rpc/cgroup.h"
#include "agent/rpc/steps_inner.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

#define FILE_MODE 0644
#define STEP_LOG_FILE "step.log" /* what the step itself prints */
#define STEP_LOG_READ_MAX (1u << 20)
#define FIRST_INHERITED_FD 3u

struct step_process *process_make(struct steps *steps, struct step_spec *spec)
{
    struct step_process *process = mem_alloc(sizeof *process);
    process->steps = steps;
    process->pidfd = -1;
    process->spec = *spec;
    memset(spec, 0, sizeof *spec);
    pages_init(&process->pages, process->spec.arena, process->spec.generation,
               process->spec.node_rank * process->spec.job.nproc_per_node, process->spec.job.nproc_per_node);
    uv_timer_init(steps->loop, &process->timer);
    process->timer.data = process;
    process->handles = 1;
    process->next = steps->first;
    steps->first = process;
    return process;
}

static void process_free(struct step_process *process)
{
    struct steps *steps = process->steps;
    for (struct step_process **at = &steps->first; *at != NULL; at = &(*at)->next)
        if (*at == process) {
            *at = process->next;
            break;
        }
    if (process->pidfd >= 0)
        close(process->pidfd);
    pages_release(&process->pages);
    codec_release(&step_spec_codec, &process->spec);
    mem_free(process);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct step_process *process = handle->data;
    if (--process->handles == 0)
        process_free(process);
}

void process_drop(struct step_process *process)
{
    if (process->dropped)
        return;
    process->dropped = true;
    socket_close(process);
    if (process->watched)
        uv_close((uv_handle_t *)&process->death, on_handle_closed);
    uv_close((uv_handle_t *)&process->timer, on_handle_closed);
}

/* ---- death ---- */

/* A step that could not even say what went wrong may have printed it. */
static void last_words(const struct step_process *process, char *to, size_t size)
{
    char path[TIDE_PATH_MAX + 32], *data = NULL;
    size_t bytes = 0;
    text_copy(to, size, "the step process ended without a word");
    snprintf(path, sizeof path, "%s/" STEP_LOG_FILE, process->spec.dir);
    if (fsx_read(path, STEP_LOG_READ_MAX, &data, &bytes, NULL) != TIDE_OK)
        return;
    while (bytes > 0 && data[bytes - 1] == '\n')
        data[--bytes] = '\0';
    const char *line = strrchr(data, '\n');
    line = line != NULL ? line + 1 : data;
    if (*line != '\0')
        snprintf(to, size, "the step process ended; it said last: %.200s", line);
    mem_free(data);
}

static void say_last_status(struct step_process *process)
{
    char path[TIDE_PATH_MAX + 32], *data = NULL;
    size_t bytes = 0;
    struct step_status status = {0};
    struct err err = {0};
    snprintf(path, sizeof path, "%s/" STEP_STATUS_FILE, process->spec.dir);
    if (fsx_read(path, STEP_LINE_MAX, &data, &bytes, &err) != TIDE_OK ||
        codec_parse(&step_status_codec, data, bytes, CODEC_LENIENT, &status, &err) != TIDE_OK) {
        memset(&status, 0, sizeof status);
        text_copy(status.uid, sizeof status.uid, process->spec.uid);
        status.generation = process->spec.generation;
        last_words(process, status.detail, sizeof status.detail);
    }
    mem_free(data);
    process_say(process, &status);
    codec_release(&step_status_codec, &status);
}

static void cgroup_of(const struct step_process *process, char *to, size_t size)
{
    snprintf(to, size, STEP_CGROUP_FORMAT, process->spec.cgroup, process->spec.uid,
             (unsigned long long)step_spec_born(&process->spec));
}

/* Kill what is there; true when nothing was. */
static bool sweep(const struct step_process *process)
{
    char group[2 * TIDE_PATH_MAX];
    cgroup_of(process, group, sizeof group);
    bool populated = process->spec.cgroup[0] != '\0' && cgroup_populated(group);
    if (populated)
        cgroup_kill(group);
    /* A program may have left its group, and a step may have had none. */
    size_t strays = procs_kill(process->spec.uid, step_spec_born(&process->spec), process->spec.generation, process->spec.node);
    if (populated || strays > 0)
        return false;
    if (process->spec.cgroup[0] != '\0')
        cgroup_remove(group);
    return true;
}

static void on_gone_check(uv_timer_t *timer)
{
    struct step_process *process = timer->data;
    if (!sweep(process)) {
        /* Most are gone at once; who hangs in the kernel may do so for hours, and each look reads all of /proc. */
        process->check_ms = process->check_ms == 0 ? STEP_GONE_CHECK_MS : process->check_ms * 2;
        if (process->check_ms > STEP_GONE_CHECK_MS_MAX)
            process->check_ms = STEP_GONE_CHECK_MS_MAX;
        uv_timer_start(timer, on_gone_check, process->check_ms, 0);
        return;
    }
    process->gone = true;
    struct agent_event event = {.kind = EV_STEP_GONE, .generation = process->spec.generation};
    text_copy(event.uid, sizeof event.uid, process->spec.uid);
    process->steps->hooks.event(process->steps->hooks.context, &event);
}

static void process_died(struct step_process *process)
{
    if (process->dead)
        return;
    process->dead = true;
    if (process->pid > 0)
        waitpid(process->pid, NULL, WNOHANG); /* ours, or of an earlier agent: then init reaps it */
    socket_close(process);
    process_look(process);
    say_last_status(process);
    if (!process->dropped)
        uv_timer_start(&process->timer, on_gone_check, 0, 0);
}

static void on_death(uv_poll_t *poll, int status, int events)
{
    (void)status, (void)events;
    struct step_process *process = poll->data;
    uv_poll_stop(poll);
    process_died(process);
}

static void on_unwatched(uv_timer_t *timer)
{
    process_died(timer->data);
}

/* Errors: IO, and nothing watches it then. */
static enum tide_status watch_death(struct step_process *process, struct err *err)
{
    process->pidfd = pidfd_open(process->pid, 0);
    if (process->pidfd < 0 && errno == ESRCH) {
        /* Gone already. Told from the loop, since whoever starts a step is not ready to hear of its death yet. */
        uv_timer_start(&process->timer, on_unwatched, 0, 0);
        return TIDE_OK;
    }
    if (process->pidfd < 0)
        return err_errno(err, "cannot watch step process %d; raise the limit of open files?", (int)process->pid);
    int bad = uv_poll_init(process->steps->loop, &process->death, process->pidfd);
    if (bad != 0)
        return err_set(err, TIDE_E_IO, "cannot watch step process %d: %s", (int)process->pid, uv_strerror(bad));
    process->watched = true;
    process->handles++;
    process->death.data = process;
    uv_poll_start(&process->death, UV_READABLE, on_death);
    return TIDE_OK;
}

void process_kill(struct step_process *process)
{
    char group[2 * TIDE_PATH_MAX];
    if (process->dead)
        return; /* being swept already */
    cgroup_of(process, group, sizeof group);
    if (process->spec.cgroup[0] != '\0')
        cgroup_kill(group);
    if (process->pidfd >= 0)
        pidfd_send_signal(process->pidfd, SIGKILL, NULL, 0);
}

/* ---- birth ---- */

static enum tide_status write_spec(const struct step_spec *spec, const char *name, struct err *err)
{
    char path[TIDE_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%s", spec->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600); /* it holds the token */
    if (fd < 0)
        return err_errno(err, "cannot create %s", path);
    char *text = codec_print(&step_spec_codec, spec, 0);
    /* Not synced: a machine that goes down takes the step along. */
    enum tide_status status = fsx_write_all(fd, text, strlen(text), path, err);
    mem_free(text);
    close(fd);
    return status;
}

/* In the child: only what is safe between fork and exec. */
static _Noreturn void become_step(const struct steps *steps, const char *dir, int null_fd, int log_fd)
{
    const char *program = steps->program;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setsid();
    dup2(null_fd, STDIN_FILENO);
    dup2(log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    close_range(FIRST_INHERITED_FD, ~0u, 0);
    setrlimit(RLIMIT_NOFILE, &steps->files); /* programs that use select() break above 1024 */
    execl(program, program, dir, (char *)NULL);
    static const char text[] = "the step program cannot be executed\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(126);
    _exit(127);
}

static enum tide_status fork_step(struct step_process *process, struct err *err)
{
    char path[TIDE_PATH_MAX + 32];
    const char *program = process->steps->program;
    snprintf(path, sizeof path, "%s/" STEP_LOG_FILE, process->spec.dir);
    if (access(program, X_OK) != 0)
        return err_set(err, TIDE_E_EXEC, "%s is not there or cannot be executed; install tidemark-step beside tidemark-agent",
                       program);
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, FILE_MODE);
    enum tide_status status = TIDE_OK;
    if (null_fd < 0 || log_fd < 0)
        status = err_errno(err, "cannot open %s", log_fd < 0 ? path : "/dev/null");
    pid_t pid = status == TIDE_OK ? fork() : -1;
    if (pid == 0)
        become_step(process->steps, process->spec.dir, null_fd, log_fd);
    if (status == TIDE_OK && pid < 0)
        status = err_errno(err, "cannot start a step process");
    if (null_fd >= 0)
        close(null_fd);
    if (log_fd >= 0)
        close(log_fd);
    process->pid = pid;
    return status;
}

enum tide_status process_spawn(struct step_process *process, struct err *err)
{
    enum tide_status status = write_spec(&process->spec, STEP_SPEC_FILE, err);
    if (status == TIDE_OK)
        status = fork_step(process, err);
    if (status != TIDE_OK)
        return status;
    status = watch_death(process, err);
    if (status != TIDE_OK) { /* a step whose end nobody would see; a child of ours, so that the number is still its own */
        kill(process->pid, SIGKILL);
        waitpid(process->pid, NULL, 0);
        return status;
    }
    if (process->watched)
        socket_connect(process);
    return TIDE_OK;
}

/* ---- another generation ---- */

static void take_spec(struct step_process *process, struct step_spec *spec)
{
    codec_release(&step_spec_codec, &process->spec);
    process->spec = *spec;
    process->leave_due = false;
    memset(spec, 0, sizeof *spec);
    pages_release(&process->pages);
    pages_init(&process->pages, process->spec.arena, process->spec.generation,
               process->spec.node_rank * process->spec.job.nproc_per_node, process->spec.job.nproc_per_node);
    kept_flush(process);
}

enum tide_status process_go_over(struct step_process *process, struct step_spec *spec, struct err *err)
{
    text_copy(spec->dir, sizeof spec->dir, process->spec.dir);
    text_copy(spec->cgroup, sizeof spec->cgroup, process->spec.cgroup);
    spec->born = step_spec_born(&process->spec);
    enum tide_status status = write_spec(spec, STEP_NEXT_FILE, err);
    if (status == TIDE_OK && !socket_send(process, &(struct step_line){.kind = STEP_GO_OVER, .generation = spec->generation}))
        status = err_set(err, TIDE_E_UNAVAILABLE, "the step of generation %llu cannot be spoken to",
                         (unsigned long long)process->spec.generation);
    if (status == TIDE_OK)
        take_spec(process, spec);
    return status;
}

void process_reread(struct step_process *process)
{
    struct step_spec spec;
    struct err err = {0};
    uint64_t was = process->spec.generation;
    if (spec_read(process->spec.dir, &spec, &err) != TIDE_OK || spec.generation <= was) {
        log_error("job %s: its step speaks of another generation and is ignored", process->spec.job.name);
        return;
    }
    log_info("job %s: its step went over from generation %llu to %llu meanwhile", process->spec.job.name, (unsigned long long)was,
             (unsigned long long)spec.generation);
    take_spec(process, &spec);
    process_found(process);
    process_look(process);
}

void process_adopt(struct step_process *process)
{
    process->pid = procs_find_step(process->spec.dir);
    if (process->pid == 0) {
        process_died(process);
        return;
    }
    struct err err = {0};
    if (watch_death(process, &err) != TIDE_OK) {
        log_error("%s; it is ended", err.text);
        procs_kill_step(process->spec.dir);
        uv_timer_start(&process->timer, on_unwatched, 0, 0);
        return;
    }
    /* Between the look and the pidfd the number may have come to another process: look once more. */
    if (!process->watched)
        return;
    if (procs_find_step(process->spec.dir) != process->pid) {
        uv_poll_stop(&process->death);
        process_died(process);
        return;
    }
    socket_connect(process);
}
