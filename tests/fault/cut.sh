# SPDX-License-Identifier: Apache-2.0
# The scenario kill-cut of tests/fault/run, which sources this: examples/bank, with transfers under way, is checkpointed again and again,
# and all of its ranks die in the middle of a checkpoint; with them, in turn, the agents, the coordinator, or all of these. It must go on
# each time from a checkpoint that was sealed. At the end the bank counts its money: a half checkpoint would be found out.
# CUT_KILLS=20: so many times in a round, of a job that is as much longer.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # tests/fault/run reads and sets them

BANK=$SCENARIO_BUILD/examples/bank/bank
BANK_NODES=2
BANK_NPROC=2
BANK_KILLS=${CUT_KILLS:-4}
BANK_TRANSFERS=$((1500 * BANK_KILLS))
BANK_PAUSE_US=1500
BANK_CKPT_EVERY=100ms
BANK_GONE_S=40     # it goes on by then, whatever was killed
BANK_LATER_MS=30   # behind the moment when a checkpoint was seen under way

cut_job_start()
{
    tide run --name "$job" --nnodes $BANK_NODES --nproc-per-node $BANK_NPROC --ckpt-every $BANK_CKPT_EVERY --max-restarts 1000 \
        "${MPI_JOB[@]}" -- "$BANK" --transfers $BANK_TRANSFERS --pause-us $BANK_PAUSE_US
}

# What the bank says, but for where it went on.
cut_result()
{
    sed -n 's/^.*\(bank [a-zA-Z]*: [0-9]* branches, \)from step [0-9]*, /\1/p' | tail -n 1
}

cut_expected()
{
    (mpi_env; timeout 120 mpirun -np $((BANK_NODES * BANK_NPROC)) "$BANK" --transfers $BANK_TRANSFERS) | cut_result
}

cut_job_over()
{
    cluster_job_is "$job" '.job.ended_ms > 0'
}

# It trains, in a generation behind `generation`, and has a checkpoint of this one.
cut_job_goes_on()
{
    cluster_job_is "$job" ".job | .ended_ms > 0 or (.generation > $generation and .all_stepped == true and
        (.generation as \$g | [(.ckpts // [])[] | select(.sealed_ms > 0 and .generation == \$g)] != []))"
}

# Of everything that is to die; looked for before, as that takes its time. members: those of a group of coordinators among them.
cut_victims()
{
    local node
    members=()
    mapfile -t victims < <(cluster_ranks "$job" | cut -d ' ' -f 1)
    case $kind in
    agents | all)
        for ((node = 1; node <= BANK_NODES; node++)); do
            mapfile -t -O ${#victims[@]} victims < <(cluster_pids $node)
        done
        ;;&
    coordinator) ! cluster_is_group || { cluster_await_leader && members=("$CLUSTER_LEADER"); } ;;&
    all) ! cluster_is_group || members=("${!CLUSTER_MEMBER_PID[@]}") ;;&
    coordinator | all)
        cluster_is_group || victims+=("$CLUSTER_COORDINATOR_PID")
        for node in "${members[@]}"; do
            victims+=("${CLUSTER_MEMBER_PID[$node]}")
        done
        ;;
    esac
}

cut_start_again()
{
    local node
    for node in "${members[@]}"; do
        cluster_await_end "${CLUSTER_MEMBER_PID[$node]}"
        unset "CLUSTER_MEMBER_PID[$node]"
    done
    case $kind in
    agents | all)
        for ((node = 1; node <= BANK_NODES; node++)); do
            cluster_kill_all $node # what was started meanwhile
        done
        ;;&
    coordinator | all) cluster_coordinator_start || violated "the coordinator does not come back" ;;&
    agents | all)
        for ((node = 1; node <= BANK_NODES; node++)); do
            cluster_agent_start $node
        done
        ;;
    esac
}

# A checkpoint is under way, or time has run out.
cut_await_open()
{
    local deadline=$((SECONDS + 3))
    open=0
    while [ "$open" -eq 0 ] && [ "$SECONDS" -lt "$deadline" ]; do
        ! cluster_job_is "$job" '(.job.ckpts // []) | any(.state == "open")' >/dev/null || open=1
    done
}

# The checkpoint that it went on from was sealed, all of it.
cut_check_restored()
{
    cluster_job_is "$job" '.job.restore_cut as $c | $c > 0 and ((.job.ckpts // []) | all(.cut != $c or .sealed_ms > 0))' >/dev/null ||
        violated "$job went on from checkpoint $(cluster_job "$job" .job.restore_cut), of $(cluster_job "$job" '.job.ckpts | map([.cut, .state]) | tostring')"
}

cut_strike()
{
    local kill kinds=(ranks agents coordinator all) kind victims=() members=() open generation=0
    for ((kill = 0; kill < BANK_KILLS; kill++)); do
        kind=${kinds[$(((round * BANK_KILLS + kill) % 4))]}
        wait_for $BANK_GONE_S "$job to go on" cut_job_goes_on || { violated "$job does not go on behind generation $generation"; return; }
        ! cut_job_over >/dev/null || return
        [ "$generation" -eq 0 ] || cut_check_restored
        generation=$(cluster_job "$job" .job.generation)
        cut_victims
        between 0 400
        pause_ms "$DRAWN"
        cut_await_open
        between 0 $BANK_LATER_MS
        pause_ms "$DRAWN"
        kill -9 "${victims[@]}" 2>/dev/null
        hit "killed with the ranks of generation $generation: $kind; a checkpoint was under way: $open"
        cut_start_again
    done
}
