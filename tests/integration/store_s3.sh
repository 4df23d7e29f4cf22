#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checkpoints in a bucket of a real S3 server, Ceph's radosgw: what a store promises, what is said when it cannot be used, and
# the training of a model that loses a node and has nothing but the bucket to go on from.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"
# shellcheck source=tests/lib/s3.sh
. "$SCENARIO_ROOT/tests/lib/s3.sh"
# shellcheck source=tests/lib/mpi.sh
. "$SCENARIO_ROOT/tests/lib/mpi.sh"

STORE_S3=$SCENARIO_BUILD/tests/store_s3
SKEW=$SCENARIO_BUILD/tests/skew.so
SKEW_S=1200 # a server takes a quarter of an hour
STEPS=(--steps 300 --log-every 100) # as in cluster_mpi.sh
PORT=7480
SWEEP_S=240 # each deletion is some 260 lists

down()
{
    s3_stop
    cluster_down
}

if ! s3_ensure; then
    echo "skip $SCENARIO_NAME # SKIP Ceph's packages cannot be had here"
    exit 0
fi
cluster_create "$SCENARIO_BUILD" || exit 1
trap down EXIT
s3_begin()
{
    if cluster_is_root; then
        s3_start "$CLUSTER_DIR/s3" "$(cluster_address 0)" $PORT nsenter --net="/run/netns/$(cluster_namespace 0)"
    else
        s3_start "$CLUSTER_DIR/s3" "$(cluster_address 0)" $((PORT + CLUSTER_ID % 5000 * 4)) # beside those of others
    fi
}
expect "an S3 server starts" s3_begin || exit 1
s3_keys
expect "it makes a bucket" s3_bucket ckpts || exit 1
QUERY="endpoint=$S3_ENDPOINT"
URL="s3://ckpts/team?$QUERY"

store_s3()
{
    (cluster_in 0 timeout 60 "$STORE_S3" "$@")
}

# As the user of these keys.
with_keys()
{
    (AWS_ACCESS_KEY_ID=$1 AWS_SECRET_ACCESS_KEY=$2 store_s3 open "${3:-$URL}")
}

# ---- the promises ----
contract()
{
    local output
    output=$(CMOCKA_MESSAGE_OUTPUT=TAP store_s3 contract ckpts "$QUERY" 2>&1)
    local status=$?
    sed -n -E "s|^(not ok\|ok) [0-9]+ - (.*)|\1 $SCENARIO_NAME/\2|p" <<<"$output"
    # shellcheck disable=SC2034 # scenario.sh reads it
    [ $status -eq 0 ] || { echo "$output" >&2; SCENARIO_FAILED=1; }
}
contract

# ---- as an administrator asks ----
check_s3()
{
    tide store check -o json --bytes 9000000 "$URL" # more than is read at once
}
expect "the command finds the promises kept" says '"good": true' check_s3
expect "and tells the speed of several workers" says '"workers": 4' check_s3

# ---- what is said of one that cannot be used ----
expect "a wrong secret is called one" says "the secret key is not this access key's; check AWS_SECRET_ACCESS_KEY" with_keys "$S3_ACCESS" wrong
expect "and is not printed" equal "$(with_keys "$S3_ACCESS" hush-hush | grep -c hush)" 0
expect "an unknown access key is called one" says "does not know this access key" with_keys UNKNOWN "$S3_SECRET"
expect "no keys at all are asked for" says "there are no keys: set AWS_ACCESS_KEY_ID" with_keys '' ''
expect "a bucket that is not there is called so" says "the bucket does not exist; create it" store_s3 open "s3://nobody-made-it?$QUERY"
expect "so is an endpoint where nobody listens" says "cannot be reached; check it, and endpoint=" store_s3 open "s3://ckpts?endpoint=http://$(cluster_address 0):1&timeout=1"
expect "and one that speaks no TLS" says "of a server without it endpoint= is http://" \
    store_s3 open "s3://ckpts?endpoint=https://${S3_ENDPOINT#http://}&timeout=2"
expect "or only TLS" says "of a server with TLS endpoint= is https://" store_s3 open "s3://ckpts?endpoint=http://${S3_ENDPOINT_TLS#https://}&timeout=2"

# ---- TLS ----
CA="ca=$CLUSTER_DIR/s3/ca.pem"
check_tls()
{
    tide store check -o json --bytes 9000000 "s3://ckpts/tls?endpoint=$S3_ENDPOINT_TLS&$CA"
}
expect "with the CA of the server's certificate promises are kept over TLS" says '"good": true' check_tls
expect "without it nothing is sent" says "name its CA with ca=FILE" store_s3 open "s3://ckpts?endpoint=$S3_ENDPOINT_TLS"
other_server()
{
    s3_tls_cert other DNS:elsewhere || return 1
    (cluster_in 0 openssl s_server -accept "$(cluster_address 0):$((S3_PORT + 4))" -cert "$CLUSTER_DIR/s3/other.pem" \
        -key "$CLUSTER_DIR/s3/other.key" -quiet) >"$CLUSTER_DIR/other.out" 2>&1 &
    OTHER=$!
}
called_wrong()
{
    says "must make a name that is in it" store_s3 open "s3://ckpts?endpoint=https://$(cluster_address 0):$((S3_PORT + 4))&$CA"
}
expect "a server of another name starts" other_server
expect "it is not believed, though its CA is" wait_for 20 "that to be said" called_wrong
kill "$OTHER"

# ---- clocks and rights ----
skewed()
{
    (cluster_in 0 timeout 60 env LD_PRELOAD="$SKEW" SKEW_S="$1" "$STORE_S3" open "$URL")
}
expect "a clock that is too far ahead is the reason that is told" says "set this host's clock" skewed $SKEW_S
expect "one that is too far behind, too" says "set this host's clock" skewed -$SKEW_S
expect "and a little does no harm" skewed 60
expect "there is another user" s3_user stranger AKIASTRANGER strangers-secret
expect "the bucket is closed to him" says "let them get, put, delete and list there" with_keys AKIASTRANGER strangers-secret

# ---- a server that stands still ----
stalled()
{
    local file=$CLUSTER_DIR/go pid status from
    store_s3 slow "$URL&timeout=$1" "$file" >"$CLUSTER_DIR/slow.out" &
    pid=$!
    wait_for 60 "the store to be open" test -e "$file" || return 1
    s3_signal STOP osd
    from=$SECONDS
    rm "$file"
    if [ -n "${2:-}" ]; then
        sleep "$2"
        s3_signal CONT osd
    fi
    wait "$pid"
    status=$?
    s3_signal CONT osd
    echo "status $status after $((SECONDS - from)) s: $(<"$CLUSTER_DIR/slow.out")"
}

# 4 MiB in at most 2 + 4 s. The server may do it later all the same: the next writer of the same finds all of it, or nothing.
expect "a write into a store that hangs ends in time" says "status 40" stalled 2
expect "it is said that nothing came" grep -q "timed out\|too slow" "$CLUSTER_DIR/slow.out"
expect "once it goes on, the object is whole and the same" says "status 0" stalled 30 1

# ---- the main job: a model is trained ----
WANTED=$(mpi_env; timeout 100 mpirun -np 4 "$TRAIN" "${STEPS[@]}" | digest)
expect "mpirun trains without tidemark" test -n "$WANTED"
cluster_coordinator_start && cluster_agents_start 1 3 --slots 2 || {
    echo "not ok $SCENARIO_NAME/the cluster starts"
    exit 1
}
expect "an address that is none is refused at once" says "cannot be a bucket's name" \
    tide run --store "s3://No" --launcher none -- "$PULSE" --steps 10
tide run --name bucket --store "$URL" --copies none --nnodes 2 --spares 1 --nproc-per-node 2 --ckpt-every 500ms --ckpt-keep 1 \
    "${MPI_JOB[@]}" -- "$TRAIN" "${STEPS[@]}"
wait_for 60 "a committed checkpoint" job_committed_after bucket 0
verified()
{
    tide ckpt verify "bucket/$(job_newest bucket)"
}
expect "a checkpoint in the bucket verifies" verified
AWAY=$(cluster_job bucket '.job.nodes[1]')
expect "a node loses its memory" cluster_node_kill "${AWAY#n}"
LOST=$(job_newest bucket)
expect "its ranks go on elsewhere" wait_for 60 "steps" cluster_job_is bucket '.job.recoveries[0].to_step > 0 and .job.all_stepped'
expect "out of the bucket" cluster_job_is bucket '[.ranks[] | select(.rank >= 2) | .report.tier] == ["store", "store"]'
expect "from the newest, or a newer one" test "$(cluster_job bucket '.job.recoveries[0].cut')" -ge "$LOST"
expect "the job succeeds" job_succeeds bucket
expect "its parameters are those of mpirun" equal "$(tide job logs bucket --rank 0 | digest)" "$WANTED"
no_secret()
{
    ! grep -rqF --exclude-dir=s3 -- "$S3_SECRET" "$CLUSTER_DIR"
}
expect "no log and no state holds the secret" no_secret
cluster_agent_start "${AWAY#n}"
wait_for 60 "$AWAY to be back" cluster_node_is "$AWAY" ready
expect "nothing is left of it" nothing_left

# ---- what nobody needs ----
UID_OF=$(cluster_job bucket .job.uid)
tide ckpt gc bucket >/dev/null
DROPPED=$(cluster_job bucket '[.job.ckpts[] | select(.state == "dropped") | .cut] | min')
STRAY="ckpts/team/m/bucket.$UID_OF/$DROPPED-1/0.json"
expect "a dropped checkpoint has left something in the bucket" s3_put "$STRAY" stray
expect "the store is searched" tide ckpt gc bucket
expect "and it goes" wait_for "$SWEEP_S" "the sweep" s3_gone "$STRAY"
held()
{
    cluster_job_is bucket '[.job.ckpts[] | select(.held_until_ms > 0)] != []'
}
s3_signal STOP osd
verified >"$CLUSTER_DIR/verified" 2>&1 &
VERIFYING=$!
expect "the newest is held while it is read" wait_for 20 "it to be held" held
s3_signal CONT osd
expect "it is still whole" wait "$VERIFYING"
expect "and not held any more" cluster_job_is bucket '[.job.ckpts[] | select(.held_until_ms > 0)] == []'

# ---- another cluster ----
LAST=$(job_newest bucket)
COMMIT=$(cluster_job bucket ".job.ckpts[] | select(.cut == $LAST) | .manifest_key")
expect "its manifest is where it is said to be" s3_there "ckpts/team/$COMMIT"
cluster_destroyed()
{
    local node member
    if cluster_is_group; then
        for member in $(cluster_members); do
            cluster_member_kill "$member" || return 1
            rm -rf "$CLUSTER_DIR/c$member"
        done
    else
        cluster_coordinator_kill || return 1
    fi
    for node in 1 2 3; do
        cluster_node_kill "$node" || return 1
        rm -rf "$CLUSTER_DIR/n$node"
    done
    rm -rf "$CLUSTER_DIR/coordinator" "$CLUSTER_DIR/identity"
}
expect "the cluster is destroyed" cluster_destroyed
cluster_coordinator_start && cluster_agents_start 1 2 --slots 2 || exit 1
expect "another one finds it in the bucket" says "bucket/$LAST" tide ckpt import "$URL" --verify
tide run --name next --restore-from "bucket/$LAST" --store "$URL" --nnodes 2 --nproc-per-node 2 "${MPI_JOB[@]}" -- "$TRAIN" "${STEPS[@]}"
expect "a job goes on from it" job_succeeds next
expect "and from nowhere else" cluster_job_is next ".job.restore_cut == $LAST and .job.generation == 1"
expect "its parameters are those of mpirun" equal "$(tide job logs next --rank 0 | digest)" "$WANTED"
tide ckpt unpin "bucket/$LAST" && tide ckpt drop "bucket/$LAST" && tide ckpt gc bucket
expect "what was let go is deleted there" wait_for "$SWEEP_S" "its objects to go" s3_gone "ckpts/team/$COMMIT"
expect "nothing is left of that, either" nothing_left
scenario_end
