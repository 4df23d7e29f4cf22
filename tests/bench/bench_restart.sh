#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A rank is killed -9: how long until every rank of the next generation has made a step, and in which phases. What the
# program itself needs to start (its first tide_step, measured alone in the same run) is the limit of the whole. Then the same where
# ranks go over to the next generation in their processes, and only the one that was killed is started: the former is its limit.
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
    cluster_job_is "$JOB" ".job.all_stepped and .job.generation == $1 and ([(.job.ckpts // [])[] | select(.state == \"committed\")] | length > 0)"
}

restart_once()
{
    local generation
    generation=$(cluster_job "$JOB" .job.generation)
    wait_for 20 "generation $generation to step" stepping "$generation" || return 1
    cluster_rank_kill "$JOB" $((RANDOM % 4)) || return 1
    wait_for 20 "generation $((generation + 1)) to step" stepping $((generation + 1))
}

# of PHASE: its median, in the job's restarts.
of()
{
    cluster_job "$JOB" ".job.recoveries[] | .$1_ms // 0" | median
}

# restarts JOB WORDS…: a job whose ranks are killed, one after the other.
restarts()
{
    JOB=$1
    shift
    tide run --name "$JOB" --nnodes 2 --nproc-per-node 2 --launcher none --ckpt-every 500ms --max-restarts 100 -- \
        "$PULSE" --steps 1000000 --step-ms 5 "$@" >&2
    for ((round = 0; round < ROUNDS; round++)); do
        restart_once || { echo "bench_restart: round $round of $JOB did not come back" >&2; exit 1; }
    done
}

scenario_cluster 2 --slots 4 >&2
alone=$(for _ in 1 2 3 4 5; do start_up_ms; done | median)
declare -A limits=()
for way in rank_killed rank_killed_in_process; do
    if [ $way = rank_killed ]; then restarts pulse; else restarts stays --stay 1; fi
    for phase in detect fence start restore total; do
        value=$(of $phase)
        limit=${limits[$phase]:-null}
        [ "$way $phase" != "rank_killed total" ] || limit=$alone
        emit "${way}_$phase" "$value" "$limit"
        limits[$phase]=$value
    done
    total=$(of total)
    tide job cancel "$JOB" >/dev/null
    if [ "$total" -gt $((alone + PROMISED_MS)) ]; then
        echo "bench_restart: $way: $total ms is more than the program's own $alone ms and $PROMISED_MS ms" >&2
        exit 1
    fi
done
