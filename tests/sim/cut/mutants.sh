#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/sim/cut/mutants.sh [NAME …]: do seeds and unit tests notice? Each mutant is one deliberate bug in a copy of ckpt/cut. One
# line per mutant with what caught it, last line "mutants N  caught C, by seeds S"; exit status 0 when all were caught. A mutant whose text
# is not in the source any more fails too: it must be written anew.
# MUTANT_SEEDS=A:B: the seeds tried (default 0:3000). MUTANT_BUILD: build directory (default build-tests/mutants-cut).
set -uo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
SEEDS=${MUTANT_SEEDS:-0:3000}
BUILD=${MUTANT_BUILD:-$ROOT/build-tests/mutants-cut}
TREE=$BUILD/tree

# shellcheck source=tests/lib/mutants.sh
. "$ROOT/tests/lib/mutants.sh"

# ---- the mutants: name, file, perl substitution over the whole file ----

mutants()
{
    cat <<'END'
none                            -                -
no_colour                       rank.c           s/    rank->colour \^= 1;\n//
colour_is_the_epoch             rank.c           s/rank->colour \^= 1;/rank->colour = epoch & 1;/
no_bookmark                     rank.c           s/\.count = p->due_count/.count = 0/
bookmark_too_high               rank.c           s/\.count = p->due_count/.count = p->due_count + 1/
all_have_recorded               rank.c           s/\.recorded = rank->recorded != 0/.recorded = 1/
nobody_has_recorded             rank.c           s/\.recorded = rank->recorded != 0/.recorded = 0/
bytes_before_the_sender_flips   rank.c           s/return CUT_BYTES_LATER;/return CUT_BYTES_TAKE;/
bytes_of_who_has_no_record      rank.c           s/p->bookmark_recorded \? CUT_BYTES_TAKE : CUT_BYTES_NEVER/CUT_BYTES_TAKE/
bytes_of_nobody                 rank.c           s/p->bookmark_recorded \? CUT_BYTES_TAKE : CUT_BYTES_NEVER/CUT_BYTES_NEVER/
own_record_forgotten            rank.c           s/    self->bookmark_recorded = whole;\n//
bookmark_once_for_ever          rank.c           s/p->told_epoch == rank->epoch\)/p->told_epoch != 0)/
believes_old_bookmarks          rank.c           s/p->bookmark_epoch == rank->epoch && //
forgets_early_bookmarks         rank.c           s/epoch < rank->epoch\)/epoch != rank->epoch)/
needs_a_bookmark_of_its_own     rank.c           s/    self->bookmark_epoch = epoch;\n//
log_left_out                    rank.c           s/\? CUT_TAKE_LOG : CUT_TAKE_FORGET/? CUT_TAKE_FORGET : CUT_TAKE_FORGET/
holds_nothing                   rank.c           s/colour == rank->colour && !cut_rank_hands_out\(rank, peer\)/0/
arrivals_count_for_nothing      rank.c           s/    cut_rank_arrived\(rank, peer\);\n    if/    if/
not_whole_counts_at_once        rank.h           s/    rank->arrived_before -= messages;\n//
done_counts_twice               rank.c           s/rank->arrived_before\+\+/rank->arrived_before += 2/
sums_of_the_flip_forgotten      rank.c           s/    sum_up\(rank\);\n    rank->epoch/    rank->epoch/
goes_without_go                 rank.h           s/int go = .*?;/int go = 1;/
ready_without_go                rank.c           s/if \(rank->aim > 0 && w->go_epoch >= rank->aim\)/if (rank->aim > 0)/
records_after_it_flipped        rank.h           s/    if \(words->armed_epoch != 0 && words->armed_epoch <= epoch\)\n        return CUT_POINT_GO_ON;\n//
records_behind_its_step         rank.h           s/go && step == armed/go/
passes_and_never_flips          rank.c           s/        if \(rank->state == CUT_RANK_PASSED\)\n            acts \|= CUT_ACT_FLIP;\n//
never_early                     rank.c           s/return now_ns - rank->hold_since_ns >= .*?;/return 0;/
disarmed_is_armed_for_ever      rank.c           s/\[CUT_ON_CLOSED\] = TO\(IDLE\),\s+\[CUT_ON_FINISH\]/[CUT_ON_FINISH]/
void_is_whole                   rank.c           s/    on\(rank, CUT_ON_VOID\);//
abort_without_a_flip            rank.c           s/    rank->colour \^= 1;/    rank->colour ^= whole;/
settles_by_itself               rank.c           s/w->settled_epoch >= rank->epoch && //
finish_sums_left_out            rank.c           s/    if \(rank->state != CUT_RANK_FINISHED && !cut_rank_copies\(rank\)\)\n        sum_up\(rank\);\n//
plain_sends_while_draining      rank.h           s/1u << CUT_RANK_DRAINING \| 1u << CUT_RANK_ABORTING \|\s*1u << CUT_RANK_RECORDED/1u << CUT_RANK_RECORDED/
plain_sends_before_closed       rank.h           s/1u << CUT_RANK_ABORTING \|\s*1u << CUT_RANK_RECORDED \|\s*1u << CUT_RANK_ABORTED/1u << CUT_RANK_ABORTING/
any_tag_will_do                 queue.c          s/ && \(tag == CUT_ANY \|\| tag == message->tag\)//
any_source_will_do              queue.c          s/\(source == CUT_ANY \|\| source == message->source\) && //
last_in_first_out               queue.c          s/link->prev = list->prev;\n    link->next = list;\n    list->prev->next = link;\n    list->prev = link;/link->next = list->next;\n    link->prev = list;\n    list->next->prev = link;\n    list->next = link;/
releases_others                 queue.c          s/FROM\(struct cut_message, bucket, at\)->peer == peer/1/
receives_before_messages        queue.c          s/    struct cut_message \*message = cut_queue_find\(queue, receive->source, receive->tag\);/    struct cut_message *message = NULL;/
wildcards_see_one_bucket        queue.c          s/    if \(source == CUT_ANY\) \{.*?return NULL;\n    \}\n//s
settled_without_the_sums        verdict.c        s/ && v->sent == v->arrived;/;/
settled_without_all             verdict.c        s/settled = all && v->flipped == v->world/settled = all/
go_before_all_are_armed         verdict.c        s/all && v->armed == v->world \? CUT_STAGE_RECORD : stage;\n    case CUT_STAGE_RECORD:\n        return settled/v->armed > 0 ? CUT_STAGE_RECORD : stage;\n    case CUT_STAGE_RECORD:\n        return settled/
go_before_all_poll              verdict.c        s/\(!r->coloured \|\| r->polling_epoch >= v->epoch\)/1/
closed_before_all_have_ended    verdict.c        s/all && v->ended == v->world/1/
nobody_is_told_to_flip          verdict.c        s/has_misfit\(v\) \? CUT_STAGE_SUM : stage/stage/
given_up_behind_go              verdict.c        s/has_misfit\(v\) \? CUT_STAGE_SUM : stage/has_misfit(v) ? CUT_STAGE_CLOSED : stage/
whole_without_all               verdict.c        s/verdict->recorded == verdict->world/verdict->recorded > 0/
records_of_any_attempt          verdict.c        s/ && r->recorded_attempt == v->attempt//
whole_stays_whole               verdict.c        s/into->result == RECORD_NONE \|\| into->result == RECORD_DONE/into->result == RECORD_NONE/
old_reports_win                 verdict.c        s/if \(from > \*into\)/if (from != *into)/
nothing_heard_fits              verdict_comms.c  s/world > 1 && \(all == 0/0 \&\& (all == 0/
collectives_are_not_compared    verdict_comms.c  s/if \(b->members > 0\)/if (0)/; s/if \(a->members != a->comm\.size\)/if (0)/
any_offer_will_do               offer.c          s/ \|\| !fits\(offer, tag\)//
an_offer_is_for_all             offer.c          s/        offer->taken = 1;\n//
others_take_nothing             offer.c          s/ \|\| \(certain && offer->any_source\)//
what_arrived_waits              offer.c          s/ \|\| send->number <= offers->arrived//
what_arrived_waits_perhaps      offer.c          s/send->number > offers->arrived && \(take/(take/
gaps_do_not_matter              offer.c          s/        if \(send->number != next\+\+\)\n +return;.*?\n//
nothing_is_promised             offer.c          s/    if \(!offers->vague\)\n        meet_certainly\(offers, sends, peer\);\n//
what_is_begun_takes_all         offer.c          s/ \|\| may_be_left\(offers, send->tag\)//
what_was_told_is_so_for_ever    offer.c          s/send->meets = there \? CUT_MEETS_MAYBE : CUT_MEETS_NOT/send->meets |= there/
nobody_makes_way                offer.c          s/    if \(flip && blocked\)\n.*?\n//
nobody_goes_first               rank.c           s/rank->peers\[peer\].first_epoch = rank->first_epoch = epoch;//
first_with_all_it_sends         rank.c           s/rank->peers\[peer\].first_epoch = 0;//
who_goes_first_for_ever         rank.h           s/ && rank->peers\[peer\].first_epoch == rank->epoch//
an_assumption_at_once           offer.c          s/ && waited >= \(.*?\) \* NS_PER_MS//
any_call_waits_for_us           offer.c          s/waits_for_us \? CUT_ASSUME_AFTER_MS : CUT_ASSUME_AT_LAST_MS/meets ? CUT_ASSUME_AFTER_MS : CUT_ASSUME_AT_LAST_MS/
who_has_entered_is_waited_for   offer.c          s/ && entered < call->number//
others_roots_wait_for_us        offer.c          s/\(call->root == CUT_CALL_OF_ALL \|\| call->root == self\) && //
who_looks_is_assumed_to_wait    offer.c          s/maybe && blocked && waited/maybe \&\& waited/
who_has_flipped_since_is_in_it  offer.c          s/ && \(unmet->told_flipped \|\| !unmet->has_flipped\)//
nobody_is_asked_to_flip         offer.c          s/flip \? CUT_UNMET_ASKS_TO_FLIP : CUT_UNMET_ASKS/CUT_UNMET_ASKS/
nobody_is_asked_again           offer.c          s/ \|\| now_ns - asked_ns >= CUT_ASK_AGAIN_MS \* NS_PER_MS//
log_swaps_source_and_tag        channel.c        s/at = put\(at, entry->source, 4\);\n    at = put\(at, \(uint32_t\)entry->tag, 4\);/at = put(at, (uint32_t)entry->tag, 4);\n    at = put(at, entry->source, 4);/
END
}

# ---- running them ----

plant()
{
    rm -rf "$TREE"
    mkdir -p "$TREE/tests/sim" "$TREE/ckpt/wire"
    (cd "$ROOT" && cp -r include "$TREE/" && cp -r ckpt/base ckpt/cut "$TREE/ckpt/" && cp ckpt/wire/local.h "$TREE/ckpt/wire/" &&
        cp -r tests/sim/cut "$TREE/tests/sim/" && mkdir "$TREE/tests/unit" && cp tests/unit/test_cut_*.c "$TREE/tests/unit/")
    {
        mutants_cmake
        cat <<'END'
add_subdirectory(ckpt/cut)
add_subdirectory(tests/sim/cut)
foreach(name rank queue offer channel verdict)
  add_executable(test_cut_${name} tests/unit/test_cut_${name}.c)
  target_link_libraries(test_cut_${name} PRIVATE tide_cut PkgConfig::CMOCKA)
endforeach()
END
    } >"$TREE/CMakeLists.txt"
}

# How the mutant in the tree was caught; empty: it was not.
caught_by()
{
    local test
    if ! cmake --build "$BUILD/build" >"$BUILD/log" 2>&1; then
        echo "BUILD"
        return
    fi
    if ! timeout 300 "$BUILD/build/bin/sim_cut" --seeds "$SEEDS" --first >"$BUILD/log" 2>&1; then
        said_or_died seed "$(grep -m 1 -o 'seed [0-9]*.*VIOLATION.*' "$BUILD/log" | sed -E 's/ at [0-9.]+ ms: VIOLATION//' | cut -c 1-120)"
        return
    fi
    for test in rank queue offer channel verdict; do
        if ! CMOCKA_MESSAGE_OUTPUT=TAP timeout 120 "$BUILD/build/bin/test_cut_$test" >"$BUILD/log" 2>&1; then
            said_or_died "test $test" "$(sed -n "s/^not ok [0-9]* - /test $test: /p" "$BUILD/log" | head -n 1)"
            return
        fi
    done
}

# shellcheck disable=SC2034 # mutants_run reads them
MUTANT_DIR=ckpt/cut/ MUTANT_CMAKE=()
mutants_run "$@"
