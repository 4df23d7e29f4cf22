# SPDX-License-Identifier: Apache-2.0
# The scenario kill-gc of tests/fault/run, which sources this: a job takes checkpoints as fast as the store takes them, all but few are
# deleted at once, and agents die (-9) in the middle of both. At the end every checkpoint that is listed verifies, and the store holds
# what these name and nothing else: of that the store's files are asked, not our own code.
# GC_KILLS=100: so many times in a round.
# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # tests/fault/run reads and sets them

GC_NODES=2
GC_KILLS=${GC_KILLS:-8}
GC_KILLS_MORE=8      # times as many, until one was in the middle
GC_STEP_MS=5
GC_KIB=1024
GC_CKPT_EVERY=100ms
GC_HEARTBEAT_MS=50  # a checkpoint takes a few of these: the rest of the time something is stored or deleted
GC_LATER_MS=8       # behind the moment when something was seen half done
GC_KEEP=2
GC_KEEP_EVERY=7     # so that some of those from the middle of the round are looked at, too
GC_GRACE=50ms
GC_CLEAN_S=40       # by then everything that was given up is deleted
GC_KILLED=0         # in this round …
GC_MID=0            # … while something was half stored or half deleted

gc_job_start()
{
    tide run --name "$job" --nnodes $GC_NODES --spares 1 --nproc-per-node 1 --launcher none --ckpt-every $GC_CKPT_EVERY \
        --ckpt-keep $GC_KEEP --ckpt-keep-every $GC_KEEP_EVERY --ckpt-grace $GC_GRACE --max-restarts 1000 \
        -- "$PULSE" --until "$CLUSTER_DIR/$job.until" --step-ms $GC_STEP_MS --kib $GC_KIB
}

# Is there a cut without its COMMIT, or a note that packs are to go?
gc_half_done()
{
    find "$CLUSTER_DIR/store" -type f -path "*/$job.*" -printf '%P\n' 2>/dev/null | awk -F/ '
        $1 == "c" { split($4, a, "-"); cut[a[1]] }
        $1 == "m" { split($3, a, "-"); cut[a[1]]; if ($4 == "COMMIT") whole[a[1]] }
        $1 == "g" { half = 1 }
        END { for (c in cut) if (!(c in whole)) half = 1; exit !half }'
}

# gc_kill_agent MOMENT: of one of the job's nodes. MOMENT waits for when; who it is is asked before, as that takes its time.
gc_kill_agent()
{
    local nodes node what='between two checkpoints'
    read -ra nodes < <(cluster_job "$job" '.job.nodes | join(" ")') || return
    [ ${#nodes[@]} -gt 0 ] || return
    below ${#nodes[@]}
    node=${nodes[$DRAWN]#n}
    $1
    kill -9 "${CLUSTER_AGENT_PID[$node]}" || return
    if gc_half_done; then
        what='something was half stored or half deleted'
        GC_MID=$((GC_MID + 1))
    fi
    hit "agent of n$node killed: $what"
    cluster_await_end "${CLUSTER_AGENT_PID[$node]}"
    # One in sixteen stays away for longer than its lease, and another node goes on with its part.
    below 16
    if [ "$DRAWN" -eq 0 ]; then between $((LEASE_MS + 200)) $((LEASE_MS + 1500)); else between 1 200; fi
    pause_ms "$DRAWN"
    cluster_agent_start "$node"
}

gc_any_moment()
{
    between 0 300
    pause_ms "$DRAWN"
}

# Something is half done, or a while has passed.
gc_await_half_done()
{
    local deadline=$((SECONDS + 2))
    until gc_half_done || [ "$SECONDS" -ge "$deadline" ]; do :; done
    between 0 $GC_LATER_MS
    pause_ms "$DRAWN"
}

gc_strike()
{
    local moments=(gc_any_moment gc_await_half_done)
    GC_MID=0
    wait_for 20 "two committed checkpoints of $job" committed 2 || { violated "$job takes no checkpoints"; return; }
    # How many of them hit the middle is chance, and on a quick machine none of a few may.
    for ((GC_KILLED = 0; GC_KILLED < GC_KILLS || (GC_MID == 0 && GC_KILLED < GC_KILLS_MORE * GC_KILLS); GC_KILLED++)); do
        between 300 800 # so that checkpoints are taken in between
        pause_ms "$DRAWN"
        gc_kill_agent "${moments[$((GC_KILLED % 2))]}"
    done
}

# gc_store_exact CUT…: the store holds what these checkpoints of the job name; what else there is, or is not, is printed.
# Of an earlier one that one of them refers to (n/…) the packs may be there, and the note that they are to go.
gc_store_exact()
{
    python3 - "$CLUSTER_DIR/store" "$job.$(cluster_job "$job" .job.uid)" "$@" <<'PYTHON'
import json, os, re, sys
root, job, kept = sys.argv[1], sys.argv[2], sys.argv[3:]
there = {os.path.relpath(os.path.join(at, name), root) for at, _, names in os.walk(root) for name in names if f"/{job}/" in f"{at}/"}
wrong, wanted, needed = [], set(), set()
for key in sorted(there):
    by = re.fullmatch(rf"n/{re.escape(job)}/(\d+)/(\d+)-\d+", key)
    if by and by[2] in kept:
        wanted.add(key)
        needed.add(by[1])
def read(key):
    wanted.add(key)
    if key not in there:
        return {}
    with open(os.path.join(root, key)) as file:
        return json.load(file)
for cut in kept:
    commits = [k for k in there if re.fullmatch(rf"m/{re.escape(job)}/{cut}-\d+/COMMIT", k)]
    if len(commits) != 1:
        wrong.append(f"checkpoint {cut} has {len(commits)} COMMITs")
    for commit in commits:
        for shard in read(commit).get("shards", []):
            for pack in read(shard["key"]).get("packs", []):
                wanted.add(pack["key"])
                owner = pack["key"].split("/")[3].split("-")[0]
                if owner != cut and owner not in needed:
                    wrong.append(f"checkpoint {cut} does not say that it needs {owner}")
def excused(key):
    part = key.split("/")
    return part[0] == "g" and part[2] in needed or part[0] == "c" and part[3].split("-")[0] in needed
wrong += [f"missing: {k}" for k in sorted(wanted - there)]
wrong += [f"left: {k}" for k in sorted(there - wanted) if not excused(k)]
print(f"{len(there)} objects" if not wrong else "\n".join(wrong[:8]))
sys.exit(bool(wrong) or not kept)
PYTHON
}

gc_judge()
{
    local cuts=() cut
    [ "$GC_MID" -gt 0 ] || violated "no agent was killed while anything was being stored or deleted"
    job_let_end "$job"
    job_succeeds "$job" $ROUND_S >"$LEFT" 2>&1 || { violated "job $job does not end well: $(cluster_job "$job" '.job | "\(.state) \(.reason)"')"; return; }
    [ "$(job_hashes "$job")" = "$(pulse_hashes $GC_NODES --steps "$ENDS_AT" --kib $GC_KIB)" ] ||
        violated "job $job has another result than undisturbed"
    tide ckpt gc "$job" >"$LEFT" 2>&1 || violated "tidemark ckpt gc: $(tail -n 1 "$LEFT")"
    mapfile -t cuts < <(cluster_job "$job" '.job.ckpts[] | select(.state != "dropped" and .state != "aborted") | .cut')
    wait_for $GC_CLEAN_S "nothing but what is listed to be in the store" gc_store_exact "${cuts[@]}" ||
        violated "the store is not what checkpoints ${cuts[*]} of $job name: $(gc_store_exact "${cuts[@]}" | tr '\n' ';')"
    for cut in "${cuts[@]}"; do
        tide ckpt verify "$job/$cut" >"$LEFT" 2>&1 || violated "checkpoint $job/$cut is listed, but: $(tail -n 1 "$LEFT")"
    done
    wait_for 20 "every node to be back" all_ready || violated "not every node is ready again"
    nothing_left >"$LEFT" 2>&1 || violated "left behind: $(grep -v '^cluster:' "$LEFT" | head -n 5 | tr '\n' ';')"
    echo "# round $round: $GC_KILLED kills, $GC_MID of them in the middle; of $(cluster_job "$job" '.job.next_cut - 1') checkpoints taken" \
        "$(cluster_job "$job" '[.job.ckpts[] | select(.committed_ms > 0)] | length') were stored, ${#cuts[@]} are kept: $(gc_store_exact "${cuts[@]}")"
}
