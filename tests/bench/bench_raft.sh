#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A group of three coordinators (bench_raft.c), and beside it, where it is installed, etcd: three members, TLS with the same
# certificates, the same disk, values of the same size, its own Go client; one after the other in the same run.
# BENCH_PEER=1 installs etcd and what builds its client (apt); BENCH_PEER=0 leaves it out.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${TIDE_BUILD:-$root/build-bench}
PEER_PACKAGES=(etcd-server golang-go golang-etcd-server-dev)
PORT=$((41000 + $$ % 8000))
SECONDS_EACH=3
READY_S=20
work=$(mktemp -d "$PWD/tidemark-bench-etcd-XXXXXX")
pids=()

finish()
{
    [ ${#pids[@]} -eq 0 ] || kill -9 "${pids[@]}" 2>/dev/null
    wait
    rm -rf "$work"
}
trap finish EXIT

peer_wanted()
{
    if [ "${BENCH_PEER:-}" = 1 ]; then
        # shellcheck source=tests/lib/deps.sh
        . "$root/tests/lib/deps.sh"
        # shellcheck disable=SC2034 # deps.sh reads it
        DEPS_RUN=("${PEER_PACKAGES[@]}")
        deps_ensure run >&2 || return 1
    fi
    [ "${BENCH_PEER:-}" != 0 ] && command -v etcd go >/dev/null && [ -d /usr/share/gocode/src/go.etcd.io/etcd/clientv3 ]
}

client_build()
{
    GO111MODULE=off GOPATH=/usr/share/gocode GOCACHE="$work/cache" go build -o "$work/etcd_load" "$root/tests/bench/etcd_load.go" >&2
}

endpoint()
{
    echo "https://127.0.0.1:$((PORT + 2 * $1))"
}

etcd_start()
{
    local i id cluster='' addresses=()
    for i in 1 2 3; do
        addresses+=("127.0.0.1:$((PORT + 2 * i)):$((PORT + 2 * i + 1))")
        cluster="$cluster${cluster:+,}m$i=https://127.0.0.1:$((PORT + 2 * i + 1))"
    done
    "$build/bin/tidemark" cluster init --dir "$work/identity" "${addresses[@]}" >/dev/null || return 1
    for i in 1 2 3; do
        id=$work/identity/member-$i
        etcd --name "m$i" --data-dir "$work/data-$i" --listen-client-urls "$(endpoint $i)" --advertise-client-urls "$(endpoint $i)" \
            --listen-peer-urls "https://127.0.0.1:$((PORT + 2 * i + 1))" \
            --initial-advertise-peer-urls "https://127.0.0.1:$((PORT + 2 * i + 1))" --initial-cluster "$cluster" \
            --cert-file "$id/cert.pem" --key-file "$id/key.pem" --trusted-ca-file "$id/ca.pem" --client-cert-auth \
            --peer-cert-file "$id/cert.pem" --peer-key-file "$id/key.pem" --peer-trusted-ca-file "$id/ca.pem" \
            --peer-client-cert-auth --quota-backend-bytes 8000000000 >"$work/etcd-$i.log" 2>&1 &
        pids+=($!)
    done
}

load()
{
    local id=$work/identity/member-1
    timeout "$READY_S" "$work/etcd_load" "$1" "$SECONDS_EACH" "$id/ca.pem" "$id/cert.pem" "$id/key.pem" \
        "$(endpoint 1)" "$(endpoint 2)" "$(endpoint 3)"
}

# As JSON: {"commits_per_s_64": …, "commit_p50_64": …, …}; {} without a peer.
peer_measure()
{
    local depth per_s p50 p99 p999 all='{}'
    peer_wanted && client_build && etcd_start || { echo '{}'; return; }
    load 1 >/dev/null || { tail -n 5 "$work"/etcd-*.log >&2; echo '{}'; return; }
    for depth in 1 64 256; do
        read -r per_s p50 p99 p999 < <(load "$depth")
        all=$(jq -c --arg d "$depth" --argjson a "${per_s:-null}" --argjson b "${p50:-null}" --argjson c "${p99:-null}" \
            --argjson e "${p999:-null}" \
            '. + {("commits_per_s_" + $d): $a, ("commit_p50_" + $d): $b, ("commit_p99_" + $d): $c, ("commit_p999_" + $d): $e}' \
            <<<"$all")
    done
    echo "$all"
}

peer=$(peer_measure)
finish
pids=()
trap - EXIT
"$build/bin/bench_raft" | jq -c --argjson peer "$peer" '.peer = $peer[.metric]'
