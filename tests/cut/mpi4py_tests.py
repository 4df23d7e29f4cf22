# SPDX-License-Identifier: Apache-2.0
"""mpi4py_tests.py DIR [FILE...]: mpi4py's own tests of DIR (its source's test/), or of those files of them.

Exit status 0 when all passed. Left out: tests that start processes.
"""
import glob
import os
import sys
import unittest

SPAWN = {"test_spawn", "test_dynproc"}


def main():
    directory, names = sys.argv[1], sys.argv[2:]
    sys.path.insert(0, directory)
    os.chdir(directory)
    names = names or [os.path.basename(p)[:-3] for p in sorted(glob.glob(os.path.join(directory, "test_*.py")))]
    chosen = unittest.TestSuite()
    for name in names:
        if name not in SPAWN:
            chosen.addTests(unittest.defaultTestLoader.loadTestsFromName(name))
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=0).run(chosen)
    print(f"tests {result.testsRun} skipped {len(result.skipped)} failed {len(result.failures) + len(result.errors)}", flush=True)
    return 0 if result.wasSuccessful() else 1


sys.exit(main())
