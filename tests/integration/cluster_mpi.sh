#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An MPI program on two nodes: the parameters are those of mpirun, also when a rank was killed.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"
# shellcheck source=tests/lib/mpi.sh
. "$SCENARIO_ROOT/tests/lib/mpi.sh"

STEPS=(--steps 300 --log-every 100) # a checkpoint may need three attempts on a busy machine

WANTED=$(mpi_env; timeout 60 mpirun -np 4 "$TRAIN" "${STEPS[@]}" | digest)
expect "mpirun trains without tidemark" test -n "$WANTED"
scenario_cluster 2 --slots 4

# What ranks of two nodes tell each other as MPI starts goes by the agents: with certificates by TLS, each with a key of its own.
pins()
{
    tide node list -o json | jq -r '[.nodes[].node.pin | select(test("^[0-9a-f]{64}$"))] | unique | length'
}
if [[ " ${CLUSTER_AGENT_ACCESS[*]:-} " == *" --identity "* ]]; then
    expect "each agent has told whose key it shows" equal "$(pins)" 2
fi

tide run --name calm --nnodes 2 --nproc-per-node 2 "${MPI_JOB[@]}" -- "$TRAIN" "${STEPS[@]}"
expect "tidemark launches an MPI job across two nodes" job_succeeds calm
expect "the parameters are those of mpirun" equal "$(tide job logs calm --rank 0 | digest)" "$WANTED"

tide run --name rough --nnodes 2 --nproc-per-node 2 --ckpt-every 500ms "${MPI_JOB[@]}" -- "$TRAIN" "${STEPS[@]}"
wait_for 60 "a checkpoint" job_restorable rough
expect "a rank can be killed" cluster_rank_kill rough 1
expect "the job succeeds all the same" job_succeeds rough
expect "with one restart from a checkpoint" cluster_job_is rough '.job.restarts == 1 and .job.recoveries[0].to_step > 0'
expect "the parameters are the same again" equal "$(tide job logs rough --rank 0 | digest)" "$WANTED"

# One of two nodes is lost for good: the other goes on alone, with the moments of both.
tide run --name lean --nnodes 2 --nproc-per-node 2 --elastic 2:4 --ckpt-every 500ms "${MPI_JOB[@]}" -- "$TRAIN" "${STEPS[@]}" --moments sharded
wait_for 60 "a stored checkpoint" job_committed lean
cluster_node_kill 2
expect "an elastic job goes on with half of its ranks" job_succeeds lean
expect "from a checkpoint" cluster_job_is lean '(.job.nodes == ["n1"]) and .job.recoveries[0].to_step > 0'
expect "the parameters are the same for all that" equal "$(tide job logs lean --rank 0 | digest)" "$WANTED"
cluster_agent_start 2 # it ends what it still has
expect "nothing is left of it" nothing_left
scenario_end
