# SPDX-License-Identifier: Apache-2.0
# A few jobs at a time. What a job prints is kept until it ends, and handed over whole.
#
#     pool_begin 2 DIR took        # two at a time; their output in DIR; "took NAME STATUS FILE" is called as each one ends
#     pool_run NAME COMMAND…       # waits for a free place, and starts it
#     pool_alone NAME COMMAND…     # later, when all others have ended, and with nothing beside it
#     pool_until NAME              # until that one has ended
#     pool_wait                    # until all have ended
#
# A job is a subshell: it sees our functions and variables, and cannot change them. ^C, TERM and HUP end first the jobs, which
# may take down what they made, then the script.
# shellcheck shell=bash

# pool_begin JOBS DIR TOOK
pool_begin()
{
    POOL_JOBS=$1
    POOL_DIR=$2
    POOL_TOOK=$3
    POOL_STARTED=0
    POOL_LATER=()
    declare -gA POOL_NAME=() POOL_FILE=() # by pid, of those that were not handed over yet
    trap 'pool_stop 130' INT
    trap 'pool_stop 143' TERM HUP
}

pool_run()
{
    local name=$1 file
    shift
    while [ ${#POOL_NAME[@]} -ge "$POOL_JOBS" ]; do pool_take; done
    file=$POOL_DIR/job-$$-$((++POOL_STARTED))
    (
        # Once the command at hand has ended: a terminal's ^C comes to all of us at once, and what is to be told is told by pool_stop.
        trap 'exit 143' INT TERM HUP
        "$@"
    ) >"$file" 2>&1 </dev/null &
    POOL_NAME[$!]=$name
    POOL_FILE[$!]=$file
}

pool_until()
{
    local name=$1
    while [[ " ${POOL_NAME[*]} " == *" $name "* ]]; do pool_take; done
}

pool_alone()
{
    POOL_LATER+=("$(printf '%q ' "$@")")
}

pool_wait()
{
    local later
    pool_drain
    for later in "${POOL_LATER[@]}"; do
        eval "pool_run $later"
        pool_drain
    done
    POOL_LATER=()
}

pool_drain()
{
    while [ ${#POOL_NAME[@]} -gt 0 ]; do pool_take; done
}

# Wait for whichever job ends next, and hand it over.
pool_take()
{
    local pid name file status
    until pool_ended; do wait -n; done
    pid=$POOL_ENDED name=${POOL_NAME[$POOL_ENDED]} file=${POOL_FILE[$POOL_ENDED]}
    wait "$pid"
    status=$?
    unset "POOL_NAME[$pid]" "POOL_FILE[$pid]"
    "$POOL_TOOK" "$name" "$status" "$file"
    rm -f "$file"
}

# Sets POOL_ENDED to the pid of a job that has.
pool_ended()
{
    for POOL_ENDED in "${!POOL_NAME[@]}"; do
        kill -0 "$POOL_ENDED" 2>/dev/null || return 0
    done
    return 1
}

# pool_stop STATUS: the command that a job is at is told to end, and waited for. A second ^C does not wait.
pool_stop()
{
    local pid
    trap - INT TERM HUP
    for pid in "${!POOL_NAME[@]}"; do
        kill -TERM "$pid" 2>/dev/null
        pkill -TERM -P "$pid"
    done
    wait
    rm -f "${POOL_FILE[@]}"
    exit "$1"
}
