#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checkpoints that are kept, condemned, taken back and deleted, and what is found in the store that nobody needs.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

state_of()
{
    cluster_job keep ".job.ckpts[] | select(.cut == $1) | .state"
}

# objects PATTERN: how many there are in the store.
objects()
{
    find "$CLUSTER_DIR/store" -type f -path "*$1*" ! -name 'probe.*' | wc -l
}

bytes_in_store()
{
    find "$CLUSTER_DIR/store" -type f -path "*$JOB*" -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }'
}

left_are()
{
    [ "$(bytes_in_store)" -eq "$1" ]
}

dry_run()
{
    tide ckpt gc keep --dry-run -o json | jq "$1"
}

gone()
{
    [ "$(objects "$JOB/$1-")" -eq 0 ]
}

scenario_cluster 2 --slots 2

tide run --name keep --nnodes 2 --nproc-per-node 1 --launcher none --ckpt-keep 1 --ckpt-grace 10m -- \
    "$PULSE" --until "$CLUSTER_DIR/keep.until"
wait_for 20 "training" cluster_job_at_step keep 20
JOB=keep.$(cluster_job keep .job.uid)
for _ in 1 2 3; do
    tide ckpt save keep --wait >/dev/null
done
expect "the newest is kept" equal "$(state_of 3)" committed
expect "the others are condemned" equal "$(state_of 1) $(state_of 2)" "condemned condemned"
expect "nothing of them is deleted yet" test "$(objects "$JOB/1-")" -gt 0
expect "one can be taken back" says "is kept until it is unpinned" tide ckpt pin keep/1
expect "it is committed again" equal "$(state_of 1)" committed
expect "it verifies" tide ckpt verify keep/1

# Something of a checkpoint that will only be taken: no orphan.
mkdir -p "$CLUSTER_DIR/store/m/$JOB/7-1"
printf stray >"$CLUSTER_DIR/store/m/$JOB/7-1/0.json"
expect "a dry run tells one condemned checkpoint" equal "$(dry_run .condemned.checkpoints)" 1
expect "what has a number that was not given yet is no orphan" equal "$(dry_run .orphans.checkpoints)" 0
rm -r "$CLUSTER_DIR/store/m/$JOB/7-1"
before=$(bytes_in_store)
told=$(dry_run .bytes)
expect "a dry run deletes nothing" equal "$(bytes_in_store)" "$before"
expect "what is condemned is deleted now" says "1 checkpoint of job keep is dropped" tide ckpt gc keep
expect "its objects go" wait_for 20 "the deletion" gone 2
expect "as many bytes went as the dry run said" wait_for 10 "the sweep" left_are $((before - told))
expect "what is kept verifies" tide ckpt verify keep/1
expect "and the newest" tide ckpt verify keep/3

# ---- orphans ----
mkdir -p "$CLUSTER_DIR/store/m/$JOB/2-1"
printf stray >"$CLUSTER_DIR/store/m/$JOB/2-1/0.json"
expect "what a dropped one left is found" equal "$(dry_run .orphans)" '{
  "checkpoints": 1,
  "objects": 1,
  "bytes": 5
}'
tide ckpt gc keep >/dev/null
expect "and goes" wait_for 20 "the sweep" gone 2

# ---- the end ----
tide ckpt unpin keep/1 >/dev/null
job_let_end keep
expect "the job succeeds" job_succeeds keep 40
tide ckpt gc keep >/dev/null
expect "only the newest stays" wait_for 20 "the deletion" gone 1
expect "and verifies" tide ckpt verify keep/3
tide ckpt drop keep/3 --force >/dev/null
expect "after it nothing of the job is left" wait_for 20 "the deletion" left_are 0
scenario_end
