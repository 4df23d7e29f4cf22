#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checkpoints of a program whose messages are on their way: whoever is killed in the middle of one, it goes on from a consistent state.
# examples/bank counts its money at the end, and knows when a transfer was lost or came twice.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"
# shellcheck source=tests/lib/mpi.sh
. "$SCENARIO_ROOT/tests/lib/mpi.sh"

BANK=$SCENARIO_BUILD/examples/bank/bank
SAVE_S=20

# save JOB: one checkpoint, whole in memory at least. SAVED: the last one's id.
save()
{
    SAVED=$(tide ckpt save "$1" --wait --within "${SAVE_S}s") && SAVED=${SAVED#*/}
}

# More than one node can have told: the last sealed one.
newest_sealed()
{
    cluster_job "$1" '[(.job.ckpts // [])[] | select(.sealed_ms > 0) | .cut] | max // 0'
}

is_recording()
{
    cluster_job_is "$1" '(.job.ckpts // []) | any(.state == "open")'
}

runs_again()
{
    cluster_job_is "$1" ".job | .generation >= $2 and .all_stepped == true"
}

kill_ranks()
{
    local pid
    while read -r pid _; do
        kill -9 "$pid"
    done < <(cluster_ranks "$1")
}

scenario_cluster 2 --slots 4
tide run --name bank --nnodes 2 --nproc-per-node 2 --max-restarts 20 "${MPI_JOB[@]}" -- \
    "$BANK" --until "$CLUSTER_DIR/bank.closes" --pause-us 3000
wait_for 60 "the branches to work" runs_again bank 1

expect "a checkpoint is taken while transfers are on their way" save bank
for _ in 1 2 3 4; do save bank; done
expect "one of five has messages in it" cluster_job_is bank '[.job.ckpts[].logged // 0] | max > 0'
expect "each rank was recorded at its own safe point" cluster_job_is bank '[.job.ckpts[] | select(.sealed_ms > 0)] | all(.mode == "free" and .epoch > 0)'
expect "colours agree again" wait_for 60 "colours" cluster_job_is bank '.job | .epoch_go == .epoch_closed'
expect "what it holds is told" says "on their way are in it" tide ckpt show "bank/$SAVED"

(sleep 0.05; cluster_coordinator_kill; sleep 0.3; cluster_coordinator_start) >/dev/null 2>&1 &
CHILD=$!
tide ckpt save bank --wait --within "${SAVE_S}s" >/dev/null 2>&1
wait "$CHILD"
cluster_is_group || cluster_coordinator_start
expect "a leader that dies between arm and seal is no end" save bank

# It is over in a moment, and may not be seen.
for _ in 1 2 3 4 5; do
    BEFORE=$(newest_sealed bank)
    tide ckpt save bank >/dev/null
    ! wait_for 2 "a cut to be recorded" is_recording bank || break
done
expect "a rank can be killed while it records" cluster_rank_kill bank 1
wait_for 60 "the job to go on" runs_again bank 2
expect "it went on from a checkpoint" cluster_job_is bank ".job.restore_cut >= $BEFORE"
expect "and a new one can be taken" save bank

for generation in 3 4; do
    (for _ in 1 2 3; do tide ckpt save bank --wait --within 5s; done) >/dev/null 2>&1 &
    CHILD=$!
    sleep "0.0$((RANDOM % 9 + 1))"
    kill_ranks bank
    wait "$CHILD"
    expect "the whole job dies in the middle of cuts, $generation" wait_for 60 "the job to go on" runs_again bank "$generation"
done
touch "$CLUSTER_DIR/bank.closes"
expect "the bank ends" job_succeeds bank 200
expect "no transfer was lost, none came twice" says "bank right: 4 branches" tide job logs bank --rank 0
expect "no rank was ever in two colours for long" cluster_job_is bank '[.job.events[] | select(.kind == "cut_aborted" and (.text | test("change colour")))] == []'
expect "nothing is left of it" nothing_left
scenario_end
