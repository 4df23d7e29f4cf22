/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_STEP_HOST_H
#define AGENT_STEP_HOST_H

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

/* What this host is like, as far as the ranks' environment depends on it. */

/* The interface that has this address ("lo" for all of 127.0.0.0/8). False: none has. */
bool host_interface(const char *address, char ret_name[IF_NAMESIZE]);

/* Would `ranks` of ours take more than the cores we may use? Other nodes of this machine (agents of their own, as in a
 * cluster on one machine) are taken to run as many. */
bool host_crowded(uint32_t ranks);

bool host_fast_fabric(void);

#endif
