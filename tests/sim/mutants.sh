#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/sim/mutants.sh [NAME …]: does the simulator notice? Each mutant is one deliberate bug in a copy of the cores, and stories,
# seeds or, at last, unit tests of the cut's control must catch it. One line per mutant, last line "mutants N  caught C, by seeds S". Exit status 0 when all were caught.
# A mutant whose text is not in the source any more fails too: it must be written anew.
# MUTANT_SEEDS=A:B: the seeds tried when no story catches it (default 0:150). Build directories: MUTANT_BUILD (default
# build-tests/mutants).
set -uo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SEEDS=${MUTANT_SEEDS:-0:150}
BUILD=${MUTANT_BUILD:-$ROOT/build-tests/mutants}
TREE=$BUILD/tree

# shellcheck source=tests/lib/mutants.sh
. "$ROOT/tests/lib/mutants.sh"

# ---- the mutants: name, file, perl substitution over the whole file ----

mutants()
{
    cat <<'END'
none                            -                               -
verdicts_of_any_generation      coordinator/core/apply.c        s/\|\| record->job\.generation != command->generation//
starts_before_the_fence         coordinator/core/judge_gen.c    s/        all = false;\n//
late_heartbeats_count           coordinator/core/book.c         s/heartbeat->sequence <= entry->heartbeat\.sequence/false/
restarts_from_aborted_cuts      coordinator/core/inner.h        s/return ckpt->state == TIDE_CKPT_SEALED \|\|/return ckpt->state == TIDE_CKPT_ABORTED || ckpt->state == TIDE_CKPT_SEALED ||/
forgets_request_ids             coordinator/core/apply.c        s/    if \(command->request\[0\]\)\n        remember/    if (false)\n        remember/
no_lease_for_a_new_leader       coordinator/core/book.c         s/->lease_until_ns = lease_end\(state, now_ns\);\n    \}\n\}/->lease_until_ns = now_ns;\n    }\n}/
seals_other_steps               coordinator/core/scan.c         s/cut->cut != ckpt->cut \|\| cut->attempt != ckpt->attempt \|\|/cut->cut != ckpt->cut ||/; s/report->step != ckpt->step/false/
uses_generations_again          coordinator/core/cmd_gen.c      s/    job->generation\+\+;\n//
rollback_keeps_what_is_newer    coordinator/core/cmd_job.c      s/    drop_newer\(change, cut\);\n//
finishes_with_the_first_rank    coordinator/core/judge_gen.c    s/scan->done == scan->world/scan->done > 0/
any_placement_for_memory        coordinator/core/judge_gen.c    s/here = strcmp\(node, ckpt->nodes\.items\[n\]\) == 0;/here = true;/
deletes_under_the_writers       coordinator/core/desired.c      s/        if \(report == NULL \|\| !strlist_has\(&report->left, purge\)\)\n/        if (false)\n/
forgets_what_lost_nodes_write   coordinator/core/cmd_node.c     s/    if \(back \|\| added\)\n        purge_after\(.*\n//
agent_leaves_what_it_writes     agent/core/drive_store.c        s/return job->order\.cut\.cut != cut && !stored_now\(job, cut\);/return true;/
hurries_what_gets_nowhere       coordinator/core/judge_gen.c    s/ \|\| !judge_passed\(judging, track->phase_ns, record->pause_ms\)//
agent_starts_over_older_ranks   agent/core/drive_step.c         s/if \(job->steps\.items\[i\]\.state != STEP_PART_GONE \|\|/if (/
agent_takes_old_orders          agent/core/ev_desired.c         s/if \(assignment->generation < job->generation\)/if (false)/
agent_takes_old_states          agent/core/ev_desired.c         s/return desired->revision >= core->revision;/return true;/
agent_records_over_the_newest   agent/core/drive_cut.c          s/    if \(cut == 0\)\n        return SLOTS;/    if (true)\n        return SLOTS;/
agent_records_over_the_stored   agent/core/drive_cut.c          s/ \|\| \(stored != 0 && cut == stored\)//
agent_tries_bad_stores_for_ever agent/core/ev_restore.c         s/        restore->store_bad = true;\n    \} else if/        retry_later(core, &restore->retry);\n    } else if/
agent_forgets_running_steps     agent/core/ev_step.c            s/if \(job == NULL \|\| step_of\(job, spec->generation\) != NULL\)/if (true)/
go_before_all_poll              coordinator/core/judge_epoch.c  s/cut_verdict_stage\(&a\.verdict, CUT_STAGE_ARM\) == CUT_STAGE_RECORD/a.cut.armed == a.cut.world/
settles_with_messages_away      coordinator/core/judge_epoch.c  s/cut_verdict_stage\(&verdict, CUT_STAGE_SUM\) == CUT_STAGE_SETTLED/verdict.flipped == verdict.world/
sums_before_it_is_settled       coordinator/core/desired.c      s/return job->epoch_settled == open->epoch \? CUT_PHASE_SUM : CUT_PHASE_RECORD;/return CUT_PHASE_SUM;/
leaves_ranks_in_two_colours     coordinator/core/desired.c      s/to->flip = records \? 0 : job->epoch_go;/to->flip = 0;/
opens_between_two_colours       coordinator/core/judge_cut.c    s/ &&\n           !job_in_transition\(&record->job\);/;/
epochs_outlive_the_generation   coordinator/core/cmd_gen.c      s/    job->epoch = job->epoch_go = .*\n//
agent_hashes_what_still_grows   agent/core/drive_cut.c          s/\(job->order\.cut\.phase == CUT_PHASE_SUM && cut->looked\)/true/
agent_believes_the_first_word   agent/core/ev_cut.c             s/    if \(part->page\.record_result != RECORD_DONE\) \{\n        take_end/    if (false) {\n        take_end/
agent_tells_nobody_to_flip      agent/core/drive_epoch.c        s/epochs->flip\)/0)/
agent_arms_one_page_for_ever    agent/core/ev_cut.c             s/ && page->armed_attempt == cut->report\.attempt &&\n/ \&\&\n/
agent_ends_orphans_never        agent/core/drive_step.c         s/return core->desired_seen \? WISH_KILL : WISH_KEEP;/return WISH_KEEP;/
END
}

# ---- running them ----

plant()
{
    rm -rf "$TREE"
    mkdir -p "$TREE/tests"
    (cd "$ROOT" && cp -r CMakeLists.txt include ckpt agent coordinator "$TREE/" && cp -r tests/sim tests/unit tests/lib "$TREE/tests/")
    # Only the simulator is built: the shells and their libraries stay out.
    {
        mutants_cmake
        cat <<'END'
file(GLOB wire ckpt/wire/*.c)
file(GLOB cut ckpt/cut/*.c)
file(GLOB format ckpt/format/*.c)
tide_floor(tide_wire SOURCES ${wire} LINK tide_base PkgConfig::JANSSON)
tide_floor(tide_cut SOURCES ${cut} LINK tide_base)
tide_floor(tide_format SOURCES ${format} LINK tide_wire)
tide_floor(tide_step_link SOURCES agent/step/link.c LINK tide_wire)
add_subdirectory(agent/core)
add_subdirectory(coordinator/core)
add_subdirectory(coordinator/raft)
add_subdirectory(tests/sim)
add_executable(test_core_epoch EXCLUDE_FROM_ALL tests/unit/test_core_epoch.c)
target_link_libraries(test_core_epoch PRIVATE tide_core PkgConfig::CMOCKA)
add_executable(test_agent_epoch EXCLUDE_FROM_ALL tests/unit/test_agent_epoch.c)
target_link_libraries(test_agent_epoch PRIVATE tide_agent_core PkgConfig::CMOCKA)
END
    } >"$TREE/CMakeLists.txt"
}

# How the mutant in the tree was caught; empty: it was not.
caught_by()
{
    local test
    if ! cmake --build "$BUILD/build" --target sim_storm sim_stories sim_stories_group test_core_epoch test_agent_epoch >"$BUILD/log" 2>&1; then
        echo "BUILD"
        return
    fi
    if ! CMOCKA_MESSAGE_OUTPUT=TAP timeout 120 sh -c "$BUILD/build/bin/sim_stories && $BUILD/build/bin/sim_stories_group" >"$BUILD/log" 2>&1; then
        said_or_died story "$(sed -n 's/^not ok [0-9]* - /story /p' "$BUILD/log" | head -n 1)"
        return
    fi
    if ! timeout 600 "$BUILD/build/bin/sim_storm" --seeds "$SEEDS" >"$BUILD/log" 2>&1; then
        said_or_died seed "$(grep -m 1 -o 'VIOLATION.*' "$BUILD/log" | cut -c 11-110 | sed 's/^/seed: /')"
        return
    fi
    # Ranks of the simulator come to a safe point sooner or later, and change colour there whatever they are told.
    for test in core_epoch agent_epoch; do
        if ! CMOCKA_MESSAGE_OUTPUT=TAP timeout 60 "$BUILD/build/bin/test_$test" >"$BUILD/log" 2>&1; then
            said_or_died "test $test" "$(sed -n "s/^not ok [0-9]* - /test $test: /p" "$BUILD/log" | head -n 1)"
            return
        fi
    done
}

# shellcheck disable=SC2034 # mutants_run reads them
MUTANT_CMAKE=()
mutants_run "$@"
