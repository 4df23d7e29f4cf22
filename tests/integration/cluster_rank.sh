#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A rank is killed: the job goes on from the memory of its nodes, and computes the same.
set -uo pipefail
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

scenario_cluster 2 --slots 4
tide run --name pulse --nnodes 2 --nproc-per-node 2 --launcher none --ckpt-every 300ms -- "$PULSE" --until "$CLUSTER_DIR/pulse.until"
wait_for 60 "a checkpoint" job_restorable pulse
expect "a rank can be killed" cluster_rank_kill pulse 2
job_let_end pulse
expect "the job succeeds all the same" job_succeeds pulse
expect "with one restart" equal "$(cluster_job pulse .job.restarts)" 1
expect "the first to fail is named" equal "$(cluster_job pulse '.job.recoveries[0] | "\(.cause) \(.rank)"')" "rank_exited 2"
expect "it was detected within 50 ms" cluster_job_is pulse '.job.recoveries[0].detect_ms <= 50'
expect "it went on from a checkpoint" cluster_job_is pulse '.job.recoveries[0] | .cut > 0 and .to_step > 0'
expect "its ranks computed what they would have alone" equal "$(job_hashes pulse)" "$(pulse_hashes 4 --steps "$ENDS_AT")"
expect "the timeline names the signal" says "signal 9" tide job explain pulse
expect "nothing is left of it" nothing_left
scenario_end
