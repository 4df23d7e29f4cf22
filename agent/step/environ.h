/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_STEP_ENVIRON_H
#define AGENT_STEP_ENVIRON_H

/* The environment of a rank. Pure: what the host is like is handed in. */

#include "agent/step/link.h"

struct environ_facts {
    char *const *inherited;    /* the step's own environment, NULL-terminated */
    const char *rank_socket;   /* TIDEMARK_SOCKET */
    const char *shared_memory; /* directory for Open MPI's shared-memory files; NULL: none */
    const char *interface;     /* network interface that has the node's address; NULL: not known */
    bool crowded;              /* more ranks than cores on this host */
    bool fast_fabric;          /* InfiniBand or the like: leave the choice of transports to Open MPI */
};

/* All "NAME=value" of local rank `local`, in this order of strength, weakest first: inherited (without what belongs to
 * another launcher), what Open MPI needs, the job's env, what this rank is. What PMIx adds comes on top, from libpmix. */
void environ_build(const struct step_spec *spec, const struct environ_facts *facts, uint32_t local, struct strlist *ret_env);

/* Set or replace. */
void environ_set(struct strlist *env, const char *name, const char *format, ...) PRINTF_LIKE(3, 4);
/* As environ_set with "NAME=value" in one. */
void environ_put(struct strlist *env, const char *entry);
/* Value, or NULL. */
const char *environ_get(const struct strlist *env, const char *name);

#endif
