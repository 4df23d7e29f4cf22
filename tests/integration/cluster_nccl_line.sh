#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A line of ranks on two nodes with NCCL messages under way at every step, on the simulators: they are in the checkpoint, and
# ranks that are killed end with the same bits. Where more are under way than can be saved, no checkpoint is made, and
# training goes on.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

LINE=$SCENARIO_BUILD/tests/nccl_line
if [ ! -x "$LINE" ]; then
    echo "ok $SCENARIO_NAME/not built # SKIP CMake found no CUDA 13 and NCCL"
    exit 0
fi

STEPS=1500 # two ranks are killed meanwhile
LAG=3
PAUSE_US=10000
FAR_STEPS=300
TOO_FAR=10 # messages on one channel
SIMULATED=(env LD_LIBRARY_PATH="$SCENARIO_BUILD/sim_cuda")
TWO_BY_TWO=(--nnodes 2 --nproc-per-node 2 --launcher none)

ends_with()
{
    tide job logs "$1" --rank 3 | sed -n 's/^.*ends with //p' | tail -n 1
}

refused()
{
    cluster_job_is "$1" '[.job.events[] | select(.kind == "cut_aborted")] | length > 0'
}

scenario_cluster 2 --slots 4
tide run --name calm "${TWO_BY_TWO[@]}" -- "${SIMULATED[@]}" "$LINE" $STEPS $LAG 0
expect "a line of ranks comes to its end" job_succeeds calm
WANTED=$(ends_with calm)
expect "it says how" test -n "$WANTED"

tide run --name rough "${TWO_BY_TWO[@]}" --ckpt-every 300ms --max-restarts 5 -- "${SIMULATED[@]}" "$LINE" $STEPS $LAG $PAUSE_US
wait_for 60 "two checkpoints" job_restorable rough 2
expect "the last of the line can be killed" cluster_rank_kill rough 3
wait_for 60 "it to go on" cluster_job_is rough '.job | .generation >= 2 and .all_stepped == true'
expect "it went on from a checkpoint" cluster_job_is rough '.job.recoveries[0].to_step > 0'
wait_for 60 "another checkpoint" cluster_job_is rough '[.job.ckpts[] | select(.generation == 2 and .sealed_ms > 0)] | length > 0'
expect "one in the middle can be killed" cluster_rank_kill rough 1
expect "the job succeeds all the same" job_succeeds rough
expect "with a second restart, from a checkpoint of the second generation" cluster_job_is rough \
    '.job | .restarts == 2 and .recoveries[1].to_step > .recoveries[0].to_step'
expect "no message was lost, none came twice" equal "$(ends_with rough)" "$WANTED"

tide run --name far "${TWO_BY_TWO[@]}" --ckpt-every 300ms -- "${SIMULATED[@]}" "$LINE" $FAR_STEPS $TOO_FAR $PAUSE_US
wait_for 60 "a refusal" refused far
expect "too many messages are refused by name" says "$TOO_FAR messages of communicator line are under way from member" \
    cluster_job far '[.job.events[] | select(.kind == "cut_aborted")][].text'
expect "training goes on to its end" job_succeeds far
expect "with one start, and no checkpoint" cluster_job_is far '.job.restarts == 0 and ([(.job.ckpts // [])[] | select(.sealed_ms > 0)] == [])'
expect "nothing is left of it" nothing_left
scenario_end
