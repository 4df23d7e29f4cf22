#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An image of a large state is written while the coordinator is at work: for how long does everybody wait for it? The state is
# jobs with a large environment, BENCH_STATE_MB in all. stall: the longest turn of the coordinator's loop from its start to the
# end of the second image, with a command before each, so that nothing of the first can be used again. read_max: the longest of
# the reads that were made all the while, one after the other. A coordinator that reads its directory serves nobody yet: before
# its first turn nothing counts.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

STATE_MB=${BENCH_STATE_MB:-100}
STALL_LIMIT_US=20000
ENTRY_BYTES=1000 # of the environment
ENTRIES=500      # of one job
FILL_S=120       # a busy machine takes its time

emit()
{
    printf '{"bench":"image","metric":"%s","value":%s,"unit":"%s","limit":%s,"peer":null}\n' "$1" "$2" "$3" "$4"
}

# fill: jobs until the state is that large.
fill()
{
    local body=$CLUSTER_DIR/body i jobs=$((STATE_MB * 1000000 / (ENTRY_BYTES * ENTRIES))) end=$((SECONDS + FILL_S))
    awk -v n="$ENTRIES" -v bytes="$ENTRY_BYTES" 'BEGIN {
        for (; length(x) < bytes; x = x "x");
        printf "{\"name\":\"NAME\",\"argv\":[\"true\"],\"env\":["
        for (i = 0; i < n; i++) printf "%s\"E%d=%s\"", i ? "," : "", i, x
        printf "]}\n"
    }' >"$body"
    for ((i = 0; i < jobs; i++)); do
        [ "$SECONDS" -lt "$end" ] || { echo "bench_image: only $i of $jobs jobs in $FILL_S s" >&2; return 1; }
        (sed "s/NAME/state-$i/" "$body" | cluster_in 0 curl -sS -f -m 30 -o /dev/null --data-binary @- "$CLUSTER_URL/v1/jobs") || return 1
    done
}

image()
{
    (cluster_in 0 curl -sS -f -m 120 -o "$CLUSTER_DIR/image" "$CLUSTER_URL/v1/cluster/backup")
}

# The slowest of all reads until the file is there, in µs.
reads()
{
    local most=0 took
    until [ -e "$CLUSTER_DIR/enough" ]; do
        took=$(cluster_in 0 curl -sS -m 30 -o /dev/null -w '%{time_total}' "$CLUSTER_URL/v1/version" | awk '{print int($1 * 1e6)}')
        [ "${took:-0}" -le "$most" ] || most=$took
    done
    echo "$most"
}

# shellcheck disable=SC2034 # cluster.sh reads them
CLUSTER_COORDINATOR_OPTIONS=(--snapshot-every 1000000) CLUSTER_READY_S=60
cluster_create "$SCENARIO_BUILD" >&2 && cluster_coordinator_start >&2 && fill || exit 1
image && cluster_coordinator_kill && cluster_coordinator_start >&2 || exit 1
reads >"$CLUSTER_DIR/reads" &
READS=$!
for i in 1 2; do
    tide run --name "another-$i" -- true >/dev/null && image || { touch "$CLUSTER_DIR/enough"; exit 1; }
done
touch "$CLUSTER_DIR/enough"
wait $READS
emit state "$(($(stat -c %s "$CLUSTER_DIR/image") / 1000000))" MB null
emit stall "$(cluster_get v1/cluster | jq '.members[0].turn_us_max')" us "$STALL_LIMIT_US"
emit read_max "$(<"$CLUSTER_DIR/reads")" us null
