/* SPDX-License-Identifier: Apache-2.0 */
#ifndef MPI_MLP_DATA_H
#define MPI_MLP_DATA_H

/* Fashion-MNIST as the Debian package dataset-fashion-mnist ships it, and the order in which its images are shown. */

#include <stdint.h>

#define IMAGE_PIXELS (28u * 28u)
#define LABELS 10u
#define IMAGES_MAX 60000u
#define DATA_DIR_DEFAULT "/usr/share/datasets/fashion-mnist"

struct images {
    uint32_t count;
    uint8_t *pixels; /* count * IMAGE_PIXELS */
    uint8_t *labels; /* count */
};

/* Read "<dir>/<set>-images-idx3-ubyte.gz" and its labels; set is "train" or "t10k". Returns 0, or -1 after saying on
 * stderr what is wrong with which file. */
int images_load(struct images *images, const char *dir, const char *set);
void images_release(struct images *images);

/* The shuffled order of one epoch and where we are in it. It holds no pointer, so that it can be registered with
 * tidemark as it is: a restarted run continues with exactly the image that would have come next. */
struct sampler {
    uint64_t random; /* state of the generator */
    uint32_t count;
    uint32_t epoch;
    uint32_t next; /* index into order */
    uint32_t order[IMAGES_MAX];
};

void sampler_init(struct sampler *sampler, uint32_t count, uint64_t seed);
/* The next n images of the shuffled order; a new epoch is shuffled when fewer than n are left. n <= count. */
const uint32_t *sampler_take(struct sampler *sampler, uint32_t n);

/* SplitMix64: small, and its whole state is one number. */
uint64_t random_next(uint64_t *state);

#endif
