# SPDX-License-Identifier: Apache-2.0
# For the scripts of tests/integration: one line "ok …" or "not ok …" per case on stdout, what went wrong on stderr.
#
#     . "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"
#     scenario_cluster 2 --slots 4     # coordinator, nodes n1 and n2
#     expect "the job ends well" tide job wait pulse --timeout 60s
#     scenario_end
# shellcheck shell=bash

SCENARIO_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/lib/cluster.sh
. "$SCENARIO_ROOT/tests/lib/cluster.sh"

SCENARIO_NAME=$(basename "$0" .sh)
SCENARIO_BUILD=${TIDE_BUILD:-$SCENARIO_ROOT/build-tests/plain}
SCENARIO_CLEAN_S=60 # what is still there then stays
PULSE=$SCENARIO_BUILD/tests/pulse
# shellcheck disable=SC2034 # for the scripts
TRAIN=$SCENARIO_BUILD/examples/mpi_mlp/train
SCENARIO_WATCH_MS=2000
SCENARIO_LAST_STEPS=400 # of 5 ms: what a rank does until its report is heard and the script has acted on it …
SCENARIO_STEPS_PER_MS=2 # … and so many more for what the question took: on a busy machine all of this is slow
SCENARIO_FAILED=0
SCENARIO_LOG_TAIL=15
SCENARIO_JOBS_SHOWN=8

# expect NAME COMMAND…: one case. Its output is shown when it fails.
expect()
{
    local name=$1 status file output
    shift
    # Not $(…): the command may start daemons and set variables of ours.
    file=$(mktemp) || return 1
    "$@" >"$file" 2>&1
    status=$?
    output=$(<"$file")
    rm -f "$file"
    if [ $status -eq 0 ]; then
        echo "ok $SCENARIO_NAME/$name"
        return 0
    fi
    echo "not ok $SCENARIO_NAME/$name"
    {
        echo "# $SCENARIO_NAME/$name: failed: $*"
        echo "#   ${output//$'\n'/$'\n'#   }"
        [ $SCENARIO_FAILED -ne 0 ] || scenario_explain # once: the first failure is what matters
    } >&2
    SCENARIO_FAILED=1
    return 1
}

# expect_status STATUS NAME COMMAND…: a case that wants another exit status than 0.
expect_status()
{
    local status=$1 name=$2
    shift 2
    expect "$name" scenario_status_is "$status" "$@"
}

scenario_status_is()
{
    local wanted=$1 status
    shift
    "$@"
    status=$?
    [ $status -eq "$wanted" ] || { echo "exit status $status, not $wanted"; return 1; }
}

# says TEXT COMMAND…: the command's output (whatever its status) holds the text.
says()
{
    local text=$1 output
    shift
    output=$("$@" 2>&1)
    grep -qF -- "$text" <<<"$output" || { echo "nothing about '$text' in: $output"; return 1; }
}

equal()
{
    [ "$1" = "$2" ] || { printf 'got:\n%s\nwanted:\n%s\n' "$1" "$2"; return 1; }
}

# free_ports COUNT: that nobody has now, for addresses that must be known before anybody listens there. Below those that the
# system gives to connections and to who listens on port 0: a test beside this one would get one of them at any moment.
free_ports()
{
    python3 -c 'import random, socket, sys
first, found, wanted = 12000, [], int(sys.argv[1])
end = int(open("/proc/sys/net/ipv4/ip_local_port_range").read().split()[0])
ports = range(first, end) if end > first + 1000 else range(first, 65536) # nothing is left below it
for port in random.sample(ports, len(ports)):
    if len(found) == wanted: break
    with socket.socket() as s:
        try: s.bind(("127.0.0.1", port))
        except OSError: continue
    found.append(port)
if len(found) < wanted: sys.exit("there are not so many free ports")
print(*found)' "$1"
}

# What the cluster thinks of its jobs, and the ends of the daemons' logs.
scenario_explain()
{
    local log job
    [ -n "${CLUSTER_DIR:-}" ] || return 0
    for job in $(cluster_get v1/jobs 2>/dev/null | jq -r ".jobs[-$SCENARIO_JOBS_SHOWN:][].spec.name" 2>/dev/null); do
        cluster_get "v1/jobs/$job" | jq -c '.job | {name: .spec.name, state, generation, reason},
            (.events // [] | .[-12:][] | [.kind, .node, .rank, .text])' 2>/dev/null | sed 's/^/#   /'
    done
    for log in "$CLUSTER_DIR"/*.log; do
        [ -s "$log" ] || continue
        echo "#   -- ${log##*/}"
        tail -n "$SCENARIO_LOG_TAIL" "$log" | sed 's/^/#   /'
    done
}

# scenario_cluster NODES [AGENT OPTION…]: the script cannot go on without.
scenario_cluster()
{
    local nodes=$1
    shift
    cluster_create "$SCENARIO_BUILD" && cluster_coordinator_start && cluster_agents_start 1 "$nodes" "$@" && return 0
    echo "not ok $SCENARIO_NAME/the cluster starts"
    exit 1
}

# pulse_hashes RANKS OPTION…: the last lines to expect from that many ranks, made by an undisturbed run of each.
pulse_hashes()
{
    local ranks=$1 rank
    shift
    for ((rank = 0; rank < ranks; rank++)); do
        env -u TIDEMARK_SOCKET RANK="$rank" "$PULSE" "$@" --step-ms 0 | grep hash
    done | sort
}

# job_hashes JOB: the last lines its ranks printed in the newest generation.
job_hashes()
{
    tide job logs "$1" 2>/dev/null | grep -o 'rank [0-9]* step [0-9]* hash [0-9a-f]*' | sort -u
}

# job_wait JOB [SECONDS]: asked for changes, not again and again: it is what scripts do most of their time.
job_wait()
{
    local deadline=$((SECONDS + ${2:-90})) view='' revision=0
    until [[ $view =~ \"ended_ms\":[1-9] ]]; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            cluster_say "gave up waiting: job $1 to end"
            return 1
        fi
        view=$(cluster_get "v1/jobs/$1?after=$revision&wait_ms=$SCENARIO_WATCH_MS") || sleep 0.1
        [[ ! $view =~ ^\{\"revision\":([0-9]+) ]] || revision=${BASH_REMATCH[1]}
    done
}

# job_let_end JOB: its ranks run "--until $CLUSTER_DIR/JOB.until", so that it lasts as long as there is something to do to it; now
# it may end, a few steps later than any of its ranks can be by now. ENDS_AT is its last step.
job_let_end()
{
    wait_for 60 "job $1 to train" job_newest_step "$1"
    ENDS_AT=$((ENDS_AT + LAST_STEPS))
    echo "$ENDS_AT" >"$CLUSTER_DIR/$1.until.new" && mv "$CLUSTER_DIR/$1.until.new" "$CLUSTER_DIR/$1.until"
}

# An agent that has just been started has not heard of its ranks' steps yet: they are at 0, and all have stepped nevertheless.
job_newest_step()
{
    local begun_us=${EPOCHREALTIME/[.,]/}
    ENDS_AT=$(cluster_job "$1" 'select(.job.all_stepped) | [.ranks[].report.step // 0] | select(min > 0) | max')
    LAST_STEPS=$((SCENARIO_LAST_STEPS + SCENARIO_STEPS_PER_MS * (${EPOCHREALTIME/[.,]/} - begun_us) / 1000))
    [ -n "$ENDS_AT" ]
}

# job_trains JOB: all of its ranks make steps.
job_trains()
{
    wait_for 60 "job $1 to train" job_newest_step "$1" && wait_for 60 "job $1 to make steps" cluster_job_at_step "$1" $((ENDS_AT + 20))
}

job_succeeds()
{
    job_wait "$1" "${2:-90}" && equal "$(cluster_job "$1" .job.state)" succeeded
}

# The digest in what an example has printed.
digest()
{
    sed -n 's/^.*parameters sha256 //p' | tail -n 1
}

# job_newest JOB: its newest committed checkpoint, 0: there is none.
job_newest()
{
    cluster_job "$1" '[(.job.ckpts // [])[] | select(.state == "committed") | .cut] | max // 0'
}

job_committed_after()
{
    [ "$(job_newest "$1")" -gt "$2" ]
}

# job_committed JOB [COUNT], job_restorable JOB [COUNT]: it has that many such checkpoints, or one.
job_committed()
{
    cluster_job_is "$1" "[(.job.ckpts // [])[] | select(.state == \"committed\")] | length >= ${2:-1}"
}

job_restorable()
{
    cluster_job_is "$1" "[(.job.ckpts // [])[] | select(.state | IN(\"sealed\", \"peered\", \"committed\"))] | length >= ${2:-1}"
}

# Pids of its ranks, in their order.
job_pids()
{
    cluster_ranks "$1" | cut -d' ' -f1 | xargs
}

# stayed RANKS BEFORE AFTER RANK…: of so many ranks these, and no other, are the processes they were.
stayed()
{
    local ranks=$1 before after rank same=()
    read -ra before <<<"$2"
    read -ra after <<<"$3"
    shift 3
    equal "${#before[@]} ${#after[@]}" "$ranks $ranks" || return 1
    for ((rank = 0; rank < ranks; rank++)); do
        [ "${before[rank]}" != "${after[rank]}" ] || same+=("$rank")
    done
    equal "${same[*]}" "$*"
}

nothing_left()
{
    wait_for "$SCENARIO_CLEAN_S" "leftovers to go" scenario_clean || { cluster_leftovers; return 1; }
}

scenario_clean()
{
    [ -z "$(cluster_leftovers)" ]
}

# In the logs of the daemons, of the steps and of the ranks.
no_sanitizer_report()
{
    ! grep -rE -A 20 --exclude-dir=store 'ERROR: [A-Za-z]+Sanitizer|WARNING: ThreadSanitizer|runtime error:' "$CLUSTER_DIR"
}

scenario_end()
{
    if grep -qs '^TIDE_SANITIZE:[A-Z]*=.' "$SCENARIO_BUILD/CMakeCache.txt" && [ -n "${CLUSTER_DIR:-}" ]; then
        expect "no sanitizer has anything to say" no_sanitizer_report
    fi
    exit "$SCENARIO_FAILED"
}
