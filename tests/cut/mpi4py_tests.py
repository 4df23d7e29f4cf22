# SPDX-License-Identifier: Apache-2.0
"""mpi4py_tests.py DIR [FILE...]: mpi4py's own tests of DIR (its source's test/), or of those files of them.

Exit status 0 when all passed. Left out: tests that start processes, and with --but-synchronous those that claim that a synchronous
send is not complete before its receive has begun. While a checkpoint is being taken it may be (ckpt/cut/README.md).
"""
import glob
import os
import sys
import unittest

SPAWN = {"test_spawn", "test_dynproc"}
SYNCHRONOUS = {
    "test_p2p_buf": {"testProbe"},
    "test_p2p_obj": {"testCancel", "testProbe", "testISSendAndRecv", "testTestSomeSend", "testWaitSomeSend"},
    "test_util_pkl5": {"testProbe", "testISSendAndRecv", "testISSendCancel", "testTestAll", "testWaitAll"},
}


def flat(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from flat(test)
        else:
            yield test


def main():
    arguments = sys.argv[1:]
    but_synchronous = "--but-synchronous" in arguments
    if but_synchronous:
        arguments.remove("--but-synchronous")
    directory, names = arguments[0], arguments[1:]
    sys.path.insert(0, directory)
    os.chdir(directory)
    names = names or [os.path.basename(p)[:-3] for p in sorted(glob.glob(os.path.join(directory, "test_*.py")))]
    chosen = unittest.TestSuite()
    for name in names:
        if name in SPAWN:
            continue
        left_out = SYNCHRONOUS.get(name, set()) if but_synchronous else set()
        tests = unittest.defaultTestLoader.loadTestsFromName(name)
        chosen.addTests(t for t in flat(tests) if t.id().rsplit(".", 1)[-1] not in left_out)
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=0).run(chosen)
    print(f"tests {result.testsRun} skipped {len(result.skipped)} failed {len(result.failures) + len(result.errors)}", flush=True)
    return 0 if result.wasSuccessful() else 1


sys.exit(main())
