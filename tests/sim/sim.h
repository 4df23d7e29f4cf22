/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

/* A cluster of the real pure cores in an invented world: time, network, disks, machines, ranks and people come from one
 * seed, and the same seed gives the same run bit for bit. The world lies as the real one does (messages are lost, doubled
 * and late, processes die at the worst moment, disks forget what was not synced), and check.c knows the truth.
 *
 *   world.c    time, chance, the heap of things to come, the trace
 *   coord.c    a member of the group of coordinators: the real Raft core, its disk, its network; what is committed is applied
 *   truth.c    what is committed, by whomever, and replays of it
 *   leader.c   what the member that leads does: judge, requests of agents and people
 *   host.c     a machine with its agent's shell around the real agent core; agent_act.c does what the core asks for
 *   step.c     step processes and ranks running a model program whose state is a function of (job, rank, step)
 *   stay.c     ranks that go over from one generation to the next
 *   colour.c   their messages, coloured by the real ckpt/cut
 *   depot.c    the object store
 *   user.c     people, who ask again under the same request id until they have an answer
 *   fault.c    what goes wrong, and when it stops
 *   check.c    what must be true, whatever went wrong */

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "agent/core/core.h"
#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "ckpt/cut/comm_id.h"
#include "ckpt/cut/rank.h"
#include "ckpt/format/orphan.h"
#include "coordinator/core/core.h"
#include "coordinator/raft/raft.h"

#define COORDS_MAX 5u
#define HOSTS_MAX 8u
#define JOBS_MAX 6u
#define WORLD_MAX 16u  /* ranks of a job */
#define CUTS_MAX 512u  /* of a job in one run */
#define GENS_MAX 512u
#define STEPS_MAX 32u  /* step directories on one host */
#define SIM_OPS_MAX 128u
#define TRACE_LINE_MAX 400
#define LETTERS_MAX 640u /* of one rank to the next: one a step */

#define MS(n) ((uint64_t)(n) * NS_PER_MS)
#define SECONDS(n) ((uint64_t)(n) * NS_PER_S)
#define FOREVER UINT64_MAX

struct world;

/* What comes along with something that will happen; unused fields are zero. text, event and message are owned. */
struct args {
    uint32_t host, rank, slot, index, coord;
    uint64_t epoch, number, generation, cut, step;
    char uid[TIDE_UID_CHARS + 1];
    char *text;
    struct agent_event *event;
    struct raft_message *message;
};
typedef void (*happen_fn)(struct world *w, struct args *args);

struct happening {
    uint64_t at_ns, sequence;
    happen_fn fn;
    struct args args;
};

/* ---- the model program ---- */

struct slot_model {
    uint64_t cut, step, generation; /* cut 0: empty, or being written */
    uint32_t attempt;
    uint64_t content;
    uint64_t sum;     /* content as it was when summed */
    bool summed;
    uint64_t received, sent, logged; /* letters: at the record; of those that were on their way, saved with it */
};

/* Does a program pass messages, and are they coloured? */
enum paint {
    PAINT_NONE,
    PAINT_GANG,     /* all step together */
    PAINT_PIPELINE, /* each when it has its letter; the first are quicker */
    PAINT_STARVING, /* … the first are slower, so that the others wait for letters most of the time */
    PAINTS
};

struct letters {
    struct cut_rank cut;
    struct cut_peer peers[WORLD_MAX];
    uint8_t where[LETTERS_MAX], colour[LETTERS_MAX]; /* of what comes from the rank before, by number */
    uint64_t received, sent;
    uint64_t last_ns[2];                             /* when the last one that was sent arrives, by colour */
    bool waits, polling;
};

struct arena {
    bool there;
    char uid[TIDE_UID_CHARS + 1];
    char job[TIDE_NAME_MAX + 1];
    uint64_t generation; /* newest started here, noted before the start */
    struct slot_model slots[WORLD_MAX][SLOTS];
    struct slot_model copies[WORLD_MAX][SLOTS]; /* of ranks that recorded elsewhere */
};

struct rank_model {
    uint32_t rank;
    unsigned state; /* enum tide_rank_state */
    bool alive, attached;
    bool told, out;      /* that its generation is over; it has left it, and does nothing */
    uint64_t hung_until;
    int32_t exit_code, signal;
    uint64_t content;
    struct agent_page page;
    bool asking;         /* a restore question stands */
    uint32_t attempt;
    int32_t bad_slot;
    bool ready;          /* restored, or told to begin anew: may step */
    bool moving;         /* the end of its next step is in the heap */
    struct letters letters;
    struct control_comm comms[1];
    uint64_t page_step;  /* steps finished */
    uint32_t slots;      /* as its step says */
};

/* A step directory with, while `alive`, the process. */
struct step_model {
    bool there, alive, started, ended;
    bool leaving, left;
    uint64_t epoch;      /* of this very directory: things to come for an earlier one are void */
    char uid[TIDE_UID_CHARS + 1];
    char token[TIDE_TOKEN_CHARS + 1];
    uint64_t generation;
    uint64_t restore_cut;
    struct step_spec spec;
    struct rank_model ranks[WORLD_MAX];
    uint32_t rank_count;
};

struct host {
    char name[TIDE_NAME_MAX + 1];
    char uid[TIDE_UID_CHARS + 1];
    char cluster[TIDE_UID_CHARS + 1]; /* on disk */
    uint32_t slots;
    char domain[TIDE_NAME_MAX + 1];
    bool up, agent_up;
    uint64_t agent_epoch;
    uint64_t stopped_until;       /* SIGSTOP of the agent */
    uint64_t to_leader_cut_until, from_leader_cut_until;
    char incarnation[TIDE_UID_CHARS + 1];
    struct agent_core *core;
    struct agent_actions actions;
    bool registered, registering;
    uint32_t coord; /* the coordinator it asks next */
    uint64_t register_number, first_poll, poll_number, beat_number;
    bool beat_in_flight, beat_due, polling_pages;
    struct arena arenas[JOBS_MAX];
    struct step_model *steps; /* STEPS_MAX */
    struct health_fact fact;  /* that its probes see; healthy: none */
    uint64_t sick_ns;
    unsigned boots;
    uint64_t next_step_epoch;
};

/* ---- the truth, kept by check.c ---- */

struct cut_truth {
    uint64_t generation, step;
    uint32_t attempt;
    bool known;
    unsigned state; /* enum tide_ckpt_state, as last applied */
    bool barred;    /* given up by a rollback to an older one */
    bool kept;      /* pinned or held, as last applied */
    uint64_t condemned_ns; /* last */
    bool purged;    /* its objects were deleted at least once */
    bool spoiled;   /* a copy of it was corrupted on purpose */
    struct {
        uint64_t generation, step, content;
        uint32_t attempt;
        uint64_t received, sent, logged;
    } records[WORLD_MAX];
};

struct gen_truth {
    bool launched;
    uint64_t revision, cut;
    char token[TIDE_TOKEN_CHARS + 1];
    uint32_t starts[WORLD_MAX]; /* processes started, by rank */
};

struct job_truth {
    char uid[TIDE_UID_CHARS + 1];
    char name[TIDE_NAME_MAX + 1];
    uint32_t world, nproc;
    unsigned paint, declared; /* enum paint, enum cut_mode */
    bool stays;               /* its ranks ask to go over to the next generation */
    uint64_t transition_ns;   /* ranks' colours differ since; 0: they do not */
    uint64_t total, step_ns;
    uint32_t max_restarts;
    uint64_t *model[WORLD_MAX]; /* model[rank][step], total + 1 of them */
    struct cut_truth cuts[CUTS_MAX];
    struct gen_truth gens[GENS_MAX];
    uint64_t generation, next_cut;
    uint64_t newest_restorable, store_cut;
    uint64_t failed_ns, pause_ms; /* when its last generation failed; no other before that has passed */
    unsigned phase; /* enum gen_phase */
    bool exit93, cancelled, ended;
    unsigned end_state;
    uint64_t finished_generation[WORLD_MAX];
};

/* ---- the coordinators ---- */

enum waiter_kind { WAIT_NOBODY, WAIT_OP, WAIT_REGISTER, WAIT_JUDGE };

/* Who is told what becomes of a proposal; means something to the office that took it. */
struct waiter {
    unsigned kind; /* enum waiter_kind */
    uint32_t index;
    uint64_t number, asker_epoch; /* asker_epoch: the asking agent's */
    uint64_t entry, term;         /* of the proposal */
};

struct poll {
    bool parked;
    uint64_t number, host_epoch, after;
    char incarnation[TIDE_UID_CHARS + 1];
};

struct image {
    uint64_t index, term;
    struct raft_config config;
    char *text; /* of the state; NULL: none */
};

/* What is on a member's disk, and under way to it. */
struct coord_disk {
    struct raft_ballot ballot;
    struct raft_entry *log; /* entries first, first + 1, … */
    uint64_t first;
    size_t count, room;
    struct image images[2]; /* newest first */
    struct raft_write *queue;
    size_t queued, queue_room, syncing; /* syncing: of the queue, those of the fsync that runs */
    struct image receiving;
    uint64_t receiving_total, receiving_digest, received; /* lost with the process */
};

/* What only the member that leads has, for as long as it does. */
struct office {
    bool taken;
    uint64_t epoch; /* of all offices this member had */
    struct book book;
    struct waiter *waiters;
    size_t waiter_count, waiter_room;
    size_t verdicts; /* proposed by judge, not applied */
    bool judge_due;
    uint64_t judge_number;
    uint64_t refused_verdicts; /* in a row */
    uint64_t busy_second, busy_count;
    struct poll polls[HOSTS_MAX];
};

struct coord {
    uint32_t slot; /* its id, less one */
    bool up;
    uint64_t epoch, paused_until;
    struct raft *raft;
    struct raft_status status; /* after the last step */
    struct coord_disk disk;
    struct state state;
    uint64_t applied;
    uint32_t knows, knows_next; /* level of its version, and of the one it starts next */
    struct rng rng;
    uint64_t tick_ns, wall_skew_ms, mono_base;
    struct office office;
    uint64_t cut_until[COORDS_MAX]; /* way to that member */
};

/* What is committed, from whoever applied it first; all members must agree. */
struct truth_log {
    bool up; /* some coordinator is */
    struct entry {
        uint64_t index, term;
        uint32_t type;
        char *text; /* NULL: no command */
    } *log;         /* entry i + 1 */
    size_t count, room;
    struct state state;
    char *image; /* of the state at image_index, to replay from */
    size_t image_index;
    uint64_t offices, installs; /* leaders that took office, images received */
};

/* ---- store, people ---- */

struct object {
    char key[128];
    uint64_t generation, cut, step, content, sum, received, sent, logged;
    uint32_t rank, world;
    bool manifest, corrupt;
    char digest[DIGEST_HEX_CHARS + 1];
    char uid[TIDE_UID_CHARS + 1];
    char shard_keys[WORLD_MAX][128];
    char shard_digests[WORLD_MAX][DIGEST_HEX_CHARS + 1];
};

struct depot {
    struct object *items;
    size_t count;
    uint64_t failing_until;
};

enum op_kind { OP_SUBMIT, OP_SAVE, OP_ROLLBACK, OP_CANCEL, OP_DROP, OP_DRAIN, OP_RESUME, OP_PIN, OP_UNPIN, OP_GC };

struct op {
    unsigned kind;
    char request[REQUEST_ID_MAX + 1];
    char job[TIDE_NAME_MAX + 1];
    char node[TIDE_NAME_MAX + 1];
    uint64_t cut;
    bool force;
    uint64_t hold_ms; /* OP_PIN; 0: until it is unpinned */
    uint32_t plan; /* OP_SUBMIT */
    bool answered;
    unsigned status;
    char *answer;
};

struct plan { /* a job a person means to submit */
    char name[TIDE_NAME_MAX + 1];
    struct job_spec spec;
    uint64_t total, step_ns;
    unsigned paint, declared;
    bool stays;
};

/* What may go wrong in this run; all zero: nothing does. Chances per second of the whole cluster, in millionths. */
struct lies {
    uint32_t loss, doubled, late; /* of a message, in millionths */
    uint32_t kill_rank, exit93, hang_rank, kill_agent, kill_step, stop_agent, lose_host, partition, kill_leader,
        stop_leader, part_leaders, store_fails,
        corrupt_slot, corrupt_object, person;
    uint32_t start_fails; /* of one start, in millionths */
    uint32_t store_lags;  /* of a shard on its way into the store, in millionths */
    uint32_t narrow;      /* of a wish for third slots: there is no room */
};

struct world {
    uint64_t seed;
    struct rng rng;
    uint64_t now, next_sequence, hash, events;
    struct happening *heap;
    size_t heap_count, heap_room;
    bool verbose, stop;
    unsigned violations;
    bool healed;
    struct lies lies;
    uint32_t host_count;
    struct host hosts[HOSTS_MAX];
    uint32_t coord_count; /* 0: one */
    struct coord coords[COORDS_MAX];
    struct truth_log leader;
    struct depot depot;
    struct op ops[SIM_OPS_MAX];
    uint32_t op_count;
    struct plan plans[JOBS_MAX];
    uint32_t plan_count;
    struct job_truth *truths[JOBS_MAX];
    uint32_t truth_count;
    uint64_t lost_revision[HOSTS_MAX]; /* of the last verdict "node lost" */
    /* A story looks on. */
    void (*on_applied)(struct world *w, const struct command *command, enum tide_status status);
    bool sick;               /* its hosts may fall ill */
    struct rng sick_rng;
    uint64_t sick_serial;
    uint64_t kill_takes_ns; /* not 0: a story's */
    uint64_t n1_stores_ns;  /* not 0: a story's; so long a shard of n1 is on its way */
    uint64_t applied_total, replays, coloured_seals, letters_logged, copies_made, copies_used;
};

/* ---- sick.c: what probes find ---- */
void sick_begin(struct world *w);
void sick_tell(struct world *w, struct host *h);
void sick_agent_starts(struct world *w, struct host *h);
void sick_host_starts(struct host *h);

/* ---- world.c ---- */
struct world *world_create(uint64_t seed, bool verbose);
void world_free(struct world *w);
void later(struct world *w, uint64_t delay_ns, happen_fn fn, struct args args);
/* Run until the condition holds (true) or the time has come (false). NULL: until the time. */
bool world_run(struct world *w, uint64_t until_ns, bool (*done)(const struct world *w));
void trace(struct world *w, const char *format, ...) PRINTF_LIKE(2, 3);
/* Something that must never be was seen: told with its time, and the run stops. */
void violation(struct world *w, const char *format, ...) PRINTF_LIKE(2, 3);
bool chance(struct world *w, uint32_t millionths);
uint64_t between(struct world *w, uint64_t low, uint64_t high);
uint64_t mix(uint64_t a, uint64_t b);
uint64_t text_hash(const char *text);
/* The way of one message between a host and the coordinator; dropped, doubled, delayed or delivered. */
void send_to_leader(struct world *w, struct host *h, happen_fn fn, struct args args);
void send_to_host(struct world *w, struct host *h, happen_fn fn, struct args args);
void send_person(struct world *w, happen_fn fn, struct args args);
void send_between_coords(struct world *w, const struct coord *from, uint32_t to, happen_fn fn, struct args args);
struct args args_copy(const struct args *args);
void args_release(struct args *args);

/* ---- truth.c ---- */
void truth_commit(struct world *w, const struct raft_entry *entry);
bool truth_parse(struct world *w, const char *text, struct command *ret_command);
void truth_expect(struct world *w, const struct state *a, const char *b_text, const char *what);

/* ---- coord.c ---- */
void coord_boot(struct world *w, struct coord *c);
void coord_crash(struct world *w, struct coord *c);
void coord_pause(struct world *w, struct coord *c, uint64_t time_ns);
/* Errors: as RAFT_EV_PROPOSE. ret_entry: index and term. */
MUST_USE enum tide_status coord_propose(struct world *w, struct coord *c, const char *text, struct raft_entry *ret_entry,
                                        struct err *err);
/* The member in office with the highest term; NULL: nobody is. */
struct coord *coord_in_office(struct world *w);
/* All of them at once: a group of one in most stories. */
void leader_boot(struct world *w);
void leader_crash(struct world *w);
void leader_release(struct world *w);
void check_coords_agree(struct world *w);

/* ---- leader.c ---- */
void office_take(struct world *w, struct coord *c);
void office_leave(struct world *w, struct coord *c);
/* An entry was applied at a member in office. */
void office_applied(struct world *w, struct coord *c, const struct raft_entry *entry, enum tide_status status,
                    const struct outcome *outcome);
void office_batch_applied(struct world *w, struct coord *c);
void leader_on_register(struct world *w, struct args *args);
void leader_on_heartbeat(struct world *w, struct args *args);
void leader_on_desired(struct world *w, struct args *args);
void leader_on_op(struct world *w, struct args *args);
void leader_propose(struct world *w, struct command *command);
const struct job_record *leader_job(const struct world *w, const char *name);

/* ---- host.c, agent_act.c ---- */
uint32_t host_index(const struct world *w, const struct host *h);
void host_boot(struct world *w, struct host *h);
void host_lose(struct world *w, struct host *h, bool wipe_state);
void agent_boot(struct world *w, struct host *h);
void agent_crash(struct world *w, struct host *h);
void agent_feed(struct world *w, struct host *h, const struct agent_event *event);
/* Feed it later, if the agent is still the same then. */
void agent_feed_later(struct world *w, struct host *h, uint64_t delay_ns, const struct agent_event *event);
void agent_act(struct world *w, struct host *h, const struct agent_action *action);
void agent_send_heartbeat(struct world *w, struct host *h);
void agent_look_at_pages(struct world *w, struct host *h);
struct arena *arena_of(struct host *h, const char *uid);
struct arena *arena_make(struct world *w, struct host *h, const char *uid, const char *job);
/* Of its slots, or of the copies beside them. */
void held_list(const struct arena *arena, bool copies, struct agent_held **ret_items, size_t *ret_count);
/* copies.c: what comes from another host's memory; token: that whoever asks shows. */
void copies_fetch(struct world *w, struct host *h, const char *from, const char *token, struct agent_event *event);
void copies_drop(struct host *h, const struct agent_event *event);
void slot_digest(const char *uid, uint32_t rank, const struct slot_model *slot, char to[DIGEST_HEX_CHARS + 1]);

void host_on_registered(struct world *w, struct args *args);
void host_on_beat_answer(struct world *w, struct args *args);
void host_on_looked(struct world *w, struct args *args);
void host_on_desired(struct world *w, struct args *args);

/* ---- step.c ---- */
struct step_model *step_find(struct host *h, const char *uid, uint64_t generation);
void step_begin(struct world *w, struct host *h, struct step_model *step);
/* A rank of a new generation: as it is before anything has happened. */
void rank_begin(struct world *w, struct host *h, struct step_model *step, uint32_t index);
void rank_attach(struct world *w, struct args *args);
void step_all_started(struct world *w, struct args *args);
struct args step_args(const struct world *w, const struct host *h, const struct step_model *step, uint32_t rank);
struct step_model *step_still(struct world *w, const struct args *args); /* NULL: it is another by now, or gone */
void step_end(struct world *w, struct host *h, struct step_model *step, uint64_t grace_ms);
void step_kill(struct world *w, struct host *h, struct step_model *step);
void step_status(struct world *w, struct host *h, const struct step_model *step);
void step_answer(struct world *w, struct host *h, struct step_model *step, const struct step_answer *answer);
void rank_end(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank, int32_t code, int32_t sig);
void gang_go(struct world *w, const char *uid, uint64_t generation);
struct rank_model *step_rank(struct step_model *step, uint32_t rank);

/* A rank that waits for a letter looks whether it is there, and goes on. */
void rank_reads(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank);

/* ---- stay.c ---- */
void stay_leave(struct world *w, struct host *h, struct step_model *step);
/* False: it cannot. The spec is released or moves. */
bool stay_go_over(struct world *w, struct host *h, struct step_model *step, struct step_spec *spec, uint64_t restore_cut);
void stay_look(struct world *w, struct host *h, struct step_model *step); /* a rank of it has left, or is gone */

/* ---- colour.c ---- */
void colour_begin(struct rank_model *rank, const struct job_truth *truth);
void colour_look(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank);
bool colour_records(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank);
void colour_recorded(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank, struct slot_model *slot);
void colour_restored(struct rank_model *rank, const struct slot_model *slot);
void colour_send(struct world *w, const struct host *h, const struct step_model *step, struct rank_model *rank);
bool colour_read(struct world *w, struct host *h, struct step_model *step, struct rank_model *rank);
void colour_poll(struct world *w, struct host *h, const struct step_model *step, struct rank_model *rank);
void colour_finish(struct rank_model *rank);

/* ---- depot.c ---- */
struct object *depot_find(struct world *w, const char *key);
bool depot_up(struct world *w);
/* As put_same: OK, or EXISTS when another object holds the key. */
enum tide_status depot_put(struct world *w, const struct object *object);
void depot_purge(struct world *w, const char *uid, uint64_t cut);
void depot_sweep(struct world *w, const char *uid, const struct orphan_rule *rule);

/* ---- user.c, fault.c ---- */
uint32_t person_asks(struct world *w, struct op op);
void person_submits(struct world *w, uint32_t plan);
void person_hears(struct world *w, uint32_t index, unsigned status, const char *answer);
void person_does_something(struct world *w);
void persons_ask_all_again(struct world *w);
struct plan *plan_add(struct world *w, uint32_t nnodes, uint32_t nproc, uint64_t total, uint64_t step_ms, uint64_t ckpt_every_ms);
void faults_begin(struct world *w);
void faults_heal(struct world *w);

/* ---- check.c: told of everything, says violation() ---- */
struct job_truth *truth_of(struct world *w, const char *uid);
void check_applied(struct world *w, const struct command *command, enum tide_status status, const char *before);
/* Before what was known of it last is forgotten (check_keep.c). */
void check_kept(struct world *w, struct job_truth *truth, const struct job *job, const struct command *command);
void check_replay(struct world *w);
void check_summed(struct world *w, const char *uid, uint32_t rank, const struct slot_model *slot);
void check_recorded(struct world *w, const struct step_model *step, const struct rank_model *rank, const struct slot_model *slot);
void check_started(struct world *w, const struct host *h, const struct step_model *step);
void check_restored(struct world *w, const struct step_model *step, const struct rank_model *rank);
void check_finished(struct world *w, const struct step_model *step, const struct rank_model *rank);
void check_armed(struct world *w, const struct step_model *step, const struct rank_model *rank, const struct slot_model *slot,
                 uint64_t cut);
void check_ending(struct world *w, const struct host *h, const struct step_model *step);
void check_purge(struct world *w, const char *uid, uint64_t cut);
void check_end(struct world *w);
bool world_converged(const struct world *w);

#endif
