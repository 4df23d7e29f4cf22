# SPDX-License-Identifier: Apache-2.0
# examples/cuda_mlp on the simulators of CUDA and NCCL, with few images. After scenario.sh.
# shellcheck shell=bash

MLP_IMAGES=2048 # of either set: what the ranks read is no part of the tests
MLP_DATASET=/usr/share/datasets/fashion-mnist
# shellcheck disable=SC2034 # for the scripts
SIMULATED=(env LD_LIBRARY_PATH="$SCENARIO_BUILD/sim_cuda" LD_PRELOAD="$SCENARIO_BUILD/tests/mlp_kernels.so")

# The first images of a set, with their number in the head of the file. What zcat has left over it may keep.
mlp_cut_set()
{
    { printf '\0\0\010\003\0\0\010\0\0\0\0\034\0\0\0\034' && zcat "$MLP_DATASET/$1-images-idx3-ubyte.gz" | tail -c +17 | head -c $((MLP_IMAGES * 784)); } |
        gzip -1 >"$DATA/$1-images-idx3-ubyte.gz"
    { printf '\0\0\010\001\0\0\010\0' && zcat "$MLP_DATASET/$1-labels-idx1-ubyte.gz" | tail -c +9 | head -c $MLP_IMAGES; } |
        gzip -1 >"$DATA/$1-labels-idx1-ubyte.gz"
}

# They are in $DATA; whoever calls removes it.
mlp_data()
{
    DATA=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-mlp.XXXXXX")
    mlp_cut_set train
    mlp_cut_set t10k
}
