/* SPDX-License-Identifier: Apache-2.0 */
/* Stories of a group of three coordinators: one dies, sleeps or is cut off, and no rank notices. */
#include "tests/sim/story.h"

static struct world *begin_group(uint32_t hosts)
{
    struct world *w = world_create(STORY_SEED, getenv("SIM_TRACE") != NULL);
    w->host_count = hosts;
    w->coord_count = 3;
    leader_boot(w);
    for (uint32_t i = 0; i < hosts; i++)
        host_boot(w, &w->hosts[i]);
    return w;
}

static bool somebody_leads(const struct world *w)
{
    for (uint32_t i = 0; i < w->coord_count; i++)
        if (w->coords[i].up && w->coords[i].office.taken)
            return true;
    return false;
}

static struct plan *submit_to_group(struct world *w)
{
    until(w, SECONDS(3), somebody_leads);
    after(w, MS(500));
    struct plan *plan = plan_add(w, 3, 1, 300, 20, 1000);
    person_submits(w, 0);
    return plan;
}

/* The leader dies while the ranks start, while a cut is open and right after one was sealed; each time it comes back a second
 * later. Not one rank notices. */
static void leaders_die_and_no_rank_notices(void **state)
{
    (void)state;
    static bool (*const moments[])(const struct world *) = {NULL, cut_1_open, cut_1_sealed};
    for (size_t i = 0; i < sizeof moments / sizeof moments[0]; i++) {
        struct world *w = begin_group(3);
        submit_to_group(w);
        if (moments[i] == NULL)
            after(w, MS(60));
        else
            until(w, SECONDS(6), moments[i]);
        struct coord *leader = coord_in_office(w);
        assert_non_null(leader);
        coord_crash(w, leader);
        until(w, SECONDS(2), somebody_leads);
        assert_true(coord_in_office(w) != leader);
        after(w, SECONDS(1));
        coord_boot(w, leader);
        until(w, SECONDS(20), cut_2_committed);
        assert_int_equal(job_now(w)->generation, 1);
        assert_int_equal(job_now(w)->restarts, 0);
        assert_int_equal(w->lost_revision[0] + w->lost_revision[1] + w->lost_revision[2], 0);
        ends_well(w, TIDE_JOB_SUCCEEDED);
    }
}

/* The leader alone is cut off from the other two, not from the agents, which go on talking to it. It leaves office before an
 * election time-out is over; whatever it still wanted does not happen, and the agents find the new one. */
static void leader_without_a_majority_leaves(void **state)
{
    (void)state;
    struct world *w = begin_group(3);
    submit_to_group(w);
    until(w, SECONDS(6), cut_1_committed);
    struct coord *old = coord_in_office(w);
    uint64_t term = old->status.term;
    for (uint32_t i = 0; i < w->coord_count; i++)
        old->cut_until[i] = w->coords[i].cut_until[old->slot] = w->now + SECONDS(5);
    after(w, MS(RAFT_TICK_MS * (RAFT_ELECTION_TICKS_DEFAULT + 10) * 118 / 100));
    assert_false(old->office.taken);
    after(w, SECONDS(1));
    struct coord *new = coord_in_office(w);
    assert_non_null(new);
    assert_true(new != old && new->status.term > term);
    after(w, SECONDS(2));
    for (uint32_t i = 0; i < w->host_count; i++)
        assert_int_equal(w->hosts[i].coord, new->slot);
    assert_int_equal(job_now(w)->restarts, 0);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* The leader stands still for six seconds, and wakes up believing that it leads. By then a rank has died and generation 2 runs
 * under another leader: nothing the old one says counts, and it learns of it within a moment. */
static void leader_that_slept_changes_nothing(void **state)
{
    (void)state;
    struct world *w = begin_group(3);
    submit_to_group(w);
    until(w, SECONDS(6), cut_1_committed);
    struct coord *old = coord_in_office(w);
    coord_pause(w, old, SECONDS(6));
    after(w, SECONDS(2));
    kill_rank_0(w);
    until(w, SECONDS(4), second_generation_steps);
    uint64_t awake = old->paused_until;
    world_run(w, awake + MS(100), NULL);
    assert_false(old->office.taken);
    assert_int_equal(job_now(w)->generation, 2);
    assert_int_equal(job_now(w)->restarts, 1);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* Two of three are gone: nothing is decided, and everything goes on. A rank that dies meanwhile is started again once a second
 * member is back. */
static void without_a_majority_training_goes_on(void **state)
{
    (void)state;
    struct world *w = begin_group(3);
    submit_to_group(w);
    until(w, SECONDS(6), cut_1_committed);
    struct coord *leader = coord_in_office(w);
    struct coord *other = &w->coords[(leader->slot + 1) % 3];
    coord_crash(w, leader);
    coord_crash(w, other);
    uint64_t before = step_of(w, 1);
    after(w, SECONDS(2));
    assert_true(step_of(w, 1) > before + 50);
    assert_false(somebody_leads(w));
    kill_rank_0(w);
    after(w, SECONDS(1));
    assert_int_equal(job_now(w)->generation, 1);
    coord_boot(w, other);
    until(w, SECONDS(8), second_generation_steps);
    assert_int_equal(job_now(w)->restarts, 1);
    coord_boot(w, leader);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

/* ---- members are replaced by newer ones ---- */

static bool a_checkpoint_is(const struct world *w, unsigned state)
{
    const struct job_record *record = leader_job(w, "job0");
    for (size_t i = 0; record != NULL && i < record->job.ckpts.count; i++)
        if (record->job.ckpts.items[i].state == state)
            return true;
    return false;
}

static bool dropped_one(const struct world *w)
{
    return a_checkpoint_is(w, TIDE_CKPT_DROPPED);
}

static bool condemned_one(const struct world *w)
{
    return a_checkpoint_is(w, TIDE_CKPT_CONDEMNED);
}

static bool level_newest(const struct world *w)
{
    return w->leader.state.level == LEVEL_NEWEST;
}

static bool has_ended(const struct world *w)
{
    return job_ended(job_now(w)->state);
}

static enum tide_status pin_is(struct world *w, uint64_t cut)
{
    struct command pin = {.kind = CMD_CKPT_PIN, .cut = cut};
    struct err err = {0};
    return level_admits(&coord_in_office(w)->state, &pin, &err);
}

/* A group of a version that knew of no levels; its members are replaced one by one, the leader first, while a job trains. As
 * long as one is old, all do as it does: what the rule does not keep is dropped at once, and nothing is proposed that it could
 * not read. When the last one is new, the leader says so in the log, and from that entry on there is a grace. Every member has
 * the same state all the time, and no rank notices. */
static void members_are_replaced_one_by_one(void **state)
{
    (void)state;
    struct world *w = world_create(STORY_SEED, getenv("SIM_TRACE") != NULL);
    w->host_count = w->coord_count = 3;
    for (uint32_t i = 0; i < 3; i++)
        w->coords[i].knows_next = 0;
    leader_boot(w);
    for (uint32_t i = 0; i < 3; i++)
        host_boot(w, &w->hosts[i]);
    until(w, SECONDS(3), somebody_leads);
    after(w, MS(500));
    struct plan *plan = plan_add(w, 3, 1, 2000, 20, 1000);
    plan->spec.ckpt_grace_ms = 0; /* an old version knows of none: the default */
    person_submits(w, 0);
    for (uint32_t i = 0; i < 3; i++) {
        until(w, SECONDS(10), dropped_one);
        assert_int_equal(w->leader.state.level, 0);
        assert_false(condemned_one(w));
        assert_int_equal(pin_is(w, 1), TIDE_E_STATE);
        struct coord *next = i == 0 ? coord_in_office(w) : NULL;
        for (uint32_t k = 0; k < 3 && next == NULL; k++)
            next = w->coords[k].knows == 0 ? &w->coords[k] : NULL;
        assert_non_null(next);
        coord_crash(w, next);
        next->knows_next = LEVEL_NEWEST;
        until(w, SECONDS(2), somebody_leads);
        after(w, MS(500));
        coord_boot(w, next);
        after(w, SECONDS(3));
    }
    until(w, SECONDS(2), level_newest);
    assert_int_equal(pin_is(w, 1), TIDE_OK);
    until(w, SECONDS(10), condemned_one);
    check_coords_agree(w);
    assert_int_equal(job_now(w)->restarts, 0);
    until(w, SECONDS(60), has_ended);
    struct op gc = {.kind = OP_GC, .job = "job0"}; /* nobody waits for the end of the grace */
    person_asks(w, gc);
    ends_well(w, TIDE_JOB_SUCCEEDED);
}

int main(void)
{
    const struct CMUnitTest stories[] = {
        cmocka_unit_test(leaders_die_and_no_rank_notices),
        cmocka_unit_test(leader_without_a_majority_leaves),
        cmocka_unit_test(leader_that_slept_changes_nothing),
        cmocka_unit_test(without_a_majority_training_goes_on),
        cmocka_unit_test(members_are_replaced_one_by_one),
    };
    return cmocka_run_group_tests(stories, NULL, NULL);
}
