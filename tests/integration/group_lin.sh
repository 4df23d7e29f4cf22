#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Clients spread over a group of coordinators see one state; and the eyes of the tests are good: what each member happens to
# have is not one state, and that is found out. Trouble comes in tests/fault.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

SECONDS_EACH=4
LAG_MS=60   # of what a member hears, so that it is behind; in each turn so much more
TURNS_MAX=4 # until there is enough to see, or chance has it that somebody sees it
OPERATIONS_MIN=200

# clients NAME OPTION…: a workload; its last line is in $CLUSTER_DIR/NAME.log, its history in NAME.jsonl.
clients()
{
    local name=$1
    shift
    (cluster_in 0 timeout 60 python3 "$SCENARIO_ROOT/tests/lin/workload.py" --coordinator "$CLUSTER_URL" --seconds $SECONDS_EACH \
        --out "$CLUSTER_DIR/$name.jsonl" --prefix "$name-" "$@" >"$CLUSTER_DIR/$name.log" 2>&1) || { cat "$CLUSTER_DIR/$name.log"; return 1; }
}

verdict()
{
    "$SCENARIO_BUILD/bin/lin_check" "$CLUSTER_DIR/$1.jsonl"
}

# Sets READ, a workload of enough operations; a slow machine is given more time.
clients_read()
{
    local turn operations
    for ((turn = 1; turn <= TURNS_MAX; turn++)); do
        READ=read-$turn
        clients "$READ" --seconds $((turn * SECONDS_EACH)) || return 1
        operations=$(grep -c '"invoke"' "$CLUSTER_DIR/$READ.jsonl")
        [ "$operations" -lt $OPERATIONS_MIN ] || return 0
    done
    echo "only $operations operations"
    return 1
}

# followers_lag MS: behind whoever leads now.
followers_lag()
{
    local member
    cluster_mend && cluster_await_leader || return 1
    for member in 1 2 3; do
        [ "$member" = "$CLUSTER_LEADER" ] || cluster_slow "$CLUSTER_LEADER" "$member" "$1" || return 1
    done
}

# Sets SEEN, the workload that read what cannot be.
stale_is_seen()
{
    local turn
    for ((turn = 1; turn <= TURNS_MAX; turn++)); do
        SEEN=stale-$turn
        followers_lag $((turn * LAG_MS)) && clients "$SEEN" --stale || return 1
        verdict "$SEEN"
        case $? in 0) ;; 1) return 0 ;; *) return 1 ;; esac
    done
    echo "nobody saw it"
    return 1
}

# shellcheck disable=SC2034 # cluster.sh reads it
CLUSTER_LOOPBACK=1 # the network can be made slow
cluster_create "$SCENARIO_BUILD" && cluster_start 3 || { echo "not ok $SCENARIO_NAME/the group starts"; exit 1; }

expect "clients get answers through every member" clients_read
expect "what they saw is linearizable" verdict "$READ"
expect "every member holds the same" cluster_same

expect "members may be asked for what they have, and that is not linearizable" stale_is_seen
expect "a contradiction is shown" says "contradict each other" verdict "$SEEN"
cluster_mend
expect "every member holds the same again" cluster_same
scenario_end
