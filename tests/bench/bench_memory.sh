#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What an agent holds at most, beside its caps (limit): its own memory while it stores checkpoints into a directory one after the
# other, and restores one, beside that of the packs it may have; and its arena beside --arena-max, which has room for two slots a rank and
# half of a third. idle: its own memory once the job has ended, without what it has lent to the kernel, which takes that when it is short.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"
RANKS=4
MIB=${BENCH_STORE_MIB:-512}               # of state, in all
PACKS_MIB=320                             # UPLOAD_PACKS_MAX packs, and SPANS_MAX spans of each of WORK_STORE_MAX ranks
CAP_MIB=$((MIB * 5 / 2))
CHECKPOINTS=${BENCH_MEMORY_CHECKPOINTS:-6}
WAIT_S=120

line()
{
    printf '{"bench":"memory","metric":"%s","value":%s,"unit":"MiB","limit":%s,"peer":null}\n' "$1" "$2" "$3"
}
fail()
{
    [ -z "${WATCHING:-}" ] || kill "$WATCHING"
    echo "bench_memory: $*" >&2
    exit 1
}
anonymous_kib()
{
    awk '/^RssAnon/ {print $2}' "/proc/${CLUSTER_AGENT_PID[1]}/status"
}
lent_kib()
{
    awk '/^LazyFree/ {print $2}' "/proc/${CLUSTER_AGENT_PID[1]}/smaps_rollup"
}
arena_kib()
{
    du -sk "/dev/shm/tidemark-$(<"$CLUSTER_DIR/n1/node.uid")" | cut -f1
}
# Until the job has ended; the most of both so far, in KiB.
watch_both()
{
    local own=0 arena=0 now
    while [ ! -e "$CLUSTER_DIR/enough" ] && now=$(anonymous_kib 2>/dev/null); do
        [ "${now:-0}" -gt "$own" ] && own=$now
        now=$(arena_kib 2>/dev/null) && [ "${now:-0}" -gt "$arena" ] && arena=$now
        echo "$own $arena" >"$CLUSTER_DIR/most.new" && mv "$CLUSTER_DIR/most.new" "$CLUSTER_DIR/most"
        sleep 0.05
    done
}

scenario_cluster 1 --slots $RANKS --arena-max "${CAP_MIB}M" >&2
tide run --name held --nnodes 1 --nproc-per-node $RANKS --launcher none --ckpt-every 500ms --ckpt-keep 1 -- \
    "$PULSE" --until "$CLUSTER_DIR/held.until" --step-ms 20 --kib $((MIB * 1024 / RANKS)) >&2 || fail "the job is not taken"
watch_both &
WATCHING=$!
wait_for $WAIT_S "$CHECKPOINTS checkpoints" job_committed_after held $((CHECKPOINTS - 1)) || fail "no checkpoints are stored"
cluster_rank_kill held 1 >&2 || fail "no rank can be killed"
wait_for $WAIT_S "it to go on" cluster_job_is held '(.job.recoveries | length) > 0 and .job.all_stepped' || fail "it does not go on"
tide job cancel held --wait >&2 || fail "the job does not end"
touch "$CLUSTER_DIR/enough"
wait $WATCHING
read -r OWN ARENA <"$CLUSTER_DIR/most"
line agent_anonymous $((OWN / 1024)) $PACKS_MIB
line agent_arena $((ARENA / 1024)) $CAP_MIB
line agent_anonymous_idle $((($(anonymous_kib) - $(lent_kib)) / 1024)) null
