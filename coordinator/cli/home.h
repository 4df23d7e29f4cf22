/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_HOME_H
#define COORDINATOR_CLI_HOME_H

/* What tidemark keeps for a user from one run to the next. */

#include "coordinator/cli/client.h"

/* "$XDG_STATE_HOME/tidemark", which need not be there, into TIDE_PATH_MAX + 1 bytes, with room behind it for 64 more.
 * Errors: IO (no home), LIMIT. */
MUST_USE enum tide_status state_home(char *to, struct fault *fault);

/* The newest recovery of a cluster that this user has met (ckpt/wire/identity.h); 0: none. */
uint64_t epoch_met(const char *cluster);
/* Remember it: a coordinator that was left behind is not believed from then on. Said, where it cannot be kept. */
void epoch_meet(const char *cluster, uint64_t epoch);

#endif
