#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# One tidemarkd, driven with curl: nothing acknowledged is lost whenever it is killed, bad input is answered, watches wake.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

TIDEMARKD=$SCENARIO_BUILD/bin/tidemarkd
KILL_ROUNDS=${KILL_ROUNDS:-32}
KILL_SECONDS=90     # usually 20; on a machine that is busy with other things, fewer rounds must do …
KILL_ROUNDS_LEAST=8 # … but no fewer than these
WAKE_MS_MAX=8000    # less than any watch waits by itself
SUBMISSIONS_MAX=700 # a cluster remembers 1024 jobs
WORK=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-coordinator.XXXXXX")
DATA=$WORK/data
BODY=$WORK/body
PID=

cleanup()
{
    local pid
    for pid in $(jobs -p); do kill -9 "$pid" 2>/dev/null; done
    rm -rf "$WORK"
}
trap cleanup EXIT
trap '' PIPE # the server closes connections of ours, as it should

# ---- words ----

# daemon_start [OPTION…]: PID and ADDRESS; the port of an earlier start is kept.
daemon_start()
{
    # Through a pipe: a limit on the size of the daemon's files must not be one on what it says.
    "$TIDEMARKD" --data "$DATA" --listen "${ADDRESS:-127.0.0.1:0}" "$@" 2> >(exec cat >>"$WORK/log") &
    PID=$!
    wait_for 60 "the coordinator to answer" daemon_healthy
}

daemon_healthy()
{
    kill -0 "$PID" 2>/dev/null || { echo "it died"; tail -3 "$WORK/log"; return 1; }
    [ -s "$DATA/address" ] && ADDRESS=$(<"$DATA/address") &&
        [ "$(curl -sS -m 5 "http://$ADDRESS/healthz" 2>/dev/null)" = ok ]
}

daemon_kill()
{
    kill -9 "$PID" && { wait "$PID" 2>/dev/null; true; }
}

# Its exit status.
daemon_stop()
{
    kill -TERM "$PID" && timeout 60 tail --pid="$PID" -f /dev/null && wait "$PID"
}

# ask METHOD PATH [CURL OPTION…]: HTTP status on stdout, body in $BODY.
ask()
{
    local method=$1 path=$2
    shift 2
    curl -sS -m 20 -o "$BODY" -w '%{http_code}' -X "$method" "http://$ADDRESS$path" "$@"
}

# answers CODE WORDS METHOD PATH [CURL OPTION…]
answers()
{
    local code=$1 words=$2 got
    shift 2
    got=$(ask "$@")
    [ "$got" = "$code" ] && grep -qF -- "$words" "$BODY" || { echo "status $got, body $(head -c 400 "$BODY")"; return 1; }
}

submit()
{
    ask POST /v1/jobs -H "Idempotency-Key: $1" -d "{\"name\":\"$1\",\"argv\":[\"/bin/true\"]}"
}

# Milliseconds a command took, on stdout.
took()
{
    local begun
    begun=$(date +%s%3N)
    "$@" >/dev/null
    echo $(($(date +%s%3N) - begun))
}

between()
{
    [ "$1" -le "$2" ] && [ "$2" -le "$3" ] || { echo "$2 is not between $1 and $3"; return 1; }
}

hello()
{
    ask POST /v1/agent/register -d "{\"name\":\"$1\",\"uid\":\"0123456789abcdef\",\"incarnation\":\"$2\",\"host\":\"h\",
        \"address\":\"127.0.0.1\",\"mesh_port\":1,\"log_port\":2,\"slots\":2}"
}

# ---- killed at any moment ----

# Submits one job after the other, each under its own key until it is acknowledged; writes "name uid" of each that was.
submitter()
{
    local i code uid
    for ((i = 0; i < SUBMISSIONS_MAX; i++)); do
        until [ -e "$WORK/enough" ]; do
            code=$(BODY=$WORK/submitted submit "k-$i" 2>/dev/null)
            if [ "$code" = 200 ]; then
                uid=$(grep -o '"uid":"[0-9a-f]*"' "$WORK/submitted" | cut -d'"' -f4)
                echo "k-$i $uid" >>"$WORK/acked"
                break
            fi
            # Nobody there, or one that is stopping, is asked again; any other answer to a repeated key is wrong.
            case $code in 000 | 503) sleep 0.02 ;; *) echo "k-$i: $code $(cat "$WORK/submitted")" >>"$WORK/wrong"; return ;; esac
        done
        [ ! -e "$WORK/enough" ] || return
        sleep 0.03
    done
}

# Every acknowledged job is there once, with the uid that was acknowledged.
acked_are_there()
{
    local acked
    acked=$(sort "$WORK/acked" 2>/dev/null)
    [ "$(ask GET /v1/jobs)" = 200 ] || { echo "no list of jobs"; return 1; }
    jq -r '.jobs[] | .spec.name + " " + .uid' "$BODY" | sort >"$WORK/there"
    [ -z "$(comm -23 <(echo "$acked") "$WORK/there")" ] || { echo "lost: $(comm -23 <(echo "$acked") "$WORK/there")"; return 1; }
    [ -z "$(cut -d' ' -f1 "$WORK/there" | uniq -d)" ] || { echo "twice: $(cut -d' ' -f1 "$WORK/there" | uniq -d)"; return 1; }
}

survives_kills()
{
    local round submitter begun=$SECONDS
    daemon_start --snapshot-every 10 || return 1
    touch "$WORK/acked"
    submitter &
    submitter=$!
    for ((round = 1; round <= KILL_ROUNDS; round++)); do
        sleep "0.$((RANDOM % 3))$((RANDOM % 10))"
        daemon_kill
        daemon_start --snapshot-every 10 && acked_are_there || { echo "round $round"; touch "$WORK/enough"; return 1; }
        [ "$round" -lt $KILL_ROUNDS_LEAST ] || [ $((SECONDS - begun)) -lt $KILL_SECONDS ] || break
    done
    touch "$WORK/enough"
    wait $submitter
    [ ! -e "$WORK/wrong" ] || { cat "$WORK/wrong"; return 1; }
    [ "$(wc -l <"$WORK/acked")" -ge $((round < KILL_ROUNDS ? round : KILL_ROUNDS)) ] || { echo "hardly anything was submitted"; return 1; }
}

same_answer_again()
{
    local name uid
    while read -r name uid; do
        [ "$(submit "$name")" = 200 ] && grep -qF "\"uid\":\"$uid\"" "$BODY" || { echo "$name: $(cat "$BODY")"; return 1; }
    done < <(head -20 "$WORK/acked")
}

expect "nothing acknowledged is lost in $KILL_ROUNDS kills, or as many as there is time for" survives_kills
expect "a repeated key gets the first answer, after all that" same_answer_again
expect "snapshots were taken, and two are kept" test "$(find "$DATA" -name 'snap-*.img' | wc -l)" -eq 2
expect "check-data refuses a directory in use" says "in use" "$TIDEMARKD" check-data "$DATA"
JOBS=$(ask GET /v1/jobs >/dev/null; jq -S '[.jobs[] | {n: .spec.name, uid}]' "$BODY")
expect "SIGTERM ends it with 0" daemon_stop
expect "check-data finds all well" says "all is well" "$TIDEMARKD" check-data "$DATA"
expect "it starts again" daemon_start
expect "with the same jobs" equal "$(ask GET /v1/jobs >/dev/null; jq -S '[.jobs[] | {n: .spec.name, uid}]' "$BODY")" "$JOBS"

# ---- a slow client, looked at when its time is over ----

slow_client()
{
    local begun=$SECONDS
    exec 9<>"/dev/tcp/${ADDRESS%:*}/${ADDRESS##*:}" || return 1
    while printf 'G' >&9 2>/dev/null && [ $((SECONDS - begun)) -lt 40 ]; do sleep 1; done
    echo $((SECONDS - begun)) >"$WORK/slow"
}
slow_client 2>/dev/null &
SLOW=$!

# ---- one at a time ----

other()
{
    "$TIDEMARKD" --data "$1" --listen "$2" 2>&1
}
expect "a port in use is named" says "cannot listen on $ADDRESS" other "$WORK/other" "$ADDRESS"
expect "with the way out" says "--listen" other "$WORK/other" "$ADDRESS"
expect_status 1 "and is an error" other "$WORK/other" "$ADDRESS"
expect "a data directory in use is named" says "$DATA is in use by another tidemarkd (pid $PID)" other "$DATA" 127.0.0.1:0
expect_status 2 "no --data is a usage error" "$TIDEMARKD"
expect_status 2 "an unknown flag is one" "$TIDEMARKD" --data "$WORK/other" --frobnicate
expect_status 2 "a lease shorter than two heartbeats is one" "$TIDEMARKD" --data "$WORK/other" --lease-ms 300 --heartbeat-ms 200
expect "an address that is none is named" says "is not host:port" "$TIDEMARKD" --data "$WORK/other" --listen nonsense

# ---- bad input ----

expect "no such path is 404" answers 404 not_found GET /v1/nothing
expect "no such job is 404" answers 404 not_found GET /v1/jobs/nobody
expect "another method is 405" answers 405 "possible: GET" PUT /v1/cluster
expect "rubbish is 400" answers 400 "not JSON" POST /v1/jobs -d 'rubbish'
expect "an unknown field is named" answers 400 'unknown field \"nnode\"' POST /v1/jobs -d '{"name":"x","argv":["x"],"nnode":2}'
expect "no command is named" answers 400 "no command" POST /v1/jobs -d '{"name":"x","argv":[]}'
expect "a bad name is 404" answers 404 "no name a job can have" POST /v1/jobs/-x/cancel
expect "a key that is too long is refused" answers 400 "Idempotency-Key" POST /v1/jobs/x/cancel -H "Idempotency-Key: $(printf 'k%.0s' {1..65})"
expect "a body too many is refused" answers 400 "takes no body" POST /v1/jobs/x/cancel -d '{"now":true}'
expect "a bad watch is refused" answers 400 '\"after\"' GET '/v1/jobs?after=-1'
expect "nothing to roll back to is 409" answers 409 no_checkpoint POST "/v1/jobs/$(head -1 "$WORK/acked" | cut -d ' ' -f 1)/rollback"
expect "a heartbeat of a stranger is refused" answers 404 "" POST /v1/agent/heartbeat -d '{"node":"ghost","uid":"0123456789abcdef","incarnation":"0123456789abcdef","sequence":1}'
head -c 1500000 /dev/zero >"$WORK/large"
head -c 20000000 /dev/zero >"$WORK/huge"
expect "a body above 1 MiB is 413" answers 413 "larger than 1048576" POST /v1/jobs --data-binary @"$WORK/large"
expect "so is one sent in chunks" answers 413 "larger than 1048576" POST /v1/jobs -H 'Transfer-Encoding: chunked' --data-binary @"$WORK/large"
expect "and one far above it" answers 413 "larger than 1048576" POST /v1/jobs --data-binary @"$WORK/huge"
expect "a long path is 414" answers 414 limit GET "/v1/jobs/$(printf 'x%.0s' {1..2000})"

malformed()
{
    local answer
    exec 8<>"/dev/tcp/${ADDRESS%:*}/${ADDRESS##*:}" || return 1
    printf 'this is not HTTP\r\n\r\n\0\1\2' >&8
    answer=$(timeout 5 head -c 12 <&8 | tr -d '\0')
    exec 8>&-
    [ "${answer#HTTP/1.? }" != 200 ] && daemon_healthy
}
expect "what is not HTTP is not served" malformed

# ---- watches ----

deadline_holds()
{
    ask GET /v1/jobs >/dev/null
    between 280 "$(took ask GET "/v1/jobs?after=$(jq .revision "$BODY")&wait_ms=300")" $WAKE_MS_MAX
}

revision_of()
{
    ask GET "$1" >/dev/null
    jq .revision "$BODY"
}

# What earlier cases set in motion has come to rest.
settled()
{
    local before
    before=$(revision_of "$1")
    sleep 0.5
    [ "$before" = "$(revision_of "$1")" ]
}

# A watch of $1 returns when $2… has run, not before.
wakes()
{
    local path=$1 revision code begun
    shift
    wait_for 60 "$path to settle" settled "$path" || return 1
    revision=$(revision_of "$path")
    begun=$(date +%s%3N)
    curl -sS -m 20 -o "$WORK/woken" "http://$ADDRESS$path${MORE:-?}after=$revision&wait_ms=10000" &
    local watch=$!
    sleep 0.4
    kill -0 $watch 2>/dev/null || { echo "the watch returned for nothing: $(cat "$WORK/woken")"; return 1; }
    code=$("$@")
    [ "$code" = 200 ] || { echo "status $code: $(cat "$BODY")"; return 1; }
    wait $watch
    between 400 $(($(date +%s%3N) - begun)) $WAKE_MS_MAX || return 1
    [ "$(jq .revision "$WORK/woken")" -gt "$revision" ] || { echo "the revision did not grow"; return 1; }
}

INC=00000000000000aa
# The same from beat to beat: nobody is woken by it.
heartbeats()
{
    local sequence
    for ((sequence = 1; sequence < 200; sequence++)); do
        BODY=/dev/null ask POST /v1/agent/heartbeat -d "{\"node\":\"n1\",\"uid\":\"0123456789abcdef\",\"incarnation\":\"$INC\",
            \"sequence\":$sequence,\"health\":{\"facts\":[{\"probe\":\"disk\",\"state\":\"degraded\",\"serial\":7}]}}" >/dev/null 2>&1
        sleep 0.3
    done
}
expect "a watch ends at its deadline" deadline_holds
expect "a watch of all jobs wakes" wakes /v1/jobs submit w-1
expect "a watch of a job wakes" wakes /v1/jobs/w-1 ask POST /v1/jobs/w-1/cancel
expect "a node registers" equal "$(hello n1 $INC)" 200
heartbeats &
HEART=$!
sleep 0.5
expect "a watch of a node wakes" wakes /v1/nodes/n1 ask POST /v1/nodes/n1/drain
expect "a node is resumed" answers 200 n1 POST /v1/nodes/n1/resume

# The node has work since it registered: jobs of the kills were waiting.
desired_wakes()
{
    local job
    ask GET "/v1/agent/desired?node=n1&incarnation=$INC" >/dev/null
    job=$(jq -r '.jobs[0].spec.name' "$BODY")
    MORE='&' wakes "/v1/agent/desired?node=n1&incarnation=$INC" ask POST "/v1/jobs/$job/cancel" || return 1
    equal "$(jq -r ".jobs[] | select(.spec.name == \"$job\") | .run" "$WORK/woken")" stop
}
expect "a node's desired state wakes when its orders change" desired_wakes
welcome_serial()
{
    hello n1 $INC >/dev/null && equal "$(jq .health_serial "$BODY")" 7
}
expect "an agent that was started again hears how far its evidence is known" welcome_serial
expect "an older incarnation is refused" answers 409 stale GET "/v1/agent/desired?node=n1&incarnation=00000000000000bb"

# A revision from a larger past is answered at once, and with a larger one.
larger_past()
{
    local past=4000000000000000
    between 0 "$(took ask GET "/v1/jobs?after=$past&wait_ms=15000")" $WAKE_MS_MAX && [ "$(jq .revision "$BODY")" -gt $past ]
}
expect "a revision of another life is answered at once" larger_past

# Many parked watches, some of whose clients are gone, all wake.
many_watches()
{
    local i revision
    ask GET /v1/nodes >/dev/null
    revision=$(jq .revision "$BODY")
    for ((i = 0; i < 300; i++)); do echo "url = \"http://$ADDRESS/v1/nodes?after=$revision&wait_ms=15000\""; echo "output = \"$WORK/many.$i\""; done >"$WORK/many"
    timeout -s KILL 1.5 curl -sS -m 20 --parallel --parallel-immediate --parallel-max 300 -K "$WORK/many" 2>/dev/null
    rm -f "$WORK"/many.*
    curl -sS -m 20 --parallel --parallel-immediate --parallel-max 300 -K "$WORK/many" 2>/dev/null &
    local watch=$!
    sleep 2.5
    [ "$(ask POST /v1/nodes/n1/drain)" = 200 ] || return 1
    wait $watch
    [ "$(grep -lF '"cordoned":true' "$WORK"/many.* | wc -l)" -eq 300 ] || { echo "$(grep -lF '"cordoned":true' "$WORK"/many.* | wc -l) of 300"; return 1; }
}
expect "300 watches wake together, though 300 others hung up" many_watches

stop_with_watch()
{
    # Of a job that has ended: nothing else wakes it.
    curl -sS -m 20 -o "$WORK/left" -w '%{http_code}' "http://$ADDRESS/v1/jobs/w-1?after=$(revision_of /v1/jobs/w-1)&wait_ms=15000" \
        >"$WORK/left.code" &
    local watch=$!
    sleep 2
    daemon_stop || { echo "exit status $?"; return 1; }
    wait $watch
    equal "$(<"$WORK/left.code")" 503
}

slow_is_cut()
{
    wait "$SLOW"
    between 15 "$(<"$WORK/slow")" 30
}
kill $HEART && wait $HEART 2>/dev/null
expect "a client that trickles its request is cut" slow_is_cut
expect "SIGTERM answers those who watch, and ends with 0" stop_with_watch

# ---- damage ----

flip()
{
    local byte
    byte=$(od -An -tu1 -j "$2" -N 1 "$1" | tr -d ' ')
    # shellcheck disable=SC2059 # the format is the byte
    printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

LOG=$(find "$DATA" -name 'log-*.wal' | sort | tail -1)
flip "$LOG" 700
expect "a flipped bit in the log is refused, with the place" says "$LOG is corrupt: record" "$TIDEMARKD" --data "$DATA" --listen 127.0.0.1:0
expect_status 1 "and is an error" "$TIDEMARKD" --data "$DATA" --listen 127.0.0.1:0
expect "check-data says so" says "CORRUPT: record" "$TIDEMARKD" check-data "$DATA"
expect_status 1 "and ends with 1" "$TIDEMARKD" check-data "$DATA"
flip "$LOG" 700
SNAP=$(find "$DATA" -name 'snap-*.img' | sort | tail -1)
flip "$SNAP" 200
expect "a damaged snapshot costs nothing but its replay" daemon_start
expect "with the same jobs as before" acked_are_there
daemon_stop
echo "tidemark-data 99 from-the-future" >"$WORK/format" && cp "$DATA/format" "$WORK/format.ok" && cp "$WORK/format" "$DATA/format"
expect "a newer format is refused by number" says "format 99" "$TIDEMARKD" --data "$DATA" --listen 127.0.0.1:0
cp "$WORK/format.ok" "$DATA/format"

# A directory of a version that knew of no levels: it is gone on with, and at the level of this one within a moment. So does the
# directory then, and it says so when it is begun again.
older_directory()
{
    local DATA=$WORK/older ADDRESS="" golden=$SCENARIO_ROOT/tests/unit/data/golden-1
    cp -r "$golden" "$DATA" && rm "$DATA/state.json" && daemon_start || return 1
    [ "$(ask GET /v1/jobs)" = 200 ] && equal "$(jq '.jobs | length' "$BODY")" "$(jq '.jobs | length' "$golden/state.json")" || return 1
    wait_for 60 "the level of this version" at_newest_level || return 1
    answers 404 "no checkpoint 1" POST /v1/jobs/job-0/checkpoints/1/pin || return 1 # which is a command of this level
    daemon_stop && ADDRESS="" && daemon_start && at_newest_level && daemon_stop
}

at_newest_level()
{
    [ "$(ask GET /v1/cluster)" = 200 ] && [ "$(jq .level "$BODY")" -gt 0 ] && equal "$(jq .level "$BODY")" "$(jq .level_newest "$BODY")"
}
expect "a directory of an older version comes to the level of this one" older_directory

# ---- a disk that fails ----

write_error()
{
    daemon_start || return 1
    prlimit --pid "$PID" --fsize=4096
    local code
    code=$(submit after-the-error 2>/dev/null)
    [ "$code" != 200 ] || { echo "it acknowledged what it could not write"; return 1; }
    wait "$PID" 2>/dev/null
    [ $? -eq 134 ] || { echo "it did not abort"; return 1; }
    wait_for 60 "its last words" grep -qF "fatal: the log cannot be written" "$WORK/log" || { tail -3 "$WORK/log"; return 1; }
    daemon_start && acked_are_there && daemon_stop
}
if command -v prlimit >/dev/null; then
    expect "a failed write is never acknowledged, and ends it" write_error
else
    echo "skip $SCENARIO_NAME/a failed write # SKIP prlimit (util-linux) is not there"
fi

small_disk()
{
    local DATA=$WORK/small/data ADDRESS=
    mkdir -p "$WORK/small" && mount -t tmpfs -o size=112m tmpfs "$WORK/small" || return 1
    daemon_start && [ "$(submit before)" = 200 ] || return 1
    head -c $((50 << 20)) /dev/zero >"$WORK/small/fill"
    submit notices >/dev/null
    answers 503 "kept in reserve" POST /v1/jobs -d '{"name":"full","argv":["x"]}' || return 1
    [ "$(ask GET /v1/jobs/before)" = 200 ] || return 1
    rm "$WORK/small/fill"
    submit looks-again >/dev/null
    sleep 0.3
    [ "$(submit after)" = 200 ] || { cat "$BODY"; return 1; }
    daemon_stop
}
if [ "$(id -u)" -eq 0 ]; then apart=(unshare -m); else apart=(unshare -Urm); fi
if "${apart[@]}" true 2>/dev/null; then
    export -f small_disk daemon_start daemon_healthy daemon_stop submit ask answers wait_for
    export TIDEMARKD WORK BODY
    expect "a full disk: commands are refused in time, and taken again" "${apart[@]}" bash -c small_disk
else
    echo "skip $SCENARIO_NAME/a full disk # SKIP mounting a tmpfs needs root, or user namespaces"
fi
scenario_end
