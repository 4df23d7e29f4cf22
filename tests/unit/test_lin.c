/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "tests/lin/history.h"

#define DEADLINE_S 120u /* only so that it ends: the machine may be busy, and a sanitizer slow */
#define SHRINK_SEEDS 12u

static enum lin_verdict verdict(const struct lin_op *ops, size_t count)
{
    struct lin_result result;
    lin_check(ops, count, 0, &result);
    assert_true(result.ordered <= count);
    mem_free(result.order);
    return result.verdict;
}

#define VERDICT(...)                                                                                                        \
    verdict((const struct lin_op[]){__VA_ARGS__}, sizeof((const struct lin_op[]){__VA_ARGS__}) / sizeof(struct lin_op))
#define OP(operation, good, from, to, ...)                                                                                  \
    {                                                                                                                       \
        .kind = operation, .ok = good, .invoke_ns = from, .return_ns = to, __VA_ARGS__                                      \
    }
#define READ(from, to, v) OP(LIN_READ, true, from, to, .value = v)
#define WRITE(from, to, v) OP(LIN_WRITE, true, from, to, .value = v)
#define CREATE(from, to, v) OP(LIN_CREATE, true, from, to, .value = v)
#define CREATE_NO(from, to, v) OP(LIN_CREATE, false, from, to, .value = v)
#define DELETE(from, to) OP(LIN_DELETE, true, from, to, .value = 0)
#define DELETE_NO(from, to) OP(LIN_DELETE, false, from, to, .value = 0)
#define CAS(from, to, e, v) OP(LIN_CAS, true, from, to, .expect = e, .value = v)

/* ---- known histories ---- */

static void what_happens_one_after_the_other_is_fine(void **state)
{
    (void)state;
    assert_int_equal(verdict(NULL, 0), LIN_YES);
    assert_int_equal(VERDICT(READ(1, 2, 0), CREATE(3, 4, 1), READ(5, 6, 1), CREATE_NO(7, 8, 2), READ(9, 10, 1),
                             DELETE(11, 12), DELETE_NO(13, 14), READ(15, 16, 0), WRITE(17, 18, 5), CAS(19, 20, 5, 6),
                             READ(21, 22, 6)),
                     LIN_YES);
}

static void what_overlaps_may_have_either_order(void **state)
{
    (void)state;
    assert_int_equal(VERDICT(WRITE(1, 10, 1), WRITE(2, 9, 2), READ(11, 12, 1)), LIN_YES);
    assert_int_equal(VERDICT(WRITE(1, 10, 1), WRITE(2, 9, 2), READ(11, 12, 2)), LIN_YES);
    assert_int_equal(VERDICT(WRITE(1, 10, 1), READ(2, 3, 1), READ(4, 5, 1)), LIN_YES);
    assert_int_equal(VERDICT(WRITE(1, 10, 1), READ(2, 3, 0), READ(4, 5, 1)), LIN_YES);
    assert_int_equal(VERDICT(CREATE(1, 10, 1), CREATE_NO(2, 9, 2)), LIN_YES);
    /* Times that touch. */
    assert_int_equal(VERDICT(WRITE(1, 5, 1), READ(5, 6, 0)), LIN_YES);
}

static void a_stale_read_is_seen(void **state)
{
    (void)state;
    assert_int_equal(VERDICT(WRITE(1, 2, 1), WRITE(3, 4, 2), READ(5, 6, 1)), LIN_NO);
    /* New, then old again, while the write is still under way. */
    assert_int_equal(VERDICT(WRITE(1, 10, 1), READ(2, 3, 1), READ(4, 5, 0)), LIN_NO);
    assert_int_equal(VERDICT(CREATE(1, 2, 1), DELETE(3, 4), READ(5, 6, 1)), LIN_NO);
}

static void a_lost_write_is_seen(void **state)
{
    (void)state;
    assert_int_equal(VERDICT(WRITE(1, 2, 1), READ(3, 4, 0)), LIN_NO);
    assert_int_equal(VERDICT(CREATE(1, 2, 1), CREATE(3, 4, 2)), LIN_NO);
    assert_int_equal(VERDICT(CREATE(1, 2, 1), DELETE_NO(3, 4)), LIN_NO);
}

static void a_write_that_happens_twice_is_seen(void **state)
{
    (void)state;
    assert_int_equal(VERDICT(CREATE(1, 2, 1), DELETE(3, 4), READ(5, 6, 1), READ(7, 8, 1)), LIN_NO);
    assert_int_equal(VERDICT(CREATE(1, 2, 1), DELETE(3, 4), CREATE(5, 6, 2), DELETE(7, 8), DELETE(9, 10)), LIN_NO);
}

static void two_cannot_both_be_first(void **state)
{
    (void)state;
    assert_int_equal(VERDICT(CREATE(1, 10, 1), CREATE(2, 9, 2), READ(11, 12, 1)), LIN_NO);
    assert_int_equal(VERDICT(WRITE(1, 2, 1), CAS(3, 10, 1, 2), CAS(4, 9, 1, 3)), LIN_NO);
}

static void an_unknown_outcome_may_be_anything_once(void **state)
{
    (void)state;
    assert_int_equal(VERDICT(CREATE(1, LIN_NEVER, 1), READ(5, 6, 0), READ(7, 8, 0)), LIN_YES);
    assert_int_equal(VERDICT(CREATE(1, LIN_NEVER, 1), READ(5, 6, 0), READ(7, 8, 1)), LIN_YES);
    assert_int_equal(VERDICT(CREATE(1, LIN_NEVER, 1), CREATE(5, 6, 2), READ(7, 8, 2)), LIN_YES);
    /* It happened, so it is over: it cannot happen again. */
    assert_int_equal(VERDICT(CREATE(1, LIN_NEVER, 1), READ(3, 4, 1), DELETE(5, 6), READ(7, 8, 1)), LIN_NO);
    /* Not before it was asked for. */
    assert_int_equal(VERDICT(READ(1, 2, 1), CREATE(3, LIN_NEVER, 1)), LIN_NO);
    assert_int_equal(VERDICT(WRITE(1, LIN_NEVER, 1), WRITE(2, LIN_NEVER, 2), READ(3, 4, 2), READ(5, 6, 1), READ(7, 8, 2)),
                     LIN_NO);
}

static void an_optional_one_happens_in_its_time_or_not_at_all(void **state)
{
    (void)state;
#define MAYBE(from, to, v) OP(LIN_WRITE, true, from, to, .value = v, .optional = true)
    assert_int_equal(VERDICT(MAYBE(1, 2, 1), READ(3, 4, 0)), LIN_YES);
    assert_int_equal(VERDICT(MAYBE(1, 2, 1), READ(3, 4, 1)), LIN_YES);
    assert_int_equal(VERDICT(MAYBE(1, 6, 1), READ(3, 4, 0), READ(5, 7, 1)), LIN_YES);
    assert_int_equal(VERDICT(MAYBE(1, 2, 1), READ(3, 4, 0), READ(5, 6, 1)), LIN_NO);
    assert_int_equal(VERDICT(MAYBE(5, 6, 1), READ(3, 4, 1)), LIN_NO);
    assert_int_equal(VERDICT(MAYBE(1, 2, 1), WRITE(3, 4, 2), READ(5, 6, 1)), LIN_NO);
}

/* Many writers of one value, as of a flag: those that finished before it was cleared explain nothing. */
static void what_wrote_the_same_earlier_is_not_shown(void **state)
{
    (void)state;
    struct lin_op ops[22];
    for (size_t i = 0; i < 20; i++)
        ops[i] = (struct lin_op)WRITE(3 * i + 1, 3 * i + 2, 1);
    ops[20] = (struct lin_op)WRITE(100, 101, 0);
    ops[21] = (struct lin_op)READ(102, 103, 1);
    size_t left = lin_shrink(ops, 22, 0, clock_mono_ns() + DEADLINE_S * NS_PER_S);
    assert_int_equal(left, 3);
    assert_int_equal(ops[0].value, 1);
    assert_int_equal(ops[1].invoke_ns, 100);
    assert_int_equal(ops[2].kind, LIN_READ);
}

/* ---- against the definition: every order of few operations ---- */

#define FEW 6

static bool any_order(const struct lin_op *ops, size_t count, unsigned done, uint32_t now)
{
    bool left = false;
    for (size_t i = 0; i < count; i++)
        left |= !(done & 1u << i) && ops[i].return_ns != LIN_NEVER && !ops[i].optional;
    if (!left)
        return true;
    for (size_t i = 0; i < count; i++) {
        bool first = !(done & 1u << i);
        for (size_t j = 0; j < count && first; j++)
            first = done & 1u << j ? ops[j].invoke_ns <= ops[i].return_ns
                                   : ops[j].return_ns >= ops[i].invoke_ns || ops[j].optional;
        uint32_t after;
        if (first && lin_step(&ops[i], now, &after) && any_order(ops, count, done | 1u << i, after))
            return true;
    }
    return false;
}

static struct lin_op any_op(struct rng *rng, unsigned optional_percent)
{
    struct lin_op op = {.kind = (unsigned)rng_below(rng, LIN_KINDS), .ok = rng_below(rng, 4) > 0};
    op.value = (uint32_t)rng_below(rng, 3);
    op.expect = (uint32_t)rng_below(rng, 3);
    if (op.kind == LIN_CREATE && op.value == LIN_NOTHING)
        op.value = 1;
    if (op.kind == LIN_READ || op.kind == LIN_WRITE)
        op.ok = true;
    op.invoke_ns = rng_below(rng, 20);
    op.return_ns = op.invoke_ns + rng_below(rng, 10);
    if (op.kind != LIN_READ && rng_below(rng, 6) == 0)
        op.return_ns = LIN_NEVER;
    op.optional = rng_below(rng, 100) < optional_percent;
    return op;
}

static void it_agrees_with_trying_every_order(void **state)
{
    (void)state;
    struct rng rng = {11};
    size_t yes = 0, no = 0;
    for (int round = 0; round < 40000; round++) {
        struct lin_op ops[FEW];
        size_t count = 2 + rng_below(&rng, FEW - 1);
        for (size_t i = 0; i < count; i++)
            ops[i] = any_op(&rng, 15);
        bool right = any_order(ops, count, 0, LIN_NOTHING);
        assert_int_equal(verdict(ops, count), right ? LIN_YES : LIN_NO);
        yes += right;
        no += !right;
    }
    assert_true(yes > 3000 && no > 3000);
}

/* A smaller counter-example is one by itself, and nothing can be taken from it. */
static void what_is_shown_is_wrong_by_itself(void **state)
{
    (void)state;
    struct rng rng = {12};
    size_t shrunk = 0;
    for (int round = 0; round < 3000; round++) {
        struct lin_op ops[FEW];
        size_t count = 2 + rng_below(&rng, FEW - 1);
        for (size_t i = 0; i < count; i++)
            ops[i] = any_op(&rng, 0);
        bool right = any_order(ops, count, 0, LIN_NOTHING);
        size_t left = lin_shrink(ops, count, 0, clock_mono_ns() + DEADLINE_S * NS_PER_S);
        if (right) {
            assert_int_equal(left, count);
            continue;
        }
        assert_false(any_order(ops, left, 0, LIN_NOTHING));
        assert_true(left >= 1);
        shrunk += left < count;
    }
    assert_true(shrunk > 300);
}

/* ---- large ones, made by a register that works ---- */

#define CLIENTS_MAX 16

struct maker {
    struct rng rng;
    struct lin_op *ops;
    size_t count, clients, unknown_every;
    uint32_t state, next_value;
};

static struct lin_op draw(struct maker *m)
{
    struct lin_op op = {.kind = (unsigned)rng_below(&m->rng, LIN_KINDS), .ok = true};
    if (op.kind != LIN_READ && op.kind != LIN_DELETE)
        op.value = m->next_value++;
    if (op.kind == LIN_CAS)
        op.expect = rng_below(&m->rng, 2) ? m->state : 1;
    return op;
}

/* Let it take effect now, and have the result that follows. */
static void effect(struct maker *m, struct lin_op *op)
{
    if (op->kind == LIN_READ) {
        op->value = m->state;
        return;
    }
    uint32_t before = m->state, after;
    op->ok = true;
    if (!lin_step(op, before, &after)) {
        op->ok = false;
        assert_true(lin_step(op, before, &after));
    }
    m->state = after;
}

/* Clients take turns at random: invoke, take effect, return. */
static void make(struct maker *m, uint64_t seed, size_t count)
{
    struct lin_op *running[CLIENTS_MAX] = {0};
    bool done[CLIENTS_MAX] = {0};
    m->rng.state = seed;
    m->ops = mem_array(count, sizeof *m->ops);
    m->next_value = 2;
    for (uint64_t now = 1; m->count < count; now++) {
        size_t c = rng_below(&m->rng, m->clients);
        if (running[c] == NULL) {
            running[c] = &m->ops[m->count++];
            *running[c] = draw(m);
            running[c]->invoke_ns = now;
            running[c]->return_ns = LIN_NEVER;
            running[c]->process = (int64_t)c;
            done[c] = false;
        } else if (!done[c]) {
            bool lost = m->unknown_every && rng_below(&m->rng, m->unknown_every) == 0 && running[c]->kind != LIN_READ;
            running[c]->return_ns = now; /* while it takes effect: a known one */
            if (!lost || rng_below(&m->rng, 2))
                effect(m, running[c]);
            running[c]->return_ns = LIN_NEVER;
            done[c] = true;
            if (lost)
                running[c] = NULL;
        } else {
            running[c]->return_ns = now;
            running[c] = NULL;
        }
    }
    /* The last of each client has not returned: a read of that kind says nothing. */
    size_t kept = 0;
    for (size_t i = 0; i < m->count; i++)
        if (m->ops[i].kind != LIN_READ || m->ops[i].return_ns != LIN_NEVER)
            m->ops[kept++] = m->ops[i];
    m->count = kept;
}

static void a_register_that_works_is_never_blamed(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct maker m = {.clients = 2 + seed % 7, .unknown_every = seed % 2 ? 0 : 60};
        make(&m, seed, 600);
        assert_int_equal(verdict(m.ops, m.count), LIN_YES);
        mem_free(m.ops);
    }
}

static void one_long_history_takes_seconds_at_most(void **state)
{
    (void)state;
    struct maker m = {.clients = 5};
    uint64_t begun = clock_mono_ns();
    make(&m, 99, 20000);
    assert_int_equal(verdict(m.ops, m.count), LIN_YES);
    mem_free(m.ops);
    assert_true(clock_mono_ns() - begun < DEADLINE_S * NS_PER_S);
}

/* A read is turned to a value that was overwritten before the read began: found, whatever else is there. */
static bool spoil(struct maker *m)
{
    for (int tries = 0; tries < 1000; tries++) {
        struct lin_op *read = &m->ops[rng_below(&m->rng, m->count)];
        if (read->kind != LIN_READ)
            continue;
        const struct lin_op *old = NULL;
        for (size_t i = 0; i < m->count; i++)
            if (m->ops[i].kind == LIN_WRITE && m->ops[i].return_ns < read->invoke_ns)
                for (size_t j = 0; j < m->count && old != &m->ops[i]; j++)
                    if (m->ops[j].kind == LIN_WRITE && m->ops[j].invoke_ns > m->ops[i].return_ns &&
                        m->ops[j].return_ns < read->invoke_ns)
                        old = &m->ops[i];
        if (old == NULL)
            continue;
        read->value = old->value;
        return true;
    }
    return false;
}

static void one_stale_read_among_many_operations_is_found_and_shown_small(void **state)
{
    (void)state;
    size_t total = 0;
    for (uint64_t seed = 1; seed <= SHRINK_SEEDS; seed++) {
        struct maker m = {.clients = 2 + seed % 3, .unknown_every = seed % 2 ? 0 : 100};
        make(&m, seed, 400);
        assert_true(spoil(&m));
        assert_int_equal(verdict(m.ops, m.count), LIN_NO);
        size_t left = lin_shrink(m.ops, m.count, 0, clock_mono_ns() + DEADLINE_S * NS_PER_S);
        assert_int_equal(verdict(m.ops, left), LIN_NO);
        assert_in_range(left, 1, 100);
        total += left;
        mem_free(m.ops);
    }
    assert_true(total < SHRINK_SEEDS * 20); /* chains of cas explain each other; without them two or three are left */
}

/* The operations one after the other, in an order that is right; with the result they then have. */
static size_t line_up(const struct maker *m, struct lin_op *ret_ops)
{
    struct lin_result result;
    uint32_t now = LIN_NOTHING;
    lin_check(m->ops, m->count, 0, &result);
    assert_int_equal(result.verdict, LIN_YES);
    for (size_t i = 0; i < result.ordered; i++) {
        struct lin_op *op = &ret_ops[i];
        *op = m->ops[result.order[i]];
        op->invoke_ns = 2 * i + 1;
        op->return_ns = 2 * i + 2;
        op->ok = true;
        if (!lin_step(op, now, &now)) {
            op->ok = false;
            assert_true(lin_step(op, now, &now));
        }
    }
    mem_free(result.order);
    return result.ordered;
}

/* One result is turned into its opposite where nothing else runs: the state then says which is true. */
static void one_wrong_result_is_found(void **state)
{
    (void)state;
    size_t turned = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct maker m = {.clients = 3};
        struct lin_op ordered[60];
        make(&m, seed, 60);
        size_t count = line_up(&m, ordered);
        assert_int_equal(verdict(ordered, count), LIN_YES);
        struct lin_op *op = &ordered[rng_below(&m.rng, count)];
        if (op->kind != LIN_READ && op->kind != LIN_WRITE) {
            op->ok = !op->ok;
            assert_int_equal(verdict(ordered, count), LIN_NO);
            turned++;
        }
        mem_free(m.ops);
    }
    assert_true(turned > 15);
}

static void what_is_too_much_is_undecided(void **state)
{
    (void)state;
    struct maker m = {.clients = CLIENTS_MAX};
    make(&m, 5, 2000);
    struct lin_result result;
    lin_check(m.ops, m.count, 100, &result);
    assert_int_equal(result.verdict, LIN_UNDECIDED);
    mem_free(result.order);
    mem_free(m.ops);
}

/* ---- files ---- */

static enum tide_status parse(const char *text, struct history *ret_history, struct err *err)
{
    FILE *file = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
    assert_non_null(file);
    enum tide_status status = history_read(file, ret_history, err);
    fclose(file);
    return status;
}

static void a_file_is_read_key_by_key(void **state)
{
    (void)state;
    struct history history;
    struct err err = {0};
    char words[64];
    assert_int_equal(
        parse(
            "{\"type\":\"invoke\",\"process\":1,\"op\":\"create\",\"key\":\"a\",\"value\":\"x\",\"time\":10}\n"
            "{\"type\":\"invoke\",\"process\":2,\"op\":\"read\",\"key\":\"b\",\"time\":11}\n"
            "{\"type\":\"note\",\"text\":\"kill -9 member 2\",\"time\":12}\n"
            "{\"type\":\"invoke\",\"process\":3,\"op\":\"delete\",\"key\":\"a\",\"time\":13}\n"
            "{\"type\":\"return\",\"process\":1,\"result\":\"ok\",\"time\":14}\n"
            "{\"type\":\"return\",\"process\":2,\"result\":\"ok\",\"value\":null,\"time\":15}\n"
            "{\"type\":\"unknown\",\"process\":3,\"time\":16}\n\n"
            "{\"type\":\"invoke\",\"process\":1,\"op\":\"cas\",\"key\":\"a\",\"expect\":\"x\",\"value\":\"y\",\"time\":17}\n"
            "{\"type\":\"invoke\",\"process\":2,\"op\":\"read\",\"key\":\"a\",\"time\":17}\n"
            "{\"type\":\"fail\",\"process\":1,\"time\":18}\n"
            "{\"type\":\"return\",\"process\":2,\"result\":\"ok\",\"value\":\"x\",\"time\":19}\n"
            "{\"type\":\"invoke\",\"process\":1,\"op\":\"read\",\"key\":\"a\",\"time\":20}\n",
            &history, &err),
        TIDE_OK);
    assert_int_equal(history.key_count, 2);
    assert_int_equal(history.operations, 4);
    assert_int_equal(history.unknown, 1);
    assert_int_equal(history.note_count, 1);
    assert_int_equal(history.keys[0].count, 3);
    history_words(&history.keys[0], &history.keys[0].ops[0], words, sizeof words);
    assert_string_equal(words, "create x -> ok");
    history_words(&history.keys[0], &history.keys[0].ops[1], words, sizeof words);
    assert_string_equal(words, "delete -> nobody knows");
    history_words(&history.keys[0], &history.keys[0].ops[2], words, sizeof words);
    assert_string_equal(words, "read -> x");
    history_words(&history.keys[1], &history.keys[1].ops[0], words, sizeof words);
    assert_string_equal(words, "read -> nothing");
    assert_int_equal(verdict(history.keys[0].ops, 3), LIN_YES);
    history_release(&history);
}

static void a_file_that_makes_no_sense_is_refused_with_its_line(void **state)
{
    (void)state;
#define INVOKE "{\"type\":\"invoke\",\"process\":1,\"op\":\"read\",\"key\":\"a\",\"time\":10}\n"
    static const struct {
        const char *text, *words;
    } bad[] = {
        {"nonsense\n", "line 1: no JSON"},
        {"{\"type\":\"invoke\",\"process\":1,\"time\":1}\n", "line 1: an invocation needs"},
        {"{\"type\":\"invoke\",\"process\":1,\"op\":\"append\",\"key\":\"a\",\"time\":1}\n", "\"op\" is \"append\""},
        {"{\"type\":\"invoke\",\"process\":1,\"op\":\"create\",\"key\":\"a\",\"time\":1}\n", "create needs \"value\""},
        {"{\"type\":\"invoke\",\"op\":\"read\",\"key\":\"a\",\"time\":1}\n", "\"process\" is needed"},
        {"{\"type\":\"invoke\",\"process\":1,\"op\":\"read\",\"key\":\"a\"}\n", "\"time\" are needed"},
        {"{\"type\":\"begin\",\"process\":1,\"time\":1}\n", "\"type\" is \"begin\""},
        {INVOKE INVOKE, "line 2: process 1 invokes again"},
        {INVOKE "{\"type\":\"unknown\",\"process\":1,\"time\":11}\n" INVOKE, "line 3: process 1 invokes again"},
        {"{\"type\":\"return\",\"process\":1,\"result\":\"ok\",\"time\":11}\n", "returns from nothing"},
        {INVOKE "{\"type\":\"return\",\"process\":1,\"result\":\"ok\",\"time\":9}\n", "returns before it invoked"},
        {INVOKE "{\"type\":\"return\",\"process\":1,\"result\":\"maybe\",\"time\":11}\n", "\"result\" must be"},
        {INVOKE "{\"type\":\"return\",\"process\":1,\"result\":\"no\",\"time\":11}\n", "is no result of read"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct history history;
        struct err err = {0};
        assert_int_equal(parse(bad[i].text, &history, &err), TIDE_E_INVALID);
        if (strstr(err.text, bad[i].words) == NULL)
            fail_msg("%s: %s", bad[i].words, err.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_happens_one_after_the_other_is_fine),
        cmocka_unit_test(what_overlaps_may_have_either_order),
        cmocka_unit_test(a_stale_read_is_seen),
        cmocka_unit_test(a_lost_write_is_seen),
        cmocka_unit_test(a_write_that_happens_twice_is_seen),
        cmocka_unit_test(two_cannot_both_be_first),
        cmocka_unit_test(an_unknown_outcome_may_be_anything_once),
        cmocka_unit_test(an_optional_one_happens_in_its_time_or_not_at_all),
        cmocka_unit_test(what_wrote_the_same_earlier_is_not_shown),
        cmocka_unit_test(it_agrees_with_trying_every_order),
        cmocka_unit_test(what_is_shown_is_wrong_by_itself),
        cmocka_unit_test(a_register_that_works_is_never_blamed),
        cmocka_unit_test(one_long_history_takes_seconds_at_most),
        cmocka_unit_test(one_stale_read_among_many_operations_is_found_and_shown_small),
        cmocka_unit_test(one_wrong_result_is_found),
        cmocka_unit_test(what_is_too_much_is_undecided),
        cmocka_unit_test(a_file_is_read_key_by_key),
        cmocka_unit_test(a_file_that_makes_no_sense_is_refused_with_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
