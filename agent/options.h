/* SPDX-License-Identifier: Apache-2.0 */
#ifndef AGENT_OPTIONS_H
#define AGENT_OPTIONS_H

#include "agent/rpc/shell.h"
#include "ckpt/base/log.h"

enum options_outcome { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_VERSION };

struct agent_options {
    struct shell_options shell;
    enum log_level log_level;
};

/* The command line. Errors: INVALID, naming the word and what is possible. */
MUST_USE enum tide_status options_parse(int argc, char **argv, struct agent_options *ret_options,
                                        enum options_outcome *ret_outcome, struct err *err);
/* For --help; static storage. */
const char *options_help(void);

#endif
