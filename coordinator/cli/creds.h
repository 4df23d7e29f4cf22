/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_CREDS_H
#define COORDINATOR_CLI_CREDS_H

/* What this user shows to coordinators, and where those are: from the command line, else the environment, else the
 * identity directory. */

#include "ckpt/secure/idir.h"
#include "coordinator/cli/client.h"
#include "coordinator/cli/option.h"

struct creds {
    struct idir idir; /* empty when no directory is named */
    struct http_creds http;
    char *urls; /* as for client_create */
};

/* `options` NULL: the environment alone. What is kept points into the options and the environment, which must outlive it.
 * Errors: those of idir_load; nothing is left to release then. */
MUST_USE enum tide_status creds_load(const struct options *options, option_getenv environment, struct creds *ret_creds,
                                     struct fault *fault);
void creds_release(struct creds *creds);

#endif
