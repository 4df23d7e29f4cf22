#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/sim/mutants.sh [NAME …]: does the simulator notice? Each mutant is one deliberate bug in a copy of the cores, and stories
# or seeds must catch it. One line per mutant, last line "mutants N  caught C". Exit status 0 when all were caught.
# A mutant whose text is not in the source any more fails too: it must be written anew.
# MUTANT_SEEDS=A:B: the seeds tried when no story catches it (default 0:150). Build directories: MUTANT_BUILD (default
# build-tests/mutants).
set -uo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
SEEDS=${MUTANT_SEEDS:-0:150}
BUILD=${MUTANT_BUILD:-$ROOT/build-tests/mutants}
TREE=$BUILD/tree

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
    (cd "$ROOT" && cp -r CMakeLists.txt include ckpt agent coordinator "$TREE/" && cp -r tests/sim "$TREE/tests/")
    # Only the simulator is built: the shells and their libraries stay out.
    cat >"$TREE/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(mutant LANGUAGES C)
find_package(PkgConfig REQUIRED)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
set(CMAKE_C_STANDARD 17)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
add_library(tide_flags INTERFACE)
target_compile_definitions(tide_flags INTERFACE _GNU_SOURCE)
target_include_directories(tide_flags INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR})
target_compile_options(tide_flags INTERFACE -O1 -g -fno-strict-aliasing -w)
function(tide_floor name)
  cmake_parse_arguments(FLOOR "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC ${FLOOR_SOURCES})
  target_link_libraries(${name} PUBLIC tide_flags ${FLOOR_LINK})
endfunction()
file(GLOB base ckpt/base/*.c)
file(GLOB wire ckpt/wire/*.c)
file(GLOB cut ckpt/cut/*.c)
tide_floor(tide_base SOURCES ${base} LINK PkgConfig::XXHASH)
tide_floor(tide_wire SOURCES ${wire} LINK tide_base PkgConfig::JANSSON)
tide_floor(tide_cut SOURCES ${cut} LINK tide_base)
tide_floor(tide_step_link SOURCES agent/step/link.c LINK tide_wire)
add_subdirectory(agent/core)
add_subdirectory(coordinator/core)
add_subdirectory(coordinator/raft)
add_subdirectory(tests/sim)
END
}

# mutate FILE SUBSTITUTION: only that file's time stamp changes, so little is built again.
mutate()
{
    cp "$ROOT/$1" "$TREE/$1.new"
    perl -0pi -e "$2" "$TREE/$1.new"
    if cmp -s "$ROOT/$1" "$TREE/$1.new"; then
        rm "$TREE/$1.new"
        return 1
    fi
    mv "$TREE/$1.new" "$TREE/$1"
}

# How the mutant in the tree was caught; empty: it was not.
caught_by()
{
    local story
    if ! cmake --build "$BUILD/build" --target sim_storm sim_stories sim_stories_group >"$BUILD/log" 2>&1; then
        echo "BUILD"
        return
    fi
    if ! CMOCKA_MESSAGE_OUTPUT=TAP timeout 120 sh -c "$BUILD/build/bin/sim_stories && $BUILD/build/bin/sim_stories_group" >"$BUILD/log" 2>&1; then
        story=$(sed -n 's/^not ok [0-9]* - //p' "$BUILD/log" | head -n 1)
        echo "story ${story:-that died}"
        return
    fi
    if ! timeout 600 "$BUILD/build/bin/sim_storm" --seeds "$SEEDS" >"$BUILD/log" 2>&1; then
        grep -m 1 -o 'VIOLATION.*' "$BUILD/log" | cut -c 11-110 | sed 's/^/seed: /'
    fi
}

mkdir -p "$BUILD"
plant
cmake -S "$TREE" -B "$BUILD/build" -G Ninja >"$BUILD/log" 2>&1 || { tail -n 20 "$BUILD/log" >&2; exit 1; }

count=0 caught=0
while read -r name file substitution; do
    [ $# -eq 0 ] || [[ " $* none " == *" $name "* ]] || continue
    if [ "$name" != none ] && ! mutate "$file" "$substitution"; then
        count=$((count + 1))
        echo "not ok $name: its text is not in $file any more"
        continue
    fi
    how=$(caught_by)
    if [ "$name" = none ]; then
        [ -z "$how" ] || { echo "not ok: without any mutant there is a fault already: $how"; exit 1; }
        continue
    fi
    cp "$ROOT/$file" "$TREE/$file"
    count=$((count + 1))
    case $how in
    BUILD) echo "not ok $name: does not compile"; tail -n 5 "$BUILD/log" ;;
    '') echo "not ok $name: nobody noticed" ;;
    *) caught=$((caught + 1)); echo "ok $name: $how" ;;
    esac
done < <(mutants)
echo "mutants $count  caught $caught"
[ "$count" -gt 0 ] && [ "$count" -eq "$caught" ]
