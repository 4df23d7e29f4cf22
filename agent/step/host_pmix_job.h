/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_STEP_HOST_PMIX_JOB_H
#define AGENT_STEP_HOST_PMIX_JOB_H

#include <pmix_common.h>

#include "agent/step/link.h"

/* A growing pmix_info_t array. */
struct info_list {
    pmix_info_t *items;
    size_t count, room;
};
void info_add(struct info_list *list, const char *key, const void *value, pmix_data_type_t type);
void info_release(struct info_list *list);

/* All that a rank may ask about its job: sizes, maps, its own place, directories. The keys are those Slurm registers.
 * client_dir: owned by the ranks' user. */
void host_pmix_job_info(const struct step_spec *spec, const char *nspace, const char *client_dir, struct info_list *ret_list);

#endif
