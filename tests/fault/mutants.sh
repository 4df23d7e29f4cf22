#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/fault/mutants.sh [NAME …]: do the scenarios coord-* and kill-gc notice? Each mutant is one deliberate bug in a copy of the
# coordinator, or of what agents store and delete, and a few rounds of a scenario must catch it. One line per mutant, last line
# "mutants N  caught C, by seeds S". Exit status 0 when all were caught. What the clock hides from clients (a leader that reads without
# asking a majority steps down before another one leads) is for tests/sim/raft. A mutant whose text is not in the source any more
# fails too: it must be written anew.
# MUTANT_ROUNDS: tried for each (default 4). Build directory: MUTANT_BUILD (default build-tests/fault-mutants).
set -uo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
ROUNDS=${MUTANT_ROUNDS:-4}
BUILD=${MUTANT_BUILD:-$ROOT/build-tests/fault-mutants}
TREE=$BUILD/tree
SCENARIO_S=280
TARGETS=(bin/tidemarkd bin/tidemark bin/tidemark-agent bin/tidemark-step bin/lin_check bin/group_check tests/pulse)

# shellcheck source=tests/lib/mutants.sh
. "$ROOT/tests/lib/mutants.sh"

# ---- the mutants: name, scenario, file, perl substitution over the whole file ----

scenarios()
{
    cat <<'END'
none                        coord-mixed      -                                -
reads_what_it_has           coord-kill       coordinator/server/lead.c        s/if \(stale != NULL && strcmp\(stale, "true"\) == 0\)/if (true)/
commits_alone               coord-partition  coordinator/raft/commit.c        s/majority_of\(raft, raft->stable, match_of\)/raft->stable/
votes_for_shorter_logs      coord-mixed      coordinator/raft/recv_vote.c     s/return message->vote\.last_term > term \|\|[^;]*;/return true;/
keeps_what_was_replaced     coord-partition  coordinator/raft/recv_append.c   s/if \(log_term\(&raft->log, entry->index\) == entry->term\)\n/if (true)\n/
forgets_request_ids         coord-kill       coordinator/core/apply.c         s/    if \(command->request\[0\]\)\n        remember/    if (false)\n        remember/
submits_over_what_runs      coord-kill       coordinator/core/cmd_job.c       s/if \(other != NULL && job_active\(other\)\)/if (false)/
drops_a_write_in_a_hundred  coord-stop       coordinator/core/apply.c         s/    enum tide_status status = dispatch\(&change\);/    enum tide_status status = index % 100 == 0 && command->kind == CMD_JOB_SUBMIT ? TIDE_OK : dispatch(&change);/
calls_unknown_done          coord-partition  coordinator/server/replica.c     s/copy->status = status;/copy->status = TIDE_OK;/
keeps_no_note_of_garbage    kill-gc          ckpt/stage/stage_purge.c       s/status = note\(&p, cut, err\);/status = TIDE_OK;/
keeps_its_own_state         coord-away       coordinator/server/replica.c     s/    replica_discard\(replica, &replica->state\);\n    replica->state = \*d->state;\n//
END
}

mutants()
{
    scenarios | sed -E 's/^([^ ]+) +[^ ]+ +/\1 /'
}

# ---- running them ----

plant()
{
    rm -rf "$TREE"
    mkdir -p "$TREE"
    (cd "$ROOT" && git ls-files -z -- . | xargs -0 cp --parents -t "$TREE")
}

# How the mutant in the tree was caught by a scenario; empty: it was not.
caught_by()
{
    local round scenario
    scenario=$(scenarios | awk -v name="$1" '$1 == name { print $2 }')
    if ! cmake --build "$BUILD/build" -- "${TARGETS[@]}" >"$BUILD/log" 2>&1; then
        echo "BUILD"
        return
    fi
    for ((round = 0; round < ROUNDS; round++)); do
        TIDE_BUILD=$BUILD/build TMPDIR=$BUILD timeout "$SCENARIO_S" "$TREE/tests/fault/run" "$scenario" --rounds 1 --seed $((round + 1)) \
            >"$BUILD/log" 2>&1 && continue
        sed -n 's/^VIOLATION round [^:]*: //p; /^NOT linear/p' "$BUILD/log" | head -n 1 | cut -c 1-140 | sed "s/^/round $round: /"
        grep -q '^VIOLATION' "$BUILD/log" || echo "round $round: $(tail -n 1 "$BUILD/log" | cut -c 1-140)"
        return
    done
}

MUTANT_CMAKE=(-DTIDE_EXAMPLES=OFF)
! command -v ccache >/dev/null || MUTANT_CMAKE+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
mutants_run "$@"
