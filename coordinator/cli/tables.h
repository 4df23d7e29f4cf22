/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_TABLES_H
#define COORDINATOR_CLI_TABLES_H

#include <tidemark/types.h>

#include "coordinator/cli/option.h"

extern const struct option_table common_table; /* every command */
extern const struct option_table output_table; /* those that print nouns */
extern const struct option_table run_table, run_job_table, run_saving_table, run_follow_table, run_torch_table;

#endif
