#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/sim/raft/mutants.sh [NAME …]: do stories and seeds notice? Each mutant is one deliberate bug in a copy of
# coordinator/raft, or in what coordinator/disk reads a log with. One line per mutant with what caught it, last line
# "mutants N  caught C, by seeds S"; exit status 0 when all were caught.
# A mutant whose text is not in the source any more fails too: it must be written anew.
# MUTANT_SEEDS=A:B: the seeds tried when no story catches it (default 0:3000). MUTANT_BY: what may catch it, of "stories seeds"
# (default both). MUTANT_BUILD: build directory (default build-tests/mutants-raft).
set -uo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
SEEDS=${MUTANT_SEEDS:-0:3000}
BY=${MUTANT_BY:-stories seeds}
BUILD=${MUTANT_BUILD:-$ROOT/build-tests/mutants-raft}
TREE=$BUILD/tree

# shellcheck source=tests/lib/mutants.sh
. "$ROOT/tests/lib/mutants.sh"

# ---- the mutants: name, file, perl substitution over the whole file. A to I: the defects of libraft in FACTS' order ----

mutants()
{
    cat <<'END'
none                              -                      -
A_counts_the_end_of_the_log       recv_append.c          s/match = to->append\.prev_index \+ to->append\.count;/match = log_last(&raft->log);/
B_drops_the_rule_of_figure_8      commit.c               s/ \|\| log_term\(&raft->log, index\) != raft->ballot\.term//
C_stands_again_in_its_own_term    role.c                 s/\.term = raft->ballot\.term \+ 1, \.vote = raft->id/.term = raft->ballot.term + (raft->ballot.vote == raft->id ? 0 : 1), .vote = raft->id/
D_keeps_a_change_taken_back       recv_append.c          s/            if \(raft->config_index >= entry->index\)\n                config_look_again\(raft, update\);\n//
D_forgets_the_group_in_compaction recv_snapshot.c        s/    status = raft_config_at\(raft, through, &raft->base_config, err\);\n//
E_dies_as_candidate               recv_append.c          s/if \(raft->role == RAFT_LEADER\)/if (raft->role != RAFT_FOLLOWER)/
F_takes_a_log_with_a_gap          raft.c                 s/\(i > 0 && entry->index != next\) \|\| //
G_takes_a_log_whose_terms_fall    raft.c                 s/entry->term < term \|\| //
H_believes_any_append             recv_append.c          s/if \(!plausible\(raft, message\)\)/if (false \&\& !plausible(raft, message))/
I_forgets_what_is_under_way       replicate.c            s/peer->flight_count\+\+\)/peer->flight_count)/; s/    peer->flight_bytes \+= bytes;\n//
no_prevote                        role.c                 s/    set_role\(raft, update, RAFT_PRE_CANDIDATE, 0\);\n.*?\n\}/    campaign(raft, update, false);\n}/s
votes_twice                       recv_vote.c            s/\(raft->ballot\.vote == 0 \|\| raft->ballot\.vote == message->from\)/true/; s/granted && raft->ballot\.vote == 0/granted/
forgets_to_write_the_vote         recv_vote.c            s/        out_ballot\(raft, update\);\n//
speaks_before_the_term_is_durable out.c                  s/    if \(need < raft->ballot_write\)\n        need = raft->ballot_write;\n//
acknowledges_before_the_disk      recv_append.c          s/match > raft->stable \? raft->write_number : 0/0/
alive_means_acknowledged          recv_append.c          s/        match = raft->stable;\n/        raft->stable = match;\n/
own_vote_counts_at_once           role.c                 s/(update->role_changed = true;\n    begin_asking\(raft, update, transfer\);\n)/$1    count_vote(raft, update, raft->id, true);\n/
own_entries_count_at_once         commit.c               s/majority_of\(raft, raft->stable, match_of\)/majority_of(raft, log_last(\&raft->log), match_of)/
believes_writes_taken_back        out.c                  s/        if \(raft->writes\[raft->writes_start \+ i\]\.last > last\)\n            raft->writes\[raft->writes_start \+ i\]\.last = last;\n//
says_what_was_held_for_old_terms  role.c                 s/        out_forget_held\(raft\);\n//
votes_for_shorter_logs            recv_vote.c            s/message->vote\.last_index >= last\)/true)/
votes_for_older_logs              recv_vote.c            s/message->vote\.last_term > term \|\| /message->vote.last_index > last || message->vote.last_term > term || /
ignores_that_a_leader_lives       recv_vote.c            s/ && leader_alive\(raft\)\)/ \&\& false)/
counts_votes_of_learners          role.c                 s/    if \(!config_is_voter\(raft, from\)\)\n        return;\n//; s/if \(!member->voter \|\| member->id == raft->id/if (member->id == raft->id/
no_check_quorum                   ev_tick.c              s/return active_voters\(raft, &raft->config\) < config_majority\(raft\);/return false;/
learners_count                    commit.c               s/: !raft->peers\[i\]\.voter\)/: false)/
smaller_majority                  commit.c               s/sorted\[count \/ 2\]/sorted[count > 2 ? 1 : 0]/; s/sorted\[at - 1\] < value/sorted[at - 1] < value/
ignores_the_entry_before          recv_append.c          s/prev >= base && log_term\(&raft->log, prev\) != message->append\.prev_term/false/
takes_back_what_is_the_same       recv_append.c          s/            if \(log_term\(&raft->log, entry->index\) == entry->term\)\n                continue;\n//
takes_back_what_is_committed      recv_append.c          s/            if \(entry->index <= raft->commit\)\n                return err_set\(.*?\);\n//s
commits_more_than_was_shown       recv_append.c          s/message->append\.commit < last_new \? message->append\.commit : last_new/message->append.commit < log_last(\&raft->log) ? message->append.commit : log_last(\&raft->log)/
serves_without_an_own_entry       role.c                 s/return raft->role == RAFT_LEADER && raft->commit >= raft->term_start;/return raft->role == RAFT_LEADER;/
changes_without_an_own_entry      config.c               s/    if \(!leader_ready\(raft\)\)\n        return err_set\(.*?\);\n//s
reads_without_a_round             commit.c               s/if \(read->round <= confirmed && \(.*?\) && done == i\)/if (done == i)/
reads_by_an_old_round             commit.c               s/    raft->round\+\+;\n/    if (raft->round == 0)\n        raft->round++;\n/
reads_survive_the_office          role.c                 s/    for \(size_t i = 0; i < raft->reads_count; i\+\+\)\n        out_read\(update, raft->reads\[i\]\.number, false, 0\);\n    raft->reads_count = 0;\n//
two_changes_at_a_time             config.c               s/    if \(raft->config_index > raft->commit\)\n        return err_set\(.*?\);\n//s
promotes_who_lags                 config.c               s/    if \(peer->match \+ RAFT_PROMOTE_LAG_MAX < last\)\n        return err_set\(.*?\);\n//s
promotes_who_was_never_heard      config.c               s/peer->match == 0 \|\| //
removes_the_last_voter            config.c               s/    if \(voter && raft_config_voters\(&config\) == 1\)\n        return err_set\(.*?\);\n//s; s/reached > voters \/ 2/reached >= voters \/ 2/
removed_leader_counts_itself      commit.c               s/self \? !config_is_voter\(raft, raft->id\)/self ? false/
removed_leader_stays              commit.c               s/    leave_if_removed\(raft, update\);\n//
removed_member_never_stands       config.c               s/    return self != NULL && self->voter;/    return false \&\& self != NULL;/
takes_all_there_is                ev_request.c           s/log_last\(&raft->log\) - raft->commit \+ event->count > RAFT_UNCOMMITTED_MAX \|\|/false ||/
takes_while_handing_over          ev_request.c           s/    if \(raft->transfer_to != 0\)\n        return err_set\(err, TIDE_E_UNAVAILABLE, "leadership is moving to member %" PRIu64 "; ask again", raft->transfer_to\);\n//
hands_over_for_ever               ev_tick.c              s/    if \(raft->transfer_to != 0 && \+\+raft->transfer_ticks >= raft->election_ticks\)\n        raft->transfer_to = 0;\n//
snapshot_keeps_another_history    recv_snapshot.c        s/ \|\| log_term\(&raft->log, snapshot\.index\) != snapshot\.term//
snapshot_brings_no_group          recv_snapshot.c        s/            raft->base_config = snapshot\.config;\n//
snapshot_term_is_never_written     raft.c                 s/        raft->ballot_owed = true;\n//
snapshot_done_before_the_disk     recv_snapshot.c        s/done && index > raft->stable \? raft->write_number : 0/0/
snapshot_chunks_over_each_other   recv_snapshot.c        s/    if \(raft->receiving_busy\)\n        return TIDE_OK;\n//
snapshot_chunk_never_again        ev_tick.c              s/        if \(peer->state == RAFT_SEND_SNAPSHOT && \+\+peer->snapshot_ticks >= raft->election_ticks\)\n            send_chunk\(raft, update, peer\);\n//
update_changes_nothing            config.c               s/    member\.voter = before->voter;\n/    member = *before;\n/
update_decides_who_votes          config.c               s/    member\.voter = before->voter;\n//
update_adds_who_is_not_there      config.c               s/    if \(before == NULL\)\n        return err_set\([^;]*;\n(    if \(strcmp\(before->peer)/    if (before == NULL)\n        before = event->member, member.voter = false;\n    else if (strcmp(before->peer/
update_gives_one_address_to_two   config.c               s/    raft_config_remove\(&config, member\.id\);\n    status = raft_config_add\(&config, &member, err\);\n/    for (size_t i = 0; i < config.count; i++)\n        if (config.members[i].id == member.id)\n            config.members[i] = member;\n/
update_overlaps_another_change    config.c               s/(EVENT\(ev_update\)\n\{\n)    enum tide_status status = may_change\(raft, err\);/$1    enum tide_status status = raft->role == RAFT_LEADER ? TIDE_OK : refuse_not_leader(raft, err);/
gives_up_after_a_refusal          recv_append_reply.c    s/    peer_probe\(peer, agree \+ 1\);\n/    peer->next = agree + 1 > peer->match ? peer->next : peer->next;\n/
ignores_the_sum_of_a_record       ../disk/segment.c      s/return record_sum\(ret_header, data \+ offset \+ sizeof \*ret_header\) == ret_header->sum;/return true;/
takes_the_newest_record_for_torn  ../disk/wal_mark.c     s/mark->index <= last \|\|/true ||/
takes_a_flipped_bit_for_torn      ../disk/segment.c      s/next\.synced >= index \|\| \(behind == 0 && !has_hole\(data, bad, at\)\)/0/
END
}

# ---- running them ----

plant()
{
    rm -rf "$TREE"
    mkdir -p "$TREE/tests/sim" "$TREE/coordinator" "$TREE/ckpt"
    (cd "$ROOT" && cp -r include "$TREE/" && cp -r ckpt/base "$TREE/ckpt/" && cp -r coordinator/raft coordinator/disk "$TREE/coordinator/" &&
        cp -r tests/sim/raft tests/sim/seeds.[ch] "$TREE/tests/sim/")
    {
        mutants_cmake
        cat <<'END'
add_subdirectory(coordinator/raft)
add_subdirectory(coordinator/disk)
enable_testing()
add_subdirectory(tests/sim/raft)
END
    } >"$TREE/CMakeLists.txt"
}

# How the mutant in the tree was caught; empty: it was not.
caught_by()
{
    if ! cmake --build "$BUILD/build" --target sim_raft sim_raft_stories >"$BUILD/log" 2>&1; then
        echo "BUILD"
        return
    fi
    if [[ $BY == *stories* ]] &&
        ! CMOCKA_MESSAGE_OUTPUT=TAP timeout 120 "$BUILD/build/bin/sim_raft_stories" >"$BUILD/log" 2>&1; then
        said_or_died story "$(sed -n 's/^not ok [0-9]* - /story /p' "$BUILD/log" | head -n 1)"
        return
    fi
    if [[ $BY == *seeds* ]] && ! timeout 600 "$BUILD/build/bin/sim_raft" --seeds "$SEEDS" --first >"$BUILD/log" 2>&1; then
        said_or_died seed "$(grep -m 1 -o 'seed [0-9]*.*VIOLATION.*' "$BUILD/log" | sed -E 's/ at [0-9.]+: VIOLATION/:/' | cut -c 1-120)"
    fi
}

# shellcheck disable=SC2034 # mutants_run reads them
MUTANT_DIR=coordinator/raft/ MUTANT_CMAKE=()
mutants_run "$@"
