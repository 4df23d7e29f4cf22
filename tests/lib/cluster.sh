# SPDX-License-Identifier: Apache-2.0
# A Tidemark cluster of real processes on this machine: a coordinator and any number of agents, each a node of its own
# (state directory, host name, address). As root every node is a network namespace behind a bridge in one more namespace,
# so that two clusters never see each other; else every node is a loopback address.
#
#     . tests/lib/cluster.sh
#     cluster_create BUILD_DIR            # a private directory; everything is taken down when the script ends
#     cluster_coordinator_start
#     cluster_agent_start 1 --slots 4     # node n1
#     tide node list                      # the CLI, where it reaches the cluster
#     cluster_node_kill 1                 # as if the plug were pulled
#
# Whatever a daemon starts inherits CLUSTER_TEST_NODE=<cluster>/<node> (not TIDEMARK_…: a step scrubs those). Processes are
# found by that mark, as orphans keep it.
# shellcheck shell=bash

CLUSTER_READY_S=60     # a daemon that does not answer by then has failed
CLUSTER_GONE_S=60      # a killed process that is still there by then is an error
CLUSTER_PORT=7070
CLUSTER_COORDINATORS=${CLUSTER_COORDINATORS:-1} # more: a group (group.sh)
CLUSTER_SUBNET=10.77.0 # private to the cluster's namespaces

# Who its user is elsewhere is nobody here.
unset TIDEMARK_COORDINATOR TIDEMARK_IDENTITY TIDEMARK_TOKEN TIDEMARK_CACERT TIDEMARK_JOIN_TOKEN

# shellcheck source=tests/lib/group.sh
. "$(dirname "${BASH_SOURCE[0]}")/group.sh"

cluster_say()
{
    echo "cluster: $*" >&2
}

# wait_for SECONDS WHAT COMMAND…: run the command every 100 ms until it succeeds. Says what was missing when it never did.
wait_for()
{
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ "$SECONDS" -ge "$deadline" ]; then
            cluster_say "gave up waiting: $what"
            return 1
        fi
        sleep 0.1
    done
}

# ---- nodes ----

cluster_is_root()
{
    [ "$EUID" -eq 0 ] && [ "${CLUSTER_LOOPBACK:-0}" = 0 ]
}

# The address of node I; 0 is the coordinator's.
cluster_address()
{
    if cluster_is_root; then
        echo "$CLUSTER_SUBNET.$(($1 + 1))"
    else
        # Two clusters of one machine differ in their ids, and 127.0.0.0/8 is all this machine's.
        echo "127.$((CLUSTER_ID / 240 % 240 + 10)).$((CLUSTER_ID % 240 + 10)).$(($1 + 1))"
    fi
}

cluster_namespace()
{
    echo "tidemark-$CLUSTER_ID-$1"
}

# Where the coordinator and the CLI live; in it the bridge. Its address is set: else it is that of one of its ports, and changes
# when a node is added, so that packets of the others go astray for seconds.
cluster_hub_create()
{
    local hub
    hub=$(cluster_namespace 0)
    ip netns add "$hub" && ip -n "$hub" link set lo up && ip -n "$hub" link add br0 type bridge &&
        ip -n "$hub" link set br0 address 02:00:00:00:00:fe && ip -n "$hub" addr add "$(cluster_address 0)/24" dev br0 && ip -n "$hub" link set br0 up
}

cluster_node_create()
{
    local hub node
    hub=$(cluster_namespace 0)
    node=$(cluster_namespace "$1")
    [ -e "/run/netns/$node" ] && return 0
    ip netns add "$node" && ip -n "$node" link set lo up &&
        ip -n "$hub" link add "n$1" type veth peer name eth0 netns "$node" &&
        ip -n "$hub" link set "n$1" master br0 up && ip -n "$node" addr add "$(cluster_address "$1")/24" dev eth0 &&
        ip -n "$node" link set eth0 up
}

# cluster_in I COMMAND…: run it on node I, in place of this shell. 0 is the coordinator's, and keeps the machine's host name, as
# clients ask from there all the time. Not "ip netns exec": that hides the cgroups.
cluster_in()
{
    local node=$1
    shift
    export CLUSTER_TEST_NODE="$CLUSTER_ID/$node"
    if cluster_is_root; then
        [ "$node" -ne 0 ] || exec nsenter --net="/run/netns/$(cluster_namespace 0)" -- "$@"
        # shellcheck disable=SC2016 # the inner shell expands these
        exec nsenter --net="/run/netns/$(cluster_namespace "$node")" unshare --uts -- \
            sh -c 'hostname "$0" && exec "$@"' "$(cluster_host "$node")" "$@"
    fi
    exec "$@"
}

cluster_name()
{
    if [ "$1" -eq 0 ]; then
        echo coordinator
    elif [ "$1" -gt "$CLUSTER_MEMBER_NODE" ]; then
        echo "c$(($1 - CLUSTER_MEMBER_NODE))"
    else
        echo "n$1"
    fi
}

# The host name: no other cluster has it.
cluster_host()
{
    echo "$(cluster_name "$1")-$CLUSTER_ID"
}

# ---- processes ----

# Pids of all processes of node I, one per line; without an argument, of the whole cluster.
cluster_pids()
{
    local file mark="CLUSTER_TEST_NODE=$CLUSTER_ID/${1:-}"
    [ -z "${1:-}" ] || mark="$mark\$"
    grep -lsz "^$mark" /proc/[0-9]*/environ 2>/dev/null | while IFS=/ read -r _ _ file _; do
        # Zombies hold nothing; whoever must reap them is another matter.
        [ "$file" = "$$" ] || [ "$file" = "$BASHPID" ] || grep -qs '^State:.Z' "/proc/$file/status" || echo "$file"
    done
    if cluster_is_root && [ -n "${1:-}" ] && [ -e "/run/netns/$(cluster_namespace "$1")" ]; then
        ip netns pids "$(cluster_namespace "$1")"
    fi
}

cluster_no_pids()
{
    [ -z "$(cluster_pids "$@")" ]
}

# Kill everything of a node (or, without an argument, of the cluster), again until nothing is left: a process may fork meanwhile.
cluster_kill_all()
{
    local pids tries
    for tries in 1 2 3 4 5 6 7 8 9 10; do
        mapfile -t pids < <(cluster_pids "$@" | sort -un)
        [ ${#pids[@]} -gt 0 ] || return 0
        kill -9 "${pids[@]}" 2>/dev/null
        wait_for 1 "processes ${pids[*]} to go ($tries)" cluster_no_pids "$@" 2>/dev/null && return 0
    done
    cluster_say "cannot kill: $(cluster_pids "$@" | tr '\n' ' ')"
    return 1
}

# Pids of the ranks of a job, "PID RANK NODE" per line, by what a rank finds in its environment.
cluster_ranks()
{
    local job=$1 pid environment
    for pid in $(cluster_pids | sort -un); do
        environment=$(tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null) || continue
        grep -q "^TIDEMARK_JOB=$job\$" <<<"$environment" || continue
        sed -n "s|^RANK=\\([0-9]*\\)\$|$pid \\1|p" <<<"$environment" | tr '\n' ' '
        sed -n "s|^CLUSTER_TEST_NODE=$CLUSTER_ID/||p" <<<"$environment"
    done | sort -n -k2
}

# cluster_rank_kill JOB RANK [SIGNAL]
cluster_rank_kill()
{
    local pid rank
    while read -r pid rank _; do
        [ "$rank" = "$2" ] || continue
        kill "-${3:-9}" "$pid"
        return
    done < <(cluster_ranks "$1")
    cluster_say "job $1 has no rank $2 running"
    return 1
}

# ---- daemons ----

# The coordinator's further options, for each start: CLUSTER_COORDINATOR_OPTIONS=(…).
CLUSTER_COORDINATOR_OPTIONS=()
CLUSTER_AGENT_ACCESS=() # options of agents, and of curl, that let them in
CLUSTER_CURL=()

# Of a group: every member that does not run.
cluster_coordinator_start()
{
    if cluster_is_group; then
        cluster_group_start
        return
    fi
    (cluster_in 0 "$CLUSTER_BUILD/bin/tidemarkd" --data "$CLUSTER_DIR/coordinator" --store "file://$CLUSTER_DIR/store" \
        --listen "$(cluster_address 0):$CLUSTER_PORT" --insecure "${CLUSTER_COORDINATOR_OPTIONS[@]}" \
        >>"$CLUSTER_DIR/coordinator.log" 2>&1) &
    CLUSTER_COORDINATOR_PID=$!
    disown # bash would print a line when it is killed
    wait_for "$CLUSTER_READY_S" "the coordinator to answer" cluster_coordinator_settled
    if ! cluster_get healthz >/dev/null; then
        cluster_say "the coordinator does not run; the end of its log:"
        tail -n 20 "$CLUSTER_DIR/coordinator.log" >&2
        return 1
    fi
}

# It answers, or has ended.
cluster_coordinator_settled()
{
    cluster_get healthz || ! kill -0 "$CLUSTER_COORDINATOR_PID" 2>/dev/null
}

cluster_await_end()
{
    wait_for "$CLUSTER_GONE_S" "process $1 to end" cluster_ended "$1"
}

cluster_ended()
{
    ! kill -0 "$1"
}

# kill -9. The agents and the ranks go on. Of a group: the leader.
cluster_coordinator_kill()
{
    if cluster_is_group; then
        cluster_await_leader && cluster_member_kill "$CLUSTER_LEADER"
        return
    fi
    kill -9 "$CLUSTER_COORDINATOR_PID"
    cluster_await_end "$CLUSTER_COORDINATOR_PID"
    CLUSTER_COORDINATOR_PID=
}

# It stands still, and goes on. Of a group: the leader, and the same one again.
cluster_coordinator_stop()
{
    if cluster_is_group; then
        cluster_await_leader || return
        CLUSTER_COORDINATOR_PID=${CLUSTER_MEMBER_PID[$CLUSTER_LEADER]}
    fi
    kill -STOP "$CLUSTER_COORDINATOR_PID"
}

cluster_coordinator_continue()
{
    kill -CONT "$CLUSTER_COORDINATOR_PID"
}

# What happens on this machine is not to drain the nodes of a test: CLUSTER_PROBES says what is watched.
# cluster_agent_start I [OPTION…]; the same options again when it is started again without any.
declare -A CLUSTER_AGENT_OPTIONS CLUSTER_AGENT_PID
cluster_agent_start()
{
    local node=$1 options=()
    shift
    [ $# -eq 0 ] || CLUSTER_AGENT_OPTIONS[$node]=$*
    read -ra options <<<"${CLUSTER_AGENT_OPTIONS[$node]:-}"
    if cluster_is_root; then cluster_node_create "$node" || return 1; fi
    # Its own process group: a terminal's ^C ends the script, which then takes the agents down itself.
    (cluster_in "$node" "$CLUSTER_BUILD/bin/tidemark-agent" --coordinator "$CLUSTER_URL" --name "$(cluster_name "$node")" \
        --probes "${CLUSTER_PROBES:-none}" --host-name "$(cluster_host "$node")" --address "$(cluster_address "$node")" --state "$CLUSTER_DIR/n$node" \
        "${CLUSTER_AGENT_ACCESS[@]}" "${options[@]}" >>"$CLUSTER_DIR/n$node.log" 2>&1) &
    CLUSTER_AGENT_PID[$node]=$!
    disown
}

# cluster_agents_start FIRST LAST [OPTION…], and wait until the coordinator has them all.
cluster_agents_start()
{
    local node first=$1 last=$2
    shift 2
    for ((node = first; node <= last; node++)); do
        cluster_agent_start "$node" "$@" || return 1
    done
    for ((node = first; node <= last; node++)); do
        wait_for "$CLUSTER_READY_S" "node n$node to be ready" cluster_node_is "n$node" ready || {
            tail -n 20 "$CLUSTER_DIR/n$node.log" >&2
            return 1
        }
    done
}

# kill -9 the agent alone; its steps and ranks go on.
cluster_agent_kill()
{
    kill -9 "${CLUSTER_AGENT_PID[$1]}"
    cluster_await_end "${CLUSTER_AGENT_PID[$1]}"
    unset "CLUSTER_AGENT_PID[$1]"
}

# As if the plug were pulled: agent, steps and ranks at once, and what its memory held.
cluster_node_kill()
{
    local uid
    cluster_kill_all "$1" || return 1
    unset "CLUSTER_AGENT_PID[$1]"
    uid=$(cat "$CLUSTER_DIR/n$1/node.uid" 2>/dev/null) || return 0
    [ -z "$uid" ] || rm -rf "/dev/shm/tidemark-$uid"
}

# ---- questions ----

# The CLI, as a user would run it.
tide()
{
    (export TIDEMARK_COORDINATOR="$CLUSTER_URL"; cluster_in 0 "$CLUSTER_BUILD/bin/tidemark" "$@")
}

# cluster_get PATH: what the API answers.
cluster_get()
{
    local url
    for url in ${CLUSTER_URL//,/ }; do
        (cluster_in 0 curl -sfL --connect-timeout 1 --max-time 5 "${CLUSTER_CURL[@]}" "$url/$1") && return 0
    done
    return 1
}

# cluster_job JOB JQ_EXPRESSION: a value of the job's view.
cluster_job()
{
    cluster_get "v1/jobs/$1" | jq -r "$2"
}

# cluster_job_is JOB JQ_CONDITION: for wait_for.
cluster_job_is()
{
    cluster_get "v1/jobs/$1" | jq -e "$2"
}

# Smallest step that all ranks of the job have reached in this generation, or beyond.
cluster_job_at_step()
{
    cluster_get "v1/jobs/$1" | jq -e --argjson step "$2" \
        '(.ranks | length) > 0 and .job.all_stepped and ([.ranks[].report.step // 0] | min) >= $step'
}

cluster_node_is()
{
    cluster_get "v1/nodes/$1" | jq -e --arg state "$2" '.node.state == $state'
}

# ---- begin and end ----

# What is left of the cluster besides its daemons, one line each: nothing when no job runs and nobody leaks.
cluster_leftovers()
{
    local pid uid_file uid path
    for pid in $(cluster_pids | sort -un); do
        case $(readlink "/proc/$pid/exe" 2>/dev/null) in
        "" | */bin/tidemarkd | */bin/tidemark-agent | */bin/tidemark) ;;
        *) echo "process $pid: $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)" ;;
        esac
    done
    for uid_file in "$CLUSTER_DIR"/n*/node.uid; do
        uid=$(cat "$uid_file" 2>/dev/null) || continue
        # Files only: an empty directory holds no memory.
        find "/dev/shm/tidemark-$uid" -type f -printf 'shared memory %p\n' 2>/dev/null
        find /sys/fs/cgroup -maxdepth 6 -type d -path "*tidemark*$uid*/*" -printf 'cgroup %p\n' 2>/dev/null
    done
    for path in /dev/shm/vader_segment.*-"$CLUSTER_ID".*; do
        [ ! -e "$path" ] || echo "shared memory $path"
    done
}

# cluster_create BUILD_DIR
cluster_create()
{
    CLUSTER_BUILD=$(cd "$1" && pwd) || return 1
    CLUSTER_ID=$$
    CLUSTER_DIR=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-cluster.XXXXXX") || return 1
    trap cluster_down EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    CLUSTER_URL="http://$(cluster_address 0):$CLUSTER_PORT"
    mkdir "$CLUSTER_DIR/store"
    export XDG_STATE_HOME="$CLUSTER_DIR/home" # what tidemark keeps is this cluster's
    if cluster_is_root; then
        cluster_sweep
        cluster_hub_create || {
            cluster_say "network namespaces cannot be made here; set CLUSTER_LOOPBACK=1 to use loopback addresses"
            return 1
        }
    fi
}

# Namespaces of clusters whose script was killed before it could take them down.
cluster_sweep()
{
    local path id
    for path in /run/netns/tidemark-*-*; do
        id=${path#/run/netns/tidemark-}
        id=${id%-*}
        if [ -e "$path" ] && [ ! -e "/proc/$id" ] && [ -z "$(ip netns pids "${path##*/}")" ]; then
            ip netns del "${path##*/}"
        fi
    done
}

# Take everything down. Runs once, when the script ends. CLUSTER_KEEP=1 keeps the logs and says where they are.
cluster_down()
{
    local status=$? uid_file uid path
    trap - EXIT
    trap '' INT TERM HUP
    cluster_kill_all || status=1
    for uid_file in "$CLUSTER_DIR"/n*/node.uid; do
        uid=$(cat "$uid_file" 2>/dev/null) || continue
        [ -n "$uid" ] || continue
        rm -rf "/dev/shm/tidemark-$uid" "/tmp/tidemark-$uid"
        find /sys/fs/cgroup -maxdepth 6 -depth -type d -path "*tidemark*$uid*" -exec rmdir {} + 2>/dev/null
    done
    for path in /run/netns/tidemark-"$CLUSTER_ID"-*; do
        [ ! -e "$path" ] || ip netns del "${path##*/}" || status=1
    done
    if [ "${CLUSTER_KEEP:-0}" = 0 ]; then
        rm -rf "$CLUSTER_DIR"
    else
        cluster_say "logs are kept in $CLUSTER_DIR"
    fi
    exit "$status"
}
