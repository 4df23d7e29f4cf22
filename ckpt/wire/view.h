/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CKPT_WIRE_VIEW_H
#define CKPT_WIRE_VIEW_H

/* What the API answers: replicated nouns beside what the leader sees at the moment. */

#include "ckpt/wire/identity.h"

/* Body of every answer that is not 2xx: {"error": {...}}. */
struct api_error {
    char code[32];                /* tide_status_name */
    char message[ERR_TEXT_MAX];   /* what happened, to what */
    char hint[TIDE_TEXT_MAX + 1]; /* what to do next; may be empty */
};
extern const struct codec api_error_codec;

struct rank_view {
    uint32_t rank;
    char node[TIDE_NAME_MAX + 1];
    struct rank_report report; /* zero but for rank while the node has not reported it */
};
extern const struct codec rank_view_codec;

/* GET /v1/jobs/{job} */
struct job_view {
    uint64_t revision; /* watch from here */
    struct job job;
    char log_key[TIDE_TOKEN_CHARS + 1]; /* agents show its logs to whoever has it */
    LIST_OF(struct rank_view) ranks;    /* of the present generation, by rank */
    struct strlist explain;             /* sentences: why it is in this state, what it waits for, who is missing */
};
extern const struct codec job_view_codec;
/* "ranks 0-2 stayed in their processes, rank 3 was started anew": into the present generation, as far as their nodes have told. False:
 * of none it is known that it stayed. */
bool job_view_processes(const struct job_view *view, char *to, size_t size);

/* GET /v1/jobs; events, checkpoints and recoveries are left out of each. */
struct job_list {
    uint64_t revision;
    LIST_OF(struct job) jobs;
};
extern const struct codec job_list_codec;

struct node_view {
    struct node node;
    uint64_t silent_ms; /* since its last heartbeat; UINT64_MAX-like large when none was seen by this leader */
    uint32_t used_slots;
    struct strlist jobs; /* names with ranks there */
};
extern const struct codec node_view_codec;

/* GET /v1/nodes */
struct node_list {
    uint64_t revision;
    LIST_OF(struct node_view) nodes;
};
extern const struct codec node_list_codec;

struct member_view {
    uint64_t id;
    char address[API_URL_MAX + 1]; /* of its API */
    char peer[ADDRESS_MAX + 1];    /* other members reach it at */
    bool leader;
    bool learner;  /* gets the log, does not count */
    char role[16]; /* "leader", "follower", "learner", "candidate" …; "unknown": it is not heard */
    uint64_t term;
    uint64_t commit_index, applied_index; /* of others, as the leader knows: both are what it surely has */
    uint64_t match_index;                 /* of the last entry it surely holds, committed or not */
    uint64_t lag;                         /* entries it is behind the leader */
    char replication[16];                 /* how it gets them: "probe", "replicate", "snapshot" */
    uint64_t contact_ms;                  /* since it was last heard */
    uint64_t queued_bytes;                /* for it, not yet taken */
    uint64_t log_bytes, snapshot_index, free_bytes, sync_us; /* only of the one that answers */
    uint64_t sync_age_ms;                                    /* … since that write was done; 0 of versions that do not tell */
    uint32_t level;                                          /* that its version knows; 0 of others: or it is not connected */
    uint64_t turn_us_max;                                    /* … the longest that everybody had to wait for it */
    char error[TIDE_TEXT_MAX + 1];                           /* why it is not connected */
};

/* GET /v1/cluster */
struct cluster_view {
    char cluster[TIDE_UID_CHARS + 1];
    char version[16];
    char epoch[EPOCH_TEXT_MAX + 1]; /* which of its histories: see identity.h */
    uint64_t revision;
    uint64_t uptime_ms;
    uint64_t lease_ms, heartbeat_ms;
    uint32_t level, level_newest; /* of the group; that the version of whoever answers knows */
    char store[TIDE_PATH_MAX + 1];
    uint32_t nodes_ready, nodes_lost, nodes_drained, jobs_active, jobs_total;
    LIST_OF(struct member_view) members;
};
extern const struct codec member_view_codec, cluster_view_codec;

/* Answer to every mutation; the same again when the request id is repeated. */
struct outcome {
    char job[TIDE_NAME_MAX + 1];
    char uid[TIDE_UID_CHARS + 1];
    uint64_t revision;
    uint64_t cut; /* asked for, rolled back to, or dropped */
    uint64_t generation;
    char text[TIDE_TEXT_MAX + 1]; /* a sentence */
};
extern const struct codec outcome_codec;

/* POST /v1/cluster/transfer */
struct transfer_request {
    uint64_t to; /* member; 0: whoever is furthest */
};
extern const struct codec transfer_request_codec;

/* POST /v1/jobs/{job}/rollback; both zero: the newest committed checkpoint */
struct rollback_request {
    uint64_t to;    /* checkpoint id */
    uint64_t steps; /* or: at least that many steps back from the newest step reported */
};
extern const struct codec rollback_request_codec;

/* POST /v1/imports: a checkpoint that is in a store, as its manifest says */
struct ckpt_import {
    char job[TIDE_NAME_MAX + 1];
    char uid[TIDE_UID_CHARS + 1];
    uint64_t cut, generation, step;
    uint32_t world_size;
    char key[TIDE_PATH_MAX + 1];         /* of the manifest */
    char digest[DIGEST_HEX_CHARS + 1];   /* of that object */
    uint64_t raw_bytes, stored_bytes;
    char store[TIDE_PATH_MAX + 1];
    bool verified; /* every byte of it was read: one that was found corrupt may be readmitted */
};
extern const struct codec ckpt_import_codec;

/* POST /v1/jobs/{job}/checkpoints/{cut}/pin; empty: until it is unpinned */
struct pin_request {
    uint64_t for_ms; /* hold it for so long */
};
extern const struct codec pin_request_codec;

#endif
