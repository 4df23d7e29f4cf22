/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_RAFT_SIM_H
#define TESTS_SIM_RAFT_SIM_H

/* A Raft group of the real core in an invented world; one seed is one run, bit for bit.
 *
 *   world.c    time, chance, the heap of things to come, the network
 *   disk.c     what is durable, what is under way to it, what a crash leaves
 *   node.c     a member's shell around the core: it does with each update what raft.h asks for
 *   machine.c  the replicated state: a chain of hashes, and the sessions of clients
 *   client.c   proposals, reads, changes of the group
 *   fault.c    what goes wrong, and when it stops
 *   flip.c     bits of disks that flip, and what comes of it
 *   promise.c  no message promises what is not durable
 *   check.c    the five properties of the paper's figure 3, and what else must be true after every step */

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/mem.h"
#include "ckpt/base/rng.h"
#include "coordinator/raft/raft.h"
#include "coordinator/raft/wire.h"

#define NODES_MAX 8u
#define CLIENTS_MAX 16u
#define TERMS_MAX 65536u
#define TABLE_SLOTS 65536u /* entries ever written, by (index, term) */
#define TRUTH_MAX 30000u   /* committed entries */
#define CONFIGS_MAX 4096u  /* committed */

#define US(n) ((uint64_t)(n) * 1000u)
#define MS(n) ((uint64_t)(n) * 1000000u)
#define SECONDS(n) ((uint64_t)(n) * 1000000000u)

struct world;
struct node;

/* ---- the replicated state ---- */

struct machine {
    uint64_t applied, term;
    uint64_t chain;                 /* hash of everything applied */
    uint64_t sessions[CLIENTS_MAX]; /* newest request of each client */
};

struct command {
    uint32_t client; /* CLIENTS_MAX and above: without a session */
    uint32_t filler; /* bytes that follow */
    uint64_t sequence, value;
};

/* ---- a disk ---- */

struct image {
    uint64_t index, term, total, digest; /* index 0: none */
    struct raft_config config;
    char *bytes;
};

struct disk {
    /* Durable. */
    struct raft_ballot ballot;
    struct raft_entry *log; /* first, first + 1, … */
    uint64_t first;
    size_t count, room;
    struct image images[2]; /* newest first */
    struct image partial;   /* being received */
    uint64_t have, partial_epoch; /* bytes of it; the life in which the last came */
    /* Under way. */
    struct raft_write *queue;
    size_t queued, queue_room, syncing; /* syncing: of the queue, those the running fsync will make durable */
    struct image taking;                /* own snapshot, not durable yet */
    bool installing;                    /* partial is whole and on its way to be the newest image */
    uint64_t slow_until, fails_after;   /* fails_after: not 0: writes fail from then on */
    bool full;
    uint32_t flip;                      /* not 0: a bit was flipped, and has not been read */
    bool flips_image;                   /* … of the newest image; else of the log */
    uint64_t marked, marked_term;       /* the newest entry that is known to have been synced; 0: none is */
};

/* ---- a member ---- */

struct node {
    uint32_t slot;
    uint64_t id;
    bool up, was_member, removed; /* removed: the committed configuration is without it */
    bool broken;                  /* it has read a flipped bit, and never runs again under this id */
    bool owed;                    /* it stands for one of those, and does not vote yet */
    bool still;                   /* a story's: its clock stands */
    uint64_t removed_at;
    uint64_t epoch; /* of this life */
    struct raft *raft;
    struct disk disk;
    struct machine machine;
    struct raft_status status; /* after the last step */
    uint64_t config_hash;      /* of the configuration in force */
    uint64_t tick_ns, paused_until;
    unsigned crash_stage; /* not 0: the next step ends in a crash after that many of its parts */
    uint64_t steps, quiet_until; /* quiet_until: takes no load, it is giving leadership away */
};

/* ---- clients ---- */

enum client_state { CLIENT_IDLE, CLIENT_ASKS, CLIENT_WAITS };

struct client {
    unsigned state; /* enum client_state */
    bool reading;
    uint64_t sequence, value, attempt;
    uint32_t node;
    uint64_t node_epoch, index, term; /* of the entry it waits for */
    uint64_t read, read_index, floor; /* floor: newest entry acknowledged to anyone when it asked */
    uint64_t began;
};

/* ---- the truth ---- */

struct truth_entry {
    uint64_t term, hash, chain, commit_term;
};

struct written { /* an entry that was in some log; index 0: free */
    uint64_t index, term, hash, prev_term;
};

struct lies { /* all zero: nothing goes wrong. Chances in millionths: of a message, or of a fault's turn */
    uint32_t loss, doubled, late, unreachable, old;
    uint32_t crash, crash_inside, power, pause, cut_one_way, partition, isolate, slow_disk, eio, full, bad_image, flip;
    uint32_t snapshot, admin, transfer, bulk;
};

enum happening_kind {
    HAPPEN_TICK,
    HAPPEN_MESSAGE,
    HAPPEN_SYNCED,
    HAPPEN_TAKEN,     /* own snapshot durable */
    HAPPEN_CHUNK,     /* chunk stored */
    HAPPEN_INSTALLED,
    HAPPEN_BOOT,
    HAPPEN_CLIENT,    /* asks, or gives up waiting */
    HAPPEN_FAULT,
    HAPPEN_CALL,      /* a story's */
    HAPPEN_REPAIR,    /* a person looks after those whose disks were spoiled */
    HAPPENINGS
};

struct happening {
    uint64_t at, sequence;
    unsigned kind; /* enum happening_kind */
    uint32_t node;
    uint64_t epoch, number;
    void *pointer; /* owned: HAPPEN_MESSAGE */
};

struct world {
    uint64_t seed;
    struct rng rng;
    uint64_t now, next_sequence, hash, events;
    struct happening *heap;
    size_t heap_count, heap_room;
    bool verbose, stop, healed, quiet; /* quiet: clients begin nothing new */
    bool mild;                         /* only one member is in trouble: the others must get on */
    uint32_t victim;                   /* its slot */
    uint64_t progress, progress_at;    /* newest committed entry, and since when */
    unsigned violations;
    struct lies lies;
    uint32_t node_count, founding; /* slots; the first `founding` are the group at the beginning */
    struct node nodes[NODES_MAX];
    uint64_t next_id;
    struct raft_wire wire; /* of the message being sent */
    char *frame;           /* its bytes */
    size_t frame_room;
    bool cut[NODES_MAX][NODES_MAX]; /* from, to */
    uint64_t cut_until[NODES_MAX][NODES_MAX];
    uint64_t way_ns; /* of a message, at least; up to twice that */
    uint32_t election_ticks, heartbeat_ticks;
    uint64_t sync_ns; /* of a disk, at least; up to three times that */
    uint32_t filler_max, image_max;
    bool salted; /* images of one index differ between members */
    uint32_t client_count;
    struct client clients[CLIENTS_MAX];
    uint64_t next_read, next_value;
    /* A story looks at each message as it leaves; false: it is lost. */
    bool (*on_send)(struct world *w, const struct node *from, const struct raft_message *message);
    void *story;

    uint64_t *leaders; /* by term: id */
    struct written *table;
    size_t table_count;
    struct truth_entry *truth; /* truth[i] is entry i */
    uint64_t truth_count;      /* newest */
    struct raft_config committed; /* configuration, the newest */
    struct {
        uint64_t index, hash;
    } configs[CONFIGS_MAX];
    size_t config_count;
    uint64_t promoting; /* id in the RAFT_EV_PROMOTE being done */
    uint64_t acknowledged;     /* newest entry acknowledged to a client */
    /* What happened, to see that it does. */
    uint64_t elections, acks, reads, dupes, installs, resumes, changes, refused, crashes, unknown, flips;
};

/* ---- world.c ---- */
struct world *world_create(uint64_t seed, bool verbose);
void world_free(struct world *w);
void later(struct world *w, uint64_t delay, struct happening happening);
/* Until the condition holds (true), or the time has come (false). NULL: until the time. */
bool world_run(struct world *w, uint64_t until, bool (*done)(const struct world *w));
bool chance(struct world *w, uint32_t millionths);
uint64_t between(struct world *w, uint64_t low, uint64_t high);
uint64_t mix(uint64_t a, uint64_t b);
void say_line(const struct world *w, const char *format, ...) PRINTF_LIKE(2, 3);
#define say(w, ...) \
    do { \
        if ((w)->verbose) \
            say_line(w, __VA_ARGS__); \
    } while (0)
/* Something that must never be was seen: told with its time, and the run stops. */
void violation(struct world *w, const char *format, ...) PRINTF_LIKE(2, 3);
struct node *node_of(struct world *w, uint64_t id); /* NULL: none */
void message_send(struct world *w, const struct node *from, struct raft_message *message); /* contents move */
const char *message_text(const struct raft_message *message, char to[160]);

/* ---- disk.c ---- */
void disk_queue(struct world *w, struct node *n, struct raft_write *write); /* contents move */
void disk_synced(struct world *w, struct node *n);                         /* the fsync under way ends */
void disk_crash(struct world *w, struct disk *d);                          /* only what is durable stays */
void disk_wipe(struct disk *d);
void disk_lose_last(struct disk *d);
/* Before a start: what a shell drops when a newer snapshot has replaced the log. */
void disk_recover(struct world *w, struct disk *d);
uint64_t disk_last(const struct disk *d);
uint64_t disk_term(const struct disk *d, uint64_t index); /* 0: not there */
bool disk_holds(const struct disk *d, uint64_t index, uint64_t term); /* as an entry, or in an image */
void disk_put(struct world *w, struct disk *d, const struct raft_entry *entry); /* durable at once: stories */
void image_release(struct image *image);
void image_take(struct world *w, struct node *n); /* begins a snapshot of what is applied */
void image_taken(struct world *w, struct node *n);
void image_chunk(struct world *w, struct node *n, struct raft_chunk *chunk);
void image_installed(struct world *w, struct node *n, uint64_t index);
bool image_fill(struct node *n, struct raft_message *message); /* false: that image is gone */

/* ---- machine.c ---- */
uint64_t entry_hash(const struct raft_entry *entry);
void machine_apply(struct world *w, struct machine *machine, const struct raft_entry *entry);
struct raft_blob *command_blob(const struct command *command);
void machine_print(const struct machine *machine, struct image *image, uint64_t filler, uint64_t salt);
bool machine_parse(const struct image *image, struct machine *ret_machine);

/* ---- node.c ---- */
void node_boot(struct world *w, struct node *n);
void node_crash(struct world *w, struct node *n);
void node_renew(struct world *w, struct node *n); /* an empty machine under another id, which is started in a while */
/* One event, and all that follows from it. */
enum tide_status node_step(struct world *w, struct node *n, struct raft_event *event, struct err *err);
void node_happens(struct world *w, struct node *n, struct happening *happening);
struct node *world_leader(struct world *w); /* of the highest term; NULL: nobody leads */
/* The founding members' disks, and their start. */
void world_found(struct world *w, uint32_t members, uint32_t spares);
void member_of(uint64_t id, bool voter, struct raft_member *ret_member);

/* ---- client.c ---- */
void client_turn(struct world *w, uint32_t index, uint64_t attempt);
void client_applied(struct world *w, struct node *n, uint64_t index, uint64_t term);
void client_read_done(struct world *w, struct node *n, const struct raft_read *read);
void client_look(struct world *w, struct node *n); /* its reads may be answered */
void clients_begin(struct world *w);
bool bulk_propose(struct world *w, struct node *n, size_t count);
void admin_turn(struct world *w);
void admin_retires(struct world *w);
bool admin_change(struct world *w, struct node *n, unsigned kind, uint64_t id);

/* ---- fault.c ---- */
void faults_begin(struct world *w);
void fault_turn(struct world *w);
void faults_heal(struct world *w);
bool world_converged(const struct world *w);
void check_end(struct world *w);

/* ---- flip.c ---- */
void flip_turn(struct world *w);
bool flip_refused(struct world *w, struct node *n); /* at a start: it stays away */
void repair_turn(struct world *w);
bool flips_repaired(const struct world *w);

/* ---- check.c, promise.c ---- */
/* An entry that is on a disk from the beginning. */
void check_given(struct world *w, const struct raft_entry *entry, uint64_t prev_term);
void check_started(struct world *w, struct node *n);
void check_step(struct world *w, struct node *n, const struct raft_status *before, const struct raft_event *event,
                const struct raft_update *update, enum tide_status status);
void check_message(struct world *w, struct node *n, const struct raft_message *message);
void check_applied(struct world *w, struct node *n, const struct raft_entry *entry);
void check_restored(struct world *w, struct node *n);

#endif
