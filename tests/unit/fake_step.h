/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_UNIT_FAKE_STEP_H
#define TESTS_UNIT_FAKE_STEP_H

/* A step process in a thread, for one rank: it speaks ckpt/wire/local.h and does as the test says. */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ckpt/wire/local.h"
#include "tests/unit/slots.h"

#define FAKE_WAIT_MS 100

enum fake_mood { FAKE_KIND, FAKE_SILENT, FAKE_REFUSES_HELLO, FAKE_REFUSES_ROOM, FAKE_OTHER_VERSION, FAKE_HANGS_UP };

struct fake_step {
    char *dir;
    struct control_page *page;
    int listener, stop[2];
    pthread_t thread;
    _Atomic int mood;
    /* What RESTORE_ASK is answered, by attempt. */
    struct local_message answers[4];
    _Atomic unsigned answer_count;
    _Atomic unsigned ahead; /* reservations asked for before they were needed */
    _Atomic uint64_t ahead_bytes;
    _Atomic unsigned waits; /* times RESTORE_WAIT is said first, FAKE_WAIT_MS apart */
    /* What was seen. */
    _Atomic unsigned seen[LOCAL_NEXT + 1];
    struct local_message bad; /* the last RESTORE_BAD */
    struct local_message reserved; /* the last RESERVE */
    struct local_message marks;  /* the last MARKS … */
    struct control_channel arriving; /* … and what leads to the rank; comm 0: no answer but a refusal */
    struct local_message shared; /* the last SHARE_GIVE, which is what SHARE_ASK gets */
    _Atomic uint64_t next_generation; /* what LEFT is answered; 0: it is refused */
    _Atomic int mapped_at_left; /* files of the arena that this process had mapped then, but for the fake's own page */
    _Atomic int late_share; /* before it, an answer to the question before: 1: OK, 2: refused */
};

static inline struct control_page *fake_page(const char *dir, uint32_t rank, uint32_t world_size, uint64_t generation)
{
    char path[256];
    snprintf(path, sizeof path, "%s/" CONTROL_FILE_FORMAT, dir, rank);
    unlink(path);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, CONTROL_PAGE_BYTES), 0);
    struct control_page *page = mmap(NULL, CONTROL_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(page != MAP_FAILED);
    close(fd);
    page->magic = CONTROL_MAGIC;
    page->generation = generation;
    page->rank = rank;
    page->world_size = world_size;
    atomic_store(&page->armed_step, STEP_NONE);
    return page;
}

static inline void fake_send(int fd, enum local_type type, enum tide_status status, const char *text)
{
    struct local_message m = {.magic = LOCAL_MAGIC, .type = type, .status = status};
    text_copy(m.text, sizeof m.text, text);
    (void)!send(fd, &m, sizeof m, MSG_NOSIGNAL);
}

static inline int fake_make_slots(struct fake_step *step, const struct local_message *m)
{
    char path[256];
    int made = 1;
    for (unsigned s = 0; s < SLOTS; s++) {
        snprintf(path, sizeof path, "%s/" SLOT_FILE_FORMAT, step->dir, m->rank, s);
        made &= slot_reserve(path, m->bytes, NULL) == TIDE_OK;
    }
    return made;
}

static inline void fake_reserve(struct fake_step *step, int fd, const struct local_message *m)
{
    step->reserved = *m;
    if (step->mood == FAKE_REFUSES_ROOM)
        fake_send(fd, LOCAL_REFUSED, TIDE_E_NOSPACE, "the arena of node n1 is full");
    else if (fake_make_slots(step, m))
        fake_send(fd, LOCAL_GRANTED, TIDE_OK, "");
}

static inline void fake_share(struct fake_step *step, int fd, const struct local_message *m)
{
    struct local_message answer = step->shared;
    answer.type = answer.type == 0 ? LOCAL_REFUSED : LOCAL_SHARED;
    answer.status = answer.type == LOCAL_REFUSED ? TIDE_E_TIMEOUT : TIDE_OK;
    answer.magic = LOCAL_MAGIC;
    answer.question = m->question;
    if (answer.type == LOCAL_REFUSED)
        text_copy(answer.text, sizeof answer.text, "nobody gave it");
    if (step->late_share) {
        struct local_message late = answer;
        late.type = step->late_share == 1 ? LOCAL_SHARED : LOCAL_REFUSED;
        late.status = step->late_share == 1 ? TIDE_OK : TIDE_E_TIMEOUT;
        late.question = m->question - 1;
        memset(late.text, 'x', TIDE_TEXT_MAX);
        (void)!send(fd, &late, sizeof late, MSG_NOSIGNAL);
    }
    (void)!send(fd, &answer, sizeof answer, MSG_NOSIGNAL);
}

static inline void fake_marks(struct fake_step *step, int fd, const struct local_message *m)
{
    struct local_message answer = {.magic = LOCAL_MAGIC, .type = LOCAL_MARKED, .question = m->question};
    step->marks = *m;
    if (m->slot == 0)
        return;
    step->page->marks.arriving_count = 1;
    step->page->marks.arriving[0] = step->arriving;
    if (step->arriving.comm == 0) {
        answer.type = LOCAL_REFUSED;
        answer.status = TIDE_E_TIMEOUT;
    }
    (void)!send(fd, &answer, sizeof answer, MSG_NOSIGNAL);
}

static inline int fake_mapped(const struct fake_step *step)
{
    char line[512];
    int count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
        count += strstr(line, step->dir) != NULL;
    if (maps != NULL)
        fclose(maps);
    return count - 1;
}

static inline void fake_left(struct fake_step *step, int fd, const struct local_message *m)
{
    struct local_message answer = {.magic = LOCAL_MAGIC, .type = LOCAL_RESTORE_WAIT, .question = m->question};
    step->mapped_at_left = fake_mapped(step);
    (void)!send(fd, &answer, sizeof answer, MSG_NOSIGNAL);
    answer.type = step->next_generation != 0 ? LOCAL_NEXT : LOCAL_REFUSED;
    answer.status = step->next_generation != 0 ? TIDE_OK : TIDE_E_STALE;
    answer.generation = step->next_generation;
    if (step->next_generation != 0) {
        munmap(step->page, CONTROL_PAGE_BYTES);
        step->page = fake_page(step->dir, 1, 2, step->next_generation);
        step->page->may_stay = 1;
    }
    (void)!send(fd, &answer, sizeof answer, MSG_NOSIGNAL);
}

static inline void fake_answer(struct fake_step *step, int fd, const struct local_message *m)
{
    switch (m->type) {
    case LOCAL_HELLO:
        if (step->mood == FAKE_REFUSES_HELLO)
            fake_send(fd, LOCAL_REFUSED, TIDE_E_STALE, "generation 3 is over");
        else if (step->mood == FAKE_OTHER_VERSION)
            (void)!send(fd, "TID2", 4, MSG_NOSIGNAL);
        else
            fake_send(fd, LOCAL_WELCOME, TIDE_OK, "");
        break;
    case LOCAL_RESERVE:
        fake_reserve(step, fd, m);
        break;
    case LOCAL_RESTORE_ASK:
        for (unsigned i = 0; i < step->waits; i++) {
            fake_send(fd, LOCAL_RESTORE_WAIT, TIDE_OK, "");
            poll(NULL, 0, FAKE_WAIT_MS);
        }
        if (m->attempt > step->answer_count) {
            fake_send(fd, LOCAL_REFUSED, TIDE_E_CORRUPT, "no tier has a valid copy");
        } else {
            struct local_message answer = step->answers[m->attempt - 1];
            answer.magic = LOCAL_MAGIC;
            answer.attempt = m->attempt;
            (void)!send(fd, &answer, sizeof answer, MSG_NOSIGNAL);
        }
        break;
    case LOCAL_LEFT:
        fake_left(step, fd, m);
        break;
    case LOCAL_RESTORE_BAD:
        step->bad = *m;
        break;
    case LOCAL_MARKS:
        fake_marks(step, fd, m);
        break;
    case LOCAL_SHARE_GIVE:
        step->shared = *m;
        fake_share(step, fd, m);
        break;
    case LOCAL_SHARE_ASK:
        fake_share(step, fd, m);
        break;
    default:
        break;
    }
}

static inline void fake_serve(struct fake_step *step, int fd)
{
    struct local_message m;
    for (;;) {
        struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = step->stop[0], .events = POLLIN}};
        if (step->mood == FAKE_HANGS_UP || poll(p, 2, -1) < 0 || p[1].revents)
            return;
        if (recv(fd, &m, sizeof m, 0) != (ssize_t)sizeof m || m.magic != LOCAL_MAGIC || m.type > LOCAL_NEXT)
            return;
        if (m.type == LOCAL_RESERVE && m.flags & LOCAL_RESERVE_AHEAD) {
            fake_make_slots(step, &m);
            step->ahead_bytes = m.bytes;
            step->ahead++;
            continue;
        }
        if (step->mood != FAKE_SILENT && step->mood != FAKE_HANGS_UP)
            fake_answer(step, fd, &m);
        step->seen[m.type]++;
        if (step->mood == FAKE_HANGS_UP)
            return;
    }
}

static inline void *fake_main(void *argument)
{
    struct fake_step *step = argument;
    for (;;) {
        struct pollfd p[2] = {{.fd = step->listener, .events = POLLIN}, {.fd = step->stop[0], .events = POLLIN}};
        if (poll(p, 2, -1) < 0 || p[1].revents)
            return NULL;
        int fd = accept4(step->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL;
        fake_serve(step, fd);
        close(fd);
    }
}

static inline void fake_start(struct fake_step *step, uint64_t generation)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char number[32];
    *step = (struct fake_step){.dir = test_dir()};
    step->page = fake_page(step->dir, 1, 2, generation);
    snprintf(address.sun_path, sizeof address.sun_path, "%s/rank.sock", step->dir);
    step->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(step->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(step->listener, 8), 0);
    assert_int_equal(pipe2(step->stop, O_CLOEXEC), 0);
    assert_int_equal(pthread_create(&step->thread, NULL, fake_main, step), 0);
    snprintf(number, sizeof number, "%llu", (unsigned long long)generation);
    setenv(ENV_SOCKET, address.sun_path, 1);
    setenv(ENV_ARENA, step->dir, 1);
    setenv(ENV_JOB_UID, TEST_UID, 1);
    setenv(ENV_GENERATION, number, 1);
    setenv("RANK", "1", 1);
    setenv("WORLD_SIZE", "2", 1);
}

/* As after a restart of the job: a new page, the same slots. */
static inline void fake_next_generation(struct fake_step *step, uint64_t generation)
{
    char number[32];
    munmap(step->page, CONTROL_PAGE_BYTES);
    step->page = fake_page(step->dir, 1, 2, generation);
    snprintf(number, sizeof number, "%llu", (unsigned long long)generation);
    setenv(ENV_GENERATION, number, 1);
}

static inline void fake_stop(struct fake_step *step)
{
    assert_int_equal(write(step->stop[1], "x", 1), 1);
    pthread_join(step->thread, NULL);
    close(step->stop[0]);
    close(step->stop[1]);
    close(step->listener);
    munmap(step->page, CONTROL_PAGE_BYTES);
    unsetenv(ENV_SOCKET);
    test_dir_remove(step->dir);
}

/* The page is written before the message is sent: wait for the message where the test is about it. */
static inline int fake_saw(struct fake_step *step, enum local_type type, unsigned times)
{
    for (int i = 0; i < 2000 && step->seen[type] < times; i++)
        usleep(1000);
    return step->seen[type] == times;
}

static inline void fake_arm(struct fake_step *step, uint64_t cut, uint64_t at_step, uint32_t slot)
{
    atomic_store(&step->page->armed_cut, cut);
    atomic_store(&step->page->armed_attempt, 1);
    atomic_store(&step->page->armed_slot, slot);
    atomic_store(&step->page->armed_step, at_step);
}

#endif
