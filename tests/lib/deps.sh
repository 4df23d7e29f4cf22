# SPDX-License-Identifier: Apache-2.0
# Debian packages this project needs, and a function that installs what is missing. Source it, then call
# deps_ensure with the lists wanted: "build", "run", "test", "programs", "s3", "bench", "fuzz".
# shellcheck shell=bash

# To compile the daemons, the libraries and the examples.
DEPS_BUILD=(gcc make cmake ninja-build pkg-config libuv1-dev libmicrohttpd-dev libgnutls28-dev libjansson-dev libxxhash-dev libzstd-dev
    libcurl4-openssl-dev libexpat1-dev libpmix-dev libopenmpi-dev libssl-dev zlib1g-dev libcmocka-dev)
# To run examples/quickstart.
DEPS_RUN=(openmpi-bin dataset-fashion-mnist iproute2 procps util-linux jq curl python3)
# To run every test, besides both lists above.
DEPS_TEST=(shellcheck ccache openssl zstd libmpich-dev mpich gfortran mumps-test)
# Programs that tests/cut/programs runs, besides.
DEPS_PROGRAMS=(python3-mpi4py hpcc scalapack-mpi-test netpipe-openmpi netpipe-mpich2)
# A real S3 server for tests/integration/store_s3.sh, which asks for it itself and is skipped where it cannot be had.
DEPS_S3=(radosgw ceph-mon ceph-osd ceph-common curl)
# Clients of S3 that tests/bench/bench_s3.sh compares with; it asks for them itself.
DEPS_BENCH=(awscli rclone)
# To fuzz: clang and its libFuzzer. Not needed by tests/run, which replays what was found.
DEPS_FUZZ=(clang libclang-rt-14-dev)

DEPS_LISTS_OLD_MIN=1440 # apt's package lists are fetched again when older than this
DEPS_LOCK_S=240         # somebody else, as another script of tests/integration, may be installing

# Those of the named packages that are not installed, one per line.
deps_missing()
{
    local package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || echo "$package"
    done
}

# Fetch package lists when there are none, or only old ones.
deps_update_lists()
{
    if [ -z "$(find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -"$DEPS_LISTS_OLD_MIN" -print -quit 2>/dev/null)" ]; then
        echo "deps: fetching apt's package lists"
        "$@" apt-get -q -o DPkg::Lock::Timeout=$DEPS_LOCK_S update
    fi
}

# deps_ensure build|run|test|programs|s3|bench|fuzz … : install what is missing of these lists, telling before doing. Silent when all is there.
deps_ensure()
{
    local list packages=() missing=() as_root=()
    for list in "$@"; do
        case $list in
        build) packages+=("${DEPS_BUILD[@]}") ;;
        run) packages+=("${DEPS_RUN[@]}") ;;
        test) packages+=("${DEPS_TEST[@]}") ;;
        programs) packages+=("${DEPS_PROGRAMS[@]}") ;;
        s3) packages+=("${DEPS_S3[@]}") ;;
        bench) packages+=("${DEPS_BENCH[@]}") ;;
        fuzz) packages+=("${DEPS_FUZZ[@]}") ;;
        *) echo "deps: no list of packages named '$list' (build, run, test, programs, s3, bench, fuzz)" >&2; return 2 ;;
        esac
    done
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        echo "deps: not a Debian system; install the counterparts of these yourself: ${packages[*]}" >&2
        return 0
    fi
    mapfile -t missing < <(deps_missing "${packages[@]}")
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "deps: about to install with apt-get: ${missing[*]}"
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null; then
            echo "deps: neither root nor sudo; ask somebody who is root to run: apt-get install ${missing[*]}" >&2
            return 1
        fi
        as_root=(sudo)
    fi
    deps_update_lists "${as_root[@]}" || return 1
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=$DEPS_LOCK_S --no-install-recommends install "${missing[@]}" || {
        echo "deps: these could not be installed; ask somebody who is root to run: apt-get install ${missing[*]}" >&2
        return 1
    }
}
