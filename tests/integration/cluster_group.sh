#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A group of coordinators in the hands of somebody who has only the command line: looked at, made larger and smaller, led by
# another, saved, lost and recovered. What is refused is refused in words.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

SETTLE_S=60
JOBS="first second third"
TIDEMARK=$SCENARIO_BUILD/bin/tidemark
TIDEMARKD=$SCENARIO_BUILD/bin/tidemarkd

# to M ARGUMENT…: the CLI, of this member alone.
to()
{
    local CLUSTER_URL
    CLUSTER_URL=$(cluster_member_url "$1")
    shift
    tide "$@"
}

# refuses STATUS WORDS COMMAND…
refuses()
{
    local wanted=$1 words=$2 output status
    shift 2
    output=$("$@" 2>&1 </dev/null)
    status=$?
    [ $status -eq "$wanted" ] && grep -qF -- "$words" <<<"$output" || { echo "status $status: $output"; return 1; }
}

# status JQ-CONDITION: is it so?
status_is()
{
    tide cluster status -o json >"$CLUSTER_DIR/status.json"
    jq -e "$1" "$CLUSTER_DIR/status.json" >/dev/null || { cat "$CLUSTER_DIR/status.json"; return 1; }
}

led_by()
{
    status_is ".led and .leader == $1"
}

names()
{
    tide job list -a -o name | sort
    tide node list -o name | sort
}

# A node without an agent: nothing runs there, but it is known.
node_register()
{
    local certificate=()
    cluster_is_root && certificate=(--cacert "$CLUSTER_DIR/identity/agent/ca.pem" --cert "$CLUSTER_DIR/identity/agent/cert.pem"
        --key "$CLUSTER_DIR/identity/agent/key.pem")
    cluster_await_leader && (cluster_in 0 curl -sSf -m 10 "${certificate[@]}" "$(cluster_member_url "$CLUSTER_LEADER")/v1/agent/register" \
        -d "{\"name\":\"$1\",\"uid\":\"0123456789abcdef\",\"incarnation\":\"0123456789abcdef\",\"address\":\"127.0.0.1\",\"slots\":1}")
}

things_to_keep()
{
    local job
    for job in $JOBS; do
        tide run --name "$job" -- /bin/true || return 1
    done
    node_register n7 && names >"$CLUSTER_DIR/names" && [ "$(wc -l <"$CLUSTER_DIR/names")" -eq 4 ]
}

every_member_tells()
{
    local member
    for member in 1 2 3; do
        says "leader        member" to "$member" cluster status || return 1
        to "$member" cluster status -o json | jq -e '.led and (.members | all(.state == "up" and .answers and .free_bytes > 0))' \
            >/dev/null || return 1
        to "$member" cluster status --stale | grep -c "as far as the member asked knows" >/dev/null || return 1
    done
}

# The leader is asked first, and does not answer.
standing_still_is_seen()
{
    cluster_await_leader || return 1
    local old=$CLUSTER_LEADER CLUSTER_URL
    CLUSTER_URL=$(cluster_member_url "$old"),$(cluster_member_url)
    cluster_member_stop "$old" || return 1
    wait_for $SETTLE_S "the others to go on" status_is ".led and .leader != $old and
        (.members[] | select(.id == $old) | .state == \"down\") and
        (.problems | any(startswith(\"one more loss\"))) and (.problems | any(startswith(\"member $old does not answer\")))"
    local status=$?
    [ $status -eq 0 ] || tide cluster status
    cluster_member_continue "$old" && return $status
}

# ---- a fourth ----

fourth_identity()
{
    "$TIDEMARK" cluster issue --dir "$CLUSTER_DIR/identity" member 4 \
        "$(cluster_member_address 4):$CLUSTER_PORT:$CLUSTER_PEER_PORT"
}

fourth_start()
{
    local node=$((CLUSTER_MEMBER_NODE + 4))
    if cluster_is_root; then cluster_node_create $node || return 1; fi
    (cluster_in $node "$TIDEMARKD" --data "$CLUSTER_DIR/c4" --identity "$CLUSTER_DIR/identity/member-4" \
        >>"$CLUSTER_DIR/c4.log" 2>&1) &
    CLUSTER_MEMBER_PID[4]=$!
    disown
}

fourth_is_waited_for()
{
    tide cluster promote 4 --wait --within 30s >"$CLUSTER_DIR/promoted" 2>&1 &
    local waiting=$!
    sleep 1
    kill -0 $waiting || { cat "$CLUSTER_DIR/promoted"; return 1; }
    fourth_start
    wait $waiting || { cat "$CLUSTER_DIR/promoted"; tail -n 5 "$CLUSTER_DIR/c4.log"; return 1; }
    grep -q "member 4 is a voter now" "$CLUSTER_DIR/promoted"
}

# Those that run; of them is the group from now on.
urls_of_running()
{
    local member urls=()
    for member in "${!CLUSTER_MEMBER_PID[@]}"; do
        urls+=("$(cluster_member_url "$member")")
    done
    CLUSTER_URL=$(IFS=,; echo "${urls[*]}")
}

leader_removed()
{
    cluster_await_leader || return 1
    local old=$CLUSTER_LEADER
    says "member $old has left the group" tide cluster remove "$old" --yes || return 1
    cluster_member_kill "$old"
    urls_of_running
    wait_for $SETTLE_S "another leader" status_is ".led and .leader != $old and (.members | length == 3)"
}

# Not the fourth, which may have been elected.
other_leads()
{
    cluster_await_leader || return 1
    [ "$CLUSTER_LEADER" != 4 ] || tide cluster transfer || return 1
    wait_for $SETTLE_S "another than member 4 to lead" status_is '.led and .leader != 4'
}

# ---- saved ----

# A new cluster of three on loopback addresses that are the test's own, from the backup.
new_address()
{
    echo "127.$((CLUSTER_ID / 240 % 240 + 10)).$((CLUSTER_ID % 240 + 10)).$((240 + $1))"
}

new_restored()
{
    local member members=() digests
    for member in 1 2 3; do
        members+=("$(new_address $member):7070:7071")
    done
    "$TIDEMARK" cluster init --insecure --dir "$CLUSTER_DIR/new" "${members[@]}" >/dev/null || return 1
    for member in 1 2 3; do
        "$TIDEMARK" cluster restore "$CLUSTER_DIR/backup" --data "$CLUSTER_DIR/r$member" \
            --identity "$CLUSTER_DIR/new/member-$member" >>"$CLUSTER_DIR/restored" || return 1
        "$TIDEMARKD" check-data "$CLUSTER_DIR/r$member" >/dev/null || return 1
    done
    digests=$(grep -o 'digest [0-9a-f]*' "$CLUSTER_DIR/restored" | sort -u | wc -l)
    [ "$digests" -eq 1 ] || { cat "$CLUSTER_DIR/restored"; return 1; }
    refuses 1 "already" "$TIDEMARK" cluster restore "$CLUSTER_DIR/backup" --data "$CLUSTER_DIR/r1" \
        --identity "$CLUSTER_DIR/new/member-1"
}

new_start()
{
    local member
    for member in 1 2 3; do
        (cluster_in 0 "$TIDEMARKD" --data "$CLUSTER_DIR/r$member" --identity "$CLUSTER_DIR/new/member-$member" \
            >>"$CLUSTER_DIR/r$member.log" 2>&1) &
        NEW_PID[$member]=$!
        disown
    done
}

# in_new COMMAND…: the words above, of the new cluster.
# shellcheck disable=SC2034 # the words read both
in_new()
{
    local TIDEMARK_IDENTITY='' CLUSTER_URL
    CLUSTER_URL=http://$(new_address 1):7070,http://$(new_address 2):7070,http://$(new_address 3):7070
    "$@"
}

same_names()
{
    names | diff "$CLUSTER_DIR/names" -
}

new_is_the_same()
{
    new_start
    in_new wait_for $SETTLE_S "the new cluster" status_is ".led and (.members | length == 3)" || { tail -n 5 "$CLUSTER_DIR"/r?.log; return 1; }
    in_new same_names || return 1
    in_new tide run --name fourth -- /bin/true || return 1
    kill -TERM "${NEW_PID[@]}"
    local pid
    for pid in "${NEW_PID[@]}"; do cluster_await_end "$pid"; done
}

backup_is_checked()
{
    says "sha256 " tide cluster backup "$CLUSTER_DIR/backup" && [ "$(stat -c %a "$CLUSTER_DIR/backup")" = 600 ]
}

spoiled_is_refused()
{
    head -c 300 "$CLUSTER_DIR/backup" >"$CLUSTER_DIR/spoiled"
    refuses 1 "corrupt" "$TIDEMARK" cluster restore "$CLUSTER_DIR/spoiled" --data "$CLUSTER_DIR/s"
}

# ---- lost ----

two_are_lost()
{
    cluster_await_leader || return 1
    SURVIVOR=$CLUSTER_LEADER
    local member
    for member in "${!CLUSTER_MEMBER_PID[@]}"; do
        [ "$member" = "$SURVIVOR" ] || cluster_member_kill "$member" || return 1
    done
    wait_for $SETTLE_S "it to be noticed" refuses 10 "no leader: 1 of 3 voters answer" tide cluster status
}

survivor_end()
{
    local pid=${CLUSTER_MEMBER_PID[$SURVIVOR]}
    unset "CLUSTER_MEMBER_PID[$SURVIVOR]"
    kill -TERM "$pid" && cluster_await_end "$pid"
}

# typed WORDS: an answer to the question of recover.
typed()
{
    echo "$1" | "$TIDEMARK" cluster recover --data "$CLUSTER_DIR/c$SURVIVOR" 2>&1
}

survivor_recovers()
{
    says "nothing was changed" typed wrong || return 1
    says "Lost is what the others had" typed "$(jq -r .cluster "$CLUSTER_DIR/identity/cluster.json")" || return 1
    "$TIDEMARKD" check-data "$CLUSTER_DIR/c$SURVIVOR" || return 1
    if [ "$SURVIVOR" = 4 ]; then fourth_start; else cluster_member_start "$SURVIVOR"; fi
    urls_of_running
    wait_for $SETTLE_S "it to lead alone" status_is ".led and (.members | length == 1) and .leader == $SURVIVOR"
}

declare -A NEW_PID
cluster_create "$SCENARIO_BUILD" && cluster_start 3 || { echo "not ok $SCENARIO_NAME/the group starts"; exit 1; }

expect "all is well, and said so" wait_for $SETTLE_S "a healthy group" status_is '.led and (.problems | length == 0)'
expect "three jobs and a node" things_to_keep
expect "whichever member is asked" every_member_tells
expect "a leader that stands still is seen by it" standing_still_is_seen
expect "and when it goes on" wait_for $SETTLE_S "a healthy group" status_is '.led and (.problems | length == 0)'
expect "an id that is taken" refuses 8 "member 2" tide cluster add 2 127.0.0.1:9:10
expect "an address that is taken" refuses 8 "member" tide cluster add 9 "$(cluster_member_address 2):$CLUSTER_PORT:$CLUSTER_PEER_PORT"
expect "nobody of that id" refuses 3 "no member 4" tide cluster promote 4
expect "an identity for a fourth" fourth_identity
expect "added by it" says "member 4 is a learner now" tide cluster add "$CLUSTER_DIR/identity/member-4"
expect "it is behind, and that is said" status_is '(.members[] | select(.id == 4) | .learner and .lag > 0 and (.connected | not)) and
    (.problems | any(startswith("member 4 is not")))'
expect "so it is not promoted" refuses 8 "member 4 does not answer" tide cluster promote 4
expect "nor in vain waited for" refuses 5 "waited 1.0 s for member 4" tide cluster promote 4 --wait --within 1s
expect "but as soon as it has caught up" fourth_is_waited_for
expect "four are no better than three, and that is said" status_is '.problems | any(startswith("4 voters survive"))'
expect "the leader is not removed unasked" refuses 8 "leads." tide cluster remove "$(cluster_leader)"
expect "but when told so" leader_removed
expect "another member leads when told to" other_leads
expect "the fourth leads when told to" says "member 4 leads now" tide cluster transfer 4
expect "and does" wait_for $SETTLE_S "member 4 to lead" led_by 4
expect "which it is told once" refuses 8 "leads already" tide cluster transfer 4
expect "any other, then" tide cluster transfer
expect "and it does" wait_for $SETTLE_S "another to lead" status_is '.led and .leader != 4'
expect "what was there is there" same_names

expect "a backup" backup_is_checked
expect "a spoiled one is refused" spoiled_is_refused
expect "so is the backup by its own cluster" refuses 1 "of this very cluster" "$TIDEMARK" cluster restore "$CLUSTER_DIR/backup" \
    --data "$CLUSTER_DIR/s" --identity "$CLUSTER_DIR/identity/member-1"
expect "the members of another cluster are restored" new_restored
expect "it has the same jobs and nodes, and goes on" new_is_the_same

expect "two of three are lost" two_are_lost
expect "one that runs is not recovered" refuses 1 "in use" "$TIDEMARK" cluster recover --data "$CLUSTER_DIR/c$SURVIVOR" --yes-lose-what-others-had
expect "the third is stopped" survivor_end
expect "and recovered, when the cluster's id is typed" survivor_recovers
expect "what was there is still there" same_names
expect "decisions are made again" tide run --name afterwards -- /bin/true
expect "the last voter stays" refuses 8 "the last voter" tide cluster remove "$SURVIVOR" --yes
scenario_end
