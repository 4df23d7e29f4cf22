#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A node is to be switched off: its ranks go elsewhere, from a checkpoint taken for that, and the training ends with the bits it
# has undisturbed.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

scenario_cluster 3 --slots 2
tide run --name pulse --nnodes 2 --nproc-per-node 2 --launcher none -- "$PULSE" --until "$CLUSTER_DIR/pulse.until"
wait_for 60 "training" cluster_job_at_step pulse 50
LEAVES=$(cluster_job pulse '.job.nodes[0]')

shown_as()
{
    equal "$(tide node list | awk -v node="$1" '$1 == node { print $2 }')" "$2"
}

not_there()
{
    cluster_job_is pulse ".job.nodes | index(\"$1\") | not" >/dev/null
}

expect "a drained node keeps its ranks" tide node drain "$LEAVES"
expect "and is not shown as empty before it is" shown_as "$LEAVES" draining
expect "the job says so" says "node $LEAVES is drained" tide job explain pulse
expect "it leaves when it is told to" says "pulse: has left $LEAVES at pulse/1" tide node drain "$LEAVES" --now
expect "it is not there any more" not_there "$LEAVES"
expect "from the checkpoint that was taken for it" equal "$(cluster_job pulse '.job | "\(.generation) \(.restore_cut) \(.restarts)"')" "2 1 0"
expect "the node is empty" shown_as "$LEAVES" drained
expect "a second time there is nothing to do" tide node drain "$LEAVES" --now

# Nobody is left who could take it: the job waits, and comes back when it may.
LAST=$(cluster_job pulse '.job.nodes[0]')
expect_status 5 "without another node it waits" tide node drain "$LAST" --now --within 4s
expect "and says for what" says "drained: " tide job explain pulse
expect "a node may take it again" tide node resume "$LAST"
job_let_end pulse
expect "the job succeeds" job_succeeds pulse
expect "its ranks computed what they would have alone" equal "$(job_hashes pulse)" "$(pulse_hashes 4 --steps "$ENDS_AT")"

# A program that takes no checkpoints cannot be moved: it stays, and goes on.
tide node resume "$LEAVES" >/dev/null
tide run --name stays --nproc-per-node 1 --launcher none -- sleep 1000
wait_for 60 "it to run" cluster_job_is stays '.job.all_started'
NODE=$(cluster_job stays '.job.nodes[0]')
expect_status 5 "what takes no checkpoint is not moved" tide node drain "$NODE" --now --within 2s
expect "it runs as before" equal "$(cluster_job stays '"\(.job.state) \(.job.generation)"')" "running 1"
tide job cancel stays --wait >/dev/null
expect "nothing is left of it" nothing_left
scenario_end
