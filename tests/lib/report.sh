# SPDX-License-Identifier: Apache-2.0
# One line per test, and the count at the end. Source it; call report_begin, then ok, not_ok, skip or one of run_tap and
# run_whole for each test, then report_end. What a subshell has printed with these counts once report_take has read it.
# shellcheck shell=bash

REPORT_TAIL=25    # lines shown of the log of a test that failed
REPORT_SLOW_S=10  # what takes longer is told
REPORT_SKIPPED=77 # exit status of a test that could not be done; "# skipped: …" says why

# report_begin DIR: where each test's output goes.
report_begin()
{
    LOGS=$1
    mkdir -p "$LOGS"
    PASSED=0
    FAILED=0
    FAILURES=()
    SKIPS=()
    REPORT_START=$SECONDS
}

ok()
{
    PASSED=$((PASSED + 1))
    echo "ok $1"
}

# not_ok NAME [LOG]: the end of the log is shown.
not_ok()
{
    FAILED=$((FAILED + 1))
    FAILURES+=("$1")
    echo "not ok $1"
    if [ -n "${2:-}" ]; then
        tail -n "$REPORT_TAIL" "$2" | sed 's/^/    /'
        echo "    (whole log: $2)"
    fi
}

skip()
{
    SKIPS+=("$1: $2")
    echo "skip $1: $2"
}

report_log()
{
    echo "$LOGS/$(tr -c 'A-Za-z0-9_.\n-' '-' <<<"$1").log"
}

# Why a command that was run under `timeout` ended badly.
report_status()
{
    case $1 in
    124) echo "did not end in time" ;;
    137) echo "did not end in time, or was killed" ;;
    *) if [ "$1" -gt 128 ]; then echo "died of signal $(($1 - 128))"; else echo "exit status $1"; fi ;;
    esac
}

# run_whole NAME SECONDS COMMAND…: one test, by exit status; 77 is a skip.
run_whole()
{
    local name=$1 limit=$2 log status from=$SECONDS
    shift 2
    log=$(report_log "$name")
    timeout -k 15 "$limit" "$@" >"$log" 2>&1 </dev/null
    status=$?
    if [ $status -eq 0 ]; then
        ok "$name"
    elif [ $status -eq $REPORT_SKIPPED ]; then
        skip "$name" "$(sed -n 's/^# skipped: //p' "$log" | tail -n 1)"
    else
        not_ok "$name: $(report_status $status)" "$log"
    fi
    report_slow "$name" $((SECONDS - from))
}

# run_tap NAME SECONDS COMMAND…: every "ok" and "not ok" line on stdout is a test of its own. A command that ends badly without
# having named a failure, or that names no test at all, is one failed test more.
run_tap()
{
    local name=$1 limit=$2 log status failed=$FAILED passed=$PASSED skipped=${#SKIPS[@]} line text from=$SECONDS
    shift 2
    log=$(report_log "$name")
    timeout -k 15 "$limit" "$@" >"$log.out" 2>"$log" </dev/null
    status=$?
    while IFS= read -r line; do
        text=$(sed -E 's/^(not ok|ok|skip) *([0-9]+ *)?(- *)?//' <<<"$line")
        text="$name: ${text#"$name/"}"
        case $line in
        "not ok "*"# SKIP "*) skip "$name: ${line##*# SKIP }" "not possible here, says the test" ;; # cmocka's way
        "ok "*"# SKIP"* | "skip "*) skip "${text%%#*}" "${text##*# SKIP}" ;;
        "ok "* | ok) ok "$text" ;;
        "not ok"*) not_ok "$text" ;;
        esac
    done < <(grep -aE '^(ok|not ok|skip)\b' "$log.out")
    cat "$log.out" >>"$log"
    rm -f "$log.out"
    if [ "$FAILED" -gt "$failed" ]; then
        tail -n "$REPORT_TAIL" "$log" | sed 's/^/    /'
        echo "    (whole log: $log)"
    elif [ $status -ne 0 ]; then
        not_ok "$name: $(report_status $status)" "$log"
    elif [ "$PASSED" -eq "$passed" ] && [ ${#SKIPS[@]} -eq "$skipped" ]; then
        not_ok "$name: reported no test" "$log"
    fi
    report_slow "$name" $((SECONDS - from))
}

# report_slow NAME SECONDS: with the processor time of what this shell has started and waited for, which in a pool is that test.
report_slow()
{
    [ "$2" -ge "$REPORT_SLOW_S" ] || return 0
    times >"$LOGS/times-$BASHPID" # in a pipe it would be that of another shell
    awk -F '[ms ]+' -v test="$1" -v seconds="$2" 'NR == 2 {
        printf "# %s took %d s, %.0f s of a processor\n", test, seconds, $1 * 60 + $2 + $3 * 60 + $4}' "$LOGS/times-$BASHPID"
    rm -f "$LOGS/times-$BASHPID"
}

# report_take NAME STATUS FILE: a subshell has ended with this status, and FILE is all that it printed. One that did not get
# to its end, or printed no test, is one failed test more.
report_take()
{
    local line before=$((PASSED + FAILED + ${#SKIPS[@]}))
    sed '$a\' "$3" # with a newline at its end, whatever happened
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in
        "ok "*) PASSED=$((PASSED + 1)) ;;
        "not ok "*) FAILED=$((FAILED + 1)) FAILURES+=("${line#not ok }") ;;
        "skip "*) SKIPS+=("${line#skip }") ;;
        esac
    done <"$3"
    if [ "$2" -ne 0 ]; then
        not_ok "$1: its job ended early: $(report_status "$2")"
    elif [ $((PASSED + FAILED + ${#SKIPS[@]})) -eq "$before" ]; then
        not_ok "$1: reported no test"
    fi
}

# Reasons of skips, names of failures, then the one line everybody looks for. Fails when a test did.
report_end()
{
    local line
    echo "# $((SECONDS - REPORT_START)) s"
    for line in "${FAILURES[@]}"; do echo "failed: $line"; done
    for line in "${SKIPS[@]}"; do echo "skipped: $line"; done
    line="$PASSED passed, $FAILED failed"
    [ ${#SKIPS[@]} -eq 0 ] || line="$line, ${#SKIPS[@]} skipped"
    echo "$line"
    [ "$FAILED" -eq 0 ]
}
