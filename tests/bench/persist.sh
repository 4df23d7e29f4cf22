# SPDX-License-Identifier: Apache-2.0
# What bench_persist.sh and bench_s3.sh share: an arena of weights and the words of `persist`.
# shellcheck shell=bash
# shellcheck disable=SC2034 # they read it

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${TIDE_BUILD:-$root/build-bench}
PERSIST=$build/bin/persist
RANKS=4
MIB=${BENCH_STORE_MIB:-512}     # of state, in all; 2048 on a machine that has 8 GiB to spare
TURNS=${BENCH_STORE_TURNS:-3}   # of everything, by turns; the best of each counts
CHANGED_PERCENT=5

fail()
{
    echo "$(basename "$0" .sh): $*" >&2
    exit 1
}

persist()
{
    local answer
    answer=$("$PERSIST" "$@") || fail "persist $*"
    [ -z "$answer" ] || echo "$answer"
}

# result BENCH METRIC VALUE UNIT LIMIT PEER: "null" where there is none.
result()
{
    printf '{"bench":"%s","metric":"%s","value":%.4g,"unit":"%s","limit":%s,"peer":%s}\n' "$1" "$2" "$3" "$4" "$5" "$6"
}

# calc EXPRESSION
calc()
{
    awk "BEGIN { printf \"%.6g\n\", ($1) }"
}

# field NAME JSON
field()
{
    jq -r ".$1" <<<"$2"
}

# least A B, most A B; an empty A is none.
least()
{
    calc "${1:-$2} < $2 ? ${1:-$2} : $2"
}

most()
{
    calc "${1:-$2} > $2 ? ${1:-$2} : $2"
}

# timed COMMAND…: its seconds on stdout; what it says goes to stderr when it fails.
timed()
{
    local from output
    from=$(date +%s.%N)
    output=$("$@" 2>&1) || fail "$*: $output"
    calc "$(date +%s.%N) - $from"
}

# speed SECONDS: how fast that was, in MB/s of state.
speed()
{
    calc "$MIB * 1.048576 / $1"
}
