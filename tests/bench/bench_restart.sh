#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A rank is killed -9: how long until every rank of the next generation has made a step, and in which phases. What the
# program itself needs to start (its first tide_step, measured alone in the same run) is the limit of the whole.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

ROUNDS=${BENCH_ROUNDS:-5}
PROMISED_MS=1000

emit()
{
    printf '{"bench":"restart","metric":"%s","value":%s,"unit":"ms","limit":%s,"peer":null}\n' "$1" "$2" "$3"
}

# median of the numbers on stdin
median()
{
    sort -n | awk '{v[NR] = $1} END {print (NR ? v[int((NR + 1) / 2)] : "null")}'
}

now_ms()
{
    date +%s%3N
}

# Start of the program to its end after one step: what no restart can be faster than.
start_up_ms()
{
    local begin
    begin=$(now_ms)
    env -u TIDEMARK_SOCKET RANK=0 "$PULSE" --steps 1 --step-ms 0 >/dev/null
    echo $(($(now_ms) - begin))
}

stepping()
{
    cluster_job_is pulse ".job.all_stepped and .job.generation == $1 and ([(.job.ckpts // [])[] | select(.state == \"committed\")] | length > 0)"
}

restart_once()
{
    local generation
    generation=$(cluster_job pulse .job.generation)
    wait_for 20 "generation $generation to step" stepping "$generation" || return 1
    cluster_rank_kill pulse $((RANDOM % 4)) || return 1
    wait_for 20 "generation $((generation + 1)) to step" stepping $((generation + 1))
}

scenario_cluster 2 --slots 4 >&2
alone=$(for _ in 1 2 3 4 5; do start_up_ms; done | median)
tide run --name pulse --nnodes 2 --nproc-per-node 2 --launcher none --ckpt-every 500ms --max-restarts 100 -- \
    "$PULSE" --steps 1000000 --step-ms 5 >&2
for ((round = 0; round < ROUNDS; round++)); do
    restart_once || { echo "bench_restart: round $round did not come back" >&2; exit 1; }
done
for phase in detect_ms fence_ms start_ms restore_ms total_ms; do
    value=$(cluster_job pulse ".job.recoveries[] | .$phase // 0" | median)
    limit=null
    [ "$phase" = total_ms ] && limit=$alone
    emit "rank_killed_${phase%_ms}" "$value" "$limit"
done
tide job cancel pulse >/dev/null
total=$(cluster_job pulse '.job.recoveries[] | .total_ms // 0' | median)
if [ "$total" -gt $((alone + PROMISED_MS)) ]; then
    echo "bench_restart: $total ms is more than the program's own $alone ms and $PROMISED_MS ms" >&2
    exit 1
fi
