/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of a channel log, and what is no log; identities of communicators. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/cut/channel.h"
#include "ckpt/cut/comm_id.h"

#define ROOM 4096u

static unsigned char log_bytes[ROOM];
static const struct cut_comm comms[] = {{.id = 1, .collectives = 17, .size = 4, .name = "MPI_COMM_WORLD"},
                                        {.id = 0xfedcba9876543210, .collectives = 0, .size = 2, .name = ""}};

static size_t put(size_t at, uint64_t comm, uint32_t source, int32_t tag, const void *payload, size_t bytes)
{
    struct cut_entry entry = {.comm = comm, .source = source, .tag = tag, .bytes = bytes};
    void *to = cut_channel_frame(log_bytes + at, &entry);
    if (bytes > 0)
        memcpy(to, payload, bytes);
    return at + cut_channel_entry_bytes(bytes);
}

static size_t a_log(void)
{
    size_t at = cut_channel_head_bytes(2);
    memset(log_bytes, 0xa5, sizeof log_bytes);
    cut_channel_print_head(log_bytes, comms, 2);
    at = put(at, 1, 3, 77, "hello", 5);
    at = put(at, comms[1].id, 0, -1, NULL, 0);
    return put(at, 1, UINT32_MAX, INT32_MIN, "12345678", 8);
}

static void what_was_written_is_read(void **state)
{
    (void)state;
    struct cut_channel channel;
    struct cut_comm comm;
    struct cut_entry e;
    const void *payload;
    size_t bytes = a_log();
    assert_int_equal(bytes % 8, 0);
    assert_int_equal(log_bytes[bytes], 0xa5);
    assert_int_equal(cut_channel_open(&channel, log_bytes, bytes, NULL), TIDE_OK);
    assert_int_equal(channel.comms, 2);
    cut_channel_comm(&channel, 0, &comm);
    assert_memory_equal(&comm, &comms[0], sizeof comm);
    cut_channel_comm(&channel, 1, &comm);
    assert_memory_equal(&comm, &comms[1], sizeof comm);
    assert_int_equal(cut_channel_next(&channel, &e, &payload, NULL), TIDE_OK);
    assert_true(e.comm == 1 && e.source == 3 && e.tag == 77 && e.bytes == 5);
    assert_memory_equal(payload, "hello", 5);
    assert_int_equal(cut_channel_next(&channel, &e, &payload, NULL), TIDE_OK);
    assert_true(e.comm == comms[1].id && e.source == 0 && e.tag == -1 && e.bytes == 0);
    assert_non_null(payload);
    assert_int_equal(cut_channel_next(&channel, &e, &payload, NULL), TIDE_OK);
    assert_true(e.source == UINT32_MAX && e.tag == INT32_MIN && e.bytes == 8);
    assert_int_equal(cut_channel_next(&channel, &e, &payload, NULL), TIDE_OK);
    assert_null(payload);
}

static void the_bytes_are_little_endian_and_stay_as_they_are(void **state)
{
    (void)state;
    static const unsigned char entry[] = {'T', 'M', 'S', 'G', 0x4e, 0x91, 0xd3, 0xa0, 1,   0, 0, 0, 0, 0,
                                          0,   0,   3,   0,   0,    0,    77,   0,    0,   0, 5, 0, 0, 0,
                                          0,   0,   0,   0,   'h',  'e',  'l',  'l',  'o', 0, 0, 0};
    a_log();
    assert_memory_equal(log_bytes, "TIDMCHAN\2\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\21", 25);
    assert_memory_equal(log_bytes + cut_channel_head_bytes(2), entry, sizeof entry);
}

static enum tide_status read_all(const unsigned char *log, size_t bytes, struct err *err)
{
    struct cut_channel channel;
    struct cut_entry entry;
    const void *payload = log;
    enum tide_status status = cut_channel_open(&channel, log, bytes, err);
    while (status == TIDE_OK && payload != NULL)
        status = cut_channel_next(&channel, &entry, &payload, err);
    return status;
}

static void a_log_that_was_cut_short_is_none(void **state)
{
    (void)state;
    size_t bytes = a_log(),
           ends[] = {cut_channel_head_bytes(2), cut_channel_head_bytes(2) + 40, cut_channel_head_bytes(2) + 72, bytes};
    for (size_t length = 0; length <= bytes; length++) {
        struct err err = {0};
        unsigned char *copy = mem_alloc(length + 1); /* so that a byte too far is found */
        memcpy(copy + 1, log_bytes, length);
        int whole = 0;
        for (unsigned i = 0; i < 4; i++)
            whole |= length == ends[i];
        assert_int_equal(read_all(copy + 1, length, &err), whole ? TIDE_OK : TIDE_E_CORRUPT);
        assert_true(whole || strstr(err.text, "channel log: ") == err.text);
        mem_free(copy);
    }
}

static void a_head_of_a_message_that_changed_is_noticed(void **state)
{
    (void)state;
    size_t bytes = a_log(), from = cut_channel_head_bytes(2);
    for (size_t i = 0; i < CUT_CHANNEL_ENTRY_BYTES; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            log_bytes[from + i] ^= (unsigned char)(1u << bit);
            assert_int_equal(read_all(log_bytes, bytes, NULL), TIDE_E_CORRUPT);
            log_bytes[from + i] ^= (unsigned char)(1u << bit);
        }
    assert_int_equal(read_all(log_bytes, bytes, NULL), TIDE_OK);
}

static void communicators_that_cannot_be_are_refused(void **state)
{
    (void)state;
    size_t bytes = a_log();
    log_bytes[8] = 0xff;
    log_bytes[9] = 0xff;
    assert_int_equal(read_all(log_bytes, bytes, NULL), TIDE_E_CORRUPT);
    a_log();
    memset(log_bytes + CUT_CHANNEL_HEAD_BYTES + 16, 0, 8);
    assert_int_equal(read_all(log_bytes, bytes, NULL), TIDE_E_CORRUPT);
    a_log();
    memset(log_bytes + CUT_CHANNEL_HEAD_BYTES + 24, 'x', CUT_COMM_NAME_BYTES);
    assert_int_equal(read_all(log_bytes, bytes, NULL), TIDE_E_CORRUPT);
}

/* ---- identities ---- */

static void identities_do_not_change_with_versions(void **state)
{
    (void)state;
    static const uint32_t two[] = {0, 2}, other[] = {1, 3};
    assert_int_equal(cut_comm_base(CUT_COMM_WORLD, two, 2, NULL, 0), UINT64_C(0xec9f49154041ba7b));
    assert_int_equal(cut_comm_base(CUT_COMM_NO_PARENT, two, 2, other, 2), UINT64_C(0x5b4e3ced83597009));
    assert_int_equal(cut_comm_id(1234, 0), UINT64_C(0x977a7556f2099a47));
}

static void identities_tell_apart_what_is_different(void **state)
{
    (void)state;
    static const uint32_t a[] = {0, 1, 2}, b[] = {0, 2, 1}, c[] = {3, 4};
    uint64_t base = cut_comm_base(1, a, 3, NULL, 0);
    assert_true(base == cut_comm_base(1, a, 3, NULL, 0));
    assert_true(base != cut_comm_base(1, b, 3, NULL, 0));
    assert_true(base != cut_comm_base(2, a, 3, NULL, 0));
    assert_true(base != cut_comm_base(1, a, 2, NULL, 0));
    assert_true(base != cut_comm_base(1, a, 3, c, 2));
    assert_true(cut_comm_base(3, a, 3, c, 2) == cut_comm_base(3, c, 2, a, 3));
    assert_true(cut_comm_base(3, a, 2, a + 2, 1) != cut_comm_base(3, a, 1, a + 1, 2));
    assert_true(cut_comm_id(base, 0) != cut_comm_id(base, 1));
    assert_true(cut_comm_id(base, 0) != base);
}

static void identities_of_large_groups(void **state)
{
    (void)state;
    static uint32_t ranks[1000];
    for (uint32_t i = 0; i < 1000; i++)
        ranks[i] = i;
    uint64_t whole = cut_comm_base(1, ranks, 1000, NULL, 0);
    for (uint32_t i = 0; i < 1000; i++) {
        ranks[i] ^= 1024;
        assert_true(whole != cut_comm_base(1, ranks, 1000, NULL, 0));
        ranks[i] ^= 1024;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(the_bytes_are_little_endian_and_stay_as_they_are),
        cmocka_unit_test(a_log_that_was_cut_short_is_none),
        cmocka_unit_test(a_head_of_a_message_that_changed_is_noticed),
        cmocka_unit_test(communicators_that_cannot_be_are_refused),
        cmocka_unit_test(identities_do_not_change_with_versions),
        cmocka_unit_test(identities_tell_apart_what_is_different),
        cmocka_unit_test(identities_of_large_groups),
    };
    return cmocka_run_group_tests_name("cut_channel", tests, NULL, NULL);
}
