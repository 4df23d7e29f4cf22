/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/thread.h"
#include "ckpt/client/client.h"

/* Copies made while the program runs on. Pages are protected against writes (userfaultfd); a thread of ours copies them and
 * takes the protection away, piece by piece in order, and a piece that the program wants to write to at once. So what is
 * copied is what was there when all was protected.
 *
 * Bytes are moved by pwrite, not by memcpy: where the program has unmapped its memory after all, that is an error instead
 * of the end of the process. The descriptor must see writes by the kernel too (a read() into the region); one that only sees
 * the program's own would make them fail, so without that right nothing is protected.
 *
 * fork: the child's copy of the memory is not protected, nor has it this thread. It closes the descriptor, which would
 * otherwise outlive ours, and with it every wait for us. */

#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13) /* Linux 6.4 */
#endif
#ifndef USERFAULTFD_IOC_NEW
#define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00) /* Linux 6.1 */
#endif

#define DEVICE_FILE "/dev/userfaultfd"   /* the right to it may be given where the system call is refused */
#define PIECE_BYTES ((uintptr_t)2 << 20) /* protected and let go together: a huge page stays one */
#define BITE_BYTES ((size_t)256 << 10)   /* copied between two looks whether the program waits */
#define EVENTS_MAX 16
#define CHANGES_MAX 1000 /* of the program's mappings, while one ioctl is tried */
#define CHANGE_MS 10     /* until we are told of one */

struct range {
    struct on_write_range what;
    char name[TIDE_NAME_MAX + 1];
    size_t pieces, done;   /* in order, all before `done` are copied */
    unsigned char *copied; /* by piece */
};

struct on_write {
    struct tide *tide;
    pthread_t thread;
    int uffd, file;
    struct range *ranges;
    size_t count;
    uint64_t bytes, waits;
    struct err why; /* status OK: nothing has gone wrong */
};

static _Atomic int newest_uffd = -1; /* for a forked child, which knows no handle */
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void close_in_child(void)
{
    int fd = atomic_exchange(&newest_uffd, -1);
    if (fd >= 0)
        close(fd);
}

static void watch_forks(void)
{
    pthread_atfork(NULL, NULL, close_in_child);
}

/* ---- pieces: of two megabytes, by address ---- */

static uintptr_t start_of(const struct range *r, size_t piece)
{
    uintptr_t first = (uintptr_t)r->what.from, at = (first / PIECE_BYTES + piece) * PIECE_BYTES;
    return at > first ? at : first;
}

static uintptr_t end_of(const struct range *r, size_t piece)
{
    uintptr_t end = (uintptr_t)r->what.from + r->what.bytes,
              at = ((uintptr_t)r->what.from / PIECE_BYTES + piece + 1) * PIECE_BYTES;
    return at < end ? at : end;
}

static size_t pieces_of(const struct on_write_range *what)
{
    uintptr_t from = (uintptr_t)what->from;
    return (from + what->bytes - 1) / PIECE_BYTES - from / PIECE_BYTES + 1;
}

static struct range *range_at(const struct on_write *w, uintptr_t at, size_t *ret_piece)
{
    for (size_t i = 0; i < w->count; i++) {
        uintptr_t from = (uintptr_t)w->ranges[i].what.from;
        if (at < from || at - from >= w->ranges[i].what.bytes)
            continue;
        *ret_piece = at / PIECE_BYTES - from / PIECE_BYTES;
        return &w->ranges[i];
    }
    return NULL;
}

/* ---- what the kernel says ---- */

static void fail(struct on_write *w, const struct range *r, const char *what)
{
    if (w->why.status == TIDE_OK)
        (void)err_set(&w->why, TIDE_E_INVALID,
                      "rank %u: region \"%s\" %s while it was copied; keep its memory until tide_unregister has returned",
                      w->tide->rank, r->name, what);
}

static void changed(struct on_write *w, uintptr_t from, uintptr_t end, const char *what)
{
    for (size_t i = 0; i < w->count; i++) {
        const struct range *r = &w->ranges[i];
        for (size_t k = r->done; k < r->pieces; k++)
            if (!r->copied[k] && start_of(r, k) < end && from < end_of(r, k))
                fail(w, r, what);
    }
}

static void finish_piece(struct on_write *w, struct range *r, size_t piece);

static void take_event(struct on_write *w, const struct uffd_msg *m)
{
    size_t piece = 0;
    struct range *r;
    switch (m->event) {
    case UFFD_EVENT_PAGEFAULT:
        r = range_at(w, (uintptr_t)m->arg.pagefault.address, &piece);
        w->waits++;
        if (r != NULL)
            finish_piece(w, r, piece);
        break;
    case UFFD_EVENT_UNMAP:
        changed(w, (uintptr_t)m->arg.remove.start, (uintptr_t)m->arg.remove.end, "was unmapped");
        break;
    case UFFD_EVENT_REMOVE:
        changed(w, (uintptr_t)m->arg.remove.start, (uintptr_t)m->arg.remove.end, "was thrown away (madvise)");
        break;
    case UFFD_EVENT_REMAP:
        changed(w, (uintptr_t)m->arg.remap.from, (uintptr_t)(m->arg.remap.from + m->arg.remap.len), "was moved (mremap)");
        break;
    default:
        break;
    }
}

/* Nobody is kept waiting by more than the work of one event. */
static void take_events(struct on_write *w)
{
    struct uffd_msg events[EVENTS_MAX];
    ssize_t n = read(w->uffd, events, sizeof events);
    for (size_t i = 0; n > 0 && i < (size_t)n / sizeof events[0]; i++)
        take_event(w, &events[i]);
}

/* ---- copying ---- */

static void copy(struct on_write *w, const struct range *r, uintptr_t from, size_t bytes)
{
    uint64_t to = r->what.to + (from - (uintptr_t)r->what.from);
    while (bytes > 0) {
        /* Not the library's function, which sanitizers take for a read of the program's: there is no race, the kernel keeps
         * writers away. */
        ssize_t n = syscall(SYS_pwrite64, w->file, (const void *)from, bytes, (off_t)to);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            fail(w, r, n < 0 && errno == EFAULT ? "was unmapped" : "could not be written into the slot");
            return;
        }
        from += (size_t)n;
        to += (uint64_t)n;
        bytes -= (size_t)n;
        w->bytes += (uint64_t)n;
    }
}

/* Whoever waits for these pages goes on. While the program changes its mappings the kernel asks for another try. A fault
 * that is met then has its turn when its piece has. */
static void let_go(struct on_write *w, const struct range *r, uintptr_t from, uintptr_t end)
{
    struct uffdio_writeprotect p = {.range = {.start = from, .len = end - from}};
    struct uffd_msg m;
    for (int i = 0; i < CHANGES_MAX && w->why.status == TIDE_OK; i++) {
        if (ioctl(w->uffd, UFFDIO_WRITEPROTECT, &p) == 0)
            return;
        if (errno == ENOENT) {
            fail(w, r, "was unmapped");
            return;
        }
        if (errno != EAGAIN)
            break;
        struct pollfd soon = {.fd = w->uffd, .events = POLLIN};
        if (poll(&soon, 1, CHANGE_MS) > 0 && read(w->uffd, &m, sizeof m) == (ssize_t)sizeof m &&
            m.event != UFFD_EVENT_PAGEFAULT)
            take_event(w, &m);
    }
    fail(w, r, "could not be given back to the program");
}

/* All of it, without a look at anything else: somebody waits. */
static void finish_piece(struct on_write *w, struct range *r, size_t piece)
{
    uintptr_t from = start_of(r, piece), end = end_of(r, piece);
    if (!r->copied[piece])
        copy(w, r, from, end - from);
    if (w->why.status == TIDE_OK)
        let_go(w, r, from, end);
    r->copied[piece] = 1; /* only now: a change of the mapping that came before has failed it */
}

/* The next piece, in bites between which others go first. */
static void next_piece(struct on_write *w, struct range *r)
{
    size_t piece = r->done;
    uintptr_t end = end_of(r, piece);
    for (uintptr_t at = start_of(r, piece); at < end && !r->copied[piece] && w->why.status == TIDE_OK; at += BITE_BYTES) {
        size_t bytes = end - at < BITE_BYTES ? end - at : BITE_BYTES;
        copy(w, r, at, bytes);
        take_events(w);
        if (at + bytes == end && !r->copied[piece] && w->why.status == TIDE_OK) {
            let_go(w, r, start_of(r, piece), end);
            r->copied[piece] = 1;
        }
    }
    r->done++;
}

static void release_range(const struct on_write *w, uintptr_t from, uintptr_t end)
{
    struct uffdio_range range = {.start = from, .len = end - from};
    ioctl(w->uffd, UFFDIO_UNREGISTER, &range);
    ioctl(w->uffd, UFFDIO_WAKE, &range);
}

/* Takes what is left of the protection away, and lets everybody go on, whatever has gone wrong. Where parts of a range are
 * mapped no longer, or by others, the rest is still to be found. */
static void release_all(struct on_write *w)
{
    for (size_t i = 0; i < w->count; i++) {
        const struct range *r = &w->ranges[i];
        if (w->why.status == TIDE_OK)
            release_range(w, (uintptr_t)r->what.from, (uintptr_t)r->what.from + r->what.bytes);
        for (size_t k = 0; w->why.status != TIDE_OK && k < r->pieces; k++)
            release_range(w, start_of(r, k), end_of(r, k));
    }
    atomic_store(&newest_uffd, -1);
    close(w->uffd);
    w->uffd = -1;
}

static void *run(void *context)
{
    struct on_write *w = context;
    struct record *record = &w->tide->record;
    for (size_t i = 0; i < w->count; i++)
        while (w->why.status == TIDE_OK && w->ranges[i].done < w->ranges[i].pieces)
            next_piece(w, &w->ranges[i]);
    release_all(w);
    pthread_mutex_lock(&record->lock);
    record->copy_bytes += w->bytes;
    record->copy_waits = w->waits;
    pthread_mutex_unlock(&record->lock);
    record_end(w->tide, w->why.status, &w->why);
    return NULL;
}

/* ---- beginning and end ---- */

static int new_uffd(void)
{
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), refused = errno;
    if (fd >= 0)
        return fd;
    int device = open(DEVICE_FILE, O_RDWR | O_CLOEXEC);
    if (device < 0) {
        errno = refused;
        return -1;
    }
    fd = ioctl(device, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
    close(device);
    if (fd < 0)
        errno = refused;
    return fd;
}

static int protect(struct on_write *w)
{
    struct uffdio_api api = {.api = UFFD_API,
                             .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_UNPOPULATED |
                                         UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMOVE | UFFD_FEATURE_EVENT_REMAP};
    w->uffd = new_uffd();
    atomic_store(&newest_uffd, w->uffd);
    if (w->uffd < 0 || ioctl(w->uffd, UFFDIO_API, &api) != 0)
        return errno;
    for (size_t i = 0; i < w->count; i++) {
        const struct on_write_range *what = &w->ranges[i].what;
        struct uffdio_register r = {.range = {.start = (uintptr_t)what->from, .len = what->bytes},
                                    .mode = UFFDIO_REGISTER_MODE_WP};
        if (ioctl(w->uffd, UFFDIO_REGISTER, &r) != 0)
            return errno;
    }
    for (size_t i = 0; i < w->count; i++) {
        const struct on_write_range *what = &w->ranges[i].what;
        struct uffdio_writeprotect p = {.range = {.start = (uintptr_t)what->from, .len = what->bytes},
                                        .mode = UFFDIO_WRITEPROTECT_MODE_WP};
        if (ioctl(w->uffd, UFFDIO_WRITEPROTECT, &p) != 0)
            return errno;
    }
    return 0;
}

static void destroy(struct on_write *w)
{
    for (size_t i = 0; i < w->count; i++)
        mem_free(w->ranges[i].copied);
    if (w->uffd >= 0) {
        atomic_store(&newest_uffd, -1);
        close(w->uffd);
    }
    if (w->file >= 0)
        close(w->file);
    mem_free(w->ranges);
    mem_free(w);
}

static struct on_write *create(struct tide *tide, const struct on_write_range *ranges, size_t count)
{
    struct on_write *w = mem_try_alloc(sizeof *w);
    if (w == NULL)
        return NULL;
    w->tide = tide;
    w->uffd = w->file = -1;
    w->why = (struct err){.status = TIDE_OK, .text = ""};
    w->ranges = mem_try_array(count, sizeof *w->ranges);
    for (; w->ranges != NULL && w->count < count; w->count++) {
        struct range *r = &w->ranges[w->count];
        r->what = ranges[w->count];
        text_copy(r->name, sizeof r->name, r->what.name);
        r->pieces = pieces_of(&r->what);
        r->copied = mem_try_array(r->pieces, 1);
        if (r->copied == NULL)
            break;
    }
    if (w->count < count) {
        destroy(w);
        return NULL;
    }
    return w;
}

int on_write_begin(struct tide *tide, const char *path, const struct on_write_range *ranges, size_t count)
{
    struct on_write *w = create(tide, ranges, count);
    if (w == NULL)
        return ENOMEM;
    pthread_once(&fork_once, watch_forks);
    w->file = open(path, O_WRONLY | O_CLOEXEC);
    int refused = w->file < 0 ? errno : protect(w);
    if (refused == 0) {
        pthread_mutex_lock(&tide->record.lock);
        tide->record.copy = RECORD_COPY_ON_WRITE;
        tide->record.parts++;
        pthread_mutex_unlock(&tide->record.lock);
        refused = thread_begin(&w->thread, run, w);
        if (refused == 0) {
            tide->on_write = w;
            return 0;
        }
        pthread_mutex_lock(&tide->record.lock);
        tide->record.parts--; /* never the last: the rank's own is left */
        pthread_mutex_unlock(&tide->record.lock);
    }
    destroy(w);
    return refused;
}

void on_write_end(struct tide *tide)
{
    struct on_write *w = tide->on_write;
    tide->on_write = NULL;
    if (w == NULL || getpid() != tide->pid) /* a forked child has the memory and not the thread */
        return;
    pthread_join(w->thread, NULL);
    destroy(w);
}

/* ---- whose memory ---- */

/* A mapping that others share is written to without our knowledge. */
int on_write_refused(const void *data, size_t bytes)
{
    char line[512], mode[5];
    unsigned long from, end;
    int refused = 0, whole = 1; /* of a line longer than ours only the beginning counts */
    FILE *in = fopen("/proc/self/maps", "re");
    if (in == NULL)
        return errno;
    while (refused == 0 && fgets(line, sizeof line, in) != NULL) {
        if (whole && sscanf(line, "%lx-%lx %4s", &from, &end, mode) == 3 && mode[3] == 's' &&
            from < (uintptr_t)data + bytes && (uintptr_t)data < end)
            refused = EINVAL;
        whole = strchr(line, '\n') != NULL;
    }
    fclose(in);
    return refused;
}
