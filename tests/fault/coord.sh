# SPDX-License-Identifier: Apache-2.0
# The scenarios coord-* of tests/fault/run, which sources this: a group of coordinators, clients of its API (tests/lin), and
# members that die, stand still or do not reach each other. Then all is healed, and
#   - what the clients saw must be linearizable: nothing acknowledged is lost, nothing happens twice, no read is old
#   - every member must hold the same
# shellcheck shell=bash
# shellcheck disable=SC2154 # scenario, rounds and seed are those of run

COORD_MEMBERS=${COORD_MEMBERS:-3}
COORD_STRIKES=6         # in a round
COORD_CLIENTS=12
COORD_PAUSE_MS=15       # mean, of a client between two operations: with all of them far from the requests a group remembers
COORD_AWAY_ENTRIES=4500 # of the log, written while a member is away: more than is kept for it
COORD_AWAY_S=60         # ... and if that takes longer, something is wrong
COORD_SNAPSHOT_EVERY=500
COORD_BEFORE_MS=500     # of quiet at the start, so that there is something to lose
COORD_WORKLOAD_S=180    # a workload that has not ended by then hangs
COORD_HISTORIES=${TMPDIR:-/tmp} # where a bad one is left
COORD_READS=${COORD_READS:-} # "stale": what members have, not what the group agreed on; must be found

# ---- strikes: each begins, lasts, ends ----

# A member that runs, the leader in two of three cases: sets MEMBER.
draw_member()
{
    local running
    below 3
    if [ "$DRAWN" -gt 0 ] && cluster_leader_known && [ -n "${CLUSTER_MEMBER_PID[$CLUSTER_LEADER]:-}" ]; then
        MEMBER=$CLUSTER_LEADER
        LED=", the leader,"
        return
    fi
    mapfile -t running < <(printf '%s\n' "${!CLUSTER_MEMBER_PID[@]}" | sort -n)
    [ ${#running[@]} -gt 0 ] || return 1
    below ${#running[@]}
    MEMBER=${running[$DRAWN]}
    LED=
}

draw_other()
{
    below $((CLUSTER_COORDINATORS - 1))
    OTHER=$((DRAWN + 1))
    [ "$OTHER" -lt "$MEMBER" ] || OTHER=$((OTHER + 1))
}

# What happens goes into the history too, beside what clients saw.
coord_hit()
{
    hit "$*"
    echo "$*" >&"$COORD_NOTES"
}

last_ms()
{
    between "$1" "$2"
    pause_ms "$DRAWN"
}

coord_kill()
{
    draw_member || return
    local first=$MEMBER
    cluster_member_kill "$first" && coord_hit "member $first$LED killed"
    below 5
    if [ "$DRAWN" -eq 0 ] && draw_member; then # and so may be the majority
        cluster_member_kill "$MEMBER" && coord_hit "member $MEMBER$LED killed too"
    fi
    last_ms 50 1500
    for MEMBER in $(cluster_members); do
        [ -n "${CLUSTER_MEMBER_PID[$MEMBER]:-}" ] || { cluster_member_start "$MEMBER" && coord_hit "member $MEMBER started again"; }
    done
}

coord_stop()
{
    draw_member || return
    local stopped=$MEMBER
    cluster_member_stop "$stopped" && coord_hit "member $stopped$LED stands still"
    last_ms 100 2500
    cluster_member_continue "$stopped" && coord_hit "member $stopped goes on"
}

coord_partition()
{
    draw_member || return
    draw_other
    below 5
    case $DRAWN in
    0) cluster_isolate "$MEMBER" && coord_hit "member $MEMBER$LED cut off from the others" ;;
    1)
        if cluster_is_root; then
            cluster_unplug "$MEMBER" && coord_hit "member $MEMBER$LED unplugged"
        else
            cluster_isolate "$MEMBER" && coord_hit "member $MEMBER$LED cut off"
        fi
        ;;
    2) cluster_cut "$MEMBER" "$OTHER" && cluster_cut "$OTHER" "$MEMBER" && coord_hit "members $MEMBER$LED and $OTHER cut off from each other" ;;
    3)
        for OTHER in $(cluster_members); do [ "$OTHER" = "$MEMBER" ] || cluster_cut "$MEMBER" "$OTHER"; done
        coord_hit "member $MEMBER$LED is not heard by the others, but hears them"
        ;;
    *)
        for OTHER in $(cluster_members); do [ "$OTHER" = "$MEMBER" ] || cluster_cut "$OTHER" "$MEMBER"; done
        coord_hit "member $MEMBER$LED does not hear the others, but they hear it"
        ;;
    esac
    last_ms 200 3000
    cluster_mend && coord_hit "the network is whole"
}

# Messages are late by up to an election's time, in one direction or both, and some meet the next leader.
coord_slow()
{
    draw_member || return
    local other
    for other in $(cluster_members); do
        [ "$other" != "$MEMBER" ] || continue
        between 0 400
        cluster_slow "$MEMBER" "$other" "$DRAWN"
        between 0 400
        cluster_slow "$other" "$MEMBER" "$DRAWN"
    done
    coord_hit "member $MEMBER$LED is slow to reach"
    last_ms 500 2500
    below 3
    [ "$DRAWN" -ne 0 ] || coord_kill
    cluster_mend && coord_hit "the network is quick again"
}

# The newest committed entry that any member knows of.
coord_commit()
{
    local member
    for member in "${!CLUSTER_MEMBER_PID[@]}"; do
        cluster_member_get "$member" 'v1/cluster?stale=true' 2>/dev/null | jq '[.members[].commit_index] | max'
    done | sort -n | tail -n 1
}

coord_commit_is()
{
    local commit
    commit=$(coord_commit)
    [ -n "$commit" ] && [ "$commit" -ge "$1" ]
}

# A member is gone for so long that the log the others kept does not reach back to it: it needs the state as a whole.
# Sometimes whoever sends it dies on the way.
coord_away()
{
    local away from
    cluster_await_leader || return
    MEMBER=$CLUSTER_LEADER
    draw_other
    away=$OTHER
    from=$(coord_commit)
    cluster_member_kill "$away" && coord_hit "member $away killed at entry $from"
    wait_for $COORD_AWAY_S "$COORD_AWAY_ENTRIES further entries" coord_commit_is $((from + COORD_AWAY_ENTRIES)) ||
        violated "the group without member $away is too slow"
    cluster_member_start "$away" && coord_hit "member $away started again"
    below 2
    [ "$DRAWN" -ne 0 ] || { last_ms 0 600; coord_kill; }
}

coord_strike()
{
    case $scenario in
    coord-kill) coord_kill ;;
    coord-stop) coord_stop ;;
    coord-partition) coord_partition ;;
    coord-slow) coord_slow ;;
    coord-away) coord_away ;;
    coord-mixed)
        below 4
        case $DRAWN in
        0) coord_kill ;;
        1) coord_stop ;;
        2) coord_partition ;;
        *) coord_two_at_once ;;
        esac
        ;;
    esac
}

# One stands still or is cut off while another dies: an old leader wakes up into a group that has gone on.
coord_two_at_once()
{
    draw_member || return
    local away=$MEMBER
    cluster_member_stop "$away" && coord_hit "member $away$LED stands still"
    last_ms 50 800
    draw_other
    if [ -n "${CLUSTER_MEMBER_PID[$OTHER]:-}" ]; then
        cluster_member_kill "$OTHER" && coord_hit "member $OTHER killed meanwhile"
    fi
    last_ms 50 800
    cluster_member_continue "$away" && coord_hit "member $away goes on"
    last_ms 0 500
    [ -n "${CLUSTER_MEMBER_PID[$OTHER]:-}" ] || { cluster_member_start "$OTHER" && coord_hit "member $OTHER started again"; }
}

# ---- a round ----

# The clients, in the background; COORD_NOTES takes lines for the history, "end" ends them.
coord_clients_start()
{
    local access=()
    ! cluster_is_root || access=(--identity "$CLUSTER_DIR/identity/admin" --agent-identity "$CLUSTER_DIR/identity/agent")
    rm -f "$CLUSTER_DIR/notes"
    mkfifo "$CLUSTER_DIR/notes" || return 1
    # shellcheck disable=SC2086 # COORD_READS: one word, or none
    (cluster_in 0 timeout $COORD_WORKLOAD_S python3 "$ROOT/tests/lin/workload.py" --coordinator "$CLUSTER_URL" \
        --out "$history" --clients $COORD_CLIENTS --pause-ms "$COORD_PAUSE_MS" --prefix "r$round-" --seed "$round_seed" ${COORD_READS:+--stale} "${access[@]}" \
        <"$CLUSTER_DIR/notes" >"$CLUSTER_DIR/workload.log" 2>&1) &
    COORD_CLIENTS_PID=$!
    exec {COORD_NOTES}<>"$CLUSTER_DIR/notes" # both: so nobody dies of writing when the clients have ended
}

coord_clients_end()
{
    local status
    echo end >&"$COORD_NOTES"
    exec {COORD_NOTES}>&-
    wait "$COORD_CLIENTS_PID"
    status=$?
    echo "# round $round: $(tail -n 1 "$CLUSTER_DIR/workload.log")"
    [ $status -eq 0 ] || violated "the clients (status $status): $(head -n 5 "$CLUSTER_DIR/workload.log" | tr '\n' ' ')"
}

coord_history_judge()
{
    local kept=$COORD_HISTORIES/tidemark-history-$scenario-$round_seed.jsonl
    "$SCENARIO_BUILD/bin/lin_check" "$history" >"$LEFT" 2>&1 && return
    cp "$history" "$kept"
    cat "$LEFT"
    violated "the history is not linearizable; it is kept in $kept"
}

coord_round()
{
    local strikes
    round=$1
    round_seed=$((seed + round))
    history=$CLUSTER_DIR/history-$round.jsonl
    RANDOM=$(((round_seed * 7919 + 104729) % 32768))
    coord_clients_start || { violated "the clients do not start"; return; }
    pause_ms $COORD_BEFORE_MS
    for ((strikes = 0; strikes < COORD_STRIKES; strikes++)); do
        coord_strike
        last_ms 0 1200
    done
    cluster_heal || violated "the group does not heal"
    echo healed >&"$COORD_NOTES"
    coord_clients_end
    coord_history_judge
    cluster_same || violated "the members do not hold the same"
}

# Or the scenario shows nothing.
coord_away_judge()
{
    grep -q "the state is now that of the leader's snapshot" "$CLUSTER_DIR"/c*.log || violated "no member needed the whole state"
}

# What each member would start from again: the same log, and from its own snapshot the same state.
coord_disks_judge()
{
    local member directories=()
    for member in $(cluster_members); do
        cluster_member_kill "$member"
        directories+=("$CLUSTER_DIR/c$member")
    done
    "$SCENARIO_BUILD/bin/group_check" "${directories[@]}" >"$LEFT" 2>&1 || violated "on the disks: $(head -c 1000 "$LEFT")"
    echo "# $(tail -n 1 "$LEFT")"
}

# Sets up, plays all rounds.
coord_play()
{
    local i
    # shellcheck disable=SC2034 # cluster.sh reads it
    CLUSTER_COORDINATOR_OPTIONS=(--snapshot-every "$COORD_SNAPSHOT_EVERY")
    if [ "$scenario" = coord-away ]; then
        COORD_STRIKES=2
        COORD_PAUSE_MS=1
    fi
    cluster_start "$COORD_MEMBERS" || exit 1
    for ((i = 0; i < rounds; i++)); do
        coord_round "$i"
    done
    [ "$scenario" != coord-away ] || coord_away_judge
    no_sanitizer_report >"$LEFT" || violated "a sanitizer has something to say: $(head -c 2000 "$LEFT")"
    coord_disks_judge
}
