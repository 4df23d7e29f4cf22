/* SPDX-License-Identifier: Apache-2.0 */
/* A rank without MPI, for step.sh: does what its words say, one after the other.
 *
 *   exit N          end with status N
 *   say TEXT        a line on stdout            print N      N numbered lines on stdout
 *   sleep MS        sleep                       hang         until killed
 *   stubborn        ignore SIGTERM              wait-term    end with status 42 when SIGTERM comes
 *   signal N        send N to itself            only R       the words behind it are for local rank R alone
 *   child           leave a child behind        daemon       leave one behind that has left session and group
 *   hello           tide_init's hello; the reply's type is printed
 *   ahead BYTES     reserve, without a reply
 *   reserve BYTES   the reply's type and text   restore      ask, print what came; says "bad" once when told a slot of 1
 *   stay            ask to go over to the next generation, wait until this one is over
 *   left            say that it is left, wait for the next; its number is printed
 *   finalize        say that it is left, and close the connection
 *   env             print the environment */

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ckpt/base/mem.h"
#include "ckpt/wire/local.h"

extern char **environ;

static int step_fd = -1;
static uint64_t generation; /* 0: that of the environment */

static long number(const char *text)
{
    return text != NULL ? strtol(text, NULL, 10) : 0;
}

static void leave_behind(bool daemon_too)
{
    fflush(stdout);
    if (fork() != 0)
        return;
    if (daemon_too && (setsid() < 0 || fork() != 0))
        _exit(0);
    for (;;)
        pause();
}

static struct local_message hear(void)
{
    struct local_message reply = {0};
    if (recv(step_fd, &reply, sizeof reply, 0) <= 0)
        printf("no reply: %d\n", errno);
    return reply;
}

static struct local_message talk(struct local_message message, bool want_reply)
{
    message.magic = LOCAL_MAGIC;
    message.rank = (uint32_t)number(getenv("RANK"));
    message.pid = getpid();
    if (message.generation == 0)
        message.generation = generation != 0 ? generation : (uint64_t)number(getenv(ENV_GENERATION));
    struct local_message reply = {0};
    if (send(step_fd, &message, sizeof message, 0) < 0)
        printf("no send: %d\n", errno);
    return want_reply ? hear() : reply;
}

static void hello(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    text_copy(address.sun_path, sizeof address.sun_path, getenv(ENV_SOCKET));
    step_fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    if (connect(step_fd, (struct sockaddr *)&address, sizeof address) != 0)
        printf("cannot connect: %d\n", errno);
    struct local_message old = {.type = LOCAL_HELLO, .generation = 999};
    printf("old generation: type %u status %u\n", talk(old, true).type, TIDE_E_STALE);
    struct local_message reply = talk((struct local_message){.type = LOCAL_HELLO}, true);
    printf("hello: type %u %s\n", reply.type, reply.text);
}

static void reserve(const char *bytes)
{
    struct local_message reply = talk((struct local_message){.type = LOCAL_RESERVE, .bytes = strtoull(bytes, NULL, 10)}, true);
    printf("reserve: type %u status %u %s\n", reply.type, reply.status, reply.text);
}

static void ahead(const char *value)
{
    talk((struct local_message){.type = LOCAL_RESERVE, .flags = LOCAL_RESERVE_AHEAD, .bytes = (uint64_t)number(value)}, false);
}

static void restore(void)
{
    for (uint32_t attempt = 1; attempt < 4; attempt++) {
        struct local_message reply = talk((struct local_message){.type = LOCAL_RESTORE_ASK, .attempt = attempt}, true);
        unsigned waits = 0;
        for (; reply.type == LOCAL_RESTORE_WAIT && reply.attempt == attempt; waits++)
            reply = hear();
        printf("restore %u: type %u slot %u cut %llu tier %u %s%s\n", attempt, reply.type, reply.slot, (unsigned long long)reply.cut,
               reply.flags, reply.text, waits > 0 ? "after a while" : "");
        if (reply.type != LOCAL_RESTORE_FROM || reply.slot != 1)
            return;
        struct local_message bad = {.type = LOCAL_RESTORE_BAD, .slot = reply.slot};
        text_copy(bad.text, sizeof bad.text, "chunk 7 is bad");
        talk(bad, false);
    }
}

static void stay(void)
{
    char path[TIDE_PATH_MAX];
    snprintf(path, sizeof path, "%s/" CONTROL_FILE_FORMAT, getenv(ENV_ARENA), (unsigned)number(getenv("RANK")));
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct control_page *page = mmap(NULL, CONTROL_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || page == MAP_FAILED) {
        printf("no page: %d\n", errno);
        return;
    }
    atomic_store(&page->stays, page->may_stay);
    puts("stays");
    fflush(stdout);
    while (atomic_load(&page->over) == 0)
        usleep(1000);
    munmap(page, CONTROL_PAGE_BYTES);
    close(fd);
}

static void left(void)
{
    struct local_message late = talk((struct local_message){.type = LOCAL_RESTORE_ASK}, true), reply;
    printf("asked late: type %u status %u\n", late.type, late.status);
    fflush(stdout);
    reply = talk((struct local_message){.type = LOCAL_LEFT, .question = 7}, true);
    while (reply.type == LOCAL_RESTORE_WAIT || (reply.type == LOCAL_REFUSED && reply.question != 7))
        reply = hear();
    generation = reply.generation;
    printf("next: type %u generation %llu\n", reply.type, (unsigned long long)reply.generation);
}

/* As soon as the step has answered: then it has taken it. */
static void finalize(void)
{
    struct local_message reply = talk((struct local_message){.type = LOCAL_LEFT, .question = 7}, true);
    while (reply.question != 7)
        reply = hear();
    close(step_fd);
}

static void print_environ(void)
{
    for (char **entry = environ; *entry != NULL; entry++)
        puts(*entry);
}

static void on_term(int signal_number)
{
    (void)signal_number;
    _exit(42);
}

/* Returns how many words were used. */
static int act(char **word)
{
    const char *verb = word[0], *value = word[1];
    if (strcmp(verb, "exit") == 0) {
        fflush(stdout);
        exit((int)number(value));
    }
    if (strcmp(verb, "say") == 0)
        puts(value);
    else if (strcmp(verb, "print") == 0)
        for (long i = 0; i < number(value); i++)
            printf("line %08ld\n", i);
    else if (strcmp(verb, "sleep") == 0)
        usleep((useconds_t)number(value) * 1000);
    else if (strcmp(verb, "signal") == 0)
        kill(getpid(), (int)number(value));
    else if (strcmp(verb, "ahead") == 0)
        ahead(value);
    else if (strcmp(verb, "reserve") == 0)
        reserve(value);
    else
        return 0;
    return 2;
}

static int act_alone(const char *verb)
{
    if (strcmp(verb, "hang") == 0)
        for (;;)
            pause();
    else if (strcmp(verb, "stubborn") == 0)
        signal(SIGTERM, SIG_IGN);
    else if (strcmp(verb, "wait-term") == 0)
        signal(SIGTERM, on_term);
    else if (strcmp(verb, "child") == 0 || strcmp(verb, "daemon") == 0)
        leave_behind(strcmp(verb, "daemon") == 0);
    else if (strcmp(verb, "hello") == 0)
        hello();
    else if (strcmp(verb, "restore") == 0)
        restore();
    else if (strcmp(verb, "stay") == 0)
        stay();
    else if (strcmp(verb, "left") == 0)
        left();
    else if (strcmp(verb, "finalize") == 0)
        finalize();
    else if (strcmp(verb, "env") == 0)
        print_environ();
    else
        return -1;
    return 1;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc;) {
        if (strcmp(argv[i], "only") == 0 && i + 1 < argc) {
            if (number(argv[i + 1]) != number(getenv("LOCAL_RANK")))
                return 0;
            i += 2;
            continue;
        }
        int used = i + 1 < argc ? act(argv + i) : 0;
        used = used != 0 ? used : act_alone(argv[i]);
        if (used < 0) {
            fprintf(stderr, "step_rank: no word '%s'\n", argv[i]);
            return 2;
        }
        fflush(stdout);
        i += used;
    }
    return 0;
}
