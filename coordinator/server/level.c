/* SPDX-License-Identifier: Apache-2.0 */
/* The level of the group (coordinator/core/core.h): a leader raises it once every member, voter or learner, is connected and has
 * said that its version knows it. Until then it says for whom it waits, once for each. */
#include <inttypes.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"
#include "coordinator/server/inner.h"

#define LEVEL_LOOK_NS NS_PER_S

static const struct member_link *link_to(const struct member_status *status, uint64_t id)
{
    for (size_t i = 0; i < status->link_count; i++)
        if (status->links[i].id == id && status->links[i].connected)
            return &status->links[i];
    return NULL;
}

/* Of whoever knows least: what it knows, 0 if it is not heard. */
static uint32_t lowest_known(const struct member_status *status, uint64_t *ret_id)
{
    uint32_t lowest = LEVEL_NEWEST;
    *ret_id = 0;
    for (size_t i = 0; i < status->config.count; i++) {
        uint64_t id = status->config.members[i].id;
        const struct member_link *link = link_to(status, id);
        uint32_t knows = id == status->raft.id ? LEVEL_NEWEST : link != NULL ? link->level : 0;
        if (knows < lowest) {
            lowest = knows;
            *ret_id = id;
        }
    }
    return lowest;
}

static void raised(void *arg, enum tide_status status, const struct outcome *outcome, const struct err *err)
{
    struct server *server = arg;
    server->level_asked = false;
    if (status == TIDE_OK)
        log_info("%s: every member knows it", outcome->text);
    else
        log_warn("the level of the group could not be raised: %s", err->text);
}

static void say_waiting(struct server *server, uint64_t id)
{
    if (id != 0 && id != server->level_waits_for)
        log_info("the group stays at level %u, and this version knows %u: member %" PRIu64 " runs an older one, or is not connected",
                 server_state(server)->level, LEVEL_NEWEST, id);
    server->level_waits_for = id;
}

void level_tick(struct server *server, uint64_t now_ns)
{
    const struct state *state = server_state(server);
    bool due = state->level < LEVEL_NEWEST && server_leads(server) && !server->level_asked;
    if (!due || now_ns - server->level_looked_ns < LEVEL_LOOK_NS)
        return;
    server->level_looked_ns = now_ns;
    struct member_status *status = mem_alloc(sizeof *status);
    struct command command;
    struct err err = {0};
    uint64_t id;
    member_get_status(replica_member(server->replica), status);
    uint32_t lowest = lowest_known(status, &id);
    mem_free(status);
    say_waiting(server, id);
    if (level_verdict(state, lowest, &command))
        server->level_asked = replica_propose(server->replica, &command, true, raised, server, &err) == TIDE_OK;
}
