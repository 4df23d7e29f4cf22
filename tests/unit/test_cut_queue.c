/* SPDX-License-Identifier: Apache-2.0 */
/* Matching in MPI's place, single cases and against a plain list. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "ckpt/base/rng.h"
#include "ckpt/cut/queue.h"

static struct cut_queue queue;

static int begin(void **state)
{
    (void)state;
    cut_queue_init(&queue);
    return 0;
}

static struct cut_message message(int32_t source, int32_t tag)
{
    return (struct cut_message){.source = source, .tag = tag, .peer = (uint32_t)source};
}

static void messages_come_out_in_arrival_order(void **state)
{
    (void)state;
    struct cut_message a = message(3, 1), b = message(19, 1), c = message(3, 2); /* 3 and 19 share a bucket */
    assert_true(cut_queue_empty(&queue));
    assert_null(cut_queue_arrive(&queue, &a));
    assert_null(cut_queue_arrive(&queue, &b));
    assert_null(cut_queue_arrive(&queue, &c));
    assert_false(cut_queue_empty(&queue));
    assert_ptr_equal(cut_queue_find(&queue, CUT_ANY, CUT_ANY), &a);
    assert_ptr_equal(cut_queue_find(&queue, 19, CUT_ANY), &b);
    assert_ptr_equal(cut_queue_find(&queue, CUT_ANY, 2), &c);
    assert_ptr_equal(cut_queue_find(&queue, 3, 2), &c);
    assert_null(cut_queue_find(&queue, 19, 2));
    assert_null(cut_queue_find(&queue, 4, CUT_ANY));
    cut_queue_take(&queue, &a);
    assert_ptr_equal(cut_queue_first(&queue), &b);
    assert_ptr_equal(cut_queue_next(&queue, &b), &c);
    assert_null(cut_queue_next(&queue, &c));
}

static void receives_are_served_in_posted_order(void **state)
{
    (void)state;
    struct cut_receive any = {.source = CUT_ANY, .tag = 5}, exact = {.source = 2, .tag = 5};
    struct cut_message first = message(2, 5), second = message(2, 5), other = message(2, 6);
    assert_null(cut_queue_post(&queue, &any));
    assert_null(cut_queue_post(&queue, &exact));
    assert_null(cut_queue_arrive(&queue, &other));
    assert_ptr_equal(cut_queue_arrive(&queue, &first), &any);
    assert_ptr_equal(cut_queue_arrive(&queue, &second), &exact);
    assert_int_equal(queue.receive_count, 0);
    assert_int_equal(queue.message_count, 1);
}

static void a_receive_that_was_taken_back_gets_nothing(void **state)
{
    (void)state;
    struct cut_receive a = {.source = CUT_ANY, .tag = CUT_ANY}, b = a;
    struct cut_message m = message(0, 0);
    cut_queue_post(&queue, &a);
    cut_queue_post(&queue, &b);
    assert_ptr_equal(cut_queue_first_receive(&queue), &a);
    assert_ptr_equal(cut_queue_next_receive(&queue, &a), &b);
    assert_null(cut_queue_next_receive(&queue, &b));
    cut_queue_unpost(&queue, &a);
    assert_ptr_equal(cut_queue_arrive(&queue, &m), &b);
}

static void what_is_held_is_not_seen_and_comes_out_per_sender_in_order(void **state)
{
    (void)state;
    struct cut_message a = message(1, 0), b = message(17, 0), c = message(1, 0), d = message(17, 0);
    cut_queue_hold(&queue, &a);
    cut_queue_hold(&queue, &b);
    cut_queue_hold(&queue, &c);
    cut_queue_hold(&queue, &d);
    assert_null(cut_queue_find(&queue, CUT_ANY, CUT_ANY));
    assert_null(cut_queue_release(&queue, 33));
    assert_ptr_equal(cut_queue_release(&queue, 17), &b);
    assert_ptr_equal(cut_queue_release(&queue, 17), &d);
    assert_null(cut_queue_release(&queue, 17));
    assert_ptr_equal(cut_queue_release_any(&queue), &a);
    assert_ptr_equal(cut_queue_release_any(&queue), &c);
    assert_null(cut_queue_release_any(&queue));
    assert_int_equal(queue.held_count, 0);
}

/* ---- against a plain list ---- */

#define ITEMS 400
#define SOURCES 20
#define TAGS 3

struct plain {
    struct cut_message *messages[ITEMS];
    struct cut_receive *receives[ITEMS];
    size_t message_count, receive_count;
};

static int fits(const struct cut_receive *r, const struct cut_message *m)
{
    return (r->source == CUT_ANY || r->source == m->source) && (r->tag == CUT_ANY || r->tag == m->tag);
}

static struct cut_receive *plain_arrive(struct plain *p, struct cut_message *m)
{
    for (size_t i = 0; i < p->receive_count; i++)
        if (fits(p->receives[i], m)) {
            struct cut_receive *r = p->receives[i];
            memmove(&p->receives[i], &p->receives[i + 1], (--p->receive_count - i) * sizeof p->receives[0]);
            return r;
        }
    p->messages[p->message_count++] = m;
    return NULL;
}

static struct cut_message *plain_post(struct plain *p, struct cut_receive *r)
{
    for (size_t i = 0; i < p->message_count; i++)
        if (fits(r, p->messages[i])) {
            struct cut_message *m = p->messages[i];
            memmove(&p->messages[i], &p->messages[i + 1], (--p->message_count - i) * sizeof p->messages[0]);
            return m;
        }
    p->receives[p->receive_count++] = r;
    return NULL;
}

static void matches_as_a_plain_list_does(void **state)
{
    static struct cut_message messages[ITEMS];
    static struct cut_receive receives[ITEMS];
    static struct plain plain;
    (void)state;
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct rng rng = {.state = seed};
        size_t m = 0, r = 0;
        cut_queue_init(&queue);
        plain = (struct plain){0};
        for (unsigned i = 0; i < ITEMS; i++) {
            if (rng_below(&rng, 2)) {
                messages[m] = message((int32_t)rng_below(&rng, SOURCES), (int32_t)rng_below(&rng, TAGS));
                assert_ptr_equal(cut_queue_arrive(&queue, &messages[m]), plain_arrive(&plain, &messages[m]));
                m++;
            } else {
                receives[r] = (struct cut_receive){.source = (int32_t)rng_below(&rng, SOURCES + 5),
                                                   .tag = (int32_t)rng_below(&rng, TAGS + 1)};
                receives[r].source = receives[r].source >= SOURCES ? CUT_ANY : receives[r].source;
                receives[r].tag = receives[r].tag >= TAGS ? CUT_ANY : receives[r].tag;
                assert_ptr_equal(cut_queue_post(&queue, &receives[r]), plain_post(&plain, &receives[r]));
                r++;
            }
            assert_int_equal(queue.message_count, plain.message_count);
            assert_int_equal(queue.receive_count, plain.receive_count);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(messages_come_out_in_arrival_order, begin),
        cmocka_unit_test_setup(receives_are_served_in_posted_order, begin),
        cmocka_unit_test_setup(a_receive_that_was_taken_back_gets_nothing, begin),
        cmocka_unit_test_setup(what_is_held_is_not_seen_and_comes_out_per_sender_in_order, begin),
        cmocka_unit_test(matches_as_a_plain_list_does),
    };
    return cmocka_run_group_tests_name("cut_queue", tests, NULL, NULL);
}
