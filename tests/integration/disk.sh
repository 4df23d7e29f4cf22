#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A real tidemarkd on a disk that fails at chosen calls: it says so and stops, it acknowledges nothing that it has not kept,
# and started again it finds all that it acknowledged.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

TIDEMARKD=$SCENARIO_BUILD/bin/tidemarkd
SHIM=$SCENARIO_BUILD/tests/disk_fault.so
SUBMISSIONS=30
CUT_ROUNDS=${CUT_ROUNDS:-6}
CUT_ROUNDS_MAX=$((4 * CUT_ROUNDS)) # until something was acknowledged: most of the drawn calls are those of a start
CUT_SEED=${CUT_SEED:-$RANDOM}
WORK=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-disk.XXXXXX")
PID=

cleanup()
{
    local pid
    for pid in $(jobs -p); do kill -9 "$pid" 2>/dev/null; done
    rm -rf "$WORK"
}
trap cleanup EXIT

# daemon_start [PLAN]: on $DATA; with a plan its disk fails by it. Succeeds when it serves.
daemon_start()
{
    local preload=()
    [ -z "${1:-}" ] || preload=(env "LD_PRELOAD=$SHIM" "TIDE_DISK_FAULT=$1")
    rm -f "$DATA/address"
    "${preload[@]}" "$TIDEMARKD" --data "$DATA" --listen 127.0.0.1:0 --snapshot-every 8 2>>"$WORK/log" &
    PID=$!
    wait_for 60 "the coordinator to answer" healthy_or_dead && kill -0 "$PID" 2>/dev/null
}

healthy_or_dead()
{
    kill -0 "$PID" 2>/dev/null || return 0
    [ -s "$DATA/address" ] && [ "$(curl -sS -m 5 "http://$(<"$DATA/address")/healthz" 2>/dev/null)" = ok ]
}

# Status of one submission; 000 when nobody answers.
submit()
{
    curl -sS -m 10 -o /dev/null -w '%{http_code}' "http://$(<"$DATA/address")/v1/jobs" -H "Idempotency-Key: $1" \
        -d "{\"name\":\"$1\",\"argv\":[\"/bin/true\"]}" 2>/dev/null
}

# submit_all PREFIX: until all are acknowledged, or the daemon is dead; the acknowledged ones are written down.
submit_all()
{
    local i code
    for ((i = 0; i < SUBMISSIONS; i++)); do
        code=$(submit "$1-$i")
        case $code in
        200) echo "$1-$i" >>"$WORK/acked" ;;
        *) sleep 0.2; kill -0 "$PID" 2>/dev/null || return 0 ;;
        esac
    done
}

daemon_stop()
{
    kill -TERM "$PID" && timeout 60 tail --pid="$PID" -f /dev/null && wait "$PID"
}

acked_are_there()
{
    local lost
    curl -sS -m 10 "http://$(<"$DATA/address")/v1/jobs" | jq -r '.jobs[].spec.name' | sort >"$WORK/there"
    lost=$(comm -23 <(sort "$WORK/acked") "$WORK/there")
    [ -z "$lost" ] || { echo "lost: $lost"; return 1; }
}

# begin NAME: a data directory with a past of its own.
begin()
{
    DATA=$WORK/$1
    : >"$WORK/acked"
    : >"$WORK/log"
    daemon_start || return 1
    submit_all before
    daemon_stop || { echo "it did not stop well: $?"; return 1; }
    [ "$(wc -l <"$WORK/acked")" -eq "$SUBMISSIONS" ] || { echo "an undisturbed one refused something"; return 1; }
}

begin_again()
{
    daemon_start && acked_are_there && daemon_stop || { tail -3 "$WORK/log"; return 1; }
    says "all is well" "$TIDEMARKD" check-data "$DATA"
}

# stops NAME PLAN WORDS: the fault ends the daemon, which says these words; nothing acknowledged is lost.
stops()
{
    local name=$1 plan=$2 words=$3 status
    begin "$name" || return 1
    if daemon_start "$plan"; then
        submit_all during
    fi
    timeout 60 tail --pid="$PID" -f /dev/null || { echo "it goes on with a disk that failed"; return 1; }
    wait "$PID" 2>/dev/null
    status=$?
    [ "$status" -ne 0 ] || { echo "it ended as if all were well"; return 1; }
    grep -qF -- "$words" "$WORK/log" || { echo "nothing about '$words'"; tail -3 "$WORK/log"; return 1; }
    begin_again
}

# serves NAME PLAN: the fault is no reason to stop.
serves()
{
    begin "$1" && daemon_start "$2" || { tail -3 "$WORK/log"; return 1; }
    submit_all during
    daemon_stop || { echo "it did not stop well: $?"; tail -3 "$WORK/log"; return 1; }
    [ "$(wc -l <"$WORK/acked")" -eq $((2 * SUBMISSIONS)) ] || { echo "it refused something"; return 1; }
    begin_again
}

# Power cuts at calls drawn from a seed: bytes and names that were not synced are gone, and the next start finds the rest.
power_cuts()
{
    local round
    begin power || return 1
    RANDOM=$CUT_SEED
    for ((round = 1; round <= CUT_ROUNDS_MAX; round++)); do
        [ $round -le "$CUT_ROUNDS" ] || ! grep -q cut- "$WORK/acked" || break
        if daemon_start "any:$((RANDOM % 120 + 1)):cut:*/power/*"; then
            submit_all "cut-$round"
            ! kill -0 "$PID" 2>/dev/null || kill -9 "$PID"
        fi
        wait "$PID" 2>/dev/null
        begin_again || { echo "round $round of seed $CUT_SEED"; return 1; }
    done
    grep -q cut- "$WORK/acked" || { echo "nothing was acknowledged between the cuts"; return 1; }
}

expect "the faults can be put in" test -e "$SHIM"
expect "EIO of a write to the log" stops write "write:3:EIO:*/log-*" "cannot write record"
expect "a disk that is full in the middle of the log" stops full "write:5+:ENOSPC:*/log-*" "No space left"
expect "a failed fdatasync of the log, its pages lost" stops sync "sync:4:lose:*/log-*" "cannot fdatasync"
expect "a failed fdatasync at the start" stops start "sync:1:EIO:*/log-*" "cannot fdatasync"
expect "the log cannot be opened" stops open "open:1:EIO:*/log-*" "cannot open"
expect "the log cannot be read" stops read "read:2:EIO:*/log-*" "cannot read"
expect "EIO of a write to a snapshot" stops image-write "write:2:EIO:*/snap-*" "cannot write"
expect "a failed fsync of a snapshot" stops image-sync "sync:1:EIO:*/snap-*" "cannot fsync"
expect "a failed rename of a snapshot" stops image-rename "rename:1:EIO:*/snap-*" "cannot rename"
expect "a failed fsync of the directory" stops directory "sync:1:EIO:$WORK/directory" "cannot fsync directory"
expect "an old snapshot that cannot be removed" stops unlink "unlink:1:EIO:*/snap-*.img" "cannot remove"
expect "no room for a snapshot" serves image-full "write:1+:ENOSPC:*/snap-*"
expect "short writes" serves short "write:1+:half:*/short/*"
expect "$CUT_ROUNDS power cuts at any call (CUT_SEED=$CUT_SEED)" power_cuts
scenario_end
