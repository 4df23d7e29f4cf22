#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checkpoints into a directory and back, by the code an agent runs: MB of state per second beside dd with fdatasync (limit) of as
# many bytes. Weights become smaller on their way, noise does not. "again": a second cut of which 5 % changed; "anonymous": what
# the process holds besides the arena, beside the memory it may take for packs. again_bytes: of the first cut's, and the least that
# must be written. BENCH_STORE_DIR says on which file system.
set -euo pipefail
shopt -s inherit_errexit
# shellcheck source=tests/bench/persist.sh
. "$(dirname "${BASH_SOURCE[0]}")/persist.sh"
PACKS_MIB=320 # UPLOAD_PACKS_MAX packs, and SPANS_MAX spans of each of WORK_STORE_MAX ranks

arena=$(mktemp -d /dev/shm/tide-bench.XXXXXX) || exit 1
dir=$(mktemp -d "${BENCH_STORE_DIR:-${TMPDIR:-/tmp}}/tide-bench.XXXXXX") || exit 1
trap 'rm -rf -- "$arena" "$dir"' EXIT

# plain_write: as many bytes as the state has, the way nobody can be faster.
plain_write()
{
    rm -f "$dir/plain"
    timed dd if="$arena/plain" of="$dir/plain" bs=32M conv=fdatasync
}

plain_read()
{
    persist cold "$dir/plain"
    timed dd if="$dir/plain" of=/dev/null bs=8M
}

# measure NAME: cut 1 of that state there and back, and dd.
measure()
{
    local name=$1 turn put='' get='' dd_write='' dd_read='' peak=0 answer
    persist make "$arena/$name" $RANKS "$MIB" "$name"
    persist dump "$arena/$name" $RANKS "$arena/plain"
    for ((turn = 0; turn < TURNS; turn++)); do
        dd_write=$(least "$dd_write" "$(plain_write)")
        dd_read=$(least "$dd_read" "$(plain_read)")
        rm -rf "$dir/plain" "$dir/store"
        answer=$(persist put "$arena/$name" $RANKS 1 "$dir/store")
        put=$(least "$put" "$(field seconds "$answer")")
        peak=$(most "$peak" "$(field anonymous_peak "$answer")")
        persist cold "$dir/store"
        rm -rf "$arena/back"
        mkdir "$arena/back"
        get=$(least "$get" "$(field seconds "$(persist get "$arena/back" $RANKS "$(field key "$answer")" "$(field digest "$answer")" "$dir/store")")")
    done
    result persist "${name}_store" "$(speed "$put")" MB/s "$(speed "$dd_write")" null
    result persist "${name}_fetch_cold" "$(speed "$get")" MB/s "$(speed "$dd_read")" null
    result persist "${name}_anonymous" "$(calc "$peak / 1048576")" MiB $PACKS_MIB null
    STORED=$(field stored "$answer")
    rm -rf "$arena/back" "$arena/plain"
}

measure noise
rm -rf "$arena/noise"
measure weights
persist change "$arena/weights" $RANKS $CHANGED_PERCENT >/dev/null
again=$(persist put "$arena/weights" $RANKS 2 "$dir/store")
result persist again_bytes "$(calc "100 * $(field stored "$again") / $STORED")" % $CHANGED_PERCENT null
result persist again_store "$(speed "$(field seconds "$again")")" MB/s null null
