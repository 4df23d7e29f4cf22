/* SPDX-License-Identifier: Apache-2.0 */
#ifndef EXAMPLES_CUDA_MLP_ELEMENT_H
#define EXAMPLES_CUDA_MLP_ELEMENT_H

/* The arithmetic of each kernel for one of its elements, in a fixed order, so that the bits do not depend on how elements
 * are shared out to threads. Plain C: kernels.cu compiles it for the GPU, and the project's test, on a machine without one,
 * for the host. */

#include <math.h>
#include <stdint.h>

#include "../mpi_mlp/model.h"

#ifdef __CUDACC__
#define ELEMENT static __device__ inline
#else
#define ELEMENT static inline
#endif

#define SLICES 16u
#define FIXED_POINT 1099511627776.0 /* 2^40: a gradient of 1.0 as an integer; sums stay exact below 2^23 */
#define ADAM_MEAN 0.9f
#define ADAM_SQUARE 0.999f
#define ADAM_EPSILON 1e-8f

/* A rank's part of a batch, which is SLICES slices. */
struct batch {
    const uint8_t *pixels, *labels; /* of all images */
    const uint32_t *order;          /* of the batch: slice by slice */
    uint32_t slice_images;
    uint32_t first, stride, slices; /* ours are slices first, first + stride, … */
};

/* What the network makes of our part, by image. */
struct pass {
    float (*hidden)[HIDDEN], (*delta_hidden)[HIDDEN], (*delta_out)[LABELS];
    int64_t *loss; /* fixed point */
};

struct adam_state {
    struct weights *mean, *square;
    float mean_scale, square_scale, rate;
    uint32_t batch_images;
};

ELEMENT uint32_t image_of(const struct batch *b, uint32_t i)
{
    uint32_t slice = b->first + i / b->slice_images * b->stride;
    return b->order[slice * b->slice_images + i % b->slice_images];
}

/* One hidden unit of one image. */
ELEMENT void element_hidden(const struct pass *pass, const struct weights *w, const struct batch *b, uint32_t i, uint32_t h)
{
    const uint8_t *pixels = b->pixels + (uint64_t)image_of(b, i) * IMAGE_PIXELS;
    float sum = w->in_bias[h];
    for (uint32_t p = 0; p < IMAGE_PIXELS; p++)
        if (pixels[p] != 0)
            sum += (float)pixels[p] / 255.0f * w->in[p][h];
    pass->hidden[i][h] = sum > 0.0f ? sum : 0.0f;
}

/* The outputs of one image, as d loss / d output, and its loss. */
ELEMENT void element_output(const struct pass *pass, const struct weights *w, const struct batch *b, uint32_t i)
{
    float out[LABELS], largest, sum = 0.0f;
    uint32_t label = b->labels[image_of(b, i)];
    for (uint32_t o = 0; o < LABELS; o++) {
        out[o] = w->out_bias[o];
        for (uint32_t h = 0; h < HIDDEN; h++)
            out[o] += pass->hidden[i][h] * w->out[h][o];
    }
    largest = out[0];
    for (uint32_t o = 1; o < LABELS; o++)
        largest = out[o] > largest ? out[o] : largest;
    float of_label = out[label] - largest;
    for (uint32_t o = 0; o < LABELS; o++)
        sum += out[o] = expf(out[o] - largest);
    for (uint32_t o = 0; o < LABELS; o++)
        pass->delta_out[i][o] = out[o] / sum - (o == label ? 1.0f : 0.0f);
    pass->loss[i] = (int64_t)rint(((double)logf(sum) - (double)of_label) * FIXED_POINT);
}

ELEMENT void element_back(const struct pass *pass, const struct weights *w, uint32_t i, uint32_t h)
{
    float sum = 0.0f;
    for (uint32_t o = 0; o < LABELS; o++)
        sum += w->out[h][o] * pass->delta_out[i][o];
    pass->delta_hidden[i][h] = pass->hidden[i][h] > 0.0f ? sum : 0.0f;
}

/* Weight p's part in the loss of one image. */
ELEMENT float gradient_of(const struct pass *pass, const struct batch *b, uint32_t i, uint32_t p)
{
    const uint32_t in = IMAGE_PIXELS * HIDDEN, in_bias = in + HIDDEN, out = in_bias + HIDDEN * LABELS;
    if (p < in)
        return (float)b->pixels[(uint64_t)image_of(b, i) * IMAGE_PIXELS + p / HIDDEN] / 255.0f *
               pass->delta_hidden[i][p % HIDDEN];
    if (p < in_bias)
        return pass->delta_hidden[i][p - in];
    if (p < out)
        return pass->hidden[i][(p - in_bias) / LABELS] * pass->delta_out[i][(p - in_bias) % LABELS];
    return pass->delta_out[i][p - out];
}

/* The gradient of a slice is a sum of floats in order; slices, and ranks, are added up as integers, in any order. Behind the
 * last weight comes the loss. */
ELEMENT void element_sum(int64_t *sums, const struct pass *pass, const struct batch *b, uint32_t p)
{
    int64_t sum = 0;
    for (uint32_t s = 0; s < b->slices; s++) {
        float slice = 0.0f;
        for (uint32_t i = s * b->slice_images; i < (s + 1) * b->slice_images; i++) {
            if (p == PARAMETERS)
                sum += pass->loss[i];
            else
                slice += gradient_of(pass, b, i, p);
        }
        sum += (int64_t)rint((double)slice * FIXED_POINT);
    }
    sums[p] = sum;
}

ELEMENT void element_adam(struct weights *w, const struct adam_state *adam, const int64_t *sums, uint32_t p)
{
    float *weight = (float *)w + p, *mean = (float *)adam->mean + p, *square = (float *)adam->square + p;
    float g = (float)((double)sums[p] / (FIXED_POINT * adam->batch_images));
    *mean = ADAM_MEAN * *mean + (1.0f - ADAM_MEAN) * g;
    *square = ADAM_SQUARE * *square + (1.0f - ADAM_SQUARE) * g * g;
    *weight -= adam->rate * (*mean * adam->mean_scale) / (sqrtf(*square * adam->square_scale) + ADAM_EPSILON);
}

#endif
