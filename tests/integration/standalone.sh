#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One command, no daemon: tidemark run --standalone.
set -uo pipefail
# Shared memory of its own, where that is possible: in the machine's there are others, who come and go.
if [ "$(id -u)" -eq 0 ]; then apart=(unshare -m); else apart=(unshare -Urm); fi
if [ "${STANDALONE_APART:-0}" = 0 ] && "${apart[@]}" true 2>/dev/null; then
    # shellcheck disable=SC2016 # the inner shell expands these
    exec env STANDALONE_APART=1 "${apart[@]}" sh -c 'mount -t tmpfs tmpfs /dev/shm && exec bash "$@"' sh "$0" "$@"
fi
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"
# shellcheck source=tests/lib/mpi.sh
. "$SCENARIO_ROOT/tests/lib/mpi.sh"

STATE=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-alone.XXXXXX")
MARK=CLUSTER_TEST_NODE=alone-$$
trap 'rm -rf "$STATE"' EXIT

alone()
{
    env "$MARK" XDG_STATE_HOME="$STATE" timeout 60 "$SCENARIO_BUILD/bin/tidemark" run --standalone "$@"
}

marked()
{
    grep -lsz "^$MARK\$" /proc/[0-9]*/environ
}

none_left()
{
    wait_for 60 "its processes to go" no_marked || marked
}

no_marked()
{
    [ -z "$(marked)" ]
}

hashes()
{
    grep -o 'rank [0-9]* step [0-9]* hash [0-9a-f]*' | sort -u
}

# near_told COMMAND…: a command of tidemark, by the address that a run alone has told.
near_told()
{
    local url
    url=$(sed -n 's/^note: .*export TIDEMARK_COORDINATOR=//p' "$STATE/err")
    [ -n "$url" ] && TIDEMARK_COORDINATOR=$url "$SCENARIO_BUILD/bin/tidemark" "${@:-version}"
}

SHM_BEFORE=$(find /dev/shm -maxdepth 1 -name 'tidemark-*' | sort)
OUT=$(alone -n 4 --launcher none -- "$PULSE" --steps 50 2>"$STATE/err")
expect "four ranks run and it succeeds" test $? -eq 0
expect "their output is printed" equal "$(hashes <<<"$OUT")" "$(pulse_hashes 4 --steps 50)"
expect "whoever one is in other clusters" env TIDEMARK_IDENTITY="$STATE/nowhere" TIDEMARK_JOIN_TOKEN="$STATE/nowhere" \
    TIDEMARK_TOKEN=tide_x bash -c "$(declare -f alone); STATE=$STATE MARK=$MARK SCENARIO_BUILD=$SCENARIO_BUILD alone -n 1 -- true"
expect_status 7 "a failing program's exit status is passed on" alone --max-restarts 0 -n 2 --launcher none -- "$PULSE" --trouble exit --at 3
expect "a program that is not there is named" says "no/such/program" alone -n 1 -- ./no/such/program
expect "a killed rank is restarted" alone -n 2 --launcher none --ckpt-every 100ms -- "$PULSE" --steps 200 --trouble kill --at 100 --rank 1
alone -n 1 --name near --launcher none -- "$PULSE" --steps 100000 --step-ms 10 >"$STATE/out" 2>"$STATE/err" &
near=$!
wait_for 20 "the job to be reached by others" near_told
expect "other commands reach the job where it says" near_told ckpt save near --wait
expect "and can end it" near_told job cancel near
expect_status 7 "as it tells" wait $near
OUT=$(alone -n 2 "${MPI_JOB[@]}" -- "$TRAIN" --steps 20 2>&1)
expect "an MPI program runs" says "parameters sha256" echo "$OUT"
expect "no process is left" none_left
expect "no shared memory is left" equal "$(find /dev/shm -maxdepth 1 -name 'tidemark-*' | sort)" "$SHM_BEFORE"
scenario_end
