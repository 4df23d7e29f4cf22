#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What goes wrong between an agent and an S3 server (Ceph's radosgw), one after the other, while a checkpoint is on its way:
# connections that are reset, answers that end too soon, bytes that change, SlowDown, a gateway that is killed, storage that
# stands still or is full, keys that are wrong. Each ends with a whole checkpoint, or with a reason; never with a wrong one, and a
# job trains on. $S3_FAULT_ROUNDS says how often each is done (for a soak).
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"
# shellcheck source=tests/lib/s3.sh
. "$SCENARIO_ROOT/tests/lib/s3.sh"

PERSIST=$SCENARIO_BUILD/bin/persist
ROUNDS=${S3_FAULT_ROUNDS:-1}
MIB=24             # two ranks of 12, each a pack
RANKS=2
PORT=7482
PROXY_PORT=$((PORT + 5))
TURNS_MAX=5 # until chance has it that the network does something
PUT_S=90           # one upload with all that happens to it
TIMEOUT_S=20       # of one request with its repetitions
JOB_BYTES=60000    # of a connection, before something happens to it
declare -A TROUBLES=([resets]="connections that are reset" [ends]="answers that end too soon" [flips]="bytes that change"
    [stop]="storage that stands still" [kill]="a gateway that is killed" [full]="storage that is full")
CUT=0

if ! s3_ensure; then
    echo "skip $SCENARIO_NAME # SKIP Ceph's packages cannot be had here"
    exit 0
fi
cluster_create "$SCENARIO_BUILD" || exit 1
down()
{
    [ -z "${PROXY:-}" ] || kill "$PROXY" 2>/dev/null
    s3_stop
    cluster_down
}
trap down EXIT
s3_begin()
{
    if cluster_is_root; then
        s3_start "$CLUSTER_DIR/s3" "$(cluster_address 0)" $PORT nsenter --net="/run/netns/$(cluster_namespace 0)"
    else
        PORT=$((PORT + CLUSTER_ID % 5000 * 7)) PROXY_PORT=$((PORT + 5))
        s3_start "$CLUSTER_DIR/s3" "$(cluster_address 0)" $PORT
    fi
}
expect "an S3 server starts" s3_begin || exit 1
s3_keys
expect "it makes a bucket" s3_bucket ckpts || exit 1

# ---- between ----
MODE=$CLUSTER_DIR/mode
SEEN=$CLUSTER_DIR/proxy.out
network()
{
    echo "$*" >"$MODE.new" && mv "$MODE.new" "$MODE"
}
proxy_answers()
{
    (cluster_in 0 curl -sS -m 2 -o "$CLUSTER_DIR/answer" "http://$(cluster_address 0):$PROXY_PORT/")
}
network pass
(cluster_in 0 python3 "$SCENARIO_ROOT/tests/lib/s3_proxy.py" "$(cluster_address 0):$PROXY_PORT" "$(cluster_address 0):$PORT" "$MODE") \
    >"$SEEN" 2>"$CLUSTER_DIR/proxy.err" &
PROXY=$!
expect "the proxy passes on" wait_for 60 "the proxy" proxy_answers || exit 1
ENDPOINT=http://$(cluster_address 0):$PROXY_PORT
URL="s3://ckpts/team?endpoint=$ENDPOINT&timeout=$TIMEOUT_S"

# ---- a checkpoint there and back ----
ARENA=$CLUSTER_DIR/arena
persist()
{
    (cluster_in 0 timeout $PUT_S "$PERSIST" "$@")
}
expect "a cut is recorded" persist make "$ARENA" $RANKS $MIB noise || exit 1

# begin [MORE]: to a place of its own
begin()
{
    CUT=$((CUT + 1))
    PLACE="s3://ckpts/$CUT?endpoint=$ENDPOINT${1:-&timeout=$TIMEOUT_S}"
    persist put "$ARENA" $RANKS 1 "$PLACE" >"$CLUSTER_DIR/put.out" 2>&1 &
    PUT=$!
}
whole()
{
    mkdir "$CLUSTER_DIR/back" && persist get "$CLUSTER_DIR/back" $RANKS "$(jq -r .key "$CLUSTER_DIR/put.out")" \
        "$(jq -r .digest "$CLUSTER_DIR/put.out")" "$PLACE" >"$CLUSTER_DIR/get.out" 2>&1 &&
        cmp <(tail -c +8193 "$ARENA/r1.slot0") <(tail -c +8193 "$CLUSTER_DIR/back/r1.slot0")
}
is_whole()
{
    whole
    local status=$?
    rm -rf "$CLUSTER_DIR/back"
    [ $status -eq 0 ] || cat "$CLUSTER_DIR/get.out"
    return $status
}
committed()
{
    wait "$PUT" || { cat "$CLUSTER_DIR/put.out"; return 1; }
    network pass
    is_whole
}
seen()
{
    grep -c "^$1$" "$SEEN"
}
seen_since()
{
    [ "$(seen "$1")" -gt "$2" ]
}
# under MODE…: an upload while the network is like that from its beginning to its end.
under()
{
    local before turn
    before=$(seen "$1")
    for ((turn = 0; turn < TURNS_MAX; turn++)); do
        network "$@"
        begin
        committed || { echo "not committed, turn $turn"; return 1; }
        [ "$(seen "$1")" -eq "$before" ] || return 0
    done
    echo "the network did nothing"
    return 1
}

# reading MODE…: what was stored well is read through it; 0 when it came back whole.
reading()
{
    local before status turn
    before=$(seen "$1")
    network pass
    begin
    committed || return 2
    network "$@"
    for ((turn = 0; turn < TURNS_MAX; turn++)); do
        is_whole
        status=$?
        [ "$(seen "$1")" -eq "$before" ] || break
    done
    network pass
    [ "$(seen "$1")" -gt "$before" ] || return 2
    return $status
}
says_which()
{
    [ "$1" -eq 1 ] && grep -q 'chunk [0-9]* of rank [0-9]* in object c/' "$CLUSTER_DIR/get.out" || { cat "$CLUSTER_DIR/get.out"; return 1; }
}
# What does not match is asked for once more, by a connection on which it happens again, or not.
one_is_changed()
{
    reading flip-down 9000000 || says_which $?
}
all_are_changed()
{
    reading flip-downs 1000000
    says_which $?
}

# What changed on the way is refused by the server, and nothing is stored of it; the next try stores it.
flipped_up()
{
    local before
    before=$(seen flip-up)
    network flip-up 9000000
    begin
    if wait "$PUT"; then
        [ "$(seen flip-up)" -gt "$before" ] || { echo "the network did nothing"; return 1; }
        network pass
        is_whole
        return
    fi
    [ "$(seen flip-up)" -gt "$before" ] && grep -q "rank failed\|the store\|commit" "$CLUSTER_DIR/put.out" || { cat "$CLUSTER_DIR/put.out"; return 1; }
    network pass
    CUT=$((CUT - 1))
    begin
    committed
}
storm()
{
    local before
    before=$(seen slow)
    network slow
    begin
    wait_for 30 "somebody to be told to slow down" seen_since slow "$before" || return 1
    sleep 1
    network pass
    committed
}
# While the storage behind it stands, no upload can have ended.
gateway_killed()
{
    s3_signal STOP osd
    begin
    sleep 0.5
    kill -0 "$PUT" || { echo "it had ended"; return 1; }
    s3_signal KILL rgw
    s3_signal CONT osd
    sleep 1
    s3_start_rgw || return 1
    committed
}
storage_stopped()
{
    s3_signal STOP osd
    begin
    sleep 5
    kill -0 "$PUT" || { echo "it had ended"; return 1; }
    s3_signal CONT osd
    committed
}
# For longer than a request lasts: then there is a reason, and nothing but a reason.
storage_full()
{
    s3_full yes && wait_for 60 "storage to be full" s3_is_full || return 1
    begin "&timeout=2"
    wait "$PUT" && { echo "it was stored"; return 1; }
    grep -q "timed out" "$CLUSTER_DIR/put.out" || { cat "$CLUSTER_DIR/put.out"; return 1; }
    CUT=$((CUT - 1))
    begin
    sleep 1
    s3_full no || return 1
    committed
}

for ((round = 0; round < ROUNDS; round++)); do
    expect "connections that are reset are made again" under reset 24000000
    expect "so are those whose answers end too soon" reading short 16000000
    expect "an answer with another byte in it is not believed" one_is_changed
    expect "where each has one it is said which chunk is wrong" all_are_changed
    expect "nor does a server take such a request" flipped_up
    expect "who is told to slow down does, and goes on" storm
    expect "a gateway may be killed" gateway_killed
    expect "storage may stand still" storage_stopped
    expect "and be full for a while, which is told when it takes too long" storage_full
done

# ---- a job meanwhile ----
store_failed()
{
    cluster_job_is "$1" '[(.job.events // [])[] | select(.kind == "store_failed")] | length > 0'
}
steps_on()
{
    local from
    from=$(cluster_job "$1" '[.ranks[].report.step // 0] | min')
    wait_for 60 "steps" cluster_job_is "$1" "([.ranks[].report.step // 0] | min) > $from + 20"
}
run_job()
{
    tide run --name "$1" --store "$2" --nnodes 1 --nproc-per-node 2 --launcher none --ckpt-every 300ms -- \
        "$PULSE" --until "$CLUSTER_DIR/$1.until"
}
cluster_coordinator_start && cluster_agents_start 1 1 --slots 2 || {
    echo "not ok $SCENARIO_NAME/the cluster starts"
    exit 1
}
run_job storm "s3://ckpts/job?endpoint=$ENDPOINT&timeout=2"
wait_for 60 "a committed checkpoint" job_committed_after storm 0
network slow
expect "a store that answers nothing but SlowDown is told" wait_for 60 "the event" store_failed storm
expect "its job trains on" steps_on storm
AT=$(job_newest storm)
network pass
expect "once it serves again checkpoints are committed" wait_for 60 "later checkpoints" job_committed_after storm "$AT"
expect "they are whole" tide ckpt verify "storm/$(job_newest storm)"

# through WHAT: it begins, the job trains on, it ends; then checkpoints are committed, and not only those that were before it.
through()
{
    "$1_begins" && steps_on storm && "$1_ends" && wait_for 60 "later checkpoints" job_committed_after storm "$(job_newest storm)"
}
# The network does so to each connection, after some of its bytes; until it did.
network_troubles()
{
    local before
    before=$(seen "$1")
    network "$1" $JOB_BYTES
    wait_for 60 "the network to do something" seen_since "$1" "$before"
}
resets_begins() { network_troubles reset; }
resets_ends() { network pass; }
ends_begins() { network_troubles short; }
ends_ends() { network pass; }
flips_begins() { network_troubles flip-up; }
flips_ends() { network pass; }
stop_begins() { s3_signal STOP osd; }
stop_ends() { wait_for 60 "the event" store_failed_since storm "$FAILED"; s3_signal CONT osd; }
kill_begins() { s3_signal KILL rgw; }
kill_ends() { wait_for 60 "the event" store_failed_since storm "$FAILED"; s3_start_rgw; }
full_begins() { s3_full yes && wait_for 60 "storage to be full" s3_is_full; }
full_ends() { wait_for 60 "the event" store_failed_since storm "$FAILED"; s3_full no; }
store_failures()
{
    cluster_job "$1" '[(.job.events // [])[] | select(.kind == "store_failed") | .revision] | max // 0'
}
store_failed_since()
{
    [ "$(store_failures "$1")" -gt "$2" ]
}
for what in resets ends flips stop kill full; do
    FAILED=$(store_failures storm)
    expect "its job trains on through ${TROUBLES[$what]}" through $what
done
all_verify()
{
    local cut
    for cut in $(cluster_job "$1" '.job.ckpts[] | select(.state == "committed") | .cut'); do
        tide ckpt verify "$1/$cut" --store "s3://ckpts/job?endpoint=$ENDPOINT&timeout=$TIMEOUT_S" || return 1 # not the job's 2 s
    done
}
expect "every checkpoint that is listed is whole" all_verify storm
job_let_end storm
expect "the job succeeds" job_succeeds storm
expect "without a restart" equal "$(cluster_job storm .job.restarts)" 0

cluster_agent_kill 1
SECRET=$AWS_SECRET_ACCESS_KEY
export AWS_SECRET_ACCESS_KEY=wrong
cluster_agents_start 1 1 --slots 2
export AWS_SECRET_ACCESS_KEY=$SECRET
run_job denied "$URL"
expect "wrong keys are told" wait_for 60 "the event" store_failed denied
expect "with what to check" says "AWS_SECRET_ACCESS_KEY" cluster_job denied '[.job.events[] | select(.kind == "store_failed")][0].text'
expect "that job trains on, too" steps_on denied
job_let_end denied
expect "and succeeds" job_succeeds denied
kill "$PROXY" && PROXY=
expect "nothing is left of it" nothing_left
scenario_end
