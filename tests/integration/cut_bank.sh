#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Cuts of a program with messages in flight, at random moments (tests/cut/driver.c): each is checked by itself, and some are restarted
# from. Numbers of a long run are those of tests/cut/soak.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"
# shellcheck source=tests/lib/mpi.sh
. "$SCENARIO_ROOT/tests/lib/mpi.sh"

BANK=$SCENARIO_BUILD/examples/bank/bank
PIPELINE=$SCENARIO_BUILD/examples/pipeline/pipeline
BANK_MPICH=$SCENARIO_BUILD/tests/bank_mpich
FORGETFUL=$SCENARIO_BUILD/tests/forgetful
DRIVER=("$SCENARIO_BUILD/bin/cut_driver" --quiet --seconds 60 --seed "${CUT_SEED:-1}")

mpi_env

drive()
{
    timeout 90 "${DRIVER[@]}" "$@"
}

# It ends with status 1, for no cut succeeds.
told_early()
{
    local output
    output=$(timeout 90 "$SCENARIO_BUILD/bin/cut_driver" --seconds 3 --cuts 10000 --ranks 3 --mode free -- \
        "$SCENARIO_BUILD/tests/cut_early" 20000 50 2>&1)
    grep -q 'needed a message of rank 0 (tag 5, communicator MPI_COMM_WORLD) .*, in .*cut_early' <<<"$output" &&
        grep -q '"failures": 0' <<<"$output"
}

# No cut succeeds, each tells why, and the program ends right.
told_outstanding()
{
    local output
    output=$(timeout 90 "$SCENARIO_BUILD/bin/cut_driver" --seconds 3 --cuts 10000 --ranks 3 --mode free -- \
        "$SCENARIO_BUILD/tests/cut_outstanding" 20000 2>&1)
    grep -q 'a nonblocking MPI collective is outstanding' <<<"$output" && grep -q '"cuts": 0,' <<<"$output" &&
        grep -q '"failures": 0' <<<"$output"
}

expect "each cut of 4 ranks has each transfer once, and so has what is restarted from it" \
    drive --ranks 4 --cuts 40 --restarts 2 --mode free --bank -- "$BANK" --transfers 2000
expect "so it is where ranks record at one step" \
    drive --ranks 3 --cuts 20 --restarts 1 --mode step --bank -- "$BANK" --transfers 4000 --seed 2
expect "so it is with three threads in a rank" \
    drive --ranks 2 --cuts 20 --restarts 1 --mode free --bank -- "$BANK" --transfers 1000 --tellers 3
expect "so it is where posted receives are posted again (examples/pipeline verifies itself)" \
    drive --ranks 3 --cuts 15 --restarts 2 --mode free -- "$SCENARIO_BUILD/examples/pipeline/pipeline"
expect "a sparse exchange leaves no message behind, and no synchronous send is complete before its receive has begun" \
    drive --ranks 3 --cuts 30 --restarts 2 --mode free -- "$SCENARIO_BUILD/tests/cut_sparse" 2000
expect "neighbourhood collectives of all kinds give the same, cut or not, restarted or not" \
    drive --ranks 4 --cuts 20 --restarts 2 --mode step -- "$SCENARIO_BUILD/tests/cut_neighbours" 4000
expect "a pipeline whose receives are posted ahead computes the same, restarted or not" \
    drive --ranks 3 --cuts 40 --restarts 5 --mode free --gap-us 20000 -- "$PIPELINE" --micro-batches 3000
expect "without a channel log the check finds transfers lost" \
    drive --ranks 3 --cuts 20 --mode free --bank --log-off --env "LD_LIBRARY_PATH=$FORGETFUL" -- "$BANK" --transfers 2000
expect "who needs a message from behind the cut is told, with the place, and goes on" told_early
expect "a nonblocking collective that is outstanding is never cut through, whatever the program promises" told_outstanding
if [ -x "$BANK_MPICH" ]; then
    expect "so it is with MPICH" drive --ranks 3 --cuts 10 --restarts 1 --mode free --bank --launcher mpiexec.mpich -- \
        "$BANK_MPICH" --transfers 1000
    expect "and neighbourhood collectives" drive --ranks 3 --cuts 10 --restarts 1 --mode step --launcher mpiexec.mpich -- \
        "$SCENARIO_BUILD/tests/cut_neighbours_mpich" 500
else
    expect "MPICH is there to test with (libmpich-dev, mpich)" false
fi
scenario_end
