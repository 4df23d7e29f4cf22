/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/cli/standalone.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"
#include "coordinator/cli/cluster.h"
#include "coordinator/cli/home.h"
#include "coordinator/cli/signals.h"
#include "coordinator/cli/term.h"

#define RANDOM_CHARS 8
#define POLL_MS 10
#define AGENT_STOP_MS 15000 /* it ends its steps first */
#define COORDINATOR_STOP_MS 5000
#define ORPHANS_MS 3000 /* until every process left over is gone */
#define LAST_WORDS_BYTES 400
#define CHILDREN_BYTES_MAX (1u << 20)
#define NODE_NAME "local"

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
}

/* ---- directories ---- */

static int lock_file(const char *dir)
{
    char path[TIDE_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/lock", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Steps outlive an agent on purpose. One whose run is gone for good is found by the directory on its command line; its
 * ranks end with it. */
static void end_steps(const char *dir)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    char path[64], *line;
    size_t bytes, n = strlen(dir);
    while (proc != NULL && (entry = readdir(proc)) != NULL) {
        snprintf(path, sizeof path, "/proc/%.20s/cmdline", entry->d_name);
        if (strspn(entry->d_name, "0123456789") != strlen(entry->d_name) ||
            fsx_read(path, CHILDREN_BYTES_MAX, &line, &bytes, NULL) != TIDE_OK)
            continue;
        const char *word = line + strlen(line) + 1;
        if (strstr(line, "tidemark-step") != NULL && word < line + bytes && strncmp(word, dir, n) == 0 && word[n] == '/')
            kill((pid_t)strtol(entry->d_name, NULL, 10), SIGKILL);
        mem_free(line);
    }
    if (proc != NULL)
        closedir(proc);
}

/* What a run has left: processes, shared memory, the state. */
static void remove_state(const char *dir)
{
    char path[TIDE_PATH_MAX + 64], *uid = NULL;
    size_t bytes;
    end_steps(dir);
    snprintf(path, sizeof path, "%s/agent/node.uid", dir);
    if (fsx_read(path, TIDE_PATH_MAX, &uid, &bytes, NULL) == TIDE_OK) {
        uid[strcspn(uid, "\n")] = '\0';
        snprintf(path, sizeof path, "/dev/shm/tidemark-%s", uid);
        if (strlen(uid) == TIDE_UID_CHARS && strspn(uid, "0123456789abcdef") == TIDE_UID_CHARS)
            fsx_remove_tree(path, NULL);
        mem_free(uid);
    }
    fsx_remove_tree(dir, NULL);
}

/* A run that was killed could not clean up; nobody holds its lock any more. Kept ones have a file "keep". */
static void sweep(const char *parent)
{
    DIR *dir = opendir(parent);
    struct dirent *entry;
    char path[TIDE_PATH_MAX + 64], keep[TIDE_PATH_MAX + 80];
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        if (strlen(entry->d_name) != RANDOM_CHARS || strspn(entry->d_name, "0123456789abcdef") != RANDOM_CHARS)
            continue;
        snprintf(path, sizeof path, "%s/%s", parent, entry->d_name);
        snprintf(keep, sizeof keep, "%s/keep", path);
        int fd = access(keep, F_OK) != 0 ? lock_file(path) : -1;
        if (fd >= 0) {
            remove_state(path);
            close(fd);
        }
    }
    if (dir != NULL)
        closedir(dir);
}

static enum tide_status make_dirs(struct standalone *s, struct fault *fault)
{
    char home[TIDE_PATH_MAX + 1], parent[TIDE_PATH_MAX + 32], store[TIDE_PATH_MAX + 32], name[RANDOM_CHARS + 1];
    struct rng rng = {.state = rng_entropy()};
    enum tide_status status = state_home(home, fault);
    if (status != TIDE_OK)
        return status;
    snprintf(parent, sizeof parent, "%s/standalone", home);
    snprintf(store, sizeof store, "%s/store", home);
    rng_hex(&rng, name, RANDOM_CHARS);
    sweep(parent);
    snprintf(s->dir, sizeof s->dir, "%s/%s", parent, name);
    snprintf(s->store, sizeof s->store, "file://%s", store);
    status = fsx_mkdirs(s->dir, 0700, &fault->err);
    if (status == TIDE_OK)
        status = fsx_mkdirs(store, 0700, &fault->err);
    if (status != TIDE_OK) {
        text_copy(fault->hint, sizeof fault->hint, "set XDG_STATE_HOME to a directory that can be written");
        return status;
    }
    s->lock_fd = lock_file(s->dir);
    snprintf(home, sizeof home, "%s/keep", s->dir);
    int fd = s->keep ? open(home, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (fd >= 0)
        close(fd);
    return TIDE_OK;
}

/* ---- processes ---- */

/* Beside our own executable; the plain name, to be found in PATH, if it is not there. */
void program_find(const char *name, char *to, size_t size)
{
    char self[TIDE_PATH_MAX + 1];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(self, '/');
    if (slash != NULL) {
        *slash = '\0';
        snprintf(to, size, "%s/%s", self, name);
        if (access(to, X_OK) == 0)
            return;
    }
    snprintf(to, size, "%s", name);
}

/* In the child. Only async-signal-safe calls: nothing here needs the heap. */
static void become(const char *program, char *const *argv, int log_fd, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    setsid();
    /* Should we be killed, they end as well; and if we were already dead when this was asked for, nothing was started. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
    /* Who the user is in other clusters is nobody in this one. */
    unsetenv("TIDEMARK_IDENTITY");
    unsetenv("TIDEMARK_JOIN_TOKEN");
    unsetenv("TIDEMARK_TOKEN");
    int null = open("/dev/null", O_RDONLY);
    dup2(null, STDIN_FILENO);
    dup2(log_fd, STDOUT_FILENO);
    dup2(log_fd, STDERR_FILENO);
    execvp(program, argv);
    _exit(127);
}

static enum tide_status spawn(const struct standalone *s, const char *name, char *const *argv, pid_t *ret_pid,
                              struct fault *fault)
{
    char program[TIDE_PATH_MAX + 64], path[TIDE_PATH_MAX + 64];
    program_find(name, program, sizeof program);
    snprintf(path, sizeof path, "%s/%s.log", s->dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_errno(&fault->err, "cannot create %s", path);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become(program, argv, fd, parent);
    close(fd);
    if (pid < 0)
        return err_errno(&fault->err, "cannot start %s", name);
    *ret_pid = pid;
    return TIDE_OK;
}

/* The last line or two of a daemon's log, for the error message. */
static void last_words(const struct standalone *s, const char *name, char *to, size_t size)
{
    char path[TIDE_PATH_MAX + 64];
    char *text = NULL;
    size_t bytes = 0;
    to[0] = '\0';
    snprintf(path, sizeof path, "%s/%s.log", s->dir, name);
    if (fsx_read(path, 1u << 20, &text, &bytes, NULL) != TIDE_OK)
        return;
    while (bytes > 0 && text[bytes - 1] == '\n')
        text[--bytes] = '\0';
    const char *at = bytes > LAST_WORDS_BYTES ? text + bytes - LAST_WORDS_BYTES : text;
    const char *line = strchr(at, '\n');
    snprintf(to, size, "%s", at != text && line ? line + 1 : at);
    mem_free(text);
}

static enum tide_status daemon_ended(const struct standalone *s, const char *name, int wait_status, struct fault *fault)
{
    char words[LAST_WORDS_BYTES + 1];
    last_words(s, name, words, sizeof words);
    if (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == 127 && words[0] == '\0')
        return fault_set(fault, TIDE_E_EXEC, "install it beside tidemark, or put it into PATH", "%s was not found", name);
    return fault_set(fault, TIDE_E_UNAVAILABLE, NULL, "%s ended early (%s %d)%s%s", name,
                     WIFSIGNALED(wait_status) ? "signal" : "exit status",
                     WIFSIGNALED(wait_status) ? WTERMSIG(wait_status) : WEXITSTATUS(wait_status), words[0] ? ":\n" : "",
                     words);
}

enum tide_status standalone_check(struct standalone *s, struct fault *fault)
{
    int status;
    if (s->coordinator > 0 && waitpid(s->coordinator, &status, WNOHANG) == s->coordinator) {
        s->coordinator = 0;
        return daemon_ended(s, "tidemarkd", status, fault);
    }
    if (s->agent > 0 && waitpid(s->agent, &status, WNOHANG) == s->agent) {
        s->agent = 0;
        return daemon_ended(s, "tidemark-agent", status, fault);
    }
    return TIDE_OK;
}

/* ---- start ---- */

static enum tide_status wait_address(struct standalone *s, uint64_t deadline_ns, char **ret_url, struct fault *fault)
{
    char path[TIDE_PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/coordinator/address", s->dir);
    for (;;) {
        char *text = NULL;
        size_t bytes;
        enum tide_status status = standalone_check(s, fault);
        if (status != TIDE_OK)
            return status;
        if (fsx_read(path, TIDE_PATH_MAX, &text, &bytes, NULL) == TIDE_OK && bytes > 0) {
            text[strcspn(text, "\n")] = '\0';
            *ret_url = text;
            return TIDE_OK;
        }
        mem_free(text);
        if (signals_count() > 0)
            return fault_set(fault, TIDE_E_STATE, NULL, "interrupted");
        if (clock_mono_ns() > deadline_ns)
            return fault_set(fault, TIDE_E_TIMEOUT, NULL, "tidemarkd has not started in time; %s has its log", s->dir);
        nap();
    }
}

static enum tide_status start_coordinator(struct standalone *s, uint64_t deadline_ns, uint64_t timeout_ms,
                                          struct client **ret_client, struct fault *fault)
{
    char data[TIDE_PATH_MAX + 32], *url = NULL;
    snprintf(data, sizeof data, "%s/coordinator", s->dir);
    char *argv[] = {"tidemarkd", "--data", data, "--listen", "127.0.0.1:0", "--store", s->store, NULL};
    enum tide_status status = spawn(s, "tidemarkd", argv, &s->coordinator, fault);
    if (status == TIDE_OK)
        status = wait_address(s, deadline_ns, &url, fault);
    if (status != TIDE_OK)
        return status;
    status = client_create(url, NULL, timeout_ms, ret_client, fault);
    mem_free(url);
    return status;
}

static enum tide_status start_agent(struct standalone *s, const struct client *client, uint32_t slots, struct fault *fault)
{
    char state[TIDE_PATH_MAX + 32], count[16];
    snprintf(state, sizeof state, "%s/agent", s->dir);
    snprintf(count, sizeof count, "%u", slots);
    char *argv[] = {"tidemark-agent",
                    "--coordinator",
                    client->urls.items[0],
                    "--name",
                    NODE_NAME,
                    "--state",
                    state,
                    "--address",
                    "127.0.0.1",
                    "--slots",
                    count,
                    "--probes", /* nobody could take over */
                    "none",
                    "--mesh-port",
                    "0",
                    "--log-port",
                    "0",
                    "--kill-on-exit",
                    NULL};
    return spawn(s, "tidemark-agent", argv, &s->agent, fault);
}

static enum tide_status wait_node(struct standalone *s, struct client *client, uint64_t deadline_ns, struct fault *fault)
{
    for (;;) {
        struct node_list list;
        bool ready = false;
        enum tide_status status = standalone_check(s, fault);
        if (status == TIDE_OK)
            status = client_noun(client, "GET", "/v1/nodes", NULL, 0, &node_list_codec, &list, NULL, fault);
        if (status != TIDE_OK)
            return status;
        for (size_t i = 0; i < list.nodes.count; i++)
            ready = ready || list.nodes.items[i].node.state == TIDE_NODE_READY;
        codec_release(&node_list_codec, &list);
        if (ready)
            return TIDE_OK;
        if (clock_mono_ns() > deadline_ns)
            return fault_set(fault, TIDE_E_TIMEOUT, NULL, "tidemark-agent has not registered in time; %s has its log",
                             s->dir);
        nap();
    }
}

enum tide_status standalone_start(struct standalone *s, uint32_t slots, bool keep, uint64_t timeout_ms,
                                  struct client **ret_client, struct fault *fault)
{
    struct client *client = NULL;
    uint64_t deadline_ns = clock_mono_ns() + timeout_ms * NS_PER_MS;
    *s = (struct standalone){.lock_fd = -1, .keep = keep};
    /* Processes whose parents die become ours, so that none can be left over at the end. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    enum tide_status status = make_dirs(s, fault);
    if (status == TIDE_OK)
        status = start_coordinator(s, deadline_ns, timeout_ms, &client, fault);
    if (status == TIDE_OK)
        status = start_agent(s, client, slots, fault);
    if (status == TIDE_OK)
        status = wait_node(s, client, deadline_ns, fault);
    if (status != TIDE_OK) {
        client_free(client);
        standalone_stop(s, true);
        return status;
    }
    *ret_client = client;
    return TIDE_OK;
}

/* ---- stop ---- */

static void end_process(pid_t *pid, uint64_t grace_ms)
{
    uint64_t deadline_ns = clock_mono_ns() + grace_ms * NS_PER_MS;
    if (*pid <= 0)
        return;
    kill(*pid, SIGTERM);
    while (waitpid(*pid, NULL, WNOHANG) == 0) {
        if (clock_mono_ns() > deadline_ns) {
            kill(*pid, SIGKILL);
            waitpid(*pid, NULL, 0);
            break;
        }
        nap();
    }
    *pid = 0;
}

/* What the kernel lists as children of one thread of `pid`; calls `each` for all of them. Returns how many. */
static size_t each_child(pid_t pid, void (*each)(pid_t child, const struct standalone *s), const struct standalone *s)
{
    char path[96], *text = NULL, *rest, *word;
    size_t bytes, count = 0;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        snprintf(path, sizeof path, "/proc/%d/task/%.20s/children", (int)pid, entry->d_name);
        if (entry->d_name[0] == '.' || fsx_read(path, CHILDREN_BYTES_MAX, &text, &bytes, NULL) != TIDE_OK)
            continue;
        for (rest = text; (word = strsep(&rest, " \n")) != NULL;)
            if (word[0] != '\0') {
                count++;
                each((pid_t)strtol(word, NULL, 10), s);
            }
        mem_free(text);
    }
    if (dir != NULL)
        closedir(dir);
    return count;
}

static void kill_one(pid_t pid, const struct standalone *s)
{
    if (pid != s->agent && pid != s->coordinator)
        kill(pid, SIGKILL);
}

/* Children we never started are orphans of our daemons: an agent that had to be killed leaves its steps to us. */
static void end_orphans(const struct standalone *s)
{
    uint64_t deadline_ns = clock_mono_ns() + ORPHANS_MS * NS_PER_MS;
    do {
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
        if (each_child(getpid(), kill_one, s) == 0)
            return;
        nap();
    } while (clock_mono_ns() < deadline_ns);
}

void standalone_stop(struct standalone *s, bool now)
{
    /* Without its steps the agent has nothing to wait for, and still cleans up after them. */
    if (now && s->agent > 0) {
        each_child(s->agent, kill_one, s);
        each_child(getpid(), kill_one, s);
    }
    end_process(&s->agent, AGENT_STOP_MS);
    end_process(&s->coordinator, COORDINATOR_STOP_MS);
    end_orphans(s);
    if (s->keep)
        say_note("the state is kept in %s", s->dir);
    else if (s->dir[0] != '\0')
        remove_state(s->dir);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    *s = (struct standalone){.lock_fd = -1};
}
