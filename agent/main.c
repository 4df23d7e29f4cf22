/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <tidemark/version.h>
#include <unistd.h>

#include "agent/options.h"

enum exit_code { EXIT_CODE_OK = 0, EXIT_CODE_ERROR = 1, EXIT_CODE_USAGE = 2 };

int main(int argc, char **argv)
{
    struct agent_options options;
    enum options_outcome outcome = OPTIONS_RUN;
    struct err err = {0};
    log_init("tidemark-agent", LOG_INFO);
    if (options_parse(argc, argv, &options, &outcome, &err) != TIDE_OK) {
        fprintf(stderr, "tidemark-agent: %s\n", err.text);
        return EXIT_CODE_USAGE;
    }
    if (outcome == OPTIONS_HELP || outcome == OPTIONS_VERSION) {
        fputs(outcome == OPTIONS_HELP ? options_help() : "tidemark-agent " TIDE_VERSION_STRING "\n", stdout);
        return EXIT_CODE_OK;
    }
    log_init("tidemark-agent", options.log_level);
    bool hung = false;
    enum exit_code code = EXIT_CODE_OK;
    if (shell_run(&options.shell, &hung, &err) != TIDE_OK) {
        log_error("%s", err.text);
        code = EXIT_CODE_ERROR;
    }
    if (hung)
        _exit(code);
    return code;
}
