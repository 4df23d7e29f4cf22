/* SPDX-License-Identifier: Apache-2.0 */
#include <netdb.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "agent/rpc/shell_inner.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

#define PORTS_FILE_MAX 64u
#define PORTS_FILE_MODE 0644
#define LIBEXEC_STEP "../libexec/tidemark/tidemark-step"

/* "http://host:port" of the first coordinator, in two parts. */
static bool coordinator_host(const char *urls, char host[ADDRESS_MAX + 1], char port[8])
{
    const char *from = strstr(urls, "://");
    if (from == NULL)
        return false;
    from += 3;
    size_t n = strcspn(from, ":/,");
    if (*from == '[') { /* an IPv6 address */
        from++;
        n = strcspn(from, "]");
    }
    if (n == 0 || n > ADDRESS_MAX)
        return false;
    memcpy(host, from, n);
    host[n] = '\0';
    from += n + (from[n] == ']');
    text_copy(port, 8, "80");
    if (*from == ':') {
        size_t digits = strspn(from + 1, "0123456789");
        if (digits == 0 || digits > 5)
            return false;
        memcpy(port, from + 1, digits);
        port[digits] = '\0';
    }
    return true;
}

/* The address this host would speak to the coordinator from: nothing is sent for it. */
static void find_address(const char *urls, char to[ADDRESS_MAX + 1])
{
    char host[ADDRESS_MAX + 1], port[8];
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM}, *found = NULL;
    text_copy(to, ADDRESS_MAX + 1, "127.0.0.1");
    if (!coordinator_host(urls, host, port) || getaddrinfo(host, port, &hints, &found) != 0)
        return;
    int fd = socket(found->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct sockaddr_storage own;
    socklen_t length = sizeof own;
    if (fd >= 0 && connect(fd, found->ai_addr, found->ai_addrlen) == 0 && getsockname(fd, (struct sockaddr *)&own, &length) == 0)
        getnameinfo((struct sockaddr *)&own, length, to, ADDRESS_MAX + 1, NULL, 0, NI_NUMERICHOST);
    if (fd >= 0)
        close(fd);
    freeaddrinfo(found);
}

/* Beside our own program, else where it is installed. */
static enum tide_status find_step(char to[TIDE_PATH_MAX + 1], struct err *err)
{
    char own[TIDE_PATH_MAX + 1];
    ssize_t n = readlink("/proc/self/exe", own, sizeof own - 1);
    if (n <= 0)
        return err_errno(err, "cannot find out where this program is");
    own[n] = '\0';
    *strrchr(own, '/') = '\0';
    char beside[TIDE_PATH_MAX + 64], installed[TIDE_PATH_MAX + 64];
    snprintf(beside, sizeof beside, "%s/tidemark-step", own);
    snprintf(installed, sizeof installed, "%s/" LIBEXEC_STEP, own);
    if (access(beside, X_OK) != 0 && access(installed, X_OK) != 0)
        return err_set(err, TIDE_E_EXEC, "neither %.400s nor %.400s can be executed; install tidemark-step there", beside, installed);
    text_copy(to, TIDE_PATH_MAX + 1, access(beside, X_OK) == 0 ? beside : installed);
    return TIDE_OK;
}

enum tide_status host_fill(struct shell_options *options, struct err *err)
{
    if (options->address[0] == '\0')
        find_address(options->coordinators, options->address);
    if (options->host[0] == '\0' && gethostname(options->host, sizeof options->host - 1) != 0)
        return err_errno(err, "cannot find out this host's name; say --host-name");
    if (options->slots == 0) {
        long processors = sysconf(_SC_NPROCESSORS_ONLN);
        options->slots = processors < 1 ? 1 : processors > TIDE_LOCAL_RANKS_MAX ? TIDE_LOCAL_RANKS_MAX : (uint32_t)processors;
    }
    return options->step[0] != '\0' ? TIDE_OK : find_step(options->step, err);
}

static void ports_path(const struct dirs *dirs, char *path, size_t size)
{
    snprintf(path, size, "%s/ports", dirs->state);
}

void host_ports_load(const struct dirs *dirs, uint32_t *mesh_port, uint32_t *log_port)
{
    char path[TIDE_PATH_MAX + 16], *data = NULL;
    size_t bytes = 0;
    unsigned mesh = 0, log = 0;
    ports_path(dirs, path, sizeof path);
    if (fsx_read(path, PORTS_FILE_MAX, &data, &bytes, NULL) == TIDE_OK && sscanf(data, "%u %u", &mesh, &log) == 2 &&
        mesh <= UINT16_MAX && log <= UINT16_MAX) {
        *mesh_port = mesh;
        *log_port = log;
    }
    mem_free(data);
}

void host_ports_save(const struct dirs *dirs, uint32_t mesh_port, uint32_t log_port)
{
    char path[TIDE_PATH_MAX + 16], text[32];
    struct err err = {0};
    ports_path(dirs, path, sizeof path);
    int n = snprintf(text, sizeof text, "%u %u\n", mesh_port, log_port);
    if (fsx_replace(path, text, (size_t)n, PORTS_FILE_MODE, &err) != TIDE_OK)
        log_warn("%s", err.text);
}

uint64_t host_arena_max(const char *path)
{
    struct statvfs info;
    if (statvfs(path, &info) != 0)
        return 0;
    return (uint64_t)info.f_blocks * info.f_frsize / 2;
}
