/* SPDX-License-Identifier: Apache-2.0 */
/* lin_check FILE…: says whether each history (README.md) is linearizable, and if not, why. Exit status 0: all are; 1: one is
 * not; 2: a file cannot be read; 3: one could not be decided. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ckpt/base/clock.h"
#include "ckpt/base/mem.h"
#include "tests/lin/history.h"

#define SHRINK_S 20u      /* for making a counter-example small */
#define SHOWN_MAX 60u     /* operations of one that are printed */
#define KEYS_SHOWN_MAX 4u /* of a history */
#define WORDS_MAX 256u
#define SHRINK_VISITS 500000u

enum { EXIT_LINEARIZABLE, EXIT_NOT, EXIT_BAD, EXIT_UNDECIDED };

static double seconds(uint64_t ns, uint64_t origin_ns)
{
    return ((double)ns - (double)origin_ns) / (double)NS_PER_S;
}

static void print_op(const struct history_key *key, const struct lin_op *op, size_t number, uint64_t origin_ns)
{
    char words[WORDS_MAX];
    history_words(key, op, words, sizeof words);
    printf("  %3zu  %11.6f .. ", number, seconds(op->invoke_ns, origin_ns));
    if (op->return_ns == LIN_NEVER)
        printf("%11s", "");
    else
        printf("%11.6f", seconds(op->return_ns, origin_ns));
    printf("  process %-4" PRId64 "  %s  (line %zu)\n", op->process, words, op->line);
}

static void print_notes(const struct history *history, uint64_t from_ns, uint64_t to_ns, uint64_t origin_ns)
{
    for (size_t i = 0; i < history->note_count; i++)
        if (history->notes[i].at_ns >= from_ns && history->notes[i].at_ns <= to_ns)
            printf("  at %11.6f  %s\n", seconds(history->notes[i].at_ns, origin_ns), history->notes[i].text);
}

static void explain(const struct history *history, const struct history_key *key)
{
    struct lin_op *ops = mem_array(key->count, sizeof *ops);
    memcpy(ops, key->ops, key->count * sizeof *ops);
    size_t count = lin_shrink(ops, key->count, SHRINK_VISITS, clock_mono_ns() + SHRINK_S * NS_PER_S);
    uint64_t origin = UINT64_MAX, end = 0;
    for (size_t i = 0; i < count; i++) {
        origin = ops[i].invoke_ns < origin ? ops[i].invoke_ns : origin;
        end = ops[i].return_ns != LIN_NEVER && ops[i].return_ns > end ? ops[i].return_ns : end;
    }
    printf("NOT linearizable: key %s: %zu of its %zu operations contradict each other (seconds since line %zu)\n", key->name,
           count, key->count, ops[0].line);
    for (size_t i = 0; i < count && i < SHOWN_MAX; i++)
        print_op(key, &ops[i], i + 1, origin);
    if (count > SHOWN_MAX)
        printf("  … and %zu more\n", count - SHOWN_MAX);
    print_notes(history, origin, end, origin);
    struct lin_result result;
    lin_check(ops, count, SHRINK_VISITS, &result);
    printf("  the longest order that is possible:");
    for (size_t i = 0; i < result.ordered && i < SHOWN_MAX; i++)
        printf(" %zu", result.order[i] + 1);
    printf("%s; none of the others can come next\n", result.ordered == 0 ? " none" : "");
    mem_free(result.order);
    mem_free(ops);
}

static int judge(const char *name, const struct history *history)
{
    uint64_t begun = clock_mono_ns(), visits = 0;
    size_t bad = 0;
    int status = EXIT_LINEARIZABLE;
    for (size_t i = 0; i < history->key_count; i++) {
        const struct history_key *key = &history->keys[i];
        struct lin_result result;
        lin_check(key->ops, key->count, 0, &result);
        visits += result.visits;
        mem_free(result.order);
        if (result.verdict == LIN_UNDECIDED) {
            printf("undecided: key %s: its %zu operations can be ordered in too many ways\n", key->name, key->count);
            status = status == EXIT_NOT ? EXIT_NOT : EXIT_UNDECIDED;
        } else if (result.verdict == LIN_NO) {
            if (bad++ < KEYS_SHOWN_MAX)
                explain(history, key);
            status = EXIT_NOT;
        }
    }
    if (bad > KEYS_SHOWN_MAX)
        printf("… and %zu more keys\n", bad - KEYS_SHOWN_MAX);
    printf("%s: %s: %zu operations on %zu keys, %zu with unknown outcome; %" PRIu64 " visits in %.2f s\n", name,
           status == EXIT_LINEARIZABLE ? "linearizable"
           : status == EXIT_NOT        ? "NOT linearizable"
                                       : "undecided",
           history->operations, history->key_count, history->unknown, visits, seconds(clock_mono_ns(), begun));
    return status;
}

static int check_file(const char *name)
{
    FILE *file = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
    struct history history;
    struct err err = {0};
    if (file == NULL) {
        perror(name);
        return EXIT_BAD;
    }
    enum tide_status status = history_read(file, &history, &err);
    if (file != stdin)
        fclose(file);
    if (status != TIDE_OK) {
        fprintf(stderr, "%s: %s\n", name, err.text);
        return EXIT_BAD;
    }
    int verdict = judge(name, &history);
    history_release(&history);
    return verdict;
}

int main(int argc, char **argv)
{
    int worst = EXIT_LINEARIZABLE;
    if (argc < 2) {
        fprintf(stderr, "usage: lin_check FILE…   (- is standard input; tests/lin/README.md has the format)\n");
        return EXIT_BAD;
    }
    for (int i = 1; i < argc; i++) {
        int status = check_file(argv[i]);
        worst = worst == EXIT_NOT || status == EXIT_LINEARIZABLE ? worst : status;
    }
    return worst;
}
