#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tidemark-step alone, driven by step_driver.py in the agent's place: plain programs, MPI, failures of every kind.
#     step.sh [CASE …]          STEP_KILL_ROUNDS=N: generations of mpi_random_kills; STEP_KEEP=1: keep the directories
set -u
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${TIDE_BUILD:-$ROOT/build-tests/plain}
DEADLINE_S=240
exec timeout -k 5 "$DEADLINE_S" python3 "$ROOT/tests/integration/step_driver.py" "$BUILD/bin/tidemark-step" "$BUILD/tests" "$@"
