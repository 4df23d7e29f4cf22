#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# An agent is told of one coordinator only, and learns of the others from the leader: that one may be gone for good.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

cluster_create "$SCENARIO_BUILD" && cluster_start 3 || { echo "not ok $SCENARIO_NAME/the group starts"; exit 1; }
ALL=$CLUSTER_URL
cluster_await_leader
# Not the leader: all that it asks is sent on.
FIRST=$((CLUSTER_LEADER % 3 + 1))
CLUSTER_URL=$(cluster_member_url "$FIRST") # what the agent is told
cluster_agent_start 1
CLUSTER_URL=$ALL

learned()
{
    grep -q "coordinators are known, 2 of them from the leader" "$CLUSTER_DIR/n1.log"
}

never_lost()
{
    cluster_node_is n1 ready && ! grep -q "was declared lost" "$CLUSTER_DIR/n1.log"
}

expect "the agent comes in by way of one member" wait_for 60 "node n1" cluster_node_is n1 ready
expect "it learns of the others" wait_for 60 "their addresses" learned
expect "the one it was told of can go" cluster_member_kill "$FIRST"
expect "the others lead" cluster_await_leader
sleep 5 # more than two leases
expect "it is heard all the same" never_lost
scenario_end
