#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# MPI programs that know nothing of tidemark give the same results while cuts are taken of them; all of them: tests/cut/programs.
set -uo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/../cut/programs" --short
