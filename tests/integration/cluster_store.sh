#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The store goes away while a rank needs it, and comes back; another file system takes its place under the agents.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

OUTAGE_S=4 # long enough for several tries

# A file where the directory was: nothing can be opened there.
store_away()
{
    mv "$CLUSTER_DIR/store" "$CLUSTER_DIR/store.away" && echo "not mounted" >"$CLUSTER_DIR/store"
}

store_back()
{
    rm "$CLUSTER_DIR/store" && mv "$CLUSTER_DIR/store.away" "$CLUSTER_DIR/store"
}

# What the lost node's ranks recorded rots in the memory of its peer: it is met on the way to the store.
spoil_copies()
{
    local uid_file copy spoiled=1
    for uid_file in "$CLUSTER_DIR"/n*/node.uid; do
        for copy in "/dev/shm/tidemark-$(cat "$uid_file")"/*/peer/r[23].slot?; do
            [ -e "$copy" ] || continue
            printf rot | dd of="$copy" bs=1 seek=30000 conv=notrunc status=none && spoiled=0
        done
    done
    return $spoiled
}

scenario_cluster 3 --slots 2

# ---- out of reach ----
tide run --name far --nnodes 2 --spares 1 --nproc-per-node 2 --launcher none --ckpt-every 300ms -- "$PULSE" --until "$CLUSTER_DIR/far.until"
wait_for 60 "a committed checkpoint" job_committed_after far 0
LOST=$(cluster_job far '.job.nodes[1]')
expect "the store goes out of reach" store_away
cluster_node_kill "${LOST#n}"
expect "copies of what it had rot" spoil_copies
expect "the ranks on the spare wait, and it is said for what" \
    wait_for 60 "the spare to wait" says "waits for checkpoint" tide job explain far
sleep "$OUTAGE_S"
expect "they still wait" cluster_job_is far '.job.restarts == 1 and (.job.all_stepped | not)'
expect "the store comes back" store_back
job_let_end far
expect "the job succeeds" job_succeeds far
expect "the outage cost no restart" equal "$(cluster_job far .job.restarts)" 1
expect "it went on from a checkpoint" cluster_job_is far '.job.recoveries[0] | .cut > 0 and .to_step > 0'
expect "its ranks computed what they would have alone" equal "$(job_hashes far)" "$(pulse_hashes 4 --steps "$ENDS_AT")"
cluster_agent_start "${LOST#n}"
wait_for 60 "$LOST to be back" cluster_node_is "$LOST" ready

# ---- what a store must do ----
expect "a directory keeps what checkpoints need" says '"good": true' tide store check -o json --bytes 1000000 "$CLUSTER_DIR/store"
expect "its check leaves nothing behind" equal "$(find "$CLUSTER_DIR/store" -path '*check.*' | wc -l)" 0

# ---- another place under the same name ----
store_replace()
{
    cp -a "$CLUSTER_DIR/store" "$CLUSTER_DIR/store.new" && mv "$CLUSTER_DIR/store" "$CLUSTER_DIR/store.old" &&
        mv "$CLUSTER_DIR/store.new" "$CLUSTER_DIR/store"
}

stored_there()
{
    [ -n "$(find "$CLUSTER_DIR/store/m" -path "*/$(job_newest moved)-*/COMMIT")" ]
}

tide run --name moved --nnodes 2 --nproc-per-node 1 --launcher none --ckpt-every 300ms -- "$PULSE" --until "$CLUSTER_DIR/moved.until"
wait_for 60 "a committed checkpoint" job_committed_after moved 0
expect "another file system takes the store's place" store_replace
BEFORE=$(job_newest moved)
expect "checkpoints are still committed" wait_for 60 "later checkpoints" job_committed_after moved $((BEFORE + 2))
expect "into the new place" stored_there
tide job cancel moved >/dev/null
expect "nothing is left of it" nothing_left

# ---- an agent that is told to end while a store hangs ----
sealed()
{
    cluster_job_is "$1" '[(.job.ckpts // [])[] | select(.state == "sealed" or .state == "peered")] | length > 0'
}

hung_agent_start()
{
    export LD_PRELOAD="$CLUSTER_BUILD/tests/slow_disk.so"
    cluster_agent_start 3
    unset LD_PRELOAD
}

cluster_agent_kill 3
hung_agent_start
wait_for 60 "n3 to be back" cluster_node_is n3 ready
tide node drain n1 >/dev/null
tide node drain n2 >/dev/null
tide run --name hangs --nproc-per-node 1 --launcher none --ckpt-every 300ms -- "$PULSE" --until "$CLUSTER_DIR/hangs.until"
wait_for 60 "a checkpoint on its way to the store" sealed hangs
kill -TERM "${CLUSTER_AGENT_PID[3]}"
expect "it ends all the same" wait_for 10 "the agent to end" cluster_ended "${CLUSTER_AGENT_PID[3]}"
unset "CLUSTER_AGENT_PID[3]"
cluster_agent_start 3
expect "its ranks were left alone" wait_for 60 "the job to go on" cluster_job_is hangs '.job.generation == 1 and .job.all_stepped'
tide job cancel hangs >/dev/null
expect "nothing is left of it" nothing_left
scenario_end
