#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Neither a store that is too slow nor an arena that is too small is the training's trouble: checkpoints stay in memory, wait or are
# left out, somebody is told, and ranks make their steps.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

run()
{
    local name=$1
    shift
    tide run --name "$name" --nproc-per-node 1 --launcher none --ckpt-every 300ms "$@" --until "$CLUSTER_DIR/$name.until"
}
lags()
{
    tide job explain "$1" | grep -q "the store lags"
}
lags_no_more()
{
    ! lags "$1"
}

# ids of checkpoints that are whole in memory, and not in the store
in_memory()
{
    cluster_job "$1" '[(.job.ckpts // [])[] | select(.state == "sealed") | .cut] | .[-1] // 0'
}
in_memory_after()
{
    [ "$(in_memory "$1")" -gt "$2" ]
}
restarted()
{
    cluster_job_is "$1" '.job.generation == 2 and .job.all_stepped == true'
}

cluster_create "$SCENARIO_BUILD" && cluster_coordinator_start || exit 1

# ---- an arena that is full ----
cluster_agents_start 1 1 --slots 1 --arena-max 600K || exit 1
run full -- "$PULSE" --kib 512
aborted()
{
    cluster_job_is full '[.job.events[] | select(.kind == "cut_aborted") | .text] | any(test("raise --arena-max"))'
}
expect "a checkpoint for which there is no memory is left out, and it is told what to do" wait_for 60 "the event" aborted
expect "its job trains on" job_trains full
job_let_end full
expect "and succeeds" job_succeeds full
expect "without a restart" equal "$(cluster_job full .job.restarts)" 0
cluster_agent_kill 1

# ---- a store that takes 15 s for an object ----
export LD_PRELOAD="$CLUSTER_BUILD/tests/slow_disk.so"
cluster_agent_start 1 --slots 1
unset LD_PRELOAD
wait_for 60 "n1 to be back" cluster_node_is n1 ready
run slow -- "$PULSE"
expect "it is told that a store lags" wait_for 60 "it to be told" lags slow
expect "that job trains on, too" job_trains slow
expect "checkpoints go on in memory, in a third slot" wait_for 60 "some" in_memory_after slow 6
expect "nothing is committed meanwhile" equal "$(job_newest slow)" 0
expect "and it is told what becomes of them" says "is in memory and stored next" tide job explain slow
MEMORY=$(in_memory slow)
expect "a rank can be killed" cluster_rank_kill slow 0
expect "the job goes on" wait_for 60 "generation 2" restarted slow
expect "from the newest in memory" cluster_job_is slow ".job.recoveries[0] | .cut >= $MEMORY and .to_step > 0"
expect "and is still told that the store lags" lags slow
cluster_agent_kill 1
cluster_agent_start 1
expect "with a store that does not it is told no more" wait_for 60 "it to be gone" lags_no_more slow
expect "and checkpoints are committed" wait_for 60 "a checkpoint" job_committed_after slow 1
job_let_end slow
expect "it succeeds" job_succeeds slow
expect "with that one restart" equal "$(cluster_job slow .job.generation)" 2
expect "and computed what it would have alone" equal "$(job_hashes slow)" "$(pulse_hashes 1 --steps "$ENDS_AT")"
expect "nothing is left of it" nothing_left
scenario_end
