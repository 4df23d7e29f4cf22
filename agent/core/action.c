/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "agent/core/internal.h"
#include "ckpt/base/text.h"

#define ACTIONS_ROOM_FIRST 16u

const char *const agent_action_names[] = {
    "heartbeat", "say", "start_step", "leave_step", "end_step", "kill_step", "answer", "widen", "remove_step_dir", "arm", "disarm",
    "epochs", "sum", "find", "fetch", "copy", "uncopy", "look", "store", "commit", "purge", "scrub", "remove_arena", NULL,
};
_Static_assert(sizeof agent_action_names / sizeof agent_action_names[0] == ACT_KINDS + 1, "every action has a name");

void agent_actions_clear(struct agent_actions *actions)
{
    actions->count = 0;
}

void agent_actions_release(struct agent_actions *actions)
{
    mem_free(actions->items);
    memset(actions, 0, sizeof *actions);
}

struct agent_action *act(struct agent_core *core, unsigned kind, const struct job_part *job)
{
    struct agent_actions *actions = core->actions;
    if (actions->count == actions->room) {
        actions->room = actions->room ? actions->room * 2 : ACTIONS_ROOM_FIRST;
        actions->items = mem_grow(actions->items, actions->room, sizeof actions->items[0]);
    }
    struct agent_action *action = &actions->items[actions->count++];
    memset(action, 0, sizeof *action);
    action->kind = kind;
    if (job != NULL) {
        memcpy(action->uid, job->uid, sizeof action->uid);
        memcpy(action->job, job->name, sizeof action->job);
        action->generation = job->generation;
        action->order = job->has_order ? &job->order : NULL;
    }
    return action;
}

struct agent_action *act_rank(struct agent_core *core, unsigned kind, const struct job_part *job, uint32_t rank)
{
    struct agent_action *action = act(core, kind, job);
    action->rank = rank;
    return action;
}

void say(struct agent_core *core, enum log_level level, const char *format, ...)
{
    struct agent_action *action = act(core, ACT_SAY, NULL);
    action->level = level;
    va_list args;
    va_start(args, format);
    text_say_list(action->text, sizeof action->text, format, args);
    va_end(args);
}

bool retry_due(const struct agent_core *core, const struct retry *retry)
{
    return core->now_ns >= retry->at_ns;
}

void retry_later(const struct agent_core *core, struct retry *retry)
{
    if (retry->wait_ms == 0)
        retry->wait_ms = AGENT_RETRY_MS_MIN;
    retry->at_ns = core->now_ns + retry->wait_ms * NS_PER_MS;
    retry->wait_ms = retry->wait_ms * 2 > AGENT_RETRY_MS_MAX ? AGENT_RETRY_MS_MAX : retry->wait_ms * 2;
}
