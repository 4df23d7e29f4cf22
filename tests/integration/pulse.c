/* SPDX-License-Identifier: Apache-2.0 */

/* A trainer for tests: small, fast, without MPI, and with any trouble on demand. Its state after step s depends on every
 * step before it, so its last line, a hash, tells whether a restart went on where it should. Run by hand, outside
 * tidemark, it prints the hash to expect.
 *
 * With --rows its state is a matrix of so many rows, of which each rank has a part: any number of ranks ends with the same line for
 * each row. */

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <tidemark/states.h>
#include <tidemark/tidemark.h>

#define USAGE_STATUS 2
#define TROUBLE_STATUS 7
#define ROW_WORDS 1000u

struct arguments {
    unsigned long steps, step_ms, kib, rows;
    const char *until;   /* a file: training goes on until it is there, and ends with the step whose number it holds */
    const char *trouble; /* early | kill | exit | final | stall; NULL: none */
    unsigned long trouble_rank, trouble_step, trouble_ms;
    bool alike;  /* all ranks have the same state */
    bool always; /* trouble in every generation, not just the first */
    bool stay;   /* go over to the next generation in the process */
};

struct state {
    uint64_t *words;
    size_t count;
    uint64_t first, rows, all_rows; /* this rank's part; 0: it has all for itself */
};

static void usage(void)
{
    fprintf(stderr, "usage: pulse [--steps N | --until FILE] [--step-ms N] [--kib N | --rows N] [--trouble "
                    "early|kill|exit|final|stall] [--rank R]\n"
                    "             [--at STEP] [--for-ms N] [--alike 1] [--always 1] [--stay 1]\n");
    exit(USAGE_STATUS);
}

static unsigned long number(const char *text)
{
    char *end;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (errno || *text < '0' || *text > '9' || *end)
        usage();
    return value;
}

static unsigned long environment(const char *name, unsigned long otherwise)
{
    const char *value = getenv(name);
    return value && *value ? strtoul(value, NULL, 10) : otherwise;
}

static struct arguments parse(int argc, char **argv)
{
    struct arguments a = {.steps = 100, .step_ms = 5, .kib = 64};
    struct {
        const char *name;
        unsigned long *value;
    } numbers[] = {{"--steps", &a.steps},     {"--step-ms", &a.step_ms},   {"--kib", &a.kib},   {"--rows", &a.rows},
                   {"--at", &a.trouble_step}, {"--for-ms", &a.trouble_ms}, {"--rank", &a.trouble_rank}};
    for (int i = 1; i < argc; i += 2) {
        if (!argv[i + 1])
            usage();
        size_t n = 0;
        while (n < sizeof(numbers) / sizeof(numbers[0]) && strcmp(argv[i], numbers[n].name) != 0)
            n++;
        if (n < sizeof(numbers) / sizeof(numbers[0]))
            *numbers[n].value = number(argv[i + 1]);
        else if (strcmp(argv[i], "--until") == 0)
            a.until = argv[i + 1];
        else if (strcmp(argv[i], "--trouble") == 0)
            a.trouble = argv[i + 1];
        else if (strcmp(argv[i], "--alike") == 0)
            a.alike = number(argv[i + 1]) != 0;
        else if (strcmp(argv[i], "--always") == 0)
            a.always = number(argv[i + 1]) != 0;
        else if (strcmp(argv[i], "--stay") == 0)
            a.stay = number(argv[i + 1]) != 0;
        else
            usage();
    }
    return a;
}

static void pause_ms(unsigned long ms)
{
    struct timespec left = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    return x ^ x >> 29;
}

static void advance(uint64_t *words, size_t count, uint64_t step, uint64_t who)
{
    uint64_t carry = step * 0x9e3779b97f4a7c15u + who;
    for (size_t i = 0; i < count; i++) {
        carry = mix(carry + words[i]);
        words[i] = carry;
    }
}

static void advance_all(struct state *state, uint64_t step, uint64_t rank)
{
    for (uint64_t row = 0; row < state->rows; row++)
        advance(state->words + row * ROW_WORDS, ROW_WORDS, step, state->first + row);
    if (state->all_rows == 0)
        advance(state->words, state->count, step, rank);
}

static uint64_t hash(const uint64_t *words, size_t count)
{
    uint64_t sum = count;
    for (size_t i = 0; i < count; i++)
        sum = mix(sum ^ words[i]);
    return sum;
}

static void print_hashes(const struct state *state, uint64_t step, uint64_t rank)
{
    for (uint64_t row = 0; row < state->rows; row++)
        printf("row %llu step %llu hash %016llx\n", (unsigned long long)(state->first + row), (unsigned long long)step,
               (unsigned long long)hash(state->words + row * ROW_WORDS, ROW_WORDS));
    if (state->all_rows == 0)
        printf("rank %llu step %llu hash %016llx\n", (unsigned long long)rank, (unsigned long long)step,
               (unsigned long long)hash(state->words, state->count));
}

static struct state make_state(const struct arguments *a, uint64_t rank)
{
    struct state state = {.count = a->kib * 1024 / sizeof(uint64_t)};
    if (a->rows) {
        uint64_t ranks = environment("WORLD_SIZE", 1);
        state.all_rows = a->rows;
        state.first = a->rows * rank / ranks;
        state.rows = a->rows * (rank + 1) / ranks - state.first;
        state.count = state.rows * ROW_WORDS;
    }
    state.words = calloc(state.count ? state.count : 1, sizeof(uint64_t));
    return state;
}

/* What was asked for, when this is the rank and the step for it. */
static void trouble(const struct arguments *a, uint64_t rank, uint64_t step)
{
    if (!a->trouble || rank != a->trouble_rank || step != a->trouble_step)
        return;
    if (!a->always && environment("TORCHELASTIC_RESTART_COUNT", 0) > 0)
        return;
    fprintf(stderr, "pulse: rank %llu: trouble '%s' at step %llu\n", (unsigned long long)rank, a->trouble,
            (unsigned long long)step);
    if (strcmp(a->trouble, "kill") == 0)
        raise(SIGKILL);
    else if (strcmp(a->trouble, "stall") == 0)
        pause_ms(a->trouble_ms);
    else if (strcmp(a->trouble, "final") == 0)
        _exit(TIDE_EXIT_DO_NOT_RESTART);
    else
        _exit(TROUBLE_STATUS);
}

/* The file is put there by a rename: it is whole, or not there. */
static void look_for_end(struct arguments *a)
{
    char text[32] = "";
    FILE *file = a->until ? fopen(a->until, "r") : NULL;
    if (!file)
        return;
    if (!fgets(text, sizeof text, file))
        usage();
    fclose(file);
    text[strcspn(text, "\n")] = '\0';
    a->steps = number(text);
    a->until = NULL;
}

static void must(const struct tide *tide, enum tide_status status, const char *what)
{
    if (status == TIDE_OK)
        return;
    fprintf(stderr, "pulse: %s: %s: %s\n", what, tide_status_name(status), tide_error_text(tide));
    exit(1);
}

static struct tide *join(const struct arguments *a, struct state *state)
{
    struct tide *tide = NULL;
    must(NULL, tide_init(&tide, NULL), "tide_init");
    struct tide_region region = {.name = "words", .data = state->words, .bytes = state->count * 8, .dtype = TIDE_I64};
    if (state->all_rows != 0) {
        region.flags = TIDE_SHARD;
        region.ndim = 2;
        region.shape[0] = state->rows;
        region.whole[0] = state->all_rows;
        region.shape[1] = region.whole[1] = ROW_WORDS;
        region.at[0] = state->first;
    }
    must(tide, tide_register(tide, &region), "tide_register");
    if (a->stay)
        must(tide, tide_set_restart(tide, NULL, NULL), "tide_set_restart");
    return tide;
}

/* The environment is that of the first generation; and what is told is right in each. */
static void print_generation(const struct arguments *a, struct tide *tide, uint64_t rank)
{
    struct tide_generation is = {.size = sizeof is};
    if (!a->stay)
        return;
    must(tide, tide_get_generation(tide, &is), "tide_get_generation");
    printf("rank %llu is told: generation %llu restarts %u master %s:%u\n", (unsigned long long)rank, (unsigned long long)is.number,
           is.restarts, is.master_address, is.master_port);
    printf("rank %llu was started with: generation %lu restarts %lu master %s:%lu\n", (unsigned long long)rank,
           environment("TIDEMARK_GENERATION", 0), environment("TORCHELASTIC_RESTART_COUNT", 0), getenv("MASTER_ADDR"),
           environment("MASTER_PORT", 0));
}

/* From the checkpoint, or the beginning, to the end. What it says is TIDE_E_RESTART when the generation ended first. */
static enum tide_status train(struct arguments *a, struct tide *tide, struct state *state, uint64_t rank)
{
    uint64_t step = 0;
    memset(state->words, 0, state->count * sizeof state->words[0]);
    enum tide_status status = tide_restore(tide, &step);
    if (status != TIDE_OK && status != TIDE_E_NO_CHECKPOINT)
        return status;
    printf("rank %llu starts after step %llu\n", (unsigned long long)rank, (unsigned long long)step);
    while (look_for_end(a), a->until || step < a->steps) {
        step++;
        trouble(a, rank, step);
        advance_all(state, step, a->alike ? 0 : rank);
        pause_ms(a->step_ms);
        status = tide_step(tide, step);
        if (status != TIDE_OK)
            return status;
    }
    print_hashes(state, step, rank);
    return TIDE_OK;
}

int main(int argc, char **argv)
{
    struct arguments a = parse(argc, argv);
    uint64_t rank = environment("RANK", 0);
    struct state state = make_state(&a, rank);
    enum tide_status status;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!state.words)
        return 1;
    if (a.trouble && strcmp(a.trouble, "early") == 0)
        trouble(&a, rank, 0);
    struct tide *tide = join(&a, &state);
    print_generation(&a, tide, rank);
    while ((status = train(&a, tide, &state, rank)) == TIDE_E_RESTART) {
        must(tide, tide_restart(tide), "tide_restart");
        print_generation(&a, tide, rank);
    }
    must(tide, status, "training");
    tide_finalize(tide);
    free(state.words);
    return 0;
}
