#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The disk of the leader of three fills up: another one leads before anything fails, and the full one goes on following.
set -uo pipefail
if ! unshare -m true 2>/dev/null; then
    echo "skip group_full/a full disk # SKIP mounting a tmpfs needs root"
    exit 0
fi
# Mounts of its own, which end with it.
[ "${GROUP_FULL_INSIDE:-0}" = 1 ] || exec env GROUP_FULL_INSIDE=1 unshare -m bash "$0" "$@"
# shellcheck source=tests/lib/scenario.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib/scenario.sh"

DISK_MIB=130
FILL_MIB=70 # the rest is less than the reserve
SETTLE_S=60

submitted()
{
    tide run --name "$1" -- /bin/true
}

filled()
{
    cluster_await_leader || return 1
    FULL=$CLUSTER_LEADER
    head -c $((FILL_MIB << 20)) /dev/zero >"$CLUSTER_DIR/c$FULL/filler"
    # Whoever writes finds out.
    submitted notices && wait_for $SETTLE_S "another member to lead" another_leads
}

another_leads()
{
    cluster_leader_known && [ "$CLUSTER_LEADER" != "$FULL" ]
}

many_submitted()
{
    local i
    for ((i = 0; i < 20; i++)); do submitted "full-$i" || return 1; done
}

cluster_create "$SCENARIO_BUILD" || exit 1
for member in 1 2 3; do
    mkdir -p "$CLUSTER_DIR/c$member" && mount -t tmpfs -o size=${DISK_MIB}m tmpfs "$CLUSTER_DIR/c$member" || exit 1
done
cluster_start 3 || { echo "not ok $SCENARIO_NAME/the group starts"; exit 1; }

expect "commands are taken" submitted before
expect "a leader whose disk fills up makes another one lead" filled
expect "it says why" grep -qF "another one should lead" "$CLUSTER_DIR/c$FULL.log"
expect "commands are taken all the time" many_submitted
expect "the full one follows" cluster_same
rm -f "$CLUSTER_DIR/c$FULL/filler"
expect "with room again nothing is different" submitted after
for member in 1 2 3; do
    cluster_member_kill "$member"
    umount "$CLUSTER_DIR/c$member"
done
scenario_end
