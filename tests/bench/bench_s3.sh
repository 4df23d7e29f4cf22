#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checkpoints into a bucket of Ceph's radosgw on this machine and back, by the code an agent runs: MB of state per second beside
# `aws s3 cp` (peer) and rclone of a plain file of the same bytes, with their defaults. The limit is curl that sends or takes the same
# bytes as objects of a pack's size, eight at a time, and neither makes them smaller nor hashes anything. Server and client share the
# processors, so the seconds of processor time per GiB say more than the speed. What counts of ours is what an agent does from its second
# checkpoint on: one is put before, of which it has the memory for packs. Exit status 77 where the packages cannot be had.
set -euo pipefail
shopt -s inherit_errexit
# shellcheck source=tests/bench/persist.sh
. "$(dirname "${BASH_SOURCE[0]}")/persist.sh"
# shellcheck source=tests/lib/s3.sh disable=SC2154 # of persist.sh
. "$root/tests/lib/s3.sh"
BUCKET=bench
CONNECTIONS=8 # as many as a store of ours has
# shellcheck disable=SC2034 # s3.sh reads it
S3_MEMORY=$(((6 * TURNS * MIB + 1024) << 20)) # nothing is deleted
export AWS_EC2_METADATA_DISABLED=true        # nobody beyond this host is asked

deps_ensure bench >&2
if ! s3_ensure || ! command -v aws >/dev/null || ! command -v rclone >/dev/null; then
    echo "bench_s3: Ceph's packages, awscli or rclone cannot be had here" >&2
    exit 77
fi
arena=$(mktemp -d /dev/shm/tide-bench.XXXXXX) || exit 1
dir=$(mktemp -d "${TMPDIR:-/tmp}/tide-bench.XXXXXX") || exit 1
trap 's3_stop; rm -rf -- "$arena" "$dir"' EXIT
s3_start "$dir/s3" 127.0.0.1 "${BENCH_S3_PORT:-7580}" || fail "radosgw does not start"
s3_keys
s3_bucket $BUCKET || fail "no bucket"

aws_cp()
{
    aws --endpoint-url "$S3_ENDPOINT" s3 cp --quiet "$1" "$2"
}

rclone_copy()
{
    rclone copyto --config "$dir/none" --s3-provider Ceph --s3-env-auth --s3-endpoint "$S3_ENDPOINT" --s3-no-check-bucket "$1" "$2"
}

# cpu_timed COMMAND…: seconds, and seconds of processor time of it and its children.
cpu_timed()
{
    local TIMEFORMAT='%R %U %S' output
    output=$( { time "$@" >"$dir/said" 2>&1; } 2>&1) || fail "$*: $(<"$dir/said")"
    awk '{ print $1, $2 + $3 }' <<<"$output"
}

# curl_each put|get TURN: every piece of the state, by the one who does nothing else.
curl_each()
{
    local piece what
    local args=()
    for piece in "$arena"/piece.*; do
        [ "$1" = get ] && what=(-o /dev/null) || what=(-T "$piece")
        args+=("${what[@]}" "$S3_ENDPOINT/$BUCKET/curl-$2/${piece##*/}")
    done
    curl -sSf --no-progress-meter -Z --parallel-max "$CONNECTIONS" --aws-sigv4 aws:amz:us-east-1:s3 \
        --user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" "${args[@]}"
}

declare -A BEST CPU

# note NAME SECONDS CPU: the best of all turns.
note()
{
    BEST[$1]=$(least "${BEST[$1]:-}" "$2")
    CPU[$1]=$(least "${CPU[$1]:-}" "$3")
}

# noted NAME ANSWER: of a put or a get.
noted()
{
    note "$1" "$(field seconds "$2")" "$(field cpu_seconds "$2")"
}

ours()
{
    local at="s3://$BUCKET/$1" server="endpoint=$S3_ENDPOINT" answers
    answers=$(persist put "$arena/state" $RANKS 1 "$at-first?$server&payload=unsigned" "$at-unsigned?$server&payload=unsigned" "$at?$server")
    mapfile -t answers <<<"$answers"
    noted put_unsigned "${answers[1]}"
    noted put "${answers[2]}"
    rm -rf "$arena/back"
    mkdir "$arena/back"
    noted get "$(persist get "$arena/back" $RANKS "$(field key "${answers[2]}")" "$(field digest "${answers[2]}")" "$at?$server")"
    rm -rf "$arena/back"
}

# theirs NAME SCHEME COMMAND TURN
theirs()
{
    local name=$1 place="$2$BUCKET/$1-$4"
    # shellcheck disable=SC2046 # two words
    note "$name-put" $(cpu_timed "$3" "$arena/plain" "$place")
    # shellcheck disable=SC2046 # two words
    note "$name-get" $(cpu_timed "$3" "$place" "$arena/plain.back")
    rm -f "$arena/plain.back"
}

# curls TURN
curls()
{
    local way
    for way in put get; do
        # shellcheck disable=SC2046 # two words
        note "curl-$way" $(cpu_timed curl_each $way "$1")
    done
}

per_gib()
{
    calc "${CPU[$1]} / $MIB * 1024"
}

persist make "$arena/state" $RANKS "$MIB" weights
persist dump "$arena/state" $RANKS "$arena/plain"
split -b 32M "$arena/plain" "$arena/piece."
for ((turn = 0; turn < TURNS; turn++)); do
    ours "$turn"
    theirs aws s3:// aws_cp "$turn"
    theirs rclone :s3: rclone_copy "$turn"
    curls "$turn"
done
for way in put put_unsigned get; do
    result s3 "$way" "$(speed "${BEST[$way]}")" MB/s "$(speed "${BEST[curl-${way%_*}]}")" "$(speed "${BEST[aws-${way%_*}]}")"
    result s3 "${way}_rclone" "$(speed "${BEST[$way]}")" MB/s null "$(speed "${BEST[rclone-${way%_*}]}")"
    result s3 "${way}_cpu" "$(per_gib $way)" s/GiB "$(per_gib "curl-${way%_*}")" "$(per_gib "aws-${way%_*}")"
    result s3 "${way}_cpu_rclone" "$(per_gib $way)" s/GiB null "$(per_gib "rclone-${way%_*}")"
done
