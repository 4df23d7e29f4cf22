/* SPDX-License-Identifier: Apache-2.0 */
#include "coordinator/core/judge.h"

struct command *judge_add(struct judging *judging, enum command_kind kind, const struct job_record *record)
{
    struct command_list *list = judging->commands;
    list->items = mem_grow(list->items, list->count + 1, sizeof *list->items);
    struct command *command = &list->items[list->count++];
    *command = (struct command){.kind = kind, .at_ms = judging->now_ms, .event = {.rank = -1}};
    if (record != NULL) {
        text_copy(command->job, sizeof command->job, record->job.spec.name);
        text_copy(command->uid, sizeof command->uid, record->job.uid);
        command->generation = record->job.generation;
    }
    return command;
}

struct room *judge_room(struct judging *judging)
{
    if (judging->room.state == NULL)
        room_init(&judging->room, judging->state);
    return &judging->room;
}

void command_list_release(struct command_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        codec_release(&command_codec, &list->items[i]);
    mem_free(list->items);
    *list = (struct command_list){0};
}

void judge_want(struct judging *judging, uint64_t at_ns)
{
    if (at_ns < judging->next_ns)
        judging->next_ns = at_ns;
}

bool judge_passed(struct judging *judging, uint64_t since_ns, uint64_t ms)
{
    if (ms > (UINT64_MAX - since_ns) / NS_PER_MS)
        return false; /* nor will it be while anybody lives */
    uint64_t until_ns = since_ns + ms * NS_PER_MS;
    if (judging->now_ns >= until_ns)
        return true;
    judge_want(judging, until_ns);
    return false;
}

/* A leader that was stopped, swapped out or moved to another host has not heard anybody meanwhile: what they sent is yet to
 * be read, and to it they all look silent. */
static void judge_own_absence(struct judging *judging)
{
    struct book *book = judging->book;
    uint64_t lease_ns = state_lease_ms(judging->state) * NS_PER_MS;
    uint64_t before_ns = book->judged_ns;
    book->judged_ns = judging->now_ns;
    judge_want(judging, judging->now_ns + lease_ns / 4);
    if (before_ns == 0 || judging->now_ns < before_ns + lease_ns / 2)
        return;
    for (size_t i = 0; i < book->entries.count; i++) {
        struct book_entry *entry = &book->entries.items[i];
        entry->since_ns = judging->now_ns;
        entry->good_ns = 0;
        entry->lease_until_ns = judging->now_ns + lease_ns;
    }
    tracks_restart(book, judging->now_ns);
}

static void judge_nodes(struct judging *judging)
{
    const struct state *state = judging->state;
    for (size_t i = 0; i < state->nodes.count; i++) {
        const struct node *node = &state->nodes.items[i];
        if (node->state == TIDE_NODE_LOST)
            continue;
        struct book_entry *entry = book_find(judging->book, node->name);
        if (entry == NULL) {
            book_registered(judging->book, state, node->name, judging->now_ns);
            entry = book_find(judging->book, node->name);
        }
        if (judging->now_ns < entry->lease_until_ns) {
            judge_want(judging, entry->lease_until_ns);
            if (state->level > 0)
                judge_health(judging, node, entry);
            continue;
        }
        struct command *lost = judge_add(judging, CMD_NODE_LOST, NULL);
        text_copy(lost->node, sizeof lost->node, node->name);
        text_copy(lost->incarnation, sizeof lost->incarnation, node->incarnation);
        uint64_t heard_ns = entry->heard_ns ? entry->heard_ns : entry->lease_until_ns - state_lease_ms(state) * NS_PER_MS;
        lost->ms = (judging->now_ns - heard_ns) / NS_PER_MS;
    }
}

static void judge_job(struct judging *judging, const struct job_record *record)
{
    if (record->purge.count > 0)
        judge_purge(judging, record);
    if (judging->state->level > 0 && keep_waits(record))
        judge_keep(judging, record);
    if (!job_active(record))
        return;
    struct track *track = track_get(judging->book, record->job.uid);
    track_look(track, record, judging->now_ns);
    if (record->phase != GEN_PHASE_NONE)
        judge_store(judging, record, track);
    switch (record->phase) {
    case GEN_PHASE_LAUNCHED:
        judge_running(judging, record, track);
        judge_scrub(judging, record);
        break;
    case GEN_PHASE_STOPPING:
        judge_stopping(judging, record, track);
        break;
    default:
        judge_launch(judging, record, track);
        break;
    }
}

void judge(const struct state *state, struct book *book, uint64_t now_ns, uint64_t now_ms, struct rng *rng,
           struct command_list *ret_commands, uint64_t *ret_next_ns)
{
    *ret_commands = (struct command_list){0};
    struct judging judging = {.state = state,
                              .book = book,
                              .now_ns = now_ns,
                              .now_ms = now_ms,
                              .rng = rng,
                              .commands = ret_commands,
                              .next_ns = UINT64_MAX};
    tracks_prune(book, state);
    judge_own_absence(&judging);
    judge_nodes(&judging);
    for (size_t i = 0; i < state->jobs.count; i++)
        judge_job(&judging, &state->jobs.items[i]);
    room_release(&judging.room);
    *ret_next_ns = ret_commands->count > 0 ? now_ns : judging.next_ns;
}
