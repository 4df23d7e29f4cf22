# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Deliberate bugs in a copy of the source, which tests must catch. Who sources this sets
#   ROOT, BUILD, TREE   the source, where to build, and the copy in it
#   mutants             prints the table: name, file, perl substitution over the whole file; "none - -" first
#   plant               makes the copy, with a CMakeLists.txt
#   caught_by NAME      builds the copy; prints what caught the mutant in it, BUILD when it does not compile, nothing when nobody did
# and calls mutants_run. MUTANT_DIR: what the files of the table begin with. MUTANT_CMAKE: more options for cmake (an array).

# What each copy's CMakeLists.txt begins with: only some of its parts are built, the shells and their libraries stay out.
mutants_cmake()
{
    cat <<'END'
cmake_minimum_required(VERSION 3.25)
project(mutant LANGUAGES C)
find_package(PkgConfig REQUIRED)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
set(CMAKE_C_STANDARD 17)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
add_library(tide_flags INTERFACE)
target_compile_definitions(tide_flags INTERFACE _GNU_SOURCE)
target_include_directories(tide_flags INTERFACE ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR})
target_compile_options(tide_flags INTERFACE -O1 -g -fno-strict-aliasing -w)
function(tide_floor name)
  cmake_parse_arguments(FLOOR "" "" "SOURCES;LINK" ${ARGN})
  add_library(${name} STATIC EXCLUDE_FROM_ALL ${FLOOR_SOURCES})
  target_link_libraries(${name} PUBLIC tide_flags ${FLOOR_LINK})
endfunction()
file(GLOB base ckpt/base/*.c)
tide_floor(tide_base SOURCES ${base} LINK PkgConfig::XXHASH)
END
}

# said_or_died WHO WHAT: what a test said of the mutant. Nothing: it crashed, or did not end, and that is a catch as well as any.
said_or_died()
{
    echo "${2:-$1 that died: $(tail -n 1 "$BUILD/log" | cut -c 1-80)}"
}

# mutate FILE SUBSTITUTION: only that file's time stamp changes, so little is built again.
mutate()
{
    cp "$ROOT/$1" "$TREE/$1.new"
    perl -0pi -e "$2" "$TREE/$1.new"
    if cmp -s "$ROOT/$1" "$TREE/$1.new"; then
        rm "$TREE/$1.new"
        return 1
    fi
    mv "$TREE/$1.new" "$TREE/$1"
}

# mutants_run [NAME …]: all of them, or those named. One line per mutant, last line "mutants N  caught C, by seeds S". Status 0 when all
# were caught, and nothing without any.
mutants_run()
{
    local name file substitution how count=0 caught=0 by_seeds=0
    mkdir -p "$BUILD"
    plant
    cmake -S "$TREE" -B "$BUILD/build" -G Ninja "${MUTANT_CMAKE[@]}" >"$BUILD/log" 2>&1 || { tail -n 20 "$BUILD/log" >&2; return 1; }
    while read -r name file substitution; do
        [ $# -eq 0 ] || [[ " $* none " == *" $name "* ]] || continue
        file=${MUTANT_DIR:-}$file
        if [ "$name" != none ] && ! mutate "$file" "$substitution"; then
            count=$((count + 1))
            echo "not ok $name: its text is not in $file any more"
            continue
        fi
        how=$(caught_by "$name" </dev/null)
        if [ "$name" = none ]; then
            [ -z "$how" ] || { echo "not ok: without any mutant there is a fault already: $how"; return 1; }
            continue
        fi
        cp "$ROOT/$file" "$TREE/$file"
        count=$((count + 1))
        case $how in
        BUILD) echo "not ok $name: does not compile"; tail -n 5 "$BUILD/log" ;;
        '') echo "not ok $name: nobody noticed" ;;
        *)
            caught=$((caught + 1))
            [[ $how != seed* ]] || by_seeds=$((by_seeds + 1))
            echo "ok $name: $how"
            ;;
        esac
    done < <(mutants)
    echo "mutants $count  caught $caught, by seeds $by_seeds"
    [ "$count" -gt 0 ] && [ "$count" -eq "$caught" ]
}
