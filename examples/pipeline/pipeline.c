/* SPDX-License-Identifier: Apache-2.0 */

/* A pipeline that trains: each rank is one stage, activations go down and gradients come up, and nobody keeps step with
 * anybody. A checkpoint takes each stage wherever it is, and the messages that are on their way between them; after a
 * restart they are delivered first. At the end the weights of all stages are compared with those of the same training in one
 * process.
 *
 * What makes it so: it is linked with libtidemark_mpi, it declares TIDE_CUT_FREE and that it posts its receives again, it
 * offers a safe point (tide_step) in each turn of its loop, also while it waits for a message, and it makes its communicator
 * before tide_restore. */

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <tidemark/states.h>
#include <tidemark/tidemark.h>

#include "stage.h"

#define MICRO_BATCHES_DEFAULT 2000u
#define LOG_EVERY 500u
#define WAIT_NS 20000 /* between two looks for a message: there may be more stages than processors */
#define TAG_ACTIVATION 1
#define TAG_GRADIENT 2

struct pipeline {
    uint64_t micro_batches;
    MPI_Comm comm;
    int rank, ranks;
    struct tide *tide;
    uint64_t turns; /* of the loop: the rank's own count, which tide_step is told */
    struct stage stage;
    /* The next of each kind, posted ahead. No state: after a restart they are posted again. */
    struct message activation, gradient;
    MPI_Request activation_request, gradient_request;
};

static void give_up(const struct pipeline *p, const char *what, const char *detail, int status)
{
    fprintf(stderr, "pipeline: stage %d: %s: %s\n", p->rank, what, detail);
    MPI_Abort(MPI_COMM_WORLD, status);
    exit(status);
}

static uint64_t parse(int argc, char **argv)
{
    char *end = "";
    uint64_t n = MICRO_BATCHES_DEFAULT;
    if (argc == 3 && strcmp(argv[1], "--micro-batches") == 0)
        n = strtoull(argv[2], &end, 10);
    if ((argc != 1 && argc != 3) || *end || n == 0) {
        fprintf(stderr, "usage: pipeline [--micro-batches N]\n");
        exit(TIDE_EXIT_DO_NOT_RESTART); /* a wrong command line is wrong again after a restart */
    }
    return n;
}

/* ---- messages ---- */

static void post_activation(struct pipeline *p)
{
    p->activation_request = MPI_REQUEST_NULL;
    if (p->rank > 0 && p->stage.forwards < p->micro_batches)
        MPI_Irecv(&p->activation, sizeof p->activation, MPI_BYTE, p->rank - 1, TAG_ACTIVATION, p->comm,
                  &p->activation_request);
}

static void post_gradient(struct pipeline *p)
{
    p->gradient_request = MPI_REQUEST_NULL;
    if (p->rank + 1 < p->ranks && p->stage.backwards < p->micro_batches)
        MPI_Irecv(&p->gradient, sizeof p->gradient, MPI_BYTE, p->rank + 1, TAG_GRADIENT, p->comm, &p->gradient_request);
}

/* ---- one turn ---- */

static void send_on(struct pipeline *p, enum work work, const struct message *out)
{
    int to = work == WORK_FORWARD ? p->rank + 1 : p->rank - 1;
    if (to >= 0 && to < p->ranks)
        MPI_Send(out, sizeof *out, MPI_BYTE, to, work == WORK_FORWARD ? TAG_ACTIVATION : TAG_GRADIENT, p->comm);
}

/* False when the message that it needs is still on its way. */
static bool take_turn(struct pipeline *p, enum work work)
{
    bool needs = stage_needs_message(&p->stage, work);
    struct message out, *in = work == WORK_FORWARD ? &p->activation : &p->gradient;
    int arrived = 1;
    if (needs)
        MPI_Test(work == WORK_FORWARD ? &p->activation_request : &p->gradient_request, &arrived, MPI_STATUS_IGNORE);
    if (!arrived)
        return false;
    if (!stage_work(&p->stage, work, needs ? in : NULL, &out))
        give_up(p, "a message was lost, doubled or overtaken", work == WORK_FORWARD ? "activation" : "gradient",
                TIDE_EXIT_DO_NOT_RESTART);
    if (needs && work == WORK_FORWARD)
        post_activation(p);
    if (needs && work == WORK_BACKWARD)
        post_gradient(p);
    send_on(p, work, &out);
    return true;
}

static void report(struct pipeline *p)
{
    if (p->rank + 1 < p->ranks || p->stage.backwards % LOG_EVERY != 0)
        return;
    printf("micro-batch %llu/%llu loss %.4f\n", (unsigned long long)p->stage.backwards, (unsigned long long)p->micro_batches,
           p->stage.loss / LOG_EVERY);
    p->stage.loss = 0;
}

static void run(struct pipeline *p)
{
    static const struct timespec wait = {.tv_nsec = WAIT_NS};
    enum work work;
    while ((work = stage_next(&p->stage, p->micro_batches)) != WORK_DONE) {
        if (!take_turn(p, work))
            nanosleep(&wait, NULL);
        else if (work == WORK_BACKWARD)
            report(p);
        /* The stage is whole here, wherever it is. Without the call while it waits, a checkpoint could only be taken when
         * the message has come, and it might be one that was sent behind the sender's part of the checkpoint: too late. */
        if (tide_step(p->tide, ++p->turns) != TIDE_OK)
            give_up(p, "tide_step", tide_error_text(p->tide), 1);
    }
}

/* ---- beginning and end ---- */

static void start(struct pipeline *p)
{
    const struct tide_options options = {.size = sizeof options, .cut = TIDE_CUT_FREE, .requests_reposted = 1};
    const struct tide_region region = {.name = "stage", .data = &p->stage, .bytes = sizeof p->stage};
    stage_init(&p->stage, (uint32_t)p->rank, (uint32_t)p->ranks);
    if (tide_init(&p->tide, &options) != TIDE_OK)
        give_up(p, "tide_init", tide_error_text(NULL), 1);
    if (tide_register(p->tide, &region) != TIDE_OK)
        give_up(p, "tide_register", tide_error_text(p->tide), 1);
    enum tide_status status = tide_restore(p->tide, &p->turns);
    if (status != TIDE_OK && status != TIDE_E_NO_CHECKPOINT)
        give_up(p, "tide_restore", tide_error_text(p->tide), 1);
    if (status == TIDE_OK)
        printf("stage %d resumed: %llu micro-batches down, %llu up\n", p->rank, (unsigned long long)p->stage.forwards,
               (unsigned long long)p->stage.backwards);
    /* Now, not before: what is posted gets what was on its way. */
    post_activation(p);
    post_gradient(p);
}

static void verify(struct pipeline *p)
{
    uint64_t mine = stage_digest(&p->stage), all[STAGES_MAX], expected[STAGES_MAX], digest = 0;
    MPI_Gather(&mine, 1, MPI_UINT64_T, all, 1, MPI_UINT64_T, 0, p->comm);
    if (p->rank != 0)
        return;
    if (!stages_serially((uint32_t)p->ranks, p->micro_batches, expected))
        give_up(p, "verify", "no memory to train once more", 1);
    for (int i = 0; i < p->ranks; i++) {
        if (all[i] != expected[i])
            give_up(p, "the weights are not those of the same training in one process", "wrong result",
                    TIDE_EXIT_DO_NOT_RESTART);
        digest = digest * UINT64_C(0x9e3779b97f4a7c15) + all[i];
    }
    printf("verified: %d stages, %llu micro-batches, digest %016llx\n", p->ranks, (unsigned long long)p->micro_batches,
           (unsigned long long)digest);
}

int main(int argc, char **argv)
{
    static struct pipeline p; /* zeroed, and too big for the stack */
    setvbuf(stdout, NULL, _IOLBF, 0);
    p.micro_batches = parse(argc, argv);
    MPI_Init(&argc, &argv);
    MPI_Comm_dup(MPI_COMM_WORLD, &p.comm);
    MPI_Comm_set_name(p.comm, "pipeline");
    MPI_Comm_rank(p.comm, &p.rank);
    MPI_Comm_size(p.comm, &p.ranks);
    if (p.ranks > (int)STAGES_MAX)
        give_up(&p, "too many stages", "at most 64", TIDE_EXIT_DO_NOT_RESTART);
    start(&p);
    run(&p);
    verify(&p);
    tide_finalize(p.tide);
    MPI_Comm_free(&p.comm);
    MPI_Finalize();
    return 0;
}
