/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_EXITS_H
#define COORDINATOR_CLI_EXITS_H

#include <tidemark/error.h>

/* Every exit status of ours, once: number, symbol, meaning. The help, the man page and a test read this list.
 * Numbers are stable: they are only ever added. A command that waits for a job passes the job's own exit status on when
 * the job failed, so those may be any number; -o json of `job show` tells the two apart. */
#define EXIT_CODE_MAP(X)                                                                                   \
    X(0, OK, "done; where the command waits for a job: the job succeeded")                                 \
    X(1, ERROR, "something failed; the message says what")                                                 \
    X(2, USAGE, "the command line is not valid, or the coordinator refused a value in it")                 \
    X(3, NOT_FOUND, "no such job, checkpoint or node")                                                     \
    X(4, UNREACHABLE, "no coordinator answered")                                                           \
    X(5, DEADLINE, "a deadline passed; what was asked for may still happen")                               \
    X(6, JOB_FAILED, "the job failed and no rank left an exit status that could be passed on")             \
    X(7, JOB_CANCELLED, "the job was cancelled")                                                           \
    X(8, REFUSED, "not possible in the present state: name taken, job ended, checkpoint in use")           \
    X(9, CKPT_BAD, "the checkpoint is damaged, was aborted, or could not be stored")                       \
    X(10, NO_LEADER, "cluster status: the coordinators have no leader; nothing can be decided")            \
    X(130, INTERRUPTED, "interrupted (Ctrl-C); a followed job goes on, a standalone job was stopped")      \
    X(143, TERMINATED, "ended by SIGTERM or SIGHUP; as above")

enum exit_code {
#define X(number, symbol, meaning) EXIT_CODE_##symbol = number,
    EXIT_CODE_MAP(X)
#undef X
};

struct exit_row {
    int number;
    const char *meaning;
};
/* The list above; ends with a NULL meaning. */
extern const struct exit_row exit_rows[];

/* Which exit status an error of the API or of ours ends with. */
int exit_of_status(enum tide_status status);

#endif
