#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# examples/cuda_mlp on two nodes, as nvcc made it, on the simulators of CUDA's runtime and of NCCL: ranks that only tidemark
# connects; killed in the middle, they end with the same bits, and who was not killed goes on in the same process.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

MLP=$SCENARIO_BUILD/examples/cuda_mlp/train
if [ ! -x "$MLP" ]; then
    echo "ok $SCENARIO_NAME/not built # SKIP CMake found no CUDA 13 with nvcc and NCCL"
    exit 0
fi

# shellcheck source=tests/lib/mlp.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/mlp.sh"

mlp_data
STEPS=(--steps 80 --slice 3 --log-every 40 --data "$DATA")
TWO_BY_TWO=(--nnodes 2 --nproc-per-node 2 --launcher none)

# told_in_order JOB KIND…: these events, in this order; others may be between them.
told_in_order()
{
    local job=$1
    shift
    cluster_get "v1/jobs/$job" | jq -e '[.job.events[].kind] as $told |
        reduce $ARGS.positional[] as $kind (0; if . == null then null else
            . as $from | [range($from; $told | length) | select($told[.] == $kind) + 1][0] end) != null' --args "$@"
}

# It went on from the newest checkpoint that was whole before the rank was killed.
from_the_newest()
{
    cluster_job_is "$1" '.job.events as $told | ([$told[].kind] | index("rank_exited")) as $death |
        ([$told[:$death][] | select(.kind == "sealed") | .text | capture("checkpoint (?<cut>[0-9]+) ").cut][-1]) as $cut |
        [$told[$death:][] | select(.kind == "launched") | .text] | length == 1 and (.[0] | contains("from checkpoint \($cut) "))'
}

# runs_as JOB GENERATION: all of its four ranks run. PIDS are theirs: who asks again may find that some have come to their end.
runs_as()
{
    cluster_job_is "$1" ".job.generation == $2 and .job.all_started" && PIDS=$(job_pids "$1") && [ "$(wc -w <<<"$PIDS")" -eq 4 ]
}

# Does anything but the program itself link to NCCL or CUDA? And does it find ours first?
needs_no_nccl()
{
    local file needed
    for file in "$SCENARIO_BUILD"/bin/tidemark* "$SCENARIO_BUILD"/lib/libtidemark.so "$SCENARIO_BUILD"/lib/libtidemark_nccl.so; do
        needed=$(ldd "$file") || return 1
        ! grep -E 'libnccl|libcuda' <<<"$needed" || { echo "$file"; return 1; }
    done
}

expect "nothing of tidemark links to NCCL" needs_no_nccl
WANTED=$("${SIMULATED[@]}" timeout 60 "$MLP" "${STEPS[@]}" 2>/dev/null | digest)
expect "it trains as one rank, without tidemark" test -n "$WANTED"

scenario_cluster 2 --slots 4
tide run --name calm "${TWO_BY_TWO[@]}" -- "${SIMULATED[@]}" "$MLP" "${STEPS[@]}"
expect "four ranks on two nodes are connected by tidemark alone" job_succeeds calm
expect "the parameters are those of one rank" equal "$(tide job logs calm --rank 0 | digest)" "$WANTED"

tide run --name rough "${TWO_BY_TWO[@]}" --ckpt-every 300ms -- "${SIMULATED[@]}" "$MLP" "${STEPS[@]}"
wait_for 60 "a checkpoint" job_restorable rough
BEFORE=$(job_pids rough)
expect "a rank can be killed" cluster_rank_kill rough 3
wait_for 60 "generation 2" runs_as rough 2
expect "the others go on in their processes" stayed 4 "$BEFORE" "$PIDS" 0 1 2
STAYED="ranks 0-2 stayed in their processes, rank 3 was started anew"
expect "the job tells so" says "$STAYED" tide job show rough
expect "and so is it explained" says "at the last restart $STAYED" tide job explain rough
expect "the job succeeds all the same" job_succeeds rough
expect "with one restart from a checkpoint" cluster_job_is rough '.job.restarts == 1 and .job.recoveries[0].to_step > 0'
expect "all is told in the order in which it was" told_in_order rough submitted launched running stepping cut_opened sealed rank_exited fenced \
    launched running stepping finished
expect "from the newest checkpoint" from_the_newest rough
expect "the parameters are the same again" equal "$(tide job logs rough --rank 0 | digest)" "$WANTED"
expect "no cut was refused" cluster_job_is rough '[.job.events[] | select(.kind == "cut_aborted" and (.text | test("communicator")))] == []'
# Rank 0 cannot leave its generation, and is killed for it; and before the next has come far another rank dies.
tide run --name rougher "${TWO_BY_TWO[@]}" --ckpt-every 300ms -- "${SIMULATED[@]}" "$MLP" "${STEPS[@]}"
wait_for 60 "a checkpoint" job_restorable rougher
BEFORE=$(job_pids rougher)
cluster_rank_kill rougher 0 STOP && cluster_rank_kill rougher 3
wait_for 60 "generation 2" runs_as rougher 2
BETWEEN=$PIDS
expect "a rank that does not leave is started anew, and nobody else" stayed 4 "$BEFORE" "$BETWEEN" 1 2
expect "which is told" says "ranks 1-2 stayed in their processes, ranks 0, 3 were started anew" tide job show rougher
expect "another rank can be killed" cluster_rank_kill rougher 1
wait_for 60 "generation 3" runs_as rougher 3
expect "who is there goes over from wherever it is" stayed 4 "$BETWEEN" "$PIDS" 0 2 3
expect "the job succeeds after two restarts" job_succeeds rougher
expect "of which both are counted" cluster_job_is rougher '.job.restarts == 2'
expect "the parameters are the same once more" equal "$(tide job logs rougher --rank 0 | digest)" "$WANTED"
expect "nothing is left of it" nothing_left
rm -rf "$DATA"
scenario_end
