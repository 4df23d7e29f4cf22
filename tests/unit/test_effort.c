/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ckpt/stage/effort.h"

#define MOST 8u

/* One letter a pack: what was under way behind it (0 nothing, . some, F all there is room for, ? it cannot be told), and below
 * it the level from then on (raw, fast, strong). */
static const struct {
    const char *name, *depths, *levels;
} stories[] = {
    {"a store that keeps pace changes nothing", "........", "ffffffff"},
    {"one that is quicker than the processor gets raw bytes", "0000", "frrr"},
    {"once is chance", "0.0.0.", "ffffff"},
    {"one that is slower gets fewer of them", "FFFF", "ffss"},
    {"now and then is chance, too", "FF.FF.", "ffffff"},
    {"it goes back one by one", "FFF000000", "ffssffrrr"},
    {"and up again when the store gets slow", "00FFFF..", "frrrffff"},
    {"from there on to strong", "00FFFFFFF", "frrrfffss"},
    {"a queue that holds nothing tells nothing", "????0?0?", "ffffffff"},
};

static enum effort_level level_of(char letter)
{
    return letter == 'r' ? EFFORT_RAW : letter == 'f' ? EFFORT_FAST : EFFORT_STRONG;
}

static void the_queue_decides(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof stories / sizeof stories[0]; i++) {
        struct effort effort;
        effort_init(&effort);
        assert_int_equal(strlen(stories[i].depths), strlen(stories[i].levels));
        for (size_t k = 0; stories[i].depths[k] != '\0'; k++) {
            char depth = stories[i].depths[k];
            effort_note(&effort, depth == 'F' ? MOST : depth == '.' ? MOST / 2 : 0, depth == '?' ? 0 : MOST);
            if (effort.level != level_of(stories[i].levels[k]))
                fail_msg("%s: pack %zu is followed by level %u", stories[i].name, k, effort.level);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_queue_decides)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
