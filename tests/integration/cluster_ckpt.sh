#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checkpoints by hand, rollback, and what is done about cuts and copies that are no good.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

run()
{
    local name=$1
    shift
    tide run --name "$name" --nnodes 2 --nproc-per-node 1 --launcher none "$@"
}

scenario_cluster 2 --slots 4 --encode-helpers 2

# ---- ranks that hold the same; the first that these agents store ----
ALIKE=(--kib 3072 --alike 1) # each rank has 3 MiB
tide run --name alike --nnodes 2 --nproc-per-node 2 --launcher none -- "$PULSE" "${ALIKE[@]}" --step-ms 20 --until "$CLUSTER_DIR/alike.until"
wait_for 60 "training" cluster_job_at_step alike 10
tide ckpt save alike --wait >/dev/null
SHARED=$(job_newest alike)
expect "it is stored once, whoever holds it" cluster_job_is alike \
    ".job.ckpts[] | select(.cut == $SHARED) | .raw_bytes > 12000000 and .stored_bytes > 3000000 and .stored_bytes < 3500000"
expect "it verifies for each rank" says "4 ranks" tide ckpt verify "alike/$SHARED"
tide job cancel alike >/dev/null
ENDS_AT=$(($(cluster_job alike ".job.ckpts[] | select(.cut == $SHARED) | .step") + 20))
tide run --name again --restore-from "alike/$SHARED" --nnodes 2 --nproc-per-node 2 --launcher none -- "$PULSE" "${ALIKE[@]}" --steps "$ENDS_AT"
expect "each rank goes on from what one of all has stored" job_succeeds again
expect "and computes what it would have alone" equal "$(job_hashes again)" "$(pulse_hashes 4 "${ALIKE[@]}" --steps "$ENDS_AT")"

# ---- by hand; so much that threads help to encode it ----
MUCH=(--kib 12288 --step-ms 20)
run hand -- "$PULSE" "${MUCH[@]}" --until "$CLUSTER_DIR/hand.until"
wait_for 60 "training" cluster_job_at_step hand 20
expect "a checkpoint can be taken by hand" tide ckpt save hand --wait
FIRST=$(job_newest hand)
STEP=$(cluster_job hand ".job.ckpts[] | select(.cut == $FIRST) | .step")
expect "it is listed" says committed tide ckpt list hand
expect "it verifies" tide ckpt verify "hand/$FIRST"
job_trains hand
expect "a second one can be taken" tide ckpt save hand --wait
SECOND=$(job_newest hand)
job_trains hand
expect "the job can be rolled back to the first" tide rollback hand --to "$FIRST"
expect "it went on from there" cluster_job_is hand ".job.recoveries[-1] | .cause == \"rollback\" and .to_step == $STEP"
expect "that is no restart after a failure" equal "$(cluster_job hand '.job.restarts // 0')" 0
expect "the second, which will never have happened, is dropped" \
    cluster_job_is hand ".job.ckpts[] | select(.cut == $SECOND) | .state == \"dropped\""
expect "the newest restorable one is not dropped without --force" scenario_status_is 8 tide ckpt drop "hand/$FIRST"
job_let_end hand
expect "the job succeeds" job_succeeds hand
expect "its ranks computed what they would have alone" equal "$(job_hashes hand)" "$(pulse_hashes 2 "${MUCH[@]}" --steps "$ENDS_AT")"

# ---- a rank that does not come to its armed step ----
run slow --ckpt-every 300ms --cut-deadline 1s -- "$PULSE" --steps 1000 --step-ms 5 --trouble stall --rank 1 --at 100 --for-ms 4000
expect "the cut is aborted, and the rank is named" wait_for 60 "an aborted cut" \
    cluster_job_is slow '[(.job.ckpts // [])[] | select(.state == "aborted") | .reason] | any(test("rank 1"))'
expect "training goes on" job_succeeds slow
expect "in the first generation" equal "$(cluster_job slow .job.generation)" 1
expect "its ranks computed what they would have alone" equal "$(job_hashes slow)" "$(pulse_hashes 2 --steps 1000)"

# ---- a damaged copy in the store ----
# Both nodes lose their memory, so that the store is all there is, and its newest checkpoint is damaged.
run rot --ckpt-keep 10 -- "$PULSE" --until "$CLUSTER_DIR/rot.until"
wait_for 60 "training" cluster_job_at_step rot 50
tide ckpt save rot --wait >/dev/null
OLDER=$(job_newest rot)
job_trains rot
tide ckpt save rot --wait >/dev/null
NEWER=$(job_newest rot)
UID_OF=$(cluster_job rot .job.uid)

# damage CUT [PART]: a pack of that checkpoint in its middle, or at another part of it: that is data, not a manifest.
damage()
{
    local object size
    object=$(find "$CLUSTER_DIR/store" -type f -path "*$UID_OF/$1-*.pk" -print -quit)
    [ -n "$object" ] || { echo "no object of $1 found"; find "$CLUSTER_DIR/store" -type f; return 1; }
    size=$(stat -c %s "$object")
    chmod u+w "$object"
    DAMAGED=$object
    cp -p "$object" "$CLUSTER_DIR/undamaged"
    printf '\xff\x00\xff\x00' | dd of="$object" bs=1 seek=$((size / ${2:-2})) conv=notrunc status=none
}
expect "an object of the newest checkpoint can be damaged" damage "$NEWER"
expect "ckpt verify finds it" scenario_status_is 9 tide ckpt verify "rot/$NEWER"
expect "and notes it for the checkpoints to come" test -e "$CLUSTER_DIR/store/d/rot.$UID_OF/$NEWER"
cluster_node_kill 1
cluster_node_kill 2
cluster_agents_start 1 2
expect "the damage is found at the restart" wait_for 60 "the checkpoint to be called corrupt" \
    cluster_job_is rot ".job.ckpts[] | select(.cut == $NEWER) | .state == \"corrupt\""
expect "the older one is used" wait_for 60 "the restart from $OLDER" cluster_job_is rot ".job.restore_cut == $OLDER and .job.all_stepped"
expect "and it is said" says corrupt tide job events rot

# One that nobody restores is read all the same, from time to time.
GENERATION=$(cluster_job rot .job.generation)
for node in 1 2; do
    cluster_agent_kill "$node"
    cluster_agent_start "$node" --slots 4 --scrub-every 1 --scrub-rate 1G
done
job_trains rot
tide ckpt save rot --wait >/dev/null
NEWEST=$(job_newest rot)
expect "it is read while it is whole" wait_for 60 "the agent to have read it" \
    grep -qh "checkpoint $NEWEST is whole in the store" "$CLUSTER_DIR/n1.log" "$CLUSTER_DIR/n2.log"
expect "how much was read is told in numbers" says 'tidemark_scrub_last_timestamp_seconds{job="rot"} 1' cluster_get v1/metrics
damage "$NEWEST"
expect "damage is found without a restart" wait_for 60 "the checkpoint to be called corrupt" \
    cluster_job_is rot ".job.ckpts[] | select(.cut == $NEWEST) | .state == \"corrupt\""
expect "node and object are named" cluster_job_is rot \
    "[.job.events[] | select(.kind == \"corrupt\" and .cut == $NEWEST) | .text] | any(test(\"n[12] read it in the store: .* in object c/.*$UID_OF/$NEWEST-\"))"
expect "the older one is left alone" cluster_job_is rot ".job.ckpts[] | select(.cut == $OLDER) | .state == \"committed\""
expect "and training goes on as if nothing had been" equal "$(cluster_job rot .job.generation)" "$GENERATION"

# The object is there again, from a copy.
whole_again()
{
    cluster_job_is rot ".job.ckpts[] | select(.cut == $NEWEST) | .state == \"committed\" and .pinned"
}
expect "what is damaged is not readmitted" scenario_status_is 9 tide ckpt verify --readmit "rot/$NEWEST"
cp -p "$CLUSTER_DIR/undamaged" "$DAMAGED"
expect "when it is whole again it is told how to have it back" says "ckpt verify --readmit rot/$NEWEST" tide ckpt verify "rot/$NEWEST"
expect "it can be readmitted" says "rot/$NEWEST is committed again, and kept until it is unpinned" tide ckpt verify --readmit "rot/$NEWEST"
expect "then it is one as any other" whole_again
READ=$(grep -ch "checkpoint $NEWEST is whole in the store" "$CLUSTER_DIR"/n[12].log | awk '{n += $1} END {print n}')
read_once_more()
{
    [ "$(grep -ch "checkpoint $NEWEST is whole in the store" "$CLUSTER_DIR"/n[12].log | awk '{n += $1} END {print n}')" -gt "$READ" ]
}
expect "which is read from time to time" wait_for 60 "the agent to have read it" read_once_more
expect "and stays" whole_again
cluster_rank_kill rot 0
expect "and restarted from" wait_for 60 "the restart from $NEWEST" cluster_job_is rot ".job.restore_cut == $NEWEST and .job.all_stepped"
job_let_end rot
expect "the job succeeds" job_succeeds rot
expect "its ranks computed what they would have alone" equal "$(job_hashes rot)" "$(pulse_hashes 2 --steps "$ENDS_AT")"

# ---- neither copy is whole ----
# Of three chunks memory has the last one wrong, and the store the first.
for node in 1 2; do
    cluster_agent_kill "$node"
    cluster_agent_start "$node" --slots 4
done
tide run --name both --nnodes 1 --nproc-per-node 1 --launcher none --copies none -- "$PULSE" --kib 3072 --step-ms 20 --until "$CLUSTER_DIR/both.until"
wait_for 60 "training" cluster_job_at_step both 10
tide ckpt save both --wait >/dev/null
NEWEST=$(job_newest both)
UID_OF=$(cluster_job both .job.uid)
# spoil_memory JOB: the last chunk of what its rank has recorded.
spoil_memory()
{
    local slot spoiled=1
    for slot in "/dev/shm/tidemark-$(<"$CLUSTER_DIR/$(cluster_job "$1" '.job.nodes[0]')/node.uid")"/*/r0.slot?; do
        printf rot | dd of="$slot" bs=1 seek=$((5 << 19)) conv=notrunc status=none && spoiled=0
    done
    return $spoiled
}
expect "memory can be damaged" spoil_memory both
expect "and the store" damage "$NEWEST" 6
cluster_rank_kill both 0
expect "the job goes on" wait_for 60 "steps" cluster_job_is both ".job.recoveries[0].to_step > 0 and .job.all_stepped"
expect "with what they have between them" cluster_job_is both ".job.recoveries[0].cut == $NEWEST and .ranks[0].report.tier == \"store\""
expect "that is logged" grep -qh "cannot be read as a whole from the store, and what is missing for rank 0 was in memory: .*chunk 0" \
    "$CLUSTER_DIR/n1.log" "$CLUSTER_DIR/n2.log"
expect "and what is stored is called corrupt" wait_for 60 "the checkpoint to be called corrupt" \
    cluster_job_is both ".job.ckpts[] | select(.cut == $NEWEST) | .state == \"corrupt\""
job_let_end both
expect "the job succeeds" job_succeeds both
expect "its rank computed what it would have alone" equal "$(job_hashes both)" "$(pulse_hashes 1 --kib 3072 --steps "$ENDS_AT")"

# ---- a sector of the store's disk cannot be read ----
# It lies in the first chunk, of which memory has the last one wrong: neither the read of all three nor that of the first alone comes to an end.
for node in 1 2; do
    cluster_agent_kill "$node"
    LD_PRELOAD="$SCENARIO_BUILD/tests/disk_fault.so" TIDE_DISK_FAULT="read:1:EIO:*/c/*/sector.*.pk;read:2:EIO:*/c/*/sector.*.pk" \
        cluster_agent_start "$node" --slots 4
done
tide run --name sector --nnodes 1 --nproc-per-node 1 --launcher none --copies none -- "$PULSE" --kib 3072 --step-ms 20 --until "$CLUSTER_DIR/sector.until"
wait_for 60 "training" cluster_job_at_step sector 10
tide ckpt save sector --wait >/dev/null
NEWEST=$(job_newest sector)
expect "memory can be damaged" spoil_memory sector
cluster_rank_kill sector 0
expect "the job does not wait for it" wait_for 20 "steps" cluster_job_is sector ".job.recoveries[0].cut == $NEWEST and .job.all_stepped"
expect "what cannot be read is taken from memory" grep -qh "what is missing for rank 0 was in memory: .*Input/output error" "$CLUSTER_DIR/n1.log" "$CLUSTER_DIR/n2.log"
expect "the checkpoint is not condemned for that" cluster_job_is sector ".job.ckpts[] | select(.cut == $NEWEST) | .state == \"committed\""
job_let_end sector
expect "its rank computed what it would have alone" equal "$(job_succeeds sector && job_hashes sector)" "$(pulse_hashes 1 --kib 3072 --steps "$ENDS_AT")"

expect "nothing is left of all these" nothing_left

# ---- a store that cannot be written ----
run nowhere --store file:///proc/no-such-store --ckpt-every 300ms -- "$PULSE" --steps 1000 --step-ms 5
expect "training goes on without its store" job_succeeds nowhere
expect "the trouble is told" cluster_job_is nowhere '[.job.events[] | select(.kind == "store_failed")] | length > 0'
expect "and named" says "no-such-store" tide job events nowhere
expect "nothing is left of it, though its store cannot be cleaned" nothing_left
scenario_end
