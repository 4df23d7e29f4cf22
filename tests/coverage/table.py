#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Lines run, of lines there are, per file of some folders; from what gcov says about a build that has been run."""
import argparse
import collections
import json
import pathlib
import subprocess
import sys


def lines_of(build, folders):
    """{file: {line: times run}}. A header's line counts when any program that has it ran it."""
    found = collections.defaultdict(dict)
    root = pathlib.Path.cwd()
    # By name: a simulator may have built the same source once more, for itself.
    sources = {s.name + ".gcno" for f in folders for s in pathlib.Path(f).glob("*.c")}
    notes = [n for n in build.rglob("*.gcno") if n.name in sources]
    if not notes:
        sys.exit(f"coverage: {build} holds no build with counters of {' and '.join(folders)}")
    for note in notes:
        out = subprocess.run(["gcov", "--json-format", "--stdout", str(note.resolve())], cwd=build, check=True,
                             capture_output=True, text=True).stdout
        for text in out.splitlines():
            told = json.loads(text)
            for file in told["files"]:
                path = (pathlib.Path(told["current_working_directory"]) / file["file"]).resolve()
                if not any(path.is_relative_to(root / f) for f in folders):
                    continue
                path = path.relative_to(root)
                for line in file["lines"]:
                    n = line["line_number"]
                    found[str(path)][n] = max(found[str(path)].get(n, 0), line["count"])
    return found


def percent(run, there):
    return 100.0 * run / there if there else 0.0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--min", type=float, required=True, help="per cent of each folder's lines")
    parser.add_argument("--missing", action="store_true", help="list the lines that nothing ran")
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("folders", nargs="+")
    args = parser.parse_args()
    found = lines_of(args.build, args.folders)
    low = False
    for folder in args.folders:
        all_run = all_there = 0
        for path in sorted(p for p in found if p.startswith(folder + "/")):
            run, there = sum(1 for c in found[path].values() if c), len(found[path])
            all_run, all_there = all_run + run, all_there + there
            print(f"{path:45} {run:5} of {there:5}  {percent(run, there):6.1f} %")
            if args.missing:
                for line in sorted(n for n, c in found[path].items() if not c):
                    print(f"  {path}:{line}")
        enough = percent(all_run, all_there) >= args.min
        low = low or not enough
        print(f"{folder:45} {all_run:5} of {all_there:5}  {percent(all_run, all_there):6.1f} %"
              f"  {'ok' if enough else f'below {args.min:g} %'}")
    return 1 if low else 0


sys.exit(main())
