/* SPDX-License-Identifier: Apache-2.0 */
#ifndef TESTS_SIM_SEEDS_H
#define TESTS_SIM_SEEDS_H

/* Many seeds, each in a process of its own, so that an assertion or a sanitizer's verdict is one more violation and not the end;
 * some twice, to see the same run. What one seed is, the program says. */

#include <stdbool.h>
#include <stdint.h>

#define SEED_FIGURES_MAX 16

struct seed_result {
    uint64_t hash; /* of all that happened */
    uint64_t virtual_ns;
    uint64_t figures[SEED_FIGURES_MAX]; /* as the program numbers them */
    uint32_t violations;
};

struct seed_program {
    const char *name;
    const char *replay;    /* command that runs one again, the seed at its end */
    unsigned cpu_limit_s; /* of one seed */
    struct seed_result (*run)(uint64_t seed, bool verbose);
    void (*tell)(const struct seed_result *sum); /* lines that begin with "# ", of all seeds */
};

/* PROGRAM --seeds A:B [--trace] [--jobs N] [--first]. Last line: seeds N  simulated_hours H  violations V. Returns the exit status. */
int seeds_main(const struct seed_program *program, int argc, char **argv);

#endif
