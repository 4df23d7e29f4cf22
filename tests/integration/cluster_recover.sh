#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Two of three coordinators are lost, the third goes on alone, and the two come back: where they do not reach it they lead each
# other, and have another history of the same cluster. Whoever has heard of the recovery does not follow them: the nodes,
# whose ranks know nothing of all this, and tidemark. Where they reach it they take no part.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

SETTLE_S=60
SURVIVOR=1
LEFT="2 3"

recovered()
{
    local member
    for member in $SURVIVOR $LEFT; do
        cluster_member_kill "$member" || return 1
    done
    "$SCENARIO_BUILD/bin/tidemarkd" recover --data "$CLUSTER_DIR/c$SURVIVOR" --yes-lose-what-others-had || return 1
    cluster_member_start "$SURVIVOR"
    wait_for $SETTLE_S "it to lead alone" survivor_leads
}

status_is()
{
    tide cluster status -o json | jq -e "$1"
}

survivor_leads()
{
    status_is ".led and .leader == $SURVIVOR and (.members | length) == 1 and (.epoch | startswith(\"1-\"))"
}

node_knows()
{
    grep -q "the cluster was recovered, and is of epoch 1-" "$CLUSTER_DIR/n1.log" && grep -q " 1-" "$CLUSTER_DIR/n1/cluster.epoch"
}

left_start()
{
    local member
    for member in $LEFT; do
        cluster_member_start "$member" || return 1
    done
}

left_kill()
{
    local member
    for member in $LEFT; do
        cluster_member_kill "$member" || return 1
    done
}

# Not cluster_await_leader: that asks whoever runs, and believes it.
left_lead()
{
    cluster_member_get 2 healthz && cluster_member_get 3 healthz
}

# The survivor is away, and the others lead each other.
another_history()
{
    cluster_member_kill "$SURVIVOR" && left_start && wait_for $SETTLE_S "the two to lead each other" left_lead
}

not_believed()
{
    says "it was left behind when the cluster was recovered" tide job list --timeout 3s
}

node_passes_over()
{
    grep -q "is not followed: it was left behind when the cluster was recovered" "$CLUSTER_DIR/n1.log"
}

survivor_back()
{
    cluster_member_start "$SURVIVOR" && wait_for $SETTLE_S "it to lead alone" survivor_leads
}

job_goes_on()
{
    local step
    cluster_job_is pulse '.job.state == "running" and .job.restarts == 0' || return 1
    step=$(cluster_job pulse '.ranks[0].report.step')
    wait_for $SETTLE_S "more steps" cluster_job_at_step pulse $((step + 1))
}

# With the survivor within reach, from the beginning.
left_stand_aside()
{
    local member
    left_kill && left_start || return 1
    for member in $LEFT; do
        wait_for $SETTLE_S "member $member to stand aside" grep -q "was left behind when the group was recovered: member $SURVIVOR" \
            "$CLUSTER_DIR/c$member.log" || return 1
        wait_for $SETTLE_S "it to say so" says_left_behind "$member" || return 1
    done
}

says_left_behind()
{
    (cluster_in 0 curl -s -m 5 "${CLUSTER_CURL[@]}" "$(cluster_member_url "$1")/healthz") |
        grep "this member was left behind when the group was recovered, which is of epoch 1-"
}

# Also where nobody tells them any more.
left_do_not_start()
{
    local member pid
    left_kill || return 1
    for member in $LEFT; do
        cluster_member_start "$member"
        pid=${CLUSTER_MEMBER_PID[$member]}
        unset "CLUSTER_MEMBER_PID[$member]"
        cluster_await_end "$pid" || return 1
        tail -n 1 "$CLUSTER_DIR/c$member.log" | grep "was left behind when its group was recovered" || return 1
    done
}

CLUSTER_COORDINATORS=3 scenario_cluster 1 --slots 1
tide run --name pulse --nnodes 1 --nproc-per-node 1 -- "$PULSE" --steps 1000000
expect "a job runs" wait_for 60 "training" cluster_job_at_step pulse 10
expect "two of three are lost, and the third is told to go on alone" recovered
expect "the node hears of it" wait_for $SETTLE_S "the node to know" node_knows
expect "where the third is away, the two that come back lead each other" another_history
expect "tidemark does not believe them" not_believed
expect "neither does the node" wait_for $SETTLE_S "the node to pass them over" node_passes_over
expect "the third is back, and leads alone" survivor_back
expect "the node is ready there" wait_for $SETTLE_S "the node" cluster_node_is n1 ready
expect "the job goes on, and was never restarted" job_goes_on
expect "tidemark asks the right one, whoever is named first" tide job show pulse
expect "the two take no part where they reach it" left_stand_aside
expect "nor are they started again" left_do_not_start
expect "the third decides as before" tide job cancel pulse
scenario_end
