#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# examples/cuda_train, as nvcc made it, on the simulator of CUDA's runtime: killed in the middle, it ends with the same bits,
# whichever way its regions are copied.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

CUDA_TRAIN=$SCENARIO_BUILD/examples/cuda_train/train
if [ ! -x "$CUDA_TRAIN" ]; then
    echo "ok $SCENARIO_NAME/not built # SKIP CMake found no CUDA 13 with nvcc"
    exit 0
fi

STATE=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-cuda.XXXXXX")
trap 'rm -rf "$STATE"' EXIT
STEPS=(--steps 300 --params 100000)
SIMULATED=(env LD_LIBRARY_PATH="$SCENARIO_BUILD/sim_cuda" LD_PRELOAD="$SCENARIO_BUILD/tests/cuda_kernels.so")

alone()
{
    env XDG_STATE_HOME="$STATE" timeout 100 "$SCENARIO_BUILD/bin/tidemark" run --standalone "$@"
}

# Standard output of one that is killed at step 150.
killed()
{
    alone -n 1 --launcher none --ckpt-every 100ms -- "${SIMULATED[@]}" "$CUDA_TRAIN" "${STEPS[@]}" --step-ms 10 --die-at 150 --copy "$1" \
        2>"$STATE/err" | grep -o 'digest .*' || { cat "$STATE/err"; return 1; }
}

# ends_the_same WAY NUMBER: of enum tide_copy, as the last record went.
ends_the_same()
{
    local line
    line=$(killed "$1") || { echo "$line"; return 1; }
    [[ $line =~ ^"digest $DIGEST steps 300 restored "[1-9][0-9]*" copied $2"$ ]] || { echo "got '$line', wanted digest $DIGEST"; return 1; }
}

undisturbed=$("${SIMULATED[@]}" "$CUDA_TRAIN" "${STEPS[@]}" 2>&1)
DIGEST=$(sed -n 's/^digest \([0-9a-f]*\) .*/\1/p' <<<"$undisturbed")
expect "it trains without tidemark" says "digest $DIGEST steps 300 restored 0" echo "$undisturbed"
expect "killed, it ends with the same bits (lazy)" ends_the_same lazy 3
expect "killed, it ends with the same bits (slab)" ends_the_same slab 2
expect "killed, it ends with the same bits (sync)" ends_the_same sync 1
without()
{
    alone -n 1 --launcher none --max-restarts 0 -- "$CUDA_TRAIN" "${STEPS[@]}"
}
[ -e /dev/nvidiactl ] || expect "without a GPU it says so" says "no GPU" without
scenario_end
