#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The coordinator or an agent is killed and started again in mid-training: no rank notices.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

pids()
{
    cluster_ranks pulse
}

# All of BEFORE are there: quickly told, while an agent is away.
run_on()
{
    local pid
    while read -r pid _; do kill -0 "$pid" || return 1; done <<<"$BEFORE"
}

# An agent is killed and started again within its lease, on a machine that has other things to do.
# shellcheck disable=SC2034 # cluster.sh reads it
CLUSTER_COORDINATOR_OPTIONS=(--lease-ms 8000)
scenario_cluster 2 --slots 4
tide run --name pulse --nnodes 2 --nproc-per-node 2 --launcher none --ckpt-every 300ms -- "$PULSE" --until "$CLUSTER_DIR/pulse.until"
wait_for 60 "training" cluster_job_at_step pulse 20
BEFORE=$(pids)
expect "four ranks run" equal "$(wc -l <<<"$BEFORE")" 4

REVISION=$(cluster_get v1/cluster | jq .revision)
cluster_coordinator_kill
sleep 0.5
expect "without a coordinator the ranks run on" run_on
expect "the coordinator starts again" cluster_coordinator_start
expect "it has forgotten nothing" test "$(cluster_get v1/cluster | jq .revision)" -ge "$REVISION"
expect "training goes on under it" job_trains pulse
expect "no rank was restarted" equal "$(pids)" "$BEFORE"

cluster_agent_kill 1
sleep 0.3
expect "without its agent a node's ranks run on" run_on
cluster_agent_start 1
expect "training goes on under the new agent" job_trains pulse
expect "no rank was restarted" equal "$(pids)" "$BEFORE"

# A machine that is moved, or swaps: to the coordinator it was everybody else who was silent.
cluster_coordinator_stop
sleep 10 # longer than a lease
cluster_coordinator_continue
expect "a coordinator that stood still blames nobody" job_trains pulse
expect "no rank was restarted" equal "$(pids)" "$BEFORE"
expect "no node was lost" equal "$(cluster_job pulse '[.job.events[] | select(.kind == "node_lost")] | length')" 0

cluster_coordinator_kill
cluster_agent_kill 1
cluster_agent_kill 2
sleep 0.3
cluster_agent_start 2
cluster_agent_start 1
expect "coordinator and agents may be gone together" cluster_coordinator_start
expect "training goes on" job_trains pulse
expect "no rank was restarted" equal "$(pids)" "$BEFORE"

CUTS=$(cluster_job pulse '[.job.ckpts[] | select(.state == "committed") | .cut] | max // 0')
expect "checkpoints are taken again" wait_for 60 "another checkpoint" \
    cluster_job_is pulse "[.job.ckpts[] | select(.state == \"committed\") | .cut] | max > ${CUTS:-0}"
job_let_end pulse
expect "the job succeeds" job_succeeds pulse
expect "in its first generation" equal "$(cluster_job pulse .job.generation)" 1
expect "its ranks computed what they would have alone" equal "$(job_hashes pulse)" "$(pulse_hashes 4 --steps "$ENDS_AT")"
expect "nothing is left of it" nothing_left
scenario_end
