#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The coordinator is away for several leases. Agents ask less and less often meanwhile; but once it is back, and has given
# each a lease, all are heard within it.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

# shellcheck disable=SC2034 # cluster.sh reads it
CLUSTER_COORDINATOR_OPTIONS=(--lease-ms 1000 --heartbeat-ms 100)
scenario_cluster 8 --slots 1
cluster_coordinator_kill
sleep 4
expect "the coordinator starts again" cluster_coordinator_start
sleep 3

all_are_known()
{
    # An agent that was declared lost is told so, and says it.
    ! grep -h "was declared lost" "$CLUSTER_DIR"/n*.log
}
expect "no node was given up" all_are_known
expect "all are ready" equal "$(cluster_get v1/nodes | jq '[.nodes[] | select(.node.state == "ready")] | length')" 8
scenario_end
