/* SPDX-License-Identifier: Apache-2.0 */
#include "core_saves.h"

/* Objects of dropped checkpoints are deleted, also those that are written late. */

/* n2 still writes what it was told to: its objects would land behind the broom. */
static void nothing_is_deleted_while_somebody_may_write_it(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 2, 2, 0);
    save_job(&w);
    save_job(&w);
    fake_of(&w, "n2")->writes = true;
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 1), TIDE_OK);
    run(&w, 1000);
    assert_int_equal(w.applied[CMD_CKPT_PURGED], 0);
    new_leader(&w);
    run(&w, 1000);
    assert_int_equal(w.applied[CMD_CKPT_PURGED], 0);
    assert_string_equal(record_of(&w, "j")->purge.items[0], "1");
    fake_of(&w, "n2")->writes = false;
    run(&w, 200);
    assert_int_equal(w.applied[CMD_CKPT_PURGED], 1);
    assert_int_equal(record_of(&w, "j")->purge.count, 0);
    assert_int_equal(record_of(&w, "j")->owed.count, 0);
    world_release(&w);
}

/* A lost node is not waited for; but it may be cut off only, and write. */
static void what_a_lost_node_may_have_written_is_deleted_when_it_is_back(void **context)
{
    (void)context;
    struct world w;
    start_job(&w, 3, 2, 1);
    save_job(&w);
    save_job(&w);
    fake_of(&w, "n2")->up = false;
    run(&w, 3000);
    assert_int_equal(order(&w, CMD_CKPT_DROP, "j", 1), TIDE_OK);
    run(&w, 200);
    assert_int_equal(w.applied[CMD_CKPT_PURGED], 1);
    assert_string_equal(record_of(&w, "j")->owed.items[0], "1");
    fake_of(&w, "n2")->up = true;
    fake_of(&w, "n2")->writes = true;
    run(&w, 500);
    assert_int_equal(record_of(&w, "j")->owed.count, 0);
    assert_text(record_of(&w, "j")->purge.items[0], "1@");
    /* The first of its deletions is done, and that does not count. */
    struct command late = command_new(&w, CMD_CKPT_PURGED, "j");
    TEXT_SET(late.text, "1");
    late.cut = 1;
    assert_int_equal(world_apply(&w, &late), TIDE_E_STALE);
    uint64_t done = w.applied[CMD_CKPT_PURGED];
    fake_of(&w, "n2")->writes = false;
    run(&w, 200);
    assert_int_equal(record_of(&w, "j")->purge.count, 0);
    assert_true(w.applied[CMD_CKPT_PURGED] > done);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_deleted_while_somebody_may_write_it),
        cmocka_unit_test(what_a_lost_node_may_have_written_is_deleted_when_it_is_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
