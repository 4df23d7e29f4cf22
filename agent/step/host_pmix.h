/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_STEP_HOST_PMIX_H
#define AGENT_STEP_HOST_PMIX_H

/* The only room that calls libpmix: a PMIx server for the ranks of one generation on this node.
 *
 * libpmix 4.2.2 can wedge for good when a rank dies while it connects, so nothing here may be waited for without a bound, and
 * nothing is ever taken down: the process ends by _exit. Starting happens on a thread of its own; upcalls, which come on
 * libpmix's thread, only queue an event and call `wake`. Everything but `wake` is for the thread that made the server. */

#include "agent/step/link.h"

enum pmix_event_kind {
    PMIX_UP,        /* the server is up; or `text` says why not */
    PMIX_CONNECTED, /* rank: it is inside PMIx_Init */
    PMIX_LEFT,      /* rank: PMIx_Finalize */
    PMIX_ABORTED,   /* rank, status: it called PMIx_Abort (MPI_Abort); text */
    PMIX_FENCED,    /* all local participants are there: request, list, members, status, data */
    PMIX_WANTED,    /* a local rank asks for another's data: request, rank */
    PMIX_FETCHED    /* answers host_pmix_fetch: key, status, data */
};

struct pmix_event {
    unsigned kind; /* enum pmix_event_kind */
    struct pmix_event *next;
    uint32_t rank;
    int32_t status; /* a pmix_status_t; PMIX_UP: 0 is good */
    void *request;
    uint64_t list, key;
    bool *members; /* by node rank; owned */
    char *data;    /* owned */
    size_t bytes;
    char text[TIDE_TEXT_MAX + 1];
};
void pmix_event_free(struct pmix_event *event);

struct host_pmix;

/* Begin. `spec` and `dir` (for libpmix's and the ranks' temporary files, private) are borrowed for ever. `wake` is called on
 * any thread when an event was queued. The first event is PMIX_UP; if it does not come within a bound of the caller's, this
 * process can only end. Errors: IO. */
MUST_USE enum tide_status host_pmix_start(const struct step_spec *spec, const char *dir, void (*wake)(void *context),
                                          void *context, struct host_pmix **ret_pmix, struct err *err);

/* The oldest queued event, or NULL. The caller frees it. */
struct pmix_event *host_pmix_next(struct host_pmix *pmix);

/* After PMIX_UP: what a rank's environment needs to reach the server. */
const struct strlist *host_pmix_environ(const struct host_pmix *pmix, uint32_t local);

/* Answer PMIX_FENCED or PMIX_WANTED, once. `data` (heap or NULL) is taken over. */
void host_pmix_answer(struct host_pmix *pmix, void *request, int32_t status, char *data, size_t bytes);

/* Ask for the data of a local rank; PMIX_FETCHED brings it, or never if the rank dies first. A status that is not 0: impossible. */
int32_t host_pmix_fetch(struct host_pmix *pmix, uint64_t key, uint32_t rank);

#endif
