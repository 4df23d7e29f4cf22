/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TIDEMARK_STATES_H
#define TIDEMARK_STATES_H

/* The states people meet, with the word that stands in the API, the logs and the CLI. */

/* pending: waits for nodes. running: a generation is launching or running. restarting: the old generation is being
 * fenced. stopping: cancelled or failed, ranks are being ended. The others are final. imported: nothing of it ever ran on this
 * cluster; its checkpoints were found in a store. */
#define TIDE_JOB_STATE_MAP(X)    \
    X(PENDING, "pending")        \
    X(RUNNING, "running")        \
    X(RESTARTING, "restarting")  \
    X(STOPPING, "stopping")      \
    X(SUCCEEDED, "succeeded")    \
    X(FAILED, "failed")          \
    X(CANCELLED, "cancelled")    \
    X(IMPORTED, "imported")

/* ready: heartbeats arrive. lost: lease gone, its generation was given up. drained: by hand or for its health, no new ranks. */
#define TIDE_NODE_STATE_MAP(X) \
    X(READY, "ready")          \
    X(LOST, "lost")            \
    X(DRAINED, "drained")

/* How fit a node is, by what its probes see. degraded: shown. suspect: gets no new ranks. failed: its ranks go elsewhere. */
#define TIDE_HEALTH_MAP(X)   \
    X(HEALTHY, "healthy")    \
    X(DEGRADED, "degraded")  \
    X(SUSPECT, "suspect")    \
    X(FAILED, "failed")

/* As one host sees its rank. */
#define TIDE_RANK_STATE_MAP(X) \
    X(STARTING, "starting")    \
    X(RESTORING, "restoring")  \
    X(RUNNING, "running")      \
    X(FINISHED, "finished")    \
    X(EXITED, "exited")

/* open: ranks are recording. sealed: every rank has recorded; it can be restarted from memory. peered: sealed, and every part
 * is in the memory of another host, too. committed: durable in the store and in the log. aborted: never became valid. corrupt: a
 * bad hash was met. condemned: it will be deleted when its grace is over, and can be kept until then. dropped: deleted on
 * purpose. */
#define TIDE_CKPT_STATE_MAP(X)  \
    X(OPEN, "open")             \
    X(SEALED, "sealed")         \
    X(PEERED, "peered")         \
    X(COMMITTED, "committed")   \
    X(ABORTED, "aborted")       \
    X(CORRUPT, "corrupt")       \
    X(CONDEMNED, "condemned")   \
    X(DROPPED, "dropped")

#define X(symbol, name) TIDE_JOB_##symbol,
enum tide_job_state { TIDE_JOB_STATE_MAP(X) TIDE_JOB_STATES };
#undef X
#define X(symbol, name) TIDE_NODE_##symbol,
enum tide_node_state { TIDE_NODE_STATE_MAP(X) TIDE_NODE_STATES };
#undef X
#define X(symbol, name) TIDE_HEALTH_##symbol,
enum tide_health { TIDE_HEALTH_MAP(X) TIDE_HEALTHS };
#undef X
#define X(symbol, name) TIDE_RANK_##symbol,
enum tide_rank_state { TIDE_RANK_STATE_MAP(X) TIDE_RANK_STATES };
#undef X
#define X(symbol, name) TIDE_CKPT_##symbol,
enum tide_ckpt_state { TIDE_CKPT_STATE_MAP(X) TIDE_CKPT_STATES };
#undef X

/* A rank that exits with this status asks not to be restarted: the job fails at once. */
#define TIDE_EXIT_DO_NOT_RESTART 93

#endif /* TIDEMARK_STATES_H */
