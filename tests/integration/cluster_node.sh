#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A node is lost with all it held: a spare takes its place and fetches its state from the store.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

committed()
{
    cluster_job_is "$1" '[(.job.ckpts // [])[] | select(.state == "committed")] | length > 0'
}

scenario_cluster 3 --slots 2
tide run --name pulse --nnodes 2 --spares 1 --nproc-per-node 2 --launcher none --ckpt-every 300ms -- "$PULSE" --until "$CLUSTER_DIR/pulse.until"
wait_for 60 "a committed checkpoint" committed pulse
LOST=$(cluster_job pulse '.job.nodes[1]')
SPARE=$(cluster_job pulse '.job.spares[0]')
STAYS=$(cluster_job pulse '.job.nodes[0]')
expect "the plug of a node can be pulled" cluster_node_kill "${LOST#n}"
expect "it is seen as lost" wait_for 60 "$LOST to be lost" cluster_node_is "$LOST" lost
expect "the spare takes its place, the other ranks stay" \
    wait_for 60 "the spare to run ranks" cluster_job_is pulse ".job.nodes == [\"$STAYS\", \"$SPARE\"]"
job_let_end pulse
expect "the job succeeds" job_succeeds pulse
expect "the lost node is named" equal "$(cluster_job pulse '.job.recoveries[-1] | "\(.cause) \(.node)"')" "node_lost $LOST"
expect "it went on from a checkpoint" cluster_job_is pulse '.job.recoveries[-1] | .cut > 0 and .to_step > 0'
expect "its ranks computed what they would have alone" equal "$(job_hashes pulse)" "$(pulse_hashes 4 --steps "$ENDS_AT")"
cluster_agent_start "${LOST#n}"
expect "the node is ready again when it comes back" wait_for 60 "$LOST to be back" cluster_node_is "$LOST" ready

# No spare: the job waits, says for what, and goes on when the node is back.
tide run --name waits --nnodes 3 --nproc-per-node 2 --launcher none --ckpt-every 300ms -- "$PULSE" --until "$CLUSTER_DIR/waits.until"
wait_for 60 "a committed checkpoint" committed waits
cluster_node_kill 2
wait_for 60 "n2 to be lost" cluster_node_is n2 lost
expect "without a spare the job waits and says for what" says "wait" tide job explain waits
cluster_agent_start 2
job_let_end waits
expect "it goes on when the node is back" job_succeeds waits
expect "its ranks computed what they would have alone" equal "$(job_hashes waits)" "$(pulse_hashes 6 --steps "$ENDS_AT")"
expect "nothing is left of it" nothing_left
scenario_end
