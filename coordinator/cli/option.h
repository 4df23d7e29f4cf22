/* SPDX-License-Identifier: Apache-2.0 */
#ifndef COORDINATOR_CLI_OPTION_H
#define COORDINATOR_CLI_OPTION_H

/* One table per command: what stands in it is what is parsed, shown by --help, completed by the shell and written in the
 * man page. Values land in struct options, at the offset the row names. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ckpt/base/err.h"
#include "ckpt/base/strlist.h"

enum option_kind {
    OPTION_FLAG,     /* bool */
    OPTION_TEXT,     /* const char *, pointing into argv or the environment */
    OPTION_LIST,     /* struct strlist; may be given several times */
    OPTION_COUNT,    /* uint32_t within min..max */
    OPTION_NUMBER,   /* uint64_t within min..max */
    OPTION_DURATION, /* uint64_t, milliseconds */
    OPTION_CHOICE,   /* unsigned, index into choices */
    OPTION_IGNORED,  /* torchrun's; accepted, and the user is told why it changes nothing */
    OPTION_REFUSED   /* torchrun's; an error that says what to use instead */
};

/* What the shell offers in its place. */
enum completion {
    COMPLETE_NONE,
    COMPLETE_JOB,
    COMPLETE_CKPT,
    COMPLETE_NODE,
    COMPLETE_FILE,
    COMPLETE_DIR,
    COMPLETE_SHELL,
    COMPLETE_COMMAND
};

struct option {
    const char *name; /* with '-'; '_' is accepted for it everywhere */
    char letter;      /* 0: none */
    enum option_kind kind;
    const char *value; /* what the help calls its value; NULL: it takes none */
    size_t offset;
    uint64_t min, max;          /* COUNT, NUMBER; max 0: none. DURATION: min */
    const char *const *choices; /* CHOICE; NULL-terminated */
    const char *preset;         /* default, as one would write it; NULL: zero or empty */
    bool torch;                 /* torchrun's flag: PET_<NAME> in the environment stands for it too */
    bool hidden;
    enum completion complete;
    const char *help; /* a sentence without a capital and full stop; for IGNORED and REFUSED: why, and what instead */
};

struct option_table {
    const char *title; /* heading in help and man page */
    const struct option *rows;
    size_t count;
};

/* Every value a command line can set; each command's table names those it knows. */
struct options {
    bool help;
    const char *coordinator;
    const char *identity, *token, *cacert;
    uint64_t timeout_ms;
    unsigned output; /* enum output */
    bool json;

    /* run */
    const char *nnodes, *nproc, *name, *store, *cwd, *node_rank;
    bool standalone, module, no_python, wait, follow, keep_state;
    uint32_t max_restarts, spares, ckpt_keep;
    const char *ckpt_keep_every, *restore_from, *elastic;
    uint64_t ckpt_every_ms, ckpt_grace_ms, stop_grace_ms, cut_deadline_ms, start_deadline_ms;
    struct strlist env;
    unsigned launcher, cut, copies;

    /* job, ckpt, rollback */
    uint64_t within_ms; /* longest wait */
    unsigned until;     /* enum wait_until */
    const char *ranks, *to;
    uint64_t generation, tail, steps;
    uint64_t for_ms; /* hold a checkpoint */
    bool all_generations, force, no_wait, all, now, dry_run, verify, readmit;
    unsigned stream; /* enum log_stream */
    unsigned format; /* enum export_format */

    /* cluster, token create */
    const char *dir, *node;
    bool insecure, join, undo;
    bool stale, yes, lose;
    const char *data;
    unsigned role; /* enum access_role - 1 */
    uint64_t expires_ms, days;

    /* store */
    uint64_t bytes;

    /* help */
    bool man;
};

enum output { OUTPUT_TABLE, OUTPUT_JSON, OUTPUT_WIDE, OUTPUT_NAME };
enum log_stream { STREAM_OUT, STREAM_ERR, STREAM_BOTH };
enum wait_until { UNTIL_ENDED, UNTIL_RUNNING, UNTIL_STEPPING };

#define TABLES_MAX 8

struct option_set {
    const struct option_table *tables[TABLES_MAX]; /* NULL-terminated unless full */
    bool stop_at_first; /* options end with the first other word, as torchrun: what follows is the program's */
};

/* Looks up an environment variable; NULL: not set. getenv, but for tests. */
typedef const char *(*option_getenv)(const char *name);

/* Fill `ret_options` from presets, then the environment, then argv[0..argc). Words that are no options go to ret_args;
 * sentences about ignored options to ret_notes. On failure release both lists and the options all the same.
 * Errors: INVALID, naming the word and the closest option. */
MUST_USE enum tide_status options_parse(const struct option_set *set, int argc, char *const *argv, option_getenv environment,
                                        struct options *ret_options, struct strlist *ret_args, struct strlist *ret_notes,
                                        struct err *err);
void options_release(struct options *options);

/* NULL if the set has no such option. `name` may use '_'. */
const struct option *option_named(const struct option_set *set, const char *name, size_t bytes);
const struct option *option_lettered(const struct option_set *set, char letter);
/* "PET_NPROC_PER_NODE" for nproc-per-node. */
void option_pet_name(const struct option *option, char *to, size_t size);

/* The word of `words` closest to `word`, or NULL if none is close. Damerau-Levenshtein; a word that begins with it wins. */
const char *closest_word(const char *word, const char *const *words, size_t count);

#endif
