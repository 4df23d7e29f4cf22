/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_RAFT_STORY_H
#define TESTS_SIM_RAFT_STORY_H

/* The words stories are told in. Each story has a world that tells no other lie; check.c and promise.c look on. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/sim/raft/sim.h"

/* stories_log.c, stories_vote.c, stories_group.c, stories_read.c, stories_image.c, stories_core.c */
#define STORIES(X) \
    X(nothing_happens) X(figure_7) X(figure_8) X(a_stale_tail_is_not_counted) X(an_old_leaders_tail_gives_way) \
    X(the_leaders_disk_fails_under_an_entry) X(what_only_some_have_survives_a_power_failure) \
    X(a_hung_member_costs_no_memory) X(more_than_the_bound_is_refused) X(a_hanging_disk_does_not_silence_a_follower) \
    X(lost_appends_are_sent_again) X(thirty_leaders_die) X(a_returning_member_disturbs_nobody) \
    X(a_cut_off_leader_steps_down) X(one_vote_a_term) X(a_vote_is_durable_before_it_is_said) \
    X(an_own_vote_counts_when_it_is_durable) X(a_led_member_ignores_candidates) X(a_shorter_log_gets_no_vote) \
    X(leadership_is_handed_over) X(a_handover_to_the_mute_ends) X(a_split_vote_is_settled) \
    X(a_learner_joins_and_is_promoted) X(a_lagging_learner_is_not_promoted) X(a_learner_does_not_count) \
    X(the_leader_is_removed) X(the_last_voter_stays) X(one_change_at_a_time) X(no_change_before_an_own_entry) \
    X(a_change_is_rolled_back) X(a_change_is_rolled_back_over_a_snapshot) X(a_removal_only_the_removed_has) \
    X(removed_and_added_again) X(a_group_of_one_grows) X(a_read_sees_what_was_acknowledged) X(a_read_needs_a_round) \
    X(a_read_waits_for_an_own_entry) X(a_deposed_leader_answers_no_read) X(an_old_round_confirms_nothing) \
    X(too_many_reads_are_refused) X(a_snapshot_brings_a_member_back) X(a_lost_chunk_is_sent_again) \
    X(a_transfer_goes_on_after_a_restart) X(a_transfer_goes_on_under_another_leader) X(a_spoiled_image_is_sent_again) \
    X(a_lost_image_is_not_offered) X(an_address_is_changed) \
    X(a_snapshot_replaces_another_history) X(a_snapshot_outlives_its_ballot) X(done_means_durable) \
    X(garbage_does_no_harm) X(an_append_that_cannot_be_is_dropped) X(a_torn_log_is_refused) \
    X(two_leaders_of_a_term_cannot_be) X(a_disk_that_stands_is_not_buried) X(the_unreachable_is_probed) \
    X(an_eighth_voter_is_refused) X(an_acknowledgement_waits_for_the_disk) X(a_commit_stops_at_what_was_shown) \
    X(what_is_committed_is_never_taken_back) X(a_deposed_leader_says_so) X(names_of_roles_and_states) \
    X(bad_options_are_refused)

#define STORY_DECLARE(name) void name(void **state);
STORIES(STORY_DECLARE)

/* ---- a world ---- */
struct world *begin(uint32_t members, uint32_t spares);
void end(struct world *w); /* nothing was violated */
void pass(struct world *w, uint64_t ms);
void until(struct world *w, uint64_t ms, bool (*done)(const struct world *w)); /* it must come to be */
struct node *leader(struct world *w);                                         /* waits for one that is ready */
struct node *leader_other_than(struct world *w, const struct node *old);
struct node *make_leader(struct world *w, uint32_t slot);
struct node *follower(struct world *w, unsigned nth); /* 0, 1, … of those that do not lead and are up */
bool all_agree(const struct world *w);
void cut_link(struct world *w, uint32_t from, uint32_t to);
void cut_off(struct world *w, const struct node *n); /* both ways, from everybody */
void join(struct world *w);                         /* all links work again */
void restart(struct world *w, struct node *n);
/* Index of the entry; 0: refused. */
uint64_t propose(struct world *w, struct node *n, uint32_t bytes);
void propose_many(struct world *w, struct node *n, size_t count);
enum tide_status change(struct world *w, struct node *n, unsigned kind, uint64_t id);
enum tide_status ask_read(struct world *w, struct node *n); /* client 0 asks; its state tells the rest */
bool read_answered(const struct world *w);
void take_image(struct world *w, struct node *n);

/* Disks before the first start: entry 1 is the group; the others have these terms. */
struct world *begin_with(uint32_t members);
void given(struct world *w, uint32_t slot, uint64_t term, const unsigned *terms, size_t count);
void boot_all(struct world *w);

/* ---- one core alone ---- */
struct solo {
    struct raft *raft;
    struct raft_update update; /* of the last step */
    struct raft_status status;
    struct err err;
};
/* Member `id` of a group of `members`; entries of these terms, the first of them the group. */
void solo_begin(struct solo *s, uint64_t id, uint32_t members, struct raft_ballot ballot, const unsigned *terms, size_t count);
void solo_lead(struct solo *s); /* begins member 1 of three as the leader of term 2, its first entry (2) committed */
void solo_end(struct solo *s);
enum tide_status solo_step(struct solo *s, struct raft_event event);
enum tide_status solo_hears(struct solo *s, struct raft_message message);
enum tide_status solo_append(struct solo *s, uint64_t from, uint64_t term, uint64_t prev, uint64_t prev_term, const unsigned *terms,
                             size_t count, uint64_t commit);
void solo_ticks(struct solo *s, unsigned count); /* the update is that of the last one */
void solo_persist(struct solo *s);               /* all that was asked for */
/* The n-th message of this kind in the last update; NULL: none. */
const struct raft_message *solo_says(const struct solo *s, unsigned kind, unsigned nth);

#endif
