#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# examples/cuda_mlp on two nodes, as nvcc made it, on the simulators of CUDA's runtime and of NCCL: ranks that only tidemark
# connects; killed in the middle, they end with the same bits.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

MLP=$SCENARIO_BUILD/examples/cuda_mlp/train
if [ ! -x "$MLP" ]; then
    echo "ok $SCENARIO_NAME/not built # SKIP CMake found no CUDA 13 with nvcc and NCCL"
    exit 0
fi

IMAGES=2048 # of either set: what the ranks read is no part of this
DATASET=/usr/share/datasets/fashion-mnist
DATA=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-mlp.XXXXXX")
STEPS=(--steps 80 --slice 3 --log-every 40 --data "$DATA")
SIMULATED=(env LD_LIBRARY_PATH="$SCENARIO_BUILD/sim_cuda" LD_PRELOAD="$SCENARIO_BUILD/tests/mlp_kernels.so")
TWO_BY_TWO=(--nnodes 2 --nproc-per-node 2 --launcher none)

digest()
{
    sed -n 's/^.*parameters sha256 //p' | tail -n 1
}

sealed()
{
    cluster_job_is "$1" '[(.job.ckpts // [])[] | select(.state == "sealed" or .state == "committed")] | length > 0'
}

# The first images of a set, with their number in the head of the file. What zcat has left over it may keep.
cut_set()
{
    { printf '\0\0\010\003\0\0\010\0\0\0\0\034\0\0\0\034' && zcat "$DATASET/$1-images-idx3-ubyte.gz" | tail -c +17 | head -c $((IMAGES * 784)); } |
        gzip -1 >"$DATA/$1-images-idx3-ubyte.gz"
    { printf '\0\0\010\001\0\0\010\0' && zcat "$DATASET/$1-labels-idx1-ubyte.gz" | tail -c +9 | head -c $IMAGES; } |
        gzip -1 >"$DATA/$1-labels-idx1-ubyte.gz"
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

cut_set train
cut_set t10k
expect "nothing of tidemark links to NCCL" needs_no_nccl
WANTED=$("${SIMULATED[@]}" timeout 60 "$MLP" "${STEPS[@]}" 2>/dev/null | digest)
expect "it trains as one rank, without tidemark" test -n "$WANTED"

scenario_cluster 2 --slots 4
tide run --name calm "${TWO_BY_TWO[@]}" -- "${SIMULATED[@]}" "$MLP" "${STEPS[@]}"
expect "four ranks on two nodes are connected by tidemark alone" job_succeeds calm 60
expect "the parameters are those of one rank" equal "$(tide job logs calm --rank 0 | digest)" "$WANTED"

tide run --name rough "${TWO_BY_TWO[@]}" --ckpt-every 300ms -- "${SIMULATED[@]}" "$MLP" "${STEPS[@]}"
wait_for 20 "a checkpoint" sealed rough
expect "a rank can be killed" cluster_rank_kill rough 3
expect "the job succeeds all the same" job_succeeds rough 60
expect "with one restart from a checkpoint" cluster_job_is rough '.job.restarts == 1 and .job.recoveries[0].to_step > 0'
expect "the parameters are the same again" equal "$(tide job logs rough --rank 0 | digest)" "$WANTED"
expect "no cut was refused" cluster_job_is rough '[.job.events[] | select(.kind == "cut_aborted" and (.text | test("communicator")))] == []'
expect "nothing is left of it" nothing_left
rm -rf "$DATA"
scenario_end
