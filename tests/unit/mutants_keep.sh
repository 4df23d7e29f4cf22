#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/unit/mutants_keep.sh [NAME …]: do the unit tests notice when a checkpoint is deleted that should stay, or stays that should go? Each
# mutant is one deliberate bug in a copy of what keeps, condemns, deletes and sweeps. One line per mutant, last line "mutants N
# caught C, by seeds 0". Exit status 0 when all were caught. A mutant whose text is not in the source any more fails too: it must
# be written anew. MUTANT_BUILD: build directory (default build-tests/mutants-keep).
set -uo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${MUTANT_BUILD:-$ROOT/build-tests/mutants-keep}
TREE=$BUILD/tree
TESTS=(retain core_keep core_purge core_store core_cut agent_cut refer killed)
TEST_S=120
export TIDE_KILL_ROUNDS=60 # the mutants that only a kill finds are found by then

# shellcheck source=tests/lib/mutants.sh
. "$ROOT/tests/lib/mutants.sh"

# ---- the mutants: name, file, perl substitution over the whole file ----

mutants()
{
    cat <<'END'
none                            -                               -
forgets_pins                    ckpt/format/retain.c            s/items\[i\]\.pinned \? RETAIN_PINNED : //
gives_up_what_is_being_read     ckpt/format/retain.c            s/items\[i\]\.used \? RETAIN_USED : //
gives_up_the_last_one           ckpt/format/retain.c            s/    if \(rule->needed\)\n        keep_one\(items, count, ret_why\);\n//
keeps_the_oldest                ckpt/format/retain.c            s/for \(size_t i = count; i-- > 0 && last > 0;\)/for (size_t i = 0; i < count \&\& last > 0; i++)/
counts_what_nobody_wants        ckpt/format/retain.c            s/        if \(items\[i\]\.unwanted\)\n            continue;\n        keep/        keep/
forgets_holds                   coordinator/core/cmd_keep.c     s/\.pinned = ckpt_kept_by_hand\(ckpt\)/.pinned = ckpt->pinned/
a_pin_comes_too_late            coordinator/core/cmd_keep.c     s/    if \(ckpt->state == TIDE_CKPT_CONDEMNED\)\n        take_back\(change, ckpt, command->ms.*?\n//
takes_nothing_back              coordinator/core/cmd_keep.c     s/why\[i\] == RETAIN_ONLY\)/false)/
late_verdicts_count             coordinator/core/cmd_keep.c     s/command->cut != 0 && \(ckpt == NULL \|\| ckpt->state != TIDE_CKPT_CONDEMNED\)/false/; s/ckpt != NULL && ckpt->state == TIDE_CKPT_CONDEMNED\)\n        ckpt_drop/ckpt != NULL)\n        ckpt_drop/
refused_and_done_all_the_same   coordinator/core/cmd_keep.c     s/(struct ckpt \*ckpt = command->cut \?)/end_holds(change);\n    $1/
the_newest_of_too_many_goes     coordinator/core/cmd_keep.c     s/for \(size_t i = job->ckpts\.count; i-- > 0;\) \{\n(.*\n)(.*\+\+condemned)/for (size_t i = 0; i < job->ckpts.count; i++) {\n$1$2/
gc_condemns_only                coordinator/core/cmd_keep.c     s/        ckpt_drop\(change, &job->ckpts\.items\[i\], job->ckpts\.items\[i\]\.reason\);\n//
no_grace                        coordinator/core/judge_keep.c   s/if \(judge_passed\(judging, track->condemned.*?\)\)\)/if (true)/
grace_of_an_older_sentence      coordinator/core/judge_keep.c   s/ && before->condemned_ms == ckpt->condemned_ms//
a_grace_too_long_is_none        coordinator/core/judge.c        s/    if \(ms > \(UINT64_MAX - since_ns\) \/ NS_PER_MS\)\n        return false;.*?\n//
forced_out_by_anybody           coordinator/core/cmd_ckpt.c     s/ckpt_kept_by_hand\(ckpt\) && !change->command->force/false/
drops_the_only_one              coordinator/core/cmd_ckpt.c     s/only_restorable\(record, ckpt\) && !change->command->force/false/
going_back_forgets_pins         coordinator/core/cmd_job.c      s/    if \(status == TIDE_OK\)\n        status = check_newer\(change, target->cut\);\n//
deletes_under_the_writers       coordinator/core/desired.c      s/        if \(report == NULL \|\| !strlist_has\(&report->left, purge\)\)\n/        if (false)\n/
sweeps_aborted_ids              coordinator/core/desired.c      s/if \(ckpt->state == TIDE_CKPT_DROPPED\)\n            strlist_add_number\(&to->sweep_over/if (ckpt->state == TIDE_CKPT_DROPPED || ckpt->state == TIDE_CKPT_ABORTED)\n            strlist_add_number(\&to->sweep_over/
agent_purges_what_it_writes     agent/core/drive_store.c        s/        if \(stored_now\(job, cut\)\)\n            continue;.*?\n//
sweeps_the_living               ckpt/format/orphan.c            s/    if \(has\(rule->live, rule->live_count, cut\)\)\n        return ORPHAN_NOT;\n//
sweeps_ids_to_come              ckpt/format/orphan.c            s/cut < rule->below \? ORPHAN_DELETE : ORPHAN_NOT/ORPHAN_DELETE/
sweeps_anothers_history         ckpt/format/orphan.c            s/    if \(committed\)\n        return ORPHAN_STRANGE;\n//
sweeps_no_dropped_ones          ckpt/format/orphan.c            s/        return ORPHAN_DELETE;\n    if \(committed\)/        return ORPHAN_NOT;\n    if (committed)/
strays_of_all_generations       ckpt/stage/survey.c             s/ && objects\[i\]\.name\.generation == commit->name\.generation//
strays_stay                     ckpt/stage/survey.c             s/        status = store_remove_each\(store, &strays, err\);/        status = TIDE_OK;/
strays_of_strangers             ckpt/stage/survey.c             s/else if \(verdict == ORPHAN_NOT\)/else/
a_sweep_ends_at_bad_manifests   ckpt/stage/survey.c             s/status == TIDE_E_CORRUPT \|\| status == TIDE_E_VERSION \|\| status == TIDE_E_NOT_FOUND/false/
commit_is_deleted_last          ckpt/stage/stage_purge.c        s/status = remove_commits\(store, prefix, err\);/status = TIDE_OK;/
takes_packs_others_need         ckpt/stage/stage_purge.c        s/!unneeded \|\| !gone/!gone/
takes_packs_of_the_living       ckpt/stage/stage_purge.c        s/!unneeded \|\| !gone/!unneeded/
no_note_of_its_own              ckpt/stage/stage_purge.c        s/status = note\(&p, cut, err\);/status = TIDE_OK;/
writes_no_need_down             ckpt/stage/base.c               s/enum tide_status status = store_put_same\(store, key, "", 0, err\);/enum tide_status status = TIDE_OK;/
END
}

# ---- running them ----

plant()
{
    rm -rf "$TREE"
    mkdir -p "$TREE/tests" "$TREE/agent" "$TREE/coordinator"
    (cd "$ROOT" && cp -r include ckpt "$TREE/" && cp -r agent/core agent/step "$TREE/agent/" && cp -r coordinator/core "$TREE/coordinator/" &&
        cp -r tests/unit tests/lib tests/bench "$TREE/tests/")
    {
        mutants_cmake
        cat <<'END'
find_package(Threads REQUIRED)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl)
pkg_check_modules(CRYPTO REQUIRED IMPORTED_TARGET libcrypto)
pkg_check_modules(EXPAT REQUIRED IMPORTED_TARGET expat)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
file(GLOB wire ckpt/wire/*.c)
file(GLOB cut ckpt/cut/*.c)
tide_floor(tide_wire SOURCES ${wire} LINK tide_base PkgConfig::JANSSON)
tide_floor(tide_cut SOURCES ${cut} LINK tide_base)
tide_floor(tide_step_link SOURCES agent/step/link.c LINK tide_wire)
add_subdirectory(ckpt/format)
add_subdirectory(ckpt/store)
add_subdirectory(ckpt/stage)
add_subdirectory(agent/core)
add_subdirectory(coordinator/core)
foreach(name retain core_keep core_purge core_store core_cut agent_cut refer killed)
  add_executable(test_${name} tests/unit/test_${name}.c)
  target_link_libraries(test_${name} PRIVATE tide_core tide_agent_core tide_stage PkgConfig::CMOCKA)
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
    for test in "${TESTS[@]}"; do
        if ! CMOCKA_MESSAGE_OUTPUT=TAP timeout "$TEST_S" "$BUILD/build/bin/test_$test" >"$BUILD/log" 2>&1; then
            said_or_died "test $test" "$(sed -n "s/^not ok [0-9]* - /test $test: /p" "$BUILD/log" | head -n 1)"
            return
        fi
    done
}

# shellcheck disable=SC2034 # mutants_run reads them
MUTANT_CMAKE=()
! command -v ccache >/dev/null || MUTANT_CMAKE+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
mutants_run "$@"
