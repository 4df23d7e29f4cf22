/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_RUN_SPEC_H
#define COORDINATOR_CLI_RUN_SPEC_H

#include "coordinator/cli/client.h"
#include "coordinator/cli/command.h"

/* What `--nproc-per-node cpu|auto|gpu` stands for; 0: it cannot be known here. */
struct machine {
    uint32_t cpus, gpus; /* of this machine; standalone */
    uint32_t slots;      /* of the cluster's nodes: the smallest */
    option_getenv environment;
    const char *cwd; /* of this process, absolute */
    char suffix[8];  /* random, for default names */
};

/* From a command line to the job it asks for. Pure but for what `machine` tells. Release with job_spec_codec.
 * Errors: INVALID, UNSUPPORTED, naming the option and what to use instead. */
MUST_USE enum tide_status run_spec_build(const struct options *options, const struct strlist *args,
                                         const struct machine *machine, struct job_spec *ret_spec, struct fault *fault);

/* Must the cluster be asked for its slots? */
bool run_spec_wants_slots(const struct options *options);

/* "N" or "N:N". Errors: INVALID. */
MUST_USE enum tide_status nnodes_parse(const char *text, uint32_t *ret_nodes, struct fault *fault);

#endif
