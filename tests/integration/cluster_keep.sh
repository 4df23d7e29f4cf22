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
wait_for 60 "training" cluster_job_at_step keep 20
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
expect "its objects go" wait_for 60 "the deletion" gone 2
expect "as many bytes went as the dry run said" wait_for 60 "the sweep" left_are $((before - told))
expect "what is kept verifies" tide ckpt verify keep/1
expect "and the newest" tide ckpt verify keep/3

# ---- for other programs ----
# A reader that knows the public layout of safetensors and nothing of us, beside the bare bytes.
read_both()
{
    python3 - "$1" "$2" <<'PYTHON'
import json, struct, sys
width = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1}
for rank in range(2):
    with open(f"{sys.argv[1]}/rank-{rank:05d}.safetensors", "rb") as file:
        (head,) = struct.unpack("<Q", file.read(8))
        header, body = json.loads(file.read(head)), file.read()
    with open(f"{sys.argv[2]}/rank-{rank:05d}.bin", "rb") as file:
        raw = file.read()
    regions = {r["name"]: r for r in json.load(open(f"{sys.argv[2]}/rank-{rank:05d}.json"))["regions"]}
    meta = header.pop("__metadata__")
    assert all(isinstance(v, str) for v in meta.values()) and meta["rank"] == str(rank) and meta["checkpoint"] == "3", meta
    assert header.keys() == regions.keys() and header, header.keys()
    end = 0
    for name, t in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, after = t["data_offsets"]
        numbers = 1
        for n in t["shape"]:
            numbers *= n
        assert begin == end and begin % width[t["dtype"]] == 0 and numbers * width[t["dtype"]] == after - begin, (name, t)
        at = regions[name]["offset"]
        assert body[begin:after] == raw[at : at + regions[name]["bytes"]], name
        end = after
    assert end == len(body) == len(raw)
print("read")
PYTHON
}
expect "a checkpoint is exported as safetensors" says "2 files" tide ckpt export keep/3 "$CLUSTER_DIR/tensors"
expect "and as bare bytes" tide ckpt export keep 3 "$CLUSTER_DIR/raw" --format raw
expect "others can read it" says read read_both "$CLUSTER_DIR/tensors" "$CLUSTER_DIR/raw"
expect_status 8 "what is there is not replaced" tide ckpt export keep/3 "$CLUSTER_DIR/tensors"

# ---- orphans ----
mkdir -p "$CLUSTER_DIR/store/m/$JOB/2-1"
printf stray >"$CLUSTER_DIR/store/m/$JOB/2-1/0.json"
expect "what a dropped one left is found" equal "$(dry_run .orphans)" '{
  "checkpoints": 1,
  "objects": 1,
  "bytes": 5
}'
tide ckpt gc keep >/dev/null
expect "and goes" wait_for 60 "the sweep" gone 2

# ---- the end ----
tide ckpt unpin keep/1 >/dev/null
job_let_end keep
expect "the job succeeds" job_succeeds keep
tide ckpt gc keep >/dev/null
expect "only the newest stays" wait_for 60 "the deletion" gone 1
expect "and verifies" tide ckpt verify keep/3
tide ckpt drop keep/3 --force >/dev/null
expect "after it nothing of the job is left" wait_for 60 "the deletion" left_are 0
scenario_end
