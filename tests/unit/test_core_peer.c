/* SPDX-License-Identifier: Apache-2.0 */
#include "core_dsl.h"
#include "coordinator/core/peer.h"

/* Copies of what was recorded, in the memory of nodes of other domains: who is to have them, and what they are good for. */

/* ---- who ---- */

#define SEATS 48u
#define DOMAINS 6u
#define PARTS 960u

struct hall {
    struct peer_seat seats[SEATS];
    char names[SEATS][16], domains[DOMAINS][16];
};

static void hall_init(struct hall *hall)
{
    for (unsigned d = 0; d < DOMAINS; d++)
        snprintf(hall->domains[d], sizeof hall->domains[d], "rack%u", d);
    for (unsigned i = 0; i < SEATS; i++) {
        snprintf(hall->names[i], sizeof hall->names[i], "node%u", i);
        hall->seats[i] = peer_seat_of(hall->names[i], hall->domains[i % DOMAINS], true);
    }
}

static size_t pick(const struct hall *hall, size_t count, unsigned part)
{
    return peer_pick(hall->seats, count, peer_key("0123456789abcdef", part), &hall->seats[part % SEATS]);
}

static void nobody_has_its_own_and_another_domain_goes_first(void **context)
{
    (void)context;
    struct hall hall;
    hall_init(&hall);
    for (unsigned part = 0; part < PARTS; part++) {
        size_t at = pick(&hall, SEATS, part);
        assert_true(at < SEATS && at != part % SEATS);
        assert_string_not_equal(hall.seats[at].domain, hall.seats[part % SEATS].domain);
    }
    /* All others gone but for one of the same rack; then that one, too. */
    for (unsigned i = 0; i < SEATS; i++)
        hall.seats[i].usable = i == 0 || i == DOMAINS;
    assert_int_equal(pick(&hall, SEATS, 0), DOMAINS);
    hall.seats[DOMAINS].usable = false;
    assert_true(pick(&hall, SEATS, 0) == PEER_NONE);
}

/* One that goes takes along only what it has; one that comes takes only what it gets. */
static void others_that_come_and_go_move_nothing(void **context)
{
    (void)context;
    struct hall hall;
    unsigned moved = 0;
    hall_init(&hall);
    for (unsigned part = 0; part < PARTS; part++) {
        size_t before = pick(&hall, SEATS, part), gone = (before + 7) % SEATS;
        if (gone == part % SEATS)
            continue;
        hall.seats[gone].usable = false;
        assert_int_equal(pick(&hall, SEATS, part), before);
        hall.seats[gone].usable = true;
        hall.seats[before].usable = false;
        assert_true(pick(&hall, SEATS, part) != before);
        hall.seats[before].usable = true;
        size_t fewer = pick(&hall, SEATS - 1, part);
        moved += fewer != before;
        assert_true(fewer == before || before == SEATS - 1);
    }
    assert_in_range(moved, 1, 3 * PARTS / SEATS);
}

/* By score alone nobody has much more than his share; by load nobody has more than one above another. */
static void all_have_about_the_same(void **context)
{
    (void)context;
    struct hall hall;
    unsigned counts[SEATS] = {0};
    hall_init(&hall);
    for (unsigned part = 0; part < PARTS; part++)
        counts[pick(&hall, SEATS, part)]++;
    for (unsigned i = 0; i < SEATS; i++)
        assert_in_range(counts[i], 1, 3 * PARTS / SEATS);
    for (unsigned part = 0; part < PARTS; part++)
        hall.seats[pick(&hall, SEATS, part)].load++;
    for (unsigned i = 0; i < SEATS; i++)
        assert_in_range(hall.seats[i].load, PARTS / SEATS - 1, PARTS / SEATS + 1);
}

/* ---- what becomes of it ---- */

static void set_domain(struct world *w, const char *name, const char *domain)
{
    struct fake *fake = fake_of(w, name);
    TEXT_SET(fake->domain, domain);
    assert_int_equal(register_as(w, fake->name, fake->uid, fake->incarnation, 1), TIDE_OK);
}

/* A job on n1 and n2 with its spare n3, and nobody who could store; all copy. */
static void start(struct world *w, unsigned nodes, uint32_t spares)
{
    world_init(w);
    world_nodes(w, nodes, 1);
    for (int i = 0; i < FAKES_MAX; i++)
        w->fakes[i].copies = w->fakes[i].store_hangs = true;
    assert_int_equal(submit(w, "j", 2, spares, 1), TIDE_OK);
    run(w, 1000);
    assert_true(job_of(w, "j")->all_stepped);
}

static void save(struct world *w)
{
    assert_int_equal(order(w, CMD_CKPT_REQUEST, "j", 0), TIDE_OK);
    run(w, 1500);
}

static const char *word_of(struct world *w, uint64_t cut)
{
    return ckpt_state_names[ckpt_of(w, "j", cut)->state];
}

static void a_lost_node_is_restored_from_its_peer(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, 1);
    save(&w);
    assert_string_equal(word_of(&w, 1), "peered");
    assert_int_equal(w.applied[CMD_CKPT_PEERED], 1);
    const struct ckpt *ckpt = ckpt_of(&w, "j", 1);
    assert_int_equal(ckpt->peers.count, 2);
    assert_string_not_equal(ckpt->peers.items[1], "n2");
    char peer[TIDE_NAME_MAX + 1];
    TEXT_SET(peer, ckpt->peers.items[1]);
    fake_of(&w, "n2")->up = false;
    run(&w, 2500);
    struct job *job = job_of(&w, "j");
    assert_int_equal(job->generation, 2);
    assert_string_equal(job->nodes.items[1], "n3");
    assert_int_equal(job->restore_cut, 1);
    assert_text(event_last(&w, "j", EVENT_LAUNCHED)->text, "n3 (in place of n2, from the memory of n");
    struct desired desired;
    assert_int_equal(desired_build(&w.state, &w.book, "n3", &desired, &w.err), TIDE_OK);
    assert_string_equal(desired.jobs.items[0].restore_peer, peer);
    assert_string_equal(desired.jobs.items[0].restore_peer_address, "10.0.0.1");
    assert_int_equal(desired.jobs.items[0].restore_peer_port, 7200);
    assert_true(desired.jobs.items[0].token[0] != '\0');
    codec_release(&desired_codec, &desired);
    /* It goes on from there: the store did not have it, and will not; the next is stored and copied as any other. */
    run(&w, 3000);
    assert_int_equal(record_of(&w, "j")->store_cut, 0);
    assert_text(event_last(&w, "j", EVENT_STORE_FAILED)->text, "only a copy is left");
    assert_true(ckpt_of(&w, "j", 1)->state == TIDE_CKPT_SEALED || ckpt_of(&w, "j", 1)->state == TIDE_CKPT_PEERED);
    save(&w);
    assert_string_equal(word_of(&w, 2), "peered");
    assert_string_equal(ckpt_of(&w, "j", 2)->nodes.items[1], "n3");
    world_release(&w);
}

/* What was recorded and not copied yet is not taken, what was copied before is: also where its owner has written over it. */
static void the_newest_that_was_copied_is_taken(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, 1);
    save(&w);
    assert_string_equal(word_of(&w, 1), "peered");
    for (int i = 0; i < FAKES_MAX; i++)
        w.fakes[i].copy_fails = true, w.fakes[i].copies = false;
    save(&w);
    assert_string_equal(word_of(&w, 2), "sealed");
    assert_text(event_last(&w, "j", EVENT_UNPEERED)->text, "there is no room for it in the arena");
    assert_int_equal(event_count(&w, "j", EVENT_UNPEERED), 1);
    run(&w, 5000);
    assert_int_equal(event_count(&w, "j", EVENT_UNPEERED), 1);
    assert_string_equal(word_of(&w, 1), "peered");
    fake_of(&w, "n1")->up = false;
    run(&w, 2500);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_int_equal(job_of(&w, "j")->restore_cut, 1);
    world_release(&w);
}

static void copies_are_no_use_when_both_are_lost(void **context)
{
    (void)context;
    struct world w;
    start(&w, 4, 1);
    save(&w);
    char peer[TIDE_NAME_MAX + 1];
    TEXT_SET(peer, ckpt_of(&w, "j", 1)->peers.items[1]);
    fake_of(&w, "n2")->up = fake_of(&w, peer)->up = false;
    run(&w, 4000);
    assert_int_equal(job_of(&w, "j")->restore_cut, 0);
    world_release(&w);
}

/* A peer is lost: what it had is not counted on any more, and another copies. */
static void a_lost_peer_has_a_successor(void **context)
{
    (void)context;
    struct world w;
    start(&w, 4, 0);
    save(&w);
    assert_string_equal(word_of(&w, 1), "peered");
    char peer[TIDE_NAME_MAX + 1];
    TEXT_SET(peer, ckpt_of(&w, "j", 1)->peers.items[0]);
    if (strcmp(peer, "n2") == 0) /* it runs ranks itself: then that of the other one */
        TEXT_SET(peer, ckpt_of(&w, "j", 1)->peers.items[1]);
    assert_true(strcmp(peer, "n3") == 0 || strcmp(peer, "n4") == 0);
    fake_of(&w, peer)->up = false;
    run(&w, 2200);
    assert_int_equal(event_count(&w, "j", EVENT_UNPEERED), 1);
    run(&w, 1000);
    assert_string_equal(word_of(&w, 1), "peered");
    assert_int_equal(w.applied[CMD_CKPT_PEERED], 2);
    for (size_t n = 0; n < 2; n++)
        assert_string_not_equal(ckpt_of(&w, "j", 1)->peers.items[n], peer);
    assert_int_equal(job_of(&w, "j")->generation, 1);
    world_release(&w);
}

/* Its agent was started again with nothing in its memory. */
static void a_copy_that_is_gone_is_made_again(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, 0);
    save(&w);
    assert_string_equal(word_of(&w, 1), "peered");
    struct fake *peer = fake_of(&w, ckpt_of(&w, "j", 1)->peers.items[0]);
    peer->copies = false;
    for (int k = 0; k < FAKE_JOBS_MAX; k++)
        memset(peer->jobs[k].copied, 0, sizeof peer->jobs[k].copied);
    run(&w, 2500);
    assert_string_equal(word_of(&w, 1), "sealed");
    assert_text(event_last(&w, "j", EVENT_UNPEERED)->text, "it is not there any more");
    peer->copies = true;
    run(&w, 1000);
    assert_string_equal(word_of(&w, 1), "peered");
    world_release(&w);
}

/* Also what is in the store is copied: a restart from memory is faster, and nothing is committed in vain. */
static void a_committed_one_has_copies_until_the_next(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, 0);
    for (int i = 0; i < FAKES_MAX; i++)
        w.fakes[i].store_hangs = false;
    save(&w);
    save(&w);
    assert_string_equal(word_of(&w, 2), "committed");
    assert_int_equal(ckpt_of(&w, "j", 1)->peers.count, 0);
    assert_int_equal(ckpt_of(&w, "j", 2)->peers.count, 2);
    assert_int_equal(order(&w, CMD_JOB_CANCEL, "j", 0), TIDE_OK);
    run(&w, 3000);
    assert_true(job_ended(job_of(&w, "j")->state));
    assert_int_equal(ckpt_of(&w, "j", 2)->peers.count, 0);
    for (int i = 0; i < FAKES_MAX; i++)
        for (int k = 0; k < FAKE_JOBS_MAX; k++)
            assert_int_equal(w.fakes[i].jobs[k].order.copies.count, 0);
    world_release(&w);
}

static void another_domain_is_waited_for_by_nobody(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, 0);
    set_domain(&w, "n1", "rack1");
    set_domain(&w, "n2", "rack1");
    set_domain(&w, "n3", "rack1");
    save(&w);
    assert_string_equal(word_of(&w, 1), "peered");
    assert_text(event_last(&w, "j", EVENT_PEERED)->text, "there is none but of the same domain: rack1");
    /* Others of that domain move nothing, whoever scores higher. */
    uint64_t decided = record_of(&w, "j")->peers_at;
    for (int i = 3; i < FAKES_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%d", i + 1);
        TEXT_SET(w.fakes[i].domain, "rack1");
        node_new(&w, name, 1);
    }
    assert_int_equal(record_of(&w, "j")->peers_at, decided);
    set_domain(&w, "n3", "rack2"); /* from now on there is one */
    assert_string_equal(record_of(&w, "j")->peers.items[0], "n3");
    assert_string_equal(record_of(&w, "j")->peers.items[1], "n3");
    run(&w, 1000);
    assert_string_equal(ckpt_of(&w, "j", 1)->peers.items[0], "n3");
    world_release(&w);
}

/* A verdict that is late: of other peers than are meant by now, of an ended generation, said twice. */
static void late_verdicts_change_nothing(void **context)
{
    (void)context;
    struct world w;
    start(&w, 3, 0);
    fake_of(&w, "n1")->copies = fake_of(&w, "n2")->copies = fake_of(&w, "n3")->copies = false;
    save(&w);
    struct command peered = verdict(&w, CMD_CKPT_PEERED, "j");
    peered.cut = 1;
    peered.epoch = record_of(&w, "j")->peers_at + 1;
    assert_int_equal(world_apply(&w, &peered), TIDE_E_STALE);
    peered.epoch--;
    peered.generation = 2;
    assert_int_equal(world_apply(&w, &peered), TIDE_E_STALE);
    peered.generation = 1;
    peered.cut = 2;
    assert_int_equal(world_apply(&w, &peered), TIDE_E_STALE);
    peered.cut = 1;
    assert_int_equal(world_apply(&w, &peered), TIDE_OK);
    assert_int_equal(world_apply(&w, &peered), TIDE_E_STALE);
    assert_string_equal(word_of(&w, 1), "peered");
    world_release(&w);
}

static void below_level_3_nothing_is_copied(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    w.state.level = w.second.level = 2;
    world_nodes(&w, 3, 1);
    for (int i = 0; i < FAKES_MAX; i++)
        w.fakes[i].copies = true;
    submit(&w, "j", 2, 0, 1);
    run(&w, 1000);
    save(&w);
    assert_int_equal(record_of(&w, "j")->peers.count, 0);
    struct command raise = command_new(&w, CMD_CLUSTER_LEVEL, NULL);
    raise.level = 3;
    assert_int_equal(world_apply(&w, &raise), TIDE_OK);
    run(&w, 500);
    assert_int_equal(ckpt_of(&w, "j", 1)->peers.count, 2);
    world_release(&w);
}

/* Nobody is given its part: what a lost node had in memory only is lost. Of another job beside it there are copies. */
static void a_job_that_wants_no_copies_has_none(void **context)
{
    (void)context;
    struct world w;
    world_init(&w);
    world_nodes(&w, 3, 2);
    for (int i = 0; i < FAKES_MAX; i++)
        w.fakes[i].copies = w.fakes[i].store_hangs = true;
    struct command command = submission(&w, "j", 2, 0, 1);
    command.spec.copies = COPIES_NO;
    assert_int_equal(submit_this(&w, &command), TIDE_OK);
    assert_int_equal(submit(&w, "k", 2, 0, 1), TIDE_OK);
    run(&w, 1000);
    save(&w);
    assert_int_equal(order(&w, CMD_CKPT_REQUEST, "k", 0), TIDE_OK);
    run(&w, 1500);
    assert_string_equal(word_of(&w, 1), "sealed");
    assert_string_equal(ckpt_state_names[ckpt_of(&w, "k", 1)->state], "peered");
    assert_int_equal(record_of(&w, "j")->peers.count, 0);
    assert_int_equal(event_count(&w, "j", EVENT_PEERED) + event_count(&w, "j", EVENT_UNPEERED), 0);
    fake_of(&w, job_of(&w, "j")->nodes.items[1])->up = false;
    run(&w, 2500);
    assert_int_equal(job_of(&w, "j")->generation, 2);
    assert_int_equal(job_of(&w, "j")->restore_cut, 0);
    assert_int_equal(record_of(&w, "j")->peers.count, 0);
    world_release(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_has_its_own_and_another_domain_goes_first),
        cmocka_unit_test(others_that_come_and_go_move_nothing),
        cmocka_unit_test(all_have_about_the_same),
        cmocka_unit_test(a_lost_node_is_restored_from_its_peer),
        cmocka_unit_test(the_newest_that_was_copied_is_taken),
        cmocka_unit_test(copies_are_no_use_when_both_are_lost),
        cmocka_unit_test(a_lost_peer_has_a_successor),
        cmocka_unit_test(a_copy_that_is_gone_is_made_again),
        cmocka_unit_test(a_committed_one_has_copies_until_the_next),
        cmocka_unit_test(another_domain_is_waited_for_by_nobody),
        cmocka_unit_test(late_verdicts_change_nothing),
        cmocka_unit_test(below_level_3_nothing_is_copied),
        cmocka_unit_test(a_job_that_wants_no_copies_has_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
