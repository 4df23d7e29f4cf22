#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A group of three coordinators over its life: members are restarted one by one under load without a failed call, the
# leadership is handed over, members come and go, a backup becomes another cluster, and one of three saves what is left.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

ROUNDS=${GROUP_ROUNDS:-2}    # of restarts of all members
TIDEMARKD=$SCENARIO_BUILD/bin/tidemarkd
CALLS_EACH=4                 # between two restarts
SETTLE_S=60

# call M METHOD PATH [CURL OPTION…]: status on stdout, body in $BODY. Redirects are not followed.
call()
{
    local member=$1 method=$2 path=$3
    shift 3
    (cluster_in 0 curl -sS -m 20 -o "$BODY" -w '%{http_code}' -X "$method" "${CLUSTER_CURL[@]}" "$(cluster_member_url "$member")$path" "$@")
}

# answers CODE WORDS M METHOD PATH [CURL OPTION…]: sets GOT, the status.
answers()
{
    local code=$1 words=$2
    shift 2
    GOT=$(call "$@")
    [ "$GOT" = "$code" ] && grep -qF -- "$words" "$BODY" || { echo "status $GOT, body $(head -c 400 "$BODY")"; return 1; }
}

# leader_answers CODE WORDS METHOD PATH [CURL OPTION…]: who has led until now may be too slow for the others, on a busy machine, and
# sends the call on, or knows of no leader: nothing was done, and it is asked again, as tidemark does.
leader_answers()
{
    local code=$1 words=$2 deadline=$((SECONDS + SETTLE_S))
    shift 2
    while cluster_await_leader; do
        answers "$code" "$words" "$CLUSTER_LEADER" "$@" && return
        [[ $GOT == 307 || $GOT == 503 ]] && [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
    return 1
}

# Sets FOLLOWER, and CLUSTER_LEADER.
follower()
{
    cluster_await_leader && FOLLOWER=$((CLUSTER_LEADER % 3 + 1))
}

jobs_of()
{
    call "$1" GET "/v1/jobs?stale=true" >/dev/null && jq -r '.jobs[].spec.name' "$BODY" | sort
}

member_end()
{
    local pid=${CLUSTER_MEMBER_PID[$1]}
    unset "CLUSTER_MEMBER_PID[$1]"
    kill -TERM "$pid" && cluster_await_end "$pid"
}

# ---- restarts ----

# One call after the other until told to stop; those that fail are named.
caller()
{
    local i=0 begun
    while [ ! -e "$CLUSTER_DIR/enough" ]; do
        i=$((i + 1))
        begun=$(date +%s%3N)
        if tide run --name "r-$i" -- /bin/true >"$CLUSTER_DIR/call.out" 2>&1; then
            echo "r-$i" >>"$CLUSTER_DIR/called"
        else
            { echo "r-$i after $(($(date +%s%3N) - begun)) ms:"; cat "$CLUSTER_DIR/call.out"; } >>"$CLUSTER_DIR/failed"
        fi
    done
}

# calls_made COUNT: that were answered well, or not.
calls_made()
{
    [ "$(cat "$CLUSTER_DIR/called" "$CLUSTER_DIR/failed" | grep -c '^r-')" -ge "$1" ]
}

rolling_restart()
{
    local round member caller calls=0
    : >"$CLUSTER_DIR/failed"
    : >"$CLUSTER_DIR/called"
    caller &
    caller=$!
    for ((round = 0; round < ROUNDS; round++)); do
        for member in 1 2 3; do
            calls=$((calls + CALLS_EACH))
            sleep 0.5
            wait_for $SETTLE_S "calls to be made" calls_made $calls
            member_end "$member" && cluster_group_start || { touch "$CLUSTER_DIR/enough"; return 1; }
        done
    done
    sleep 0.5
    wait_for $SETTLE_S "calls to be made" calls_made $((calls + CALLS_EACH))
    touch "$CLUSTER_DIR/enough"
    wait $caller
    [ ! -s "$CLUSTER_DIR/failed" ] || { cat "$CLUSTER_DIR/failed"; return 1; }
    calls_made $calls
}

called_are_there()
{
    local member
    for member in 1 2 3; do
        [ "$(sort "$CLUSTER_DIR/called")" = "$(jobs_of "$member" | grep '^r-')" ] || { echo "member $member has others"; return 1; }
    done
}

# ---- who leads ----

sends_on()
{
    follower || return 1
    answers 307 '"leader":' "$FOLLOWER" GET "/v1/jobs?after=1&wait_ms=5" -D "$CLUSTER_DIR/headers" &&
        grep -qi "^location: $(cluster_member_url "$CLUSTER_LEADER")/v1/jobs?after=1&wait_ms=5" "$CLUSTER_DIR/headers"
}

handed_over()
{
    follower || return 1
    local member=$FOLLOWER
    leader_answers 200 "member $member leads now" POST /v1/cluster/transfer -d "{\"to\":$member}" || return 1
    wait_for $SETTLE_S "member $member to lead" leads "$member"
}

leads()
{
    cluster_leader_known && [ "$CLUSTER_LEADER" = "$1" ]
}

# Sets WATCH, which waits at the leader. Not one that was answered at once, as something had still to change.
watch_waits()
{
    cluster_await_leader && answers 200 revision "$CLUSTER_LEADER" GET /v1/nodes || return 1
    BODY=$CLUSTER_DIR/watched call "$CLUSTER_LEADER" GET "/v1/nodes?after=$(jq .revision "$BODY")&wait_ms=15000" \
        -v >"$CLUSTER_DIR/watched.code" 2>"$CLUSTER_DIR/watched.sent" &
    WATCH=$!
    wait_for $SETTLE_S "it to be sent" grep -q "^> GET" "$CLUSTER_DIR/watched.sent" && sleep 1 && kill -0 $WATCH
}

# A watch that waits at a leader who goes is sent on, not lost.
watch_is_sent_on()
{
    wait_for $SETTLE_S "a watch to wait" watch_waits && member_end "$CLUSTER_LEADER" || return 1
    wait $WATCH
    cluster_group_start || return 1
    case $(<"$CLUSTER_DIR/watched.code") in 307 | 503) ;; *) echo "answered $(<"$CLUSTER_DIR/watched.code")"; return 1 ;; esac
}

# ---- members ----

fourth_identity()
{
    local dir=$CLUSTER_DIR/identity
    if cluster_is_root; then
        "$CLUSTER_BUILD/bin/tidemark" cluster issue --dir "$dir" member 4 "$1:$CLUSTER_PORT:$CLUSTER_PEER_PORT"
        return
    fi
    mkdir "$dir/member-4" && jq --arg peer "$1:$CLUSTER_PEER_PORT" --arg api "$(cluster_member_url 4)" \
        '.member = 4 | .joining = true | .members += [{id: 4, peer: $peer, api: $api}]' "$dir/member-1/identity.json" \
        >"$dir/member-4/identity.json"
}

fourth_joins()
{
    local node=$((CLUSTER_MEMBER_NODE + 4)) address
    address=$(cluster_member_address 4)
    if cluster_is_root; then cluster_node_create $node || return 1; fi
    fourth_identity "$address" || return 1
    leader_answers 200 "is a learner now" POST /v1/cluster/members -d "{\"id\":4,\"peer\":\"$address:$CLUSTER_PEER_PORT\",
        \"api\":\"$(cluster_member_url 4)\"}" || return 1
    (cluster_in $node "$TIDEMARKD" --data "$CLUSTER_DIR/c4" --identity "$CLUSTER_DIR/identity/member-4" \
        >>"$CLUSTER_DIR/c4.log" 2>&1) &
    FOURTH=$!
    disown
    wait_for $SETTLE_S "member 4 to catch up" fourth_has_all || { tail -20 "$CLUSTER_DIR/c4.log"; return 1; }
}

fourth_has_all()
{
    cluster_await_leader && [ "$(jobs_of 4)" = "$(jobs_of "$CLUSTER_LEADER")" ]
}

promoted()
{
    leader_answers 200 "is a voter now" POST /v1/cluster/members/4/promote
}

# The leader refuses it, the others send it there, whatever it asks for. Without TLS there is none.
fourth_opens_nothing()
{
    local certificate=$CLUSTER_DIR/identity/member-4/cert.pem key=$CLUSTER_DIR/identity/member-4/key.pem member
    [ -e "$certificate" ] || return 0
    cluster_await_leader || return 1
    for member in 1 2 3; do
        if [ "$member" = "$CLUSTER_LEADER" ]; then
            answers 401 "that of member 4, which is not in the group" "$member" GET /v1/jobs --cert "$certificate" --key "$key" || return 1
        else
            answers 307 "" "$member" GET "/v1/jobs?stale=true" --cert "$certificate" --key "$key" || return 1
        fi
    done
}

removed()
{
    leader_answers 200 "has left the group" DELETE /v1/cluster/members/4 || return 1
    wait_for $SETTLE_S "its certificate to count no more" fourth_opens_nothing || return 1
    kill -TERM "$FOURTH" && cluster_await_end "$FOURTH"
    leader_answers 200 '"id":3' GET /v1/cluster && [ "$(jq '.members | length' "$BODY")" = 3 ]
}

status_names()
{
    leader_answers 200 "" GET /v1/cluster || return 1
    jq -e '(.members | length == 3) and ([.members[] | select(.leader)] | length == 1) and
        ([.members[] | select(.role == "follower" and .lag == 0 and .contact_ms < 2000)] | length == 2)' "$BODY" ||
        { cat "$BODY"; return 1; }
}

# ---- saved ----

backed_up()
{
    leader_answers 200 "" GET /v1/cluster/backup || return 1
    cp "$BODY" "$CLUSTER_DIR/backup"
    jobs_of "$CLUSTER_LEADER" >"$CLUSTER_DIR/jobs"
    "$TIDEMARKD" restore --data "$CLUSTER_DIR/restored" --from "$CLUSTER_DIR/backup" || return 1
    "$TIDEMARKD" check-data "$CLUSTER_DIR/restored" || return 1
    "$TIDEMARKD" --data "$CLUSTER_DIR/restored" --listen 127.0.0.1:0 >>"$CLUSTER_DIR/restored.log" 2>&1 &
    local pid=$! address
    wait_for $SETTLE_S "the restored one to answer" restored_answers || { tail -5 "$CLUSTER_DIR/restored.log"; return 1; }
    address=$(<"$CLUSTER_DIR/restored/address")
    curl -sS -m 20 "http://$address/v1/jobs" | jq -r '.jobs[].spec.name' | sort >"$CLUSTER_DIR/jobs.restored"
    kill -TERM $pid
    wait $pid || { echo "it ended with $?"; tail -5 "$CLUSTER_DIR/restored.log"; return 1; }
    [ -s "$CLUSTER_DIR/jobs" ] && diff "$CLUSTER_DIR/jobs" "$CLUSTER_DIR/jobs.restored"
}

restored_answers()
{
    [ -s "$CLUSTER_DIR/restored/address" ] && [ "$(curl -sS -m 5 "http://$(<"$CLUSTER_DIR/restored/address")/healthz")" = ok ]
}

spoiled_backup()
{
    head -c 300 "$CLUSTER_DIR/backup" >"$CLUSTER_DIR/backup.spoiled"
    "$TIDEMARKD" restore --data "$CLUSTER_DIR/spoiled" --from "$CLUSTER_DIR/backup.spoiled" 2>&1
}

lost()
{
    cluster_await_leader || return 1
    SURVIVOR=$CLUSTER_LEADER
    local member
    for member in 1 2 3; do
        [ "$member" = "$SURVIVOR" ] || cluster_member_kill "$member" || return 1
    done
    wait_for $SETTLE_S "the survivor to step down" answers 503 "no leader" "$SURVIVOR" GET /v1/jobs || return 1
    answers 200 '"r-1"' "$SURVIVOR" GET "/v1/jobs?stale=true"
}

recover_words()
{
    echo "$1" | "$TIDEMARKD" recover --data "$CLUSTER_DIR/c$SURVIVOR" 2>&1
}

recovered()
{
    member_end "$SURVIVOR" || return 1
    says "nothing was changed" recover_words wrong || return 1
    says "Lost is what the others had" recover_words "$(cut -d' ' -f3 "$CLUSTER_DIR/c$SURVIVOR/format")" || return 1
    "$TIDEMARKD" check-data "$CLUSTER_DIR/c$SURVIVOR" || return 1
    cluster_member_start "$SURVIVOR" || return 1
    wait_for $SETTLE_S "the survivor to lead" answers 200 ok "$SURVIVOR" GET /healthz || return 1
    jobs_of "$SURVIVOR" >"$CLUSTER_DIR/jobs.recovered"
    diff "$CLUSTER_DIR/jobs" "$CLUSTER_DIR/jobs.recovered" || return 1
    answers 200 '"job":"afterwards"' "$SURVIVOR" POST /v1/jobs -d '{"name":"afterwards","argv":["x"]}'
}

# Of one that was lost, taken by the other one that was.
other_directory()
{
    "$TIDEMARKD" --data "$CLUSTER_DIR/c$((SURVIVOR % 3 + 1))" \
        --identity "$CLUSTER_DIR/identity/member-$(((SURVIVOR + 1) % 3 + 1))" 2>&1
}

# One that was lost comes back under its own name, with an empty directory.
forgotten()
{
    timeout $SETTLE_S "$TIDEMARKD" --data "$CLUSTER_DIR/empty" --identity "$CLUSTER_DIR/identity/member-$((SURVIVOR % 3 + 1))" 2>&1
}

without_identity()
{
    "$TIDEMARKD" --data "$CLUSTER_DIR/c$((SURVIVOR % 3 + 1))" --listen 127.0.0.1:0 2>&1
}

young_backup()
{
    "$TIDEMARKD" --data "$CLUSTER_DIR/young" --listen 127.0.0.1:0 2>>"$CLUSTER_DIR/young.log" &
    local pid=$!
    wait_for $SETTLE_S "a cluster of one" [ -s "$CLUSTER_DIR/young/address" ] &&
        curl -sS -m 20 -o "$CLUSTER_DIR/young.backup" "http://$(<"$CLUSTER_DIR/young/address")/v1/cluster/backup"
    kill -TERM $pid && wait $pid
}

# One of three founding members is restored, the other two begin without: the two histories, alike in indexes and terms as
# those of young clusters are, are never mixed.
restored_in_part()
{
    local dir=$CLUSTER_DIR/part member pids=() p seen
    read -ra p < <(free_ports 6)
    young_backup && "$SCENARIO_BUILD/bin/tidemark" cluster init --dir "$dir" --insecure "127.0.0.1:${p[0]}:${p[1]}" \
        "127.0.0.1:${p[2]}:${p[3]}" "127.0.0.1:${p[4]}:${p[5]}" && "$TIDEMARKD" restore --data "$dir/1" \
        --from "$CLUSTER_DIR/young.backup" --identity "$dir/member-1" || return 1
    for member in 2 3 1; do
        "$TIDEMARKD" --identity "$dir/member-$member" --data "$dir/$member" 2>>"$dir/log" &
        pids+=($!)
        [ "$member" != 3 ] || wait_for $SETTLE_S "two to lead" grep -q "made cluster" "$dir/log"
    done
    wait_for $SETTLE_S "it to be noticed" grep -q "not every member was restored: begin anew" "$dir/log"
    seen=$?
    kill -9 "${pids[@]}" 2>/dev/null
    wait "${pids[@]}" 2>/dev/null
    return $seen
}

# The two that were lost come back and are a majority of what they know: neither takes part, and the one that was recovered
# goes on.
left_behind()
{
    local member
    for member in 1 2 3; do
        [ "$member" = "$SURVIVOR" ] || cluster_member_start "$member" || return 1
    done
    for member in 1 2 3; do
        [ "$member" = "$SURVIVOR" ] || wait_for $SETTLE_S "member $member to stand aside" \
            answers 503 "this member was left behind when the group was recovered" "$member" GET /v1/jobs || return 1
    done
    answers 200 '"job":"later"' "$SURVIVOR" POST /v1/jobs -d '{"name":"later","argv":["x"]}'
}

cluster_create "$SCENARIO_BUILD" && cluster_start 3 || { echo "not ok $SCENARIO_NAME/the group starts"; exit 1; }
BODY=$CLUSTER_DIR/body

expect "one leads, two follow and lag nothing" wait_for $SETTLE_S "two followers" status_names
expect "members restart one by one, and no call fails" rolling_restart
expect "every member has every job that was acknowledged" called_are_there
expect "a follower sends calls on, with path and query" wait_for $SETTLE_S "one to be sent on" sends_on
expect "the leadership is handed over" handed_over
expect "a watch at a leader that goes is sent on" watch_is_sent_on
expect "to nobody it cannot be handed over" leader_answers 404 "no member 9" POST /v1/cluster/transfer -d '{"to":9}'
expect "who is there already is not added" leader_answers 409 exists POST /v1/cluster/members \
    -d "{\"id\":2,\"peer\":\"127.0.0.1:9\",\"api\":\"${CLUSTER_URL%%:*}://127.0.0.1:8\"}"
expect "nor under an address that is taken" leader_answers 409 exists POST /v1/cluster/members \
    -d "{\"id\":5,\"peer\":\"$(cluster_member_address 2):$CLUSTER_PEER_PORT\",\"api\":\"${CLUSTER_URL%%:*}://127.0.0.1:8\"}"
expect "who is not there is not promoted" leader_answers 404 "no member 4" POST /v1/cluster/members/4/promote
expect "a fourth member joins and catches up" fourth_joins
expect "it becomes a voter" wait_for $SETTLE_S "its promotion" promoted
expect "and leaves" removed
expect "a backup becomes a cluster of its own" backed_up
expect "a backup that one of three was restored from is not mixed with what the others have" restored_in_part
expect "a spoiled one does not" says "is corrupt" spoiled_backup
expect "two of three are lost: nothing is taken, and what is there can be read" lost
expect "the third goes on alone, when told so" recovered
expect "nor is it started as a cluster of its own" says "start it with --identity" without_identity
expect "another member does not take its directory" says "member" other_directory
expect "one that has lost its directory does not come back as it was" says "has been in use" forgotten
expect "members that were left behind take no part when they come back" left_behind
scenario_end
