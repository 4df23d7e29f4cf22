/* SPDX-License-Identifier: Apache-2.0 */

/* A rank's slot from the memory of another agent into this one's, over loopback: asked for, sent, hashed, written; and the processor
 * time of both sides together. The limit of what is plain is the same file sent through a socket over loopback by the kernel (sendfile) to
 * one who throws it away; of TLS, AES-128-GCM of as much, one side for the speed and both for the processor. Arenas in shared memory. */

#include <assert.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "agent/rpc/copy.h"
#include "tests/bench/measure.h"
#include "tests/unit/slot_port.h"
#include "tests/unit/slots.h"

#define BYTES ((uint64_t)256 << 20)
#define ROUNDS 4
#define CUT 7u
#define TOKEN "0123456789abcdef0123456789abcdef"
#define RECORD_BYTES 16384 /* of TLS, at most */
#define SEND_BYTES ((size_t)128 << 10)    /* as libmicrohttpd does */
#define RECEIVE_BYTES ((size_t)512 << 10) /* as an agent does */
#define GB 1e9

static const char *token_of(void *context, const char *uid)
{
    (void)context, (void)uid;
    return TOKEN;
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The best of some rounds. */
struct cost {
    double seconds, cpu_seconds;
};

static const struct cost none = {1e9, 1e9};

static void cost_note(struct cost *cost, double began, double cpu)
{
    cost->seconds = least(cost->seconds, seconds() - began);
    cost->cpu_seconds = least(cost->cpu_seconds, cpu_seconds() - cpu);
}

struct sender {
    int listener, file;
};

static void *send_all(void *context)
{
    const struct sender *sender = context;
    for (int i = 0; i < ROUNDS; i++) {
        int to = accept(sender->listener, NULL, NULL);
        off_t at = 0;
        while (to >= 0 && (uint64_t)at < BYTES && sendfile(to, sender->file, &at, SEND_BYTES) > 0)
            continue;
        close(to);
    }
    return NULL;
}

static struct cost socket_cost(const char *arena)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof at;
    struct sender sender = {.listener = socket(AF_INET, SOCK_STREAM, 0)};
    struct cost cost = none;
    pthread_t thread;
    arena_path path;
    char *room = mem_alloc(RECEIVE_BYTES);
    slot_path(arena, 0, 0, path);
    sender.file = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(sender.file >= 0);
    assert_int_equal(bind(sender.listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(sender.listener, 1), 0);
    assert_int_equal(getsockname(sender.listener, (struct sockaddr *)&at, &length), 0);
    assert_int_equal(pthread_create(&thread, NULL, send_all, &sender), 0);
    for (int i = 0; i < ROUNDS; i++) {
        double began = seconds(), cpu = cpu_seconds();
        int from = socket(AF_INET, SOCK_STREAM, 0);
        uint64_t got = 0;
        assert_int_equal(connect(from, (struct sockaddr *)&at, sizeof at), 0);
        for (ssize_t n; (n = recv(from, room, RECEIVE_BYTES, 0)) > 0;)
            got += (uint64_t)n;
        assert_true(got >= BYTES);
        close(from);
        cost_note(&cost, began, cpu);
    }
    pthread_join(thread, NULL);
    close(sender.listener);
    close(sender.file);
    mem_free(room);
    return cost;
}

static struct cost cipher_cost(void)
{
    unsigned char *record = mem_alloc(RECORD_BYTES), key[32] = {1}, nonce[12] = {2};
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    struct cost cost = none;
    for (int i = 0; i < ROUNDS; i++) {
        double began = seconds(), cpu = cpu_seconds();
        for (uint64_t at = 0; at < BYTES; at += RECORD_BYTES) {
            int n = 0;
            assert_int_equal(EVP_EncryptInit_ex(context, EVP_aes_128_gcm(), NULL, key, nonce), 1);
            assert_int_equal(EVP_EncryptUpdate(context, record, &n, record, RECORD_BYTES), 1);
            assert_int_equal(EVP_EncryptFinal_ex(context, record, &n), 1);
        }
        cost_note(&cost, began, cpu);
    }
    EVP_CIPHER_CTX_free(context);
    mem_free(record);
    return cost;
}

static struct cost fetch_cost(const struct copy_source *source, const char *dir, bool there)
{
    struct cost cost = none;
    for (int i = 0; i < ROUNDS; i++) {
        arena_path path;
        char root[DIGEST_HEX_CHARS + 1];
        const struct copy_place place = {.dir = dir, .job_uid = TEST_UID, .rank = 0, .cut = CUT, .most = UINT64_MAX, .keep = 1};
        slot_path(dir, 0, 0, path);
        if (!there)
            unlink(path);
        double began = seconds(), cpu = cpu_seconds();
        struct err err = {0};
        if (copy_fetch(source, &place, root, &err) != TIDE_OK)
            fail_msg("%s", err.text);
        cost_note(&cost, began, cpu);
    }
    return cost;
}

static double speed(struct cost cost)
{
    return (double)BYTES / GB / cost.seconds;
}

static double cpu_per_gib(struct cost cost)
{
    return cost.cpu_seconds * (double)(1 << 30) / (double)BYTES;
}

static void fetch(const char *arenas, const char *there, const struct port_key *key, struct cost limit, double limit_cpu)
{
    struct copy_source source = {.address = SLOT_PORT_ADDRESS, .token = TOKEN};
    struct slot_port port;
    const char *tls = key != NULL ? ", TLS" : "";
    char name[64];
    text_copy(source.pin, sizeof source.pin, key != NULL ? key->pin : "");
    slot_port_open(&port, arenas, token_of, key, &source.port);
    struct cost fresh = fetch_cost(&source, there, false), again = fetch_cost(&source, there, true);
    snprintf(name, sizeof name, "fetch into a new slot%s", tls);
    result("peer", name, speed(fresh), "GB/s", speed(limit), -1);
    snprintf(name, sizeof name, "fetch into a slot that is there%s", tls);
    result("peer", name, speed(again), "GB/s", speed(limit), -1);
    snprintf(name, sizeof name, "processor, both sides%s", tls);
    result("peer", name, cpu_per_gib(again), "s/GiB", limit_cpu, -1);
    slot_port_close(&port);
}

int main(void)
{
    static const struct test_region weights[] = {{"noise", BYTES}};
    char arena[TIDE_PATH_MAX + 1], root[DIGEST_HEX_CHARS + 1];
    struct err err = {0};
    struct port_key key;
    setenv("TIDE_TEST_ROOT", "/dev/shm", 1);
    char *arenas = test_dir(), *there = test_dir();
    snprintf(arena, sizeof arena, "%s/" TEST_UID, arenas);
    assert_int_equal(fsx_mkdirs(arena, 0700, &err), TIDE_OK);
    test_record(arena, 0, 0, CUT, weights, 1, 9);
    assert_int_equal(stage_sum(arena, 0, 0, TEST_UID, CUT, root, &err), TIDE_OK);
    char *file = mem_format("%s/port.key", there);
    assert_int_equal(port_key_load(file, &key, &err), TIDE_OK);
    mem_free(file);
    struct cost through = socket_cost(arena), cipher = cipher_cost();
    fetch(arenas, there, NULL, through, cpu_per_gib(through));
    fetch(arenas, there, &key, cipher, 2 * cpu_per_gib(cipher));
    port_key_release(&key);
    test_dir_remove(arenas);
    test_dir_remove(there);
    return 0;
}
