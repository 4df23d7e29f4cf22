#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/unit/mutants_disk.sh [NAME …]: do the tests of coordinator/disk notice? Each mutant is one deliberate bug in a copy of
# it, mostly a promise to the disk that is skipped. One line per mutant, last line "mutants N  caught C". Exit status 0 when
# all were caught and the source as it is passes. A mutant whose text is not in the source any more must be written anew.
set -uo pipefail
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${MUTANT_BUILD:-$ROOT/build-tests/mutants-disk}
TESTS=(wal_mark disk_fault wal snapshot snapshot_file check)
TEST_S=120
FLAGS=(-std=gnu17 -D_GNU_SOURCE -g -O1 -fno-strict-aliasing -w -I"$BUILD/tree/include" -I"$BUILD/tree")

# name, file, perl substitution over the whole file
mutants()
{
    cat <<'END'
none                          -               -
append_without_fdatasync      wal.c           s/wal->dirty && fdatasync\(wal->fd\) != 0/0/
roll_without_sync             wal.c           s/status = wal_sync\(wal, err\);\n    return status == TIDE_OK \? wal_begin/status = TIDE_OK;\n    return status == TIDE_OK ? wal_begin/
marks_before_the_disk         wal.c           s/(    if \(wal->dirty && fdatasync)/    (void)wal_mark_synced(wal, NULL);\n$1/
mark_is_not_looked_at         wal_open.c      s/last && scan\.verdict != SEGMENT_CORRUPT/0/
mark_looked_at_after_the_cut  wal_open.c      s/(    if \(last && scan\.verdict != SEGMENT_CORRUPT\)\n.*?err\);\n)    if \(status == TIDE_OK\)\n(.*?;\n)/$2    if (status == TIDE_OK)\n    $1/s
mark_stays_when_taken_back    wal_files.c     s/status = wal_mark_forget\(wal, err\);\n    \/\* Newest/;\n    \/* Newest/
mark_stays_when_begun_again   wal_files.c     s/status = wal_mark_forget\(wal, err\);\n    while/status = TIDE_OK;\n    while/
forgotten_mark_comes_back     wal_mark.c      s/fdatasync\(wal->mark_fd\) != 0/0/
mark_of_another_log_counts    wal_mark.c      s/ \|\| last_term > mark->term//
mark_without_checksum         wal_mark.c      s/ &&\n        image\.sum == XXH3_64bits\(.*?sum\)\)\)/)/
mark_is_not_reported          check.c         s/    check_mark\(&c\);\n//
goes_on_after_a_failed_sync   wal.c           s/wal->broken\.status = status;//; s/wal->broken = \*err;//
reads_what_changed            wal.c           s/!record_valid\(data, \(uint64_t\)n, 0, &header\)/0/
segment_without_fsync         segment.c       s/fsync\(fd\) != 0/0/
segment_without_dir_fsync     segment.c       s/return fsx_sync_dir\(dir, err\)/return TIDE_OK/
cuts_a_flipped_bit            segment.c       s/next\.synced >= index \|\| \(behind == 0 && !has_hole\(data, bad, at\)\)/0/
chain_is_not_looked_at        segment.c       s/header\.prev != scan->last_sum \|\|/0 ||/
spare_without_sync            wal_files.c     s/fdatasync\(fd\) != 0/0/
spare_without_dir_fsync       wal_files.c     s/fsx_sync_dir\(wal->dir, err\);\n\}\n\nenum tide_status wal_begin_seg/TIDE_OK;\n}\n\nenum tide_status wal_begin_seg/
truncates_oldest_first        wal_files.c     s/wal_newest\(wal\)->first > index\)/0)/
resets_over_newer_segments    wal_files.c     s/wal_newest\(wal\)->first >= first/0/
keeps_a_replaced_history      wal_open.c      s/wal->floor_term != 0 &&/0 \&\&/
half_a_reset_is_corrupt       wal_open.c      s/scan->header\.first == wal->floor && !continues/0 \&\& !continues/
torn_tail_is_kept             wal_open.c      s/scan->verdict == SEGMENT_TORN/0/
image_without_fsync           snapshot.c      s/fsync\(fd\) != 0/0/
image_without_dir_fsync       snapshot.c      s/status = fsx_sync_dir\(dir, err\);\n    if \(status == TIDE_OK\)\n        \*ret_digest/if (status == TIDE_OK)\n        *ret_digest/
image_without_checksum        snapshot.c      s/header->sum !=\s*\n?\s*XXH3_64bits_withSeed\(/0 \&\& 0 != XXH3_64bits_withSeed(/
prunes_one_too_many           snapshot.c      s/remove_through\(dir, "\.img", oldest - 1/remove_through(dir, ".img", oldest/
received_without_fsync        snapshot_file.c s/fsync\(receive->fd\) != 0/0/
received_without_dir_fsync    snapshot_file.c s/return fsx_sync_dir\(receive->dir, err\)/return TIDE_OK/
received_without_check        snapshot_file.c s/sum != header\.sum \|\| sum != receive->digest/0/
resumes_another_image         snapshot_file.c s/&& header->sum == receive->digest//
takes_anothers_directory      datadir.c       s/wanted->member != dir->member/0/
ballot_without_checksum       datadir.c       s/image\.sum != XXH3_64bits/0 \&\& image.sum != XXH3_64bits/
new_directory_not_durable     datadir.c       s/fsx_sync_dir\(dirname\(parent\), err\)/TIDE_OK/
forgotten_vote_is_fine        check.c         s/ballot\.term < c->term &&/0 \&\&/
END
}

plant()
{
    rm -rf "$BUILD/tree"
    mkdir -p "$BUILD/tree/coordinator" "$BUILD/tree/tests"
    cp -r "$ROOT/include" "$ROOT/ckpt" "$BUILD/tree/"
    cp -r "$ROOT/coordinator/disk" "$BUILD/tree/coordinator/"
    cp -r "$ROOT/tests/lib" "$ROOT/tests/unit" "$BUILD/tree/tests/"
}

# What no mutant changes is compiled once.
compile_rest()
{
    mkdir -p "$BUILD/base" "$BUILD/faults"
    (cd "$BUILD/base" && gcc "${FLAGS[@]}" -c "$BUILD"/tree/ckpt/base/*.c) &&
        (cd "$BUILD/faults" && gcc "${FLAGS[@]}" -c "$BUILD"/tree/tests/lib/disk_*.c)
}

compile()
{
    local test faults
    rm -f "$BUILD"/test_*
    (cd "$BUILD" && gcc "${FLAGS[@]}" -c tree/coordinator/disk/*.c) || return 1
    for test in "${TESTS[@]}"; do
        faults=()
        [ "$test" != disk_fault ] || faults=("$BUILD"/faults/*.o)
        gcc "${FLAGS[@]}" "$BUILD/tree/tests/unit/test_$test.c" "$BUILD"/*.o "$BUILD"/base/*.o "${faults[@]}" \
            -o "$BUILD/test_$test" -lcmocka -lxxhash -ldl || return 1
    done
}

# The test that notices, on stdout; status 1 when none does.
caught_by()
{
    local test
    for test in "${TESTS[@]}"; do
        timeout "$TEST_S" "$BUILD/test_$test" >"$BUILD/log" 2>&1 || { echo "$test"; return 0; }
    done
    return 1
}

plant && compile_rest || exit 1
count=0 caught=0 failed=0
while read -r name file change; do
    [ $# -eq 0 ] || [[ " $* " == *" $name "* ]] || continue
    source=$BUILD/tree/coordinator/disk/$file
    [ "$name" = none ] || perl -0pi -e "$change" "$source"
    if [ "$name" != none ] && cmp -s "$source" "$ROOT/coordinator/disk/$file"; then
        echo "$name: its text is not in $file any more"
        failed=1
    elif ! compile >"$BUILD/log" 2>&1; then
        tail -n 20 "$BUILD/log"
        echo "$name: does not compile"
        failed=1
    elif by=$(caught_by); then
        echo "$name: caught by $by"
        [ "$name" != none ] || { tail -n 20 "$BUILD/log"; failed=1; }
        caught=$((caught + 1))
    else
        echo "$name: not caught"
        [ "$name" = none ] || failed=1
    fi
    [ "$name" = none ] || { count=$((count + 1)); cp "$ROOT/coordinator/disk/$file" "$source"; }
done < <(mutants)
echo "mutants $count  caught $caught"
exit "$failed"
