/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CORE_JUDGE_H
#define COORDINATOR_CORE_JUDGE_H

/* Shared by the files of this room that look at the book: tracks, scans of reports, and the parts of judge(). */

#include "coordinator/core/inner.h"

/* ---- track.c: what the leader has seen of a job, and when by its own clock ---- */

/* A condemned checkpoint, and when that sentence was first seen. */
struct condemned {
    uint64_t cut, condemned_ms, since_ns;
};

/* Steps of a job's ranks, in windows (judge_pace.c). */
struct pace {
    uint64_t generation, since_ns; /* 0: no window has begun */
    uint64_t *steps;               /* of each rank, when it began */
    size_t count;
    size_t slow;                   /* the straggler of the last windows, and of how many in a row */
    uint32_t windows;
};

/* Whom the ranks of a job that stands still wait for (judge_hang.c). */
struct hang_track {
    uint64_t since_ns; /* the verdict is the same since then; 0: there is none */
    bool over;         /* for too long: that was said of who is to blame */
    char key[96];
    char text[TIDE_TEXT_MAX + 1]; /* empty: not told yet */
};

/* All of it may be lost with the leader: a new one gives every wait its full time again. */
struct track {
    char uid[TIDE_UID_CHARS + 1];
    uint64_t generation;
    unsigned phase;
    uint64_t phase_ns; /* this phase of this generation was first seen */
    uint64_t gone_ns;  /* the old generation was first seen gone everywhere; 0: not yet */
    uint64_t absent_ns; /* ranks that were started are not reported, since; 0: none */
    uint64_t cut;
    uint64_t cut_ns;   /* that cut was first seen open */
    uint64_t cut_from; /* the largest step reported by then */
    uint32_t attempt;
    bool goes;
    uint64_t attempt_ns; /* that attempt of it was first seen, or first seen to go */
    uint64_t next_cut;
    uint64_t idle_ns;  /* a cut was last opened, or a generation launched */
    uint64_t store_cut;
    uint32_t store_attempts;
    uint64_t store_ns; /* that try to store it was first seen, or another shard of it was there */
    uint64_t storing_ns; /* the first try was */
    uint32_t stored;   /* shards of it seen in the store */
    uint64_t arena_cut;
    uint64_t arena_ns; /* that sealed cut was first seen not whole; 0: it is */
    uint64_t copy_ns;  /* a copy that is said to be there was first seen not to be; 0: it is */
    /* Where the shards of refs_cut are in the store; kept because nodes forget them when they get their next order. */
    uint64_t refs_cut;
    LIST_OF(struct shard_ref) refs;
    LIST_OF(struct condemned) condemned; /* by id */
    /* Steps of the newest generation that made any. */
    uint64_t steps_generation, top_step, top_ns;
    uint64_t sample_step, sample_ns;
    uint64_t rate; /* steps in 1,000 s */
    bool rated;    /* rate is a measurement */
    struct pace pace;
    struct hang_track hang;
    uint64_t grew_ns, step_ns; /* top_step last grew; how long one step took then; 0: not known */
};

struct tracks {
    struct track *items;
    size_t count;
    size_t found; /* the last one that was asked for */
};

struct track *track_find(const struct book *book, const char *uid); /* NULL: none */
struct track *track_get(struct book *book, const char *uid);        /* made when missing */
void track_steps(struct track *track, const struct state *state, const struct gen_report *report, uint64_t now_ns);
/* Every wait begins again. */
void tracks_restart(struct book *book, uint64_t now_ns);
/* Forget jobs that have ended and have nothing to wait for. */
void tracks_prune(struct book *book, const struct state *state);
void tracks_release(struct book *book);
/* Take note of what has changed in the state since the last look. */
void track_look(struct track *track, const struct job_record *record, uint64_t now_ns);
/* Steps that may have been made by `after_ms` from now, on top of those reported. */
uint64_t track_ahead(const struct track *track, uint64_t now_ns, uint64_t after_ms);

/* ---- book.c ---- */

struct book_entry *book_find(const struct book *book, const char *node); /* NULL: none */
/* What the node last said of the job; NULL: nothing. */
const struct gen_report *book_report(const struct book *book, const char *node, const char *uid);
/* The node's heartbeats arrive, and this leader has one. */
bool book_heard(const struct state *state, const struct book *book, const char *node);

/* ---- scan.c: one pass over the reports of a job ---- */

struct rank_at {
    const char *node; /* NULL: there is none */
    const struct rank_report *report;
    uint64_t age_ms;  /* since it ended */
};

struct fact_at {
    const char *node; /* NULL: none */
    const struct health_fact *fact;
    uint64_t age_ms;
};

struct gen_scan {
    uint32_t world, started, attached, stepped, done;
    uint32_t absent;            /* ranks that a node heard of does not report */
    uint32_t slots;             /* each rank has at least so many; 0: not every rank says */
    const char *lost;           /* a node of the generation that is lost; NULL: none */
    const char *failed_node;    /* one that is, by its health; NULL: none */
    struct fact_at stuck;       /* the newest evidence that ranks somewhere cannot go on */
    struct rank_at failed;      /* the one that failed first */
    struct rank_at final;       /* one that must not be restarted */
    struct rank_at ended;       /* one that ended well */
    const char *bad_node;       /* of the restore failure; NULL: none */
    const struct restore_failure *bad;
    uint64_t restore_us, top_step;
};

/* Of the present generation. */
void scan_generation(const struct state *state, const struct book *book, const struct job_record *record, uint64_t now_ns,
                     struct gen_scan *ret_scan);
bool rank_done(const struct rank_report *report);
bool rank_failed(const struct rank_report *report);
bool rank_started(const struct rank_report *report);
/* Which of the node's ranks this is, as one bit; 0: none of them. */
uint64_t scan_local_bit(const struct job_spec *spec, uint32_t node_rank, uint32_t rank);
/* What the node of that node rank says of the present generation; NULL: nothing. */
const struct gen_report *scan_report(const struct book *book, const struct job_record *record, uint32_t node_rank);
/* The report of a rank of the present generation; NULL: none. */
const struct rank_report *scan_rank(const struct book *book, const struct job_record *record, uint32_t rank);

struct cut_at {
    const char *node; /* NULL: none */
    const struct cut_report *report;
};

struct cut_scan {
    uint32_t world, recorded;
    uint32_t copied;       /* recorded, or but for messages that may still be added */
    uint32_t armed;        /* … or armed */
    struct cut_at missed;  /* with the largest step */
    struct cut_at failed;
    struct cut_at passed;  /* it came to the step before all were armed; with the largest step */
    struct cut_at early;   /* it needed a message that was sent behind the sender's record */
    struct cut_at unequal; /* its collectives differ from those of `first` */
    struct cut_at first;
    uint64_t bytes, stall_us, logged, logged_bytes, copy_us, top_step;
    unsigned copy;
};

void scan_cut(const struct book *book, const struct job_record *record, const struct ckpt *ckpt, struct cut_scan *ret_scan);

/* ---- scan_epoch.c: colours (ckpt/cut/README.md) ---- */

/* How the ranks say of themselves that they count steps. */
struct mode_scan {
    uint32_t coloured;
    struct rank_at plain, paint;       /* one whose messages are not coloured, one whose are */
    struct rank_at by_step, by_itself; /* they declare themselves, one each way */
};

void scan_modes(const struct book *book, const struct job_record *record, struct mode_scan *ret_scan);
/* What all ranks say of an attempt; ckpt NULL: of an epoch alone. */
void scan_verdict(const struct book *book, const struct job_record *record, const struct ckpt *ckpt, uint64_t epoch,
                  struct cut_verdict *ret_verdict);
bool missing_poll(const struct book *book, const struct job_record *record, uint32_t rank, const void *epoch);
bool missing_flip(const struct book *book, const struct job_record *record, uint32_t rank, const void *epoch);
bool missing_end(const struct book *book, const struct job_record *record, uint32_t rank, const void *epoch);
bool missing_arm(const struct book *book, const struct job_record *record, uint32_t rank, const void *ckpt);
bool missing_copy(const struct book *book, const struct job_record *record, uint32_t rank, const void *ckpt);
/* Do any ranks tell of communicators? Those whose messages are coloured all do. */
bool scan_tells_comms(const struct book *book, const struct job_record *record, const struct ckpt *ckpt);
/* Are all members of every communicator on the same side of its collectives? If not, why. */
enum cut_misfit scan_comms(const struct book *book, const struct job_record *record, const struct ckpt *ckpt, char *why, size_t size);

struct shard_at {
    const char *node; /* NULL: none */
    const struct shard_report *report;
};

struct shard_scan {
    uint32_t world, stored;
    struct shard_at failed;
    const char *manifest_node;
    const struct manifest_report *manifest; /* NULL: none */
};

void scan_shards(const struct book *book, const struct job_record *record, const struct ckpt *ckpt,
                 struct shard_scan *ret_scan);
/* References to all shards, in rank order, into track->refs. False, and nothing, while one is missing. */
bool scan_refs(const struct book *book, const struct job_record *record, const struct ckpt *ckpt, struct track *track);

/* Does the node hold, in memory, all of the cut that its ranks recorded? False also while it was not heard. */
bool scan_holds(const struct book *book, const struct job_record *record, const struct ckpt *ckpt, uint32_t node_rank);

/* judge_peer.c: is the copy of what node rank n recorded where it is said to be? */
enum copy_where { COPY_NONE, COPY_UNHEARD, COPY_THERE };
enum copy_where scan_copy(const struct state *state, const struct book *book, const struct job_record *record, const struct ckpt *ckpt,
                          uint32_t n);
/* Are copies of it to be made that are not known to be there? */
bool peers_wanted(const struct job_record *record, const struct ckpt *ckpt);

/* Has the node said that nothing up to `generation` is left on it? */
bool scan_gone(const struct book *book, const struct job_record *record, const char *node);

/* Names of ranks for which `is_missing` holds, as "rank 2 on n3, rank 5 on n4, …" and what the nodes say about it. */
typedef bool (*rank_missing_fn)(const struct book *book, const struct job_record *record, uint32_t rank,
                                const void *context);
void scan_names(const struct book *book, const struct job_record *record, const struct strlist *nodes,
                rank_missing_fn is_missing, const void *context, char *to, size_t size);
/* Where the ranks are, as ", with rank 3 at step 12 and rank 0 at 812": nothing when all are at one step, or none has told. */
void scan_spread(const struct book *book, const struct job_record *record, char *to, size_t size);
bool missing_start(const struct book *book, const struct job_record *record, uint32_t rank, const void *context);
/* Has it fewer slots than that? */
bool missing_slot(const struct book *book, const struct job_record *record, uint32_t rank, const void *slots);
bool missing_step(const struct book *book, const struct job_record *record, uint32_t rank, const void *context);
bool missing_record(const struct book *book, const struct job_record *record, uint32_t rank, const void *ckpt);
bool missing_shard(const struct book *book, const struct job_record *record, uint32_t rank, const void *ckpt);
/* Nodes of the fence that are not known to be free of older generations. */
void scan_fence_names(const struct state *state, const struct book *book, const struct job_record *record, char *to,
                      size_t size);
/* "rank 2 on n3 was killed by signal 9 (SIGKILL)" */
void rank_text(const struct rank_at *rank, char *to, size_t size);

/* explain.c: sentences about a job, added to `to`. */
void explain(const struct state *state, const struct book *book, const struct job_record *record, uint64_t now_ns,
             struct strlist *to);

/* ---- judge ---- */

struct judging {
    const struct state *state;
    struct book *book;
    uint64_t now_ns, now_ms;
    struct rng *rng;
    struct command_list *commands;
    uint64_t next_ns;
    struct room room; /* made when first asked for */
    uint32_t moved; /* nodes that jobs need which this round moves for their nodes' health */
    bool drains_counted, may_drain; /* … and so is whether one more node may be drained for its health */
};

/* One more verdict, about a job (NULL: about a node). References end with the next one. */
struct command *judge_add(struct judging *judging, enum command_kind kind, const struct job_record *record);
struct room *judge_room(struct judging *judging);
void judge_want(struct judging *judging, uint64_t at_ns);
/* Has `ms` passed since then? If not, judge wants to be called when it has. */
bool judge_passed(struct judging *judging, uint64_t since_ns, uint64_t ms);

/* judge_pace.c: is one of its ranks slower than the others? */
void judge_pace(struct judging *judging, const struct job_record *record, struct track *track);
/* judge_hang.c: do its ranks wait for one? True: its generation has ended for that. */
bool judge_hang(struct judging *judging, const struct job_record *record, struct track *track, const struct gen_scan *scan);
/* judge_health.c: what the leader finds of a node is told as what it tells of itself: degraded, under a serial that is new */
void judge_found(const struct node *node, struct book_entry *entry, struct found *to, const char *probe, const char *subject,
                 const char *text);
bool judge_found_counts(const struct found *found, uint64_t now_ns);
/* judge_health.c: take over what a node tells of itself; give it back when it was good for a while */
void judge_health(struct judging *judging, const struct node *node, struct book_entry *entry);
/* What the health of nodes means for a generation there. True: it has ended. */
bool judge_unfit(struct judging *judging, const struct job_record *record, const struct track *track, const struct gen_scan *scan);
/* judge_gen.c */
struct command *gen_add_fail(struct judging *judging, const struct job_record *record, const struct gen_scan *scan, unsigned kind,
                             const char *node, int32_t rank);
void judge_launch(struct judging *judging, const struct job_record *record, struct track *track);
void judge_running(struct judging *judging, const struct job_record *record, struct track *track);
void judge_stopping(struct judging *judging, const struct job_record *record, struct track *track);
/* judge_cut.c */
uint64_t cut_step(const struct judging *judging, const struct track *track, uint64_t top, uint32_t attempt, bool coloured);
struct command *cut_add_abort(struct judging *judging, const struct job_record *record, const struct ckpt *ckpt,
                              const char *node, int32_t rank);
void cut_abort_failed(struct judging *judging, const struct job_record *record, const struct ckpt *ckpt,
                      const struct cut_at *who);
void cut_add_seal(struct judging *judging, const struct job_record *record, const struct ckpt *ckpt, const struct cut_scan *scan);
/* Slots that each rank needs for one more cut: beside those of the newest in memory and of the one that is being stored. None would
 * do where what is in memory waits to be stored because people asked for it: that is not superseded; nor below level 2. */
uint32_t cut_slots_needed(const struct state *state, const struct job_record *record);
uint64_t cut_deadline_ms(const struct job_record *record, const struct track *track, const struct ckpt *ckpt);
/* judge_epoch.c: what opens a cut whose messages are coloured, or says why it cannot be; the open one; the transition */
void epoch_fill_open(struct judging *judging, const struct job_record *record, struct command *open);
void judge_epoch(struct judging *judging, const struct job_record *record);
void judge_coloured(struct judging *judging, const struct job_record *record, const struct track *track, const struct ckpt *ckpt);
void judge_cut(struct judging *judging, const struct job_record *record, struct track *track, const struct gen_scan *scan);
void judge_store(struct judging *judging, const struct job_record *record, struct track *track);
void judge_peers(struct judging *judging, const struct job_record *record, struct track *track);
void judge_purge(struct judging *judging, const struct job_record *record);
void judge_scrub(struct judging *judging, const struct job_record *record);
/* judge_keep.c: grace and holds that are over; of ended jobs, too */
bool keep_waits(const struct job_record *record);
void judge_keep(struct judging *judging, const struct job_record *record);

#endif
