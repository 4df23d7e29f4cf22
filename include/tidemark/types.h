/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TIDEMARK_TYPES_H
#define TIDEMARK_TYPES_H

/* Hard limits. Each is enforced where the thing enters (API, agent, library) and named in the refusal. */
#define TIDE_NAME_MAX 63          /* bytes of a job, node or region name, without the NUL */
#define TIDE_UID_CHARS 16         /* hex digits of a job or node uid, and of an incarnation */
#define TIDE_TOKEN_CHARS 32       /* hex digits of a generation's secret */
#define TIDE_PATH_MAX 1024        /* bytes of a path or URL, without the NUL */
#define TIDE_SHARES_MAX 1024      /* names that the ranks of one node give with tide_share, in a generation */
#define TIDE_SHARE_BYTES_MAX 128   /* bytes of what tide_share gives: an ncclUniqueId, an address */
#define TIDE_TEXT_MAX 255         /* bytes of a reason or detail, without the NUL */
#define TIDE_ARGS_MAX 4096        /* words of a command line, and variables of an environment */
#define TIDE_ARG_BYTES_MAX 131072 /* bytes of one such word */
#define TIDE_NODES_MAX 16384      /* nodes of a cluster */
#define TIDE_JOBS_MAX 1024        /* jobs a cluster remembers, ended ones included */
#define TIDE_RANKS_MAX 65536      /* ranks of a job */
#define TIDE_LOCAL_RANKS_MAX 64   /* ranks of a job on one node */
#define TIDE_REGIONS_MAX 4096     /* registered regions of a rank */
#define TIDE_DIMS_MAX 8           /* dimensions of a region's shape */
#define TIDE_CKPTS_MAX 1024       /* checkpoints a job remembers */
#define TIDE_EVENTS_MAX 1024      /* events a job remembers; the oldest go first */

#endif /* TIDEMARK_TYPES_H */
