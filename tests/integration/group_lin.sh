#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Clients spread over a group of coordinators see one state; and the eyes of the tests are good: what each member happens to
# have is not one state, and that is found out. Trouble comes in tests/fault.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

SECONDS_EACH=4
LAG_MS=60 # of what a member hears, so that it is behind for sure
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

enough_operations()
{
    local operations
    operations=$(grep -c '"invoke"' "$CLUSTER_DIR/$1.jsonl")
    [ "$operations" -ge $OPERATIONS_MIN ] || { echo "only $operations operations"; return 1; }
}

# shellcheck disable=SC2034 # cluster.sh reads it
CLUSTER_LOOPBACK=1 # the network can be made slow
cluster_create "$SCENARIO_BUILD" && cluster_start 3 || { echo "not ok $SCENARIO_NAME/the group starts"; exit 1; }

expect "clients get answers through every member" clients read
expect "there are enough of them" enough_operations read
expect "what they saw is linearizable" verdict read
expect "every member holds the same" cluster_same

cluster_await_leader
for member in 1 2 3; do
    [ "$member" = "$CLUSTER_LEADER" ] || cluster_slow "$CLUSTER_LEADER" "$member" $LAG_MS
done
expect "members may be asked for what they have" clients stale --stale
expect_status 1 "that is not linearizable" verdict stale
expect "a contradiction is shown" says "contradict each other" verdict stale
cluster_mend
expect "every member holds the same again" cluster_same
scenario_end
