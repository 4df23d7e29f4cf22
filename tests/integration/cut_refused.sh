#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A program that is at odds with its checkpoints is told what is wrong, and what was whole before stays good (tests/cut/strange.c).
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"
# shellcheck source=tests/lib/mpi.sh
. "$SCENARIO_ROOT/tests/lib/mpi.sh"

mpi_env

# drive HOW ROUNDS REFUSALS: a few cuts, so many more that are refused at least, and behind those one restart. Sets OUTPUT.
drive()
{
    OUTPUT=$(timeout 130 "$SCENARIO_BUILD/bin/cut_driver" --seconds 100 --ranks 2 --mode free --cuts 4 --refusals "$3" --restarts 1 -- \
        "$SCENARIO_BUILD/tests/cut_strange" "$1" "$2" 2>&1)
}

told()
{
    grep -qE -- "$1" <<<"$OUTPUT" || { echo "nothing about '$1' in: $OUTPUT"; return 1; }
}

# fails_and_goes_on HOW ROUNDS WORDS: the driver ends well: it was restarted from a whole one, and its sums were right.
fails_and_goes_on()
{
    drive "$1" "$2" 1 && told "$3" && told '"restarts": 1,' && told 'rank 0 right'
}

refused()
{
    ! drive fewer 1000000 0 && told '"restarts": 1,' &&
        told 'on their way to rank [01] cannot be delivered: .* for communicator "own" \(2 members, identity [0-9a-f]{16}\) that the program'
}

expect "more communicators than a checkpoint holds: those fail, naming rank and number, and those before are good" \
    fails_and_goes_on comms 300 'rank [01]: the program has 1103 communicators; at most 1024'
expect "more bytes on their way than allowed: those fail, naming the rank, and those before are good" \
    fails_and_goes_on bytes 4000 'messages on their way to rank [01] have more than 200000 bytes; raise tide_options.channel_bytes_max'
expect "a communicator that is not made again is named, with the rank that misses it" refused
scenario_end
