/* SPDX-License-Identifier: Apache-2.0 */

/* Ranks in a line, over NCCL: each takes the state of the one before it, of LAG steps ago, into its own, so that at each
 * safe point LAG messages are under way on every channel. For cluster_nccl_line.sh; says with which state it ends. */

#include <cuda_runtime_api.h>
#include <inttypes.h>
#include <nccl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tidemark/tidemark.h>
#include <unistd.h>

#define WORDS 4096u
#define LAG_MAX 16u

struct stage {
    struct tide *tide;
    ncclComm_t comm;
    cudaStream_t streams[2]; /* what comes, what goes: neither waits for the other */
    unsigned rank, ranks, lag;
    uint64_t steps, begun_at;
    uint64_t *state; /* on the device, as are these */
    uint64_t *out[LAG_MAX + 1], *in;
    cudaEvent_t sent[LAG_MAX + 1];
    uint64_t host[WORDS], from[WORDS];
};

static void must(int good, const char *what)
{
    if (good)
        return;
    fprintf(stderr, "nccl_line: %s\n", what);
    exit(1);
}

static void must_tide(const struct stage *s, enum tide_status status, const char *what)
{
    if (status != TIDE_OK)
        fprintf(stderr, "nccl_line: %s\n", tide_error_text(s->tide));
    must(status == TIDE_OK, what);
}

static unsigned of_environment(const char *name)
{
    const char *text = getenv(name);
    must(text != NULL, name);
    return (unsigned)strtoul(text, NULL, 10);
}

static void *room(void)
{
    void *at = NULL;
    must(cudaMalloc(&at, WORDS * sizeof(uint64_t)) == cudaSuccess, "no device memory");
    return at;
}

static void connect_all(struct stage *s)
{
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId id;
    config.commName = "line";
    must(tide_init(&s->tide, NULL) == TIDE_OK, "tide_init");
    if (s->rank == 0)
        must(ncclGetUniqueId(&id) == ncclSuccess, "ncclGetUniqueId");
    must_tide(s, tide_share(s->tide, "line", 0, &id, sizeof id), "tide_share");
    must(ncclCommInitRankConfig(&s->comm, (int)s->ranks, id, (int)s->rank, &config) == ncclSuccess, "ncclCommInitRank");
}

static void make_memory(struct stage *s)
{
    for (unsigned i = 0; i < 2; i++)
        must(cudaStreamCreateWithFlags(&s->streams[i], cudaStreamNonBlocking) == cudaSuccess, "no stream");
    s->state = room();
    s->in = room();
    for (unsigned i = 0; i <= s->lag; i++) {
        s->out[i] = room();
        must(cudaEventCreateWithFlags(&s->sent[i], cudaEventDisableTiming) == cudaSuccess, "no event");
    }
    struct tide_region state = {
        .name = "state", .data = s->state, .bytes = sizeof s->host, .memory = TIDE_DEVICE, .dtype = TIDE_I64};
    must_tide(s, tide_register(s->tide, &state), "tide_register");
    must_tide(s, tide_set_streams(s->tide, 0, (void *const *)s->streams, 2), "tide_set_streams");
    for (unsigned i = 0; i < WORDS; i++)
        s->host[i] = i + s->rank;
    must(cudaMemcpy(s->state, s->host, sizeof s->host, cudaMemcpyHostToDevice) == cudaSuccess, "cudaMemcpy");
}

static void take_in(struct stage *s)
{
    must(ncclRecv(s->in, WORDS, ncclUint64, (int)s->rank - 1, s->comm, s->streams[0]) == ncclSuccess, "ncclRecv");
    must(cudaStreamSynchronize(s->streams[0]) == cudaSuccess, "the stream went wrong");
    must(cudaMemcpy(s->from, s->in, sizeof s->from, cudaMemcpyDeviceToHost) == cudaSuccess, "cudaMemcpy");
    for (unsigned i = 0; i < WORDS; i++)
        s->host[i] ^= s->from[i];
}

static void send_on(struct stage *s, uint64_t step)
{
    unsigned slot = (unsigned)(step % (s->lag + 1)), oldest = (unsigned)((step + 1) % (s->lag + 1));
    must(cudaMemcpy(s->out[slot], s->host, sizeof s->host, cudaMemcpyHostToDevice) == cudaSuccess, "cudaMemcpy");
    must(ncclSend(s->out[slot], WORDS, ncclUint64, (int)s->rank + 1, s->comm, s->streams[1]) == ncclSuccess, "ncclSend");
    must(cudaEventRecord(s->sent[slot], s->streams[1]) == cudaSuccess, "cudaEventRecord");
    if (step > s->begun_at + s->lag) /* the next step may write there; and the simulator sends when somebody waits */
        must(cudaEventSynchronize(s->sent[oldest]) == cudaSuccess, "the stream went wrong");
}

static void one_step(struct stage *s, uint64_t step)
{
    for (unsigned i = 0; i < WORDS; i++)
        s->host[i] = s->host[i] * UINT64_C(6364136223846793005) + step + i;
    if (s->rank > 0 && step > s->lag)
        take_in(s);
    if (s->rank + 1 < s->ranks)
        send_on(s, step);
    must(cudaMemcpy(s->state, s->host, sizeof s->host, cudaMemcpyHostToDevice) == cudaSuccess, "cudaMemcpy");
}

int main(int argc, char **argv)
{
    static struct stage s;
    uint64_t step = 0, sum = 0;
    must(argc == 4, "nccl_line STEPS LAG PAUSE_US");
    s.steps = strtoull(argv[1], NULL, 10);
    s.lag = (unsigned)strtoul(argv[2], NULL, 10);
    useconds_t pause_us = (useconds_t)strtoul(argv[3], NULL, 10);
    s.rank = of_environment("RANK");
    s.ranks = of_environment("WORLD_SIZE");
    must(s.lag <= LAG_MAX, "LAG");
    connect_all(&s);
    make_memory(&s);
    enum tide_status status = tide_restore(s.tide, &step);
    if (status != TIDE_E_NO_CHECKPOINT)
        must_tide(&s, status, "tide_restore");
    must(cudaMemcpy(s.host, s.state, sizeof s.host, cudaMemcpyDeviceToHost) == cudaSuccess, "cudaMemcpy");
    for (s.begun_at = step; step < s.steps;) {
        one_step(&s, ++step);
        usleep(pause_us);
        must_tide(&s, tide_step(s.tide, step), "tide_step");
    }
    for (unsigned i = 0; s.rank > 0 && i < s.lag; i++)
        take_in(&s);
    must(cudaStreamSynchronize(s.streams[1]) == cudaSuccess, "the stream went wrong");
    for (unsigned i = 0; i < WORDS; i++)
        sum = (sum ^ s.host[i]) * UINT64_C(0x100000001b3);
    printf("ends with %016" PRIx64 "\n", sum);
    tide_finalize(s.tide);
    must(ncclCommDestroy(s.comm) == ncclSuccess, "ncclCommDestroy");
    return 0;
}
