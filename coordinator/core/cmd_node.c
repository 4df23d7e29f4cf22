/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/inner.h"

/* ---- register ---- */

/* Until the verdict on its job follows that on the node, desired state still says: run this generation. An agent that
 * does not know that it did so once must not be told. */
static bool runs_a_generation(const struct state *state, const char *name)
{
    for (size_t i = 0; i < state->jobs.count; i++)
        if (state->jobs.items[i].phase == GEN_PHASE_LAUNCHED && strlist_has(&state->jobs.items[i].job.nodes, name))
            return true;
    return false;
}

static enum tide_status check_hello(struct change *change)
{
    const struct node_hello *hello = &change->command->hello;
    if (!name_valid(hello->name))
        return err_set(change->err, TIDE_E_INVALID, "\"%s\" cannot name a node: use 1 to %d of A-Z a-z 0-9 . _ -",
                       hello->name, TIDE_NAME_MAX);
    if (hello->uid[0] == '\0' || hello->incarnation[0] == '\0' || hello->address[0] == '\0')
        return err_set(change->err, TIDE_E_INVALID, "node %s registers without uid, incarnation or address", hello->name);
    if (hello->slots == 0 || hello->slots > TIDE_LOCAL_RANKS_MAX)
        return err_set(change->err, TIDE_E_INVALID, "node %s registers with %u slots; 1 to %d are possible: --slots",
                       hello->name, hello->slots, TIDE_LOCAL_RANKS_MAX);
    if (hello->pin[0] != '\0' && strspn(hello->pin, "0123456789abcdef") != PIN_CHARS)
        return err_set(change->err, TIDE_E_INVALID, "node %s registers with a pin that is none", hello->name);
    if (hello->domain[0] != '\0' && !name_valid(hello->domain))
        return err_set(change->err, TIDE_E_INVALID, "node %s registers with domain \"%s\"; 1 to %d of A-Z a-z 0-9 . _ - are possible",
                       hello->name, hello->domain, TIDE_NAME_MAX);
    const struct node *other = state_node(change->state, hello->name);
    bool stranger = other != NULL && strcmp(other->uid, hello->uid) != 0;
    if (stranger && other->state != TIDE_NODE_LOST)
        return err_set(
            change->err, TIDE_E_CONFLICT,
            "another agent is node %s already (its uid is %s, at %s); start this one with another --name, or with "
            "that one's --state directory, or stop that one and wait until it is lost",
            hello->name, other->uid, other->address);
    if (stranger && runs_a_generation(change->state, hello->name))
        return err_set(change->err, TIDE_E_UNAVAILABLE,
                       "the loss of the earlier node %s is still being dealt with; register again in a moment", hello->name);
    return TIDE_OK;
}

static bool node_referenced(const struct state *state, const char *name)
{
    for (size_t i = 0; i < state->jobs.count; i++) {
        const struct job_record *record = &state->jobs.items[i];
        if (job_active(record) && (strlist_has(&record->job.nodes, name) || strlist_has(&record->job.spares, name) ||
                                   strlist_has(&record->fence, name)))
            return true;
    }
    return false;
}

/* Its memory is gone, or out of reach: what was copied there is as good as gone. */
static void forget_copies(struct change *change, const struct node *node)
{
    struct job *job = &change->job->job;
    for (size_t i = 0; i < job->ckpts.count; i++) {
        struct ckpt *ckpt = &job->ckpts.items[i];
        bool peered = ckpt->state == TIDE_CKPT_PEERED;
        if (ckpt_unpeer_node(ckpt, node->name) && peered)
            event_add(change, EVENT_UNPEERED, node->name, -1, ckpt->cut, "checkpoint %" PRIu64 " has lost the copy on %s", ckpt->cut,
                      node->name);
    }
}

/* The node that was lost longest ago makes room. */
static enum tide_status make_room(struct change *change)
{
    struct state *state = change->state;
    if (state->nodes.count < TIDE_NODES_MAX)
        return TIDE_OK;
    size_t oldest = state->nodes.count;
    for (size_t i = 0; i < state->nodes.count; i++)
        if (state->nodes.items[i].state == TIDE_NODE_LOST && !node_referenced(state, state->nodes.items[i].name) &&
            (oldest == state->nodes.count || state->nodes.items[i].changed_ms < state->nodes.items[oldest].changed_ms))
            oldest = i;
    if (oldest == state->nodes.count)
        return err_set(change->err, TIDE_E_LIMIT, "the cluster has %d nodes; more are not possible", TIDE_NODES_MAX);
    codec_list_remove(&node_codec, &state->nodes, oldest);
    return TIDE_OK;
}

static struct node *node_insert(struct state *state, const char *name)
{
    bool found;
    size_t at = state_node_index(state, name, &found);
    struct node *added = codec_list_add(&node_codec, &state->nodes);
    struct node *place_of = &state->nodes.items[at];
    memmove(place_of + 1, place_of, (size_t)(added - place_of) * sizeof *added);
    *place_of = (struct node){0};
    text_copy(place_of->name, sizeof place_of->name, name);
    return place_of;
}

static void node_fill(struct change *change, struct node *node)
{
    const struct node_hello *hello = &change->command->hello;
    uint32_t used = place_used(change->state, node->name);
    text_copy(node->uid, sizeof node->uid, hello->uid);
    text_copy(node->incarnation, sizeof node->incarnation, hello->incarnation);
    text_copy(node->host, sizeof node->host, hello->host);
    text_copy(node->address, sizeof node->address, hello->address);
    node->mesh_port = hello->mesh_port;
    node->log_port = hello->log_port;
    text_copy(node->pin, sizeof node->pin, hello->pin);
    text_copy(node->domain, sizeof node->domain, hello->domain);
    /* An agent started again with fewer slots keeps those that are in use. */
    node->slots = hello->slots < used ? used : hello->slots;
    node->registered_ms = node->changed_ms = change->command->at_ms;
    bool away = node->cordoned || node->unfit;
    if (!away)
        node->reason[0] = '\0';
    else if (node->cordoned && node->reason[0] == '\0')
        TEXT(node->reason, "drained by hand");
    else if (!node->cordoned)
        node_tell_unfit(change->state, node);
    node->state = away ? TIDE_NODE_DRAINED : TIDE_NODE_READY;
}

/* It was given up with orders to store; what it has written since then may be of checkpoints that were dropped. */
static void purge_after(struct state *state, const char *node, uint64_t revision)
{
    for (size_t i = 0; i < state->jobs.count; i++) {
        struct job_record *record = &state->jobs.items[i];
        for (size_t c = 0; c < record->job.ckpts.count; c++) {
            uint64_t cut = record->job.ckpts.items[c].cut;
            bool deleted = strlist_has_number(&record->owed, cut) || strlist_has_number(&record->purge, cut);
            if (deleted && purge_writer(record, cut, node))
                purge_again(record, cut, revision);
        }
    }
}

enum tide_status apply_NODE_REGISTER(struct change *change)
{
    const struct node_hello *hello = &change->command->hello;
    enum tide_status status = check_hello(change);
    if (status != TIDE_OK)
        return status;
    struct node *node = state_node(change->state, hello->name);
    if (node == NULL) {
        status = make_room(change);
        if (status != TIDE_OK)
            return status;
        node = node_insert(change->state, hello->name);
    }
    bool back = node->state == TIDE_NODE_LOST, added = node->registered_ms == 0;
    node_fill(change, node);
    TEXT(change->outcome->text, "node %s is %s with %u slot%s%s", node->name, node_state_names[node->state], node->slots,
         node->slots == 1 ? "" : "s", back ? "; it was lost" : "");
    if (back || added)
        purge_after(change->state, node->name, change->revision);
    place_helpers(change);
    job_waiting_refresh(change);
    return TIDE_OK;
}

/* ---- drain, resume ---- */

enum tide_status node_find(struct change *change, struct node **ret_node)
{
    *ret_node = state_node(change->state, change->command->node);
    if (*ret_node != NULL)
        return TIDE_OK;
    return err_set(change->err, TIDE_E_NOT_FOUND, "there is no node named %s; tidemark node list shows all",
                   change->command->node);
}

enum tide_status apply_NODE_DRAIN(struct change *change)
{
    struct node *node = NULL;
    enum tide_status status = node_find(change, &node);
    if (status != TIDE_OK)
        return status;
    if (!node->cordoned)
        node->changed_ms = change->command->at_ms;
    node->cordoned = true;
    if (node->state == TIDE_NODE_READY)
        node->state = TIDE_NODE_DRAINED;
    TEXT(node->reason, "%s", change->command->text[0] ? change->command->text : "drained by hand");
    place_helpers(change);
    job_waiting_refresh(change);
    TEXT(change->outcome->text, "node %s gets no new ranks; those it runs stay until their job restarts or ends",
         node->name);
    return TIDE_OK;
}

enum tide_status apply_NODE_RESUME(struct change *change)
{
    struct node *node = NULL;
    enum tide_status status = node_find(change, &node);
    if (status != TIDE_OK)
        return status;
    if (node->cordoned || node->unfit)
        node->changed_ms = change->command->at_ms;
    node->cordoned = false;
    node_forgive(node);
    if (node->state == TIDE_NODE_DRAINED) {
        node->state = TIDE_NODE_READY;
        node->reason[0] = '\0';
    }
    place_helpers(change);
    job_waiting_refresh(change);
    TEXT(change->outcome->text, "node %s is %s", node->name, node_state_names[node->state]);
    return TIDE_OK;
}

/* ---- lost ---- */

/* A dying host's peers often fail before its lease ends. If its last sign of life is older than the failure that was
 * seen, it was first, and the history says so. */
static void amend_recovery(struct change *change, const struct node *node, uint64_t silent_ms)
{
    struct job *job = &change->job->job;
    struct recovery *recovery = recovery_present(job);
    if (recovery == NULL || recovery->cause != EVENT_RANK_EXITED || strcmp(recovery->node, node->name) == 0)
        return;
    uint64_t happened_ms = recovery->at_ms - (recovery->detect_ms < recovery->at_ms ? recovery->detect_ms : 0);
    uint64_t heard_ms = change->command->at_ms - (silent_ms < change->command->at_ms ? silent_ms : 0);
    if (heard_ms > happened_ms + state_heartbeat_ms(change->state))
        return;
    recovery->cause = EVENT_NODE_LOST;
    recovery->rank = -1;
    text_copy(recovery->node, sizeof recovery->node, node->name);
    STATE_TEXT(change->state, recovery->text, "node %s was lost; seen first as: %s", node->name, recovery->text);
}

static void tell_job(struct change *change, const struct node *node)
{
    struct job_record *record = change->job;
    if (!job_active(record) || (!strlist_has(&record->fence, node->name) && !strlist_has(&record->job.nodes, node->name) &&
                                !strlist_has(&record->job.spares, node->name)))
        return;
    event_add(change, EVENT_NODE_LOST, node->name, -1, 0, "node %s was lost: %s", node->name, node->reason);
    if (record->phase == GEN_PHASE_FENCING)
        amend_recovery(change, node, change->command->ms);
}

enum tide_status apply_NODE_LOST(struct change *change)
{
    const struct command *command = change->command;
    struct node *node = NULL;
    enum tide_status status = node_find(change, &node);
    if (status != TIDE_OK)
        return status;
    if (strcmp(node->incarnation, command->incarnation) != 0 || node->state == TIDE_NODE_LOST)
        return err_set(change->err, TIDE_E_STALE, "node %s has registered again since, or is lost already", node->name);
    node->state = TIDE_NODE_LOST;
    node->changed_ms = command->at_ms;
    if (command->text[0]) {
        /* Given up while it still answers: it would be back at once, take ranks of other jobs, and fail them in turn. */
        node->cordoned = true;
        TEXT(node->reason, "%s", command->text);
    } else {
        TEXT(node->reason, "silent for %" PRIu64 ".%03" PRIu64 " s", command->ms / MS_PER_S, command->ms % MS_PER_S);
    }
    for (size_t i = 0; i < change->state->jobs.count; i++) {
        change->job = &change->state->jobs.items[i];
        tell_job(change, node);
        forget_copies(change, node);
    }
    change->job = NULL;
    place_helpers(change);
    job_waiting_refresh(change);
    return TIDE_OK;
}
