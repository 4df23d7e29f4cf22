/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CORE_INNER_H
#define COORDINATOR_CORE_INNER_H

/* Shared by the files of this room that change the state; nobody outside includes it. */

#include <inttypes.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/text.h"
#include "coordinator/core/core.h"

#define EXIT_STATUS_SIGNAL 128 /* exit status of what a signal ended, as in shells */
#define SIGNAL_TERM 15

/* One command on its way into the state. */
struct change {
    struct state *state;
    const struct command *command;
    uint64_t revision;
    struct job_record *job; /* the command's; NULL for commands about nodes or the cluster */
    struct outcome *outcome;
    struct err *err;
};

/* ---- state.c ---- */

struct job_record *state_job_uid(const struct state *state, const char *uid);
/* Where the node is, or would have to be, in the sorted list. */
/* Where `name` is, or belongs, among `count` structs sorted by a name of theirs, `stride` bytes apart. */
size_t name_index(const char *first_name, size_t count, size_t stride, const char *name, bool *ret_found);
size_t state_node_index(const struct state *state, const char *name, bool *ret_found);
/* There, and not lost. */
bool node_up(const struct state *state, const char *name);
uint64_t state_lease_ms(const struct state *state);
uint64_t state_heartbeat_ms(const struct state *state);
uint64_t state_health_good_ms(const struct state *state);

static inline bool job_active(const struct job_record *record)
{
    return !job_ended(record->job.state);
}

static inline bool ckpt_restorable(const struct ckpt *ckpt)
{
    return ckpt_in_memory(ckpt) || ckpt->state == TIDE_CKPT_COMMITTED;
}

static inline bool ckpt_kept_by_hand(const struct ckpt *ckpt)
{
    return ckpt->pinned || ckpt->held_until_ms != 0;
}

/* The cut that ranks are recording; NULL: none. */
struct ckpt *job_open_cut(const struct job *job);
/* Ranks have begun an epoch, and not all have ended the transition to it: no other is begun. */
static inline bool job_in_transition(const struct job *job)
{
    return job->epoch_go > job->epoch_closed;
}
/* Ranks may begin the epoch of its present attempt. */
static inline bool cut_goes(const struct job *job, const struct ckpt *ckpt)
{
    return ckpt->epoch != 0 && ckpt->epoch == job->epoch_go;
}
/* Newest checkpoint with id <= most that is in memory or committed; NULL: none. */
struct ckpt *job_newest_restorable(const struct job *job, uint64_t most);
/* Where this job's checkpoints are stored; empty: in memory only. */
const char *job_store(const struct state *state, const struct job_record *record);
/* Does this generation still read the checkpoint it started from? */
bool job_restoring_from(const struct job_record *record, uint64_t cut);

bool strlist_has(const struct strlist *list, const char *text);
bool strlist_same(const struct strlist *a, const struct strlist *b); /* in the same order */
void strlist_drop(struct strlist *list, const char *text);
void strlist_assign(struct strlist *to, const struct strlist *from);
/* Items that are a number, or begin with one: "7", "7@1200". Of a number there is one. */
void strlist_add_number(struct strlist *list, uint64_t number);
bool strlist_has_number(const struct strlist *list, uint64_t number);
void strlist_drop_number(struct strlist *list, uint64_t number);

/* The number in `purge` for whatever no cut of the job needs (ckpt/format/orphan.h). */
#define PURGE_SWEEP 0u
/* The objects of a dropped cut are to be deleted, whatever was deleted of it before. */
void purge_again(struct job_record *record, uint64_t cut, uint64_t revision);
/* May that node have been told to write objects of the cut? */
bool purge_writer(const struct job_record *record, uint64_t cut, const char *node);

/* ---- history.c: what people read later ---- */

/* text_say, for sentences that are no part of the state: what is proposed, or told at once; and where they cannot be too long. */
#define TEXT(field, ...) text_say(field, sizeof(field), __VA_ARGS__)
/* For what apply() leaves behind, answers included: below MARK_LEVEL what has no room is cut off, at the end of a character as half of
 * one would not survive the image. */
void state_text(const struct state *state, char *to, size_t size, const char *format, ...) PRINTF_LIKE(4, 5);
#define STATE_TEXT(state, field, ...) state_text(state, field, sizeof(field), __VA_ARGS__)

/* One more event of change->job; its generation is the job's. node NULL: none; rank -1: none; cut 0: none. */
void event_add(struct change *change, unsigned kind, const char *node, int32_t rank, uint64_t cut, const char *format, ...)
    PRINTF_LIKE(6, 7);
/* The recovery that led to the present generation; NULL when it is the first. */
struct recovery *recovery_present(struct job *job);
/* Of jobs that ended long ago the end of their history is kept, and the checkpoints that are still something. */
void history_fold(struct state *state);
/* Milliseconds from `from` to `to`; 0 if the clock was set back in between. */
uint64_t ms_between(uint64_t from, uint64_t to);

/* ---- place.c ---- */

struct placement {
    struct strlist nodes;  /* by node rank; complete only when missing is 0 */
    struct strlist spares;
    uint32_t missing;      /* nodes */
};

/* Where the job's next generation would run. True: everywhere. Release in either case. */
bool place(const struct state *state, const struct job_record *job, struct placement *ret_placement);
void placement_release(struct placement *placement);
/* Give every job that runs its spares: lost and drained ones go, new ones come. */
void place_spares(struct state *state);
/* Both, after whatever may have changed either. */
void place_helpers(struct change *change);
/* Slots of a node that are given away: to ranks, spares, and ranks that still have to end. */
uint32_t place_used(const struct state *state, const char *node);

/* Slots of all nodes, for questions about many jobs at once; good while the state does not change. */
struct room {
    const struct state *state;
    uint32_t *slots; /* by node index; 0: gets no new ranks */
    uint32_t *used;
    uint32_t *seen, mark;
};

void room_init(struct room *room, const struct state *state);
void room_release(struct room *room);
/* Would place() find every node? */
bool room_for(struct room *room, const struct job_record *record);
/* … if so many nodes of those went to other jobs? */
bool room_for_others(struct room *room, const struct job_record *record, uint32_t others);
/* Of how many of its nodes are its ranks to go elsewhere? */
uint32_t room_away(const struct room *room, const struct job_record *record);
/* "waits for nodes: needs 4 with 1 free slot each, 3 are there; lost: n3; drained: n4; without room: n5" */
void place_explain(struct room *room, const struct job_record *record, char *to, size_t size);

/* ---- commands, one function each; the dispatch table in apply.c has looked up change->job ---- */

#define X(symbol, name) enum tide_status apply_##symbol(struct change *change);
COMMAND_MAP(X)
#undef X

/* cmd_node.c: the node that the command is about. */
enum tide_status node_find(struct change *change, struct node **ret_node);
/* cmd_health.c */
/* What the node knows of itself, and what it knew before and cannot know to be over: that is its evidence. Release with
 * health_report_codec; `boot` is the report's. */
void health_merge(const struct state *state, const struct node *node, const struct health_report *report,
                  struct health_report *ret_merged);
/* Why it is drained for its health, as its reason. */
void node_tell_unfit(const struct state *state, struct node *node);
/* Why no more nodes are drained for their health now, as "2 of 8 nodes were within 60 min"; false: one more may be. */
bool health_spares(const struct state *state, uint64_t now_ms, char *to, size_t size);
/* Why ranks of the job stay where they are, whatever is said of the health of their node: health ends no training. NULL: they can
 * go on elsewhere. The room is that of the state. */
const char *health_keeps(struct room *room, const struct job_record *record);
/* What is known by now, and drained it or would have, does not count any more. */
void node_forgive(struct node *node);
/* cmd_gen.c: end the present generation and go on with the next. */
void gen_end(struct change *change, const struct recovery *why);
/* cmd_gen.c: stop what runs; then the job is over and in `end_state`. */
void gen_stop(struct change *change, unsigned end_state);
/* cmd_job.c: the job is over. */
void job_end(struct change *change, unsigned end_state);
/* cmd_job.c: say which jobs wait for nodes and for what, after anything that may have changed that. */
void job_waiting_refresh(struct change *change);
/* cmd_cut.c */
/* How the attempt went, as the command says. */
void cut_remember(struct change *change, const struct ckpt *ckpt);
enum tide_status cut_find_open(struct change *change, struct ckpt **ret_ckpt);
bool cut_has_room(const struct job_record *record);
void cut_abort(struct change *change, struct ckpt *ckpt, const char *node, int32_t rank, const char *reason);
/* cmd_ckpt.c: from now on it is stored. */
void store_begin(struct job_record *record, struct ckpt *ckpt);
/* cmd_ckpt.c: nothing is being stored (any more): then the newest in memory is, if it was not tried yet. Those before it are not. */
void store_next(struct change *change);
/* cmd_ckpt.c: delete a checkpoint on purpose. */
void ckpt_drop(struct change *change, struct ckpt *ckpt, const char *reason);
/* cmd_peer.c */
/* Who is to have copies of what the ranks of each job that runs record; changed only where it has to be. */
void peers_plan(struct state *state);
/* Nobody has, or is to have, a copy of it any more. */
void ckpt_unpeer(struct ckpt *ckpt);
/* What was copied to that node is not there (any more). False: nothing was. */
bool ckpt_unpeer_node(struct ckpt *ckpt, const char *node);
/* What others record is not copied while nothing is launched. */
void peers_release(struct job_record *record);
/* The node that has a copy of the part of node rank n; NULL: none is known to. */
const char *ckpt_peer(const struct state *state, const struct ckpt *ckpt, size_t n);
/* invariant_peer.c */
enum tide_status peers_check(const struct state *state, const struct job_record *record, struct err *err);
/* cmd_job.c: room for one more job; ended ones make it. */
enum tide_status jobs_make_room(struct change *change);
/* cmd_import.c: the checkpoint that a new job is to go on from (spec->restore_from), and whose it is. */
enum tide_status origin_find(const struct state *state, const struct job_spec *spec, struct ckpt *ret_ckpt, struct job_origin *ret_origin,
                             struct err *err);
void origin_take(struct job *job, const struct ckpt *ckpt, const struct job_origin *origin);
/* cmd_import.c: does another job, that has not ended, go on from it, and may it have to start from it again? */
bool ckpt_lent(const struct state *state, const struct job *job, uint64_t cut);
/* cmd_token.c: the tokens a new cluster begins with; all or none. */
enum tide_status tokens_take(struct change *change);
/* cmd_keep.c: condemn what the job's rule does not keep, and take back what it does. */
void ckpt_retain(struct change *change);
/* cmd_keep.c: look for objects in the store that nobody needs, and delete them. */
void job_sweep(struct change *change);
void ckpt_condemn_by_hand(struct change *change, struct ckpt *ckpt);

#endif
