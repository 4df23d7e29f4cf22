/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/cut/host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATH_ROOM 192

static void die(const char *what)
{
    fprintf(stderr, "cut driver: %s: %m\n", what);
    exit(2);
}

void host_slot_path(const struct host *host, uint32_t rank, uint32_t slot, char *to, size_t size)
{
    snprintf(to, size, "%s/" SLOT_FILE_FORMAT, host->dir, rank, slot);
}

/* ---- files ---- */

static void page_create(struct host *host, uint32_t rank)
{
    char path[PATH_ROOM];
    snprintf(path, sizeof path, "%s/" CONTROL_FILE_FORMAT, host->dir, rank);
    unlink(path);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, CONTROL_PAGE_BYTES) != 0)
        die(path);
    if (host->pages[rank])
        munmap(host->pages[rank], CONTROL_PAGE_BYTES);
    struct control_page *page = mmap(NULL, CONTROL_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (page == MAP_FAILED)
        die("mmap");
    page->magic = CONTROL_MAGIC;
    page->generation = host->generation;
    page->rank = rank;
    page->world_size = host->ranks;
    atomic_store(&page->armed_step, STEP_NONE);
    host->pages[rank] = page;
}

static void listen_at(struct host *host)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s/ranks.sock", host->dir);
    host->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (host->listener < 0 || bind(host->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(host->listener, HOST_RANKS_MAX) != 0)
        die("socket");
}

void host_init(struct host *host, uint32_t ranks)
{
    *host = (struct host){.ranks = ranks};
    snprintf(host->dir, sizeof host->dir, "/dev/shm/tidemark-cut-%d", (int)getpid());
    if (mkdir(host->dir, 0700) != 0)
        die(host->dir);
    listen_at(host);
}

static void disconnect_all(struct host *host)
{
    for (int i = 0; i < host->client_count; i++)
        close(host->clients[i]);
    host->client_count = 0;
}

void host_release(struct host *host)
{
    char path[PATH_ROOM + 256];
    host_kill(host);
    disconnect_all(host);
    close(host->listener);
    DIR *dir = opendir(host->dir);
    for (struct dirent *entry; dir && (entry = readdir(dir)) != NULL;) {
        snprintf(path, sizeof path, "%s/%s", host->dir, entry->d_name);
        if (entry->d_name[0] != '.')
            unlink(path);
    }
    if (dir)
        closedir(dir);
    rmdir(host->dir);
}

/* ---- processes ---- */

/* The launchers of both MPIs tell a process its rank by different names. */
#define WRAPPER "RANK=${OMPI_COMM_WORLD_RANK:-${PMI_RANK}} exec \"$0\" \"$@\""

static void exec_launcher(const struct host *host, const char *launcher, char **argv, const char *const *environment)
{
    char *command[256], *rest = NULL;
    char words[1024], number[32], socket_path[PATH_ROOM];
    int n = 0;
    snprintf(words, sizeof words, "%s", launcher);
    for (char *word = strtok_r(words, " ", &rest); word && n < 64; word = strtok_r(NULL, " ", &rest))
        command[n++] = word;
    snprintf(number, sizeof number, "%u", host->ranks);
    setenv("WORLD_SIZE", number, 1);
    command[n++] = strdup("-n");
    command[n++] = strdup(number);
    command[n++] = strdup("sh");
    command[n++] = strdup("-c");
    command[n++] = strdup(WRAPPER);
    for (int i = 0; argv[i] && n < 250; i++)
        command[n++] = argv[i];
    command[n] = NULL;
    snprintf(socket_path, sizeof socket_path, "%s/ranks.sock", host->dir);
    setenv(ENV_SOCKET, socket_path, 1);
    setenv(ENV_ARENA, host->dir, 1);
    setenv("OMPI_MCA_btl_vader_backing_directory", host->dir, 1); /* what a killed rank leaves goes with the rest */
    setenv(ENV_JOB, HOST_JOB, 1);
    setenv(ENV_JOB_UID, HOST_JOB_UID, 1);
    setenv(ENV_NODE, "here", 1);
    snprintf(number, sizeof number, "%llu", (unsigned long long)host->generation);
    setenv(ENV_GENERATION, number, 1);
    for (int i = 0; environment[i]; i++)
        putenv(strdup(environment[i]));
    execvp(command[0], command);
    _exit(127);
}

void host_start(struct host *host, const char *launcher, char **argv, const char *const *environment)
{
    host->generation++;
    host->restored = 0;
    host->refused[0] = '\0';
    disconnect_all(host);
    for (uint32_t r = 0; r < host->ranks; r++)
        page_create(host, r);
    host->launcher = fork();
    if (host->launcher < 0)
        die("fork");
    if (host->launcher == 0) {
        setpgid(0, 0);
        exec_launcher(host, launcher, argv, environment);
    }
    setpgid(host->launcher, host->launcher);
}

void host_kill(struct host *host)
{
    int status;
    if (host->launcher <= 0)
        return;
    for (uint32_t r = 0; r < host->ranks; r++) {
        pid_t pid = host->pages[r] ? atomic_load(&host->pages[r]->pid) : 0;
        if (pid > 0)
            kill(pid, SIGKILL);
    }
    kill(-host->launcher, SIGKILL);
    waitpid(host->launcher, &status, 0);
    host->launcher = 0;
    disconnect_all(host);
}

bool host_ended(struct host *host, int *ret_status)
{
    if (host->launcher == 0 || waitpid(host->launcher, ret_status, WNOHANG) != host->launcher)
        return false;
    host->launcher = 0;
    return true;
}

/* ---- the step process's part ---- */

static void answer(int fd, const struct local_message *to, struct local_message *with)
{
    with->magic = LOCAL_MAGIC;
    with->rank = to->rank;
    with->generation = to->generation;
    if (send(fd, with, sizeof *with, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET)
        die("send");
}

static void reserve(struct host *host, int fd, const struct local_message *ask)
{
    struct local_message granted = {.type = LOCAL_GRANTED, .bytes = ask->bytes};
    struct err err = {.text = ""};
    for (uint32_t s = 0; s < SLOTS; s++) {
        char path[PATH_ROOM];
        host_slot_path(host, ask->rank, s, path, sizeof path);
        if (slot_reserve(path, ask->bytes, &err) != TIDE_OK) {
            fprintf(stderr, "cut driver: %s\n", err.text);
            exit(2);
        }
    }
    if (!(ask->flags & LOCAL_RESERVE_AHEAD))
        answer(fd, ask, &granted);
}

static void take(struct host *host, int fd, const struct local_message *message)
{
    struct local_message welcome = {.type = LOCAL_WELCOME};
    struct local_message from = {.type = host->cut ? LOCAL_RESTORE_FROM : LOCAL_RESTORE_NONE,
                                 .slot = host->slot,
                                 .cut = host->cut,
                                 .attempt = message->attempt,
                                 .step = host->step[message->rank % HOST_RANKS_MAX],
                                 .flags = LOCAL_TIER_RAM};
    if (message->generation != host->generation || message->rank >= host->ranks)
        return;
    switch (message->type) {
    case LOCAL_HELLO: answer(fd, message, &welcome); break;
    case LOCAL_RESERVE: reserve(host, fd, message); break;
    case LOCAL_RESTORE_ASK: answer(fd, message, &from); break;
    case LOCAL_RESTORED: host->restored++; break;
    case LOCAL_RESTORE_BAD: snprintf(host->refused, sizeof host->refused, "%s", message->text); break;
    default: break;
    }
}

static void read_client(struct host *host, int i)
{
    struct local_message message;
    ssize_t n = recv(host->clients[i], &message, sizeof message, MSG_DONTWAIT);
    if (n == (ssize_t)sizeof message) {
        take(host, host->clients[i], &message);
    } else if (n == 0 || (n < 0 && errno != EAGAIN)) {
        close(host->clients[i]);
        host->clients[i] = host->clients[--host->client_count];
    }
}

void host_serve(struct host *host, long us)
{
    struct pollfd fds[HOST_RANKS_MAX + 1];
    int count = host->client_count;
    for (int i = 0; i < count; i++)
        fds[i] = (struct pollfd){.fd = host->clients[i], .events = POLLIN};
    fds[count] = (struct pollfd){.fd = host->listener, .events = POLLIN};
    struct timespec most = {.tv_nsec = us * 1000};
    if (ppoll(fds, (nfds_t)count + 1, &most, NULL) <= 0)
        return;
    for (int i = count; i-- > 0;) {
        if (fds[i].revents)
            read_client(host, i);
    }
    int fd = fds[count].revents ? accept4(host->listener, NULL, NULL, SOCK_CLOEXEC) : -1;
    if (fd >= 0 && host->client_count < HOST_RANKS_MAX)
        host->clients[host->client_count++] = fd;
    else if (fd >= 0)
        close(fd);
}
