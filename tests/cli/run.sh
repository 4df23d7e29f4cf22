#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Golden tests of the command line: runs the commands of golden/*.txt with the real binary against a stub of the API (a
# stub for output only: files in api/), and compares all they print, stdout and stderr as one, and their exit status.
#
#     tests/cli/run.sh              # one line "ok NAME" or "not ok NAME" per case
#     tests/cli/run.sh --update     # write what was printed into golden/; read the difference before committing it
#
# A case is "## name", then "$ command", then what it prints, then "[status]" if that is not 0. Commands run in an empty
# directory; $REQUESTS is what the stub was asked.
set -uo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
BUILD=${TIDE_BUILD:-$ROOT/build-tests/plain}
CASE_S=20
UPDATE=false
[ "${1:-}" != --update ] || UPDATE=true

export WORK=
export AWS_EC2_METADATA_DISABLED=true # nobody beyond this host is asked
WORK=$(mktemp -d "${TMPDIR:-/tmp}/tidemark-cli.XXXXXX")
STUB=0
trap 'stub_stop; rm -rf "$WORK"' EXIT

stub_start()
{
    stub_stop
    rm -f "$WORK/address"
    "$BUILD/bin/stub_api" "$HERE/api" "$WORK/address" "$WORK/requests" &
    STUB=$!
    for _ in {1..1000}; do
        [ ! -s "$WORK/address" ] || return 0
        sleep 0.02
    done
    echo "not ok stub: it did not start"
    exit 1
}

stub_stop()
{
    [ "$STUB" -eq 0 ] || kill "$STUB" 2>/dev/null
    [ "$STUB" -eq 0 ] || wait "$STUB" 2>/dev/null
    STUB=0
}

# run_case COMMAND: prints what it printed and its status; names of this machine and this run are replaced.
run_case()
{
    local status
    mkdir -p "$WORK/empty"
    (
        cd "$WORK/empty" || exit 1
        env -u NO_COLOR -u XDG_STATE_HOME -u PYTHON_EXEC TZ=UTC LC_ALL=C.UTF-8 TERM=xterm HOME="$WORK" PATH="$BUILD/bin:$PATH" \
            TIDEMARK_COORDINATOR="$(cat "$WORK/address")" REQUESTS="$WORK/requests" API="$HERE/api" \
            timeout "$CASE_S" bash -c "$1" 2>&1 </dev/null
    )
    status=$?
    [ $status -eq 0 ] || echo "[$status]"
}

clean()
{
    sed -e "s#$(cat "$WORK/address")#http://STUB#g" -e "s#$WORK#WORK#g" -e "s#$HERE/api#API#g"
}

run_file()
{
    local file=$1 group name='' command='' line expected="$WORK/expected" actual="$WORK/actual"
    group=$(basename "$file" .txt)
    cp "$file" "$WORK/old"
    : >"$WORK/new"
    finish_case()
    {
        [ -n "$command" ] || return 0
        # Blank lines between cases are no output.
        sed -i -e :a -e '/^\n*$/{$d;N;ba' -e '}' "$expected"
        stub_start
        run_case "$command" | clean >"$actual"
        { cat "$actual"; echo; } >>"$WORK/new"
        if cmp -s "$expected" "$actual"; then
            echo "ok $name"
        else
            echo "not ok $name"
            diff -u --label expected "$expected" --label printed "$actual" | sed 's/^/# /'
        fi
        command=
    }
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        '## '*)
            finish_case
            name=$group/${line#'## '}
            echo "$line" >>"$WORK/new"
            ;;
        '$ '*)
            finish_case
            command=${line#'$ '}
            : >"$expected"
            echo "$line" >>"$WORK/new"
            ;;
        *) [ -z "$command" ] || echo "$line" >>"$expected" ;;
        esac
    done <"$WORK/old"
    finish_case
    if $UPDATE; then
        # Exactly one blank line behind each case.
        cat -s "$WORK/new" | sed -e '${/^$/d}' >"$file"
    fi
}

for binary in tidemark stub_api; do
    [ -x "$BUILD/bin/$binary" ] || { echo "not ok binaries: $BUILD/bin/$binary is not there; build first"; exit 1; }
done

for file in "$HERE"/golden/*.txt; do
    run_file "$file"
done
