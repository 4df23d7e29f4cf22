/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_SIGNALS_H
#define COORDINATOR_CLI_SIGNALS_H

/* Ctrl-C as a value that loops look at. Commands that do not call signals_catch end by the signal, as usual. */

/* From now on SIGINT, SIGTERM and SIGHUP are counted. */
void signals_catch(void);
/* How many came so far. */
int signals_count(void);
/* Exit status for the first that came: EXIT_CODE_INTERRUPTED or EXIT_CODE_TERMINATED. */
int signals_exit(void);
/* Readable when one has come since the last drain; -1 before signals_catch. */
int signals_fd(void);
void signals_drain(void);

#endif
