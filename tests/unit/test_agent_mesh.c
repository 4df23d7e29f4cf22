/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "agent/rpc/mesh.h"
#include "ckpt/base/fsx.h"
#include "ckpt/base/mem.h"

/* Two agents' meshes on one loop. */

#define HERE "127.0.0.1"
#define DESCRIPTORS 128
#define DIALS 100 /* at a time */
#define WAIT_MS 5000u

static uv_loop_t loop;
static struct mesh *one, *two;
static uint32_t port_one, port_two;
static unsigned came;
static bool believes; /* what comes */
static char last[64], from[PIN_CHARS + 1];
static char dir[64];
static struct port_key key_one, key_two; /* empty: plain */
static const char *pin_two;              /* that one expects */

static bool on_frame(void *context, const struct mesh_frame *frame, const char *pin)
{
    (void)context;
    came++;
    text_copy(from, sizeof from, pin);
    text_copy(last, sizeof last, frame->data != NULL ? frame->data : "");
    return believes;
}

static int open_both(void **state)
{
    (void)state;
    port_one = port_two = came = 0;
    believes = true;
    const struct port_key *first = key_one.pin[0] != '\0' ? &key_one : NULL, *second = key_two.pin[0] != '\0' ? &key_two : NULL;
    pin_two = key_two.pin;
    uv_loop_init(&loop);
    return mesh_create(&loop, HERE, &port_one, first, on_frame, NULL, &one, NULL) == TIDE_OK &&
                   mesh_create(&loop, HERE, &port_two, second, on_frame, NULL, &two, NULL) == TIDE_OK
               ? 0
               : -1;
}

static void make_key(const char *name, struct port_key *ret_key)
{
    char file[128];
    snprintf(file, sizeof file, "%s/%s", dir, name);
    assert_int_equal(port_key_load(file, ret_key, NULL), TIDE_OK);
}

static int open_keyed(void **state)
{
    snprintf(dir, sizeof dir, "/tmp/tidemark-mesh-XXXXXX");
    assert_non_null(mkdtemp(dir));
    make_key("one", &key_one);
    make_key("two", &key_two);
    return open_both(state);
}

static int close_both(void **state)
{
    (void)state;
    mesh_close(one);
    mesh_close(two);
    uv_run(&loop, UV_RUN_DEFAULT);
    mesh_free(one);
    mesh_free(two);
    return uv_loop_close(&loop);
}

static int close_keyed(void **state)
{
    int failed = close_both(state);
    port_key_release(&key_one);
    port_key_release(&key_two);
    return fsx_remove_tree(dir, NULL) == TIDE_OK ? failed : -1;
}

static void on_time(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

/* Turn the loop until that many frames came, or for at most that long. */
static void turn(unsigned frames, uint64_t ms)
{
    uv_timer_t timer;
    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, on_time, ms, 0);
    while (came < frames && uv_is_active((uv_handle_t *)&timer))
        uv_run(&loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&loop, UV_RUN_NOWAIT);
}

static void send_to_two(char *data)
{
    struct mesh_frame frame = {.generation = 1, .kind = MESH_FENCE, .data = data};
    text_copy(frame.uid, sizeof frame.uid, "0123456789abcdef");
    mesh_send(one, HERE, port_two, pin_two, &frame);
}

static void frames_arrive_in_order_over_one_connection(void **state)
{
    (void)state;
    char first[] = "b25l", second[] = "dHdv";
    send_to_two(first);
    send_to_two(second);
    turn(2, WAIT_MS);
    assert_int_equal(came, 2);
    assert_string_equal(last, "dHdv");
    assert_string_equal(from, key_one.pin);
}

/* A frame of the largest size is many records. */
static void a_large_frame_arrives_whole(void **state)
{
    (void)state;
    char *data = mem_alloc(MESH_DATA_MAX);
    memset(data, 'x', MESH_DATA_MAX - 1);
    send_to_two(data);
    turn(1, WAIT_MS);
    assert_int_equal(came, 1);
    assert_string_equal(from, key_one.pin);
    mem_free(data);
}

static void who_has_another_key_gets_nothing(void **state)
{
    (void)state;
    char data[] = "b25l";
    pin_two = key_one.pin; /* as if somebody else had taken the address of who should be there */
    send_to_two(data);
    turn(1, 500);
    assert_int_equal(came, 0);
    pin_two = key_two.pin;
    send_to_two(data);
    turn(1, WAIT_MS);
    assert_int_equal(came, 1);
}

/* Whether it should have, who takes the frame knows: nobody has told a pin of an agent of an older version. */
static void who_shows_no_key_is_known_to_have_shown_none(void **state)
{
    (void)state;
    char data[] = "b25l";
    pin_two = "";
    text_copy(from, sizeof from, "somebody");
    send_to_two(data);
    turn(1, WAIT_MS);
    assert_int_equal(came, 1);
    assert_string_equal(from, "");
}

static uint32_t port_of(int fd, int (*name)(int, struct sockaddr *, socklen_t *))
{
    struct sockaddr_in in = {0};
    socklen_t length = sizeof in;
    if (name(fd, (struct sockaddr *)&in, &length) != 0 || in.sin_family != AF_INET)
        return 0;
    return ntohs(in.sin_port);
}

static int peer_name(int fd, struct sockaddr *to, socklen_t *length)
{
    return getpeername(fd, to, length);
}

static int own_name(int fd, struct sockaddr *to, socklen_t *length)
{
    return getsockname(fd, to, length);
}

static int option(int fd, int level, int name)
{
    int value = 0;
    socklen_t length = sizeof value;
    assert_int_equal(getsockopt(fd, level, name, &value, &length), 0);
    return value;
}

/* A cable that is cut for a while, and a peer that is gone without a word, must not be waited for by TCP's own patience. */
static void the_silence_of_a_peer_is_bounded(void **state)
{
    (void)state;
    char data[] = "b25l";
    unsigned out = 0, in = 0;
    send_to_two(data);
    turn(1, WAIT_MS);
    for (int fd = 3; fd < DESCRIPTORS; fd++) {
        if (port_of(fd, peer_name) == port_two) {
            assert_int_equal(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), MESH_SILENCE_MS);
            out++;
        } else if (port_of(fd, own_name) == port_two && port_of(fd, peer_name) != 0) {
            assert_true(option(fd, SOL_SOCKET, SO_KEEPALIVE));
            assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), MESH_KEEPALIVE_S);
            in++;
        }
    }
    assert_int_equal(out, 1);
    assert_int_equal(in, 1);
}

static int dial_two(void)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port_two), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static bool is_cut_off(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

static void a_stranger_is_cut_off(void **state)
{
    (void)state;
    int fd = dial_two();
    char data[] = "b25l";
    assert_int_equal(write(fd, "GET / HTTP/1.1\r\n\r\n", 18), 18);
    turn(1, 200);
    assert_int_equal(came, 0);
    assert_true(is_cut_off(fd));
    close(fd);
    send_to_two(data);
    turn(1, WAIT_MS);
    assert_int_equal(came, 1);
}

static unsigned connected_to_two(void)
{
    unsigned count = 0;
    for (int fd = 3; fd < DESCRIPTORS; fd++)
        count += port_of(fd, own_name) == port_two && port_of(fd, peer_name) != 0;
    return count;
}

/* They have their room only for so long: who says nothing, and who has a key and frames that nobody here believes. */
static void who_proves_nothing_is_cut_off_in_time(void **state)
{
    (void)state;
    int fd = dial_two();
    char data[] = "b25l";
    believes = false;
    send_to_two(data);
    turn(1, WAIT_MS);
    believes = true;
    pin_two = ""; /* over another connection */
    send_to_two(data);
    turn(2, WAIT_MS);
    assert_int_equal(connected_to_two(), 3);
    assert_false(is_cut_off(fd));
    turn(3, MESH_PROOF_MS + 1500);
    assert_true(is_cut_off(fd));
    assert_int_equal(connected_to_two(), 1);
    close(fd);
}

static void turn_shortly(void)
{
    for (int i = 0; i < 3; i++)
        uv_run(&loop, UV_RUN_NOWAIT);
}

/* Of those who come, and of those who are called: more than any job has. What is over is free again. */
static void connections_are_bounded(void **state)
{
    (void)state;
    static int fds[MESH_LINKS_MAX + 1];
    struct rlimit room;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &room), 0);
    room.rlim_cur = room.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &room), 0);
    for (size_t i = 0; i <= MESH_LINKS_MAX; i++) {
        fds[i] = dial_two();
        if (i % DIALS == 0)
            uv_run(&loop, UV_RUN_NOWAIT);
    }
    turn_shortly();
    assert_false(is_cut_off(fds[0]));
    assert_false(is_cut_off(fds[MESH_LINKS_MAX - 1]));
    assert_true(is_cut_off(fds[MESH_LINKS_MAX]));
    close(fds[0]);
    turn_shortly();
    fds[0] = dial_two();
    turn_shortly();
    assert_false(is_cut_off(fds[0]));
    for (size_t i = 0; i <= MESH_LINKS_MAX; i++)
        close(fds[i]);
    turn_shortly();
    char data[] = "b25l", nobody[] = "127.0.1.255";
    struct mesh_frame frame = {.generation = 1, .kind = MESH_FENCE, .data = data};
    for (uint32_t port = 1; port <= MESH_LINKS_MAX; port++)
        mesh_send(one, nobody, port, "", &frame);
    send_to_two(data);
    turn(1, 300);
    assert_int_equal(came, 0);
    send_to_two(data);
    turn(1, WAIT_MS);
    assert_int_equal(came, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(frames_arrive_in_order_over_one_connection, open_both, close_both),
        cmocka_unit_test_setup_teardown(the_silence_of_a_peer_is_bounded, open_both, close_both),
        cmocka_unit_test_setup_teardown(a_stranger_is_cut_off, open_both, close_both),
        cmocka_unit_test_setup_teardown(connections_are_bounded, open_both, close_both),
        cmocka_unit_test_setup_teardown(frames_arrive_in_order_over_one_connection, open_keyed, close_keyed),
        cmocka_unit_test_setup_teardown(the_silence_of_a_peer_is_bounded, open_keyed, close_keyed),
        cmocka_unit_test_setup_teardown(a_stranger_is_cut_off, open_keyed, close_keyed),
        cmocka_unit_test_setup_teardown(a_large_frame_arrives_whole, open_keyed, close_keyed),
        cmocka_unit_test_setup_teardown(who_proves_nothing_is_cut_off_in_time, open_keyed, close_keyed),
        cmocka_unit_test_setup_teardown(who_has_another_key_gets_nothing, open_keyed, close_keyed),
        cmocka_unit_test_setup_teardown(who_shows_no_key_is_known_to_have_shown_none, open_keyed, close_keyed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
