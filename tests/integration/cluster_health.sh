#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A GPU falls off the bus in the middle of training, then a cable is pulled: each time the right node is blamed and drained, its spare
# takes over, and the training ends with the bits it has undisturbed. GPUs are tests/lib/sim_nvml.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

VERDICT_MS_MAX=8000 # a second, where nothing else runs, as is printed; this is for machines that are busy
# shellcheck disable=SC2034 # for cluster.sh
CLUSTER_PROBES=gpu,nic

nvml()
{
    echo "$CLUSTER_DIR/$1.nvml"
}

# Agents that find the simulator under NVML's name.
health_cluster()
{
    local node
    cluster_create "$SCENARIO_BUILD" && cluster_coordinator_start || return 1
    for node in 1 2 3; do
        : >"$(nvml "n$node")"
        export SIM_NVML LD_LIBRARY_PATH="$SCENARIO_BUILD/sim_nvml"
        SIM_NVML=$(nvml "n$node")
        cluster_agent_start "$node" --slots 2 --nic eth1 || return 1
        unset LD_LIBRARY_PATH
    done
    for node in 1 2 3; do
        wait_for 60 "n$node to be ready" cluster_node_is "n$node" ready || return 1
    done
}

# A second interface, with a cable to nowhere.
plug()
{
    local ns
    ns=$(cluster_namespace "${1#n}")
    ip -n "$ns" link add eth1 type veth peer name cable1 && ip -n "$ns" link set eth1 up && ip -n "$ns" link set cable1 up
}

pull()
{
    ip -n "$(cluster_namespace "${1#n}")" link set cable1 down
}

committed()
{
    cluster_job_is pulse '[(.job.ckpts // [])[] | select(.state == "committed" and .generation == '"$1"')] | length > 0'
}

runs_on()
{
    cluster_job_is pulse ".job.all_stepped and (.job.nodes | sort) == ([\"$1\", \"$2\"] | sort)"
}

# verdict_in_time NODE T0: from the fault at T0 to the entry in the coordinators' log, and to the first step of all ranks.
verdict_in_time()
{
    local told steps
    told=$(cluster_job pulse "[.job.events[] | select(.kind == \"node_health\" and .node == \"$1\")][-1].at_ms")
    steps=$(cluster_job pulse '.job.recoveries[-1] | .at_ms - .detect_ms + .total_ms')
    echo "# $SCENARIO_NAME: fault to verdict $((told - $2)) ms, to training again $((steps - $2)) ms" >&3
    [ $((told - $2)) -le $VERDICT_MS_MAX ] || { echo "$((told - $2)) ms, more than $VERDICT_MS_MAX"; return 1; }
}

now_ms()
{
    echo $(($(date +%s%N) / 1000000))
}

exec 3>&1
health_cluster || { echo "not ok $SCENARIO_NAME/the cluster starts"; exit 1; }
expect "the simulator says what it is" says "is a simulator" cat "$CLUSTER_DIR/n1.log"
expect "GPUs are watched" says "2 GPUs are watched" cat "$CLUSTER_DIR/n1.log"
if cluster_is_root; then for NODE in n1 n2 n3; do plug $NODE; done; fi
tide run --name pulse --nnodes 2 --spares 1 --nproc-per-node 2 --launcher none --ckpt-every 300ms -- "$PULSE" --until "$CLUSTER_DIR/pulse.until"
wait_for 60 "a committed checkpoint" committed 1
SICK=$(cluster_job pulse '.job.nodes[1]')
SPARE=$(cluster_job pulse '.job.spares[0]')
STAYS=$(cluster_job pulse '.job.nodes[0]')

# What must not alarm: a program's fault, the end of a process, a row that was remapped as it should be.
printf 'xid 0 43\nxid 0 45\nxid 1 63\necc 0 12 0\n' >>"$(nvml "$STAYS")"
T0=$(now_ms)
echo "xid 1 79" >>"$(nvml "$SICK")"
expect "the spare takes the place of the node whose GPU fell off the bus" wait_for 60 "the spare to train" runs_on "$STAYS" "$SPARE"
expect "it was noticed in time" verdict_in_time "$SICK" "$T0"
expect "that node is drained" cluster_node_is "$SICK" drained
expect "the evidence names probe, GPU and Xid" says "xid: GPU 0000:66:00: Xid 79, GPU has fallen off the bus" tide node show "$SICK"
expect "so does the job's history" says "node $SICK is failed: xid: GPU 0000:66:00: Xid 79" tide job events pulse
expect "the cause is in the recovery" equal "$(cluster_job pulse '.job.recoveries[-1] | "\(.cause) \(.node)"')" "node_health $SICK"
expect "nobody else is blamed" equal "$(cluster_get v1/nodes | jq -r '[.nodes[].node | select((.evidence // []) != []) | .name] | join(" ")')" "$SICK"
expect "it can be given back by hand" tide node resume "$SICK"
expect "and is, though its evidence is still known" cluster_node_is "$SICK" ready

if cluster_is_root; then
    wait_for 60 "a committed checkpoint" committed 2
    T0=$(now_ms)
    expect "a cable can be pulled" pull "$STAYS"
    expect "another node takes over" wait_for 60 "$SICK to train again" runs_on "$SPARE" "$SICK"
    expect "it was noticed in time, too" verdict_in_time "$STAYS" "$T0"
    expect "that node is drained, too" cluster_node_is "$STAYS" drained
    expect "its evidence is the link" says "nic: eth1: its link is down" tide node show "$STAYS"
fi

echo "hang 60" >>"$(nvml "$STAYS")"
job_let_end pulse
expect "the job succeeds" job_succeeds pulse
expect "its ranks computed what they would have alone" equal "$(job_hashes pulse)" "$(pulse_hashes 4 --steps "$ENDS_AT")"
expect "an NVML that does not answer is evidence" wait_for 60 "it to be told" says "nvml: NVML: NVML does not answer" tide node show "$STAYS"
expect "and does not keep the agent from its heartbeats" cluster_node_is "$STAYS" "$(cluster_is_root && echo drained || echo ready)"
expect "nothing is left of it" nothing_left
scenario_end
