/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/inner.h"

#define BROKEN(...) err_set(err, TIDE_E_STATE, __VA_ARGS__)

static enum tide_status check_ckpt(const struct job *job, const struct ckpt *ckpt, struct err *err)
{
    bool known = ckpt->peers.count == 0 || ckpt->peers.count == ckpt->nodes.count;
    bool whole = ckpt->peers.count > 0;
    for (size_t n = 0; n < ckpt->peers.count && known; n++) {
        known = strcmp(ckpt->peers.items[n], ckpt->nodes.items[n]) != 0;
        whole = whole && ckpt->peers.items[n][0] != '\0';
    }
    if (!known || (ckpt->peers.count > 0 && !ckpt_restorable(ckpt)))
        return BROKEN("job %s: checkpoint %" PRIu64 " is %s, and has copies of %zu parts, or where it was recorded", job->spec.name,
                      ckpt->cut, ckpt_state_names[ckpt->state], ckpt->peers.count);
    if ((ckpt->state == TIDE_CKPT_PEERED && !whole) || (ckpt->state == TIDE_CKPT_SEALED && whole))
        return BROKEN("job %s: checkpoint %" PRIu64 " is %s, its copies say otherwise", job->spec.name, ckpt->cut,
                      ckpt_state_names[ckpt->state]);
    return TIDE_OK;
}

/* Nobody is to have a copy who is lost, or of what it recorded itself. */
enum tide_status peers_check(const struct state *state, const struct job_record *record, struct err *err)
{
    const struct job *job = &record->job;
    if (record->peers.count > 0 && (record->phase != GEN_PHASE_LAUNCHED || record->peers.count != job->nodes.count))
        return BROKEN("job %s: copies of %zu nodes in phase %u", job->spec.name, record->peers.count, record->phase);
    if (record->peers.count > 0 && job->spec.copies == COPIES_NO)
        return BROKEN("job %s: copies of %zu nodes, and it wants none", job->spec.name, record->peers.count);
    for (size_t n = 0; n < record->peers.count; n++) {
        const char *peer = record->peers.items[n];
        const struct node *node = state_node(state, peer);
        if (peer[0] != '\0' && (node == NULL || node->state != TIDE_NODE_READY || strcmp(peer, job->nodes.items[n]) == 0))
            return BROKEN("job %s: \"%s\" cannot have the copy of %s", job->spec.name, peer, job->nodes.items[n]);
    }
    for (size_t i = 0; i < job->ckpts.count; i++) {
        enum tide_status status = check_ckpt(job, &job->ckpts.items[i], err);
        if (status != TIDE_OK)
            return status;
    }
    return TIDE_OK;
}
