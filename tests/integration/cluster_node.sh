#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A node is lost with all it held: a spare takes its place and fetches its state from the memory of another node, else from the store.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

newest_peered()
{
    cluster_job "$1" '[.job.ckpts[] | select(.state == "peered") | .cut] | max'
}

peered()
{
    cluster_job_is "$1" '[(.job.ckpts // [])[] | select(.state == "peered")] | length > 0'
}

scenario_cluster 3 --slots 2
tide run --name pulse --nnodes 2 --spares 1 --nproc-per-node 2 --launcher none --ckpt-every 300ms -- "$PULSE" --until "$CLUSTER_DIR/pulse.until"
wait_for 60 "a committed checkpoint" job_committed pulse
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
wait_for 60 "a committed checkpoint" job_committed waits
cluster_node_kill 2
wait_for 60 "n2 to be lost" cluster_node_is n2 lost
expect "without a spare the job waits and says for what" says "wait" tide job explain waits
cluster_agent_start 2
job_let_end waits
expect "it goes on when the node is back" job_succeeds waits
expect "its ranks computed what they would have alone" equal "$(job_hashes waits)" "$(pulse_hashes 6 --steps "$ENDS_AT")"

# Elastic: it goes on with fewer ranks, each with its part of the same rows, and with more when it is started again anyway.
rows()
{
    grep -o 'row [0-9]* step [0-9]* hash [0-9a-f]*' | sort -u
}

committed_by() # JOB NODES
{
    cluster_job_is "$1" "[(.job.ckpts // [])[] | select(.state == \"committed\" and (.nodes | length) == $2)] | length > 0"
}

runs_on() # JOB NODES
{
    cluster_job_is "$1" ".job.all_stepped and (.job.nodes | length) == $2"
}

# No node is added while the newest checkpoint is in the memory of fewer alone: its newest is stored, and then a rank is killed. Another
# may be recorded in between.
grows() # JOB NODES
{
    wait_for 20 "its newest checkpoint to be stored" cluster_job_is "$1" "(.job.ckpts // [])[-1].state == \"committed\""
    cluster_rank_kill "$1" 1
    wait_for 10 "$2 nodes" runs_on "$1" "$2"
}

ROWS=(--rows 13)
tide run --name lean --nnodes 3 --nproc-per-node 2 --elastic 2:6 --max-restarts 20 --launcher none --ckpt-every 300ms -- \
    "$PULSE" "${ROWS[@]}" --until "$CLUSTER_DIR/lean.until"
wait_for 60 "a committed checkpoint" committed_by lean 3
cluster_node_kill 3
expect "an elastic job goes on with the nodes that are left" wait_for 60 "four ranks" runs_on lean 2
expect "it says how many ranks there are" says "4 (2 nodes x 2), elastic from 2 to 6, submitted with 6" tide job show lean
expect "four ranks take checkpoints" wait_for 60 "a committed checkpoint of four" committed_by lean 2
cluster_agent_start 3
wait_for 60 "n3 to be back" cluster_node_is n3 ready
expect "that a node is back ends nobody's training" cluster_job_is lean '(.job.nodes | length) == 2 and .job.generation == 2'
expect "the next restart takes it" wait_for 60 "six ranks" grows lean 3
job_let_end lean
expect "it succeeds" job_succeeds lean
WANTED=$(RANK=0 WORLD_SIZE=1 "$PULSE" "${ROWS[@]}" --steps "$ENDS_AT" --step-ms 0 | rows)
expect "every row is what one rank would have computed" equal "$(tide job logs lean | rows)" "$WANTED"

# Another job, of another number of ranks, from its last checkpoint.
ONE=(--nnodes 1 --nproc-per-node 1 --max-restarts 0 --launcher none --restore-from lean)
expect "a job that is not elastic cannot go on from it" says "of 6 ranks, the job has 1; run it with as many" \
    tide run --name one "${ONE[@]}" -- "$PULSE" "${ROWS[@]}"
tide run --name own "${ONE[@]}" --elastic 1:1 -- "$PULSE" --kib 8
job_wait own
expect "nor a program that does not say how its state is cut" says "registers all regions as its own" tide job logs own
tide run --name one "${ONE[@]}" --elastic 1:1 -- "$PULSE" "${ROWS[@]}" --steps "$ENDS_AT" --step-ms 0
expect "a program that does can" job_succeeds one
expect "and has the same rows" equal "$(tide job logs one | rows)" "$WANTED"
# There is no store at all: what the lost node held is in the memory of another one, too.
cluster_agent_kill 3
cluster_agent_start 3 --slots 2 --domain attic
expect "a node tells what it fails together with" wait_for 60 "the domain of n3" says "attic" tide node show n3
tide run --name peers --nnodes 2 --spares 1 --nproc-per-node 2 --launcher none --ckpt-every 300ms --store file:///dev/null/none -- "$PULSE" \
    --until "$CLUSTER_DIR/peers.until"
expect "what is recorded is copied to other nodes" wait_for 60 "a peered checkpoint" peered peers
LOST=$(cluster_job peers '.job.nodes[1]')
SPARE=$(cluster_job peers '.job.spares[0]')
# Until the next one is copied: then this one's copies have done what they were for.
told_where()
{
    says "$LOST, copied to n" tide ckpt show "peers/$(newest_peered peers)"
}
expect "and it is told where to" wait_for 60 "the newest to be told of" told_where
CUT=$(newest_peered peers)
expect "the plug of a node can be pulled again" cluster_node_kill "${LOST#n}"
expect "the spare takes its place" wait_for 60 "the spare to make steps" cluster_job_is peers ".job.nodes[1] == \"$SPARE\" and .job.all_stepped"
expect "from the newest that was copied" cluster_job_is peers ".job.recoveries[-1] | .cut >= $CUT and .to_step > 0"
expect "out of another node's memory" cluster_job_is peers '[.ranks[] | select(.rank >= 2) | .report.tier] == ["peer", "peer"]'
expect "which is told" says "in place of $LOST, from the memory of n" tide job events peers
expect "what is recorded then is copied, too" wait_for 60 "another peered checkpoint" cluster_job_is peers \
    '[.job.ckpts[] | select(.state == "peered" and .generation == 2)] | length > 0'
job_let_end peers
expect "the job succeeds without a store" job_succeeds peers
expect "its ranks computed what they would have alone" equal "$(job_hashes peers)" "$(pulse_hashes 4 --steps "$ENDS_AT")"
expect "nothing was ever stored" cluster_job_is peers '[.job.ckpts[] | select(.committed_ms > 0)] == []'
cluster_agent_start "${LOST#n}"
wait_for 60 "$LOST to be back" cluster_node_is "$LOST" ready
expect "nothing is left of it" nothing_left
scenario_end
