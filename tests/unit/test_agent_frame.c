/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "agent/rpc/frame.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"

static char *a_frame(const char *data, size_t *ret_bytes)
{
    struct mesh_frame frame = {.generation = 3, .from = 1, .to = 2, .kind = MESH_FENCE, .id = 77, .sequence = 5};
    text_copy(frame.uid, sizeof frame.uid, "0123456789abcdef");
    frame.data = mem_strdup(data);
    char *bytes = frame_print(&frame, ret_bytes);
    mem_free(frame.data);
    return bytes;
}

static void a_frame_survives_any_cutting_of_the_stream(void **state)
{
    (void)state;
    size_t bytes = 0;
    char *stream = a_frame("aGVsbG8=", &bytes);
    for (size_t piece = 1; piece <= bytes; piece++) {
        struct inflow inflow;
        struct err err = {0};
        const char *text = NULL;
        size_t length = 0, frames = 0;
        inflow_init(&inflow, FRAME_BYTES_MAX);
        for (size_t at = 0; at < bytes; at += piece) {
            size_t n = bytes - at < piece ? bytes - at : piece;
            assert_int_equal(inflow_add(&inflow, stream + at, n, &err), TIDE_OK);
            assert_int_equal(inflow_frame(&inflow, &text, &length, &err), TIDE_OK);
            if (text == NULL)
                continue;
            struct mesh_frame frame;
            frames++;
            assert_int_equal(frame_parse(text, length, &frame, &err), TIDE_OK);
            assert_string_equal(frame.data, "aGVsbG8=");
            assert_int_equal(frame.sequence, 5);
            codec_release(&mesh_frame_codec, &frame);
        }
        assert_int_equal(frames, 1);
        inflow_release(&inflow);
    }
    mem_free(stream);
}

static void several_frames_come_out_in_order(void **state)
{
    (void)state;
    struct inflow inflow;
    struct err err = {0};
    inflow_init(&inflow, FRAME_BYTES_MAX);
    static const char *const data[] = {"YQ==", "Yg==", "Yw=="};
    for (size_t i = 0; i < 3; i++) {
        size_t bytes = 0;
        char *stream = a_frame(data[i], &bytes);
        assert_int_equal(inflow_add(&inflow, stream, bytes, &err), TIDE_OK);
        mem_free(stream);
    }
    for (size_t i = 0; i < 3; i++) {
        const char *text = NULL;
        size_t length = 0;
        struct mesh_frame frame;
        assert_int_equal(inflow_frame(&inflow, &text, &length, &err), TIDE_OK);
        assert_non_null(text);
        assert_int_equal(frame_parse(text, length, &frame, &err), TIDE_OK);
        assert_string_equal(frame.data, data[i]);
        codec_release(&mesh_frame_codec, &frame);
    }
    inflow_release(&inflow);
}

static void a_frame_too_long_is_refused_before_it_is_stored(void **state)
{
    (void)state;
    struct inflow inflow;
    struct err err = {0};
    const char *text = NULL;
    size_t length = 0;
    inflow_init(&inflow, FRAME_BYTES_MAX);
    assert_int_equal(inflow_add(&inflow, "\x7f\xff\xff\xff", 4, &err), TIDE_OK);
    assert_int_equal(inflow_frame(&inflow, &text, &length, &err), TIDE_E_LIMIT);
    inflow_release(&inflow);
}

static void a_line_too_long_is_refused(void **state)
{
    (void)state;
    struct inflow inflow;
    struct err err = {0};
    const char *text = NULL;
    size_t length = 0;
    inflow_init(&inflow, 16);
    assert_int_equal(inflow_add(&inflow, "0123456789", 10, &err), TIDE_OK);
    assert_false(inflow_line(&inflow, &text, &length));
    assert_int_equal(inflow_add(&inflow, "0123456789", 10, &err), TIDE_E_LIMIT);
    inflow_release(&inflow);
}

static void lines_are_taken_one_by_one(void **state)
{
    (void)state;
    struct inflow inflow;
    struct err err = {0};
    const char *text = NULL;
    size_t length = 0;
    inflow_init(&inflow, 64);
    assert_int_equal(inflow_add(&inflow, "one\n\ntwo\nthr", 12, &err), TIDE_OK);
    assert_true(inflow_line(&inflow, &text, &length));
    assert_int_equal(length, 3);
    assert_true(inflow_line(&inflow, &text, &length));
    assert_int_equal(length, 0);
    assert_true(inflow_line(&inflow, &text, &length));
    assert_memory_equal(text, "two", 3);
    assert_false(inflow_line(&inflow, &text, &length));
    assert_int_equal(inflow_add(&inflow, "ee\n", 3, &err), TIDE_OK);
    assert_true(inflow_line(&inflow, &text, &length));
    assert_memory_equal(text, "three", 5);
    inflow_release(&inflow);
}

/* Whatever a stranger sends to the port: refused or waited for, never believed, never read beyond. */
static void garbage_is_refused(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct rng rng = {seed};
        struct inflow inflow;
        struct err err = {0};
        inflow_init(&inflow, FRAME_BYTES_MAX);
        unsigned char bytes[64];
        size_t n = 1 + (size_t)rng_below(&rng, sizeof bytes);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (unsigned char)rng_next(&rng);
        if (seed % 2 == 0) /* a length that fits, and then nonsense */
            memcpy(bytes, "\0\0\0\x08", n < 4 ? n : 4);
        const char *text = NULL;
        size_t length = 0;
        struct mesh_frame frame;
        assert_int_equal(inflow_add(&inflow, (char *)bytes, n, &err), TIDE_OK);
        enum tide_status status = inflow_frame(&inflow, &text, &length, &err);
        if (status == TIDE_OK && text != NULL)
            assert_int_equal(frame_parse(text, length, &frame, &err), TIDE_E_INVALID);
        inflow_release(&inflow);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_survives_any_cutting_of_the_stream),
        cmocka_unit_test(several_frames_come_out_in_order),
        cmocka_unit_test(a_frame_too_long_is_refused_before_it_is_stored),
        cmocka_unit_test(a_line_too_long_is_refused),
        cmocka_unit_test(lines_are_taken_one_by_one),
        cmocka_unit_test(garbage_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
