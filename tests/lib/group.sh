# SPDX-License-Identifier: Apache-2.0
# A group of coordinators, for cluster.sh, which sources this:
#
#     cluster_create BUILD_DIR && cluster_start 3     # instead of cluster_coordinator_start; or CLUSTER_COORDINATORS=3
#     cluster_leader                                  # its number, 1 to 3
#     cluster_coordinator_kill                        # the leader's process; cluster_coordinator_start starts it again
#     cluster_member_kill 2; cluster_member_start 2
#     cluster_member_stop 3; cluster_member_continue 3
#     cluster_cut 1 2                                 # what 1 sends does not reach 2, and nobody is told
#     cluster_heal                                    # every member runs, and reaches every other
#     cluster_same                                    # … and they all hold the same
#
# Member M is node 200 + M of the cluster: as root a network namespace of its own, with certificates; else a loopback
# address, without, and what members say to each other goes through proxy.py.
# shellcheck shell=bash
# shellcheck disable=SC2034 # cluster.sh and the scripts read what is set here

CLUSTER_LIB=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd) # scripts change their directory
CLUSTER_MEMBER_NODE=200
CLUSTER_PEER_NODE=220      # + M: where member M listens behind the proxy
CLUSTER_PEER_PORT=7071
CLUSTER_SAME_S=30          # members that do not hold the same by then never will
CLUSTER_NOWHERE=02:00:00:00:00:01 # a hardware address that nobody has

# The coordinator's pids by member number; none for one that does not run.
declare -A CLUSTER_MEMBER_PID

cluster_is_group()
{
    [ "$CLUSTER_COORDINATORS" -gt 1 ]
}

cluster_members()
{
    seq "$CLUSTER_COORDINATORS"
}

cluster_member_address()
{
    cluster_address $((CLUSTER_MEMBER_NODE + $1))
}

# A member's own URL; without an argument those of all, separated by commas.
cluster_member_url()
{
    local member scheme=https urls=()
    cluster_is_root || scheme=http
    for member in ${1:-$(cluster_members)}; do
        urls+=("$scheme://$(cluster_member_address "$member"):$CLUSTER_PORT")
    done
    (IFS=,; echo "${urls[*]}")
}

# cluster_start COUNT: certificates, members, and a leader.
cluster_start()
{
    CLUSTER_COORDINATORS=$1
    cluster_coordinator_start
}

cluster_identities_create()
{
    local member members=() options=()
    [ ! -d "$CLUSTER_DIR/identity" ] || return 0
    for member in $(cluster_members); do
        members+=("$(cluster_member_address "$member"):$CLUSTER_PORT:$CLUSTER_PEER_PORT")
    done
    cluster_is_root || options+=(--insecure)
    "$CLUSTER_BUILD/bin/tidemark" cluster init --dir "$CLUSTER_DIR/identity" "${options[@]}" "${members[@]}" >/dev/null || return 1
    CLUSTER_URL=$(cluster_member_url)
    cluster_is_root || return 0
    CLUSTER_CURL=(--cacert "$CLUSTER_DIR/identity/admin/ca.pem" --cert "$CLUSTER_DIR/identity/admin/cert.pem"
        --key "$CLUSTER_DIR/identity/admin/key.pem")
    CLUSTER_AGENT_ACCESS=(--identity "$CLUSTER_DIR/identity/agent")
    export TIDEMARK_IDENTITY="$CLUSTER_DIR/identity/admin"
}

# Loopback addresses: the network between members.
cluster_proxy_start()
{
    local member ways=()
    [ ! -e "$CLUSTER_DIR/network" ] || return 0
    mkfifo "$CLUSTER_DIR/network" || return 1
    for member in $(cluster_members); do
        ways+=("$member=$(cluster_member_address "$member"):$CLUSTER_PEER_PORT=$(cluster_peer_listen "$member")")
    done
    (cluster_in 0 python3 "$CLUSTER_LIB/proxy.py" "$CLUSTER_DIR/network" "${ways[@]}" \
        >>"$CLUSTER_DIR/network.log" 2>&1) &
    CLUSTER_PROXY_PID=$!
    disown
}

cluster_peer_listen()
{
    echo "$(cluster_address $((CLUSTER_PEER_NODE + $1))):$CLUSTER_PEER_PORT"
}

# cluster_network WORDS…: a line for proxy.py, which must live, or nobody would read it.
cluster_network()
{
    kill -0 "$CLUSTER_PROXY_PID" && echo "$*" >"$CLUSTER_DIR/network"
}

cluster_member_start()
{
    local member=$1 node=$((CLUSTER_MEMBER_NODE + $1)) options=()
    if cluster_is_root; then
        cluster_node_create "$node" || return 1
    else
        cluster_proxy_start || return 1
        options=(--peer-listen "$(cluster_peer_listen "$member")")
    fi
    (cluster_in "$node" "$CLUSTER_BUILD/bin/tidemarkd" --data "$CLUSTER_DIR/c$member" --store "file://$CLUSTER_DIR/store" \
        --identity "$CLUSTER_DIR/identity/member-$member" "${options[@]}" "${CLUSTER_COORDINATOR_OPTIONS[@]}" \
        >>"$CLUSTER_DIR/c$member.log" 2>&1) &
    CLUSTER_MEMBER_PID[$member]=$!
    disown
}

# kill -9.
cluster_member_kill()
{
    local pid=${CLUSTER_MEMBER_PID[$1]}
    unset "CLUSTER_MEMBER_PID[$1]"
    kill -9 "$pid" && cluster_await_end "$pid"
}

cluster_member_stop()
{
    kill -STOP "${CLUSTER_MEMBER_PID[$1]}"
}

cluster_member_continue()
{
    kill -CONT "${CLUSTER_MEMBER_PID[$1]}"
}

# Start every member that does not run, and wait until all of them are healthy.
cluster_group_start()
{
    local member
    cluster_identities_create || return 1
    for member in $(cluster_members); do
        [ -n "${CLUSTER_MEMBER_PID[$member]:-}" ] || cluster_member_start "$member" || return 1
    done
    for member in $(cluster_members); do
        wait_for "$CLUSTER_READY_S" "member $member to be healthy" cluster_member_get "$member" healthz && continue
        cluster_say "the end of its log:"
        tail -n 20 "$CLUSTER_DIR/c$member.log" >&2
        return 1
    done
}

# cluster_member_get M PATH: what this very member answers.
cluster_member_get()
{
    (cluster_in 0 curl -sf --connect-timeout 1 --max-time 5 "${CLUSTER_CURL[@]}" "$(cluster_member_url "$1")/$2")
}

# The leader's number, as the members that run see it: the one of the highest term.
cluster_leader()
{
    local member view best=0 leader='' term said
    for member in "${!CLUSTER_MEMBER_PID[@]}"; do
        view=$(cluster_member_get "$member" 'v1/cluster?stale=true' 2>/dev/null) || continue
        read -r term said < <(jq -r '[.members[] | select(.leader)][0] | select(.) | "\(.term) \(.id)"' <<<"$view")
        if [ -n "${said:-}" ] && [ "$term" -gt "$best" ]; then
            best=$term
            leader=$said
        fi
    done
    [ -n "$leader" ] && echo "$leader"
}

# The same, waited for: sets CLUSTER_LEADER.
cluster_leader_known()
{
    CLUSTER_LEADER=$(cluster_leader)
}

cluster_await_leader()
{
    wait_for "$CLUSTER_READY_S" "a member to lead" cluster_leader_known
}

# ---- the network between members ----

# cluster_cut FROM TO: nothing gets there, neither end is told, and the other way still works. In a namespace: frames go to
# a hardware address that nobody has.
cluster_cut()
{
    if ! cluster_is_root; then
        cluster_network cut "$1" "$2"
        return
    fi
    ip -n "$(cluster_namespace $((CLUSTER_MEMBER_NODE + $1)))" neigh replace "$(cluster_member_address "$2")" \
        lladdr "$CLUSTER_NOWHERE" dev eth0 nud permanent
}

# cluster_isolate M: from all other members, both ways. Clients still reach it.
cluster_isolate()
{
    local other
    for other in $(cluster_members); do
        [ "$other" = "$1" ] || { cluster_cut "$1" "$other" && cluster_cut "$other" "$1"; } || return 1
    done
}

# cluster_slow FROM TO MS: loopback addresses only.
cluster_slow()
{
    cluster_network delay "$1" "$2" "$3"
}

# cluster_unplug M, cluster_plug M: the cable; clients do not reach it either. Namespaces only.
cluster_unplug()
{
    ip -n "$(cluster_namespace 0)" link set "n$((CLUSTER_MEMBER_NODE + $1))" down
}

cluster_plug()
{
    ip -n "$(cluster_namespace 0)" link set "n$((CLUSTER_MEMBER_NODE + $1))" up
}

# All cuts are mended, nothing is slow, all cables are plugged in.
cluster_mend()
{
    local member
    if ! cluster_is_root; then
        cluster_network mend
        return
    fi
    for member in $(cluster_members); do
        cluster_plug "$member"
        ip -n "$(cluster_namespace $((CLUSTER_MEMBER_NODE + member)))" neigh flush nud permanent dev eth0
    done
}

# Besides, all members run.
cluster_heal()
{
    local member
    cluster_mend
    for member in "${!CLUSTER_MEMBER_PID[@]}"; do
        cluster_member_continue "$member"
    done
    cluster_group_start
}

# ---- do they hold the same? ----

# What a member holds itself, whoever leads: everything it serves of jobs and nodes, without what is its own count.
cluster_member_digest()
{
    local jobs nodes
    jobs=$(cluster_member_get "$1" 'v1/jobs?stale=true') && nodes=$(cluster_member_get "$1" 'v1/nodes?stale=true') || return 1
    jq -cS 'del(.revision) | walk(if type == "object" then del(.silent_ms, .version) else . end)' <<<"$jobs $nodes" |
        sha256sum | cut -d ' ' -f 1
}

cluster_digests_equal()
{
    local member digest first=''
    for member in $(cluster_members); do
        digest=$(cluster_member_digest "$member") || return 1
        [ -n "$first" ] || first=$digest
        [ "$digest" = "$first" ] || return 1
    done
}

# Every member, asked for its own state, answers the same.
cluster_same()
{
    wait_for "$CLUSTER_SAME_S" "all members to hold the same" cluster_digests_equal
}
