#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The main job on simulated devices, two nodes with two each and a spare: a device dies by an Xid in the middle, a NIC goes down in
# the middle, a rank hangs in a call of NCCL's, and then in a kernel. Each time the right node is blamed and drained, the spare takes over, and the
# parameters are those of one rank that nobody disturbs. CUDA, NCCL and NVML are simulators (tests/lib/sim_*).
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

MLP=$SCENARIO_BUILD/examples/cuda_mlp/train
if [ ! -x "$MLP" ]; then
    echo "ok $SCENARIO_NAME/not built # SKIP CMake found no CUDA 13 with nvcc and NCCL"
    exit 0
fi
# shellcheck source=tests/lib/mlp.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/mlp.sh"
# shellcheck disable=SC2034 # for cluster.sh
CLUSTER_PROBES=gpu,nic,nccl
HANG_MS=15000   # so long behind: it hangs. The leader, who counts for itself, needs four seconds, on a busy machine more
HANG_RANK=3     # … in this collective of its process
HANG_AT=60
SUCCEEDS_S=120
HAPPENS_S=60

mlp_data
STEPS=(--steps 200 --slice 1 --log-every 200 --data "$DATA")
TRAINS=("${SIMULATED[@]}" MLP_STEP_MS=30) # long enough for what is to happen to it

nvml()
{
    echo "$CLUSTER_DIR/$1.nvml"
}

# Agents that find the simulator under NVML's name, and a second interface, with a cable to nowhere.
devices_cluster()
{
    local node ns
    cluster_create "$SCENARIO_BUILD" && cluster_coordinator_start || return 1
    for node in 1 2 3; do
        : >"$(nvml "n$node")"
        export SIM_NVML LD_LIBRARY_PATH="$SCENARIO_BUILD/sim_nvml"
        SIM_NVML=$(nvml "n$node")
        cluster_agent_start "$node" --slots 2 --nic eth1 --hang-ms $HANG_MS || return 1
        unset LD_LIBRARY_PATH
        ns=$(cluster_namespace "$node")
        ip -n "$ns" link add eth1 type veth peer name cable1 && ip -n "$ns" link set eth1 up && ip -n "$ns" link set cable1 up || return 1
    done
    for node in 1 2 3; do
        wait_for 60 "n$node to be ready" cluster_node_is "n$node" ready || return 1
    done
}

cable()
{
    ip -n "$(cluster_namespace "${1#n}")" link set cable1 "$2"
}

# train JOB COMMAND…: it begins, and has a checkpoint to go back to. SICK is the node of ranks 2 and 3, SPARE waits.
train()
{
    local job=$1
    shift
    tide run --name "$job" --nnodes 2 --spares 1 --nproc-per-node 2 --launcher none --ckpt-every 300ms -- "$@" "$MLP" "${STEPS[@]}"
    wait_for $HAPPENS_S "a checkpoint of $job" job_restorable "$job"
    SICK=$(cluster_job "$job" '.job.nodes[1]')
    STAYS=$(cluster_job "$job" '.job.nodes[0]')
    SPARE=$(cluster_job "$job" '.job.spares[0]')
}

runs_on()
{
    cluster_job_is "$1" ".job.all_stepped and (.job.nodes | sort) == ([\"$2\", \"$3\"] | sort)"
}

blamed()
{
    cluster_get v1/nodes | jq -r '[.nodes[].node | select((.health // "healthy") != "healthy") | .name] | join(" ")'
}

# ends_well JOB WORDS: blamed for that, drained, replaced; and the digest is what it would have been.
ends_well()
{
    expect "$1: the spare takes the place of the node" wait_for $HAPPENS_S "$SPARE to train" runs_on "$1" "$STAYS" "$SPARE"
    expect "$1: that node is drained" cluster_node_is "$SICK" drained
    expect "$1: it is blamed for what was wrong" says "$2" tide node show "$SICK"
    expect "$1: and nobody else is" equal "$(blamed)" "$SICK"
    expect "$1: the cause is in the job's history" equal \
        "$(cluster_job "$1" '.job.recoveries[-1] | "\(.cause) \(.node)"')" "node_health $SICK"
    expect "$1: the job succeeds" job_succeeds "$1" $SUCCEEDS_S
    expect "$1: the parameters are those of one rank, undisturbed" equal "$(tide job logs "$1" --rank 0 | digest)" "$WANTED"
}

# From when the rank stopped to when its name was known.
named_after()
{
    local told
    told=$(cluster_get v1/nodes | jq -r "[.nodes[].node | select(.name == \"$SICK\").evidence[] | select(.probe == \"nccl\").at_ms][0]")
    echo "# $SCENARIO_NAME: a hang is named after $((told - $(date -r "$MARK" +%s%3N))) ms" >&3
}

given_back()
{
    tide node resume "$SICK" && wait_for 60 "$SICK to be ready" cluster_node_is "$SICK" ready
}

exec 3>&1
if ! cluster_is_root; then
    echo "ok $SCENARIO_NAME/as another user # SKIP nodes with interfaces of their own are for root"
    exit 0
fi
WANTED=$("${SIMULATED[@]}" timeout $SUCCEEDS_S "$MLP" "${STEPS[@]}" 2>/dev/null | digest)
expect "it trains as one rank, without tidemark" test -n "$WANTED"
devices_cluster || { echo "not ok $SCENARIO_NAME/the cluster starts"; exit 1; }

train device "${TRAINS[@]}"
printf 'xid 0 43\nxid 0 45\n' >>"$(nvml "$SPARE")" # of a program, and its end
echo "xid 1 79" >>"$(nvml "$SICK")"
ends_well device "xid: GPU 0000:66:00: Xid 79, GPU has fallen off the bus"
expect "it can be given back" given_back
echo "gpus 2" >"$(nvml "$SICK")"

train nic "${TRAINS[@]}"
cable "$SICK" down
ends_well nic "nic: eth1: its link is down"
cable "$SICK" up
expect "it can be given back, too" given_back

# The first time it may be the program's doing: another generation, on the same nodes. The second time it is the node. Then its host has
# entered all that the others have, and RAS has nothing to tell.
MARK=$CLUSTER_DIR/hangs
STUCK=$CLUSTER_DIR/stuck
: >"$STUCK" # not yet
train hang "${TRAINS[@]}" SIM_NCCL_RAS=28028 SIM_NCCL_HANG="$HANG_RANK:$HANG_AT:$MARK" SIM_NCCL_STICK="$HANG_RANK:$HANG_AT:$STUCK"
expect "hang: the rank is named" wait_for $HAPPENS_S "evidence of NCCL" says "nccl: collectives: rank $HANG_RANK of communicator 0x" tide node show "$SICK"
named_after
expect "hang: nobody is drained for that" cluster_node_is "$SICK" ready
expect "hang: the leader has counted, too" wait_for $HAPPENS_S "evidence of the leader" \
    says "hang: job hang rank $HANG_RANK: rank $HANG_RANK has entered" tide node show "$SICK"
expect "hang: the job gets another generation" wait_for $HAPPENS_S "generation 2" cluster_job_is hang '.job.generation > 1'
rm "$STUCK"
expect "hang: it goes on" wait_for $HAPPENS_S "evidence of a hang" \
    says "nccl-hang: collectives: for $((HANG_MS / 1000)) s rank $HANG_RANK" tide node show "$SICK"
ends_well hang "hang: job hang rank $HANG_RANK: rank $HANG_RANK has"
expect "nothing is left of it" nothing_left
rm -rf "$DATA"
scenario_end
