#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# How tests/run runs several tests at a time: what each prints stays together, all is counted, and ^C leaves nobody behind.
set -uo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/lib/scenario.sh
. "$ROOT/tests/lib/scenario.sh"

WORK=$(mktemp -d) || exit 1
trap 'rm -rf "$WORK"' EXIT

# pool JOBS SCRIPT: what a script prints and its status, with a pool of that many jobs that counts tests.
cat >"$WORK/runner" <<END
. "$ROOT/tests/lib/report.sh"
. "$ROOT/tests/lib/pool.sh"
cd "$WORK" && report_begin . && pool_begin "\$1" . report_take && eval "\$2"
END
pool()
{
    bash "$WORK/runner" "$@"
}

# prints WANTED JOBS SCRIPT
prints()
{
    equal "$(pool "$2" "$3" 2>&1)" "$1"
}

# counts WANTED SCRIPT: the last line.
counts()
{
    local said
    said=$(pool 2 "$2; pool_wait; report_end" 2>&1)
    equal "$(tail -n 1 <<<"$said")" "$1" || { echo "$said"; return 1; }
}

# How many run beside a job, written down by each; the first ones wait until there are as many as may be, and a moment longer.
MANY='beside() { mkdir "run.$1"; [ "$1" -gt "$2" ] || until [ -e all ] || [ "$(ls -d run.* | wc -l)" -ge "$2" ]; do sleep 0.1; done
        touch all; sleep 0.4; ls -d run.* | wc -l >>most; rmdir "run.$1"; echo "ok $1"; }
    rm -f most all; for i in 1 2 3 4 5; do pool_run $i beside $i $JOBS; done; pool_wait; sort -n most | tail -n 1'

most_at_a_time()
{
    equal "$(JOBS=$1 timeout 60 bash "$WORK/runner" "$1" "$MANY" | tail -n 1)" "$1"
}

expect "one at a time" most_at_a_time 1
expect "three at a time" most_at_a_time 3
expect "whoever ends first is shown first, and whole" prints "ok b1
ok b2
ok a1
ok a2" 2 'slow() { echo "ok a1"; until [ -e quick ]; do sleep 0.1; done; sleep 1; echo "ok a2"; }
    quick() { echo "ok b1"; sleep 0.2; echo "ok b2" >&2; touch quick; }; rm -f quick; pool_run a slow; pool_run b quick; pool_wait'
expect "what is alone comes last, with nothing beside it" prints "ok a
ok b
0
ok alone" 2 'busy() { touch "busy.$1"; sleep "$2"; rm "busy.$1"; echo "ok $1"; }; alone() { find . -name "busy.*" | wc -l; echo "ok $1"; }
    pool_alone c alone alone; pool_run a busy a 0.1; pool_run b busy b 1.5; pool_wait'
expect "one can be waited for, and the others go on" prints "ok a
then
ok b" 3 'for_s() { sleep "$1"; echo "ok $2"; }; pool_run b for_s 2 b; pool_run a for_s 0.2 a; pool_until a; echo then; pool_wait'
expect "its words arrive as they were" prints "ok a  b \$HOME ' \"" 2 "pool_alone c echo 'ok a  b \$HOME '\\'' \"'; pool_wait"
expect "a job changes nothing of ours" prints "ok a
0" 2 'N=0; change() { N=1; echo "ok a"; }; pool_run a change; pool_wait; echo $N'

expect "every line counts, and only whole ones" counts "2 passed, 1 failed, 1 skipped" 'a() { echo "ok a: x"; echo "    not ok shown of a log";
    echo "not ok a: y"; }; b() { echo "skip b: no root"; echo "# ok"; echo "ok b"; }; pool_run a a; pool_run b b'
expect "names of those that failed are kept" says "failed: a: y" pool 2 'pool_run a echo "not ok a: y"; pool_wait; report_end'
expect "a job that ends badly is a failure" counts "1 passed, 1 failed" 'a() { echo "ok a"; return 3; }; pool_run a a'
expect "so is one that is killed, and what it had printed counts" counts "1 passed, 1 failed" \
    'a() { printf "ok a"; kill -9 $BASHPID; }; pool_run a a'
expect "it is said which, and how it died" says "not ok a: its job ended early" pool 2 'a() { kill -9 $BASHPID; }; pool_run a a; pool_wait'
expect "and one that is not there" counts "0 passed, 1 failed" 'pool_run a no_such_function'
expect "and one that says nothing" counts "0 passed, 1 failed" 'pool_run a true'
expect "tests that are run in a pool are counted as ever" counts "2 passed, 1 failed" \
    'pool_run a run_tap a 5 bash -c "echo ok 1; echo not ok 2; exit 1"; pool_run b run_whole b 5 true'

# Two tests that take long, and take down what they made when they are told to.
LONG='long() { run_tap "$1" 60 bash -c "trap \"touch down.$1; exit 1\" TERM; touch up.$1; sleep 50 & wait"; }
    pool_run a long a; pool_run b long b; pool_wait; echo "not reached"'

# interrupted SIGNAL STATUS [-]: with "-" the signal goes to the whole process group, as that of a terminal's ^C does.
interrupted()
{
    local pid status
    rm -f "$WORK"/up.* "$WORK"/down.*
    (trap - INT; exec setsid bash "$WORK/runner" 2 "$LONG") >"$WORK/said" 2>&1 & # not ignored, as it is by what runs in the background
    pid=$!
    wait_for 60 "one to run" test -e "$WORK/up.a" && wait_for 60 "the other" test -e "$WORK/up.b" || return 1
    kill "-$1" -- "${3:-}$pid"
    wait "$pid"
    status=$?
    equal "$status" "$2" && [ -e "$WORK/down.a" ] && [ -e "$WORK/down.b" ] && ! grep -q "not reached" "$WORK/said" &&
        equal "$(find "$WORK" -name 'job-*')" "" || { ls "$WORK"; cat "$WORK/said"; return 1; }
}
expect "^C ends the tests first, which take down what they made" interrupted INT 130 -
expect "so does SIGTERM" interrupted TERM 143
scenario_end
