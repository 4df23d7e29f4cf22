/* SPDX-License-Identifier: Apache-2.0 */
/* The group of coordinators: what can be read out of a view of it. */
#include "coordinator/cli/cluster.h"

#include <inttypes.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "coordinator/cli/units.h"

#define FREE_BYTES_LOW (UINT64_C(1) << 30) /* a coordinator takes no more commands long before its disk is full */
#define SYNC_US_HIGH 100000u               /* every decision waits for the disks of a majority */
#define SYNC_RECENT_MS 10000u              /* where nothing is decided nobody waits, and the last write may be of yesterday */

enum tide_status cluster_get(struct client *client, struct cluster_view *ret_view, struct fault *fault)
{
    return client_noun(client, "GET", "/v1/cluster", NULL, 0, &cluster_view_codec, ret_view, NULL, fault);
}

const struct member_view *cluster_member(const struct cluster_view *view, uint64_t id)
{
    for (size_t i = 0; i < view->members.count; i++)
        if (view->members.items[i].id == id)
            return &view->members.items[i];
    return NULL;
}

uint64_t cluster_leader(const struct cluster_view *view)
{
    for (size_t i = 0; i < view->members.count; i++)
        if (view->members.items[i].leader)
            return view->members.items[i].id;
    return 0;
}

size_t cluster_voters(const struct cluster_view *view)
{
    size_t count = 0;
    for (size_t i = 0; i < view->members.count; i++)
        count += !view->members.items[i].learner;
    return count;
}

bool member_heard(const struct member_view *member)
{
    return member->leader || (strcmp(member->role, "unknown") != 0 && member->contact_ms <= HEARD_MS_MAX);
}

/* ---- what is wrong ---- */

static void add(struct strlist *to, const char *format, ...) PRINTF_LIKE(2, 3);
static void add(struct strlist *to, const char *format, ...)
{
    char text[TIDE_TEXT_MAX + 1];
    va_list args;
    va_start(args, format);
    text_say_list(text, sizeof text, format, args);
    va_end(args);
    strlist_add(to, text);
}

static void member_problems(const struct member_view *m, bool led, struct strlist *to)
{
    char size[UNIT_TEXT_MAX];
    if (led && !member_heard(m) && m->error[0] != '\0')
        add(to, "member %" PRIu64 " is not connected to the leader: %s", m->id, m->error);
    else if (led && !member_heard(m))
        add(to, "member %" PRIu64 " is not heard by the leader", m->id);
    else if (led && m->lag > CAUGHT_UP_LAG_MAX)
        add(to, "member %" PRIu64 " is %" PRIu64 " entries behind the leader", m->id, m->lag);
    else if (led && m->learner)
        add(to, "member %" PRIu64 " has caught up, but does not count yet: tidemark cluster promote %" PRIu64, m->id, m->id);
    if (m->free_bytes > 0 && m->free_bytes < FREE_BYTES_LOW)
        add(to, "member %" PRIu64 " has only %s left on its disk", m->id, size_text(m->free_bytes, size));
    if (m->sync_us > SYNC_US_HIGH && m->sync_age_ms <= SYNC_RECENT_MS)
        add(to, "member %" PRIu64 " waited %s for its disk", m->id, stall_text(m->sync_us, size));
}

static void margin_problems(const struct cluster_view *view, struct strlist *to)
{
    size_t voters = cluster_voters(view), heard = 0, majority = voters / 2 + 1;
    for (size_t i = 0; i < view->members.count; i++)
        heard += !view->members.items[i].learner && member_heard(&view->members.items[i]);
    if (voters > 1 && heard <= majority)
        add(to, "one more loss stops all decisions: %zu of %zu voters are there, and %zu must be", heard, voters, majority);
    if (voters > 1 && voters % 2 == 0)
        add(to, "%zu voters survive the loss of no more than %zu would: add one, or remove one", voters, voters - 1);
}

/* What a new version brings waits for the last member that does not run it. */
static void level_problems(const struct cluster_view *view, struct strlist *to)
{
    for (size_t i = 0; i < view->members.count && view->level < view->level_newest; i++)
        if (view->members.items[i].level < view->level_newest)
            add(to, "the group stays at level %u, and some commands are refused, until member %" PRIu64 " is connected with a version that "
                    "knows level %u", view->level, view->members.items[i].id, view->level_newest);
}

void cluster_problems(const struct cluster_view *view, bool led, struct strlist *to)
{
    if (led)
        margin_problems(view, to);
    if (led)
        level_problems(view, to);
    for (size_t i = 0; i < view->members.count; i++)
        member_problems(&view->members.items[i], led, to);
}
