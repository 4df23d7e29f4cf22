#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What tests/run makes of the tests it runs: nothing that failed, crashed, hung, said nothing or was left out counts as passed.
set -uo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/lib/scenario.sh
. "$ROOT/tests/lib/scenario.sh"

WORK=$(mktemp -d) || exit 1
trap 'rm -rf "$WORK"' EXIT

# counts WANTED WAY SCRIPT: the last line that a reporter prints which ran this script in that way (run_tap, run_whole).
counts()
{
    local wanted=$1 way=$2 script=$3 said
    # shellcheck disable=SC2016 # the inner shell expands these
    said=$(bash -c '. "$0/tests/lib/report.sh"; report_begin "$1"; "$2" it 3 bash -c "$3"; report_end' \
        "$ROOT" "$WORK" "$way" "$script" 2>&1)
    equal "$(tail -n 1 <<<"$said")" "$wanted" || { echo "$said"; return 1; }
}

expect "cases are counted one by one" counts "2 passed, 1 failed" run_tap 'echo "ok 1 - a"; echo "not ok 2 - b"; echo "ok 3 - c"; exit 1'
expect "a crash after the last case is a failure" counts "1 passed, 1 failed" run_tap 'echo "ok 1 - a"; kill -11 $$'
expect "so is a test that says nothing" counts "0 passed, 1 failed" run_tap 'true'
expect "and one that hangs" counts "1 passed, 1 failed" run_tap 'echo "ok 1 - a"; sleep 30'
expect "a skip is no pass" counts "1 passed, 0 failed, 1 skipped" run_tap 'echo "ok 1 - a"; echo "skip b # SKIP needs root"'
expect "nor a failure, as cmocka writes it" counts "1 passed, 0 failed, 1 skipped" run_tap 'echo "ok 1 - a"; echo "not ok 2 # SKIP b"'
expect "a failure whose name holds the word is one" counts "0 passed, 1 failed" run_tap 'echo "not ok 1 - SKIP_is_no_skip"; exit 1'
expect "a command passes" counts "1 passed, 0 failed" run_whole 'true'
expect "or fails" counts "0 passed, 1 failed" run_whole 'exit 1'
expect "or hangs" counts "0 passed, 1 failed" run_whole 'sleep 30'
expect "or is not possible here" counts "0 passed, 0 failed, 1 skipped" run_whole 'echo "# skipped: needs root"; exit 77'
expect "and the reason is told" says "skip it: needs root" bash -c '. "$0/tests/lib/report.sh"; report_begin "$1"
    run_whole it 30 bash -c "echo \"# skipped: needs root\"; exit 77"' "$ROOT" "$WORK"
scenario_end
