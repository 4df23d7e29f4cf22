#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ten thousand agents, or as many as this system gives descriptors for: each beats once a second and holds a long poll, over real
# sockets. What that costs the coordinator, and whether it ever calls one of them lost. BENCH_AGENTS and BENCH_SECONDS change
# the size. The limit of the memory is what 10,000 agents may cost, scaled to the number there is.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

SECONDS_WANTED=${BENCH_SECONDS:-20}
REGISTER_RATE=1000
WARM_S=4 # after the last registration
CLOCK_TICKS=$(getconf CLK_TCK)
DESCRIPTORS_KEPT=400
RSS_LIMIT_MB=150
CPU_LIMIT=25

agents_max()
{
    local limit
    limit=$(ulimit -Hn)
    [ "$limit" != unlimited ] || limit=1000000
    echo $(((limit - DESCRIPTORS_KEPT) / 2))
}

AGENTS=${BENCH_AGENTS:-10000}
[ "$AGENTS" -le "$(agents_max)" ] || AGENTS=$(agents_max)

emit()
{
    printf '{"bench":"agents","metric":"%s","value":%s,"unit":"%s","limit":%s,"peer":null}\n' "$1" "$2" "$3" "$4"
}

ticks()
{
    awk '{print $14 + $15}' "/proc/$1/stat"
}

revision()
{
    (cluster_in 0 curl -s "$CLUSTER_URL/v1/cluster") | jq .revision
}

lost()
{
    (cluster_in 0 curl -s "$CLUSTER_URL/v1/nodes") | jq '[.nodes[] | select((.node.state // .state) == "lost")] | length'
}

# The whole measurement, once everybody has registered.
measure()
{
    local pid=$1 before after from to
    sleep "$WARM_S"
    before=$(ticks "$pid") from=$(revision)
    sleep $((SECONDS_WANTED - WARM_S - 3))
    after=$(ticks "$pid") to=$(revision)
    emit agents "$AGENTS" "" null
    emit cpu "$(((after - before) * 100 / CLOCK_TICKS / (SECONDS_WANTED - WARM_S - 3)))" "%" "$((CPU_LIMIT * AGENTS / 10000))"
    emit rss "$(awk '/VmRSS/ {print int($2 / 1024)}' "/proc/$pid/status")" MB "$((RSS_LIMIT_MB * AGENTS / 10000))"
    emit log_entries $((to - from)) "" 0
    emit lost_verdicts "$(lost)" "" 0
}

cluster_create "$SCENARIO_BUILD" >&2 && cluster_coordinator_start --lease-ms 10000 --heartbeat-ms 1000 >&2 || exit 1
pid=$(cluster_pids 0 | head -n 1)
out=$CLUSTER_DIR/agents.out
(cluster_in 0 "$SCENARIO_BUILD/bin/agents_load" "$AGENTS" "$SECONDS_WANTED" "$REGISTER_RATE" "${CLUSTER_URL#http://}" >"$out") &
wait_for 60 "all agents have registered" grep -q ready "$out" || exit 1
measure "$pid"
wait
for metric in beat_p50_us beat_p99_us; do
    emit "${metric%_us}" "$(tail -n 1 "$out" | jq ".$metric")" us null
done
emit refused_beats "$(tail -n 1 "$out" | jq .refused)" "" 0
