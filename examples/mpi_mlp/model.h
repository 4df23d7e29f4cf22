/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MPI_MLP_MODEL_H
#define MPI_MLP_MODEL_H

/* A network of one hidden layer (ReLU, softmax) and its Adam optimizer. All arithmetic runs in a fixed order: the same
 * inputs give the same bits. */

#include <stdint.h>

#include "data.h"

#define HIDDEN 128u
#define PARAMETERS (IMAGE_PIXELS * HIDDEN + HIDDEN + HIDDEN * LABELS + LABELS)
#define DIGEST_HEX_BYTES 65

/* One float per weight. in: a row of HIDDEN per pixel; out: a row of LABELS per hidden unit. The rows make the inner loops
 * run over independent sums, which the compiler may vectorize without changing a bit. */
struct weights {
    float in[IMAGE_PIXELS][HIDDEN];
    float in_bias[HIDDEN];
    float out[HIDDEN][LABELS];
    float out_bias[LABELS];
};

/* Everything a step changes besides the weights: the moments of parameters first … first + count - 1, in the order of struct
 * weights. A rank may have those of all, or leave those of others to others. */
struct adam {
    unsigned first, count;
    float *mean, *square;
    double powers[2]; /* beta^t of each, for the bias correction */
};

void weights_init(struct weights *weights, uint64_t seed);

/* Add the gradient of the images chosen by `which` to *gradient. Returns the sum of their losses. */
double model_gradient(const struct weights *weights, const struct images *images, const uint32_t *which, uint32_t n,
                      struct weights *gradient);

/* How many of images first … first+n-1 the network labels rightly. */
uint32_t model_count_right(const struct weights *weights, const struct images *images, uint32_t first, uint32_t n);

/* Nonzero without memory. */
int adam_init(struct adam *adam, unsigned first, unsigned count);
void adam_release(struct adam *adam);
/* Move those weights by one step along `gradient`, PARAMETERS sums in the order of struct weights, each times `scale`. */
void adam_step(struct adam *adam, struct weights *weights, const int64_t *gradient, double scale, float rate);

/* SHA-256 of the weights' bytes in hex. */
void weights_digest(const struct weights *weights, char ret_hex[DIGEST_HEX_BYTES]);

#endif
