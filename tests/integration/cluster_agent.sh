#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What an agent finds when it is started again, and cannot make sense of.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

ranks_of_generation()
{
    local pid
    for pid in $(cluster_pids); do
        ! grep -qsz "^TIDEMARK_GENERATION=$1\$" "/proc/$pid/environ" || echo "$pid"
    done
}

no_ranks_of_generation()
{
    [ -z "$(ranks_of_generation "$1")" ]
}

garble()
{
    local file found=1
    for file in "$CLUSTER_DIR"/n1/steps/*/step.json; do
        printf '{"job":' >"$file" && found=0
    done
    return $found
}

# ---- a step whose directory cannot be read ----
# It can be neither spoken to nor fenced by name: left running, its ranks would train beside those of the next generation.
scenario_cluster 1 --slots 4
tide run --name lost --nproc-per-node 2 --launcher none --ckpt-every 300ms -- "$PULSE" --until "$CLUSTER_DIR/lost.until"
wait_for 60 "a committed checkpoint" job_committed lost
cluster_agent_kill 1
expect "the step's directory is damaged" garble
expect "its ranks still run" test -n "$(ranks_of_generation 1)"
cluster_agent_start 1
expect "no rank of it is left" wait_for 60 "them to go" no_ranks_of_generation 1
job_let_end lost
expect "the job succeeds" job_succeeds lost
expect "its ranks computed what they would have alone" equal "$(job_hashes lost)" "$(pulse_hashes 2 --steps "$ENDS_AT")"
expect "nothing is left of it" nothing_left

# ---- a step that goes over to the next generation while nobody looks ----
# The agent dies between the order and the step's doing it, and its successor reads what is in the directory until then.
step_pid()
{
    pgrep -f "tidemark-step $CLUSTER_DIR/n$1/steps/"
}

has_left()
{
    grep -q 'generation 1 is left' "$CLUSTER_DIR"/n"$1"/steps/*/step.log
}

is_ordered()
{
    [ -e "$(echo "$CLUSTER_DIR"/n"$1"/steps/*/next.json)" ]
}

# of_generation RANK WORDS: what it says of the newest one, behind these words
of_generation()
{
    tide job logs moved --rank "$1" --generation "$(cluster_job moved '.job.generation')" | sed -n "s/^rank $1 $2: //p"
}

goes_on()
{
    cluster_job_is "$1" '.job.generation > 1 and .job.all_stepped'
}

cluster_agent_start 2 --slots 4
wait_for 60 "n2 to be ready" cluster_node_is n2 ready
tide run --name moved --nnodes 2 --nproc-per-node 2 --launcher none --ckpt-every 300ms -- \
    "$PULSE" --stay 1 --until "$CLUSTER_DIR/moved.until"
wait_for 60 "a committed checkpoint" job_committed moved
BEFORE=$(job_pids moved)
MEETS=$(cluster_job moved '.job.nodes[0]') # of ranks 0 and 1
OTHER=$(cluster_job moved '.job.nodes[1]')
kill -STOP "$(step_pid "${OTHER#n}")" # the next generation waits for it
cluster_rank_kill moved 1
wait_for 60 "$MEETS to have left" has_left "${MEETS#n}"
kill -STOP "$(step_pid "${MEETS#n}")" && kill -CONT "$(step_pid "${OTHER#n}")"
expect "the step is told to go over" wait_for 60 "the order" is_ordered "${MEETS#n}"
cluster_agent_kill "${MEETS#n}"
cluster_agent_start "${MEETS#n}"
wait_for 60 "$MEETS to be back" cluster_node_is "$MEETS" ready
kill -CONT "$(step_pid "${MEETS#n}")"
expect "the job goes on" wait_for 60 "all ranks to step" goes_on moved
expect "who was there is still the same process" stayed 4 "$BEFORE" "$(job_pids moved)" 0 2 3
ANEW=$(of_generation 1 "was started with")
expect "who was started anew has the generation in its environment" equal "${ANEW% master *}" "generation 2 restarts 1"
expect "it is told the same" equal "$(of_generation 1 "is told")" "$ANEW"
expect "and so is who stayed" equal "$(of_generation 2 "is told")" "$ANEW"
OLD=$(of_generation 2 "was started with")
expect "whose environment is old" equal "${OLD% master *}" "generation 1 restarts 0"
job_let_end moved
expect "the job succeeds" job_succeeds moved
expect "its ranks computed what they would have alone" equal "$(job_hashes moved)" "$(pulse_hashes 4 --steps "$ENDS_AT")"
expect "nothing is left of it" nothing_left

# ---- many files ----
# An agent of a large job holds two connections for each of its nodes; programs that use select() break above 1024.
soft_limit()
{
    awk '/^Max open files/ {print $4}' "/proc/$(pgrep -f "tidemark-agent.*--state $CLUSTER_DIR/n1( |\$)" | head -n 1)/limits"
}

cluster_agent_kill 1
SOFT=$(ulimit -Sn)
ulimit -Sn 512
cluster_agent_start 1
ulimit -Sn "$SOFT"
wait_for 60 "n1 to be back" cluster_node_is n1 ready
expect "an agent raises its limit of open files" test "$(soft_limit)" -gt 512
tide run --name files --nproc-per-node 1 --launcher none -- sh -c 'ulimit -n'
expect "a job runs" job_succeeds files
expect "its ranks get the limit the agent was given" equal "$(tide job logs files --rank 0 | tail -n 1)" 512
expect "nothing is left of it" nothing_left
scenario_end
