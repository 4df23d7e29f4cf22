/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_LOGS_H
#define COORDINATOR_CLI_LOGS_H

/* The output of ranks, read from the agents that keep it. */

#include "coordinator/cli/client.h"
#include "coordinator/cli/option.h"

/* What is wanted. */
struct log_wish {
    const char *ranks; /* "0,2-4"; NULL: all */
    unsigned stream;   /* enum log_stream */
    uint64_t tail;     /* 0: all */
    bool follow;
    bool err_to_stderr; /* a rank's stderr goes to ours; else all goes to stdout */
    bool all_to_stderr; /* stdout is kept for something else */
};

struct log_source;

/* One generation of one job being read. */
struct log_reader {
    struct client *client;
    struct log_wish wish;
    char job[TIDE_NAME_MAX + 1];
    char uid[TIDE_UID_CHARS + 1];
    char key[TIDE_TOKEN_CHARS + 1]; /* that agents want to see; empty: none */
    uint64_t generation;
    struct node_list nodes; /* with their addresses; asked for again when one does not answer */
    uint64_t nodes_at_ns;
    struct strlist places; /* names of nodes that may have logs of it */
    struct strlist warned; /* nodes already named in a warning */
    struct log_source *sources;
    size_t source_count;
    bool prefix;                   /* more than one rank */
    const struct log_source *last; /* that printed, and whether its line is still open */
    bool open_line;
    uint64_t over_ns; /* since when nothing new can come; 0: it can */
};

/* "0,2-4" below `ranks`; ret_ranks: heap, ascending as written. Errors: INVALID. */
MUST_USE enum tide_status ranks_parse(const char *text, uint32_t ranks, uint32_t **ret_ranks, size_t *ret_count,
                                      struct fault *fault);

/* Begin to read `generation` of the job in `view`. Errors: INVALID (ranks), those of the API. */
MUST_USE enum tide_status log_reader_init(struct log_reader *reader, struct client *client, const struct log_wish *wish,
                                          const struct job_view *view, uint64_t generation, struct fault *fault);
void log_reader_release(struct log_reader *reader);

/* Start what can be started and print what has come; returns at once. True: all of it has been read. `over`: the
 * generation is not the newest one any more, or the job has ended. */
bool log_reader_step(struct log_reader *reader, bool over);

/* Follow a job from `generation` on (0: the newest) until it has ended and all is read. ret_view: as it was last.
 * `watch`: called often; a return other than 0 ends the following with STATE. May be NULL. The view is released by the
 * caller also on failure. */
struct follow {
    struct client *client;
    const char *job;
    struct log_wish wish;
    uint64_t generation;
    int (*watch)(void *context, const struct job_view *view);
    void *context;
};
MUST_USE enum tide_status follow_job(const struct follow *follow, struct job_view *ret_view, struct fault *fault);

#endif
