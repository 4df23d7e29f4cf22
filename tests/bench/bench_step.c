/* SPDX-License-Identifier: Apache-2.0 */

/* tide_step with nothing armed, against the exchange and the load it cannot do without. */

#include <stdatomic.h>
#include <stdlib.h>
#include <tidemark/tidemark.h>

#include "tests/bench/measure.h"

#define STEPS 5000000u
#define ROUNDS 7
#define PROMISED_NS 20.0

static _Alignas(64) _Atomic uint64_t bare_step;
static _Alignas(64) _Atomic uint64_t bare_armed = UINT64_MAX;

static double bare_ns(void)
{
    double begin = seconds();
    for (uint64_t i = 0; i < STEPS; i++) {
        atomic_exchange(&bare_step, i);
        if (atomic_load(&bare_armed) == i)
            return -1;
    }
    return (seconds() - begin) * 1e9 / STEPS;
}

static double step_ns(struct tide *tide, uint64_t *step)
{
    double begin = seconds();
    for (uint64_t i = 0; i < STEPS; i++)
        if (tide_step(tide, ++*step) != TIDE_OK)
            return -1;
    return (seconds() - begin) * 1e9 / STEPS;
}

int main(void)
{
    struct tide *tide;
    uint64_t step = 0;
    double bare = 1e9, whole = 1e9;
    if (tide_init(&tide, NULL) != TIDE_OK) {
        fprintf(stderr, "bench_step: %s\n", tide_error_text(NULL));
        return 1;
    }
    for (int i = 0; i < ROUNDS; i++) {
        bare = least(bare, bare_ns());
        whole = least(whole, step_ns(tide, &step));
    }
    tide_finalize(tide);
    result("step", "tide_step_unarmed", whole, "ns", bare, -1);
    if (whole < 0 || whole > PROMISED_NS) {
        fprintf(stderr, "bench_step: %.1f ns is more than the %.0f promised\n", whole, PROMISED_NS);
        return 1;
    }
    return 0;
}
