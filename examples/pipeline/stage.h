/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PIPELINE_STAGE_H
#define PIPELINE_STAGE_H

/* One stage of a pipeline that trains: a layer, and when it does what. No MPI and no tidemark here. */

#include <stdbool.h>
#include <stdint.h>

#define WIDTH 64u   /* of a layer */
#define SAMPLES 16u /* of a micro-batch */
#define STAGES_MAX 64u

/* What goes from stage to stage: activations down, gradients up. */
struct message {
    uint64_t number; /* of the micro-batch; a message that was lost, doubled or overtaken is seen by it */
    float values[SAMPLES][WIDTH];
};

/* All of a stage that its work changes. In one piece, to be registered as it is. */
struct stage {
    uint32_t index, count;        /* the stages are 0 … count - 1 */
    uint64_t forwards, backwards; /* micro-batches done */
    double loss;                  /* of the last stage, since it was last printed */
    float weights[WIDTH][WIDTH], bias[WIDTH];
    struct message inputs[STAGES_MAX], outputs[STAGES_MAX]; /* of micro-batches that are under way, by number */
};

enum work { WORK_FORWARD, WORK_BACKWARD, WORK_DONE };

void stage_init(struct stage *stage, uint32_t index, uint32_t count);
/* What comes next, always in the same order: as many micro-batches as there are stages behind it go ahead, then one comes
 * back for each that goes. */
enum work stage_next(const struct stage *stage, uint64_t micro_batches);
/* Does that work need a message? The first stage makes its inputs, the last its gradients. */
bool stage_needs_message(const struct stage *stage, enum work work);
/* Do it. in: the message it needs, or NULL. False when that is not the one that is due. *out: for the next stage (forward,
 * but the last) or the one before (backward, but the first). */
bool stage_work(struct stage *stage, enum work work, const struct message *in, struct message *out);
uint64_t stage_digest(const struct stage *stage);
/* The whole pipeline in one process, without messages on their way: what the digests must be. */
bool stages_serially(uint32_t count, uint64_t micro_batches, uint64_t *ret_digests);

#endif
