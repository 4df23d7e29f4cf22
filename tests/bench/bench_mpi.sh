#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What the interposer costs: the same program with plain Open MPI (limit) and with libtidemark_mpi preloaded in a job where nothing is
# armed, by turns, over shared memory and TCP. The best of all rounds of each. And of programs with MPI_THREAD_MULTIPLE, whose threads
# may be more than there are processors: who waits lets others run.
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=${TIDE_BUILD:-$root/build-bench}
TURNS=${BENCH_MPI_TURNS:-5}
LATENCY_MORE_NS=15 # promised for 8 bytes over shared memory
MESSAGE_MORE=0.1765 # … and a message rate of 85 %: time per message at most so much longer
OTHER_MORE=0.05    # all else is within noise
THREADS_MORE=0.5   # … but with MPI_THREAD_MULTIPLE

export OMPI_MCA_pml=ob1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1

# run BTL SCALE plain|tide [threads]
run()
{
    local more=()
    [ "$3" = plain ] || more=(-x "LD_PRELOAD=$build/lib/libtidemark_mpi.so" -x TIDEMARK_SOCKET=nobody)
    timeout 60 mpirun -n 2 --bind-to none --mca btl "$1" "${more[@]}" "$build/bin/mpi_pair" "$2" ${4:+"$4"} 2>/dev/null | sed "s/^/$3 /"
}

# compare NAME BTL SCALE [threads]
compare()
{
    local i
    for ((i = 0; i < TURNS; i++)); do
        run "$2" "$3" plain "${4:-}"
        run "$2" "$3" tide "${4:-}"
    done | awk -v over="$1" -v latency="$LATENCY_MORE_NS" -v message="$MESSAGE_MORE" -v other="$OTHER_MORE" -v threads="$THREADS_MORE" '
        { if (!(($1, $2) in best) || $3 < best[$1, $2]) best[$1, $2] = $3; if (!($2 in seen)) { seen[$2] = 1; names[++n] = $2 } }
        END {
            for (i = 1; i <= n; i++) {
                name = names[i]; plain = best["plain", name]; tide = best["tide", name]
                printf "{\"bench\":\"mpi\",\"metric\":\"%s_%s\",\"value\":%.4g,\"unit\":\"ns\",\"limit\":%.4g,\"peer\":null}\n", over, name, tide, plain
                most = plain * (1 + other)
                if (over == "shm" && name == "latency_8B") most = plain + latency
                if (over == "shm" && name == "message_8B") most = plain * (1 + message)
                if (over == "threads") most = plain * (1 + threads)
                if (tide > most) { printf "bench_mpi: %s %s: %.1f ns with the interposer, %.1f without; at most %.1f promised\n", over, name, tide, plain, most > "/dev/stderr"; bad = 1 }
            }
            exit n < 5 || bad
        }'
}

status=0
compare shm self,vader 1 || status=1
compare tcp self,tcp 20 || status=1
export OMPI_MCA_mpi_yield_when_idle=1
compare threads self,vader 5 threads || status=1
exit $status
