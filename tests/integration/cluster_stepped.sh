#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ranks that count their steps alike, with messages on their way at every one of them: a checkpoint is of one step and holds them.
# What such a program can get wrong (other numbers, another size of a region) is told by name, and the older checkpoint stays good.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"
# shellcheck source=tests/lib/mpi.sh
. "$SCENARIO_ROOT/tests/lib/mpi.sh"

STEPPED=$SCENARIO_BUILD/tests/stepped
SAVE_S=40
DEADLINE_MS=3000
AHEAD=100000 # steps that a rank counts from, instead of 0
RIGHT="rank 0 right: "

# start JOB OPTION… [-- OPTION of stepped…]: two nodes, two ranks each, that train until told.
start()
{
    local job=$1 options=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do options+=("$1") && shift; done
    [ $# -eq 0 ] || shift
    tide run --name "$job" --nnodes 2 --nproc-per-node 2 "${MPI_JOB[@]}" "${options[@]}" -- \
        "$STEPPED" --until "$CLUSTER_DIR/$job.until" "$@"
    wait_for 60 "job $job to step" cluster_job_at_step "$job" 5
}

steps_again()
{
    cluster_job_is "$1" ".job | .generation >= $2 and .all_stepped == true"
}

save()
{
    tide ckpt save "$1" --wait --within "${SAVE_S}s"
}

told()
{
    cluster_job_is "$1" "[.job.events[].text] | any(test(\"$2\"))"
}

says_like()
{
    local pattern=$1
    shift
    "$@" 2>&1 | grep -E -- "$pattern"
}

scenario_cluster 2 --slots 4

start calm --max-restarts 3
for _ in 1 2 3; do expect "a checkpoint at a step that all agree on" save calm; done
expect "it is of one step" cluster_job_is calm '[.job.ckpts[] | select(.sealed_ms > 0)] | all(.mode == "step" and .epoch > 0 and .step > 0)'
expect "the messages of three steps are in it" cluster_job_is calm '[.job.ckpts[].logged // 0] | max >= 12'
expect "a rank can be killed" cluster_rank_kill calm 2
wait_for 60 "the job to go on" steps_again calm 2
expect "it went on from a checkpoint" cluster_job_is calm '.job.recoveries[0].to_step > 0'
expect "and can be saved again" save calm
job_let_end calm
expect "the job ends" job_succeeds calm
expect "no message was lost, none came twice" says "$RIGHT$ENDS_AT steps" tide job logs calm --rank 0

start other --cut-deadline "${DEADLINE_MS}ms" -- --ahead 3 $AHEAD
expect_status 9 "ranks that number their steps otherwise make no checkpoint" save other
expect "the rank that is ahead is named, and where it is" told other \
    "within [0-9]+ ms, with rank [0-2] at step [0-9]+ and rank 3 at 100[0-9]+, did not come to that step: rank 0 on n1"
wait_for 60 "job other to train" job_newest_step other
echo $((ENDS_AT - AHEAD + LAST_STEPS)) >"$CLUSTER_DIR/other.new" && mv "$CLUSTER_DIR/other.new" "$CLUSTER_DIR/other.until"
expect "training went on all the same" job_succeeds other
expect "with one start" cluster_job_is other '.job.restarts == 0'

start grown --max-restarts 5 -- --grown 1 1
expect "a checkpoint of a region of 2048 bytes" save grown
expect "a rank of it can be killed" cluster_rank_kill grown 0
wait_for 60 "the job to go on" steps_again grown 3
expect "a region of another size is refused by name" says_like 'rank 1: region "more" has 2048 bytes in checkpoint [0-9]+ and 4096 here' \
    tide job logs grown --rank 1 --generation 2
expect "the checkpoint stays usable" cluster_job_is grown '.job | .restore_cut > 0 and .recoveries[-1].to_step > 0'
job_let_end grown
expect "the job ends well" job_succeeds grown
expect "nothing is left of it" nothing_left
scenario_end
