#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A real coordinator: latency of a read and of a write that is on the disk before it is answered. The limit of both is a
# GET of /healthz on the same connection, which looks at nothing.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

REQUESTS=${BENCH_REQUESTS:-200}

# times_us CURL-ARGUMENT…: the median of REQUESTS calls on one connection.
times_us()
{
    (cluster_in 0 curl -s -o /dev/null --max-time 60 -w '%{time_starttransfer}\n' "$@") |
        awk '{print int($1 * 1e6)}' | sort -n | awk '{v[NR] = $1} END {print (NR ? v[int((NR + 1) / 2)] : "null")}'
}

# The same URL over and over: curl numbers it, the coordinator passes over the number.
many()
{
    echo "$CLUSTER_URL/$1?n=[1-$REQUESTS]"
}

emit()
{
    printf '{"bench":"api","metric":"%s","value":%s,"unit":"us","limit":%s,"peer":null}\n' "$1" "$2" "$3"
}

cluster_create "$SCENARIO_BUILD" >&2 && cluster_coordinator_start >&2 || exit 1
bare=$(times_us "$(many healthz)")
emit read_cluster_p50 "$(times_us "$(many v1/cluster)")" "$bare"
tide run --name lasting -- true >/dev/null
emit read_job_p50 "$(times_us "$(many v1/jobs/lasting)")" "$bare"
emit write_p50 "$(times_us -X POST "$(many v1/jobs/lasting/cancel)")" "$bare"
