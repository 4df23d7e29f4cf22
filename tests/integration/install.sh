#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# libtidemark as others get it: installed, found by pkg-config and by CMake, with and without MPI.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

TMP=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-install.XXXXXX")
trap 'rm -rf "$TMP"' EXIT
PREFIX=$TMP/prefix

cat >"$TMP/plain.c" <<'END'
#include <stdio.h>
#include <tidemark/tidemark.h>
int main(void)
{
    struct tide *t;
    uint64_t step = 0;
    float w[4] = {0};
    struct tide_region region = {.name = "w", .data = w, .bytes = sizeof w, .dtype = TIDE_F32};
    if (tide_init(&t, NULL) != TIDE_OK || tide_register(t, &region) != TIDE_OK)
        return 1;
    if (tide_restore(t, &step) != TIDE_E_NO_CHECKPOINT)
        return 2;
    if (tide_step(t, 1) != TIDE_OK || tide_step(t, 1) != TIDE_E_INVALID)
        return 3;
    puts(tide_error_text(t));
    tide_finalize(t);
    return 0;
}
END

cat >"$TMP/counted.c" <<'END'
#include <mpi.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
struct tide_mpi_comm { uint64_t id, collectives; uint32_t size; char name[64]; };
size_t tide_mpi_comms(struct tide_mpi_comm *to, size_t room);
int main(int argc, char **argv)
{
    int x = 1, y = 0;
    MPI_Request request;
    struct tide_mpi_comm comms[2] = {{0}};
    setenv("TIDEMARK_SOCKET", "nobody", 1); /* nobody asks; that it is set is what makes a job */
    MPI_Init(&argc, &argv);
    MPI_Barrier(MPI_COMM_WORLD);
    MPI_Allreduce(&x, &y, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    MPI_Ibcast(&x, 1, MPI_INT, 0, MPI_COMM_WORLD, &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
    MPI_Barrier(MPI_COMM_SELF);
    size_t count = tide_mpi_comms(comms, 2);
    MPI_Finalize();
    return count == 2 && comms[0].collectives == 3 && comms[1].collectives == 1 && y == 1 ? 0 : 2;
}
END

cat >"$TMP/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(outside LANGUAGES C)
find_package(tidemark 0.1 REQUIRED)
add_executable(plain plain.c)
target_link_libraries(plain PRIVATE tidemark::tidemark)
if(TARGET tidemark::mpi)
  find_package(MPI REQUIRED COMPONENTS C)
  add_executable(counted counted.c)
  target_link_libraries(counted PRIVATE tidemark::tidemark tidemark::mpi MPI::MPI_C)
endif()
END

refuses_newer()
{
    mkdir -p "$TMP/newer" && sed 's/tidemark 0.1/tidemark 9.0/' "$TMP/CMakeLists.txt" >"$TMP/newer/CMakeLists.txt"
    ! cmake -S "$TMP/newer" -B "$TMP/newer/b" -DCMAKE_PREFIX_PATH="$PREFIX" >"$TMP/newer.log" 2>&1 && grep -q tidemark "$TMP/newer.log"
}

by_pkg_config()
{
    # shellcheck disable=SC2046 # words on purpose
    cc -std=c17 -Wall -Werror -o "$TMP/by-pc" "$TMP/plain.c" $(pkg-config --cflags --libs tidemark) &&
        [ "$(LD_LIBRARY_PATH=$LIBDIR "$TMP/by-pc")" = "step 1 follows step 1; steps must grow" ]
}

by_cmake()
{
    cmake -S "$TMP" -B "$TMP/b" -DCMAKE_PREFIX_PATH="$PREFIX" && cmake --build "$TMP/b" && "$TMP/b/plain"
}

as_cplusplus()
{
    echo '#include <tidemark/tidemark.h>' | c++ -std=c++17 -Wall -Werror -fsyntax-only -I"$PREFIX/include" -x c++ -
}

exports_only_ours()
{
    local strange
    strange=$(nm -D --defined-only "$LIBDIR/libtidemark.so" | awk '{print $3}' | grep -v -E '^(tide_[a-z_]+@@TIDEMARK_0|TIDEMARK_0)$')
    echo "$strange"
    [ -z "$strange" ]
}

# Who has no GPU needs nothing of CUDA's or NCCL's: only the plugin links to the former, and nothing links to the plugin.
needs_no_cuda()
{
    local file
    for file in "$LIBDIR"/libtidemark.so "$LIBDIR"/libtidemark_mpi.so "$LIBDIR"/libtidemark_nccl.so "$PREFIX"/bin/*; do
        [ -e "$file" ] || continue
        ! objdump -p "$file" 2>/dev/null | grep -E 'NEEDED.*(cud|libnccl)' || { echo "$file"; return 1; }
    done
}

# older_nccl CODE NAME…: an nccl.h of that version, without those functions, fields, types, values and macros.
older_nccl()
{
    local code=$1 header
    shift
    header=$(jq -r '[.[] | select(.file | endswith("ckpt/client/nccl/comm.c")).command][0] | capture("-isystem (?<at>[^ ]+)").at' \
        "$SCENARIO_BUILD/compile_commands.json")/nccl.h
    mkdir -p "$TMP/nccl$code"
    perl -0pe 'BEGIN { ($code, @names) = splice @ARGV, 1; } s/(define NCCL_VERSION_CODE) \d+/$1 $code/; for $name (@names) {
        s/^(?:ncclResult_t|typedef struct)\s+p?$name\b(?:[^;{]*;|\s*\{.*?\}[^;]*;)\n//gms;
        s/^\s+(?:int |const char \*)$name;\n//gm; s/^\s+$name\s+= \d+,\n//gm; s/^#define $name .*\n//gm;
        s/^[^\n]*\/\* $name \*\/\s*\\\n//gm; die "$name is still there" if /^(?!.*(?:\*|\/\/)).*\b$name\b/m; }' \
        "$header" "$code" "$@" >"$TMP/nccl$code/nccl.h"
}

# Each of its files takes that header.
compiles_with()
{
    local command
    while read -r command; do
        (cd "$SCENARIO_BUILD" && eval "${command/ -isystem / -isystem $TMP/nccl$1 -isystem } -fsyntax-only") || return 1
    done < <(jq -r '.[] | select(.file | contains("/ckpt/client/nccl/")).command' "$SCENARIO_BUILD/compile_commands.json")
}

takes_header()
{
    older_nccl "$@" && compiles_with "$1"
}

AFTER_2_28_3=(ncclCommRevoke)
AFTER_2_26=("${AFTER_2_28_3[@]}" ncclCommShrink ncclCommWindowRegister ncclCommWindowDeregister ncclWindow_vidmem ncclAlltoAll ncclGather
    ncclScatter commName collnetEnable CTAPolicy shrinkShare nvlsCTAs nChannelsPerNetPeer nvlinkCentricSched)
AFTER_2_18=("${AFTER_2_26[@]}" ncclCommRegister ncclCommDeregister ncclGroupSimulateEnd ncclSimInfo_v22200 ncclCommInitRankScalable
    trafficClass ncclFloat8e4m3 ncclFloat8e5m2)
AFTER_2_14=("${AFTER_2_18[@]}" ncclCommSplit splitShare NCCL_SPLIT_NOCOLOR)

expect "it installs" cmake --install "$SCENARIO_BUILD" --prefix "$PREFIX"
PC=$(find "$PREFIX" -name tidemark.pc)
LIBDIR=$(dirname "$(dirname "${PC:-/none/none}")")
export PKG_CONFIG_PATH=$LIBDIR/pkgconfig
expect "a program builds by pkg-config and runs outside a job" by_pkg_config
expect "a program builds by CMake and runs outside a job" by_cmake
expect "a version that is not there is refused" refuses_newer
expect "the library exports its own names only" exports_only_ours
expect "nothing but the plugin needs CUDA, and nothing NCCL" needs_no_cuda
if [ -e "$LIBDIR/libtidemark_nccl.so" ]; then
    expect "NCCL's header may be of 2.28.3" takes_header 22803 "${AFTER_2_28_3[@]}"
    expect "… of 2.26" takes_header 22602 "${AFTER_2_26[@]}"
    expect "… of 2.18" takes_header 21803 "${AFTER_2_18[@]}"
    expect "… and of 2.14" takes_header 21403 "${AFTER_2_14[@]}"
fi
! command -v c++ >/dev/null || expect "C++ takes the header" as_cplusplus
[ ! -x "$TMP/b/counted" ] || expect "collectives on MPI_COMM_WORLD are counted" timeout 60 "$TMP/b/counted"
scenario_end
