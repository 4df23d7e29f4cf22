#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From `tidemark ckpt save` to a checkpoint that is whole in memory, of examples/bank with 4 and 16 ranks and of examples/pipeline, on two
# nodes of this machine: the command with --wait, as a user sees it, and the cluster's own clock. And what a cut holds: messages that
# were on their way, their bytes, and the longest stall of a rank. Medians.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"
SAVES=${BENCH_SEAL_SAVES:-15}
YIELD=OMPI_MCA_mpi_yield_when_idle=1 # more ranks than cores

line()
{
    printf '{"bench":"seal","metric":"%s","value":%s,"unit":"%s","limit":null,"peer":null}\n' "$1" "$2" "$3"
}

median()
{
    sort -n | awk '{ all[NR] = $1 } END { print NR ? all[int((NR + 1) / 2)] : "null" }'
}

# measure NAME RANKS PROGRAM…
measure()
{
    local name=$1 ranks=$2 i begin view sealed
    shift 2
    tide run --name "$name" --nnodes 2 --nproc-per-node $((ranks / 2)) --env "$YIELD" -- "$@" >&2 || return 1
    wait_for 60 "$name to work" cluster_job_is "$name" '.job.all_stepped == true' || return 1
    for ((i = 0; i < SAVES; i++)); do
        begin=$(date +%s%N)
        tide ckpt save "$name" --wait >/dev/null && echo $((($(date +%s%N) - begin) / 1000000))
        sleep 0.1
    done >"$CLUSTER_DIR/waits"
    view=$(cluster_job "$name" '[.job.ckpts[] | select(.sealed_ms > 0)]')
    tide job cancel "$name" --wait >&2
    sealed=$(wc -l <"$CLUSTER_DIR/waits")
    [ "$sealed" -eq "$SAVES" ] || { echo "bench_seal: $sealed of $SAVES checkpoints of $name were sealed" >&2; return 1; }
    line "${name}_save_to_sealed" "$(median <"$CLUSTER_DIR/waits")" ms
    line "${name}_opened_to_sealed" "$(jq '.[] | .sealed_ms - .opened_ms' <<<"$view" | median)" ms
    line "${name}_messages_logged" "$(jq '.[] | .logged // 0' <<<"$view" | median)" messages
    line "${name}_bytes_logged" "$(jq '.[] | .logged_bytes // 0' <<<"$view" | median)" bytes
    line "${name}_longest_stall" "$(jq '.[] | .stall_us // 0' <<<"$view" | median)" us
}

scenario_cluster 2 --slots 8 >&2
measure bank-4 4 "$SCENARIO_BUILD/examples/bank/bank" --transfers 100000000 --pause-us 1000 || exit 1
measure bank-16 16 "$SCENARIO_BUILD/examples/bank/bank" --transfers 100000000 --pause-us 1000 || exit 1
measure pipeline-4 4 "$SCENARIO_BUILD/examples/pipeline/pipeline" --micro-batches 10000000 || exit 1
