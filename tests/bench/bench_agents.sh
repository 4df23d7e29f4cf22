#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ten thousand agents: each beats once a second and holds a long poll, over real sockets. What that costs the coordinator, and
# whether it ever calls one of them lost. BENCH_AGENTS and BENCH_SECONDS change the size; the limits are what 10,000 agents
# may cost, scaled to the number there is. Where a process may not have a descriptor for each connection, some agents dial
# anew for each beat: agents_two_connections says how many do not. rss is the most there was from the start to the end, with
# a list of all nodes asked for, too. Nothing is told of a load that ended early.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

SECONDS_WANTED=${BENCH_SECONDS:-20}
REGISTER_RATE=1000
REGISTER_S=180 # a busy machine takes its time
WARM_S=4 # after the last registration
CLOCK_TICKS=$(getconf CLK_TCK)
RSS_LIMIT_MB=150
CPU_LIMIT=25

AGENTS=${BENCH_AGENTS:-10000}

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
    cluster_get v1/cluster | jq .revision
}

lost()
{
    cluster_get v1/nodes | jq '[.nodes[] | select((.node.state // .state) == "lost")] | length'
}

# all_known TEXT…: a call that failed printed nothing, which arithmetic takes for 0.
all_known()
{
    local text
    for text in "$@"; do
        [ -n "$text" ] || { echo "bench_agents: the coordinator did not answer what the figures are made of" >&2; return 1; }
    done
}

# load SECONDS ADDRESS…: in the background, its words in $OUT; returns when all agents have registered.
load()
{
    local length=$1
    shift
    OUT=$CLUSTER_DIR/agents.out
    : >"$OUT"
    (cluster_in 0 "$SCENARIO_BUILD/bin/agents_load" "$AGENTS" "$length" "$REGISTER_RATE" "$@" >"$OUT") &
    LOAD=$!
    wait_for "$REGISTER_S" "all agents have registered" load_decided && grep -q ready "$OUT"
}

load_decided()
{
    grep -q ready "$OUT" || ! kill -0 "$LOAD"
}

said()
{
    tail -n 1 "$OUT" | jq ".$1"
}

# One coordinator: what the agents cost it.
alone()
{
    local pid before after from to lost between=$((SECONDS_WANTED - WARM_S - 3))
    pid=$(cluster_pids 0 | head -n 1)
    load "$SECONDS_WANTED" "${CLUSTER_URL#http://}" || return 1
    sleep "$WARM_S"
    before=$(ticks "$pid") from=$(revision)
    sleep "$between"
    after=$(ticks "$pid") to=$(revision) lost=$(lost)
    wait "$LOAD" && all_known "$before" "$after" "$from" "$to" "$lost" || return 1
    emit agents "$(said agents)" "" null
    emit beats "$(said beats_per_s)" /s "$AGENTS"
    emit cpu "$(((after - before) * 100 / CLOCK_TICKS / between))" "%" "$((CPU_LIMIT * AGENTS / 10000))"
    emit rss "$(awk '/VmHWM/ {print int($2 / 1024)}' "/proc/$pid/status")" MB "$((RSS_LIMIT_MB * AGENTS / 10000))"
    emit log_entries $((to - from)) "" 0
    emit lost_verdicts "$lost" "" 0
    emit agents_two_connections "$(said with_two)" "" null
    emit beat_p50 "$(said beat_p50_us)" us null
    emit beat_p99 "$(said beat_p99_us)" us null
    emit refused_beats "$(said refused)" "" 0
}

# Three, whose leader is killed in the middle: all agents come to the next one, and none is called lost.
group()
{
    local from to lost member addresses=()
    for member in 1 2 3; do
        addresses+=("$(cluster_member_address "$member"):$CLUSTER_PORT")
    done
    load "$SECONDS_WANTED" "${addresses[@]}" || return 1
    sleep "$WARM_S"
    from=$(revision)
    cluster_await_leader && cluster_member_kill "$CLUSTER_LEADER" && cluster_await_leader || return 1
    wait "$LOAD" || return 1
    lost=$(lost) to=$(revision)
    all_known "$from" "$to" "$lost" || return 1
    emit group_agents "$(said agents)" "" null
    emit group_beats "$(said beats_per_s)" /s "$AGENTS"
    emit group_lost_verdicts "$lost" "" 0
    emit group_log_entries $((to - from)) "" 0
    emit group_refused_beats "$(said refused)" "" 0
    emit group_calls_made_again "$(said retried)" "" null
}

# shellcheck disable=SC2034 # cluster.sh reads it
CLUSTER_COORDINATOR_OPTIONS=(--lease-ms 10000 --heartbeat-ms 1000)
(cluster_create "$SCENARIO_BUILD" >&2 && cluster_coordinator_start >&2 && alone) || exit 1
# Certificates would be a measurement of their own: loopback addresses do without.
export CLUSTER_LOOPBACK=1
# shellcheck disable=SC2034 # cluster.sh reads it
CLUSTER_COORDINATORS=3
(cluster_create "$SCENARIO_BUILD" >&2 && cluster_coordinator_start >&2 && group)
