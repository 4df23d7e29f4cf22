/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ckpt/base/rng.h"
#include "ckpt/format/retain.h"

#define ITEMS_MAX 40u
#define ROUNDS 20000u
#define LINE_MAX 1100u

/* The rule again, as one would say it: an item at a time, by counting. */
static bool last_wants(const struct retain_rule *rule, const struct retain_item *items, size_t count, size_t i)
{
    size_t newer = 0;
    for (size_t k = i + 1; k < count; k++)
        newer += !items[k].unwanted;
    return !items[i].unwanted && newer < rule->last;
}

static bool row_wants(const struct retain_rule *rule, const struct retain_item *items, size_t i)
{
    bool by_id = rule->every && items[i].cut >= rule->every, by_time = rule->every_ms;
    for (size_t k = 0; k < i; k++) {
        if (items[k].unwanted)
            continue;
        by_id = by_id && items[k].cut / rule->every < items[i].cut / rule->every;
        by_time = by_time && items[k].at_ms / rule->every_ms < items[i].at_ms / rule->every_ms;
    }
    return !items[i].unwanted && (by_id || by_time);
}

static bool reference(const struct retain_rule *rule, const struct retain_item *items, size_t count, size_t i)
{
    return items[i].pinned || items[i].used || last_wants(rule, items, count, i) || row_wants(rule, items, i);
}

static size_t draw(struct rng *rng, struct retain_item *items)
{
    size_t count = rng_below(rng, ITEMS_MAX + 1);
    uint64_t cut = rng_below(rng, 20), at_ms = 1000 + rng_below(rng, 1000);
    for (size_t i = 0; i < count; i++) {
        cut += 1 + rng_below(rng, 3);
        at_ms += rng_below(rng, 400);
        items[i] = (struct retain_item){.cut = cut,
                                        .at_ms = at_ms,
                                        .pinned = rng_below(rng, 10) == 0,
                                        .used = rng_below(rng, 20) == 0,
                                        .unwanted = rng_below(rng, 6) == 0};
    }
    return count;
}

static struct retain_rule draw_rule(struct rng *rng)
{
    return (struct retain_rule){.last = (uint32_t)rng_below(rng, 6),
                                .every = (uint32_t)(rng_below(rng, 2) * rng_below(rng, 9)),
                                .every_ms = rng_below(rng, 2) * rng_below(rng, 1500),
                                .needed = rng_below(rng, 2)};
}

static void it_keeps_what_a_plain_reading_of_the_rule_keeps(void **context)
{
    (void)context;
    struct rng rng = {5};
    struct retain_item items[ITEMS_MAX];
    enum retain_why why[ITEMS_MAX];
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct retain_rule rule = draw_rule(&rng);
        size_t count = draw(&rng, items), kept = 0, expected = 0, only = 0;
        retain(&rule, items, count, why);
        for (size_t i = 0; i < count; i++) {
            bool wanted = reference(&rule, items, count, i);
            expected += wanted;
            kept += why[i] != RETAIN_NOT;
            only += why[i] == RETAIN_ONLY;
            if (why[i] != RETAIN_ONLY)
                assert_int_equal(why[i] != RETAIN_NOT, wanted);
        }
        assert_int_equal(only, rule.needed && expected == 0 && count > 0);
        assert_int_equal(kept, expected + only);
    }
}

/* A checkpoint after the other is taken, and what is not kept is gone at once. Nothing is ever missed that was given up: what
 * the rule would keep of all that there ever was is still there. */
static void what_is_given_up_is_not_missed_later(void **context)
{
    (void)context;
    static struct retain_item all[LINE_MAX], left[LINE_MAX];
    static enum retain_why why[LINE_MAX];
    struct rng rng = {6};
    for (unsigned round = 0; round < 60; round++) {
        struct retain_rule rule = draw_rule(&rng);
        size_t total = 0, count = 0, n = 1 + rng_below(&rng, 200);
        rule.last += 1;
        for (; total < n; total++) {
            uint64_t at_ms = (total ? all[total - 1].at_ms : 1000) + rng_below(&rng, 400);
            all[total] = left[count++] = (struct retain_item){.cut = total + 1, .at_ms = at_ms};
            retain(&rule, left, count, why);
            size_t kept = 0;
            for (size_t i = 0; i < count; i++)
                if (why[i] != RETAIN_NOT)
                    left[kept++] = left[i];
            count = kept;
        }
        retain(&rule, all, total, why);
        size_t at = 0;
        for (size_t i = 0; i < total; i++)
            if (why[i] != RETAIN_NOT)
                assert_int_equal(left[at++].cut, all[i].cut);
        assert_int_equal(at, count);
    }
}

static void there_is_always_room_for_new_ones(void **context)
{
    (void)context;
    static struct retain_item items[LINE_MAX];
    static enum retain_why why[LINE_MAX];
    const struct retain_rule greedy = {.last = UINT32_MAX, .every = 1, .every_ms = 1, .needed = true};
    size_t kept = 0;
    for (size_t i = 0; i < LINE_MAX; i++)
        items[i] = (struct retain_item){.cut = i + 1, .at_ms = i + 1};
    retain(&greedy, items, LINE_MAX, why);
    for (size_t i = 0; i < LINE_MAX; i++)
        kept += why[i] != RETAIN_NOT;
    assert_int_equal(kept, RETAIN_LAST_MAX);
    assert_true(RETAIN_LAST_MAX + 2 * RETAIN_EVERY_MAX + RETAIN_PINNED_MAX + RETAIN_CONDEMNED_MAX + 1 < TIDE_CKPTS_MAX);
}

static void the_last_one_is_the_newest_that_anybody_wants(void **context)
{
    (void)context;
    enum retain_why why[3];
    struct retain_rule rule = {.last = 0, .needed = true};
    struct retain_item items[3] = {{.cut = 1}, {.cut = 2}, {.cut = 3, .unwanted = true}};
    retain(&rule, items, 3, why);
    assert_int_equal(why[0], RETAIN_NOT);
    assert_int_equal(why[1], RETAIN_ONLY);
    assert_int_equal(why[2], RETAIN_NOT);
    rule.last = 1;
    items[0].unwanted = items[1].unwanted = true;
    retain(&rule, items, 3, why);
    assert_int_equal(why[2], RETAIN_ONLY);
    rule.needed = false;
    retain(&rule, items, 3, why);
    assert_int_equal(why[2], RETAIN_NOT);
    retain(&rule, items, 0, why);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_keeps_what_a_plain_reading_of_the_rule_keeps),
        cmocka_unit_test(what_is_given_up_is_not_missed_later),
        cmocka_unit_test(there_is_always_room_for_new_ones),
        cmocka_unit_test(the_last_one_is_the_newest_that_anybody_wants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
