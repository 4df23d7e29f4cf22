#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What the interposer does in one state of a cut after the other, without chance: two ranks that give themselves their orders
# (tests/cut/scripted.c), with Open MPI and with MPICH.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"
# shellcheck source=tests/lib/mpi.sh
. "$SCENARIO_ROOT/tests/lib/mpi.sh"

mpi_env

# Both ends have a part in each large message, as between hosts. Open MPI has no windows then.
IN_PARTS=" offers order "

open_mpi()
{
    [[ $IN_PARTS != *" $1 "* ]] || local -x OMPI_MCA_btl_vader_single_copy_mechanism=none
    timeout 60 mpirun -n 2 "$SCENARIO_BUILD/tests/cut_scripted" "$1"
}

# Shared memory does not reach from one job of Open MPI's to another.
spawning()
{
    OMPI_MCA_btl=self,vader,tcp OMPI_MCA_btl_tcp_if_include=lo open_mpi "$1"
}

mpich()
{
    timeout 60 mpiexec.mpich -n 2 "$SCENARIO_BUILD/tests/cut_scripted_mpich" "$1"
}

# stories MPI
stories()
{
    expect "what is outstanding is counted, and nothing that a program has freed ($1)" "$1" counted
    expect "a communicator that is freed is known until what is under way on it has ended, and no longer ($1)" "$1" freed
    expect "an active persistent collective is never cut through ($1)" "$1" persistent
    expect "neighbourhood collectives are counted, refused where they are outstanding, and parked around ($1)" "$1" neighbours
    expect "a window's epoch that is open, and a use of it under way, are refused ($1)" "$1" window
    expect "a file operation that has not ended is refused, and collective ones are counted ($1)" "$1" file
    expect "receives are parked around all calls that wait for others ($1)" "$1" parking
    expect "a receive that one thread posts while another is in a collective is parked at once, and stays so ($1)" "$1" threads
    expect "a thread that waits in a call is woken when a cut is armed, whatever call it is, and waits on ($1)" "$1" threads_woken
    expect "of many threads a receive that fails is over, and told as MPI tells it, in all calls ($1)" "$1" threads_failed
    expect "who waits in a loop of its own, or on a communicator that is not followed, is not in the way ($1)" "$1" looks
    expect "a synchronous send is complete when its receive has begun, and not when a receiver that has recorded takes it ($1)" "$1" ssend
    expect "one that is under way at its sender's safe point is refused, and not told that it is received ($1)" "$1" ssend_refused
    expect "one behind its sender's record is complete when its receive has begun ($1)" "$1" ssend_behind
    expect "and goes on where the receive is posted, and its receiver is in a collective ($1)" "$1" ssend_posted
    expect "a receive that a sender is told of is for one message, whatever is sent besides ($1)" "$1" offers
    expect "and one of any source lets neither end stand ($1)" "$1" offers_any
    expect "what was told before a flip, or before the receive got another message, is told anew ($1)" "$1" offers_before
    expect "so it is where another thread is in a collective ($1)" "$1" offers_threads
    expect "receives that a flip takes back from MPI get what they would have got without it ($1)" "$1" order
    expect "a sender far ahead of its receiver is slowed down, and not by each message ($1)" "$1" room
    expect "a program's error handler gets the program's communicator in either colour ($1)" "$1" handler
    expect "a communicator that is missing after a restart is told by its name or its members ($1)" "$1" missing
    expect "a large message is logged, and delivered after a restart ($1)" "$1" large
}

stories open_mpi
expect "leaders meet on one communicator, whether or not what they lead is followed (open_mpi)" spawning leaders
if [ -x "$SCENARIO_BUILD/tests/cut_scripted_mpich" ]; then
    stories mpich
    expect "what MPI 4 added is followed, or refused (mpich)" mpich mpi_4
else
    expect "MPICH is there to test with (libmpich-dev, mpich)" false
fi
scenario_end
