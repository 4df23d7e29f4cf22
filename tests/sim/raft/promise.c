/* SPDX-License-Identifier: Apache-2.0 */
/* No message may leave that promises what a crash could take back: each is held against the simulated disk. */
#include "tests/sim/raft/sim.h"

/* A snapshot tells of its term as well as a ballot does. */
static struct raft_ballot durable(const struct node *n)
{
    const struct disk *d = &n->disk;
    return d->images[0].term > d->ballot.term ? (struct raft_ballot){.term = d->images[0].term} : d->ballot;
}

static void check_vote(struct world *w, struct node *n, const struct raft_message *m, uint64_t vote)
{
    struct raft_ballot ballot = durable(n);
    if (ballot.term < m->term || (ballot.term == m->term && ballot.vote != vote))
        violation(w, "member %" PRIu64 " votes for %" PRIu64 " in term %" PRIu64 ", durable is %" PRIu64 " in term %" PRIu64, n->id,
                  vote, m->term, ballot.vote, ballot.term);
}

/* A candidate whose log could shrink in a crash would win with votes that were given to the longer one. */
static void check_candidate(struct world *w, struct node *n, const struct raft_message *m)
{
    check_vote(w, n, m, n->id);
    if (n->status.role != RAFT_CANDIDATE) /* another leads in this term; these votes elect nobody */
        return;
    if (durable(n).term == m->term && m->vote.last_index > 0 && !disk_holds(&n->disk, m->vote.last_index, m->vote.last_term))
        violation(w, "member %" PRIu64 " stands with entry %" PRIu64 " of term %" PRIu64 ", which is not durable", n->id,
                  m->vote.last_index, m->vote.last_term);
}

static void check_append(struct world *w, struct node *n, const struct raft_message *m)
{
    size_t bytes = 0;
    uint64_t known = m->append.prev_index > 0 ? raft_term_at(n->raft, m->append.prev_index) : 0;
    for (size_t i = 0; i < m->append.count; i++)
        bytes += m->append.entries[i].blob != NULL ? m->append.entries[i].blob->bytes : 0;
    if (m->append.count > RAFT_APPEND_ENTRIES_MAX || (m->append.count > 1 && bytes > RAFT_APPEND_BYTES_MAX))
        violation(w, "an append of %zu entries and %zu bytes", m->append.count, bytes);
    if (m->append.commit > n->status.commit || (known != 0 && known != m->append.prev_term))
        violation(w, "leader %" PRIu64 " sends prev %" PRIu64 ".%" PRIu64 " commit %" PRIu64, n->id, m->append.prev_index,
                  m->append.prev_term, m->append.commit);
    if (durable(n).term < m->term)
        violation(w, "member %" PRIu64 " sends entries in term %" PRIu64 ", durable is term %" PRIu64, n->id, m->term,
                  durable(n).term);
}

/* An acknowledgement: the entry up to which this log is the leader's, and durable. */
static void check_match(struct world *w, struct node *n, const struct raft_message *m, uint64_t match)
{
    const struct node *leader = node_of(w, m->to);
    if (match == 0 || durable(n).term > m->term)
        return;
    if (durable(n).term < m->term) {
        violation(w, "member %" PRIu64 " acknowledges entry %" PRIu64 " in term %" PRIu64 ", durable is term %" PRIu64, n->id, match,
                  m->term, durable(n).term);
        return;
    }
    if (match <= n->disk.images[0].index)
        return;
    uint64_t term = disk_term(&n->disk, match);
    if (term == 0)
        violation(w, "member %" PRIu64 " acknowledges entry %" PRIu64 ", which is not durable", n->id, match);
    if (leader == NULL || !leader->up || leader->status.role != RAFT_LEADER || leader->status.term != m->term)
        return;
    uint64_t there = raft_term_at(leader->raft, match);
    if (match > leader->status.last || (there != 0 && there != term))
        violation(w, "member %" PRIu64 " acknowledges entry %" PRIu64 " of term %" PRIu64 ", the leader's is of term %" PRIu64, n->id,
                  match, term, there);
}

void check_message(struct world *w, struct node *n, const struct raft_message *m)
{
    if (m->from != n->id || m->to == n->id || m->to == 0)
        violation(w, "member %" PRIu64 " sends a message from %" PRIu64 " to %" PRIu64, n->id, m->from, m->to);
    switch (m->kind) {
    case RAFT_MSG_VOTE:
        if (!m->vote.pre)
            check_candidate(w, n, m);
        break;
    case RAFT_MSG_VOTE_REPLY:
        if (m->vote_reply.granted && !m->vote_reply.pre)
            check_vote(w, n, m, m->to);
        break;
    case RAFT_MSG_APPEND: check_append(w, n, m); break;
    case RAFT_MSG_APPEND_REPLY:
        if (m->append_reply.accepted)
            check_match(w, n, m, m->append_reply.match);
        break;
    case RAFT_MSG_SNAPSHOT:
        if (m->snapshot.bytes > RAFT_CHUNK_BYTES || m->snapshot.offset + m->snapshot.bytes > m->snapshot.total)
            violation(w, "leader %" PRIu64 " sends %u bytes at %" PRIu64 " of %" PRIu64, n->id, m->snapshot.bytes, m->snapshot.offset,
                      m->snapshot.total);
        break;
    case RAFT_MSG_SNAPSHOT_REPLY:
        if (m->snapshot_reply.done)
            check_match(w, n, m, m->snapshot_reply.index);
        break;
    default: break;
    }
}
