#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/unit/mutants_group.sh [NAME …]: do unit tests notice what no simulator plays: a recovery without a majority, members of two
# versions, a member that moves, and cuts that must be refused? Each mutant is one deliberate bug in a copy of the coordinator. One
# line per mutant with the test that caught it, last line "mutants N  caught C, by seeds S"; exit status 0 when all were caught. A
# mutant whose text is not in the source any more fails too: it must be written anew.
# MUTANT_BUILD: build directory (default build-tests/mutants-group).
set -uo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${MUTANT_BUILD:-$ROOT/build-tests/mutants-group}
TREE=$BUILD/tree
TESTS=(identity raft_wire core_cut core_level net replica left_behind member)
TEST_S=120

# shellcheck source=tests/lib/mutants.sh
. "$ROOT/tests/lib/mutants.sh"

# ---- the mutants: name, file, perl substitution over the whole file ----

mutants()
{
    cat <<'END'
none                            -                                 -
recovers_into_the_same_epoch    coordinator/server/recover.c      s/\.count = 1, \.epoch = epoch\}/.count = 1, .epoch = found->view.config.epoch + 0 * epoch}/
recovers_without_an_entry       coordinator/server/recover.c      s/status = wal_append\(found->wal, &entry, 1, err\);/status = entry.index == 0 ? TIDE_E_IO : TIDE_OK;/
forgets_a_later_epoch_it_heard  coordinator/server/recover.c      s/epoch_stale\(view->config\.epoch, later\) \? later : view->config\.epoch/view->config.epoch/
epoch_is_not_written_down       coordinator/raft/entry.c          s/config->epoch == 0 \? CONFIG_VERSION_PLAIN : CONFIG_VERSION;/CONFIG_VERSION_PLAIN;/; s/    if \(config->epoch != 0\)\n        at \+= put_u64\(bytes \+ at, config->epoch\);\n//
twice_recovered_is_no_conflict  ckpt/wire/identity.c              s/epoch_number\(told\) <= epoch_number\(known\)/epoch_number(told) < epoch_number(known)/
peers_of_any_epoch              coordinator/net/greet.c           s/return here != there && here != EPOCH_UNKNOWN/return false \&\& here != EPOCH_UNKNOWN/
nobody_is_told_of_the_epoch     coordinator/net/greet.c           s/        say_hello\(link, hello->self\);\n    refuse_epoch/        ;\n    refuse_epoch/
believes_epochs_of_strangers    coordinator/net/greet.c           s/if \(named && !epoch_stale/if (!epoch_stale/
left_behind_takes_part          coordinator/server/left_behind.c  s/    member->later = epoch;\n    hand_turn\(member\);\n//
ends_a_group_that_decides       coordinator/server/left_behind.c  s/ \|\| member->turn\.leader != 0\)/)/
left_behind_begins_again        coordinator/server/left_behind.c  s/if \(status != TIDE_OK \|\| later == 0\)/if (true)/
level_is_raised_too_early       coordinator/core/cmd_level.c      s/lowest < LEVEL_NEWEST \? lowest : LEVEL_NEWEST/LEVEL_NEWEST/
level_is_lowered                coordinator/core/cmd_level.c      s/if \(level <= state->level\)\n        return err_set.*?;\n//s
level_is_not_asked_for          coordinator/server/replica.c      s/status = level_admits\(&replica->state, command, err\);/status = TIDE_OK;/
level_to_come_is_no_matter      coordinator/core/cmd_level.c      s/if \(level > LEVEL_NEWEST\)/if (false)/
level_is_not_told               coordinator/net/frame.c           s/    put_u32\(to \+ FRAME_HELLO_BYTES_EPOCH, hello->level\);\n//
level_of_a_new_command_is_0     coordinator/core/apply.c          s/\{apply_CKPT_PIN, TARGET_JOB, 1\}/{apply_CKPT_PIN, TARGET_JOB}/
grace_at_level_0                coordinator/core/cmd_keep.c       s/if \(change->state->level == 0\)/if (false)/
grace_by_hand_at_level_0        coordinator/core/cmd_ckpt.c       s/ && change->state->level > 0\) \{/) {/
sweeps_at_level_0               coordinator/core/cmd_job.c        s/change->state->level > 0 && job->next_cut > 1/job->next_cut > 1/
dials_where_it_was              coordinator/net/net.c             s/    text_copy\(peer->address, sizeof peer->address, address\);\n    dial_cancel/    if (peer->address[0] == '\\0')\n        text_copy(peer->address, sizeof peer->address, address);\n    dial_cancel/
stays_where_it_was              coordinator/net/net.c             s/    if \(peer->dialled != NULL\)\n        link_kill\(peer->dialled, "its address is now %s", address\);\n//
seals_unequal_collectives       coordinator/core/judge_cut.c      s/if \(scan->unequal\.node != NULL\)/if (false)/
seals_what_communicators_refuse coordinator/core/judge_cut.c      s/scan_comms\(judging->book, record, ckpt, why, sizeof why\) != CUT_FITS/false/
arms_one_cut_for_ever           coordinator/core/judge_cut.c      s/if \(ckpt->attempt >= CUT_ATTEMPTS_MAX\)/if (false)/
END
}

# ---- running them ----

plant()
{
    rm -rf "$TREE"
    mkdir -p "$TREE"
    (cd "$ROOT" && git ls-files -z -- . | xargs -0 cp --parents -t "$TREE")
}

# The test that noticed, in the copy; empty: none did.
caught_by()
{
    local test
    if ! cmake --build "$BUILD/build" -- "${TESTS[@]/#/bin/test_}" >"$BUILD/log" 2>&1; then
        echo "BUILD"
        return
    fi
    for test in "${TESTS[@]}"; do
        if ! CMOCKA_MESSAGE_OUTPUT=TAP timeout "$TEST_S" "$BUILD/build/bin/test_$test" >"$BUILD/log" 2>&1; then
            echo "test $test: $(sed -n 's/^not ok [0-9]* - //p' "$BUILD/log" | head -n 1)"
            return
        fi
    done
}

MUTANT_CMAKE=(-DTIDE_EXAMPLES=OFF)
! command -v ccache >/dev/null || MUTANT_CMAKE+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
mutants_run "$@"
