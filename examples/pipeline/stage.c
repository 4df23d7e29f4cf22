/* SPDX-License-Identifier: Apache-2.0 */
#include "stage.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RATE 0.01f

static uint64_t mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Between -1 and 1, from a number: every stage can make the same data by itself. */
static float noise(uint64_t x)
{
    return (float)(int32_t)(mix(x * UINT64_C(0x9e3779b97f4a7c15)) >> 32) * 0x1p-31f;
}

void stage_init(struct stage *stage, uint32_t index, uint32_t count)
{
    memset(stage, 0, sizeof *stage);
    stage->index = index;
    stage->count = count;
    for (uint64_t i = 0; i < WIDTH; i++)
        for (uint64_t k = 0; k < WIDTH; k++)
            stage->weights[i][k] = noise((index * WIDTH + i) * WIDTH + k) * 0.2f;
}

enum work stage_next(const struct stage *stage, uint64_t micro_batches)
{
    uint64_t ahead = stage->forwards - stage->backwards, most = stage->count - stage->index;
    if (stage->backwards == micro_batches)
        return WORK_DONE;
    return stage->forwards < micro_batches && ahead < most ? WORK_FORWARD : WORK_BACKWARD;
}

bool stage_needs_message(const struct stage *stage, enum work work)
{
    return work == WORK_FORWARD ? stage->index > 0 : stage->index + 1 < stage->count;
}

/* ---- data: to be learned is the sign-changed square of what comes in ---- */

static void make_input(struct message *m, uint64_t number)
{
    m->number = number;
    for (uint64_t s = 0; s < SAMPLES; s++)
        for (uint64_t i = 0; i < WIDTH; i++)
            m->values[s][i] = noise((number * SAMPLES + s) * WIDTH + i);
}

/* The gradient of the loss, from the last output. */
static void make_gradient(struct stage *stage, uint64_t number, const struct message *output, struct message *m)
{
    struct message input;
    make_input(&input, number);
    m->number = number;
    for (unsigned s = 0; s < SAMPLES; s++)
        for (unsigned i = 0; i < WIDTH; i++) {
            float x = input.values[s][i], error = output->values[s][i] + x * fabsf(x);
            stage->loss += (double)(error * error) / (SAMPLES * WIDTH);
            m->values[s][i] = error / SAMPLES;
        }
}

/* ---- work ---- */

static void forward(struct stage *stage, const struct message *in, struct message *out)
{
    out->number = in->number;
    for (unsigned s = 0; s < SAMPLES; s++)
        for (unsigned i = 0; i < WIDTH; i++) {
            float sum = stage->bias[i];
            for (unsigned k = 0; k < WIDTH; k++)
                sum += stage->weights[i][k] * in->values[s][k];
            out->values[s][i] = tanhf(sum) + in->values[s][i];
        }
}

static void backward(struct stage *stage, const struct message *input, const struct message *output,
                     const struct message *gradient, struct message *back)
{
    *back = *gradient;
    for (unsigned s = 0; s < SAMPLES; s++)
        for (unsigned i = 0; i < WIDTH; i++) {
            float y = output->values[s][i] - input->values[s][i], slope = gradient->values[s][i] * (1.0f - y * y);
            stage->bias[i] -= RATE * slope;
            for (unsigned k = 0; k < WIDTH; k++) {
                back->values[s][k] += stage->weights[i][k] * slope;
                stage->weights[i][k] -= RATE * slope * input->values[s][k];
            }
        }
}

bool stage_work(struct stage *stage, enum work work, const struct message *in, struct message *out)
{
    struct message made;
    uint64_t number = work == WORK_FORWARD ? stage->forwards : stage->backwards;
    struct message *input = &stage->inputs[number % STAGES_MAX], *output = &stage->outputs[number % STAGES_MAX];
    if (in != NULL && in->number != number)
        return false;
    if (work == WORK_FORWARD) {
        if (in != NULL)
            *input = *in;
        else
            make_input(input, number);
        forward(stage, input, output);
        *out = *output;
        stage->forwards++;
    } else {
        if (in == NULL)
            make_gradient(stage, number, output, &made);
        backward(stage, input, output, in != NULL ? in : &made, out);
        stage->backwards++;
    }
    return true;
}

uint64_t stage_digest(const struct stage *stage)
{
    uint64_t digest = stage->backwards;
    uint32_t bits;
    for (unsigned i = 0; i < WIDTH; i++)
        for (unsigned k = 0; k <= WIDTH; k++) {
            memcpy(&bits, k < WIDTH ? &stage->weights[i][k] : &stage->bias[i], sizeof bits);
            digest = mix(digest ^ bits) + 1;
        }
    return digest;
}

/* ---- all in one process ---- */

/* Of one stage; each direction holds at most as many messages as there are stages. */
struct inbox {
    struct message activations[STAGES_MAX], gradients[STAGES_MAX];
    uint64_t activation_count, gradient_count; /* that came, ever */
};

/* False when its message is not there yet. */
static bool serial_turn(struct stage *stages, struct inbox *boxes, uint32_t index, uint64_t micro_batches)
{
    struct stage *stage = &stages[index];
    struct inbox *box = &boxes[index];
    struct message out;
    const struct message *in = NULL;
    enum work work = stage_next(stage, micro_batches);
    if (work == WORK_DONE)
        return false;
    if (stage_needs_message(stage, work)) {
        uint64_t came = work == WORK_FORWARD ? box->activation_count : box->gradient_count;
        uint64_t due = work == WORK_FORWARD ? stage->forwards : stage->backwards;
        if (came <= due)
            return false;
        in = work == WORK_FORWARD ? &box->activations[due % STAGES_MAX] : &box->gradients[due % STAGES_MAX];
    }
    if (!stage_work(stage, work, in, &out))
        return false;
    if (work == WORK_FORWARD && index + 1 < stage->count)
        boxes[index + 1].activations[boxes[index + 1].activation_count++ % STAGES_MAX] = out;
    if (work == WORK_BACKWARD && index > 0)
        boxes[index - 1].gradients[boxes[index - 1].gradient_count++ % STAGES_MAX] = out;
    return true;
}

bool stages_serially(uint32_t count, uint64_t micro_batches, uint64_t *ret_digests)
{
    struct stage *stages = calloc(count, sizeof *stages);
    struct inbox *boxes = calloc(count, sizeof *boxes);
    bool made = stages != NULL && boxes != NULL, moved = made;
    for (uint32_t i = 0; made && i < count; i++)
        stage_init(&stages[i], i, count);
    while (moved) {
        moved = false;
        for (uint32_t i = 0; i < count; i++)
            moved |= serial_turn(stages, boxes, i, micro_batches);
    }
    for (uint32_t i = 0; made && i < count; i++)
        ret_digests[i] = stage_digest(&stages[i]);
    free(stages);
    free(boxes);
    return made;
}
