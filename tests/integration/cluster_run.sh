#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A job's ordinary life on two nodes with two ranks each, and the ways a program can be wrong.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

STEPS=(--steps 100 --step-ms 5)
LONGER=(--steps 600 --step-ms 5)

run()
{
    local name=$1
    shift
    tide run --name "$name" --nnodes 2 --nproc-per-node 2 --launcher none "$@"
}

ends_as()
{
    job_wait "$1" && equal "$(cluster_job "$1" .job.state)" "$2"
}

scenario_cluster 2 --slots 8

# ---- all goes well ----
expect "a job of 2 x 2 ranks is taken" run good --ckpt-every 200ms -- "$PULSE" "${LONGER[@]}"
expect_status 8 "a second run with its name is refused" run good -- "$PULSE"
expect "and the name is told" says "good" run good -- "$PULSE"
expect "it succeeds" job_succeeds good
expect "its ranks computed what they would have alone" equal "$(job_hashes good)" "$(pulse_hashes 4 "${LONGER[@]}")"
expect "checkpoints were committed" cluster_job_is good '[.job.ckpts[] | select(.state == "committed")] | length > 0'
expect "a committed checkpoint verifies" \
    tide ckpt verify "good/$(cluster_job good '[.job.ckpts[] | select(.state == "committed")] | last | .cut')"
expect "job wait passes the success on" tide job wait good
expect "nothing is left of it" nothing_left

# ---- what a user can do wrong ----
expect_status 2 "an unknown flag is refused" tide run --no-such-flag -- "$PULSE"
expect "and is named" says "no-such-flag" tide run --no-such-flag -- "$PULSE"
expect_status 3 "an unknown job is not found" tide job show nobody
expect "and is named" says "nobody" tide job show nobody

# ---- what a program can do wrong ----
run missing -- ./no/such/program
expect "a program that cannot be executed fails the job" ends_as missing failed
expect "without a restart" equal "$(cluster_job missing '.job.restarts // 0')" 0
expect "and is named" says "no/such/program" tide job explain missing

run early --max-restarts 2 -- "$PULSE" "${STEPS[@]}" --trouble early --rank 3 --always 1
expect "a rank that always exits before tide_init fails the job" ends_as early failed
expect "after the restarts it was given" equal "$(cluster_job early .job.restarts)" 2
expect "and is named" says "rank 3" tide job explain early
expect_status 7 "job wait passes its exit status on" tide job wait early

run final --ckpt-every 200ms -- "$PULSE" "${STEPS[@]}" --trouble final --rank 1 --at 50
expect "exit code 93 fails the job" ends_as final failed
expect "without a restart" equal "$(cluster_job final '.job.restarts // 0')" 0

run endless -- "$PULSE" --steps 100000 --step-ms 5
wait_for 60 "job endless to run" cluster_job_at_step endless 5
expect "a running job can be cancelled" tide job cancel endless --wait
expect "it is then cancelled" equal "$(cluster_job endless .job.state)" cancelled
expect "nothing is left of all these" nothing_left

# ---- one name, two agents ----
# The thief stands on node 2's network but claims node 1's name with a state directory, thus a uid, of its own.
thief()
{
    (cluster_in 2 timeout 5 "$CLUSTER_BUILD/bin/tidemark-agent" --coordinator "$CLUSTER_URL" --name n1 \
        --address "$(cluster_address 2)" --state "$CLUSTER_DIR/n9" 2>&1)
}
THIEF=$(thief)
expect "a second agent with a taken name is told so" says "n1" echo "$THIEF"
expect "the first one keeps the name" cluster_node_is n1 ready
expect "and goes on working" run again -- "$PULSE" --steps 20
expect "to the end" job_succeeds again
scenario_end
