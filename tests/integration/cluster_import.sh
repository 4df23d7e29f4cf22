#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A cluster is destroyed, with all that its coordinators and its nodes knew; the store of its job is left. Another cluster finds the
# checkpoints in it, and a job there goes on from one.
set -uo pipefail
export CLUSTER_COORDINATORS=1 # it is not about the group
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

cluster_destroyed()
{
    cluster_coordinator_kill && cluster_node_kill 1 && cluster_node_kill 2 || return 1
    rm -rf "$CLUSTER_DIR/coordinator" "$CLUSTER_DIR/n1" "$CLUSTER_DIR/n2"
    mv "$CLUSTER_DIR/store" "$CLUSTER_DIR/left" && mkdir "$CLUSTER_DIR/store"
}
imported()
{
    tide job list -o json | jq -c '[.jobs[]? | select(.state == "imported") | .spec.name]'
}
# refused TEXT: the import fails, says so, and no job is registered
refused()
{
    ! tide ckpt import "$URL" >"$CLUSTER_DIR/said" 2>&1 || { cat "$CLUSTER_DIR/said"; return 1; }
    says "$1" cat "$CLUSTER_DIR/said" && equal "$(imported)" "[]"
}

# ---- the first cluster ----
scenario_cluster 2 --slots 2
tide run --name train --nnodes 2 --nproc-per-node 2 --launcher none --ckpt-every 300ms -- "$PULSE" --until "$CLUSTER_DIR/train.until"
wait_for 60 "three checkpoints" job_committed train 3
UID_OF=$(cluster_job train .job.uid)
expect "it is destroyed" cluster_destroyed
URL="file://$CLUSTER_DIR/left"
LAST=$(find "$CLUSTER_DIR/left/m" -name COMMIT | sed 's|.*/\([0-9]*\)-[0-9]*/COMMIT|\1|' | sort -n | tail -n 1)
COMMIT=$(find "$CLUSTER_DIR/left/m" -path "*/$LAST-*/COMMIT")

# ---- the second ----
cluster_coordinator_start && cluster_agents_start 1 2 --slots 2 || exit 1
expect_status 3 "it knows of nothing" tide ckpt list train
expect_status 3 "a store that is not there is told" tide ckpt import "file://$CLUSTER_DIR/nowhere"
expect "and what to do" says "run it on a machine that sees the store" tide ckpt import "file://$CLUSTER_DIR/nowhere"
expect_status 3 "so is one without checkpoints" tide ckpt import "file://$CLUSTER_DIR/store"

# Of the last alone, one thing after the other is wrong.
cp -r "$CLUSTER_DIR/left" "$CLUSTER_DIR/whole"
find "$CLUSTER_DIR/left/m" -name COMMIT ! -path "$COMMIT" -delete
jq -c '.version = 99' "$COMMIT" >"$CLUSTER_DIR/newer" && cp "$CLUSTER_DIR/newer" "$COMMIT"
expect "a newer format is refused" refused "format version 99"
expect "with the next step" says "import it with a newer tidemark" cat "$CLUSTER_DIR/said"
cp "$CLUSTER_DIR/whole/${COMMIT#"$CLUSTER_DIR/left/"}" "$COMMIT"
jq -c '.shards[1].key = "m/../../elsewhere/1.json"' "$COMMIT" >"$CLUSTER_DIR/above" && cp "$CLUSTER_DIR/above" "$COMMIT"
expect "a manifest that leads above its place is refused" refused "a manifest that leads elsewhere is not followed"
jq -c '.uid = "ffffffffffffffff"' "$CLUSTER_DIR/whole/${COMMIT#"$CLUSTER_DIR/left/"}" >"$COMMIT"
expect "so is one of another job" refused "train/$LAST is refused"
cp "$CLUSTER_DIR/whole/${COMMIT#"$CLUSTER_DIR/left/"}" "$COMMIT"
RANK=${COMMIT%COMMIT}1.json
mv "$RANK" "$CLUSTER_DIR/rank"
expect "one of which a part is missing is refused" refused "$LAST-"
mv "$CLUSTER_DIR/rank" "$RANK"
rm "$COMMIT"
expect "what has no COMMIT is no checkpoint" refused "holds no finished checkpoint"
rm -rf "$CLUSTER_DIR/left" && mv "$CLUSTER_DIR/whole" "$CLUSTER_DIR/left"

expect "a dry run tells what there is" says "train/$LAST" tide ckpt import "$URL" --dry-run
expect "and registers nothing" equal "$(imported)" "[]"
expect "all are imported, every byte checked" tide ckpt import "$URL" --verify
expect "under the job that made them" equal "$(imported)" '["train"]'
expect "of the uid it had" equal "$(cluster_job train .job.uid)" "$UID_OF"
expect "they are listed" says "train/$LAST" tide ckpt list train
expect "once more they are known" says "known" tide ckpt import "$URL" train
expect "one can be verified" says "every byte checked" tide ckpt verify "train/$LAST"
expect_status 8 "it is kept" tide ckpt drop "train/$LAST"
expect_status 2 "a job of another size cannot go on from it" \
    tide run --name other --restore-from "train/$LAST" --launcher none -- "$PULSE" --steps 10

tide run --name next --restore-from "train/$LAST" --nnodes 2 --nproc-per-node 2 --launcher none --ckpt-every 300ms -- \
    "$PULSE" --until "$CLUSTER_DIR/next.until"
wait_for 60 "its own checkpoint" job_committed next 2
expect "a job goes on from it" cluster_job_is next ".job.restore_cut == $LAST and .job.generation == 1"
expect "its own are numbered on" cluster_job_is next "[.job.ckpts[] | select(.inherited != true) | .cut] | min > $LAST"
expect "and lie in its own store" test -n "$(find "$CLUSTER_DIR/store/m" -name COMMIT)"
expect "what it began with can be verified" says "every byte checked" tide ckpt verify "next/$LAST"
expect "a rank can be killed" cluster_rank_kill next 1
job_let_end next
expect "it succeeds" job_succeeds next
expect "its ranks computed what they would have alone" equal "$(job_hashes next)" "$(pulse_hashes 4 --steps "$ENDS_AT")"
expect "what was imported is still whole" says "every byte checked" tide ckpt verify "train/$LAST"

# The cluster that made them lives, say, and has deleted one.
FIRST=$(cluster_job train '[.job.ckpts[].cut] | min')
rm "$CLUSTER_DIR/left/m/train.$UID_OF/$FIRST"-*/COMMIT
tide run --name lost --restore-from "train/$FIRST" --nnodes 2 --nproc-per-node 2 --launcher none -- "$PULSE" --steps 10
expect "a job that is to go on from what is gone does not wait for it" job_wait lost 90
expect "nor begin at the beginning" equal "$(cluster_job lost .job.state)" failed

# Told so, it is this cluster's to delete.
expect "one can be let go" tide ckpt unpin "train/$LAST"
expect "and dropped" tide ckpt drop "train/$LAST"
expect "at once" tide ckpt gc train
gone()
{
    [ -z "$(find "$CLUSTER_DIR/left/m" -path "*/$LAST-*")" ]
}
expect "then its objects go" wait_for 60 "them to go" gone
expect "and no others" test -n "$(find "$CLUSTER_DIR/left/m" -name COMMIT)"
expect "nothing is left of it" nothing_left
scenario_end
