/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/cut/self.h"

#include <fcntl.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "ckpt/client/mpi/link.h"
#include "ckpt/cut/channel.h"
#include "ckpt/wire/local.h"

#define LOG_BYTES ((size_t)64 << 20)

int rank;
_Atomic bool right = true;
static struct control_page *page;
unsigned char *channel_log; /* what was appended, behind a head */
size_t logged;
unsigned entries;

struct side *side;

void check(bool fact, const char *text)
{
    if (!fact)
        fprintf(stderr, "cut_scripted: rank %d: not so: %s\n", rank, text);
    if (!fact)
        right = false;
}

void *shared_memory(const char *path, size_t bytes)
{
    int fd = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (path && (fd < 0 || ftruncate(fd, (off_t)bytes) != 0))
        return NULL;
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (path ? 0 : MAP_ANONYMOUS), fd, 0);
    if (fd >= 0)
        close(fd);
    return at == MAP_FAILED ? NULL : at;
}

void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Both ranks are here. The other may need MPI's progress of this one to get here. */
void meet(void)
{
    static unsigned meetings;
    int found;
    meetings++;
    side->arrived++;
    while (side->arrived < 2 * meetings) {
        MPI_Iprobe(1 - rank, 0, MPI_COMM_WORLD, &found, MPI_STATUS_IGNORE);
        nap();
    }
}

/* ---- the host ---- */

static enum tide_status append(void *context, const void *entry, size_t bytes)
{
    (void)context;
    if (logged + bytes > LOG_BYTES)
        return TIDE_E_LIMIT;
    memcpy(channel_log + logged, entry, bytes);
    logged += bytes;
    entries++;
    return TIDE_OK;
}

/* No story is about it. */
static void give_up(void *context, uint32_t result, const char *text)
{
    (void)context;
    (void)result;
    (void)text;
}

void attach(unsigned flags)
{
    static struct tide_mpi_host host;
    page = shared_memory(NULL, CONTROL_PAGE_BYTES);
    channel_log = malloc(LOG_BYTES);
    CHECK(page != NULL && channel_log != NULL);
    atomic_store(&page->armed_step, STEP_NONE);
    host = (struct tide_mpi_host){.version = TIDE_MPI_LINK_VERSION,
                                  .rank = (uint32_t)rank,
                                  .world_size = 2,
                                  .page = page,
                                  .flags = flags,
                                  .append = append,
                                  .give_up = give_up};
    CHECK(tide_mpi_attach(&host));
}

static void told(void)
{
    atomic_fetch_add(&page->call_epoch, 1);
    tide_mpi_poll();
}

static void arm(uint64_t epoch)
{
    atomic_store(&page->armed_step, STEP_NEXT);
    atomic_store(&page->armed_epoch, epoch);
    told();
    CHECK(atomic_load(&page->polling_epoch) == epoch);
}

static void go(uint64_t epoch)
{
    atomic_store(&page->go_epoch, epoch);
    told();
}

char why[512];
void (*while_locked)(void);

bool record(uint64_t epoch)
{
    struct tide_mpi_comm comms[8];
    struct cut_comm head[8];
    why[0] = '\0';
    bool may = tide_mpi_may_record(why, sizeof why) == TIDE_OK;
    size_t count = tide_mpi_comms(comms, 8);
    for (size_t i = 0; i < count && i < 8; i++) {
        head[i] = (struct cut_comm){.id = comms[i].id, .collectives = comms[i].collectives, .size = comms[i].size};
        memcpy(head[i].name, comms[i].name, sizeof head[i].name);
    }
    cut_channel_print_head(channel_log, head, count < 8 ? count : 8);
    logged = cut_channel_head_bytes(count < 8 ? count : 8);
    if (while_locked)
        while_locked();
    atomic_store(&page->armed_step, STEP_TAKEN);
    tide_mpi_flip(epoch, may);
    return may;
}

void order_flip(uint64_t epoch)
{
    atomic_store(&page->flip_epoch, epoch);
    atomic_fetch_add(&page->call_epoch, 1);
}

bool has_flipped(uint64_t epoch)
{
    return atomic_load(&page->epoch) == epoch;
}

static void settle(uint64_t epoch)
{
    atomic_store(&page->settled_epoch, epoch);
    told();
}

static void closed(uint64_t epoch)
{
    atomic_store(&page->closed_epoch, epoch);
    told();
}

/* Both are in `epoch`, and it is over. */
void end(uint64_t epoch)
{
    meet();
    tide_mpi_poll();
    meet();
    settle(epoch);
    meet();
    closed(epoch);
}

void begin(uint64_t epoch)
{
    arm(epoch);
    meet();
    go(epoch);
}

void refused(uint64_t epoch, const char *text)
{
    begin(epoch);
    CHECK(!record(epoch));
    check(strstr(why, text) != NULL, text);
    if (strstr(why, text) == NULL)
        fprintf(stderr, "cut_scripted: it says \"%s\"\n", why);
    end(epoch);
}

void accepted(uint64_t epoch)
{
    begin(epoch);
    check(record(epoch), why[0] ? why : "accepted");
    end(epoch);
}
