/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ADAM_MEAN 0.9f
#define ADAM_SQUARE 0.999f
#define ADAM_EPSILON 1e-8f

_Static_assert(sizeof(struct weights) == PARAMETERS * sizeof(float), "weights are one array of floats, without padding");

/* A number in [-limit, limit). */
static float uniform(uint64_t *random, double limit)
{
    double unit = (double)(random_next(random) >> 11) * 0x1p-53;
    return (float)((2.0 * unit - 1.0) * limit);
}

void weights_init(struct weights *weights, uint64_t seed)
{
    uint64_t random = seed;
    memset(weights, 0, sizeof(*weights));
    for (unsigned i = 0; i < IMAGE_PIXELS; i++)
        for (unsigned h = 0; h < HIDDEN; h++)
            weights->in[i][h] = uniform(&random, sqrt(6.0 / IMAGE_PIXELS));
    for (unsigned h = 0; h < HIDDEN; h++)
        for (unsigned o = 0; o < LABELS; o++)
            weights->out[h][o] = uniform(&random, sqrt(6.0 / HIDDEN));
}

/* What the network makes of one image. */
struct pass {
    float input[IMAGE_PIXELS];
    float hidden[HIDDEN];
    float output[LABELS];
};

static void forward(const struct weights *weights, const uint8_t *pixels, struct pass *pass)
{
    memcpy(pass->hidden, weights->in_bias, sizeof(pass->hidden));
    for (unsigned i = 0; i < IMAGE_PIXELS; i++) {
        float x = pass->input[i] = (float)pixels[i] / 255.0f;
        if (pixels[i] == 0) /* half of all pixels are */
            continue;
        for (unsigned h = 0; h < HIDDEN; h++)
            pass->hidden[h] += x * weights->in[i][h];
    }
    memcpy(pass->output, weights->out_bias, sizeof(pass->output));
    for (unsigned h = 0; h < HIDDEN; h++) {
        if (pass->hidden[h] < 0.0f)
            pass->hidden[h] = 0.0f;
        for (unsigned o = 0; o < LABELS; o++)
            pass->output[o] += pass->hidden[h] * weights->out[h][o];
    }
}

/* Turns the outputs into d loss / d output. Returns the loss. */
static double softmax_delta(float output[LABELS], uint8_t label)
{
    float largest = output[0], sum = 0.0f;
    for (unsigned o = 1; o < LABELS; o++)
        largest = output[o] > largest ? output[o] : largest;
    float of_label = output[label] - largest;
    for (unsigned o = 0; o < LABELS; o++)
        sum += output[o] = expf(output[o] - largest);
    for (unsigned o = 0; o < LABELS; o++)
        output[o] /= sum;
    output[label] -= 1.0f;
    return (double)logf(sum) - (double)of_label;
}

static void backward(const struct weights *weights, const struct pass *pass, struct weights *gradient)
{
    float delta[HIDDEN];
    for (unsigned o = 0; o < LABELS; o++)
        gradient->out_bias[o] += pass->output[o];
    for (unsigned h = 0; h < HIDDEN; h++) {
        float sum = 0.0f;
        for (unsigned o = 0; o < LABELS; o++) {
            gradient->out[h][o] += pass->hidden[h] * pass->output[o];
            sum += weights->out[h][o] * pass->output[o];
        }
        delta[h] = pass->hidden[h] > 0.0f ? sum : 0.0f;
        gradient->in_bias[h] += delta[h];
    }
    for (unsigned i = 0; i < IMAGE_PIXELS; i++) {
        float x = pass->input[i];
        if (x == 0.0f)
            continue;
        for (unsigned h = 0; h < HIDDEN; h++)
            gradient->in[i][h] += x * delta[h];
    }
}

double model_gradient(const struct weights *weights, const struct images *images, const uint32_t *which, uint32_t n,
                      struct weights *gradient)
{
    struct pass pass;
    double loss = 0.0;
    for (uint32_t i = 0; i < n; i++) {
        forward(weights, images->pixels + (size_t)which[i] * IMAGE_PIXELS, &pass);
        loss += softmax_delta(pass.output, images->labels[which[i]]);
        backward(weights, &pass, gradient);
    }
    return loss;
}

uint32_t model_count_right(const struct weights *weights, const struct images *images, uint32_t first, uint32_t n)
{
    struct pass pass;
    uint32_t right = 0;
    for (uint32_t i = first; i < first + n; i++) {
        unsigned best = 0;
        forward(weights, images->pixels + (size_t)i * IMAGE_PIXELS, &pass);
        for (unsigned o = 1; o < LABELS; o++)
            best = pass.output[o] > pass.output[best] ? o : best;
        right += best == images->labels[i];
    }
    return right;
}

int adam_init(struct adam *adam, unsigned first, unsigned count)
{
    *adam = (struct adam){.first = first, .count = count, .powers = {1.0, 1.0}};
    adam->mean = calloc(count ? count : 1, sizeof(float));
    adam->square = calloc(count ? count : 1, sizeof(float));
    return adam->mean && adam->square ? 0 : -1;
}

void adam_release(struct adam *adam)
{
    free(adam->mean);
    free(adam->square);
    *adam = (struct adam){0};
}

void adam_step(struct adam *adam, struct weights *weights, const int64_t *gradient, double scale, float rate)
{
    float *weight = (float *)weights + adam->first, *mean = adam->mean, *square = adam->square;
    adam->powers[0] *= (double)ADAM_MEAN;
    adam->powers[1] *= (double)ADAM_SQUARE;
    float mean_scale = (float)(1.0 / (1.0 - adam->powers[0])), square_scale = (float)(1.0 / (1.0 - adam->powers[1]));
    for (unsigned p = 0; p < adam->count; p++) {
        float g = (float)((double)gradient[adam->first + p] * scale);
        mean[p] = ADAM_MEAN * mean[p] + (1.0f - ADAM_MEAN) * g;
        square[p] = ADAM_SQUARE * square[p] + (1.0f - ADAM_SQUARE) * g * g;
        weight[p] -= rate * (mean[p] * mean_scale) / (sqrtf(square[p] * square_scale) + ADAM_EPSILON);
    }
}

void weights_digest(const struct weights *weights, char ret_hex[DIGEST_HEX_BYTES])
{
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned bytes = 0;
    ret_hex[0] = '\0';
    if (EVP_Digest(weights, sizeof(*weights), digest, &bytes, EVP_sha256(), NULL) != 1)
        return;
    for (unsigned i = 0; i < bytes; i++)
        snprintf(ret_hex + (size_t)2 * i, 3, "%02x", digest[i]);
}
