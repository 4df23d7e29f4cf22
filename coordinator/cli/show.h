/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_SHOW_H
#define COORDINATOR_CLI_SHOW_H

/* Nouns as people read them, and the small steps that commands share. */

#include "coordinator/cli/client.h"
#include "coordinator/cli/command.h"
#include "coordinator/cli/term.h"

/* Pretty JSON and a newline on stdout. */
void show_json(const json_t *json);
void show_json_line(const json_t *json); /* in one line */
void show_json_list(const json_t *json); /* NULL: one without items */
bool wants_json(const struct cli *cli);

/* "step 120", "steps 118-120", or "" before the first; returns `to`. */
const char *steps_text(const struct job_view *view, char *to, size_t size);
/* Smallest and largest step of the present ranks; false if no rank has reported. */
bool steps_range(const struct job_view *view, uint64_t *ret_low, uint64_t *ret_high);
/* "4 nodes x 2" ; returns `to`. */
const char *shape_text(const struct job *job, char *to, size_t size);

struct ckpts_wish {
    size_t newest; /* only so many; 0: all */
    bool wide, dropped;
};
/* Returns how many dropped ones were passed over. */
size_t show_ckpts(const struct job *job, struct ckpts_wish wish);
void show_ckpt(const struct job *job, const struct ckpt *ckpt);
void show_recoveries(const struct job *job);
void show_event(const struct event *event);
void show_events(const struct job *job, uint64_t after);
void show_ranks(const struct job_view *view);
/* One line on stderr: how an ended job ended. */
void show_end(const struct job *job);

/* 0 if it succeeded; else its exit status, or a number of exits.h. */
int exit_of_job(const struct job *job);

/* The answer to a mutation: its sentence, `-o json`, or `name`. Takes over json. Returns EXIT_CODE_OK. */
int show_outcome(const struct cli *cli, const struct outcome *outcome, json_t *json, const char *name);

/* "JOB/7", or "JOB" "7". Errors: INVALID. ret_job holds TIDE_NAME_MAX + 1 bytes. */
MUST_USE enum tide_status ckpt_id_parse(const struct strlist *args, char *ret_job, uint64_t *ret_cut, struct fault *fault);

#endif
