/* SPDX-License-Identifier: Apache-2.0 */
#include <getopt.h>
#include <stdio.h>
#include <tidemark/version.h>
#include <unistd.h>

#include "agent/step/step.h"
#include "ckpt/base/log.h"
#include "ckpt/base/mem.h"

enum exit_code { EXIT_OK = 0, EXIT_ERROR = 1, EXIT_USAGE = 2 };

static const char usage[] =
    "usage: tidemark-step [--log-level error|warn|info|debug] DIR\n"
    "\n"
    "Starts and keeps the ranks of one generation of a job on this node. DIR holds step.json, written by tidemark-agent,\n"
    "which starts this program; people have no reason to.\n";

static const struct option options[] = {
    {"help", no_argument, NULL, 'h'},
    {"version", no_argument, NULL, 'V'},
    {"log-level", required_argument, NULL, 'l'},
    {NULL, 0, NULL, 0},
};

/* Returns -1 to go on, else the exit code. */
static int read_words(int argc, char **argv, const char **ret_dir)
{
    enum log_level level = LOG_INFO;
    int option;
    while ((option = getopt_long(argc, argv, "hVl:", options, NULL)) >= 0) {
        if (option == 'h' || option == 'V') {
            fputs(option == 'h' ? usage : "tidemark-step " TIDE_VERSION_STRING "\n", stdout);
            return EXIT_OK;
        }
        if (option != 'l' || log_level_parse(optarg, &level) != 0) {
            fputs(usage, stderr);
            return EXIT_USAGE;
        }
    }
    if (optind + 1 != argc) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    log_init("tidemark-step", level);
    *ret_dir = argv[optind];
    return -1;
}

int main(int argc, char **argv)
{
    const char *dir = NULL;
    log_init("tidemark-step", LOG_INFO);
    int code = read_words(argc, argv, &dir);
    if (code >= 0)
        return code;
    struct step *step = mem_alloc(sizeof *step);
    struct err err = {0};
    if (step_start(step, dir, &err) != TIDE_OK) {
        log_error("%s", err.text);
        prepare_undo(step);
        _exit(EXIT_ERROR);
    }
    uv_run(&step->loop, UV_RUN_DEFAULT);
    /* No PMIx_server_finalize and no exit handlers: a wedged libpmix must not keep this process. */
    _exit(EXIT_OK);
}
